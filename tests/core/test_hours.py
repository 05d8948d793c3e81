from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import book, hours

MOSCOW = ZoneInfo("Europe/Moscow")
OFFICE = book.BusinessHours(
    "office",
    "Europe/Moscow",
    (
        *(book.OpeningTime(day, time(9), time(18)) for day in range(5)),
        book.OpeningTime(5, time(22), time.max),
        book.OpeningTime(6, time(0), time(2)),
    ),
    frozenset({date(2026, 12, 31)}),
)


@pytest.mark.parametrize(
    ("local", "is_open"),
    [
        ("2026-11-11T08:59:59", False),
        ("2026-11-11T09:00:00", True),
        ("2026-11-11T17:59:59.999999", True),
        ("2026-11-11T18:00:00", False),
        ("2026-11-14T12:00:00", False),
        ("2026-11-14T22:00:00", True),
        ("2026-11-14T23:59:59.999999", True),
        ("2026-11-15T00:00:00", True),
        ("2026-11-15T02:00:00", False),
        ("2026-12-31T12:00:00", False),
        ("2027-01-01T12:00:00", True),
    ],
)
def test_the_end_is_closed_midnight_is_crossed_and_a_holiday_is_closed_all_day(local: str, is_open: bool) -> None:
    at = datetime.fromisoformat(local).replace(tzinfo=MOSCOW)
    assert hours.is_open(OFFICE, at) is is_open
    assert hours.is_open(OFFICE, at.astimezone(UTC)) is is_open


def test_the_day_is_that_of_the_hours_own_zone() -> None:
    friday_evening_in_moscow = datetime(2026, 11, 13, 20, 0, tzinfo=MOSCOW)
    saturday = book.BusinessHours("far", "Asia/Kamchatka", (book.OpeningTime(5, time(0), time(9)),))
    assert hours.is_open(saturday, friday_evening_in_moscow)


@pytest.mark.parametrize(
    ("local", "change"),
    [
        ("2026-11-11T08:00:00", "2026-11-11T09:00:00"),
        ("2026-11-11T09:00:00", "2026-11-11T18:00:00"),
        ("2026-11-14T23:00:00", "2026-11-15T02:00:00"),
        ("2026-12-30T19:00:00", "2027-01-01T09:00:00"),
    ],
)
def test_the_next_change_looks_over_midnight_and_holidays(local: str, change: str) -> None:
    at, expected = (datetime.fromisoformat(text).replace(tzinfo=MOSCOW) for text in (local, change))
    assert hours.next_change(OFFICE, at) == expected


@pytest.mark.parametrize("opening_times", [(), tuple(book.OpeningTime(day, time(0), time.max) for day in range(7))])
def test_hours_that_never_change_say_so(opening_times: tuple[book.OpeningTime, ...]) -> None:
    always = book.BusinessHours("always", "Europe/Moscow", opening_times)
    assert hours.next_change(always, datetime(2026, 11, 11, tzinfo=UTC)) is None


@given(
    seconds=some.integers(min_value=0, max_value=2 * 365 * 86_400),
    share=some.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_nothing_changes_before_the_next_change(seconds: int, share: float) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    change = hours.next_change(OFFICE, at)
    assert change is not None
    before = at + (change - at) * share
    assert hours.is_open(OFFICE, before if before < change else at) is hours.is_open(OFFICE, at)
    assert hours.is_open(OFFICE, change) is not hours.is_open(OFFICE, at)


def test_clocks_set_forward_move_the_opening_with_them() -> None:
    berlin = book.BusinessHours("b", "Europe/Berlin", (book.OpeningTime(6, time(9), time(18)),))
    before_the_change = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)
    change = hours.next_change(berlin, before_the_change)
    assert change == datetime(2026, 3, 29, 7, 0, tzinfo=UTC)
    assert hours.is_open(berlin, change)
    assert not hours.is_open(berlin, change - timedelta(seconds=1))
