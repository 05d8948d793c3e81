"""Integrations behind the post: what a service knows a call by is kept, cards are told, a batch goes its way (R32)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from gateway import store
from gateway.core import deals, receivers
from gateway.core.outgoing import adapters, crm, google_ads, hubspot, metrica, told, worth
from gateway.services import posting
from gateway.store import outbox, profiles, targets
from tests.fakes import analytics, crms, handing, peer

SECOND = 1_000_000
POLICY = crm.Policy(audio_base="https://calls.example", profile={"age": "age"})


class House:
    """A post with one integration, its database, and a clock that tests set."""

    def __init__(self, database: store.Database, service: adapters.Service | adapters.BatchService) -> None:
        self.database = database
        self.now_us = handing.NOW_US
        self.target = f"{service.kind}:test"
        self.subscribed = receivers.Subscriptions(
            {self.target: tuple(service.wants), "jsonl": ("caller.card", "system.alert")}
        )
        self._line = posting.Line(service.kind, lambda: handing.adapter(service))
        self.start()

    def start(self) -> None:
        """A new process on the same database."""
        shared = posting.Shared(
            self.database,
            now_us=lambda: self.now_us,
            random=lambda: 0.0,
            node="main",
            targets=self.subscribed,
            events_added=lambda: None,
            visitor_of=self._visitor_of,
            pace=posting.Pace(poll_seconds=0.01, gather_seconds=0.001),
        )
        self.post = posting.Post(shared)
        self.post.use({self.target: self._line})

    async def _visitor_of(self, call_id: str) -> told.Visitor | None:
        return handing.VISITOR

    async def tell(self, handed: adapters.Handed) -> None:
        """Writes an event as the product does."""
        body = {"id": handed.event_id, "type": handed.type, "timestamp": "…", "data": handed.data}
        one = outbox.Event(handed.event_id, handed.type, self.now_us, json.dumps(body), handed.call_id)
        async with self.database.begin() as tx:
            await outbox.add(tx, [one], self.subscribed)
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

    async def until(self, condition: Callable[[list[targets.Logged]], bool]) -> list[targets.Logged]:
        """The deliveries so far, oldest first, when they are as they shall be."""
        async with asyncio.timeout(60):
            while True:
                async with self.database.read() as connection:
                    logged = (await targets.last(connection, self.target))[::-1]
                if condition(logged):
                    return logged
                await asyncio.sleep(0.01)

    async def cards(self) -> list[dict[str, object]]:
        async with self.database.read() as connection:
            found = await outbox.after(connection, 0)
        return [json.loads(one.payload)["data"] for _, one in found if one.type == "caller.card"]


async def test_a_call_from_its_first_ring_to_its_recording_is_one_object_of_the_crm(database: store.Database) -> None:
    """R32, R41, R115: the id that HubSpot gave when the call was logged is there when the recording is ready."""
    there = crms.HubSpot()
    await there.start()
    there.knows()
    house = House(database, crm.CrmService(hubspot.HubSpot(base_url=there.url), POLICY))
    async with house.running():
        await house.tell(handing.event("call.started", event_id="e1", outcome=None, ended_at=None, agent=None))
        await house.until(lambda logged: len(logged) == 1)
        await house.tell(handing.event(event_id="e2"))
        await house.until(lambda logged: len(logged) == 2)
    house.start()
    async with house.running():
        await house.tell(handing.recorded())
        logged = await house.until(lambda logged: len(logged) == 3)
    await there.stop()
    assert [one.state for one in logged] == ["done"] * 3
    assert there.wrong == []
    assert (len(there.calls), there.leads, len(there.recordings)) == (1, [], 1)
    (card,) = await house.cards()
    assert (card["call_id"], card["target"]) == (handing.CALL_ID, "hubspot:test")
    async with database.read() as connection:
        said = await profiles.of_callers(connection, [handing.CALLER])
        standings = await targets.standings(connection, handing.CALL_ID)
    assert [(one.target, one.name, one.value) for one in said] == [("hubspot:test", "age", "41")]  # R89
    assert [(one.target, one.state, one.external_id) for one in standings if one.target == house.target] == [
        (house.target, "done", there.calls[0]["id"])
    ]


async def test_a_crm_that_was_away_for_an_hour_has_each_call_once(database: store.Database) -> None:
    there = crms.HubSpot()
    await there.start()
    there.orders = {place: peer.LOST if place % 3 else peer.ERROR for place in range(9)}
    house = House(database, crm.CrmService(hubspot.HubSpot(base_url=there.url), replace(POLICY, cards=False)))
    calls = [handing.event(event_id=f"e{place}", call_id=f"call-{place}") for place in range(3)]
    async with house.running():
        for one in calls:
            await house.tell(one)
        async with asyncio.timeout(60):
            while {one["hs_call_external_id"] for one in there.calls} != {f"call-{place}" for place in range(3)}:
                house.now_us += 600 * SECOND
                house.post.wake()
                await asyncio.sleep(0.02)
        await house.until(lambda logged: sum(one.state == "done" for one in logged) == 3)
    await there.stop()
    assert there.wrong == []
    assert len(there.calls) == 3


async def test_a_batch_of_metrica_is_named_uploaded_and_followed_across_a_restart(database: store.Database) -> None:
    there = analytics.Metrica()
    await there.start()
    there.statuses = ["UPLOADED", "PROCESSED"]
    house = House(database, metrica.Metrica(metrica.Account("98765"), there.url))
    async with house.running():
        await house.tell(handing.event(event_id="e1", call_id="call-1"))
        await house.tell(handing.event(event_id="e2", call_id="call-2"))
        await house.until(bool)
        house.now_us += metrica.EVERY_US
        house.post.wake()
        await house.until(lambda logged: len(logged) >= 3)
    house.start()
    async with house.running():
        async with asyncio.timeout(60):
            while True:
                house.now_us += metrica.EVERY_US
                house.post.wake()
                async with database.read() as connection:
                    if await outbox.pending_count(connection, house.target) == 0:
                        break
                await asyncio.sleep(0.02)
        logged = await house.until(lambda logged: sum(one.state == "done" for one in logged) == 2)
    await there.stop()
    assert there.wrong == []
    assert sorted(row["Tag"] for row in there.rows) == ["Implants", "Implants"]
    assert {one.call_id for one in logged} == {"call-1", "call-2"}


async def test_a_deal_that_is_won_later_reaches_google_ads_once_across_a_restart(database: store.Database) -> None:
    """R90: late deals send what the contract allows, once; what was told is known to the next process."""
    there = analytics.GoogleAds()
    await there.start()
    account = google_ads.Account("1112223333", "444", "dev-token", "9998887777", counts=worth.Counts.WON)
    house = House(database, google_ads.GoogleAds(account, there.url))
    won: dict[str, Any] = {"deal_id": "D-1", "deal_state": deals.State.WON, "value": "1200", "currency": "EUR"}
    async with house.running():
        await house.tell(handing.event(event_id="e1"))
        (first,) = await house.until(bool)
    assert (first.state, first.note) == ("skipped", "no deal was won")
    house.start()
    async with house.running():
        await house.tell(handing.event("call.updated", event_id="e2", result=handing.said(**won)))
        await house.until(lambda logged: len(logged) == 2)
    house.start()
    async with house.running():
        await house.tell(handing.event("call.updated", event_id="e3", result=handing.said(**{**won, "value": "1300"})))
        logged = await house.until(lambda logged: len(logged) == 3)
    await there.stop()
    assert [one.state for one in logged] == ["skipped", "done", "skipped"]
    assert [one["conversionValue"] for one in there.orders_seen.values()] == [1200.0]
    assert there.wrong == []
    async with database.read() as connection:
        standings = await targets.standings(connection, handing.CALL_ID)
    assert [(one.target, one.state) for one in standings] == [(house.target, "done")]
