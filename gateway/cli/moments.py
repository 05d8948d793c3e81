"""Times as operators write them: `today`, `2h`, `2026-11-21`, `2026-11-21T09:30`, RFC 3339."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from gateway.cli import failures

_AGO = re.compile(r"(\d{1,5})\s*([mhdw])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
HOW = "write 2026-11-21, 2026-11-21T09:30, today, yesterday, or how long ago: 30m, 2h, 7d"


def parse(written: str, option: str, *, now: datetime, zone: tzinfo) -> datetime:
    """The aware time that is meant; what has no offset is in `zone`, a bare date is its first moment.

    Raises Misuse, which names `option`.
    """
    text = written.strip()
    words = {"now": now, "today": _midnight(now, zone), "yesterday": _midnight(now - timedelta(days=1), zone)}
    if text.lower() in words:
        return words[text.lower()]
    if ago := _AGO.fullmatch(text.lower()):
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        moment = datetime.fromisoformat(text.replace(" ", "T", 1))
    except ValueError as error:
        raise failures.Misuse(f"{option}: '{written[:40]}' is not a time ({error}); {HOW}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def shown(at_us: int | None, zone: tzinfo) -> str | None:
    """Microseconds since the epoch as local time to the second."""
    return None if at_us is None else f"{moment(at_us).astimezone(zone):%Y-%m-%d %H:%M:%S}"


def rfc3339(at_us: int | None) -> str | None:
    """Microseconds since the epoch in UTC with milliseconds, as in records."""
    if at_us is None:
        return None
    return f"{moment(at_us):%Y-%m-%dT%H:%M:%S}.{at_us % 1_000_000 // 1000:03}Z"


def moment(at_us: int) -> datetime:
    """The aware time in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)


def micros(at: datetime) -> int:
    """Microseconds since the epoch."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _midnight(at: datetime, zone: tzinfo) -> datetime:
    day: date = at.astimezone(zone).date()
    return datetime.combine(day, time(), tzinfo=zone)
