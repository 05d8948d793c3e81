"""What the post sees of an outside service: it hands over an event and learns how that ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from gateway.core.outgoing import talks

if TYPE_CHECKING:
    # It imports the book, which holds integrations, which know this module.
    from gateway.core.outgoing import told


class State(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    """The service has it."""
    SKIPPED = "skipped"
    """Nothing was to be sent (no consent, nobody known, not qualified); `note` says why. Settled like done."""
    WAITING = "waiting"
    """Taken, and its result is asked for at `again_us`. No failure: it does not count against the schedule."""
    FAILED = "failed"
    """To be tried again: at `again_us` if the service named a time, else by the schedule."""
    BLOCKED = "blocked"
    """Our own side cannot (a full disk): tried again at `again_us`, for as long as it takes."""
    DEAD = "dead"
    """Never again by itself; a person may replay it."""
    GONE = "gone"
    """The receiver wants nothing any more (410): the whole target is switched off, with an alarm."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an adapter is told beside the event."""

    now_us: int
    number: int = 1
    """This one included; waits do not count."""
    is_unsure: bool = False
    """An earlier attempt ended without a word (killed, power): what it sent may have arrived."""
    known: Mapping[str, str] = field(default_factory=dict)
    """What earlier attempts for this call and target learned: `Settled.known` of all of them, the later wins."""
    visitor: told.Visitor | None = None
    """Who called, if they are known from the web site and have agreed to it."""
    dry_run: bool = False
    """Nothing is sent or changed: `Settled.request` is what would have been. A CRM is asked who the caller is."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of one attempt; kept with the delivery, so that people can look it up."""

    state: State
    note: str = ""
    """Why it was not done. For people; holds no secret and no telephone number."""
    again_us: int | None = None
    external_id: str | None = None
    """What the service calls it."""
    known: Mapping[str, str] = field(default_factory=dict)
    """To be kept for (call, target), in the transaction that settles the delivery."""
    request: str = ""
    """What was sent last, secrets masked; cut to 4,000 characters."""
    response: str = ""
    """What came back: status and text, cut to 4,000 characters."""
    status: int | None = None
    """Status of HTTP, where there was an answer."""
    needs_attention: bool = False
    """A person must act before it can work again: a token was taken back, a right is missing. Raise an alarm."""
    card: Mapping[str, Any] | None = None
    """The caller as the CRM knows them, when the call rings (R91, R115)."""


@dataclass(frozen=True, slots=True)
class Handed:
    """One event for a target. `data` is the event's `data`: of `call.*` the record."""

    event_id: str
    type: str
    at_us: int
    data: Mapping[str, Any]
    call_id: str | None = None
    late: bool = False
    payload: str = ""
    """The whole event as JSON text, as it is stored."""


@dataclass(frozen=True, slots=True)
class Batching:
    """A target that takes many events at once."""

    most: int
    every_us: int
    """Not more often than this."""
    in_order: bool = False
    """Takes several events of a call at once, in their order, all or none. So does a file of our own, of which no last
    deliveries are kept, and which gets what is due at a stop too."""


class Adapter(Protocol):
    """One outside service with one account. Never raises for what the outside does; cancelling it is safe."""

    target: str
    """Its name in the outbox: `ga4:main`."""
    wants: frozenset[str]
    """Types of the events it is to be given."""
    needs_visitor: bool
    """Whether `Attempt.visitor` is to be looked up."""
    batching: Batching | None
    """None: one event at a time, by `deliver`."""

    async def deliver(self, event: Handed, attempt: Attempt) -> Settled:
        """Hands over one event."""
        ...

    async def deliver_many(self, events: Sequence[tuple[Handed, Attempt]]) -> Sequence[Settled]:
        """Hands over several of different calls; one answer for each, in their order."""
        ...


class Service(Protocol):
    """One outside service with one account, without I/O: what `gateway.senders` drives."""

    kind: str
    """`ga4`, `bitrix24`, …"""
    base_url: str
    per_second: float
    """Requests that the service bears."""
    token_style: talks.TokenStyle
    wants: frozenset[str]
    needs_visitor: bool

    def tell(self, event: Handed, attempt: Attempt) -> talks.Talk[Settled]:
        """Hands over one event. May raise `talks.Refused`."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A service that must be told something once, before the first call."""

    def switch_on(self) -> talks.Talk[None]:
        """Tells it. Doing so again changes nothing. May raise `talks.Refused`."""
        ...


@runtime_checkable
class Checking(Protocol):
    """A service that checks what it would be sent, and counts nothing."""

    def check(self, event: Handed, attempt: Attempt) -> talks.Talk[list[str]]:
        """What it has against the event. May raise `talks.Refused`."""
        ...


class BatchService(Service, Protocol):
    """A service that takes many events at once."""

    batching: Batching

    def tell_many(self, events: Sequence[tuple[Handed, Attempt]]) -> talks.Talk[list[Settled]]:
        """Hands over several; one answer for each, in their order."""
        ...


STATUS, STATUS_NOTE, STATUS_TYPE, STATUS_ID = "status", "status_note", "status_type", "status_id"
"""Keys of `known`: how a call stands at a service, why, by which event, and its id there; for people, not for talks."""

CLOSING = frozenset({"call.completed", "call.missed", "call.updated"})
"""What tells of a call that is over."""
RINGING = "call.started"
RECORDED = "recording.ready"


def with_status(settled: Settled, event: Handed, attempt: Attempt) -> Settled:
    """As it is kept: with how the call stands there now. What a service has it still has when a later event brings
    nothing new."""
    if settled.state is State.SKIPPED and attempt.known.get(STATUS) == State.DONE:
        return settled
    status = {STATUS: settled.state.value, STATUS_NOTE: settled.note, STATUS_TYPE: event.type}
    if settled.external_id is not None:
        status[STATUS_ID] = settled.external_id
    return replace(settled, known={**settled.known, **status})


def done(external_id: str | None = None, *, known: Mapping[str, str] | None = None, note: str = "") -> Settled:
    """The service has it."""
    return Settled(State.DONE, note, external_id=external_id, known=known or {})


def skipped(why: str) -> Settled:
    """Nothing is to be sent."""
    return Settled(State.SKIPPED, why)


def dead(why: str, *, known: Mapping[str, str] | None = None) -> Settled:
    """Never again by itself."""
    return Settled(State.DEAD, why, known=known or {})


def waiting(again_us: int, *, known: Mapping[str, str], note: str = "", external_id: str | None = None) -> Settled:
    """Come back at `again_us`."""
    return Settled(State.WAITING, note, again_us, external_id, known)


def failed(refused: talks.Refused, now_us: int, *, known: Mapping[str, str] | None = None) -> Settled:
    """What a refusal means for the delivery; `known` is what was learned before it."""
    found = known or {}
    match refused.kind:
        case talks.Kind.NEVER:
            return Settled(State.DEAD, refused.reason, known=found)
        case talks.Kind.TOKEN:
            note = f"{refused.reason}: the token does not count"
            return Settled(State.FAILED, note, known=found, needs_attention=True)
        case talks.Kind.LATER:
            wait = refused.retry_after_seconds
            again_us = None if wait is None else now_us + round(wait * talks.SECOND_US)
            return Settled(State.FAILED, refused.reason, again_us, known=found)
