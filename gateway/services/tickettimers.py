"""What time alone does to tickets: reminds, escalates, closes what was tried in vain (R30, N8).

What is due is found by query and done in a transaction each, so that a crash loses and doubles nothing, and several
processes can do it beside each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from gateway import log, store
from gateway.core import book, ticketduty, tickets
from gateway.services import ticketkeeping, ticketowners
from gateway.store import tickets as stored

_log = log.get("tickets")


class Timers:
    """`run` is a root task. `is_current`: whether the journal is read up to now; until then nothing is due, for the
    call that answers a ticket may still be to come."""

    def __init__(
        self,
        database: store.Database,
        *,
        in_force: Callable[[], book.Book | None],
        targets: Collection[str],
        now_us: Callable[[], int],
        events_added: Callable[[], None] = lambda: None,
        is_current: Callable[[], bool] = lambda: True,
        poll_seconds: float = 5.0,
    ) -> None:
        self._database = database
        self._in_force = in_force
        self._targets = targets
        self._now_us = now_us
        self._events_added = events_added
        self._is_current = is_current
        self._poll_seconds = poll_seconds
        self.waiting: dict[str, int] = {}
        """Tickets that are not closed, by state, as last looked at."""
        self.done: dict[str, int] = {"reminded": 0, "escalated": 0, "closed": 0}
        """Since the start."""

    async def run(self) -> None:
        """Never returns; without the database tickets wait."""
        while True:
            try:
                await self.step()
            except store.StoreUnavailable as error:
                _log.warning("tickets not looked at, will be tried again", error=str(error))
            await asyncio.sleep(self._poll_seconds)

    async def step(self) -> int:
        """Does what is due; returns how many tickets changed."""
        changed = 0
        while self._is_current():
            async with self._database.read() as connection:
                due = await stored.due(connection, self._now_us())
            done = [await self._one(number) for number in due]
            changed += sum(done)
            # What another process is at is its to finish.
            if not any(done):
                break
        async with self._database.read() as connection:
            self.waiting = await stored.counts(connection)
        if changed:
            self._events_added()
        return changed

    async def _one(self, number: int) -> bool:
        async with self._database.begin() as tx:
            now_us = self._now_us()
            ticket = await stored.take_due(tx, number, now_us)
            if ticket is None:
                return False
            change = await self._owned(tx, tickets.tick(ticket, now_us), now_us)
            await ticketkeeping.keep(tx, change, targets=self._targets, now_us=now_us)
        for news in change.news:
            if news.what.value in self.done:
                self.done[news.what.value] += 1
        if any(news.what is tickets.What.ESCALATED for news in change.news):
            _log.warning(
                "a caller was not called back in time",
                ticket=number,
                route=ticket.route,
                owner=change.ticket.owner,
                attempts=ticket.attempts,
                wanted=ticket.wanted,
            )
        return bool(change.news)

    async def _owned(self, tx: store.Transaction, change: tickets.Change, now_us: int) -> tickets.Change:
        """Gives an escalated ticket to whom the route names. Any other that is due, and nobody there's, to somebody who
        is: a reminder that nobody reads reminds nobody."""
        whats = {news.what for news in change.news}
        if not whats & {tickets.What.ESCALATED, tickets.What.REMINDED}:
            return change
        current = self._in_force()
        route = current.routes.get(change.ticket.route or "") if current is not None else None
        to = ticketduty.rules_of(route).escalate_to if tickets.What.ESCALATED in whats else None
        to = to or await ticketowners.instead(tx, change.ticket, route, current, now_us)
        return change if to is None else tickets.handed_on(change, to)
