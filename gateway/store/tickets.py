"""Missed-call tickets as they are kept: one open ticket per caller, what each call did to it, its history."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Row, Select, and_, case, func, or_, select, update

from gateway import store
from gateway.core import ticketcauses, tickets
from gateway.core.tickets import Kind, News, Result, State, Ticket, What
from gateway.store import schema, statements, ticketschema

_TICKETS, _CALLS, _HISTORY = ticketschema.tickets, ticketschema.ticket_calls, ticketschema.ticket_history
_CAUSES, _RECORDS = ticketschema.missed_causes, schema.calls
_FIELDS = tuple(one.name for one in fields(Ticket))
_JSON = ("attribution", "evidence", "request")
_COLUMNS = tuple(_TICKETS.c[name] for name in _FIELDS)
PAGE = 100
DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tickets; None asks nothing. Times are `opened_us`."""

    states: Collection[State] | None = None
    owner: str | None = None
    route: str | None = None
    site: str | None = None
    caller: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    kind: Kind | None = None


def _ticket(row: Row[*tuple[Any, ...]]) -> Ticket:
    said: dict[str, Any] = dict(row._mapping)
    for name in _JSON:
        said[name] = json.loads(said[name])
    said["kind"], said["state"] = Kind(said["kind"]), State(said["state"])
    said["result"] = Result(said["result"]) if said["result"] is not None else None
    return Ticket(**said)


def _values(ticket: Ticket) -> dict[str, Any]:
    said: dict[str, Any] = {name: getattr(ticket, name) for name in _FIELDS if name != "number"}
    for name in _JSON:
        said[name] = json.dumps(said[name], ensure_ascii=False, separators=(",", ":"))
    return said


async def _one(connection: store.Connection, query: Select[*tuple[Any, ...]], *, alone: bool) -> Ticket | None:
    # On SQLite the one writer is alone anyway.
    row = (await connection.execute(query.with_for_update() if alone else query)).first()
    return None if row is None else _ticket(row)


async def by_number(connection: store.Connection, number: int, *, alone: bool = False) -> Ticket | None:
    """A ticket by its running number. `alone`: until the end of the transaction nobody else changes it."""
    return await _one(connection, select(*_COLUMNS).where(_TICKETS.c.number == number), alone=alone)


async def open_of(connection: store.Connection, caller: str, *, alone: bool = False) -> Ticket | None:
    """The open ticket of a caller (E.164 with `+`)."""
    query = select(*_COLUMNS).where(_TICKETS.c.caller == caller, _TICKETS.c.state != State.CLOSED.value)
    return await _one(connection, query, alone=alone)


async def open_callers(connection: store.Connection, callers: Collection[str]) -> set[str]:
    """Which of these callers have an open ticket."""
    found: set[str] = set()
    for chunk in statements.chunks(sorted(callers)):
        query = select(_TICKETS.c.caller).where(_TICKETS.c.caller.in_(chunk), _TICKETS.c.state != State.CLOSED.value)
        found |= {row[0] for row in await connection.execute(query)}
    return found


async def add(tx: store.Transaction, ticket: Ticket) -> Ticket | None:
    """Stores a new one and gives it back with its number. None: its caller has an open one, or it was there before."""
    statement = statements.insert(tx, _TICKETS).values(_values(ticket)).on_conflict_do_nothing()
    number = (await tx.execute(statement.returning(_TICKETS.c.number))).scalar()
    return None if number is None else tickets.numbered(ticket, number)


async def save(tx: store.Transaction, ticket: Ticket) -> None:
    """Writes a changed one."""
    await tx.execute(update(_TICKETS).where(_TICKETS.c.number == ticket.number).values(_values(ticket)))


async def tell(tx: store.Transaction, number: int, news: Sequence[News]) -> None:
    """Adds to the history."""
    if news:
        rows = [
            {
                "ticket": number,
                "at_us": one.at_us,
                "what": one.what.value,
                "actor": one.actor,
                "call_id": one.call_id,
                "text": one.text,
            }
            for one in news
        ]
        await tx.execute(_HISTORY.insert(), rows)


async def history(connection: store.Connection, number: int) -> list[News]:
    """All that happened to a ticket, in the order in which it was learned."""
    query = select(_HISTORY).where(_HISTORY.c.ticket == number).order_by(_HISTORY.c.entry)
    return [
        News(What(row.what), row.at_us, row.actor, row.call_id, row.text) for row in await connection.execute(query)
    ]


async def parts(connection: store.Connection, call_ids: Collection[str]) -> dict[str, tuple[int, str]]:
    """For calls that did something to a ticket: its number, and `miss`, `attempt` or `reached`."""
    found: dict[str, tuple[int, str]] = {}
    for chunk in statements.chunks(list(call_ids)):
        for row in await connection.execute(select(_CALLS).where(_CALLS.c.call_id.in_(chunk))):
            found[row.call_id] = (row.ticket, row.part)
    return found


async def note_part(tx: store.Transaction, call_id: str, number: int, part: str, at_us: int) -> None:
    """Remembers what a call did to a ticket, so that it does it once."""
    await statements.upsert(tx, _CALLS, [{"call_id": call_id, "ticket": number, "part": part, "at_us": at_us}])


async def judge(
    tx: store.Transaction,
    call_id: str,
    at_us: int,
    verdict: ticketcauses.Verdict,
) -> bool:
    """Keeps why a call was missed. False: that was done before, and so was what follows from it."""
    values = {
        "call_id": call_id,
        "at_us": at_us,
        "cause": verdict.cause.value,
        "why": verdict.why,
        "evidence": json.dumps(verdict.evidence, ensure_ascii=False, separators=(",", ":")),
    }
    statement = statements.insert(tx, _CAUSES).values(values).on_conflict_do_nothing()
    return (await tx.execute(statement.returning(_CAUSES.c.call_id))).first() is not None


async def note_outcome(tx: store.Transaction, call_id: str, *, ticket: int | None, skipped: str | None) -> None:
    """Which ticket a missed call came to, or why to none."""
    await tx.execute(update(_CAUSES).where(_CAUSES.c.call_id == call_id).values(ticket=ticket, skipped=skipped))


async def causes_since(connection: store.Connection, cause: ticketcauses.Cause, since_us: int) -> dict[str, int]:
    """How many calls were missed for this class of cause since then, by the word why."""
    query = select(_CAUSES.c.why, func.count()).where(_CAUSES.c.cause == cause.value, _CAUSES.c.at_us >= since_us)
    return {row[0]: row[1] for row in await connection.execute(query.group_by(_CAUSES.c.why))}


async def numbers_since(
    connection: store.Connection, cause: ticketcauses.Cause, since_us: int
) -> dict[str, dict[str, int]]:
    """How many calls were missed for this class of cause since then, by the word why and the number called."""
    joined = _CAUSES.join(_RECORDS, _RECORDS.c.call_id == _CAUSES.c.call_id)
    query = select(_CAUSES.c.why, _RECORDS.c.did, func.count()).select_from(joined)
    query = query.where(_CAUSES.c.cause == cause.value, _CAUSES.c.at_us >= since_us)
    found: dict[str, dict[str, int]] = {}
    for why, number, count in await connection.execute(query.group_by(_CAUSES.c.why, _RECORDS.c.did)):
        found.setdefault(why, {})[number] = count
    return found


async def later_talk(connection: store.Connection, number: str, since_us: int) -> bool:
    """Whether this person spoke to one of us since then: called and was answered, or was called and answered. Asked
    since the beginning of a missed call: who is called back while still ringing us has been reached."""
    theirs = or_(
        and_(_RECORDS.c.caller == number, _RECORDS.c.direction == "inbound"),
        and_(_RECORDS.c.did == number, _RECORDS.c.direction == "outbound"),
    )
    # A talk may have begun to ring before; the bound keeps the look-up short for who calls all the time.
    lately = (_RECORDS.c.started_us >= since_us - DAY_US, _RECORDS.c.answered_us >= since_us)
    query = select(_RECORDS.c.call_id).where(theirs, *lately).limit(1)
    return (await connection.execute(query)).first() is not None


async def later_tries(connection: store.Connection, number: str, since_us: int) -> list[str]:
    """Calls to this person since then that are over and that nobody answered, oldest first: their records."""
    query = select(_RECORDS.c.record).where(
        _RECORDS.c.did == number,
        _RECORDS.c.direction == "outbound",
        _RECORDS.c.started_us >= since_us,
        _RECORDS.c.answered_us.is_(None),
        _RECORDS.c.state == "closed",
    )
    return list((await connection.execute(query.order_by(_RECORDS.c.started_us))).scalars())


async def abandons(connection: store.Connection, number: str, since_us: int, until_us: int) -> tuple[int, int]:
    """Calls to one of our numbers in a span, and how many of them were short abandons."""
    inbound = (_RECORDS.c.did == number, _RECORDS.c.direction == "inbound")
    span = (_RECORDS.c.started_us > since_us, _RECORDS.c.started_us <= until_us)
    is_short = and_(_RECORDS.c.outcome == "abandoned", _RECORDS.c.ring_seconds <= ticketcauses.SHORT_SECONDS)
    query = select(func.count(), func.coalesce(func.sum(case((is_short, 1), else_=0)), 0)).where(*inbound, *span)
    row = (await connection.execute(query)).one()
    return int(row[0]), int(row[1])


async def due(connection: store.Connection, now_us: int, *, limit: int = PAGE) -> list[int]:
    """Numbers of tickets that time changes now, longest due first."""
    query = select(_TICKETS.c.number).where(_TICKETS.c.timer_us <= now_us).order_by(_TICKETS.c.timer_us)
    return list((await connection.execute(query.limit(limit))).scalars())


async def take_due(tx: store.Transaction, number: int, now_us: int) -> Ticket | None:
    """A due ticket, alone; None when another process has it or has done it."""
    query = select(*_COLUMNS).where(_TICKETS.c.number == number, _TICKETS.c.timer_us <= now_us)
    row = (await tx.execute(query.with_for_update(skip_locked=True))).first()
    return None if row is None else _ticket(row)


async def list_tickets(
    connection: store.Connection, filter: Filter, *, before: int | None = None, limit: int = PAGE
) -> list[Ticket]:
    """Newest first. `before`: those with smaller numbers."""
    query = _matching(select(*_COLUMNS), filter)
    if before is not None:
        query = query.where(_TICKETS.c.number < before)
    return [_ticket(row) for row in await connection.execute(query.order_by(_TICKETS.c.number.desc()).limit(limit))]


def _matching(query: Select[*tuple[Any, ...]], filter: Filter) -> Select[*tuple[Any, ...]]:
    if filter.states is not None:
        query = query.where(_TICKETS.c.state.in_(sorted(filter.states)))
    if filter.since_us is not None:
        query = query.where(_TICKETS.c.opened_us >= filter.since_us)
    if filter.until_us is not None:
        query = query.where(_TICKETS.c.opened_us < filter.until_us)
    for name in ("owner", "route", "site", "caller", "kind"):
        if (value := getattr(filter, name)) is not None:
            query = query.where(_TICKETS.c[name] == value)
    return query


async def load_of_agents(connection: store.Connection, agents: Collection[str]) -> dict[str, int]:
    """How many open tickets each of these agents has."""
    query = (
        select(_TICKETS.c.owner, func.count())
        .where(_TICKETS.c.owner.in_(sorted(agents)), _TICKETS.c.state != State.CLOSED.value)
        .group_by(_TICKETS.c.owner)
    )
    return {**dict.fromkeys(agents, 0), **{row[0]: row[1] for row in await connection.execute(query)}}


async def counts(connection: store.Connection) -> dict[str, int]:
    """How many tickets there are in each state that is not closed."""
    query = select(_TICKETS.c.state, func.count()).where(_TICKETS.c.state != State.CLOSED.value)
    found = {row[0]: row[1] for row in await connection.execute(query.group_by(_TICKETS.c.state))}
    return {state.value: found.get(state.value, 0) for state in State if state is not State.CLOSED}


async def forget_texts(tx: store.Transaction, number: int) -> None:
    """Empties what people wrote into the history."""
    is_note = _HISTORY.c.what != What.ASSIGNED.value
    await tx.execute(update(_HISTORY).where(_HISTORY.c.ticket == number, is_note).values(text=None))
