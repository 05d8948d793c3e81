"""Who talked with the caller, and when: bridge rows to spans of talk.

A person is any channel that is not the caller's and not `Local/`. They talk while they are in the caller's bridge, or
in a bridge that hangs on it through both halves of a `Local/` channel (a queue or IVR of the PBX). So an IVR that
answers, a queue's music and the Local channel's own bridge with the caller are no talk (`design.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.core.rows import EventKind, Row

CALLER = ""
"""Stands for the caller's channel, whatever its name is at the time."""

_ENTER = EventKind.BRIDGE_ENTER.value
_EXIT = EventKind.BRIDGE_EXIT.value
_LOCAL = "Local/"


class Span(NamedTuple):
    """One person's talk with the caller. `end_us` None = it lasts; `through`: the Local channel next to the caller."""

    start_us: int
    end_us: int | None
    person: str
    through: str | None


class _Bridges:
    """Which channel is in which bridge. Channels are known by name: `Peer` names channels whose rows are not ours."""

    __slots__ = ("_bridge_of", "_caller_names", "_members")

    def __init__(self, caller_names: frozenset[str]) -> None:
        self._caller_names = caller_names
        self._bridge_of: dict[str, str] = {}
        self._members: dict[str, list[str]] = {}

    def apply(self, row: Row) -> None:
        name = self._known_as(row.channel)
        if row.kind == _ENTER:
            bridge = row.data.get("bridge_id", "")
            self._put(name, bridge)
            if row.peer:
                # After an attended transfer the person's own row of entering belongs to another call (tried).
                for peer in row.peer.split(","):
                    self._put(self._known_as(peer), bridge)
        elif row.kind != _EXIT or self._bridge_of.get(name) == row.data.get("bridge_id", ""):
            self._take(name)

    def with_caller(self) -> dict[str, str | None]:
        """Persons who hear the caller now, with the Local channel in between."""
        bridge = self._bridge_of.get(CALLER)
        if bridge is None:
            return {}
        found: dict[str, str | None] = {}
        seen = {bridge}
        waiting: list[tuple[str, str | None]] = [(bridge, None)]
        while waiting:
            bridge, through = waiting.pop()
            for name in self._members.get(bridge, ()):
                if not name.startswith(_LOCAL):
                    if name != CALLER:
                        found[name] = through
                    continue
                beyond = self._bridge_of.get(other_half(name))
                if beyond is not None and beyond not in seen:
                    seen.add(beyond)
                    waiting.append((beyond, through or name))
        return found

    def _known_as(self, name: str) -> str:
        return CALLER if name in self._caller_names else name

    def _put(self, name: str, bridge: str) -> None:
        if self._bridge_of.get(name) == bridge:
            return
        self._take(name)
        self._bridge_of[name] = bridge
        self._members.setdefault(bridge, []).append(name)

    def _take(self, name: str) -> None:
        bridge = self._bridge_of.pop(name, None)
        if bridge is not None:
            self._members[bridge].remove(name)


def other_half(name: str) -> str:
    """`Local/600@queues-0000001f;1` → `Local/600@queues-0000001f;2`, and back."""
    return name[:-1] + ("2" if name.endswith("1") else "1")


def spans(rows: Sequence[Row], caller_names: frozenset[str]) -> list[Span]:
    """Spans of talk in order of their start. `rows`: BRIDGE_ENTER, BRIDGE_EXIT and HANGUP rows of one call by time."""
    bridges = _Bridges(caller_names)
    running: dict[str, tuple[int, str | None]] = {}
    done: list[Span] = []
    for row in rows:
        bridges.apply(row)
        talking = bridges.with_caller()
        for person in [person for person in running if person not in talking]:
            start_us, through = running.pop(person)
            done.append(Span(start_us, row.at_us, person, through))
        for person, through in talking.items():
            if person not in running:
                running[person] = (row.at_us, through)
    done.extend(Span(start_us, None, person, through) for person, (start_us, through) in running.items())
    done.sort(key=lambda span: span.start_us)
    return done


def merged(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of `intervals` as intervals that do not touch, in order."""
    union: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        elif end > start:
            union.append((start, end))
    return union


def within(intervals: Iterable[tuple[int, int]], start_us: int, end_us: int) -> int:
    """Microseconds of the union of `intervals` between `start_us` and `end_us`."""
    return sum(max(0, min(end, end_us) - max(start, start_us)) for start, end in merged(intervals) if start < end_us)
