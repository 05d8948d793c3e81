"""Reports over HTTP: who may, what is asked for, and that they say what the command line says (R14-R16, R70, R77)."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from gateway.core import costs
from gateway.services import costing, dealing, reporting
from gateway.store import calls
from gateway.web import parts, reports
from tests.web import material
from tests.web.listener import Listener, bearer

SOURCES, AGENTS = "/api/v1/reports/sources", "/api/v1/reports/agents"


async def ask(http: aiohttp.ClientSession, listener: Listener, path: str, *scopes: str, status: int = 200) -> Any:
    headers = bearer(await listener.token(*(scopes or ("reports:read",))))
    async with http.get(listener.url + path, headers=headers) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def fill(listener: Listener) -> None:
    """A busy day, one deal won late, spend and wages."""
    documents = material.busy_day()
    documents[2]["attribution"]["campaign"] = "=HYPERLINK(1)"
    await listener.store_calls(documents)
    now_us = parts.micros(listener.clock.now)
    takes = dealing.Dealing(
        listener.database,
        current_book=lambda: listener.current,
        targets=(),
        now_us=lambda: parts.micros(listener.clock.now + timedelta(days=2)),
    )
    won = {"deal_state": "won", "value": "1200.50", "currency": "RUB", "qualified": True}
    await takes.take([dealing.Asked(0, {"call_id": documents[0]["call_id"], **won})], dealing.Source("cli:anna", "csv"))
    for kind, row in (
        (costs.SPEND, {"day": "2026-11-21", "source": "google-ads", "amount": "90", "currency": "RUB"}),
        (costs.WAGES, {"agent": "anna", "from_day": "2026-11-01", "hourly": "30", "currency": "RUB"}),
        (costs.HOURS, {"agent": "anna", "day": "2026-11-21", "hours": "8"}),
    ):
        await costing.take(listener.database, kind, [(0, row)], current=listener.current, by="cli:anna", now_us=now_us)


@pytest.fixture
async def filled(listener: Listener) -> Listener:
    await fill(listener)
    return listener


async def test_it_says_what_the_command_line_says(filled: Listener, http: aiohttp.ClientSession) -> None:
    """One reading behind both; every way of grouping."""
    async with filled.database.read() as connection:
        told = await reporting.read(connection, filled.current, 20261101, 20261130)
    for by in reporting.By:
        said = await ask(http, filled, f"{SOURCES}?from=2026-11-01&to=2026-11-30&by={by.value}")
        assert said["rows"] == list(told.report(by).rows)
        assert said["total"] == told.report(by).total
        assert (said["by"], said["from"], said["to"]) == (by.value, "2026-11-01", "2026-11-30")
        assert (said["time_zone"], said["currency"], said["next"]) == ("Europe/Moscow", "RUB", None)
    assert said["restated"] == [
        {"day": "2026-11-21", "what": "results", "changes": 1, "last_at": "2026-11-23T11:30:00.000Z"}
    ]
    assert said["total"]["won"] == "1200.50"


async def test_of_one_source_and_campaign_alone(filled: Listener, http: aiohttp.ClientSession) -> None:
    """R64; calls without a campaign are to be had too."""
    async with filled.database.read() as connection:
        told = await reporting.read(connection, filled.current, 20261101, 20261130)
    for row in told.report(reporting.By.CAMPAIGN).rows:
        of = {"source": row["source"], "campaign": row["campaign"] or reporting.NO_CAMPAIGN}
        said = await ask(http, filled, f"{SOURCES}?from=2026-11-01&to=2026-11-30&by=agent&{urlencode(of)}")
        assert said["total"]["calls"] == row["calls"]
        assert said["rows"] == list(told.only(**of).report(reporting.By.AGENT).rows)


async def test_thirty_days_unless_asked(filled: Listener, http: aiohttp.ClientSession) -> None:
    said = await ask(http, filled, SOURCES)
    assert (said["from"], said["to"]) == ("2026-10-23", "2026-11-21")
    assert said["total"]["calls"] == 40 - 3, "three are banned"
    only = await ask(http, filled, f"{SOURCES}?from=2026-11-20&to=2026-11-20&by=day")
    assert [one["group"] for one in only["rows"]] == []
    assert only["total"]["calls"] == 0


async def test_pages_and_order(filled: Listener, http: aiohttp.ClientSession) -> None:
    """Rows without the figure come last, downward and upward."""
    whole = (await ask(http, filled, f"{SOURCES}?by=campaign&sort=-calls"))["rows"]
    assert [one["calls"] for one in whole] == sorted((one["calls"] for one in whole), reverse=True)
    found: list[Any] = []
    after: int | None = 0
    while after is not None:
        page = await ask(http, filled, f"{SOURCES}?by=campaign&sort=-calls&limit=2&after={after}")
        found, after = [*found, *page["rows"]], page["next"]
    assert found == whole and len(whole) > 2
    for sort in ("cost_per_call", "-cost_per_call"):
        figures = [one["cost_per_call"] for one in (await ask(http, filled, f"{SOURCES}?sort={sort}"))["rows"]]
        assert figures[0] is not None and figures[-1] is None
    names = [one["name"] or one["group"] for one in (await ask(http, filled, f"{SOURCES}?sort=group"))["rows"]]
    assert names == sorted(names, key=str.casefold)


async def test_as_csv(filled: Listener, http: aiohttp.ClientSession) -> None:
    """What a stranger wrote into a campaign is no formula of a spreadsheet."""
    headers = bearer(await filled.token("reports:read"))
    async with http.get(f"{filled.url}{SOURCES}?by=campaign&format=csv", headers=headers) as answer:
        assert answer.content_type == "text/csv"
        disposition = answer.headers["Content-Disposition"]
        rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert disposition == 'attachment; filename="campaign-2026-10-23-2026-11-21.csv"'
    assert set(rows[0]) == set(reports.COLUMNS)
    assert "'=HYPERLINK(1)" in {row["campaign"] for row in rows}
    said = await ask(http, filled, f"{SOURCES}?by=campaign")
    assert [int(row["calls"]) for row in rows] == [row["calls"] for row in said["rows"]]
    assert set(said["rows"][0]) == set(reports.COLUMNS), "JSON and CSV have the same columns"


async def test_agents(filled: Listener, http: aiohttp.ClientSession) -> None:
    said = await ask(http, filled, f"{AGENTS}?from=2026-11-21&to=2026-11-21", "wages:manage")
    anna = next(one for one in said["rows"] if one["agent"] == "anna")
    assert anna["cost"] == "240.00"
    assert anna["cost_per_call"] == f"{240 / anna['calls']:.2f}"
    assert said["total"]["note"] == "no staffed hours", "boris took calls too"
    headers = bearer(await filled.token("wages:manage"))
    async with http.get(f"{filled.url}{AGENTS}?format=csv", headers=headers) as answer:
        (first, *_) = csv.DictReader(io.StringIO(await answer.text()))
    assert set(first) == set(reports.AGENT_COLUMNS) == set(anna)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=2026-11-02&to=2026-11-01", "to"),
        ("from=2020-01-01", "to"),
        ("from=x", "from"),
        ("from=0001-01-01&to=0001-01-01", "from"),
        ("to=0001-01-01", "to"),
        ("to=9999-12-31", "to"),
        ("to=2026-13-01", "to"),
        ("from=0001-01-01&to=0001-01-01&more=1", "more"),
        ("by=caller", "by"),
        ("sort=caller", "sort"),
        ("sort=calls;drop", "sort"),
        ("sort=--calls", "sort"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("after=-1", "after"),
        ("after=99999999999999999999", "after"),
        ("currency=QQQ", "currency"),
        ("currency=%00", "currency"),
        ("format=xml", "format"),
        ("by=day&by=source", "by"),
    ],
)
async def test_what_does_not_fit(listener: Listener, http: aiohttp.ClientSession, query: str, field: str) -> None:
    problem = await ask(http, listener, f"{SOURCES}?{query}", status=400)
    assert field in [one["field"] for one in problem["errors"]]


async def test_several_currencies_must_be_chosen_from(filled: Listener, http: aiohttp.ClientSession) -> None:
    row = {"day": "2026-11-20", "source": "radio", "amount": "5", "currency": "EUR"}
    await costing.take(
        filled.database, costs.SPEND, [(0, row)], current=filled.current, by="cli:a", now_us=parts.micros(material.NOW)
    )
    problem = await ask(http, filled, SOURCES, status=400)
    assert problem["errors"] == [{"field": "currency", "message": "there is money in EUR, RUB: choose one"}]
    assert (await ask(http, filled, f"{SOURCES}?currency=eur"))["total"]["spend"] == "5.00"


async def test_scopes(listener: Listener, http: aiohttp.ClientSession) -> None:
    """Deals and spend need their own scope; what an agent earns is for who manages wages."""
    for path, scope in ((SOURCES, "calls:read"), (SOURCES, "costs:read"), (AGENTS, "reports:read")):
        assert (await ask(http, listener, path, scope, status=403))["type"].endswith("missing-scope")
    await ask(http, listener, SOURCES, "admin")
    async with http.get(listener.url + SOURCES) as answer:
        assert answer.status == 401


async def test_without_a_routing_book(idle: Listener, http: aiohttp.ClientSession) -> None:
    idle.current = None
    async with idle.database.begin() as tx:
        await calls.save(tx, [material.row(material.record(source="radio"))])
    async with idle.running():
        said = await ask(http, idle, SOURCES)
    assert [(one["group"], one["name"], one["calls"]) for one in said["rows"]] == [("radio", None, 1)]
    assert said["time_zone"] == "UTC"
