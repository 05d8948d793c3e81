"""Spool files of recordings: their names, which belong together, how two sides are laid side by side, and ids.

    <call id>.<part>[.<start>]-<side>.<form>        2f1c…-….1.1795300070540-caller.sln

`part` counts 1, 2, 3: one more after each pause by the agent's key. `start` is when the part began, in milliseconds
since the epoch; without it the file's last change less its length says so. `side` is caller, agent, or message (a
message left, one side only). `form` is sln (signed linear 16 bit, 8 kHz: no header, so a crash costs the last 2 s and
needs no repair), sln16 (16 kHz), ulaw, alaw, wav, wav16.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

RECORDING_IDS = uuid.UUID("0d6f3b52-8a7c-5d1e-9b44-6c1c2f0a7e35")
"""Namespace of recording ids. Never change it: a spool file met again must find its recording."""

LEAD_SECONDS = 0.25
"""The later side of a pair begins up to so much later (Asterisk: 5 to 37 ms). A larger difference is a side that broke
off, and then it is the ends that differ."""

UNWRITTEN_BYTES = 32_768
"""Asterisk writes a file in blocks of so many bytes, and the last, shorter one when it closes it."""

STILL_SECONDS = 0.02
"""The agent's side of a part begins with one frame of what the caller heard before: the ringing, if from a music class
(tried, Asterisk 22.10). It is not talk, and is left silent."""

MAX_GAP_SECONDS = 4 * 3600.0
"""A longer pause between two parts is a clock that jumped."""

_NAME = re.compile(
    r"(?P<call>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(?P<part>\d{1,4})(?:\.(?P<start>\d{13}))?"
    r"-(?P<side>caller|agent|message)\.(?P<form>sln16|sln|wav16|wav|ulaw|alaw)"
)


class Kind(StrEnum):
    """What was recorded."""

    TALK = "talk"
    """Two people, one on each channel."""
    VOICEMAIL = "voicemail"
    """A message, one channel."""


class Side(StrEnum):
    """Who is heard in a spool file."""

    CALLER = "caller"
    AGENT = "agent"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """A spool file by its name. `start_ms` is None when the name does not say when it began."""

    name: str
    call_id: str
    part: int
    side: Side
    form: str
    start_ms: int | None = None

    @property
    def rate(self) -> int:
        """Samples per second."""
        return 16_000 if self.form.endswith("16") else 8_000


@dataclass(frozen=True, slots=True)
class Part:
    """The sides of one part; at least one is there. A message stands in `caller`."""

    number: int
    caller: SpoolFile | None
    agent: SpoolFile | None

    @property
    def files(self) -> tuple[SpoolFile, ...]:
        return tuple(file for file in (self.caller, self.agent) if file is not None)


@dataclass(frozen=True, slots=True)
class Group:
    """What becomes one recording: all parts of a call that are of one kind, in order."""

    call_id: str
    kind: Kind
    parts: tuple[Part, ...]

    @property
    def files(self) -> tuple[SpoolFile, ...]:
        return tuple(file for part in self.parts for file in part.files)

    def without(self, numbers: Iterable[int]) -> Group | None:
        """The group with these parts taken away; None when nothing is left."""
        gone = set(numbers)
        left = tuple(part for part in self.parts if part.number not in gone)
        return Group(self.call_id, self.kind, left) if left else None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is known of the consent to a recording. `preface` is a prompt's sound file that the law wants in front."""

    is_granted: bool
    result: str
    """As in the record: granted, refused, timed_out, prompt_failed, hung_up, not_asked."""
    preface: str | None = None


def parse_name(name: str) -> SpoolFile | None:
    """A file of the spool, None for any other name. Only such names are ever opened."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    start = int(match["start"]) if match["start"] else None
    return SpoolFile(name, match["call"], int(match["part"]), Side(match["side"]), match["form"], start)


def groups(names: Iterable[str]) -> list[Group]:
    """The files that belong together, by call and kind; foreign names are left out.

    Of two files for the same side of the same part (in two forms) the one that comes last by name counts.
    """
    found: dict[tuple[str, Kind], dict[int, dict[Side, SpoolFile]]] = {}
    for name in sorted(names):
        file = parse_name(name)
        if file is not None:
            kind = Kind.VOICEMAIL if file.side is Side.MESSAGE else Kind.TALK
            found.setdefault((file.call_id, kind), {}).setdefault(file.part, {})[file.side] = file
    return [
        Group(
            call_id,
            kind,
            tuple(
                Part(number, sides.get(Side.CALLER) or sides.get(Side.MESSAGE), sides.get(Side.AGENT))
                for number, sides in sorted(parts.items())
            ),
        )
        for (call_id, kind), parts in found.items()
    ]


def recording_id(call_id: str, kind: Kind, first_part: int) -> str:
    """The same for the same spool files, however often they are met."""
    return str(uuid.uuid5(RECORDING_IDS, f"{call_id}/{kind.value}/{first_part}"))


def leads(caller: int, agent: int, rate: int) -> tuple[int, int]:
    """Samples of silence before the caller's and the agent's side, of sides with these lengths in samples.

    Asterisk closes both files of a pair at the same moment and begins one a little later, by chance, so a small
    difference is made up at the front. A side that is much shorter broke off (full disk, crash): both begin together.
    """
    difference = caller - agent
    if difference == 0 or min(caller, agent) == 0 or abs(difference) > LEAD_SECONDS * rate:
        return 0, 0
    return (0, difference) if difference > 0 else (-difference, 0)


def gap_samples(end_us: int, next_start_us: int, rate: int) -> int:
    """Samples of silence between the end of a part and the start of the next; never negative, at most four hours."""
    seconds = (next_start_us - end_us) / 1_000_000
    return round(min(max(seconds, 0.0), MAX_GAP_SECONDS) * rate)


def resumed_us(end_us: int, before: int, after: int, pauses: Sequence[tuple[int, int | None]]) -> int | None:
    """When part `after` began if part `before` ended at `end_us`: as long after it as the journal's pauses between them
    took (each from, to in microseconds). A file's times are when a busy Asterisk came to write it.

    None: the journal has no such pauses.
    """
    between = pauses[before - 1 : after - 1]
    if len(between) < after - before or between[-1][1] is None:
        return None
    return end_us + between[-1][1] - between[0][0]


def part_numbers(text: str) -> tuple[int, ...]:
    """Numbers of parts as the database keeps them: `1 2 3`."""
    return tuple(int(number) for number in text.split())


def parts_text(parts: Sequence[Part]) -> str:
    """The reverse of `part_numbers`."""
    return " ".join(str(part.number) for part in parts)
