"""A customer who is called back is recorded by the rules of the missed call: asked first, and pausable, whether the
agent dialled `*28` or clicked (R17, R42, C4, N3)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.acceptance import desks, sound, stages
from tests.acceptance.desks import Page
from tests.acceptance.stages import Stage
from tests.conftest import NodeFactory
from tests.rig import AGENT_HZ, CALLER_HZ, AsteriskNode, Callee, Key, Rig, Track, Voice, tones, voice_of
from tests.rig.headset import Headset
from tests.rig.sipp import CLOCK_SECONDS
from tests.rig.waits import wait_until

pytestmark = pytest.mark.real_time

ASKED, UNASKED, SLOWLY = "74990000001", "74990000002", "74990000003"
RING_MS = 200
"""The customer's phone."""
QUESTION = sound.PROMPTS["consent_opt_in"]
ROUTING = """
[[route]]
key = "asked"
forward = ["first"]
ring_seconds = 5
recording = "opt_in"

[[route]]
key = "unasked"
forward = ["first"]
ring_seconds = 5
recording = "none"

[[tracking_number]]
number = "+74990000001"
route = "asked"

[[tracking_number]]
number = "+74990000002"
route = "unasked"

# Its question lasts, for a customer who is to do something before its end, however busy the machine.
[[tracking_number]]
number = "+74990000003"
route = "asked"
language = "ko"
"""


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    made = desks.site(make_node, ROUTING, "consent_opt_in", realtime=True)
    made.daemon.give_prompt("consent_opt_in", sound.SLOW_LANGUAGE, QUESTION, sound.SLOW_SECONDS)
    with stages.up(made) as site:
        for language in (sound.LANGUAGE, sound.SLOW_LANGUAGE):
            sound.until_prompts(site.daemon, "consent_opt_in", language=language)
        desks.until_codes_speak(site)
        yield site


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    yield Stage(site, rig_of(site.node))
    await asyncio.to_thread(site.node.until_idle)


@dataclass
class Begun:
    """A call-back whose customer is being rung."""

    ticket: int
    miss: stages.Call
    customer: Callee
    agent: Headset
    hang_up: Callable[[], None]
    """The agent's hand."""


async def missed(stage: Stage, number: str) -> tuple[stages.Call, int]:
    """Who is asked presses at once, and nobody takes the call."""
    return await desks.missed(stage, number, hold_ms=20_000, voice=Voice(CALLER_HZ, keys=[Key("1", 500)]))


async def by_code(stage: Stage, number: str, *keys: Key) -> Begun:
    miss, ticket = await missed(stage, number)
    customer = stage.rig.callee("carrier-a", ring_ms=RING_MS, voice=Voice(CALLER_HZ, keys=keys))
    dialled = await desks.agent(stage, f"*28{ticket}", voice=Voice(AGENT_HZ))
    await desks.until_invited(customer)
    return Begun(ticket, miss, customer, dialled.headset, dialled.hang_up)


async def by_click(stage: Stage, number: str, *keys: Key) -> Begun:
    miss, ticket = await missed(stage, number)
    customer = stage.rig.callee("carrier-a", ring_ms=RING_MS, voice=Voice(CALLER_HZ, keys=keys))
    phone = stage.phone("desk-1", ring_ms=200, voice=Voice(AGENT_HZ))
    status, _ = await Page(stage, f"clicker-{ticket}", "calls:make").ask(f"tickets/{ticket}/call", {"agent": "anna"})
    assert status == 200
    await desks.until_invited(customer)
    return Begun(ticket, miss, customer, phone.headset, lambda: end_channel(stage, "desk-1"))


def end_channel(stage: Stage, endpoint: str) -> None:
    """As if the party there had hung up."""
    channels = stage.node.cli("core show channels concise").splitlines()
    [channel] = [line.partition("!")[0] for line in channels if line.startswith(f"PJSIP/{endpoint}")]
    stage.node.cli(f"channel request hangup {channel}")


BOTH = pytest.mark.parametrize("begin", [pytest.param(by_code, id="code"), pytest.param(by_click, id="click")])
Begin = Callable[..., Awaitable[Begun]]


async def record_of(stage: Stage, begun: Begun) -> dict[str, Any]:
    """Of the call-back, once it is over."""
    query = "SELECT record FROM calls WHERE state = 'closed' AND direction = 'outbound' AND did = ?"
    row = await desks.until_row(stage, query, begun.miss.caller, seconds=20.0)
    return dict(json.loads(row[0]))


async def receipt_of(stage: Stage, record: dict[str, Any]) -> dict[str, Any]:
    query = "SELECT document FROM receipts WHERE call_id = ? AND what = 'talk'"
    return dict(json.loads((await desks.until_row(stage, query, record["call_id"]))[0]))


async def talk_of(stage: Stage, record: dict[str, Any]) -> tuple[Track, Track]:
    [talk] = await sound.recorded(stage, record["sip_call_id"])
    return talk.left, talk.right


def of_call(receipt: dict[str, Any]) -> list[str]:
    kinds = [row["event"] or row["application"] for row in receipt["rows"]]
    return [kind for kind in kinds if kind in ("DM_OUT", "DM_CONSENT", "MixMonitor")]


@BOTH
async def test_who_presses_1_is_recorded_from_then_on(stage: Stage, begin: Begin) -> None:
    """C4, N3: the question after the customer has answered; the agent hears neither it nor the customer, and nothing is
    recorded, until the key. The receipt says so."""
    begun = await begin(stage, ASKED, Key("1", 1_500))
    await begun.agent.until_talk(CALLER_HZ, 1.5)
    begun.hang_up()
    record = await record_of(stage, begun)
    consent = record["recording_consent"]
    assert (consent["mode"], consent["result"], consent["key"], consent["region"]) == ("opt_in", "granted", "1", "RU")
    left, right = await talk_of(stage, record)
    assert (sound.told(left), sound.told(right)) == (["caller"], ["agent"])
    [(_, pressed)] = begun.customer.headset.pressed()
    asked = begun.customer.headset.heard().first(QUESTION)
    connected = begun.agent.heard().first(*voice_of(CALLER_HZ))
    assert asked is not None and connected is not None
    # Not before the phone has rung its time. The answer itself SIPp writes down after it has sent it, and Asterisk asks
    # within a millisecond.
    assert asked - begun.customer.invites[-1].at > RING_MS / 1000 - CLOCK_SECONDS
    assert asked < pressed < connected
    # Had it been recorded while asked, it would be longer by that.
    assert 0.5 < left.seconds < begun.customer.headset.heard().end - pressed + 0.5
    receipt = await receipt_of(stage, record)
    assert (receipt["mode"], receipt["result"], receipt["key"]) == ("opt_in", "granted", "1")
    assert (receipt["recording_allowed"], receipt["played_as"]) == (True, "after_answer")
    assert of_call(receipt) == ["DM_OUT", "DM_CONSENT", "MixMonitor"]
    assert begun.agent.heard().first(QUESTION) is None


@pytest.mark.parametrize(("key", "result"), [("2", "refused"), ("", "timed_out")])
async def test_who_does_not_agree_talks_unrecorded(stage: Stage, key: str, result: str) -> None:
    """The talk takes place all the same, and at no time a file of it is there."""
    begun = await by_code(stage, ASKED, *([Key(key, 1_500)] if key else []))
    await begun.agent.until_talk(CALLER_HZ, 1.0)
    begun.hang_up()
    record = await record_of(stage, begun)
    assert (record["outcome"], record["recording_consent"]["result"]) == ("answered", result)
    assert begun.customer.headset.heard().first(QUESTION) is not None
    assert sound.monitors(stage, record) == []
    assert sound.spooled(stage, record["call_id"]) == []
    assert sound.rows(stage.daemon, record["call_id"]) == []
    receipt = await receipt_of(stage, record)
    assert (receipt["result"], receipt["recording_allowed"]) == (result, False)
    assert of_call(receipt) == ["DM_OUT", "DM_CONSENT"]


async def test_who_hangs_up_while_asked_was_not_called_back(stage: Stage) -> None:
    """Nobody spoke to them: an attempt, and no answered call."""
    begun = await by_code(stage, SLOWLY)
    await begun.customer.headset.until_heard(QUESTION, since=0)
    end_channel(stage, "carrier-a")
    record = await record_of(stage, begun)
    assert (record["answered_at"], record["talk_seconds"]) == (None, 0.0)
    assert record["outcome"] != "answered"
    assert sound.monitors(stage, record) == []
    await desks.until_row(stage, "SELECT 1 FROM tickets WHERE number = ? AND state = 'open'", begun.ticket)


@BOTH
async def test_a_pause_by_api_silences_a_call_back_too(stage: Stage, begin: Begin) -> None:
    """R17, R42: silence of the same length on both sides, while the people hear each other; and sound again."""
    begun = await begin(stage, UNASKED)
    await begun.agent.until_talk(CALLER_HZ, 1.5)
    [(call_id,)] = stage.daemon.query("SELECT call_id FROM calls WHERE state = 'open' AND direction = 'outbound'")
    page = Page(stage, f"till-{begun.ticket}", "recordings:pause")
    assert await page.ask(f"calls/{call_id}/recording", {"paused": True}) == (200, {"call_id": call_id, "paused": True})
    began = time.monotonic()
    await begun.agent.until_talk(CALLER_HZ, 3.0)
    assert (await page.ask(f"calls/{call_id}/recording", {"paused": False}))[0] == 200
    length = time.monotonic() - began
    await begun.agent.until_talk(CALLER_HZ, 2.5)
    begun.hang_up()
    record = await record_of(stage, begun)
    left, right = await talk_of(stage, record)
    [silent_left], [silent_right] = left.silences(least=1.0), right.silences(least=1.0)
    assert silent_left.seconds == pytest.approx(length, abs=0.25)
    assert silent_right.seconds == pytest.approx(silent_left.seconds, abs=0.05)
    assert tones.misalignment(left, CALLER_HZ, right, AGENT_HZ) < 100
    assert len(begun.agent.heard().voice(CALLER_HZ)) == 1


async def test_a_call_back_that_is_not_recorded_cannot_be_paused(stage: Stage) -> None:
    """Also while the customer is asked: there is nothing to pause yet."""
    begun = await by_code(stage, SLOWLY)
    await begun.customer.headset.until_heard(QUESTION, since=0)
    query = "SELECT call_id FROM calls WHERE state = 'open' AND direction = 'outbound'"
    await asyncio.to_thread(wait_until, lambda: bool(stage.daemon.query(query)), 5.0, "the open call")
    [(call_id,)] = stage.daemon.query(query)
    status, problem = await Page(stage, "till-none", "recordings:pause").ask(
        f"calls/{call_id}/recording", {"paused": True}
    )
    assert (status, problem["type"]) == (409, "urn:dialmark:problem:call-not-recorded")
    begun.customer.headset.press("2")
    await begun.agent.until_talk(CALLER_HZ, 0.5)
    begun.hang_up()
    await record_of(stage, begun)


async def test_a_call_back_goes_on_without_the_daemon(stage: Stage) -> None:
    """Killed while the customer is asked: the talk takes place, is recorded as the customer says, and the record, the
    ticket and the recording are made from the journal afterwards."""
    begun = await by_code(stage, SLOWLY)
    await begun.customer.headset.until_heard(QUESTION, since=0)
    stage.daemon.kill()
    try:
        begun.customer.headset.press("1")
        await begun.agent.until_talk(CALLER_HZ, 1.0)
        begun.hang_up()
        await asyncio.to_thread(stage.node.until_idle)
    finally:
        stage.daemon.start()
    await stage.daemon.until_ready()
    record = await record_of(stage, begun)
    assert (record["outcome"], record["callback"]["ticket"], record["agent"]) == ("answered", begun.ticket, "anna")
    assert record["recording_consent"]["result"] == "granted"
    await desks.until_ticket(stage, begun.ticket, "closed", "called_back")
    left, right = await talk_of(stage, record)
    assert (sound.told(left), sound.told(right)) == (["caller"], ["agent"])
