"""The outbox: events written in the transaction of the call they tell of, and their delivery to each target.

    pending ──claim──▶ claimed ──settle──▶ done
       ▲                 │  └──fail(None)─▶ dead
       └──fail / lease over┘

A target gets the events of one call in order: the next is not claimable before the older one is done or dead. A
claim is a lease; a process that dies leaves nothing behind but a lease that runs out, and the event goes again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Row, bindparam, delete, exists, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from gateway import store
from gateway.store import schema, statements

MAX_ERROR_LENGTH = 500


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


@cache
def _insert_events(dialect: str) -> ReturningInsert[tuple[int, str | None, int]]:
    statement = sqlite.insert(_EVENTS) if dialect == "sqlite" else postgresql.insert(_EVENTS)
    return statement.on_conflict_do_nothing(index_elements=["event_id"]).returning(
        _EVENTS.c.seq, _EVENTS.c.call_id, _EVENTS.c.created_us
    )


async def add(tx: store.Transaction, events: Sequence[Event], targets: Collection[str]) -> int:
    """Writes events with a delivery to each target; events already there are left alone. Returns how many were new.

    Order in `events` is the order of delivery. `targets` are names like `jsonl` or `webhook:crm`; may be empty.
    """
    new: list[tuple[int, str | None, int]] = []
    for chunk in statements.chunks(events):
        inserted = await tx.execute(
            _insert_events(tx.dialect.name),
            [{name: getattr(event, name) for name in _EVENT_FIELDS} for event in chunk],
        )
        new += [(row.seq, row.call_id, row.created_us) for row in inserted]
    deliveries = [
        {"seq": seq, "target": target, "call_id": call_id, "state": "pending", "due_us": created_us, "attempts": 0}
        for seq, call_id, created_us in new
        for target in sorted(set(targets))
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
    select(_DELIVERIES.c.seq, _DELIVERIES.c.attempts, *(_EVENTS.c[name] for name in _EVENT_FIELDS))
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
    return [Delivery(_event(row), row.seq, target, row.attempts + 1, claim) for row in rows]


async def extend(tx: store.Transaction, delivery: Delivery, *, until_us: int) -> bool:
    """Prolongs the lease. False: the claim was lost to another process; stop delivering."""
    statement = update(_DELIVERIES).where(_is_held(delivery)).values(due_us=until_us)
    return (await tx.execute(statement)).rowcount == 1


async def settle(tx: store.Transaction, deliveries: Sequence[Delivery], *, now_us: int) -> int:
    """Marks claimed deliveries done. Returns how many of the claims still held."""
    settled = 0
    for target, claim in sorted({(delivery.target, delivery.claim) for delivery in deliveries}):
        seqs = [one.seq for one in deliveries if one.claim == claim and one.target == target]
        for chunk in statements.chunks(seqs):
            held = {"of_target": target, "by": claim, "seqs": list(chunk), "at_us": now_us}
            settled += (await tx.execute(_SETTLE, held)).rowcount
    return settled


async def fail(tx: store.Transaction, delivery: Delivery, *, error: str, now_us: int, next_at_us: int | None) -> bool:
    """Gives a claim back to be tried again at `next_at_us`, or for good with None (dead letter). False: claim lost.

    `error` is kept for people, cut to 500 characters.
    """
    change: dict[str, Any] = {"claim": None, "last_error": error[:MAX_ERROR_LENGTH], "due_us": next_at_us}
    change |= {"state": "dead", "settled_us": now_us} if next_at_us is None else {"state": "pending"}
    if (await tx.execute(update(_DELIVERIES).where(_is_held(delivery)).values(change))).rowcount == 0:
        return False
    if next_at_us is not None and delivery.event.call_id is not None:
        await _postpone_younger(tx, delivery, next_at_us)
    return True


async def pending_count(connection: store.Connection, target: str | None = None) -> int:
    """Deliveries neither done nor dead, of one target or of all."""
    query = select(func.count()).select_from(_DELIVERIES).where(*_unsettled(target))
    return (await connection.execute(query)).scalar_one()


async def oldest_pending(connection: store.Connection, target: str | None = None) -> int | None:
    """`created_us` of the oldest event neither done nor dead."""
    query = select(_EVENTS.c.created_us).join(_DELIVERIES, _DELIVERIES.c.seq == _EVENTS.c.seq)
    query = query.where(*_unsettled(target)).order_by(_DELIVERIES.c.seq).limit(1)
    return (await connection.execute(query)).scalar()


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


async def prune(tx: store.Transaction, *, before_us: int, limit: int = 10_000) -> int:
    """Deletes up to `limit` events created before `before_us` of which no delivery is pending; returns how many."""
    is_pending = exists().where(_DELIVERIES.c.seq == _EVENTS.c.seq, _DELIVERIES.c.due_us.is_not(None))
    old = select(_EVENTS.c.seq).where(_EVENTS.c.created_us < before_us, ~is_pending)
    old = old.order_by(_EVENTS.c.created_us).limit(limit)
    return (await tx.execute(delete(_EVENTS).where(_EVENTS.c.seq.in_(old)))).rowcount
