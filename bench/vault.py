"""Recordings at rest: how much faster than playing they are encoded and encrypted, and how long a seek takes.

Sound like speech for both sides (noise in syllables costs the encoder as much) goes the way of the recorder:
spool files, stereo MP3 and waveform, AES-256-GCM frames, fsync. One core; CPU time and wall time are both told.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import tempfile
import time
import uuid
from array import array
from pathlib import Path

from bench import report
from gateway.services import audio
from gateway.store import vault

RATE = 8_000
TARGET = 200.0


def speech(seconds: int, seed: int) -> bytes:
    """Ten seconds of noise in syllables and pauses, over and over."""
    chance = random.Random(seed)
    loud = [abs(math.sin(at / 3_000)) * (at // 20_000 % 3 > 0) for at in range(10 * RATE)]
    piece = array("h", [max(-32_768, min(32_767, int(chance.gauss(0, 5_000) * share))) for share in loud])
    return (piece * (seconds // 10)).tobytes()


def _store(folder: Path, seconds: int) -> tuple[float, float, audio.Encoding, bytes, str]:
    """Wall seconds, CPU seconds, and what was written."""
    for side, seed in (("caller", 1), ("agent", 2)):
        (folder / f"{side}.sln").write_bytes(speech(seconds, seed))
    take = audio.Take(folder / "caller.sln", folder / "agent.sln", 0, seconds * RATE, seconds * RATE)
    key, recording_id = vault.new_key(), str(uuid.uuid4())
    began, worked = time.perf_counter(), time.process_time()
    encoding = audio.Encoding([take], RATE)
    vault.write(folder / "recording.dmv", key, recording_id, encoding.pieces())
    return time.perf_counter() - began, time.process_time() - worked, encoding, key, recording_id


def _seek(path: Path, key: bytes, recording_id: str, length: int, times: int) -> list[float]:
    """Milliseconds to open the container and read 64 KiB anywhere."""
    chance = random.Random(3)
    took = []
    for _ in range(times):
        start = chance.randrange(max(1, length - vault.FRAME_BYTES))
        began = time.perf_counter()
        with vault.Reader(path, key, recording_id) as reader:
            reader.read(start, start + vault.FRAME_BYTES)
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took)


def _encrypt_alone(folder: Path) -> float:
    """MB/s into a container, without encoding."""
    body = [bytes(vault.FRAME_BYTES)] * 800
    began = time.process_time()
    vault.write(folder / "raw.dmv", vault.new_key(), str(uuid.uuid4()), body)
    return len(body) * vault.FRAME_BYTES / 1e6 / (time.process_time() - began)


def measure(*, quick: bool = False) -> report.Measured:
    """Store a talk several times, then seek in a long one."""
    measured = report.Measured("vault")
    seconds, rounds, seeks = (60, 3, 200) if quick else (600, 5, 2_000)
    wall, cpu = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(rounds):
            took, worked, encoding, key, recording_id = _store(folder, seconds)
            wall.append(seconds / took)
            cpu.append(seconds / worked)
            report.say(f"round {number + 1}: {seconds} s of talk in {took:.2f} s ({worked:.2f} s of CPU)")
        took_ms = _seek(folder / "recording.dmv", key, recording_id, encoding.audio_bytes, seeks)
        measured.figures["playing time"] = f"{seconds} s"
        measured.figures["stored bytes per minute"] = round(encoding.audio_bytes * 60 / seconds)
        measured.figures["x real time, wall"] = round(statistics.median(wall))
        measured.figures["seek and read 64 KiB, p50"] = f"{statistics.median(took_ms):.2f} ms"
        measured.figures["seek and read 64 KiB, p99"] = f"{took_ms[int(len(took_ms) * 0.99)]:.2f} ms"
        measured.figures["encryption alone"] = f"{_encrypt_alone(folder):.0f} MB/s"
        measured.figures["peak memory"] = f"{report.rss_mb():.0f} MB"
    measured.judge("x real time per core", statistics.median(cpu), report.at_least, TARGET)
    return measured


def main() -> int:
    """`python -m bench.vault [--quick]`."""
    parser = argparse.ArgumentParser(prog="bench/run vault", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of ten")
    measured = measure(quick=parser.parse_args().quick)
    report.finish(measured)
    return 0 if measured.is_met else 1


if __name__ == "__main__":
    sys.exit(main())
