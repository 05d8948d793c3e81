"""`apply` and `routing …`: the routing file as numbered revisions."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import context, failures, output, routingcheck

if TYPE_CHECKING:
    from gateway import store
    from gateway.config.settings import Settings
    from gateway.core import book
    from gateway.store import routing as revisions

app = typer.Typer(help="Revisions of the routing file.", no_args_is_help=True)

By = Annotated[str | None, typer.Option("--by", help="Who applies it. [default: your login name]", metavar="NAME")]
Comment = Annotated[str, typer.Option("--comment", help="Why, for `routing history`.", metavar="TEXT")]


def apply(
    file: Annotated[Path, typer.Argument(help="The routing file; - reads standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show the difference, store nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite revisions newer than the file's.")] = False,
    by: By = None,
    comment: Comment = "",
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Check a routing file, show what it changes and put it in force as the next revision.

    A file with errors is refused whole, with all of them. The daemon takes a revision up within a second.

    \b
    Examples:
        dialmark apply routing.toml --dry-run
        dialmark apply routing.toml --comment "radio campaign"
    """
    text = routingcheck.read(file)
    settings = context.settings(config)
    new = routingcheck.checked(text, file, settings)
    wanted = _Application(file, text, new, by or _login(), comment, force=force, is_dry=dry_run)
    context.run(_apply(settings, wanted))


@dataclass(frozen=True, slots=True)
class _Application:
    """One checked file on its way to become a revision."""

    file: Path
    text: str
    book: book.Book
    by: str
    comment: str
    force: bool
    is_dry: bool


async def _apply(settings: Settings, wanted: _Application) -> None:
    from gateway.cli import revisions as documents
    from gateway.config import routingfile
    from gateway.store import routing as revisions

    async with context.database(settings, migrate=not wanted.is_dry) as database:
        latest = await _latest(database)
        number = latest.revision if latest else 0
        if latest and documents.without_revision(latest.document) == documents.without_revision(wanted.text):
            print(f"Revision {number} already says this: nothing to apply.")
            return
        _show_difference(latest, wanted.book, settings)
        routingcheck.warn(wanted.text, wanted.file, wanted.book, settings)
        based_on = routingfile.file_revision(wanted.text)
        if based_on is not None and based_on != number and not wanted.force:
            raise failures.Failure(_conflict(wanted.file, based_on, number))
        if wanted.is_dry:
            print(f"Dry run: this would become revision {number + 1}.")
            return
        try:
            async with database.begin() as tx:
                stored = await revisions.add(
                    tx,
                    document=wanted.text,
                    applied_at=context.now(),
                    applied_by=wanted.by,
                    comment=wanted.comment,
                    based_on=None if wanted.force else number,
                )
        except revisions.RevisionConflict as error:
            raise failures.Failure(_conflict(wanted.file, error.based_on, error.latest)) from None
    print(f"Revision {stored} applied.")


@app.command(short_help="Print a revision as it was applied.")
def export(
    revision: Annotated[int | None, typer.Option("--revision", help="[default: the latest]", metavar="N")] = None,
    to: Annotated[Path | None, typer.Option("--output", "-o", help="File to write. [default: stdout]")] = None,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Print a revision as it was applied, comments included, marked with its number for the next `apply`.

    \b
    Example:
        dialmark routing export -o routing.toml
    """
    from gateway.cli import revisions as documents

    settings = context.settings(config)
    found = context.run(_one(settings, revision))
    text = documents.with_revision(found.document, found.revision)
    if to is None:
        sys.stdout.write(text)
        return
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise failures.Failure(f"{to}: {error.strerror}") from None
    output.note(f"Revision {found.revision} written to {to}.")


@app.command(short_help="List revisions, newest first.")
def history(
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000)] = 20,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """List revisions, newest first: when, by whom, why."""
    from gateway.cli import moments

    settings = context.settings(config)
    rows = []
    for one in context.run(_history(settings, limit)):
        at_us = moments.micros(one.applied_at)
        rows.append(
            {
                "revision": one.revision,
                "applied_at": moments.rfc3339(at_us),
                "shown": moments.shown(at_us, UTC),
                "applied_by": one.applied_by,
                "based_on": one.based_on,
                "comment": one.comment,
            }
        )
    columns = [
        output.Column("revision", "Revision", is_number=True),
        output.Column("applied_at", "Applied (UTC)", table_key="shown"),
        output.Column("applied_by", "By"),
        output.Column("based_on", "Based on", is_number=True),
        output.Column("comment", "Comment"),
    ]
    output.listing(rows, columns, form, nothing="No revision yet: `dialmark apply routing.toml` makes the first.")


@app.command(short_help="Put an old revision in force again.")
def rollback(
    revision: Annotated[int, typer.Argument(help="The revision to return to.", metavar="N")],
    by: By = None,
    comment: Comment = "",
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Put an old revision in force again, as a new revision with the old text.

    \b
    Example:
        dialmark routing rollback 41 --comment "the new hours were wrong"
    """
    settings = context.settings(config)
    stored = context.run(_rollback(settings, revision, by or _login(), comment or f"rollback to revision {revision}"))
    print(f"Revision {stored} applied: it says what revision {revision} said.")


@app.command(short_help="Show what changed between two revisions.")
def diff(
    old: Annotated[int, typer.Argument(help="The older revision.", metavar="A")],
    new: Annotated[int | None, typer.Argument(help="The newer one. [default: the latest]", metavar="[B]")] = None,
    as_text: Annotated[bool, typer.Option("--text", help="Compare the texts, line by line.")] = False,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Show what changed between two revisions."""
    from gateway.cli import revisions as documents
    from gateway.config import routingfile

    settings = context.settings(config)
    first, second = context.run(_two(settings, old, new))
    names = f"revision {first.revision}", f"revision {second.revision}"
    if as_text:
        lines = list(documents.unified(first.document, second.document, *names))
    else:
        books = [context.parse_book(one.document, one.revision, settings) for one in (first, second)]
        lines = routingfile.difference(books[0], books[1])
    for line in lines:
        print(output.plain(line))
    if not lines:
        output.note(f"{names[0]} and {names[1]} route alike" + ("." if not as_text else ", word by word."))


def _conflict(file: Path, based_on: int, latest: int) -> str:
    return (
        f"{file} was made from revision {based_on}, but revision {latest} is in force: see `dialmark routing diff "
        f"{based_on} {latest}`, get the newer text with `dialmark routing export -o FILE` and make your change there, "
        "or overwrite it with --force"
    )


def _show_difference(latest: revisions.Revision | None, new: book.Book, settings: Settings) -> None:
    from gateway.config import routingfile

    old = None
    if latest is not None:
        try:
            old = context.parse_routing(latest.document, latest.revision, settings)
        except routingfile.RoutingErrors:
            output.note(f"Revision {latest.revision} is not readable with this version: everything counts as new.")
    lines = routingfile.difference(old, new)
    for line in lines:
        print(output.plain(line))
    if not lines:
        print("Only comments or layout changed.")


async def _latest(database: store.Database) -> revisions.Revision | None:
    from gateway.store import routing as revisions

    async with database.read() as connection:
        number = await revisions.latest(connection)
        return None if number is None else await revisions.get(connection, number)


async def _one(settings: Settings, revision: int | None) -> revisions.Revision:
    async with context.database(settings) as database:
        return await _existing(database, revision)


async def _two(settings: Settings, old: int, new: int | None) -> tuple[revisions.Revision, revisions.Revision]:
    async with context.database(settings) as database:
        return await _existing(database, old), await _existing(database, new)


async def _existing(database: store.Database, revision: int | None) -> revisions.Revision:
    from gateway.store import routing as revisions

    latest = await _latest(database)
    if latest is None:
        raise failures.Failure("there is no revision yet: `dialmark apply routing.toml` makes the first")
    if revision is None:
        return latest
    async with database.read() as connection:
        found = await revisions.get(connection, revision) if 0 < revision <= latest.revision else None
    if found is None:
        raise failures.Failure(f"there is no revision {revision}: they go from 1 to {latest.revision}")
    return found


async def _history(settings: Settings, limit: int) -> list[revisions.Revision]:
    from gateway.store import routing as revisions

    async with context.database(settings) as database, database.read() as connection:
        return await revisions.history(connection, limit)


async def _rollback(settings: Settings, revision: int, by: str, comment: str) -> int:
    from gateway.store import routing as revisions

    async with context.database(settings) as database:
        old = await _existing(database, revision)
        latest = await _existing(database, None)
        if old.revision == latest.revision:
            raise failures.Failure(f"revision {revision} is in force already")
        context.parse_book(old.document, old.revision, settings)
        async with database.begin() as tx:
            return await revisions.add(
                tx,
                document=old.document,
                applied_at=context.now(),
                applied_by=by,
                comment=comment,
                based_on=latest.revision,
            )


def _login() -> str:
    import getpass
    import os

    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
