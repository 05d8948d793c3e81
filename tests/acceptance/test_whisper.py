"""C7, R91: what the agent hears before the caller is put through, and what the caller hears meanwhile; by ear.

Whispers are spoken by an engine that says every word as a tone (`words`), `@hint` is a tone of the operator's own.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.acceptance import scenes, sound, stages, words
from tests.acceptance.scenes import Played, Scene, Scenes
from tests.acceptance.stages import Site, Stage
from tests.conftest import NodeFactory
from tests.rig import (
    AGENT_HZ,
    CALLER_HZ,
    AsteriskNode,
    Behaviour,
    Callee,
    Caller,
    Daemon,
    Key,
    Rig,
    Track,
    Voice,
    tones,
    voice_of,
)
from tests.rig.dialmark import CommandFailed
from tests.rig.waits import wait_until

pytestmark = pytest.mark.real_time

SCENES = Scenes()
HINT = sound.PROMPTS["hint"]
PROMPTS = ("consent_announce", "agent_told", "hint")
SOURCES = """
[[source]]
key = "banner"
name = "Баннер"
channel = "display"
campaign = "лето"
"""
ALL = "{source}, {campaign}, {number_label}, {first_or_repeat}"


def heard_words(phone: Callee) -> list[str]:
    return words.said(phone.headset.heard())


def whispered_for(phone: Callee, *hertz: int) -> float:
    """Seconds from the first to the last of it."""
    heard = phone.headset.heard().stretches(*hertz, join=0.3)
    assert heard
    return heard[-1].end - heard[0].start


# -- what is said ------------------------------------------------------------------------------------------------


@SCENES.add(
    f'forward = ["{{a}}"]\nwhisper = {{ ru = "{ALL}", en = "Call {{source}}" }}',
    number='source = "radio-jazz"\ncampaign = "Spring"\nlabel = "лето"',
    down=True,
    long=True,
)
async def first_and_repeat_caller(on: Scene) -> None:
    """All that is known, in the number's language; without the daemon nothing is known about the caller."""
    phone = on.phone("a")
    first = await on.dial()
    await on.talks(first)
    first.hang_up()
    # The second call is a repeat caller's once the first one's record is there.
    if on.is_up:
        await on.stage.record_of(first)
    began = time.time()
    second = await on.dial()
    await on.talks(second)
    record = await on.end(second)
    known = ["радио", "джаз", "spring", "лето"]
    heard = phone.headset.heard()
    assert words.said(heard.part(heard.start, began)) == known + ["первый", "звонок"] * on.is_up
    assert words.said(heard.part(began, heard.end)) == known + ["повторный", "звонок"] * on.is_up
    assert record["caller"]["first_time"] is False
    assert record["attempts"][0]["whisper_played"] is True


@SCENES.add(
    f'forward = ["{{a}}"]\nwhisper = {{ ru = "Звонок", en = "{ALL}" }}',
    number='source = "google-ads"\nlanguage = "en"',
    down=True,
)
async def in_another_language(on: Scene) -> None:
    """The number's own language picks the template and the words; the source's campaign stands for the number's."""
    phone = on.phone("a")
    caller = await on.dial()
    await on.talks(caller)
    await on.end(caller)
    assert heard_words(phone) == ["google", "ads", "spring", *["first", "call"] * on.is_up]


@SCENES.add(
    'forward = ["{a}"]\nwhisper = "{source}, {campaign}, {keyword}, {number_label}"', number='source = "banner"'
)
async def what_is_not_known_is_left_out(on: Scene) -> None:
    phone = on.phone("a")
    caller = await on.dial()
    await on.talks(caller)
    await on.end(caller)
    assert heard_words(phone) == ["баннер", "лето"]


@SCENES.add(
    'forward = ["{a}"]\nwhisper = "{source}, {campaign}, {number_label}"',
    number='source = "radio-jazz"\ncampaign = "лето"\nlabel = "' + "новый " * 9 + '"',
    down=True,
)
async def longer_than_three_seconds(on: Scene) -> None:
    """What comes last goes, until it fits."""
    phone = on.phone("a")
    caller = await on.dial()
    await on.talks(caller)
    await on.end(caller)
    assert heard_words(phone) == ["радио", "джаз", "лето"]


@SCENES.add('forward = ["{a}"]\nwhisper = "' + "звонок " * 11 + '{source}"', number='source = "radio-jazz"', down=True)
async def too_long_whatever_is_left_out(on: Scene) -> None:
    """Without its only placeholder a template says nothing; the generic whisper does."""
    phone = on.phone("a")
    caller = await on.dial()
    await on.talks(caller)
    await on.end(caller)
    assert heard_words(phone) == words.words_of("Звонок по рекламе.") == ["звонок", "?", "?"]


@SCENES.add('forward = ["{a}"]\nwhisper = "{city}, {source}"', number='source = "banner"')
async def where_the_caller_is_from(on: Scene) -> None:
    """Rendered when first wanted: that call hears the longest text that is ready, the next one the whole."""
    phone = on.phone("a")
    number = "+74951234567"
    first = await on.dial(caller=number)
    await on.talks(first)
    first.hang_up()
    folder = on.stage.node.folder / "prompts"
    await asyncio.to_thread(wait_until, lambda: _is_made(folder, "Московская обл., Баннер"), 15, "the whisper")
    began = time.time()
    second = await on.dial(caller=number)
    await on.talks(second)
    await on.end(second)
    heard = phone.headset.heard()
    assert words.said(heard.part(heard.start, began)) == ["баннер"]
    assert words.said(heard.part(began, heard.end)) == ["московская", "обл", "баннер"]


def _is_made(folder: Path, text: str) -> bool:
    return any(f'"{text}"' in file.read_text("utf-8") for file in folder.glob("whisper-*.json"))


# -- who hears it ------------------------------------------------------------------------------------------------


@SCENES.add('forward = ["{a}"]\nwhisper = "@hint"', down=True)
async def the_agent_alone(on: Scene) -> None:
    """The operator's own file, whole, to the agent alone; the network rings for the caller until both are connected."""
    phone = on.phone("a", ring_ms=800)
    caller = await on.dial()
    await on.talks(caller)
    record = await on.end(caller)
    assert on.told(phone.headset, "hint", "caller") == ["hint", "caller"]
    assert 0.9 < whispered_for(phone, HINT) < 1.1
    assert on.told(caller.headset, "a") == ["a"]
    on.rang(caller)
    answered = next(at for status, at in caller.responses if status == 200) / 1000
    assert answered > 0.8 + 1.0
    assert record["attempts"][0]["whisper_played"] is True
    assert record["attempts"][0]["ring_seconds"] < answered - 0.9


@SCENES.add('forward = ["{a}"]\nwhisper = "@hint"\nrecording = "announce"\ntell_agent = true', down=True)
async def an_answered_caller(on: Scene) -> None:
    """Asked for consent before: ringing goes on through ring, whisper and the agent's notice, without a gap."""
    phone = on.phone("a", ring_ms=800)
    caller = await on.dial()
    await on.talks(caller)
    await on.end(caller)
    assert on.told(phone.headset, "hint", "agent_told", "caller") == ["hint", "agent_told", "caller"]
    assert on.told(caller.headset, "consent_announce", "ring", "a") == ["consent_announce", "ring", "a"]
    on.rang(caller)
    [ringing] = caller.headset.heard().stretches(tones.RING_HZ, join=0.4, least=0.5)
    assert ringing.seconds > 0.8 + 1.9


@SCENES.add('forward = ["{a}", "{b}"]\nwhisper = "@hint"\nrecording = "announce"', down=True)
async def one_of_a_group_answers(on: Scene) -> None:
    """The others stop ringing; the caller goes on hearing it until the whisper is over."""
    phone = on.phone("a", ring_ms=600)
    other = on.phone("b", Behaviour.RING_FOR_EVER, voice=None)
    caller = await on.dial()
    await on.talks(caller)
    record = await on.end(caller)
    assert on.told(phone.headset, "hint", "caller") == ["hint", "caller"]
    assert on.told(caller.headset, "consent_announce", "ring", "a") == ["consent_announce", "ring", "a"]
    on.rang(caller)
    assert on.outcomes(record) == ["answered", "cancelled"]
    assert on.requests(other) == ["INVITE", "CANCEL", "ACK"]


@SCENES.add(
    'forward = ["{a}"]\nreserve = ["{b}"]\nwhisper = "@hint"',
    number='source = "radio-jazz"',
    desks="label_source = true",
    down=True,
)
async def the_phone_shows_it_too(on: Scene) -> None:
    """R91: source and caller's number on the display, of the second desk as well."""
    phones = [on.phone("a", talk_ms=300), on.phone("b")]
    caller = await on.dial()
    await on.talks(caller, "b")
    await on.end(caller)
    for phone in phones:
        [invite] = phone.invites
        shown = re.match(r'"(.*?)\s*" <sip:(\+?\d+)@', invite.header("From") or "")
        assert shown is not None, invite.header("From")
        assert (shown[1], shown[2].lstrip("+")) == ("Радио Джаз", on.caller_number.lstrip("+"))


# -- who hangs up in it ------------------------------------------------------------------------------------------


@SCENES.add('forward = ["{a}"]\nreserve = ["{b}"]\nwhisper = "@hint"', down=True)
async def the_agent_hangs_up(on: Scene) -> None:
    """The next step rings, and the caller notices nothing: neither lost nor answered."""
    on.phone("a", talk_ms=400)
    second = on.phone("b")
    caller = await on.dial()
    await on.talks(caller, "b")
    record = await on.end(caller)
    assert on.outcomes(record) == ["not_accepted", "answered"]
    assert [one["whisper_played"] for one in record["attempts"]] == [True, True]
    assert (record["outcome"], record["missed"]) == ("answered", False)
    assert on.told(second.headset, "hint", "caller") == ["hint", "caller"]
    assert on.told(caller.headset, "b") == ["b"]
    on.rang(caller, "b")


@SCENES.add('forward = ["{a}"]\nreserve = ["{b}"]\nwhisper = "@hint"\nrecording = "announce"', down=True)
async def the_agent_of_an_answered_caller_hangs_up(on: Scene) -> None:
    on.phone("a", talk_ms=400)
    on.phone("b")
    caller = await on.dial()
    await on.talks(caller, "b")
    record = await on.end(caller)
    assert on.outcomes(record) == ["not_accepted", "answered"]
    assert on.told(caller.headset, "consent_announce", "ring", "b") == ["consent_announce", "ring", "b"]
    on.rang(caller, "b")


@SCENES.add('forward = ["{a}"]\nreserve = ["{b}"]\nwhisper = "@hint"', down=True)
async def every_agent_hangs_up(on: Scene) -> None:
    """Nobody accepted: a miss, by no answer."""
    on.phone("a", talk_ms=300, voice=None)
    on.phone("b", talk_ms=300, voice=None)
    caller = await on.dial()
    assert await caller.final() == 480
    record = await on.record(caller)
    assert on.outcomes(record) == ["not_accepted", "not_accepted"]
    assert (record["outcome"], record["missed"]) == ("no_answer", True)
    assert [status for status, _ in caller.responses][1:-1] == [180] * (len(caller.responses) - 2)


@SCENES.add('forward = ["{a}"]\nreserve = ["{b}"]\nwhisper = "@hint"', down=True)
async def the_caller_gives_up(on: Scene) -> None:
    """Abandoned, and no other phone rings; the agent is let go."""
    phone, second = on.phone("a"), on.phone("b")
    caller = await on.dial()
    await on.hears(phone.headset, HINT)
    caller.cancel()
    assert await caller.final() == 487
    record = await on.record(caller)
    assert (record["outcome"], record["missed"], record["talk_seconds"]) == ("abandoned", True, 0.0)
    assert on.outcomes(record) == ["abandoned"]
    assert record["attempts"][0]["whisper_played"] is True
    assert second.invites == []
    assert on.requests(phone) == ["INVITE", "ACK", "BYE"]


@SCENES.add('forward = ["{a}"]\nreserve = ["{b}"]\nwhisper = "@hint"\nrecording = "announce"', down=True)
async def an_answered_caller_hangs_up(on: Scene) -> None:
    phone, second = on.phone("a"), on.phone("b")
    caller = await on.dial()
    await on.hears(phone.headset, HINT)
    record = await on.end(caller)
    assert (record["outcome"], record["missed"], record["talk_seconds"]) == ("abandoned", True, 0.0)
    assert on.outcomes(record) == ["abandoned"]
    assert second.invites == []
    assert on.told(phone.headset, "hint") == ["hint"]
    assert on.told(caller.headset, "consent_announce", "ring") == ["consent_announce", "ring"]
    assert sound.rows(on.stage.daemon, record["call_id"]) == []


# -- the tests ---------------------------------------------------------------------------------------------------

LANES = {f"7499002000{number}": desk for number, desk in enumerate(("first", "second", "third"))}
OWN_FILE, PRESS, ANNOUNCED = "74990020010", "74990020011", "74990020012"
DESKS = dict(zip(LANES, stages.PHONES, strict=False)) | {OWN_FILE: "desk-4"}
NEW_HINT = 1950


def changing(text: str) -> str:
    """Numbers whose whisper changes while calls go on, and some for a machine that cannot speak."""
    routes = {number: f'forward = ["{desk}"]\nwhisper = "{text}"' for number, desk in LANES.items()}
    routes[OWN_FILE] = 'forward = ["reception"]\nwhisper = "@hint"'
    routes[PRESS] = 'forward = ["first"]\naccept = "press-1"\naccept_seconds = 3'
    routes[ANNOUNCED] = 'forward = ["second"]\nrecording = "opt_in"'
    return "".join(
        f'[[route]]\nkey = "r{number}"\n{route}\n'
        f'[[tracking_number]]\nnumber = "+{number}"\nroute = "r{number}"\nsource = "radio-jazz"\n'
        for number, route in routes.items()
    )


OLD_TEXT, NEW_TEXT = "{source}, ads", "Новый {source}"


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[Site]:
    routing = SOURCES + SCENES.routing() + changing(OLD_TEXT)
    speaking = {"prompts": {"engine": "command", "command": words.command()}}
    with sound.site(make_node, routing, *PROMPTS, phones=SCENES.phones(), settings=speaking) as made:
        # Whispers come on the shelf together.
        wait_until(lambda: "/whisper-en-" in made.node.cli("dialplan show"), 60, "whispers in the plan")
        yield made


@pytest.fixture(scope="module")
def played(site: Site, request: pytest.FixtureRequest) -> Played:
    return SCENES.play(site, request.session.items)


@pytest.mark.parametrize(("name", "state"), SCENES.all())
def test_whisper(played: Played, name: str, state: str) -> None:
    """C7, R91, N2: each scene, with the daemon up and down; see the scene's own words."""
    played.judge(name, state)


@dataclass
class Lane:
    """One number called again and again, and the agent there."""

    number: str
    phone: Callee
    calls: list[tuple[float, float, Caller]] = field(default_factory=list)
    has_called: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, stage: Stage) -> None:
        """Until both talk."""
        began = time.time()
        caller = await stage.dial(self.number, voice=Voice(CALLER_HZ))
        await caller.final()
        await self.phone.headset.until_heard(*voice_of(CALLER_HZ), least=0.2)
        caller.hang_up()
        self.calls.append((began, time.time(), caller))
        self.has_called.set()

    def heard(self) -> list[Track]:
        """What the agent heard in each call before the caller."""
        track = self.phone.headset.heard()
        return [before_caller(track.part(began, ended)) for began, ended, _ in self.calls]


def before_caller(track: Track) -> Track:
    starts = track.first(*voice_of(CALLER_HZ), least=0.2)
    assert starts is not None
    return track.part(track.start, starts)


async def test_rendered_anew_while_calls_go_on(site: Site, rig_of: Callable[[AsteriskNode], Rig]) -> None:
    """Each call hears the old whisper or the new one or, until that is rendered, the generic one: always whole."""
    rig = rig_of(site.node)
    stage = Stage(site, rig)
    lanes = [Lane(number, rig.callee(desk, voice=Voice(AGENT_HZ))) for number, desk in DESKS.items()]
    is_over = asyncio.Event()

    async def go_on(lane: Lane) -> None:
        while not is_over.is_set():
            await lane.call(stage)
        await lane.call(stage)

    async def change() -> None:
        await asyncio.gather(*(lane.has_called.wait() for lane in lanes))
        site.daemon.give_prompt("hint", "ru", NEW_HINT, 0.6)
        routing = site.filled(stages.SITE + SOURCES + SCENES.routing() + changing(NEW_TEXT))
        await asyncio.to_thread(site.daemon.apply, routing)
        await asyncio.to_thread(wait_until, lambda: _plays(site, '"Новый Радио Джаз"', "hint.ru.wav"), 20, "the new")
        is_over.set()

    await asyncio.gather(change(), *map(go_on, lanes))
    said = [words.said(call) for lane in lanes[:-1] for call in lane.heard()]
    old, new, generic = ["радио", "джаз", "ads"], ["новый", "радио", "джаз"], ["звонок", "?", "?"]
    assert old in said and new in said
    assert [one for one in said if one not in (old, new, generic)] == []
    for lane in lanes[:-1]:
        assert words.said(lane.heard()[-1]) == new
    hints = [scenes.told(call, {"old": HINT, "new": NEW_HINT}) for call in lanes[-1].heard()]
    assert hints[0] == ["old"] and hints[-1] == ["new"]
    assert {tuple(one) for one in hints} == {("old",), ("new",)}
    outcomes = [(await stage.record_of(caller))["outcome"] for lane in lanes for _, _, caller in lane.calls]
    assert set(outcomes) == {"answered"}
    assert list((site.node.folder / "prompts").glob(".draft-*")) == []


def _plays(site: Site, *made_from: str) -> bool:
    """Asterisk's plan names audio made from each of these."""
    plan = site.node.cli("dialplan show")
    files = list((site.node.folder / "prompts").glob("*.json"))
    return all(any(file.stem in plan and text in file.read_text("utf-8") for file in files) for text in made_from)


async def test_nothing_here_speaks(site: Site, rig_of: Callable[[AsteriskNode], Rig]) -> None:
    """Calls go on: without whispers, with the operator's own files; a tone asks for 1; nobody is recorded unasked."""
    site.daemon.configure({"prompts": {"engine": "command", "command": ["/nowhere/speak", "{wav}"]}})
    await site.daemon.restart()
    await asyncio.to_thread(wait_until, lambda: "/whisper-" not in site.node.cli("dialplan show"), 20, "no whisper")
    stage = Stage(site, rig_of(site.node))
    phones = {desk: stage.phone(desk, voice=Voice(AGENT_HZ, keys=keys)) for desk, keys in MUTE_DESKS.items()}
    callers = [await stage.dial(number, voice=Voice(CALLER_HZ)) for number in (PRESS, ANNOUNCED, *LANES_LEFT, OWN_FILE)]
    for caller in callers:
        await caller.headset.until_heard(*voice_of(AGENT_HZ), least=0.3)
    told = {
        desk: scenes.told(phone.headset.heard(), {"hint": HINT, "caller": voice_of(CALLER_HZ)})
        for desk, phone in phones.items()
    }
    for caller in callers:
        caller.hang_up()
    records = [await stage.record_of(caller) for caller in callers]
    assert [one["outcome"] for one in records] == ["answered"] * 4
    assert [one["attempts"][0]["whisper_played"] for one in records] == [False, False, False, True]
    assert records[0]["attempts"][0]["accepted"] is True
    assert records[1]["recording_consent"]["result"] == "prompt_failed"
    assert sound.monitors(stage, records[1]) == []
    assert told["desk-2"] == told["desk-3"] == ["caller"]
    assert told["desk-1"][0] == "other" and told["desk-4"][0] in ("hint", "other")
    found = {one["check"]: one for one in await asyncio.to_thread(doctor, site.daemon)}
    assert found["speech"]["state"] == "warn"
    assert "no program speaks here" in found["speech"]["text"]


MUTE_DESKS: dict[str, Sequence[Key]] = {"desk-1": [Key("1", 1200)], "desk-2": (), "desk-3": (), "desk-4": ()}
LANES_LEFT = [number for number, desk in DESKS.items() if desk == "desk-3"]


def doctor(daemon: Daemon) -> list[dict[str, str]]:
    """What it finds; other checks than ours may fail in a rig."""
    try:
        said = daemon.run("doctor", "--format", "json")
    except CommandFailed as failed:
        said = failed.output
    found: list[dict[str, str]] = json.loads(said)
    return found
