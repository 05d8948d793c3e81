"""The routing decision: a question about one call, answered with the whole plan of that call (C1-C3).

`decide` is the only place where a route is chosen: the daemon, `dialmark explain` and the generated default plan call
it. The answer needs nobody any more: the dialplan rings its steps, falls back and ends the call by itself (N2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from gateway.core import book


class Action(StrEnum):
    """What the dialplan does with the call; values of `DM_ACT`."""

    DIAL = "dial"
    PREPARE = "prep"
    """Ring, but check the concurrency limit or set the caller ID first."""
    AFTER_HOURS = "after_hours"
    NO_ROUTE = "no_route"
    BAN_BUSY = "ban_busy"
    BAN_REFUSE = "ban_refuse"
    BAN_MESSAGE = "ban_message"
    BAN_CHALLENGE = "ban_challenge"


@dataclass(frozen=True, slots=True)
class Question:
    """One call that asks for its way. `did` and `caller` are E.164 digits without `+`; `caller` is "" if unknown."""

    call_id: str
    did: str
    caller: str
    at: datetime
    trunk: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What is known of the caller and of the destinations when the call comes; the defaults are an unknown caller."""

    calls_before: int | None = None
    """None: not looked up, or too late; such a caller counts as first-time."""
    last_agent: str | None = None
    last_agent_at: datetime | None = None
    turns: Mapping[str, int] = field(default_factory=dict)
    """How many calls each route has had: round robin and weights count on it."""
    idle_since: Mapping[str, datetime] = field(default_factory=dict)
    """When each destination last ended a talk."""
    caller_country: str | None = None
    caller_region: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Destinations that ring together, for at most `ring_seconds`; `next_after` gives the number (1-8) of the step
    after each cause, 0 to end; None = the following one."""

    kind: book.StepKind
    destinations: tuple[book.Destination, ...]
    ring_seconds: int
    next_after: Mapping[book.MissCause, int] | None = None
    caller_number: str | None = None
    """Digits shown instead of the caller's."""
    caller_label: str | None = None
    """Put before the caller's name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole answer. `why` says in plain words, one line per rule that spoke, how it came about (N12)."""

    revision: int
    route: str | None
    action: Action
    steps: tuple[Step, ...] = ()
    longest_wait_seconds: int = 120
    concurrency_limit: int | None = None
    message: str | None = None
    answer_for_message: bool = False
    why: tuple[str, ...] = ()
