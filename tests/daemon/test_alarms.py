"""R66: each alarm from what a running daemon has, on both engines; told by webhook and by mail to real servers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from gateway import store
from gateway.config import settings
from gateway.core import alarms as core_alarms
from gateway.core import receivers
from gateway.daemon import alarms, keys, node, outgoing, queues
from gateway.pbx import ami
from gateway.senders import mail, webhook
from gateway.services import alerting, journalguard, posting
from gateway.store import calls, outbox, targets
from gateway.web import live, metrics
from tests.outgoing import receiver, test_mail
from tests.rig import ports
from tests.services import clinic
from tests.services.clinic import Clinic
from tests.store import examples

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOOK, GONE = "webhook:it", "webhook:gone"
MOSCOW = ZoneInfo("Europe/Moscow")
# 2026-11-20 is a Friday; 12:00 in Moscow, where the clinic is open until 18:00.
NOON = datetime(2026, 11, 20, 9, tzinfo=UTC)
OFFICE = """
[[hours]]
key = "office"
mon-fri = "09:00-18:00"
"""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[store.Database]:
    opened = await store.Database.open(database_url)
    yield opened
    await opened.close()


class House:
    """A daemon's parts as alarms look at them, a clock, and the alarms that are up."""

    def __init__(self, database: store.Database, folder: Path, **chosen: Any) -> None:
        self.now_us = int(NOON.timestamp()) * SECOND
        self.clinic = Clinic(database, text=clinic.ROUTING + OFFICE, now_us=self.now_us)
        self.settings = settings.Settings.model_validate({"node": {"name": "main"}, "alerts": chosen})
        books = node.Books(database, parse=lambda text, revision: self.clinic.book)
        books.use(self.clinic.book)
        self.free = 50
        self.database = database
        self.node = node.Node(
            self.settings,
            database,
            books,
            live.LiveBoard(),
            metrics.Meters("main", "0.1.0"),
            cast(Any, None),  # nobody looks at the planner here
            keys.Keys(),
            queues.Queues(database, lambda: [], lambda: self.now_us),
        )
        self.node.ami = ami.AmiSession("127.0.0.1", 1, "dialmark", str)
        self.node.ami.connected.set()
        self.node.guard = journalguard.JournalGuard(folder, ballast_bytes=0, measure=lambda _: _Disk(100, self.free))
        self.told = receivers.Subscriptions({HOOK: ("system.alert",), mail.TARGET: mail.WANTS})
        shared = posting.Shared(
            database,
            now_us=lambda: self.now_us,
            random=lambda: 0.0,
            node="main",
            targets=self.told,
            events_added=lambda: None,
            pace=posting.Pace(poll_seconds=0.01),
        )
        self.post = self.node.post = posting.Post(shared)
        self.post.use({HOOK: posting.Line(HOOK, lambda: cast(Any, None))})
        self.alerting = alerting.Alerting(
            database,
            lambda: alarms.look(self.node, self.now_us),
            alarms.rules(self.node),
            quiet_hours=core_alarms.quiet_hours(self.settings.alerts.quiet_hours),
            zone=lambda: alarms.zone(self.node),
            node="main",
            now_us=lambda: self.now_us,
            targets=self.told,
            events_added=self.post.wake,
        )

    async def see(self, minutes: float = 0) -> set[str]:
        """Kinds that are up after a look so much later."""
        self.now_us += round(minutes * MINUTE)
        assert self.node.guard is not None
        self.node.guard.look()
        await self.alerting.step()
        return {kind for kind, _ in self.alerting.raised}

    async def reading(self, kind: str) -> core_alarms.Reading | None:
        """What is found of it now."""
        found = await alarms.look(self.node, self.now_us)
        return next((one for one in found if one.kind == kind), None)

    async def call(self, count: int, *, minutes_ago: float = 1, **facts: Any) -> None:
        """Calls that ended; answered unless told otherwise."""
        started = self.now_us - round(minutes_ago * MINUTE)
        first = (await self._known()) + 1
        made = [examples.call(first + number, started_us=started, **facts) for number in range(count)]
        async with self.database.begin() as tx:
            await calls.save(tx, made)

    async def _known(self) -> int:
        async with self.database.read() as connection:
            return sum((await calls.count_by_day(connection, calls.CallFilter())).values())

    async def set_state(self, target: str, **facts: Any) -> None:
        async with self.database.begin() as tx:
            await targets.save(tx, targets.State(target, **facts))


@dataclasses.dataclass(frozen=True)
class _Disk:
    total: int
    free: int


MISSED: dict[str, Any] = {"outcome": "no_answer", "missed": True}


async def test_when_all_is_well_nothing_is_up(database: store.Database, tmp_path: Path) -> None:
    house = House(database, tmp_path, no_calls_minutes=60)
    await house.call(30)
    assert await house.see() == set()
    assert await house.see(10) == set()


async def test_the_manager_interface_is_gone(database: store.Database, tmp_path: Path) -> None:
    """For a minute, so that a restart of Asterisk is none; and well again for half a minute."""
    house = House(database, tmp_path)
    session = house.node.ami
    assert session is not None
    session.connected.clear()
    assert await house.see() == set()
    assert await house.see(59 / 60) == set()
    assert await house.see(1 / 60) == {"ami-down"}
    session.connected.set()
    assert await house.see(0.1) == {"ami-down"}
    assert await house.see(0.5) == set()
    session.connected.clear()
    assert await house.see() == set()


async def test_a_process_without_a_manager_session_does_not_miss_it(database: store.Database, tmp_path: Path) -> None:
    house = House(database, tmp_path)
    house.node.ami = None
    assert await house.reading(alarms.AMI) is None


async def test_the_disk_is_nearly_full(database: store.Database, tmp_path: Path) -> None:
    """Below 10 %; over only above 12 %, or it would come and go with each file."""
    house = House(database, tmp_path)
    house.free = 9
    assert await house.see() == {"disk-nearly-full"}
    house.free = 11
    assert await house.see(5) == {"disk-nearly-full"}
    house.free = 13
    assert await house.see(5) == {"disk-nearly-full"}
    assert await house.see(1) == set()
    house.free = 11
    assert await house.see(5) == set()


async def test_the_disk_alarm_can_be_switched_off(database: store.Database, tmp_path: Path) -> None:
    house = House(database, tmp_path, disk_free_percent=0)
    house.free = 0
    assert await house.see() == set()


async def test_a_receiver_fails(database: store.Database, tmp_path: Path) -> None:
    """For ten minutes; a receiver that was switched off by a 410 counts too."""
    house = House(database, tmp_path)
    await house.set_state(HOOK, failing_us=house.now_us, last_error="answered 500")
    assert await house.see() == set()
    assert await house.see(9.9) == set()
    assert await house.see(0.1) == {"target-failing"}
    reading = await house.reading(alarms.TARGET)
    assert reading is not None
    assert reading.message == f"{HOOK}: answered 500"
    await house.set_state(HOOK)
    assert await house.see(1) == {"target-failing"}
    assert await house.see(1) == set()
    await house.set_state(HOOK, off_us=house.now_us, off_reason="answered 410")
    await house.see()
    assert await house.see(10) == {"target-failing"}


async def test_a_receiver_that_left_the_routing_file_fails_no_more(database: store.Database, tmp_path: Path) -> None:
    """Its last state stays in the database: the alarm would be up for ever."""
    house = House(database, tmp_path)
    house.post.use({HOOK: house.post.lines[HOOK], GONE: posting.Line(GONE, lambda: cast(Any, None))})
    await house.set_state(GONE, failing_us=house.now_us, last_error="answered 500")
    await house.see()
    assert await house.see(10) == {"target-failing"}
    house.post.use({HOOK: house.post.lines[HOOK]})
    await house.see(1)
    assert await house.see(1) == set()


async def test_a_pool_is_exhausted(database: store.Database, tmp_path: Path) -> None:
    """As long as its event, which comes at most once an hour, is not two hours old; not of a pool that is gone."""
    house = House(database, tmp_path)
    for _ in range(2):
        await house.clinic.open()
    assert await house.see() == set()
    await house.clinic.open()
    assert await house.see() == {"pool-exhausted"}
    assert await house.see(119) == {"pool-exhausted"}
    assert await house.see(1) == set()
    house.now_us -= 60 * MINUTE
    assert await house.see() == {"pool-exhausted"}
    without = clinic.routing_book(clinic.ROUTING[: clinic.ROUTING.index("[[pool]]")])
    house.node.books.use(without)
    assert await house.see() == set()


async def test_the_blocked_ratio_is_over_its_target(database: store.Database, tmp_path: Path) -> None:
    """R65: at 20 calls and more within four hours; over 5 % it is raised, under 4 % for ten minutes it is over. Banned
    and outbound calls are not in the population."""
    house = House(database, tmp_path)
    await house.call(1, **MISSED)
    await house.call(18)
    await house.call(30, outcome="banned")
    await house.call(30, direction="outbound", **MISSED)
    await house.call(30, minutes_ago=241, **MISSED)
    assert await house.see() == set()
    await house.call(1, **MISSED)
    assert await house.see() == {"blocked-ratio"}
    reading = await house.reading(alarms.BLOCKED)
    assert reading is not None
    assert reading.message == "10.0 % of 20 calls in 240 minutes were not answered"
    assert reading.value == 10.0
    await house.call(25)
    assert (await house.see(1), (await house.reading(alarms.BLOCKED) or reading).holds) == ({"blocked-ratio"}, None)
    await house.call(10)
    assert await house.see(1) == {"blocked-ratio"}
    assert await house.see(9) == {"blocked-ratio"}
    assert await house.see(1) == set()


async def test_few_calls_are_no_verdict(database: store.Database, tmp_path: Path) -> None:
    house = House(database, tmp_path, blocked_calls=5)
    await house.call(4, **MISSED)
    assert await house.see() == set()
    await house.call(1, **MISSED)
    assert await house.see() == {"blocked-ratio"}
    house = House(database, tmp_path, blocked_percent=100)
    assert await house.reading(alarms.BLOCKED) is None


async def test_no_calls_in_business_hours(database: store.Database, tmp_path: Path) -> None:
    """Only after a whole span of open hours: not in the morning, not after hours, not on a Saturday."""
    house = House(database, tmp_path, no_calls_minutes=60)

    async def at(local: datetime) -> set[str]:
        house.now_us = int(local.timestamp()) * SECOND
        return await house.see()

    assert await at(datetime(2026, 11, 20, 9, 30, tzinfo=MOSCOW)) == set()
    assert await at(datetime(2026, 11, 20, 10, 0, tzinfo=MOSCOW)) == {"no-calls"}
    await house.call(1, **MISSED)
    assert await house.see() == set()
    assert await house.see(58) == set()
    assert await house.see(2) == {"no-calls"}
    assert await at(datetime(2026, 11, 20, 18, 1, tzinfo=MOSCOW)) == set()
    assert await at(datetime(2026, 11, 21, 12, 0, tzinfo=MOSCOW)) == set()
    house = House(database, tmp_path)
    assert await house.reading(alarms.NO_CALLS) is None


async def test_in_quiet_hours_a_warning_waits_by_the_sites_clock(database: store.Database, tmp_path: Path) -> None:
    """22:00 to 07:00 in Moscow; what is critical does not wait."""
    house = House(database, tmp_path, quiet_hours="22:00-07:00")
    house.now_us = int(datetime(2026, 11, 20, 23, tzinfo=MOSCOW).timestamp()) * SECOND
    house.free = 1
    await house.call(20, **MISSED)
    assert await house.see() == {"disk-nearly-full", "blocked-ratio"}
    assert await told(house) == ["disk-nearly-full raised"]
    await house.call(20, minutes_ago=-7 * 60, **MISSED)
    assert "blocked-ratio raised" not in await told(house)
    await house.see(8 * 60)
    assert await told(house) == ["disk-nearly-full raised", "blocked-ratio raised"]


async def told(house: House) -> list[str]:
    """Of all that was told so far, kind and state."""
    async with house.database.read() as connection:
        events = [one for _, one in await outbox.after(connection, 0, limit=1_000)]
    bodies = [json.loads(one.payload)["data"] for one in events if one.type == "system.alert"]
    return [f"{one['kind']} {one['state']}" for one in bodies if "state" in one]


@contextlib.asynccontextmanager
async def delivering(house: House) -> AsyncIterator[None]:
    task = asyncio.create_task(house.post.run())
    try:
        yield
    finally:
        await house.post.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_raised_and_over_by_webhook_and_by_mail(database: store.Database, tmp_path: Path) -> None:
    """From the condition to a real web server and a real mail server, each once; the mail server is away at first."""
    house = House(database, tmp_path)
    box = test_mail.Box()
    async with receiver.running() as there, contextlib.AsyncExitStack() as stack:
        there.now_us, there.max_age_seconds = (lambda: house.now_us), 86_400
        described = receivers.Webhook("it", there.url, "env:X", ("system.alert",), (ip_network("127.0.0.0/8"),))
        port = ports.free_port()
        chosen = settings.Settings.model_validate(
            {
                "alerts": {"mail_to": ["it@clinic.example"]},
                "mail": {"host": "127.0.0.1", "port": port, "security": "none", "sender": "dialmark@clinic.example"},
            }
        )
        lines = {HOOK: posting.Line(described, lambda: webhook.Webhook(described, lambda _: receiver.SECRET))}
        house.post.use({**lines, mail.TARGET: outgoing.mail_line(chosen)})
        async with delivering(house):
            house.free = 1
            assert await house.see() == {"disk-nearly-full"}
            await there.until(lambda: len(there.taken) == 1)
            async with asyncio.timeout(60):
                while True:
                    async with database.read() as connection:
                        state = await targets.state(connection, mail.TARGET)
                    if state.failing_us is not None:
                        break
                    await asyncio.sleep(0.01)
            await stack.enter_async_context(test_mail.running(box, port=port))
            house.free = 90
            await house.see(1)
            assert await house.see(1) == set()
            await there.until(lambda: len(there.taken) == 2)
            async with asyncio.timeout(60):
                while True:
                    if len(box.got) == 2:
                        break
                    await asyncio.sleep(0.01)
    assert [one.body["data"]["state"] for one in there.got] == ["raised", "cleared"]
    assert there.wrong == []
    subjects = sorted(str(box.message(which)["Subject"]) for which in range(2))
    assert subjects == [
        "[Dialmark] main: 1.0 % of the journal's disk are free",
        "[Dialmark] over: main: 90.0 % of the journal's disk are free",
    ]
    assert {tuple(one.rcpt_tos) for one in box.got} == {("it@clinic.example",)}
