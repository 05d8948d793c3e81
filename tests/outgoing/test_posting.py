"""The post: nothing lost, none doubled by id, in order per call, whatever the receiver does."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from gateway import store
from gateway.core import delivery, receivers
from gateway.services import posting
from gateway.store import calls, outbox, targets
from tests.outgoing import posting_process, receiver, traffic
from tests.store import examples

CRM = "webhook:crm"
SECOND = 1_000_000
MINUTE = 60 * SECOND
START = time.time_ns() // 1_000 // SECOND * SECOND


def event(call: int, kind: str = "call.completed", revision: int = 1, at_us: int = START) -> outbox.Event:
    call_id = examples.call_id(call)
    event_id = str(uuid5(NAMESPACE_OID, f"{call}/{kind}/{revision}"))
    body = {"id": event_id, "type": kind, "timestamp": "2026-11-22T05:00:00.000Z", "data": {"call_id": call_id}}
    return outbox.Event(event_id, kind, at_us, json.dumps(body), call_id, revision)


class House:
    """A database, a post in this process and a clock that tests set."""

    def __init__(self, database: store.Database, url: str, per_second: float = 0) -> None:
        self.database = database
        # The published verifier looks at the real clock, and this module may have been read long ago.
        self.now_us = time.time_ns() // 1_000
        self.subscribed = receivers.Subscriptions({CRM: receivers.ALL, "jsonl": ("system.alert",)})
        shared = posting.Shared(
            database,
            now_us=lambda: self.now_us,
            random=lambda: 0.0,
            node="main",
            targets=self.subscribed,
            events_added=lambda: None,
            pace=posting.Pace(poll_seconds=0.01, gather_seconds=0.001),
        )
        self.post = posting.Post(shared)
        self.line = posting_process.line(url)
        if per_second:
            self.line = posting.Line(self.line.described, self.line.make, per_second)
        self.post.use({CRM: self.line})

    def clock(self) -> int:
        return self.now_us

    async def add(self, *events: outbox.Event) -> None:
        async with self.database.begin() as tx:
            await outbox.add(tx, events, self.subscribed)
        self.post.wake()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.post.run())
        try:
            yield
        finally:
            await self.post.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[targets.State, list[targets.Logged]], bool]) -> list[targets.Logged]:
        async with asyncio.timeout(60):
            while True:
                async with self.database.read() as connection:
                    state, logged = await targets.state(connection, CRM), await targets.last(connection, CRM)
                if condition(state, logged):
                    return logged
                await asyncio.sleep(0.01)

    async def until_attempts(self, number: int) -> list[targets.Logged]:
        return await self.until(lambda _, logged: len(logged) >= number)


async def test_what_is_sent_and_answered_is_kept(database: store.Database) -> None:
    async with receiver.running() as there:
        house = House(database, there.url)
        async with house.running():
            await house.add(event(1))
            (logged,) = await house.until_attempts(1)
        assert there.wrong == []
    assert (logged.state, logged.status, logged.attempt, logged.call_id) == ("done", 204, 1, examples.call_id(1))
    assert "webhook-id: " + event(1).event_id in logged.request
    assert logged.response.startswith("204\n")
    assert logged.took_us > 0
    assert receiver.SECRET not in logged.request


async def test_the_schedule_with_the_same_id_each_time_until_it_is_given_up(database: store.Database) -> None:
    """Ten attempts; each at its time and not before; then a dead letter."""
    async with receiver.running(default=receiver.status(500)) as there:
        house = House(database, there.url)
        there.now_us = house.clock
        async with house.running():
            await house.add(event(1))
            for number, delay in enumerate(delivery.DELAYS_SECONDS, start=1):
                await house.until_attempts(number)
                assert len(there.got) == number
                house.now_us += delay * SECOND - 1
                await house.post.couriers[CRM].step()
                assert len(there.got) == number
                house.now_us += 1
            logged = await house.until_attempts(10)
            assert [one.attempt for one in logged] == list(range(10, 0, -1))
            house.now_us += 10**15
            await house.post.couriers[CRM].step()
        assert there.wrong == []
        assert {one.id for one in there.got} == {event(1).event_id}
        assert len(there.got) == 10
    async with database.read() as connection:
        assert (await outbox.counts(connection))[CRM] == (0, 1)
    assert house.post.couriers[CRM].counts == {"failed": 10, "given_up": 1}


async def test_events_of_a_call_wait_for_each_other_and_other_calls_do_not(database: store.Database) -> None:
    async with receiver.running(orders=[receiver.status(500)]) as there:
        house = House(database, there.url)
        there.now_us = house.clock
        async with house.running():
            await house.add(event(1, "call.started"), event(1, "call.completed"))
            await house.until_attempts(1)
            await house.add(event(2))
            await house.until_attempts(2)
            assert there.taken == [event(2).event_id]
            house.now_us += 6 * SECOND
            await house.until_attempts(4)
    assert there.taken == [event(2).event_id, event(1, "call.started").event_id, event(1).event_id]


async def test_410_switches_the_target_off_with_an_alarm_and_loses_nothing(database: store.Database) -> None:
    async with receiver.running(orders=[receiver.status(410)]) as there:
        house = House(database, there.url)
        there.now_us = house.clock
        async with house.running():
            await house.add(event(1))
            await house.until(lambda state, _: state.off_us is not None)
            await house.add(event(2))
            house.now_us += 3600 * SECOND
            await house.post.couriers[CRM].step()
            assert len(there.got) == 1
            assert house.post.couriers[CRM].problem == "switched off: answered 410"
            async with database.read() as connection:
                (alert,) = [one for _, one in await outbox.after(connection, 0) if one.type == "system.alert"]
            assert json.loads(alert.payload)["data"]["kind"] == "target-switched-off"
            async with database.begin() as tx:
                # Nobody hears of it from the one who went: but the others do, and it waits there too.
                assert len(await outbox.claim(tx, "jsonl", limit=9, now_us=house.now_us, lease_us=1)) == 1
                assert await targets.switch_on(tx, CRM)
            await house.until_attempts(4)
        assert sorted(there.taken) == sorted([event(1).event_id, event(2).event_id, alert.event_id])
        assert there.wrong == []


async def test_a_receiver_that_asks_for_patience_gets_it(database: store.Database) -> None:
    """Retry-After of 503 holds for the whole target."""
    async with receiver.running(orders=[receiver.status(503, Retry_After="600")]) as there:
        house = House(database, there.url)
        there.now_us = house.clock
        async with house.running():
            await house.add(event(1))
            await house.until_attempts(1)
            await house.add(event(2))
            house.now_us += 599 * SECOND
            await house.post.couriers[CRM].step()
            assert (len(there.got), house.post.couriers[CRM].in_flight) == (1, 0)
            house.now_us += SECOND
            await house.until_attempts(3)
        assert sorted(there.taken) == sorted([event(1).event_id, event(2).event_id])


async def test_a_slow_answer_keeps_its_lease(database: store.Database) -> None:
    """The heartbeat: nobody else takes what is still on its way, and it is settled when it comes back."""
    may_answer = asyncio.Event()
    async with receiver.running(orders=[receiver.held(may_answer)]) as there:
        house = House(database, there.url)
        there.now_us = house.clock
        async with house.running():
            await house.add(event(1))
            await there.until(lambda: len(there.got) == 1)
            courier = house.post.couriers[CRM]
            house.now_us += 20 * SECOND
            await courier.step()
            house.now_us += 20 * SECOND
            async with database.begin() as tx:
                assert await outbox.claim(tx, CRM, limit=9, now_us=house.now_us, lease_us=1) == []
            may_answer.set()
            await house.until_attempts(1)
        assert len(there.got) == 1


async def test_no_more_than_the_rate(database: store.Database) -> None:
    async with receiver.running() as there:
        house = House(database, there.url, per_second=20)
        started = time.monotonic()
        async with house.running():
            await house.add(*(event(number) for number in range(30)))
            await house.until_attempts(30)
        # A bucket of 20 at once, then 20 a second.
        assert time.monotonic() - started >= 0.45
        assert len(there.taken) == 30


async def test_a_line_that_changes_or_goes(database: store.Database) -> None:
    async with receiver.running() as one, receiver.running() as other:
        house = House(database, one.url)
        async with house.running():
            await house.add(event(1))
            await one.until(lambda: len(one.taken) == 1)
            house.post.use({CRM: posting_process.line(other.url)})
            await house.add(event(2))
            await other.until(lambda: len(other.taken) == 1)
            house.post.use({})
            await house.until(lambda *_: not house.post.couriers)
        assert (one.taken, other.taken) == ([event(1).event_id], [event(2).event_id])


# -- killed ----------------------------------------------------------------------------------------------------------


class Daemon:
    """Tracker and post in a process of their own."""

    def __init__(self, folder: Path, database_url: str, url: str) -> None:
        self.clock = folder / "clock"
        self.journal = folder / "cel"
        self.journal.mkdir()
        self._arguments = (database_url, str(self.clock), url, str(self.journal))
        self._process: asyncio.subprocess.Process | None = None

    def now_us(self) -> int:
        return posting_process.read_clock(self.clock)

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.outgoing.posting_process", *self._arguments, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert (await self._process.stdout.readline()).strip() == b"ready"

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            await self._process.communicate()
            self._process = None


CALLS = 500
KINDS = ("call.started", "call.completed")


async def filed(database: store.Database) -> list[tuple[str, str, str]]:
    """Id, call and type of every event that is told, in the order in which it was written."""
    async with database.read() as connection:
        return [
            (one.event_id, one.call_id or "", one.type)
            for _, one in await outbox.after(connection, 0, limit=10 * CALLS)
            if one.type in KINDS
        ]


async def test_down_for_an_hour_while_500_calls_end_and_killed_three_times(
    database: store.Database, database_url: str, tmp_path: Path
) -> None:
    """500 calls end within an hour: their rows stand in the journal, and the daemon files and tells them. The receiver
    answers 500, cuts connections and is away; the daemon is killed three times: twice while it files, once in the
    middle of the deliveries. 500 records and 500 delivered, none doubled by id, none lost, each call's events in
    order."""
    clock = itertools.count(START, 7 * SECOND)
    async with contextlib.AsyncExitStack() as stack:
        there = await stack.enter_async_context(receiver.running())
        daemon = Daemon(tmp_path, database_url, there.url)
        there.now_us, there.max_age_seconds = daemon.now_us, 86_400
        there.default = receiver.status(500)
        stack.push_async_callback(daemon.kill)
        posting_process.set_clock(daemon.clock, START)
        await daemon.start()
        with (daemon.journal / "dialmark.csv").open("ab", buffering=0) as journal:
            for number in range(CALLS):
                now_us = next(clock)
                posting_process.set_clock(daemon.clock, now_us)
                begin, end = traffic.begin_and_end(number)
                journal.write(traffic.at(begin + end, now_us / SECOND))
                if number == 100:
                    await there.until(lambda: len(there.got) > 0)
                    await daemon.kill()
                    there.default = receiver.reset
                    await daemon.start()
                if number == 250:
                    await there.until(lambda: any(one.answered == 599 for one in there.got))
                    await there.stop()
                    await daemon.kill()
                    await daemon.start()
        now_us = next(clock)
        assert now_us - START >= 3_500 * SECOND
        assert there.taken == []
        there.default = None
        await there.start()

        async def pass_time(until: Callable[[], Awaitable[bool]]) -> None:
            nonlocal now_us
            async with asyncio.timeout(300):
                while not await until():
                    now_us += 2 * MINUTE
                    posting_process.set_clock(daemon.clock, now_us)
                    await asyncio.sleep(0.02)

        async def is_half_way() -> bool:
            return len(there.taken) >= CALLS

        async def is_over() -> bool:
            async with database.read() as connection:
                waiting = await outbox.pending_count(connection, CRM)
            return waiting == 0 and len(await filed(database)) == len(KINDS) * CALLS

        await pass_time(is_half_way)
        await daemon.kill()
        assert not await is_over()
        await daemon.start()
        await pass_time(is_over)
    events = await filed(database)
    expected = {(traffic.call_id(number), kind) for number in range(CALLS) for kind in KINDS}
    assert {(call_id, kind) for _, call_id, kind in events} == expected
    arrived = Counter(there.taken)
    assert set(arrived) == {event_id for event_id, _, _ in events}
    # At least once: what was on its way at the kill may come twice, by the same id and never more than that.
    assert sum(arrived.values()) - len(arrived) <= posting.Pace().at_once
    first = {event_id: place for place, event_id in reversed(list(enumerate(there.taken)))}
    places = {(call_id, kind): first[event_id] for event_id, call_id, kind in events}
    for number in range(CALLS):
        in_order = [places[traffic.call_id(number), kind] for kind in KINDS]
        assert in_order == sorted(in_order)
    async with database.read() as connection:
        page = await calls.list_calls(connection, calls.CallFilter(state="closed"), limit=2 * CALLS)
    assert {one.call_id for one in page.calls} == {traffic.call_id(number) for number in range(CALLS)}
    assert there.wrong == []
