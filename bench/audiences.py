"""`audiences`: a million callers, one call each, half of them with a visit that agreed to advertising: how long the
audience of all and that of the last day take, and how much more memory than one of a thousand callers.

The database is SQLite in a temporary folder, 4 GB of it; a warm one, as it was written just before.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import resource
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench import report
from gateway import store
from gateway.core import audiences
from gateway.services import audiences as exporting
from tests.web import material

DAYS = 500
DAY_US = 86_400_000_000
NOW_US = 1_800_000_000_000_000
CALLS = """
WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :count)
INSERT INTO calls (call_id, node, revision, direction, state, started_us, last_row_us, day_local, hour_local, site, did,
  caller, outcome, missed, wait_seconds, ring_seconds, talk_seconds, hold_seconds, linked_id, unique_id, content_hash,
  attempts_hash, announced, record, updated_us)
SELECT printf('%08x-0000-4000-8000-000000000000', n * 2654435761 % 4294967296), 'main', 1, 'inbound', 'closed',
  :since_us + n * :step_us, 0, 20260101, 12, 'clinic', '+74990000001', printf('+7916%07d', n * 7919 % 10000000),
  'no_answer', 1, 20, 20, 0, 0, n, n, '', '', '', :record, 0
FROM numbers
"""
VISITORS = """
INSERT INTO visitors (visitor_id, site, first_us, seen_us, variables, ids)
SELECT call_id, site, started_us, started_us, '{"ad_consent":"granted"}', '{}' FROM calls WHERE rowid % 2
"""
ATTRIBUTIONS = """
INSERT INTO attributions (call_id, number, kind, at_us, caller, method, confidence, visitor_id)
SELECT call_id, did, 'pool', started_us, caller, 'visitor', 0.9, call_id FROM calls WHERE rowid % 2
"""


@dataclass(frozen=True)
class Took:
    """One export, in a process of its own."""

    seconds: float
    people: int
    memory_mb: float
    """The most that the process had."""


def measure(*, quick: bool) -> report.Measured:
    measured = report.Measured("audiences")
    few, many = (1_000, 50_000) if quick else (1_000, 1_000_000)
    _, least = _exports(few)
    day, everybody = _exports(many)
    measured.figures |= {
        "callers": many,
        "everybody": f"{everybody.people} people, {everybody.seconds:.1f} s, {everybody.memory_mb:.0f} MB",
        "last_day": f"{day.people} people, {day.seconds:.2f} s, {day.memory_mb:.0f} MB",
    }
    measured.judge("memory_beyond_that_of_1000_callers_mb", everybody.memory_mb - least.memory_mb, report.at_most, 64)
    return measured


def _exports(count: int) -> tuple[Took, Took]:
    """Of the last day and of everybody, among so many callers."""
    with tempfile.TemporaryDirectory(prefix="dialmark-bench-") as folder:
        path = Path(folder) / "dialmark.db"
        report.say(f"{count} callers are written")
        asyncio.run(_fill(path, count))
        made = []
        for days in (1, DAYS):
            with multiprocessing.get_context("spawn").Pool(1) as alone:
                made.append(alone.apply(_export, (path, days)))
            report.say(f"{days} days: {made[-1]}")
    return made[0], made[1]


async def _fill(path: Path, count: int) -> None:
    await (await store.Database.open(f"sqlite:///{path}")).close()
    record = json.dumps(material.record(), separators=(",", ":"))
    step_us = DAYS * DAY_US // count
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        since_us = NOW_US - step_us * (count - 1)
        connection.execute(CALLS, {"count": count, "since_us": since_us, "step_us": step_us, "record": record})
        connection.execute(VISITORS)
        connection.execute(ATTRIBUTIONS)
    connection.close()


def _export(path: Path, days: int) -> Took:
    async def export() -> int:
        database = await store.Database.open(f"sqlite:///{path}")
        try:
            wanted = audiences.Audience(key="lost", platform=audiences.Platform.GOOGLE, days=days)
            with tempfile.TemporaryFile() as file:
                made = await exporting.export(database, wanted, None, file, actor="bench", now_us=NOW_US)
        finally:
            await database.close()
        return made.people

    began = time.perf_counter()
    people = asyncio.run(export())
    most_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Took(time.perf_counter() - began, people, most_kib / 1024)
