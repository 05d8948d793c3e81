"""R60, R61, R73: scores and ratings from the journal to the store, whatever is cut or comes late, on both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway import store
from gateway.config import routingfile
from gateway.services import tracker
from gateway.store import calls as stored_calls
from tests import journals, served
from tests.core.test_rating import after_the_call
from tests.services.clinic import OVERFLOW, ROUTING, SECOND
from tests.services.desk import Desk
from tests.services.test_attributing import START_US, TAGGED, House

RULES = """
[scoring]
qualified_from = 25

[[rule]]
key = "talked"
min_talk_seconds = 1
score = 10
tags = ["talked"]

[[rule]]
key = "goal"
keys = ["goal=1"]
score = 20
tags = ["goal reached"]

[[rule]]
key = "ads"
sources = ["google-ads"]
score = 30
tags = ["ads"]
"""
ANSWERED = "answered_caller_ends"


def named(record: dict[str, Any]) -> list[str]:
    """The rules that a record names."""
    return [one["rule"] for one in record["scoring"]["rules"]]


@pytest.fixture
def desk(database: store.Database, tmp_path: Path) -> Desk:
    folder = tmp_path / "journal"
    folder.mkdir()
    return Desk(database, folder, routing_book=routingfile.parse(ROUTING + RULES, 7))


async def test_scored_when_it_closes_and_told_with_it(desk: Desk) -> None:
    """In the record's own transaction: whoever sees the closed record sees its score; an open one has none."""
    lines = journals.content(ANSWERED).splitlines(keepends=True)
    for line in lines:
        desk.write(line)
        await desk.read()
        for record in await desk.records():
            assert (record["scoring"] is None) == (record["state"] == "open")
    record = await desk.record()
    assert (record["scoring"]["score"], record["scoring"]["qualified"], named(record)) == (10, False, ["talked"])
    assert record["revision"] == 1
    last = (await desk.events())[-1]
    assert last.type == "call.completed"
    assert '"scoring":{"score":10,' in last.payload


@pytest.mark.parametrize("after", range(1, 30, 4))
async def test_a_crash_anywhere_changes_no_score(desk: Desk, after: int) -> None:
    """N1: read again after SIGKILL, the same bytes."""
    text = after_the_call("q=outcome&r=keyed&k=1", "q=goal&r=keyed&k=1").text
    lines = text.splitlines(keepends=True)
    desk.write(b"".join(lines[:after]))
    await desk.read()
    desk.crash()
    desk.write(b"".join(lines[after:]))
    await desk.read()
    desk.crash()
    await desk.read()
    record = await desk.record()
    assert named(record) == ["talked", "goal"]
    assert (record["scoring"]["score"], record["scoring"]["qualified"]) == (30, True)
    assert record["rating"]["keys"] == {"outcome": "1", "goal": "1", "solved": None}
    events = await desk.events()
    assert len({event.event_id for event in events}) == len(events)


async def test_who_is_asked_keeps_the_record_open(desk: Desk) -> None:
    """The caller's channel has been gone for minutes, and AMI sees the agent's: no answer is lost."""
    whole = after_the_call("q=goal&r=keyed&k=1").text.splitlines(keepends=True)
    unkeyed = [line for line in whole if b"keyed" not in line]
    assert b"HANGUP" in unkeyed[-3] and b"LINKEDID_END" in unkeyed[-1]
    desk.write(b"".join(unkeyed[:-3]))
    await desk.read()
    agent = served.Journal().unique_id + "1"
    desk.alive = tracker.Alive(frozenset({agent}), 0)
    for _ in range(30):
        desk.now_us += 5 * SECOND
        await desk.read()
    assert (await desk.record())["state"] == "open"
    desk.write(b"".join(line for line in whole if b"keyed" in line))
    await desk.read()
    desk.alive = tracker.Alive(frozenset(), 0)
    for _ in range(5):
        desk.now_us += 5 * SECOND
        await desk.read()
    record = await desk.record()
    assert (record["state"], record["outcome"], record["ended_by"]) == ("closed", "answered", "caller")
    assert record["rating"]["goal_reached"] is True
    assert named(record) == ["talked", "goal"]


async def test_a_rating_that_comes_late_is_a_new_revision(desk: Desk) -> None:
    """Rows that stand behind the end in the file, within what is waited for."""
    lines = after_the_call("q=goal&r=keyed&k=1").text.splitlines(keepends=True)
    late = [line for line in lines if b"keyed" in line]
    desk.write(b"".join(line for line in lines if line not in late))
    await desk.read()
    assert named(await desk.record()) == ["talked"]
    desk.write(b"".join(late))
    await desk.read()
    record = await desk.record()
    assert (record["revision"], named(record)) == (2, ["talked", "goal"])
    assert (await desk.told())[record["call_id"]][-2:] == ["call.completed", "call.updated"]


async def test_a_source_that_is_found_late_scores_anew(database: store.Database, tmp_path: Path) -> None:
    """N4: the revision that names the source says what the rules say of it, as a replay would."""
    folder = tmp_path / "journal"
    folder.mkdir()
    house = House(database, folder, ROUTING + RULES)
    for _ in range(3):
        visitor = await house.clinic.open(url=TAGGED)
    await house.call(OVERFLOW)
    (before,) = await house.desk.records()
    assert named(before) == ["talked"]
    house.clinic.now_us = START_US + 5 * SECOND
    await house.clinic.click(visitor)
    assert await house.look_again(0) == 0
    assert await house.look_again() == 1
    (record,) = await house.desk.records()
    assert (record["revision"], record["attribution"]["source"]) == (2, "google-ads")
    assert named(record) == ["talked", "ads"]
    assert record["scoring"]["score"] == 40
    for least, count in ((40, 1), (41, 0)):
        async with database.read() as connection:
            page = await stored_calls.list_calls(connection, stored_calls.CallFilter(min_score=least))
        assert len(page.calls) == count
