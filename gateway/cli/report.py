"""`report …`: what people look at once a week."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, dealreports, failures, output, reviewsheet, vaults

if TYPE_CHECKING:
    from gateway import store
    from gateway.config.settings import Settings
    from gateway.core import sampling
    from gateway.store import reviews

app = typer.Typer(help="Reports: what calls brought and cost, the weekly sample of recordings.", no_args_is_help=True)
app.command("sources", short_help="What calls brought and cost, by source, campaign or day.")(dealreports.sources)
app.command("agents", short_help="What a call costs, by agent.")(dealreports.agents)

COLUMNS = (
    output.Column("week"),
    output.Column("agent", "Agent"),
    output.Column("drawn", "Drawn", is_number=True),
    output.Column("started_at", "Started", table_key="started"),
    output.Column("caller", "Caller"),
    output.Column("source", "Source"),
    output.Column("duration_seconds", "Seconds", is_number=True),
    output.Column("score", "Score", is_number=True),
    output.Column("note", "Note"),
    output.Column("state", "State"),
    output.Column("link", "Link", is_whole=True),
    output.Column("call_id"),
    output.Column("recording_id"),
)


@app.command("review-samples", short_help="Draw recordings to listen to, and take in what was found.")
def review_samples(
    week: Annotated[
        str | None, typer.Option("--week", help="2026-W47. [default: the last full week]", metavar="WEEK")
    ] = None,
    per_agent: Annotated[int, typer.Option("--per-agent", min=1, max=100, help="Recordings of each agent.")] = 5,
    out: Annotated[
        Path | None, typer.Option("--out", help="New file to write; CSV, or JSON with --format json.", metavar="FILE")
    ] = None,
    fill: Annotated[
        Path | None, typer.Option("--fill", help="CSV with scores and notes: take them in.", metavar="FILE")
    ] = None,
    link: Annotated[
        str | None, typer.Option("--link", help="Where people reach the admin page. [default: here]", metavar="URL")
    ] = None,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Draw recordings of each agent for review, by chance that nobody can steer, with a score and a note to fill in.

    A week is drawn once: later runs show the same recordings. Scores are 1 to 5.

    \b
    Examples:
        dialmark report review-samples --out week.csv
        dialmark report review-samples --fill week.csv
    """
    settings = context.settings(config)
    if fill is not None:
        if week is not None or out is not None or link is not None:
            raise failures.Misuse("--fill goes alone: the file says which recordings are meant")
        context.run(_fill(settings, fill))
        return
    rows, said = context.run(_draw(settings, week, per_agent, link or _page(settings)))
    if out is None:
        output.listing(rows, COLUMNS, form, nothing="Nobody to review: no agent is in the routing, and none answered.")
    else:
        _write(out, rows, form)
        said += f" Written to {out}."
    output.note(said)


def _page(settings: Settings) -> str:
    host = settings.web.admin_host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.web.admin_port}"


def _write(path: Path, rows: Sequence[dict[str, Any]], form: output.Format) -> None:
    """A new file that only its owner reads: it will hold judgements. One that is there may be filled in already."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise failures.Failure(f"{path} is there already, perhaps filled in; name another file") from None
    except OSError as error:
        raise failures.Failure(f"{path}: {error.strerror}") from None
    # Spreadsheets take CSV for the machine's old code page unless it begins with a byte order mark.
    encoding = "utf-8" if form is output.Format.JSON else "utf-8-sig"
    with os.fdopen(handle, "w", encoding=encoding, newline="") as file:
        if form is output.Format.JSON:
            output.json_line([{column.key: row[column.key] for column in COLUMNS} for row in rows], file)
            return
        lines = output.CsvLines([column.key for column in COLUMNS], file)
        for row in rows:
            lines.write(row[column.key] for column in COLUMNS)


# --- the draw ---


async def _draw(settings: Settings, written: str | None, count: int, page: str) -> tuple[list[dict[str, Any]], str]:
    """The rows of a week, and a sentence about its draw."""
    from gateway.cli import moments

    now = context.now()
    async with context.database(settings) as database:
        zone = await context.site_zone(database)
        week = _week(written, now, zone)
        in_force = await context.book_in_force(database, settings)
        drawn, is_new = await _kept_draw(database, week, zone, count, moments.micros(now))
        agents = {*(in_force.agents if in_force is not None else ()), *(one.agent for one in drawn)}
        rows = await _rows(database, week, drawn, agents, zone, page)
    listed = f"{len(drawn)} recordings of {len({one.agent for one in drawn})} agents"
    if is_new or not drawn:
        return rows, f"Week {week}: {listed} drawn."
    at = moments.shown(drawn[0].drawn_us, zone)
    return rows, f"Week {week}: {listed}, drawn at {at}; a draw stays as it is."


def _week(written: str | None, now: datetime, zone: tzinfo) -> sampling.Week:
    """The week asked for; only one that is over, or its last days would never be drawn."""
    from gateway.core import sampling

    last = sampling.Week.of(now, zone).before()
    if written is None:
        return last
    try:
        week = sampling.Week.parse(written)
    except ValueError as error:
        raise failures.Misuse(f"--week: {error}") from None
    if week > last:
        raise failures.Misuse(f"--week: {week} is not over; the last full week is {last}")
    return week


async def _kept_draw(
    database: store.Database, week: sampling.Week, zone: tzinfo, count: int, now_us: int
) -> tuple[list[reviews.Review], bool]:
    """What was drawn for the week, drawing it first if nobody has; and whether this was now."""
    from gateway.cli import moments
    from gateway.core import sampling
    from gateway.store import reviews

    start, end = week.bounds(zone)
    async with database.begin() as tx:
        if before := await reviews.of_week(tx, str(week)):
            return before, False
        found = await reviews.candidates(tx, moments.micros(start), moments.micros(end))
        calls = {one.recording_id: one.call_id for one in found}
        by_agent: dict[str, list[str]] = {}
        for one in found:
            by_agent.setdefault(one.agent, []).append(one.recording_id)
        for agent, ids in sampling.draws(week, by_agent, count).items():
            # The place in the draw is kept as its time: what is drawn first is listed first.
            await reviews.add(
                tx,
                [reviews.Review(one, calls[one], str(week), agent, now_us + place) for place, one in enumerate(ids)],
            )
        return await reviews.of_week(tx, str(week)), True


async def _rows(
    database: store.Database,
    week: sampling.Week,
    drawn: Sequence[reviews.Review],
    agents: set[str],
    zone: tzinfo,
    page: str,
) -> list[dict[str, Any]]:
    by_agent: dict[str, list[reviews.Review]] = {agent: [] for agent in sorted(agents)}
    for one in drawn:
        by_agent[one.agent].append(one)
    rows = []
    async with database.read() as connection:
        for agent, ones in by_agent.items():
            shared = {"week": str(week), "agent": agent, "drawn": len(ones)}
            rows += [shared | await _facts(connection, one, zone, page) for one in ones]
            if not ones:
                rows.append({column.key: None for column in COLUMNS} | shared)
    return rows


async def _facts(connection: store.Connection, one: reviews.Review, zone: tzinfo, page: str) -> dict[str, Any]:
    """A drawn recording. The number is masked: the sheet is passed on, and whoever needs it has the record."""
    from gateway.cli import moments
    from gateway.core import numbers
    from gateway.store import calls, recordings

    sound = await recordings.get(connection, one.recording_id)
    call = await calls.get(connection, one.call_id)
    started_us = sound.started_us if sound is not None else None
    return {
        "started_at": moments.rfc3339(started_us),
        "started": moments.shown(started_us, zone),
        "caller": numbers.mask(call.caller) if call is not None and call.caller else None,
        "source": call.source if call is not None else None,
        "duration_seconds": sound.duration_seconds if sound is not None else None,
        "score": one.score,
        "note": one.note,
        "state": sound.state.value if sound is not None else None,
        "link": f"{page.rstrip('/')}/calls/{one.call_id}",
        "call_id": one.call_id,
        "recording_id": one.recording_id,
    }


# --- what was found ---


async def _fill(settings: Settings, path: Path) -> None:
    """Takes in a whole sheet or nothing of it. Raises Failure with every error of it."""
    from gateway.store import reviews

    sheet = reviewsheet.read(path)
    errors = list(sheet.errors)
    changed = 0
    async with context.database(settings) as database, database.begin() as tx:
        known = await reviews.of_recordings(tx, [one.recording_id for one in sheet.filled])
        for one in sheet.filled:
            review = known.get(one.recording_id)
            if review is None:
                errors.append((one.line, f"recording_id: {one.recording_id} was never drawn"))
            elif (review.score, review.note) != (one.score, one.note):
                errors += await _take_in(tx, one, review)
                changed += 1
        if errors:
            # Inside the transaction, which this rolls back.
            told = "\n".join(f"{path}:{line}: {message}" for line, message in sorted(errors))
            raise failures.Failure(f"{told}\nNothing was changed.")
    same = len(sheet.filled) - changed
    print(f"{changed} reviews taken in, {same} were known, {sheet.empty} rows are still empty.")


async def _take_in(tx: store.Transaction, one: reviewsheet.Filled, review: reviews.Review) -> list[tuple[int, str]]:
    """Keeps one review; what is wrong with that. Words about a person who was erased must not come back."""
    from gateway.cli import moments
    from gateway.store import forgetting, recordings, reviews

    if one.note is not None:
        sound = await recordings.get(tx, one.recording_id, for_update=True)
        is_gone = sound is None or sound.state is recordings.State.SHREDDED
        if is_gone or await forgetting.is_forgotten(tx, review.call_id):
            return [(one.line, f"note: recording {one.recording_id} was erased; only a score can be kept of it")]
    now_us = moments.micros(context.now())
    await reviews.fill_in(tx, one.recording_id, score=one.score, note=one.note, reviewer=vaults.actor(), now_us=now_us)
    return []
