"""A journal folder with a tracker on it: what Asterisk and the daemon are to each other, without either."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway import store
from gateway.core import book
from gateway.pbx import journal, journalfiles
from gateway.senders import jsonlines
from gateway.services import forgotten
from gateway.services import tracker as tracker_
from gateway.store import calls as stored_calls
from gateway.store import journal as stored_journal
from gateway.store import keyring, outbox, receipts, signatures

NODE = "node-1"


class Desk:
    """Writes journal rows as Asterisk does and runs a tracker, which `crash` throws away at any moment.

    `now_us` is the clock: the time of the last row written, and what a test adds.
    """

    def __init__(
        self,
        database: store.Database,
        folder: Path,
        *,
        routing_book: book.Book | None = None,
        max_rows: int = 500,
        signer: signatures.Signer | None = None,
        ring: keyring.KeyRing | None = None,
    ) -> None:
        self.database = database
        self.live = folder / journalfiles.LIVE_NAME
        self.folder = folder
        self.now_us = 0
        self.alive: tracker_.Alive | None = None
        self.shown: list[Mapping[str, Any]] = []
        self.restored: list[Mapping[str, Any]] = []
        self._book = routing_book
        self._max_rows = max_rows
        self.signer = signer
        self._ring = ring
        self._tracker: tracker_.Tracker | None = None

    def write(self, rows: bytes) -> None:
        """Append, and put the clock to 50 ms after the last row."""
        with self.live.open("ab") as file:
            file.write(rows)
        for line in rows.splitlines():
            parsed = journal.parse_line(line)
            if not isinstance(parsed, journal.Damaged):
                self.now_us = max(self.now_us, parsed.at_us + 50_000)

    async def tracker(self) -> tracker_.Tracker:
        """The one that runs; a new one takes up what the store holds."""
        if self._tracker is None:
            async with self.database.read() as connection:
                files = await stored_journal.files(connection, NODE)
            self._reader = journalfiles.JournalReader(
                self.folder, progress=tracker_.progress(files), max_rows=self._max_rows
            )
            self._tracker = tracker_.Tracker(
                self.database,
                self._reader,
                node=NODE,
                book_of=self._book_of,
                outlets=tracker_.Outlets(self.shown.append, lambda: None, [jsonlines.TARGET]),
                alive=self._alive,
                now_us=lambda: self.now_us,
                signer=self.signer,
                erased=forgotten.Forgotten(self.database, self._ring) if self._ring is not None else None,
            )
            self.restored = await self._tracker.restore()
        return self._tracker

    def crash(self) -> None:
        """SIGKILL: what was in memory is gone."""
        self._tracker = None

    async def read(self) -> None:
        """Take in all that the journal holds; a line without its end is left."""
        running = await self.tracker()
        unread = -1
        while await running.step() or self._reader.unread_bytes() not in (0, unread):
            unread = self._reader.unread_bytes()
        # Once more, for what is due without a new row.
        await running.step()

    async def _book_of(self, _: int | None) -> book.Book | None:
        return self._book

    async def _alive(self) -> tracker_.Alive | None:
        return self.alive

    # -- what came of it -------------------------------------------------------------------------------------------

    async def records(self) -> list[dict[str, Any]]:
        """All records, the oldest call first."""
        found = [row async for row in stored_calls.export(self.database, stored_calls.CallFilter())]
        return [json.loads(row.record) for row in reversed(found)]

    async def record(self) -> dict[str, Any]:
        """The only one."""
        (record,) = await self.records()
        return record

    async def events(self) -> list[outbox.Event]:
        """All events, in the order of their writing."""
        async with self.database.read() as connection:
            return [event for _, event in await outbox.after(connection, 0, limit=100_000)]

    async def told(self) -> dict[str, list[str]]:
        """Types of the events of each call, in order."""
        found: dict[str, list[str]] = {}
        for event in await self.events():
            found.setdefault(event.call_id or "", []).append(event.type)
        return found

    async def receipts(self) -> list[receipts.Signed]:
        """All receipts, by call id."""
        async with self.database.read() as connection:
            return await receipts.page(connection)

    async def open_rows(self) -> int:
        """Lines kept of calls that are up."""
        async with self.database.read() as connection:
            rows = await stored_journal.open_rows(connection, NODE)
        return sum(len(row.line.splitlines()) for row in rows)
