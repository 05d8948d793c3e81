"""What the tracker remembers of the journal: its files, the position, raw rows of open calls, damaged rows.

Lines are kept as bytes: a caller's name may be cut inside a character, and a row must come back as it was read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, case, delete, func, or_, select, update

from gateway import store
from gateway.store import schema, statements

MAX_DAMAGED_BYTES = 4096


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
    """Bytes of it whose rows are stored."""
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
    """Raw rows of a call that is not over, as lines. `offset` is where the first begins; `group` is the key they are
    folded by."""

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
    """A row that could not be read. `raw` is cut to `MAX_DAMAGED_BYTES`."""

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
    table = schema.journal_files
    identity = {"node": node, "device": str(device), "inode": str(inode), "fingerprint": fingerprint}
    current = {"name": name, "size": size, "state": state}
    statement = statements.insert(tx, table).values(**identity, **current)
    statement = statement.on_conflict_do_update(index_elements=list(identity), set_=current)
    file_id: int = (await tx.execute(statement.returning(table.c.file_id))).scalar_one()
    return file_id


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
    table = schema.journal_files
    given = {"name": name, "size": size, "state": state, "fingerprint": fingerprint}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if first_row_us is not None:
        changes["first_row_us"] = func.coalesce(table.c.first_row_us, first_row_us)
    if last_row_us is not None:
        is_older = or_(table.c.last_row_us.is_(None), table.c.last_row_us < last_row_us)
        changes["last_row_us"] = case((is_older, last_row_us), else_=table.c.last_row_us)
    if changes:
        await tx.execute(update(table).where(table.c.file_id == file_id).values(changes))


async def files(connection: store.Connection, node: str) -> list[JournalFile]:
    """All known files of a node, oldest first."""
    table = schema.journal_files
    rows = await connection.execute(select(table).where(table.c.node == node).order_by(table.c.file_id))
    return [
        JournalFile(
            file_id=row.file_id,
            node=row.node,
            device=int(row.device),
            inode=int(row.inode),
            fingerprint=row.fingerprint,
            name=row.name,
            size=row.size,
            state=FileState(row.state),
            first_row_us=row.first_row_us,
            last_row_us=row.last_row_us,
        )
        for row in rows
    ]


async def forget_file(tx: store.Transaction, file_id: int) -> None:
    """Removes a file with its damaged rows. A file with open rows or the position in it stays: raises ValueError."""
    rows, positions = schema.open_rows, schema.journal_positions
    used = select(rows.c.file_id).where(rows.c.file_id == file_id)
    used_or_read = used.union(select(positions.c.file_id).where(positions.c.file_id == file_id))
    if (await tx.execute(used_or_read)).first() is not None:
        raise ValueError(f"journal file {file_id} is still needed")
    await tx.execute(delete(schema.journal_files).where(schema.journal_files.c.file_id == file_id))


async def position(connection: store.Connection, node: str) -> Position | None:
    """Where reading goes on; None before the first row."""
    table = schema.journal_positions
    query = select(table.c.file_id, table.c.file_offset).where(table.c.node == node)
    row = (await connection.execute(query)).first()
    return None if row is None else Position(row.file_id, row.file_offset)


_READ_UP_TO = (
    update(schema.journal_files)
    .where(schema.journal_files.c.file_id == bindparam("of_file"))
    .values(
        size=bindparam("read"),
        last_row_us=func.coalesce(bindparam("row_us"), schema.journal_files.c.last_row_us),
    )
)


async def set_progress(tx: store.Transaction, node: str, at: Position, last_row_us: int | None) -> None:
    """Remembers where reading goes on, and the time of the last row before; None leaves that."""
    await tx.execute(_READ_UP_TO, {"of_file": at.file_id, "read": at.offset, "row_us": last_row_us})
    await set_position(tx, node, at)


async def set_position(tx: store.Transaction, node: str, at: Position) -> None:
    """Remembers where reading goes on."""
    row = {"node": node, "file_id": at.file_id, "file_offset": at.offset}
    await statements.upsert(tx, schema.journal_positions, [row])


async def add_open_rows(tx: store.Transaction, node: str, rows: Sequence[OpenRow]) -> None:
    """Keeps rows of calls that are not over. A row already kept (same file and offset) is left alone."""
    parameters = [
        {"node": node, "file_id": row.file_id, "file_offset": row.offset, "group_key": row.group, "line": row.line}
        for row in rows
    ]
    await statements.insert_new(tx, schema.open_rows, parameters)


_DELETE_OPEN_ROWS = delete(schema.open_rows).where(
    schema.open_rows.c.node == bindparam("of_node"),
    schema.open_rows.c.group_key.in_(bindparam("groups", expanding=True)),
)


async def delete_open_rows(tx: store.Transaction, node: str, groups: Collection[str]) -> None:
    """Drops the rows of these groups: their calls are over and stored."""
    for chunk in statements.chunks(list(groups)):
        await tx.execute(_DELETE_OPEN_ROWS, {"of_node": node, "groups": list(chunk)})


async def open_rows(connection: store.Connection, node: str) -> list[OpenRow]:
    """All kept rows of a node in the order they were read."""
    table = schema.open_rows
    query = select(table.c.file_id, table.c.file_offset, table.c.group_key, table.c.line).where(table.c.node == node)
    rows = await connection.execute(query.order_by(table.c.file_id, table.c.file_offset))
    return [OpenRow(row.file_id, row.file_offset, row.group_key, bytes(row.line)) for row in rows]


async def close_calls(tx: store.Transaction, closings: Sequence[Closing]) -> None:
    """Notes calls as closed from outside; the first closing of a call stays."""
    parameters = [{"call_id": row.call_id, "at_us": row.at_us, "reason": row.reason} for row in closings]
    await statements.insert_new(tx, schema.closings, parameters)


async def closings(connection: store.Connection, call_ids: Collection[str]) -> dict[str, Closing]:
    """The closings of these calls, by call id."""
    table = schema.closings
    found: dict[str, Closing] = {}
    for chunk in statements.chunks(list(call_ids)):
        for row in await connection.execute(select(table).where(table.c.call_id.in_(chunk))):
            found[row.call_id] = Closing(row.call_id, row.at_us, row.reason)
    return found


async def quarantine(tx: store.Transaction, rows: Sequence[DamagedRow]) -> int:
    """Puts damaged rows aside and returns how many were new."""
    new = 0
    table = schema.damaged_rows
    for row in rows:
        statement = statements.insert(tx, table).values(
            file_id=row.file_id,
            file_offset=row.offset,
            raw=row.raw[:MAX_DAMAGED_BYTES],
            reason=row.reason,
            found_us=row.found_us,
        )
        inserted = await tx.execute(statement.on_conflict_do_nothing().returning(table.c.file_offset))
        new += len(inserted.all())
    return new


async def damaged(connection: store.Connection, node: str, *, limit: int = 100) -> list[DamagedRow]:
    """The latest damaged rows of a node, newest first."""
    table = schema.damaged_rows
    query = select(table).join(schema.journal_files).where(schema.journal_files.c.node == node)
    query = query.order_by(table.c.found_us.desc(), table.c.file_id.desc(), table.c.file_offset.desc()).limit(limit)
    return [
        DamagedRow(row.file_id, row.file_offset, bytes(row.raw), row.reason, row.found_us)
        for row in await connection.execute(query)
    ]


async def count_damaged(connection: store.Connection, node: str, *, since_us: int = 0) -> int:
    """Damaged rows of a node found at or after `since_us`."""
    table = schema.damaged_rows
    query = select(func.count()).select_from(table.join(schema.journal_files))
    query = query.where(schema.journal_files.c.node == node, table.c.found_us >= since_us)
    return (await connection.execute(query)).scalar_one()
