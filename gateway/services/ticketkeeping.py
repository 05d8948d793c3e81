"""Storing what happened to a ticket: the ticket, its history and its events, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from gateway import store
from gateway.core import records, ticketcauses, ticketdocs, tickets
from gateway.store import outbox
from gateway.store import tickets as stored

REACHED, ATTEMPT, MISS, KEYED = "reached", "attempt", "miss", "keyed"
"""What a call did to a ticket."""


async def keep(tx: store.Transaction, change: tickets.Change, *, targets: Collection[str], now_us: int) -> None:
    """Writes a changed ticket and what is to be told of it; nothing without news."""
    if not change.news:
        return
    await stored.save(tx, change.ticket)
    await tell(tx, change, targets=targets, now_us=now_us)


async def tell(tx: store.Transaction, change: tickets.Change, *, targets: Collection[str], now_us: int) -> None:
    """Adds to history and outbox."""
    await stored.tell(tx, change.ticket.number, change.news)
    made = [
        outbox.Event(one.event_id, one.type, now_us, one.payload, change.ticket.call_id, change.ticket.revision)
        for one in ticketdocs.told(change)
    ]
    await outbox.add(tx, made, targets)


async def add_new(
    tx: store.Transaction, ticket: tickets.Ticket, terms: tickets.Terms, *, targets: Collection[str], now_us: int
) -> tickets.Ticket | None:
    """Stores and tells a new ticket. None: its caller has an open one, or it was there before."""
    change = tickets.opened(ticket, terms)
    made = await stored.add(tx, change.ticket)
    if made is None:
        return None
    await tell(tx, tickets.Change(made, change.news), targets=targets, now_us=now_us)
    return await with_earlier_tries(tx, made, terms, targets=targets, now_us=now_us)


async def with_earlier_tries(
    tx: store.Transaction, ticket: tickets.Ticket, terms: tickets.Terms, *, targets: Collection[str], now_us: int
) -> tickets.Ticket:
    """Counts calls to the caller that were stored before the miss was read, as with several nodes."""
    if ticket.caller is None:
        return ticket
    for text in await stored.later_tries(tx, ticket.caller, ticket.opened_us):
        record = json.loads(text)
        if ticket.is_open and ticketcauses.is_attempt(record):
            at_us = records.at_us(record["started_at"])
            ticket = await count_try(tx, ticket, terms, record, at_us, None, targets=targets, now_us=now_us)
    return ticket


async def count_try(
    tx: store.Transaction,
    ticket: tickets.Ticket,
    terms: tickets.Terms,
    record: Mapping[str, Any],
    at_us: int,
    agent: str | None,
    *,
    targets: Collection[str],
    now_us: int,
) -> tickets.Ticket:
    """An outbound call that nobody answered, told by its record."""
    change = tickets.attempted(
        ticket, terms, at_us, actor=actor_of(record, agent), call_id=record["call_id"], text=record["outcome"]
    )
    await stored.note_part(tx, record["call_id"], ticket.number, ATTEMPT, at_us)
    await keep(tx, change, targets=targets, now_us=now_us)
    return change.ticket


def actor_of(record: Mapping[str, Any], agent: str | None) -> str:
    """Who made an outbound call."""
    if agent is not None:
        return f"agent:{agent}"
    extension = record["caller"]["raw"]
    return f"phone:{extension}" if extension else tickets.SYSTEM
