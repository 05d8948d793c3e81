"""Samples: two sides into one stereo stream, telephone codes into linear, and the peaks that a player draws.

Samples are signed, 16 bit, little-endian, in bytes. Everything works on slices of `array`, which run in C: an hour of
two sides takes seconds, not minutes.
"""

from __future__ import annotations

import json
import sys
from array import array
from dataclasses import dataclass, field
from itertools import pairwise

POINTS = 800
"""Points of a drawn waveform: a player is about so many pixels wide."""
WINDOW = 800
"""Samples per peak that is kept while a recording streams through: 100 ms at 8 kHz."""
_FULL = 32_768
SCALE = 255


def samples(data: bytes) -> array[int]:
    """Bytes as samples. An odd byte at the end (a file cut inside a sample) is left out."""
    made = array("h")
    made.frombytes(data[: len(data) & ~1])
    if sys.byteorder == "big":
        made.byteswap()
    return made


def _bytes(made: array[int]) -> bytes:
    if sys.byteorder == "big":
        made = array("h", made)
        made.byteswap()
    return made.tobytes()


def interleave(left: array[int], right: array[int]) -> bytes:
    """Stereo of two sides; the shorter one is followed by silence."""
    length = max(len(left), len(right))
    stereo = array("h", bytes(4 * length))
    stereo[0 : 2 * len(left) : 2] = left
    stereo[1 : 2 * len(right) : 2] = right
    return _bytes(stereo)


def mono(one: array[int]) -> bytes:
    """The samples of one side."""
    return _bytes(one)


def _ulaw(code: int) -> int:
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84) << (code >> 4 & 7)
    return 0x84 - magnitude if code & 0x80 else magnitude - 0x84


def _alaw(code: int) -> int:
    code ^= 0x55
    segment, magnitude = code >> 4 & 7, (code & 0x0F) << 4
    magnitude = magnitude + 8 if segment == 0 else (magnitude + 0x108) << (segment - 1)
    return magnitude if code & 0x80 else -magnitude


def _tables(decode: list[int]) -> tuple[bytes, bytes]:
    return bytes(value & 0xFF for value in decode), bytes(value >> 8 & 0xFF for value in decode)


_TABLES = {
    "ulaw": _tables([_ulaw(code) for code in range(256)]),
    "alaw": _tables([_alaw(code) for code in range(256)]),
}


def expanded(data: bytes, form: str) -> bytes:
    """µ-law or A-law (G.711; `form` ulaw or alaw) as linear samples."""
    low, high = _TABLES[form]
    made = bytearray(2 * len(data))
    made[0::2] = data.translate(low)
    made[1::2] = data.translate(high)
    return bytes(made)


@dataclass(slots=True)
class Peaks:
    """The loudest sample of each tenth of a second, per side, gathered while samples pass by."""

    sides: int
    _levels: list[list[int]] = field(init=False)
    _rest: list[array[int]] = field(init=False)
    length: int = field(init=False, default=0)
    """Samples per side so far."""

    def __post_init__(self) -> None:
        self._levels = [[] for _ in range(self.sides)]
        self._rest = [array("h") for _ in range(self.sides)]

    def add(self, *given: array[int]) -> None:
        """The next samples of each side; a shorter side is silent to the end of the longer."""
        longest = max(len(side) for side in given)
        self.length += longest
        for number, side in enumerate(given):
            self._rest[number].extend(side)
            self._rest[number].frombytes(bytes(2 * (longest - len(side))))
            self._levels[number] += self._drain(number, keep=True)

    def _drain(self, number: int, *, keep: bool) -> list[int]:
        rest = self._rest[number]
        end = len(rest) - len(rest) % WINDOW if keep else len(rest)
        levels = [_loudest(rest[at : at + WINDOW]) for at in range(0, end, WINDOW)]
        del rest[:end]
        return levels

    def document(self, rate: int, points: int = POINTS) -> bytes:
        """JSON for a player: `{"version": 1, "seconds": …, "sides": [[0…255, …], …]}`, at most `points` per side."""
        sides = []
        for number, levels in enumerate(self._levels):
            every = [*levels, *self._drain(number, keep=False)]
            count = min(points, len(every))
            edges = [at * len(every) // count for at in range(count + 1)] if count else [0]
            sides.append([max(every[start:stop]) * SCALE // _FULL for start, stop in pairwise(edges)])
        document = {"version": 1, "seconds": round(self.length / rate, 3), "sides": sides}
        return json.dumps(document, separators=(",", ":")).encode()


def _loudest(part: array[int]) -> int:
    high, low = max(part), min(part)
    return max(high, -low)
