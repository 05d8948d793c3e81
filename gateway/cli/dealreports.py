"""`report sources`, `report agents`: what calls brought and cost, with days that were restated (R14-R16, R70)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, moments, output

if TYPE_CHECKING:
    from datetime import tzinfo

    from gateway.config.settings import Settings
    from gateway.store import restated

First = Annotated[str, typer.Option("--from", help="First day. [default: 30 days ago]", metavar="DAY")]
Last = Annotated[str, typer.Option("--to", help="Last day.", metavar="DAY")]
Currency = Annotated[
    str | None, typer.Option("--currency", help="Money of this one only, where there are several.", metavar="CODE")
]


class By(StrEnum):
    """What `report sources` has a row for, as in `gateway.services.reporting`; a test compares them."""

    SOURCE = "source"
    CHANNEL = "channel"
    CAMPAIGN = "campaign"
    DAY = "day"
    AGENT = "agent"


SOURCES = (
    output.Column("group", "Of"),
    output.Column("calls", "Calls", is_number=True),
    output.Column("answered", "Answered", is_number=True),
    output.Column("qualified", "Qualified", is_number=True),
    output.Column("goals", "Goals", is_number=True),
    output.Column("goal_percent"),
    output.Column("callers"),
    output.Column("prospects"),
    output.Column("buyers"),
    output.Column("deals_open", "Open", is_number=True),
    output.Column("deals_won", "Won", is_number=True),
    output.Column("conversion_percent", "Conv. %", is_number=True),
    output.Column("won", "Value", is_number=True),
    output.Column("average_deal", "Average", is_number=True),
    output.Column("days_to_close", "Days", is_number=True),
    output.Column("revenue_per_call", "Per call", is_number=True),
    output.Column("spend", "Spend", is_number=True),
    output.Column("cost_per_call", "Cost/call", is_number=True),
    output.Column("cost_per_lead"),
    output.Column("cpa", "CPA", is_number=True),
    output.Column("romi_percent", "ROMI %", is_number=True),
    output.Column("fcr_percent"),
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
    source: Annotated[
        str | None, typer.Option("--source", help="Only what is booked on this source.", metavar="KEY")
    ] = None,
    campaign: Annotated[
        str | None, typer.Option("--campaign", help="Only of this campaign; -: of none.", metavar="NAME")
    ] = None,
    currency: Currency = None,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Show what calls brought and cost. Population: inbound calls, without banned callers, test calls and those marked
    spam; a figure of too few cases is left out. Days whose figures changed after they were over are marked. JSON and
    CSV have more columns: callers, prospects and buyers, goals in percent, cost per lead, first-contact resolution.

    \b
    Examples:
        dialmark report sources --from 2026-11-01 --to 2026-11-30
        dialmark report sources --by day --format csv
        dialmark report sources --by agent --campaign spring
    """
    of = {"source": source, "campaign": campaign}
    rows, said = context.run(_sources(context.settings(config), by, first, last, currency, of))
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
    chosen: Settings, by: By, first: str, last: str, wanted: str | None, of: dict[str, str | None]
) -> tuple[list[dict[str, Any]], list[str]]:
    from gateway.core import dealfigures, money
    from gateway.services import reporting
    from gateway.store import dealreports

    code = None
    if wanted is not None:
        try:
            code = money.currency(wanted)
        except ValueError as error:
            raise failures.Misuse(f"--currency: {error}") from None
    async with context.database(chosen) as opened:
        current = await context.book_in_force(opened, chosen)
        zone = await context.site_zone(opened)
        begins, ends = _days(first, last, zone)
        try:
            async with opened.read() as connection:
                material = await reporting.read(connection, current, begins, ends)
            report = material.only(**of).report(reporting.By(by.value), code)
        except dealfigures.MixedCurrencies as error:
            raise failures.Failure(f"there is money in {error}: choose one by --currency") from None
        except dealreports.TooManyCalls:
            raise failures.Failure(f"more than {dealreports.MAX_CALLS:,} calls: ask for fewer days") from None
    return _shown(report.rows), _restated(report.marks, zone)


def _shown(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "restated_shown": "restated" if row["restated"] else ""} for row in rows]


def _restated(marks: Sequence[restated.Mark], zone: tzinfo) -> list[str]:
    """A line for the report: which days changed after they were over."""
    from gateway.core import deals

    if not marks:
        return []
    last_us = max(one.last_us for one in marks)
    days = sorted({deals.day_text(one.day_local) for one in marks})
    shown = ", ".join(days[:10]) + (f" and {len(days) - 10} more" if len(days) > 10 else "")
    changes = sum(one.changes for one in marks)
    return [
        f"Restated: {changes} changes came after the day was over, the last {moments.shown(last_us, zone)}: {shown}"
    ]


async def _agents(chosen: Settings, first: str, last: str) -> tuple[list[dict[str, Any]], list[str]]:
    from gateway.services import reporting

    async with context.database(chosen) as opened:
        zone = await context.site_zone(opened)
        begins, ends = _days(first, last, zone)
        async with opened.read() as connection:
            report = await reporting.agents(connection, begins, ends)
    rows = [*report.rows, report.total] if len(report.rows) > 1 else report.rows
    return _shown(rows), _restated(report.marks, zone)
