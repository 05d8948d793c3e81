"""Tickets with real calls: miss, miss again, called back, gets through (R18, R37, R43, N8)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests import told
from tests.acceptance import stages
from tests.acceptance.stages import Stage
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Behaviour, Rig
from tests.rig.waits import wait_until

SALES = "74990000001"
ROUTING = (
    stages.SITE
    + """
[[route]]
key = "sales"
forward = ["first"]
reserve = ["second"]
ring_seconds = 3
reserve_ring_seconds = 3
[route.tickets]
attempts = 2
agents = ["anna", "boris"]

[[tracking_number]]
number = "+74990000001"
route = "sales"
source = "radio-jazz"
"""
).replace('key = "anna"\n', 'key = "anna"\nextension = "101"\n')
DIALPLAN = """
[from-phones]
include => dialmark-out-carrier-a
"""


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    made = stages.Site(
        make_node,
        ROUTING,
        carriers=("carrier-a", "carrier-b", "office"),
        files={"extensions_site.conf": DIALPLAN},
    )
    made.node.add_site(made.node.trunk_text("office", "from-phones"))
    with stages.up(made) as site:
        yield site
    assert [wrong for event in made.daemon.events() for wrong in told.problems(event)] == []


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    yield Stage(site, rig_of(site.node))
    await asyncio.to_thread(site.node.until_idle)


def tickets_of(stage: Stage, caller: str) -> list[dict[str, Any]]:
    """As the command line tells them, newest first."""
    said = stage.daemon.run("tickets", "list", "--state", "all", "--caller", caller, "--format", "json")
    found: list[dict[str, Any]] = json.loads(said)
    return found


def shown(stage: Stage, number: int) -> dict[str, Any]:
    ticket: dict[str, Any] = json.loads(stage.daemon.run("tickets", "show", str(number), "--format", "json"))
    return ticket


def told_of(stage: Stage, number: int) -> list[str]:
    """Types of the events of a ticket, in order."""
    of = [event for event in stage.daemon.events() if event["type"].startswith("ticket.")]
    return [event["type"] for event in of if event["data"]["number"] == number]


async def until_told(stage: Stage, number: int, *types: str) -> None:
    await asyncio.to_thread(
        wait_until, lambda: told_of(stage, number) == list(types), 10, f"events {types} of ticket {number}"
    )


async def call_out(stage: Stage, number: str, behaviour: Behaviour) -> stages.Call:
    """Anna's phone calls this number."""
    stage.rig.callee("carrier-a", behaviour, ring_ms=300)
    return await stage.call(number, caller="101", carrier="office", hold_ms=400)


async def test_miss_miss_again_called_back(stage: Stage) -> None:
    """The ticket opens with all that is needed, takes the second miss, counts the attempt that Asterisk saw, and closes
    itself when the caller answers."""
    stage.phone("desk-1", Behaviour.BUSY)
    stage.phone("desk-2", Behaviour.RING_FOR_EVER)
    first = await stage.call(SALES)
    caller = first.caller
    [ticket] = tickets_of(stage, caller)
    number = ticket["number"]
    assert (ticket["state"], ticket["misses"], ticket["cause"]) == ("open", 1, "agents_busy")
    assert (ticket["source"], ticket["route"], ticket["owner"]) == ("radio-jazz", "sales", "anna")
    evidence = shown(stage, number)["evidence"]
    assert [(one["destination"], one["outcome"], one["sip_code"]) for one in evidence["attempts"]] == [
        ("first", "busy", 486),
        ("second", "no_answer", 180),
    ]
    second = await stage.call(SALES, caller=caller)
    [ticket] = tickets_of(stage, caller)
    assert (ticket["misses"], ticket["call_id"]) == (2, first.record["call_id"])
    await call_out(stage, caller, Behaviour.BUSY)
    [ticket] = tickets_of(stage, caller)
    assert (ticket["state"], ticket["attempts"]) == ("open", 1)
    back = await call_out(stage, caller, Behaviour.ANSWER)
    [ticket] = tickets_of(stage, caller)
    assert (ticket["state"], ticket["result"], ticket["attempts"]) == ("closed", "called_back", 2)
    history = shown(stage, number)["history"]
    assert [(one["what"], one["actor"]) for one in history] == [
        ("opened", "system"),
        ("merged", "system"),
        ("attempted", "agent:anna"),
        ("attempted", "agent:anna"),
        ("closed", "agent:anna"),
    ]
    assert (history[1]["call_id"], history[-1]["call_id"]) == (second.record["call_id"], back.record["call_id"])
    await until_told(
        stage, number, "ticket.opened", "ticket.updated", "ticket.attempted", "ticket.attempted", "ticket.closed"
    )


async def test_the_caller_gets_through(stage: Stage) -> None:
    """It closes as soon as a person answers, while they still talk; the next miss opens another."""
    stage.phone("desk-2", Behaviour.REJECT)
    stage.phone("desk-1", Behaviour.REJECT)
    missed = await stage.call(SALES)
    [ticket] = tickets_of(stage, missed.caller)
    stage.phone("desk-1")
    talking = await stage.dial(SALES, caller=missed.caller)
    await talking.until(200)
    await until_told(stage, ticket["number"], "ticket.opened", "ticket.closed")
    talking.hang_up()
    await stage.record_of(talking)
    [ticket] = tickets_of(stage, missed.caller)
    assert (ticket["state"], ticket["result"], ticket["attempts"]) == ("closed", "called_again", 0)
    stage.phone("desk-1", Behaviour.REJECT)
    await stage.call(SALES, caller=missed.caller)
    assert [one["state"] for one in tickets_of(stage, missed.caller)] == ["open", "closed"]


async def test_killed_between_and_replayed(stage: Stage) -> None:
    """kill -9 while the call rings and again when it is over: one ticket, told once; `replay` opens none."""
    stage.phone("desk-1", Behaviour.REJECT)
    stage.phone("desk-2", Behaviour.RING_FOR_EVER)
    caller = stage.site.caller()
    ringing = await stage.dial(SALES, caller=caller)
    await ringing.until(180)
    await asyncio.to_thread(stage.daemon.kill)
    await ringing.final()
    stage.daemon.start()
    await stage.record_of(ringing)
    await asyncio.to_thread(stage.daemon.kill)
    stage.daemon.start()
    await stage.daemon.until_ready()
    [ticket] = tickets_of(stage, caller)
    assert (ticket["misses"], ticket["state"]) == (1, "open")
    # What the killed daemon had claimed of the outbox is free again after 30 s.
    await asyncio.to_thread(
        wait_until, lambda: told_of(stage, ticket["number"]) == ["ticket.opened"], 45, "the event, once"
    )
    stage.daemon.run("tickets", "close", str(ticket["number"]), "--result", "unwanted")
    stage.daemon.run("replay", "--write")
    assert [one["state"] for one in tickets_of(stage, caller)] == ["closed"]


async def test_who_gets_none(stage: Stage) -> None:
    """Anonymous callers are counted, and short abandons; who pressed nothing and gave up late gets one."""
    stage.phone("desk-1", Behaviour.RING_FOR_EVER)
    before = len(json.loads(stage.daemon.run("tickets", "list", "--state", "all", "--format", "json")))
    hidden = await stage.dial(SALES, from_header='"Anonymous" <sip:anonymous@anonymous.invalid>')
    await hidden.until(180)
    hidden.cancel()
    brief = await stage.dial(SALES)
    await brief.until(180)
    brief.cancel()
    for caller in (hidden, brief):
        record = await stage.record_of(caller)
        assert record["outcome"] == "abandoned"
    assert len(json.loads(stage.daemon.run("tickets", "list", "--state", "all", "--format", "json"))) == before
    skipped = stage.daemon.query("SELECT skipped FROM missed_causes WHERE skipped IS NOT NULL ORDER BY skipped")
    assert skipped == [("anonymous",), ("short_abandon",)]
