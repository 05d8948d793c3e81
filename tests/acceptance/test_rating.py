"""R73, R77: when the call is over, whoever is still there says by keys how it was. Nobody else notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance import sound
from tests.acceptance.scenes import Played, Scene, Scenes
from tests.acceptance.stages import Site
from tests.conftest import NodeFactory
from tests.rig import Caller, Headset, Key
from tests.rig.dialmark import Record
from tests.rig.waits import wait_until

pytestmark = pytest.mark.real_time

SCENES = Scenes()
OUTCOME, GOAL, SOLVED = (sound.PROMPTS[f"rate_{one}_agent"] for one in ("outcome", "goal", "solved"))
CALLERS_GOAL, CALLERS_SOLVED = sound.PROMPTS["rate_goal_caller"], sound.PROMPTS["rate_solved_caller"]
THANKS = sound.PROMPTS["rate_thanks"]
PROMPTS = (*(key for key in sound.PROMPTS if key.startswith("rate_")), "accept")
ALL = 'forward = ["{a}"]\nrating = { by = "agent", min_talk_seconds = 0, key_seconds = 2 }\n'
CALLER = ALL.replace('by = "agent"', 'by = "caller", questions = ["goal", "solved"]')
RULE = """
[scoring]
qualified_from = 50

[[rule]]
key = "goal"
keys = ["goal=1"]
score = 60
tags = ["goal reached"]

[[rule]]
key = "new"
first_time = true
score = 5
"""


def keyed(record: Record) -> tuple[str, str | None, bool | None, bool | None] | None:
    """Who said what."""
    said: dict[str, Any] | None = record["rating"]
    return (said["by"], said["outcome"], said["goal_reached"], said["solved"]) if said is not None else None


def heard_of(on: Scene, party: Headset, *names: str) -> set[str]:
    """Which of these a party heard."""
    return set(on.told(party, *names)) - {"other"}


async def talked(on: Scene, **options: Any) -> Caller:
    """A call in which both have heard each other, and the caller hangs up."""
    caller = await on.dial(**options)
    await on.talks(caller)
    return caller


def is_as_without(record: Record, caller: Caller, ended_by: str = "caller") -> None:
    """R73: neither outcome nor talk nor who ended the call differ from those of a call that nobody is asked about."""
    assert (record["outcome"], record["missed"], record["ended_by"]) == ("answered", False, ended_by)
    [attempt] = record["attempts"]
    assert (attempt["outcome"], attempt["whisper_played"], attempt["talk_seconds"]) == (
        "answered",
        False,
        record["talk_seconds"],
    )
    assert attempt["ended_at"] <= record["ended_at"] or ended_by == "caller"


@SCENES.add(ALL, down=True)
async def the_agent_says_all(on: Scene) -> None:
    """The caller is gone at once; three questions, three keys, thanks. The talk ends with the caller."""
    phone = on.phone("a")
    caller = await talked(on)
    caller.hang_up()
    for prompt, key in ((OUTCOME, "2"), (GOAL, "1"), (SOLVED, "2")):
        await on.hears(phone.headset, prompt)
        phone.headset.press(key)
    await on.hears(phone.headset, THANKS)
    record = await on.record(caller)
    assert keyed(record) == ("agent", "follow-up", True, False)
    assert record["rating"]["keys"] == {"outcome": "2", "goal": "1", "solved": "2"}
    is_as_without(record, caller)
    # The prompts took four seconds and more, and are no talk.
    assert record["ended_at"] < record["rating"]["at"]
    heard = phone.headset.heard()
    assert heard.end - heard.stretches(OUTCOME)[0].start > 2
    assert record["talk_seconds"] < 8
    assert record["scoring"] == {
        "score": 65,
        "qualified": True,
        "spam": None,
        "tags": [{"tag": "goal reached", "origin": "rule", "rule": "goal"}],
        "rules": [{"rule": "goal", "points": 60}, {"rule": "new", "points": 5}],
    }
    assert record["revision"] == 1


@SCENES.add(CALLER, down=True)
async def the_caller_says_all(on: Scene) -> None:
    """The agent has hung up; the caller hears the questions instead of the tone."""
    phone = on.phone("a", talk_ms=2500)
    caller = await talked(on)
    await on.hears(caller.headset, CALLERS_GOAL)
    caller.headset.press("2")
    await on.hears(caller.headset, CALLERS_SOLVED)
    caller.headset.press("1")
    await caller.until_hung_up()
    record = await on.record(caller)
    assert keyed(record) == ("caller", None, False, True)
    is_as_without(record, caller, "agent")
    assert record["talk_seconds"] < 4
    assert not heard_of(on, phone.headset, "rate_goal_caller", "rate_goal_agent")
    assert record["scoring"]["score"] == 5


@SCENES.add(ALL, down=True)
async def an_agent_who_hangs_up_meanwhile(on: Scene) -> None:
    """What was said stands; the caller ended the call all the same."""
    phone = on.phone("a", talk_ms=7000)
    caller = await talked(on)
    caller.hang_up()
    await on.hears(phone.headset, OUTCOME)
    phone.headset.press("1")
    await on.hears(phone.headset, GOAL)
    record = await on.record(caller)
    assert keyed(record) == ("agent", "success", None, None)
    is_as_without(record, caller)


@SCENES.add(ALL, long=True)
async def wrong_keys(on: Scene) -> None:
    """Asked once more, then nothing more is: neither the second question nor thanks."""
    phone = on.phone("a")
    caller = await talked(on)
    caller.hang_up()
    await on.hears(phone.headset, OUTCOME)
    phone.headset.press("9")
    await on.hears(phone.headset, OUTCOME, least=0.5)
    phone.headset.press("*")
    record = await on.record(caller)
    assert keyed(record) == ("agent", None, None, None)
    heard = phone.headset.heard()
    (_, first), (_, second) = phone.headset.pressed()
    assert heard.part(first + 0.3, second).first(OUTCOME) is not None
    assert heard.part(second + 0.5, heard.end).first(OUTCOME) is None
    assert not heard_of(on, phone.headset, "rate_goal_agent", "rate_thanks")
    is_as_without(record, caller)


@SCENES.add(ALL, long=True)
async def no_key(on: Scene) -> None:
    """Two seconds for each of two questions, and the agent is free."""
    phone = on.phone("a")
    caller = await talked(on)
    caller.hang_up()
    record = await on.record(caller)
    assert keyed(record) == ("agent", None, None, None)
    assert len(phone.headset.heard().stretches(OUTCOME, join=0.1, least=0.5)) == 2
    is_as_without(record, caller)


@SCENES.add(ALL)
async def an_agent_who_hangs_up_first(on: Scene) -> None:
    """Cannot be asked, and the caller is not: `by` names the agent."""
    on.phone("a", talk_ms=2000)
    caller = await talked(on)
    await caller.until_hung_up()
    record = await on.record(caller)
    assert (keyed(record), record["ended_by"]) == (None, "agent")
    assert not heard_of(on, caller.headset, "rate_goal_caller", "rate_goal_agent", "rate_outcome_agent")


@SCENES.add(CALLER)
async def a_caller_who_hangs_up_first(on: Scene) -> None:
    """Cannot be asked, and the agent is not."""
    phone = on.phone("a")
    caller = await talked(on)
    record = await on.end(caller)
    assert (keyed(record), record["ended_by"]) == (None, "caller")
    assert not heard_of(on, phone.headset, "rate_goal_agent", "rate_goal_caller")


@SCENES.add(CALLER)
async def a_caller_who_presses_and_is_gone(on: Scene) -> None:
    """The key of who hangs up with it is kept."""
    on.phone("a", talk_ms=2500)
    caller = await talked(on)
    await on.hears(caller.headset, CALLERS_GOAL)
    caller.headset.press("1")
    await asyncio.to_thread(wait_until, lambda: _is_out(caller), 5, "the key")
    caller.hang_up()
    record = await on.record(caller)
    assert keyed(record) == ("caller", None, True, None)


def _is_out(caller: Caller) -> bool:
    """The key's last packet has been sent."""
    pressed = caller.headset.pressed()
    return bool(pressed) and time.time() > pressed[0][1] + 0.25


HUNG_UP = """
[pbx]
exten => _X,1,MSet(DM_QQ=goal,DM_QK=2,DM_DIGIT=${EXTEN})
 same => n,Set(CHANNEL(hangup_handler_push)=dialmark-rating,left,1(agent))
 same => n,Hangup(16)
"""
"""A channel of the call that is gone between a key and the dialplan's next step."""


@SCENES.add('forward = ["local:1@pbx"]\n', down=True)
async def a_key_and_gone_before_the_next_step(on: Scene) -> None:
    """The hang-up handler writes it."""
    caller = await on.dial()
    await caller.final()
    record = await on.record(caller)
    assert keyed(record) == ("agent", None, True, None)


@SCENES.add('forward = ["local:3@pbx"]\n')
async def a_wrong_key_and_gone(on: Scene) -> None:
    """Is no answer to the question."""
    caller = await on.dial()
    await caller.final()
    record = await on.record(caller)
    assert keyed(record) is None


@SCENES.add(ALL.replace("min_talk_seconds = 0", "min_talk_seconds = 60"))
async def a_short_talk(on: Scene) -> None:
    """Nobody is asked about it."""
    phone = on.phone("a")
    caller = await talked(on)
    record = await on.end(caller)
    assert keyed(record) is None
    assert not heard_of(on, phone.headset, "rate_outcome_agent")


@SCENES.add(ALL + 'accept = "press-1"\naccept_repeats = 1\naccept_seconds = 2\nreserve = ["{b}"]\n', down=True)
async def a_caller_who_gives_up_while_the_agent_is_asked_to_accept(on: Scene) -> None:
    """Nobody was connected, so nobody is asked how it was, and the call is the abandoned one that it would be."""
    phone = on.phone("a", keys=[Key("1", 2500)])
    on.phone("b")
    caller = await on.dial()
    await on.hears(phone.headset, sound.PROMPTS["accept"])
    record = await on.end(caller)
    assert (record["outcome"], record["missed"], record["rating"]) == ("abandoned", True, None)
    assert on.outcomes(record) == ["abandoned"]
    assert not heard_of(on, phone.headset, "rate_outcome_agent", "rate_goal_agent")


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[Site]:
    files = {"extensions_site.conf": HUNG_UP}
    with sound.site(make_node, SCENES.routing() + RULE, *PROMPTS, phones=SCENES.phones(), files=files) as made:
        yield made


@pytest.fixture(scope="module")
def played(site: Site, request: pytest.FixtureRequest) -> Played:
    return SCENES.play(site, request.session.items)


@pytest.mark.parametrize(("name", "state"), SCENES.all())
def test_rating(played: Played, name: str, state: str) -> None:
    """R73, N2: each scene, with the daemon up and some with it down; see the scene's own words."""
    played.judge(name, state)
