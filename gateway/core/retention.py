"""How long what is kept (R34, R39): rules for recordings by route and outcome, spans in days and calendar months."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.core import outcomes

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ANY = "*"
_RULE = re.compile(r"\s*([A-Za-z0-9_.-]+|\*)\s*/\s*([a-z_]+|\*)\s*=\s*(\d{1,5})\s*")
OUTCOMES = frozenset(outcome.value for outcome in outcomes.Outcome)


@dataclass(frozen=True, slots=True)
class Rule:
    """Recordings of calls with this route and outcome (`*`: any) are kept for `days`."""

    route: str
    outcome: str
    days: int

    def __str__(self) -> str:
        return f"{self.route}/{self.outcome}={self.days}"

    @property
    def _rank(self) -> int:
        return 2 * (self.route != ANY) + (self.outcome != ANY)

    def fits(self, route: str | None, outcome: str | None) -> bool:
        return self.route in (ANY, route) and self.outcome in (ANY, outcome)


def parse_rule(text: str) -> Rule:
    """`ROUTE/OUTCOME=DAYS`, either may be `*`: `sales/answered=365`, `*/voicemail=30`. Raises ValueError."""
    match = _RULE.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text[:60]}' is not a rule; write ROUTE/OUTCOME=DAYS, for example sales/answered=365")
    if match[2] != ANY and match[2] not in OUTCOMES:
        raise ValueError(f"'{match[2]}' is not an outcome; there are {', '.join(sorted(OUTCOMES))}")
    if not 1 <= int(match[3]) <= 36_500:
        raise ValueError(f"'{text[:60]}': days must be 1 to 36500")
    return Rule(match[1], match[2], int(match[3]))


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules in force and what holds where none fits."""

    default_days: int
    rules: tuple[Rule, ...] = ()

    @property
    def shortest_days(self) -> int:
        """Nothing younger is ever due."""
        return min([self.default_days, *(rule.days for rule in self.rules)])

    def rule_for(self, route: str | None, outcome: str | None) -> Rule:
        """The most exact rule that fits: route and outcome, then route, then outcome, then the default."""
        fitting = [rule for rule in self.rules if rule.fits(route, outcome)]
        return max(fitting, key=lambda rule: rule._rank, default=Rule(ANY, ANY, self.default_days))


def rules(default_days: int, texts: Iterable[str]) -> Rules:
    """Raises ValueError for a rule that is none, and for two for the same calls."""
    found = tuple(parse_rule(text) for text in texts)
    named = [(rule.route, rule.outcome) for rule in found]
    for rule in found:
        if named.count((rule.route, rule.outcome)) > 1:
            raise ValueError(f"two rules for {rule.route}/{rule.outcome}")
    return Rules(default_days, found)


def days_before(now_us: int, days: int) -> int:
    """The moment so many days ago."""
    return now_us - days * 86_400_000_000


def months_before(now_us: int, months: int) -> int:
    """The moment so many calendar months ago, in UTC; the 31st becomes the last day of a shorter month."""
    now = _EPOCH + timedelta(microseconds=now_us)
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    day = min(now.day, monthrange(year, month + 1)[1])
    return (now.replace(year=year, month=month + 1, day=day) - _EPOCH) // timedelta(microseconds=1)
