"""Long files: judged whole, written in pieces between which others write, and run again when they broke off (R16)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import text

from gateway import store
from gateway.core import costs
from gateway.services import costing, dealing
from gateway.store import calls, forgetting
from tests.services.importing_process import said
from tests.services.test_dealing import CRM, DAY_US, file, row
from tests.store import examples
from tests.web import material

ROWS = 2 * dealing.PIECE + 10
BY = dealing.Source("cli:anna", "csv")
NOW_US = examples.NOON + DAY_US


@pytest.fixture
async def busy(database: store.Database) -> store.Database:
    """So many calls."""
    await file(database, *(row(number) for number in range(ROWS)))
    return database


async def take(
    database: store.Database,
    values: Sequence[dict[str, object]],
    between: Callable[[], None] = lambda: None,
    **how: Any,
) -> dealing.Done:
    takes = dealing.Dealing(
        database, current_book=material.routing_book, targets=[CRM], now_us=lambda: NOW_US, events_added=between
    )
    return await takes.take([dealing.Asked(place, one) for place, one in enumerate(values)], BY, is_sheet=True, **how)


async def count(database: store.Database, what: str) -> int:
    async with database.read() as connection:
        found: int = (await connection.execute(text(f"SELECT count(*) FROM {what}"))).scalar_one()
    return found


async def test_others_write_between_two_pieces(busy: store.Database) -> None:
    """No transaction is longer than a piece, and nobody is locked out from one to the next."""
    seen: list[int] = []
    writing: set[asyncio.Task[None]] = set()

    async def write() -> None:
        async with busy.begin() as tx:
            seen.append((await tx.execute(text("SELECT count(*) FROM call_results"))).scalar_one())

    def between() -> None:
        writing.add(asyncio.create_task(write()))

    done = await take(busy, [said(number) for number in range(ROWS)], between)
    await asyncio.gather(*writing)
    assert (done.changed, done.unchanged, len(done.call_ids)) == (ROWS, 0, ROWS)
    assert seen == [dealing.PIECE, 2 * dealing.PIECE, ROWS]
    assert await count(busy, "deliveries") == ROWS


async def test_one_wrong_line_at_the_end_and_nothing_is_written(busy: store.Database) -> None:
    """Whether it cannot be read, has no call, or only shows itself beside the others."""
    good = [said(number) for number in range(ROWS - 1)]
    wrongs: list[dict[str, object]] = [{"call_id": "none"}, said(ROWS), {**said(ROWS - 1), "deal_id": "D-0"}]
    for wrong in wrongs:
        with pytest.raises(dealing.Refused) as caught:
            await take(busy, [*good, wrong])
        assert (len(caught.value.problems), caught.value.taken) == (1, 0)
        assert await count(busy, "call_results") == await count(busy, "events") == 0


async def test_what_came_in_between_is_told_with_what_was_taken(busy: store.Database) -> None:
    """A caller of the second piece is erased while the first is written."""
    last = examples.call_id(ROWS - 1)
    erasing: set[asyncio.Task[None]] = set()

    async def erase() -> None:
        async with busy.begin() as tx:
            found = await calls.get(tx, last)
            assert found is not None
            await forgetting.forget(tx, [found], "erased-1", why=forgetting.ERASURE, now_us=NOW_US)

    with pytest.raises(dealing.Refused) as caught:
        await take(busy, [said(number) for number in range(ROWS)], lambda: erasing.add(asyncio.create_task(erase())))
    await asyncio.gather(*erasing)
    (problem,) = caught.value.problems
    assert (problem.place, caught.value.taken) == (ROWS - 1, 2 * dealing.PIECE)
    assert await count(busy, "call_results") == 2 * dealing.PIECE
    left = [said(number) for number in range(ROWS - 1)]
    done = await take(busy, left)
    assert (done.changed, done.unchanged) == (9, 2 * dealing.PIECE)


async def test_a_dry_run_asks_for_no_lock(busy: store.Database) -> None:
    """It may run while somebody else writes."""
    values = [said(number) for number in range(ROWS)]
    async with busy.begin():
        assert (await take(busy, values, dry_run=True)).changed == ROWS
    assert await count(busy, "call_results") == 0


async def test_killed_in_the_middle_and_run_again(busy: store.Database, database_url: str) -> None:
    """SIGKILL after the second piece: whole pieces are there, the second run takes the rest, nothing counts twice."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.services.importing_process", database_url, str(ROWS)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert (await process.stdout.readline()).strip() == b"piece"
    process.stdin.write(b"\n")
    assert (await process.stdout.readline()).strip() == b"piece"
    process.kill()
    await process.communicate()
    taken = 2 * dealing.PIECE
    assert await count(busy, "call_results") == taken
    done = await take(busy, [said(number) for number in range(ROWS)])
    assert (done.changed, done.unchanged) == (ROWS - taken, taken)
    for table in ("call_results", "result_changes", "events", "deliveries"):
        assert await count(busy, table) == ROWS, table


async def test_spend_goes_in_pieces_too(database: store.Database) -> None:
    """A whole amount still takes the parts of its day away, wherever in the file it stands."""
    source = next(iter(material.routing_book().sources))

    def spent(number: int, **more: object) -> tuple[int, dict[str, object]]:
        said = {"day": "2026-09-20", "source": source, "campaign": f"c{number}", "amount": "1.5", "currency": "EUR"}
        return number, {**said, **more}

    async def bring(rows: Sequence[tuple[int, dict[str, object]]], **how: Any) -> costing.Done:
        book = material.routing_book()
        return await costing.take(database, costs.SPEND, rows, current=book, by="cli:anna", now_us=NOW_US, **how)

    parts = [spent(number, entry="bill") for number in range(ROWS)]
    assert await bring(parts, dry_run=True) == costing.Done(ROWS, 0)
    assert await count(database, "spend") == 0
    assert await bring(parts) == costing.Done(ROWS, 0)
    assert await bring(parts) == costing.Done(0, ROWS)
    assert await bring([spent(number) for number in range(ROWS)]) == costing.Done(ROWS, 0)
    assert await count(database, "spend") == ROWS
