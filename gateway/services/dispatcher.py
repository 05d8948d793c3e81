"""Delivers events from the outbox to the JSON-lines file, in order per call, at least once.

A row is claimed, the line written and synced, the row settled. A crash between the last two would write a line again:
so a delivery that is tried again is looked for in the end of the file first.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from gateway import store
from gateway.store import outbox

log = structlog.get_logger()

TARGET = "jsonl"
LEASE_US = 30_000_000
BATCH = 500
_TAIL_BYTES = 4_000_000

NowUs = Callable[[], int]


class Dispatcher:
    """Polls the outbox every `poll_seconds`; `wake` makes it look at once, but not more often than `gather_seconds`:
    ten events cost little more than one."""

    def __init__(
        self,
        database: store.Database,
        *,
        path: Path,
        rotate_bytes: int,
        now_us: NowUs,
        poll_seconds: float = 0.5,
        gather_seconds: float = 0.3,
    ) -> None:
        self._database = database
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._now_us = now_us
        self._poll_seconds = poll_seconds
        self._gather_seconds = gather_seconds
        self._wake = asyncio.Event()
        self.problem: str | None = None
        """Why the last delivery failed; None = all is well."""
        self.waiting = 0
        """Events not yet delivered, when the outbox was last looked at."""

    def wake(self) -> None:
        """There may be something to deliver."""
        self._wake.set()

    async def run(self) -> None:
        """Never returns; a full disk or a locked database is waited out."""
        while True:
            try:
                delivered = await self._deliver_whole()
                self.problem = None
            except (OSError, store.StoreUnavailable) as error:
                delivered = 0
                if self.problem is None:
                    log.error("events not delivered, will be tried again", target=TARGET, error=str(error))
                self.problem = str(error)
                await asyncio.sleep(self._poll_seconds)
            if delivered < BATCH:
                await asyncio.sleep(self._gather_seconds)
                await self._wait()

    async def _deliver_whole(self) -> int:
        """As `deliver`; cancelled, it ends what it has begun: a claim left behind would hold its events, and those that
        follow them, until its lease is over."""
        work = asyncio.ensure_future(self.deliver())
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.gather(work, return_exceptions=True)
            raise

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._poll_seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def deliver(self) -> int:
        """Delivers what is due once; returns how many events it was."""
        is_told = self._wake.is_set() and self.problem is None
        if not is_told and not await self._count():
            return 0
        self._wake.clear()
        now_us = self._now_us()
        async with self._database.begin() as tx:
            claimed = await outbox.claim(tx, TARGET, limit=BATCH, now_us=now_us, lease_us=LEASE_US, in_order=True)
        if not claimed:
            return 0
        await asyncio.to_thread(self._append, claimed)
        async with self._database.begin() as tx:
            await outbox.settle(tx, claimed, now_us=self._now_us())
        if len(claimed) < BATCH:
            self.waiting = 0
        return len(claimed)

    async def _count(self) -> int:
        """How many events wait; not asked when somebody has just said that there are some."""
        async with self._database.read() as connection:
            self.waiting = await outbox.pending_count(connection, TARGET)
        return self.waiting

    def _append(self, deliveries: Sequence[outbox.Delivery]) -> None:
        # Before the rotation: what a crash left unsettled may have been what filled the file.
        written = self._written() if any(delivery.attempts > 1 for delivery in deliveries) else frozenset()
        self._rotate()
        lines = [
            delivery.event.payload.encode() + b"\n"
            for delivery in deliveries
            if delivery.attempts == 1 or delivery.event.event_id not in written
        ]
        with self._path.open("ab") as file:
            if file.tell() and not self._ends_with_newline():
                # A full disk cut the last line; what stands there is not taken for an event.
                file.write(b"\n")
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())

    def _ends_with_newline(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _written(self) -> frozenset[str]:
        """Ids of the events in the end of the file and of the one before it. A line that a crash or a full disk cut
        is no JSON and does not count, also when a later one has been written behind it."""
        passed = max(
            self._path.parent.glob(f"{self._path.name}.*"), key=lambda path: path.stat().st_mtime_ns, default=None
        )
        found: set[str] = set()
        for path in (passed, self._path):
            if path is None or not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                for line in file:
                    with suppress(ValueError, KeyError, TypeError):
                        found.add(json.loads(line)["id"])
        return frozenset(found)

    def _rotate(self) -> None:
        if self._path.exists() and self._path.stat().st_size >= self._rotate_bytes:
            self._path.replace(self._path.with_name(f"{self._path.name}.{self._now_us()}"))
