"""The only SQL of Dialmark: one `Database` value, its writing and reading connections, and the errors of storage.

Everything else in this package is plain functions over a connection:

    async with database.begin() as tx:
        await calls.save(tx, changed)
        await outbox.add(tx, events, targets)

SQLite (the default) runs in WAL with `synchronous=FULL`; every writing transaction starts with `BEGIN IMMEDIATE`, one
writer connection serves a process, readers are read-only. PostgreSQL gets the same functions and the same schema.

    StoreError
    ├── StoreUnavailable   locked, gone, full, cut off: try again later, nothing was written
    ├── StoreDamaged       not a sound database, or not the one that was opened: an administrator must act
    ├── StoreOutdated      the schema is older than this program, and it was opened with `migrate=False`
    └── StoreTooNew        the schema is newer than this program

Cancelling (`asyncio.timeout` around a look-up) stops the running statement at once on SQLite; on PostgreSQL the server
is asked to, and waited for, up to 5 s if it hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection as SyncConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.store import agentschema as agentschema  # here, so that `schema.metadata` has all tables
from gateway.store import dealschema as dealschema
from gateway.store import engines, schema
from gateway.store import outgoingschema as outgoingschema
from gateway.store import poolschema as poolschema
from gateway.store import profileschema as profileschema
from gateway.store import ticketschema as ticketschema
from gateway.store.errors import (
    StoreDamaged,
    StoreError,
    StoreOutdated,
    StoreTooNew,
    StoreUnavailable,
    translated,
)

__all__ = [
    "Connection",
    "Database",
    "StoreDamaged",
    "StoreError",
    "StoreOutdated",
    "StoreTooNew",
    "StoreUnavailable",
    "Transaction",
]

_T = TypeVar("_T")

Connection = AsyncConnection
"""What reading functions take; a `Transaction` will do as well, and then sees its own writes."""

Transaction = AsyncConnection
"""What writing functions take: the connection of a `Database.begin()` block."""

_MIGRATION_LOCK = 0x6469616C6D61726B
"""Key of the PostgreSQL advisory lock under which the schema changes ("dialmark")."""


class Database:
    """An open database. One per process and event loop; safe for any number of tasks."""

    engine_name: str
    """`sqlite` or `postgresql`."""

    def __init__(self, file: engines.SqliteFile | None, writer: AsyncEngine, reader: AsyncEngine) -> None:
        """Made by `open`."""
        self.engine_name = writer.dialect.name
        self._file = file
        self._writer = writer
        self._reader = reader
        self._turn: asyncio.Lock | nullcontext[None] = asyncio.Lock() if file else nullcontext()

    @classmethod
    async def open(cls, url: str, *, migrate: bool = True, readers: int = 4) -> Database:
        """Connects, and brings the schema up to date under a lock that other starting processes respect.

        `url`: `sqlite:////var/lib/dialmark/dialmark.db` (three slashes: relative) or `postgresql://user@host/name`.
        A missing SQLite file is made if `migrate`, its folder never. `readers` bounds the reading connections.

        Raises StoreUnavailable, StoreDamaged, StoreOutdated, StoreTooNew; ValueError for a URL of another kind.
        """
        parsed = engines.parse(url)
        if parsed.get_backend_name() == "sqlite":
            database = await cls._open_sqlite(Path(parsed.database or ""), migrate=migrate, readers=readers)
        else:
            engine = engines.postgres(parsed, size=readers + 2)
            database = cls(None, engine, engine)
        try:
            with translated():
                await database._bring_up_to_date(migrate=migrate)
        except BaseException:
            await database.close()
            raise
        return database

    @classmethod
    async def _open_sqlite(cls, path: Path, *, migrate: bool, readers: int) -> Database:
        # Made absolute: the working directory may change under an open database.
        file = engines.SqliteFile(path.absolute())  # noqa: ASYNC240 - once, at start
        if migrate:
            file.create()
        file.check()
        return cls(file, file.engine(is_writer=True, size=1), file.engine(is_writer=False, size=readers))

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        """A writing transaction: committed when the block ends, rolled back when it raises or is cancelled.

        On SQLite only one block at a time runs in a process (others wait in line), and other processes wait up to
        5 s for it: never await anything but store functions inside. Raises StoreUnavailable.
        """
        async with self._turn, self._connected(self._writer) as connection:
            if self._file:
                await engines.send(connection, "BEGIN IMMEDIATE")
            yield connection
            await connection.commit()

    async def transact(self, work: Callable[[Transaction], Coroutine[Any, Any, _T]]) -> _T:
        """A writing transaction like `begin`, of many small statements: on SQLite all of `work` runs in the
        connection's thread, so that it changes threads once. It must await store functions only, and whatever it
        touches besides must bear another thread; meanwhile its caller waits. Raises StoreUnavailable."""
        if self._file is None:
            async with self.begin() as tx:
                return await work(tx)
        async with self._turn, self._connected(self._writer) as connection:

            async def whole() -> _T:
                await engines.send(connection, "BEGIN IMMEDIATE")
                result = await work(connection)
                await connection.commit()
                return result

            return await engines.drive(connection, whole)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        """A reading transaction, never waits for a writer; writing on it fails. Raises StoreUnavailable."""
        async with self._connected(self._reader) as connection:
            if self._file:
                await engines.send(connection, "BEGIN")
            else:
                await connection.execution_options(postgresql_readonly=True)
            yield connection

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        with translated():
            if self._file:
                self._file.check()
            async with engine.connect() as connection:
                try:
                    yield connection
                except DBAPIError:
                    # After a full disk or an I/O error SQLite's connection may keep its error; a new one costs 1 ms.
                    await connection.invalidate()
                    raise

    async def ping(self) -> None:
        """One round trip to the database. Raises StoreUnavailable, StoreDamaged."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def give_way(self) -> None:
        """Between two writing transactions of one long work: whoever waits has a turn. On PostgreSQL nobody waits."""
        if self._file:
            await asyncio.sleep(engines.TURN_SECONDS)

    async def close(self) -> None:
        """Closes all connections. Call it once no block is open."""
        # The writer last: only it can empty the WAL into the file and remove it.
        await self._reader.dispose()
        await self._writer.dispose()

    async def _bring_up_to_date(self, *, migrate: bool) -> None:
        async with self._writer.connect() as connection:
            version = await connection.run_sync(_version)
        if version == schema.HEAD:
            return
        if version is not None and version > schema.HEAD:
            raise StoreTooNew(f"the schema is at {version}, this program knows {schema.HEAD}")
        if not migrate:
            raise StoreOutdated(f"the schema is at {version or 'nothing'}, this program needs {schema.HEAD}")
        await self._migrate()

    async def _migrate(self) -> None:
        engine = self._writer
        if self._file:
            await engine.dispose()
            engine = self._file.engine(is_writer=True, size=1, busy_seconds=engines.MIGRATION_BUSY_SECONDS)
        try:
            async with engine.connect() as connection:
                await self._lock_schema(connection)
                # Another process may have done it while we waited; alembic then finds nothing to do.
                await connection.run_sync(_upgrade)
                await connection.commit()
        finally:
            if self._file:
                await engine.dispose()

    async def _lock_schema(self, connection: AsyncConnection) -> None:
        if self._file:
            # Tables are rebuilt to change them, which cascades must not see; the switch is dead inside a transaction.
            await connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            await connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})


def _version(connection: SyncConnection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: SyncConnection) -> None:
    # Alembic takes 0.15 s to import: only when there is something to do.
    from gateway.store import migrations

    migrations.upgrade(connection)
