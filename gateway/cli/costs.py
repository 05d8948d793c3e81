"""`spend …` and `wages …`: what calls cost, from files (R8, R70, R105)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, importing, moments, output, progress, vaults

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.core import costs, sheets
    from gateway.services import costing

spend = typer.Typer(help="Spend per source, campaign and day.", no_args_is_help=True)
wages = typer.Typer(help="Agents' wages and staffed hours.", no_args_is_help=True)

First = Annotated[str, typer.Option("--from", help="First day. [default: 30 days ago]", metavar="DAY")]
Last = Annotated[str, typer.Option("--to", help="Last day.", metavar="DAY")]

SPEND = (
    output.Column("day", "Day"),
    output.Column("source", "Source"),
    output.Column("campaign", "Campaign"),
    output.Column("amount", "Amount", is_number=True),
    output.Column("currency", "Currency"),
    output.Column("entry", "Entry"),
    output.Column("restated", "Changed late"),
)
WAGES = (
    output.Column("agent", "Agent"),
    output.Column("from_day", "From"),
    output.Column("hourly", "Hourly", is_number=True),
    output.Column("currency", "Currency"),
)


@spend.callback()
def _spend_group() -> None:
    """Spend."""


@spend.command("import", short_help="Take in a CSV file.")
def import_spend(
    file: importing.File,
    dry_run: importing.DryRun = False,
    encoding: importing.Encoding = None,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Take in spend, all rows or none. The same file twice changes nothing the second time.

    \b
    Columns: day, source (or cost line), campaign, amount, currency, entry.
    Without an entry the amount is the whole cost of that source, campaign and day, and takes the place of what was
    there. With one it is a part, known by this id; parts add up.

    \b
    Example:
        dialmark spend import november.csv --dry-run
    """
    _import(config, file, "SPEND", dry_run, encoding)


@spend.command("list", short_help="List spend by day.")
def list_spend(
    first: First = "30d",
    last: Last = "today",
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """List spend by day, source and campaign; days whose figures changed after they were over are marked."""
    rows = context.run(_list_spend(context.settings(config), first, last))
    output.listing(rows, SPEND, form, nothing="No spend in these days.")


@wages.command("import", short_help="Take in a CSV file of wages.")
def import_wages(
    file: importing.File,
    dry_run: importing.DryRun = False,
    encoding: importing.Encoding = None,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Take in what agents earn in an hour, all rows or none. Columns: agent, from_day, hourly, currency."""
    _import(config, file, "WAGES", dry_run, encoding)


@wages.command("import-hours", short_help="Take in a CSV file of staffed hours.")
def import_hours(
    file: importing.File,
    dry_run: importing.DryRun = False,
    encoding: importing.Encoding = None,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Take in how long agents were there to take calls, all rows or none. Columns: agent, day, hours (7.5 or 7:30)."""
    _import(config, file, "HOURS", dry_run, encoding)


@wages.command("list", short_help="List wages.")
def list_wages(form: context.Format = output.Format.TABLE, config: context.Config = context.DEFAULT_CONFIG) -> None:
    """List the wages of agents, each from a day on."""
    rows = context.run(_list_wages(context.settings(config)))
    output.listing(rows, WAGES, form, nothing="No wages yet.")


def _import(config: Path, path: Path, kind: str, dry_run: bool, encoding: str | None) -> None:
    from gateway.core import costs

    done, sheet = context.run(_take(context.settings(config), path, getattr(costs, kind), dry_run, encoding))
    print(importing.said(done.changed, done.unchanged, sheet, dry_run=dry_run))


async def _take(
    chosen: Settings, path: Path, kind: costs.Kind, dry_run: bool, encoding: str | None
) -> tuple[costing.Done, sheets.Sheet]:
    from gateway.services import costing, dealing

    async with context.database(chosen) as opened:
        current = await context.book_in_force(opened, chosen)
        sheet = importing.read(path, kind.fields, encoding, current)
        shown = progress.Progress()
        try:
            done = await costing.take(
                opened,
                kind,
                [(row.line, row.cells) for row in sheet.rows],
                current=current,
                by=vaults.actor(),
                now_us=moments.micros(context.now()),
                is_sheet=True,
                dry_run=dry_run,
                told=importing.counting(shown, len(sheet.rows)),
            )
        except dealing.Refused as error:
            shown.end()
            importing.refused(path, error)
        finally:
            shown.end()
    return done, sheet


async def _list_spend(chosen: Settings, first: str, last: str) -> list[dict[str, Any]]:
    from gateway.core import deals, money
    from gateway.services import dealing
    from gateway.store import costs, restated

    async with context.database(chosen) as opened:
        zone = await context.site_zone(opened)
        now = context.now()
        days = [
            dealing.day_of(moments.micros(moments.parse(written, option, now=now, zone=zone)), zone)
            for written, option in ((first, "--from"), (last, "--to"))
        ]
        if days[0] > days[1]:
            raise failures.Misuse("--from is behind --to")
        async with opened.read() as connection:
            rows = await costs.spend(connection, *days)
            marks = {one.day_local for one in await restated.marks(connection, *days) if one.kind == restated.SPEND}
    return [
        {
            "day": deals.day_text(row.day),
            "source": row.source,
            "campaign": row.campaign or None,
            "amount": money.shown(row.amount_e4),
            "currency": row.currency,
            "entry": row.entry or None,
            "restated": row.day in marks,
        }
        for row in rows
    ]


async def _list_wages(chosen: Settings) -> list[dict[str, Any]]:
    from gateway.core import deals, money
    from gateway.store import costs

    async with context.database(chosen) as opened, opened.read() as connection:
        return [
            {
                "agent": row.agent,
                "from_day": deals.day_text(row.from_day),
                "hourly": money.shown(row.hourly_e4),
                "currency": row.currency,
            }
            for row in await costs.wages(connection)
        ]
