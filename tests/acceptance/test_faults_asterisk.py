"""Asterisk is killed, restarted, cut off from the daemon: what was up is closed as what it was (N1, N7)."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.acceptance import faults, stages
from tests.acceptance.faults import SALES, SECOND, Proxy
from tests.acceptance.stages import Stage
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Behaviour, Caller, Rig
from tests.rig.dialmark import Record

CLOSED_WITHIN_SECONDS = 15
TALK_SECONDS = 1.2
"""A talk that Asterisk itself ends sooner may count as an agent who was gone before talking."""


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    with stages.site(make_node, faults.ROUTING, files=faults.SITE_DIALPLAN) as site:
        yield site


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    """Each test leaves both up, and the books even."""
    yield Stage(site, rig_of(site.node))
    if not site.node.is_running:
        site.node.kill()
        site.node.start()
    if not site.daemon.is_running:
        site.daemon.start()
    await site.daemon.until_ready()
    await asyncio.to_thread(site.conserved)


async def two_calls(stage: Stage) -> tuple[Caller, Caller]:
    """One talks, one rings."""
    stage.phone("desk-1", ring_ms=20)
    stage.phone("desk-2", Behaviour.RING_FOR_EVER)
    talking, ringing = await stage.dial(SALES), await stage.dial(SECOND)
    await talking.until(200)
    await ringing.until(180)
    for name in ("BRIDGE_ENTER", "desk-2"):
        await stage.until_journal(name)
    await faults.until(lambda: len(stage.daemon.stored(state="open")) == 2, 30, "two open records")
    talks_until = time.monotonic() + TALK_SECONDS
    await faults.until(lambda: time.monotonic() > talks_until, 30, "a talk")
    return talking, ringing


async def crashed(stage: Stage, calls: tuple[Caller, Caller], seconds: float) -> list[Record]:
    """The records of the two calls, closed by us: a talk stays a talk."""
    records = [await stage.daemon.until_record_of(caller.call_id, seconds) for caller in calls]
    assert [(one["outcome"], one["ended_by"], one["missed"]) for one in records] == [
        ("answered", "crash", False),
        ("lost", "crash", True),
    ]
    assert records[0]["talk_seconds"] < 60
    for one in records:
        # A daemon killed while it delivered leaves a lease of 30 s.
        last = "call.missed" if one["missed"] else "call.completed"
        told = await stage.events_of(one["call_id"], last, 45)
        assert len({event["type"] for event in told}) == len(told)
    return records


async def test_killed_with_calls_up(stage: Stage) -> None:
    calls = await two_calls(stage)
    stage.node.kill()
    stage.node.start()
    # Nobody calls: it is AMI that says when Asterisk began.
    await crashed(stage, calls, CLOSED_WITHIN_SECONDS)
    assert (await stage.call(SALES)).record["outcome"] == "answered"


async def test_killed_while_the_daemon_was_down(stage: Stage) -> None:
    """The first call after it may come before the daemon does."""
    calls = await two_calls(stage)
    await asyncio.to_thread(stage.daemon.kill)
    stage.node.kill()
    stage.node.start()
    await asyncio.to_thread(stage.node.until_endpoint, "carrier-a")
    one = await stage.rig.call(SALES)
    stage.daemon.start()
    await crashed(stage, calls, 20 + CLOSED_WITHIN_SECONDS)
    assert (await faults.record_of(stage, one))["outcome"] == "answered"


async def test_killed_while_the_daemon_was_down_and_nobody_calls(stage: Stage) -> None:
    calls = await two_calls(stage)
    await asyncio.to_thread(stage.daemon.stop)
    stage.node.kill()
    stage.node.start()
    stage.daemon.start()
    await crashed(stage, calls, 20 + CLOSED_WITHIN_SECONDS)


async def test_stopped_with_calls_up(stage: Stage) -> None:
    """SIGTERM: Asterisk drops the calls and writes their ends itself."""
    talking, ringing = await two_calls(stage)
    stage.node.restart()
    records = [await stage.daemon.until_record_of(one.call_id, CLOSED_WITHIN_SECONDS) for one in (talking, ringing)]
    assert records[0]["outcome"] == "answered"
    assert records[1]["outcome"] in ("lost", "no_answer", "unreachable")
    assert records[1]["ended_by"] == "system"
    await asyncio.to_thread(stage.node.until_endpoint, "carrier-a")
    assert (await stage.call(SALES)).record["outcome"] == "answered"


async def test_ami_cut_and_half_open(stage: Stage) -> None:
    """Cut or silent, it is found within its deadline and comes back; calls and records do not notice."""
    stage.phone("desk-1")
    async with Proxy(stage.node.ami) as proxy:
        stage.daemon.configure({"ami": {"host": proxy.place.host, "port": proxy.place.port}})
        await stage.daemon.restart()
        await faults.until(lambda: manager(stage) == "up", 30, "the manager session")
        proxy.cut()
        assert (await stage.call(SALES)).record["outcome"] == "answered"
        await faults.until(lambda: proxy.connections >= 2 and manager(stage) == "up", 15, "a new session")
        proxy.freeze()
        up = await stage.dial(SALES)
        await up.until(200)
        await faults.until(lambda: manager(stage) == "down", 30, "half-open noticed")
        assert (await stage.call(SALES)).record["outcome"] == "answered"
        assert len(stage.daemon.stored(state="open")) == 1
        proxy.thaw()
        await faults.until(lambda: manager(stage) == "up", 30, "the session again")
        up.hang_up()
        assert (await stage.record_of(up))["outcome"] == "answered"
    stage.daemon.configure({"ami": {"host": stage.node.ami.host, "port": stage.node.ami.port}})
    await stage.daemon.restart()


def manager(stage: Stage) -> str:
    """What ``/readyz`` says of the session."""
    with urllib.request.urlopen(f"http://{stage.daemon.admin}/readyz", timeout=30) as answer:
        return "up" if json.load(answer)["checks"]["manager"]["well"] else "down"


async def test_a_wrong_manager_account(stage: Stage) -> None:
    """Calls and records go on; the log says what is wrong, without the secret."""
    stage.phone("desk-1")
    stage.daemon.configure({"ami": {"secret": "not-the-secret-at-all"}})
    await stage.daemon.restart()
    call = await stage.call(SALES)
    assert (call.record["outcome"], call.record["route_source"]) == ("answered", "agi")
    await faults.until(lambda: "Authentication failed" in stage.daemon.log(200), 30, "the refusal in the log")
    assert "not-the-secret-at-all" not in stage.daemon.log(1000)
    stage.daemon.configure({"ami": {"secret": stage.node.ami_secret}})
    await stage.daemon.restart()
