"""What the tracker remembers of the journal: its files, the position, raw rows of open calls, damaged rows.

Lines are kept as bytes: a caller's name may be cut inside a character, and a row must come back as it was read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway import store


class FileState(StrEnum):
    """LIVE is written by Asterisk, ROTATED was renamed and is read to its end, ARCHIVED was read and compressed."""

    LIVE = "live"
    ROTATED = "rotated"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True)
class JournalFile:
    """One journal file. It is the same file as long as device, inode and fingerprint are (a name is reused)."""

    file_id: int
    """Grows in the order of entering: enter older files first."""
    node: str
    device: int
    inode: int
    fingerprint: str
    """Hash of its first bytes, as the reader defines it."""
    name: str
    size: int
    state: FileState
    first_row_us: int | None
    last_row_us: int | None


@dataclass(frozen=True, slots=True)
class Position:
    """End of the last row read: a byte offset in a file."""

    file_id: int
    offset: int


@dataclass(frozen=True, slots=True)
class OpenRow:
    """One raw row of a call that is not over. `offset` is where it begins; `group` is the key it is folded by."""

    file_id: int
    offset: int
    group: str
    line: bytes


@dataclass(frozen=True, slots=True)
class Closing:
    """A call that was closed without an end of its own, because its channel was gone (Asterisk killed)."""

    call_id: str
    at_us: int
    reason: str


@dataclass(frozen=True, slots=True)
class DamagedRow:
    """A row that could not be read. `raw` is at most 4,096 bytes of it."""

    file_id: int
    offset: int
    raw: bytes
    reason: str
    found_us: int


async def enter_file(
    tx: store.Transaction,
    *,
    node: str,
    device: int,
    inode: int,
    fingerprint: str,
    name: str,
    size: int,
    state: FileState = FileState.LIVE,
) -> int:
    """The id of this file, entered now if it is new; name, size and state of a known one are brought up to date."""
    raise NotImplementedError


async def update_file(
    tx: store.Transaction,
    file_id: int,
    *,
    name: str | None = None,
    size: int | None = None,
    state: FileState | None = None,
    fingerprint: str | None = None,
    first_row_us: int | None = None,
    last_row_us: int | None = None,
) -> None:
    """Changes what is given; None leaves it. `first_row_us` is kept once set, `last_row_us` only grows."""
    raise NotImplementedError


async def files(connection: store.Connection, node: str) -> list[JournalFile]:
    """All known files of a node, oldest first."""
    raise NotImplementedError


async def forget_file(tx: store.Transaction, file_id: int) -> None:
    """Removes a file with its damaged rows. A file with open rows or the position in it stays: raises ValueError."""
    raise NotImplementedError


async def position(connection: store.Connection, node: str) -> Position | None:
    """Where reading goes on; None before the first row."""
    raise NotImplementedError


async def set_position(tx: store.Transaction, node: str, at: Position) -> None:
    """Remembers where reading goes on."""
    raise NotImplementedError


async def add_open_rows(tx: store.Transaction, node: str, rows: Sequence[OpenRow]) -> None:
    """Keeps rows of calls that are not over. A row already kept (same file and offset) is left alone."""
    raise NotImplementedError


async def delete_open_rows(tx: store.Transaction, node: str, groups: Collection[str]) -> None:
    """Drops the rows of these groups: their calls are over and stored."""
    raise NotImplementedError


async def open_rows(connection: store.Connection, node: str) -> list[OpenRow]:
    """All kept rows of a node in the order they were read."""
    raise NotImplementedError


async def close_calls(tx: store.Transaction, closings: Sequence[Closing]) -> None:
    """Notes calls as closed from outside; the first closing of a call stays."""
    raise NotImplementedError


async def closings(connection: store.Connection, call_ids: Collection[str]) -> dict[str, Closing]:
    """The closings of these calls, by call id."""
    raise NotImplementedError


async def quarantine(tx: store.Transaction, rows: Sequence[DamagedRow]) -> int:
    """Puts damaged rows aside and returns how many were new."""
    raise NotImplementedError


async def damaged(connection: store.Connection, node: str, *, limit: int = 100) -> list[DamagedRow]:
    """The latest damaged rows of a node, newest first."""
    raise NotImplementedError


async def count_damaged(connection: store.Connection, node: str, *, since_us: int = 0) -> int:
    """Damaged rows of a node found at or after `since_us`."""
    raise NotImplementedError
