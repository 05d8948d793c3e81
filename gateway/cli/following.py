"""`calls tail`: records as they are stored, by the events of the outbox.

The database is asked twice a second for events behind the last one seen, which is one look into an index; nothing is
subscribed to, so it works beside any daemon and on any number of terminals.
"""

from __future__ import annotations

import asyncio
import json
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from gateway import store
from gateway.cli import calls as commands
from gateway.cli import context, output, recordtext
from gateway.store import calls, outbox

if TYPE_CHECKING:
    from gateway.config.settings import Settings

POLL_SECONDS = 0.5
PAGE = 500
ENDINGS = frozenset({"call.completed", "call.missed", "call.updated"})
"""Events that carry a record which is over."""


async def tail(settings: Settings, follow: bool, lines: int, form: output.Format) -> None:
    """Print the latest `lines` ended calls, oldest first, then with `follow` each further one until cancelled."""
    async with context.database(settings) as database:
        zone = await context.site_zone(database)
        printer = _Printer(form, zone)
        # The place in the outbox is taken before the list: a call that ends in between is printed twice, never lost.
        seen = await _end(database) if follow else 0
        for row in await _latest(database, lines):
            printer.print(row)
        if follow:
            await _follow(database, seen, printer)


async def _latest(database: store.Database, lines: int) -> list[calls.CallRow]:
    rows: list[calls.CallRow] = []
    cursor = None
    while len(rows) < lines:
        async with database.read() as connection:
            wanted = calls.CallFilter(state="closed")
            page = await calls.list_calls(connection, wanted, after=cursor, limit=min(lines - len(rows), PAGE))
        rows += page.calls
        cursor = page.next
        if cursor is None:
            break
    return rows[::-1]


async def _end(database: store.Database) -> int:
    """Sequence number of the latest event. Doubling and halving: the store tells only what is behind a number."""
    async with database.read() as connection:
        low, high = 0, 1
        while await outbox.after(connection, high, limit=1):
            low, high = high, high * 2
        while low < high:
            middle = (low + high) // 2
            found = await outbox.after(connection, middle, limit=1)
            if found:
                low = found[0][0]
            else:
                high = middle
        return low


async def _follow(database: store.Database, seen: int, printer: _Printer) -> None:
    while True:
        try:
            async with database.read() as connection:
                events = await outbox.after(connection, seen, limit=PAGE)
                for seq, event in events:
                    seen = seq
                    if event.type in ENDINGS and event.call_id:
                        row = await calls.get(connection, event.call_id)
                        if row is not None and row.state == "closed":
                            printer.print(row)
        except store.StoreUnavailable as error:
            output.note(f"waiting for the database: {error}")
            events = []
        if len(events) < PAGE:
            output.refuse_lost_reader()
            await asyncio.sleep(POLL_SECONDS)


class _Printer:
    """One line per record; a call that is printed again unchanged is left out."""

    def __init__(self, form: output.Format, zone: tzinfo) -> None:
        self._form = form
        self._zone = zone
        self._lines: output.CsvLines | None = None
        self._printed: dict[str, str] = {}

    def print(self, row: calls.CallRow) -> None:
        """Print one call."""
        if self._printed.get(row.call_id) == row.content_hash:
            return
        if len(self._printed) > PAGE:
            self._printed.clear()
        self._printed[row.call_id] = row.content_hash
        record: dict[str, Any] = json.loads(row.record)
        match self._form:
            case output.Format.JSON:
                output.json_line(record)
            case output.Format.CSV:
                self._csv(row)
            case output.Format.TABLE:
                print(recordtext.one_line(record, self._zone))
        output.flush()

    def _csv(self, row: calls.CallRow) -> None:
        if self._lines is None:
            self._lines = output.CsvLines([column.key for column in commands.COLUMNS])
        flat = commands.flat(row, self._zone)
        self._lines.write(flat[column.key] for column in commands.COLUMNS)
