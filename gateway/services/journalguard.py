"""Watches the space that the journal has left: a full disk eats its rows, and Asterisk does not say so.

A ballast file lies in the journal's folder while there is space. Below 5 % it is freed, so that rows fit on the disk
until somebody has made space, and an alarm is raised; it ends, and the ballast comes back, above 10 %.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway import log

_log = log.get("services.journalguard")

BALLAST_NAME = "ballast"
"""The reader of the journal ignores it: `asterisk.journal_name` may not begin so."""
ALARM_BELOW = 0.05
"""Share of free space. `doctor` fails below it, too."""
WELL_ABOVE = 0.10
"""Share that is free with the ballast in place; else the freed ballast itself would end the alarm on a small disk."""
LOOK_SECONDS = 2.0
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
"""Asterisk may write into the folder, too: a link there must not make us cut another file."""


class Figures(Protocol):
    """What a filesystem says of itself, in bytes; `shutil.disk_usage` gives it."""

    @property
    def total(self) -> int: ...

    @property
    def free(self) -> int: ...


Measure = Callable[[Path], Figures]
"""The figures of the filesystem on which a folder lies. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Space:
    """What a look found."""

    free_bytes: int
    total_bytes: int

    @property
    def free_share(self) -> float:
        return self.free_bytes / self.total_bytes


class JournalGuard:
    """Guards the space of one journal's folder. `run` is a root task; no fault of the disk ends it."""

    def __init__(self, folder: Path, *, ballast_bytes: int, measure: Measure = shutil.disk_usage) -> None:
        """`ballast_bytes` 0: no ballast, the alarm only."""
        self._folder = folder
        self._ballast = folder / BALLAST_NAME
        self._ballast_bytes = ballast_bytes
        self._measure = measure
        self._has_complained = False
        self.space: Space | None = None
        """None = not known."""
        self.has_ballast = False
        self.problem: str | None = None
        """Set from the alarm until there is space again."""

    async def run(self) -> None:
        """Never returns."""
        while True:
            # Allocating can take seconds on a filesystem that has to write for it.
            await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Measures once, and does what that asks for."""
        self.space = self._measured()
        if self.space is None:
            return
        if self.space.free_share < ALARM_BELOW:
            self._make_room(self.space)
        elif self._with_ballast(self.space) > WELL_ABOVE:
            self._return_to_normal(self.space)
        if not self._ballast_bytes:
            self._free()

    def _measured(self) -> Space | None:
        try:
            figures = self._measure(self._folder)
        except OSError:
            # No such folder, no rights: the reader of the journal tells of it.
            return None
        return Space(figures.free, figures.total) if figures.total > 0 else None

    def _with_ballast(self, space: Space) -> float:
        """The share that is free, or would be, with the ballast in place."""
        missing = max(0, self._ballast_bytes - _held(self._ballast))
        return (space.free_bytes - missing) / space.total_bytes

    def _make_room(self, space: Space) -> None:
        freed = self._free()
        if self.problem is None:
            _log.error(
                "journal's disk is nearly full",
                folder=str(self._folder),
                free=f"{space.free_share:.1%}",
                free_bytes=space.free_bytes,
                ballast_freed_bytes=freed,
            )
        self.problem = "nearly full: make space, or rows of calls are lost"

    def _return_to_normal(self, space: Space) -> None:
        if self.problem is not None:
            _log.info("journal's disk has space again", free=f"{space.free_share:.1%}")
            self.problem = None
        # Somebody may have deleted it to make space.
        if self._ballast_bytes and not (self.has_ballast and os.path.lexists(self._ballast)):
            self._allocate()

    def _allocate(self) -> None:
        """A ballast of an earlier run is taken over, cut or grown to its size; holes in a restored one are filled."""
        try:
            descriptor = os.open(self._ballast, _FLAGS, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._ballast_bytes)
                os.ftruncate(descriptor, self._ballast_bytes)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._complain(error)
            self._free()
            return
        self.has_ballast = True
        self._has_complained = False

    def _free(self) -> int:
        """Deletes the ballast; gives the bytes it held."""
        held = _held(self._ballast)
        try:
            self._ballast.unlink(missing_ok=True)
        except OSError as error:
            self._complain(error)
            return 0
        self.has_ballast = False
        return held

    def _complain(self, error: OSError) -> None:
        if not self._has_complained:
            self._has_complained = True
            _log.warning("journal's ballast not made or not freed", path=str(self._ballast), error=str(error))


def _held(path: Path) -> int:
    """Bytes of the disk that a file holds."""
    with suppress(OSError):
        return path.lstat().st_blocks * 512
    return 0
