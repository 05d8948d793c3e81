"""The audit chain shows whatever was done to it, and stays whole when a person is erased (N14)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DBAPIError

from gateway import store
from gateway.store import audit, schema
from tests.store.examples import NOON, SECOND

NUMBER = "+79161234567"
TABLE = schema.audit


async def append(database: store.Database, count: int = 1, **changes: Any) -> None:
    for number in range(count):
        async with database.begin() as tx:
            given: dict[str, Any] = {"at_us": NOON + number * SECOND, "actor": "cli:anna", "action": "listened"}
            await audit.append(tx, **{**given, "subject": f"recording:{number}", **changes})


async def drop_guard(database: store.Database) -> None:
    """What somebody with rights on the database would do first."""
    async with database.begin() as tx:
        suffix = "" if database.engine_name == "sqlite" else " ON audit"
        await tx.execute(text(f"DROP TRIGGER audit_is_append_only{suffix}"))


async def test_an_empty_chain_and_a_long_one_are_whole(database: store.Database) -> None:
    assert await audit.verify(database) == audit.Verdict(0, None)
    await append(database, 5)
    verdict = await audit.verify(database)
    assert (verdict.is_whole, verdict.rows) == (True, 5)
    async with database.read() as connection:
        assert verdict.head == await audit.head(connection)
        assert [entry.seq for entry in await audit.latest(connection, limit=2)] == [5, 4]
        assert [entry.subject for entry in await audit.entries(connection, subject="recording:3")] == ["recording:3"]


async def test_tasks_that_append_together_make_one_chain(database: store.Database) -> None:
    await asyncio.gather(*(append(database, 5) for _ in range(5)))
    verdict = await audit.verify(database)
    assert (verdict.is_whole, verdict.rows) == (True, 25)


async def test_the_database_refuses_to_change_a_row(database: store.Database) -> None:
    await append(database)
    with pytest.raises(DBAPIError, match="never changed"):
        async with database.begin() as tx:
            await tx.execute(update(TABLE).values(actor="somebody else"))


@pytest.mark.parametrize("column", ["at_us", "actor", "action", "subject", "details", "person_digest", "hash"])
async def test_a_changed_row_is_found(database: store.Database, column: str) -> None:
    await append(database, 4, details={"seconds": 12})
    await drop_guard(database)
    async with database.begin() as tx:
        await tx.execute(update(TABLE).where(TABLE.c.seq == 2).values({column: 7 if column == "at_us" else "other"}))
    verdict = await audit.verify(database)
    assert (verdict.broken_at, verdict.rows) == (2, 1)


async def test_a_changed_row_with_its_hash_made_anew_is_found_at_the_next(database: store.Database) -> None:
    await append(database, 4)
    await drop_guard(database)
    async with database.begin() as tx:
        entry = (await audit.entries(tx))[1]
        forged = audit.Entry(**{name: getattr(entry, name) for name in entry.__slots__} | {"actor": "x"})
        changed = {"actor": "x", "hash": audit.hash_of(forged)}
        await tx.execute(update(TABLE).where(TABLE.c.seq == 2).values(changed))
    assert (await audit.verify(database)).broken_at == 3


@pytest.mark.parametrize(("gone", "broken_at"), [(1, 2), (2, 3), (3, 4)])
async def test_a_removed_row_is_found(database: store.Database, gone: int, broken_at: int) -> None:
    await append(database, 4)
    async with database.begin() as tx:
        await tx.execute(delete(TABLE).where(TABLE.c.seq == gone))
    assert (await audit.verify(database)).broken_at == broken_at


async def test_rows_cut_off_at_the_end_are_found_by_a_noted_head(database: store.Database) -> None:
    await append(database, 4)
    noted = (await audit.verify(database)).head
    await append(database, 2)
    assert (await audit.verify(database, noted)).is_whole
    async with database.begin() as tx:
        await tx.execute(delete(TABLE).where(TABLE.c.seq >= 4))
    assert (await audit.verify(database)).is_whole
    cut = await audit.verify(database, noted)
    assert (cut.broken_at, "cut" in cut.why) == (4, True)
    await append(database, 1, actor="cli:other")
    assert "rewritten" in (await audit.verify(database, noted)).why


async def test_old_rows_go_from_the_front_and_the_chain_says_so(database: store.Database) -> None:
    await append(database, 6)
    noted = (await audit.verify(database)).head
    async with database.begin() as tx:
        assert await audit.count_before(tx, NOON + 4 * SECOND) == 4
        assert await audit.prune(tx, before_us=NOON + 4 * SECOND, now_us=NOON + 9 * SECOND, actor="daemon") == 4
    verdict = await audit.verify(database, noted)
    assert (verdict.is_whole, verdict.rows) == (True, 3)
    async with database.begin() as tx:
        assert await audit.prune(tx, before_us=NOON + 4 * SECOND, now_us=NOON + 9 * SECOND, actor="daemon") == 0
        await tx.execute(delete(TABLE).where(TABLE.c.seq == 5))
    assert (await audit.verify(database)).broken_at == 6


async def test_a_chain_may_be_pruned_to_its_last_row(database: store.Database) -> None:
    await append(database, 3)
    async with database.begin() as tx:
        assert await audit.prune(tx, before_us=NOON + 90 * SECOND, now_us=NOON + 91 * SECOND, actor="daemon") == 3
    await append(database, 1)
    assert (await audit.verify(database)).rows == 2


async def test_a_person_is_a_digest_that_erasure_makes_meaningless(database: store.Database) -> None:
    await append(database, 1, person=NUMBER)
    await append(database, 1, person="+79160000000")
    async with database.read() as connection:
        stored = str((await connection.execute(text("SELECT * FROM audit"))).all())
    assert NUMBER[1:] not in stored
    async with database.begin() as tx:
        assert await audit.forget(tx, NUMBER) == 1
        assert await audit.forget(tx, NUMBER) == 0
    async with database.read() as connection:
        salts = (await connection.execute(text("SELECT person_salt FROM audit ORDER BY seq"))).scalars().all()
    assert [salt is None for salt in salts] == [True, False]
    assert (await audit.verify(database)).is_whole


async def test_what_a_client_calls_itself_cannot_break_the_chain(database: store.Database) -> None:
    await append(database, 1, actor="token:a\0b\ud800\n" + "x" * 500)
    assert (await audit.verify(database)).is_whole
