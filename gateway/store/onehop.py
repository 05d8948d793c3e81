"""aiosqlite with one change of threads per statement, or one for many statements (`OneHopConnection.drive`).

As it comes, it changes threads for the cursor, the statement, the rows and the end of the cursor, which is half of
what a small statement costs. Rows are always read whole; reading them piece by piece (`AsyncConnection.stream`) does
not work.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import aiosqlite

_T = TypeVar("_T")

CANCELLED_SECONDS = 5.0
"""So long a cancelled `drive` waits for its thread, which must not share the connection with what comes next."""


class Cursor:
    """What SQLAlchemy's adapter asks of an aiosqlite cursor."""

    arraysize = 1

    def __init__(self, connection: OneHopConnection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> Cursor:
        return self

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        """Run a statement and read all of its rows."""
        await self._connection.in_thread(self._run, sqlite3.Cursor.execute, sql, parameters)
        return self

    async def executemany(self, sql: str, parameters: Sequence[Sequence[Any]]) -> Cursor:
        """Run a statement, which gives no rows, for each of the parameters."""
        await self._connection.in_thread(self._run, sqlite3.Cursor.executemany, sql, parameters)
        return self

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        self._rows = []

    def _run(self, method: Callable[..., sqlite3.Cursor], sql: str, parameters: Any) -> None:
        """In the connection's thread. Nothing of the statement is left open behind it."""
        cursor = self._connection._conn.cursor()
        try:
            method(cursor, sql, parameters)
            self.description = cursor.description
            self._rows = cursor.fetchall() if cursor.description is not None else []
            self.rowcount, self.lastrowid = cursor.rowcount, cursor.lastrowid
        finally:
            cursor.close()


class OneHopConnection(aiosqlite.Connection):
    """A connection whose cursors are as above.

    SQLAlchemy rolls back whatever comes back to its pool; what was committed, with nothing sent since, needs none.
    """

    _is_clean = False
    _is_driving = False
    """Statements come from the connection's own thread."""

    async def commit(self) -> None:
        await super().commit()
        self._is_clean = True

    async def rollback(self) -> None:
        if not self._is_clean:
            await super().rollback()

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._is_clean = False
        if self._is_driving:
            return fn(*args, **kwargs)
        execute: Callable[..., Awaitable[Any]] = super()._execute
        return await execute(fn, *args, **kwargs)

    async def drive(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run all of `work`, which awaits nothing but this connection, in the connection's thread.

        Under load each change of threads waits for its turn on the processor: a transaction of a dozen statements has
        one such wait instead of a dozen. Raises RuntimeError when `work` waits for something else.
        """

        def through() -> _T:
            self._is_driving = True
            running = work()
            try:
                running.send(None)
            except StopIteration as done:
                result: _T = done.value
                return result
            finally:
                self._is_driving = False
                running.close()
            raise RuntimeError("a driven transaction awaits something that is not its connection")

        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        assert self._running and self._connection is not None
        self._tx.put_nowait((future, through))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._connection.interrupt()
            await asyncio.wait((future,), timeout=CANCELLED_SECONDS)
            if future.done():
                # Nobody asks any more.
                future.exception()
            raise

    def cursor(self) -> Any:
        return Cursor(self)

    async def in_thread(self, work: Callable[..., None], *arguments: object) -> None:
        """Run `work` in the connection's thread, after what is already waiting for it."""
        await self._execute(work, *arguments)


def connect(database: str, *, timeout: float) -> OneHopConnection:
    """As `aiosqlite.connect` with a URI and without transactions of its own."""

    def opened() -> sqlite3.Connection:
        return sqlite3.connect(database, uri=True, isolation_level=None, timeout=timeout)

    return OneHopConnection(opened, iter_chunk_size=64)
