"""Callers, devices and shared lines (R48, R54, R88), and numbers that got out (N6)."""

from __future__ import annotations

import pytest

from gateway.core import leaks, matching, visitors
from gateway.core.attribution import Method
from gateway.core.book import TrackingKind
from gateway.core.leaks import NumberCall
from gateway.core.visitors import Link

HOUR = 3_600 * 1_000_000
DAY = 24 * HOUR
NOW = 1_800_000_000 * 1_000_000
CALLER, OTHER = "+79161234567", "+79160000000"


def linked(visitor: str, days: float, confidence: float = 0.9, caller: str = CALLER) -> Link:
    return Link(caller, visitor, confidence, NOW + round(days * DAY))


@pytest.mark.parametrize(
    ("kind", "method", "confidence", "links"),
    [
        (TrackingKind.POOL, Method.VISITOR, 0.8, 0.8),
        (TrackingKind.POOL, Method.VISITOR, 0.79, None),
        (TrackingKind.POOL, Method.CLICK_TO_CALL, 0.95, 0.95),
        (TrackingKind.POOL, Method.CALLER_HISTORY, 0.95, None),
        (TrackingKind.OVERFLOW, Method.CLICK_TO_CALL, 0.95, None),
        (TrackingKind.STATIC, Method.STATIC_NUMBER, 1.0, 0.95),
    ],
)
def test_only_a_call_that_is_nearly_certain_links(
    kind: TrackingKind, method: Method, confidence: float, links: float | None
) -> None:
    """Never the overflow number, never an inherited touch, never an anonymous caller."""
    match = matching.Match(method, confidence, "anna")
    made = visitors.link(kind, match, CALLER, NOW)
    assert made == (Link(CALLER, "anna", links, NOW) if links is not None else None)
    assert visitors.link(kind, match, None, NOW) is None
    assert visitors.link(kind, matching.Match(method, 1.0), CALLER, NOW) is None


def test_two_devices_of_one_caller_are_one_profile() -> None:
    """R48: browsed on the computer and called, then on the telephone and called."""
    links = [linked("phone", 3), linked("computer", 1), linked("phone", 5), linked("else", 2, caller=OTHER)]
    found = visitors.profile(CALLER, links)
    assert found == visitors.Profile(CALLER, ("computer", "phone"), NOW + DAY, NOW + 5 * DAY)
    assert visitors.profile("+70000000000", links) == visitors.Profile("+70000000000")


def test_a_line_from_which_many_visitors_call_in_a_day_is_shared() -> None:
    """Switchboards: more than three in 24 hours; as many in a month is a family."""
    day = [linked(visitor, 0.2 * place) for place, visitor in enumerate("abcd")]
    month = [linked(visitor, 7.0 * place) for place, visitor in enumerate("abcd")]
    assert visitors.is_shared_line(day) and not visitors.is_shared_line(month)
    assert not visitors.is_shared_line(day[:3]) and visitors.is_shared_line(day[:3], most=2)
    assert not visitors.is_shared_line([linked("a", 0.01 * place) for place in range(50)])
    edge = [linked(visitor, place / 3) for place, visitor in enumerate("abcd")]
    assert not visitors.is_shared_line(edge)
    found = visitors.profile(CALLER, day)
    assert (found.is_shared_line, found.visitors) == (True, ())
    assert visitors.known_as(CALLER, day, NOW + DAY) == {}
    assert visitors.past(CALLER, day, NOW + DAY) is None


def test_what_is_known_of_a_caller_is_what_was_known_before_the_call() -> None:
    """Attributed again, a call does not prove itself."""
    links = [
        linked("computer", 0, 0.85),
        linked("computer", 1, 0.95),
        linked("phone", 2, 0.9),
        linked("x", 0, 1, OTHER),
    ]
    assert visitors.known_as(CALLER, links, NOW) == {}
    assert visitors.known_as(CALLER, links, NOW + 1) == {"computer": 0.85}
    assert visitors.known_as(CALLER, links, NOW + 3 * DAY) == {"computer": 0.95, "phone": 0.9}
    assert visitors.past(CALLER, links, NOW) is None
    assert visitors.past(CALLER, links, NOW + 3 * DAY) == matching.Past("phone", NOW + 2 * DAY, 0.9)
    assert visitors.known_as(None, links, NOW + DAY) == {} and visitors.past(None, links, NOW + DAY) is None


# ---- Leaks ----


def call(days_ago: float, caller: str | None = CALLER, idle_days: float | None = 5.0, **fields: bool) -> NumberCall:
    idle = idle_days * 86_400 if idle_days is not None else None
    return NumberCall(NOW - round(days_ago * DAY), caller, idle, **fields)


NUMBER = "+74990000001"
STEADY = [call(1, "+71"), call(4, "+72", None), call(9, None)]


def test_a_number_that_is_called_though_shown_to_nobody_has_leaked() -> None:
    found = leaks.suspect(NUMBER, STEADY, NOW)
    assert found is not None
    assert (found.number, found.calls, found.callers) == (NUMBER, 3, 3)
    assert (found.first_us, found.last_us) == (NOW - 9 * DAY, NOW - DAY)
    assert found.expected == pytest.approx(14 / 365)


@pytest.mark.parametrize(
    "calls",
    [
        STEADY[:2],
        [call(days, CALLER) for days in (1, 2, 3, 4)],
        [call(days, f"+7{days}", idle_days=0.9) for days in range(9)],
        [call(days, f"+7{days}", is_click=True) for days in range(9)],
        [call(days, f"+7{days}") for days in (-1, 14, 15, 16, 20)],
    ],
    ids=["too few", "one caller", "held a moment ago", "clicked on the site", "not now"],
)
def test_other_calls_are_no_leak(calls: list[NumberCall]) -> None:
    assert leaks.suspect(NUMBER, calls, NOW) is None


def test_where_strays_are_common_more_are_needed() -> None:
    assert leaks.suspect(NUMBER, STEADY, NOW, strays_per_day=0.1) is None
    many = [call(0.5 * place, f"+7{place}") for place in range(12)]
    assert leaks.suspect(NUMBER, many, NOW, strays_per_day=0.1) is not None


def test_a_number_of_a_busy_pool_that_is_called_more_than_its_sisters_has_leaked() -> None:
    """It is never idle for a day, so only the comparison tells."""
    pool = {f"+7499000000{place}": [call(place, f"+7{day}", 0.01) for day in range(4)] for place in range(8)}
    assert leaks.outliers(pool) == []
    pool[NUMBER] = [call(1, f"+7{place}", 0.01) for place in range(30)]
    (found,) = leaks.outliers(pool)
    assert (found.number, found.calls) == (NUMBER, 30)
    assert found.expected == pytest.approx((7 * 4 + 1) / 7)
    pool[NUMBER] = [call(1, CALLER, 0.01)] * 30
    assert leaks.outliers(pool) == []


def test_a_silent_or_tiny_pool_suspects_nobody() -> None:
    assert leaks.outliers({}) == []
    assert leaks.outliers({NUMBER: STEADY}) == []
    assert leaks.outliers({NUMBER: STEADY, "+71": [], "+72": []}) == []
