"""The routing revision is followed, and the last good book kept (C1, N2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway import store
from gateway.core import book
from gateway.services import planner
from gateway.store import routing as revisions
from tests.core import books
from tests.services.outages import out_of_reach

PLAN = "dialmark_plan.conf"


def parse(text: str, revision: int) -> book.Book:
    if text == "broken":
        raise ValueError("line 1: broken")
    made = books.routing_book()
    object.__setattr__(made, "revision", revision)
    return made


def render(routing_book: book.Book) -> Mapping[str, str]:
    return {PLAN: f"revision {routing_book.revision}\n"}


class Office:
    """A planner and what it puts in force."""

    def __init__(self, database: store.Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.in_force: list[int] = []
        self.planner = planner.Planner(
            database,
            parse=parse,
            render=render,
            folder=folder,
            in_force=lambda routing_book: self.in_force.append(routing_book.revision),
        )

    async def apply(self, text: str) -> None:
        async with self.database.begin() as tx:
            at = datetime(2026, 11, 21, tzinfo=UTC)
            await revisions.add(tx, document=text, applied_at=at, applied_by="test", comment="", based_on=None)
        await self.planner.follow()

    def plan(self) -> str:
        return (self.folder / PLAN).read_text()


@pytest.fixture
def office(database: store.Database, tmp_path: Path) -> Office:
    folder = tmp_path / "generated"
    folder.mkdir()
    return Office(database, folder)


async def test_nothing_applied_yet(office: Office) -> None:
    await office.planner.follow()
    assert (office.in_force, office.planner.revision, office.planner.problem) == ([], None, None)


async def test_each_revision_is_put_in_force_once(office: Office) -> None:
    await office.apply("one")
    await office.planner.follow()
    await office.apply("two")
    await office.planner.follow()
    assert office.in_force == [1, 2]
    assert office.plan() == "revision 2\n"


async def test_a_broken_revision_leaves_the_last_good_one(office: Office) -> None:
    await office.apply("one")
    await office.apply("broken")
    await office.planner.follow()
    assert (office.in_force, office.planner.revision) == ([1], 1)
    assert "broken" in (office.planner.problem or "")
    assert office.plan() == "revision 1\n"
    await office.apply("three")
    assert (office.in_force, office.planner.problem) == ([1, 3], None)
    assert office.plan() == "revision 3\n"


async def test_files_that_cannot_be_written_are_tried_again(office: Office) -> None:
    """Calls are routed by the new book meanwhile; Asterisk's own plan follows when it can."""
    away = office.folder.rename(office.folder.with_name("away"))
    await office.apply("one")
    assert office.in_force == [1]
    assert "not written" in (office.planner.problem or "")
    away.rename(office.folder)
    await office.planner.follow()
    assert (office.in_force, office.planner.problem or "") == ([1], "")
    assert office.plan() == "revision 1\n"


async def test_an_unchanged_file_is_left_alone(office: Office) -> None:
    """Asterisk reloads when a file changes; a restart of the daemon is no reason."""
    await office.apply("one")
    before = (office.folder / PLAN).stat()
    again = Office(office.database, office.folder)
    await again.planner.follow()
    after = (office.folder / PLAN).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert again.in_force == [1]
    assert after.st_mode & 0o777 == 0o640


async def test_a_database_that_is_away(office: Office, database_url: str) -> None:
    await office.apply("one")
    with out_of_reach(database_url):
        await office.planner.follow()
        assert (office.in_force, office.planner.revision) == ([1], 1)
    await office.apply("two")
    assert office.in_force == [1, 2]
