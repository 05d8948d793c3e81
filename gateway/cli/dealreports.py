"""`report sources`, `report agents`: what calls brought and cost, with days that were restated (R14-R16, R70)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, moments, output

if TYPE_CHECKING:
    from datetime import tzinfo

    from gateway import store
    from gateway.config.settings import Settings
    from gateway.core import book
    from gateway.core import dealfigures as figures_
    from gateway.store import dealreports, restated

First = Annotated[str, typer.Option("--from", help="First day. [default: 30 days ago]", metavar="DAY")]
Last = Annotated[str, typer.Option("--to", help="Last day.", metavar="DAY")]
Currency = Annotated[
    str | None, typer.Option("--currency", help="Money of this one only, where there are several.", metavar="CODE")
]


class By(StrEnum):
    """What `report sources` has a row for."""

    SOURCE = "source"
    CAMPAIGN = "campaign"
    DAY = "day"


SOURCES = (
    output.Column("group", "Of"),
    output.Column("calls", "Calls", is_number=True),
    output.Column("answered", "Answered", is_number=True),
    output.Column("qualified", "Qualified", is_number=True),
    output.Column("goals", "Goals", is_number=True),
    output.Column("deals_open", "Open", is_number=True),
    output.Column("deals_won", "Won", is_number=True),
    output.Column("conversion_percent", "Conv. %", is_number=True),
    output.Column("won", "Value", is_number=True),
    output.Column("average_deal", "Average", is_number=True),
    output.Column("days_to_close", "Days", is_number=True),
    output.Column("revenue_per_call", "Per call", is_number=True),
    output.Column("spend", "Spend", is_number=True),
    output.Column("cost_per_call", "Cost/call", is_number=True),
    output.Column("cpa", "CPA", is_number=True),
    output.Column("romi_percent", "ROMI %", is_number=True),
    output.Column("currency", "Currency"),
    output.Column("spam"),
    output.Column("restated", "Restated", table_key="restated_shown"),
)
AGENTS = (
    output.Column("agent", "Agent"),
    output.Column("calls", "Calls", is_number=True),
    output.Column("hours", "Hours", is_number=True),
    output.Column("cost", "Cost", is_number=True),
    output.Column("cost_per_call", "Cost/call", is_number=True),
    output.Column("currency", "Currency"),
    output.Column("note", "Note"),
    output.Column("restated", "Restated", table_key="restated_shown"),
)


def sources(
    by: Annotated[By, typer.Option("--by", help="A row for each of these.")] = By.SOURCE,
    first: First = "30d",
    last: Last = "today",
    currency: Currency = None,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Show what calls brought and cost. Population: inbound calls, without banned callers and those marked spam; a
    figure of too few cases is left out. Days whose figures changed after they were over are marked.

    \b
    Examples:
        dialmark report sources --from 2026-11-01 --to 2026-11-30
        dialmark report sources --by day --format csv
    """
    rows, said = context.run(_sources(context.settings(config), by, first, last, currency))
    output.listing(rows, SOURCES, form, nothing="No calls in these days.")
    for line in said:
        output.note(line)


def agents(
    first: First = "30d",
    last: Last = "today",
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Show what a call costs by agent: hourly wage × staffed hours ÷ calls the agent talked in, in and out (R70).

    \b
    Example:
        dialmark report agents --from 2026-11-01 --to 2026-11-30
    """
    rows, said = context.run(_agents(context.settings(config), first, last))
    output.listing(rows, AGENTS, form, nothing="No agent took a call or was staffed in these days.")
    for line in said:
        output.note(line)


def _days(first: str, last: str, zone: tzinfo) -> tuple[int, int]:
    from gateway.services import dealing

    now = context.now()
    begins, ends = (
        dealing.day_of(moments.micros(moments.parse(written, option, now=now, zone=zone)), zone)
        for written, option in ((first, "--from"), (last, "--to"))
    )
    if begins > ends:
        raise failures.Misuse("--from is behind --to")
    return begins, ends


async def _sources(
    chosen: Settings, by: By, first: str, last: str, wanted: str | None
) -> tuple[list[dict[str, Any]], list[str]]:
    from gateway.core import dealfigures, money
    from gateway.store import costs, dealreports, restated

    async with context.database(chosen) as opened:
        current = await context.book_in_force(opened, chosen)
        zone = await context.site_zone(opened)
        begins, ends = _days(first, last, zone)
        async with opened.read() as connection:
            counted = await dealreports.inbound(connection, begins, ends)
            spent = await costs.spend(connection, begins, ends)
            marks = [one for one in await restated.marks(connection, begins, ends) if one.kind != restated.WAGES]
    code = None
    if wanted is not None:
        try:
            code = money.currency(wanted)
        except ValueError as error:
            raise failures.Misuse(f"--currency: {error}") from None
    lines = [_line(one, by, current) for one in counted]
    try:
        code = dealfigures.currency_of(lines, (one.currency for one in spent), code)
    except dealfigures.MixedCurrencies as error:
        raise failures.Failure(f"there is money in {error}: choose one by --currency") from None
    sums: dict[str, int] = defaultdict(int)
    for one in spent:
        if one.currency == code:
            sums[_group(by, one.day, one.source, one.campaign or None, current)] += one.amount_e4
    found = dealfigures.figures(lines, sums, code)
    days = {_day(one.day_local) for one in marks}
    rows = [
        _row(group, figures, code, group in days if by is By.DAY else bool(days))
        for group, figures in _sorted(found, by)
    ]
    return rows, _restated(marks, zone)


def _sorted(found: dict[str, figures_.Figures], by: By) -> list[tuple[str, figures_.Figures]]:
    return sorted(found.items(), key=lambda one: (one[0] if by is By.DAY else -one[1].calls, one[0]))


def _line(one: dealreports.Counted, by: By, current: book.Book | None) -> figures_.Line:
    from gateway.core import dealfigures

    return dealfigures.Line(
        group=_group(by, one.day_local, one.source, one.campaign, current),
        caller=one.caller,
        answered=one.answered,
        spam=one.spam,
        qualified=one.qualified,
        goal_reached=one.goal_reached,
        deal_state=one.deal_state,
        value_e4=one.value_e4,
        currency=one.currency,
        days_to_close=_between(one.day_local, one.closed_on) if one.closed_on is not None else None,
    )


def _group(by: By, day: int, source: str | None, campaign: str | None, current: book.Book | None) -> str:
    """Calls and costs meet on the cost line: sources may share one."""
    if by is By.DAY:
        return _day(day)
    known = current.sources.get(source or "") if current is not None else None
    line = known.booked_on if known is not None else source or "unknown"
    return f"{line} / {campaign or '-'}" if by is By.CAMPAIGN else line


def _row(group: str, one: figures_.Figures, currency: str | None, is_restated: bool) -> dict[str, Any]:
    return {
        "group": group,
        "calls": one.calls,
        "answered": one.answered,
        "qualified": one.qualified,
        "goals": one.goals,
        "deals_open": one.deals_open,
        "deals_won": one.deals_won,
        "conversion_percent": one.conversion_percent,
        "won": _money(one.won_e4),
        "average_deal": _money(one.average_deal_e4),
        "days_to_close": one.median_days_to_close,
        "revenue_per_call": _money(one.revenue_per_call_e4),
        "spend": _money(one.spend_e4),
        "cost_per_call": _money(one.cost_per_call_e4),
        "cpa": _money(one.cpa_e4),
        "romi_percent": one.romi_percent,
        "currency": currency,
        "spam": one.spam,
        "restated": is_restated,
        "restated_shown": "restated" if is_restated else "",
    }


def _money(e4: int | None) -> str | None:
    from gateway.core import money

    return None if e4 is None else money.shown(round(e4, -2))


def _day(day: int) -> str:
    from gateway.core import deals

    return deals.day_text(day)


def _between(first: int, last: int) -> int:
    from datetime import date

    begins, ends = (date(day // 10_000, day // 100 % 100, day % 100) for day in (first, last))
    return (ends - begins).days


def _restated(marks: Sequence[restated.Mark], zone: tzinfo) -> list[str]:
    """A line for the report: which days changed after they were over."""
    if not marks:
        return []
    last_us = max(one.last_us for one in marks)
    days = sorted({_day(one.day_local) for one in marks})
    shown = ", ".join(days[:10]) + (f" and {len(days) - 10} more" if len(days) > 10 else "")
    changes = sum(one.changes for one in marks)
    return [
        f"Restated: {changes} changes came after the day was over, the last {moments.shown(last_us, zone)}: {shown}"
    ]


async def _agents(chosen: Settings, first: str, last: str) -> tuple[list[dict[str, Any]], list[str]]:
    from gateway.store import restated

    async with context.database(chosen) as opened:
        zone = await context.site_zone(opened)
        begins, ends = _days(first, last, zone)
        async with opened.read() as connection:
            marks = [one for one in await restated.marks(connection, begins, ends) if one.kind == restated.WAGES]
            rows = await _agent_rows(connection, begins, ends, bool(marks))
    return rows, _restated(marks, zone)


async def _agent_rows(connection: store.Connection, begins: int, ends: int, is_restated: bool) -> list[dict[str, Any]]:
    from gateway.core import costs
    from gateway.store import costs as stored
    from gateway.store import dealreports

    handled = await dealreports.handled(connection, begins, ends)
    wages, hours = await stored.wages(connection), await stored.hours(connection, begins, ends)
    found = []
    for agent in sorted({*handled, *(one.agent for one in hours)}):
        cost_e4, currencies, unpaid = costs.labour_e4(wages, hours, agent)
        minutes = sum(one.minutes for one in hours if one.agent == agent)
        calls, why = handled.get(agent, 0), _why(currencies, unpaid, minutes)
        per_call = costs.per_call_e4(cost_e4, calls) if not why else None
        found.append(
            {
                "agent": agent,
                "calls": calls,
                "hours": round(minutes / 60, 2),
                "cost": _money(cost_e4) if not why else None,
                "cost_per_call": _money(per_call),
                "currency": next(iter(currencies), None),
                "note": why,
                "restated": is_restated,
                "restated_shown": "restated" if is_restated else "",
            }
        )
    return found


def _why(currencies: set[str], unpaid: int, minutes: int) -> str:
    """Why there is no cost."""
    if not minutes:
        return "no staffed hours"
    if unpaid:
        return f"no wage for {unpaid / 60:.1f} hours"
    return "wages in several currencies" if len(currencies) > 1 else ""
