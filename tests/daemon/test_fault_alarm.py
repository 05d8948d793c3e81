"""N7: callers whom a fault of the system lost alert IT, and open no ticket by default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway import store
from gateway.core import ticketcauses
from gateway.daemon import alarms
from gateway.store import outbox
from gateway.store import tickets as stored
from tests.daemon.test_alarms import MINUTE, House
from tests.daemon.test_alarms import database as database


async def lose(house: House, number: int, why: str = "fault", cause: str = "system") -> None:
    """Callers missed now for this reason."""
    async with house.database.begin() as tx:
        for place in range(number):
            verdict = ticketcauses.Verdict(ticketcauses.Cause(cause), why)
            assert await stored.judge(tx, f"{why}-{house.now_us}-{place}", house.now_us, verdict)


async def told(house: House) -> list[dict[str, Any]]:
    async with house.database.read() as connection:
        found = await outbox.of_type(connection, "system.alert", 0)
    return [json.loads(one.payload)["data"] for one in reversed(found)]


async def test_a_fault_alerts_it_and_is_over_when_none_was_lost_for_a_while(
    database: store.Database, tmp_path: Path
) -> None:
    house = House(database, tmp_path, fault_minutes=15)
    await lose(house, 3, "no_answer", "nobody_answered")
    assert await house.see() == set()
    await lose(house, 2)
    await lose(house, 1, "lost")
    assert await house.see() == {alarms.FAULTS}
    assert await house.see(14) == {alarms.FAULTS}
    assert await house.see(2) == set()
    raised, cleared = await told(house)
    assert (raised["kind"], raised["severity"], raised["value"]) == ("system-faults", "critical", 3.0)
    assert raised["message"] == "3 callers were lost to faults of the system in 15 minutes: fault 2, lost 1"
    assert cleared["state"] == "cleared"


async def test_how_many_it_takes_is_yours(database: store.Database, tmp_path: Path) -> None:
    house = House(database, tmp_path, fault_calls=2)
    await lose(house, 1)
    assert await house.see() == set()
    house.now_us += MINUTE
    await lose(house, 1)
    assert await house.see() == {alarms.FAULTS}
    silent = House(database, tmp_path, fault_calls=0)
    silent.now_us = house.now_us
    assert await silent.reading(alarms.FAULTS) is None
