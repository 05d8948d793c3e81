"""Events go to the JSON-lines file once each, in order per call, across restarts, kills, a full disk and rotation."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway import store
from gateway.core import receivers, records
from gateway.core.outgoing import adapters
from gateway.senders import jsonlines
from gateway.services import posting
from gateway.store import outbox, targets
from tests.store import examples

TARGET = jsonlines.TARGET
LEASE_SECONDS = 30
START = examples.NOON + 1_000 * examples.SECOND


class _KilledAfterWriting(jsonlines.JsonLines):
    """The process is gone when the lines are on the disk: nobody settles them."""

    wrote: asyncio.Event

    async def deliver_many(self, events: Sequence[tuple[adapters.Handed, adapters.Attempt]]) -> Any:
        await super().deliver_many(events)
        self.wrote.set()
        await asyncio.Event().wait()


class House:
    """A file, the database and a clock that tests set. A courier lives for one `deliver`, as after a restart."""

    def __init__(self, database: store.Database, folder: Path, rotate_bytes: int = 100_000_000) -> None:
        self.database = database
        self.path = folder / "events.jsonl"
        self.rotate_bytes, self.rotate_hours = rotate_bytes, 0
        self.now_us = START
        # Files get the real time when they are written to; the events are of the tests' day.
        self.observed: list[tuple[str, str]] = []

    def courier(self, kind: type[jsonlines.JsonLines] = jsonlines.JsonLines) -> posting.Courier:
        shared = posting.Shared(
            self.database,
            now_us=lambda: self.now_us,
            random=lambda: 0.0,
            node="main",
            targets=receivers.Subscriptions({TARGET: receivers.ALL}),
            events_added=lambda: None,
            observe=lambda target, result, _: self.observed.append((target, result)),
            pace=posting.Pace(lease_seconds=LEASE_SECONDS),
        )
        facts = (self.path, self.rotate_bytes, self.rotate_hours)
        made = posting.Line(
            facts, lambda: kind(self.path, rotate_bytes=self.rotate_bytes, rotate_hours=self.rotate_hours)
        )
        return posting.Courier(shared, TARGET, made)

    async def add(self, *numbers: int, size: int = 0, call_id: str | None = None) -> None:
        made = []
        for number in numbers:
            one = examples.event(number)
            at = records.timestamp(one.created_us)
            payload = json.dumps({"id": one.event_id, "timestamp": at, "x": "x" * size}, separators=(",", ":"))
            made.append(examples.event(number, payload=payload, **({"call_id": call_id} if call_id else {})))
        async with self.database.begin() as tx:
            await outbox.add(tx, made, [TARGET])

    async def deliver(self) -> None:
        """A daemon that hands on what is due and stops."""
        await self.courier().close()

    async def kill_after_writing(self, *expected: int) -> None:
        """SIGKILL between the write and the commit."""
        courier = self.courier(_KilledAfterWriting)
        killed = courier._adapter
        assert isinstance(killed, _KilledAfterWriting)
        killed.wrote = asyncio.Event()
        assert await courier.step() == len(expected)
        await asyncio.wait_for(killed.wrote.wait(), 60)
        assert set(ids(*expected)) <= set(self.written())
        await courier._abandon()

    async def recover(self) -> None:
        """What is due now, and what becomes due when the leases of a dead process are over."""
        await self.deliver()
        self.now_us += (LEASE_SECONDS + 1) * examples.SECOND
        await self.deliver()

    def files(self) -> list[Path]:
        return files(self.path)

    def written(self) -> list[str]:
        """Ids in all files, the oldest first; lines that are no JSON are left out."""
        found = []
        for path in self.files():
            for line in path.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line)["id"])
        return found

    async def waiting(self) -> int:
        async with self.database.read() as connection:
            return await outbox.pending_count(connection)


def files(path: Path) -> list[Path]:
    """The oldest first."""
    passed = sorted(path.parent.glob("events.jsonl.[0-9]*"), key=lambda one: int(one.suffix[1:]))
    return [*passed, *([path] if path.exists() else [])]


def ids(*numbers: int) -> list[str]:
    return [examples.event(number).event_id for number in numbers]


@pytest.fixture
def house(database: store.Database, tmp_path: Path) -> House:
    return House(database, tmp_path)


async def test_each_event_is_one_line_in_order(house: House) -> None:
    """Events of one call too, in one go."""
    await house.add(*range(1, 10))
    await house.add(*range(10, 20), call_id="one-call")
    await house.deliver()
    await house.add(20)
    await house.deliver()
    assert house.written() == ids(*range(1, 21))
    assert house.path.read_bytes().count(b"\n") == 20
    assert await house.waiting() == 0


async def test_a_file_keeps_no_last_deliveries(house: House) -> None:
    """They would be every event once more."""
    await house.add(1, 2)
    await house.deliver()
    async with house.database.read() as connection:
        assert await targets.last(connection) == []
    assert house.observed == [(TARGET, "done")] * 2


async def test_more_than_a_batch_needs_no_wait(house: House) -> None:
    """The clock stands still: only what fills a batch goes on at once."""
    await house.add(*range(jsonlines.BATCH + 7))
    courier = house.courier()
    task = asyncio.create_task(courier.run())
    async with asyncio.timeout(60):
        while True:
            if await house.waiting() == 0:
                break
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert house.written() == ids(*range(jsonlines.BATCH + 7))


async def test_a_kill_after_the_write_repeats_nothing(house: House) -> None:
    await house.add(1, 2, 3)
    await house.kill_after_writing(1, 2, 3)
    await house.add(4)
    await house.recover()
    assert house.written() == ids(1, 2, 3, 4)
    assert await house.waiting() == 0


class _KilledBeforeWriting(jsonlines.JsonLines):
    async def deliver_many(self, events: Sequence[tuple[adapters.Handed, adapters.Attempt]]) -> Any:
        await asyncio.Event().wait()


async def test_what_follows_in_a_call_waits_for_what_a_killed_process_held(house: House) -> None:
    """Other calls do not wait."""
    await house.add(1, call_id="one-call")
    killed = house.courier(_KilledBeforeWriting)
    assert await killed.step() == 1
    await killed._abandon()
    await house.add(2, 3, call_id="one-call")
    await house.add(4)
    await house.deliver()
    assert house.written() == ids(4)
    await house.recover()
    assert house.written() == ids(4, 1, 2, 3)


async def test_a_kill_after_the_write_that_filled_the_file(house: House) -> None:
    """It is rotated before the rest is written; the lines of before are in the rotated one."""
    house.rotate_bytes = 2_000
    await house.add(1, 2, 3, size=1_000)
    await house.kill_after_writing(1, 2, 3)
    await house.add(4)
    await house.recover()
    assert house.written() == ids(1, 2, 3, 4)
    assert len(house.files()) == 2


async def test_a_kill_and_much_that_came_before_its_lease_was_over(house: House) -> None:
    """What a killed process wrote is found however much was written behind it, and in whichever file it is."""
    await house.add(1, 2)
    await house.kill_after_writing(1, 2)
    house.rotate_bytes = 3_000_000
    for first in range(10, 22, 3):
        await house.add(*range(first, first + 3), size=1_000_000)
        await house.deliver()
        house.now_us += examples.SECOND
    await house.recover()
    assert Counter(house.written()) == Counter(ids(1, 2, *range(10, 22)))
    assert len(house.files()) > 3


@pytest.mark.parametrize("cut", [1, 10, 60])
async def test_a_kill_within_a_line(house: House, cut: int) -> None:
    """What stands there of the line is not taken for the event, and does not spoil the next one."""
    await house.add(1, 2)
    await house.kill_after_writing(1, 2)
    house.path.write_bytes(house.path.read_bytes()[:-cut])
    await house.add(3)
    await house.recover()
    assert sorted(house.written()) == sorted(ids(1, 2, 3))


async def test_a_full_disk_is_waited_out(house: House) -> None:
    """/dev/full says ENOSPC to every write. Never a dead letter; the target counts as failing meanwhile."""
    await house.add(1, 2, 3)
    house.path.symlink_to("/dev/full")
    for _ in range(15):
        await house.deliver()
        house.now_us += jsonlines.AGAIN_US
    async with house.database.read() as connection:
        state = await targets.state(connection, TARGET)
        assert await outbox.standings(connection) == {TARGET: outbox.Standing(3, examples.event(1).created_us, 0)}
    assert state.failing_us == START
    assert state.last_error is not None
    assert os.strerror(errno.ENOSPC) in state.last_error
    assert set(house.observed) == {(TARGET, "blocked")}
    house.path.unlink()
    await house.deliver()
    assert house.written() == ids(1, 2, 3)
    async with house.database.read() as connection:
        assert (await targets.state(connection, TARGET)).failing_us is None


async def test_rotation_by_size(house: House) -> None:
    house.rotate_bytes = 5_000
    for number in range(1, 40):
        await house.add(number, size=500)
        await house.deliver()
    assert house.written() == ids(*range(1, 40))
    assert len(house.files()) >= 3
    assert all(file.stat().st_size < 6_000 for file in house.files())


async def test_rotation_by_age(house: House) -> None:
    """By the time of its first event, so that a restart does not begin anew."""
    house.rotate_hours = 24
    await house.add(1)
    await house.deliver()
    house.now_us = examples.event(1).created_us + 24 * jsonlines.HOUR_US - 1
    await house.add(2)
    await house.deliver()
    assert len(house.files()) == 1
    house.now_us += 1
    await house.add(3)
    await house.deliver()
    passed, current = house.files()
    assert [len(path.read_text().splitlines()) for path in (passed, current)] == [2, 1]
    assert house.written() == ids(1, 2, 3)


async def test_a_clock_set_back_overwrites_no_rotated_file(house: House) -> None:
    house.rotate_bytes = 100
    for number in range(1, 6):
        await house.add(number, size=200)
        await house.deliver()
    assert sorted(house.written()) == sorted(ids(1, 2, 3, 4, 5))
    assert len(house.files()) == 5


async def test_what_is_no_file_of_ours_is_left_alone(house: House) -> None:
    """A folder of that name must not stop the lines."""
    house.path.with_name("events.jsonl.d").mkdir()
    await house.add(1)
    await house.kill_after_writing(1)
    await house.recover()
    assert house.written() == ids(1)


async def test_killed_again_and_again_while_files_rotate(
    database: store.Database, database_url: str, tmp_path: Path
) -> None:
    """A real process, real SIGKILLs: each event is one line, none lost, none doubled, those of a call in order."""
    path, added = tmp_path / "events.jsonl", 0

    async def add(count: int) -> None:
        nonlocal added
        now_us = time.time_ns() // 1_000
        made = []
        for number in range(added, added + count):
            one = examples.event(number)
            body = json.dumps(
                {"id": one.event_id, "timestamp": records.timestamp(now_us), "number": number, "x": "x" * 300}
            )
            made.append(examples.event(number, created_us=now_us, call_id=f"call-{number % 7}", payload=body))
        added += count
        async with database.begin() as tx:
            await outbox.add(tx, made, [TARGET])

    async def waiting() -> int:
        async with database.read() as connection:
            return await outbox.pending_count(connection)

    async def run(until_left: int, more: int) -> None:
        """A process that is killed when so few wait; meanwhile `more` come at each look."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.outgoing.jsonlines_process", database_url, str(path), "20000", "0.5",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            assert (await process.stdout.readline()).strip() == b"ready"
            async with asyncio.timeout(60):
                while await waiting() > until_left:
                    await add(more)
                    await asyncio.sleep(0.002)
        finally:
            process.kill()
            await process.communicate()

    await add(1_200)
    for left in (1_100, 700, 300):
        await run(left, more=2)
    await run(0, more=0)
    numbers: list[int] = []
    for file in files(path):
        for line in file.read_text().splitlines():
            with contextlib.suppress(ValueError):
                numbers.append(json.loads(line)["number"])
    assert len(files(path)) >= 3
    assert Counter(numbers) == Counter(range(added))
    for call in range(7):
        of_call = [number for number in numbers if number % 7 == call]
        assert of_call == sorted(of_call)
