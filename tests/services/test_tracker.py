"""Journal to records, whatever is cut, doubled or killed in between (N1, R62; design.md, "Faults to survive")."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway import store
from gateway.core import calls, records
from gateway.services import tracker
from gateway.store import engines
from gateway.store import journal as stored_journal
from tests import journals
from tests.services.desk import NODE, Desk
from tests.services.outages import out_of_order

SECOND = 1_000_000
KILLED = "asterisk_killed"
NEXT_RUN = (
    b'"1795300900.000000","CHAN_START","","PJSIP/x-00000000",'
    b'"node1-1795300900.0","node1-1795300900.0","other","","",""\n'
)
"""The first channel of a new run of Asterisk; no call of ours."""


def whole_day() -> list[bytes]:
    """All recordings, as if they were one journal: 34 calls, a restart, a killed Asterisk, and the run after it."""
    names = sorted(journals.NAMES, key=lambda name: journals.rows(name)[0].at_us)
    return b"".join([*map(journals.content, names), NEXT_RUN]).splitlines(keepends=True)


def expected(lines: list[bytes]) -> list[dict[str, Any]]:
    """Records by the fold alone, the oldest call first; who had called before is counted here."""
    found: list[calls.CallFacts] = []
    for group in journals.groups(journals.rows_of(b"".join(lines))):
        facts = calls.fold(group)
        if facts is not None and not facts.is_closed:
            facts = calls.fold(group, closed=calls.Closing(facts.last_row_at_us))
        if facts is not None:
            found.append(facts)
    found.sort(key=lambda facts: (facts.started_at_us, facts.call_id))
    seen: dict[str, int] = {}
    made = []
    for facts in found:
        number = records.e164(facts.caller)
        is_counted = facts.direction is calls.Direction.INBOUND and number is not None
        before = seen.get(number or "", 0) if is_counted else None
        if is_counted:
            seen[number or ""] = seen.get(number or "", 0) + 1
        made.append(dict(records.record(facts, None, revision=1, calls_before=before, node=NODE)))
    return made


def stories(of: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The events each record must have given rise to."""
    told: dict[str, list[str]] = {}
    for record in of:
        told[record["call_id"]] = [
            *(["call.started"] if record["route_source"] else []),
            *(["call.answered"] if record["answered_at"] else []),
            "call.missed" if record["missed"] else "call.completed",
        ]
    return told


async def check(desk: Desk, wanted: list[dict[str, Any]], *, is_live: bool = False) -> None:
    """Records and events are those, and nothing is left open.

    `is_live`: they were read while it happened. An agent who is gone within half a second had answered as far as
    anybody could know then (docs/decisions/0003), so such a call may have told it.
    """
    found = await desk.records()
    assert [record["call_id"] for record in found] == [record["call_id"] for record in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one == other
    told = await desk.told()
    for record in wanted:
        was_dropped = any(attempt["outcome"] == "not_accepted" for attempt in record["attempts"])
        if is_live and was_dropped and record["missed"]:
            told[record["call_id"]] = [kind for kind in told[record["call_id"]] if kind != "call.answered"]
    assert told == stories(wanted)
    events = await desk.events()
    assert len({event.event_id for event in events}) == len(events)
    assert await desk.open_rows() == 0


@pytest.fixture
def desk(database: store.Database, tmp_path: Path) -> Desk:
    folder = tmp_path / "journal"
    folder.mkdir()
    return Desk(database, folder)


async def test_a_day_read_at_once(desk: Desk) -> None:
    lines = whole_day()
    desk.write(b"".join(lines))
    await desk.read()
    wanted = expected(lines)
    assert len(wanted) == len(journals.NAMES) + 1
    await check(desk, wanted)


async def test_a_day_row_by_row(desk: Desk) -> None:
    """Each prefix of the journal is a batch of its own."""
    lines = whole_day()
    for line in lines:
        desk.write(line)
        await desk.read()
    await check(desk, expected(lines), is_live=True)


async def test_a_day_with_a_crash_after_each_row(desk: Desk, database: store.Database) -> None:
    """What a call has said so far comes back from the store, each time. PostgreSQL, being slow, every fifth time."""
    lines = whole_day()
    for number, line in enumerate(lines):
        desk.write(line)
        if database.engine_name == "sqlite" or number % 5 == 0:
            await desk.read()
            desk.crash()
    await desk.read()
    await check(desk, expected(lines), is_live=True)


@pytest.mark.parametrize("seed", range(3))
async def test_a_day_with_crashes_between_commit_and_settle(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Killed right after the transaction, or right before it: the batch is stored once."""
    dice = random.Random(seed)
    write = tracker.Tracker._write

    class Killed(BaseException):
        """Goes through everything, as SIGKILL does."""

    async def killed_write(self: tracker.Tracker, work: Any) -> None:
        if dice.random() < 0.3:
            raise Killed
        await write(self, work)
        if dice.random() < 0.3:
            raise Killed

    monkeypatch.setattr(tracker.Tracker, "_write", killed_write)
    lines = whole_day()
    left = list(lines)
    while left:
        count = dice.randint(1, 30)
        desk.write(b"".join(left[:count]))
        left = left[count:]
        for _ in range(1000):
            try:
                await desk.read()
            except Killed:
                desk.crash()
                continue
            break
    await check(desk, expected(lines), is_live=True)


@pytest.mark.parametrize("max_rows", [1, 7, 500])
async def test_rows_read_again_after_the_position_is_lost(desk: Desk, database: store.Database, max_rows: int) -> None:
    """However small the pieces in which they come again, nothing is doubled, revised or told twice."""
    lines = whole_day()
    desk.write(b"".join(lines))
    await desk.read()
    desk.crash()
    async with database.begin() as tx:
        await tx.execute(text("DELETE FROM journal_positions"))
        await tx.execute(text("DELETE FROM damaged_rows"))
        await tx.execute(text("DELETE FROM journal_files"))
    again = Desk(database, desk.folder, max_rows=max_rows)
    again.now_us = desk.now_us
    await again.read()
    await check(again, expected(lines))


async def test_every_row_twice(desk: Desk) -> None:
    lines = whole_day()
    desk.write(b"".join(line * 2 for line in lines))
    await desk.read()
    await check(desk, expected(lines))


@pytest.mark.parametrize("is_crashing", [False, True])
async def test_rotation_in_the_middle_of_calls(desk: Desk, is_crashing: bool) -> None:
    """Renamed at any row, read or not yet; one of the calls spans three files."""
    lines = whole_day()
    for number, line in enumerate(lines):
        desk.write(line)
        if number % 10 == 0:
            desk.live.rename(desk.live.with_name(f"{desk.live.name}.{number:05d}"))
        if number % 7 == 0:
            await desk.read()
            if is_crashing:
                desk.crash()
    await desk.read()
    await check(desk, expected(lines), is_live=True)


async def test_somebody_elses_rotation_that_compresses(desk: Desk) -> None:
    lines = whole_day()
    desk.write(b"".join(lines[:200]))
    await desk.read()
    passed = desk.live.with_name(f"{desk.live.name}.1.gz")
    passed.write_bytes(gzip.compress(desk.live.read_bytes()))
    desk.live.unlink()
    desk.write(b"".join(lines[200:]))
    await desk.read()
    await check(desk, expected(lines))


async def test_torn_and_glued_rows_and_rubbish(desk: Desk, database: store.Database) -> None:
    """asterisk.md 0.5: a full disk leaves half a row, to which the next one is glued. What is whole counts."""
    lines = whole_day()
    text_ = b""
    for number, line in enumerate(lines):
        if number % 5 == 0 and text_[-1:] in (b"", b"\n"):
            text_ += b"\x00\xff rubbish\n"
        if number % 7 == 0:
            # Half of a row that is lost, and this one behind it.
            text_ += b'"1795300070.000001","HANGUP","","PJSIP/carr'
        # Two whole rows in a line, of one call or of two.
        text_ += line.rstrip(b"\n") if number % 6 == 0 and number + 1 < len(lines) else line
    desk.write(text_)
    # The clock goes by whole rows; some of them are not at the beginning of their line.
    desk.now_us = 1_795_300_901 * SECOND
    for _ in range(3):
        await desk.read()
        desk.crash()
    await check(desk, expected(lines))
    async with database.read() as connection:
        assert await stored_journal.count_damaged(connection, NODE) > 100


async def test_glued_rows_of_two_calls_across_a_crash(desk: Desk) -> None:
    """Both calls are open when the daemon is killed; the line belongs to both."""
    first, second = (journals.content(name).splitlines(keepends=True) for name in ("ring_group", "all_fail"))
    for glued in range(1, min(len(first), len(second)) - 1):
        folder = desk.folder / str(glued)
        folder.mkdir()
        here = Desk(desk.database, folder)
        here.write(b"".join(first[:glued]) + b"".join(second[:glued]))
        here.write(first[glued].rstrip(b"\n") + second[glued])
        here.now_us = 1_795_300_090 * SECOND
        await here.read()
        here.crash()
        here.write(b"".join(first[glued + 1 :]) + b"".join(second[glued + 1 :]))
        await here.read()
        await check(here, expected([*first, *second]))
        await forget(desk.database)


async def forget(database: store.Database) -> None:
    async with database.begin() as tx:
        for table in ("deliveries", "events", "attempts", "open_rows", "calls", "damaged_rows"):
            await tx.execute(text(f"DELETE FROM {table}"))
        await tx.execute(text("DELETE FROM journal_positions"))
        await tx.execute(text("DELETE FROM journal_files"))


async def test_a_journal_that_was_deleted(desk: Desk) -> None:
    """What was read is stored; the next file is read from its beginning."""
    lines = whole_day()
    desk.write(b"".join(lines[:300]))
    await desk.read()
    desk.live.unlink()
    await (await desk.tracker()).step()
    desk.write(b"".join(lines[300:]))
    await desk.read()
    await check(desk, expected(lines))


async def test_a_position_beyond_the_end(desk: Desk, database: store.Database) -> None:
    """A copy of the journal was put back that is shorter than what had been read: what comes is read all the same."""
    lines = whole_day()
    desk.write(b"".join(lines[:300]))
    await desk.read()
    desk.crash()
    async with database.begin() as tx:
        await tx.execute(text("UPDATE journal_files SET size = size + 5000000"))
        await tx.execute(text("UPDATE journal_positions SET file_offset = file_offset + 5000000"))
    await (await desk.tracker()).step()
    desk.write(b"".join(lines[300:]))
    await desk.read()
    await check(desk, expected(lines))


async def test_a_two_hour_call_across_a_crash(desk: Desk) -> None:
    """However long a call lasts, its rows are there when it ends."""
    shift = 7_200
    head: list[bytes] = []
    tail: list[bytes] = []
    for line in journals.content("answered_caller_ends").splitlines(keepends=True):
        (tail if tail or b'"BRIDGE_EXIT"' in line or b'"HANGUP"' in line else head).append(line)
    later = [bytes(f'"{int(line[1:11]) + shift}', "ascii") + line[11:] for line in tail]
    desk.write(b"".join(head))
    await desk.read()
    assert (await desk.record())["outcome"] == "answered"
    assert await desk.open_rows() == len(head)
    desk.crash()
    await desk.tracker()
    assert [record["call_id"] for record in desk.restored] == [(await desk.record())["call_id"]]
    # Two hours in which other calls come and go, with a crash in the middle.
    desk.write(journals.content("busy_then_reserve"))
    await desk.read()
    desk.crash()
    desk.write(b"".join(later))
    await desk.read()
    whole = expected([*head, *later, *journals.content("busy_then_reserve").splitlines(keepends=True)])
    assert whole[0]["talk_seconds"] > shift
    await check(desk, whole)


async def test_a_late_row_makes_a_new_revision(desk: Desk) -> None:
    """A row that stands out of order in the file changes a record that was already told."""
    lines = journals.content("answered_caller_ends").splitlines(keepends=True)
    late = next(line for line in lines if b"BRIDGE_ENTER" in line and b"carrier" in line.split(b",")[3])
    desk.write(b"".join(line for line in lines if line is not late))
    await desk.read()
    before = await desk.record()
    assert before["revision"] == 1
    desk.write(late)
    await desk.read()
    after = await desk.record()
    (wanted,) = expected(lines)
    assert after == {**wanted, "revision": 2}
    told = (await desk.told())[after["call_id"]]
    assert told.count("call.updated") == 1
    assert len(set(told)) == len(told)
    assert (await desk.events())[-1].revision == 2


async def test_a_row_that_comes_when_the_call_is_forgotten(desk: Desk) -> None:
    """Later than 5 s it is left alone: it is no call of its own."""
    lines = journals.content("answered_caller_ends").splitlines(keepends=True)
    desk.write(b"".join(lines))
    await desk.read()
    record = await desk.record()
    desk.now_us += 60 * SECOND
    await desk.read()
    desk.write(lines[-3])
    await desk.read()
    assert await desk.record() == record


async def test_repeat_callers(desk: Desk) -> None:
    """R71, R111: how often has he called before; the same whether his calls come in one batch or one by one."""
    lines = [line for name in ("answered_caller_ends", "all_fail", "abandoned_first") for line in content_lines(name)]
    desk.write(b"".join(lines))
    await desk.read()
    assert [(record["caller"]["calls_before"], record["caller"]["first_time"]) for record in await desk.records()] == [
        (0, True),
        (1, False),
        (2, False),
    ]


def content_lines(name: str) -> list[bytes]:
    return journals.content(name).splitlines(keepends=True)


async def test_killed_asterisk_found_by_the_next_run(desk: Desk) -> None:
    """The new run's first channel says that everything before it is over: answered stays answered, the rest is lost."""
    desk.write(journals.content(KILLED))
    await desk.read()
    assert {record["ended_at"] for record in await desk.records()} == {None}
    desk.crash()
    desk.write(NEXT_RUN)
    await desk.read()
    await check(desk, expected(content_lines(KILLED)))
    found = await desk.records()
    assert sorted((record["outcome"], record["ended_by"]) for record in found) == [
        ("answered", "crash"),
        ("lost", "crash"),
    ]


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_killed_asterisk_found_by_ami(desk: Desk, is_restarted: bool) -> None:
    """Its start tells at once; channels that are just gone are waited for 10 s."""
    desk.write(journals.content(KILLED))
    await desk.read()
    ended_us = desk.now_us
    started = 1_795_300_820 * SECOND if is_restarted else 0
    desk.alive = tracker.Alive(frozenset(), started)
    desk.now_us += 3 * SECOND
    await desk.read()
    if not is_restarted:
        assert {record["ended_at"] for record in await desk.records()} == {None}
        while desk.now_us < ended_us + 20 * SECOND:
            desk.now_us += SECOND
            await desk.read()
    await check(desk, expected(content_lines(KILLED)))


async def test_calls_that_ami_sees_are_left_alone(desk: Desk) -> None:
    """A silent call of two hours is no lost one; nor is any while AMI does not answer."""
    desk.write(journals.content(KILLED))
    await desk.read()
    up = frozenset(record["unique_id"] for record in await desk.records())
    for alive in (None, tracker.Alive(up, 1_795_300_790 * SECOND)):
        desk.alive = alive
        for _ in range(30):
            desk.now_us += 240 * SECOND
            await desk.read()
        assert {record["ended_at"] for record in await desk.records()} == {None}


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - nobody sets an event
            await asyncio.sleep(0.01)


async def test_records_wait_for_the_database(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locked by another process, or gone: the journal waits, nothing is lost, and the health says why."""
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.05)
    database = await store.Database.open(database_url)
    desk = Desk(database, tmp_path)
    lines = whole_day()
    desk.write(b"".join(lines[:100]))
    await desk.read()
    desk.write(b"".join(lines[100:]))
    running = await desk.tracker()
    with out_of_order(database_url):
        reading = asyncio.create_task(desk.read())
        await until(lambda: running.problem is not None)
        assert not reading.done()
    async with asyncio.timeout(60):
        await reading
    problem: str | None = running.problem
    assert problem is None
    await check(desk, expected(lines))
    await database.close()
