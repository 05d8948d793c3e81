"""Whispers about visitors, made before they call (C7, R91): source, campaign and keyword of whoever is lent a number.

A call never waits for speech. So when a number is lent, what an agent would hear if its visitor called is worked out,
and handed to who makes whispers; campaigns repeat, so most are there already. A visitor who calls faster than that gets
the longest shorter text that is ready, or the generic one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway import store
from gateway.core import book, handling, plans, prompts, routing
from gateway.services import attributing

MAX_WAITING = 200
"""Visitors not looked at yet; of more the latest."""
GATHER_SECONDS = 0.5
RETRY_SECONDS = 5.0

Expect = Callable[[tuple[prompts.Wanted, ...]], None]
"""Told the choices of a whisper that may be wanted. Must not block."""


class Rehearsing:
    """`run` is a root task; `lent` is told by who lends numbers."""

    def __init__(self, database: store.Database, *, expect: Expect, now_us: Callable[[], int]) -> None:
        self._database = database
        self._expect = expect
        self._now_us = now_us
        self._book: book.Book | None = None
        self._waiting: dict[tuple[str, str], None] = {}
        self._asked = asyncio.Event()

    def use(self, routing_book: book.Book) -> None:
        """Whispers as this book says from now on."""
        self._book = routing_book

    def lent(self, number: str, visitor_id: str) -> None:
        """A visitor is shown a number (E.164 with `+`). Never blocks."""
        if self._book is None or not routing.look_ups(number.removeprefix("+"), self._book).visitor:
            return
        self._waiting.pop((number, visitor_id), None)
        self._waiting[number, visitor_id] = None
        if len(self._waiting) > MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._asked.set()

    async def run(self) -> None:
        """Never returns."""
        while True:
            await self._asked.wait()
            await asyncio.sleep(GATHER_SECONDS)
            try:
                await self.step()
            except store.StoreUnavailable:
                # Nobody misses a whisper that was not made; the next visitor is looked at again.
                await asyncio.sleep(RETRY_SECONDS)

    async def step(self) -> None:
        """Looks at all visitors who wait. Raises StoreUnavailable."""
        self._asked.clear()
        waiting, self._waiting = list(self._waiting), {}
        if self._book is None or not waiting:
            return
        async with self._database.read() as connection:
            for number, visitor_id in waiting:
                for group in await self._whispers(connection, self._book, number, visitor_id):
                    self._expect(group)

    async def _whispers(
        self, connection: store.Connection, routing_book: book.Book, number: str, visitor_id: str
    ) -> list[tuple[prompts.Wanted, ...]]:
        """For a first and for a repeat caller, where the template tells them apart."""
        known = routing_book.tracking_numbers.get(number.removeprefix("+"))
        if known is None:
            return []
        visitor = await attributing.expected(connection, known, visitor_id, self._now_us(), routing_book)
        route = routing_book.routes[known.route]
        said = [
            handling.whisper_of(route, known, routing_book, plans.History(calls_before=before, visitor=visitor))
            for before in (0, 1)
        ]
        return [group for group in dict.fromkeys(said) if group]
