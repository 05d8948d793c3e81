"""What is known of targets, and the last deliveries of each: bounded, and forgotten with the person."""

from __future__ import annotations

import dataclasses
from typing import Any

from gateway import store
from gateway.core.outgoing import adapters
from gateway.store import forgetting, outbox, targets
from tests.store import examples

CRM = "webhook:crm"


def logged(number: int, target: str = CRM, **changes: object) -> targets.Logged:
    base = targets.Logged(
        target=target,
        event_id=examples.event(number).event_id,
        type="call.completed",
        call_id=examples.call_id(number),
        attempt=1,
        at_us=examples.NOON + number,
        took_us=1_000,
        state="done",
        request='{"caller": "+79161234567"}',
        response="200",
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]  # the test says which


async def test_the_last_deliveries_of_each_target_are_kept(database: store.Database) -> None:
    for start in range(0, 250, 50):
        async with database.begin() as tx:
            await targets.log(tx, [logged(number) for number in range(start, start + 50)])
    async with database.begin() as tx:
        await targets.log(tx, [logged(1, "mqtt:bus", request="x" * 1_000_000)])
        assert len(await targets.last(tx, CRM, limit=targets.KEPT + 1)) == targets.KEPT
        found = await targets.last(tx, CRM, limit=3)
        assert [one.at_us - examples.NOON for one in found] == [249, 248, 247]
        assert dataclasses.replace(found[0], log_id=0) == logged(249)
        (large,) = await targets.last(tx, "mqtt:bus")
        assert len(large.request) == targets.MAX_TEXT


async def test_a_target_is_switched_off_and_on(database: store.Database) -> None:
    async with database.begin() as tx:
        assert await targets.state(tx, CRM) == targets.State(CRM)
        assert not await targets.switch_on(tx, CRM)
        off = targets.State(CRM, off_us=5, off_reason="answered 410", failing_us=4, last_error="answered 410")
        await targets.save(tx, off)
        assert await targets.states(tx) == {CRM: off}
        assert await targets.switch_on(tx, CRM)
        assert (await targets.state(tx, CRM)).off_us is None


async def test_what_attempts_learned_of_a_call(database: store.Database) -> None:
    one, two = examples.call_id(1), examples.call_id(2)
    async with database.begin() as tx:
        await targets.learn(tx, one, "hubspot:main", {"contact": "7", "call": "8"}, now_us=1)
        await targets.learn(tx, one, "hubspot:main", {"contact": "9"}, now_us=2)
        await targets.learn(tx, two, "hubspot:main", {"contact": "1"}, now_us=2)
        assert await targets.facts(tx, "hubspot:main", [one]) == {one: {"contact": "9", "call": "8"}}
        assert await targets.facts(tx, "other:main", [one]) == {}
        assert await targets.prune(tx, before_us=2) == 1


async def test_who_is_erased_leaves_the_last_deliveries(database: store.Database) -> None:
    call = examples.call(1)
    async with database.begin() as tx:
        await outbox.add(tx, [examples.event(1)], [CRM])
        await targets.log(tx, [logged(1), logged(2)])
        await targets.learn(tx, call.call_id, CRM, {"contact": "7"}, now_us=1)
        await forgetting.forget(tx, [call], "erased-1", why=forgetting.ERASURE, now_us=examples.NOON)
        assert [one.call_id for one in await targets.last(tx)] == [examples.call_id(2)]
        assert await targets.facts(tx, CRM, [call.call_id]) == {}


HOUR = 3_600 * examples.SECOND


async def test_how_a_call_stands_at_each_target(database: store.Database) -> None:
    """Each row's status is kept per call and target: of services for as long as facts are, of others as their events
    are."""
    call_id, now_us = examples.call_id(1), examples.NOON + HOUR
    everyone = [CRM, "ga4:main", "hubspot:main", "jsonl"]
    status = adapters.STATUS, adapters.STATUS_NOTE, adapters.STATUS_TYPE, adapters.STATUS_ID
    async with database.begin() as tx:
        assert await targets.standings(tx, call_id) == []
        await outbox.add(tx, [examples.event(1)], everyone)
        asked: Any = {"limit": 9, "now_us": now_us, "lease_us": 1}
        (ours,) = await outbox.claim(tx, CRM, **asked)
        await outbox.fail(tx, ours, error="answered 500", now_us=now_us, next_at_us=None)
        (ours,) = await outbox.claim(tx, "ga4:main", **asked)
        await outbox.settle(tx, [ours], now_us=now_us)
        known = dict(zip(status, ("skipped", "no client_id", "call.completed"), strict=False))
        await targets.learn(tx, call_id, "ga4:main", known, now_us=now_us)
        (ours,) = await outbox.claim(tx, "hubspot:main", **asked)
        await outbox.fail(tx, ours, error="answered 503", now_us=now_us, next_at_us=now_us + HOUR)
        known = dict(zip(status, ("failed", "answered 503", "call.completed", "8"), strict=True))
        await targets.learn(tx, call_id, "hubspot:main", {**known, "contact": "7"}, now_us=now_us)
        standing = targets.Standing
        expected = [
            standing("ga4:main", "skipped", "call.completed", "no client_id", None, now_us),
            standing("hubspot:main", "failed", "call.completed", "answered 503", "8", now_us, now_us + HOUR),
            standing("jsonl", "pending", "call.completed", "", None, None, examples.NOON + examples.SECOND),
            standing(CRM, "dead", "call.completed", "answered 500", None, now_us, given_up=True),
        ]
        assert await targets.standings(tx, call_id) == expected
        # When the events are gone, what services said is there still.
        await outbox.settle(tx, await outbox.claim(tx, "jsonl", **asked), now_us=now_us)
        late = {**asked, "now_us": now_us + HOUR}
        await outbox.settle(tx, await outbox.claim(tx, "hubspot:main", **late), now_us=now_us)
        assert await outbox.prune(tx, before_us=now_us) == 1
        left = [(one.target, one.state, one.next_us) for one in await targets.standings(tx, call_id)]
        assert left == [("ga4:main", "skipped", None), ("hubspot:main", "failed", None)]
        await targets.forget(tx, [call_id])
        assert await targets.standings(tx, call_id) == []
