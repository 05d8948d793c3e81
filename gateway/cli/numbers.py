"""`numbers list`: the tracking numbers of the book in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, output

if TYPE_CHECKING:
    from datetime import tzinfo

    from gateway.config.settings import Settings
    from gateway.core import book

app = typer.Typer(help="Tracking numbers.", no_args_is_help=True)

COLUMNS = (
    output.Column("number", "Number"),
    output.Column("kind"),
    output.Column("pool"),
    output.Column("route", "Route"),
    output.Column("source", "Source"),
    output.Column("campaign", "Campaign"),
    output.Column("label"),
    output.Column("concurrency_limit"),
    output.Column("calls", "Calls", is_number=True),
    output.Column("last_call_at", "Last call", table_key="last_call"),
)


@app.callback()
def _group() -> None:
    """Tracking numbers."""


@app.command("list", short_help="List the tracking numbers in force.")
def list_numbers(
    route: Annotated[str | None, typer.Option("--route", help="Only of this route.", metavar="KEY")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only of this source.", metavar="KEY")] = None,
    silent_since: Annotated[
        str | None, typer.Option("--silent-since", help="Only those without a call since then: 7d, 2026-11-01.")
    ] = None,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """List the tracking numbers in force: where they lead, how many calls they had, when the last one came.

    \b
    Examples:
        dialmark numbers list --source radio
        dialmark numbers list --silent-since 30d
    """
    rows = context.run(_list(context.settings(config), route, source, silent_since))
    output.listing(rows, COLUMNS, form, nothing="No tracking number matches.")


async def _list(
    settings: Settings, route: str | None, source: str | None, silent_since: str | None
) -> list[dict[str, Any]]:
    from gateway.cli import moments
    from gateway.store import calls

    async with context.database(settings) as database:
        in_force = await context.book_in_force(database, settings)
        if in_force is None:
            raise failures.Failure("there is no routing yet: `dialmark apply routing.toml` makes the first revision")
        _refuse_unknown(route, in_force.routes, "--route")
        _refuse_unknown(source, in_force.sources, "--source")
        zone = await context.site_zone(database)
        silent_us = None
        if silent_since is not None:
            silent_us = moments.micros(moments.parse(silent_since, "--silent-since", now=context.now(), zone=zone))
        rows = []
        async with database.read() as connection:
            rang = await calls.by_number(connection)
        for number in in_force.tracking_numbers.values():
            if route not in (None, number.route) or source not in (None, number.source):
                continue
            count, last_us = rang.get(number.number, (0, None))
            if silent_us is None or last_us is None or last_us < silent_us:
                rows.append(_row(number, count, last_us, zone))
    return rows


def _refuse_unknown(key: str | None, known: Any, option: str) -> None:
    if key is not None and key not in known:
        raise failures.Misuse(f"{option}: there is no '{key[:40]}'; there are {', '.join(list(known)[:20]) or 'none'}")


def _row(number: book.TrackingNumber, count: int, last_us: int | None, zone: tzinfo) -> dict[str, Any]:
    from gateway.cli import moments

    return {
        "number": number.number,
        "kind": number.kind.value,
        "pool": number.pool,
        "route": number.route,
        "source": number.source,
        "campaign": number.campaign,
        "label": number.label,
        "concurrency_limit": number.concurrency_limit,
        "calls": count,
        "last_call_at": moments.rfc3339(last_us),
        "last_call": moments.shown(last_us, zone),
    }
