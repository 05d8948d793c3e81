"""Who is erased while an event about them is on its way leaves nothing behind, and the receiver is named (N14)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway import store
from gateway.core import receivers
from gateway.core.outgoing import adapters
from gateway.senders import jsonlines
from gateway.services import erasing, posting
from gateway.store import calls, forgetting, keyring, outbox, targets
from tests.fakes import handing
from tests.store import examples

CRM = "crm:test"
PERSON = "+79161234567"
NAME = "Ivan Petrov"
CONTACT = "contact-4711"
RING = keyring.parse(keyring.new_line("2026-11"))
SECOND = 1_000_000

SAID = f"{NAME} {PERSON} is {CONTACT}"
DONE = adapters.Settled(
    adapters.State.DONE,
    SAID,
    known={"contact_id": CONTACT},
    request=SAID,
    response=SAID,
    card={"caller": {"number": PERSON, "name": NAME, "profile": {"tier": CONTACT}}},
)
ENDS = {
    "done": DONE,
    "failed": replace(DONE, state=adapters.State.FAILED, card=None),
    "dead": replace(DONE, state=adapters.State.DEAD, needs_attention=True),
    "gone": replace(DONE, state=adapters.State.GONE),
}


@dataclass
class Crm:
    """Answers when it may; repeats whatever it was sent."""

    answers: list[adapters.Settled]
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    got: list[adapters.Handed] = field(default_factory=list)
    target: str = CRM
    wants: frozenset[str] = frozenset(receivers.ALL)
    needs_visitor: bool = False
    batching: adapters.Batching | None = None

    async def deliver(self, event: adapters.Handed, attempt: adapters.Attempt) -> adapters.Settled:
        self.got.append(event)
        await self.may_answer.wait()
        return self.answers.pop(0) if self.answers else adapters.Settled(adapters.State.DONE, request=event.payload)

    async def deliver_many(
        self, events: Sequence[tuple[adapters.Handed, adapters.Attempt]]
    ) -> Sequence[adapters.Settled]:
        return [await self.deliver(*one) for one in events]


class House:
    """A post with that CRM, a call of the person and one of somebody else."""

    def __init__(self, database: store.Database, folder: Path, crm: Crm) -> None:
        self.database = database
        self.folder = folder
        self.now_us = examples.NOON + 1_000 * SECOND
        self.subscribed = receivers.Subscriptions({CRM: receivers.ALL})
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
        self.post.use({CRM: posting.Line("crm", lambda: crm)})

    async def tell(self, number: int, caller: str = PERSON, kind: str = "call.completed") -> None:
        """A call's record and its event; of another kind, an event that does not name the person."""
        record = handing.record(caller={"number": caller, "name": NAME}) | {"call_id": examples.call_id(number)}
        if kind != "call.completed":
            record = {"call_id": examples.call_id(number)}
        body = {"id": f"{kind} {number}", "type": kind, "timestamp": "…", "data": record}
        made = outbox.Event(f"{kind} {number}", kind, self.now_us, json.dumps(body), examples.call_id(number))
        async with self.database.begin() as tx:
            await calls.save(tx, [examples.call(number, caller=caller, record=json.dumps(record))])
            await outbox.add(tx, [made], self.subscribed)
        self.post.wake()

    async def erase(self, *exports: Path) -> erasing.Receipt:
        none = self.folder / "none"
        places = erasing.Places(none, none, none, "", none, exports)
        return await erasing.erase(
            self.database, PERSON, ring=RING, places=places, backup_days=30, actor="cli:anna", now_us=self.now_us
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.post.run())
        try:
            yield
        finally:
            await self.post.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.01)

    async def everything(self) -> str:
        found = []
        async with self.database.read() as connection:
            for table in (
                *("events", "deliveries", "delivery_log", "delivery_facts", "target_states", "caller_attributes"),
            ):
                found.append(str((await connection.execute(text(f"SELECT * FROM {table}"))).all()))
        return " ".join(found)


@pytest.mark.parametrize("kind", ["call.completed", "recording.ready"])
@pytest.mark.parametrize("end", ENDS)
async def test_what_comes_back_after_the_erasure_is_not_kept(
    database: store.Database, tmp_path: Path, end: str, kind: str
) -> None:
    """Request, answer, note, facts and card; also of an event that does not name the person itself. An attempt that
    failed goes again, as the event is now."""
    crm = Crm([ENDS[end]])
    house = House(database, tmp_path, crm)
    async with house.running():
        await house.tell(1, kind=kind)
        await house.until(lambda: len(crm.got) == 1)
        receipt = await house.erase()
        crm.may_answer.set()
        courier = house.post.couriers[CRM]
        await house.until(lambda: courier.counts.total() >= 1)
        house.now_us += 10 * SECOND
        house.post.wake()
        if end == "failed":
            await house.until(lambda: len(crm.got) == 2)
            await house.until(lambda: courier.in_flight == 0)
    assert [(one["target"], one["events"]) for one in receipt.receivers_served] == [(CRM, 1)]
    left = await house.everything()
    assert [secret for secret in (PERSON, PERSON[1:], NAME, CONTACT) if secret in left] == []
    assert PERSON not in crm.got[-1].payload or end != "failed"
    async with database.read() as connection:
        standing = await outbox.standings(connection)
    expected = {"dead": outbox.Standing(0, None, 1), "gone": outbox.Standing(1, house.now_us - 10 * SECOND, 0)}
    # Alarms are for the same receiver: they wait with it, or were taken.
    assert standing.get(CRM, outbox.Standing()).dead == expected.get(end, outbox.Standing()).dead
    assert (standing.get(CRM, outbox.Standing()).waiting > 0) == (end == "gone")


async def test_others_on_their_way_meanwhile_are_kept(database: store.Database, tmp_path: Path) -> None:
    """In the same transaction: the one is forgotten, the other is not."""
    crm = Crm([DONE, DONE])
    house = House(database, tmp_path, crm)
    async with house.running():
        await house.tell(1)
        await house.tell(2, caller="+79160000002")
        await house.until(lambda: len(crm.got) == 2)
        await house.erase()
        crm.may_answer.set()
        await house.until(lambda: house.post.couriers[CRM].counts.total() >= 3)
    async with database.read() as connection:
        logged = await targets.last(connection, CRM)
        known = await targets.facts(connection, CRM, [examples.call_id(1), examples.call_id(2)])
        cards = [one.call_id for _, one in await outbox.after(connection, 0) if one.type == "caller.card"]
    assert {one.call_id for one in logged if one.type == "call.completed"} == {examples.call_id(2)}
    assert known == {examples.call_id(2): {"contact_id": CONTACT}}
    assert cards == [examples.call_id(2)]


async def test_who_settles_and_who_erases_wait_for_each_other(database: store.Database, tmp_path: Path) -> None:
    """Between the look at the person and the writing nobody is erased; PostgreSQL has several writers, SQLite one."""
    crm = Crm([DONE])
    house = House(database, tmp_path, crm)
    async with house.running():
        await house.tell(1)
        await house.until(lambda: len(crm.got) == 1)
        async with database.begin() as tx:
            await forgetting.hold_off(tx, erases=True)
            crm.may_answer.set()
            courier = house.post.couriers[CRM]
            await house.until(lambda: courier.in_flight == 0)
            async with asyncio.timeout(60):
                waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                while tx.dialect.name != "sqlite":
                    if (await tx.execute(waiting)).scalar_one():
                        break
                    await asyncio.sleep(0.01)
            assert courier.counts.total() == 0
        await house.until(lambda: courier.counts.total() >= 1)


async def test_a_receiver_that_a_killed_process_may_have_told_is_named(
    database: store.Database, tmp_path: Path
) -> None:
    """Its lease is over, and nobody knows how far it came."""
    house = House(database, tmp_path, Crm([]))
    await house.tell(1)
    async with database.begin() as tx:
        assert len(await outbox.claim(tx, CRM, limit=9, now_us=house.now_us, lease_us=1)) == 1
    house.now_us += 60 * SECOND
    async with database.begin() as tx:
        (again,) = await outbox.claim(tx, CRM, limit=9, now_us=house.now_us, lease_us=1)
        await outbox.fail(tx, again, error="away", now_us=house.now_us, next_at_us=house.now_us + 300 * SECOND)
    receipt = await house.erase()
    assert [(one["target"], one["events"]) for one in receipt.receivers_served] == [(CRM, 1)]


async def test_a_fault_of_ours_at_one_answer_stops_nobody(database: store.Database, tmp_path: Path) -> None:
    """A card that is none, as a fault of ours would make it: the delivery is settled without it, and all go on."""
    crm = Crm([replace(DONE, card={"nobody": 1})])
    crm.may_answer.set()
    house = House(database, tmp_path, crm)
    async with house.running():
        await house.tell(1)
        await house.until(lambda: CRM in house.post.couriers and house.post.couriers[CRM].counts["done"] == 1)
        await house.tell(2)
        await house.until(lambda: house.post.couriers[CRM].counts["done"] == 2)
        await house.until(lambda: house.post.couriers[CRM].problem is None)
    assert [one.call_id for one in crm.got] == [examples.call_id(1), examples.call_id(2)]
    async with database.read() as connection:
        assert await outbox.pending_count(connection, CRM) == 0


class HeldLines(jsonlines.JsonLines):
    """The file, with a disk that waits."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, rotate_bytes=1_000_000)
        self.is_asked = asyncio.Event()
        self.may_write = asyncio.Event()

    async def deliver_many(
        self, events: Sequence[tuple[adapters.Handed, adapters.Attempt]]
    ) -> Sequence[adapters.Settled]:
        self.is_asked.set()
        await self.may_write.wait()
        return await super().deliver_many(events)


async def test_a_line_that_is_being_written_is_waited_for(database: store.Database, tmp_path: Path) -> None:
    """The erasure masks the file when the line stands in it, not before."""
    path = tmp_path / "events.jsonl"
    lines = HeldLines(path)
    house = House(database, tmp_path, Crm([]))
    house.subscribed.use({jsonlines.TARGET: receivers.ALL})
    house.post.use({jsonlines.TARGET: posting.Line("jsonl", lambda: lines)})
    async with house.running():
        await house.tell(1)
        await asyncio.wait_for(lines.is_asked.wait(), 60)
        erasure = asyncio.create_task(house.erase(path))
        async with asyncio.timeout(60):
            while True:
                async with database.read() as connection:
                    if await forgetting.is_forgotten(connection, examples.call_id(1)):
                        break
                await asyncio.sleep(0.01)
        lines.may_write.set()
        receipt = await erasure
    assert (receipt.problems, receipt.export_lines) == ([], 1)
    assert examples.call_id(1) in path.read_text()
    assert [secret for secret in (PERSON[1:], NAME) if secret in path.read_text()] == []
