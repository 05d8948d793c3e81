"""Tones instead of people: made, and found again in what was recorded."""

from __future__ import annotations

import math
from array import array
from functools import lru_cache

import miniaudio

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
