"""The errors of storage, and how the drivers' errors become them. Callers take the names from `gateway.store`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc


class StoreError(Exception):
    """Root of what the store raises by itself."""


class StoreUnavailable(StoreError):
    """The database is locked, gone, full, cut off or shutting down. The transaction was rolled back: nothing of it
    is stored. Keep the work and try again with back-off; it goes on by itself once the cause is away.

    When the *commit* itself failed the outcome may be unknown; repeat the same writes, they double nothing.
    """


class StoreDamaged(StoreError):
    """The file is not a database or its pages are damaged. Trying again does not help: stop, and restore a backup."""


class StoreOutdated(StoreError):
    """The schema is older than this program. Open with `migrate=True` (every start of the daemon does)."""


class StoreTooNew(StoreError):
    """A newer Dialmark has already changed the schema. Run that version, or restore the backup from before."""


_SQLITE_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_SQLITE_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

# Classes of SQLSTATE: connection, rollback (deadlock), resources, not in prerequisite state (lock), operator, system.
_POSTGRES_UNAVAILABLE = ("08", "40", "53", "55", "57", "58", "25006")
_POSTGRES_DAMAGED = ("XX001", "XX002")


@contextmanager
def translated() -> Iterator[None]:
    """Turns what SQLAlchemy and the drivers raise for an outside cause into this module's errors.

    A mistake of ours (bad SQL, a broken constraint) passes as it is, so that it is not retried for ever.
    """
    try:
        yield
    except exc.TimeoutError as error:
        raise StoreUnavailable("no database connection became free in time") from error
    except exc.DBAPIError as error:
        raise (_meaning(error.orig, is_cut=error.connection_invalidated) or error) from error.orig
    except sqlite3.Error as error:
        raise (_meaning(error) or error) from error


def _meaning(error: BaseException | None, *, is_cut: bool = False) -> StoreError | None:
    if isinstance(error, sqlite3.Error):
        # Without a code it comes from the wrapper: a connection that was closed under the statement.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_INTERRUPT) & 0xFF
        if code in _SQLITE_DAMAGED:
            return StoreDamaged(str(error))
        return StoreUnavailable(str(error)) if code in _SQLITE_UNAVAILABLE or is_cut else None
    state = getattr(error, "sqlstate", None)
    first_line = str(error).partition("\n")[0]
    if state is not None and state.startswith(_POSTGRES_DAMAGED):
        return StoreDamaged(first_line)
    if is_cut or (state is not None and state.startswith(_POSTGRES_UNAVAILABLE)):
        return StoreUnavailable(first_line)
    if state is None and type(error).__name__ in {"OperationalError", "InterfaceError", "ConnectionTimeout"}:
        return StoreUnavailable(first_line)
    return None
