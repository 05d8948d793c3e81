"""C4, N3: each mode × granted, refused, timed out, hung up, prompt missing × daemon up, down, by ear and by proof.

All calls are made when the first test asks for one; each test looks at one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gateway.core import records
from tests.acceptance import asking
from tests.acceptance.asking import DOWN, UP, Asked, Played, Tone, Way
from tests.conftest import NodeFactory
from tests.rig import AGENT_HZ, RING_HZ, Key, Rig, standstills

pytestmark = pytest.mark.real_time

ANNOUNCE, OPT_OUT, OPT_IN, ENGLISH = 1500, 1600, 1700, 2500
HERTZ = {"announce": ANNOUNCE, "announce_opt_out": OPT_OUT, "opt_in": OPT_IN}
MODES = ("off", "none", *HERTZ)
LANGUAGES = ("ru", "ko", "fr", "de")
"""Russian is complete, Korean too, and so slow that no caller is too late for it, however busy the machine; of French
the audio is lost once plans name it; German has none, so it is English where there is English."""
NUMBERS = {
    (mode, language): f"7499000{number:04}"
    for number, (mode, language) in enumerate((mode, language) for mode in MODES for language in LANGUAGES)
}
ROUTING = (
    "".join(
        f'[[route]]\nkey = "{mode.replace("_", "-")}"\nforward = ["first"]\nring_seconds = 15\nrecording = "{mode}"\n'
        for mode in MODES
    )
    + "".join(
        f'[[tracking_number]]\nnumber = "+{number}"\nroute = "{mode.replace("_", "-")}"\nlanguage = "{language}"\n'
        for (mode, language), number in NUMBERS.items()
    )
    + """
[[tracking_number]]
number = "+74990009000"
route = "announce"
language = "en"
"""
)
OWN = {
    (f"consent_{mode}", language): Tone(hertz, 15.0 if language == "ko" else 1.0)
    for mode, hertz in HERTZ.items()
    for language in ("ru", "ko", "fr")
} | {("consent_announce", "en"): Tone(ENGLISH)}
PROMPTS = {f"consent_{mode}": hertz for mode, hertz in HERTZ.items()} | {"consent_announce in English": ENGLISH}


@dataclass(frozen=True)
class Case:
    """A caller's way, and what is to come of it."""

    mode: str
    result: str
    keys: str = ""
    language: str = "ru"
    key: str | None = None
    prompt: str | None = None
    after_ms: int = 600
    leaves: bool = False
    is_heard: bool = True
    """The prompt, for a tenth of a second or more."""

    @property
    def way(self) -> Way:
        keys = [Key(self.keys, self.after_ms)] if self.keys else []
        return Way(NUMBERS[self.mode, self.language], keys, HERTZ[self.mode] if self.leaves else None)

    @property
    def is_recorded(self) -> bool:
        return self.result == "granted" or self.mode == "none"

    @property
    def prompt_id(self) -> str | None:
        """By which the receipt names the prompt: also one whose audio is gone."""
        if self.prompt is not None or self.mode not in HERTZ:
            return self.prompt
        return None if self.language == "de" else f"consent_{self.mode}.{self.language}"


CASES = {
    "off": Case("off", "not_asked"),
    "none": Case("none", "not_asked"),
    "announce, stayed": Case("announce", "granted"),
    "announce, a key means nothing": Case("announce", "granted", keys="9"),
    "announce, hung up": Case("announce", "hung_up", language="ko", leaves=True),
    "announce, audio lost": Case("announce", "prompt_failed", language="fr", is_heard=False),
    "announce, in English for want of German": Case("announce", "granted", language="de", prompt="consent_announce.en"),
    "opt-out, silent": Case("announce_opt_out", "granted"),
    "opt-out, 9": Case("announce_opt_out", "refused", language="ko", keys="9", key="9"),
    "opt-out, another key": Case("announce_opt_out", "refused", language="ko", keys="1", key="1"),
    "opt-out, #": Case("announce_opt_out", "refused", language="ko", keys="#", key="#"),
    "opt-out, *": Case("announce_opt_out", "refused", language="ko", keys="*", key="*"),
    "opt-out, storm": Case("announce_opt_out", "refused", language="ko", keys="5#*0975#*1", key="5"),
    "opt-out, hung up": Case("announce_opt_out", "hung_up", language="ko", leaves=True),
    "opt-out, audio lost": Case("announce_opt_out", "prompt_failed", language="fr", is_heard=False),
    "opt-out, no prompt": Case("announce_opt_out", "prompt_failed", language="de"),
    "opt-in, 1": Case("opt_in", "granted", language="ko", keys="1", key="1"),
    "opt-in, 1 after the question": Case("opt_in", "granted", keys="1", key="1", after_ms=2000),
    "opt-in, 2": Case("opt_in", "refused", language="ko", keys="2", key="2"),
    "opt-in, 2 and at once 1": Case("opt_in", "refused", language="ko", keys="21", key="2"),
    "opt-in, #": Case("opt_in", "refused", language="ko", keys="#", key="#"),
    "opt-in, *": Case("opt_in", "refused", language="ko", keys="*", key="*"),
    "opt-in, storm": Case("opt_in", "refused", language="ko", keys="0#*2111111", key="0"),
    "opt-in, 1 and a storm": Case("opt_in", "granted", language="ko", keys="122#*", key="1"),
    "opt-in, 1 before the question": Case("opt_in", "granted", keys="1", key="1", after_ms=0, is_heard=False),
    "opt-in, 2 before the question": Case("opt_in", "refused", keys="2", key="2", after_ms=0, is_heard=False),
    "opt-in, timed out": Case("opt_in", "timed_out"),
    "opt-in, hung up": Case("opt_in", "hung_up", language="ko", leaves=True),
    "opt-in, audio lost": Case("opt_in", "prompt_failed", language="fr", is_heard=False),
    "opt-in, no prompt": Case("opt_in", "prompt_failed", language="de"),
}


@pytest.fixture(scope="module")
def played(make_node: NodeFactory) -> Iterator[Played]:
    ready = [*OWN]
    with asking.site(make_node, ROUTING, own=OWN, spoken={}, ready=ready) as site:
        assert asking.lose_audio(site, "fr") == 6
        yield asking.play(site, {name: case.way for name, case in CASES.items()}, _agent)


def _agent(rig: Rig) -> None:
    rig.callee("desk-1", ring_ms=300, tone_hz=AGENT_HZ)


@pytest.mark.parametrize("state", [UP, DOWN])
@pytest.mark.parametrize("name", CASES)
def test_consent(played: Played, name: str, state: str) -> None:
    """The caller gets through in any case, and is recorded if and only if consent was given."""
    case, call = CASES[name], played[name, state]
    if isinstance(call, BaseException):
        raise call
    put_through(call, case, state)
    consent_is(call, case)
    proven(call, case)
    recorded(call, case)
    heard(call, case)


def put_through(call: Asked, case: Case, state: str) -> None:
    assert call.record["outcome"] == ("abandoned" if case.leaves else "answered")
    assert call.record["route_source"] == ("agi" if state == UP else "plan")
    assert call.record["route"] == case.mode.replace("_", "-")
    assert len(call.record["attempts"]) == (0 if case.leaves else 1)


def consent_is(call: Asked, case: Case) -> None:
    """As the record tells it."""
    said = call.consent
    if case.mode == "off":
        assert said == records.NOT_ASKED
        return
    assert (said["mode"], said["result"], said["key"]) == (case.mode, case.result, case.key)
    assert (said["prompt_id"], said["prompt_version"]) == (case.prompt_id, version_of(case.prompt_id))
    assert said["region"] == "RU"
    assert said["early_media"] is (False if case.prompt_id else None)
    assert said["announcement_in_recording"] is False


def version_of(prompt_id: str | None) -> str | None:
    """Of the samples that were to be played."""
    if prompt_id is None:
        return None
    key, _, language = prompt_id.partition(".")
    return OWN[key, language].version


def proven(call: Asked, case: Case) -> None:
    """The receipt is signed and says the same; by its rows nothing was recorded before the consent, if at all."""
    receipt = call.receipt()
    if case.mode == "off":
        assert receipt is None
        return
    assert receipt is not None
    same = ("mode", "region", "result", "key")
    assert {name: receipt[name] for name in same} == {name: call.consent[name] for name in same}
    assert (receipt["prompt_id"], receipt["prompt_version"]) == (case.prompt_id, version_of(case.prompt_id))
    assert receipt["recording_allowed"] is case.is_recorded
    was_played = case.prompt_id is not None and case.result != "prompt_failed"
    assert receipt["played_as"] == ("after_answer" if was_played else None)
    kinds = [row["event"] or row["application"] for row in receipt["rows"]]
    assert [kind for kind in kinds if kind in ("DM_IN", "DM_CONSENT", "MixMonitor")] == [
        "DM_IN",
        "DM_CONSENT",
        *["MixMonitor"] * case.is_recorded,
    ]
    [consent] = [row["at"] for row in receipt["rows"] if row["event"] == "DM_CONSENT"]
    assert receipt["at"] == consent


def recorded(call: Asked, case: Case) -> None:
    """The talk alone, each on their side; or nothing, at no time."""
    names = ["agent", "caller"] if case.is_recorded else []
    files = [f"{call.record['call_id']}.1-{name}.sln" for name in names]
    assert call.spooled_during() == files
    assert len(call.monitors()) == case.is_recorded
    assert call.spooled() == []
    talks = [tuple(set(asking.told(side, PROMPTS)) - {"other"} for side in both) for both in call.recordings()]
    assert talks == [({"caller"}, {"agent"})] * case.is_recorded


def heard(call: Asked, case: Case) -> None:
    """The prompt, ringing, the agent: in that order, and no silence over 400 ms from the first ring on."""
    prompt = case.prompt_id if case.is_heard else None
    was_answered = case.prompt_id is not None
    name = prompt and f"{prompt[:-3]}{' in English' * prompt.endswith('.en')}"
    story = [name] * bool(name) + ([] if case.leaves else ["ring"] * was_answered + ["agent"])
    told = asking.told(call.heard, PROMPTS)
    if not case.is_heard:
        # Of a question that is answered at once there is a moment to hear, or none.
        told = told[told.index("ring") :]
    assert told == story
    if "ring" in story:
        ringing, talking = call.heard.first(RING_HZ), call.heard.first(AGENT_HZ)
        assert ringing is not None and talking is not None
        assert call.heard.longest_silence(ringing, talking) < 400 + standstills.lost_ms(ringing, talking)


def test_the_vault_is_whole(played: Played) -> None:
    """`dialmark recordings verify` finds every recording of these calls, and every receipt, as it was written."""
    [site] = {id(call.site): call.site for call in played.values() if isinstance(call, Asked)}.values()
    site.daemon.run("recordings", "verify")
