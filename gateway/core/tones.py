"""Telephone tones as 8 kHz mono samples: the ringing that waiting callers hear, a plain tune, and steady tones.

Levels are -13 dBm0, what networks use for ringing. Cadences: ITU-T E.180 supplement 2. Coding: ITU-T G.711.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

RATE_HZ = 8000
# -13 dBm0 for the sum of all frequencies; 0 dBm0 is 3.14 dB below the largest sine of mu-law
AMPLITUDE = 32124 * 10 ** (-(13 + 3.14) / 20)

ZONES: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "ru": ((425,), (1, 4)),
    "de": ((425,), (1, 4)),
    "us": ((440, 480), (2, 4)),
    "kr": ((440, 480), (1, 2)),
    "uk": ((400, 450), (0.4, 0.2, 0.4, 2)),
}
"""Frequencies in Hz, and seconds on, off, … by country as `indications.conf` names it."""

NOTES = {"c": 523, "d": 587, "e": 659, "g": 784, "a": 880, "C": 1047}
TUNE = "ceg-ceg-dga-dga-eaC-eaC-dga-ceg-"
"""Notes by name, `-` holds the one before."""
NOTE_SECONDS = 0.4


def sine(frequencies: Sequence[int], seconds: float) -> list[int]:
    """Samples (16 bit, signed) of the frequencies added up."""
    scale = AMPLITUDE / len(frequencies)
    return [
        round(scale * sum(math.sin(2 * math.pi * hz * n / RATE_HZ) for hz in frequencies))
        for n in range(round(seconds * RATE_HZ))
    ]


def ringing(zone: str) -> list[int]:
    """One period of a zone's ringing, tone first. Raises KeyError for a zone that is not known."""
    frequencies, cadence = ZONES[zone]
    samples: list[int] = []
    for place, seconds in enumerate(cadence):
        samples += sine(frequencies, seconds) if place % 2 == 0 else [0] * round(seconds * RATE_HZ)
    return samples


def tune() -> list[int]:
    """12.8 s of music for callers who wait, to be played over and over; nowhere silent for as long as a breath."""
    samples: list[int] = []
    for note in re.findall(r"[a-zC]-*", TUNE):
        struck = sine((NOTES[note[0]],), NOTE_SECONDS * len(note))
        fading = math.log(4) / len(struck)
        samples += [round(0.7 * min(1.0, n / 80) * math.exp(-fading * n) * one) for n, one in enumerate(struck)]
    return samples


def ulaw(samples: Iterable[int]) -> bytes:
    """G.711 mu-law, one byte a sample."""

    def one(sample: int) -> int:
        sign = 0x80 if sample < 0 else 0
        magnitude = min(abs(sample), 32635) + 0x84
        exponent = magnitude.bit_length() - 8
        return ~(sign | exponent << 4 | magnitude >> exponent + 3 & 0x0F) & 0xFF

    return bytes(map(one, samples))


def alaw(samples: Iterable[int]) -> bytes:
    """G.711 A-law, one byte a sample."""

    def one(sample: int) -> int:
        sign = 0x80 if sample >= 0 else 0
        magnitude = min(abs(sample) if sample >= 0 else ~sample, 32767) >> 3
        exponent = max(magnitude.bit_length() - 5, 0)
        mantissa = magnitude >> max(exponent, 1) & 0x0F
        return (sign | exponent << 4 | mantissa) ^ 0x55

    return bytes(map(one, samples))
