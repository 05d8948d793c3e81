"""Events written once, delivered in the order of each call, by one process at a time."""

from __future__ import annotations

from collections import Counter

import pytest

from gateway import store
from gateway.core import receivers
from gateway.store import outbox, schema
from tests.store import examples, other_process
from tests.store.examples import NOON, SECOND, event

NOW = NOON + 1000 * SECOND
LEASE = 30 * SECOND


async def add(database: store.Database, *events: outbox.Event, targets: tuple[str, ...] = ("jsonl",)) -> int:
    async with database.begin() as tx:
        return await outbox.add(tx, events, targets)


async def claim(
    database: store.Database, now_us: int = NOW, *, target: str = "jsonl", limit: int = 100
) -> list[outbox.Delivery]:
    async with database.begin() as tx:
        return await outbox.claim(tx, target, limit=limit, now_us=now_us, lease_us=LEASE)


async def settle(database: store.Database, *deliveries: outbox.Delivery) -> int:
    async with database.begin() as tx:
        return await outbox.settle(tx, deliveries, now_us=NOW)


async def fail(database: store.Database, delivery: outbox.Delivery, next_at_us: int | None) -> bool:
    async with database.begin() as tx:
        return await outbox.fail(tx, delivery, error="answered 500", now_us=NOW, next_at_us=next_at_us)


async def pending(database: store.Database, target: str | None = None) -> int:
    async with database.read() as connection:
        return await outbox.pending_count(connection, target)


def ids(deliveries: list[outbox.Delivery]) -> list[str]:
    return [delivery.event.event_id for delivery in deliveries]


async def test_an_event_is_inserted_once_whatever_is_read_again(database: store.Database) -> None:
    assert await add(database, event(1), event(2), targets=("jsonl", "webhook:crm")) == 2
    assert await add(database, event(2), event(3), targets=("jsonl", "webhook:crm")) == 1
    assert await pending(database, "jsonl") == 3
    assert await pending(database) == 6
    assert await add(database) == 0


async def test_a_new_target_does_not_get_old_events(database: store.Database) -> None:
    """A journal read again must not send last week's calls to a webhook made today."""
    await add(database, event(1))
    await add(database, event(1), event(2), targets=("jsonl", "webhook:crm"))
    assert ids(await claim(database, target="webhook:crm")) == [event(2).event_id]


async def test_without_targets_events_are_kept_for_followers(database: store.Database) -> None:
    assert await add(database, *(event(number) for number in range(5)), targets=()) == 5
    assert await pending(database) == 0
    async with database.read() as connection:
        found = await outbox.after(connection, 0, limit=3)
        rest = await outbox.after(connection, found[-1][0])
    assert [one for _, one in found + rest] == [event(number) for number in range(5)]
    assert [seq for seq, _ in found + rest] == sorted(seq for seq, _ in found + rest)


async def test_a_claim_gives_the_whole_event(database: store.Database) -> None:
    whole = event(1, late=True, revision=3)
    system = event(2, call_id=None, revision=None, type="system.alert")
    await add(database, whole, system)
    first, second = await claim(database)
    assert (first.event, second.event) == (whole, system)
    assert (first.target, first.attempts) == ("jsonl", 1)


async def test_what_is_claimed_is_not_claimed_again_before_the_lease_is_over(database: store.Database) -> None:
    await add(database, event(1), event(2), event(3))
    assert ids(await claim(database, limit=2)) == [event(1).event_id, event(2).event_id]
    assert ids(await claim(database, NOW + LEASE - 1)) == [event(3).event_id]
    (again, _) = await claim(database, NOW + LEASE)
    assert (again.event, again.attempts) == (event(1), 2)


async def test_what_is_done_is_never_claimed_again(database: store.Database) -> None:
    await add(database, event(1))
    assert await settle(database, *await claim(database)) == 1
    assert await claim(database, NOW + 100 * LEASE) == []
    assert await pending(database) == 0


async def test_a_lost_claim_settles_nothing(database: store.Database) -> None:
    """A process that was stopped past its lease (SIGSTOP) comes back after another one took over."""
    await add(database, event(1))
    (late,) = await claim(database)
    (mine,) = await claim(database, NOW + LEASE)
    assert await settle(database, late) == 0
    assert not await fail(database, late, None)
    async with database.begin() as tx:
        assert not await outbox.extend(tx, late, until_us=NOW + 9 * LEASE)
        assert await outbox.extend(tx, mine, until_us=NOW + 9 * LEASE)
    assert await claim(database, NOW + 2 * LEASE) == []
    assert await settle(database, mine) == 1


async def test_settling_tells_each_event_as_it_is_stored_now(database: store.Database) -> None:
    """N14: its own text, and none of the one whose person was erased; `payloads` says the same."""
    await add(database, *(event(number) for number in (1, 2, 3)))
    claimed = await claim(database)
    erased = claimed[1].event.call_id
    async with database.begin() as tx:
        row = {"call_id": erased, "pseudonym": "p", "why": "erased", "at_us": NOW}
        await tx.execute(schema.forgotten_calls.insert(), [row])
        wanted = {one.seq: one.event.payload for one in claimed if one.event.call_id != erased}
        assert await outbox.payloads(tx, [one.seq for one in claimed]) == wanted
        assert await outbox.settle_as_stored(tx, claimed, now_us=NOW) == wanted
    assert len(set(wanted.values())) == 2


async def test_the_events_of_a_call_come_in_order(database: store.Database) -> None:
    mine = [event(number, call_id="a", type=name) for number, name in enumerate(("started", "answered", "completed"))]
    await add(database, mine[0], event(7, call_id="b"), mine[1], mine[2])
    order: list[str] = []
    while claimed := await claim(database):
        order += ids(claimed)
        await settle(database, *claimed)
    assert order == [mine[0].event_id, event(7).event_id, mine[1].event_id, mine[2].event_id]


async def test_events_of_no_call_do_not_wait_for_each_other(database: store.Database) -> None:
    await add(database, event(1, call_id=None), event(2, call_id=None))
    assert len(await claim(database)) == 2


async def test_a_failed_event_holds_back_its_call_at_its_target_only(database: store.Database) -> None:
    await add(database, event(1, call_id="a"), event(2, call_id="a"), event(3), targets=("jsonl", "webhook:crm"))
    first, other = await claim(database)
    await settle(database, other)
    assert await fail(database, first, NOW + 60 * SECOND)
    assert await claim(database, NOW + 59 * SECOND) == []
    assert ids(await claim(database, target="webhook:crm")) == [event(1).event_id, event(3).event_id]
    (again,) = await claim(database, NOW + 60 * SECOND)
    assert (again.event.event_id, again.attempts) == (event(1).event_id, 2)
    await settle(database, again)
    assert ids(await claim(database, NOW + 60 * SECOND)) == [event(2).event_id]


async def test_a_dead_event_lets_the_next_pass(database: store.Database) -> None:
    await add(database, event(1, call_id="a"), event(2, call_id="a"))
    (first,) = await claim(database)
    assert await fail(database, first, None)
    assert ids(await claim(database)) == [event(2).event_id]
    assert await pending(database) == 1


async def test_pruning_keeps_what_is_pending_or_young(database: store.Database) -> None:
    await add(database, *(event(number) for number in range(1, 6)), targets=("jsonl", "webhook:crm"))
    jsonl, crm = await claim(database), await claim(database, target="webhook:crm")
    await settle(database, *jsonl, *crm[:2], *crm[3:])
    async with database.begin() as tx:
        assert await outbox.prune(tx, before_us=event(5).created_us, limit=2) == 2
        assert await outbox.prune(tx, before_us=event(5).created_us) == 1
        assert [one for _, one in await outbox.after(tx, 0)] == [event(3), event(5)]


@pytest.mark.parametrize("calls", [3, 60])
async def test_two_processes_deliver_each_event_once(database: store.Database, database_url: str, calls: int) -> None:
    await add(database, *(event(number, call_id=examples.call_id(number % calls)) for number in range(60)))
    async with (
        other_process.running("claim", database_url) as one,
        other_process.running("claim", database_url) as two,
    ):
        for process in (one, two):
            assert await other_process.line(process) == "ready"
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write(b"\n")
        got = [(await other_process.line(process)).split() for process in (one, two)]
    counted = Counter(got[0] + got[1])
    assert len(counted) == 60
    assert set(counted.values()) == {1}


# -- sending again ---------------------------------------------------------------------------------------------------


async def replay(database: store.Database, *, target: str = "jsonl", only_dead: bool = False, **chosen: object) -> int:
    async with database.begin() as tx:
        which = outbox.Chosen(**chosen)  # type: ignore[arg-type]  # the test says which
        return await outbox.replay(tx, target, which, now_us=NOW, only_dead=only_dead)


async def test_replay_by_id_time_call_and_type_keeps_the_ids(database: store.Database) -> None:
    await add(database, *(event(number) for number in range(1, 6)))
    await settle(database, *await claim(database))
    assert await claim(database) == []
    assert await replay(database, event_ids=(event(2).event_id,)) == 1
    assert await replay(database, call_id=event(4).call_id) == 1
    (two, four) = await claim(database)
    assert (two.event, two.attempts, four.event) == (event(2), 1, event(4))
    await settle(database, two, four)
    assert await replay(database, since_us=event(2).created_us, until_us=event(4).created_us) == 2
    assert await replay(database, types=("ticket.*",)) == 0
    assert ids(await claim(database)) == [event(2).event_id, event(3).event_id]


async def test_replay_adds_what_a_new_target_never_got(database: store.Database) -> None:
    await add(database, event(1), event(2))
    assert await replay(database, target="webhook:new") == 2
    assert await replay(database, target="webhook:new") == 0
    assert ids(await claim(database, target="webhook:new")) == ids(await claim(database))


async def test_replay_leaves_alone_what_is_on_its_way(database: store.Database) -> None:
    await add(database, event(1))
    await claim(database)
    assert await replay(database) == 0


async def test_replay_of_the_dead_only(database: store.Database) -> None:
    await add(database, event(1), event(2))
    first, second = await claim(database)
    await settle(database, first)
    await fail(database, second, None)
    async with database.read() as connection:
        assert await outbox.counts(connection) == {"jsonl": (0, 1)}
    assert await replay(database, only_dead=True) == 1
    assert await replay(database, target="webhook:new", only_dead=True) == 0
    (again,) = await claim(database)
    assert (again.event, again.attempts) == (event(2), 1)


async def test_a_receiver_that_is_back_gets_what_waits(database: store.Database) -> None:
    await add(database, event(1), event(2))
    first, second = await claim(database)
    await fail(database, first, NOW + 900 * SECOND)
    async with database.begin() as tx:
        assert await outbox.hurry(tx, "jsonl", now_us=NOW) == 1
    assert ids(await claim(database)) == [event(1).event_id]
    del second


async def test_an_attempt_that_does_not_count(database: store.Database) -> None:
    await add(database, event(1))
    (first,) = await claim(database)
    async with database.begin() as tx:
        assert await outbox.fail(tx, first, error="", now_us=NOW, next_at_us=NOW, counts=False)
    (again,) = await claim(database)
    assert (again.attempts, again.is_unsure) == (1, False)


async def test_an_attempt_that_ended_without_a_word_is_known_for_good(database: store.Database) -> None:
    """What a service cannot recognise must not be asked of it twice after a crash."""
    await add(database, event(1))
    await claim(database)
    (second,) = await claim(database, NOW + LEASE)
    assert second.is_unsure
    await fail(database, second, NOW + LEASE)
    (third,) = await claim(database, NOW + LEASE)
    assert third.is_unsure


async def test_what_nobody_takes_is_given_up(database: store.Database) -> None:
    """A target that left the routing file must not keep its events for ever."""
    await add(database, event(1), event(9), targets=("jsonl", "webhook:gone", "webhook:off"))
    async with database.begin() as tx:
        buried = await outbox.bury(
            tx, before_us=event(5).created_us, known=("jsonl", "webhook:off"), off=("webhook:off",), now_us=NOW
        )
        assert buried == 2
        assert await outbox.counts(tx) == {"jsonl": (2, 0), "webhook:gone": (1, 1), "webhook:off": (1, 1)}


async def test_each_target_gets_what_it_wants(database: store.Database) -> None:
    subscribed = receivers.Subscriptions({"jsonl": ("*",)})
    subscribed.use({"webhook:crm": ("call.missed", "ticket.*")})
    async with database.begin() as tx:
        await outbox.add(tx, [event(1), event(2, type="call.missed"), event(3, type="ticket.opened")], subscribed)
    assert len(await claim(database)) == 3
    assert ids(await claim(database, target="webhook:crm")) == [event(2).event_id, event(3).event_id]
