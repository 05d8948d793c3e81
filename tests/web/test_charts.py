"""Charts as numbers: every day has its place, scales are round, words say what the picture shows."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from gateway.web import charts

FIRST = date(2026, 11, 2)  # a Monday
REVENUE, SPEND = charts.Series("won", "Revenue", "revenue"), charts.Series("spend", "Spend", "spend")


def day(offset: int, won: str, spend: str = "0.00", *, restated: bool = False) -> dict[str, Any]:
    return {"group": str(FIRST + timedelta(days=offset)), "won": won, "spend": spend, "restated": restated}


def parts(*rows: dict[str, Any], days: int = 3) -> list[charts.Bucket]:
    return charts.buckets(rows, FIRST, FIRST + timedelta(days=days - 1), ("won", "spend"))


def test_bars_stand_where_their_days_are() -> None:
    found = parts(day(0, "10.00", "5.00"), day(2, "0.10", restated=True))
    chart = charts.columns("Money", (REVENUE, SPEND), found, "RUB")
    assert chart.top == 10
    assert [(round(bar.height, 2), bar.kind) for bar in chart.bars] == [
        (100.0, "revenue"),
        (50.0, "spend"),
        (1.0, "revenue"),
    ]
    assert all(bar.x >= 0 and bar.x + bar.width <= 100 and bar.y + bar.height == 100 for bar in chart.bars)
    assert chart.bars[0].spoken == "2 Nov: Revenue 10 RUB"
    (mark,) = chart.marks
    assert mark.x > 200 / 3
    assert chart.spoken == (
        "Money by day, 2 Nov to 4 Nov: Revenue 10.10 RUB, most on 2 Nov with 10; "
        "Spend 5 RUB, most on 2 Nov with 5. Restated: 1 day."
    )


def test_of_nothing_there_is_a_picture_too() -> None:
    chart = charts.columns("Money", (REVENUE,), parts(days=1), "")
    assert not chart.bars and not chart.marks
    assert list(chart.labels) == ["2 Nov"]
    assert chart.top == 1
    assert chart.spoken == "Money by day, 2 Nov to 2 Nov: Revenue 0."
    assert charts.beams([], "romi_percent") == []


def test_long_spans_are_weeks_and_lose_nothing() -> None:
    rows = [day(offset, "1.00", restated=offset == 8) for offset in range(70)]
    found = parts(*rows, days=70)
    assert len(found) == 10
    assert sum(part.values["won"] for part in found) == 70
    assert [part.is_restated for part in found] == [False, True, *[False] * 8]
    assert found[0].label == "2 Nov – 8 Nov"
    assert len(parts(days=charts.DAYS_AS_DAYS)) == charts.DAYS_AS_DAYS


@pytest.mark.parametrize(
    ("value", "top"),
    [("0", "1"), ("1", "1"), ("1.01", "2"), ("2.1", "2.5"), ("26", "50"), ("51", "100"), ("1000", "1000")],
)
def test_scales_are_round(value: str, top: str) -> None:
    assert charts.rounded_up(Decimal(value)) == Decimal(top)


def test_percentages_stand_left_and_right_of_zero() -> None:
    rows: list[dict[str, Any]] = [{"group": "a", "name": "A", "p": 300.0}, {"group": "b", "name": None, "p": -100.0}]
    first, second = charts.beams([*rows, {"group": "c", "name": None, "p": None}], "p")
    assert (first.zero, first.x, first.width, first.kind) == (25, 25, 75, "good")
    assert (second.name, second.x, second.width, second.kind) == ("b", 0, 25, "bad")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        ("1234.50", "1\u202f234.50"),
        ("-1234567.00", "\u22121\u202f234\u202f567"),
        ("0.0375", "0.0375"),
        ("999999999999.9999", "999\u202f999\u202f999\u202f999.9999"),
    ],
)
def test_amounts_are_written_exactly(value: str | int | None, text: str) -> None:
    assert charts.shown(value) == text
