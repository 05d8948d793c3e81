"""Weekly samples (R29, R38): which recordings of an agent are listened to, drawn so that nobody can choose them.

The draw is a function of week, agent and the recordings there are, in no order: each recording's place is a hash, and
the lowest are drawn. No machine, no run and no later Python draws otherwise.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

_WEEK = re.compile(r"(\d{4})-W(\d{2})")


@dataclass(frozen=True, slots=True, order=True)
class Week:
    """A week of ISO 8601: Monday to Sunday, the first one of a year holds its 4 January."""

    year: int
    number: int

    @classmethod
    def parse(cls, written: str) -> Week:
        """`2026-W47`. Raises ValueError for another form, and for a week that the year does not have."""
        match = _WEEK.fullmatch(written)
        if match is None:
            raise ValueError("must be a week like 2026-W47")
        week = cls(int(match[1]), int(match[2]))
        try:
            # The end is asked for too: the last week that there is has none.
            week.bounds(UTC)
        except (ValueError, OverflowError):
            raise ValueError(f"the year {match[1]} has no week {match[2]}") from None
        return week

    @classmethod
    def of(cls, at: datetime, zone: tzinfo) -> Week:
        """The week in which an aware moment lies, in a zone."""
        year, number, _ = at.astimezone(zone).isocalendar()
        return cls(year, number)

    def before(self) -> Week:
        """The week before."""
        year, number, _ = (self._monday() - timedelta(days=7)).isocalendar()
        return Week(year, number)

    def bounds(self, zone: tzinfo) -> tuple[datetime, datetime]:
        """Midnight of its Monday and of the next one, local: 167 or 169 hours apart when clocks are changed."""
        first = self._monday()
        start, end = (datetime.combine(day, time(), tzinfo=zone) for day in (first, first + timedelta(days=7)))
        return start.astimezone(UTC), end.astimezone(UTC)

    def _monday(self) -> date:
        return date.fromisocalendar(self.year, self.number, 1)

    def __str__(self) -> str:
        return f"{self.year:04}-W{self.number:02}"


def draw(week: Week, agent: str, recording_ids: Iterable[str], count: int) -> list[str]:
    """At most `count` of an agent's recordings, the first drawn first; all of them when there are fewer."""

    def place(recording_id: str) -> tuple[bytes, str]:
        return hashlib.sha256(f"{week}\n{agent}\n{recording_id}".encode()).digest(), recording_id

    return sorted(set(recording_ids), key=place)[:count]


def draws(week: Week, by_agent: Mapping[str, Collection[str]], count: int) -> dict[str, list[str]]:
    """The draw of every agent, by agent; those without recordings are there with none."""
    return {agent: draw(week, agent, by_agent[agent], count) for agent in sorted(by_agent)}
