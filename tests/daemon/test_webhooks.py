"""The daemon and its webhooks: a receiver that is down while 500 calls end, and a daemon that is killed three times."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.config import files
from tests.daemon.site import Site
from tests.outgoing import receiver, traffic

CALLS = 500


@pytest.fixture
async def there() -> AsyncIterator[receiver.Receiver]:
    async with receiver.running() as made:
        yield made


@pytest.fixture
async def site(tmp_path_factory: pytest.TempPathFactory, there: receiver.Receiver) -> Site:
    """Its routing names the receiver, and a second one that only wants alarms."""
    folder = tmp_path_factory.mktemp("s")
    made = Site(folder, f"sqlite:///{folder}/dialmark.db")
    (folder / "crm.secret").write_text(receiver.SECRET)
    await made.apply(
        f"""{files.SMALL}
[[webhook]]
key = "crm"
url = "{there.url}"
secret = "file:{folder}/crm.secret"
allow = ["127.0.0.0/8"]
events = ["call.completed"]
per_second = 1000
"""
    )
    return made


def write(site: Site, number: int) -> None:
    """A whole call, over now."""
    with (Path(site.folder) / "cel" / "dialmark.csv").open("ab") as journal:
        journal.write(traffic.at(b"".join(traffic.begin_and_end(number)), time.time()))


async def until_told(site: Site, events: int) -> None:
    """Wait until so many stand in the JSON-lines file."""
    path = site.folder / "events.jsonl"
    await site.until(lambda: path.exists() and path.read_bytes().count(b"\n") >= events, "events of the calls")


async def test_500_calls_end_while_the_receiver_is_down_and_the_daemon_is_killed_three_times(
    site: Site, there: receiver.Receiver
) -> None:
    """500 delivered, none lost, none twice but what was on its way at a kill; the receiver refuses connections, resets
    and answers 500 before. `webhooks retry` spares the test the schedule's hours."""
    there.default = receiver.status(500)
    number = 0
    for part in (there.stop, None, None):
        async with site.running():
            for _ in range(CALLS // 4):
                write(site, number)
                number += 1
            expected = 3 * number
            await until_told(site, expected)
            if part is not None:
                await part()
            site.kill()
    while number < CALLS:
        write(site, number)
        number += 1
    there.default = None
    await there.start()
    async with site.running():
        await until_told(site, 3 * CALLS)
        async with asyncio.timeout(60):
            while len(set(there.taken)) < CALLS:
                # What a killed daemon had claimed is free when its lease is over.
                await site.run("webhooks", "retry", "crm")
                there.arrived.clear()
                await asyncio.wait([asyncio.ensure_future(there.arrived.wait())], timeout=1)
    arrived = Counter(one.body["data"]["call_id"] for one in there.got if one.answered == 204)
    assert set(arrived) == {traffic.call_id(number) for number in range(CALLS)}
    assert len({one.id for one in there.got}) == CALLS
    assert sum(arrived.values()) == CALLS
    assert there.wrong == []


async def test_a_receiver_that_is_gone_makes_an_alarm_and_is_shown(site: Site, there: receiver.Receiver) -> None:
    """410: never silently. `/readyz`, the log and an event say so."""
    there.orders = [receiver.status(410)]
    async with site.running():
        write(site, 1)
        await site.until_said("target switched off")
        await site.until(lambda: any(one["type"] == "system.alert" for one in site.events()), "the alarm")
        assert (await site.check("events"))["summary"] == "webhook:crm: switched off: answered 410"
        write(site, 2)
        assert "switched off" in await site.run("webhooks", "list")
        assert "in use again" in await site.run("webhooks", "enable", "crm")
        await there.until(lambda: len(there.taken) == 2)
    assert {one.body["data"]["call_id"] for one in there.got} == {traffic.call_id(1), traffic.call_id(2)}


async def test_a_new_revision_is_followed_without_a_restart(site: Site, there: receiver.Receiver) -> None:
    async with site.running(), receiver.running() as other:
        await site.apply(
            f"""{files.SMALL}
[[webhook]]
key = "second"
url = "{other.url}"
secret = "file:{site.folder}/crm.secret"
allow = ["127.0.0.0/8"]
events = ["call.*"]
"""
        )
        await site.until_said("revision=2")
        write(site, 1)
        await other.until(lambda: len(other.taken) == 3)
        assert [one.body["type"] for one in other.got] == ["call.started", "call.answered", "call.completed"]
        assert there.got == []
        assert other.wrong == []
