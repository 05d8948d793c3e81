"""SQLite alone: what was deleted leaves the files too, not just the tables.

`PRAGMA secure_delete` writes zeros over what is deleted. Two places keep older copies: the write-ahead log, until it is
written over, and pages that were once split, whose unused part is not cleared. The first is emptied; the second needs
a VACUUM, which is done only when a look at the file finds something there.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from gateway.store import engines

PATIENCE_SECONDS = 30.0
_PIECE = 4_194_304


def scrub(url: str, remnant: bytes | None = None) -> str | None:
    """Empties the write-ahead log into the database, and rebuilds the file if `remnant` stands in it still.

    Call it with no `Database` open in this process: closing a file lets go of all locks that the process has on it
    (POSIX), SQLite's too. On PostgreSQL nothing is done: that is what its vacuum is for. Blocks; other processes wait
    for a rebuild. Returns why it could not be done, None when it was.
    """
    parsed = engines.parse(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    path = Path(parsed.database or "")
    try:
        with closing(sqlite3.connect(path, timeout=PATIENCE_SECONDS, isolation_level=None)) as connection:
            is_done = _empty_log(connection)
        if is_done and remnant is not None and _holds(path, remnant):
            with closing(sqlite3.connect(path, timeout=PATIENCE_SECONDS, isolation_level=None)) as connection:
                connection.execute("VACUUM")
                is_done = _empty_log(connection)
    except (sqlite3.Error, OSError) as error:
        return f"{path}: {error}"
    return None if is_done else f"{path}-wal: in use for {PATIENCE_SECONDS:.0f} s"


def _empty_log(connection: sqlite3.Connection) -> bool:
    """Whether the log could be emptied: a reader may hold it for a while."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        [is_busy, _, _] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not is_busy or time.monotonic() > deadline:
            return not is_busy
        time.sleep(0.05)


def _holds(path: Path, remnant: bytes) -> bool:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        rest = b""
        while piece := file.read(_PIECE):
            if remnant in rest + piece:
                return True
            rest = piece[-len(remnant) :]
    return False
