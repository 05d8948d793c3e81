"""`retention …`: what is due by the rules, and doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from gateway.cli import context, failures, output, vaults

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.services import retention

app = typer.Typer(help="Retention: what is due, and removing it.", no_args_is_help=True)

COLUMNS = (
    output.Column("what", "What"),
    output.Column("name", "Which"),
    output.Column("action", "Action"),
    output.Column("why", "Why"),
    output.Column("started_at", "Started", table_key="started"),
)


@app.command()
def preview(form: context.Format = output.Format.TABLE, config: context.Config = context.DEFAULT_CONFIG) -> None:
    """List what `run` would do now, and why; changes nothing.

    condemn: out of reach, can be restored; shred: its key is deleted for good; forget: the person leaves the record;
    delete: removed; keep: due, but under legal hold.
    """
    rows = context.run(_preview(context.settings(config)))
    output.listing(rows, COLUMNS, form, nothing="Nothing is due.")


@app.command()
def run(form: context.Format = output.Format.TABLE, config: context.Config = context.DEFAULT_CONFIG) -> None:
    """Do what `preview` lists. Recordings are condemned first, and shredded after the grace period."""
    from gateway.store import scrubbing

    settings = context.settings(config)
    done = context.run(_run(settings))
    # A shredded key must not be left in SQLite's write-ahead log.
    problem = scrubbing.scrub(settings.database.url)
    counts = {
        "condemned": done.condemned,
        "shredded": done.shredded,
        "calls_forgotten": done.forgotten,
        "archives_deleted": done.archives,
        "audit_rows_deleted": done.audit_rows,
        "kept_by_hold": done.held,
    }
    rows = [{"what": name, "count": count} for name, count in counts.items()]
    output.listing(rows, (output.Column("what", "What"), output.Column("count", "Count", is_number=True)), form)
    if problem is not None:
        raise failures.Failure(
            f"keys that were shredded may still stand in the write-ahead log: {problem}; run it again"
        )
    if done.files_left:
        raise failures.Failure(f"these files hold noise and could not be removed: {', '.join(done.files_left)}")


async def _preview(settings: Settings) -> list[dict[str, Any]]:
    from gateway.cli import moments
    from gateway.services import retention

    now_us = moments.micros(context.now())
    async with context.database(settings) as database:
        found = await retention.preview(database, vaults.policy(settings), vaults.retention_places(settings), now_us)
        zone = await context.site_zone(database)
    return [
        {
            "what": due.what,
            "name": due.name,
            "action": due.action,
            "why": due.why,
            "started_at": moments.rfc3339(due.at_us),
            "started": moments.shown(due.at_us, zone),
        }
        for due in found
    ]


async def _run(settings: Settings) -> retention.Done:
    from gateway.cli import moments
    from gateway.services import retention

    now_us = moments.micros(context.now())
    async with context.database(settings) as database:
        return await retention.run(
            database,
            vaults.policy(settings),
            vaults.retention_places(settings),
            now_us=now_us,
            actor=vaults.actor(),
            targets=await vaults.targets(database, settings),
        )
