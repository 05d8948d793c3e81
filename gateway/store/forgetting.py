"""Taking a person out of what is stored, and seeing to it that no replay brings them back (N14).

A tombstone is the keyed hash (HMAC-SHA-256) of an erased number; its key is random, wrapped by the key ring, and good
for nothing else. A number cannot be read from it, but a record that would carry the number again is recognised. It
concerns calls up to the moment of the erasure: who calls again afterwards is a caller like any other.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, ColumnElement, func, or_, select, text, update

from gateway import store
from gateway.core import erasure, events, records
from gateway.store import (
    attributions,
    calls,
    keyring,
    leases,
    recordings,
    results,
    schema,
    statements,
    targets,
    ticketforgetting,
    visits,
)

ERASURE = "erasure"
RETENTION = "retention"

_CALLS, _EVENTS, _DELIVERIES = schema.calls, schema.events, schema.deliveries
_STONES, _FORGOTTEN = schema.tombstones, schema.forgotten_calls
_RECORDINGS, _REVIEWS, _RECEIPTS = schema.recordings, schema.reviews, schema.receipts
_LOCK = 0x6469616C65726173
"""PostgreSQL advisory lock between who erases and who writes records ("dialeras")."""
_LOCK_SHARED = text("SELECT pg_advisory_xact_lock_shared(:key)")
_LOCK_ALONE = text("SELECT pg_advisory_xact_lock(:key)")
# The sum as well: a clock that was set back may leave number and latest time as they were.
_STAMP = select(
    func.count(),
    func.coalesce(func.max(_STONES.c.erased_us), 0) + func.coalesce(func.sum(_STONES.c.erased_us % 1_000_000_007), 0),
)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An erased person: what stands for the number, and since when."""

    pseudonym: str
    erased_us: int


@dataclass(frozen=True, slots=True)
class Tombstones:
    """All erased persons, in memory: asked for each call that is filed. An empty one knows nobody."""

    key: bytes = field(default=b"", repr=False)
    by_digest: Mapping[str, Tombstone] = field(default_factory=dict)
    by_call: Mapping[str, str] = field(default_factory=dict)

    def pseudonym_of(self, call_id: str, number: str | None, started_us: int) -> str | None:
        """What must stand for the person of this call, None when nobody erased them.

        `number` is E.164 with `+`: the caller's, of an outbound call the called one's.
        """
        if call_id in self.by_call:
            return self.by_call[call_id]
        if number is None or not self.by_digest:
            return None
        stone = self.by_digest.get(digest_of(self.key, number))
        return stone.pseudonym if stone is not None and started_us <= stone.erased_us else None


def digest_of(key: bytes, number: str) -> str:
    """The tombstone of a number."""
    return hmac.digest(key, number.encode(), "sha256").hex()


async def tombstones(connection: store.Connection, ring: keyring.KeyRing | None) -> Tombstones:
    """Reads all. Without a ring, calls are still known by their ids. Raises KeyMissing."""
    query = select(_FORGOTTEN.c.call_id, _FORGOTTEN.c.pseudonym).where(_FORGOTTEN.c.why == ERASURE)
    by_call = {row.call_id: row.pseudonym for row in await connection.execute(query)}
    found = {row.digest: Tombstone(row.pseudonym, row.erased_us) for row in await connection.execute(select(_STONES))}
    if not found or ring is None:
        return Tombstones(by_call=by_call)
    key = await recordings.known_secret(connection, ring, recordings.TOMBSTONE_SECRET)
    return Tombstones(key or b"", found, by_call)


async def stamp(connection: store.Connection) -> tuple[int, int]:
    """Changes whenever somebody is erased: tells a process that holds `Tombstones` to read them again."""
    row = (await connection.execute(_STAMP)).one()
    return int(row[0]), int(row[1])


async def hold_off(tx: store.Transaction, *, erases: bool = False) -> None:
    """Until the end of the transaction nobody is erased by another one, so that it cannot write down who is just being
    taken out. On SQLite the one writer is alone anyway. `erases`: this is the transaction that does so."""
    if tx.dialect.name != "sqlite":
        await tx.execute(_LOCK_ALONE if erases else _LOCK_SHARED, {"key": _LOCK})


async def remember(tx: store.Transaction, filed: Sequence[tuple[str, str]], *, now_us: int) -> None:
    """Notes calls, by id and pseudonym, as those of erased persons."""
    rows = [{"call_id": call_id, "pseudonym": one, "why": ERASURE, "at_us": now_us} for call_id, one in filed]
    await statements.insert_new(tx, _FORGOTTEN, rows)


async def bury(tx: store.Transaction, ring: keyring.KeyRing, number: str, *, now_us: int) -> Tombstone:
    """Sets a tombstone, or moves the one that is there to now. Raises KeyMissing."""
    await hold_off(tx, erases=True)
    key = await recordings.secret(tx, ring, recordings.TOMBSTONE_SECRET)
    digest = digest_of(key, number)
    row = (await tx.execute(select(_STONES).where(_STONES.c.digest == digest))).first()
    if row is not None:
        await tx.execute(update(_STONES).where(_STONES.c.digest == digest).values(erased_us=now_us))
        return Tombstone(row.pseudonym, now_us)
    stone = Tombstone(f"{erasure.PREFIX}{secrets.token_hex(6)}", now_us)
    values = {"digest": digest, "pseudonym": stone.pseudonym, "erased_us": stone.erased_us}
    await tx.execute(_STONES.insert(), values)
    return stone


async def is_forgotten(connection: store.Connection, call_id: str) -> bool:
    """Whether the person of this call was erased."""
    query = select(_FORGOTTEN.c.call_id).where(_FORGOTTEN.c.call_id == call_id, _FORGOTTEN.c.why == ERASURE)
    return (await connection.execute(query)).first() is not None


async def calls_of(connection: store.Connection, *numbers: str) -> list[calls.CallRow]:
    """All calls from or to a number, open ones included, oldest first. A pseudonym finds those erased already."""
    found: dict[str, calls.CallRow] = {}
    for number in numbers:
        for asked in (calls.CallFilter(caller=number), calls.CallFilter(did=number, direction="outbound")):
            after: calls.Cursor | None = None
            while True:
                page = await calls.list_calls(connection, asked, after=after, limit=calls.PAGE_SIZE)
                found.update((call.call_id, call) for call in page.calls)
                if (after := page.next) is None:
                    break
    return sorted(found.values(), key=lambda call: (call.started_us, call.call_id))


async def old_calls(connection: store.Connection, before_us: int, *, limit: int = 500) -> list[calls.CallRow]:
    """Closed calls that ended before a time and still carry their person, oldest first."""
    query = select(_CALLS.c.call_id).where(*_is_old(before_us)).order_by(_CALLS.c.started_us).limit(limit)
    ids = (await connection.execute(query.join_from(_CALLS, _FORGOTTEN, _same_call(), isouter=True))).scalars().all()
    rows = [await calls.get(connection, call_id) for call_id in ids]
    return [row for row in rows if row is not None]


async def count_old_calls(connection: store.Connection, before_us: int) -> int:
    """How many `old_calls` there are."""
    query = select(func.count()).where(*_is_old(before_us))
    return (await connection.execute(query.join_from(_CALLS, _FORGOTTEN, _same_call(), isouter=True))).scalar_one()


def _same_call() -> ColumnElement[bool]:
    return _FORGOTTEN.c.call_id == _CALLS.c.call_id


def _is_old(before_us: int) -> tuple[ColumnElement[bool], ...]:
    # A replay of an old journal brings the person back into the record: then it is due again.
    is_due = or_(_FORGOTTEN.c.call_id.is_(None), _CALLS.c.updated_us > _FORGOTTEN.c.at_us)
    return (_CALLS.c.state == "closed", _CALLS.c.started_us < before_us, is_due)


async def forget(
    tx: store.Transaction,
    rows: Sequence[calls.CallRow],
    pseudonym: str | None,
    *,
    why: str,
    now_us: int,
    targets: Collection[str] = (),
) -> None:
    """Takes the person out of these calls: record, columns, events, errors of deliveries, raw rows that are kept.

    What is counted stays: outcome, times, route, source, agent, country. Doing it again changes nothing. `targets` are
    told of tickets that this closes.
    """
    await hold_off(tx, erases=True)
    if tx.dialect.name == "sqlite":
        await tx.execute(text("PRAGMA secure_delete = ON"))
    for chunk in statements.chunks(rows):
        for row in chunk:
            await _forget_call(tx, row, pseudonym, now_us)
        ids = [row.call_id for row in chunk]
        await _forget_events(tx, ids, pseudonym)
        await _forget_talk(tx, ids)
        await ticketforgetting.of_calls(tx, ids, pseudonym, targets=targets, now_us=now_us)
        await results.forget(tx, ids)
        theirs = await attributions.forget(tx, ids, pseudonym)
        if why == ERASURE and theirs:
            # Who is certain to have called is the same person on the web.
            await forget_visitors(tx, theirs, now_us=now_us)
        values = [{"call_id": call_id, "pseudonym": pseudonym or "", "why": why, "at_us": now_us} for call_id in ids]
        await statements.upsert(tx, _FORGOTTEN, values)


@dataclass(frozen=True, slots=True)
class Visitors:
    """What forgetting visitors did: how many were known, and the calls whose records named one."""

    known: int
    call_ids: tuple[str, ...]
    requests: tuple[int, ...] = ()
    """`seq` of the events of requests for a call back that came from one."""


async def forget_askers(tx: store.Transaction, number: str, pseudonym: str | None) -> list[int]:
    """Takes the person out of requests for a call back to their number. Returns `seq` of the events that named them."""
    query = select(_EVENTS.c.seq, _EVENTS.c.payload).where(_EVENTS.c.type == events.CALLBACK_REQUESTED)
    found: list[int] = []
    for seq, payload in (await tx.execute(query)).all():
        body = json.loads(payload)
        if erasure.asks_for(body["data"], number):
            changed = {**body, "data": erasure.without_asker(body["data"], pseudonym)}
            await tx.execute(update(_EVENTS).where(_EVENTS.c.seq == seq).values(payload=_json(changed)))
            found.append(seq)
    await _forget_errors(tx, _DELIVERIES.c.seq, found)
    await targets.forget_requests(tx, number)
    return found


async def forget_tickets(
    tx: store.Transaction, number: str, pseudonym: str | None, *, now_us: int, targets: Collection[str] = ()
) -> list[int]:
    """Takes the person out of tickets, also of those that no stored call belongs to. Returns `seq` of their events."""
    return await ticketforgetting.of_number(tx, number, pseudonym, targets=targets, now_us=now_us)


async def forget_visitors(tx: store.Transaction, visitor_ids: Collection[str], *, now_us: int) -> Visitors:
    """Takes visitors of a web site out: visits, pages, clicks, and what calls say of them. The calls stay, with source
    and campaign; so does who called. Doing it again changes nothing."""
    await hold_off(tx, erases=True)
    if tx.dialect.name == "sqlite":
        await tx.execute(text("PRAGMA secure_delete = ON"))
    await leases.lock(tx)
    changed = [
        call_id
        for call_id in await attributions.naming(tx, visitor_ids)
        if await _without_visitors(tx, call_id, visitor_ids, now_us)
    ]
    requests = [seq for visitor_id in visitor_ids for seq in await _forget_requests(tx, visitor_id)]
    await _forget_errors(tx, _DELIVERIES.c.seq, requests)
    await _forget_errors(tx, _DELIVERIES.c.call_id, changed)
    await targets.forget_visitors(tx, visitor_ids, changed)
    await ticketforgetting.of_visitors(tx, visitor_ids)
    return Visitors(await visits.forget(tx, visitor_ids), tuple(changed), tuple(requests))


async def _forget_requests(tx: store.Transaction, visitor_id: str) -> list[int]:
    """Requests for a call back that came from this visitor's browser: `seq` of their events."""
    asked = (_EVENTS.c.type == events.CALLBACK_REQUESTED, _EVENTS.c.payload.contains(visitor_id, autoescape=True))
    rows = (await tx.execute(select(_EVENTS.c.seq, _EVENTS.c.payload).where(*asked))).all()
    for seq, payload in rows:
        body = json.loads(payload)
        changed = {**body, "data": erasure.without_visitors(body["data"], [visitor_id])}
        await tx.execute(update(_EVENTS).where(_EVENTS.c.seq == seq).values(payload=_json(changed)))
    return [seq for seq, _ in rows]


async def _forget_errors(tx: store.Transaction, column: Column[Any], values: Sequence[Any]) -> None:
    """What receivers answered to events, of which `column` is one of the values."""
    for chunk in statements.chunks(values):
        said = column.in_(chunk) & _DELIVERIES.c.last_error.is_not(None)
        await tx.execute(update(_DELIVERIES).where(said).values(last_error=None))


async def _without_visitors(tx: store.Transaction, call_id: str, visitor_ids: Collection[str], now_us: int) -> bool:
    row = await calls.get(tx, call_id)
    if row is None:
        return False
    before = json.loads(row.record)
    record = erasure.without_visitors(before, visitor_ids)
    if record == before:
        return False
    # A new revision, so that who looks at the call just now and still knows them does not write them back.
    record["revision"] = row.revision + 1
    change = {
        "record": _json(record),
        "revision": row.revision + 1,
        "content_hash": records.content_hash(_json({**record, "revision": 0})),
        "updated_us": now_us,
    }
    await tx.execute(update(_CALLS).where(_CALLS.c.call_id == call_id).values(change))
    query = select(_EVENTS.c.seq, _EVENTS.c.payload).where(_EVENTS.c.call_id == call_id)
    for seq, payload in (await tx.execute(query)).all():
        body = json.loads(payload)
        changed = {**body, "data": erasure.without_visitors(body.get("data") or {}, visitor_ids)}
        await tx.execute(update(_EVENTS).where(_EVENTS.c.seq == seq).values(payload=_json(changed)))
    return True


async def _forget_call(tx: store.Transaction, row: calls.CallRow, pseudonym: str | None, now_us: int) -> None:
    record = erasure.pseudonymised(json.loads(row.record), pseudonym)
    is_outbound = row.direction == "outbound"
    change: dict[str, Any] = {
        "record": _json(record),
        "content_hash": records.content_hash(_json({**record, "revision": 0})),
        "caller_region": None,
        "sip_call_id": None,
        "updated_us": now_us,
    }
    if is_outbound:
        change["did"] = pseudonym or ""
    if not is_outbound or (row.caller or "").startswith("+"):
        # Of an outbound call it is an extension, which is nobody's number, or the number of a phone that is somebody's.
        change["caller"] = pseudonym
    await tx.execute(update(_CALLS).where(_CALLS.c.call_id == row.call_id).values(change))


async def _forget_events(tx: store.Transaction, call_ids: Sequence[str], pseudonym: str | None) -> None:
    # Those of tickets are left to the tickets.
    theirs = _EVENTS.c.call_id.in_(call_ids) & _EVENTS.c.type.not_in(ticketforgetting.TYPES)
    query = select(_EVENTS.c.seq, _EVENTS.c.payload).where(theirs)
    for seq, payload in (await tx.execute(query)).all():
        body = json.loads(payload)
        changed = {**body, "data": erasure.pseudonymised(body.get("data") or {}, pseudonym)}
        await tx.execute(update(_EVENTS).where(_EVENTS.c.seq == seq).values(payload=_json(changed)))
    await _forget_errors(tx, _DELIVERIES.c.call_id, call_ids)
    await targets.forget(tx, call_ids)


async def _forget_talk(tx: store.Transaction, call_ids: Sequence[str]) -> None:
    """What was written about the talk, unless a recording is under legal hold, and what ties a receipt to a number."""
    free = (_RECORDINGS.c.call_id.in_(call_ids), _RECORDINGS.c.held_us.is_(None))
    await tx.execute(update(_RECORDINGS).where(*free).values(analysis=None))
    theirs = _REVIEWS.c.recording_id.in_(select(_RECORDINGS.c.recording_id).where(*free))
    await tx.execute(update(_REVIEWS).where(theirs).values(note=None))
    await tx.execute(update(_RECEIPTS).where(_RECEIPTS.c.call_id.in_(call_ids)).values(salt=None))


async def mask_rows(tx: store.Transaction, linked_ids: Sequence[str], call_ids: Sequence[str], digits: bytes) -> int:
    """Masks raw journal rows that the database holds for calls that are up, and damaged ones. Returns how many."""
    groups = {*linked_ids, *call_ids}
    masked = 0
    for table, column in ((schema.open_rows, "line"), (schema.damaged_rows, "raw")):
        for row in (await tx.execute(select(table))).mappings().all():
            line = bytes(row[column])
            if row.get("group_key") in groups or erasure.names_number(line, [digits]):
                new = erasure.masked_line(line, [digits])
                place = (table.c.file_id == row["file_id"]) & (table.c.file_offset == row["file_offset"])
                if new != line:
                    await tx.execute(update(table).where(place).values({column: new}))
                    masked += 1
    return masked


@dataclass(frozen=True, slots=True)
class Served:
    """A receiver that already has events of the person: it must be told by you."""

    target: str
    events: int
    last_us: int


async def receivers_served(
    connection: store.Connection, call_ids: Sequence[str], seqs: Sequence[int] = (), *, now_us: int
) -> list[Served]:
    """Who was sent events of these calls, or these events, which are no call's; and when last (`now_us`: on its way).

    Named is also who may have them: what is on its way now, or was when a process died.
    """
    found: dict[str, Served] = {}
    chosen = [_DELIVERIES.c.call_id.in_(chunk) for chunk in statements.chunks(call_ids)]
    chosen += [_DELIVERIES.c.seq.in_(chunk) for chunk in statements.chunks(seqs)]
    for condition in chosen:
        query = (
            select(_DELIVERIES.c.target, func.count(), func.max(func.coalesce(_DELIVERIES.c.settled_us, now_us)))
            .where(condition, or_(_DELIVERIES.c.state.in_(("done", "claimed")), _DELIVERIES.c.is_unsure))
            .group_by(_DELIVERIES.c.target)
        )
        for target, count, last_us in await connection.execute(query):
            known = found.get(target, Served(target, 0, 0))
            found[target] = Served(target, known.events + count, max(known.last_us, last_us or 0))
    return [found[target] for target in sorted(found)]


async def are_on_their_way(
    connection: store.Connection, target: str, call_ids: Sequence[str], seqs: Sequence[int], *, now_us: int
) -> bool:
    """Whether somebody holds an event of these calls, or one of these events, to deliver it to a target."""
    chosen = [_DELIVERIES.c.call_id.in_(chunk) for chunk in statements.chunks(call_ids)]
    chosen += [_DELIVERIES.c.seq.in_(chunk) for chunk in statements.chunks(seqs)]
    held = (_DELIVERIES.c.target == target, _DELIVERIES.c.state == "claimed", _DELIVERIES.c.due_us > now_us)
    for condition in chosen:
        if (await connection.execute(select(_DELIVERIES.c.seq).where(condition, *held).limit(1))).first() is not None:
            return True
    return False


async def revisions_naming(connection: store.Connection, number: str) -> list[int]:
    """Routing revisions in which the number stands (a ban list, a destination): they are yours to change."""
    table = schema.routing_revisions
    query = select(table.c.revision).where(table.c.document.contains(number, autoescape=True))
    return list((await connection.execute(query.order_by(table.c.revision))).scalars())


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
