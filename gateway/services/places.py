"""Places by address, from the operator's file (MMDB, R94). Asked for each page, so it never waits and never fails:
while there is no good file nobody's place is known, and `problem` says why.

The file is read into memory as a whole: one that is overwritten in place would otherwise kill the process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import maxminddb

from gateway import log
from gateway.core import placenames
from gateway.core.displayrules import Place

_log = log.get("places")

LOOK_SECONDS = 10.0
MOST_BYTES = 1_000_000_000

_Mark = tuple[int, int, int, int]


class Places:
    """The places of one file, which is read again when it changes. `run` is a root task."""

    def __init__(self, path: Path, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._path = path
        self._look_seconds = look_seconds
        self._reader: maxminddb.Reader | None = None
        self._mark: _Mark | None = None
        self.problem: str | None = None
        """Why places are not known, or not by the newest file; None = all is well."""
        self.built: int | None = None
        """When the file in use was made by its maker, Unix time."""

    def of(self, address: str) -> Place:
        """Where an address is, as far as the file tells."""
        reader = self._reader
        if reader is None:
            return placenames.NOWHERE
        try:
            return placenames.of_record(reader.get(address))
        except ValueError:
            # No address, or IPv6 in a file that knows only IPv4.
            return placenames.NOWHERE
        except Exception as error:
            # A file that is damaged in the middle fails in any way.
            self._say(f"{self._path}: {error or type(error).__name__}")
            return placenames.NOWHERE

    async def look(self) -> None:
        """Reads the file if it is another than the one in use. A broken one leaves that in use."""
        try:
            mark = await asyncio.to_thread(_mark_of, self._path)
            if mark == self._mark:
                return
            reader, built = await asyncio.to_thread(_read, self._path)
        except (OSError, MemoryError) as error:
            self._mark = None
            self._say(str(error) or "out of memory")
            return
        except Exception as error:
            # Whatever a damaged file makes its reader say.
            self._mark = mark
            self._say(f"{self._path}: {error or type(error).__name__}")
            return
        self._reader, self._mark, self.built, self.problem = reader, mark, built, None
        _log.info("places read", path=str(self._path), built=built)

    async def run(self, *, looked: Callable[[], None] = lambda: None) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(self._look_seconds)
            await self.look()
            looked()

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            _log.error("places not read, will be tried again", path=str(self._path), error=problem)
        self.problem = problem


def _mark_of(path: Path) -> _Mark:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_dev


def _read(path: Path) -> tuple[maxminddb.Reader, int]:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            raise OSError(f"{path} is larger than {MOST_BYTES:,} bytes")
        reader = maxminddb.Reader(file, maxminddb.MODE_FD)
    # A file that is cut off still has a tree: what it leads to is looked at once.
    for address in ("1.1.1.1", "77.88.55.60", "211.249.220.24"):
        placenames.of_record(reader.get(address))
    return reader, reader.metadata().build_epoch
