"""Pause of a recording by AMI, with the account that is shipped, and what the files of both sides hold then (R17)."""

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.pbx import ami
from tests.conftest import NodeFactory
from tests.rig import AGENT_HZ, CALLER_HZ, AsteriskNode, Rig, Voice, waits

RATE = 8_000
WINDOW = RATE // 50
"""Samples looked at together: 20 ms, one packet."""

DIALPLAN = f"""
[try]
exten => 74990000001,1,Set(file=${{ASTSPOOLDIR}}/a)
 same => n,MixMonitor(,br(${{file}}-caller.sln)t(${{file}}-agent.sln)i({ami.RECORDING_VARIABLE}))
 same => n,Dial(PJSIP/desk-1,20^4,gi)
 same => n,Hangup(16)

exten => 74990000002,1,Set(file=${{ASTSPOOLDIR}}/b)
 same => n,MixMonitor(,br(${{file}}-caller.sln)t(${{file}}-agent.sln)i({ami.RECORDING_VARIABLE}))
 same => n,StopMixMonitor(${{{ami.RECORDING_VARIABLE}}})
 same => n,Dial(PJSIP/desk-2,20^4,gi)
 same => n,Hangup(16)

exten => 74990000003,1,Dial(PJSIP/desk-3,20^4,gi)
 same => n,Hangup(16)
"""


@pytest.fixture(scope="module")
def node(make_node: NodeFactory) -> AsteriskNode:
    node = make_node(dialplan={"extensions.conf": DIALPLAN}, realtime=True)
    node.add_site(node.trunk_text("carrier-a", "try"))
    node.start()
    return node


@pytest.fixture
async def session(node: AsteriskNode) -> AsyncIterator[ami.AmiSession]:
    session = ami.AmiSession(node.ami.host, node.ami.port, node.ami_user, lambda: node.ami_secret)
    task = asyncio.create_task(session.run())
    await session.connected.wait()
    yield session
    task.cancel()


async def caller_of(session: ami.AmiSession) -> str:
    """The caller's channel, once both people talk."""
    while True:
        seen = await session.channels()
        if [one.state for one in seen] == ["Up", "Up"] and all(one.bridge_id for one in seen):
            return next(one.name for one in seen if one.unique_id == one.linked_id)


async def until_longer(node: AsteriskNode, name: str, seconds: float) -> None:
    """Return when so much more sound has gone into a file; Asterisk writes it in blocks of 2 s."""
    path = node.spool / name
    wanted = (path.stat().st_size if path.exists() else 0) + round(2 * RATE * seconds)
    await asyncio.to_thread(waits.wait_until, lambda: path.exists() and path.stat().st_size >= wanted, 20, name)


def silences(node: AsteriskNode, name: str) -> tuple[float, list[float]]:
    """Length of a file, and of each silence in it, in seconds."""
    samples = array("h", (node.spool / name).read_bytes())
    found = [0]
    for at in range(0, len(samples) - WINDOW + 1, WINDOW):
        is_silent = not any(samples[at : at + WINDOW])
        if is_silent:
            found[-1] += 1
        elif found[-1]:
            found.append(0)
    return len(samples) / RATE, [count * WINDOW / RATE for count in found if count]


@pytest.mark.real_time
async def test_a_pause_is_silence_of_the_same_length_on_both_sides(
    node: AsteriskNode, session: ami.AmiSession, rig_of: Callable[[AsteriskNode], Rig]
) -> None:
    """The talk goes on, both files stay in step, and asking twice changes nothing."""
    rig = rig_of(node)
    rig.callee("desk-1", voice=Voice(AGENT_HZ))
    call = asyncio.create_task(rig.call("74990000001", voice=Voice(CALLER_HZ), hold_ms=7_000))
    caller = await caller_of(session)
    await until_longer(node, "a-caller.sln", 0.3)
    await session.mute_recording(caller, is_muted=True)
    paused_at = time.monotonic()
    await session.mute_recording(caller, is_muted=True)
    await until_longer(node, "a-caller.sln", 1.0)
    await session.mute_recording(caller, is_muted=False)
    paused = time.monotonic() - paused_at
    result = await call
    assert result.status == 200
    node.until_idle()
    (caller_length, caller_silences), (agent_length, agent_silences) = (
        silences(node, name) for name in ("a-caller.sln", "a-agent.sln")
    )
    assert abs(caller_length - agent_length) < 0.1
    assert caller_length > paused + 1
    # Besides it only moments: before the first tone, and packets that came late.
    assert sum(caller_silences) - max(caller_silences) < 0.5 > sum(agent_silences) - max(agent_silences)
    assert abs(max(caller_silences) - max(agent_silences)) <= 0.06
    assert abs(max(caller_silences) - paused) <= 0.3


async def test_what_the_daemon_muted_stays_muted_without_it(
    node: AsteriskNode, session: ami.AmiSession, rig_of: Callable[[AsteriskNode], Rig]
) -> None:
    """A daemon that dies in a pause leaves the pause: nothing unmutes by accident, not even its next login."""
    for side in ("caller", "agent"):
        (node.spool / f"a-{side}.sln").unlink(missing_ok=True)
    rig = rig_of(node)
    rig.callee("desk-1", tone_hz=1_000)
    call = asyncio.create_task(rig.call("74990000001", tone_hz=440, hold_ms=4_000))
    caller = await caller_of(session)
    other = ami.AmiSession(node.ami.host, node.ami.port, node.ami_user, lambda: node.ami_secret)
    task = asyncio.create_task(other.run())
    await other.connected.wait()
    await other.mute_recording(caller, is_muted=True)
    task.cancel()
    await call
    node.until_idle()
    for side in ("caller", "agent"):
        length, found = silences(node, f"a-{side}.sln")
        assert length > 2
        assert sum(found) > length - 1.5
        # To the very end.
        assert not any(array("h", (node.spool / f"a-{side}.sln").read_bytes())[-RATE:])


@pytest.mark.parametrize("number", ["74990000002", "74990000003"], ids=["stopped", "never begun"])
async def test_a_channel_that_is_not_recorded_is_said_so_and_not_harmed(
    node: AsteriskNode, session: ami.AmiSession, rig_of: Callable[[AsteriskNode], Rig], number: str
) -> None:
    """Without its id Asterisk says Success for a recording that was stopped, as by the agent's key."""
    rig = rig_of(node)
    rig.callee("desk-2")
    rig.callee("desk-3")
    call = asyncio.create_task(rig.call(number, hold_ms=60_000))
    caller = await caller_of(session)
    for is_muted in (True, False):
        with pytest.raises(ami.NotRecorded):
            await session.mute_recording(caller, is_muted=is_muted)
    await session.hang_up(caller)
    await call
    with pytest.raises(ami.NoSuchChannel):
        await session.mute_recording(caller, is_muted=True)


async def test_the_account_may_mute_and_not_begin_a_recording(node: AsteriskNode, session: ami.AmiSession) -> None:
    """manager.conf: of the actions on recordings, only the one that takes sound away and gives it back."""
    for action, headers in (
        ("MixMonitor", {"Channel": "x", "File": "x"}),
        ("Originate", {"Channel": "x", "Application": "MixMonitor"}),
        ("Command", {"Command": "core show channels"}),
    ):
        with pytest.raises(ami.AmiRefused, match="Permission denied"):
            await session._ask(action, seconds=5.0, **headers)
