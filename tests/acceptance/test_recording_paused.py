"""A recording paused by the API, by ear: silence of its length, also when the daemon dies meanwhile (R17, R42)."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.acceptance import sound
from tests.acceptance.stages import Site, Stage
from tests.conftest import NodeFactory
from tests.rig import AGENT_HZ, CALLER_HZ, AsteriskNode, Rig, Voice, tones

pytestmark = pytest.mark.real_time

RECORDED, UNRECORDED = "74990000001", "74990000002"

ROUTING = """
[[route]]
key = "recorded"
forward = ["first"]
ring_seconds = 10
recording = "none"

[[route]]
key = "unrecorded"
forward = ["first"]
ring_seconds = 10

[[tracking_number]]
number = "+74990000001"
route = "recorded"

[[tracking_number]]
number = "+74990000002"
route = "unrecorded"
"""


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[Site]:
    with sound.site(make_node, ROUTING) as made:
        yield made


@pytest.fixture
def stage(site: Site, rig_of: Callable[[AsteriskNode], Rig]) -> Stage:
    return Stage(site, rig_of(site.node))


class Desk:
    """A program with a token that pauses and resumes."""

    def __init__(self, stage: Stage, name: str) -> None:
        self._stage = stage
        said = stage.daemon.run("token", "add", name, "--scope", "recordings:pause,live:read")
        self._token = next(word for word in said.split() if word.startswith("dm_"))

    def _ask(self, path: str, body: object = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://{self._stage.daemon.admin}/api/v1/calls/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    async def set_paused(self, call_id: str, is_paused: bool) -> tuple[int, Any]:
        return await asyncio.to_thread(self._ask, f"{call_id}/recording", {"paused": is_paused})

    async def live(self) -> dict[str, Any]:
        """The one call that is up, once the board has its talk."""
        while True:
            _, board = await asyncio.to_thread(self._ask, "live")
            talking = [call for call in board["calls"] if call["answered_at"]]
            if talking:
                return dict(talking[0])


async def test_a_pause_by_api_is_silence_of_its_length(stage: Stage) -> None:
    """The people hear each other all the while, and both sides stay in sync."""
    desk = Desk(stage, "till")
    stage.phone("desk-1", voice=Voice(AGENT_HZ))
    caller = await stage.dial(RECORDED, voice=Voice(CALLER_HZ))
    await caller.headset.until_talk(AGENT_HZ, 1.5)
    call_id = (await desk.live())["call_id"]
    assert await desk.set_paused(call_id, True) == (200, {"call_id": call_id, "paused": True})
    began = time.monotonic()
    assert (await desk.live())["recording_paused"] is True
    await caller.headset.until_talk(AGENT_HZ, 3.5)
    assert await desk.set_paused(call_id, False) == (200, {"call_id": call_id, "paused": False})
    length = time.monotonic() - began
    assert "recording_paused" not in await desk.live()
    await caller.headset.until_talk(AGENT_HZ, 5.0)
    caller.hang_up()
    [talk] = await sound.recorded(stage, caller.call_id)
    [left], [right] = talk.left.silences(least=1.0), talk.right.silences(least=1.0)
    assert left.seconds == pytest.approx(length, abs=0.25)
    assert right.seconds == pytest.approx(left.seconds, abs=0.05)
    assert tones.misalignment(talk.left, CALLER_HZ, talk.right, AGENT_HZ) < 50 + sound.lost_ms(caller)
    assert len(caller.headset.heard().voice(AGENT_HZ)) == 1
    audited = stage.daemon.query("SELECT actor, action FROM audit WHERE subject = ? ORDER BY seq", f"call:{call_id}")
    assert [tuple(row) for row in audited] == [
        ("token:till", "recording.paused"),
        ("token:till", "recording.resumed"),
    ]
    assert (await desk.set_paused(call_id, True))[0] == 409


async def test_a_daemon_killed_in_a_pause_leaves_the_pause(stage: Stage) -> None:
    """It comes back, says that the recording is paused, and only a resume ends that."""
    desk = Desk(stage, "till-2")
    stage.phone("desk-1", voice=Voice(AGENT_HZ))
    caller = await stage.dial(RECORDED, voice=Voice(CALLER_HZ))
    await caller.headset.until_talk(AGENT_HZ, 1.5)
    call_id = (await desk.live())["call_id"]
    assert (await desk.set_paused(call_id, True))[0] == 200
    stage.daemon.kill()
    stage.daemon.start()
    await stage.daemon.until_ready()
    assert (await desk.live())["recording_paused"] is True
    at = caller.headset.heard().seconds
    await caller.headset.until(lambda heard: heard.seconds > at + 1.0)
    assert (await desk.set_paused(call_id, False))[0] == 200
    at = caller.headset.heard().seconds
    await caller.headset.until(lambda heard: heard.seconds > at + 2.0)
    caller.hang_up()
    [talk] = await sound.recorded(stage, caller.call_id)
    assert len(talk.left.silences(least=1.0)) == len(talk.right.silences(least=1.0)) == 1
    assert sound.told(talk.left) == ["caller"] and len(talk.left.voice(CALLER_HZ)) == 2


async def test_a_talk_that_is_not_recorded_cannot_be_paused(stage: Stage) -> None:
    desk = Desk(stage, "till-3")
    stage.phone("desk-1", voice=Voice(AGENT_HZ))
    caller = await stage.dial(UNRECORDED, voice=Voice(CALLER_HZ))
    await caller.headset.until_talk(AGENT_HZ, 0.5)
    call_id = (await desk.live())["call_id"]
    status, problem = await desk.set_paused(call_id, True)
    assert (status, problem["type"]) == (409, "urn:dialmark:problem:call-not-recorded")
    await caller.headset.until_talk(AGENT_HZ, 1.0)
    caller.hang_up()
    await stage.record_of(caller)
