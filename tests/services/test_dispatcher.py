"""Events go to the JSON-lines file once each, across restarts, a full disk and rotation."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway import store
from gateway.services import dispatcher
from gateway.store import outbox
from tests.store import examples


class Post:
    """A dispatcher on a file; its clock is `now_us`."""

    def __init__(self, database: store.Database, folder: Path, rotate_bytes: int = 100_000_000) -> None:
        self.database = database
        self.path = folder / "events.jsonl"
        self.rotate_bytes = rotate_bytes
        self.now_us = examples.NOON + 1_000 * examples.SECOND

    def dispatcher(self) -> dispatcher.Dispatcher:
        """A new one, as after a restart."""
        return dispatcher.Dispatcher(
            self.database, path=self.path, rotate_bytes=self.rotate_bytes, now_us=lambda: self.now_us
        )

    async def add(self, *numbers: int, size: int = 0) -> None:
        payloads = {number: json.dumps({"id": examples.event(number).event_id, "x": "x" * size}) for number in numbers}
        async with self.database.begin() as tx:
            made = [examples.event(number, payload=payloads[number]) for number in numbers]
            await outbox.add(tx, made, [dispatcher.TARGET])

    async def deliver_all(self) -> None:
        """What is due now and what becomes due when the leases of a dead process are over."""
        for _ in range(2):
            while await self.dispatcher().deliver():
                pass
            self.now_us += dispatcher.LEASE_US + 1

    def written(self) -> list[str]:
        """Ids in all files, the oldest first; lines that are no JSON are left out."""
        found = []
        for path in [*sorted(self.path.parent.glob("events.jsonl.*")), self.path]:
            for line in path.read_text().splitlines() if path.exists() else []:
                try:
                    found.append(json.loads(line)["id"])
                except ValueError:
                    continue
        return found


def ids(*numbers: int) -> list[str]:
    return [examples.event(number).event_id for number in numbers]


@pytest.fixture
def post(database: store.Database, tmp_path: Path) -> Post:
    return Post(database, tmp_path)


async def test_each_event_is_one_line_in_order(post: Post) -> None:
    await post.add(*range(1, 20))
    await post.deliver_all()
    await post.add(20)
    await post.deliver_all()
    assert post.written() == ids(*range(1, 21))
    assert post.path.read_bytes().count(b"\n") == 20


async def test_a_crash_after_the_write_repeats_nothing(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    await post.add(1, 2, 3)
    await killed_before_settling(post, monkeypatch)
    assert post.written() == ids(1, 2, 3)
    await post.add(4)
    await post.deliver_all()
    assert sorted(post.written()) == sorted(ids(1, 2, 3, 4))


async def killed_before_settling(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    async def killed(*_: object, **__: object) -> int:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "settle", killed)
        with pytest.raises(Killed):
            await post.dispatcher().deliver()


async def test_a_crash_after_the_write_that_filled_the_file(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is due for rotation when the dispatcher comes back; the lines written before the crash are in it."""
    post.rotate_bytes = 2_000
    await post.add(1, 2, 3, size=1_000)
    await killed_before_settling(post, monkeypatch)
    await post.add(4)
    await post.deliver_all()
    assert sorted(post.written()) == sorted(ids(1, 2, 3, 4))


async def test_stopped_in_the_middle_of_a_delivery(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart is no crash: what was claimed is settled, and nothing waits for a lease to run out."""
    await post.add(1, 2, 3)
    is_writing, may_write = threading.Event(), threading.Event()
    append = dispatcher.Dispatcher._append

    def slow(self: dispatcher.Dispatcher, deliveries: Sequence[outbox.Delivery]) -> None:
        is_writing.set()
        may_write.wait(10)
        append(self, deliveries)

    monkeypatch.setattr(dispatcher.Dispatcher, "_append", slow)
    running = asyncio.create_task(post.dispatcher().run())
    assert await asyncio.to_thread(is_writing.wait, 10)
    running.cancel()
    await asyncio.sleep(0)
    may_write.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with post.database.read() as connection:
        assert await outbox.pending_count(connection) == 0
    assert post.written() == ids(1, 2, 3)


@pytest.mark.parametrize("cut", [1, 10, 60])
async def test_a_crash_within_a_line(post: Post, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    """What stands there of the line is not taken for the event, and does not spoil the next one."""
    await post.add(1, 2)
    await killed_before_settling(post, monkeypatch)
    post.path.write_bytes(post.path.read_bytes()[:-cut])
    await post.add(3)
    await post.deliver_all()
    assert sorted(post.written()) == sorted(ids(1, 2, 3))


async def test_a_full_disk(post: Post) -> None:
    """/dev/full says ENOSPC to every write. The events go out when there is space."""
    await post.add(1, 2, 3)
    post.path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        await post.dispatcher().deliver()
    post.path.unlink()
    await post.deliver_all()
    assert post.written() == ids(1, 2, 3)


async def test_rotation(post: Post) -> None:
    post.rotate_bytes = 5_000
    for number in range(1, 40):
        await post.add(number, size=500)
        await post.dispatcher().deliver()
        post.now_us += 1
    assert post.written() == ids(*range(1, 40))
    files = list(post.path.parent.glob("events.jsonl*"))
    assert len(files) >= 3
    assert all(file.stat().st_size < 6_000 for file in files)
