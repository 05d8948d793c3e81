"""One call for each thing the dialplan does beyond ringing, told by ear and by record; the matrices are elsewhere."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

from tests.acceptance import scenes, sound
from tests.acceptance.scenes import Played, Scene, Scenes
from tests.acceptance.stages import invites
from tests.conftest import NodeFactory
from tests.rig import CALLER_HZ, Behaviour, Caller, Headset, Key, Track, Voice, standstills, voice_of
from tests.rig.waits import wait_until

pytestmark = pytest.mark.real_time

SCENES = Scenes()
PROMPTS = sound.PROMPTS
NEEDED = tuple(key for key in PROMPTS if not key.startswith("rate_"))
"""Those that these routes play."""
A_HZ = voice_of(scenes.VOICES["a"])
TWO = 'forward = ["{a}"]\nreserve = ["{b}"]\n'
PRESS = f'{TWO}accept = "press-1"\naccept_repeats = 1\naccept_seconds = 2'
WHISPER = f'{TWO}whisper = "@hint"\nrecording = "none"\ntell_agent = true'
VOICEMAIL = 'forward = ["{a}"]\nunanswered = "voicemail"'


def told(party: Headset | Track) -> list[str]:
    """Who or what is heard one after the other, of all that can be."""
    return scenes.told(party.heard() if isinstance(party, Headset) else party, scenes.NAMES)


def parties(talk: sound.Recorded) -> tuple[set[str], set[str]]:
    """Who or what is heard on either side; the coding blurs the edges of a tone."""
    return set(told(talk.left)) - {"other"}, set(told(talk.right)) - {"other"}


async def talks(caller: Caller, desk: str = "a", seconds: float = 1.0, within: float = 25.0) -> None:
    """Return when this desk has been heard for so long."""
    await caller.headset.until_heard(*voice_of(scenes.VOICES[desk]), least=seconds, seconds=within)


def id_of(on: Scene, caller: Caller) -> str:
    """The call's id, by its first row; "" when there is none yet."""
    found = re.search(rf"i=([0-9a-f-]{{36}})&did=\d+&[^\n]*sip={caller.call_id}", on.stage.journal())
    return found[1] if found else ""


async def until_told(on: Scene, caller: Caller, text: str) -> None:
    """Return when the journal holds an event of this call with this text."""

    def is_told() -> bool:
        call_id = id_of(on, caller)
        return bool(call_id and re.search(f"i={call_id}&[^\n]*{re.escape(text)}", on.stage.journal()))

    await asyncio.to_thread(wait_until, is_told, 10, f"{text} in the journal")


async def until_left(on: Scene, caller: Caller, seconds: float) -> None:
    """Return when so much of a message is in the spool."""
    file = on.stage.node.recordings / f"{id_of(on, caller)}.1-message.sln"
    await asyncio.to_thread(
        wait_until, lambda: file.exists() and file.stat().st_size >= 16_000 * seconds, 15, f"{seconds} s of a message"
    )


# -- consent and recording ---------------------------------------------------------------------------------------


def asks(mode: str, key: str, result: str) -> None:
    """A scene of its own for this mode and this key."""

    async def play(on: Scene) -> None:
        """C4, N3: each mode asks as it should; recorded when granted, put through in any case."""
        on.phone("a")
        caller = await on.dial()
        if mode != "none":
            await caller.headset.until_heard(PROMPTS[f"consent_{mode}"], least=0.3)
        if key:
            await caller.press(key)
        await talks(caller, seconds=1.5)
        record = await on.end(caller)
        assert record["outcome"] == "answered"
        assert (record["recording_consent"]["mode"], record["recording_consent"]["result"]) == (mode, result)
        assert record["recording_consent"]["key"] == (key or None)
        is_recorded = result in ("granted", "not_asked")
        assert len(sound.monitors(on.stage, record)) == is_recorded
        kept = await sound.recorded(on.stage, caller.call_id)
        assert [parties(one) for one in kept] == [({"caller"}, {"a"})] * is_recorded
        if mode != "none":
            assert told(caller.headset) == [f"consent_{mode}", "ring", "a"]

    play.__name__ = f"{mode}-{key}-{result}"
    SCENES.add(f'{TWO}recording = "{mode}"')(play)


asks("none", "", "not_asked")
asks("announce", "", "granted")
asks("announce_opt_out", "", "granted")
asks("announce_opt_out", "9", "refused")
asks("announce_opt_out", "#", "refused")
asks("opt_in", "1", "granted")
asks("opt_in", "2", "refused")
asks("opt_in", "", "timed_out")


@SCENES.add(f'{TWO}recording = "opt_in"')
async def a_caller_who_hangs_up_while_asked(on: Scene) -> None:
    """N3: the journal says so, and nobody's phone rings."""
    phone = on.phone("a")
    caller = await on.dial()
    await caller.headset.until_heard(PROMPTS["consent_opt_in"], least=0.3)
    record = await on.end(caller)
    assert (record["outcome"], record["recording_consent"]["result"]) == ("abandoned", "hung_up")
    assert phone.invites == []
    assert sound.monitors(on.stage, record) == []


@SCENES.add(f'{TWO}recording = "none"')
async def the_agents_key_pauses(on: Scene) -> None:
    """R17: *2 twice; silence of that length in the recording. The same keys of a caller do nothing."""
    phone = on.phone("a")
    caller = await on.dial()
    await talks(caller, seconds=1.5)
    await caller.press("*2")
    await phone.headset.until_heard(*voice_of(CALLER_HZ), least=1.5)
    phone.headset.press("*2")
    await until_told(on, caller, "r=paused")
    await talks(caller, seconds=1.5)
    phone.headset.press("*2")
    await until_told(on, caller, "r=resumed")
    await talks(caller, seconds=1.5)
    record = await on.end(caller)
    [talk] = await sound.recorded(on.stage, caller.call_id)
    [pause] = record["pauses"]
    assert pause["to"] is not None
    assert talk.left.longest_silence() > 1400
    assert talk.right.longest_silence() > 1400
    assert abs(talk.left.seconds - record["talk_seconds"]) < 0.5


@SCENES.add(f'{TWO}recording = "opt_in"')
async def recording_goes_on_with_the_next_agent(on: Scene) -> None:
    """An agent who drops the call at once has not talked, and the recording is the next one's."""
    on.phone("a", Behaviour.ANSWER_AND_DROP, voice=None)
    on.phone("b")
    caller = await on.dial()
    await caller.headset.until_heard(PROMPTS["consent_opt_in"], least=0.3)
    await caller.press("1")
    await talks(caller, "b", 1.5)
    record = await on.end(caller)
    assert [one["outcome"] for one in record["attempts"]] == ["not_accepted", "answered"]
    assert len(sound.monitors(on.stage, record)) == 1
    [talk] = await sound.recorded(on.stage, caller.call_id)
    assert parties(talk) == ({"caller"}, {"b"})


# -- whisper and acceptance --------------------------------------------------------------------------------------


@SCENES.add(WHISPER)
async def the_whisper_is_the_agents_alone(on: Scene) -> None:
    """C7: who is not answered yet stays so while the agent hears the whisper."""
    phone = on.phone("a")
    caller = await on.dial()
    await talks(caller)
    record = await on.end(caller)
    assert told(phone.headset) == ["hint", "agent_told", "caller"]
    assert told(caller.headset) == ["a"]
    assert [status for status, _ in caller.responses if status > 100][:-1] == [180] * (len(caller.responses) - 2)
    assert record["attempts"][0]["whisper_played"] is True


@SCENES.add(WHISPER)
async def an_agent_who_hangs_up_in_the_whisper(on: Scene) -> None:
    """C7: the caller is neither lost nor answered by it; the next step rings."""
    on.phone("a", talk_ms=400)
    second = on.phone("b")
    caller = await on.dial()
    await talks(caller, "b")
    record = await on.end(caller)
    assert [one["outcome"] for one in record["attempts"]] == ["not_accepted", "answered"]
    assert len(second.invites) == 1
    # Answered once, by the second agent: after the whole of its whisper.
    answered = next(at for status, at in caller.responses if status == 200)
    assert answered > 2000 + 2 * 300 + 400


@SCENES.add(f'{TWO}whisper = "@hint"\nrecording = "announce"')
async def a_caller_who_hangs_up_in_the_whisper(on: Scene) -> None:
    """C7: nobody has talked, though both are answered: no bridge for an instant, no recording."""
    phone = on.phone("a")
    caller = await on.dial()
    await phone.headset.until_heard(PROMPTS["hint"], least=0.2)
    record = await on.end(caller)
    assert (record["outcome"], record["talk_seconds"]) == ("abandoned", 0.0)
    assert await sound.recorded(on.stage, caller.call_id) == []
    assert told(caller.headset) == ["consent_announce", "ring"]


@SCENES.add(f'{TWO}accept = "press-1"\naccept_seconds = 5\nanswering_machine_detection = true', long=True)
async def an_answering_machine(on: Scene) -> None:
    """It talks on and on; a person who says nothing is asked all the same."""
    on.phone("a")
    on.phone("b", voice=Voice(keys=[Key("1", after_ms=4800)]))
    caller = await on.dial()
    await caller.until(200, 20)
    record = await on.end(caller)
    assert [(one["outcome"], one["machine"]) for one in record["attempts"]] == [
        ("not_accepted", True),
        ("answered", None),
    ]


def presses(key: str, *outcomes: str) -> None:
    """A scene of its own for this key of the first agent."""

    async def play(on: Scene) -> None:
        """R91: a refusal, or no key after the prompt was repeated, sends the call on."""
        on.phone("a", keys=[Key(key, after_ms=700)] if key else [])
        on.phone("b", keys=[Key("1", after_ms=700)])
        caller = await on.dial()
        await talks(caller, "ab"[len(outcomes) - 1], within=20)
        record = await on.end(caller)
        assert [one["outcome"] for one in record["attempts"]] == list(outcomes)
        assert [one["accepted"] for one in record["attempts"]] == [one == "answered" for one in outcomes]

    play.__name__ = f"only_who_presses_1_is_connected-{key}"
    SCENES.add(PRESS, long=not key)(play)


presses("1", "answered")
presses("2", "not_accepted", "answered")
presses("", "not_accepted", "answered")


@SCENES.add(PRESS)
async def a_caller_who_hangs_up_while_an_agent_is_asked(on: Scene) -> None:
    """The call is theirs to end: no further step, and no answer about the agent."""
    phone = on.phone("a")
    second = on.phone("b")
    caller = await on.dial()
    await phone.headset.until_heard(PROMPTS["accept"], least=0.2)
    caller.cancel()
    assert await caller.final() == 487
    record = await on.record(caller)
    assert (record["outcome"], record["attempts"][0]["accepted"]) == ("abandoned", None)
    assert invites(second, on.caller_number) == []


# -- nobody answers ----------------------------------------------------------------------------------------------


@SCENES.add(VOICEMAIL)
async def a_message(on: Scene) -> None:
    """R91: with a notice of its own, into the vault."""
    on.phone("a", Behaviour.BUSY, voice=None)
    caller = await on.dial()
    await caller.headset.until_heard(PROMPTS["leave_message"], least=0.9, since=0)
    await until_told(on, caller, "w=message")
    # What is recorded is seen in the spool; the caller speaks all the time.
    await until_left(on, caller, 2.0)
    await caller.press("#")
    await caller.headset.until_heard(PROMPTS["message_taken"], least=0.3)
    await caller.until_hung_up()
    record = await on.record(caller)
    assert record["outcome"] == "voicemail"
    [message] = await sound.recorded(on.stage, caller.call_id)
    assert message.kind == "voicemail"
    assert told(message.left)[:1] == ["caller"]


@SCENES.add(VOICEMAIL, down=True)
async def a_message_of_one_who_just_hangs_up(on: Scene) -> None:
    """R91, N2."""
    on.phone("a", Behaviour.BUSY, voice=None)
    caller = await on.dial()
    await caller.headset.until_heard(PROMPTS["leave_message"], least=0.9, since=0)
    await until_left(on, caller, 2.0)
    record = await on.end(caller)
    assert record["outcome"] == "voicemail"
    assert [one.kind for one in await sound.recorded(on.stage, caller.call_id)] == ["voicemail"]


@SCENES.add('forward = ["{a}"]\nunanswered = "callback"')
async def a_call_back(on: Scene) -> None:
    on.phone("a", Behaviour.BUSY, voice=None)
    caller = await on.dial()
    await caller.headset.until_heard(PROMPTS["callback_offer"], least=0.3)
    await caller.press("1")
    await caller.headset.until_heard(PROMPTS["callback_taken"], least=0.3)
    await caller.until_hung_up()
    record = await on.record(caller)
    assert (record["outcome"], record["cause"]) == ("busy", "callback")


@SCENES.add('forward = ["{a}"]\nring_seconds = 3\nunanswered = "wait"', long=True)
async def waiting_once_more(on: Scene) -> None:
    """A word and music, while the steps ring a second time."""
    on.phone("a", Behaviour.RING_FOR_EVER, voice=None)
    caller = await on.dial()
    await caller.headset.until_heard(PROMPTS["wait"], least=0.3)
    on.phone("a")
    await talks(caller)
    record = await on.end(caller)
    heard = caller.headset.heard()
    word, talk = heard.first(PROMPTS["wait"]), heard.first(*A_HZ)
    assert word is not None and talk is not None
    assert heard.longest_silence(word, talk) < 400 + standstills.lost_ms(word, talk)
    assert record["outcome"] == "answered"
    assert [one["outcome"] for one in record["attempts"]] == ["no_answer", "answered"]


# -- without the daemon ------------------------------------------------------------------------------------------


@SCENES.add(f'{TWO}recording = "opt_in"', down=True)
async def all_of_a_talk_is_in_the_plan(on: Scene) -> None:
    """N2: consent, recording and the agent's key need the generated plan alone; so do messages, see there."""
    phone = on.phone("a")
    caller = await on.dial()
    await caller.headset.until_heard(PROMPTS["consent_opt_in"], least=0.3)
    await caller.press("1")
    await talks(caller)
    phone.headset.press("*2")
    await until_told(on, caller, "r=paused")
    phone.headset.press("*2")
    await until_told(on, caller, "r=resumed")
    await talks(caller)
    record = await on.end(caller)
    assert record["outcome"] == "answered"
    assert [one.kind for one in await sound.recorded(on.stage, caller.call_id)] == ["talk"]


# -- the tests ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def played(make_node: NodeFactory, request: pytest.FixtureRequest) -> Iterator[Played]:
    with sound.site(make_node, SCENES.routing(), *NEEDED, phones=SCENES.phones()) as site:
        yield SCENES.play(site, request.session.items)


@pytest.mark.parametrize(("name", "state"), SCENES.all())
def test_service(played: Played, name: str, state: str) -> None:
    """C4, C7, R17, R91, N2, N3: each scene, with the daemon up and some with it down; see the scene's own words."""
    played.judge(name, state)
