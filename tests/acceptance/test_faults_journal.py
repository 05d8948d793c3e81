"""The journal is rotated, torn, doubled, deleted with calls up (N1); `verify` and `replay` are tested themselves."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.acceptance import faults, stages
from tests.acceptance.faults import SALES
from tests.acceptance.stages import Stage
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Caller, Rig

OTHERS = b'"1795300070.000001","CHAN_START","","PJSIP/x-00000001","x-1.1","x-1.1","other","","",""\n'
TORN = b'"1795300070.000001","HANGUP","","PJSIP/carr'


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    site = stages.Site(make_node, faults.ROUTING, files=faults.SITE_DIALPLAN)
    try:
        site.start()
        yield site
    finally:
        site.daemon.stop()


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    stage = Stage(site, rig_of(site.node))
    yield stage
    if not site.daemon.is_running:
        site.daemon.kill()
        site.daemon.start()
        await site.daemon.until_ready()
    await asyncio.to_thread(even, stage)


def even(stage: Stage) -> None:
    """As :meth:`stages.Site.conserved`, but the journal may hold damaged rows here."""
    stage.node.until_idle(20)
    found = stage.daemon.verify()
    assert [found[key] for key in ("missing", "doubled", "invented", "waiting", "open")] == [0] * 5, found
    assert found["channels"] == found["records"]


async def up(stage: Stage, number: int = 3) -> list[Caller]:
    """Calls that talk until they are ended."""
    stage.phone("desk-1", ring_ms=20)
    callers = [await stage.dial(SALES) for _ in range(number)]
    for caller in callers:
        await caller.until(200)
    await faults.until(lambda: len(answered(stage)) == number, 30, "the calls in the database")
    return callers


def answered(stage: Stage) -> list[Any]:
    return [one for one in stage.daemon.stored(state="open") if one["answered_at"]]


async def end(stage: Stage, callers: list[Caller]) -> None:
    """Hang up; each is one whole record of the first revision."""
    for caller in callers:
        caller.hang_up()
    for caller in callers:
        record = await stage.record_of(caller)
        assert (record["outcome"], record["ended_by"], record["revision"]) == ("answered", "caller", 1)


async def test_rotated_by_size_with_calls_up(stage: Stage) -> None:
    """The reader renames it, Asterisk starts a new one, the old one goes to the archive compressed."""
    stage.daemon.configure({"journal": {"rotate_bytes": 1_000_000}})
    await stage.daemon.restart()
    callers = await up(stage)
    stage.phone("desk-2", ring_ms=0, traced=False)
    load = asyncio.create_task(stage.rig.load(faults.SECOND, rate=15, calls=60))
    await stage.until_journal("desk-2")
    # A megabyte of somebody else's calls on the same PBX.
    with stage.node.journal.open("ab") as journal:
        journal.write(OTHERS * 11_000)
    assert (await load).failed == 0
    archive = stage.node.journal.parent / "archive"
    await faults.until(lambda: list(archive.glob("*.csv.gz")), 15, "a file in the archive")
    await end(stage, callers)


async def test_renamed_by_somebody_else(stage: Stage) -> None:
    """Three times during the calls, once while the daemon is down."""
    callers = await up(stage)
    for number in range(3):
        stage.node.journal.rename(stage.node.journal.with_name(f"{stage.node.journal.name}.{number}"))
        assert (await stage.call(SALES)).record["outcome"] == "answered"
    await asyncio.to_thread(stage.daemon.kill)
    stage.node.journal.rename(stage.node.journal.with_name(f"{stage.node.journal.name}.9"))
    for caller in callers:
        caller.hang_up()
    stage.daemon.start()
    await end(stage, callers)


async def test_copied_and_truncated(stage: Stage) -> None:
    """logrotate's copytruncate."""
    callers = await up(stage)
    shutil.copy2(stage.node.journal, stage.node.journal.with_name(f"{stage.node.journal.name}-20261121"))
    with stage.node.journal.open("r+b") as journal:
        journal.truncate(0)
    assert (await stage.call(SALES)).record["outcome"] == "answered"
    await end(stage, callers)


@pytest.mark.parametrize("is_killed", [False, True])
async def test_rows_doubled_torn_glued_and_rubbish(stage: Stage, is_killed: bool) -> None:
    """As a full disk and a careless copy leave them, in the middle of calls."""
    callers = await up(stage)
    whole = stage.node.journal.read_bytes()
    with stage.node.journal.open("ab") as journal:
        journal.write(whole[-3000:].partition(b"\n")[2] * 2)
        journal.write(b"rubbish \xff\x00\n\n" + b"x" * 5000 + b"\n")
        journal.write(TORN)
    if is_killed:
        await asyncio.to_thread(stage.daemon.kill)
        stage.daemon.start()
    await end(stage, callers)
    assert (await stage.call(SALES)).record["outcome"] == "answered"


async def test_deleted(stage: Stage) -> None:
    """The rows of calls that are up are in the database; Asterisk makes a new file."""
    callers = await up(stage)
    kept = stage.node.journal.rename(stage.node.folder / "deleted.csv")
    await end(stage, callers)
    # verify needs the rows that went.
    kept.rename(stage.node.journal.with_name(f"{stage.node.journal.name}.back"))


async def test_the_position_is_lost(stage: Stage) -> None:
    """All files are read again from their beginning; nothing is doubled, revised or told again."""
    stage.phone("desk-1")
    last = await stage.call(SALES)
    await stage.events_of(last.record["call_id"], "call.completed")
    await asyncio.to_thread(stage.daemon.stop)
    records, events = stage.daemon.stored(), stage.daemon.events()
    change(stage, "DELETE FROM journal_positions", "DELETE FROM open_rows", "DELETE FROM damaged_rows")
    change(stage, "DELETE FROM journal_files")
    stage.daemon.start()
    await stage.daemon.until_ready()
    one_more = await stage.call(SALES)
    assert one_more.record["outcome"] == "answered"
    await stage.events_of(one_more.record["call_id"], "call.completed")
    assert stage.daemon.stored()[:-1] == records
    assert stage.daemon.events()[: len(events)] == events
    assert {event["data"]["call_id"] for event in stage.daemon.events()[len(events) :]} == {
        stage.daemon.stored()[-1]["call_id"]
    }


def change(stage: Stage, *statements: str) -> None:
    """Behind everybody's back."""
    with closing(sqlite3.connect(stage.daemon.database, timeout=10)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def test_the_position_is_beyond_the_end(stage: Stage) -> None:
    stage.phone("desk-1")
    await stage.call(SALES)
    await asyncio.to_thread(stage.daemon.stop)
    change(stage, "UPDATE journal_files SET size = size + 1000000")
    change(stage, "UPDATE journal_positions SET file_offset = file_offset + 1000000")
    stage.daemon.start()
    await stage.daemon.until_ready()
    assert (await stage.call(SALES)).record["outcome"] == "answered"


async def test_the_ballast_lies_beside_the_journal(stage: Stage) -> None:
    """It holds its space, stays at a stop, and goes when the settings want none."""
    ballast = stage.node.journal.with_name("ballast")
    await faults.until(ballast.exists, 30, "the ballast")
    assert ballast.stat().st_blocks * 512 >= ballast.stat().st_size == 1_048_576
    stage.daemon.configure({"journal": {"ballast_bytes": 0}})
    await asyncio.to_thread(stage.daemon.stop)
    assert ballast.exists()
    stage.daemon.start()
    await stage.daemon.until_ready()
    await faults.until(lambda: not ballast.exists(), 30, "the ballast gone")


async def test_verify_and_replay_find_what_is_wrong(stage: Stage) -> None:
    """A record deleted, one invented, one doubled: each is named; `replay --write` brings the deleted one back."""
    stage.phone("desk-1")
    call = (await stage.call(SALES)).record
    assert not wrong(stage)

    change(stage, f"DELETE FROM attempts WHERE call_id = '{call['call_id']}'")
    change(stage, f"DELETE FROM calls WHERE call_id = '{call['call_id']}'")
    assert wrong(stage) == {"missing": [call["call_id"]]}
    shown = json.loads(await asyncio.to_thread(stage.daemon.run, "replay", "--format", "json"))
    assert (shown["new"], shown["changed"]) == (1, 0)
    await asyncio.to_thread(stage.daemon.run, "replay", "--write")
    assert not wrong(stage)
    assert next(one for one in stage.daemon.stored() if one["call_id"] == call["call_id"]) == call

    copy(stage, call, "11111111-1111-4111-8111-111111111111", call["unique_id"])
    assert set(wrong(stage)) == {"doubled"}
    change(stage, "DELETE FROM calls WHERE call_id LIKE '11111111-%'")
    copy(stage, call, "22222222-2222-4222-8222-222222222222", "rig-1795300070.99")
    assert wrong(stage) == {"invented": ["22222222-2222-4222-8222-222222222222"]}
    change(stage, "DELETE FROM calls WHERE call_id LIKE '22222222-%'")

    forged = "UPDATE calls SET record = replace(record, 'google-ads', 'bing'), content_hash = 'x'"
    change(stage, f"{forged} WHERE call_id = '{call['call_id']}'")
    shown = json.loads(await asyncio.to_thread(stage.daemon.run, "replay", "--format", "json"))
    assert (shown["new"], shown["changed"]) == (0, 1)
    await asyncio.to_thread(stage.daemon.run, "replay", "--write")


def wrong(stage: Stage) -> dict[str, list[str]]:
    """What ``verify`` names, by kind; its counts say the same, and so does its exit code."""
    found = stage.daemon.verify()
    named: dict[str, list[str]] = {}
    for one in found["calls"]:
        named.setdefault(one["what"], []).append(one["call_ids"])
    assert {what: len(ids) for what, ids in named.items()} == {
        what: found[what] for what in ("missing", "doubled", "invented", "waiting") if found[what]
    }
    return named


def copy(stage: Stage, call: dict[str, Any], call_id: str, unique_id: str) -> None:
    """A record that nothing in the journal accounts for."""
    with closing(sqlite3.connect(stage.daemon.database, timeout=10)) as connection, connection:
        connection.row_factory = sqlite3.Row
        row = dict(connection.execute("SELECT * FROM calls WHERE call_id = ?", (call["call_id"],)).fetchone())
        row |= {"call_id": call_id, "unique_id": unique_id}
        names = ", ".join(row)
        connection.execute(f"INSERT INTO calls ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
