"""Figures that deals and costs give (R8, R14-R16, R64, R70, R73, R77, R87, R105); each is defined in docs/deals.md.

Population: inbound calls without banned callers, test calls and those marked spam. A figure of too few cases is None:
it would be taken for a verdict. Money is of one currency. Late deals count for the day of their call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise, repeat
from statistics import median

from gateway.core import deals

MIN_CALLERS = 30
MIN_CALLS = 20
MIN_CASES = 5
FOLLOWED_DAYS = 7
"""Who calls again on the same route within so many days was not helped the first time (R73)."""
TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Line:
    """One call as it counts. `group` is what the report is by; `caller` E.164 or a pseudonym, None when unknown."""

    group: str
    caller: str | None
    answered: bool
    spam: bool | None
    qualified: bool | None
    goal_reached: bool | None
    deal_state: str | None
    value_e4: int | None
    currency: str | None
    days_to_close: int | None
    is_followed: bool | None = None
    """Whether the same caller called again soon; None: nobody can know."""
    solved: bool | None = None
    """Solved at first contact, as it was keyed in."""


@dataclass(slots=True)
class Figures:
    """Of one group. Amounts in ten-thousandths of the report's currency; rates in percent."""

    calls: int = 0
    answered: int = 0
    qualified: int = 0
    goals: int = 0
    deals_open: int = 0
    deals_won: int = 0
    spam: int = 0
    """Left out of all the others."""
    sales_calls: int = 0
    """Answered, and not marked as not qualified."""
    won_e4: int = 0
    deals_valued: int = 0
    """Won deals with a value in the report's currency."""
    spend_e4: int = 0
    contacts: int = 0
    """Answered calls of which it is known whether they helped."""
    solved: int = 0
    callers: set[str] = field(default_factory=set, repr=False)
    interested: set[str] = field(default_factory=set, repr=False)
    """Callers with a qualified call or an open deal."""
    buyers: set[str] = field(default_factory=set, repr=False)
    closing_days: list[int] = field(default_factory=list, repr=False)

    @property
    def prospects(self) -> int:
        """Potential customers: callers with a qualified call or an open deal who have not bought (R87)."""
        return len(self.interested - self.buyers)

    @property
    def goal_percent(self) -> float | None:
        """Calls that reached their goal among all calls (R77, PTR)."""
        return round(100 * self.goals / self.calls, 1) if self.calls >= MIN_CALLS else None

    @property
    def fcr_percent(self) -> float | None:
        """Answered calls after which the caller needed no other (R73)."""
        return round(100 * self.solved / self.contacts, 1) if self.contacts >= MIN_CALLS else None

    @property
    def conversion_percent(self) -> float | None:
        """Callers with a won deal among all callers (R14)."""
        known = len(self.callers)
        return round(100 * len(self.buyers) / known, 1) if known >= MIN_CALLERS else None

    @property
    def average_deal_e4(self) -> int | None:
        """Won value by won deals of the report's currency (R15)."""
        return _per(self.won_e4, self.deals_valued)

    @property
    def median_days_to_close(self) -> float | None:
        """From the call to the day its deal was won (R15)."""
        return median(self.closing_days) if len(self.closing_days) >= MIN_CASES else None

    @property
    def revenue_per_call_e4(self) -> int | None:
        """Won value by successful calls: answered, and not marked as not qualified (R64)."""
        return _per(self.won_e4, self.sales_calls)

    @property
    def cost_per_call_e4(self) -> int | None:
        """Spend by calls (R105)."""
        return _per(self.spend_e4, self.calls) if self.spend_e4 else None

    @property
    def cpa_e4(self) -> int | None:
        """Spend by won deals (R8)."""
        return _per(self.spend_e4, self.deals_won) if self.spend_e4 else None

    @property
    def cost_per_lead_e4(self) -> int | None:
        """Spend by qualified calls (R8)."""
        return _per(self.spend_e4, self.qualified) if self.spend_e4 else None

    @property
    def romi_percent(self) -> float | None:
        """What won deals earned beyond the spend, in percent of it (R16); None without spend."""
        if not self.spend_e4 or self.deals_valued < MIN_CASES:
            return None
        return round(100 * (self.won_e4 - self.spend_e4) / self.spend_e4, 1)


def _per(amount_e4: int, cases: int) -> int | None:
    return round(amount_e4 / cases) if cases >= MIN_CASES else None


class MixedCurrencies(Exception):
    """Money of several currencies; `found` are their codes."""

    def __init__(self, found: Iterable[str]) -> None:
        self.found = sorted(found)
        super().__init__(", ".join(self.found))


def currency_of(lines: Iterable[Line], spent: Iterable[str], wanted: str | None) -> str | None:
    """The currency of a report: the one that is asked for, or the only one there is. Raises MixedCurrencies."""
    if wanted is not None:
        return wanted
    won = (line for line in lines if line.deal_state == deals.State.WON and not line.spam)
    found = {line.currency for line in won if line.currency is not None}
    found |= set(spent)
    if len(found) > 1:
        raise MixedCurrencies(one for one in found if one)
    return next(iter(found), None)


def figures(
    lines: Iterable[Line], spend_e4: Mapping[str, int], currency: str | None, groups: Iterable[str] | None = None
) -> dict[str, Figures]:
    """By group; a group that only cost money is there too. `groups`: those of the lines, one for each, instead of
    their own."""
    found: dict[str, Figures] = defaultdict(Figures)
    for line, group in ((line, line.group) for line in lines) if groups is None else zip(lines, groups, strict=False):
        one = found[group]
        if line.spam:
            one.spam += 1
        else:
            _count(one, line, currency)
    for group, amount_e4 in spend_e4.items():
        found[group].spend_e4 += amount_e4
    return dict(found)


def total(lines: Iterable[Line], spend_e4: Mapping[str, int], currency: str | None) -> Figures:
    """Of all groups together: a caller of two groups is one caller."""
    return figures(lines, {TOTAL: sum(spend_e4.values())}, currency, repeat(TOTAL))[TOTAL]


def followed(contacts: Iterable[tuple[str, str, int]]) -> set[tuple[str, str, int]]:
    """Which calls - caller, route, start in µs - were followed by another of the same caller and route within
    `FOLLOWED_DAYS` (R73)."""
    starts: dict[tuple[str, str], list[int]] = defaultdict(list)
    for caller, route, started_us in contacts:
        starts[caller, route].append(started_us)
    reach_us = FOLLOWED_DAYS * 86_400_000_000
    found = set()
    for (caller, route), moments in starts.items():
        moments.sort()
        found |= {(caller, route, one) for one, after in pairwise(moments) if after - one <= reach_us}
    return found


def _count(one: Figures, line: Line, currency: str | None) -> None:
    one.calls += 1
    one.answered += line.answered
    one.sales_calls += line.answered and line.qualified is not False
    one.qualified += bool(line.qualified)
    one.goals += bool(line.goal_reached)
    _count_contact(one, line)
    if line.caller is not None:
        one.callers.add(line.caller)
        if line.qualified or line.deal_state == deals.State.OPEN:
            one.interested.add(line.caller)
    one.deals_open += line.deal_state == deals.State.OPEN
    if line.deal_state == deals.State.WON:
        _count_won(one, line, currency)


def _count_contact(one: Figures, line: Line) -> None:
    helped = line.solved
    if helped is None and line.is_followed is not None:
        helped = not line.is_followed
    if line.answered and helped is not None:
        one.contacts += 1
        one.solved += helped


def _count_won(one: Figures, line: Line, currency: str | None) -> None:
    one.deals_won += 1
    if line.caller is not None:
        one.buyers.add(line.caller)
    if line.days_to_close is not None and line.days_to_close >= 0:
        one.closing_days.append(line.days_to_close)
    if line.value_e4 is not None and line.currency == currency:
        one.won_e4 += line.value_e4
        one.deals_valued += 1
