"""`agents …`: who answers, who is on break, and the switch (R19, R57)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, output

if TYPE_CHECKING:
    from gateway.config.settings import Settings

app = typer.Typer(help="Agents: who is on break.", no_args_is_help=True)

Agent = Annotated[str, typer.Argument(help="Key of an [[agent]].", metavar="AGENT")]

COLUMNS = (
    output.Column("agent", "Agent"),
    output.Column("name", "Name"),
    output.Column("extension", "Extension"),
    output.Column("endpoint", "Phone"),
    output.Column("state", "State"),
    output.Column("since", "Since", table_key="since_shown"),
    output.Column("by", "Changed by"),
)


@app.callback()
def _group() -> None:
    """Agents: who is on break."""


@app.command("list", short_help="List agents and who is on break.")
def list_agents(
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """List the agents of the routing file, and who is on break since when.

    \b
    Example:
        dialmark agents list
    """
    rows = context.run(_list(context.settings(config)))
    output.listing(rows, COLUMNS, form, nothing="The routing file names no [[agent]].")


@app.command("break", short_help="Put an agent on break: their lines do not ring.")
def set_break(agent: Agent, config: context.Config = context.DEFAULT_CONFIG) -> None:
    """Put an agent on break, as `*29` on their phone does: their lines do not ring until they are back.

    \b
    Example:
        dialmark agents break anna
    """
    context.run(_switch(context.settings(config), agent, on_break=True))
    typer.echo(f"{agent} is on break.")


@app.command("back", short_help="End an agent's break.")
def set_back(agent: Agent, config: context.Config = context.DEFAULT_CONFIG) -> None:
    """End an agent's break.

    \b
    Example:
        dialmark agents back anna
    """
    context.run(_switch(context.settings(config), agent, on_break=False))
    typer.echo(f"{agent} takes calls.")


async def _list(settings: Settings) -> list[dict[str, Any]]:
    from gateway.cli import moments
    from gateway.core import records
    from gateway.store import agents as stored

    async with context.database(settings) as database:
        routing_book = await context.book_in_force(database, settings)
        zone = await context.site_zone(database)
        async with database.read() as connection:
            breaks = await stored.breaks(connection)
    rows = []
    for one in routing_book.agents.values() if routing_book is not None else ():
        last = breaks.get(one.key)
        rows.append(
            {
                "agent": one.key,
                "name": one.name,
                "extension": one.extension,
                "endpoint": one.endpoint,
                "state": "on break" if last is not None and last.is_on else "takes calls",
                "since": records.timestamp(last.at_us) if last is not None else None,
                "since_shown": moments.shown(last.at_us, zone) if last is not None else None,
                "by": last.changed_by if last is not None else None,
            }
        )
    return rows


async def _switch(settings: Settings, agent: str, *, on_break: bool) -> None:
    from gateway.cli import moments, vaults
    from gateway.store import agents as stored
    from gateway.store import audit

    async with context.database(settings) as database:
        routing_book = await context.book_in_force(database, settings)
        if routing_book is None or agent not in routing_book.agents:
            raise failures.Misuse(f"the routing in force has no agent '{agent[:40]}' (`dialmark agents list`)")
        now_us, by = moments.micros(context.now()), vaults.actor()
        async with database.begin() as tx:
            await stored.switch(tx, [stored.Break(agent, on_break, now_us, by)])
            await audit.append(
                tx,
                at_us=now_us,
                actor=by,
                action="agent.break" if on_break else "agent.back",
                subject=f"agent:{agent}",
            )
