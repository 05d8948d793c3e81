"""Which rows belong to one call, decided row by row in the order of the journal.

A group is known by the unique id of the channel by which the call came in. Rows of other calls of a shared PBX belong
to no group and leave nothing behind, so memory is bounded by the calls that are open.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.rows import EventKind, Row

OUR_CONTEXTS = "dialmark-"
OUR_EVENTS = "DM_"
CALLEE_EVENT = "DM_ACCEPT"
"""An event of ours on the channel of who answers."""
RATE_EVENT = "DM_RATE"
"""After the call, on the channel of whoever is still there."""
BREAK_EVENT = "DM_BREAK"
"""An agent's break begins or ends: of no call."""
NEVER_FIRST = frozenset({CALLEE_EVENT, RATE_EVENT, BREAK_EVENT})
"""Events of ours that never begin a call."""
REMEMBERED_CLOSED = 10_000
"""How many closed groups are still recognised when a late row comes; an hour at 3 calls/s."""

_CHAN_START = EventKind.CHAN_START.value


class Grouping:
    """Maps channels to groups at first sight: a new channel joins the group of its linked id, and stays in it when a
    transfer changes that id. After a restart, `adopt` the stored rows of open calls group by group."""

    def __init__(self, remembered_closed: int = REMEMBERED_CLOSED) -> None:
        self._group_of: dict[str, str] = {}
        self._group_of_linked: dict[str, str] = {}
        self._channels: dict[str, list[str]] = {}
        self._linked: dict[str, list[str]] = {}
        self._closed: dict[str, None] = {}
        self._remembered_closed = remembered_closed

    def assign(self, row: Row) -> str | None:
        """The group of `row`, None when it belongs to no call of ours. A closed group comes back for late rows."""
        key = self._group_of.get(row.unique_id)
        if key is not None:
            if row.linked_id not in self._group_of_linked:
                self._link(row.linked_id, key)
            return key
        key = self._group_of_linked.get(row.linked_id)
        if key is not None:
            self._join(row.unique_id, key)
            return key
        if row.unique_id in self._closed:
            return row.unique_id
        if row.linked_id in self._closed:
            return row.linked_id
        if not begins_call(row):
            return None
        self._open(row.unique_id, row.linked_id)
        return row.unique_id

    def adopt(self, key: str, rows: Iterable[Row]) -> None:
        """Take up a group again from the rows that are stored of it."""
        self._closed.pop(key, None)
        if key not in self._channels:
            self._open(key, key)
        for row in rows:
            if row.unique_id not in self._group_of:
                self._join(row.unique_id, key)
            if row.linked_id not in self._group_of_linked:
                self._link(row.linked_id, key)

    def close(self, key: str) -> None:
        """Forget a group whose call is over; its key stays known for a while, so that no late row revives it."""
        for unique_id in self._channels.pop(key, ()):
            self._group_of.pop(unique_id, None)
        for linked_id in self._linked.pop(key, ()):
            self._group_of_linked.pop(linked_id, None)
        self._closed[key] = None
        while len(self._closed) > self._remembered_closed:
            del self._closed[next(iter(self._closed))]

    def is_open(self, key: str) -> bool:
        return key in self._channels

    @property
    def open_groups(self) -> list[str]:
        """Keys of the groups that are open, oldest first."""
        return list(self._channels)

    def __len__(self) -> int:
        """Channels that are remembered: what the memory costs."""
        return len(self._group_of)

    def _open(self, key: str, linked_id: str) -> None:
        self._channels[key] = [key]
        self._linked[key] = []
        self._group_of[key] = key
        if linked_id not in self._group_of_linked:
            self._link(linked_id, key)

    def _join(self, unique_id: str, key: str) -> None:
        self._group_of[unique_id] = key
        self._channels[key].append(unique_id)

    def _link(self, linked_id: str, key: str) -> None:
        self._group_of_linked[linked_id] = key
        self._linked[key].append(linked_id)


def begins_call(row: Row) -> bool:
    """Whether a row of an unknown channel starts a group: the inbound channel's start, or any user event of ours (the
    call came from somebody else's context, or the rows before were lost)."""
    if row.user_event.startswith(OUR_EVENTS) and row.user_event not in NEVER_FIRST:
        return True
    return row.kind == _CHAN_START and row.unique_id == row.linked_id and row.context.startswith(OUR_CONTEXTS)
