"""Recordings by ear: who is on which channel, in sync, and nothing but the talk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance import sound
from tests.acceptance.stages import Site, Stage, seconds_of
from tests.conftest import NodeFactory
from tests.rig import AGENT_HZ, CALLER_HZ, AsteriskNode, Callee, Hold, Rig, Voice, standstills, tones, voice_of
from tests.rig.sipua import Caller
from tests.rig.waits import wait_until

pytestmark = pytest.mark.real_time

NOBODY_ASKED, ASKED, WHISPERED, UNRECORDED = "74990000001", "74990000002", "74990000003", "74990000004"
OPT_IN = sound.PROMPTS["consent_opt_in"]

ROUTING = """
[[route]]
key = "silent-consent"
forward = ["first"]
ring_seconds = 10
recording = "none"

[[route]]
key = "asked"
forward = ["first"]
ring_seconds = 10
recording = "opt_in"

[[route]]
key = "whispered"
forward = ["first"]
ring_seconds = 10
recording = "announce"
tell_agent = true
whisper = "@hint"

[[route]]
key = "unrecorded"
forward = ["first"]
ring_seconds = 10
whisper = "@hint"

[[tracking_number]]
number = "+74990000001"
route = "silent-consent"

[[tracking_number]]
number = "+74990000002"
route = "asked"

[[tracking_number]]
number = "+74990000003"
route = "whispered"

[[tracking_number]]
number = "+74990000004"
route = "unrecorded"
"""


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[Site]:
    with sound.site(make_node, ROUTING, "consent_opt_in", "consent_announce", "agent_told", "hint") as made:
        yield made


@pytest.fixture
def stage(site: Site, rig_of: Callable[[AsteriskNode], Rig]) -> Stage:
    return Stage(site, rig_of(site.node))


async def end_of(caller: Caller) -> str:
    """Hang up; the call's id."""
    caller.hang_up()
    return caller.call_id


async def test_the_talk_and_nothing_else(stage: Stage) -> None:
    """R17, C4: caller left, agent right, in sync; neither ringing nor prompt nor whisper; the spool is emptied."""
    phone = stage.phone("desk-1", ring_ms=800, voice=Voice(AGENT_HZ))
    caller = await stage.dial(WHISPERED, voice=Voice(CALLER_HZ))
    await caller.headset.until_talk(AGENT_HZ, 4.0)
    [talk] = await sound.recorded(stage, await end_of(caller))
    assert sound.told(caller.headset.heard()) == ["consent_announce", "ring", "agent"]
    assert sound.told(phone.headset.heard())[-3:] == ["hint", "agent_told", "caller"]
    assert sound.told(talk.left) == ["caller"]
    assert sound.told(talk.right) == ["agent"]
    tolerance_ms = 50 + sound.lost_ms(caller)
    assert tones.misalignment(talk.left, CALLER_HZ, talk.right, AGENT_HZ) < tolerance_ms
    assert max(tones.unevenness(talk.left, CALLER_HZ), tones.unevenness(talk.right, AGENT_HZ)) < tolerance_ms
    assert abs(talk.left.seconds - talk.record["talk_seconds"]) < 0.5


async def test_the_caller_never_waits_in_silence(stage: Stage) -> None:
    """C7: ringing before, during and after the whisper."""
    phone = stage.phone("desk-1", ring_ms=800, voice=Voice(AGENT_HZ))
    caller = await stage.dial(WHISPERED, voice=Voice(CALLER_HZ))
    await caller.headset.until_heard(AGENT_HZ)
    heard = caller.headset.heard()
    ringing, talking = heard.first(tones.RING_HZ), heard.first(AGENT_HZ)
    assert ringing is not None and talking is not None
    assert heard.longest_silence(ringing, talking) < 400 + standstills.lost_ms(ringing, talking)
    whispered = phone.headset.heard().stretches(sound.PROMPTS["hint"])
    assert any(ringing < one.start and one.end < talking and one.seconds > 0.9 for one in whispered)
    caller.hang_up()


@pytest.mark.parametrize("codec", ["ulaw", "alaw"])
async def test_after_consent_in_either_codec(stage: Stage, codec: str) -> None:
    """N3: the key 1, and from then on."""
    stage.phone("desk-1", voice=Voice(AGENT_HZ, codec=codec))
    caller = await stage.dial(ASKED, voice=Voice(CALLER_HZ, codec=codec))
    await caller.headset.until_heard(OPT_IN)
    await caller.press("1")
    await caller.headset.until_talk(AGENT_HZ, 3.0)
    [talk] = await sound.recorded(stage, await end_of(caller))
    assert (sound.told(talk.left), sound.told(talk.right)) == (["caller"], ["agent"])
    assert talk.left.share(*voice_of(CALLER_HZ)) > 0.9
    assert tones.misalignment(talk.left, CALLER_HZ, talk.right, AGENT_HZ) < 50 + sound.lost_ms(caller)


async def test_refused_is_not_recorded(stage: Stage) -> None:
    """N3: no file, no MixMonitor in the journal; the talk goes on all the same."""
    stage.phone("desk-1", voice=Voice(AGENT_HZ))
    caller = await stage.dial(ASKED, voice=Voice(CALLER_HZ))
    await caller.headset.until_heard(OPT_IN)
    await caller.press("2")
    await caller.headset.until_talk(AGENT_HZ, 1.0)
    during = sound.spooled(stage)
    caller.hang_up()
    record = await stage.record_of(caller)
    assert not [name for name in during if name.startswith(record["call_id"])]
    assert sound.spooled(stage, record["call_id"]) == []
    assert record["recording_consent"]["result"] == "refused"
    assert sound.monitors(stage, record) == []
    assert sound.rows(stage.daemon, record["call_id"]) == []


async def test_goes_on_over_a_hold(stage: Stage) -> None:
    """R17: the agent puts the caller on hold and comes back, and the recording knows no gap."""
    stage.phone("desk-1", voice=Voice(AGENT_HZ), hold=Hold(after_ms=1500, for_ms=1500))
    caller = await stage.dial(NOBODY_ASKED, voice=Voice(CALLER_HZ))
    heard = await caller.headset.until(lambda heard: [v.seconds > 1.2 for v in heard.voice(AGENT_HZ)] == [True, True])
    away, back = heard.voice(AGENT_HZ)
    [talk] = await sound.recorded(stage, await end_of(caller))
    # All that the caller said: how long the recording is says less, since on a busy machine a voice begins late.
    tolerance = 0.1 + sound.lost_ms(caller) / 1000
    [said] = zip(caller.headset.deeds("speaks"), caller.headset.deeds("ended"), strict=True)
    assert [one.seconds for one in talk.left.voice(CALLER_HZ)] == [
        pytest.approx(said[1].at - said[0].at, abs=tolerance)
    ]
    before, after = talk.right.voice(AGENT_HZ)
    assert after.start - before.end == pytest.approx(back.start - away.end, abs=tolerance)
    assert tones.misalignment(talk.left, CALLER_HZ, talk.right, AGENT_HZ) < 50 + sound.lost_ms(caller)


@pytest.mark.parametrize("is_up", [True, False], ids=["daemon up", "daemon down"])
async def test_paused_by_the_agents_key(stage: Stage, is_up: bool) -> None:
    """R42: `*2` and `*2` again; the pause is silence of its own length on both sides, and neither part loses time."""
    phone = stage.phone("desk-1", voice=Voice(AGENT_HZ))
    if not is_up:
        stage.daemon.stop()
    caller = await stage.dial(NOBODY_ASKED, voice=Voice(CALLER_HZ))
    try:
        await caller.headset.until_talk(AGENT_HZ, 2.5)
        await pressed(stage, phone, "paused")
        await caller.headset.until_talk(AGENT_HZ, 1.7)
        await pressed(stage, phone, "resumed")
        await caller.headset.until_talk(AGENT_HZ, 2.5)
        before = stage.journal().count("LINKEDID_END")
        caller.hang_up()
        await until_more(stage, "LINKEDID_END", before)
    finally:
        if not is_up:
            stage.daemon.start()
            await stage.daemon.until_ready()
    [talk] = await sound.recorded(stage, caller.call_id)
    [pause] = talk.record["pauses"]
    wanted = seconds_of(pause["to"]) - seconds_of(pause["from"])
    [left] = talk.left.silences(least=1.0)
    [right] = talk.right.silences(least=1.0)
    assert left.seconds == pytest.approx(wanted, abs=0.1 + sound.lost_ms(caller) / 1000)
    # On the agent's side the keys are silence too: the tone stops while one is pressed.
    assert left.start - 0.6 < right.start <= left.start + 0.05
    assert left.end - 0.05 <= right.end < left.end + 0.6
    assert tones.misalignment(talk.left, CALLER_HZ, talk.right, AGENT_HZ) < 50 + sound.lost_ms(caller)
    assert tones.unevenness(talk.left, CALLER_HZ) < 100 + sound.lost_ms(caller)
    assert caller.headset.keys_heard() == 0


async def pressed(stage: Stage, phone: Callee, result: str) -> None:
    """The agent presses `*2`; return when the dialplan has done so."""
    before = stage.journal().count(f"r={result}")
    phone.headset.press("*2")
    await until_more(stage, f"r={result}", before)


async def until_more(stage: Stage, text: str, before: int) -> None:
    """Return when the journal holds this text more often than before."""
    await asyncio.to_thread(
        wait_until, lambda: stage.journal().count(text) > before, 5, f"another {text} in the journal"
    )
