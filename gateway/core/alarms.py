"""When an alarm is raised, cleared and told (R66): with hysteresis, so that it does not flap, and with quiet hours.

    quiet ──holds for raise_seconds──▶ raised ──does not hold for clear_seconds──▶ quiet
                                         │ told at once, or when the quiet hours are over

What was raised and cleared within the quiet hours is told by nobody to nobody; what is critical is always told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, time
from enum import StrEnum

SECOND_US = 1_000_000


class Severity(StrEnum):
    """Whether it may wait for the morning."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Rule:
    """How long a condition must hold before the alarm is raised, and must not hold before it is cleared."""

    kind: str
    severity: Severity
    raise_seconds: int
    clear_seconds: int
    of_node: bool = False
    """Its subjects are nodes, each of which looks at itself alone."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found of a subject. `holds` None: not known now, or between the two bounds: nothing changes."""

    kind: str
    subject: str
    holds: bool | None
    message: str
    value: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """Of one alarm; times in µs, None: not so."""

    pending_us: int | None = None
    clearing_us: int | None = None
    raised_us: int | None = None
    told_us: int | None = None


QUIET = State()


@dataclass(frozen=True, slots=True)
class News:
    """What is to be told: raised, or cleared. `since_us` is when it was raised."""

    is_raised: bool
    since_us: int


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `start` to `end` by the site's clock; over midnight where `end` is the earlier."""

    start: time
    end: time

    def __contains__(self, local: datetime) -> bool:
        now = local.time()
        if self.start <= self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end


def over(value: float, *, high: float, low: float) -> bool | None:
    """Above `high` it holds, below `low` it does not; between them what was stays."""
    if value > high:
        return True
    return False if value < low else None


def judge(state: State, reading: Reading, rule: Rule, now_us: int) -> tuple[State, News | None]:
    """The state after a reading, and that it was cleared, if somebody had been told of it."""
    if reading.holds is None:
        return state, None
    if state.raised_us is None:
        if not reading.holds:
            return QUIET, None
        since_us = state.pending_us if state.pending_us is not None else now_us
        if now_us - since_us < rule.raise_seconds * SECOND_US:
            return State(pending_us=since_us), None
        return State(pending_us=since_us, raised_us=now_us), None
    if reading.holds:
        return replace(state, clearing_us=None), None
    since_us = state.clearing_us if state.clearing_us is not None else now_us
    if now_us - since_us < rule.clear_seconds * SECOND_US:
        return replace(state, clearing_us=since_us), None
    return QUIET, News(False, state.raised_us) if state.told_us is not None else None


def tell(state: State, rule: Rule, now_us: int, *, is_quiet: bool) -> tuple[State, News | None]:
    """Whether a raised alarm is to be told now; the state with that noted."""
    if state.raised_us is None or state.told_us is not None or state.clearing_us is not None:
        return state, None
    if is_quiet and rule.severity is Severity.WARNING:
        return state, None
    return replace(state, told_us=now_us), News(True, state.raised_us)


def quiet_hours(text: str) -> QuietHours | None:
    """Of `22:00-07:00`; None for an empty text. Raises ValueError."""
    if not text.strip():
        return None
    start, found, end = text.partition("-")
    try:
        made = QuietHours(time.fromisoformat(start.strip()), time.fromisoformat(end.strip()))
    except ValueError:
        found = ""
    # By the site's clock, which has its own zone.
    if not found or made.start.tzinfo or made.end.tzinfo or made.start == made.end:
        raise ValueError('must be like "22:00-07:00"')
    return made
