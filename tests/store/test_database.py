"""Opening, migrating, and what transactions promise (design.md, "Storage rules")."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from gateway import store
from gateway.store import calls, engines, migrations, schema
from tests.store import examples, other_process

SLOW = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2000000000)
SELECT count(*) FROM numbers
"""


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_the_migrated_schema_is_the_schema_of_the_code(database: store.Database) -> None:
    def differences(connection: Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata))

    async with database.read() as connection:
        assert await connection.run_sync(differences) == []


async def test_the_partial_indexes_are_partial_on_both_engines(database: store.Database) -> None:
    """Alembic compares names and columns of indexes only."""

    def partial(connection: Connection) -> set[str]:
        key = f"{connection.dialect.name}_where"
        inspector = inspect(connection)
        return {
            str(index["name"])
            for table in schema.metadata.tables
            for index in inspector.get_indexes(table)
            if index.get("dialect_options", {}).get(key) is not None
        }

    async with database.read() as connection:
        assert await connection.run_sync(partial) == {
            "ix_calls_open",
            "ix_attempts_talked",
            "ix_deliveries_due",
            "ix_deliveries_call",
            "ix_deliveries_dead",
            "ix_attributions_due",
            "ix_tickets_open_caller",
            "ix_tickets_timer",
        }


def test_the_newest_migration_is_the_one_that_the_code_expects() -> None:
    assert ScriptDirectory.from_config(migrations.configuration()).get_heads() == [schema.HEAD]


async def test_two_processes_that_start_together_migrate_once(database_url: str) -> None:
    async with other_process.running("open", database_url) as one, other_process.running("open", database_url) as two:
        for process in (one, two):
            assert await other_process.line(process) == "ready"
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write(b"\n")
        assert [await other_process.line(process) for process in (one, two)] == ["opened", "opened"]
    database = await store.Database.open(database_url, migrate=False)
    await database.ping()
    await database.close()


async def test_it_opens_an_old_schema_only_to_migrate_it(database: store.Database, database_url: str) -> None:
    async with database.begin() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(store.StoreOutdated, match="0000"):
        await store.Database.open(database_url, migrate=False)


async def test_it_refuses_a_schema_from_the_future(database: store.Database, database_url: str) -> None:
    async with database.begin() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(store.StoreTooNew, match="9999"):
        await store.Database.open(database_url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "not a database URL"),
        ("mysql://host/name", "'mysql' is not supported"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:///a.db?mode=ro", "takes no options"),
    ],
)
async def test_it_refuses_other_urls(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        await store.Database.open(url)


async def test_a_missing_folder_server_or_file_is_unavailable(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/none/x.db", "postgresql://nobody@127.0.0.1:1/none"):
        with pytest.raises(store.StoreUnavailable):
            await store.Database.open(url)
    with pytest.raises(store.StoreUnavailable):
        await store.Database.open(f"sqlite:///{tmp_path}/none.db", migrate=False)
    assert files_in(tmp_path) == []


async def test_it_names_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "dialmark.db"
    path.write_bytes(b"this is not a database, not at all. " * 200)
    with pytest.raises(store.StoreDamaged):
        await store.Database.open(f"sqlite:///{path}")


async def test_the_file_is_not_readable_by_everybody(sqlite_url: str) -> None:
    database = await store.Database.open(sqlite_url)
    async with database.begin() as tx:
        await calls.save(tx, [examples.call()])
    folder = Path(sqlite_url.removeprefix("sqlite:///")).parent
    assert files_in(folder) == ["dialmark.db", "dialmark.db-shm", "dialmark.db-wal"]
    assert not any(stat.S_IMODE((folder / name).stat().st_mode) & 0o007 for name in files_in(folder))
    await database.close()


async def test_sqlite_is_set_up_to_lose_nothing(sqlite_url: str) -> None:
    database = await store.Database.open(sqlite_url)
    async with database.begin() as tx:
        settings = [
            (await tx.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert settings == ["wal", 2, 1, 5000]
    await database.close()


async def test_a_file_with_odd_characters_in_its_path_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "50% off?#"
    folder.mkdir()
    path = str(folder / "a b.db")
    database = await store.Database.open(f"sqlite:///{path.replace('%', '%25').replace('?', '%3F')}")
    await database.close()
    assert files_in(folder) == ["a b.db"]


async def test_a_block_that_raises_stores_nothing(database: store.Database) -> None:
    with pytest.raises(KeyError):
        async with database.begin() as tx:
            await calls.save(tx, [examples.call()])
            raise KeyError
    async with database.read() as connection:
        assert await calls.get(connection, examples.call_id(1)) is None


async def test_a_mistake_of_ours_is_not_called_unavailable(database: store.Database) -> None:
    for wrong in ("SELECT nothing FROM nowhere", "INSERT INTO closings (call_id) VALUES ('1')"):
        with pytest.raises((DBAPIError, IntegrityError)):
            async with database.begin() as tx:
                await tx.execute(text(wrong))
    await database.ping()


async def test_readers_cannot_write(database: store.Database) -> None:
    with pytest.raises((DBAPIError, store.StoreError)):
        async with database.read() as connection:
            await calls.save(connection, [examples.call()])
    async with database.read() as connection:
        assert await calls.get(connection, examples.call_id(1)) is None


async def test_readers_do_not_wait_for_the_writer(database: store.Database) -> None:
    async with database.begin() as tx:
        await calls.save(tx, [examples.call()])
        async with asyncio.timeout(2), database.read() as connection:
            assert await calls.get(connection, examples.call_id(1)) is None


async def test_many_tasks_write_without_errors(database: store.Database) -> None:
    async def save(number: int) -> None:
        async with database.begin() as tx:
            await calls.save(tx, [examples.call(number)])

    await asyncio.gather(*(save(number) for number in range(40)))
    async with database.read() as connection:
        assert len((await calls.list_calls(connection, calls.CallFilter(), limit=100)).calls) == 40


@pytest.mark.real_time
async def test_a_cancelled_look_up_ends_in_time(database: store.Database) -> None:
    """The dialplan waits 1.5 s at most (N2): a look-up that is late must not make it later."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), database.read() as connection:
            await connection.execute(text(SLOW))
    await database.ping()
    assert loop.time() - started < 1.0


async def test_a_cancelled_writer_lets_go_of_the_database(database: store.Database) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), database.begin() as tx:
            await calls.save(tx, [examples.call(1)])
            await tx.execute(text(SLOW))
    async with asyncio.timeout(2), database.begin() as tx:
        await calls.save(tx, [examples.call(2)])
    async with database.read() as connection:
        page = await calls.list_calls(connection, calls.CallFilter())
    assert [call.call_id for call in page.calls] == [examples.call_id(2)]


async def test_a_transaction_of_many_statements_at_once(database: store.Database) -> None:
    """`transact`: kept as a whole, gone as a whole, and what it returns comes back."""

    def keep(first: int) -> Callable[[store.Transaction], Coroutine[None, None, int]]:
        async def work(tx: store.Transaction) -> int:
            for number in (first, first + 1):
                await calls.save(tx, [examples.call(number)])
            return first

        return work

    async def fail(tx: store.Transaction) -> None:
        await calls.save(tx, [examples.call(3)])
        raise KeyError

    async def mistake(tx: store.Transaction) -> None:
        await calls.save(tx, [examples.call(4)])
        await tx.execute(text("SELECT nothing FROM nowhere"))

    kept = [10, 20, 30, 40]
    assert await asyncio.gather(*(database.transact(keep(first)) for first in kept)) == kept
    with pytest.raises(KeyError):
        await database.transact(fail)
    with pytest.raises(DBAPIError):
        await database.transact(mistake)
    assert await stored(database) == {examples.call_id(number) for first in kept for number in (first, first + 1)}
    assert await database.transact(keep(50)) == 50


async def stored(database: store.Database) -> set[str]:
    async with database.read() as connection:
        page = await calls.list_calls(connection, calls.CallFilter())
    return {call.call_id for call in page.calls}


async def test_a_transaction_at_once_waits_for_nothing_else(tmp_path: Path) -> None:
    """On SQLite it runs in a thread without a loop: a mistake of ours is told, and nothing is kept."""
    database = await store.Database.open(f"sqlite:///{tmp_path}/a.db")

    async def dawdle(tx: store.Transaction) -> None:
        await calls.save(tx, [examples.call(1)])
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="awaits something"):
        await database.transact(dawdle)
    assert await stored(database) == set()
    await database.close()


async def test_a_cancelled_transaction_at_once_lets_go_of_the_database(database: store.Database) -> None:
    async def slow(tx: store.Transaction) -> None:
        await calls.save(tx, [examples.call(1)])
        await tx.execute(text(SLOW))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await database.transact(slow)

    async def quick(tx: store.Transaction) -> None:
        await calls.save(tx, [examples.call(2)])

    async with asyncio.timeout(5):
        await database.transact(quick)
    assert await stored(database) == {examples.call_id(2)}


async def test_two_processes_write_at_the_same_time(database: store.Database, database_url: str) -> None:
    """The command line beside the daemon always works."""
    async with (
        other_process.running("apply", database_url, "25") as one,
        other_process.running("apply", database_url, "25") as two,
    ):
        for process in (one, two):
            assert await other_process.line(process) == "ready"
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write(b"\n")
        assert [await other_process.line(process) for process in (one, two)] == ["applied", "applied"]
    async with database.read() as connection:
        numbers = (await connection.execute(text("SELECT revision FROM routing_revisions ORDER BY 1"))).scalars().all()
    assert numbers == list(range(1, 51))


async def test_what_a_caller_sends_can_be_stored(database: store.Database) -> None:
    """NUL and lone surrogates would stop all records behind them."""
    hostile = examples.call(sip_call_id="a\0b\udcff\ud800@host", caller="Ω" * 3000)
    async with database.begin() as tx:
        await calls.save(tx, [hostile])
    async with database.read() as connection:
        found = await calls.get(connection, hostile.call_id)
    assert found is not None
    assert found.sip_call_id is not None
    assert found.sip_call_id.startswith("a\ufffdb\ufffd")
    assert found.sip_call_id.endswith("@host")
    assert found.caller == "Ω" * 3000


def test_urls_get_our_drivers() -> None:
    assert engines.parse("postgres://u@h/d").drivername == "postgresql+psycopg"
    assert engines.parse("postgresql+asyncpg://u@h/d").drivername == "postgresql+psycopg"
    assert engines.parse("sqlite:////x.db").database == "/x.db"
