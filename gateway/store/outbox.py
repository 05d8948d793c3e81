"""The outbox: events written in the transaction of the call they tell of, and their delivery to each target.

    pending ──claim──▶ claimed ──settle──▶ done
       ▲                 │  └──fail(None)─▶ dead
       └──fail / lease over┘

A target gets the events of one call in order: the next is not claimable before the older one is done or dead. A
claim is a lease; a process that dies leaves nothing behind but a lease that runs out, and the event goes again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Row, bindparam, case, delete, exists, func, literal_column, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from gateway import store
from gateway.core import receivers
from gateway.store import schema, statements

MAX_ERROR_LENGTH = 500
PIECE = 500
"""Events of one transaction of a long work: some 50 ms, in which nobody else writes to SQLite."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `event_id` is fixed by what happened (UUIDv5), so that it is inserted once whatever is re-read."""

    event_id: str
    type: str
    created_us: int
    payload: str
    """JSON text."""
    call_id: str | None = None
    revision: int | None = None
    late: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """One claimed event for one target. `claim` proves the claim in `extend`, `settle` and `fail`."""

    event: Event
    seq: int
    """Grows with each event of the database; has gaps."""
    target: str
    attempts: int
    """This one included."""
    claim: str
    is_unsure: bool = False
    """An earlier attempt ended without a word, by a crash: what it sent may have arrived."""


_EVENTS = schema.events
_DELIVERIES = schema.deliveries
_EVENT_FIELDS = ("event_id", "type", "created_us", "payload", "call_id", "revision", "late")


def _event(row: Row[*tuple[Any, ...]]) -> Event:
    return Event(row.event_id, row.type, row.created_us, row.payload, row.call_id, row.revision, row.late)


def _is_held(delivery: Delivery) -> ColumnElement[bool]:
    return (
        (_DELIVERIES.c.seq == delivery.seq)
        & (_DELIVERIES.c.target == delivery.target)
        & (_DELIVERIES.c.claim == delivery.claim)
    )


def _unsettled(target: str | None) -> list[ColumnElement[bool]]:
    of_target = [] if target is None else [_DELIVERIES.c.target == target]
    return [_DELIVERIES.c.due_us.is_not(None), *of_target]


async def _postpone_younger(tx: store.Transaction, delivery: Delivery, until_us: int) -> None:
    """Younger events of the call wait anyway; due no earlier, they are not looked at by each claim meanwhile."""
    younger = (
        (_DELIVERIES.c.call_id == delivery.event.call_id)
        & (_DELIVERIES.c.target == delivery.target)
        & (_DELIVERIES.c.seq > delivery.seq)
        & (_DELIVERIES.c.due_us < until_us)
    )
    await tx.execute(update(_DELIVERIES).where(younger).values(due_us=until_us))


def _pending(seq: int, target: str, call_id: str | None, due_us: int) -> dict[str, Any]:
    return {"seq": seq, "target": target, "call_id": call_id, "state": "pending", "due_us": due_us, "attempts": 0}


@cache
def _insert_events(dialect: str) -> ReturningInsert[tuple[int, str | None, int, str]]:
    statement = sqlite.insert(_EVENTS) if dialect == "sqlite" else postgresql.insert(_EVENTS)
    return statement.on_conflict_do_nothing(index_elements=["event_id"]).returning(
        _EVENTS.c.seq, _EVENTS.c.call_id, _EVENTS.c.created_us, _EVENTS.c.type
    )


async def add(tx: store.Transaction, events: Sequence[Event], targets: Collection[str]) -> int:
    """Writes events with a delivery to each target; events already there are left alone. Returns how many were new.

    Order in `events` is the order of delivery. `targets` are names like `jsonl` or `webhook:crm`; may be empty. Those
    of `receivers.Subscriptions` get only what they want.
    """
    new: list[tuple[int, str | None, int, str]] = []
    for chunk in statements.chunks(events):
        inserted = await tx.execute(
            _insert_events(tx.dialect.name),
            [{name: getattr(event, name) for name in _EVENT_FIELDS} for event in chunk],
        )
        new += [(row.seq, row.call_id, row.created_us, row.type) for row in inserted]
    everyone = sorted(set(targets))
    deliveries = [
        _pending(seq, target, call_id, created_us)
        for seq, call_id, created_us, event_type in new
        for target in (targets.takers(event_type) if isinstance(targets, receivers.Subscriptions) else everyone)
    ]
    if deliveries:
        await tx.execute(_DELIVERIES.insert(), deliveries)
    return len(new)


# Statements that run many times a second are built once: building one costs as much as running it.
_OLDER = _DELIVERIES.alias("older")
_WAITS_FOR_OLDER = exists().where(
    _OLDER.c.call_id == _DELIVERIES.c.call_id,
    _OLDER.c.target == _DELIVERIES.c.target,
    _OLDER.c.seq < _DELIVERIES.c.seq,
    _OLDER.c.due_us.is_not(None),
)
_IS_DUE = (_DELIVERIES.c.target == bindparam("of_target"), _DELIVERIES.c.due_us <= bindparam("now_us"))
_ALL_DUE = (
    select(
        _DELIVERIES.c.seq,
        _DELIVERIES.c.attempts,
        # Claimed, and its lease is over: nobody knows how far that attempt came.
        or_(_DELIVERIES.c.is_unsure, _DELIVERIES.c.state == "claimed").label("is_unsure"),
        *(_EVENTS.c[name] for name in _EVENT_FIELDS),
    )
    .join(_EVENTS, _EVENTS.c.seq == _DELIVERIES.c.seq)
    .where(*_IS_DUE)
    .order_by(_DELIVERIES.c.seq)
    .limit(bindparam("most"))
    # PostgreSQL only: what another process is claiming now is passed over. SQLite has one writer at a time.
    .with_for_update(skip_locked=True, of=_DELIVERIES)
)
_DUE = _ALL_DUE.where(~_WAITS_FOR_OLDER)
# Older ones that are due as well come along, before it.
_DUE_IN_ORDER = _ALL_DUE.where(~_WAITS_FOR_OLDER.where(_OLDER.c.due_us > bindparam("now_us")))
_TAKE = (
    update(_DELIVERIES)
    .where(
        _DELIVERIES.c.target == bindparam("of_target"),
        _DELIVERIES.c.seq.in_(bindparam("seqs", expanding=True)),
    )
    .values(
        is_unsure=case((_DELIVERIES.c.state == "claimed", True), else_=_DELIVERIES.c.is_unsure),
        state="claimed",
        due_us=bindparam("lease_end_us"),
        claim=bindparam("by"),
        attempts=_DELIVERIES.c.attempts + 1,
    )
)
_SETTLE = (
    update(_DELIVERIES)
    .where(
        _DELIVERIES.c.target == bindparam("of_target"),
        _DELIVERIES.c.claim == bindparam("by"),
        _DELIVERIES.c.seq.in_(bindparam("seqs", expanding=True)),
    )
    .values(state="done", due_us=None, claim=None, settled_us=bindparam("at_us"), last_error=None)
    .returning(
        _DELIVERIES.c.seq,
        # By name: on SQLite SQLAlchemy leaves out the table of a column here, and inside, "seq" would be the event's.
        select(_EVENTS.c.payload)
        .where(_EVENTS.c.seq == literal_column("deliveries.seq"))
        .scalar_subquery()
        .label("payload"),
        exists().where(schema.forgotten_calls.c.call_id == literal_column("deliveries.call_id")).label("is_forgotten"),
    )
)


async def claim(
    tx: store.Transaction, target: str, *, limit: int, now_us: int, lease_us: int, in_order: bool = False
) -> list[Delivery]:
    """Claims what is due for a target, oldest first, at most one event of each call. Commit before delivering.

    `in_order`: several events of a call may come, for a target that takes all of the list in its order or nothing.
    """
    asked = {"of_target": target, "now_us": now_us, "most": limit}
    rows = (await tx.execute(_DUE_IN_ORDER if in_order else _DUE, asked)).all()
    if not rows:
        return []
    claim = str(uuid4())
    taken = {"of_target": target, "seqs": [row.seq for row in rows], "lease_end_us": now_us + lease_us, "by": claim}
    await tx.execute(_TAKE, taken)
    return [Delivery(_event(row), row.seq, target, row.attempts + 1, claim, bool(row.is_unsure)) for row in rows]


async def extend(tx: store.Transaction, delivery: Delivery, *, until_us: int) -> bool:
    """Prolongs the lease. False: the claim was lost to another process; stop delivering."""
    statement = update(_DELIVERIES).where(_is_held(delivery)).values(due_us=until_us)
    return (await tx.execute(statement)).rowcount == 1


async def settle(tx: store.Transaction, deliveries: Sequence[Delivery], *, now_us: int) -> int:
    """Marks claimed deliveries done. Returns how many of the claims still held."""
    return len(await _settled(tx, deliveries, now_us))


async def settle_as_stored(tx: store.Transaction, deliveries: Sequence[Delivery], *, now_us: int) -> dict[int, str]:
    """The same; returns what `payloads` would of those that were held, without another statement."""
    return {row.seq: row.payload for row in await _settled(tx, deliveries, now_us) if not row.is_forgotten}


async def _settled(tx: store.Transaction, deliveries: Sequence[Delivery], now_us: int) -> list[Row[*tuple[Any, ...]]]:
    found: list[Row[*tuple[Any, ...]]] = []
    for target, claim in sorted({(delivery.target, delivery.claim) for delivery in deliveries}):
        seqs = [one.seq for one in deliveries if one.claim == claim and one.target == target]
        for chunk in statements.chunks(seqs):
            held = {"of_target": target, "by": claim, "seqs": list(chunk), "at_us": now_us}
            found += (await tx.execute(_SETTLE, held)).all()
    return found


_AS_STORED = select(
    _EVENTS.c.seq,
    _EVENTS.c.payload,
    exists().where(schema.forgotten_calls.c.call_id == _EVENTS.c.call_id).label("is_forgotten"),
).where(_EVENTS.c.seq.in_(bindparam("seqs", expanding=True)))


async def payloads(connection: store.Connection, seqs: Sequence[int]) -> dict[int, str]:
    """The events as they are stored now: what was erased differs from what was claimed before. Those of calls whose
    person is gone are absent."""
    found: dict[int, str] = {}
    for chunk in statements.chunks(seqs):
        rows = await connection.execute(_AS_STORED, {"seqs": list(chunk)})
        found |= {row.seq: row.payload for row in rows if not row.is_forgotten}
    return found


async def fail(
    tx: store.Transaction,
    delivery: Delivery,
    *,
    error: str,
    now_us: int,
    next_at_us: int | None,
    counts: bool = True,
) -> bool:
    """Gives a claim back to be tried again at `next_at_us`, or for good with None (dead letter). False: claim lost.

    `error` is kept for people, cut to 500 characters. An attempt that does not count leaves their number as it was.
    """
    change: dict[str, Any] = {"claim": None, "last_error": error[:MAX_ERROR_LENGTH], "due_us": next_at_us}
    change |= {"state": "dead", "settled_us": now_us} if next_at_us is None else {"state": "pending"}
    if not counts:
        change["attempts"] = _DELIVERIES.c.attempts - 1
    if (await tx.execute(update(_DELIVERIES).where(_is_held(delivery)).values(change))).rowcount == 0:
        return False
    if next_at_us is not None and delivery.event.call_id is not None:
        await _postpone_younger(tx, delivery, next_at_us)
    return True


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which events to send again. Times are `created_us`; None asks nothing. Nothing set at all: every event."""

    event_ids: tuple[str, ...] | None = None
    call_id: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    types: tuple[str, ...] = receivers.ALL
    seqs: tuple[int, ...] | None = None

    def where(self) -> list[ColumnElement[bool]]:
        """Conditions on events."""
        found: list[ColumnElement[bool]] = []
        if self.event_ids is not None:
            found.append(_EVENTS.c.event_id.in_(self.event_ids))
        if self.seqs is not None:
            found.append(_EVENTS.c.seq.in_(self.seqs))
        if self.call_id is not None:
            found.append(_EVENTS.c.call_id == self.call_id)
        if self.since_us is not None:
            found.append(_EVENTS.c.created_us >= self.since_us)
        if self.until_us is not None:
            found.append(_EVENTS.c.created_us < self.until_us)
        return found


async def choose(connection: store.Connection, target: str, chosen: Chosen, *, only_dead: bool = False) -> list[int]:
    """`seq` of the events that `replay` would send, in order."""
    return [row.seq for row in await _chosen(connection, target, chosen, only_dead)]


async def _chosen(
    connection: store.Connection, target: str, chosen: Chosen, only_dead: bool
) -> list[Row[int, str | None, str, int | None, str]]:
    query = select(_EVENTS.c.seq, _EVENTS.c.call_id, _EVENTS.c.type, _DELIVERIES.c.due_us, _DELIVERIES.c.state).join(
        _DELIVERIES,
        (_DELIVERIES.c.seq == _EVENTS.c.seq) & (_DELIVERIES.c.target == target),
        isouter=not only_dead,
    )
    query = query.where(*chosen.where(), _DELIVERIES.c.due_us.is_(None)).order_by(_EVENTS.c.seq)
    rows = (await connection.execute(query)).all()
    return [row for row in rows if receivers.wants(chosen.types, row.type) and (row.state == "dead" or not only_dead)]


async def replay(tx: store.Transaction, target: str, chosen: Chosen, *, now_us: int, only_dead: bool = False) -> int:
    """Has events sent to a target again, with the ids they had, from the first attempt on; returns how many.

    Those that the target never got are added; those that are on their way are left alone. `only_dead`: no others than
    its dead letters.
    """
    rows = await _chosen(tx, target, chosen, only_dead)
    known = [row.seq for row in rows if row.state is not None]
    fresh = [_pending(row.seq, target, row.call_id, now_us) for row in rows if row.state is None]
    again = {"state": "pending", "due_us": now_us, "attempts": 0, "claim": None, "settled_us": None}
    for chunk in statements.chunks(known):
        place = (_DELIVERIES.c.target == target) & _DELIVERIES.c.seq.in_(chunk)
        await tx.execute(update(_DELIVERIES).where(place).values(again))
    for piece in statements.chunks(fresh):
        await tx.execute(_DELIVERIES.insert(), piece)
    return len(rows)


async def waiting(connection: store.Connection, target: str, *, now_us: int) -> list[int]:
    """`seq` of the events that wait for their next attempt at a target, in order."""
    rows = await connection.execute(
        select(_DELIVERIES.c.seq).where(*_waits(target, now_us)).order_by(_DELIVERIES.c.seq)
    )
    return list(rows.scalars())


async def hurry(tx: store.Transaction, target: str, *, now_us: int, seqs: Sequence[int] | None = None) -> int:
    """Makes due at once what waits for its next attempt at a target, all of it or these events; returns how many."""
    which = _waits(target, now_us) if seqs is None else [*_waits(target, now_us), _DELIVERIES.c.seq.in_(seqs)]
    return (await tx.execute(update(_DELIVERIES).where(*which).values(due_us=now_us))).rowcount


def _waits(target: str, now_us: int) -> list[ColumnElement[bool]]:
    return [_DELIVERIES.c.target == target, _DELIVERIES.c.state == "pending", _DELIVERIES.c.due_us > now_us]


async def bury(
    tx: store.Transaction,
    *,
    before_us: int,
    known: Collection[str],
    off: Collection[str],
    now_us: int,
    limit: int = PIECE,
) -> int:
    """Makes dead letters of what was written before `before_us` for targets that are not known any more, or switched
    off: kept for ever, it would fill the database. Returns how many, of at most `limit` events."""
    nobody = or_(_DELIVERIES.c.target.not_in(sorted(known)), _DELIVERIES.c.target.in_(sorted(off)))
    waiting = (_DELIVERIES.c.due_us.is_not(None), nobody)
    old = select(_EVENTS.c.seq).where(
        _EVENTS.c.created_us < before_us, exists().where(_DELIVERIES.c.seq == _EVENTS.c.seq, *waiting)
    )
    waits = (*waiting, _DELIVERIES.c.seq.in_(old.order_by(_EVENTS.c.seq).limit(limit)))
    change = {"state": "dead", "due_us": None, "claim": None, "settled_us": now_us, "last_error": "never taken"}
    return (await tx.execute(update(_DELIVERIES).where(*waits).values(change))).rowcount


async def next_due(connection: store.Connection, target: str) -> int | None:
    """When the next delivery of a target is due, in µs; None while nothing waits."""
    query = select(func.min(_DELIVERIES.c.due_us)).where(*_unsettled(target))
    due_us: int | None = (await connection.execute(query)).scalar()
    return due_us


async def counts(connection: store.Connection) -> dict[str, tuple[int, int]]:
    """By target, how many deliveries wait and how many are dead letters."""
    found: dict[str, tuple[int, int]] = {}
    for place, condition in enumerate((_DELIVERIES.c.due_us.is_not(None), _DELIVERIES.c.state == "dead")):
        query = select(_DELIVERIES.c.target, func.count()).where(condition).group_by(_DELIVERIES.c.target)
        for target, number in await connection.execute(query):
            known = found.get(target, (0, 0))
            found[target] = (number, known[1]) if place == 0 else (known[0], number)
    return found


@dataclass(frozen=True, slots=True)
class Standing:
    """What waits for a target, and since when (`created_us` of the oldest); what was given up."""

    waiting: int = 0
    oldest_us: int | None = None
    dead: int = 0


async def standings(connection: store.Connection) -> dict[str, Standing]:
    """By target, of those for which anything waits or was given up."""
    found: dict[str, Standing] = {}
    oldest: dict[str, int] = {}
    by_target = select(_DELIVERIES.c.target, func.count(), func.min(_DELIVERIES.c.seq)).group_by(_DELIVERIES.c.target)
    for target, number, seq in await connection.execute(by_target.where(*_unsettled(None))):
        found[target] = Standing(number)
        oldest[target] = seq
    for target, number, _ in await connection.execute(by_target.where(_DELIVERIES.c.state == "dead")):
        found[target] = replace(found.get(target, Standing()), dead=number)
    query = select(_EVENTS.c.seq, _EVENTS.c.created_us).where(_EVENTS.c.seq.in_(sorted(set(oldest.values()))))
    created = {row.seq: row.created_us for row in await connection.execute(query)}
    return {target: replace(one, oldest_us=created.get(oldest.get(target, 0))) for target, one in found.items()}


async def pending_count(connection: store.Connection, target: str | None = None) -> int:
    """Deliveries neither done nor dead, of one target or of all."""
    query = select(func.count()).select_from(_DELIVERIES).where(*_unsettled(target))
    return (await connection.execute(query)).scalar_one()


async def after(connection: store.Connection, seq: int, *, limit: int = 100) -> list[tuple[int, Event]]:
    """Events behind a sequence number, in order, each with its own: for followers like `calls tail`."""
    query = select(_EVENTS.c.seq, *(_EVENTS.c[name] for name in _EVENT_FIELDS))
    query = query.where(_EVENTS.c.seq > seq).order_by(_EVENTS.c.seq).limit(limit)
    return [(row.seq, _event(row)) for row in await connection.execute(query)]


async def of_type(connection: store.Connection, event_type: str, since_us: int, *, limit: int = 10_000) -> list[Event]:
    """The latest events of a type since a time, newest first."""
    query = select(*(_EVENTS.c[name] for name in _EVENT_FIELDS)).where(
        _EVENTS.c.type == event_type, _EVENTS.c.created_us >= since_us
    )
    rows = await connection.execute(query.order_by(_EVENTS.c.created_us.desc(), _EVENTS.c.seq.desc()).limit(limit))
    return [_event(row) for row in rows]


async def prune(tx: store.Transaction, *, before_us: int, limit: int = PIECE) -> int:
    """Deletes up to `limit` events created before `before_us` of which no delivery is pending; returns how many."""
    is_pending = exists().where(_DELIVERIES.c.seq == _EVENTS.c.seq, _DELIVERIES.c.due_us.is_not(None))
    old = select(_EVENTS.c.seq).where(_EVENTS.c.created_us < before_us, ~is_pending)
    old = old.order_by(_EVENTS.c.created_us).limit(limit)
    return (await tx.execute(delete(_EVENTS).where(_EVENTS.c.seq.in_(old)))).rowcount
