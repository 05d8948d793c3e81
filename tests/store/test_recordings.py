"""Recordings in the database: keys, states, pages, and what a ring cannot open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway import store
from gateway.store import keyring, recordings, vault
from tests.store import examples

OLD, NEW = keyring.new_line("old"), keyring.new_line("new")
RING = keyring.parse(OLD)


def recording(number: int = 1, **changes: Any) -> recordings.Recording:
    given: dict[str, Any] = {
        "recording_id": examples.call_id(1000 + number),
        "call_id": examples.call_id(number),
        "node": "main",
        "kind": "talk",
        "state": recordings.State.STORED,
        "started_us": examples.NOON + number * examples.SECOND,
        "duration_seconds": 2.5,
        "parts": "1 2",
        "audio_bytes": 10,
        "peaks_bytes": 5,
        "digest": "d",
        "created_us": examples.NOON,
    }
    return recordings.Recording(**{**given, **changes})


async def put(database: store.Database, *numbers: int, ring: keyring.KeyRing = RING, **changes: Any) -> None:
    async with database.begin() as tx:
        for number in numbers:
            one = recording(number, **changes)
            assert await recordings.register(tx, one, ring.wrap(vault.new_key(), recordings.subject(one.recording_id)))


async def test_a_recording_is_registered_once(database: store.Database) -> None:
    await put(database, 1)
    async with database.begin() as tx:
        known = await recordings.key_of(tx, recording().recording_id)
        other = RING.wrap(vault.new_key(), "x")
        assert not await recordings.register(tx, recording(duration_seconds=9.0), other)
        assert await recordings.get(tx, recording().recording_id) == recording()
        assert await recordings.key_of(tx, recording().recording_id) == known
        assert await recordings.get(tx, "nothing") is None


async def test_pages_and_filters(database: store.Database) -> None:
    await put(database, *range(1, 6))
    await put(database, 6, kind="voicemail", state=recordings.State.REFUSED)
    ask = recordings.RecordingFilter
    async with database.read() as connection:
        first = await recordings.list_recordings(connection, ask(), limit=4)
        second = await recordings.list_recordings(connection, ask(), limit=4, after=first[-1])
        assert [one.call_id for one in first + second] == [examples.call_id(number) for number in (6, 5, 4, 3, 2, 1)]
        for asked, count in [
            (ask(call_id=examples.call_id(2)), 1),
            (ask(state=recordings.State.REFUSED), 1),
            (ask(kind="talk"), 5),
            (ask(is_held=True), 0),
            (ask(since_us=examples.NOON + 3 * examples.SECOND, until_us=examples.NOON + 5 * examples.SECOND), 2),
        ]:
            assert len(await recordings.list_recordings(connection, asked)) == count
        assert len(await recordings.of_calls(connection, [examples.call_id(1), examples.call_id(2)])) == 2


async def test_shredding_deletes_the_key_for_good(database: store.Database) -> None:
    await put(database, 1, 2)
    ids = [recording(1).recording_id]
    async with database.begin() as tx:
        assert [one.recording_id for one in await recordings.shred(tx, ids, now_us=1, why="old")] == ids
        assert await recordings.shred(tx, ids, now_us=2) == []
        assert not await recordings.hold(tx, ids[0], why="too late", now_us=3)
        assert not await recordings.restore(tx, ids[0])
    async with database.read() as connection:
        assert await recordings.key_of(connection, ids[0]) is None
        gone = await recordings.get(connection, ids[0])
        assert (await connection.execute(text("SELECT count(*) FROM recording_keys"))).scalar() == 1
    assert gone is not None
    assert (gone.state, gone.shredded_us, gone.why) == (recordings.State.SHREDDED, 1, "old")


async def test_a_ring_that_cannot_open_is_told_at_start(database: store.Database) -> None:
    await put(database, 1, 2)
    async with database.read() as connection:
        assert await recordings.ring_problems(connection, RING) == {}
        (none,) = (await recordings.ring_problems(connection, None)).values()
        (other,) = (await recordings.ring_problems(connection, keyring.parse(NEW))).values()
        (wrong,) = (await recordings.ring_problems(connection, keyring.parse(keyring.new_line("old")))).values()
    assert none == "2 recordings are locked by key 'old', and there is no key ring"
    assert "2 recordings cannot be opened: key 'old' is not in the ring" in other
    assert "does not open" in wrong


async def test_rotation_rewraps_keys_and_secrets(database: store.Database) -> None:
    await put(database, *range(1, 8))
    async with database.begin() as tx:
        secret = await recordings.secret(tx, RING, recordings.TOMBSTONE_SECRET)
        assert await recordings.secret(tx, RING, recordings.TOMBSTONE_SECRET) == secret
    both = keyring.parse(f"{OLD.removesuffix('current')}\n{NEW}")
    while True:
        async with database.begin() as tx:
            if await recordings.rewrap(tx, both, limit=3) == 0:
                break
    new = keyring.parse(NEW)
    async with database.read() as connection:
        assert await recordings.key_usage(connection) == {"new": 8}
        assert await recordings.ring_problems(connection, new) == {}
        assert await recordings.known_secret(connection, new, recordings.TOMBSTONE_SECRET) == secret
    with pytest.raises(keyring.KeyMissing):
        async with database.begin() as tx:
            await recordings.rewrap(tx, RING)


async def test_a_shredded_key_is_not_in_the_database_file(tmp_path: Path) -> None:
    """R39: what is shredded must not be found in a free page. The WAL is emptied when the database closes."""
    database = await store.Database.open(f"sqlite:///{tmp_path}/a.db")
    await put(database, 1)
    async with database.begin() as tx:
        wrapped = await recordings.key_of(tx, recording().recording_id)
    async with database.begin() as tx:
        await recordings.shred(tx, [recording().recording_id], now_us=1)
    await database.close()
    assert wrapped is not None
    assert wrapped.data not in (tmp_path / "a.db").read_bytes()
