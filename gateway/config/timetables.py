"""Business hours of the routing file: `mon-fri = "09:00-18:00"`, `sat = ["10:00-14:00"]`, holidays."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, time
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from gateway.config import tables
from gateway.core import book

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
OTHER_KEYS = ("key", "time_zone", "holidays")

_INTERVAL = re.compile(r"([0-9]{1,2}):([0-9]{2}) ?- ?([0-9]{1,2}):([0-9]{2})")
_MIDNIGHT = 24 * 60
_Minutes = tuple[int, int]


def read(table: tables.Table, key: str, default_zone: str) -> book.BusinessHours:
    """The timetable in `table`. An interval that ends before it starts goes on over midnight. One whose days are all
    "closed" has no opening times."""
    by_day: dict[int, list[_Minutes]] = {}
    zone = time_zone(table, "time_zone") or default_zone
    holidays = frozenset(_holidays(table))
    table.take("key")
    for name in table.raw:
        if name in OTHER_KEYS:
            continue
        days = _days(table, name)
        for opens, closes in _intervals(table, name) if days else ():
            for day in days:
                _put(by_day, day, opens, closes)
    if not table.raw.keys() - set(OTHER_KEYS):
        table.wrong(None, 'has no opening times, such as mon-fri = "09:00-18:00"')
    opening_times = tuple(
        book.OpeningTime(day, _clock(opens), _clock(closes))
        for day in sorted(by_day)
        for opens, closes in _merged(by_day[day])
    )
    return book.BusinessHours(key, zone, opening_times, holidays)


def time_zone(table: tables.Table, name: str) -> str | None:
    """An IANA time zone such as Europe/Moscow; None if absent or unknown."""
    value = table.text(name)
    if value is None or _is_zone(value):
        return value
    table.wrong(name, f"there is no time zone '{value}'", word=value, choices=_zones())
    return None


@lru_cache(maxsize=64)
def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return False
    return True


@lru_cache(maxsize=1)
def _zones() -> tuple[str, ...]:
    return tuple(sorted(zone for zone in available_timezones() if "/" in zone or zone == "UTC"))


def _days(table: tables.Table, name: str) -> tuple[int, ...]:
    """The weekdays that a key such as `mon`, `mon-fri` or `sat-mon` names."""
    table.take(name)
    first, dash, last = name.partition("-")
    if first not in DAYS or (dash and last not in DAYS):
        ranges = ("mon-fri", "mon-sat", "mon-sun", "sat-sun", "monday", "friday")
        table.wrong(
            name,
            "is neither a day, like mon or mon-fri, nor a key of hours",
            word=name,
            choices=(*DAYS, *ranges, *OTHER_KEYS),
        )
        return ()
    start = DAYS.index(first)
    length = (DAYS.index(last) - start) % 7 + 1 if dash else 1
    return tuple((start + offset) % 7 for offset in range(length))


def _intervals(table: tables.Table, name: str) -> Iterable[_Minutes]:
    value: Any = table.raw[name]
    if value == "closed":
        return
    written = value if isinstance(value, list) else [value]
    for index, element in enumerate(written):
        interval = _interval(element) if isinstance(element, str) else None
        if interval is None:
            table.wrong(
                name,
                'must be "closed" or hours like "09:00-18:00", several as a list',
                index=index if isinstance(value, list) else None,
            )
        else:
            yield interval


def _interval(text: str) -> _Minutes | None:
    match = _INTERVAL.fullmatch(text.strip())
    if match is None:
        return None
    opens, closes = (int(match[group]) * 60 + int(match[group + 1]) for group in (1, 3))
    in_day = opens < _MIDNIGHT and 0 <= closes <= _MIDNIGHT and int(match[2]) < 60 and int(match[4]) < 60
    return (opens, closes) if in_day and opens != closes else None


def _put(by_day: dict[int, list[_Minutes]], day: int, opens: int, closes: int) -> None:
    if opens < closes:
        by_day.setdefault(day, []).append((opens, closes))
        return
    by_day.setdefault(day, []).append((opens, _MIDNIGHT))
    if closes:
        by_day.setdefault((day + 1) % 7, []).append((0, closes))


def _merged(intervals: list[_Minutes]) -> list[_Minutes]:
    merged: list[_Minutes] = []
    for opens, closes in sorted(intervals):
        if merged and opens <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(closes, merged[-1][1]))
        else:
            merged.append((opens, closes))
    return merged


def _clock(minutes: int) -> time:
    return time.max if minutes == _MIDNIGHT else time(minutes // 60, minutes % 60)


def _holidays(table: tables.Table) -> Iterable[date]:
    value = table.take("holidays")
    if value is None:
        return
    if not isinstance(value, list):
        table.wrong("holidays", 'must be a list of days, like ["2026-12-31"]')
        return
    for index, element in enumerate(value):
        day = _day(element)
        if day is None:
            table.wrong("holidays", "must be days like 2026-12-31", index=index)
        else:
            yield day


def _day(element: object) -> date | None:
    if isinstance(element, date) and not isinstance(element, datetime):
        return element
    if not isinstance(element, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", element, re.ASCII):
        return None
    try:
        return date.fromisoformat(element)
    except ValueError:
        return None
