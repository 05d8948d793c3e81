"""Reports against their formulas, reckoned by hand, on both engines (R8, R14-R16, R64, R70, R73, R77, R87)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from gateway import store
from gateway.core import costs, dealfigures
from gateway.services import costing, dealing, reporting
from gateway.services.reporting import By
from gateway.store import calls, dealreports
from tests.store import examples
from tests.web import material

DAYS = (20260921, 20260930)
DAY_US = 86_400_000_000
NOW_US = examples.NOON + 30 * DAY_US
WON = {"deal_state": "won", "currency": "RUB", "closed_on": "2026-09-25"}


def row(number: int, record: dict[str, Any] | None = None, **changes: Any) -> calls.CallRow:
    document = material.record(call_id=examples.call_id(number), **(record or {}))
    base = {"caller": f"+7916000{number:04}", "source": "radio", "campaign": None, **changes}
    return examples.call(number, record=json.dumps(document, separators=(",", ":")), **base)


async def say(database: store.Database, *said: dict[str, object]) -> None:
    takes = dealing.Dealing(
        database, current_book=material.routing_book, targets=(), now_us=lambda: examples.NOON + 9 * DAY_US
    )
    await takes.take([dealing.Asked(place, one) for place, one in enumerate(said)], dealing.Source("cli:anna", "csv"))


def of(number: int, **said: object) -> dict[str, object]:
    return {"call_id": examples.call_id(number), **said}


async def spend(database: store.Database, kind: costs.Kind, *rows: Mapping[str, object]) -> None:
    current = material.routing_book()
    await costing.take(database, kind, list(enumerate(rows)), current=current, by="cli:anna", now_us=NOW_US)


async def read(database: store.Database) -> reporting.Material:
    async with database.read() as connection:
        return await reporting.read(connection, material.routing_book(), *DAYS)


async def filled(database: store.Database) -> None:
    """Of radio 40 calls of 40 callers, 8 buy for 1,000, 4 more are qualified, 1 deal is open, 10 reach their goal; one
    test call, one spam call and one banned caller count nowhere. Of Google Ads 20 unanswered calls of one campaign."""
    rows = [row(number) for number in range(40)]
    rows += [row(40), row(41, {"scoring": {"tags": [{"rule": "r", "tag": "test"}]}}), row(42, outcome="banned")]
    ads: dict[str, Any] = {
        "source": "google-ads",
        "campaign": "=cmd()",
        "outcome": "no_answer",
        "agent": None,
        "day_local": 20260922,
    }
    rows += [row(number, **ads) for number in range(100, 120)]
    async with database.begin() as tx:
        await calls.save(tx, rows)
    await say(
        database,
        *(of(number, value="1000", **WON) for number in range(8)),
        *(of(number, qualified=True) for number in range(8, 12)),
        *(of(number, goal_reached=True) for number in range(10)),
        of(12, deal_state="open"),
        of(13, qualified=False),
        of(40, spam=True, value="5", deal_state="won", currency="EUR"),
    )
    rub = {"currency": "RUB"}
    await spend(
        database,
        costs.SPEND,
        {"day": "2026-09-21", "source": "radio", "amount": "5000", **rub},
        {"day": "2026-09-22", "source": "google-ads", "campaign": "=cmd()", "amount": "100", **rub},
    )


async def test_by_source(database: store.Database) -> None:
    """Every formula of the table of figures, with the figures of `filled`."""
    await filled(database)
    report = (await read(database)).report(By.SOURCE)
    radio, ads = report.rows
    assert {name: radio[name] for name in radio if name not in ("campaign", "agent")} == {
        "group": "radio",
        "name": "Radio Seven",
        "source": "radio",
        "calls": 40,
        "answered": 40,
        "qualified": 4,
        "goals": 10,
        "goal_percent": 25.0,  # R77: 100 × 10 ÷ 40
        "callers": 40,
        "prospects": 5,  # R87: four qualified, one with an open deal
        "buyers": 8,
        "deals_open": 1,
        "deals_won": 8,
        "conversion_percent": 20.0,  # R14: 100 × 8 ÷ 40
        "won": "8000.00",
        "average_deal": "1000.00",  # R15
        "days_to_close": 4,  # R15: from the 21st to the 25th
        "revenue_per_call": "205.13",  # R64: 8,000 ÷ 39, one was not worth having
        "spend": "5000.00",
        "cost_per_call": "125.00",  # R105
        "cost_per_lead": None,  # four leads are too few
        "cpa": "625.00",  # R8: 5,000 ÷ 8
        "romi_percent": 60.0,  # R16: 100 × 3,000 ÷ 5,000
        "fcr_percent": 100.0,
        "currency": "RUB",
        "spam": 1,
        "restated": True,
    }
    assert (ads["group"], ads["calls"], ads["answered"], ads["cost_per_call"]) == ("google-ads", 20, 0, "5.00")
    assert (ads["conversion_percent"], ads["romi_percent"], ads["fcr_percent"]) == (None, None, None)
    total = report.total
    assert (total["calls"], total["callers"], total["won"], total["spend"]) == (60, 60, "8000.00", "5100.00")
    assert total["romi_percent"] == round(100 * (8_000 - 5_100) / 5_100, 1)
    assert total["conversion_percent"] == round(100 * 8 / 60, 1)


async def test_by_everything_else(database: store.Database) -> None:
    await filled(database)
    found = await read(database)
    groups = {by: [(one["group"], one["calls"], one["spend"]) for one in found.report(by).rows] for by in By}
    assert groups[By.CHANNEL] == [("offline", 40, "5000.00"), ("search", 20, "100.00")]
    assert groups[By.CAMPAIGN] == [("radio / -", 40, "5000.00"), ("google-ads / =cmd()", 20, "100.00")]
    assert groups[By.DAY] == [("2026-09-21", 40, "5000.00"), ("2026-09-22", 20, "100.00")]
    assert groups[By.AGENT] == [("anna", 40, "0.00"), ("nobody", 20, "0.00")], "nobody pays for an agent's calls here"
    by_agent = found.report(By.AGENT).rows[0]
    assert (by_agent["name"], by_agent["revenue_per_call"]) == ("Anna Orlova", "205.13")
    assert {found.report(by).total["calls"] for by in By} == {60}


async def test_agents_within_one_promotion(database: store.Database) -> None:
    """R64: revenue per call of each seller, of one campaign or source alone; its spend with it, and no other's."""
    await filled(database)
    found = await read(database)
    radio, ads, none = found.only(source="radio"), found.only(campaign="=cmd()"), found.only("radio", "=cmd()")
    assert [(one["agent"], one["calls"], one["revenue_per_call"]) for one in radio.report(By.AGENT).rows] == [
        ("anna", 40, "205.13")
    ]
    assert (radio.report(By.DAY).total["spend"], ads.report(By.DAY).total["spend"]) == ("5000.00", "100.00")
    assert [(one["agent"], one["calls"]) for one in ads.report(By.AGENT).rows] == [(None, 20)]
    assert found.only(campaign="-").report(By.SOURCE).rows == radio.report(By.SOURCE).rows
    assert (none.report(By.AGENT).rows, none.report(By.AGENT).total["calls"]) == ((), 0)
    assert found.only() is found


async def test_restated_days_are_marked_day_by_day(database: store.Database) -> None:
    async with database.begin() as tx:
        await calls.save(tx, [row(1), row(2, day_local=20260930)])
    await say(database, of(1, value="1", **WON), of(2, value="1", **WON))
    report = (await read(database)).report(By.DAY)
    assert [(one["group"], one["restated"]) for one in report.rows] == [("2026-09-21", True), ("2026-09-30", False)]


async def test_first_contact_resolution(database: store.Database) -> None:
    """R73: 24 callers; one calls again after six days, one after eight, one on another route; of one the agent keyed
    that it was solved although they called again, of two that it was not. 100 × (1 − 3 ÷ 30) by hand."""
    rows = [row(number) for number in range(24)]
    later: dict[str, Any] = {"day_local": 20260927, "started_us": examples.NOON + 6 * DAY_US}
    same: dict[str, Any] = {"caller": "+79160000000"}
    rows += [
        row(50, **same, **later),
        row(51, caller="+79160000001", day_local=20260930, started_us=examples.NOON + 8 * DAY_US),
        row(52, caller="+79160000002", route="service", **later),
    ]
    rows.append(row(53, {"rating": {"solved": True}}, caller="+79160000777"))
    rows.append(row(54, caller="+79160000777", outcome="no_answer", agent=None))
    rows += [row(number, {"rating": {"solved": False}}) for number in (55, 56)]
    async with database.begin() as tx:
        await calls.save(tx, rows)
    (one,) = (await read(database)).report(By.SOURCE).rows
    assert one["answered"] == 30
    assert one["fcr_percent"] == 90.0


async def test_a_call_behind_the_last_day_counts_as_the_next_contact(database: store.Database) -> None:
    rows = [row(number) for number in range(20)]
    again: dict[str, Any] = {"caller": "+79160000003", "day_local": 20261001, "started_us": examples.NOON + 7 * DAY_US}
    async with database.begin() as tx:
        await calls.save(tx, [*rows, row(60, **again)])
    async with database.read() as connection:
        found = await reporting.read(connection, None, 20260921, 20260924)
    (one,) = found.report(By.SOURCE).rows
    assert (one["calls"], one["fcr_percent"], one["name"]) == (20, 95.0, None)


async def test_money_of_several_currencies(database: store.Database) -> None:
    """Averages are over the deals of the currency, not over all."""
    async with database.begin() as tx:
        await calls.save(tx, [row(number) for number in range(12)])
    said = [of(number, value="10", **{**WON, "currency": "RUB" if number < 6 else "EUR"}) for number in range(12)]
    await say(database, *said)
    found = await read(database)
    with pytest.raises(dealfigures.MixedCurrencies, match="EUR, RUB"):
        found.report(By.SOURCE)
    (one,) = found.report(By.SOURCE, "EUR").rows
    assert (one["deals_won"], one["won"], one["average_deal"], one["currency"]) == (12, "60.00", "10.00", "EUR")


async def test_spam_has_no_say_in_the_currency(database: store.Database) -> None:
    async with database.begin() as tx:
        await calls.save(tx, [row(1), row(2)])
    await say(database, of(1, value="10", **WON), of(2, **{**WON, "currency": "EUR"}, value="7", spam=True))
    assert (await read(database)).report(By.SOURCE).total["won"] == "10.00"


async def test_a_test_call_is_none_however_it_was_said(database: store.Database) -> None:
    async with database.begin() as tx:
        await calls.save(tx, [row(1), row(2), row(3, {"sip_call_id": '"tag":"test"'})])
    await say(database, of(1, tags=["test"]), of(2, tags=["tested", "a test"], note='"test"'))
    assert (await read(database)).report(By.SOURCE).total["calls"] == 2


async def test_agents_and_the_centre(database: store.Database) -> None:
    """R70: anna 8 h at 30 for 6 calls, boris 4 h at 60 for none; the centre 480 for 6 calls."""
    async with database.begin() as tx:
        await calls.save(tx, [row(number) for number in range(6)])
    hourly = {"from_day": "2026-09-01", "currency": "RUB"}
    wages = ({"agent": "anna", "hourly": "30", **hourly}, {"agent": "boris", "hourly": "60", **hourly})
    await spend(database, costs.WAGES, wages[0])
    staffed = (
        {"agent": "anna", "day": "2026-09-21", "hours": "8"},
        {"agent": "boris", "day": "2026-09-21", "hours": 4},
    )
    await spend(database, costs.HOURS, *staffed)

    async def agents() -> reporting.Agents:
        async with database.read() as connection:
            return await reporting.agents(connection, *DAYS)

    found = await agents()
    assert [(one["agent"], one["cost_per_call"], one["note"]) for one in found.rows] == [
        ("anna", "40.00", ""),
        ("boris", None, "no wage for 4.0 hours"),
    ]
    assert (found.total["cost_per_call"], found.total["note"]) == (None, "no wage for 4.0 hours")
    await spend(database, costs.WAGES, wages[1])
    found = await agents()
    assert [(one["cost"], one["cost_per_call"]) for one in found.rows] == [("240.00", "40.00"), ("240.00", None)]
    assert (found.total["hours"], found.total["cost"], found.total["cost_per_call"]) == (12.0, "480.00", "80.00")
    assert [one.kind for one in found.marks] == ["wages"] * len(found.marks)


async def test_too_many_calls_are_said_so(database: store.Database) -> None:
    async with database.begin() as tx:
        await calls.save(tx, [row(1), row(2), row(3, day_local=20260922)])
    async with database.read() as connection:
        assert len(await dealreports.inbound(connection, *DAYS, max_calls=3)) == 3
        for reading in (dealreports.inbound, dealreports.contacts):
            with pytest.raises(dealreports.TooManyCalls):
                await reading(connection, *DAYS, max_calls=2)
