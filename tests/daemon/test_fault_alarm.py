"""N7, R21: callers whom a fault of the system lost, or a number that is shown wrongly or unknown, alert IT."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from gateway import store
from gateway.core import ticketcauses
from gateway.daemon import alarms
from gateway.store import calls, outbox
from gateway.store import tickets as stored
from tests.daemon.test_alarms import MINUTE, House
from tests.daemon.test_alarms import database as database
from tests.store import examples


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


async def misdial(house: House, why: str, numbers: dict[str, int]) -> None:
    """Callers missed now since something is wrong with these numbers."""
    async with house.database.begin() as tx:
        for number, count in numbers.items():
            for _ in range(count):
                made = examples.call(next(_IDS), did=number, started_us=house.now_us)
                await calls.save(tx, [made])
                verdict = ticketcauses.Verdict(ticketcauses.Cause.NUMBER, why)
                assert await stored.judge(tx, made.call_id, house.now_us, verdict)


_IDS = itertools.count(1_000)


@pytest.mark.parametrize("why", ["unknown_number", "tag_check", "short_abandon_spike"])
async def test_a_number_that_is_unknown_or_shown_wrongly_alerts_it(
    database: store.Database, tmp_path: Path, why: str
) -> None:
    """R21: one alarm for each reason, which names the numbers, and is over when nobody was missed for it in an hour."""
    house = House(database, tmp_path)
    await lose(house, 1)
    assert await house.see() == {alarms.FAULTS}
    house.now_us += 20 * MINUTE
    await misdial(house, why, {"+74990000071": 1, "+74990000072": 3, "+74990000073": 1, "+74990000074": 1})
    assert await house.see() == {alarms.NUMBERS}
    assert house.alerting.raised == {(alarms.NUMBERS, why)}
    assert await house.see(59) == {alarms.NUMBERS}
    assert await house.see(2) == set()
    raised, cleared = [one for one in await told(house) if one["kind"] == "number-faults"]
    assert (raised["subject"], raised["severity"], raised["value"]) == (why, "warning", 6.0)
    assert raised["message"].startswith("6 callers missed in 60 minutes: ")
    assert raised["message"].endswith(": +74990000072 (3), +74990000071 (1), +74990000073 (1) and 1 more")
    assert (cleared["state"], cleared["subject"]) == ("cleared", why)


async def test_how_many_callers_a_number_may_cost_is_yours(database: store.Database, tmp_path: Path) -> None:
    house = House(database, tmp_path, number_calls=3, number_minutes=10)
    await misdial(house, "unknown_number", {"+74990000071": 2})
    assert await house.see() == set()
    assert await house.see(11) == set()
    await misdial(house, "unknown_number", {"+74990000071": 2, "+74990000072": 1})
    assert await house.see() == {alarms.NUMBERS}
    silent = House(database, tmp_path, number_calls=0)
    silent.now_us = house.now_us
    assert await silent.reading(alarms.NUMBERS) is None


async def test_a_warning_about_a_number_waits_for_the_end_of_quiet_hours(
    database: store.Database, tmp_path: Path
) -> None:
    """A fault of the system does not."""
    house = House(database, tmp_path, quiet_hours="00:00-23:59")
    await lose(house, 1)
    await misdial(house, "unknown_number", {"+74990000071": 1})
    assert await house.see() == {alarms.FAULTS, alarms.NUMBERS}
    assert [one["kind"] for one in await told(house)] == ["system-faults"]
