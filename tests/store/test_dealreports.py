"""Calls with their results as reports count them, on both engines (R14-R16, R70)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway import store
from gateway.core import deals
from gateway.store import calls, dealreports, results
from tests.store import examples


def row(number: int, record: dict[str, Any], **changes: Any) -> calls.CallRow:
    document = {"call_id": examples.call_id(number), **record}
    return examples.call(number, record=json.dumps(document, separators=(",", ":")), **changes)


@pytest.mark.parametrize("said", [None, True, False])
async def test_what_was_said_goes_before_rule_and_key(database: store.Database, said: bool | None) -> None:
    record = {"scoring": {"qualified": True, "spam": False}, "rating": {"goal_reached": True}}
    rows = [row(1, record), row(2, {"scoring": None}), row(3, {}, outcome="banned"), row(4, {}, direction="outbound")]
    async with database.begin() as tx:
        await calls.save(tx, rows)
        if said is not None:
            result = deals.Result(qualified=said, spam=said, goal_reached=said)
            stored = results.changed(None, result, at_us=1, by="cli:anna", way="csv")
            await results.save(tx, {examples.call_id(1): stored}, [])
    async with database.read() as connection:
        found = await dealreports.inbound(connection, 20260921, 20260921, site="clinic")
        assert await dealreports.inbound(connection, 20260921, 20260921, site="other") == []
        assert await dealreports.handled(connection, 20260921, 20260921) == {"anna": 4}
    flags = {(one.qualified, one.spam, one.goal_reached) for one in found}
    assert flags == {(None, None, None), (True, False, True) if said is None else (said, said, said)}
    assert {one.answered for one in found} == {True}


async def test_one_record_with_a_nul_stops_no_report(database: store.Database) -> None:
    """A damaged row of the journal can bring one; PostgreSQL's JSON knows none."""
    record = {"caller": {"name": "a\0b"}, "scoring": {"qualified": True}}
    async with database.begin() as tx:
        await calls.save(tx, [row(1, record)])
    async with database.read() as connection:
        (found,) = await dealreports.inbound(connection, 20260921, 20260921)
    assert found.qualified is True
