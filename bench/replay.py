"""`replay`: how fast a journal becomes records, and whether memory stays flat while a million calls pass.

Each part runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TypeVar

from sqlalchemy import delete

from bench import report
from bench.recorded import Calls
from gateway import store, supervision
from gateway.config import routingfile
from gateway.core import book, calls, grouping, numbers
from gateway.core.rows import EventKind, Row
from gateway.pbx import journal, journalfiles
from gateway.services import tracker
from gateway.store import calls as stored_calls
from gateway.store import schema

T = TypeVar("T")

CARRIED = 150.0
"""Calls per second that one Asterisk can carry: what the rates are compared with."""
ROUTING = Path(__file__).resolve().parents[1] / "config" / "routing.example.toml"
PASSES = 3
SEGMENT_LINES = 150_000
"""Per journal file of the memory run: about 10,000 calls."""


@dataclass(frozen=True)
class Rate:
    """Calls, and the wall and CPU seconds they took."""

    calls: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.calls / self.seconds


def measure(*, quick: bool, postgres: str | None) -> report.Measured:
    """Run all parts one after the other."""
    measured = report.Measured("replay")
    fold_calls, caught_calls, long_calls = (4_000, 4_000, 50_000) if quick else (20_000, 20_000, 1_000_000)
    folded = _alone(fold, fold_calls)
    _enter(measured, "fold alone", folded)
    measured.judge("fold_to_carried", folded.per_second / CARRIED, report.at_least, 20)
    caught = _alone(catch_up_sqlite, caught_calls)
    _enter(measured, "catch-up, SQLite", caught)
    measured.judge("catch_up_sqlite_to_carried", caught.per_second / CARRIED, report.at_least, 8)
    if postgres is not None:
        caught = _alone(catch_up_postgres, caught_calls, postgres)
        _enter(measured, "catch-up, PostgreSQL", caught)
        measured.judge("catch_up_postgres_to_carried", caught.per_second / CARRIED, report.at_least, 8)
    used = _alone(memory, long_calls)
    for part, megabytes in used.items():
        measured.figures[f"memory after {part} of {long_calls:,} calls, MB"] = round(megabytes, 1)
    measured.judge("memory_last_to_first_tenth", used["100 %"] / used["10 %"], report.at_most, 1.1)
    return measured


def _enter(measured: report.Measured, name: str, rate: Rate) -> None:
    measured.figures[f"{name}, calls/s"] = round(rate.per_second)
    measured.figures[f"{name}, CPU ms per call"] = round(1_000 * rate.cpu_seconds / rate.calls, 3)
    report.say(f"{name}: {rate.per_second:,.0f} calls/s, {1_000 * rate.cpu_seconds / rate.calls:.3f} ms CPU per call")


def _alone(part: Callable[..., T], *arguments: object) -> T:
    """The part in a process of its own; its progress comes through on stderr."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(part, *arguments).result()


# -- parts ---------------------------------------------------------------------------------------------------------


def fold(count: int) -> Rate:
    """Parse, group and fold; each call is folded when it is over. The median of three passes."""
    lines = list(Calls().lines(count))
    passes = []
    for _ in range(PASSES):
        start, cpu = time.perf_counter(), time.process_time()
        closed = sum(1 for facts in _folded(lines) if facts.is_closed)
        passes.append((time.perf_counter() - start, time.process_time() - cpu))
        if closed != count:
            raise RuntimeError(f"{closed} calls of {count} came out of the fold")
    return Rate(count, median(wall for wall, _ in passes), median(used for _, used in passes))


def _folded(lines: list[bytes]) -> Iterator[calls.CallFacts]:
    groups = grouping.Grouping()
    rows: dict[str, list[Row]] = {}
    for line in lines:
        row = journal.parse_line(line)
        assert isinstance(row, Row)
        key = groups.assign(row)
        if key is None:
            continue
        rows.setdefault(key, []).append(row)
        if row.kind == EventKind.LINKEDID_END:
            facts = calls.fold(rows.pop(key))
            groups.close(key)
            if facts is not None:
                yield facts


def catch_up_sqlite(count: int) -> Rate:
    """The daemon's own tracker, from a journal on disk into a fresh database."""
    with tempfile.TemporaryDirectory(prefix="dialmark-bench-") as folder:
        return asyncio.run(_catch_up(Path(folder), f"sqlite:///{folder}/dialmark.db", count))


def catch_up_postgres(count: int, url: str) -> Rate:
    with tempfile.TemporaryDirectory(prefix="dialmark-bench-") as folder:
        return asyncio.run(_catch_up(Path(folder), url, count))


async def _catch_up(folder: Path, url: str, count: int) -> Rate:
    journal_folder = folder / "journal"
    journal_folder.mkdir()
    _write(journal_folder / journalfiles.LIVE_NAME, Calls().lines(count))
    database = await store.Database.open(url)
    try:
        mine = _tracker(database, journal_folder)
        start, cpu = time.perf_counter(), time.process_time()
        while not mine.is_caught_up:
            await mine.step()
        rate = Rate(count, time.perf_counter() - start, time.process_time() - cpu)
        await _expect(database, count)
        return rate
    finally:
        await database.close()


def _tracker(database: store.Database, folder: Path) -> tracker.Tracker:
    routing_book = routingfile.parse(ROUTING.read_text(), 7)
    # Takes a second to load; the daemon does it at its start.
    numbers.load_regions()
    supervision.spare_collector()

    async def book_of(_: int | None) -> book.Book:
        return routing_book

    async def nobody() -> None:
        return None

    outlets = tracker.Outlets(changed=lambda _: None, events_added=lambda: None, targets=("jsonl",))
    return tracker.Tracker(
        database,
        journalfiles.JournalReader(folder),
        node="bench",
        book_of=book_of,
        outlets=outlets,
        alive=nobody,
        now_us=lambda: time.time_ns() // 1_000,
    )


async def _expect(database: store.Database, count: int) -> None:
    """Every call is one closed record."""
    async with database.read() as connection:
        by_day = await stored_calls.count_by_day(connection, stored_calls.CallFilter(state="closed"))
    if sum(by_day.values()) != count:
        raise RuntimeError(f"{sum(by_day.values())} records of {count} calls")


def _write(path: Path, lines: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        while chunk := list(islice(lines, 10_000)):
            file.write(b"".join(chunk))


def memory(count: int) -> dict[str, float]:
    """Megabytes resident of a tracker with storage after a tenth, a half and all of the calls."""
    with tempfile.TemporaryDirectory(prefix="dialmark-bench-") as folder:
        return asyncio.run(_memory(Path(folder), count))


async def _memory(folder: Path, count: int) -> dict[str, float]:
    """The journal comes in files as a rotation leaves them; what is stored is deleted, or it would fill the disk."""
    journal_folder = folder / "journal"
    journal_folder.mkdir()
    database = await store.Database.open(f"sqlite:///{folder}/dialmark.db")
    try:
        mine = _tracker(database, journal_folder)
        lines = Calls().lines(count)
        marks = {count // 10: "10 %", count // 2: "50 %", count: "100 %"}
        used: dict[str, float] = {}
        start, done = time.perf_counter(), 0
        while done < count:
            done += await _segment(mine, database, journal_folder, lines)
            report.say(f"{done:,} calls, {report.rss_mb():.1f} MB, {done / (time.perf_counter() - start):,.0f} calls/s")
            for mark in [mark for mark in marks if mark <= done]:
                used[marks.pop(mark)] = report.rss_mb()
        return used
    finally:
        await database.close()


async def _segment(mine: tracker.Tracker, database: store.Database, folder: Path, lines: Iterator[bytes]) -> int:
    """Write a journal file, have it read, delete it and its records; returns how many calls were over."""
    path = folder / journalfiles.LIVE_NAME
    _write(path, islice(lines, SEGMENT_LINES))
    mine.is_caught_up = False
    while not mine.is_caught_up:
        await mine.step()
    path.unlink()
    async with database.begin() as tx:
        await tx.execute(delete(schema.events))
        over = await tx.execute(delete(schema.calls).where(schema.calls.c.state == "closed"))
    return over.rowcount
