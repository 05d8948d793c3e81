"""Business hours: open or closed at a moment, in the hours' own time zone, with holidays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from gateway.core import book

LOOK_AHEAD_DAYS = 400
"""How far `next_change` looks: past any row of holidays in a yearly timetable."""


def is_open(hours: book.BusinessHours, at: datetime) -> bool:
    """Whether the business is open at `at` (aware). A holiday is closed from midnight to midnight."""
    local = at.astimezone(ZoneInfo(hours.time_zone))
    if local.date() in hours.holidays:
        return False
    weekday, clock = local.weekday(), local.time()
    return any(
        opening.weekday == weekday and opening.start <= clock and (clock < opening.end or opening.end == time.max)
        for opening in hours.opening_times
    )


def next_change(hours: book.BusinessHours, at: datetime) -> datetime | None:
    """The moment after `at` (aware) when open turns closed or closed turns open, in UTC; None if it never does.

    Exact to the minute, except inside the hour in which clocks are set forward or back.
    """
    now = is_open(hours, at)
    for moment in _boundaries(hours, at):
        if moment > at and is_open(hours, moment) != now:
            return moment
    return None


def _boundaries(hours: book.BusinessHours, at: datetime) -> Iterator[datetime]:
    zone = ZoneInfo(hours.time_zone)
    first = at.astimezone(zone).date()
    for offset in range(LOOK_AHEAD_DAYS):
        day = first + timedelta(days=offset)
        clocks = {time.min} | {
            clock for opening in hours.opening_times if opening.weekday == day.weekday() for clock in _ends(opening)
        }
        yield from sorted(_moment(day, clock, zone) for clock in clocks)


def _ends(opening: book.OpeningTime) -> tuple[time, ...]:
    return (opening.start,) if opening.end == time.max else (opening.start, opening.end)


def _moment(day: date, clock: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, clock, tzinfo=zone).astimezone(UTC)
