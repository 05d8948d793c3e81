"""Taking in what calls cost (R8, R70, R105): all rows of a request or a file, or none of them.

A file is judged whole before anything is written, then goes in pieces (`services/dealing`). A row that says what is
known already changes nothing. What changes a day that is over marks it as restated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from gateway import store
from gateway.core import book, costs
from gateway.services import dealing
from gateway.store import audit, restated
from gateway.store import costs as stored_costs

MAX_RESTATED = 400
"""Days back that a late wage marks."""
MAX_AHEAD = 366
"""Days ahead that something can be entered for: a year later is a slip of the pen, and stands in no report."""
_MARKED = {costs.SPEND.name: restated.SPEND, costs.WAGES.name: restated.WAGES, costs.HOURS.name: restated.WAGES}


@dataclass(frozen=True, slots=True)
class Done:
    """Rows that changed something, and rows that said nothing new."""

    changed: int
    unchanged: int


async def take(
    database: store.Database,
    kind: costs.Kind,
    asked: Sequence[tuple[int, Mapping[str, object]]],
    *,
    current: book.Book | None,
    by: str,
    now_us: int,
    is_sheet: bool = False,
    dry_run: bool = False,
    is_audited: bool = False,
    told: Callable[[int], None] = lambda done: None,
) -> Done:
    """Takes all rows (place and values) or none. `is_audited` writes an audit row of what changed. Raises
    `dealing.Refused`, StoreUnavailable."""
    zone = ZoneInfo(current.default_site.time_zone if current is not None else "UTC")
    today = dealing.day_of(now_us, zone)
    read = await _read(kind, asked, costs.Known.of(current), is_sheet, told, today)
    # In the order of their days, so that a piece looks at few of them.
    rows = sorted((row for _, row in read), key=lambda row: row.key)
    done = Done(0, 0)
    for start in range(0, len(rows), dealing.PIECE):
        if start and not dry_run:
            await database.give_way()
        taking = _Taking(database, kind, rows[start : start + dealing.PIECE], by, now_us, today)
        changed, unchanged = await (taking.judged() if dry_run else taking.written(is_audited))
        done = Done(done.changed + changed, done.unchanged + unchanged)
    return done


@dataclass(frozen=True, slots=True)
class _Taking:
    """A piece."""

    database: store.Database
    kind: costs.Kind
    rows: Sequence[costs.Row]
    by: str
    now_us: int
    today: int

    async def judged(self) -> tuple[int, int]:
        async with self.database.read() as connection:
            changed = await self._changed(connection)
        return len(changed), len(self.rows) - len(changed)

    async def written(self, is_audited: bool) -> tuple[int, int]:
        async with self.database.begin() as tx:
            await stored_costs.lock(tx)
            changed = await self._changed(tx)
            if changed:
                await stored_costs.save(tx, changed, by=self.by, now_us=self.now_us)
                late = [(day, "") for row in changed for day in _days(row, self.today)]
                await restated.mark(tx, late, _MARKED[self.kind.name], now_us=self.now_us)
                if is_audited:
                    await self._write_down(tx, len(changed))
        return len(changed), len(self.rows) - len(changed)

    async def _changed(self, connection: store.Connection) -> list[costs.Row]:
        known = await stored_costs.existing(connection, self.rows)
        with_parts = {one.key[:3] for one in known.values() if isinstance(one, costs.Spend) and one.entry}
        return [row for row in self.rows if known.get(row.key) != row or _ends_parts(row, with_parts)]

    async def _write_down(self, tx: store.Transaction, rows: int) -> None:
        subject, details = f"costs:{self.kind.name}", {"rows": rows}
        await audit.append(
            tx, at_us=self.now_us, actor=self.by, action="costs.changed", subject=subject, details=details
        )


async def _read(
    kind: costs.Kind,
    asked: Sequence[tuple[int, Mapping[str, object]]],
    known: costs.Known,
    is_sheet: bool,
    told: Callable[[int], None],
    today: int,
) -> list[tuple[int, costs.Row]]:
    rows: list[tuple[int, costs.Row]] = []
    problems: list[dealing.Problem] = []
    for number, (place, values) in enumerate(asked, 1):
        read = costs.read(kind, values, known, is_sheet=is_sheet)
        if isinstance(read, list):
            problems += [dealing.Problem(place, wrong.field, wrong.message) for wrong in read]
        else:
            rows.append((place, read))
        told(number)
        if number % 100 == 0:
            # A file that a page sends is read in the loop that calls wait for.
            await asyncio.sleep(0)
        if len(problems) > dealing.MAX_PROBLEMS:
            break
    problems += [dealing.Problem(place, wrong.field, wrong.message) for place, wrong in costs.doubled(rows)]
    problems += _far_days(rows, today)
    if problems:
        raise dealing.Refused(problems)
    return rows


def _far_days(rows: Sequence[tuple[int, costs.Row]], today: int) -> list[dealing.Problem]:
    last = _date(today) + timedelta(days=MAX_AHEAD)
    found = []
    for place, row in rows:
        name, day = ("from_day", row.from_day) if isinstance(row, costs.Wage) else ("day", row.day)
        if _date(day) > last:
            found.append(dealing.Problem(place, name, f"lies more than {MAX_AHEAD} days ahead"))
    return found


def _days(row: costs.Row, today: int) -> list[int]:
    """Days that are over and whose figures the row changes: of a wage all from its first on."""
    if not isinstance(row, costs.Wage):
        return [row.day] if row.day < today else []
    first, last = _date(row.from_day), _date(today) - timedelta(days=1)
    first = max(first, last - timedelta(days=MAX_RESTATED))
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [day.year * 10_000 + day.month * 100 + day.day for day in days]


def _date(day: int) -> date:
    return date(day // 10_000, day // 100 % 100, day % 100)


def _ends_parts(row: costs.Row, with_parts: set[tuple[object, ...]]) -> bool:
    """A whole amount that is the same changes the day all the same where parts stand beside it."""
    return isinstance(row, costs.Spend) and not row.entry and row.key[:3] in with_parts
