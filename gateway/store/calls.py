"""Call records and their attempts: saved in batches, listed in pages, asked for the history of a caller.

Columns are what listings, reports and routing look-ups need; the whole record is the JSON text in `record`. Times are
microseconds since the epoch, UTC; durations seconds; numbers E.164 with `+`; `day_local` (yyyymmdd) and `hour_local`
(0-23) are in the zone of the call's site.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass

from gateway import store

PAGE_SIZE = 500
"""Calls per page of `export`: a few ms of the loop each."""


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One destination rung once, as `gateway.core.calls.Attempt`. `agent` is the key of who answered."""

    step: int
    destination: str
    kind: str
    outcome: str | None
    started_us: int
    answered_us: int | None
    ended_us: int | None
    ring_seconds: float
    talk_seconds: float
    agent: str | None = None
    sip_code: int | None = None
    q850_cause: int | None = None
    whisper_played: bool = False
    accepted: bool | None = None


@dataclass(frozen=True, slots=True)
class CallRow:
    """One call as stored. `attempts` is for saving only: readers find them in `record` and get ()."""

    call_id: str
    node: str
    revision: int
    """Of the record: 1, then one more whenever its content changed after it was announced."""
    direction: str
    state: str
    """open | closed"""
    started_us: int
    last_row_us: int
    """Time of the last journal row of the call."""
    day_local: int
    hour_local: int
    site: str
    did: str
    linked_id: str
    unique_id: str
    content_hash: str
    """Hash of the record without its revision: tells whether the content changed."""
    record: str
    """The record of `design.md` as JSON text."""
    updated_us: int
    answered_us: int | None = None
    ended_us: int | None = None
    trunk: str | None = None
    route: str | None = None
    route_source: str | None = None
    plan_revision: int | None = None
    caller: str | None = None
    """None when unknown or anonymous; of an outbound call the extension."""
    caller_country: str | None = None
    caller_region: str | None = None
    source: str | None = None
    campaign: str | None = None
    outcome: str | None = None
    cause: str | None = None
    missed: bool = False
    ended_by: str | None = None
    agent: str | None = None
    """Key of the person who answered."""
    destination: str | None = None
    """Key of the destination that answered."""
    wait_seconds: float = 0.0
    ring_seconds: float = 0.0
    talk_seconds: float = 0.0
    hold_seconds: float = 0.0
    calls_before: int | None = None
    sip_call_id: str | None = None
    announced: frozenset[str] = frozenset()
    """Types of the events written for this call, e.g. {"call.started"}."""
    attempts: tuple[AttemptRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Saved:
    """What is already stored of a call: decides whether its revision goes up and what is left to announce."""

    revision: int
    content_hash: str
    announced: frozenset[str]
    state: str
    calls_before: int | None


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls to list; None asks nothing, all that is set must hold. `until_us` is exclusive."""

    since_us: int | None = None
    until_us: int | None = None
    direction: str | None = None
    state: str | None = None
    outcomes: frozenset[str] | None = None
    missed: bool | None = None
    site: str | None = None
    route: str | None = None
    source: str | None = None
    campaign: str | None = None
    did: str | None = None
    caller: str | None = None
    agent: str | None = None
    node: str | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended: the next one begins behind this call."""

    started_us: int
    call_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Calls, newest first. `next` is None on the last page."""

    calls: tuple[CallRow, ...]
    next: Cursor | None


@dataclass(frozen=True, slots=True)
class Question:
    """An inbound call whose caller's history is wanted. `caller` is E.164 with `+`."""

    call_id: str
    caller: str
    started_us: int


@dataclass(frozen=True, slots=True)
class LastAnswer:
    """Who last talked to a caller, and when that talk began."""

    agent: str
    answered_us: int


@dataclass(frozen=True, slots=True)
class Idle:
    """Since when a destination is free. `ended_us` is None if it never talked."""

    ended_us: int | None
    is_talking: bool


async def save(tx: store.Transaction, calls: Sequence[CallRow]) -> None:
    """Inserts calls or replaces what is stored of them (whole rows); attempts are rewritten only when they changed.

    Saving the same rows again changes nothing. A call must not be twice in one batch.
    """
    raise NotImplementedError


async def saved(connection: store.Connection, call_ids: Collection[str]) -> dict[str, Saved]:
    """What is stored of these calls, by call id; unknown ones are absent."""
    raise NotImplementedError


async def get(connection: store.Connection, call_id: str) -> CallRow | None:
    """One call."""
    raise NotImplementedError


async def attempts(connection: store.Connection, call_id: str) -> list[AttemptRow]:
    """The attempts of a call, in order."""
    raise NotImplementedError


async def list_calls(
    connection: store.Connection, filter: CallFilter, *, after: Cursor | None = None, limit: int = 50
) -> Page:
    """One page, newest first. Pages are by key, so calls that come meanwhile shift nothing."""
    raise NotImplementedError


def export(database: store.Database, filter: CallFilter, *, page_size: int = PAGE_SIZE) -> AsyncIterator[CallRow]:
    """All matching calls, newest first, page by page in memory; each page is a transaction of its own."""
    raise NotImplementedError


async def live(connection: store.Connection, *, node: str | None = None) -> list[CallRow]:
    """Calls that are open, oldest first; of one node or of all."""
    raise NotImplementedError


async def count_by_day(connection: store.Connection, filter: CallFilter) -> dict[int, int]:
    """Number of matching calls by `day_local`, in the order of days."""
    raise NotImplementedError


async def calls_before(connection: store.Connection, caller: str, at_us: int) -> int:
    """Inbound calls of this caller (E.164 with `+`) that started before `at_us`."""
    raise NotImplementedError


async def history_of_callers(connection: store.Connection, asked: Sequence[Question]) -> dict[str, int]:
    """Calls before each of these inbound calls, by call id, in one statement.

    The asked calls count among themselves too, whether they are stored already or not.
    """
    raise NotImplementedError


async def last_answering_agent(connection: store.Connection, caller: str, since_us: int) -> LastAnswer | None:
    """The agent who answered the caller's latest answered inbound call started at or after `since_us` (R72)."""
    raise NotImplementedError


async def turns(connection: store.Connection, since_us: int) -> dict[str, int]:
    """Inbound calls per route started at or after `since_us`: where round robin goes on after a restart."""
    raise NotImplementedError


async def idle_since(connection: store.Connection, destinations: Collection[str]) -> Mapping[str, Idle]:
    """For each destination key the end of its latest talk, and whether it talks now."""
    raise NotImplementedError
