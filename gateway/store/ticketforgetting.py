"""Taking a person out of tickets: number, name, what they asked, notes, and the events that told of them (R45, N14)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, delete, func, or_, select, update

from gateway import store
from gateway.core import erasure, events, ticketdocs, tickets
from gateway.store import outbox, outgoingschema, schema, statements, ticketschema
from gateway.store import tickets as stored

_TICKETS, _CALLS, _EVENTS = ticketschema.tickets, ticketschema.ticket_calls, schema.events
_LOG, _DELIVERIES = outgoingschema.delivery_log, schema.deliveries
TYPES = tuple(sorted(set(tickets.EVENTS.values())))
"""Of the events that are forgotten here."""


async def of_number(
    tx: store.Transaction, number: str, pseudonym: str | None, *, targets: Collection[str], now_us: int
) -> list[int]:
    """All tickets of a number (E.164 with `+`), or of what stands for it. Returns `seq` of the events that named it.
    `targets` are told of open ones that they are closed, as `erased`, by an event that names nobody."""
    theirs = _TICKETS.c.caller.in_([one for one in (number, pseudonym) if one])
    return await _forget(tx, theirs, pseudonym, targets, now_us)


async def of_calls(
    tx: store.Transaction, call_ids: Sequence[str], pseudonym: str | None, *, targets: Collection[str], now_us: int
) -> None:
    """Tickets that these calls opened, or were merged into; `targets` as above."""
    for chunk in statements.chunks(call_ids):
        tied = select(_CALLS.c.ticket).where(_CALLS.c.call_id.in_(chunk))
        await _forget(tx, or_(_TICKETS.c.call_id.in_(chunk), _TICKETS.c.number.in_(tied)), pseudonym, targets, now_us)


def _old_requests(before_us: int) -> tuple[ColumnElement[bool], ...]:
    return (
        _TICKETS.c.kind == tickets.Kind.REQUEST.value,
        func.coalesce(_TICKETS.c.closed_us, _TICKETS.c.last_miss_us) < before_us,
        or_(_TICKETS.c.caller.is_not(None), _TICKETS.c.request != "{}"),
    )


async def count_requests_before(connection: store.Connection, before_us: int) -> int:
    """How many `requests_before` would forget."""
    return (await connection.execute(select(func.count()).where(*_old_requests(before_us)))).scalar_one()


async def requests_before(tx: store.Transaction, before_us: int, *, targets: Collection[str], now_us: int) -> int:
    """Tickets of requests on pages, which no call's age counts for: closed before then, or never closed and asked for
    before then; and what was sent of requests until then. Returns how many tickets; `targets` as above."""
    await tx.execute(delete(_LOG).where(_LOG.c.type == events.CALLBACK_REQUESTED, _LOG.c.at_us < before_us))
    query = select(_TICKETS.c.number).where(*_old_requests(before_us)).limit(500)
    found = (await tx.execute(query)).scalars().all()
    if found:
        await _forget(tx, _TICKETS.c.number.in_(found), None, targets, now_us)
    return len(found)


async def of_visitors(tx: store.Transaction, visitor_ids: Collection[str]) -> None:
    """What visitors of a web site came with; who called stays."""
    for visitor_id in visitor_ids:
        theirs = _TICKETS.c.attribution.contains(visitor_id, autoescape=True)
        for number in (await tx.execute(select(_TICKETS.c.number).where(theirs))).scalars().all():
            ticket = await stored.by_number(tx, number, alone=True)
            if ticket is not None:
                await stored.save(tx, tickets.without_visitor(ticket))
                await _forget_events(tx, [ticket], lambda data: erasure.without_visitors(data, visitor_ids))


async def _forget(
    tx: store.Transaction,
    which: ColumnElement[bool],
    pseudonym: str | None,
    targets: Collection[str],
    now_us: int,
) -> list[int]:
    numbers = (await tx.execute(select(_TICKETS.c.number).where(which))).scalars().all()
    found: list[tickets.Ticket] = []
    closed: list[outbox.Event] = []
    for number in numbers:
        ticket = await stored.by_number(tx, number, alone=True)
        if ticket is None:
            continue
        left = tickets.erased(ticket, pseudonym, now_us)
        await stored.save(tx, left)
        if ticket.is_open:
            closing = tickets.News(tickets.What.CLOSED, now_us, text=tickets.Result.ERASED.value)
            await stored.tell(tx, number, [closing])
            closed += [
                outbox.Event(one.event_id, one.type, now_us, one.payload, left.call_id, left.revision)
                for one in ticketdocs.told(tickets.Change(replace(left, caller=None), (closing,)))
            ]
        await stored.forget_texts(tx, number)
        found.append(ticket)
    seqs = await _forget_events(tx, found, lambda data: ticketdocs.forgotten(data, pseudonym))
    await outbox.add(tx, closed, targets)
    return seqs


async def _forget_events(tx: store.Transaction, theirs: Iterable[tickets.Ticket], change: Any) -> list[int]:
    """Events of these tickets, and what receivers answered to them and were sent."""
    seqs: list[int] = []
    for ticket in theirs:
        if ticket.call_id is not None:
            which: ColumnElement[bool] = _EVENTS.c.call_id == ticket.call_id
        else:
            which = _EVENTS.c.call_id.is_(None) & _EVENTS.c.payload.contains(ticket.ticket_id, autoescape=True)
        query = select(_EVENTS.c.seq, _EVENTS.c.payload).where(which, _EVENTS.c.type.in_(TYPES))
        for seq, payload in (await tx.execute(query)).all():
            body = json.loads(payload)
            text = json.dumps({**body, "data": change(body["data"])}, ensure_ascii=False, separators=(",", ":"))
            await tx.execute(update(_EVENTS).where(_EVENTS.c.seq == seq).values(payload=text))
            seqs.append(seq)
        sent = _LOG.c.request.contains(ticket.ticket_id, autoescape=True)
        await tx.execute(delete(_LOG).where(_LOG.c.type.in_(TYPES), sent))
    for chunk in statements.chunks(seqs):
        said = _DELIVERIES.c.seq.in_(chunk) & _DELIVERIES.c.last_error.is_not(None)
        await tx.execute(update(_DELIVERIES).where(said).values(last_error=None))
    return seqs
