"""What is said about calls afterwards: the last word per call, its history, and how a CRM's ids find a call.

A result stands beside the record, in a table of its own: the record stays what the journal says. Who reads a record or
tells of it puts both together (`with_result`); the revision that is seen outside counts the changes of both.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, bindparam, delete, select, text, update

from gateway import store
from gateway.core import deals, records
from gateway.store import calls as stored_calls
from gateway.store import dealschema, outgoingschema, schema, statements

OBJECTS = ("call", "call_id", "contact", "half", "lead")
"""Names of facts (`delivery_facts`) that are ids of objects in a CRM."""
MAX_FOUND = 4
"""More calls than one are ambiguous; so many are named."""
EMPTY_END = ',"recordings":[],"receipts":[]}'
"""How a stored record ends."""
KEPT_MESSAGES_US = 30 * 86_400_000_000
"""Longer than any sender tries: a message that comes again later is another one."""

_LOCK = 0x6469616C6465616C
"""PostgreSQL advisory lock of whoever says something about calls ("dialdeal")."""
_LOCK_ALONE = text("SELECT pg_advisory_xact_lock(:key)")

_RESULTS, _CHANGES, _CALLS = dealschema.call_results, dealschema.result_changes, schema.calls
_FACTS, _MESSAGES = outgoingschema.delivery_facts, dealschema.inbound_messages
_FIELDS = (
    *(*deals.FLAGS, "lead_status", "note", "tags", "deal_id", "deal_state", "deal_stage", "value_e4"),
    *("currency", "closed_on"),
)


@dataclass(frozen=True, slots=True)
class Stored:
    """The last word on a call, and who had it. `changes` counts them."""

    result: deals.Result
    changes: int
    changed_us: int
    changed_by: str
    way: str

    def document(self) -> dict[str, Any]:
        """`result` of the record."""
        return deals.document(
            self.result,
            changed_at=records.timestamp(self.changed_us),
            changed_by=self.changed_by,
            way=self.way,
            changes=self.changes,
        )


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history. `said` has the fields with their values before and after."""

    call_id: str
    at_us: int
    changed_by: str
    way: str
    said: Mapping[str, Sequence[Any]]


_OF_CALLS = select(_RESULTS).where(_RESULTS.c.call_id.in_(bindparam("call_ids", expanding=True)))


async def of_calls(connection: store.Connection, call_ids: Collection[str]) -> dict[str, Stored]:
    """Results by call id; calls of which nobody said anything are absent."""
    found: dict[str, Stored] = {}
    for chunk in statements.chunks(list(call_ids)):
        for row in await connection.execute(_OF_CALLS, {"call_ids": list(chunk)}):
            found[row.call_id] = _stored(row)
    return found


def _stored(row: Row[*tuple[Any, ...]]) -> Stored:
    values = {name: getattr(row, name) for name in _FIELDS}
    values["tags"] = tuple(json.loads(row.tags))
    values["deal_state"] = deals.State(row.deal_state) if row.deal_state is not None else None
    return Stored(deals.Result(**values), row.changes, row.changed_us, row.changed_by, row.way)


async def save(tx: store.Transaction, changed: Mapping[str, Stored], history: Sequence[Change]) -> None:
    """Writes results and what was changed."""
    rows = []
    for call_id, one in changed.items():
        row: dict[str, Any] = {name: getattr(one.result, name) for name in _FIELDS}
        row |= {"call_id": call_id, "tags": _json(one.result.tags), "changes": one.changes}
        rows.append(row | {"changed_us": one.changed_us, "changed_by": one.changed_by, "way": one.way})
    for chunk in statements.chunks(rows):
        await statements.upsert(tx, _RESULTS, chunk)
    entries: list[dict[str, Any]] = [
        {"call_id": one.call_id, "at_us": one.at_us, "changed_by": one.changed_by, "way": one.way}
        | {"said": _json(one.said)}
        for one in history
    ]
    for piece in statements.chunks(entries):
        await tx.execute(_CHANGES.insert(), piece)


async def history(connection: store.Connection, call_id: str, *, limit: int = 1_000) -> list[Change]:
    """What was changed of a call, oldest first."""
    query = select(_CHANGES).where(_CHANGES.c.call_id == call_id).order_by(_CHANGES.c.change_id).limit(limit)
    rows = await connection.execute(query)
    return [Change(row.call_id, row.at_us, row.changed_by, row.way, json.loads(row.said)) for row in rows]


# -- finding ----------------------------------------------------------------------------------------------------------


async def find(connection: store.Connection, where: deals.Where) -> list[str]:
    """Ids of the calls that fit, at most `MAX_FOUND`; one is an answer, more are ambiguous."""
    if where.call_id is not None:
        query = select(_CALLS.c.call_id).where(_CALLS.c.call_id == where.call_id)
    elif where.object_id is not None:
        target = where.crm or ""
        named = _FACTS.c.target == target if ":" in target else _FACTS.c.target.endswith(f":{target}", autoescape=True)
        query = select(_FACTS.c.call_id).join(_CALLS, _CALLS.c.call_id == _FACTS.c.call_id).distinct()
        query = query.where(_FACTS.c.object_id == where.object_id, _FACTS.c.name.in_(OBJECTS), named)
    elif where.deal_id is not None:
        query = select(_RESULTS.c.call_id).where(_RESULTS.c.deal_id == where.deal_id)
    else:
        query = select(_CALLS.c.call_id).where(
            _CALLS.c.caller == where.caller,
            _CALLS.c.started_us >= where.since_us,
            _CALLS.c.started_us < where.until_us,
        )
    return sorted((await connection.execute(query.limit(MAX_FOUND))).scalars())


async def with_deal(connection: store.Connection, deal_ids: Collection[str]) -> dict[str, str]:
    """The call that a deal belongs to, by the deal's id."""
    found: dict[str, str] = {}
    for chunk in statements.chunks(sorted(set(deal_ids))):
        query = select(_RESULTS.c.deal_id, _RESULTS.c.call_id).where(_RESULTS.c.deal_id.in_(chunk))
        found |= {row.deal_id: row.call_id for row in await connection.execute(query)}
    return found


async def lock(tx: store.Transaction, call_ids: Collection[str]) -> dict[str, stored_calls.CallRow]:
    """The calls, held until the end of the transaction, in a fixed order: whoever files one of them waits. On SQLite
    the one writer is alone anyway."""
    if tx.dialect.name != "sqlite":
        # One at a time, so that no deal comes to belong to two calls.
        await tx.execute(_LOCK_ALONE, {"key": _LOCK})
        for chunk in statements.chunks(sorted(set(call_ids))):
            held = select(_CALLS.c.call_id).where(_CALLS.c.call_id.in_(chunk)).order_by(_CALLS.c.call_id)
            await tx.execute(held.with_for_update())
    return await stored_calls.get_many(tx, call_ids)


async def forgotten(connection: store.Connection, call_ids: Collection[str]) -> set[str]:
    """Which of these calls were erased, or are too old to name a person."""
    table = schema.forgotten_calls
    found: set[str] = set()
    for chunk in statements.chunks(sorted(set(call_ids))):
        found |= set((await connection.execute(select(table.c.call_id).where(table.c.call_id.in_(chunk)))).scalars())
    return found


# -- records with their results ---------------------------------------------------------------------------------------


def with_result(record: str, revision: int, stored: Stored | None) -> str:
    """The JSON text of a stored record with its result, as it is told outside: `revision` is the stored one's."""
    told = _json(stored.document()) if stored is not None else "null"
    if stored is not None:
        record = record.replace(f'"revision":{revision},', f'"revision":{revision + stored.changes},', 1)
    if record.endswith(EMPTY_END):
        return f'{record[: -len(EMPTY_END)]},"result":{told}{EMPTY_END}'
    return f'{record[:-1]},"result":{told}}}'


def revision_of(revision: int, stored: Stored | None) -> int:
    """The revision that is told outside."""
    return revision + (stored.changes if stored is not None else 0)


# -- messages ---------------------------------------------------------------------------------------------------------


async def is_new(tx: store.Transaction, source: str, message_id: str, *, now_us: int) -> bool:
    """Notes a message. False: it was here before. Notes of long ago are let go of."""
    await tx.execute(delete(_MESSAGES).where(_MESSAGES.c.at_us < now_us - KEPT_MESSAGES_US))
    statement = statements.insert(tx, _MESSAGES).values(source=source, message_id=message_id, at_us=now_us)
    inserted = await tx.execute(statement.on_conflict_do_nothing().returning(_MESSAGES.c.message_id))
    return inserted.first() is not None


# -- erasing ----------------------------------------------------------------------------------------------------------


async def forget(tx: store.Transaction, call_ids: Collection[str]) -> None:
    """Takes what was said of the person out: note, tags, lead status, deal and history. Whether the call was qualified,
    spam or reached its goal stays, as counts do. Doing it again changes nothing."""
    gone = {"lead_status": None, "note": None, "tags": "[]", "deal_id": None, "deal_state": None, "deal_stage": None}
    for chunk in statements.chunks(sorted(set(call_ids))):
        of = _RESULTS.c.call_id.in_(chunk)
        await tx.execute(update(_RESULTS).where(of).values({**gone, "value_e4": None, "currency": None}))
        await tx.execute(update(_RESULTS).where(of).values(closed_on=None))
        await tx.execute(delete(_CHANGES).where(_CHANGES.c.call_id.in_(chunk)))


def changed(stored: Stored | None, result: deals.Result, *, at_us: int, by: str, way: str) -> Stored:
    """The next word on a call."""
    return Stored(result, (stored.changes if stored is not None else 0) + 1, at_us, by, way)


_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
