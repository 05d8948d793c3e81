"""Call records and their attempts: saved in batches, listed in pages, asked for the history of a caller.

Columns are what listings, reports and routing look-ups need; the whole record is the JSON text in `record`. Times are
microseconds since the epoch, UTC; durations seconds; numbers E.164 with `+`; `day_local` (yyyymmdd) and `hour_local`
(0-23) are in the zone of the call's site.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from sqlalchemy import Row, Select, bindparam, delete, func, literal_column, select, tuple_

from gateway import store
from gateway.store import schema, statements

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
    score: int | None = None
    """By the rules; None: there are none, or the call is up."""
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
    min_score: int | None = None


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


_CALL_FIELDS = tuple(field.name for field in fields(CallRow) if field.name not in ("announced", "attempts"))
_ATTEMPT_FIELDS = tuple(field.name for field in fields(AttemptRow))
_call_values = attrgetter(*_CALL_FIELDS)
_attempt_values = attrgetter(*_ATTEMPT_FIELDS)
_SELECT_CALLS = select(*(schema.calls.c[name] for name in _CALL_FIELDS), schema.calls.c.announced)
# Written out, not a parameter: only so can the engines see that the partial index fits.
_IS_OPEN = schema.calls.c.state == literal_column("'open'")


async def save(tx: store.Transaction, calls: Sequence[CallRow]) -> None:
    """Inserts calls or replaces what is stored of them (whole rows); attempts are rewritten only when they changed.

    Saving the same rows again changes nothing. A call must not be twice in one batch.
    """
    for batch in statements.chunks(calls):
        hashes = {call.call_id: _attempts_hash(call) for call in batch}
        stored = await _stored_hashes(tx, hashes)
        await statements.upsert(tx, schema.calls, [_call_parameters(call, hashes[call.call_id]) for call in batch])
        changed = [call for call in batch if stored.get(call.call_id, "") != hashes[call.call_id]]
        if replaced := [call.call_id for call in changed if stored.get(call.call_id)]:
            await tx.execute(delete(schema.attempts).where(schema.attempts.c.call_id.in_(replaced)))
        if rows := [row for call in changed for row in _attempt_parameters(call)]:
            await tx.execute(schema.attempts.insert(), rows)


_STORED_HASHES = select(schema.calls.c.call_id, schema.calls.c.attempts_hash).where(
    schema.calls.c.call_id.in_(bindparam("call_ids", expanding=True))
)


async def _stored_hashes(tx: store.Transaction, call_ids: Collection[str]) -> dict[str, str]:
    found = await tx.execute(_STORED_HASHES, {"call_ids": list(call_ids)})
    return {row.call_id: row.attempts_hash for row in found}


def _attempts_hash(call: CallRow) -> str:
    """ "" without attempts."""
    if not call.attempts:
        return ""
    content = repr([_attempt_values(attempt) for attempt in call.attempts])
    return hashlib.blake2b(content.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()


def _call_parameters(call: CallRow, attempts_hash: str) -> dict[str, Any]:
    parameters = dict(zip(_CALL_FIELDS, _call_values(call), strict=True))
    parameters["announced"] = " ".join(sorted(call.announced))
    parameters["attempts_hash"] = attempts_hash
    return parameters


def _attempt_parameters(call: CallRow) -> list[dict[str, Any]]:
    return [
        {
            "call_id": call.call_id,
            "number": number,
            **dict(zip(_ATTEMPT_FIELDS, _attempt_values(attempt), strict=True)),
        }
        for number, attempt in enumerate(call.attempts, 1)
    ]


def _call(row: Row[*tuple[Any, ...]]) -> CallRow:
    values: list[Any] = list(row)
    values[-1] = frozenset(values[-1].split())
    return CallRow(*values)


_SAVED = select(
    schema.calls.c.call_id,
    schema.calls.c.revision,
    schema.calls.c.content_hash,
    schema.calls.c.announced,
    schema.calls.c.state,
    schema.calls.c.calls_before,
).where(schema.calls.c.call_id.in_(bindparam("call_ids", expanding=True)))


async def saved(connection: store.Connection, call_ids: Collection[str]) -> dict[str, Saved]:
    """What is stored of these calls, by call id; unknown ones are absent."""
    found: dict[str, Saved] = {}
    for chunk in statements.chunks(list(call_ids)):
        for row in await connection.execute(_SAVED, {"call_ids": list(chunk)}):
            announced = frozenset(row.announced.split())
            found[row.call_id] = Saved(row.revision, row.content_hash, announced, row.state, row.calls_before)
    return found


async def get(connection: store.Connection, call_id: str) -> CallRow | None:
    """One call."""
    row = (await connection.execute(_SELECT_CALLS.where(schema.calls.c.call_id == call_id))).first()
    return None if row is None else _call(row)


async def get_many(connection: store.Connection, call_ids: Collection[str]) -> dict[str, CallRow]:
    """These calls, by call id; unknown ones are absent."""
    found: dict[str, CallRow] = {}
    for chunk in statements.chunks(sorted(set(call_ids))):
        rows = await connection.execute(_SELECT_CALLS.where(schema.calls.c.call_id.in_(chunk)))
        found |= {row.call_id: _call(row) for row in rows}
    return found


async def attempts(connection: store.Connection, call_id: str) -> list[AttemptRow]:
    """The attempts of a call, in order."""
    table = schema.attempts
    query = select(*(table.c[name] for name in _ATTEMPT_FIELDS)).where(table.c.call_id == call_id)
    return [AttemptRow(*row) for row in await connection.execute(query.order_by(table.c.number))]


async def list_calls(
    connection: store.Connection, filter: CallFilter, *, after: Cursor | None = None, limit: int = 50
) -> Page:
    """One page, newest first. Pages are by key, so calls that come meanwhile shift nothing."""
    table = schema.calls
    query = _matching(_SELECT_CALLS, filter).order_by(table.c.started_us.desc(), table.c.call_id.desc())
    if after is not None:
        query = query.where(tuple_(table.c.started_us, table.c.call_id) < (after.started_us, after.call_id))
    rows = (await connection.execute(query.limit(limit + 1))).all()
    calls = tuple(_call(row) for row in rows[:limit])
    return Page(calls, Cursor(calls[-1].started_us, calls[-1].call_id) if len(rows) > limit else None)


def _matching(query: Select[*tuple[Any, ...]], filter: CallFilter) -> Select[*tuple[Any, ...]]:
    table = schema.calls
    if filter.since_us is not None:
        query = query.where(table.c.started_us >= filter.since_us)
    if filter.until_us is not None:
        query = query.where(table.c.started_us < filter.until_us)
    if filter.min_score is not None:
        query = query.where(table.c.score >= filter.min_score)
    if filter.outcomes is not None:
        # Of several outcomes the index is no use: SQLite, which has no statistics, would take it and sort millions.
        outcome = table.c.outcome if len(filter.outcomes) == 1 else table.c.outcome + ""
        query = query.where(outcome.in_(sorted(filter.outcomes)))
    if filter.state is not None:
        query = query.where(_IS_OPEN if filter.state == "open" else table.c.state == filter.state)
    for name in _EQUALITIES:
        if (value := getattr(filter, name)) is not None:
            query = query.where(table.c[name] == value)
    return query


_EQUALITIES = ("direction", "missed", "site", "route", "source", "campaign", "did", "caller", "agent", "node")


async def export(database: store.Database, filter: CallFilter, *, page_size: int = PAGE_SIZE) -> AsyncIterator[CallRow]:
    """All matching calls, newest first, page by page in memory; each page is a transaction of its own."""
    after: Cursor | None = None
    while True:
        async with database.read() as connection:
            page = await list_calls(connection, filter, after=after, limit=page_size)
        for call in page.calls:
            yield call
        after = page.next
        if after is None:
            return


async def live(connection: store.Connection, *, node: str | None = None) -> list[CallRow]:
    """Calls that are open, oldest first; of one node or of all."""
    query = _matching(_SELECT_CALLS, CallFilter(state="open", node=node)).order_by(schema.calls.c.started_us)
    return [_call(row) for row in await connection.execute(query)]


async def count_by_day(connection: store.Connection, filter: CallFilter) -> dict[int, int]:
    """Number of matching calls by `day_local`, in the order of days."""
    day = schema.calls.c.day_local
    # Under a condition the index of days is no use: SQLite would walk all of it and look up each call.
    grouped = day if filter == CallFilter() else day + 0
    query = _matching(select(grouped, func.count()), filter).group_by(grouped).order_by(grouped)
    return {row[0]: row[1] for row in await connection.execute(query)}


# Built once: building costs as much as asking, and these two are asked while a caller waits.
_OF_CALLER = (schema.calls.c.caller == bindparam("of_caller"), schema.calls.c.direction == "inbound")
_CALLS_BEFORE = select(func.count()).where(*_OF_CALLER, schema.calls.c.started_us < bindparam("at_us"))
_LAST_ANSWER = (
    select(schema.calls.c.agent, schema.calls.c.answered_us)
    .where(*_OF_CALLER, schema.calls.c.started_us >= bindparam("since_us"))
    .where(schema.calls.c.agent.is_not(None), schema.calls.c.answered_us.is_not(None))
    .order_by(schema.calls.c.started_us.desc())
    .limit(1)
)


async def by_number(connection: store.Connection) -> dict[str, tuple[int, int]]:
    """For each tracking number that ever rang: inbound calls, and when the last one started. One scan of an index."""
    table = schema.calls
    statement = (
        select(table.c.did, func.count(), func.max(table.c.started_us))
        .where(table.c.direction == "inbound")
        .group_by(table.c.did)
    )
    return {did: (count, last_us) for did, count, last_us in await connection.execute(statement)}


async def calls_before(connection: store.Connection, caller: str, at_us: int) -> int:
    """Inbound calls of this caller (E.164 with `+`) that started before `at_us`."""
    return (await connection.execute(_CALLS_BEFORE, {"of_caller": caller, "at_us": at_us})).scalar_one()


_HISTORY = """
SELECT {item[0]} AS call_id, (
    SELECT count(*) FROM calls
    WHERE calls.caller = {item[1]} AND calls.started_us <= CAST({item[2]} AS BIGINT) AND calls.direction = 'inbound'
      AND (calls.started_us < CAST({item[2]} AS BIGINT) OR calls.call_id < {item[0]})
      AND calls.call_id NOT IN (SELECT {item[0]} FROM {asked})
) AS calls_before
FROM {asked}
"""


async def history_of_callers(connection: store.Connection, asked: Sequence[Question]) -> dict[str, int]:
    """Calls before each of these inbound calls, by call id, in one statement.

    The asked calls count among themselves too, whether they are stored already or not.
    """
    if not asked:
        return {}
    values = [(question.call_id, question.caller, question.started_us) for question in asked]
    found = await connection.execute(*statements.over_list(connection, _HISTORY, values))
    counts = {row.call_id: row.calls_before for row in found}
    asked_so_far: dict[str, int] = {}
    for question in sorted(asked, key=lambda question: (question.started_us, question.call_id)):
        among_asked = asked_so_far.get(question.caller, 0)
        counts[question.call_id] += among_asked
        asked_so_far[question.caller] = among_asked + 1
    return counts


async def last_answering_agent(connection: store.Connection, caller: str, since_us: int) -> LastAnswer | None:
    """The agent who answered the caller's latest answered inbound call started at or after `since_us` (R72)."""
    row = (await connection.execute(_LAST_ANSWER, {"of_caller": caller, "since_us": since_us})).first()
    return None if row is None else LastAnswer(row.agent, row.answered_us)


async def turns(connection: store.Connection, since_us: int) -> dict[str, int]:
    """Inbound calls per route started at or after `since_us`: where round robin goes on after a restart."""
    table = schema.calls
    query = (
        select(table.c.route, func.count())
        .where(table.c.started_us >= since_us, table.c.direction == "inbound", table.c.route.is_not(None))
        .group_by(table.c.route)
    )
    return {row[0]: row[1] for row in await connection.execute(query)}


_IDLE = """
SELECT {item[0]} AS destination,
  (SELECT max(ended_us) FROM attempts
   WHERE attempts.destination = {item[0]} AND answered_us IS NOT NULL) AS ended_us,
  EXISTS (SELECT 1 FROM attempts
   WHERE attempts.destination = {item[0]} AND answered_us IS NOT NULL AND ended_us IS NULL) AS is_talking
FROM {asked}
"""


async def idle_since(connection: store.Connection, destinations: Collection[str]) -> dict[str, Idle]:
    """For each destination key the end of its latest talk, and whether it talks now."""
    asked = [(destination,) for destination in sorted(set(destinations))]
    found = await connection.execute(*statements.over_list(connection, _IDLE, asked))
    return {row.destination: Idle(row.ended_us, bool(row.is_talking)) for row in found}
