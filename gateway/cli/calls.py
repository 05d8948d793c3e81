"""`calls …`: the records, listed, shown, exported and followed."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, output

if TYPE_CHECKING:
    from datetime import tzinfo

    from gateway import store
    from gateway.config.settings import Settings
    from gateway.core import touches
    from gateway.store import calls as stored_calls

app = typer.Typer(help="Call records: list, show, live, export, tail.", no_args_is_help=True)

OUTCOMES = (
    "answered",
    "busy",
    "rejected",
    "no_answer",
    "unreachable",
    "failed",
    "abandoned",
    "voicemail",
    "after_hours",
    "banned",
    "lost",
)
MODELS = ("first_touch", "last_touch", "last_non_direct", "linear", "position_based", "time_decay")
"""As in `gateway.core.touches.Model`; a test compares them."""
SHORT_ID = 8
"""Characters of a call id in tables; `calls show` takes them."""
SEARCHED_FOR_PREFIX = 10_000
"""How many of the latest calls `show` looks through for the beginning of an id."""

COLUMNS = (
    output.Column("call_id", "Call", table_key="short_id", is_whole=True),
    output.Column("started_at", "Started", table_key="started", is_whole=True),
    output.Column("direction"),
    output.Column("caller", "Caller", is_whole=True),
    output.Column("did", "Number", is_whole=True),
    output.Column("source", "Source"),
    output.Column("campaign"),
    output.Column("route"),
    output.Column("route_source"),
    output.Column("outcome", "Outcome", table_key="ending", is_whole=True),
    output.Column("cause"),
    output.Column("missed"),
    output.Column("agent", "Agent"),
    output.Column("destination"),
    output.Column("answered_at"),
    output.Column("ended_at"),
    output.Column("ended_by"),
    output.Column("wait_seconds"),
    output.Column("ring_seconds"),
    output.Column("talk_seconds", "Talk", is_number=True),
    output.Column("hold_seconds"),
    output.Column("calls_before"),
    output.Column("caller_country"),
    output.Column("caller_region"),
    output.Column("site"),
    output.Column("trunk"),
    output.Column("score"),
    output.Column("rule_tags"),
    output.Column("revision"),
)

Since = Annotated[str | None, typer.Option("--since", help="Started at or after: 2026-11-21, today, 2h, 7d.")]
Until = Annotated[str | None, typer.Option("--until", help="Started before.")]
Outcome = Annotated[list[str] | None, typer.Option("--outcome", help="May be given several times.", metavar="NAME")]
Missed = Annotated[bool | None, typer.Option("--missed/--not-missed", help="Only missed calls, or only the others.")]
Source = Annotated[str | None, typer.Option("--source", help="Key of the source.", metavar="KEY")]
Number = Annotated[str | None, typer.Option("--number", help="Tracking number called.")]
Caller = Annotated[str | None, typer.Option("--caller", help="Caller's number.")]
Agent = Annotated[str | None, typer.Option("--agent", help="Key of the agent who answered.", metavar="KEY")]
Model = Annotated[str | None, typer.Option("--model", help=f"Credit touches by {', '.join(MODELS)}.", metavar="NAME")]
Score = Annotated[int | None, typer.Option("--min-score", help="At least so many points by the rules.", metavar="N")]
Direction = Annotated[str | None, typer.Option("--direction", help="inbound or outbound.")]


@app.command("list", short_help="List calls, newest first.")
def list_calls(
    since: Since = None,
    until: Until = None,
    outcome: Outcome = None,
    missed: Missed = None,
    source: Source = None,
    number: Number = None,
    caller: Caller = None,
    agent: Agent = None,
    direction: Direction = None,
    min_score: Score = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = 50,
    after: Annotated[str | None, typer.Option("--after", help="Go on behind this call id.", metavar="ID")] = None,
    model: Model = None,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """List calls, newest first. Times of the table are those of the first site. --model adds `credit` to the JSON.

    \b
    Examples:
        dialmark calls list --since today --missed
        dialmark calls list --source google-ads --since 7d --format csv > week.csv
    """
    asked = _Asked(since, until, outcome, missed, source, number, caller, agent, direction, min_score)
    context.run(_list(context.settings(config), asked, limit, after, form, _model(model)))


@app.command(short_help="Show one record.")
def show(
    call_id: Annotated[str, typer.Argument(help="The call id, or its beginning.", metavar="ID")],
    model: Model = None,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Show one record: attempts with the raw codes they ended with, who called, and how surely.

    \b
    Example:
        dialmark calls show 1f0c --model linear
    """
    row, record, zone = context.run(_show(context.settings(config), call_id, _model(model)))
    match form:
        case output.Format.JSON:
            output.json_document(record)
        case output.Format.CSV:
            output.listing([_columns(row, zone)], COLUMNS, form)
        case output.Format.TABLE:
            from gateway.cli import recordtext

            print(recordtext.render(record, zone, state=row.state))


@app.command(short_help="List the calls that are up.")
def live(
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """List the calls that are up now, oldest first."""
    rows, texts, zone = context.run(_live(context.settings(config)))
    _print(rows, texts, zone, form, nothing="No call is up.")


@app.command(short_help="Write all matching records.")
def export(
    since: Since = None,
    until: Until = None,
    outcome: Outcome = None,
    missed: Missed = None,
    source: Source = None,
    number: Number = None,
    caller: Caller = None,
    agent: Agent = None,
    direction: Direction = None,
    min_score: Score = None,
    to: Annotated[Path | None, typer.Option("--output", "-o", help="File to write. [default: stdout]")] = None,
    form: Annotated[output.Format, typer.Option("--format", help="json: one record per line; csv; table.")] = (
        output.Format.JSON
    ),
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Write all matching records, newest first: JSON lines, or CSV. Any number of calls takes the same memory.

    \b
    Example:
        dialmark calls export --since 2026-11-01 --until 2026-12-01 -o november.jsonl
    """
    asked = _Asked(since, until, outcome, missed, source, number, caller, agent, direction, min_score)
    count = context.run(_export(context.settings(config), asked, to, form))
    if to is not None:
        output.note(f"{count} calls written to {to}.")


@app.command(short_help="Print calls as they end.")
def tail(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=10_000, help="Ended calls to begin with.")] = 10,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Print the latest calls that ended, one line each, and with -f each further one as it is stored.

    \b
    Examples:
        dialmark calls tail -f
        dialmark calls tail -f --format json | jq .outcome
    """
    from gateway.cli import following

    context.run(following.tail(context.settings(config), follow, lines, form))


class _Asked:
    """The filter options as they were written."""

    def __init__(
        self,
        since: str | None,
        until: str | None,
        outcome: list[str] | None,
        missed: bool | None,
        source: str | None,
        number: str | None,
        caller: str | None,
        agent: str | None,
        direction: str | None,
        min_score: int | None,
    ) -> None:
        self.since, self.until, self.min_score = since, until, min_score
        self.outcomes = frozenset(part for one in outcome or () for part in one.split(","))
        self.missed = missed
        self.source, self.agent = source, agent
        self.number = context.number_filter(number, "--number")
        self.caller = context.number_filter(caller, "--caller")
        self.direction = direction
        if unknown := self.outcomes - set(OUTCOMES):
            raise failures.Misuse(f"--outcome: there is no outcome '{min(unknown)}'; they are {', '.join(OUTCOMES)}")
        if direction not in (None, "inbound", "outbound"):
            raise failures.Misuse(f"--direction: '{direction}' is neither inbound nor outbound")

    def filter(self, zone: tzinfo) -> stored_calls.CallFilter:
        """For the store. Raises Misuse for times that are none."""
        from gateway.cli import moments
        from gateway.store import calls as stored_calls

        now = context.now()
        since = self.since and moments.micros(moments.parse(self.since, "--since", now=now, zone=zone))
        until = self.until and moments.micros(moments.parse(self.until, "--until", now=now, zone=zone))
        return stored_calls.CallFilter(
            since_us=since if isinstance(since, int) else None,
            until_us=until if isinstance(until, int) else None,
            direction=self.direction,
            outcomes=self.outcomes or None,
            missed=self.missed,
            source=self.source,
            did=self.number,
            caller=self.caller,
            agent=self.agent,
            min_score=self.min_score,
        )


def _model(written: str | None) -> touches.Model | None:
    """Raises Misuse for a model that there is not."""
    if written is None:
        return None
    if written not in MODELS:
        raise failures.Misuse(
            f"--model: there is no model '{output.plain(written[:40])}'; they are {', '.join(MODELS)}"
        )
    from gateway.core import touches

    return touches.Model(written)


async def _list(
    settings: Settings,
    asked: _Asked,
    limit: int,
    after: str | None,
    form: output.Format,
    model: touches.Model | None,
) -> None:
    async with context.database(settings) as database:
        zone = await context.site_zone(database)
        chosen = asked.filter(zone)
        rows = [row async for row in _pages(database, chosen, after, limit + 1)]
        more = len(rows) > limit
        rows = rows[:limit]
        texts = await _texts(settings, database, rows, model) if form is output.Format.JSON else []
    _print(rows, texts, zone, form, nothing="No call matches.")
    if more and form is output.Format.TABLE:
        output.note(f"There are more: --after {rows[-1].call_id}, or a higher --limit.")


async def _pages(
    database: store.Database, chosen: stored_calls.CallFilter, after: str | None, limit: int
) -> AsyncIterator[stored_calls.CallRow]:
    from gateway.store import calls as stored_calls

    cursor = None
    if after is not None:
        start = await find(database, after)
        cursor = stored_calls.Cursor(start.started_us, start.call_id)
    while limit > 0:
        async with database.read() as connection:
            page = await stored_calls.list_calls(connection, chosen, after=cursor, limit=min(limit, 500))
        for row in page.calls:
            yield row
        limit -= len(page.calls)
        cursor = page.next
        if cursor is None:
            return


async def find(database: store.Database, written: str) -> stored_calls.CallRow:
    """The call with this id, or whose id begins so. Raises Failure when there is none, or more than one."""
    from gateway.store import calls as stored_calls

    wanted = written.strip().lower()
    async with database.read() as connection:
        row = await stored_calls.get(connection, wanted)
    if row is not None:
        return row
    found = []
    if 4 <= len(wanted) < 36:
        everything = _pages(database, stored_calls.CallFilter(), None, SEARCHED_FOR_PREFIX)
        found = [row async for row in everything if row.call_id.startswith(wanted)]
    if not found:
        raise failures.Failure(f"there is no call '{output.plain(written[:40])}'; `dialmark calls list` shows the ids")
    if len(found) > 1:
        raise failures.Failure(f"{len(found)} calls begin with '{wanted}'; write more of the id")
    return found[0]


async def _texts(
    settings: Settings,
    database: store.Database,
    rows: list[stored_calls.CallRow],
    model: touches.Model | None = None,
) -> list[str]:
    """The records with what belongs to them by now, and credited by a model if one is asked for."""
    from gateway.store import joined

    async with database.read() as connection:
        found = await joined.texts(connection, rows)
    if model is None:
        return found
    from gateway.services import crediting

    routing_book = await context.book_in_force(database, settings)
    async with database.read() as connection:
        credit = await crediting.credited(connection, rows, model, routing_book)
    return [crediting.with_credit(text, credit[row.call_id]) for row, text in zip(rows, found, strict=True)]


async def _show(
    settings: Settings, call_id: str, model: touches.Model | None
) -> tuple[stored_calls.CallRow, dict[str, Any], tzinfo]:
    async with context.database(settings) as database:
        row = await find(database, call_id)
        (text,) = await _texts(settings, database, [row], model)
        return row, json.loads(text), await context.site_zone(database)


async def _live(settings: Settings) -> tuple[list[stored_calls.CallRow], list[str], tzinfo]:
    from gateway.store import calls as stored_calls

    async with context.database(settings) as database:
        async with database.read() as connection:
            rows = await stored_calls.live(connection)
        return rows, await _texts(settings, database, rows), await context.site_zone(database)


async def _export(settings: Settings, asked: _Asked, to: Path | None, form: output.Format) -> int:
    from gateway.store import calls as stored_calls
    from gateway.store import joined

    async with context.database(settings) as database:
        zone = await context.site_zone(database)
        chosen = asked.filter(zone)
        try:
            file = sys.stdout if to is None else to.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise failures.Failure(f"{to}: {error.strerror}") from None
        count = 0
        try:
            if form is output.Format.TABLE:
                everything = [row async for row in stored_calls.export(database, chosen)]
                _print(everything, [], zone, form, nothing="No call matches.")
                return len(everything)
            if form is output.Format.CSV:
                lines = output.CsvLines([column.key for column in COLUMNS], file)
                async for row in stored_calls.export(database, chosen):
                    count += 1
                    flat = _columns(row, zone)
                    lines.write(flat[column.key] for column in COLUMNS)
            else:
                async for text in joined.export(database, chosen):
                    count += 1
                    print(text, file=file)
        finally:
            if to is not None:
                file.close()
        return count


def _print(
    rows: list[stored_calls.CallRow], texts: list[str], zone: tzinfo, form: output.Format, *, nothing: str
) -> None:
    if form is output.Format.JSON:
        output.json_document([json.loads(text) for text in texts])
    else:
        output.listing([_columns(row, zone) for row in rows], COLUMNS, form, nothing=nothing)


def _columns(row: stored_calls.CallRow, zone: tzinfo) -> dict[str, Any]:
    """One call flat, with the forms that the table shows."""
    from gateway.cli import moments

    return {
        **{column.key: getattr(row, column.key, None) for column in COLUMNS},
        "started_at": moments.rfc3339(row.started_us),
        "answered_at": moments.rfc3339(row.answered_us),
        "ended_at": moments.rfc3339(row.ended_us),
        "short_id": row.call_id[:SHORT_ID],
        "started": f"{moments.moment(row.started_us).astimezone(zone):%m-%d %H:%M:%S}",
        "ending": row.outcome or row.state,
        **_scored(row.record),
    }


def _scored(record: str) -> dict[str, Any]:
    """What the rules gave; most records need not be read for it."""
    if '"scoring":{' not in record:
        return {"score": None, "rule_tags": None}
    found = json.loads(record)["scoring"]
    return {"score": found["score"], "rule_tags": ", ".join(one["tag"] for one in found["tags"]) or None}


def flat(row: stored_calls.CallRow, zone: tzinfo) -> dict[str, Any]:
    """One call as the columns of `COLUMNS`."""
    return _columns(row, zone)
