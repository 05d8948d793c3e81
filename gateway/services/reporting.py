"""Reports of what calls brought and cost (R8, R14-R16, R64, R70, R73, R77, R87, R105), for command line, API and page.

One reading gives rows by whatever is asked for, each a flat document: money as decimal text in the report's currency,
a figure of too few cases None. What the figures mean stands in docs/deals.md.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from itertools import compress
from typing import Any

from gateway import store
from gateway.core import book, costs, dealfigures, deals, money
from gateway.store import costs as stored_costs
from gateway.store import dealreports, restated

UNKNOWN = "unknown"
NO_CAMPAIGN = "-"
"""Of calls and costs without one."""
ALL = "all"
Row = dict[str, Any]


class By(StrEnum):
    """What a report has a row for."""

    SOURCE = "source"
    CHANNEL = "channel"
    CAMPAIGN = "campaign"
    DAY = "day"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Group:
    """What a row is of. `key` names it within the report; the others are what of it is one of a kind."""

    key: str
    source: str | None = None
    campaign: str | None = None
    agent: str | None = None
    name: str | None = None
    """As people call it, where the routing book says so."""


@dataclass(frozen=True, slots=True)
class Report:
    """Rows by group, of all together, and the marks of days whose figures changed after they were over."""

    by: By
    currency: str | None
    rows: tuple[Row, ...]
    total: Row
    marks: tuple[restated.Mark, ...]


@dataclass(frozen=True, slots=True)
class Agents:
    """Cost per call of each agent, and of all (R70)."""

    rows: tuple[Row, ...]
    total: Row
    marks: tuple[restated.Mark, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """All that reports of some days are made of. Days are yyyymmdd, both included."""

    first_day: int
    last_day: int
    current: book.Book | None
    calls: Sequence[dealreports.Counted]
    lines: Sequence[dealfigures.Line]
    """The same calls as they count, one for each."""
    spent: Sequence[costs.Spend]
    marks: tuple[restated.Mark, ...]

    def only(self, source: str | None = None, campaign: str | None = None) -> Material:
        """What is booked on this source, of this campaign: so agents can be compared within one promotion (R64).
        None: of all."""
        if source is None and campaign is None:
            return self
        lines = _Grouping(By.SOURCE, self.current)

        def is_in(day: int, of: str | None, named: str | None) -> bool:
            is_of_source = source is None or lines.key(day, of, None, None) == source
            return is_of_source and (campaign is None or (named or NO_CAMPAIGN) == campaign)

        kept = [is_in(one.day_local, one.source, one.campaign) for one in self.calls]
        return replace(
            self,
            calls=list(compress(self.calls, kept)),
            lines=list(compress(self.lines, kept)),
            spent=[one for one in self.spent if is_in(one.day, one.source, one.campaign)],
        )

    def report(self, by: By, currency: str | None = None) -> Report:
        """The rows. `currency` None: the only one there is. Of many calls this takes seconds, for which no loop should
        be held up. Raises dealfigures.MixedCurrencies."""
        grouping = _Grouping(by, self.current)
        spent = self.spent if by is not By.AGENT else ()
        code = dealfigures.currency_of(self.lines, (one.currency for one in spent), currency)
        sums: dict[str, int] = defaultdict(int)
        for one in spent:
            if one.currency == code:
                sums[grouping.key(one.day, one.source, one.campaign or None, None)] += one.amount_e4
        keys = [grouping.key(one.day_local, one.source, one.campaign, one.agent) for one in self.calls]
        found = dealfigures.figures(self.lines, sums, code, keys)
        late = {deals.day_text(one.day_local) for one in self.marks}
        rows = [
            _row(grouping.groups[key], figures, code, key in late if by is By.DAY else bool(late))
            for key, figures in sorted(found.items(), key=_order(by))
        ]
        total = _row(Group(ALL), dealfigures.total(self.lines, sums, code), code, bool(late))
        return Report(by, code, tuple(rows), total, self.marks)


class _Grouping:
    """Which group a call or an amount belongs to; there are far fewer groups than calls."""

    def __init__(self, by: By, current: book.Book | None) -> None:
        self._by = by
        self._current = current
        self._keys: dict[tuple[object, ...], str] = {}
        self.groups: dict[str, Group] = {}

    def key(self, day: int, source: str | None, campaign: str | None, agent: str | None) -> str:
        seen = (day, source, campaign, agent)
        found = self._keys.get(seen)
        if found is None:
            group = _group(self._by, self._current, day, source, campaign, agent)
            found = self._keys[seen] = group.key
            self.groups.setdefault(group.key, group)
        return found


def _line(one: dealreports.Counted, followed: Collection[tuple[str, str, int]]) -> dealfigures.Line:
    is_known = one.caller is not None and one.route is not None
    return dealfigures.Line(
        group="",
        caller=one.caller,
        answered=one.answered,
        spam=one.spam,
        qualified=one.qualified,
        goal_reached=one.goal_reached,
        deal_state=one.deal_state,
        value_e4=one.value_e4,
        currency=one.currency,
        days_to_close=_between(one.day_local, one.closed_on) if one.closed_on is not None else None,
        is_followed=(one.caller, one.route, one.started_us) in followed if is_known else None,
        solved=one.solved,
    )


async def read(connection: store.Connection, current: book.Book | None, first_day: int, last_day: int) -> Material:
    """What reports of these days are made of. Raises dealreports.TooManyCalls."""
    counted = await dealreports.inbound(connection, first_day, last_day)
    reach = _date(last_day) + timedelta(days=dealfigures.FOLLOWED_DAYS)
    contacts = await dealreports.contacts(connection, first_day, int(reach.strftime("%Y%m%d")))
    spent = await stored_costs.spend(connection, first_day, last_day)
    marks = await restated.marks(connection, first_day, last_day)
    kept = tuple(one for one in marks if one.kind != restated.WAGES)
    # A year of calls takes seconds, for which nobody else shall wait.
    lines = await asyncio.to_thread(_lines, counted, contacts)
    return Material(first_day, last_day, current, counted, lines, spent, kept)


def _lines(
    counted: Sequence[dealreports.Counted], contacts: Sequence[tuple[str, str, int]]
) -> Sequence[dealfigures.Line]:
    followed = dealfigures.followed(contacts)
    return [_line(one, followed) for one in counted]


async def agents(connection: store.Connection, first_day: int, last_day: int) -> Agents:
    """What a call costs by agent: hourly wage × staffed hours ÷ calls the agent talked in, in and out (R70)."""
    marks = await restated.marks(connection, first_day, last_day)
    late = tuple(one for one in marks if one.kind == restated.WAGES)
    handled = await dealreports.handled(connection, first_day, last_day)
    wages, hours = await stored_costs.wages(connection), await stored_costs.hours(connection, first_day, last_day)
    paid: list[tuple[int, set[str], str]] = []
    rows = []
    for agent in sorted({*handled, *(one.agent for one in hours)}):
        cost_e4, currencies, unpaid = costs.labour_e4(wages, hours, agent)
        minutes = sum(one.minutes for one in hours if one.agent == agent)
        why = _why(currencies, unpaid, minutes)
        paid.append((cost_e4, currencies, why))
        calls = handled.get(agent, 0)
        rows.append(_agent_row(agent, calls, minutes, cost_e4, currencies, why, is_late=bool(late)))
    return Agents(tuple(rows), _of_all(handled, hours, paid, is_late=bool(late)), late)


def _of_all(
    handled: dict[str, int],
    hours: Sequence[costs.Hours],
    paid: Sequence[tuple[int, set[str], str]],
    *,
    is_late: bool,
) -> Row:
    """Operating cost by calls of the whole centre; None where the cost of one agent is not known."""
    currencies = set().union(*(codes for _, codes, _ in paid)) if paid else set()
    why = next((why for _, _, why in paid if why), "" if paid else "no staffed hours")
    why = why or ("wages in several currencies" if len(currencies) > 1 else "")
    minutes = sum(one.minutes for one in hours)
    return _agent_row(
        ALL, sum(handled.values()), minutes, sum(cost for cost, _, _ in paid), currencies, why, is_late=is_late
    )


def _agent_row(
    agent: str, calls: int, minutes: int, cost_e4: int, currencies: set[str], why: str, *, is_late: bool
) -> Row:
    per_call = costs.per_call_e4(cost_e4, calls) if not why else None
    return {
        "agent": agent,
        "calls": calls,
        "hours": round(minutes / 60, 2),
        "cost": _money(cost_e4) if not why else None,
        "cost_per_call": _money(per_call),
        "currency": next(iter(currencies), None) if len(currencies) < 2 else None,
        "note": why,
        "restated": is_late,
    }


def _why(currencies: set[str], unpaid: int, minutes: int) -> str:
    """Why there is no cost."""
    if not minutes:
        return "no staffed hours"
    if unpaid:
        return f"no wage for {unpaid / 60:.1f} hours"
    return "wages in several currencies" if len(currencies) > 1 else ""


def _group(
    by: By,
    current: book.Book | None,
    day: int,
    source: str | None,
    campaign: str | None,
    agent: str | None = None,
) -> Group:
    """Calls and costs meet on the cost line: sources may share one."""
    if by is By.DAY:
        return Group(deals.day_text(day))
    if by is By.AGENT:
        known_agent = current.agents.get(agent or "") if current is not None else None
        return Group(agent or "nobody", agent=agent, name=known_agent.name if known_agent is not None else None)
    known = current.sources.get(source or "") if current is not None else None
    line = known.booked_on if known is not None else source or UNKNOWN
    if by is By.CHANNEL:
        return Group(_channel(current, line, known))
    booked = current.sources.get(line) if current is not None else None
    name = booked.name if booked is not None else None
    if by is By.CAMPAIGN:
        return Group(f"{line} / {campaign or NO_CAMPAIGN}", source=line, campaign=campaign, name=name)
    return Group(line, source=line, name=name)


def _channel(current: book.Book | None, line: str, known: book.Source | None) -> str:
    """Of the source, else of the first one that is booked on the cost line."""
    if known is None and current is not None:
        known = next((one for one in current.sources.values() if one.booked_on == line), None)
    return known.channel.value if known is not None else UNKNOWN


def _order(by: By) -> Callable[[tuple[str, dealfigures.Figures]], tuple[Any, str]]:
    """Days in their order, all else by calls."""
    return lambda one: (one[0] if by is By.DAY else -one[1].calls, one[0])


def _row(group: Group, one: dealfigures.Figures, currency: str | None, is_restated: bool) -> Row:
    return {
        "group": group.key,
        "name": group.name,
        "source": group.source,
        "campaign": group.campaign,
        "agent": group.agent,
        "calls": one.calls,
        "answered": one.answered,
        "qualified": one.qualified,
        "goals": one.goals,
        "goal_percent": one.goal_percent,
        "callers": len(one.callers),
        "prospects": one.prospects,
        "buyers": len(one.buyers),
        "deals_open": one.deals_open,
        "deals_won": one.deals_won,
        "conversion_percent": one.conversion_percent,
        "won": _money(one.won_e4),
        "average_deal": _money(one.average_deal_e4),
        "days_to_close": one.median_days_to_close,
        "revenue_per_call": _money(one.revenue_per_call_e4),
        "spend": _money(one.spend_e4),
        "cost_per_call": _money(one.cost_per_call_e4),
        "cost_per_lead": _money(one.cost_per_lead_e4),
        "cpa": _money(one.cpa_e4),
        "romi_percent": one.romi_percent,
        "fcr_percent": one.fcr_percent,
        "currency": currency,
        "spam": one.spam,
        "restated": is_restated,
    }


def _money(e4: int | None) -> str | None:
    return None if e4 is None else money.shown(round(e4, -2))


def _date(day: int) -> date:
    return date(day // 10_000, day // 100 % 100, day % 100)


def _between(first: int, last: int) -> int:
    return (_date(last) - _date(first)).days
