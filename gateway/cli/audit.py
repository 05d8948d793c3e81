"""`audit …`: who listened, exported, held, shredded, erased."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, output

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.store import audit

app = typer.Typer(help="The audit chain: list, verify.", no_args_is_help=True)

COLUMNS = (
    output.Column("seq", "Row", is_number=True),
    output.Column("at", "At", table_key="shown"),
    output.Column("actor", "Who"),
    output.Column("action", "What"),
    output.Column("subject", "Which"),
    output.Column("details", "Details"),
    output.Column("hash"),
)


@app.command("list")
def list_entries(
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000)] = 50,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """List the last rows, newest first."""
    output.listing(context.run(_list(context.settings(config), limit)), COLUMNS, form, nothing="The chain is empty.")


@app.command()
def verify(
    head: Annotated[
        str | None,
        typer.Option("--head", help="ROW:HASH noted earlier: proves that nothing was cut off.", metavar="ROW:HASH"),
    ] = None,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Read the whole chain and check it row by row. Exits 1 at the first row that was changed, removed or put in.

    Note the head that it prints somewhere else, and give it to a later run.
    """
    verdict = context.run(_verify(context.settings(config), head))
    said = {
        "rows": verdict.rows,
        "whole": verdict.is_whole,
        "head": f"{verdict.head.seq}:{verdict.head.hash}" if verdict.head else None,
        "broken_at": verdict.broken_at,
        "why": verdict.why or None,
    }
    if form is output.Format.TABLE:
        print(f"{verdict.rows} rows are whole.  Head: {said['head'] or '-'}")
    else:
        output.listing([said], [output.Column(key) for key in said], form)
    if not verdict.is_whole:
        raise failures.Failure(f"row {verdict.broken_at}: {verdict.why}")


async def _list(settings: Settings, limit: int) -> list[dict[str, Any]]:
    from gateway.cli import moments
    from gateway.store import audit

    async with context.database(settings) as database:
        async with database.read() as connection:
            found = await audit.latest(connection, limit=limit)
        zone = await context.site_zone(database)
    return [
        {
            "seq": one.seq,
            "at": moments.rfc3339(one.at_us),
            "shown": moments.shown(one.at_us, zone),
            "actor": one.actor,
            "action": one.action,
            "subject": one.subject,
            "details": one.details,
            "hash": one.hash,
        }
        for one in found
    ]


async def _verify(settings: Settings, head: str | None) -> audit.Verdict:
    from gateway.store import audit

    noted = None
    if head is not None:
        row, _, digest = head.partition(":")
        if not row.isdigit() or len(digest) != 64:
            raise failures.Misuse("--head: must be ROW:HASH as `dialmark audit verify` printed it")
        noted = audit.Head(int(row), digest)
    async with context.database(settings) as database:
        return await audit.verify(database, noted)
