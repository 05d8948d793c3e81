"""Tones instead of people: made, and found again in what was recorded.

left, right = audio.recording(mp3)             # what the vault gave out
left, right = audio.spool(node.recordings, call_id)    # what Asterisk has written so far
assert left.share(*voice_of(CALLER_HZ)) > 0.9        # see tests.rig.tones.Track
assert tones.misalignment(left, CALLER_HZ, right, AGENT_HZ) < 50
"""

from __future__ import annotations

import math
from array import array
from functools import lru_cache
from pathlib import Path

import miniaudio

from gateway.core import recording as rules
from tests.rig.tones import Track

RATE = 8_000
CALLER_HZ, AGENT_HZ = 440, 1000


@lru_cache(maxsize=64)
def tone(hertz: int, seconds: float, rate: int = RATE, loudness: int = 8_000) -> bytes:
    """A sine as linear samples."""
    count = round(seconds * rate)
    return array("h", [int(loudness * math.sin(2 * math.pi * hertz * at / rate)) for at in range(count)]).tobytes()


def silence(seconds: float, rate: int = RATE) -> bytes:
    return bytes(2 * round(seconds * rate))


def wav(samples: bytes, rate: int = RATE, *, is_closed: bool = True) -> bytes:
    """A WAV file; one that is not closed has sizes of zero, as Asterisk leaves it when it is killed."""
    import struct

    size = len(samples) if is_closed else 0
    head = b"RIFF" + struct.pack("<I", size + 36 if is_closed else 0) + b"WAVEfmt "
    return head + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16) + b"data" + struct.pack("<I", size) + samples


def channels(mp3: bytes, count: int = 2, rate: int = RATE) -> list[array[int]]:
    """What a player hears, per channel."""
    decoded = miniaudio.decode(mp3, nchannels=count, sample_rate=rate)
    return [array("h", decoded.samples[number::count]) for number in range(count)]


def level(samples: array[int], hertz: int, rate: int = RATE) -> float:
    """Loudness of one tone."""
    cosine = sum(value * math.cos(2 * math.pi * hertz * at / rate) for at, value in enumerate(samples))
    sine = sum(value * math.sin(2 * math.pi * hertz * at / rate) for at, value in enumerate(samples))
    return 2 * math.hypot(cosine, sine) / max(1, len(samples))


def onset(samples: array[int], threshold: int = 1_000, rate: int = RATE) -> float:
    """Seconds until something is heard."""
    return next((at for at, value in enumerate(samples) if abs(value) > threshold), len(samples)) / rate


def recording(mp3: bytes) -> tuple[Track, Track]:
    """Left and right of a stereo recording, each from second 0.

    The 0.07 s that encoder and decoder put in front of either are still there, as silence.
    """
    left, right = channels(mp3)
    return Track(left), Track(right)


def spool(folder: Path, call_id: str, part: int = 1) -> tuple[Track, Track]:
    """Caller's and agent's side of one part, from the plain files in the spool, the later one moved into place.

    Raises:
        ValueError: there is not exactly one file of each side.
    """
    sides = []
    for side in ("caller", "agent"):
        [file] = [*folder.glob(f"{call_id}.{part}-{side}.sln"), *folder.glob(f"{call_id}.{part}.*-{side}.sln")]
        data = file.read_bytes()
        sides.append(array("h", data[: len(data) // 2 * 2]))
    # Asterisk begins one of the files up to 37 ms later, by chance: see `recording.leads`.
    leads = rules.leads(len(sides[0]), len(sides[1]), RATE)
    left, right = (Track(array("h", bytes(2 * lead)) + side) for lead, side in zip(leads, sides, strict=True))
    return left, right
