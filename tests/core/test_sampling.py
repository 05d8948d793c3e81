"""Weekly samples: the same draw whoever draws it, weeks as people count them (R29, R38)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import sampling

WEEK = sampling.Week(2026, 47)
IDS = st.lists(st.uuids().map(str), max_size=30, unique=True)


@given(IDS, st.randoms(use_true_random=False), st.integers(0, 8))
def test_the_order_of_rows_does_not_matter(ids: list[str], shuffler: object, count: int) -> None:
    shuffled = list(ids)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    drawn = sampling.draw(WEEK, "anna", ids, count)
    assert sampling.draw(WEEK, "anna", [*shuffled, *ids[:3]], count) == drawn
    assert len(drawn) == min(count, len(ids)) == len(set(drawn))
    assert set(drawn) <= set(ids)


@given(IDS, st.integers(0, 8))
def test_fewer_are_the_first_of_more(ids: list[str], count: int) -> None:
    assert sampling.draw(WEEK, "anna", ids, count + 1)[:count] == sampling.draw(WEEK, "anna", ids, count)


@given(IDS.filter(lambda ids: len(ids) > 5), st.integers(0, 29))
def test_what_was_not_drawn_changes_nothing(ids: list[str], index: int) -> None:
    drawn = sampling.draw(WEEK, "anna", ids, 5)
    others = [one for one in ids if one not in drawn]
    gone = others[index % len(others)]
    assert sampling.draw(WEEK, "anna", [one for one in ids if one != gone], 5) == drawn


def test_a_draw_of_today_is_that_of_any_machine() -> None:
    """Written down: another result would mean that a week drawn on two machines differs."""
    ids = [f"rec-{number}" for number in range(20)]
    assert sampling.draw(WEEK, "anna", ids, 5) == ["rec-2", "rec-1", "rec-10", "rec-9", "rec-16"]
    assert sampling.draw(WEEK, "boris", ids, 5) == ["rec-11", "rec-2", "rec-13", "rec-4", "rec-15"]
    assert sampling.draw(sampling.Week(2026, 48), "anna", ids, 5) == ["rec-9", "rec-1", "rec-2", "rec-8", "rec-16"]


def test_every_recording_is_drawn_as_often_as_another() -> None:
    """Over 1,000 weeks each of ten recordings is drawn about 500 times."""
    ids = [f"rec-{number}" for number in range(10)]
    times = dict.fromkeys(ids, 0)
    for number in range(1000):
        for one in sampling.draw(sampling.Week(1000 + number, 1), "anna", ids, 5):
            times[one] += 1
    assert all(420 < count < 580 for count in times.values())


def test_agents_without_recordings_are_there() -> None:
    assert sampling.draws(WEEK, {"boris": [], "anna": ["a"]}, 5) == {"anna": ["a"], "boris": []}


@pytest.mark.parametrize(
    ("zone", "week", "start", "hours"),
    [
        ("Europe/Moscow", sampling.Week(2026, 47), "2026-11-15T21:00", 168),
        ("Europe/Berlin", sampling.Week(2026, 13), "2026-03-22T23:00", 167),
        ("Europe/Berlin", sampling.Week(2026, 43), "2026-10-18T22:00", 169),
        ("America/Santiago", sampling.Week(2026, 14), "2026-03-30T03:00", 169),
        ("Africa/Cairo", sampling.Week(2026, 17), "2026-04-19T22:00", 167),
        ("Asia/Seoul", sampling.Week(2026, 53), "2026-12-27T15:00", 168),
        ("UTC", sampling.Week(2027, 1), "2027-01-04T00:00", 168),
    ],
)
def test_a_week_lasts_from_monday_to_monday_local(zone: str, week: sampling.Week, start: str, hours: int) -> None:
    first, after = week.bounds(ZoneInfo(zone))
    assert first == datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert after - first == timedelta(hours=hours)
    assert sampling.Week.of(first, ZoneInfo(zone)) == week == sampling.Week.of(after, ZoneInfo(zone)).before()
    assert sampling.Week.of(first - timedelta(microseconds=1), ZoneInfo(zone)) == week.before()


@given(st.integers(0, 32_000_000_000), st.sampled_from(["Europe/Berlin", "Asia/Seoul"]))
def test_every_moment_lies_in_one_week(seconds: int, zone: str) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    week = sampling.Week.of(moment, ZoneInfo(zone))
    first, after = week.bounds(ZoneInfo(zone))
    assert first <= moment < after
    assert sampling.Week.parse(str(week)) == week
    assert week.before().bounds(ZoneInfo(zone))[1] == first


@pytest.mark.parametrize(
    "written", ["2026-47", "2026W47", "2026-W7", "2026-W00", "2025-W53", "2026-W54", "0000-W01", "9999-W52", "", "last"]
)
def test_what_is_no_week(written: str) -> None:
    with pytest.raises(ValueError, match=r"must be a week|has no week"):
        sampling.Week.parse(written)
