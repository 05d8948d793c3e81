"""A WAV file made into what Asterisk plays without transcoding: 8 kHz mono, mu-law and A-law.

Runs as a process of its own (`python -m gateway.pbx.promptaudio`): a WAV file of unknown origin can then cost no more
than its limits, and the daemon's callers do not share the interpreter with the arithmetic. No package is needed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import sys
import wave
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import mul
from pathlib import Path

RATE = 8_000
"""Samples per second of what is played."""
MAX_FILE_BYTES = 20_000_000
MIN_SECONDS, MAX_SECONDS = 0.2, 60.0
MIN_RATE, MAX_RATE = 8_000, 48_000

_CPU_SECONDS = 30
_MEMORY_BYTES = 1_000_000_000
_SILENCE = 250
"""Of 32,767: quieter than that at either end is cut off speech."""
_MARGIN = RATE // 25
_PEAK = 24_000
"""Speech is brought to this level, -2.7 dB."""
_CROSSINGS = 12
"""Of the low-pass on either side: 60 dB down above 4.4 kHz."""


class BadAudio(ValueError):
    """The file cannot be used; the message says why, for its owner."""


@dataclass(frozen=True, slots=True)
class Made:
    """What was written. `version`: SHA-256 of the 8 kHz samples (16 bit, little-endian), first 32 hex digits."""

    seconds: float
    version: str
    ulaw_sha256: str
    alaw_sha256: str


def convert(source: Path, stem: Path, *, is_speech: bool) -> Made:
    """Write `stem`.ulaw and `stem`.alaw from the WAV file `source`. Raises `BadAudio` and OSError.

    `is_speech`: cut silence at both ends and bring it to one level; a recording of the operator's stays as it is.
    """
    samples, rate = read_wav(source)
    samples = resampled(samples, rate)
    if is_speech:
        samples = levelled(trimmed(samples))
    if not samples:
        raise BadAudio("is silent")
    ulaw, alaw = encoded(samples, ULAW), encoded(samples, ALAW)
    stem.with_name(f"{stem.name}.ulaw").write_bytes(ulaw)
    stem.with_name(f"{stem.name}.alaw").write_bytes(alaw)
    if sys.byteorder == "big":
        samples.byteswap()
    return Made(
        seconds=len(samples) / RATE,
        version=hashlib.sha256(samples.tobytes()).hexdigest()[:32],
        ulaw_sha256=hashlib.sha256(ulaw).hexdigest(),
        alaw_sha256=hashlib.sha256(alaw).hexdigest(),
    )


def read_wav(source: Path) -> tuple[array[int], int]:
    """Samples mixed to one channel, 16 bit, and their rate. Raises `BadAudio` for all but plain PCM."""
    if source.stat().st_size > MAX_FILE_BYTES:
        raise BadAudio(f"is larger than {MAX_FILE_BYTES} bytes")
    try:
        with wave.open(str(source), "rb") as file:
            channels, width, rate, frames = file.getparams()[:4]
            _check(channels, width, rate, frames)
            data = file.readframes(frames)
    except (wave.Error, EOFError, ValueError, RuntimeError) as error:
        if isinstance(error, BadAudio):
            raise
        raise BadAudio(f"is no WAV file of plain PCM: {error or 'cut off'}") from None
    whole = len(data) - len(data) % (width * channels)
    samples = _of_width(data[:whole], width)
    if channels == 2:
        samples = array("h", [(left + right) // 2 for left, right in zip(samples[::2], samples[1::2], strict=True)])
    if len(samples) < MIN_SECONDS * rate:
        raise BadAudio(f"is shorter than {MIN_SECONDS} s")
    return samples, rate


def _check(channels: int, width: int, rate: int, frames: int) -> None:
    if channels not in (1, 2):
        raise BadAudio(f"has {channels} channels; mono or stereo is needed")
    if width not in (1, 2, 3, 4):
        raise BadAudio(f"has {8 * width} bits a sample")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise BadAudio(f"has {rate} samples a second; {MIN_RATE} to {MAX_RATE} are possible")
    if frames > MAX_SECONDS * rate:
        raise BadAudio(f"is longer than {MAX_SECONDS:.0f} s")


def _of_width(data: bytes, width: int) -> array[int]:
    """Little-endian PCM of 8 (unsigned) to 32 bits as 16 bits: the upper two bytes of each sample."""
    if width == 1:
        return array("h", [(byte - 128) << 8 for byte in data])
    upper = bytearray(len(data) // width * 2)
    upper[::2], upper[1::2] = data[width - 2 :: width], data[width - 1 :: width]
    samples = array("h", bytes(upper))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def resampled(samples: array[int], rate: int) -> array[int]:
    """To 8 kHz by a windowed sinc, one set of weights per phase."""
    if rate == RATE:
        return samples
    common = math.gcd(rate, RATE)
    up, down = RATE // common, rate // common
    reach = math.ceil(_CROSSINGS * rate / RATE)
    phases = [_weights(phase / up, reach, RATE / rate) for phase in range(up)]
    padded = array("h", bytes(2 * reach)) + samples + array("h", bytes(2 * (reach + 1)))
    made = array("h")
    for index in range(len(samples) * up // down):
        at, phase = divmod(index * down, up)
        value = sum(map(mul, phases[phase], padded[at : at + 2 * reach + 1]))
        made.append(max(-32_768, min(32_767, round(value))))
    return made


def _weights(offset: float, reach: int, cutoff: float) -> list[float]:
    """Of the samples from -`reach` to +`reach` around a point `offset` samples on, summing to one."""
    weights = []
    for place in range(-reach, reach + 1):
        distance = place - offset
        angle = math.pi * distance * cutoff * 0.95
        window = 0.5 + 0.5 * math.cos(math.pi * max(-1.0, min(1.0, distance / (reach + 1))))
        weights.append((math.sin(angle) / angle if angle else 1.0) * window)
    total = sum(weights)
    return [weight / total for weight in weights]


def trimmed(samples: array[int]) -> array[int]:
    """Without the silence at both ends, but for 40 ms; nothing when all is silence."""
    loud = [index for index, sample in enumerate(samples) if abs(sample) > _SILENCE]
    if not loud:
        return array("h")
    return samples[max(0, loud[0] - _MARGIN) : loud[-1] + _MARGIN]


def levelled(samples: array[int]) -> array[int]:
    """At the level that all speech has."""
    peak = max((abs(sample) for sample in samples), default=0)
    return array("h", [sample * _PEAK // peak for sample in samples]) if peak else samples


def encoded(samples: Sequence[int], law: bytes) -> bytes:
    """By one of the tables of G.711."""
    return bytes([law[(sample + 32_768) >> 2] for sample in samples])


def _to_ulaw(sample: int) -> int:
    sign, magnitude = (0x80, -sample) if sample < 0 else (0, sample)
    magnitude = min(magnitude, 32_635) + 132
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | (magnitude >> (exponent + 3)) & 0x0F) & 0xFF


def _to_alaw(sample: int) -> int:
    sign, magnitude = (0, -sample - 1) if sample < 0 else (0x80, sample)
    magnitude = min(magnitude, 32_767) >> 3
    if magnitude < 32:
        code = magnitude >> 1
    else:
        exponent = magnitude.bit_length() - 5
        code = exponent << 4 | (magnitude >> exponent) & 0x0F
    return (sign | code) ^ 0x55


ULAW = bytes(_to_ulaw((code << 2) - 32_768) for code in range(16_384))
ALAW = bytes(_to_alaw((code << 2) - 32_768) for code in range(16_384))


def main(arguments: Sequence[str]) -> int:
    """`SOURCE STEM speech|own`: one line of JSON to stdout; what is wrong with the file to stderr, then status 1."""
    source, stem, kind = arguments
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    try:
        made = convert(Path(source), Path(stem), is_speech=kind == "speech")
    except (BadAudio, OSError, MemoryError) as error:
        sys.stderr.write(f"{error or 'is too large'}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(made)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
