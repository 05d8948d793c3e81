"""The clock of a ticket: so many seconds after a moment, of wall time or of business hours (`requirements.md`, "The 24
h clock")."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gateway.core import book, hours

Hours = book.BusinessHours
SECOND_US = 1_000_000
LONGEST = timedelta(days=60)
"""Hours that hardly ever hold (a timetable of holidays) do not stop the clock for longer."""


def after(start_us: int, seconds: int, open_hours: Hours | None) -> int:
    """The moment `seconds` after `start_us`, in µs; with `open_hours` only their time counts."""
    if open_hours is None:
        return start_us + seconds * SECOND_US
    start = at = datetime.fromtimestamp(start_us / SECOND_US, UTC)
    left = timedelta(seconds=seconds)
    while at - start < LONGEST:
        is_open = hours.is_open(open_hours, at)
        change = hours.next_change(open_hours, at)
        if is_open and (change is None or change - at >= left):
            return round((at + left).timestamp() * SECOND_US)
        if change is None:
            break
        if is_open:
            left -= change - at
        at = change
    return start_us + round(LONGEST.total_seconds()) * SECOND_US
