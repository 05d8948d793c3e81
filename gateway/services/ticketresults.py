"""What an agent keyed in after a call-back, put down in its ticket: once, whatever is read again (R18, R37)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway import store
from gateway.core import book, callingback, ticketduty, tickets
from gateway.services import filing, ticketkeeping
from gateway.store import tickets as stored


async def file(
    tx: store.Transaction,
    filed: Sequence[filing.Filed],
    in_force: book.Book | None,
    *,
    targets: Collection[str],
    now_us: int,
) -> None:
    """Behind what the calls themselves did: a call-back that reached the customer has closed its ticket, and may open
    it again by key."""
    keyed = {one.row.call_id: one for one in filed if (one.document.get("callback") or {}).get("result")}
    if not keyed:
        return
    done = await stored.parts(tx, list(keyed))
    for call_id, one in keyed.items():
        number, part = done.get(call_id, (0, ""))
        said = one.document["callback"]
        if part == ticketkeeping.KEYED or number not in (0, said["ticket"]):
            continue
        ticket = await stored.by_number(tx, said["ticket"], alone=True)
        if ticket is None:
            continue
        route = None if in_force is None else in_force.routes.get(ticket.route or "")
        actor = ticketkeeping.actor_of(one.document, one.document["agent"])
        result, at_us = callingback.Result(said["result"]), one.row.last_row_us
        if result is callingback.Result.AGAIN and await _has_another(tx, ticket):
            change = tickets.noted(ticket, f"keyed: {result.value}", at_us, actor=actor)
        else:
            change = callingback.keyed(ticket, ticketduty.terms(route, in_force), result, at_us, actor=actor)
        await stored.note_part(tx, call_id, ticket.number, ticketkeeping.KEYED, one.row.last_row_us)
        await ticketkeeping.keep(tx, change, targets=targets, now_us=now_us)


async def _has_another(tx: store.Transaction, ticket: tickets.Ticket) -> bool:
    """Whether the customer of a closed ticket was missed once more since: one has one open ticket."""
    if ticket.is_open or ticket.caller is None:
        return False
    return await stored.open_of(tx, ticket.caller) is not None
