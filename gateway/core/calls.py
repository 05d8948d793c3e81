"""From journal rows to the facts of one call: `fold` (to be written) over rows that belong together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


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


@dataclass(frozen=True, slots=True)
class Row:
    """One journal row. `at_us` is microseconds since the epoch, UTC; `data` the decoded fields of a user event
    (the query string) or the JSON object of a HANGUP or BRIDGE row."""

    at_us: int
    kind: str
    user_event: str
    channel: str
    unique_id: str
    linked_id: str
    context: str
    peer: str
    application: str
    data: dict[str, str]


class Direction(StrEnum):
    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Outcome(StrEnum):
    """How a call ended, `design.md` "The call record"."""

    ANSWERED = "answered"
    BUSY = "busy"
    REJECTED = "rejected"
    NO_ANSWER = "no_answer"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    ABANDONED = "abandoned"
    VOICEMAIL = "voicemail"
    AFTER_HOURS = "after_hours"
    BANNED = "banned"
    LOST = "lost"


class AttemptOutcome(StrEnum):
    """How one destination's ringing ended."""

    ANSWERED = "answered"
    BUSY = "busy"
    REJECTED = "rejected"
    NO_ANSWER = "no_answer"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    ABANDONED = "abandoned"
    """The caller gave up while it rang."""
    NOT_ACCEPTED = "not_accepted"
    CANCELLED = "cancelled"
    """Another member answered."""
    LOST = "lost"


class EndedBy(StrEnum):
    CALLER = "caller"
    AGENT = "agent"
    SYSTEM = "system"
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One destination rung once. Times are microseconds since the epoch; None = it did not come to that."""

    step: int
    destination: str
    kind: str
    """forward | reserve"""
    outcome: AttemptOutcome | None
    """None while it rings."""
    started_at_us: int
    answered_at_us: int | None
    ended_at_us: int | None
    ring_seconds: float
    talk_seconds: float
    sip_code: int | None
    q850_cause: int | None
    answered_by: str | None
    """Peer name (endpoint) of the person's channel, e.g. `desk-1`; behind a queue the agent's, not the queue's."""
    channel: str | None
    whisper_played: bool = False
    accepted: bool | None = None


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What the journal proves of one call, before the book is asked who and which source that is."""

    call_id: str
    direction: Direction
    linked_id: str
    unique_id: str
    sip_call_id: str | None
    trunk: str | None
    did: str
    """E.164 digits dialled: the tracking number; for outbound the number called."""
    caller: str
    """E.164 digits, "" when unknown or anonymous; for outbound the extension."""
    caller_raw: str
    caller_name: str
    started_at_us: int
    answered_at_us: int | None
    """First bridge with a person's channel."""
    ended_at_us: int | None
    last_row_at_us: int
    is_closed: bool
    """The inbound channel and every started attempt ended (or the call was closed after a crash)."""
    outcome: Outcome | None
    """None while open and unanswered; `answered` as soon as a person's bridge was seen."""
    cause: str | None
    """no_route, limit, or the ban action: why, where the outcome alone does not tell."""
    ended_by: EndedBy | None
    route_source: str | None
    """agi | plan | default"""
    route: str | None
    plan_revision: int | None
    agi_status: str | None
    wait_seconds: float
    talk_seconds: float
    hold_seconds: float
    post_dial_delay_seconds: float | None
    prompt_seconds: float
    silent_seconds: float
    plan_at_us: int | None
    """When the plan was taken (first DM_STEP or DM_ACT)."""
    attempts: tuple[Attempt, ...]
