"""C4, R50, N3: which prompt, in which language, by whose region, before or after answer, told to whom, kept where.

As in `test_consent_modes`, all calls are made when the first test asks for one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.acceptance import asking
from tests.acceptance.asking import DOWN, UP, Asked, Played, Tone, Way
from tests.acceptance.stages import Site
from tests.conftest import NodeFactory
from tests.rig import AGENT_HZ, RING_HZ, Callee, Key, Rig, Track, Voice, standstills

pytestmark = pytest.mark.real_time

HERTZ = {"ru": 1500, "ru opt-in": 1700, "ko": 2800, "ko opt-in": 2300, "en": 2500, "fr": 2000, "told": 1800}
OWN = {
    ("consent_announce", "ru"): Tone(HERTZ["ru"]),
    ("consent_opt_in", "ru"): Tone(HERTZ["ru opt-in"]),
    ("consent_opt_in", "ko"): Tone(HERTZ["ko opt-in"]),
    ("consent_announce", "en"): Tone(HERTZ["en"]),
    ("consent_announce", "fr"): Tone(HERTZ["fr"], 15.0),
    ("agent_told", "ru"): Tone(HERTZ["told"], 2.5),
}
SPOKEN = {"ko": HERTZ["ko"]}
READY = [*OWN, ("consent_announce", "ko")]
TRUNK = """
[[trunk]]
key = "carrier-c"
country = "RU"
hosts = ["{carrier_c.host}"]
server = "{carrier_c}"
early_media = true

[[site]]
key = "praxis"
time_zone = "Europe/Berlin"
country = "DE"
language = "ru"
default_destination = "reception"
"""
ROUTES = {
    "announce": 'recording = "announce"',
    "korean": 'recording = "announce"\nlanguage = "ko"',
    "korean-asked": 'recording = "opt_in"\nlanguage = "ko"',
    "asked": 'recording = "opt_in"',
    "region": 'recording = "region"',
    "california": 'recording = "region"\nconsent = { "US-CA" = "opt_in" }',
    "german": 'site = "praxis"\nrecording = "region"',
    "told": 'recording = "opt_in"\ntell_agent = true\nforward = ["second"]',
    "not-told": 'recording = "opt_in"\ntell_agent = true\nforward = ["third"]',
}
NUMBERS = {name: f"7499000{number:04}" for number, name in enumerate(ROUTES)}
OF_ITS_OWN = {
    "english": ("korean", 'language = "en"'),
    "british": ("korean", 'language = "en-GB"'),
    "french": ("announce", 'language = "fr"'),
    "not asked": ("asked", 'recording = "none"'),
    "not recorded": ("asked", 'recording = "off"'),
}
"""Numbers that say more than their routes."""
NUMBERS |= {name: f"7499001{number:04}" for number, name in enumerate(OF_ITS_OWN)}
ROUTING = "".join(
    [
        TRUNK,
        *(
            f'[[route]]\nkey = "{name}"\nring_seconds = 15\n{text}\n'
            + 'forward = ["first"]\n' * ("forward" not in text)
            for name, text in ROUTES.items()
        ),
        *(f'[[tracking_number]]\nnumber = "+{NUMBERS[name]}"\nroute = "{name}"\n' for name in ROUTES),
        *(
            f'[[tracking_number]]\nnumber = "+{NUMBERS[name]}"\nroute = "{route}"\n{text}\n'
            for name, (route, text) in OF_ITS_OWN.items()
        ),
    ]
)
CALIFORNIAN, GERMAN = "+12133734253", "+493012345678"
ONE, TWO = [Key("1", 600)], [Key("2", 600)]


@dataclass(frozen=True)
class Said:
    """What the receipt is to say, and what the caller hears of it."""

    mode: str
    prompt_id: str | None
    heard: str | None
    result: str = "granted"
    region: str | None = "RU"
    in_front: bool = False
    early: bool = False

    @property
    def played_as(self) -> str | None:
        return None if self.prompt_id is None else "early_media" if self.early else "after_answer"


@dataclass(frozen=True)
class Case:
    """A caller's way, and what is to come of it; ``down``: something else without the daemon."""

    way: Way
    said: Said | None
    down: Said | None = field(default=None)

    def of(self, state: str) -> Said | None:
        return self.said if state == UP else self.down or self.said


def way(name: str, keys: list[Key] | None = None, caller: str | None = None) -> Way:
    return Way(NUMBERS[name], keys or [], caller=caller)


RUSSIAN, RUSSIAN_OPT_IN = (
    Said("announce", "consent_announce.ru", "ru"),
    Said("opt_in", "consent_opt_in.ru", "ru opt-in"),
)
CASES = {
    "the site's language": Case(way("announce"), RUSSIAN),
    "the route's language, spoken": Case(way("korean"), Said("announce", "consent_announce.ko", "ko")),
    "a WAV instead of speech": Case(way("korean-asked", ONE), Said("opt_in", "consent_opt_in.ko", "ko opt-in")),
    "the number's language": Case(way("english"), Said("announce", "consent_announce.en", "en")),
    "the base of its language": Case(way("british"), Said("announce", "consent_announce.en", "en")),
    "the number's mode": Case(way("not asked"), Said("none", None, None, "not_asked")),
    "the number's off": Case(way("not recorded"), None),
    "a Russian": Case(way("region"), RUSSIAN),
    "nobody knows who": Case(way("region", caller="anonymous"), RUSSIAN),
    "a Californian": Case(
        way("region", caller=CALIFORNIAN), Said("announce", "consent_announce.ru", "ru", in_front=True), RUSSIAN
    ),
    "a Californian, by our own word": Case(
        way("california", ONE, CALIFORNIAN),
        Said("opt_in", "consent_opt_in.ru", "ru opt-in", region="US-CA", in_front=True),
        RUSSIAN,
    ),
    "a German": Case(
        way("region", ONE, GERMAN), Said("opt_in", "consent_opt_in.ru", "ru opt-in", region="DE"), RUSSIAN
    ),
    "a Russian who calls Germany": Case(
        way("german", ONE), Said("opt_in", "consent_opt_in.ru", "ru opt-in", region="DE")
    ),
    "early media": Case(
        Way(NUMBERS["announce"], carrier="carrier-c"),
        Said("announce", "consent_announce.ru", "ru", early=True),
        RUSSIAN,
    ),
    "early media is not for questions": Case(Way(NUMBERS["asked"], ONE, carrier="carrier-c"), RUSSIAN_OPT_IN),
    "early media, hung up": Case(
        Way(NUMBERS["french"], carrier="carrier-c", leaves=HERTZ["fr"], is_early=True, also_down=False),
        Said("announce", "consent_announce.fr", "fr", "hung_up", early=True),
    ),
    "the agent is told": Case(way("told", ONE), RUSSIAN_OPT_IN),
    "nothing to tell the agent": Case(
        way("not-told", TWO), Said("opt_in", "consent_opt_in.ru", "ru opt-in", "refused")
    ),
}
PLAYED = [(name, state) for name, case in CASES.items() for state in (UP, DOWN) if state == UP or case.way.also_down]


@dataclass
class Evening:
    """All calls, and the agents who listened."""

    site: Site
    played: Played
    agents: dict[str, Callee]

    def call(self, name: str, state: str) -> Asked:
        call = self.played[name, state]
        if isinstance(call, BaseException):
            raise call
        return call


@pytest.fixture(scope="module")
def evening(make_node: NodeFactory) -> Iterator[Evening]:
    carriers = ("carrier-a", "carrier-b", "carrier-c")
    with asking.site(make_node, ROUTING, own=OWN, spoken=SPOKEN, ready=READY, carriers=carriers) as site:
        site.node.until_endpoint("carrier-c")
        agents: dict[str, Callee] = {}

        def prepare(rig: Rig) -> None:
            rig.callee("desk-1", ring_ms=300, tone_hz=AGENT_HZ)
            for name in ("desk-2", "desk-3"):
                agents[name] = rig.callee(name, ring_ms=300, voice=Voice(AGENT_HZ))

        yield Evening(site, asking.play(site, {name: case.way for name, case in CASES.items()}, prepare), agents)


def told(track: Track) -> list[str]:
    """The coding of recordings blurs the edges of tones."""
    return [name for name in asking.told(track, HERTZ) if name != "other"]


@pytest.mark.parametrize(("name", "state"), PLAYED)
def test_what_was_said_is_what_is_proven(evening: Evening, name: str, state: str) -> None:
    """Mode, region, prompt and the way it was played: record, receipt and ear agree."""
    call, said = evening.call(name, state), CASES[name].of(state)
    receipt = call.receipt()
    assert call.record["route_source"] == ("agi" if state == UP else "plan")
    if said is None:
        assert (call.consent["mode"], receipt) == ("off", None)
        assert call.recordings() == []
        return
    assert receipt is not None
    found = Said(
        receipt["mode"],
        receipt["prompt_id"],
        said.heard,
        receipt["result"],
        receipt["region"],
        receipt["announcement_in_recording"],
        receipt["played_as"] == "early_media",
    )
    assert (found, receipt["played_as"]) == (said, said.played_as)
    same = ("mode", "prompt_id", "prompt_version", "result", "region", "announcement_in_recording")
    assert {key: call.consent[key] for key in same} == {key: receipt[key] for key in same}
    assert receipt["prompt_version"] == version_of(evening.site, said.prompt_id)
    ringing = ["ring"] * (said.prompt_id is not None)
    after = [] if said.result == "hung_up" else [*ringing, "agent"]
    assert told(call.heard) == [*([said.heard] if said.heard else []), *after]


def version_of(site: Site, prompt_id: str | None) -> str | None:
    """Of the operator's own audio, by its samples; of speech as the prompt's file says."""
    if prompt_id is None:
        return None
    key, _, language = prompt_id.partition(".")
    if (key, language) in OWN:
        return OWN[key, language].version
    [described] = Path(site.node.folder / "prompts").glob(f"{key}-{language}-*.json")
    version: str = json.loads(described.read_text())["version"]
    return version


@pytest.mark.parametrize(("name", "state"), [one for one in PLAYED if "hung up" not in one[0]])
def test_no_silence_from_the_first_ring_to_the_talk(evening: Evening, name: str, state: str) -> None:
    """C7: also where the notice was early media, and while the agent is told."""
    heard = evening.call(name, state).heard
    ringing, talking = heard.first(RING_HZ), heard.first(AGENT_HZ)
    assert talking is not None
    if ringing is not None:
        assert heard.longest_silence(ringing, talking) < 400 + standstills.lost_ms(ringing, talking)


@pytest.mark.parametrize(("name", "state"), PLAYED)
def test_recorded_is_the_talk_and_where_the_law_wants_it_the_notice(evening: Evening, name: str, state: str) -> None:
    """The notice stands in front of both sides, for as long as it lasted; nothing at all without consent."""
    call, said = evening.call(name, state), CASES[name].of(state)
    is_recorded = said is not None and said.result in ("granted", "not_asked")
    found = call.recordings()
    assert len(found) == len(call.monitors()) == is_recorded
    assert len(call.spooled_during()) == 2 * is_recorded
    assert call.spooled() == []
    for left, right in found:
        assert said is not None
        notice = [said.heard] if said.in_front and said.heard else []
        assert told(left) == [*notice, "caller"]
        assert told(right) == [*notice, "agent"]
        for side in (left, right) if notice else ():
            [one] = side.stretches(HERTZ[notice[0]], least=0.1)
            assert one.start < 0.15
            assert one.seconds == pytest.approx(1.0, abs=0.1)


def answered_after_consent(call: Asked) -> bool | None:
    """By the journal's order; None: never answered."""
    rows = call.site.node.journal.read_text(errors="replace").splitlines()
    own = [row for row in rows if f'"{call.record["unique_id"]}","{call.record["linked_id"]}"' in row]
    answers = [place for place, row in enumerate(own) if '"ANSWER"' in row]
    [consent] = [place for place, row in enumerate(own) if '"DM_CONSENT"' in row]
    return answers[0] > consent if answers else None


def test_early_media_costs_the_caller_nothing(evening: Evening) -> None:
    """The notice comes with 183, the answer (200) with the agent's, so the caller does not pay for the notice."""
    call = evening.call("early media", UP)
    statuses = [status for status, _ in call.caller.responses if status > 100]
    assert (statuses[0], statuses[-1]) == (183, 200)
    assert answered_after_consent(call) is True
    [attempt] = call.record["attempts"]
    assert call.record["answered_at"] == attempt["answered_at"]


def test_early_media_needs_the_daemon(evening: Evening) -> None:
    """The default plan does not know the trunk, and always answers first."""
    call = evening.call("early media", DOWN)
    assert next(status for status, _ in call.caller.responses if status > 100) == 200
    assert answered_after_consent(call) is False


@pytest.mark.parametrize("state", [UP, DOWN])
def test_a_question_is_asked_after_answer(evening: Evening, state: str) -> None:
    """A key needs a call that is answered, whatever the trunk carries."""
    call = evening.call("early media is not for questions", state)
    assert answered_after_consent(call) is False


def test_who_hangs_up_in_early_media_was_never_answered(evening: Evening) -> None:
    call = evening.call("early media, hung up", UP)
    assert answered_after_consent(call) is None
    assert call.caller.status == 487
    assert call.record["outcome"] == "abandoned"
    assert call.record["attempts"] == []


def test_the_agent_is_told_when_it_is_so(evening: Evening) -> None:
    """With the daemon and without it, before the caller is heard; the caller never hears it, by the stories above."""
    for name in ("the agent is told", "nothing to tell the agent"):
        assert not isinstance(evening.played[name, DOWN], BaseException)
    assert told(evening.agents["desk-2"].headset.heard()) == ["told", "caller"] * 2
    assert told(evening.agents["desk-3"].headset.heard()) == ["caller"]


def test_the_vault_is_whole(evening: Evening) -> None:
    """`dialmark recordings verify` finds every recording of these calls, and every receipt, as it was written."""
    evening.site.daemon.run("recordings", "verify")
