"""Leases of the post: what is on its way is nobody else's, and what was lost to another process is left alone."""

from __future__ import annotations

import asyncio

from gateway import store
from gateway.store import outbox, targets
from tests.outgoing import receiver
from tests.outgoing.test_posting import CRM, SECOND, House, event

LEASE = 30 * SECOND


async def test_after_a_pause_it_does_not_take_its_own_again(database: store.Database) -> None:
    """A process that was stopped (SIGSTOP, a suspended machine), or a clock that was set forward: the leases of what is
    on its way are over, and nobody has taken it. Prolonged first, it is not claimed a second time."""
    may_answer = asyncio.Event()
    async with receiver.running(orders=[receiver.held(may_answer)]) as there:
        house = House(database, there.url)
        there.now_us, there.max_age_seconds = house.clock, 86_400
        async with house.running():
            await house.add(event(1))
            await there.until(lambda: len(there.got) == 1)
            house.now_us += 10 * LEASE
            await house.post.couriers[CRM].step()
            assert house.post.couriers[CRM].in_flight == 1
            may_answer.set()
            await house.until_attempts(1)
            await house.post.couriers[CRM].step()
        assert len(there.got) == 1
    async with database.read() as connection:
        assert await outbox.pending_count(connection, CRM) == 0


async def test_what_another_process_took_over_is_let_go(database: store.Database) -> None:
    """Its request is given up at once: the other delivers it, and settles it."""
    may_answer = asyncio.Event()
    async with receiver.running(orders=[receiver.held(may_answer)]) as there:
        house = House(database, there.url)
        there.now_us, there.max_age_seconds = house.clock, 86_400
        async with house.running():
            await house.add(event(1))
            await there.until(lambda: len(there.got) == 1)
            # Before its own clock, by which the courier would prolong its lease.
            later_us = house.now_us + LEASE + 1
            async with database.begin() as tx:
                (theirs,) = await outbox.claim(tx, CRM, limit=9, now_us=later_us, lease_us=LEASE)
            house.now_us = later_us
            assert (theirs.is_unsure, theirs.attempts) == (True, 2)
            courier = house.post.couriers[CRM]
            await courier.step()
            async with asyncio.timeout(60):
                while True:
                    if courier.in_flight == 0:
                        break
                    await asyncio.sleep(0.01)
            async with database.begin() as tx:
                assert await outbox.settle(tx, [theirs], now_us=house.now_us) == 1
            may_answer.set()
            await courier.step()
            assert (courier.problem, dict(courier.counts)) == (None, {})
        async with database.read() as connection:
            assert await outbox.standings(connection) == {}
            assert await targets.last(connection) == []


async def test_a_stop_waits_for_what_is_on_its_way(database: store.Database) -> None:
    """It is settled, takes nothing new, and leaves no lease behind."""
    may_answer = asyncio.Event()
    async with receiver.running(orders=[receiver.held(may_answer)]) as there:
        house = House(database, there.url)
        there.now_us = house.clock
        task = asyncio.create_task(house.post.run())
        await house.add(event(1))
        await there.until(lambda: len(there.got) == 1)
        courier = house.post.couriers[CRM]
        stopping = asyncio.create_task(house.post.close())
        await house.add(event(2))
        await courier.step()
        may_answer.set()
        await stopping
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert there.taken == [event(1).event_id]
    async with database.read() as connection:
        assert await outbox.standings(connection) == {CRM: outbox.Standing(1, event(2).created_us, 0)}
        assert await outbox.next_due(connection, CRM) == event(2).created_us


async def test_a_courier_that_dies_leaves_only_a_lease(database: store.Database) -> None:
    """Nothing is handed on before the lease is over, and then as an attempt that may have arrived."""
    never = asyncio.Event()
    async with receiver.running(orders=[receiver.held(never)]) as there:
        house = House(database, there.url)
        there.now_us, there.max_age_seconds = house.clock, 86_400
        task = asyncio.create_task(house.post.run())
        await house.add(event(1))
        await there.until(lambda: len(there.got) == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        never.set()
        after = House(database, there.url)
        after.now_us = house.now_us + LEASE - 1
        async with after.running():
            await after.until(lambda *_: CRM in after.post.couriers)
            courier = after.post.couriers[CRM]
            assert (await courier.step(), courier.in_flight, dict(courier.counts), len(there.got)) == (0, 0, {}, 1)
            after.now_us += 1
            (logged,) = await after.until_attempts(1)
        assert logged.attempt == 2
        assert {one.id for one in there.got} == {event(1).event_id}
