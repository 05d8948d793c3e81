"""The only SQL of Dialmark: one `Database` value, its writing and reading connections, and the errors of storage.

Everything else in this package is plain functions over a connection:

    async with database.begin() as tx:
        await calls.save(tx, changed)
        await outbox.add(tx, events, targets)

SQLite (the default) runs in WAL with `synchronous=FULL`; every writing transaction starts with `BEGIN IMMEDIATE`, one
writer connection serves a process, readers are read-only. PostgreSQL gets the same functions and the same schema.

    StoreError
    ├── StoreUnavailable   locked, gone, full, cut off: try again later, nothing was written
    ├── StoreDamaged       the file is not a sound database: an administrator must restore it
    ├── StoreOutdated      the schema is older than this program, and it was opened with `migrate=False`
    └── StoreTooNew        the schema is newer than this program
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

Connection = AsyncConnection
"""What reading functions take; a `Transaction` will do as well, and then sees its own writes."""

Transaction = AsyncConnection
"""What writing functions take: the connection of a `Database.begin()` block."""


class StoreError(Exception):
    """Root of what the store raises by itself."""


class StoreUnavailable(StoreError):
    """The database is locked, gone, full, cut off or shutting down. The transaction was rolled back: nothing of it
    is stored. Keep the work and try again with back-off; it goes on by itself once the cause is away.

    After a failed *commit* on PostgreSQL the outcome is unknown; repeat the same writes, they double nothing.
    """


class StoreDamaged(StoreError):
    """The file is not a database or its pages are damaged. Trying again does not help: stop, and restore a backup."""


class StoreOutdated(StoreError):
    """The schema is older than this program. Open with `migrate=True` (every start of the daemon does)."""


class StoreTooNew(StoreError):
    """A newer Dialmark has already changed the schema. Run that version, or restore the backup from before."""


class Database:
    """An open database. One per process and event loop; safe for any number of tasks."""

    engine_name: str
    """`sqlite` or `postgresql`."""

    @classmethod
    async def open(cls, url: str, *, migrate: bool = True, readers: int = 4) -> Database:
        """Connects, and brings the schema up to date under a lock that other starting processes respect.

        `url`: `sqlite:////var/lib/dialmark/dialmark.db` (three slashes: relative) or `postgresql://user@host/name`.
        A missing SQLite file is made, its folder is not. `readers` bounds the reading connections.

        Raises StoreUnavailable, StoreDamaged, StoreOutdated, StoreTooNew; ValueError for a URL of another kind.
        """
        raise NotImplementedError

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        """A writing transaction: committed when the block ends, rolled back when it raises or is cancelled.

        On SQLite only one block at a time runs in a process (others wait in line), and other processes wait up to
        5 s for it: never await anything but store functions inside. Raises StoreUnavailable.
        """
        raise NotImplementedError
        yield

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        """A reading transaction, never waits for a writer; writing on it fails. Raises StoreUnavailable."""
        raise NotImplementedError
        yield

    async def ping(self) -> None:
        """One round trip to the database. Raises StoreUnavailable."""
        raise NotImplementedError

    async def close(self) -> None:
        """Closes all connections. Call it once no block is open."""
        raise NotImplementedError
