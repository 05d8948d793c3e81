"""The events a call gives rise to, and their ids: the same whatever is read again (`design.md`, "Events")."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from gateway.core import calls, outcomes

EVENT_IDS = uuid.UUID("9f4a2d0e-57c1-5d0b-8a53-1f0f4d6b2c90")
"""Namespace of event ids. Never change it: receivers know events by their ids."""

CALLBACK_REQUESTED = "callback.requested"
"""Somebody left a number on a page and asks to be called (R69); no call's event."""

LATE_US = 60_000_000
"""An event found so long after it happened pops no screen."""


class EventType(StrEnum):
    """Types that come from the journal."""

    STARTED = "call.started"
    """The plan was taken."""
    ANSWERED = "call.answered"
    """First bridge with a person."""
    COMPLETED = "call.completed"
    """Closed, and a person had answered; banned callers too."""
    MISSED = "call.missed"
    UPDATED = "call.updated"
    """The record of a closed call changed."""


ALL_TYPES = frozenset(
    {
        *(one.value for one in EventType),
        "caller.card",
        CALLBACK_REQUESTED,
        "recording.ready",
        "recording.analysed",
        "ticket.opened",
        "ticket.updated",
        "ticket.attempted",
        "ticket.reminded",
        "ticket.escalated",
        "ticket.closed",
        "pool.exhausted",
        "pool.leak_suspected",
        "system.alert",
    }
)
"""Everything that is told; each has a schema in `gateway/web/eventschemas`."""

CLOSING = frozenset({EventType.COMPLETED, EventType.MISSED})


@dataclass(frozen=True, slots=True)
class Due:
    """An event to write. `at_us` is when it happened; only started and answered can be `late`."""

    type: EventType
    at_us: int
    late: bool = False


def event_id(call_id: str, event_type: EventType, revision: int) -> str:
    """UUIDv5 of (call id, type, revision). Types that come once per call take revision 1."""
    counted = revision if event_type is EventType.UPDATED else 1
    return str(uuid.uuid5(EVENT_IDS, f"{call_id}/{event_type.value}/{counted}"))


def result_event_id(call_id: str, revision: int, changes: int) -> str:
    """The same of a `call.updated` that tells of a result: the record's own revision, and how often its result changed.
    Apart from those of `event_id`, so that a record that changes at the same moment is told too."""
    return str(uuid.uuid5(EVENT_IDS, f"{call_id}/{EventType.UPDATED.value}/{revision}+{changes}"))


def events_due(
    announced: Collection[str], facts: calls.CallFacts, *, now_us: int, content_changed: bool = False
) -> list[Due]:
    """What is to be told of a call now, in order.

    `announced` are the types already told; `content_changed`: the record differs from the one that was told at closing.
    A call that is closed when it is first read tells all of its story.
    """
    due: list[Due] = []
    if EventType.STARTED not in announced and facts.plan_at_us is not None:
        due.append(_timely(EventType.STARTED, facts.plan_at_us, now_us))
    if EventType.ANSWERED not in announced and facts.answered_at_us is not None:
        due.append(_timely(EventType.ANSWERED, facts.answered_at_us, now_us))
    if not facts.is_closed or facts.outcome is None:
        return due
    ended_us = facts.ended_at_us if facts.ended_at_us is not None else facts.last_row_at_us
    if not CLOSING & set(announced):
        due.append(Due(closing_type(facts.outcome), ended_us))
    elif content_changed:
        due.append(Due(EventType.UPDATED, ended_us))
    return due


def closing_type(outcome: outcomes.Outcome) -> EventType:
    return EventType.MISSED if outcome.is_missed else EventType.COMPLETED


def _timely(event_type: EventType, at_us: int, now_us: int) -> Due:
    return Due(event_type, at_us, late=now_us - at_us > LATE_US)
