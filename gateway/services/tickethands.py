"""What people do with tickets, from page, API and command line: assign, note, attempt, close, reopen (R18, R37).

Each is one transaction, with its entry in the history and its event.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from gateway import store
from gateway.core import book, ticketduty, tickets
from gateway.services import ticketkeeping
from gateway.store import tickets as stored

LONGEST_NOTE = 2_000
_T = TypeVar("_T")


class NoSuchTicket(LookupError):
    """There is no ticket of this number."""


class Hands:
    """All raise NoSuchTicket, `tickets.Refused` (it cannot be done now; the text says why) and StoreUnavailable.

    `actor`: `token:NAME`, `user:NAME` or `agent:KEY`. All give the ticket as it is afterwards.
    """

    def __init__(
        self,
        database: store.Database,
        *,
        in_force: Callable[[], book.Book | None],
        targets: Collection[str],
        now_us: Callable[[], int],
        events_added: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._in_force = in_force
        self._targets = targets
        self._now_us = now_us
        self._events_added = events_added

    async def assign(self, number: int, owner: str | None, *, actor: str) -> tickets.Ticket:
        """It is this agent's now; None: nobody's. Refused for an agent that the routing does not know."""
        current = self._in_force()
        if owner is not None and (current is None or owner not in current.agents):
            raise tickets.Refused(f"there is no agent '{owner[:40]}'")
        return await self._change(number, lambda ticket: tickets.assigned(ticket, owner, self._now_us(), actor=actor))

    async def note(self, number: int, text: str, *, actor: str) -> tickets.Ticket:
        """Writes something down."""
        said = written(text)
        if said is None:
            raise tickets.Refused("the note is empty")
        return await self._change(number, lambda ticket: tickets.noted(ticket, said, self._now_us(), actor=actor))

    async def attempt(self, number: int, *, reached: bool, text: str = "", actor: str) -> tickets.Ticket:
        """Somebody called, by a phone that Dialmark does not see. `reached`: and spoke to the caller."""
        said = written(text)

        def change(ticket: tickets.Ticket) -> tickets.Change:
            now_us = self._now_us()
            if not reached:
                return tickets.attempted(ticket, self._terms(ticket), now_us, actor=actor, text=said)
            return tickets.reached(ticket, now_us, tickets.Result.CALLED_BACK, actor=actor, text=said, is_attempt=True)

        return await self._change(number, change)

    async def close(self, number: int, result: tickets.Result, *, text: str = "", actor: str) -> tickets.Ticket:
        """Closes it. Refused for a result that only the product gives."""
        if result not in tickets.BY_HAND:
            raise tickets.Refused(f"a ticket is closed as {', '.join(one.value for one in tickets.BY_HAND)}")
        said = written(text)
        return await self._change(
            number, lambda ticket: tickets.closed(ticket, result, self._now_us(), actor=actor, text=said)
        )

    async def reopen(self, number: int, *, text: str = "", actor: str) -> tickets.Ticket:
        """Takes it up again, with a new clock. Refused while the caller has another open one."""
        said = written(text)
        async with self._database.begin() as tx:
            ticket = await self._found(tx, number)
            change = tickets.reopened(ticket, self._terms(ticket), self._now_us(), actor=actor, text=said)
            other = await stored.open_of(tx, ticket.caller) if ticket.caller is not None else None
            if other is not None:
                raise tickets.Refused(f"the caller has ticket {other.number} open")
            await ticketkeeping.keep(tx, change, targets=self._targets, now_us=self._now_us())
        self._events_added()
        return change.ticket

    async def _change(self, number: int, change: Callable[[tickets.Ticket], tickets.Change]) -> tickets.Ticket:
        async with self._database.begin() as tx:
            made = change(await self._found(tx, number))
            await ticketkeeping.keep(tx, made, targets=self._targets, now_us=self._now_us())
        self._events_added()
        return made.ticket

    async def _found(self, tx: store.Transaction, number: int) -> tickets.Ticket:
        ticket = await stored.by_number(tx, number, alone=True)
        if ticket is None:
            raise NoSuchTicket(number)
        return ticket

    def _terms(self, ticket: tickets.Ticket) -> tickets.Terms:
        current = self._in_force()
        route = current.routes.get(ticket.route or "") if current is not None else None
        return ticketduty.terms(route, current)


def written(text: str) -> str | None:
    """A note as it is kept: without control characters but line ends, cut; None when nothing is left."""
    kept = "".join(one for one in text.replace("\r\n", "\n") if one.isprintable() or one == "\n").strip()
    return kept[:LONGEST_NOTE] or None
