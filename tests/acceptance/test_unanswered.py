"""R91: nobody took the call, or it is after hours: callers wait with music, want a call back, or leave a message."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.store import signatures
from tests.acceptance import sound
from tests.acceptance.scenes import VOICES, Played, Scene, Scenes
from tests.acceptance.stages import near
from tests.conftest import NodeFactory
from tests.rig import Behaviour, Caller, Key, standstills, voice_of
from tests.rig.asterisk import ROOT
from tests.rig.dialmark import Record
from tests.rig.waits import wait_until

pytestmark = pytest.mark.real_time

SCENES = Scenes()
PROMPTS = sound.PROMPTS
WORD, LEAVE, TAKEN = PROMPTS["wait"], PROMPTS["leave_message"], PROMPTS["message_taken"]
OFFER, THANKS = PROMPTS["callback_offer"], PROMPTS["callback_taken"]
TONE_HZ = 1000
"""Before a message."""
LIMIT_SECONDS = 3
"""Of a message, in place of 120."""
CLOSED = 'hours = { mon-sun = "closed" }\n'


def is_a_miss(record: Record, outcome: str, cause: str | None = None) -> None:
    assert (record["outcome"], record["cause"], record["missed"]) == (outcome, cause, True)
    assert (record["talk_seconds"], record["agent"], record["destination"]) == (0.0, None, None)


# -- waiting -----------------------------------------------------------------------------------------------------


@SCENES.add('forward = ["{a}"]\nunanswered = "wait"\n', long=True)
async def a_word_every_twenty_seconds(on: Scene) -> None:
    """Who was busy a moment ago is rung again after as long; music until then."""
    on.phone("a", Behaviour.BUSY, voice=None)
    caller = await on.dial()
    await on.hears(caller.headset, WORD)
    phone = on.phone("a")
    await on.talks(caller, seconds=40)
    await on.end(caller)
    heard = caller.headset.heard()
    words = heard.stretches(WORD, join=0.3, least=0.5)
    assert len(words) == 2
    assert near(words[1].start - words[0].start, 20, more=0.7)
    assert len(phone.invites) == 1
    between = heard.part(words[0].end, words[1].start)
    assert between.longest_silence() < 400 + standstills.lost_ms(between.start, between.end)
    assert between.loudness() > 100


WAIT = 'forward = ["{a}"]\nring_seconds = 3\nunanswered = "wait"\n'


@SCENES.add(
    WAIT + 'reserve = ["{b}"]\nreserve_ring_seconds = 3\nwhisper = "@hint"\nrecording = "announce"\n',
    down=True,
    long=True,
)
async def taken_in_the_second_round(on: Scene) -> None:
    """All steps ring once more, with a word and music; whisper and recording are as in the first round."""
    on.phone("a", Behaviour.RING_FOR_EVER, voice=None)
    on.phone("b", Behaviour.RING_FOR_EVER, voice=None)
    caller = await on.dial()
    await on.hears(caller.headset, WORD)
    phone = on.phone("a")
    await on.talks(caller)
    record = await on.end(caller)
    assert on.outcomes(record) == ["no_answer", "no_answer", "answered"]
    assert [one["step"] for one in record["attempts"]] == [1, 2, 1]
    heard = caller.headset.heard()
    word, talking = heard.first(WORD), heard.first(*voice_of(VOICES["a"]), least=0.1)
    assert word is not None and talking is not None
    assert heard.longest_silence(word, talking) < 400 + standstills.lost_ms(word, talking)
    told = [one for one in on.told(heard, "consent_announce", "ring", "wait", "a") if one != "other"]
    assert told[:3] == ["consent_announce", "ring", "wait"] and told[-1] == "a"
    assert on.told(phone.headset, "hint", "caller") == ["hint", "caller"]
    [talk] = await sound.recorded(on.stage, caller.call_id)
    assert set(on.told(talk.left, "caller")) - {"other"} == {"caller"}
    assert set(on.told(talk.right, "a", "wait", "ring")) - {"other"} == {"a"}


@SCENES.add(WAIT, down=True, long=True)
async def nobody_in_the_second_round(on: Scene) -> None:
    """Two rounds and no third."""
    on.phone("a", Behaviour.RING_FOR_EVER, voice=None)
    caller = await on.dial()
    await caller.until_hung_up()
    record = await on.record(caller)
    is_a_miss(record, "no_answer")
    assert on.outcomes(record) == ["no_answer", "no_answer"]
    assert record["ended_by"] == "system"
    heard = caller.headset.heard()
    assert len(heard.stretches(WORD, join=0.3, least=0.5)) == 1
    assert near(heard.seconds, 1 + 3, more=0.5)
    assert heard.longest_silence() < 400 + standstills.lost_ms(heard.start, heard.end)


@SCENES.add(WAIT, down=True)
async def who_does_not_want_to_wait(on: Scene) -> None:
    """Abandoned, and the phone stops ringing."""
    phone = on.phone("a", Behaviour.RING_FOR_EVER, voice=None)
    caller = await on.dial()
    await on.hears(caller.headset, WORD)
    await asyncio.to_thread(wait_until, lambda: len(phone.invites) == 2, 10, "a second ringing")
    record = await on.end(caller)
    is_a_miss(record, "abandoned")
    assert on.outcomes(record) == ["no_answer", "abandoned"]
    # The last ACK may still be on its way.
    assert "".join(one[0] for one in on.requests(phone)).rstrip("A").endswith("IC")


# -- a call-back -------------------------------------------------------------------------------------------------

CALLBACK = 'forward = ["{a}"]\nunanswered = "callback"\n'


@SCENES.add(CALLBACK, down=True)
async def a_call_back(on: Scene) -> None:
    """1 is an event of the call, which stays the miss it was."""
    on.phone("a", Behaviour.BUSY, voice=None)
    caller = await on.dial(keys=[Key("1", 500)])
    await caller.until_hung_up()
    record = await on.record(caller)
    is_a_miss(record, "busy", "callback")
    assert on.told(caller.headset, "callback_offer", "callback_taken") == ["callback_offer", "callback_taken"]
    events = await on.stage.events_of(record["call_id"], "call.missed")
    (missed,) = [event for event in events if event["type"] == "call.missed"]
    assert missed["data"]["cause"] == "callback"


@SCENES.add(CALLBACK, long=True)
async def no_call_back(on: Scene) -> None:
    """Asked twice, then a plain end; here of a call that rang."""
    on.phone("a", Behaviour.DECLINE, voice=None)
    caller = await on.dial()
    await caller.until_hung_up()
    record = await on.record(caller)
    is_a_miss(record, "rejected")
    assert len(caller.headset.heard().stretches(OFFER, join=0.3, least=0.5)) == 2
    assert "callback_taken" not in on.told(caller.headset, "callback_offer", "callback_taken")
    assert record["ended_by"] == "system"


@SCENES.add(CALLBACK, down=True)
async def another_key_than_1(on: Scene) -> None:
    on.phone("a", Behaviour.BUSY, voice=None)
    caller = await on.dial(keys=[Key("5", 500)])
    await caller.until_hung_up()
    is_a_miss(await on.record(caller), "busy")
    assert on.told(caller.headset, "callback_offer", "callback_taken") == ["callback_offer"]


@SCENES.add(CLOSED + 'forward = ["{a}"]\nafter_hours = "callback"\n', down=True)
async def a_call_back_after_hours(on: Scene) -> None:
    phone = on.phone("a")
    caller = await on.dial(keys=[Key("1", 500)])
    await caller.until_hung_up()
    is_a_miss(await on.record(caller), "after_hours", "callback")
    assert phone.invites == []
    assert on.told(caller.headset, "callback_offer", "callback_taken") == ["callback_offer", "callback_taken"]


# -- a message ---------------------------------------------------------------------------------------------------

VOICEMAIL = 'forward = ["{a}"]\nunanswered = "voicemail"\n'


async def until_spoken(on: Scene, caller: Caller, seconds: float) -> None:
    """Return when so much of the caller's message is in the spool."""

    def spoken() -> float:
        found = re.search(rf"i=([0-9a-f-]{{36}})&did=\d+&[^\n]*sip={caller.call_id}", on.stage.journal())
        file = on.stage.node.recordings / f"{found[1]}.1-message.sln" if found else None
        return file.stat().st_size / 16_000 if file and file.exists() else 0.0

    await asyncio.to_thread(wait_until, lambda: spoken() >= seconds, 15, f"{seconds} s of a message")


def receipt(on: Scene, record: Record, what: str) -> dict[str, Any] | None:
    """Once its signature was found good."""
    asked = "SELECT document, signature, key_id FROM receipts WHERE call_id = ? AND what = ?"
    found = on.stage.daemon.query(asked, record["call_id"], what)
    if not found:
        return None
    [(document, value, key_id)] = found
    [(public,)] = on.stage.daemon.query("SELECT public_key FROM signing_keys WHERE key_id = ?", key_id)
    content: dict[str, Any] = json.loads(document)
    signatures.verify(content, signatures.Signature(key_id, public, value), frozenset({key_id}))
    return content


async def kept(on: Scene, caller: Caller, least: float, most: float) -> None:
    """In the vault: the caller's words alone, so many seconds, with a receipt of its own notice."""
    [message] = await sound.recorded(on.stage, caller.call_id)
    assert message.kind == "voicemail"
    assert set(on.told(message.left, "caller", "leave_message", "message_taken")) - {"other"} == {"caller"}
    assert least < message.left.seconds < most
    said = receipt(on, message.record, "message")
    assert said is not None
    assert (said["mode"], said["result"], said["prompt_id"]) == ("announce", "granted", "leave_message.ru")
    assert (said["recording_allowed"], said["played_as"]) == (True, "after_answer")
    events = [row["event"] for row in said["rows"]]
    assert events.index("DM_CONSENT") < events.index("DM_ACT")


@SCENES.add(VOICEMAIL, down=True)
async def a_message_ended_by_hash(on: Scene) -> None:
    """Two seconds and thanks; a receipt for the message, none for a talk."""
    on.phone("a", Behaviour.BUSY, voice=None)
    caller = await on.dial(keys=[Key("#", 3400)])
    await caller.until_hung_up()
    record = await on.record(caller)
    is_a_miss(record, "voicemail")
    assert on.outcomes(record) == ["busy"]
    assert [one for one in on.told(caller.headset, "leave_message", "message_taken") if one != "other"] == [
        "leave_message",
        "message_taken",
    ]
    await kept(on, caller, 1.4, 2.7)
    assert receipt(on, record, "talk") is None


@SCENES.add(VOICEMAIL, down=True)
async def a_message_ended_by_hanging_up(on: Scene) -> None:
    on.phone("a", Behaviour.RING_THEN_UNAVAILABLE, voice=None)
    caller = await on.dial()
    await until_spoken(on, caller, 1.6)
    record = await on.end(caller)
    is_a_miss(record, "voicemail")
    assert on.outcomes(record) == ["no_answer"]
    await kept(on, caller, 1.4, 2.9)


@SCENES.add(VOICEMAIL)
async def a_message_without_end(on: Scene) -> None:
    """Is cut off, with thanks."""
    on.phone("a", Behaviour.BUSY, voice=None)
    caller = await on.dial()
    await caller.until_hung_up()
    is_a_miss(await on.record(caller), "voicemail")
    assert on.told(caller.headset, "leave_message", "message_taken")[-1] == "message_taken"
    await kept(on, caller, LIMIT_SECONDS - 0.4, LIMIT_SECONDS + 0.4)


@SCENES.add(VOICEMAIL, down=True)
async def an_empty_message(on: Scene) -> None:
    """Who hangs up at the tone has left none: the miss it was. What was said in that moment is kept all the same."""
    on.phone("a", Behaviour.BUSY, voice=None)
    caller = await on.dial()
    await on.hears(caller.headset, TONE_HZ, least=0.15)
    record = await on.end(caller)
    is_a_miss(record, "busy")
    await sound.until_spool_is_empty(on.stage, record["call_id"])
    assert all(one.left.seconds < 1.2 for one in await sound.recorded(on.stage, caller.call_id))


@SCENES.add(VOICEMAIL, number=f'language = "{sound.SLOW_LANGUAGE}"', down=True)
async def a_caller_who_hangs_up_in_the_notice(on: Scene) -> None:
    """Has not agreed: nothing is kept."""
    on.phone("a", Behaviour.BUSY, voice=None)
    caller = await on.dial()
    await on.hears(caller.headset, LEAVE)
    record = await on.end(caller)
    is_a_miss(record, "busy")
    said = receipt(on, record, "message")
    assert said is not None
    assert (said["result"], said["recording_allowed"]) == ("hung_up", False)
    assert sound.spooled(on.stage, record["call_id"]) == []
    assert sound.rows(on.stage.daemon, record["call_id"]) == []


@SCENES.add(CLOSED + 'forward = ["{a}"]\nafter_hours = "voicemail"\n', down=True)
async def a_message_after_hours(on: Scene) -> None:
    phone = on.phone("a")
    caller = await on.dial()
    await until_spoken(on, caller, 1.6)
    is_a_miss(await on.end(caller), "voicemail")
    assert phone.invites == []
    await kept(on, caller, 1.4, 2.9)


@SCENES.add(VOICEMAIL + 'recording = "opt_in"\n', down=True)
async def a_message_of_one_who_refused(on: Scene) -> None:
    """The question was about the talk; the message has a notice of its own, and receipts tell one from the other."""
    on.phone("a", Behaviour.BUSY, voice=None)
    caller = await on.dial(keys=[Key("2", 500)])
    await on.hears(caller.headset, LEAVE)
    await until_spoken(on, caller, 1.6)
    record = await on.end(caller)
    is_a_miss(record, "voicemail")
    assert record["recording_consent"]["result"] == "refused"
    talk = receipt(on, record, "talk")
    assert talk is not None
    assert (talk["result"], talk["recording_allowed"]) == ("refused", False)
    assert sound.monitors(on.stage, record) == []
    await kept(on, caller, 1.4, 2.9)


# -- the tests ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def played(make_node: NodeFactory, request: pytest.FixtureRequest) -> Iterator[Played]:
    shipped = (ROOT / "dialplans/services.conf").read_text()
    assert shipped.count("-message.sln,0,120,kq)") == 1
    shorter = shipped.replace("-message.sln,0,120,kq)", f"-message.sln,0,{LIMIT_SECONDS},kq)")
    needed = ("consent_announce", "consent_opt_in", "hint", "wait", "callback_offer", "callback_taken")
    with sound.site(
        make_node,
        SCENES.routing(),
        *(*needed, "leave_message", "message_taken"),
        slow=("leave_message",),
        phones=SCENES.phones(),
        files={"services.conf": shorter},
    ) as site:
        yield SCENES.play(site, request.session.items)


@pytest.mark.parametrize(("name", "state"), SCENES.all())
def test_unanswered(played: Played, name: str, state: str) -> None:
    """R91, N2: each scene, with the daemon up and down; see the scene's own words."""
    played.judge(name, state)
