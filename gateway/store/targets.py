"""The targets of events: whether one is in use, what it was sent last, what a service knows a call by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, select, update

from gateway import store
from gateway.core import erasure, events
from gateway.core.outgoing import adapters, crm
from gateway.store import outgoingschema, schema, statements

KEPT = 100
"""Deliveries of a target that can be looked at."""
MAX_TEXT = 16_000
"""Characters of a request or an answer that are kept."""

_EVENTS, _DELIVERIES = schema.events, schema.deliveries
_STATES, _LOG, _FACTS = outgoingschema.target_states, outgoingschema.delivery_log, outgoingschema.delivery_facts


@dataclass(frozen=True, slots=True)
class State:
    """How a target is. Times in µs, None: not so."""

    target: str
    off_us: int | None = None
    off_reason: str | None = None
    failing_us: int | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """One attempt, with what was sent and what came back."""

    target: str
    event_id: str
    type: str
    call_id: str | None
    attempt: int
    at_us: int
    took_us: int
    state: str
    """As `adapters.State`."""
    note: str = ""
    request: str = ""
    response: str = ""
    status: int | None = None
    is_test: bool = False
    log_id: int = 0
    """Grows; given by the store."""


_LOG_FIELDS = tuple(column.name for column in _LOG.columns if column.name != "log_id")


async def states(connection: store.Connection) -> dict[str, State]:
    """Of all targets that ever failed or were switched off."""
    return {row.target: State(*row) for row in await connection.execute(select(*_STATES.c))}


async def state(connection: store.Connection, target: str) -> State:
    """Of one target; one that nothing is known of is in use and well."""
    row = (await connection.execute(select(*_STATES.c).where(_STATES.c.target == target))).first()
    return State(target) if row is None else State(*row)


async def save(tx: store.Transaction, changed: State) -> None:
    """Writes the state of a target."""
    values = {
        "target": changed.target,
        "off_us": changed.off_us,
        "off_reason": changed.off_reason,
        "failing_us": changed.failing_us,
        "last_error": changed.last_error,
    }
    await statements.upsert(tx, _STATES, [values])


async def switch_on(tx: store.Transaction, target: str) -> bool:
    """Lets it have events again. False: it was not switched off."""
    off = (_STATES.c.target == target, _STATES.c.off_us.is_not(None))
    change = {"off_us": None, "off_reason": None, "failing_us": None}
    return (await tx.execute(update(_STATES).where(*off).values(change))).rowcount == 1


async def log(tx: store.Transaction, attempts: Sequence[Logged]) -> None:
    """Notes attempts, and lets go of those that are no longer among the last of their target."""
    if not attempts:
        return
    rows: list[dict[str, Any]] = [{name: getattr(one, name) for name in _LOG_FIELDS} for one in attempts]
    for row in rows:
        row["request"], row["response"] = row["request"][:MAX_TEXT], row["response"][:MAX_TEXT]
    await tx.execute(_LOG.insert(), rows)
    for target in sorted({one.target for one in attempts}):
        newest = select(_LOG.c.log_id).where(_LOG.c.target == target).order_by(_LOG.c.log_id.desc())
        oldest = newest.offset(KEPT - 1).limit(1).scalar_subquery()
        await tx.execute(delete(_LOG).where(_LOG.c.target == target, _LOG.c.log_id < oldest))


async def last(connection: store.Connection, target: str | None = None, *, limit: int = KEPT) -> list[Logged]:
    """The last attempts, of one target or of all, newest first."""
    query = select(*(_LOG.c[name] for name in _LOG_FIELDS), _LOG.c.log_id).order_by(_LOG.c.log_id.desc()).limit(limit)
    if target is not None:
        query = query.where(_LOG.c.target == target)
    return [Logged(**row) for row in (await connection.execute(query)).mappings()]


async def facts(connection: store.Connection, target: str, call_ids: Collection[str]) -> dict[str, dict[str, str]]:
    """What earlier attempts learned at a target, by call."""
    found: dict[str, dict[str, str]] = {}
    for chunk in statements.chunks(sorted(call_ids)):
        query = select(_FACTS).where(_FACTS.c.target == target, _FACTS.c.call_id.in_(chunk))
        for row in await connection.execute(query):
            found.setdefault(row.call_id, {})[row.name] = row.value
    return found


@dataclass(frozen=True, slots=True)
class Standing:
    """How a call stands at a target. `state` is as `adapters.State`, of its last attempt, or `pending` before it; times
    in µs. `note` says why, `external_id` is what the service calls the call."""

    target: str
    state: str
    type: str | None
    note: str
    external_id: str | None
    at_us: int | None
    next_us: int | None = None
    """When the next event, or the same again, is due; None: nothing waits."""
    given_up: bool = False
    """The latest event is a dead letter."""


async def standings(connection: store.Connection, call_id: str) -> list[Standing]:
    """How a call stands at each target, by target: for as long as facts are kept (`prune`) at services, and at others
    while its events are."""
    said: dict[str, dict[str, str]] = {}
    at: dict[str, int] = {}
    named = (adapters.STATUS, adapters.STATUS_NOTE, adapters.STATUS_TYPE, adapters.STATUS_ID)
    for row in await connection.execute(select(_FACTS).where(_FACTS.c.call_id == call_id, _FACTS.c.name.in_(named))):
        said.setdefault(row.target, {})[row.name] = row.value
        at[row.target] = max(at.get(row.target, 0), row.at_us)
    latest = await _latest(connection, call_id)
    return [
        _standing(target, said.get(target), at.get(target), latest.get(target, ()))
        for target in sorted({*said, *latest})
    ]


async def _latest(connection: store.Connection, call_id: str) -> dict[str, list[Row[*tuple[Any, ...]]]]:
    """Deliveries of the call, oldest first, by target."""
    columns = [_DELIVERIES.c[name] for name in ("target", "state", "due_us", "settled_us", "last_error")]
    query = select(*columns, _EVENTS.c.type).join(_EVENTS, _EVENTS.c.seq == _DELIVERIES.c.seq)
    found: dict[str, list[Row[*tuple[Any, ...]]]] = {}
    for row in await connection.execute(query.where(_DELIVERIES.c.call_id == call_id).order_by(_DELIVERIES.c.seq)):
        found.setdefault(row.target, []).append(row)
    return found


def _standing(
    target: str, said: Mapping[str, str] | None, at_us: int | None, latest: Sequence[Row[*tuple[Any, ...]]]
) -> Standing:
    due = [row.due_us for row in latest if row.due_us is not None]
    last = next((row for row in reversed(latest) if row.due_us is None), latest[-1] if latest else None)
    next_us, is_dead = min(due, default=None), last is not None and last.state == "dead"
    if said is not None:
        status = said.get(adapters.STATUS, "")
        type_, note = said.get(adapters.STATUS_TYPE), said.get(adapters.STATUS_NOTE, "")
        return Standing(target, status, type_, note, said.get(adapters.STATUS_ID), at_us, next_us, is_dead)
    assert last is not None, "one of both is there"
    state = "pending" if last.state == "claimed" else last.state
    return Standing(target, state, last.type, last.last_error or "", None, last.settled_us, next_us, is_dead)


async def learn(tx: store.Transaction, call_id: str, target: str, known: Mapping[str, str], *, now_us: int) -> None:
    """Keeps what an attempt learned; the later wins."""
    rows = [
        {
            "call_id": call_id,
            "target": target,
            "name": name,
            "value": value,
            "object_id": crm.object_id(value),
            "at_us": now_us,
        }
        for name, value in sorted(known.items())
    ]
    await statements.upsert(tx, _FACTS, rows)


async def prune(tx: store.Transaction, *, before_us: int) -> int:
    """Deletes facts that are older: deals of so old a call do not come back. Returns how many."""
    return (await tx.execute(delete(_FACTS).where(_FACTS.c.at_us < before_us))).rowcount


async def forget(tx: store.Transaction, call_ids: Sequence[str]) -> None:
    """Takes what was sent of these calls out."""
    for chunk in statements.chunks(call_ids):
        await tx.execute(delete(_LOG).where(_LOG.c.call_id.in_(chunk)))
        await tx.execute(delete(_FACTS).where(_FACTS.c.call_id.in_(chunk)))


async def forget_requests(tx: store.Transaction, number: str) -> None:
    """Takes out what was sent of requests for a call back to a number (E.164 with `+`), of events long gone too."""
    query = select(_LOG.c.log_id, _LOG.c.request).where(_LOG.c.type == events.CALLBACK_REQUESTED)
    digits = erasure.spellings(number)
    theirs = [row.log_id for row in await tx.execute(query) if erasure.names_number(row.request.encode(), digits)]
    for chunk in statements.chunks(theirs):
        await tx.execute(delete(_LOG).where(_LOG.c.log_id.in_(chunk)))


async def forget_visitors(tx: store.Transaction, visitor_ids: Collection[str], call_ids: Collection[str]) -> None:
    """Takes out what was sent of visitors and of the calls whose records named them. What a service calls the caller
    stays: the call does."""
    for chunk in statements.chunks(sorted(call_ids)):
        await tx.execute(delete(_LOG).where(_LOG.c.call_id.in_(chunk)))
    for visitor_id in visitor_ids:
        await tx.execute(delete(_LOG).where(_LOG.c.request.contains(visitor_id, autoescape=True)))
