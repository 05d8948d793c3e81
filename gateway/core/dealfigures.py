"""Figures that deals and costs give (R8, R14-R16, R64, R70, R105); each is defined in docs/deals.md.

Population: inbound calls without banned callers and without those marked spam. A figure of too few cases is None: it
would be taken for a verdict. Money is of one currency. Late deals count for the day of their call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from gateway.core import deals

MIN_CALLERS = 30
MIN_CASES = 5


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
    won_e4: int = 0
    spend_e4: int = 0
    callers: set[str] = field(default_factory=set, repr=False)
    buyers: set[str] = field(default_factory=set, repr=False)
    closing_days: list[int] = field(default_factory=list, repr=False)

    @property
    def conversion_percent(self) -> float | None:
        """Callers with a won deal among all callers (R14)."""
        known = len(self.callers)
        return round(100 * len(self.buyers) / known, 1) if known >= MIN_CALLERS else None

    @property
    def average_deal_e4(self) -> int | None:
        """Won value by won deals (R15)."""
        return _per(self.won_e4, self.deals_won)

    @property
    def median_days_to_close(self) -> float | None:
        """From the call to the day its deal was won (R15)."""
        return median(self.closing_days) if len(self.closing_days) >= MIN_CASES else None

    @property
    def revenue_per_call_e4(self) -> int | None:
        """Won value by answered calls (R64)."""
        return _per(self.won_e4, self.answered)

    @property
    def cost_per_call_e4(self) -> int | None:
        """Spend by calls (R105)."""
        return _per(self.spend_e4, self.calls) if self.spend_e4 else None

    @property
    def cpa_e4(self) -> int | None:
        """Spend by won deals (R8)."""
        return _per(self.spend_e4, self.deals_won) if self.spend_e4 else None

    @property
    def romi_percent(self) -> float | None:
        """What won deals earned beyond the spend, in percent of it (R16); None without spend."""
        if not self.spend_e4 or self.deals_won < MIN_CASES:
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
    found = {line.currency for line in lines if line.currency is not None and line.deal_state == deals.State.WON}
    found |= set(spent)
    if len(found) > 1:
        raise MixedCurrencies(one for one in found if one)
    return next(iter(found), None)


def figures(lines: Iterable[Line], spend_e4: Mapping[str, int], currency: str | None) -> dict[str, Figures]:
    """By group; a group that only cost money is there too."""
    found: dict[str, Figures] = {}
    for line in lines:
        one = found.setdefault(line.group, Figures())
        if line.spam:
            one.spam += 1
            continue
        _count(one, line, currency)
    for group, amount_e4 in spend_e4.items():
        found.setdefault(group, Figures()).spend_e4 += amount_e4
    return found


def _count(one: Figures, line: Line, currency: str | None) -> None:
    one.calls += 1
    one.answered += line.answered
    one.qualified += bool(line.qualified)
    one.goals += bool(line.goal_reached)
    if line.caller is not None:
        one.callers.add(line.caller)
    one.deals_open += line.deal_state == deals.State.OPEN
    if line.deal_state != deals.State.WON:
        return
    one.deals_won += 1
    if line.caller is not None:
        one.buyers.add(line.caller)
    if line.days_to_close is not None and line.days_to_close >= 0:
        one.closing_days.append(line.days_to_close)
    if line.currency is not None and line.currency == currency:
        one.won_e4 += line.value_e4 or 0
