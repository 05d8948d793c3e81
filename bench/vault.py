"""`vault`: recordings at rest. How much faster than playing they are encoded and encrypted, how long a seek takes, and
how long it takes to change the key ring's key.

Sound like speech for both sides (noise in syllables costs the encoder as much) goes the way of the recorder:
spool files, stereo MP3 and waveform, AES-256-GCM frames, fsync. Beside it, in the same run: lameenc alone with the same
settings on the same sound, interleaved beforehand, into a plain file; AES-256-GCM of the whole file by `cryptography`,
which must decrypt all of it for any part; a plain file served by aiohttp; keys wrapped anew in memory, without a store.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import statistics
import tempfile
import time
import uuid
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import lameenc
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench import playback, report
from gateway import store
from gateway.core import waveform
from gateway.services import audio
from gateway.store import keyring, recordings, schema, vault
from tests.rig.sipp import percentile

RATE = 8_000
TARGET = 200.0
STARTED_US = 1_795_300_000_000_000


@dataclass(frozen=True)
class Length:
    """A talk that is stored several times, and sought in."""

    name: str
    seconds: int
    rounds: int


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    lengths: tuple[Length, ...] = (Length("30 s", 30, 20), Length("10 min", 600, 5), Length("2 h", 7_200, 2))
    seeks: int = 2_000
    keys: int = 10_000


QUICK = Effort((Length("30 s", 30, 5), Length("10 min", 600, 2)), seeks=300, keys=2_000)


@dataclass
class Stored:
    """A talk in the vault, and the CPU seconds of each time it was put there, ours and the peer's."""

    folder: Path
    length: Length
    recording_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    key: bytes = field(default_factory=vault.new_key)
    encoding: audio.Encoding = field(init=False)
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peer_cpu: list[float] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "recording.dmv"

    @property
    def times_real(self) -> float:
        """Seconds of talk per CPU second."""
        return self.length.seconds / statistics.median(self.cpu)


def measure(*, quick: bool) -> report.Measured:
    """Store talks of several lengths, seek in each, hear them by the API, change the ring's key."""
    measured, effort = report.Measured("vault"), QUICK if quick else Effort()
    with tempfile.TemporaryDirectory(prefix="dialmark-bench-") as name:
        folder = Path(name)
        for number, length in enumerate(effort.lengths):
            (folder / str(number)).mkdir()
            stored = _store(folder / str(number), length, measured)
            _seek(stored, effort.seeks, measured)
            _by_api(stored, effort.seeks, measured)
        measured.figures["encryption alone, MB/s"] = round(_encrypt_alone(folder))
        asyncio.run(_rewrap(folder, effort.keys, measured))
    return measured


# -- encode and encrypt --------------------------------------------------------------------------------------------


def speech(seconds: int, seed: int) -> bytes:
    """Ten seconds of noise in syllables and pauses, over and over."""
    chance = random.Random(seed)
    loud = [abs(math.sin(at / 3_000)) * (at // 20_000 % 3 > 0) for at in range(10 * RATE)]
    piece = array("h", [max(-32_768, min(32_767, int(chance.gauss(0, 5_000) * share))) for share in loud])
    return (piece * (seconds // 10)).tobytes()


def _store(folder: Path, length: Length, measured: report.Measured) -> Stored:
    sides = [speech(length.seconds, seed) for seed in (1, 2)]
    for side, sound in zip(("caller", "agent"), sides, strict=True):
        (folder / f"{side}.sln").write_bytes(sound)
    pcm = waveform.interleave(*map(waveform.samples, sides))
    stored = Stored(folder, length)
    for number in range(length.rounds):
        _encrypt(stored)
        _encode_alone(stored, pcm)
        report.say(
            f"{length.name}, round {number + 1}: {stored.wall[-1]:.2f} s, {stored.cpu[-1]:.2f} s of CPU, "
            f"lameenc alone {stored.peer_cpu[-1]:.2f} s of CPU"
        )
    measured.figures[f"{length.name}: stored bytes per minute"] = round(
        stored.encoding.audio_bytes * 60 / length.seconds
    )
    measured.figures[f"{length.name}: x real time, wall"] = round(length.seconds / statistics.median(stored.wall))
    measured.judge(f"real_time_per_core_{_slug(length)}", stored.times_real, report.at_least, TARGET)
    shares = [ours / theirs for ours, theirs in zip(stored.cpu, stored.peer_cpu, strict=True)]
    measured.compare(f"cpu_to_lameenc_alone_{_slug(length)}", statistics.median(shares))
    return stored


def _slug(length: Length) -> str:
    return length.name.replace(" ", "_")


def _encrypt(stored: Stored) -> None:
    """The way of the recorder, from two spool files to one container."""
    folder, samples = stored.folder, stored.length.seconds * RATE
    take = audio.Take(folder / "caller.sln", folder / "agent.sln", 0, samples, samples)
    began, worked = time.perf_counter(), time.process_time()
    stored.encoding = audio.Encoding([take], RATE)
    vault.write(stored.path, stored.key, stored.recording_id, stored.encoding.pieces())
    stored.wall.append(time.perf_counter() - began)
    stored.cpu.append(time.process_time() - worked)


def _encode_alone(stored: Stored, pcm: bytes) -> None:
    """The peer: the encoder and a file."""
    worked = time.process_time()
    encoder = lameenc.Encoder()
    encoder.set_channels(2)
    encoder.set_bit_rate(audio.BIT_RATES[2])
    encoder.set_in_sample_rate(RATE)
    encoder.set_out_sample_rate(RATE)
    encoder.set_quality(audio.QUALITY)
    encoder.silence()
    step = 4 * audio.BLOCK
    with (stored.folder / "plain.mp3").open("wb") as file:
        for at in range(0, len(pcm), step):
            file.write(encoder.encode(pcm[at : at + step]))
        file.write(encoder.flush())
        file.flush()
        os.fsync(file.fileno())
    stored.peer_cpu.append(time.process_time() - worked)


def _encrypt_alone(folder: Path) -> float:
    """MB/s into a container, without encoding."""
    body = [bytes(vault.FRAME_BYTES)] * 800
    began = time.process_time()
    vault.write(folder / "raw.dmv", vault.new_key(), str(uuid.uuid4()), body)
    return len(body) * vault.FRAME_BYTES / 1e6 / (time.process_time() - began)


# -- seek ----------------------------------------------------------------------------------------------------------


def _seek(stored: Stored, times: int, measured: report.Measured) -> None:
    """Open and read up to 64 KiB anywhere, of a container and of a file that was encrypted whole."""
    length, whole = stored.encoding.audio_bytes, stored.folder / "whole.gcm"
    cipher, nonce = AESGCM(stored.key), os.urandom(12)
    whole.write_bytes(cipher.encrypt(nonce, (stored.folder / "plain.mp3").read_bytes(), None))

    def ours(start: int) -> bytes:
        with vault.Reader(stored.path, stored.key, stored.recording_id) as reader:
            return reader.read(start, start + vault.FRAME_BYTES)

    def theirs(start: int) -> bytes:
        return cipher.decrypt(nonce, whole.read_bytes(), None)[start : start + vault.FRAME_BYTES]

    took = _timed(ours, length, times)
    peer = _timed(theirs, length, max(20, times // 10))
    _enter(measured, f"{stored.length.name}: seek and read 64 KiB", took)
    _enter(measured, f"{stored.length.name}: the same, encrypted whole", peer)
    measured.compare(f"seek_to_encrypted_whole_{_slug(stored.length)}", percentile(took, 50) / percentile(peer, 50))


def _timed(read: Callable[[int], bytes], length: int, times: int) -> list[float]:
    """Milliseconds of each read, sorted."""
    chance, took = random.Random(3), []
    for _ in range(times):
        start = chance.randrange(max(1, length - vault.FRAME_BYTES))
        began = time.perf_counter()
        if not read(start):
            raise RuntimeError(f"nothing was read at {start}")
        took.append(1_000 * (time.perf_counter() - began))
    return sorted(took)


def _by_api(stored: Stored, times: int, measured: report.Measured) -> None:
    """The same by HTTP Range: the daemon and a plain file."""
    made = recording(stored.recording_id, stored.encoding)
    plain = stored.folder / "plain.mp3"
    with playback.daemon(made, stored.path, stored.key) as ours, playback.plain_file(plain) as theirs:
        took = _timed(ours.read, made.audio_bytes, times)
        peer = _timed(theirs.read, made.audio_bytes, times)
    _enter(measured, f"{stored.length.name}: HTTP Range of 64 KiB", took)
    _enter(measured, f"{stored.length.name}: the same, aiohttp, plain file", peer)
    measured.compare(f"range_to_plain_file_{_slug(stored.length)}", percentile(took, 50) / percentile(peer, 50))


def _enter(measured: report.Measured, name: str, took: list[float]) -> None:
    measured.figures[f"{name}, p50, ms"] = round(percentile(took, 50), 2)
    measured.figures[f"{name}, p99, ms"] = round(percentile(took, 99), 2)


def recording(recording_id: str, encoding: audio.Encoding) -> recordings.Recording:
    """Its row."""
    return recordings.Recording(
        recording_id=recording_id,
        call_id=str(uuid.uuid4()),
        node="bench",
        kind="talk",
        state=recordings.State.STORED,
        started_us=STARTED_US,
        duration_seconds=encoding.seconds,
        parts="1",
        audio_bytes=encoding.audio_bytes,
        peaks_bytes=encoding.peaks_bytes,
        digest=encoding.digest,
        created_us=STARTED_US,
    )


# -- the ring ------------------------------------------------------------------------------------------------------


async def _rewrap(folder: Path, count: int, measured: report.Measured) -> None:
    """`recordings rewrap` of so many keys on SQLite, and the same wrapping without a store."""
    old = keyring.parse(keyring.new_line("2026"))
    new = keyring.KeyRing("2027", {**old.keys, "2027": vault.new_key()})
    ids = [str(uuid.uuid4()) for _ in range(count)]
    wrapped = {name: old.wrap(vault.new_key(), recordings.subject(name)) for name in ids}
    database = await store.Database.open(f"sqlite:///{folder}/dialmark.db")
    try:
        await _insert(database, wrapped)
        began = time.perf_counter()
        done = 0
        while some := await _rewrap_some(database, new):
            done += some
        took = time.perf_counter() - began
    finally:
        await database.close()
    if done != count:
        raise RuntimeError(f"{done} of {count} keys were wrapped anew")
    began = time.perf_counter()
    for name, one in wrapped.items():
        new.rewrap(one, recordings.subject(name))
    alone = time.perf_counter() - began
    measured.figures[f"{count:,} keys wrapped anew, s"] = round(took, 2)
    measured.figures["the same in memory alone, s"] = round(alone, 3)
    measured.compare("rewrap_to_memory_alone", took / alone)


async def _rewrap_some(database: store.Database, ring: keyring.KeyRing) -> int:
    async with database.begin() as tx:
        return await recordings.rewrap(tx, ring)


async def _insert(database: store.Database, wrapped: dict[str, keyring.Wrapped]) -> None:
    row = {
        "call_id": "bench",
        "node": "bench",
        "kind": "talk",
        "state": "stored",
        "started_us": STARTED_US,
        "duration_seconds": 60.0,
        "parts": "1",
        "audio_bytes": 1,
        "peaks_bytes": 1,
        "digest": "d",
        "created_us": STARTED_US,
    }
    async with database.begin() as tx:
        await tx.execute(schema.recordings.insert(), [{**row, "recording_id": name} for name in wrapped])
        await tx.execute(
            schema.recording_keys.insert(),
            [{"recording_id": name, "key_id": one.key_id, "wrapped": one.data} for name, one in wrapped.items()],
        )
