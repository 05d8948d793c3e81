"""The life cycle of a ticket: a caller nobody spoke to, whom somebody has to call back (R18, R30, R37, N8).

    open ──last attempt made──▶ tried ──time is up──▶ closed (not_reached)
      │ time is up                └──caller missed again──▶ open, with a new clock
      ▼
    overdue (escalated once) ──last attempt made──▶ closed (not_reached)

    any of them ──caller spoke to a person, or somebody closes it──▶ closed ──somebody reopens it──▶ open

All functions are told the time and give a new value; what happened comes along as `News`, to be kept and told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from gateway.core import ticketclock


class Kind(StrEnum):
    """What it came from."""

    MISSED = "missed"
    """A missed call."""
    REQUEST = "request"
    """Somebody asked on a page to be called (R69)."""


class State(StrEnum):
    """Where it stands."""

    OPEN = "open"
    TRIED = "tried"
    """All attempts were made in time, and nobody was reached."""
    OVERDUE = "overdue"
    """The time is up, and attempts are missing."""
    CLOSED = "closed"


class Result(StrEnum):
    """How it ended."""

    CALLED_AGAIN = "called_again"
    """The caller called once more and was answered."""
    CALLED_BACK = "called_back"
    """The caller was called, and answered."""
    NOT_REACHED = "not_reached"
    """All attempts were made."""
    DONE = "done"
    """Somebody says that it is settled."""
    UNWANTED = "unwanted"
    """Somebody says that nobody has to be called: spam, wrong number."""
    ERASED = "erased"
    """The person was forgotten."""


BY_HAND = (Result.DONE, Result.CALLED_BACK, Result.NOT_REACHED, Result.UNWANTED)
"""What people may close it with."""


class Input(StrEnum):
    """What can happen to it."""

    MISS = "miss"
    TRY = "try"
    LAST_TRY = "last_try"
    """The attempt after which enough were made."""
    REACHED = "reached"
    TIME_UP = "time_up"
    CLOSE = "close"
    REOPEN = "reopen"


_O, _T, _L, _C = State.OPEN, State.TRIED, State.OVERDUE, State.CLOSED
TRANSITIONS: Mapping[tuple[State, Input], State] = {
    (_O, Input.MISS): _O,
    (_O, Input.TRY): _O,
    (_O, Input.LAST_TRY): _T,
    (_O, Input.TIME_UP): _L,
    (_O, Input.REACHED): _C,
    (_O, Input.CLOSE): _C,
    (_T, Input.MISS): _O,
    (_T, Input.LAST_TRY): _T,
    (_T, Input.TIME_UP): _C,
    (_T, Input.REACHED): _C,
    (_T, Input.CLOSE): _C,
    (_L, Input.MISS): _L,
    (_L, Input.TRY): _L,
    (_L, Input.LAST_TRY): _C,
    (_L, Input.REACHED): _C,
    (_L, Input.CLOSE): _C,
    (_C, Input.REOPEN): _O,
}
"""What is not here does not happen."""


class What(StrEnum):
    """An entry of the history."""

    OPENED = "opened"
    MERGED = "merged"
    """The caller was missed again."""
    ASSIGNED = "assigned"
    NOTED = "noted"
    ATTEMPTED = "attempted"
    REPEATED = "repeated"
    """An attempt so soon after another one that it does not count."""
    REMINDED = "reminded"
    ESCALATED = "escalated"
    CLOSED = "closed"
    REOPENED = "reopened"


EVENTS: Mapping[What, str] = {
    What.OPENED: "ticket.opened",
    What.MERGED: "ticket.updated",
    What.ASSIGNED: "ticket.updated",
    What.NOTED: "ticket.updated",
    What.ATTEMPTED: "ticket.attempted",
    What.REPEATED: "ticket.updated",
    What.REMINDED: "ticket.reminded",
    What.ESCALATED: "ticket.escalated",
    What.CLOSED: "ticket.closed",
    What.REOPENED: "ticket.updated",
}
"""How each is told."""

SYSTEM = "system"
"""Who did what nobody did."""


class Refused(Exception):
    """It cannot be done with a ticket in this state; the text says why."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the route promises: so many attempts within a span, the first one sooner (R30). `hours` None: wall clock."""

    attempts: int = 2
    within_seconds: int = 24 * 3_600
    first_seconds: int = 3_600
    apart_seconds: int = 600
    """Dialling again sooner is the same attempt, in wall time."""
    hours: ticketclock.Hours | None = None

    def due_us(self, start_us: int, made: int) -> int:
        """When the attempt after `made` ones is due."""
        seconds = self.within_seconds * (made + 1) // self.attempts
        if made == 0:
            seconds = min(self.first_seconds, seconds)
        return ticketclock.after(start_us, seconds, self.hours)

    def deadline_us(self, start_us: int) -> int:
        """When all of them must be made."""
        return ticketclock.after(start_us, self.within_seconds, self.hours)


@dataclass(frozen=True, slots=True)
class Ticket:
    """One ticket. Times in µs since the epoch, None: did not happen, or nothing is due."""

    number: int
    """Short and running, one series per installation: it is keyed on a phone. 0: not stored yet."""
    ticket_id: str
    """UUID made of what opened it, so that reading that again opens no second one."""
    kind: Kind
    caller: str | None
    """E.164 with `+`. None or a pseudonym once the person is forgotten; None as well for a request with no number."""
    opened_us: int
    """When the call was missed, or the request came."""
    last_miss_us: int
    round_us: int
    """When the clock was started: as `opened_us`, until it is started anew."""
    deadline_us: int
    wanted: int
    """How many attempts are enough, with those of earlier rounds."""
    state: State = State.OPEN
    result: Result | None = None
    caller_name: str | None = None
    call_id: str | None = None
    """The missed call. None: a request."""
    last_call_id: str | None = None
    """The latest missed call."""
    tracking_number: str | None = None
    route: str | None = None
    site: str | None = None
    node: str = ""
    source: str | None = None
    campaign: str | None = None
    attribution: Mapping[str, Any] = field(default_factory=dict)
    """As in the record of the missed call."""
    consent_mode: str | None = None
    """Recording mode of the missed call."""
    consent_region: str | None = None
    cause: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    """Of a request: what was said (`message`, `when`, `page`, `number_raw`)."""
    owner: str | None = None
    """Key of an agent."""
    misses: int = 1
    attempts: int = 0
    before_round: int = 0
    """Attempts of earlier rounds."""
    first_attempt_us: int | None = None
    last_attempt_us: int | None = None
    """Of those that count."""
    next_due_us: int | None = None
    reminded_us: int | None = None
    """Of the attempt that is due next."""
    escalated_us: int | None = None
    closed_us: int | None = None
    timer_us: int | None = None
    """When `tick` has something to do."""
    revision: int = 1

    @property
    def is_open(self) -> bool:
        """Whether somebody still has to do, or wait for, something."""
        return self.state is not State.CLOSED

    @property
    def callback_seconds(self) -> float | None:
        """From the miss to the first attempt (R30)."""
        return None if self.first_attempt_us is None else max(0, self.first_attempt_us - self.opened_us) / 1_000_000


@dataclass(frozen=True, slots=True)
class News:
    """One entry for history and outbox."""

    what: What
    at_us: int
    actor: str = SYSTEM
    call_id: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A ticket after something happened."""

    ticket: Ticket
    news: tuple[News, ...] = ()


def numbered(ticket: Ticket, number: int) -> Ticket:
    """As stored."""
    return replace(ticket, number=number)


def opened(ticket: Ticket, terms: Terms) -> Change:
    """A new ticket with its clock set; `ticket` says who and why."""
    return Change(_wound(ticket, terms), (News(What.OPENED, ticket.opened_us, call_id=ticket.call_id),))


def missed_again(ticket: Ticket, terms: Terms, at_us: int, call_id: str | None, *, text: str | None = None) -> Change:
    """The caller was missed once more, or asked on a page once more: merged into the open ticket."""
    changed = replace(
        ticket,
        misses=ticket.misses + 1,
        last_miss_us=max(ticket.last_miss_us, at_us),
        last_call_id=call_id or ticket.last_call_id,
    )
    was_tried = ticket.state is State.TRIED
    changed = _moved(changed, Input.MISS)
    if was_tried:
        changed = _new_round(changed, terms, at_us)
    return _told(changed, News(What.MERGED, at_us, call_id=call_id, text=text))


def attempted(
    ticket: Ticket,
    terms: Terms,
    at_us: int,
    *,
    actor: str = SYSTEM,
    call_id: str | None = None,
    text: str | None = None,
) -> Change:
    """Somebody called and did not reach the caller."""
    if not ticket.is_open:
        raise Refused("the ticket is closed")
    if _is_repeat(ticket, terms, at_us):
        return _told(ticket, News(What.REPEATED, at_us, actor, call_id, text))
    made = ticket.attempts + 1
    is_enough = made >= ticket.wanted
    first = at_us if ticket.first_attempt_us is None else min(at_us, ticket.first_attempt_us)
    changed = replace(
        ticket,
        attempts=made,
        first_attempt_us=first,
        last_attempt_us=max(at_us, ticket.last_attempt_us or at_us),
        reminded_us=None,
    )
    changed = _moved(changed, Input.LAST_TRY if is_enough else Input.TRY)
    news = [News(What.ATTEMPTED, at_us, actor, call_id, text)]
    if changed.state is State.CLOSED:
        changed = _closed(changed, at_us, Result.NOT_REACHED)
        news.append(News(What.CLOSED, at_us))
    elif changed.state is State.OPEN:
        changed = _with_timer(replace(changed, next_due_us=terms.due_us(changed.round_us, made - changed.before_round)))
    else:
        changed = _with_timer(replace(changed, next_due_us=None))
    return _told(changed, *news)


def _is_repeat(ticket: Ticket, terms: Terms, at_us: int) -> bool:
    """A miss or a new clock since then is a new reason to call."""
    reason_us = ticket.round_us if at_us < ticket.last_miss_us else max(ticket.round_us, ticket.last_miss_us)
    # Calls of several nodes are read in any order.
    made = (ticket.first_attempt_us, ticket.last_attempt_us)
    return any(
        one >= reason_us and abs(at_us - one) < terms.apart_seconds * 1_000_000 for one in made if one is not None
    )


def reached(
    ticket: Ticket,
    at_us: int,
    result: Result,
    *,
    is_attempt: bool,
    actor: str = SYSTEM,
    call_id: str | None = None,
    text: str | None = None,
) -> Change:
    """The caller spoke to a person. `is_attempt`: since somebody called back."""
    if not ticket.is_open:
        raise Refused("the ticket is closed")
    news = [News(What.CLOSED, at_us, actor, call_id, text)]
    if is_attempt:
        first = at_us if ticket.first_attempt_us is None else min(at_us, ticket.first_attempt_us)
        ticket = replace(
            ticket,
            attempts=ticket.attempts + 1,
            first_attempt_us=first,
            last_attempt_us=max(at_us, ticket.last_attempt_us or at_us),
        )
        news.insert(0, News(What.ATTEMPTED, at_us, actor, call_id))
    return _told(_closed(_moved(ticket, Input.REACHED), at_us, result), *news)


def tick(ticket: Ticket, now_us: int) -> Change:
    """What time alone does: reminds, escalates, closes what was tried. Nothing is due: the same ticket, no news."""
    if not ticket.is_open or ticket.timer_us is None or now_us < ticket.timer_us:
        return Change(ticket)
    if now_us >= ticket.deadline_us:
        moved = _moved(ticket, Input.TIME_UP)
        if moved.state is State.CLOSED:
            return _told(_closed(moved, now_us, Result.NOT_REACHED), News(What.CLOSED, now_us))
        return _told(_with_timer(replace(moved, escalated_us=now_us)), News(What.ESCALATED, now_us))
    return _told(_with_timer(replace(ticket, reminded_us=now_us)), News(What.REMINDED, now_us))


def assigned(ticket: Ticket, owner: str | None, at_us: int, *, actor: str) -> Change:
    """It is this agent's now, or nobody's."""
    if not ticket.is_open:
        raise Refused("the ticket is closed")
    if owner == ticket.owner:
        return Change(ticket)
    return _told(replace(ticket, owner=owner), News(What.ASSIGNED, at_us, actor, text=owner))


def handed_on(change: Change, owner: str) -> Change:
    """The same change, and the ticket is this agent's now."""
    if owner == change.ticket.owner:
        return change
    at_us = change.news[-1].at_us
    return Change(replace(change.ticket, owner=owner), (News(What.ASSIGNED, at_us, text=owner), *change.news))


def noted(ticket: Ticket, text: str, at_us: int, *, actor: str) -> Change:
    """Somebody wrote something down; of closed tickets as well."""
    return _told(ticket, News(What.NOTED, at_us, actor, text=text))


def closed(ticket: Ticket, result: Result, at_us: int, *, actor: str, text: str | None = None) -> Change:
    """Somebody closes it."""
    if not ticket.is_open:
        raise Refused("the ticket is closed already")
    return _told(_closed(_moved(ticket, Input.CLOSE), at_us, result), News(What.CLOSED, at_us, actor, text=text))


def reopened(ticket: Ticket, terms: Terms, at_us: int, *, actor: str, text: str | None = None) -> Change:
    """Somebody takes a closed one up again, with a new clock."""
    if ticket.is_open:
        raise Refused("the ticket is open")
    if ticket.result is Result.ERASED:
        raise Refused("the person was erased")
    moved = replace(_moved(ticket, Input.REOPEN), result=None, closed_us=None, escalated_us=None)
    return _told(_new_round(moved, terms, at_us), News(What.REOPENED, at_us, actor, text=text))


_OF_SOURCE = ("method", "source", "channel", "campaign")


def without_visitor(ticket: Ticket) -> Ticket:
    """Without what the caller's visit to the web site tells; source and campaign stay."""
    kept = {name: value for name, value in ticket.attribution.items() if name in _OF_SOURCE}
    return replace(ticket, attribution=kept, request={**ticket.request, "page": None} if ticket.request else {})


def erased(ticket: Ticket, pseudonym: str | None, at_us: int) -> Ticket:
    """Without the person; an open one is closed, for nobody can be called any more."""
    ticket = replace(without_visitor(ticket), caller=pseudonym, caller_name=None, request={})
    if ticket.is_open:
        ticket = _closed(_moved(ticket, Input.CLOSE), at_us, Result.ERASED)
    return replace(ticket, revision=ticket.revision + 1)


def _wound(ticket: Ticket, terms: Terms) -> Ticket:
    start_us = ticket.round_us
    return _with_timer(
        replace(
            ticket,
            wanted=ticket.before_round + terms.attempts,
            deadline_us=terms.deadline_us(start_us),
            next_due_us=terms.due_us(start_us, 0),
            reminded_us=None,
        )
    )


def _new_round(ticket: Ticket, terms: Terms, at_us: int) -> Ticket:
    return _wound(replace(ticket, round_us=at_us, before_round=ticket.attempts), terms)


def _moved(ticket: Ticket, what: Input) -> Ticket:
    return replace(ticket, state=TRANSITIONS[ticket.state, what])


def _closed(ticket: Ticket, at_us: int, result: Result) -> Ticket:
    return _with_timer(
        replace(ticket, state=State.CLOSED, result=result, closed_us=at_us, next_due_us=None, reminded_us=None)
    )


def _with_timer(ticket: Ticket) -> Ticket:
    timer_us: int | None = None
    if ticket.state is State.OPEN:
        is_waiting = ticket.next_due_us is not None and ticket.reminded_us is None
        timer_us = min(ticket.next_due_us or 0, ticket.deadline_us) if is_waiting else ticket.deadline_us
    elif ticket.state is State.TRIED:
        timer_us = ticket.deadline_us
    return replace(ticket, timer_us=timer_us)


def _told(ticket: Ticket, *news: News) -> Change:
    return Change(replace(ticket, revision=ticket.revision + 1), news)
