"""A long journal made of short recorded ones: the same rows with fresh ids, numbers and times, as a stream.

Calls begin evenly and overlap as on a large site: ringing takes 2 to 12 s, talking 20 to 100 s, so that about a
thousand are up at any time and their rows stand between each other.
"""

from __future__ import annotations

import heapq
import itertools
import random
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "journal"

MIX = {
    "answered_caller_ends": 50,
    "answered_agent_ends": 18,
    "busy_then_reserve": 8,
    "ring_group": 4,
    "abandoned_first": 10,
    "abandoned_second": 4,
    "after_hours": 3,
    "banned": 2,
    "group_nobody": 1,
}
"""Recordings and how many of a hundred calls are such."""

CALLS_PER_SECOND = 20.0
FIRST_US = 1_790_000_000_000_000
CALLERS = 50_000
NUMBERS = ("74990000001", "74990000002", "74990000003")

_TIME = re.compile(r'"(\d{10})\.(\d{6})",')
_UNIQUE = re.compile(r"node1-\d{10}\.\d+")
_CHANNEL = re.compile(r"(?<=-)[0-9a-f]{8}(?=[\"~|;])")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CALLER = re.compile(r"(?<=cid=)\d+|(?<=raw=)\d+")
_DID = re.compile(r"(?<=did=)\d+")
_PAUSE_US = 250_000


@dataclass(frozen=True)
class _Line:
    kind: str
    pause_us: int
    text: str
    """With %(name)s for what differs from call to call."""


@dataclass(frozen=True)
class _Recording:
    lines: tuple[_Line, ...]
    uniques: int
    channels: int
    uuids: int


def _read(name: str) -> _Recording:
    found: dict[str, dict[str, str]] = {"u": {}, "c": {}, "i": {}}

    def named(letter: str) -> Callable[[re.Match[str]], str]:
        def place(match: re.Match[str]) -> str:
            known = found[letter]
            return f"%({known.setdefault(match[0], f'{letter}{len(known)}')})s"

        return place

    lines: list[_Line] = []
    before = 0
    for text in (FIXTURES / f"{name}.csv").read_text().splitlines():
        time = _TIME.match(text)
        assert time is not None, name
        at_us = int(time[1] + time[2])
        rest = text[time.end() :].replace("%", "%%")
        for letter, pattern in (("i", _UUID), ("u", _UNIQUE), ("c", _CHANNEL)):
            rest = pattern.sub(named(letter), rest)
        rest = _DID.sub("%(did)s", _CALLER.sub("%(cid)s", rest))
        lines.append(_Line(text.split('"')[3], at_us - before if before else 0, rest))
        before = at_us
    return _Recording(tuple(lines), len(found["u"]), len(found["c"]), len(found["i"]))


class Calls:
    """The stream. The same `seed` gives the same journal."""

    def __init__(self, seed: int = 1, calls_per_second: float = CALLS_PER_SECOND) -> None:
        self._random = random.Random(seed)
        self._recordings = [_read(name) for name in MIX]
        self._between_us = int(1_000_000 / calls_per_second)
        self._channels = itertools.count(1)

    def lines(self, calls: int) -> Iterator[bytes]:
        """The journal of so many calls, line by line, in the order of time."""
        waiting: list[tuple[int, int, str]] = []
        order = itertools.count()
        kinds = self._random.choices(self._recordings, weights=list(MIX.values()), k=1000)
        for number in range(calls):
            start_us = FIRST_US + number * self._between_us
            while waiting and waiting[0][0] < start_us:
                yield _row(*heapq.heappop(waiting))
            for at_us, text in self._call(kinds[number % len(kinds)], start_us):
                heapq.heappush(waiting, (at_us, next(order), text))
        while waiting:
            yield _row(*heapq.heappop(waiting))

    def _call(self, recording: _Recording, start_us: int) -> Iterator[tuple[int, str]]:
        chance = self._random
        second = start_us // 1_000_000
        numbers = [next(self._channels) for _ in range(max(recording.uniques, recording.channels))]
        values = {f"u{n}": f"node1-{second}.{numbers[n]}" for n in range(recording.uniques)}
        values |= {f"c{n}": f"{numbers[n] & 0xFFFFFFFF:08x}" for n in range(recording.channels)}
        values |= {f"i{n}": str(uuid.UUID(int=chance.getrandbits(128), version=4)) for n in range(recording.uuids)}
        values["cid"] = f"7916{chance.randrange(CALLERS):07d}"
        values["did"] = chance.choice(NUMBERS)
        at_us = start_us
        before = ""
        for line in recording.lines:
            if line.pause_us > _PAUSE_US:
                seconds = chance.uniform(20, 100) if before == "BRIDGE_ENTER" else chance.uniform(2, 12)
                at_us += int(seconds * 1_000_000)
            else:
                at_us += max(0, line.pause_us)
            before = line.kind
            yield at_us, line.text % values


def _row(at_us: int, _: int, text: str) -> bytes:
    return f'"{at_us // 1_000_000}.{at_us % 1_000_000:06d}",{text}\n'.encode()
