"""One call for each thing the dialplan does beyond ringing, told by ear and by record; the matrices are elsewhere."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance import sound
from tests.acceptance.stages import Site, Stage, invites
from tests.conftest import NodeFactory
from tests.rig import AGENT_HZ, CALLER_HZ, AsteriskNode, Behaviour, Callee, Key, Rig, Voice, standstills, voice_of
from tests.rig.dialmark import Record
from tests.rig.sipua import Caller
from tests.rig.waits import wait_until

pytestmark = pytest.mark.real_time

PROMPTS = sound.PROMPTS
MODES = ("none", "announce", "announce_opt_out", "opt_in")
RECORDED = {mode: f"7499000000{number}" for number, mode in enumerate(MODES)}
PRESS, WHISPER, VOICEMAIL, CALLBACK, WAIT, BOTH, DETECT = (f"7499000001{number}" for number in range(7))

ROUTES = {
    **{RECORDED[mode]: f'forward = ["first"]\nreserve = ["second"]\nrecording = "{mode}"' for mode in MODES},
    PRESS: 'forward = ["first"]\nreserve = ["second"]\naccept = "press-1"\naccept_repeats = 1\naccept_seconds = 2',
    WHISPER: 'forward = ["first"]\nreserve = ["second"]\nwhisper = "@hint"\nrecording = "none"\ntell_agent = true',
    BOTH: 'forward = ["first"]\nreserve = ["second"]\nwhisper = "@hint"\nrecording = "announce"',
    DETECT: (
        'forward = ["first"]\nreserve = ["second"]\naccept = "press-1"\naccept_seconds = 5\n'
        "answering_machine_detection = true"
    ),
    VOICEMAIL: 'forward = ["first"]\nunanswered = "voicemail"',
    CALLBACK: 'forward = ["first"]\nunanswered = "callback"',
    WAIT: 'forward = ["first"]\nring_seconds = 3\nunanswered = "wait"',
}
ROUTING = "".join(
    f'[[route]]\nkey = "r{number}"\n{text}\n[[tracking_number]]\nnumber = "+{number}"\nroute = "r{number}"\n'
    for number, text in ROUTES.items()
)


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[Site]:
    with sound.site(make_node, ROUTING, *PROMPTS) as made:
        yield made


@pytest.fixture
def stage(site: Site, rig_of: Callable[[AsteriskNode], Rig]) -> Stage:
    return Stage(site, rig_of(site.node))


async def dial(stage: Stage, number: str) -> Caller:
    return await stage.dial(number, voice=Voice(CALLER_HZ))


async def talks(caller: Caller, seconds: float = 1.0) -> None:
    """Return when the agent has been heard for so long."""
    await caller.headset.until_heard(*voice_of(AGENT_HZ), least=seconds)


def parties(talk: sound.Recorded) -> tuple[set[str], set[str]]:
    """Who or what is heard on either side; the coding blurs the edges of a tone."""
    return set(sound.told(talk.left)) - {"other"}, set(sound.told(talk.right)) - {"other"}


async def ended(stage: Stage, caller: Caller) -> Record:
    caller.hang_up()
    return await stage.record_of(caller)


def id_of(stage: Stage, caller: Caller) -> str:
    """The call's id, by its first row; "" when there is none yet."""
    found = re.search(rf"i=([0-9a-f-]{{36}})&did=\d+&[^\n]*sip={caller.call_id}", stage.journal())
    return found[1] if found else ""


async def until_told(stage: Stage, caller: Caller, text: str) -> None:
    """Return when the journal holds an event of this call with this text."""
    pattern = f"i={id_of(stage, caller)}&[^\n]*{re.escape(text)}"
    await asyncio.to_thread(wait_until, lambda: bool(re.search(pattern, stage.journal())), 10, f"{text} in the journal")


async def until_left(stage: Stage, caller: Caller, seconds: float) -> None:
    """Return when so much of a message is in the spool."""
    file = stage.node.recordings / f"{id_of(stage, caller)}.1-message.sln"
    await asyncio.to_thread(
        wait_until, lambda: file.exists() and file.stat().st_size >= 16_000 * seconds, 15, f"{seconds} s of a message"
    )


def rings(caller: Caller) -> list[str]:
    return sound.told(caller.headset.heard())


def agent(stage: Stage, desk: str = "desk-1", *keys: Key, talk_ms: int | None = None) -> Callee:
    return stage.phone(desk, ring_ms=300, voice=Voice(AGENT_HZ, keys=keys), talk_ms=talk_ms)


# -- consent and recording ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "key", "result"),
    [
        ("none", "", "not_asked"),
        ("announce", "", "granted"),
        ("announce_opt_out", "", "granted"),
        ("announce_opt_out", "9", "refused"),
        ("announce_opt_out", "#", "refused"),
        ("opt_in", "1", "granted"),
        ("opt_in", "2", "refused"),
        ("opt_in", "", "timed_out"),
    ],
)
async def test_consent(stage: Stage, mode: str, key: str, result: str) -> None:
    """C4, N3: each mode asks as it should; recorded when granted, put through in any case."""
    agent(stage)
    caller = await dial(stage, RECORDED[mode])
    if mode != "none":
        await caller.headset.until_heard(PROMPTS[f"consent_{mode}"], least=0.3)
    if key:
        await caller.press(key)
    await talks(caller, 1.5)
    record = await ended(stage, caller)
    assert record["outcome"] == "answered"
    assert (record["recording_consent"]["mode"], record["recording_consent"]["result"]) == (mode, result)
    assert record["recording_consent"]["key"] == (key or None)
    is_recorded = result in ("granted", "not_asked")
    assert len(sound.monitors(stage, record)) == is_recorded
    kept = await sound.recorded(stage, caller.call_id)
    assert [parties(one) for one in kept] == [({"caller"}, {"agent"})] * is_recorded
    if mode != "none":
        assert rings(caller) == [f"consent_{mode}", "ring", "agent"]


async def test_a_caller_who_hangs_up_while_asked(stage: Stage) -> None:
    """N3: the journal says so, and nobody's phone rings."""
    phone = agent(stage)
    caller = await dial(stage, RECORDED["opt_in"])
    await caller.headset.until_heard(PROMPTS["consent_opt_in"], least=0.3)
    record = await ended(stage, caller)
    assert (record["outcome"], record["recording_consent"]["result"]) == ("abandoned", "hung_up")
    assert phone.invites == []
    assert sound.monitors(stage, record) == []


async def test_the_agents_key_pauses(stage: Stage) -> None:
    """R17: *2 twice; silence of that length in the recording. The same keys of a caller do nothing."""
    phone = agent(stage)
    caller = await dial(stage, RECORDED["none"])
    await talks(caller, 1.5)
    await caller.press("*2")
    await phone.headset.until_heard(*voice_of(CALLER_HZ), least=1.5)
    phone.headset.press("*2")
    await until_told(stage, caller, "r=paused")
    await talks(caller, 1.5)
    phone.headset.press("*2")
    await until_told(stage, caller, "r=resumed")
    await talks(caller, 1.5)
    record = await ended(stage, caller)
    [talk] = await sound.recorded(stage, caller.call_id)
    [pause] = record["pauses"]
    assert pause["to"] is not None
    assert talk.left.longest_silence() > 1400
    assert talk.right.longest_silence() > 1400
    assert abs(talk.left.seconds - record["talk_seconds"]) < 0.5


async def test_recording_goes_on_with_the_next_agent(stage: Stage) -> None:
    """An agent who drops the call at once has not talked, and the recording is the next one's."""
    stage.phone("desk-1", Behaviour.ANSWER_AND_DROP)
    agent(stage, "desk-2")
    caller = await dial(stage, RECORDED["opt_in"])
    await caller.headset.until_heard(PROMPTS["consent_opt_in"], least=0.3)
    await caller.press("1")
    await talks(caller, 1.5)
    record = await ended(stage, caller)
    assert [one["outcome"] for one in record["attempts"]] == ["not_accepted", "answered"]
    assert len(sound.monitors(stage, record)) == 1
    [talk] = await sound.recorded(stage, caller.call_id)
    assert parties(talk) == ({"caller"}, {"agent"})


# -- whisper and acceptance --------------------------------------------------------------------------------------


async def test_the_whisper_is_the_agents_alone(stage: Stage) -> None:
    """C7: who is not answered yet stays so while the agent hears the whisper."""
    phone = agent(stage)
    caller = await dial(stage, WHISPER)
    await talks(caller)
    record = await ended(stage, caller)
    assert sound.told(phone.headset.heard()) == ["hint", "agent_told", "caller"]
    assert rings(caller) == ["agent"]
    assert [status for status, _ in caller.responses if status > 100][:-1] == [180] * (len(caller.responses) - 2)
    assert record["attempts"][0]["whisper_played"] is True


async def test_an_agent_who_hangs_up_in_the_whisper(stage: Stage) -> None:
    """C7: the caller is neither lost nor answered by it; the next step rings."""
    agent(stage, talk_ms=400)
    second = agent(stage, "desk-2")
    caller = await dial(stage, WHISPER)
    await talks(caller)
    record = await ended(stage, caller)
    assert [one["outcome"] for one in record["attempts"]] == ["not_accepted", "answered"]
    assert len(second.invites) == 1
    # Answered once, by the second agent: after the whole of its whisper.
    answered = next(at for status, at in caller.responses if status == 200)
    assert answered > 2000 + 2 * 300 + 400


async def test_a_caller_who_hangs_up_in_the_whisper(stage: Stage) -> None:
    """C7: nobody has talked, though both are answered: no bridge for an instant, no recording."""
    phone = agent(stage)
    caller = await dial(stage, BOTH)
    await phone.headset.until_heard(PROMPTS["hint"], least=0.2)
    record = await ended(stage, caller)
    assert (record["outcome"], record["talk_seconds"]) == ("abandoned", 0.0)
    assert await sound.recorded(stage, caller.call_id) == []
    assert rings(caller) == ["consent_announce", "ring"]


async def test_an_answering_machine(stage: Stage) -> None:
    """It talks on and on; a person who says nothing is asked all the same."""
    agent(stage)
    stage.phone("desk-2", ring_ms=300, voice=Voice(keys=[Key("1", after_ms=4800)]))
    caller = await dial(stage, DETECT)
    await caller.until(200, 20)
    record = await ended(stage, caller)
    assert [(one["outcome"], one["machine"]) for one in record["attempts"]] == [
        ("not_accepted", True),
        ("answered", None),
    ]


@pytest.mark.parametrize(
    ("keys", "outcomes"),
    [
        ("1", ["answered"]),
        ("2", ["not_accepted", "answered"]),
        ("", ["not_accepted", "answered"]),
    ],
)
async def test_only_who_presses_1_is_connected(stage: Stage, keys: str, outcomes: list[str]) -> None:
    """R91: a refusal, or no key after the prompt was repeated, sends the call on."""
    agent(stage, "desk-1", *([Key(keys, after_ms=700)] if keys else []))
    agent(stage, "desk-2", Key("1", after_ms=700))
    caller = await dial(stage, PRESS)
    await caller.headset.until_heard(*voice_of(AGENT_HZ), least=1.0, seconds=20)
    record = await ended(stage, caller)
    assert [one["outcome"] for one in record["attempts"]] == outcomes
    assert [one["accepted"] for one in record["attempts"]] == [one == "answered" for one in outcomes]


async def test_a_caller_who_hangs_up_while_an_agent_is_asked(stage: Stage) -> None:
    """The call is theirs to end: no further step, and no answer about the agent."""
    phone = agent(stage)
    second = agent(stage, "desk-2")
    number = stage.site.caller()
    caller = await stage.dial(PRESS, caller=number)
    await phone.headset.until_heard(PROMPTS["accept"], least=0.2)
    caller.cancel()
    assert await caller.final() == 487
    record = await stage.record_of(caller)
    assert (record["outcome"], record["attempts"][0]["accepted"]) == ("abandoned", None)
    assert invites(second, number) == []


# -- nobody answers ----------------------------------------------------------------------------------------------


async def leave_message(stage: Stage) -> tuple[Caller, Record]:
    stage.phone("desk-1", Behaviour.BUSY)
    caller = await dial(stage, VOICEMAIL)
    await caller.headset.until_heard(PROMPTS["leave_message"], least=0.9, since=0)
    await until_told(stage, caller, "w=message")
    # What is recorded is seen in the spool; the caller speaks all the time.
    await until_left(stage, caller, 2.0)
    await caller.press("#")
    await caller.headset.until_heard(PROMPTS["message_taken"], least=0.3)
    await caller.until_hung_up()
    return caller, await stage.record_of(caller)


async def test_a_message(stage: Stage) -> None:
    """R91: with a notice of its own, into the vault."""
    caller, record = await leave_message(stage)
    assert record["outcome"] == "voicemail"
    [message] = await sound.recorded(stage, caller.call_id)
    assert message.kind == "voicemail"
    assert sound.told(message.left)[:1] == ["caller"]


async def test_a_message_of_one_who_just_hangs_up(stage: Stage) -> None:
    stage.phone("desk-1", Behaviour.BUSY)
    caller = await dial(stage, VOICEMAIL)
    await caller.headset.until_heard(PROMPTS["leave_message"], least=0.9, since=0)
    await until_left(stage, caller, 2.0)
    record = await ended(stage, caller)
    assert record["outcome"] == "voicemail"
    assert [one.kind for one in await sound.recorded(stage, caller.call_id)] == ["voicemail"]


async def test_a_call_back(stage: Stage) -> None:
    stage.phone("desk-1", Behaviour.BUSY)
    caller = await dial(stage, CALLBACK)
    await caller.headset.until_heard(PROMPTS["callback_offer"], least=0.3)
    await caller.press("1")
    await caller.headset.until_heard(PROMPTS["callback_taken"], least=0.3)
    await caller.until_hung_up()
    record = await stage.record_of(caller)
    assert (record["outcome"], record["cause"]) == ("busy", "callback")


async def test_waiting_once_more(stage: Stage) -> None:
    """A word and music, while the steps ring a second time."""
    stage.phone("desk-1", Behaviour.RING_FOR_EVER)
    caller = await dial(stage, WAIT)
    await caller.headset.until_heard(PROMPTS["wait"], least=0.3)
    agent(stage)
    await talks(caller)
    record = await ended(stage, caller)
    heard = caller.headset.heard()
    word, talk = heard.first(PROMPTS["wait"]), heard.first(*voice_of(AGENT_HZ))
    assert word is not None and talk is not None
    assert heard.longest_silence(word, talk) < 400 + standstills.lost_ms(word, talk)
    assert record["outcome"] == "answered"
    assert [one["outcome"] for one in record["attempts"]] == ["no_answer", "answered"]


# -- without the daemon ------------------------------------------------------------------------------------------


async def test_all_of_it_without_the_daemon(stage: Stage) -> None:
    """N2: consent, whisper, the agent's key and messages need the generated plan alone."""
    phone = agent(stage)
    stage.daemon.kill()
    try:
        talker = await dial(stage, RECORDED["opt_in"])
        await talker.headset.until_heard(PROMPTS["consent_opt_in"], least=0.3)
        await talker.press("1")
        await talks(talker)
        phone.headset.press("*2")
        await until_told(stage, talker, "r=paused")
        phone.headset.press("*2")
        await until_told(stage, talker, "r=resumed")
        await talks(talker)
        talker.hang_up()
        stage.phone("desk-1", Behaviour.BUSY)
        speaker = await dial(stage, VOICEMAIL)
        await speaker.headset.until_heard(PROMPTS["leave_message"], least=0.9, since=0)
        await until_left(stage, speaker, 2.0)
        speaker.hang_up()
        stage.node.until_idle()
    finally:
        stage.daemon.start()
    await stage.daemon.until_ready()
    for caller, outcome, kind in ((talker, "answered", "talk"), (speaker, "voicemail", "voicemail")):
        record = await stage.record_of(caller)
        assert (record["outcome"], record["route_source"]) == (outcome, "plan")
        assert [one.kind for one in await sound.recorded(stage, caller.call_id)] == [kind]
