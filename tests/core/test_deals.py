"""What is said about a call, read from anything: a wish, or all that is wrong with it (R14, R15, R60, R77)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import deals, money

JSON = deals.Reading(ZoneInfo("Europe/Moscow"), "RU")
SHEET = deals.Reading(ZoneInfo("Europe/Moscow"), "RU", is_sheet=True)
CALL = "c639621d-dae1-4006-8f3b-c531a51116b3"

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(written=st.dictionaries(st.sampled_from(deals.FIELDS) | st.text(max_size=10), anything, max_size=8))
def test_whatever_is_written_is_a_wish_or_is_wrong(written: dict[str, Any]) -> None:
    for how in (JSON, SHEET):
        found = deals.read(written, how)
        assert isinstance(found, deals.Wish) or (found and all(one.message for one in found))


@given(st.text(alphabet="0123456789., -'\u00a0", max_size=16))
def test_money_of_a_sheet_is_exact_or_refused(written: str) -> None:
    try:
        found = money.amount_of_sheet(written)
    except ValueError:
        return
    assert money.amount(money.shown(found)) == found
    assert "".join(filter(str.isdigit, written)).strip("0") == "".join(filter(str.isdigit, str(found))).strip("0")


@pytest.mark.parametrize("e4", [0, 1, 375, 10_000, 12_345_000, 10**15])
def test_money_comes_back_as_it_went(e4: int) -> None:
    assert money.amount(money.shown(e4)) == e4


@pytest.mark.parametrize(
    ("written", "hours_utc"),
    [
        ("2026-11-21T14:30:00+03:00", 11.5),
        ("2026-11-21T14:30:00Z", 14.5),
        ("2026-11-21 14:30", 11.5),
        ("21.11.2026 14:30", 11.5),
        ("21.11.2026  9:05:00", 6 + 5 / 60),
    ],
)
def test_times_are_of_the_site_unless_they_say_otherwise(written: str, hours_utc: float) -> None:
    expected = datetime(2026, 11, 21, tzinfo=UTC) + timedelta(hours=hours_utc)
    assert deals.moment_of(written, ZoneInfo("Europe/Moscow")) == expected


@pytest.mark.parametrize(
    "written", ["11/21/2026", "21.11.26", "2026-11-31", "32.01.2026", "now", "", None, 5, "9" * 99]
)
def test_days_are_not_guessed(written: object) -> None:
    with pytest.raises(ValueError, match="must be a day"):
        deals.day_of(written)
    with pytest.raises(ValueError, match="must be a time"):
        deals.moment_of(written, UTC)


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ({"qualified": True}, "call_id"),
        ({"call_id": CALL}, "call_id"),
        ({"call_id": CALL, "caller": "+79161234567", "spam": True}, "call_id"),
        ({"crm": "main", "spam": True}, "object_id"),
        ({"object_id": "5", "spam": True}, "crm"),
        ({"crm": "../x", "object_id": "5", "spam": True}, "crm"),
        ({"caller": "+79161234567", "spam": True}, "at"),
        ({"caller": "anonymous", "at": "2026-11-21", "spam": True}, "caller"),
        ({"caller": "+79161234567", "at": "2026-11-21 10:00", "within_minutes": 0, "spam": True}, "within_minutes"),
        ({"call_id": CALL, "deal_id": 10**30}, "deal_id"),
        ({"call_id": CALL, "Qualified": True}, "Qualified"),
    ],
)
def test_a_call_is_named_one_way_and_something_is_said(written: dict[str, Any], field: str) -> None:
    found = deals.read(written, JSON)
    assert isinstance(found, list)
    assert found[0].field == field


def test_an_empty_cell_leaves_and_a_dash_takes_away() -> None:
    found = deals.read({"call_id": CALL, "note": "-", "tags": "-", "qualified": "нет"}, SHEET)
    assert isinstance(found, deals.Wish)
    assert found.said == {"note": None, "tags": (), "qualified": False}
    known = deals.Result(note="old", tags=("a",), lead_status="hot")
    assert known.after(found.said, latest_day=20261121) == deals.Result(qualified=False, lead_status="hot")
