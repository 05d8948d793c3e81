"""`audiences …`: callers for ad platforms, hashed: listed, tried, exported (R11, R12)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from gateway.cli import context, failures, output

if TYPE_CHECKING:
    from gateway import store
    from gateway.config.settings import Settings
    from gateway.core import audiences, book
    from gateway.services import audiences as exporting

app = typer.Typer(help="Callers for ad platforms, hashed: list, try, export.", no_args_is_help=True)

Audience = Annotated[str, typer.Argument(help="Key of an [[audience]].", metavar="AUDIENCE")]

COLUMNS = (
    output.Column("audience", "Audience"),
    output.Column("platform", "Platform"),
    output.Column("who", "Who"),
    output.Column("days", "Days", is_number=True),
    output.Column("exported_at", "Exported", table_key="exported_shown"),
    output.Column("people", "People", is_number=True),
    output.Column("by", "By"),
)
WHY = {
    "erased": "erased",
    "no_number": "no number of the public network",
    "ours": "numbers of our own",
    "banned": "on the ban list, or turned away",
    "spam": "marked as spam",
    "test": "test calls",
    "talked": "somebody has talked to them",
    "refused": "refused advertising, or recording",
    "no_consent": "have not agreed to advertising",
}


@app.callback()
def _group() -> None:
    """Callers for ad platforms."""


@app.command("list", short_help="List audiences and their last exports.")
def list_audiences(
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """List the audiences of the routing file, and when each was last exported, by whom.

    \b
    Example:
        dialmark audiences list
    """
    rows = context.run(_list(context.settings(config)))
    output.listing(rows, COLUMNS, form, nothing="The routing file names no [[audience]].")


@app.command("try", short_help="Count who would be in it, and why the others are not.")
def try_(
    audience: Audience,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Count who would be in an audience, and why the others are not. Writes nothing.

    \b
    Example:
        dialmark audiences try missed-week
    """
    made = context.run(_try(context.settings(config), audience))
    _say(made, form, f"{made.people} people would be in {made.audience.key}.")


@app.command(short_help="Write the file for the ad platform.")
def export(
    audience: Audience,
    out: Annotated[Path, typer.Option("--output", "-o", help="File to write, mode 0600.", metavar="FILE")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Write the file that the ad platform takes: one hashed number in a line. The audit says who exported it.

    Any number of callers takes the same memory. The file is there as a whole or not at all.

    \b
    Example:
        dialmark audiences export missed-week --output missed-week.csv
    """
    if out.exists() and not force:
        raise failures.Failure(f"{out} is there already; --force overwrites it")
    made = context.run(_export(context.settings(config), audience, out))
    _say(made, form, f"{made.people} people written to {out}.")


def _say(made: exporting.Count, form: output.Format, text: str) -> None:
    if form is output.Format.TABLE:
        print(text)
        for left, number in made.document()["left_out"].items():
            print(f"  left out: {number} {WHY[left]}")
        if made.calls_without_number:
            print(f"  besides: {made.calls_without_number} calls without a number")
    else:
        flat = {**made.document(), **{f"left_{left}": made.document()["left_out"].get(left, 0) for left in WHY}}
        del flat["left_out"]
        output.listing([flat], [output.Column(key) for key in flat], form)
    if made.is_too_small:
        output.note(f"{made.audience.platform.value} serves no list of fewer than {made.least} people.")


async def _list(chosen: Settings) -> list[dict[str, Any]]:
    from gateway.cli import moments
    from gateway.store import audiences as stored

    async with context.database(chosen) as opened:
        known = (await _book(opened, chosen)).audiences
        async with opened.read() as connection:
            exports = await stored.last_exports(connection)
        zone = await context.site_zone(opened)
    rows: list[dict[str, Any]] = []
    for key, one in known.items():
        row: dict[str, Any] = {"audience": key, "platform": one.platform.value, "who": one.who.value, "days": one.days}
        if (last := exports.get(key)) is not None:
            row |= {
                "exported_at": moments.rfc3339(last.at_us),
                "exported_shown": moments.shown(last.at_us, zone),
                "people": last.people,
                "by": last.actor,
            }
        rows.append(row)
    return rows


async def _try(chosen: Settings, key: str) -> exporting.Count:
    from gateway.cli import moments
    from gateway.services import audiences as exporting

    async with context.database(chosen) as opened:
        routing_book = await _book(opened, chosen)
        audience = _named(routing_book, key)
        with _progress() as tell:
            now_us = moments.micros(context.now())
            return await exporting.count(opened, audience, routing_book, now_us=now_us, tell=tell)


async def _export(chosen: Settings, key: str, out: Path) -> exporting.Count:
    from gateway.cli import moments, vaults
    from gateway.services import audiences as exporting

    async with context.database(chosen) as opened:
        routing_book = await _book(opened, chosen)
        audience = _named(routing_book, key)
        try:
            with _progress() as tell, _whole(out) as file:
                return await exporting.export(
                    opened,
                    audience,
                    routing_book,
                    file,
                    actor=vaults.actor(),
                    now_us=moments.micros(context.now()),
                    tell=tell,
                )
        except OSError as error:
            raise failures.Failure(f"{out}: {error.strerror or error}") from None
        except exporting.Unsettled as error:
            raise failures.Failure(f"{error}: nothing was exported, try again") from None


async def _book(opened: store.Database, chosen: Settings) -> book.Book:
    found = await context.book_in_force(opened, chosen)
    if found is None:
        raise failures.Failure("no routing is in force; see `dialmark apply`")
    return found


def _named(routing_book: book.Book, key: str) -> audiences.Audience:
    found = routing_book.audiences.get(key)
    if found is None:
        there = ", ".join(routing_book.audiences) or "no [[audience]] in the routing file"
        raise failures.Misuse(f"there is no audience '{output.plain(key[:40])}', but {there}")
    return found


@contextmanager
def _progress() -> Iterator[Callable[[exporting.Count], None]]:
    from gateway.cli import progress

    shown = progress.Progress()
    try:
        yield lambda made: shown.tell(f"{made.looked_at} callers looked at, {made.people} taken")
    finally:
        shown.end()


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name when all of it is on the disk, readable by its owner alone."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
