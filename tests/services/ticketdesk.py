"""Calls that end, filed by the product's own filer, with tickets; the clock is the test's."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Sequence
from typing import Any

from gateway import store
from gateway.core import book, calls, outcomes, tickets
from gateway.services import filer, tickethands, ticketing, tickettimers
from gateway.store import outbox
from gateway.store import tickets as stored
from tests import journals
from tests.core import books

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
NOON = round(books.WEDNESDAY_NOON.timestamp()) * SECOND
CALLER = "79161234567"
TARGETS = ("webhook:crm",)

MISSED = journals.facts("group_nobody")
_TALK = journals.facts("answered_caller_ends")
ANSWERED = dataclasses.replace(_TALK, attempts=(dataclasses.replace(_TALK.attempts[0], destination="desk-1"),))
OUTBOUND = journals.facts("outbound")


class TicketDesk:
    """One process: what it files, and what it does by hand and by time."""

    def __init__(
        self, database: store.Database, routing_book: book.Book | None = None, *, node: str = "node-1"
    ) -> None:
        self.database = database
        self.book = routing_book if routing_book is not None else books.routing_book()
        self.now_us = NOON
        self.results: list[str] = []
        self._filer = filer.Filer(
            database,
            node=node,
            book_of=self._book_of,
            targets=TARGETS,
            now_us=self._now_us,
            with_region=False,
            signer=None,
            erased=None,
            desk=ticketing.Ticketing(targets=TARGETS, now_us=self._now_us),
        )
        self.hands = tickethands.Hands(database, in_force=lambda: self.book, targets=TARGETS, now_us=self._now_us)
        self.timers = tickettimers.Timers(database, in_force=lambda: self.book, targets=TARGETS, now_us=self._now_us)

    def _now_us(self) -> int:
        return self.now_us

    async def _book_of(self, _: int | None) -> book.Book | None:
        return self.book

    async def end(self, *facts: calls.CallFacts) -> None:
        """These calls are over: one batch of the tracker."""
        changed = [filer.Changed(one, (), filer.Known()) for one in facts]
        papers = await self._filer.prepare(changed)
        async with self.database.begin() as tx:
            await self._filer.hold(tx)
            await self._filer.write(tx, papers)
        self.results += papers.missed

    async def miss(self, caller: str = CALLER, **changes: Any) -> calls.CallFacts:
        """Somebody calls now and nobody takes it."""
        made = call(MISSED, self.now_us, caller=caller, **changes)
        await self.end(made)
        return made

    async def miss_all(self, callers: Sequence[str]) -> None:
        """All of them call now, and nobody takes it: one batch."""
        await self.end(*(call(MISSED, self.now_us, caller=caller) for caller in callers))

    async def talk(self, caller: str = CALLER) -> calls.CallFacts:
        """Somebody calls now and is answered."""
        made = call(ANSWERED, self.now_us, caller=caller)
        await self.end(made)
        return made

    async def ring_back(self, number: str = CALLER, *, answered: bool = False, **changes: Any) -> calls.CallFacts:
        """One of us calls this number now."""
        made = out(self.now_us, number, answered=answered, **changes)
        await self.end(made)
        return made

    async def later(self, seconds_us: int) -> None:
        """Time passes, and the timers look at the end of it."""
        self.now_us += seconds_us
        await self.timers.step()

    async def all(self) -> list[tickets.Ticket]:
        """All tickets, oldest first."""
        async with self.database.read() as connection:
            return list(reversed(await stored.list_tickets(connection, stored.Filter())))

    async def one(self) -> tickets.Ticket:
        """The only ticket."""
        (found,) = await self.all()
        return found

    async def history(self, number: int) -> list[str]:
        """Words of its history."""
        async with self.database.read() as connection:
            return [one.what.value for one in await stored.history(connection, number)]

    async def told(self) -> list[dict[str, Any]]:
        """Events of tickets, in order."""
        async with self.database.read() as connection:
            found = await outbox.after(connection, 0, limit=1000)
        return [json.loads(one.payload) for _, one in found if one.type.startswith("ticket.")]


def call(like: calls.CallFacts, at_us: int, **changes: Any) -> calls.CallFacts:
    """A call like a recorded one, at another time, of its own."""
    shift = at_us - (like.ended_at_us or like.last_row_at_us)
    moved = {
        name: value + shift
        for name in ("started_at_us", "answered_at_us", "ended_at_us", "last_row_at_us", "plan_at_us")
        if (value := getattr(like, name)) is not None
    }
    made = {"call_id": str(uuid.uuid4()), "linked_id": str(uuid.uuid4()), "plan_revision": None, "route": "sales"}
    return dataclasses.replace(like, **{**moved, **made, "did": books.DID, "caller_raw": "", **changes})


def out(at_us: int, number: str, *, answered: bool, **changes: Any) -> calls.CallFacts:
    """An outbound call that ends now."""
    made = call(OUTBOUND, at_us, route=None, did=number, caller="101", caller_raw="101")
    if not answered:
        attempt = dataclasses.replace(
            made.attempts[0],
            outcome=outcomes.AttemptOutcome.NO_ANSWER,
            answered_at_us=None,
            talk_seconds=0.0,
            ring_seconds=20.0,
            sip_code=480,
        )
        made = dataclasses.replace(
            made, outcome=outcomes.Outcome.NO_ANSWER, answered_at_us=None, talk_seconds=0.0, attempts=(attempt,)
        )
    return dataclasses.replace(made, **changes)
