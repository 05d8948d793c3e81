"""R66: alarms with hysteresis and quiet hours, on a clock of the test's."""

from __future__ import annotations

from datetime import datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import alarms

RULE = alarms.Rule("ami-down", alarms.Severity.WARNING, raise_seconds=60, clear_seconds=30)
CRITICAL = alarms.Rule("ami-down", alarms.Severity.CRITICAL, raise_seconds=60, clear_seconds=30)
SECOND = 1_000_000


class Watch:
    """One alarm over time: `see` gives what was told at that second."""

    def __init__(self, rule: alarms.Rule = RULE) -> None:
        self.rule = rule
        self.state = alarms.QUIET

    def see(self, at: int, holds: bool | None, *, is_quiet: bool = False) -> list[str]:
        reading = alarms.Reading("ami-down", "main", holds, "AMI is down")
        self.state, cleared = alarms.judge(self.state, reading, self.rule, at * SECOND)
        self.state, raised = alarms.tell(self.state, self.rule, at * SECOND, is_quiet=is_quiet)
        return [
            f"{'raised' if one.is_raised else 'cleared'} {one.since_us // SECOND}"
            for one in (cleared, raised)
            if one is not None
        ]


def test_raised_after_its_time_told_once_cleared_after_its_time() -> None:
    watch = Watch()
    assert [watch.see(at, True) for at in (0, 59, 60, 61, 500)] == [[], [], ["raised 60"], [], []]
    assert [watch.see(at, False) for at in (501, 530, 531, 532)] == [[], [], ["cleared 60"], []]


def test_what_flaps_is_neither_raised_nor_cleared() -> None:
    watch = Watch()
    assert [watch.see(at, at % 50 != 0) for at in range(0, 1_000, 10)] == [[]] * 100
    watch = Watch()
    watch.see(0, True)
    assert watch.see(60, True) == ["raised 60"]
    assert [watch.see(at, at % 20 == 0) for at in range(70, 1_000, 10)] == [[]] * 93


def test_what_is_not_known_changes_nothing() -> None:
    watch = Watch()
    watch.see(0, True)
    assert watch.see(70, None) == []
    assert watch.see(80, True) == ["raised 80"]
    assert watch.see(200, None) == []


@pytest.mark.parametrize(("value", "holds"), [(6.0, True), (5.0, None), (4.0, None), (3.9, False)])
def test_between_the_bounds_what_was_stays(value: float, holds: bool | None) -> None:
    assert alarms.over(value, high=5.0, low=4.0) is holds


def test_a_warning_waits_for_the_morning_and_what_is_over_by_then_is_not_told() -> None:
    watch = Watch()
    assert [watch.see(at, True, is_quiet=True) for at in (0, 60, 3_600)] == [[], [], []]
    assert watch.see(3_601, True) == ["raised 60"]
    watch = Watch()
    assert [watch.see(at, True, is_quiet=True) for at in (0, 60)] == [[], []]
    assert [watch.see(at, False) for at in (100, 130, 131)] == [[], [], []]


def test_what_is_critical_does_not_wait() -> None:
    watch = Watch(CRITICAL)
    assert [watch.see(at, True, is_quiet=True) for at in (0, 60)] == [[], ["raised 60"]]


def test_quiet_hours_over_midnight_and_within_a_day() -> None:
    night, noon = alarms.QuietHours(time(22), time(7)), alarms.QuietHours(time(12), time(13))
    day = datetime(2026, 11, 22)  # noqa: DTZ001 - the site's own clock
    assert [day.replace(hour=hour) in night for hour in (21, 22, 23, 0, 6, 7)] == [False, True, True, True, True, False]
    assert [day.replace(hour=hour) in noon for hour in (11, 12, 13)] == [False, True, False]


@pytest.mark.parametrize(
    "text", ["22:00", "22:00-", "25:00-07:00", "22:00-22:00", "night", "22:00+03:00-07:00", "22:00-07:00Z"]
)
def test_quiet_hours_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="22:00-07:00"):
        alarms.quiet_hours(text)


def test_quiet_hours_as_written() -> None:
    assert alarms.quiet_hours(" ") is None
    assert alarms.quiet_hours("22:00-07:30") == alarms.QuietHours(time(22), time(7, 30))


@given(st.lists(st.tuples(st.integers(1, 100), st.sampled_from([True, False, None]), st.booleans()), max_size=60))
def test_told_in_turns_whatever_happens(steps: list[tuple[int, bool | None, bool]]) -> None:
    """Raised and cleared alternate, and begin with raised."""
    watch, at, told = Watch(), 0, list[str]()
    for pause, holds, is_quiet in steps:
        at += pause
        told += [one.split()[0] for one in watch.see(at, holds, is_quiet=is_quiet)]
    assert told == ["raised", "cleared"] * (len(told) // 2) + ["raised"] * (len(told) % 2)
