"""`deals …`: what became of calls, from a file, and who said what about a call (R14-R16, R60, R77, R87)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, importing, moments, output, progress, vaults

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.core import sheets
    from gateway.services import dealing

app = typer.Typer(help="What became of calls: qualified, spam, goal, deal.", no_args_is_help=True)

HISTORY = (
    output.Column("at", "At", table_key="at_shown"),
    output.Column("changed_by", "By"),
    output.Column("changed_via", "Way"),
    output.Column("field", "Field"),
    output.Column("before", "Before"),
    output.Column("after", "After"),
)


@app.command("import", short_help="Take in a CSV file.")
def import_(
    file: importing.File,
    dry_run: importing.DryRun = False,
    encoding: importing.Encoding = None,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Take in what became of calls, all rows or none. The same file twice changes nothing the second time.

    \b
    A row names its call by call_id; or crm and object_id; or caller and at; or a deal_id that is known. Then any of:
    qualified, spam, goal_reached, lead_status, note, tags, deal_id, deal_state, deal_stage, value, currency, closed_on.
    An empty cell leaves as it is, a cell with - takes away. See docs/deals.md.

    \b
    Examples:
        dialmark deals import won.csv --dry-run
        dialmark deals import won.csv
    """
    done, sheet = context.run(_import(context.settings(config), file, dry_run, encoding))
    print(importing.said(done.changed, done.unchanged, sheet, dry_run=dry_run))


async def _import(
    chosen: Settings, path: Path, dry_run: bool, encoding: str | None
) -> tuple[dealing.Done, sheets.Sheet]:
    from gateway.core import deals
    from gateway.daemon import outgoing
    from gateway.services import dealing

    async with context.database(chosen) as opened:
        current = await context.book_in_force(opened, chosen)
        sheet = importing.read(path, deals.FIELDS, encoding, current)
        targets = outgoing.subscriptions(chosen)
        targets.use(outgoing.wanted(current) if current is not None else {})
        takes = dealing.Dealing(
            opened,
            current_book=lambda: current,
            targets=targets,
            now_us=lambda: moments.micros(context.now()),
        )
        shown = progress.Progress()
        asked = [dealing.Asked(row.line, row.cells) for row in sheet.rows]
        by = dealing.Source(vaults.actor(), "csv")
        try:
            told = importing.counting(shown, len(asked))
            return await takes.take(asked, by, is_sheet=True, dry_run=dry_run, told=told), sheet
        except dealing.Refused as error:
            shown.end()
            importing.refused(path, error)
        finally:
            shown.end()


@app.command(short_help="Show who said what about a call.")
def history(
    call_id: Annotated[str, typer.Argument(help="Id of the call.", metavar="CALL")],
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Show who said what about a call, and when, oldest first. `dialmark calls show` has the last word."""
    rows = context.run(_history(context.settings(config), call_id.strip().lower()))
    output.listing(rows, HISTORY, form, nothing="Nobody has said anything about this call.")


async def _history(chosen: Settings, call_id: str) -> list[dict[str, Any]]:
    from gateway.store import calls, results

    async with context.database(chosen) as opened:
        async with opened.read() as connection:
            if await calls.get(connection, call_id) is None:
                raise failures.Failure(f"there is no call {output.plain(call_id[:40])}")
            found = await results.history(connection, call_id)
        zone = await context.site_zone(opened)
    return [
        {
            "at": moments.rfc3339(one.at_us),
            "at_shown": moments.shown(one.at_us, zone),
            "changed_by": one.changed_by,
            "changed_via": one.way,
            "field": name,
            "before": _text(before),
            "after": _text(after),
        }
        for one in found
        for name, (before, after) in one.said.items()
    ]


def _text(value: Any) -> Any:
    return ", ".join(value) if isinstance(value, list) else value
