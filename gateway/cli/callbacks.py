"""`callbacks list`: who asked on a site's pages to be called (R69)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, output

if TYPE_CHECKING:
    from gateway.config.settings import Settings

app = typer.Typer(help="Requests for a call back.", no_args_is_help=True)

COLUMNS = (
    output.Column("requested_at", "Asked", table_key="asked"),
    output.Column("site", "Site"),
    output.Column("number", "Number", table_key="written"),
    output.Column("number_raw"),
    output.Column("name", "Name"),
    output.Column("when", "When"),
    output.Column("message", "Message"),
    output.Column("source", "Source"),
    output.Column("campaign", "Campaign"),
    output.Column("page"),
    output.Column("visitor_id"),
)


@app.callback()
def _group() -> None:
    """Requests for a call back."""


@app.command("list", short_help="List who asked to be called.")
def list_callbacks(
    site: Annotated[str | None, typer.Option("--site", help="Only of this site.", metavar="KEY")] = None,
    since: Annotated[str, typer.Option("--since", help="Asked since then: 2h, today, 2026-11-01.")] = "7d",
    limit: Annotated[int, typer.Option("--limit", help="At most so many.", min=1, max=10_000)] = 100,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """List who asked on a site's pages to be called, newest first.

    \b
    Examples:
        dialmark callbacks list
        dialmark callbacks list --since today --format json
    """
    rows = context.run(_list(context.settings(config), site, since, limit))
    output.listing(rows, COLUMNS, form, nothing="Nobody asked to be called.")


async def _list(settings: Settings, site: str | None, since: str, limit: int) -> list[dict[str, Any]]:
    import json

    from gateway.cli import moments
    from gateway.core import events
    from gateway.store import outbox

    async with context.database(settings) as database:
        zone = await context.site_zone(database)
        since_us = moments.micros(moments.parse(since, "--since", now=context.now(), zone=zone))
        rows: list[dict[str, Any]] = []
        async with database.read() as connection:
            found = await outbox.of_type(connection, events.CALLBACK_REQUESTED, since_us)
        for event in found:
            data = json.loads(event.payload)["data"]
            if site in (None, data["site"]) and len(rows) < limit:
                came = data.get("attribution") or {}
                rows.append(
                    {
                        **data,
                        "asked": moments.shown(event.created_us, zone),
                        "written": data["number"] or data["number_raw"],
                        "source": came.get("source") or came.get("came_from"),
                        "campaign": came.get("campaign"),
                    }
                )
    return rows
