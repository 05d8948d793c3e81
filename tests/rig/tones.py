"""What can be heard in 8 kHz audio: tones, silences, marks, with a resolution of 10 ms. For recordings and for ears.

A :class:`Track` begins at ``start`` seconds: 0 for a recording, a moment of the clock for what a party heard, so that
everything it finds can be compared with times in the journal.
"""

from __future__ import annotations

import cmath
import functools
import math
import operator
from array import array
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tests.rig.voicebox import LONG_MARK_SECONDS, MARK_SECONDS, MARK_STEP_HZ

RATE = 8_000
RING_HZ = 425
"""Of the node's music class ``ring``."""
CALLER_HZ, AGENT_HZ = 600, 1000
"""For a caller's and an agent's voice: far enough from each other's marks and the ringing (50 Hz is the limit)."""
STEP, WINDOW = 80, 160
"""Samples from one look to the next, and samples looked at."""
QUIET = 100
"""Root mean square of 16-bit samples, up to which it is silence: 50 dB below full scale."""
SILENT = WINDOW * QUIET**2
"""The energy of a window that is silent."""
IS_THE_TONE = 0.5
"""A tone is there while it has so much of the window's energy: at its very edge it has half."""


class Stretch(NamedTuple):
    """From when until when, in seconds."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Sound(NamedTuple):
    """One stretch of a :meth:`Track.story`."""

    name: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Mark(NamedTuple):
    """A step of a voice's tone, which all voices make at the same moments: see :mod:`tests.rig.voicebox`."""

    at: float
    is_long: bool


class Track:
    """One channel.

    Args:
        samples: 16 bit, at 8 kHz.
        start: seconds at which the first sample is.
    """

    def __init__(self, samples: array[int], start: float = 0.0) -> None:
        self.samples = samples
        self.start = start
        self._known: dict[int, list[float]] = {}

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE

    @property
    def end(self) -> float:
        return self.start + self.seconds

    def part(self, start: float, end: float) -> Track:
        """What lies between these two moments."""
        first, last = (min(max(0, round((at - self.start) * RATE)), len(self.samples)) for at in (start, end))
        return Track(self.samples[first:last], self.start + first / RATE)

    # -- how much of it ------------------------------------------------------------------------------------------

    def loudness(self) -> float:
        """Root mean square of all samples; the rig's voices have 3,500."""
        return _rms(self.samples)

    def share(self, *hertz: int) -> float:
        """How much of all energy is in these tones, 0 to 1; looked at window by window, since phases change."""
        total = sum(self._energies)
        inside = sum(
            energy * min(1.0, sum(shares))
            for energy, *shares in zip(self._energies, *map(self._shares, hertz), strict=True)
        )
        return inside / total if total else 0.0

    # -- when ----------------------------------------------------------------------------------------------------

    def stretches(self, *hertz: int, join: float = 0.03, least: float = 0.03) -> list[Stretch]:
        """When any of these tones is there. Gaps up to ``join`` seconds are overlooked, then what is shorter than
        ``least``."""
        shares = zip(*map(self._shares, hertz), strict=True)
        has_one = [
            energy > SILENT and sum(parts) >= IS_THE_TONE for energy, parts in zip(self._energies, shares, strict=True)
        ]
        return self._when(has_one, join, least)

    def sounds(self, *, join: float = 0.0, least: float = 0.0) -> list[Stretch]:
        """When it is not silent."""
        return self._when([energy > SILENT for energy in self._energies], join, least)

    def silences(self, least: float = 0.05) -> list[Stretch]:
        """When it is silent, for ``least`` seconds or more."""
        return self._when([energy <= SILENT for energy in self._energies], 0.0, least)

    def longest_silence(self, start: float | None = None, end: float | None = None) -> float:
        """Milliseconds between these two moments, where "before the first sample" is silent too."""
        start, end = self.start if start is None else start, self.end if end is None else end
        heard = [one for one in self.sounds() if one.end > start and one.start < end]
        edges = [start, *(edge for one in heard for edge in (max(one.start, start), min(one.end, end))), end]
        return 1000 * max((right - left for left, right in zip(edges[::2], edges[1::2], strict=True)), default=0.0)

    def first(self, *hertz: int, least: float = 0.05) -> float | None:
        """When one of these tones begins."""
        return next((one.start for one in self.stretches(*hertz, least=least)), None)

    def voice(self, hertz: int, *, join: float = 0.03) -> list[Stretch]:
        """When a voice with this tone is there, marks and all."""
        return self.stretches(hertz, hertz + MARK_STEP_HZ, join=join)

    def marks(self, hertz: int) -> list[Mark]:
        """The marks of a voice with this tone, but for those that begin or end the track or were cut by silence."""
        base = self.stretches(hertz, join=0.0)
        found = []
        for one in self.stretches(hertz + MARK_STEP_HZ):
            has_before = any(abs(other.end - one.start) < 0.03 for other in base)
            has_after = any(abs(other.start - one.end) < 0.03 for other in base)
            is_long = one.seconds > (MARK_SECONDS + LONG_MARK_SECONDS) / 2
            if has_before and has_after:
                found.append(Mark(self._onset(one.start, hertz + MARK_STEP_HZ), is_long))
        return found

    def story(self, names: Mapping[str, int | Iterable[int]], least: float = 0.05) -> list[Sound]:
        """What is heard one after the other: ``ring``, ``agent`` … as named here, ``silence``, or ``other``.

        ``{"ring": RING_HZ, "agent": voice_of(1000)}``. What is shorter than ``least`` seconds is left out.
        """
        told: list[Sound] = []
        for number, name in enumerate(self._names(names)):
            at = self._moment(number)
            if told and told[-1].name == name:
                told[-1] = told[-1]._replace(end=at + STEP / RATE)
            else:
                told.append(Sound(name, at, at + STEP / RATE))
        merged: list[Sound] = []
        for sound in (one for one in told if one.seconds >= least - 1e-9):
            if merged and merged[-1].name == sound.name:
                merged[-1] = merged[-1]._replace(end=sound.end)
            else:
                merged.append(sound)
        return merged

    # -- inner ---------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _steps(self) -> list[array[int]]:
        """A window is two of them. Each is looked at once, though it is in two windows."""
        samples = self.samples
        return [samples[at : at + STEP] for at in range(0, len(samples) - STEP + 1, STEP)]

    @functools.cached_property
    def _energies(self) -> list[int]:
        """Of each window."""
        return list(map(operator.add, self._of_steps, self._of_steps[1:]))

    @functools.cached_property
    def _of_steps(self) -> list[int]:
        return [sum(map(operator.mul, step, step)) for step in self._steps]

    def _shares(self, hertz: int) -> list[float]:
        """How much of each window's energy is in this tone."""
        if hertz not in self._known:
            cosine, sine = _waves(hertz)
            # The same wave goes on in a window's second half: by so much further.
            turned = cmath.exp(2j * math.pi * hertz * STEP / RATE)
            found = [
                complex(sum(map(operator.mul, step, cosine)), sum(map(operator.mul, step, sine))) if energy else 0j
                for step, energy in zip(self._steps, self._of_steps, strict=True)
            ]
            self._known[hertz] = [
                2 * abs(one + turned * other) ** 2 / (WINDOW * energy) if energy else 0.0
                for one, other, energy in zip(found, found[1:], self._energies, strict=False)
            ]
        return self._known[hertz]

    def _names(self, names: Mapping[str, int | Iterable[int]]) -> list[str]:
        """What each window is called, of these."""
        shares: list[list[float]] = []
        for one in names.values():
            tones = map(self._shares, (one,) if isinstance(one, int) else one)
            shares.append([sum(parts) for parts in zip(*tones, strict=True)])
        keys = list(names)
        told = []
        for number, energy in enumerate(self._energies):
            most = max((one[number] for one in shares), default=0.0)
            if energy <= SILENT:
                told.append("silence")
            elif most < IS_THE_TONE:
                told.append("other")
            else:
                told.append(next(key for key, one in zip(keys, shares, strict=True) if one[number] == most))
        return told

    def _onset(self, near: float, hertz: int) -> float:
        """When the tone begins, to a millisecond: the moment around which it has half of the window."""
        middle = round((near - self.start) * RATE)
        for at in range(max(middle - WINDOW, 0), middle + WINDOW // 2, RATE // 1000):
            if Track(self.samples[at : at + WINDOW]).stretches(hertz, least=0.0):
                return self.start + (at + WINDOW / 2) / RATE
        return near

    def _moment(self, frame: int) -> float:
        """The middle of a window, less half a step: it stands for this step."""
        return self.start + (frame * STEP + (WINDOW - STEP) / 2) / RATE

    def _when(self, flags: list[bool], join: float, least: float) -> list[Stretch]:
        found: list[Stretch] = []
        for number, flag in enumerate(flags):
            if not flag:
                continue
            # The track's first and last window stand for its edges too.
            start = self.start if number == 0 else self._moment(number)
            end = self.end if number == len(flags) - 1 else self._moment(number + 1)
            if found and start - found[-1].end <= join + 1e-9:
                found[-1] = Stretch(found[-1].start, end)
            else:
                found.append(Stretch(start, end))
        return [one for one in found if one.seconds >= least - 1e-9]


def voice_of(hertz: int) -> tuple[int, int]:
    """The two tones of a voice: its own and that of its marks."""
    return hertz, hertz + MARK_STEP_HZ


def misalignment(left: Track, left_hz: int, right: Track, right_hz: int) -> float:
    """By how many milliseconds two voices' marks lie apart at most: both make them at the same moments.

    A mark that the other side lacks (it was silent, or pressed a key) does not count.

    Raises:
        AssertionError: there are no two marks that both have, or not of the same seconds.
    """
    lefts, rights = left.marks(left_hz), right.marks(right_hz)
    pairs = [(a, b) for a in lefts for b in rights if abs(a.at - b.at) < 0.4]
    assert len(pairs) >= 2, f"marks: left {lefts}, right {rights}"
    assert all(a.is_long == b.is_long for a, b in pairs), f"not the same seconds: left {lefts}, right {rights}"
    return 1000 * max(abs(a.at - b.at) for a, b in pairs)


def unevenness(track: Track, hertz: int) -> float:
    """By how many milliseconds the marks, one per second of the clock, lie off a whole second from the first one.

    It shows where a recording has lost or gained time: a pause must be as long as it was.

    Raises:
        AssertionError: fewer than two marks.
    """
    marks = track.marks(hertz)
    assert len(marks) >= 2, f"marks: {marks}"
    off = [(mark.at - marks[0].at) - round(mark.at - marks[0].at) for mark in marks]
    return 1000 * (max(off) - min(off))


def sine(hertz: int, seconds: float, loudness: int = 5_000) -> array[int]:
    """A tone, to be found again."""
    return array(
        "h", [round(loudness * math.sin(2 * math.pi * hertz * at / RATE)) for at in range(round(seconds * RATE))]
    )


def linear(payload: bytes, codec: str) -> array[int]:
    """``ulaw`` or ``alaw`` to samples."""
    table = _ULAW if codec == "ulaw" else _ALAW
    return array("h", [table[byte] for byte in payload])


def _ulaw(byte: int) -> int:
    byte = ~byte & 0xFF
    magnitude = (((byte & 0x0F) << 3) + 0x84 << (byte >> 4 & 7)) - 0x84
    return -magnitude if byte & 0x80 else magnitude


def _alaw(byte: int) -> int:
    byte ^= 0x55
    exponent, mantissa = byte >> 4 & 7, byte & 0x0F
    magnitude = (mantissa << 4) + 8 if exponent == 0 else (mantissa << 4) + 0x108 << exponent - 1
    return magnitude if byte & 0x80 else -magnitude


_ULAW = [_ulaw(byte) for byte in range(256)]
_ALAW = [_alaw(byte) for byte in range(256)]


def _rms(samples: array[int]) -> float:
    return math.sqrt(sum(map(operator.mul, samples, samples)) / len(samples)) if samples else 0.0


@functools.cache
def _waves(hertz: int) -> tuple[list[float], list[float]]:
    angles = [2 * math.pi * hertz * at / RATE for at in range(STEP)]
    return [math.cos(angle) for angle in angles], [math.sin(angle) for angle in angles]
