"""Long work on the outbox lets those write in between who file calls: replays, retries, letting go of old events."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from gateway import store
from gateway.services import posting
from gateway.store import outbox
from tests.outgoing import receiver
from tests.outgoing.test_posting import CRM, SECOND, START, House, event
from tests.store import examples

EVENTS = 2 * outbox.PIECE + 10


async def fill(database: store.Database, target: str = CRM) -> None:
    async with database.begin() as tx:
        await outbox.add(tx, [examples.event(number) for number in range(EVENTS)], [target])


async def states(database: store.Database, state: str) -> int:
    async with database.read() as connection:
        query = text("SELECT count(*) FROM deliveries WHERE state = :state AND due_us = :now_us")
        found: int = (await connection.execute(query, {"state": state, "now_us": START})).scalar_one()
    return found


@pytest.fixture
def seen_between(database: store.Database, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pending deliveries another writer sees where long work gives way. Fails if none can begin there."""
    seen: list[int] = []
    give_way = database.give_way

    async def looked_at() -> None:
        async with asyncio.timeout(60), database.begin():
            seen.append(await states(database, "pending"))
        await give_way()

    monkeypatch.setattr(database, "give_way", looked_at)
    return seen


async def test_a_replay_of_many_goes_in_pieces(database: store.Database, seen_between: list[int]) -> None:
    """By time, to a target that never had them; what comes meanwhile is none of them, and each goes once."""
    await fill(database)
    chosen = outbox.Chosen(since_us=examples.NOON)
    assert await posting.replay(database, "webhook:new", chosen, now_us=START) == EVENTS
    assert seen_between == [outbox.PIECE, 2 * outbox.PIECE]
    assert await posting.replay(database, "webhook:new", chosen, now_us=START) == 0
    assert await states(database, "pending") == EVENTS


async def test_dead_letters_are_replayed_and_no_others(database: store.Database) -> None:
    await fill(database)
    async with database.begin() as tx:
        for one in await outbox.claim(tx, CRM, limit=EVENTS, now_us=START, lease_us=SECOND, in_order=True):
            if one.seq % 2:
                await outbox.fail(tx, one, error="no", now_us=START, next_at_us=None)
            else:
                await outbox.settle(tx, [one], now_us=START)
    assert await posting.replay(database, CRM, outbox.Chosen(), now_us=START, only_dead=True) == EVENTS // 2


async def test_what_waits_is_hurried_once(database: store.Database, seen_between: list[int]) -> None:
    """What fails again meanwhile keeps its schedule."""
    await fill(database)
    async with database.begin() as tx:
        for one in await outbox.claim(tx, CRM, limit=EVENTS, now_us=START, lease_us=SECOND, in_order=True):
            await outbox.fail(tx, one, error="away", now_us=START, next_at_us=START + 300 * SECOND)
    assert await posting.hurry(database, CRM, now_us=START) == EVENTS
    assert seen_between == [outbox.PIECE, 2 * outbox.PIECE]


async def test_old_events_go_in_pieces_and_none_is_left(database: store.Database) -> None:
    """Those that nobody takes any more are given up first."""
    await fill(database, "webhook:gone")
    async with receiver.running() as there:
        house = House(database, there.url)
        await house.add(event(1, at_us=house.now_us))
        async with house.running():
            async with asyncio.timeout(60):
                while True:
                    async with database.read() as connection:
                        left = [one.event_id for _, one in await outbox.after(connection, 0, limit=EVENTS)]
                    if len(left) <= 1:
                        break
                    await asyncio.sleep(0.01)
    assert left == [event(1).event_id]
