"""What every command needs: the settings, the database beside a running daemon, the book in force, an event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.cli import failures, output

if TYPE_CHECKING:
    from gateway import store
    from gateway.config.settings import Settings
    from gateway.core import book

DEFAULT_CONFIG = Path("/etc/dialmark/dialmark.toml")
CONFIG_VARIABLE = "DIALMARK_CONFIG"

Config = Annotated[
    Path,
    typer.Option(
        "--config",
        envvar=CONFIG_VARIABLE,
        help="Configuration file.",
        show_envvar=True,
        metavar="PATH",
    ),
]
Format = Annotated[output.Format, typer.Option("--format", help="table for people, json or csv for programs.")]

_Result = TypeVar("_Result")


def settings(config: Path) -> Settings:
    """The checked settings. Raises Failure naming the file and every error in it."""
    from gateway.config import settings as reading

    try:
        return reading.load(config, os.environ)
    except reading.SettingsErrors as error:
        raise failures.Failure(str(error)) from None


def run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run to the end; what the store says becomes a Failure."""
    from gateway import store

    try:
        return asyncio.run(work)
    except store.StoreOutdated as error:
        raise failures.Failure(
            f"the database is not up to date ({error}): start the daemon once, or run `dialmark init --write`"
        ) from None
    except store.StoreTooNew as error:
        raise failures.Failure(f"the database was written by a newer Dialmark ({error}): upgrade this one") from None
    except store.StoreDamaged as error:
        raise failures.Failure(f"database damaged: {error}") from None
    except store.StoreUnavailable as error:
        raise failures.Failure(f"database not available: {error}") from None


@asynccontextmanager
async def database(chosen: Settings, *, migrate: bool = False) -> AsyncIterator[store.Database]:
    """The database, open for this command. It is made, or brought up to date, only with `migrate`."""
    from gateway import store

    try:
        opened = await store.Database.open(chosen.database.url, migrate=migrate, readers=2)
    except ValueError as error:
        raise failures.Failure(f"database.url: {error}") from None
    except store.StoreUnavailable as error:
        where = " (`dialmark init --write` makes it)" if "No such file" in str(error) else ""
        raise failures.Failure(f"database not available: {error}{where}") from None
    try:
        yield opened
    finally:
        await opened.close()


def parse_routing(document: str, revision: int, chosen: Settings) -> book.Book:
    """A routing text as the daemon reads it, with the operator's own tables. Raises `RoutingErrors`, and Failure for a
    table that is wrong."""
    from gateway.config import routingfile, shipped
    from gateway.core import regions, traffictables

    try:
        law = shipped.consent_regions(chosen.consent.regions_file)
        traffic = shipped.traffic(chosen.web.traffic_file)
    except (regions.BadRegions, traffictables.BadTables, OSError) as error:
        raise failures.Failure(f"{error} (`dialmark check` names every error)") from None
    return routingfile.parse(document, revision, consent_regions=law, traffic=traffic)


def parse_book(document: str, revision: int, chosen: Settings) -> book.Book:
    """A stored revision as a book. Raises Failure for one that this version refuses."""
    from gateway.config import routingfile

    try:
        return parse_routing(document, revision, chosen)
    except routingfile.RoutingErrors as error:
        raise failures.Failure(
            f"routing revision {revision} is not usable with this version ({len(error.errors)} errors, the first: "
            f"{error.errors[0]}): export it, mend it and apply it"
        ) from None


async def book_in_force(opened: store.Database, chosen: Settings) -> book.Book | None:
    """The book of the latest revision, None before the first."""
    from gateway.store import routing

    async with opened.read() as connection:
        latest = await routing.latest(connection)
        revision = await routing.get(connection, latest) if latest is not None else None
    return None if revision is None else parse_book(revision.document, revision.revision, chosen)


async def site_zone(opened: store.Database) -> tzinfo:
    """The zone in which times are read and shown: of the first site, UTC where there is none."""
    import tomllib
    from zoneinfo import ZoneInfo

    from gateway.store import routing

    async with opened.read() as connection:
        latest = await routing.latest(connection)
        revision = await routing.get(connection, latest) if latest is not None else None
    if revision is None:
        return UTC
    try:
        # The whole check of a book of 10,000 numbers takes a second; the zone is in its first table.
        return ZoneInfo(tomllib.loads(revision.document)["site"][0]["time_zone"])
    except (ValueError, KeyError, IndexError, TypeError, OSError):
        return UTC


def now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


def number_filter(written: str | None, option: str) -> str | None:
    """A number as stored: E.164 with `+`, or an extension as it is. Raises Misuse for anything else."""
    if written is None:
        return None
    digits = "".join(character for character in written if character not in " -().")
    bare = digits.removeprefix("+")
    if not (bare.isascii() and bare.isdigit()) or len(bare) > 20:
        raise failures.Misuse(f"{option}: '{written[:40]}' is not a number; write it with its country: +74990000001")
    return digits if len(bare) < 7 else f"+{bare}"
