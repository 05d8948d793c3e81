"""Spend, wages and staffed hours: replaced or added, once (R8, R70, R105)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from gateway import store
from gateway.core import costs, deals
from gateway.services import costing, dealing
from gateway.store import audit, restated
from gateway.store import costs as stored
from tests.web import material

NOW_US = int(material.NOW.timestamp() * 1_000_000)  # 2026-11-21
YEAR = (20260101, 20261231)
SCALE = 10_000


async def take(
    database: store.Database, *rows: Mapping[str, object], kind: costs.Kind = costs.SPEND, **how: Any
) -> tuple[int, int]:
    done = await costing.take(
        database,
        kind,
        list(enumerate(rows)),
        current=material.routing_book(),
        by="cli:anna",
        now_us=NOW_US,
        **how,
    )
    return done.changed, done.unchanged


def spent(amount: object, day: str = "2026-11-20", **more: object) -> dict[str, object]:
    return {"day": day, "source": "google-ads", "amount": amount, "currency": "RUB", **more}


async def kept(database: store.Database) -> list[tuple[str, int]]:
    async with database.read() as connection:
        return [(one.entry, one.amount_e4 // SCALE) for one in await stored.spend(connection, *YEAR)]


async def test_a_whole_amount_replaces_and_parts_add_up(database: store.Database) -> None:
    assert await take(database, spent("100"), spent("7", "2026-11-21"), spent("30", campaign="spring")) == (3, 0)
    assert await take(database, spent("100.00")) == (0, 1)
    assert await take(database, spent("120")) == (1, 0)
    assert await kept(database) == [("", 120), ("", 30), ("", 7)]
    parts = [spent("5", entry="bill-1"), spent("6", entry="bill-2")]
    assert await take(database, *parts) == (2, 0)
    assert await take(database, *parts) == (0, 2)
    assert sum(amount for _, amount in await kept(database)) == 120 + 30 + 7 + 11
    assert await take(database, spent("120")) == (1, 0)
    assert await kept(database) == [("", 120), ("", 30), ("", 7)]


async def test_a_day_that_is_over_is_marked(database: store.Database) -> None:
    await take(database, spent("100"), spent("7", "2026-11-21"))
    await take(database, spent("100"))
    await take(database, {"agent": "anna", "from_day": "2026-11-18", "hourly": 10, "currency": "EUR"}, kind=costs.WAGES)
    async with database.read() as connection:
        marks = await restated.marks(connection, *YEAR)
    assert [(one.day_local, one.site, one.kind, one.changes) for one in marks] == [
        (20261118, "", "wages", 1),
        (20261119, "", "wages", 1),
        (20261120, "", "spend", 1),
        (20261120, "", "wages", 1),
    ]


async def test_all_or_nothing(database: store.Database) -> None:
    rows = [
        spent("1"),
        spent("1.00"),
        spent("1,5", "2026-11-19"),
        spent("1", "20.11.2026", entry="a b"),
        {"day": "2026-11-01", "source": "gogle", "amount": "-1", "currency": "RU", "x": 1},
        spent("1", entry="p"),
    ]
    with pytest.raises(dealing.Refused) as caught:
        await take(database, *rows)
    assert [(one.place, one.field) for one in caught.value.problems] == [
        (1, "day"),
        (2, "amount"),
        (3, "entry"),
        (4, "x"),
        (4, "source"),
        (4, "amount"),
        (4, "currency"),
        (5, "entry"),
    ]
    assert await take(database, spent("1"), dry_run=True) == (1, 0)
    assert await kept(database) == []


def test_cost_per_call_is_wage_times_hours_by_calls() -> None:
    """R70, reckoned by hand: 8 h at 300 and 7.5 h at 320, 24 calls: 4,800 ÷ 24 = 200."""
    wages = [costs.Wage("anna", 20261101, 300_0000, "RUB"), costs.Wage("anna", 20261120, 320_0000, "RUB")]
    hours = [costs.Hours("anna", 20261119, 480), costs.Hours("anna", 20261120, 450), costs.Hours("boris", 20261120, 60)]
    cost, currencies, unpaid = costs.labour_e4(wages, hours, "anna")
    assert (cost, currencies, unpaid) == (4_800_0000, {"RUB"}, 0)
    assert costs.per_call_e4(cost, 24) == 200_0000
    assert costs.per_call_e4(cost, 0) is None
    assert costs.labour_e4(wages, hours, "boris") == (0, set(), 60)


@pytest.mark.parametrize(
    ("written", "minutes"), [("7.5", 450), ("7,5", 450), ("7:30", 450), (8, 480), (7.25, 435), ("24", 1440)]
)
def test_hours_as_people_write_them(written: object, minutes: int) -> None:
    known = costs.Known((), {"anna"})
    assert costs.read(costs.HOURS, {"agent": "anna", "day": "2026-11-20", "hours": written}, known) == costs.Hours(
        "anna", 20261120, minutes
    )


@pytest.mark.parametrize("written", ["25", "-1", "7:60", "1e3", True, [7], "x" * 9999, float("nan")])
def test_hours_that_are_none(written: object) -> None:
    found = costs.read(costs.HOURS, {"agent": "anna", "day": "2026-11-20", "hours": written}, costs.Known((), {"anna"}))
    assert isinstance(found, list)
    assert [one.field for one in found] == ["hours"]
    assert isinstance(found[0], deals.Wrong)


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (costs.SPEND, spent("1", "2062-11-20")),
        (costs.HOURS, {"agent": "anna", "day": "2027-11-23", "hours": "8"}),
        (costs.WAGES, {"agent": "anna", "from_day": "2027-11-23", "hourly": "8", "currency": "RUB"}),
    ],
)
async def test_a_day_far_ahead_is_a_slip(database: store.Database, kind: costs.Kind, row: dict[str, object]) -> None:
    with pytest.raises(dealing.Refused) as caught:
        await take(database, row, kind=kind)
    assert "ahead" in str(caught.value.problems[0].message)
    name = "from_day" if kind is costs.WAGES else "day"
    assert await take(database, {**row, name: "2027-11-22"}, kind=kind) == (1, 0)


async def test_what_a_person_changes_is_audited(database: store.Database) -> None:
    await take(database, spent("1"), is_audited=True)
    await take(database, spent("1"), is_audited=True)
    await take(database, spent("2"), is_audited=True, dry_run=True)
    async with database.read() as connection:
        rows = await audit.entries(connection)
    assert [(one.action, one.subject, one.actor) for one in rows] == [("costs.changed", "costs:spend", "cli:anna")]
