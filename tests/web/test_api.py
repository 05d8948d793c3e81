"""The API over a real store: filters, pages, records, routing, health, metrics, and its own description."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import aiohttp
import pydantic
import pytest

from gateway.core import calls, records
from gateway.store import routing
from gateway.web import health, metrics, problems, schemas, views
from tests.web import material
from tests.web.listener import Listener, bearer

DOCS = Path(__file__).parents[2] / "docs" / "http-api.md"


async def get(listener: Listener, http: aiohttp.ClientSession, path: str, token: str | None = None) -> Any:
    headers = bearer(token or await listener.token())
    async with http.get(listener.url + path, headers=headers) as answer:
        return await answer.json()


def ids(page: dict[str, Any]) -> list[str]:
    return [call["call_id"] for call in page["calls"]]


async def test_a_record_comes_back_as_it_was_stored(listener: Listener, http: aiohttp.ClientSession) -> None:
    stored = material.record(name='"Zoë" </script> \u2028')
    await listener.store_calls([stored])
    token = await listener.token()
    told = {**stored, "result": None}
    assert await get(listener, http, f"/api/v1/calls/{stored['call_id'].upper()}", token) == told
    assert await get(listener, http, "/api/v1/calls", token) == {"calls": [told], "next": None}


async def test_a_call_that_does_not_exist_is_said_so(listener: Listener, http: aiohttp.ClientSession) -> None:
    problem = await get(listener, http, "/api/v1/calls/00000000-0000-4000-8000-000000000000")
    assert (problem["type"], problem["status"]) == ("urn:dialmark:problem:call-not-found", 404)


async def test_pages_are_stable_while_calls_come_in(listener: Listener, http: aiohttp.ClientSession) -> None:
    documents = material.busy_day()
    await listener.store_calls(documents)
    token = await listener.token()
    page = await get(listener, http, "/api/v1/calls?limit=15", token)
    seen = ids(page)
    await listener.store_calls([material.record(started_at=material.NOW + timedelta(seconds=1))])
    while page["next"]:
        page = await get(listener, http, f"/api/v1/calls?limit=15&after={page['next']}", token)
        seen += ids(page)
    assert seen == [document["call_id"] for document in documents]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("outcome=answered", {"answered"}),
        ("outcome=busy,no_answer&outcome=abandoned", {"busy", "no_answer", "abandoned"}),
        ("missed=true&source=radio", {"radio"}),
        ("source=google-ads&outcome=answered", {"google-ads"}),
        ("caller=+442079460123", {"+442079460123"}),
        ("caller=%2B442079460123", {"+442079460123"}),
        ("caller=442079460123", {"+442079460123"}),
        ("did=74990000001&outcome=banned", {"+74990000001"}),
        ("agent=anna", {"anna"}),
        ("from=2026-11-21T13:00&to=2026-11-21T14:00%2B03:00", {"13"}),
        ("from=2026-11-21T10:00Z&to=2026-11-21T14:00+03:00", {"13"}),
        ("from=2026-11-21&to=2026-11-21T04:00", {"02", "03"}),
    ],
)
async def test_filters(listener: Listener, http: aiohttp.ClientSession, query: str, wanted: set[str]) -> None:
    """Each call of the answer fits, and none that fits is left out."""
    documents = material.busy_day()
    await listener.store_calls(documents)
    found = ids(await get(listener, http, f"/api/v1/calls?limit=200&{query}"))

    def fits(document: dict[str, Any]) -> bool:
        row = material.row(document)
        values = {row.outcome, row.source, row.caller, row.did, row.agent}
        hour = f"{row.hour_local:02}" if str(row.day_local) == "20261121" else None
        expected = {hour} if query.startswith("from") else values
        is_missed = row.missed or "missed" not in query
        outcome = str(row.outcome) in query or "outcome" not in query
        return bool(expected & wanted) and is_missed and outcome

    assert found
    assert sorted(found) == sorted(document["call_id"] for document in documents if fits(document))


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("outcome=answerd", {"outcome"}),
        ("outcom=answered", {"outcom"}),
        ("limit=0&from=yesterday&caller=abc", {"limit", "from", "caller"}),
        ("limit=201", {"limit"}),
        ("limit=1&limit=2", {"limit"}),
        ("after=xyz", {"after"}),
        ("after=" + "A" * 120, {"after"}),
        ("after=MTI6" + "%00", {"after"}),
        ("did=" + "1" * 3000, {"did"}),
        ("source=" + "x" * 3000, {"source"}),
        ("x" * 3000 + "=1", {"x" * 64}),
        ("caller=%EF%BC%91%EF%BC%92", {"caller"}),
    ],
)
async def test_it_names_every_field_that_does_not_fit(
    listener: Listener, http: aiohttp.ClientSession, query: str, fields: set[str]
) -> None:
    problem = await get(listener, http, f"/api/v1/calls?{query}")
    assert (problem["type"], problem["status"]) == ("urn:dialmark:problem:invalid-query", 400)
    assert {error["field"] for error in problem["errors"]} == fields


async def test_calls_that_are_up(listener: Listener, http: aiohttp.ClientSession) -> None:
    up = material.record(is_up=True)
    listener.board.publish(up)
    listener.board.publish(material.record())
    answer = await get(listener, http, "/api/v1/calls/live")
    assert answer["calls"] == [up]
    assert answer["event_id"] == listener.board.event_id


async def test_the_routing_in_force(listener: Listener, http: aiohttp.ClientSession) -> None:
    async with listener.database.begin() as tx:
        facts: dict[str, Any] = {"document": "", "applied_at": material.NOW, "applied_by": "it", "based_on": None}
        first = await routing.add(tx, comment="first", **facts)
        await routing.add(tx, comment="broken", **facts)
    listener.current = material.routing_book(first)
    answer = await get(listener, http, "/api/v1/routing")
    assert (answer["revision"], answer["latest_revision"], answer["comment"]) == (1, 2, "first")
    assert {"key": "radio", "name": "Radio Seven"} in answer["sources"]
    listener.current = None
    answer = await get(listener, http, "/api/v1/routing")
    assert (answer["revision"], answer["sources"]) == (None, [])


async def test_alive_for_anyone(listener: Listener, http: aiohttp.ClientSession) -> None:
    async with http.get(listener.url + "/healthz", headers={"Host": "elsewhere.example"}) as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "alive"})


async def test_readiness_and_its_reasons(listener: Listener, http: aiohttp.ClientSession) -> None:
    listener.probes["journal"] = lambda: health.Check(True, "read to the end", facts={"behind_seconds": 0.1})
    listener.probes["ami"] = lambda: health.Check(False, "login refused", is_required=False)
    async with http.get(listener.url + "/readyz") as answer:
        document = await answer.json()
        assert (answer.status, document["status"]) == (200, "degraded")
        assert document["checks"]["database"]["well"]
        assert document["checks"]["journal"]["facts"] == {"behind_seconds": 0.1}
        assert document["checks"]["ami"]["summary"] == "login refused"


async def test_a_required_part_that_is_not_well_or_broken_or_silent_makes_503(
    listener: Listener, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.05)

    def broken() -> health.Check:
        raise RuntimeError("with a secret")

    async def silent() -> health.Check:
        await asyncio.Event().wait()
        raise AssertionError

    listener.probes.update(journal=broken, ami=silent)
    async with http.get(listener.url + "/readyz") as answer:
        checks = (await answer.json())["checks"]
        assert answer.status == 503
        assert checks["journal"]["summary"] == "check failed: RuntimeError"
        assert checks["ami"]["summary"] == "no answer within 0.05 s"


async def test_strangers_see_no_reasons_and_no_metrics(listener: Listener, http: aiohttp.ClientSession) -> None:
    stranger = {"X-Forwarded-For": "198.51.100.1"}
    async with http.get(listener.url + "/readyz", headers=stranger) as answer:
        assert await answer.json() == {"status": "ready"}
    async with http.get(listener.url + "/metrics", headers=stranger) as answer:
        assert answer.status == 401
    async with http.get(listener.url + "/metrics", headers=bearer(await listener.token("calls:read"))) as answer:
        assert answer.status == 403
    async with http.get(
        listener.url + "/metrics", headers=stranger | bearer(await listener.token("metrics:read"))
    ) as a:
        assert a.status == 200


async def test_a_database_that_is_gone_is_503_and_liveness_stays(
    listener: Listener, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    token = await listener.token()
    for name in ("dialmark.db", "dialmark.db-wal", "dialmark.db-shm"):
        (tmp_path / name).unlink()
    async with http.get(listener.url + "/api/v1/calls", headers=bearer(token)) as answer:
        assert answer.status == 503
        assert (await answer.json())["type"] == "urn:dialmark:problem:unavailable"
    async with http.get(listener.url + "/readyz") as answer:
        assert answer.status == 503
        assert not (await answer.json())["checks"]["database"]["well"]
    async with http.get(listener.url + "/healthz") as answer:
        assert answer.status == 200


async def test_metrics_hold_no_number_and_no_name(listener: Listener, http: aiohttp.ClientSession) -> None:
    listener.meters.watch(
        metrics.Readings(
            active_calls=lambda: listener.board.open_count,
            ami_connected=lambda: True,
            journal_lag_seconds=lambda: None,
            journal_rows=lambda: 12,
            journal_damaged=lambda: 1,
            outbox_depth=lambda: 3,
            live_readers=lambda: listener.board.reader_count,
            live_cut_off=lambda: listener.board.cut_off_total,
        )
    )
    listener.board.publish(material.record(is_up=True))
    for document in material.busy_day():
        listener.board.publish(document)
    listener.meters.agi_answered("answered", 0.004)
    listener.meters.loop_lagged(0.25)
    async with http.get(listener.url + "/metrics") as answer:
        text = await answer.text()
    for line in (
        'dialmark_calls_total{direction="inbound",node="main",outcome="banned"} 3.0',
        'dialmark_active_calls{node="main"} 1.0',
        'dialmark_agi_requests_total{node="main",result="answered"} 1.0',
        'dialmark_agi_duration_seconds_bucket{le="0.005",node="main"} 1.0',
        'dialmark_ami_connected{node="main"} 1.0',
        'dialmark_journal_rows_total{node="main"} 12.0',
        'dialmark_journal_damaged_total{node="main"} 1.0',
        'dialmark_outbox_depth{node="main"} 3.0',
        'dialmark_loop_lag_seconds{node="main"} 0.25',
    ):
        assert line in text
    assert "dialmark_build_info{" in text
    assert "journal_lag_seconds{" not in text
    assert "7495" not in text and "Ads" not in text and "radio" not in text


async def test_outcomes_outside_the_table_do_not_become_labels() -> None:
    meters = metrics.Meters("main", "0.1.0")
    meters.call_ended({"call_id": "a", "direction": "sideways", "outcome": "+74951234567"})
    assert 'direction="unknown",node="main",outcome="unknown"' in meters.exposition().decode()


async def test_the_description_is_complete(listener: Listener, http: aiohttp.ClientSession) -> None:
    document = await get(listener, http, "/api/v1/openapi.json", await listener.token("live:read"))
    assert set(document["paths"]) == {
        "/healthz", "/readyz", "/metrics", "/api/v1/openapi.json", "/api/v1/calls", "/api/v1/calls/live",
        "/api/v1/calls/{call_id}", "/api/v1/calls/{call_id}/hang-up", "/api/v1/live", "/api/v1/routing",
            "/api/v1/recordings", "/api/v1/recordings/{recording_id}", "/api/v1/recordings/{recording_id}/audio",
            "/api/v1/recordings/{recording_id}/peaks", "/api/v1/calls/{call_id}/recording",
            "/api/v1/calls/{call_id}/deliveries", "/api/v1/calls/{call_id}/attributes",
            "/api/v1/calls/{call_id}/receipts", "/api/v1/pools", "/api/v1/visitors", "/api/v1/visitors/{visitor_id}",
            "/api/v1/visitors/{visitor_id}/erase",
            "/api/v1/tickets", "/api/v1/tickets/{number}", "/api/v1/tickets/{number}/assign",
            "/api/v1/tickets/{number}/notes", "/api/v1/tickets/{number}/attempts", "/api/v1/tickets/{number}/close",
            "/api/v1/tickets/{number}/reopen",
            "/api/v1/webhooks", "/api/v1/webhooks/{target}/deliveries", "/api/v1/webhooks/{target}/test",
            "/api/v1/webhooks/{target}/retry", "/api/v1/webhooks/{target}/replay", "/api/v1/webhooks/{target}/enable",
            "/api/v1/events/v1", "/api/v1/events/v1/{type}",
            "/api/v1/calls/{call_id}/result", "/api/v1/calls/{call_id}/result/history", "/api/v1/deals",
            "/api/v1/agents", "/api/v1/agents/{agent}/break", "/api/v1/tickets/{number}/call",
            "/api/v1/audiences", "/api/v1/audiences/{key}/try", "/api/v1/audiences/{key}/export",
            "/api/v1/inbound/{key}", "/api/v1/spend", "/api/v1/wages", "/api/v1/wages/hours",
                "/api/v1/reports/sources", "/api/v1/reports/agents",
    }  # fmt: skip
    listing = document["paths"]["/api/v1/calls"]["get"]
    assert {parameter["name"] for parameter in listing["parameters"]} >= {
        "from", "to", "outcome", "did", "source", "caller", "agent", "after", "limit", "model"
    }  # fmt: skip
    assert set(listing["responses"]) == {"200", "400", "401", "403", "429", "503"}
    assert "CallRecord" in document["components"]["schemas"]


FACTS = calls.CallFacts(
    call_id="c", direction=calls.Direction.INBOUND, linked_id="1.1", unique_id="1.1", sip_call_id=None, trunk="t",
    did="74990000001", caller="74951234567", caller_raw="8495", caller_name="", started_at_us=1, answered_at_us=2,
    ended_at_us=3, last_row_at_us=3, is_closed=True, outcome=calls.Outcome.ANSWERED, cause=None,
    ended_by=calls.EndedBy.CALLER, route_source="agi", route="sales", plan_revision=7, agi_status="SUCCESS",
    wait_seconds=1.0, talk_seconds=1.0, hold_seconds=0.0, post_dial_delay_seconds=None, prompt_seconds=0.0,
    silent_seconds=0.0, plan_at_us=1,
    attempts=(
        calls.Attempt(1, "sales-desk", "forward", calls.AttemptOutcome.ANSWERED, 1, 2, 3, 1.0, 1.0, None, 16, "desk-1",
                      "PJSIP/desk-1-00000001"),
    ),
)  # fmt: skip


def described(model: type[pydantic.BaseModel], document: dict[str, Any], path: str = "") -> list[str]:
    """Fields of a document that its model does not know."""
    unknown = []
    for key, value in document.items():
        if key not in model.model_fields:
            unknown.append(f"{path}{key}")
            continue
        kinds = [kind for kind in _kinds(model.model_fields[key].annotation) if issubclass(kind, pydantic.BaseModel)]
        for item in value if isinstance(value, list) else [value]:
            if kinds and isinstance(item, dict):
                unknown += described(kinds[0], item, f"{path}{key}.")
    return unknown


def _kinds(annotation: Any) -> list[type]:
    inner = [kind for part in get_args(annotation) for kind in _kinds(part)]
    return [annotation] if isinstance(annotation, type) and not inner else inner


def test_the_record_that_the_core_makes_is_the_one_described() -> None:
    document = records.record(
        FACTS, material.routing_book(), revision=1, calls_before=None, node="main", with_region=False
    )
    parsed = schemas.CallRecord.model_validate(document)
    assert described(schemas.CallRecord, document) == []
    view = views.call_view(document, views.Names(material.routing_book()), material.ZONE, material.NOW)
    assert (parsed.attribution.source, view.source, view.stops[0][0].name) == ("google-ads", "Google Ads", "Sales desk")


@pytest.mark.parametrize("document", [*material.busy_day()[:14], material.record(is_up=True, outcome=None)])
def test_records_keep_to_their_model(document: dict[str, Any]) -> None:
    schemas.CallRecord.model_validate(document)


def test_every_problem_and_route_is_documented() -> None:
    text = DOCS.read_text()
    missing = [slug for slug in problems.TITLES if f"`{slug}`" not in text]
    assert not missing
