"""Queues and IVRs of the PBX behind a ``local:`` destination: answered is a person's bridge, never their own Answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.acceptance import stages
from tests.acceptance.stages import Stage, invites, near, only_invite, tried
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Behaviour, Rig
from tests.rig.dialmark import Record
from tests.rig.sipp import tone

pytestmark = pytest.mark.real_time

HERTZ = 700
EXTENSIONS = {
    "queue": "600",
    "silent-queue": "601",
    "ivr": "602",
    "menu": "603",
    "engaged": "604",
    "missing": "699",
}
PBX = """
[pbx]
; A queue that answers first, as most do, and gives the call back when nobody took it.
exten => 600,1,Answer()
 same => n,Queue(sales,,,,2)
 same => n,Goto(dialmark-handback,s,1)
; One that lets the caller ring, and gives up by hanging up.
exten => 601,1,Queue(sales,r,,,2)
 same => n,Hangup(17)
; A machine that talks, and nobody behind it.
exten => 602,1,Answer()
 same => n,Playback({folder}/700)
 same => n,Hangup()
; A menu with a person behind it.
exten => 603,1,Answer()
 same => n,Playback({folder}/700)
 same => n,Dial(PJSIP/desk-3,5)
 same => n,Goto(dialmark-handback,s,1)
exten => 604,1,Busy(1)
"""
QUEUES = "[sales]\nstrategy = ringall\ntimeout = 2\nretry = 1\nmember => PJSIP/desk-1\nmember => PJSIP/desk-2\n"
NUMBERS = {key: f"7499000{number:04}" for number, key in enumerate(EXTENSIONS, 1)}
ROUTING = stages.SITE + "".join(
    f"""
[[destination]]
key = "{key}"
dial = "local:{extension}@pbx"

[[route]]
key = "{key}"
forward = ["{key}"]
reserve = ["reception"]
ring_seconds = 8
reserve_ring_seconds = 3

[[tracking_number]]
number = "+{NUMBERS[key]}"
route = "{key}"
source = "google-ads"
"""
    for key, extension in EXTENSIONS.items()
)


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    made = stages.Site(make_node, ROUTING, files={"queues_site.conf": QUEUES})
    made.node.write("extensions_site.conf", made.filled(PBX))
    tone(made.node.folder, HERTZ)
    with stages.up(made) as site:
        yield site


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    yield Stage(site, rig_of(site.node))
    await asyncio.to_thread(site.node.until_idle)


def _outcomes(record: Record) -> list[tuple[str, str, str | None]]:
    return [(one.destination, one.outcome, one.agent) for one in tried(record)]


async def test_a_queue_and_its_agent(stage: Stage) -> None:
    """The queue answers at once; the record counts from the agent's bridge, and names him."""
    stage.phone("desk-1", Behaviour.BUSY)
    phone = stage.phone("desk-2", ring_ms=900)
    call = await stage.call(NUMBERS["queue"], hold_ms=2_000)
    assert call.result.status == 200
    assert call.result.setup_ms is not None and near(call.result.setup_ms / 1000, 0)
    record = call.record
    assert len(invites(phone, call.caller)) == 1
    assert _outcomes(record) == [("queue", "answered", "boris")]
    assert (record["outcome"], record["agent"], record["ended_by"]) == ("answered", "boris", "caller")
    rang = only_invite(phone, call).at - call.result.messages[0].at + 0.9
    assert near(record["wait_seconds"], rang)
    assert record["attempts"][0]["answered_by"] == "desk-2"
    # The caller holds for two seconds after the queue's answer, of which the agent has the rest.
    assert near(record["talk_seconds"], 2 - (rang - call.result.setup_ms / 1000))
    assert record["route_source"] == "agi"


async def test_a_queue_whose_agent_hangs_up(stage: Stage) -> None:
    stage.phone("desk-1", Behaviour.BUSY)
    stage.phone("desk-2", ring_ms=200, talk_ms=800)
    call = await stage.call(NUMBERS["queue"], hold_ms=20_000)
    assert call.result.ended_by == "callee"
    assert (call.record["outcome"], call.record["ended_by"]) == ("answered", "agent")
    assert near(call.record["talk_seconds"], 0.8)


async def test_a_queue_that_does_not_answer(stage: Stage) -> None:
    stage.phone("desk-1", ring_ms=400)
    call = await stage.call(NUMBERS["silent-queue"])
    assert (call.result.first(180) or 9999) < 1000 * stages.slack()
    assert call.result.setup_ms is not None and call.result.setup_ms > 400
    assert _outcomes(call.record) == [("silent-queue", "answered", "anna")]
    assert near(call.record["wait_seconds"], call.result.setup_ms / 1000)


async def test_nobody_in_the_queue_then_the_reserve(stage: Stage) -> None:
    """``dialmark-handback``: the caller has been answered by the queue, and the next step rings all the same."""
    for phone in ("desk-1", "desk-2"):
        stage.phone(phone, Behaviour.RING_FOR_EVER)
    reception = stage.phone("desk-4", ring_ms=700, tone_hz=1004)
    caller = await stage.dial(NUMBERS["queue"])
    await caller.until(200)
    await caller.until_heard(425)
    await caller.until_heard(1004)
    caller.hang_up()
    record = await stage.record_of(caller)
    assert len(reception.invites) == 1
    assert _outcomes(record) == [("queue", "no_answer", None), ("reception", "answered", None)]
    assert (record["outcome"], record["destination"]) == ("answered", "reception")
    assert near(record["wait_seconds"], 2 + 0.7, more=0.9)


async def test_a_queue_that_gives_up_unanswered_then_the_reserve(stage: Stage) -> None:
    for phone in ("desk-1", "desk-2"):
        stage.phone(phone, Behaviour.BUSY)
    stage.phone("desk-4")
    call = await stage.call(NUMBERS["silent-queue"])
    assert call.result.status == 200
    [queue, reception] = _outcomes(call.record)
    assert queue[:2] == ("silent-queue", "busy")
    assert reception == ("reception", "answered", None)


async def test_a_caller_leaves_the_queue(stage: Stage) -> None:
    """Answered by the queue, abandoned for us."""
    for phone in ("desk-1", "desk-2"):
        stage.phone(phone, Behaviour.RING_FOR_EVER)
    call = await stage.call(NUMBERS["queue"], hold_ms=1_000)
    assert (call.result.status, call.result.ended_by) == (200, "caller")
    assert _outcomes(call.record) == [("queue", "abandoned", None)]
    record = call.record
    assert (record["outcome"], record["ended_by"], record["missed"]) == ("abandoned", "caller", True)
    assert (record["answered_at"], record["talk_seconds"], record["agent"]) == (None, 0.0, None)


async def test_an_ivr_that_only_talks_has_not_answered(stage: Stage) -> None:
    """It ended the call itself: the PBX had the last word, and nobody talked."""
    reception = stage.phone("desk-4")
    caller = await stage.dial(NUMBERS["ivr"])
    await caller.until(200)
    await caller.until_heard(HERTZ)
    await caller.until_hung_up()
    record = await stage.record_of(caller)
    assert reception.invites == []
    assert _outcomes(record) == [("ivr", "no_answer", None)]
    assert (record["outcome"], record["missed"], record["ended_by"]) == ("no_answer", True, "system")
    assert (record["answered_at"], record["talk_seconds"]) == (None, 0.0)


async def test_a_person_behind_a_menu(stage: Stage) -> None:
    stage.phone("desk-3", ring_ms=300)
    call = await stage.call(NUMBERS["menu"], hold_ms=3_500)
    assert _outcomes(call.record) == [("menu", "answered", "clara")]
    # Half a second that Answer() waits for audio, the second of the menu, the ringing.
    assert 1.3 - stages.slack() < call.record["wait_seconds"] < 1.8 + stages.slack()


async def test_nobody_behind_a_menu_then_the_reserve(stage: Stage) -> None:
    stage.phone("desk-3", Behaviour.BUSY)
    stage.phone("desk-4")
    call = await stage.call(NUMBERS["menu"], hold_ms=3_500)
    assert _outcomes(call.record) == [("menu", "no_answer", None), ("reception", "answered", None)]


@pytest.mark.parametrize(("key", "outcome"), [("engaged", "busy"), ("missing", "unreachable")])
async def test_an_extension_that_refuses_then_the_reserve(stage: Stage, key: str, outcome: str) -> None:
    """A busy extension, and one that the PBX does not have."""
    stage.phone("desk-4")
    call = await stage.call(NUMBERS[key])
    assert call.result.status == 200
    assert _outcomes(call.record) == [(key, outcome, None), ("reception", "answered", None)]
