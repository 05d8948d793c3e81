"""Journal files, position, rows of open calls, damaged rows."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import store
from gateway.store import journal


async def enter(database: store.Database, **changes: Any) -> int:
    given: dict[str, Any] = {
        "node": "node-1",
        "device": 2**64 - 1,
        "inode": 2**63 + 5,
        "fingerprint": "f1",
        "name": "/var/log/dm.csv",
        "size": 10,
    }
    async with database.begin() as tx:
        return await journal.enter_file(tx, **{**given, **changes})


async def test_a_file_is_known_by_what_it_is_and_not_by_its_name(database: store.Database) -> None:
    """Rotation renames the file and a new one takes the name."""
    first = await enter(database)
    assert await enter(database, name="/var/log/dm.csv.1", size=20, state=journal.FileState.ROTATED) == first
    second = await enter(database, inode=7)
    reused = await enter(database, inode=7, fingerprint="f2")
    assert first < second < reused
    async with database.read() as connection:
        files = await journal.files(connection, "node-1")
        assert await journal.files(connection, "node-2") == []
    assert [file.file_id for file in files] == [first, second, reused]
    assert files[0] == journal.JournalFile(
        first,
        "node-1",
        2**64 - 1,
        2**63 + 5,
        "f1",
        "/var/log/dm.csv.1",
        20,
        journal.FileState.ROTATED,
        None,
        None,
    )


async def test_updating_a_file_changes_what_is_given(database: store.Database) -> None:
    file_id = await enter(database)
    async with database.begin() as tx:
        await journal.update_file(tx, file_id)
        await journal.update_file(tx, file_id, first_row_us=100, last_row_us=200)
        await journal.update_file(tx, file_id, first_row_us=150, last_row_us=150)
        await journal.update_file(tx, file_id, state=journal.FileState.ARCHIVED, last_row_us=300)
        (file,) = await journal.files(tx, "node-1")
    assert (file.first_row_us, file.last_row_us) == (100, 300)
    assert (file.state, file.name, file.size) == (journal.FileState.ARCHIVED, "/var/log/dm.csv", 10)


async def test_the_position_is_the_last_one_set(database: store.Database) -> None:
    file_id = await enter(database)
    async with database.begin() as tx:
        assert await journal.position(tx, "node-1") is None
        for offset in (100, 2**40):
            await journal.set_position(tx, "node-1", journal.Position(file_id, offset))
        assert await journal.position(tx, "node-1") == journal.Position(file_id, 2**40)
        assert await journal.position(tx, "node-2") is None


async def test_rows_of_open_calls_come_back_in_order_and_as_bytes(database: store.Database) -> None:
    first, second = await enter(database), await enter(database, inode=7)
    rows = [
        journal.OpenRow(second, 0, "call-a", b"3"),
        journal.OpenRow(first, 200, "call-b", b"\xff\xfe \xd0 cut \x00"),
        journal.OpenRow(first, 100, "call-a", b"1"),
    ]
    async with database.begin() as tx:
        await journal.add_open_rows(tx, "node-1", rows)
        await journal.add_open_rows(tx, "node-1", rows)
        await journal.add_open_rows(tx, "node-1", [])
    async with database.read() as connection:
        assert await journal.open_rows(connection, "node-1") == [rows[2], rows[1], rows[0]]
        assert await journal.open_rows(connection, "node-2") == []
    async with database.begin() as tx:
        await journal.delete_open_rows(tx, "node-2", ["call-b"])
        await journal.delete_open_rows(tx, "node-1", ["call-a", "call-c"])
        assert await journal.open_rows(tx, "node-1") == [rows[1]]


async def test_the_first_closing_of_a_call_stays(database: store.Database) -> None:
    async with database.begin() as tx:
        await journal.close_calls(tx, [journal.Closing("a", 1, "asterisk restarted")])
        await journal.close_calls(tx, [journal.Closing("a", 2, "again"), journal.Closing("b", 2, "gone")])
        assert await journal.closings(tx, ["a", "b", "c"]) == {
            "a": journal.Closing("a", 1, "asterisk restarted"),
            "b": journal.Closing("b", 2, "gone"),
        }


async def test_damaged_rows_are_put_aside_once(database: store.Database) -> None:
    file_id = await enter(database)
    rows = [
        journal.DamagedRow(file_id, 0, b"\xff" * 5000, "nine fields", 1),
        journal.DamagedRow(file_id, 5001, b"torn", "no end", 2),
    ]
    async with database.begin() as tx:
        assert await journal.quarantine(tx, rows) == 2
        assert await journal.quarantine(tx, rows) == 0
        newest, oldest = await journal.damaged(tx, "node-1")
        assert await journal.count_damaged(tx, "node-1") == 2
        assert await journal.count_damaged(tx, "node-1", since_us=2) == 1
        assert await journal.count_damaged(tx, "node-2") == 0
    assert newest == rows[1]
    assert oldest.raw == b"\xff" * journal.MAX_DAMAGED_BYTES


async def test_a_file_is_forgotten_only_when_nothing_needs_it(database: store.Database) -> None:
    first, second, third = await enter(database), await enter(database, inode=7), await enter(database, inode=8)
    async with database.begin() as tx:
        await journal.add_open_rows(tx, "node-1", [journal.OpenRow(first, 0, "call-a", b"")])
        await journal.set_position(tx, "node-1", journal.Position(second, 0))
        await journal.quarantine(tx, [journal.DamagedRow(third, 0, b"", "torn", 1)])
        for needed in (first, second):
            with pytest.raises(ValueError, match="still needed"):
                await journal.forget_file(tx, needed)
        await journal.forget_file(tx, third)
        assert [file.file_id for file in await journal.files(tx, "node-1")] == [first, second]
        assert await journal.count_damaged(tx, "node-1") == 0
