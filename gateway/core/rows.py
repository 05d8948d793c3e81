"""One row of the journal, as every other module sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple


class EventKind(StrEnum):
    """CEL event types that the fold reads; the names are Asterisk's."""

    CHAN_START = "CHAN_START"
    ANSWER = "ANSWER"
    BRIDGE_ENTER = "BRIDGE_ENTER"
    BRIDGE_EXIT = "BRIDGE_EXIT"
    HANGUP = "HANGUP"
    CHAN_END = "CHAN_END"
    LINKEDID_END = "LINKEDID_END"
    USER_DEFINED = "USER_DEFINED"
    STREAM_BEGIN = "STREAM_BEGIN"
    """A prompt or hold music begins; `user_event` says which (Asterisk 22)."""
    STREAM_END = "STREAM_END"


class Row(NamedTuple):
    """One journal row. `at_us` is microseconds since the epoch, UTC; `data` the decoded fields of a user event
    (the query string) or the JSON object of a HANGUP, BRIDGE or STREAM row, values as text.

    A tuple, since a million of them are made, compared and sorted; `data` may be shared by rows: never change it.
    """

    at_us: int
    kind: str
    user_event: str
    channel: str
    unique_id: str
    linked_id: str
    context: str
    peer: str
    application: str
    data: Mapping[str, str]


def in_order(rows: Iterable[Row]) -> list[Row]:
    """`rows` by time without doubles: the same list whatever order they come in, so what is made of it is as well.

    Rows of different channels stand in the file a few ms out of order (asterisk.md section 5).
    """
    ordered = list(rows)
    try:
        ordered.sort()
    except TypeError:
        # Two rows that differ in `data` alone: mappings do not compare.
        ordered.sort(key=_total_order)
    return [row for index, row in enumerate(ordered) if index == 0 or row != ordered[index - 1]]


def _total_order(row: Row) -> tuple[object, ...]:
    return (*row[:9], sorted(row.data.items()))
