"""Engines for the two databases: how each is connected to, and what its connections are set to."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import aiosqlite
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from gateway.store import errors, onehop

_T = TypeVar("_T")

BUSY_SECONDS = 5.0
"""How long a writer of another process is waited for: far above a batch (20 ms), below the watchdog's patience."""

TURN_SECONDS = 0.12
"""A writer of another process looks every 100 ms whether SQLite is free (`sqliteDefaultBusyCallback`)."""

MIGRATION_BUSY_SECONDS = 120.0
"""How long a starting process waits for another one that migrates."""

_WAL_RETRY_SECONDS = 0.02

POOL_SECONDS = 5.0
"""How long a task waits for a free connection."""

_POSTGRES_SETTINGS = (
    "-c timezone=UTC -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s -c statement_timeout=120s"
)


def parse(url: str) -> URL:
    """The URL with the driver we use. Raises ValueError for anything but a SQLite file or PostgreSQL."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError(f"not a database URL: {error}") from None
    match parsed.drivername.partition("+")[0]:
        case "sqlite":
            if not parsed.database or parsed.database == ":memory:" or parsed.query:
                raise ValueError("a SQLite URL needs a file and takes no options: sqlite:////path/to/dialmark.db")
            return parsed.set(drivername="sqlite+aiosqlite")
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+psycopg")
        case other:
            raise ValueError(f"database {other!r} is not supported: use sqlite or postgresql")


class SqliteFile:
    """A SQLite file: knows whether the file at its path is still the one that was opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None

    def create(self) -> None:
        """Makes an empty file, readable by owner and group only, if there is none; SQLite's default is 0644."""
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o640))
        except OSError as error:
            raise errors.StoreUnavailable(f"{self.path}: {error.strerror}") from error

    def check(self) -> None:
        """Raises StoreUnavailable when the file is away, StoreDamaged when another one has taken its place.

        SQLite would go on writing into the removed file, and all of it would be lost at the next start.
        """
        try:
            status = os.stat(self.path)  # noqa: PTH116 - a third of the time of Path.stat, before each transaction
        except OSError as error:
            raise errors.StoreUnavailable(f"{self.path}: {error.strerror}") from error
        identity = (status.st_dev, status.st_ino)
        if self._identity is None:
            self._identity = identity
        elif self._identity != identity:
            raise errors.StoreDamaged(f"{self.path} was replaced while it was open: restart Dialmark")

    def engine(self, *, is_writer: bool, size: int, busy_seconds: float | None = None) -> AsyncEngine:
        """An engine whose connections start no transaction by themselves; `Database` sends BEGIN."""

        async def connect() -> aiosqlite.Connection:
            mode = "rw" if is_writer else "ro"
            connection = onehop.connect(
                f"file:{quote(str(self.path))}?mode={mode}",
                timeout=BUSY_SECONDS if busy_seconds is None else busy_seconds,
            )
            # A thread that hangs in a system call must not keep the process from ending.
            connection._thread.daemon = True
            await connection
            try:
                if is_writer:
                    await _use_wal(connection)
                await connection.executescript(_WRITER_PRAGMAS if is_writer else _READER_PRAGMAS)
            except BaseException:
                await connection.close()
                raise
            return connection

        engine = create_async_engine(
            "sqlite+aiosqlite://",
            async_creator=connect,
            poolclass=AsyncAdaptedQueuePool,
            pool_size=size,
            max_overflow=0,
            pool_timeout=POOL_SECONDS,
        )
        event.listen(engine.sync_engine.pool, "invalidate", _let_go)
        return engine


async def _use_wal(connection: aiosqlite.Connection) -> None:
    """Two processes that start on a new file both switch it; SQLite does not wait for this lock by itself."""
    attempts = int(BUSY_SECONDS / _WAL_RETRY_SECONDS)
    for attempt in range(attempts + 1):
        try:
            await connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or attempt == attempts:
                raise
            await asyncio.sleep(_WAL_RETRY_SECONDS)
        else:
            return


async def send(connection: AsyncConnection, statement: str) -> None:
    """Runs a statement without result on SQLite's connection itself: one change of threads instead of four."""
    driver: aiosqlite.Connection | None = (await connection.get_raw_connection()).driver_connection
    if driver is None:
        raise errors.StoreUnavailable("the connection was cut")
    await driver.execute(statement)


async def drive(connection: AsyncConnection, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Runs `work`, which awaits only SQLite's connection, in its thread (`onehop.OneHopConnection.drive`)."""
    driver: onehop.OneHopConnection | None = (await connection.get_raw_connection()).driver_connection
    if driver is None:
        raise errors.StoreUnavailable("the connection was cut")
    return await driver.drive(work)


def _let_go(dbapi_connection: Any, *_: object) -> None:
    """Stops the statement of a cancelled task and ends its transaction, before SQLAlchemy closes the connection.

    Closing alone waits for the statement, and then keeps the write lock for as long as any frame of the cancelled
    task holds the cursor (`sqlite3_close_v2` leaves a zombie).
    """
    connection: aiosqlite.Connection = dbapi_connection.driver_connection
    inner = connection._connection
    if inner is not None:
        inner.interrupt()
        connection._tx.put_nowait((None, inner.rollback))


_WRITER_PRAGMAS = """
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA secure_delete = ON;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -16384;
PRAGMA temp_store = MEMORY;
"""
_READER_PRAGMAS = """
PRAGMA query_only = ON;
PRAGMA cache_size = -8192;
PRAGMA temp_store = MEMORY;
"""


def postgres(url: URL, *, size: int) -> AsyncEngine:
    """An engine that notices dead connections before use and gives up on a silent server."""
    return create_async_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=POOL_SECONDS,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 5,
            # A SQL_ASCII database (cluster made with locale C) would hand out bytes for text.
            "client_encoding": "UTF8",
            "application_name": "dialmark",
            "options": _POSTGRES_SETTINGS,
            "keepalives_idle": 30,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        },
    )
