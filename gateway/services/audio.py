"""Spool files into one MP3 with its waveform, in pieces, without ever holding a call in memory. Blocks: use a thread.

Stereo is caller left, agent right. 32 kbit/s at 8 kHz is MPEG-2.5 layer III, which every browser plays and seeks in.
"""

from __future__ import annotations

import hashlib
import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import lameenc

from gateway.core import recording, waveform

BLOCK = 32_768
"""Samples per side at once: 4 s."""
BIT_RATES = {1: 16, 2: 32}
"""kbit/s by number of channels."""
QUALITY = 5
"""Of LAME, 0 best to 9 fastest: below 5 it takes longer and no one hears it on a telephone."""


class AudioUnreadable(Exception):
    """A spool file that holds no sound we know. Trying again does not help."""


@dataclass(frozen=True, slots=True)
class Take:
    """One part as files: where the sides lie, and when it began (microseconds since the epoch)."""

    caller: Path | None
    agent: Path | None
    start_us: int
    caller_samples: int
    agent_samples: int

    @property
    def samples(self) -> int:
        """Length with the later side moved into place."""
        return max(self.caller_samples, self.agent_samples)

    def end_us(self, rate: int) -> int:
        return self.start_us + self.samples * 1_000_000 // rate


class Sound:
    """One file, read as linear samples. A WAV whose header was never finished (Asterisk killed) is read to its end."""

    def __init__(self, path: Path) -> None:
        """Raises AudioUnreadable, OSError."""
        self._form = path.suffix.removeprefix(".").removesuffix("16")
        self._file: BinaryIO = path.open("rb")
        try:
            size = os.fstat(self._file.fileno()).st_size
            start, length, self.rate = 0, size, 16_000 if path.suffix.endswith("16") else 8_000
            if self._form == "wav":
                start, length, self.rate = _wav_data(self._file, size)
            elif self._form not in ("sln", "ulaw", "alaw"):
                raise AudioUnreadable(f"{path.name}: sound of a form we do not know")
            self._file.seek(start)
        except BaseException:
            self._file.close()
            raise
        self._width = 1 if self._form in ("ulaw", "alaw") else 2
        self.samples = length // self._width
        """How many there are."""
        self._left = self.samples
        self._still = 0

    def read(self, count: int) -> array[int]:
        """The next samples, fewer at the end."""
        count = min(count, self._left)
        data = self._file.read(count * self._width)
        self._left -= len(data) // self._width
        found = waveform.samples(waveform.expanded(data, self._form) if self._width == 1 else data)
        if self._still:
            still = min(self._still, len(found))
            found[:still] = array("h", bytes(2 * still))
            self._still -= still
        return found

    def begin_still(self, count: int) -> None:
        """Gives silence for the first samples."""
        self._still = count

    def close(self) -> None:
        self._file.close()


def _wav_data(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Where the samples of a WAV begin, how many bytes they are, and their rate."""
    riff = file.read(12)
    if len(riff) < 12:
        # Asterisk was killed before the header reached the disk: there is no sound yet.
        return size, 0, 8_000
    if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        raise AudioUnreadable("not a WAV file")
    rate, at = 8_000, 12
    while len(head := file.read(8)) == 8:
        name, length = head[:4], struct.unpack("<I", head[4:])[0]
        at += 8
        if name == b"fmt ":
            kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", file.read(16).ljust(16, b"\0"))
            if (kind, channels, bits) != (1, 1, 16):
                raise AudioUnreadable(f"a WAV of {channels} x {bits} bits in coding {kind}, not 16 bit mono")
        if name == b"data":
            # The sizes are written when the file is closed; after a kill they are 0 and the sound goes to the end.
            return at, (length if 0 < length <= size - at else size - at) & ~1, rate
        at += length + length % 2
        file.seek(at)
    return size, 0, rate


def samples_of(path: Path) -> tuple[int, int]:
    """Samples in a file, and their rate. Raises AudioUnreadable, OSError."""
    sound = Sound(path)
    sound.close()
    return sound.samples, sound.rate


@dataclass(slots=True)
class Encoding:
    """The body of one recording: `pieces` yields the MP3, then the peaks as JSON; the rest is known after it."""

    takes: Sequence[Take]
    rate: int
    channels: int = 2
    preface: Path | None = None
    """A prompt that is put in front, on every channel."""
    audio_bytes: int = field(init=False, default=0)
    peaks_bytes: int = field(init=False, default=0)
    digest: str = field(init=False, default="")
    """SHA-256 of the MP3."""
    seconds: float = field(init=False, default=0.0)

    def pieces(self) -> Iterator[bytes]:
        """Raises AudioUnreadable, OSError."""
        encoder = lameenc.Encoder()
        encoder.set_channels(self.channels)
        encoder.set_bit_rate(BIT_RATES[self.channels])
        encoder.set_in_sample_rate(self.rate)
        encoder.set_out_sample_rate(self.rate)
        encoder.set_quality(QUALITY)
        encoder.silence()
        digest, peaks = hashlib.sha256(), waveform.Peaks(self.channels)
        for sides in self._blocks():
            peaks.add(*sides)
            encoded = bytes(
                encoder.encode(waveform.interleave(*sides) if self.channels == 2 else waveform.mono(sides[0]))
            )
            digest.update(encoded)
            self.audio_bytes += len(encoded)
            yield encoded
        if peaks.length:
            encoded = bytes(encoder.flush())
            digest.update(encoded)
            self.audio_bytes += len(encoded)
            yield encoded
        self.digest, self.seconds = digest.hexdigest(), peaks.length / self.rate
        document = peaks.document(self.rate)
        self.peaks_bytes = len(document)
        yield document

    def _blocks(self) -> Iterator[tuple[array[int], ...]]:
        """Samples of all channels, a block at a time."""
        if self.preface is not None:
            yield from self._preface(self.preface)
        before: Take | None = None
        for take in self.takes:
            if before is not None:
                gap = recording.gap_samples(before.end_us(self.rate), take.start_us, self.rate)
                yield from self._silence(gap)
            yield from self._take(take)
            before = take

    def _silence(self, count: int) -> Iterator[tuple[array[int], ...]]:
        while count > 0:
            some = array("h", bytes(2 * min(count, BLOCK)))
            yield (some,) * self.channels
            count -= BLOCK

    def _preface(self, path: Path) -> Iterator[tuple[array[int], ...]]:
        sound = self._open(path)
        try:
            while some := sound.read(BLOCK):
                yield (some,) * self.channels
        finally:
            sound.close()

    def _open(self, path: Path) -> Sound:
        sound = Sound(path)
        if sound.rate != self.rate:
            sound.close()
            raise AudioUnreadable(f"{path.name} has {sound.rate} samples a second, the recording {self.rate}")
        return sound

    def _take(self, take: Take) -> Iterator[tuple[array[int], ...]]:
        if self.channels == 1:
            leads: tuple[int, ...] = (0,)
            paths: tuple[Path | None, ...] = (take.caller,)
        else:
            leads = recording.leads(take.caller_samples, take.agent_samples, self.rate)
            paths = (take.caller, take.agent)
        sounds = [self._open(path) if path is not None else None for path in paths]
        if self.channels == 2 and sounds[1] is not None:
            sounds[1].begin_still(round(recording.STILL_SECONDS * self.rate))
        try:
            due = list(leads)
            while any(block := tuple(_next(sound, due, number) for number, sound in enumerate(sounds))):
                yield block
        finally:
            for sound in sounds:
                if sound is not None:
                    sound.close()


def _next(sound: Sound | None, due: list[int], number: int) -> array[int]:
    """The next block of a side: first the silence that is due, then sound. Empty at the end."""
    if sound is None:
        return array("h")
    silent = min(due[number], BLOCK)
    due[number] -= silent
    block = array("h", bytes(2 * silent))
    block.extend(sound.read(BLOCK - silent))
    return block
