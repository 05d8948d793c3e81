"""`explain` and `numbers list`: the decision in words, with the history of the store (N12)."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from gateway import store
from gateway.config import routingfile
from gateway.core import routing
from tests.cli.conftest import EXAMPLE, ROUTING, Operator
from tests.services import clinic as sites


@pytest.fixture
def clinic(operator: Operator) -> Operator:
    """The example's routing in force."""
    operator("apply", EXAMPLE)
    return operator


def test_the_way_of_a_call_in_words(clinic: Operator) -> None:
    text = clinic("explain", "+74990000001", "--from", "+79161234567", "--at", "2026-11-23T12:00").out
    assert "+74990000001 called by +79161234567 at Monday 2026-11-23 12:00 MSK" in text
    assert "first-time caller" in text
    assert "1. forward reception (PJSIP/desk-1), 20 s" in text
    assert "tracking number +74990000001 of source google-ads goes by route sales" in text
    assert "When the daemon is down" in text


@pytest.mark.parametrize("written", ["+74990000001", "74990000001", "8 499 000-00-01", "+7 (499) 000-00-01"])
def test_numbers_may_be_written_as_people_write_them(clinic: Operator, written: str) -> None:
    assert clinic("explain", written, "--format", "json").json["plan"]["route"] == "sales"


def test_json_is_the_decision_of_the_core(clinic: Operator) -> None:
    document = clinic("explain", "+73430000001", "--at", "2026-11-23T12:00:00Z", "--format", "json").json
    book = routingfile.parse(EXAMPLE.read_text(), 1)
    question = routing.Question("x", "73430000001", "", datetime(2026, 11, 23, 12, tzinfo=UTC))
    plan = routing.decide(question, book, routing.History())
    assert document["plan"]["why"] == list(plan.why)
    assert [step["ring_seconds"] for step in document["plan"]["steps"]] == [step.ring_seconds for step in plan.steps]
    assert document["when_daemon_is_down"]["hours"] == "ural-office"
    assert document["when_daemon_is_down"]["closed"] is not None


def test_csv_is_the_steps(clinic: Operator) -> None:
    lines = clinic("explain", "+74990000001", "--format", "csv").lines
    assert lines[0] == "step,kind,destination,dial,ring_seconds"
    assert lines[1] == "1,forward,reception,PJSIP/desk-1,20"


def test_banned_callers_and_hours(clinic: Operator) -> None:
    """R112: the ban and its reason are said."""
    banned = clinic("explain", "+74990000001", "--from", "+74957770001").out
    assert "the caller hears busy" in banned
    assert "Sells advertising, calls daily" in banned
    closed = clinic("explain", "+73430000001", "--at", "2026-11-22T03:00").out
    assert "closed by business hours ural-office" in closed


def test_an_unknown_number_goes_to_the_default_destination(clinic: Operator) -> None:
    assert "is no tracking number" in clinic("explain", "+74991234567").out


def test_repeat_callers_are_known_from_the_store(busy_day: Operator) -> None:
    """R71: history comes from the stored calls."""
    records = busy_day("calls", "list", "--direction", "inbound", "--format", "json").json
    caller = next(record["caller"]["number"] for record in records if record["caller"]["number"])
    asked = ("explain", "+74990000001", "--from", caller, "--at", "2030-01-01", "--format", "json")
    known = busy_day(*asked).json["known"]
    calls = busy_day("calls", "list", "--caller", caller, "--direction", "inbound", "--format", "json").json
    assert known["calls_before"] == len(calls) > 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["+74990000001", "--at", "tomorrow-ish"], "--at: 'tomorrow-ish' is not a time"),
        (["+74990000001", "--trunk", "nope"], "there is no trunk 'nope'; there are carrier-a"),
        (["hello"], "NUMBER: 'hello' has no digits"),
        (["+74990000001", "--from", "???"], "--from: '???' has no digits"),
        ([], "NUMBER"),
    ],
)
def test_mistakes(clinic: Operator, arguments: list[str], expected: str) -> None:
    assert expected in clinic("explain", *arguments, code=2).err


@pytest.mark.parametrize("caller", ["anonymous", "7" * 3000, "+1", "%0d%0a1"])
def test_odd_callers_are_routed_like_any_other(clinic: Operator, caller: str) -> None:
    """R49"""
    assert clinic("explain", "+74990000001", "--from", caller, "--format", "json").json["plan"]["route"] == "sales"


async def _open_page(operator: Operator, tags: str) -> str:
    """A visitor of the web site of `sites.ROUTING` is shown a number; the visitor's id."""
    database = await store.Database.open(f"sqlite:///{operator.folder}/dialmark.db")
    try:
        page = await sites.Clinic(database, now_us=time.time_ns() // 1_000).open(url=f"{sites.PAGE}?{tags}")
    finally:
        await database.close()
    assert page.visitor_id is not None
    return page.visitor_id


def test_a_number_of_a_pool(operator: Operator) -> None:
    """R48, R91: who would be named now, and what the agent would be told of them."""
    operator.apply(sites.ROUTING)
    before = operator("explain", sites.FIRST).out
    assert "pool number of pool moscow" in before
    assert "no visitor is named (0 may have called)" in before
    visitor = asyncio.run(_open_page(operator, "utm_source=google&utm_medium=cpc&utm_campaign=spring&utm_term=implant"))
    text = operator("explain", sites.FIRST, "--from", "+79161234567").out
    assert f"probably visitor {visitor} (" in text
    assert "Google Ads, spring, implant" in text
    assert "the agent is told: Google Ads spring implant" in text
    document = operator("explain", sites.FIRST, "--format", "json").json
    assert (document["pool"], document["plan"]["whisper"]) == ("moscow", "Google Ads spring implant")
    assert document["attribution"]["visitor_id"] == visitor
    printed = operator("explain", sites.PRINTED, "--format", "json").json
    assert (printed["pool"], printed["attribution"], printed["source"]) == (None, None, "leaflet")
    assert "overflow number of pool moscow" in operator("explain", sites.OVERFLOW).out
    rows = {row["number"]: row["pool"] for row in operator("numbers", "list", "--format", "json").json}
    assert rows == {sites.FIRST: "moscow", sites.SECOND_NUMBER: "moscow", sites.OVERFLOW: "moscow", sites.PRINTED: None}


def test_numbers_with_their_calls(busy_day: Operator) -> None:
    calls = busy_day("calls", "list", "--number", "+74990000001", "--format", "json").json
    busy_day.apply(f'{ROUTING}\n[[tracking_number]]\nnumber = "+74990000099"\nroute = "sales"\n')
    rows = {row["number"]: row for row in busy_day("numbers", "list", "--format", "json").json}
    assert rows["+74990000001"]["calls"] == len(calls) > 0
    assert rows["+74990000001"]["last_call_at"] == calls[0]["started_at"]
    assert rows["+74990000001"]["source"] == "radio"
    assert rows["+74990000099"]["calls"] == 0
    assert "+74990000099" not in busy_day("numbers", "list", "--source", "radio").out


def test_numbers_without_calls_for_long(busy_day: Operator) -> None:
    busy_day.apply(f'{ROUTING}\n[[tracking_number]]\nnumber = "+74990000099"\nroute = "sales"\n')
    silent = busy_day("numbers", "list", "--silent-since", "2020-01-01", "--format", "json").json
    assert [row["number"] for row in silent] == ["+74990000099"]
    assert "there is no 'nope'; there are sales" in busy_day("numbers", "list", "--route", "nope", code=2).err
