"""Routing revisions (N11)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway import store
from gateway.store import routing

AT = datetime(2026, 9, 21, 12, 0, 0, 123456, tzinfo=UTC)


async def add(database: store.Database, document: str, based_on: int | None) -> int:
    async with database.begin() as tx:
        return await routing.add(
            tx, document=document, applied_at=AT, applied_by="root", comment="why", based_on=based_on
        )


async def test_revisions_are_numbered_without_gaps(database: store.Database) -> None:
    async with database.read() as connection:
        assert await routing.latest(connection) is None
    assert await add(database, "first", None) == 1
    with pytest.raises(KeyError):
        async with database.begin() as tx:
            await routing.add(tx, document="x", applied_at=AT, applied_by="root", comment="", based_on=None)
            raise KeyError
    assert await add(database, "second", 1) == 2
    async with database.read() as connection:
        assert await routing.latest(connection) == 2
        assert await routing.get(connection, 1) == routing.Revision(1, "first", AT, "root", "why", None)
        assert await routing.get(connection, 3) is None


async def test_a_document_from_an_older_revision_is_refused(database: store.Database) -> None:
    """Edits made meanwhile are not overwritten, unless somebody says so."""
    await add(database, "first", 0)
    await add(database, "second", 1)
    for based_on in (0, 1, 3):
        with pytest.raises(routing.RevisionConflict, match="revision 2") as raised:
            await add(database, "third", based_on)
        assert (raised.value.based_on, raised.value.latest) == (based_on, 2)
    assert await add(database, "forced", None) == 3


async def test_history_is_newest_first_and_light(database: store.Database) -> None:
    for number in range(4):
        await add(database, "a long document\n" * 100, number)
    async with database.read() as connection:
        history = await routing.history(connection, limit=2)
    assert [(one.revision, one.based_on, one.document) for one in history] == [(4, 3, ""), (3, 2, "")]
