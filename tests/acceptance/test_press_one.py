"""R91: only a person who presses 1 is connected. Refusal, silence or a machine sends the call on; the caller hears
ringing all the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.acceptance import sound, stages
from tests.acceptance.scenes import Played, Scene, Scenes
from tests.conftest import NodeFactory
from tests.rig import CALLER_HZ, Behaviour, Headset, Key, Voice, voice_of
from tests.rig.dialmark import Record
from tests.rig.waits import wait_until

pytestmark = pytest.mark.real_time

SCENES = Scenes()
ACCEPT, HINT = sound.PROMPTS["accept"], sound.PROMPTS["hint"]
PROMPTS = ("consent_announce", "agent_told", "accept", "hint")
PRESS = 'accept = "press-1"\naccept_repeats = 1\naccept_seconds = 2\n'
BOTH = 'forward = ["{a}"]\nreserve = ["{b}"]\n' + PRESS
ANSWERED = BOTH + 'recording = "announce"\n'
MACHINE_HZ = 1200
ONE = [Key("1", 1300)]
"""After the prompt's second."""


def accepted(record: Record) -> list[bool | None]:
    return [one["accepted"] for one in record["attempts"]]


@SCENES.add(BOTH, down=True)
async def who_presses_1(on: Scene) -> None:
    """Is connected then and not before, and the caller not answered before."""
    phone = on.phone("a", keys=ONE)
    caller = await on.dial()
    await on.talks(caller)
    record = await on.end(caller)
    assert (on.outcomes(record), accepted(record)) == (["answered"], [True])
    assert on.told(phone.headset, "accept", "caller") == ["accept", "caller"]
    on.rang(caller)
    [(_, pressed)] = phone.headset.pressed()
    assert 0 < caller.headset.heard().start - pressed < 1


@SCENES.add(ANSWERED + "tell_agent = true", down=True)
async def who_presses_1_for_an_answered_caller(on: Scene) -> None:
    """Ringing goes on while the agent is asked; the agent hears of the recording first."""
    phone = on.phone("a", keys=[Key("1", 2300)])
    caller = await on.dial()
    await on.talks(caller)
    record = await on.end(caller)
    assert accepted(record) == [True]
    assert on.told(phone.headset, "agent_told", "accept", "caller") == ["agent_told", "accept", "caller"]
    assert on.told(caller.headset, "consent_announce", "ring", "a") == ["consent_announce", "ring", "a"]
    on.rang(caller)


@SCENES.add(BOTH + 'whisper = "@hint"', down=True)
async def who_presses_1_in_the_whisper(on: Scene) -> None:
    """Who knows what will be asked need not wait for it."""
    phone = on.phone("a", keys=[Key("1", 400)])
    caller = await on.dial()
    await on.talks(caller)
    record = await on.end(caller)
    assert (accepted(record), record["attempts"][0]["whisper_played"]) == ([True], True)
    assert on.told(phone.headset, "hint", "accept", "caller") == ["hint", "caller"]
    assert phone.headset.heard().stretches(HINT)[-1].seconds < 0.9
    on.rang(caller)


async def _refused(on: Scene, key: str) -> None:
    first, second = on.phone("a", keys=[Key(key, 500)]), on.phone("b", keys=ONE)
    caller = await on.dial()
    await on.talks(caller, "b")
    record = await on.end(caller)
    assert (on.outcomes(record), accepted(record)) == (["not_accepted", "answered"], [False, True])
    assert (record["outcome"], record["missed"]) == ("answered", False)
    assert on.told(first.headset, "accept") == ["accept"]
    assert on.told(second.headset, "accept", "caller") == ["accept", "caller"]
    assert set(on.told(caller.headset, "consent_announce", "ring", "b")) - {"consent_announce", "ring"} == {"b"}
    on.rang(caller, "b")


@SCENES.add(BOTH, down=True)
async def another_key(on: Scene) -> None:
    """Refuses: the next step rings, and there it is counted as not accepted."""
    await _refused(on, "2")


@SCENES.add(BOTH)
async def the_hash_key(on: Scene) -> None:
    await _refused(on, "#")


@SCENES.add(ANSWERED)
async def another_key_for_an_answered_caller(on: Scene) -> None:
    await _refused(on, "*")


@SCENES.add(BOTH, down=True, long=True)
async def no_key(on: Scene) -> None:
    """Asked once more, then the next step; about twice a second of prompt and two of silence."""
    first = on.phone("a")
    on.phone("b", keys=ONE)
    caller = await on.dial()
    await on.talks(caller, "b")
    record = await on.end(caller)
    assert (on.outcomes(record), accepted(record)) == (["not_accepted", "answered"], [False, True])
    asked = first.headset.heard().stretches(ACCEPT, join=0.3, least=0.5)
    assert len(asked) == 2
    assert 2.8 < asked[1].start - asked[0].start < 4
    on.rang(caller, "b")


@SCENES.add(BOTH, down=True)
async def nobody_presses(on: Scene) -> None:
    """A miss by no answer: 480 to the caller, who was never answered."""
    on.phone("a", keys=[Key("3", 400)])
    on.phone("b")
    caller = await on.dial()
    assert await caller.final() == 480
    record = await on.record(caller)
    assert (record["outcome"], record["missed"], record["cause"]) == ("no_answer", True, None)
    assert (on.outcomes(record), accepted(record)) == (["not_accepted"] * 2, [False, False])
    assert (record["answered_at"], record["talk_seconds"], record["agent"]) == (None, 0.0, None)
    assert {status for status, _ in caller.responses[1:-1]} == {180}


@SCENES.add('forward = ["mobile"]\nreserve = ["{b}"]\n' + PRESS + 'recording = "announce"', down=True, long=True)
async def voicemail_of_a_mobile(on: Scene) -> None:
    """It answers and talks all the time: never connected, and not a word of it to the caller or the recording."""
    voicemail = on.stage.phone("carrier-a", ring_ms=300, voice=Voice(MACHINE_HZ))
    on.phone("b", keys=ONE)
    caller = await on.dial()
    await on.talks(caller, "b")
    record = await on.end(caller)
    assert (on.outcomes(record), accepted(record)) == (["not_accepted", "answered"], [False, True])
    assert [one["destination"] for one in record["attempts"]] == ["mobile", on.desks["b"]]
    assert on.told(voicemail.headset, "accept") == ["accept"]
    assert on.told(caller.headset, "consent_announce", "ring", "b", "c") == ["consent_announce", "ring", "b"]
    on.rang(caller, "b")
    [talk] = await sound.recorded(on.stage, caller.call_id)
    assert set(on.told(talk.right, "b", "c")) - {"other"} == {"b"}
    assert talk.right.share(*voice_of(MACHINE_HZ)) < 0.05


@SCENES.add(BOTH, down=True)
async def an_agent_who_hangs_up_while_asked(on: Scene) -> None:
    on.phone("a", talk_ms=500)
    on.phone("b", keys=ONE)
    caller = await on.dial()
    await on.talks(caller, "b")
    record = await on.end(caller)
    assert (on.outcomes(record), accepted(record)) == (["not_accepted", "answered"], [None, True])
    on.rang(caller, "b")


@SCENES.add(ANSWERED, down=True)
async def a_caller_who_hangs_up_meanwhile(on: Scene) -> None:
    """Abandoned: the agent's 1 comes too late and connects nobody, and nobody else is rung."""
    phone, second = on.phone("a", keys=[Key("1", 2500)]), on.phone("b")
    caller = await on.dial()
    await on.hears(phone.headset, ACCEPT)
    record = await on.end(caller)
    assert (record["outcome"], record["missed"]) == ("abandoned", True)
    assert (on.outcomes(record), accepted(record)) == (["abandoned"], [True])
    assert second.invites == []
    assert sound.rows(on.stage.daemon, record["call_id"]) == []


# -- rings together ----------------------------------------------------------------------------------------------

GROUP = 'forward = ["{a}", "{b}"]\nreserve = ["{c}"]\n' + PRESS


@SCENES.add(GROUP, down=True)
async def one_of_a_group_presses_1(on: Scene) -> None:
    """The other has stopped ringing by then."""
    on.phone("a", keys=ONE)
    other = on.phone("b", Behaviour.RING_FOR_EVER, voice=None)
    caller = await on.dial()
    await on.talks(caller)
    record = await on.end(caller)
    assert (on.outcomes(record), accepted(record)) == (["answered", "cancelled"], [True, None])
    assert on.requests(other) == ["INVITE", "CANCEL", "ACK"]
    on.rang(caller)


@SCENES.add(GROUP, down=True)
async def one_of_a_group_refuses(on: Scene) -> None:
    """Who answers first is asked for all of them (docs/routing.md); the call is the next step's."""
    on.phone("a", keys=[Key("2", 400)])
    on.phone("b", Behaviour.RING_FOR_EVER, voice=None)
    on.phone("c", keys=ONE)
    caller = await on.dial()
    await on.talks(caller, "c")
    record = await on.end(caller)
    assert on.outcomes(record) == ["not_accepted", "cancelled", "answered"]
    assert accepted(record) == [False, None, True]
    on.rang(caller, "c")


@SCENES.add('forward = ["{a}"]\nreserve = ["{b}"]\n', desks='accept = "press-1"')
async def a_destination_that_must_press(on: Scene) -> None:
    """Of `[[destination]]`, with the defaults for repeats and seconds."""
    on.phone("a", keys=[Key("5", 400)])
    on.phone("b", keys=ONE)
    caller = await on.dial()
    await on.talks(caller, "b")
    record = await on.end(caller)
    assert accepted(record) == [False, True]


# -- answering machine detection ---------------------------------------------------------------------------------

DETECT = BOTH + "answering_machine_detection = true\n"


@SCENES.add(DETECT, down=True, long=True)
async def a_machine_that_talks_on_and_on(on: Scene) -> None:
    """An inference, said so in the record; it is not asked, and the next step rings at once."""
    machine = on.phone("a")
    second = on.phone("b")
    caller = await on.dial()
    await until_answered(second.headset)
    second.headset.hush(True)
    await on.hears(second.headset, ACCEPT)
    second.headset.press("1")
    await caller.until(200)
    second.headset.hush(False)
    await on.talks(caller, "b")
    record = await on.end(caller)
    assert [one["machine"] for one in record["attempts"]] == [True, None]
    assert (on.outcomes(record), accepted(record)) == (["not_accepted", "answered"], [False, True])
    assert on.told(machine.headset, "accept") == []
    # A greeting is one after 1.8 s.
    gone = machine.headset.deeds("ended")[0].at - machine.headset.deeds("answered")[0].at
    assert 1.7 < gone < 3.0 + stages.slack()
    on.rang(caller, "b")


@SCENES.add(DETECT, down=True)
async def a_person_who_says_hello(on: Scene) -> None:
    """Half a second of voice, then a listening silence: asked soon, and no machine in the record."""
    phone = on.phone("a")
    on.phone("b")
    caller = await on.dial()
    await until_answered(phone.headset)
    await asyncio.to_thread(wait_until, lambda: time.time() > phone.headset.answered_at() + 0.5, 5, "half a second")
    phone.headset.hush(True)
    await on.hears(phone.headset, ACCEPT)
    phone.headset.press("1")
    await caller.until(200)
    phone.headset.hush(False)
    await on.talks(caller)
    record = await on.end(caller)
    assert (on.outcomes(record), accepted(record)) == (["answered"], [True])
    assert record["attempts"][0]["machine"] is None
    asked = phone.headset.heard().first(ACCEPT)
    assert asked is not None
    assert asked - phone.headset.answered_at() < 2.0 + stages.slack()
    on.rang(caller)


@SCENES.add(DETECT, long=True)
async def a_person_who_says_nothing(on: Scene) -> None:
    """Is asked too, after the four seconds that listening may take."""
    phone = on.phone("a", voice=Voice(keys=[Key("1", 6000)]))
    caller = await on.dial()
    await on.hears(phone.headset, ACCEPT)
    await caller.until(200)
    await on.hears(phone.headset, *voice_of(CALLER_HZ))
    record = await on.end(caller)
    assert (on.outcomes(record), accepted(record)) == (["answered"], [True])
    assert record["attempts"][0]["machine"] is None


async def until_answered(headset: Headset) -> None:
    await asyncio.to_thread(wait_until, lambda: bool(headset.deeds("answered")), 15, "an answer")


# -- the tests ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def played(make_node: NodeFactory, request: pytest.FixtureRequest) -> Iterator[Played]:
    with sound.site(make_node, SCENES.routing(), *PROMPTS, phones=SCENES.phones()) as site:
        yield SCENES.play(site, request.session.items)


@pytest.mark.parametrize(("name", "state"), SCENES.all())
def test_press_one(played: Played, name: str, state: str) -> None:
    """R91, N2: each scene, with the daemon up and down; see the scene's own words."""
    played.judge(name, state)
