"""Agents call customers back: `*28` and a ticket's number, a click, and the break by `*29` (R18, R30, R56, R84, N8).

The phones of the desks dial as agents do; the carrier is where the customer answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.acceptance import sound, stages
from tests.acceptance.stages import Call, Stage
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Behaviour, Rig
from tests.rig.processes import wait_until
from tests.rig.sipua import Caller

NUMBER, RECORDED, POOLED = "74990000001", "74990000002", "74990000003"
BUSINESS = "74990000000"
PHONES = ("desk-1", "desk-2", "desk-3", "desk-4")
DESKS = ("desk-1", "desk-2", "desk-4")
"""Phones that may dial codes; `desk-4` is nobody's."""
TELLS = {
    "callback_no_ticket": 2600,
    "callback_closed": 2650,
    "callback_foreign": 2700,
    "callback_busy": 2750,
    "callback_no_number": 2800,
    "callback_unknown_agent": 2850,
    "callback_not_callable": 2900,
    "callback_down": 2950,
    "callback_result": 3000,
}
"""What agents are told, as tones."""
INFO_HZ = 950
"""First tone of "no" (indications.conf)."""
ROUTING = """
[[route]]
key = "sales"
forward = ["first"]
ring_seconds = 5

[[route]]
key = "recorded"
forward = ["first"]
ring_seconds = 5
recording = "announce"

[[tracking_number]]
number = "+74990000001"
route = "sales"
source = "google-ads"

[[tracking_number]]
number = "+74990000002"
route = "recorded"
source = "radio-jazz"
"""
DIALPLAN = """
[from-phones]
include => dialmark-codes
include => dialmark-out-carrier-a
"""


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    made = stages.Site(
        make_node,
        stages.SITE.replace('contexts = ["pbx"]', 'contexts = ["pbx", "from-phones"]') + ROUTING,
        files={"extensions_site.conf": DIALPLAN},
        records=True,
        steady_ring=True,
    )
    for key, hertz in {**TELLS, "consent_announce": sound.PROMPTS["consent_announce"]}.items():
        made.daemon.give_prompt(key, sound.LANGUAGE, hertz)
    made.daemon.configure({"callbacks": {"keyed_result": True}})
    let_dial(made.node)
    with stages.up(made) as site:
        sound.until_prompts(site.daemon, "consent_announce")
        wait_until(lambda: "/callback_down-" in site.node.cli("dialplan show globals"), 20, "prompts of codes")
        yield site


def let_dial(node: AsteriskNode) -> None:
    """The desks' phones may call in, by their address, into the context of phones."""
    file = node.etc / "pjsip_site.conf"
    text = file.read_text()
    for name in DESKS:
        text = text.replace(f"[{name}](dialmark-phone)\n", f"[{name}](dialmark-phone)\ncontext = from-phones\n")
        text += f"[{name}]\ntype = identify\nendpoint = {name}\nmatch = {node.phones[name].host}\n\n"
        node.carriers[name] = node.phones[name]
    file.write_text(text)


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    yield Stage(site, rig_of(site.node))
    await asyncio.to_thread(site.node.until_idle)


async def missed(stage: Stage, number: str = NUMBER) -> tuple[Call, int]:
    """A call that nobody takes, and its ticket."""
    stage.phone("desk-1", Behaviour.BUSY)
    call = await stage.call(number)
    ticket = await ticket_of(stage, call.caller)
    return call, ticket


async def ticket_of(stage: Stage, caller: str) -> int:
    def found() -> list[tuple[Any, ...]]:
        return stage.daemon.query("SELECT number FROM tickets WHERE caller = ?", caller)

    await asyncio.to_thread(wait_until, lambda: bool(found()), 5.0, "a ticket")
    return int(found()[0][0])


def state_of(stage: Stage, ticket: int) -> tuple[str, str | None, str | None, int]:
    [row] = stage.daemon.query("SELECT state, result, owner, attempts FROM tickets WHERE number = ?", ticket)
    return row[0], row[1], row[2], row[3]


async def agent(stage: Stage, code: str, desk: str = "desk-1", **options: Any) -> Caller:
    """An agent dials."""
    return await stage.dial(code.replace("#", "%23"), caller=desk, carrier=desk, **options)


async def test_a_missed_call_is_returned(stage: Stage) -> None:
    """The customer's phone rings, shows the number they had called; the record knows ticket, missed call and source."""
    miss, ticket = await missed(stage)
    customer = stage.rig.callee("carrier-a", ring_ms=300)
    dialled = await agent(stage, f"*28{ticket}")
    assert await dialled.final() == 200
    await stage.until_journal(f"tk={ticket}&")
    await asyncio.to_thread(wait_until, lambda: len(customer.invites) == 1, 5.0, "the customer's INVITE")
    [invite] = customer.invites
    assert invite.text.startswith(f"INVITE sip:{miss.caller.lstrip('+')}@")
    assert f"<sip:{NUMBER}@" in (invite.header("From") or "")
    await asyncio.to_thread(wait_until, lambda: state_of(stage, ticket)[0] == "closed", 5.0, "the ticket closed")
    dialled.hang_up()
    record = await stage.record_of(dialled)
    assert record["callback"] == {
        "ticket": ticket,
        "call_id": miss.record["call_id"],
        "by": "code",
        "shown": f"+{NUMBER}",
        "result": None,
    }
    assert (record["direction"], record["outcome"], record["agent"]) == ("outbound", "answered", "anna")
    assert record["attribution"] | {"method": "", "candidates": []} == miss.record["attribution"] | {
        "method": "",
        "candidates": [],
    }
    assert (record["attribution"]["method"], record["attribution"]["source"]) == ("callback", "google-ads")
    assert state_of(stage, ticket)[:2] == ("closed", "called_back")
