"""The rig's voices and ears: what it plays is what it hears and what a bare MixMonitor records."""

from __future__ import annotations

import asyncio
import os
from array import array
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests import audio
from tests.conftest import NodeFactory
from tests.rig import (
    AGENT_HZ,
    CALLER_HZ,
    RING_HZ,
    AsteriskNode,
    Hold,
    Key,
    Rig,
    Track,
    Voice,
    processes,
    standstills,
    tones,
    voice_of,
)
from tests.rig.headset import PROGRAM
from tests.rig.sipp import tone

pytestmark = pytest.mark.real_time

CALLER, AGENT, WHISPER = CALLER_HZ, AGENT_HZ, 1700
NAMES: dict[str, int | tuple[int, int]] = {"ring": RING_HZ, "caller": voice_of(CALLER), "agent": voice_of(AGENT)}

DIALPLAN = """
[general]
clearglobalvars = no

[try]
; Ringing is heard, a whisper is said to the agent, the talk is recorded.
exten => 1,1,Answer()
 same => n,MixMonitor(x.wav,br(${SPOOL}/x.1-caller.sln)t(${SPOOL}/x.1-agent.sln))
 same => n,Dial(PJSIP/desk-1,10^4,m(ring)U(whisper))
; Bare.
exten => 2,1,Dial(PJSIP/desk-1,10^4,i)
; A key of the caller's before, one of the agent's after the answer.
exten => 3,1,Answer()
 same => n,Read(KEY,,1,,1,6)
 same => n,CELGenUserEvent(TRY_KEY,caller=${FILTER(0-9*,${KEY})})
 same => n,Dial(PJSIP/desk-1,10^4,im(ring)U(press))

[whisper]
exten => s,1,Playback(${SPOOL}/whisper)
 same => n,Return()

[press]
exten => s,1,Read(KEY,,2,,1,6)
 same => n,CELGenUserEvent(TRY_KEY,agent=${FILTER(0-9*,${KEY})})
 same => n,Return()
"""


@pytest.fixture(scope="module")
def node(make_node: NodeFactory) -> AsteriskNode:
    node = make_node(dialplan={"extensions.conf": DIALPLAN}, realtime=True, steady_ring=True)
    node.add_site(node.trunk_text("carrier-a", "try"))
    extensions = node.etc / "extensions.conf"
    extensions.write_text(extensions.read_text().replace("${SPOOL}", str(node.spool / "monitor")))
    (node.spool / "monitor" / "whisper.ulaw").write_bytes(tone(node.folder, WHISPER).read_bytes())
    node.start()
    return node


@pytest.fixture
def rig(node: AsteriskNode, rig_of: Callable[[AsteriskNode], Rig]) -> Rig:
    return rig_of(node)


def names_of(track: Track, lost_ms: float = 0.0, **more: int) -> list[str]:
    """What is heard, in order, but for what the machine has lost."""
    return [sound.name for sound in track.story({**NAMES, **more}, least=0.05 + lost_ms / 1000)]


@pytest.mark.parametrize("codec", ["ulaw", "alaw"])
async def test_both_hear_each_other(rig: Rig, codec: str) -> None:
    """In either codec, for the whole talk, in step."""
    phone = rig.callee("desk-1", voice=Voice(AGENT, codec=codec))
    result = await rig.call("2", voice=Voice(CALLER, codec=codec), hold_ms=3500)
    assert result.headset is not None and result.talk_ms is not None
    by_caller, by_agent = result.headset.heard(), phone.headset.heard()
    assert names_of(by_caller) == ["agent"]
    assert names_of(by_agent) == ["caller"]
    for track, hertz in ((by_caller, AGENT), (by_agent, CALLER)):
        assert track.share(*voice_of(hertz)) > 0.9
        assert abs(track.seconds - result.talk_ms / 1000) < 0.3
        assert track.longest_silence() < 50 + standstills.lost_ms(track.start, track.end)
        # At each full second of the clock.
        assert all(abs(mark.at - round(mark.at)) < 0.05 for mark in track.marks(hertz))
    assert tones.misalignment(by_caller, AGENT, by_agent, CALLER) < 50 + standstills.lost_ms(by_caller.start)


async def test_ringing_whisper_talk_and_the_recording(rig: Rig, node: AsteriskNode) -> None:
    """The caller hears ringing without a gap up to the talk; only the talk is recorded, in sync."""
    phone = rig.callee("desk-1", ring_ms=900, voice=Voice(AGENT))
    result = await rig.call("1", voice=Voice(CALLER), hold_ms=6500)
    node.until_idle()
    assert result.headset is not None
    by_caller, by_agent = result.headset.heard(), phone.headset.heard()
    lost_ms = standstills.lost_ms(by_caller.start, by_caller.end)
    assert names_of(by_caller, lost_ms, whisper=WHISPER) == ["ring", "agent"]
    assert by_caller.longest_silence() < 100 + lost_ms
    assert names_of(by_agent, lost_ms, whisper=WHISPER)[-2:] == ["whisper", "caller"]
    left, right = audio.spool(node.spool / "monitor", "x")
    assert names_of(left, lost_ms, whisper=WHISPER) == ["caller"]
    assert names_of(right, lost_ms, whisper=WHISPER) == ["agent"]
    assert tones.misalignment(left, CALLER, right, AGENT) < 50 + lost_ms
    assert max(tones.unevenness(left, CALLER), tones.unevenness(right, AGENT)) < 50 + lost_ms


async def test_keys_of_both(rig: Rig, node: AsteriskNode) -> None:
    """RFC 4733, at a moment given beforehand, or now."""
    phone = rig.callee("desk-1", ring_ms=300, voice=Voice(AGENT, keys=[Key("*2", after_ms=400)]))
    caller = await rig.dial("3", voice=Voice(CALLER))
    await caller.until(200)
    await caller.press("1")
    await caller.headset.until_heard(AGENT)
    journal = node.journal.read_text()
    assert "caller=1" in journal and "agent=*2" in journal
    assert [key for key, _ in caller.headset.pressed()] == ["1"]
    (star, first), (two, _) = phone.headset.pressed()
    assert (star, two) == ("*", "2") and 0.39 < first - phone.headset.answered_at() < 0.5
    phone.hang_up()
    await caller.until_hung_up()
    assert not caller.headset.keys_heard()


async def test_a_headset_whose_call_never_began_is_gone_with_the_rig(rig: Rig) -> None:
    """Given up while it starts, as a test is that takes too long: else it is found in another test, and fails it."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await rig.start_call("2", voice=Voice())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await rig.dial("2", voice=Voice())
    assert len(headsets()) == 2
    await rig.close()
    assert headsets() == []


def headsets() -> list[int]:
    """Those that this process has running."""
    return [one.pid for one in psutil.Process().children() if str(PROGRAM) in one.cmdline()]


async def test_hold_and_take_back(rig: Rig) -> None:
    """The agent puts the caller on hold and is silent meanwhile."""
    phone = rig.callee("desk-1", voice=Voice(AGENT), hold=Hold(after_ms=600, for_ms=900))
    caller = await rig.dial("2", voice=Voice(CALLER))
    heard = await caller.headset.until(lambda heard: len(heard.voice(AGENT)) == 2)
    caller.hang_up()
    before, after = heard.voice(AGENT)
    # As long as it was: SIPp ends a hold when it gets to run.
    away, back = (m.at for m in phone.messages if m.method == "INVITE" and m.is_sent and m.status is None)
    assert back - away >= 0.9 and after.start - before.end == pytest.approx(back - away, abs=0.2)
    assert [m.status for m in phone.messages if m.method == "INVITE" and not m.is_sent and m.status] == [200, 200]


# -- the measure itself ----------------------------------------------------------------------------------------------


def made(*parts: tuple[int, float]) -> Track:
    """Tones one after the other; 0 Hz is silence."""
    samples = b"".join(audio.tone(hertz, seconds) if hertz else audio.silence(seconds) for hertz, seconds in parts)
    return Track(array("h", samples))


def test_stretches_and_silences() -> None:
    track = made((440, 0.5), (0, 0.3), (1000, 0.4), (440, 0.2))
    assert [at for one in track.stretches(440) for at in one] == pytest.approx([0.0, 0.5, 1.2, 1.4], abs=0.011)
    assert [at for one in track.stretches(1000) for at in one] == pytest.approx([0.8, 1.2], abs=0.011)
    assert track.longest_silence() == pytest.approx(300, abs=25)
    assert track.longest_silence(0.6, 1.0) == pytest.approx(200, abs=25)
    assert track.longest_silence(-1.0, 0.5) == pytest.approx(1000)
    assert [one.name for one in track.story({"a": 440, "b": 1000})] == ["a", "silence", "b", "a"]
    assert track.share(440) == pytest.approx(0.7 / 1.1, abs=0.03)
    assert made((0, 1.0)).longest_silence() == pytest.approx(1000)
    assert Track(array("h")).story({}) == []


def test_misalignment_is_seen() -> None:
    """60 ms are 60 ms; a second more or less is no alignment either."""
    mark = 440 + 250
    second = [(mark, 0.15), (440, 0.85)]
    pattern = [(440, 1.0), *second, *second, *second, (mark, 0.4), (440, 0.6), *second]
    left, late, later = made(*pattern), made((440, 0.06), *pattern), made((440, 1.0), *pattern)
    assert tones.misalignment(left, 440, late, 440) == pytest.approx(60, abs=10)
    assert tones.unevenness(late, 440) < 11
    with pytest.raises(AssertionError, match="not the same seconds"):
        tones.misalignment(left, 440, later, 440)
    with pytest.raises(AssertionError, match="marks"):
        tones.misalignment(left, 440, made((440, 4.0)), 440)
    lost = made((440, 0.5), *second, (440, 0.2), *second, *second)
    assert tones.unevenness(lost, 440) == pytest.approx(200, abs=11)


def test_a_small_filesystem_for_recordings(make_node: NodeFactory) -> None:
    """It is as small as asked for, Asterisk's own, and gone with the node."""
    node = make_node(dialplan={"extensions.conf": DIALPLAN})
    node.limit_recordings(400_000)
    room = os.statvfs(node.recordings)
    assert 0 < room.f_blocks * room.f_frsize <= 400_000 + room.f_frsize
    assert node.recordings.stat().st_uid == processes.UNPRIVILEGED_ID
    assert node.recordings.stat().st_mode & 0o7777 == 0o2770
    node.close()
    assert not node.recordings.exists()
    assert str(node.recordings) not in Path("/proc/mounts").read_text()
