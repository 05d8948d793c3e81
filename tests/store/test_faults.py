"""Database full, locked, gone, and a process killed in the middle (design.md, "Faults to survive")."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway import store
from gateway.store import calls, engines
from tests.store import examples, other_process

on_postgresql = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


async def save(database: store.Database, number: int, **changes: object) -> None:
    async with database.begin() as tx:
        await calls.save(tx, [examples.call(number, **changes)])


async def stored(database: store.Database) -> set[str]:
    async with database.read() as connection:
        page = await calls.list_calls(connection, calls.CallFilter(), limit=1000)
    return {call.call_id for call in page.calls}


async def test_a_process_killed_in_a_transaction_leaves_nothing_and_blocks_nobody(
    database: store.Database, database_url: str
) -> None:
    await save(database, 1)
    async with other_process.running("hang", database_url, "2") as process:
        assert await other_process.line(process) == "ready"
        process.kill()
        await process.wait()
        async with asyncio.timeout(60):
            await save(database, 3)
    assert await stored(database) == {examples.call_id(1), examples.call_id(3)}


async def test_a_killed_daemon_keeps_what_it_committed(sqlite_url: str) -> None:
    """What only the WAL holds is there after a crash."""
    database = await store.Database.open(sqlite_url)
    await database.close()
    async with other_process.running("hang", sqlite_url, "2") as process:
        assert await other_process.line(process) == "ready"
        reader = await store.Database.open(sqlite_url, migrate=False)
        assert await stored(reader) == set()
        process.kill()
        await process.wait()
        await save(reader, 1)
        await reader.close()
    again = await store.Database.open(sqlite_url)
    assert await stored(again) == {examples.call_id(1)}
    await again.close()


async def test_a_full_sqlite_database_is_unavailable_until_there_is_space(sqlite_url: str) -> None:
    database = await store.Database.open(sqlite_url)
    await save(database, 1)
    number = 1
    with pytest.raises(store.StoreUnavailable, match="full"):
        while number < 1000:
            async with database.begin() as tx:
                pages = (await tx.exec_driver_sql("PRAGMA page_count")).scalar_one()
                if number == 1:
                    await tx.exec_driver_sql(f"PRAGMA max_page_count = {pages + 10}")
                await calls.save(tx, [examples.call(number + 1, record="x" * 5000)])
            number += 1
    assert await stored(database) == {examples.call_id(n) for n in range(1, number + 1)}
    # The limit was the connection's, which a failure closes: there is space again.
    await save(database, number + 1, record="x" * 5000)
    assert len(await stored(database)) == number + 1
    await database.close()


async def test_files_that_cannot_grow_are_unavailable_until_they_can(sqlite_url: str) -> None:
    """The same by the operating system's refusal instead of SQLite's own."""
    async with other_process.running("fill", sqlite_url, "60") as process:
        word, number = (await other_process.line(process)).split()
        assert word == "full"
        assert 0 < int(number) < 60
        assert await other_process.line(process) == "stored 60"
    database = await store.Database.open(sqlite_url)
    assert len(await stored(database)) == 60
    await database.close()


@on_postgresql
async def test_a_full_postgresql_is_unavailable(database: store.Database) -> None:
    for state in ("53100", "57P03", "25006", "40P01"):
        with pytest.raises(store.StoreUnavailable, match="no more"):
            async with database.begin() as tx:
                await tx.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'no more' USING ERRCODE = '{state}'; END $$"))
    await save(database, 1)


async def test_a_locked_database_is_unavailable_until_it_is_not(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.05)
    database = await store.Database.open(sqlite_url)
    other = sqlite3.connect(path_of(sqlite_url), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(store.StoreUnavailable, match="locked"):
        await save(database, 1)
    assert await stored(database) == set()
    other.execute("ROLLBACK")
    other.close()
    await save(database, 1)
    assert await stored(database) == {examples.call_id(1)}
    await database.close()


@on_postgresql
async def test_a_locked_table_is_unavailable_until_it_is_not(database: store.Database) -> None:
    async with database.begin() as other:
        await other.execute(text("LOCK TABLE calls IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(store.StoreUnavailable, match="lock"):
            async with database.begin() as tx:
                await tx.execute(text("SET LOCAL lock_timeout = '50ms'"))
                await calls.save(tx, [examples.call()])
    await save(database, 1)


async def test_a_file_that_is_gone_is_noticed_and_taken_up_again(sqlite_url: str) -> None:
    """SQLite itself would go on writing into the removed file."""
    database = await store.Database.open(sqlite_url)
    await save(database, 1)
    path, away = path_of(sqlite_url), path_of(sqlite_url).with_name("away")
    path.rename(away)
    for _ in range(2):
        with pytest.raises(store.StoreUnavailable, match="No such file"):
            await save(database, 2)
        with pytest.raises(store.StoreUnavailable, match="No such file"):
            await database.ping()
    assert not path.exists()
    away.rename(path)
    await save(database, 2)
    assert len(await stored(database)) == 2
    await database.close()


async def test_another_file_in_its_place_stops_it(sqlite_url: str) -> None:
    database = await store.Database.open(sqlite_url)
    path = path_of(sqlite_url)
    path.rename(path.with_name("away"))
    path.write_bytes(b"")
    with pytest.raises(store.StoreDamaged, match="replaced"):
        await save(database, 1)
    assert path.read_bytes() == b""
    await database.close()


@on_postgresql
async def test_it_connects_again_after_the_server_cut_it_off(database: store.Database) -> None:
    await save(database, 1)
    end_others = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    with pytest.raises(store.StoreUnavailable):
        async with database.begin() as tx:
            await calls.save(tx, [examples.call(2)])
            async with database.begin() as other:
                await other.execute(end_others)
            await calls.save(tx, [examples.call(3)])
    await save(database, 4)
    assert await stored(database) == {examples.call_id(1), examples.call_id(4)}
