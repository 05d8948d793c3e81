"""R66: alarms are told once when raised and once when cleared, across restarts, and by the outbox."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from datetime import UTC, time
from typing import Any

from gateway import store
from gateway.core import alarms
from gateway.services import alerting
from gateway.store import outbox
from tests.store import examples

RULES = {
    "ami-down": alarms.Rule("ami-down", alarms.Severity.CRITICAL, 60, 30, of_node=True),
    "pool-exhausted": alarms.Rule("pool-exhausted", alarms.Severity.WARNING, 0, 0),
}


class House:
    """What an alerting looks at; `restart` makes a new one on the same database."""

    def __init__(self, database: store.Database, quiet: alarms.QuietHours | None = None, *, node: str = "main") -> None:
        self.database = database
        self.node = node
        self.now_us = examples.NOON
        self.readings: list[alarms.Reading] = []
        self._quiet = quiet
        self.restart()

    def restart(self) -> None:
        async def look() -> list[alarms.Reading]:
            return self.readings

        self.alerting = alerting.Alerting(
            self.database,
            look,
            RULES,
            quiet_hours=self._quiet,
            zone=lambda: UTC,
            node=self.node,
            now_us=lambda: self.now_us,
            targets=["mail:alerts"],
            events_added=lambda: None,
        )

    async def see(self, seconds: int, *holding: str) -> list[dict[str, Any]]:
        """What was told by a look so many seconds later, with these alarms' conditions holding."""
        self.now_us += seconds * examples.SECOND
        self.readings = [alarms.Reading(kind, self.node, kind in holding, f"{kind}!", 1.5) for kind in RULES]
        async with self.database.read() as connection:
            known = len(await outbox.after(connection, 0))
        await self.alerting.step()
        async with self.database.read() as connection:
            return [json.loads(one.payload)["data"] for _, one in (await outbox.after(connection, 0))[known:]]


async def test_raised_and_cleared_are_told_once_across_a_restart(database: store.Database) -> None:
    house = House(database)
    assert await house.see(0, "ami-down") == []
    house.restart()
    (raised,) = await house.see(60, "ami-down")
    assert (raised["state"], raised["severity"], raised["value"], raised["message"]) == (
        "raised",
        "critical",
        1.5,
        "ami-down!",
    )
    assert house.alerting.raised == {("ami-down", "main")}
    assert house.alerting.counts() == {"ami-down": 1, "pool-exhausted": 0}
    house.restart()
    assert await house.see(60, "ami-down") == []
    assert await house.see(10) == []
    (cleared,) = await house.see(30)
    assert (cleared["state"], cleared["since"], cleared["message"]) == ("cleared", raised["since"], "over: ami-down!")
    assert await house.see(60) == []
    assert house.alerting.raised == frozenset()
    async with database.read() as connection:
        assert await outbox.pending_count(connection, "mail:alerts") == 2


async def test_warnings_wait_for_the_end_of_the_quiet_hours(database: store.Database) -> None:
    """14:13 UTC on the example's day."""
    house = House(database, alarms.QuietHours(time(14), time(15)))
    assert await house.see(0, "pool-exhausted", "ami-down") == []
    assert [one["kind"] for one in await house.see(60, "pool-exhausted", "ami-down")] == ["ami-down"]
    assert [one["kind"] for one in await house.see(3_600, "pool-exhausted", "ami-down")] == ["pool-exhausted"]


async def test_a_subject_that_is_gone_is_well(database: store.Database) -> None:
    house = House(database)
    (raised,) = await house.see(0, "pool-exhausted")
    house.readings = []
    await house.alerting.step()
    async with database.read() as connection:
        told = [json.loads(one.payload)["data"]["state"] for _, one in await outbox.after(connection, 0)]
    assert (raised["state"], told) == ("raised", ["raised", "cleared"])


async def test_while_all_is_well_nothing_is_written(database: store.Database) -> None:
    house = House(database)
    assert await house.see(0) == []
    assert await house.see(1_000) == []


async def test_an_alarm_of_a_machine_is_judged_by_that_machine(database: store.Database) -> None:
    """Nodes that share a database look in turns; one whose Asterisk is well says nothing of the other's."""
    sick, sound = House(database, node="sick"), House(database, node="sound")
    told = []
    for _ in range(8):
        told += await sick.see(10, "ami-down")
        assert await sound.see(10) == []
    assert [(one["subject"], one["state"]) for one in told] == [("sick", "raised")]
    assert sound.alerting.raised == {("ami-down", "sick")}
    assert await sick.see(10) == []
    assert [(one["subject"], one["state"]) for one in await sick.see(30)] == [("sick", "cleared")]


async def test_an_alarm_of_a_machine_that_nobody_has_seen_for_a_week_goes(database: store.Database) -> None:
    gone, left = House(database, node="gone"), House(database, node="left")
    await gone.see(0, "ami-down")
    await gone.see(60, "ami-down")
    assert await left.see(6 * 86_400) == []
    (cleared,) = [*await left.see(2 * 86_400), *await left.see(60)]
    assert (cleared["subject"], cleared["state"]) == ("gone", "cleared")


async def test_of_two_nodes_that_look_at_once_one_tells(database: store.Database) -> None:
    houses = [House(database, node=node) for node in ("one", "two")]
    for house in houses:
        house.readings = [alarms.Reading("pool-exhausted", "main", True, "exhausted")]
    houses[1].now_us += 1
    for _ in range(5):
        await asyncio.gather(*(house.alerting.step() for house in houses))
        for house in houses:
            house.now_us += examples.SECOND
            house.readings = [dataclasses.replace(one, holds=not one.holds) for one in house.readings]
    async with database.read() as connection:
        told = [json.loads(one.payload)["data"]["state"] for _, one in await outbox.after(connection, 0)]
    assert told == ["raised", "cleared"] * 2 + ["raised"]
