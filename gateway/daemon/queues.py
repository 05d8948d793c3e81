"""What waits for each receiver, for `/metrics`: read from the database when somebody scrapes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

from gateway import store
from gateway.store import outbox
from gateway.web import metrics

SECONDS = 2.0
"""A scrape waits no longer for the database; what was read last does not count as known then."""
AGAIN_SECONDS = 1.0
"""However often somebody scrapes."""


class Queues:
    """`refresh`, then `read`."""

    def __init__(
        self, database: store.Database, in_force: Callable[[], Collection[str]], now_us: Callable[[], int]
    ) -> None:
        """`in_force`: receivers that have a label of their own."""
        self._database = database
        self._in_force = in_force
        self._now_us = now_us
        self._found: dict[str, metrics.Queue] = {}
        self._next = 0.0

    async def refresh(self) -> None:
        """Reads anew."""
        if time.monotonic() < self._next:
            return
        try:
            async with asyncio.timeout(SECONDS), self._database.read() as connection:
                standings = await outbox.standings(connection)
        except (store.StoreUnavailable, TimeoutError):
            self._found = {}
            return
        self._found = self._made(standings)
        self._next = time.monotonic() + AGAIN_SECONDS

    def read(self) -> dict[str, metrics.Queue]:
        """By receiver; empty while the database does not answer."""
        return self._found

    def waiting(self) -> float | None:
        """Of all together."""
        return sum(one.waiting for one in self._found.values()) if self._found else None

    def _made(self, standings: dict[str, outbox.Standing]) -> dict[str, metrics.Queue]:
        now_us, known = self._now_us(), self._in_force()
        found = {target: metrics.Queue(0, 0.0, 0) for target in known}
        for target, one in standings.items():
            label = target if target in found else metrics.OTHER
            before = found.get(label, metrics.Queue(0, 0.0, 0))
            age = max(0, now_us - one.oldest_us) / 1_000_000 if one.oldest_us is not None else 0.0
            found[label] = metrics.Queue(
                before.waiting + one.waiting, max(before.oldest_seconds, age), before.dead + one.dead
            )
        return found
