"""Whispers about visitors are made when they are lent a number, and never hold up a call (C7, R91)."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway import store
from gateway.config import shipped
from gateway.core import prompts
from gateway.pbx import agi, promptfiles, speech
from gateway.services import attributing, prompter, rehearsing, router
from tests.services.clinic import FIRST, OVERFLOW, ROUTING, Clinic, number

TAGGED = "https://clinic.example/?utm_source=google&utm_medium=cpc&utm_campaign=spring&utm_term=implant"
SECOND = 1_000_000


class Stage:
    """A clinic, who makes whispers for its visitors, and a router that plays them."""

    def __init__(self, database: store.Database, place: Path, text: str = ROUTING) -> None:
        self.clinic = Clinic(database, text=text)
        self.shelf = prompts.EMPTY
        sources = prompter.Sources(shipped.catalogue(), speech.find("espeak-ng"))
        self.prompter = prompter.Prompter(promptfiles.PromptFolder(place), sources, self._changed)
        self.rehearsing = rehearsing.Rehearsing(
            database, expect=self.prompter.expect, now_us=lambda: self.clinic.now_us
        )
        self.router = router.Router(
            database,
            now=lambda: datetime.fromtimestamp(self.clinic.now_us / SECOND, UTC),
            lookup_seconds=10.0,
            visitor_of=attributing.visitor_of,
        )
        self.router.use(self.clinic.book)
        self.rehearsing.use(self.clinic.book)
        self.prompter.use(self.clinic.book)

    def _changed(self, shelf: prompts.Shelf, is_planned: bool) -> None:
        self.shelf = shelf
        self.router.use_prompts(shelf)

    async def rehearse(self) -> None:
        """What the daemon does after visitors were lent numbers."""
        for lent in self.clinic.lent:
            self.rehearsing.lent(*lent)
        self.clinic.lent.clear()
        await self.rehearsing.step()
        await self.prompter.make_ready()

    async def whisper(self, to: str = FIRST) -> str:
        """The text of the whisper that a call to a number gets now; the key of the prompt for the generic one."""
        asked = agi.AgiRequest("route", ("cd26aa4b-0000-4000-8000-000000000001", to[1:], "74951112233", ""))
        answer = self.router.answer(asked)
        pairs = await answer if isinstance(answer, Awaitable) else answer
        assert pairs is not None
        played = dict(pairs).get("DM_W", "")
        return next((wanted.text or wanted.key for wanted, one in self.shelf.items.items() if one.path == played), "")


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short: the folder's path travels in every plan."""
    return tmp_path_factory.mktemp("p")


@pytest.fixture
def stage(database: store.Database, place: Path) -> Stage:
    return Stage(database, place)


async def test_source_campaign_and_keyword_are_ready_before_the_visitor_calls(stage: Stage) -> None:
    """The first call already has the whole whisper."""
    visitor = await stage.clinic.open(url=TAGGED)
    assert stage.clinic.lent == [(FIRST, visitor.visitor_id)]
    await stage.rehearse()
    assert await stage.whisper() == "Google Ads spring implant"


async def test_who_calls_before_it_is_made_gets_the_generic_one(stage: Stage) -> None:
    """Speech never delays a call."""
    await stage.prompter.make_ready()
    await stage.clinic.open(url=TAGGED)
    assert await stage.whisper() == "whisper_generic"
    await stage.rehearse()
    assert await stage.whisper() == "Google Ads spring implant"


async def test_a_visitor_who_comes_back_is_announced_by_where_they_first_came_from(stage: Stage) -> None:
    """As the record has it: the last touch that was not direct."""
    visitor = await stage.clinic.open(url=TAGGED)
    await stage.rehearse()
    stage.clinic.later(7_200)
    again = await stage.clinic.open(visitor.visitor_id)
    assert number(again) == FIRST
    made = dict(stage.prompter.shelf.items)
    await stage.rehearse()
    assert await stage.whisper() == "Google Ads spring implant"
    assert dict(stage.prompter.shelf.items) == made, "it was there: nothing is made twice"


async def test_who_is_shown_the_overflow_number_is_nobodys_whisper(stage: Stage) -> None:
    """Many are shown it, so nothing is made for them."""
    for _ in range(3):
        visitor = await stage.clinic.open(url=TAGGED)
    assert number(visitor) == OVERFLOW
    assert len(stage.clinic.lent) == 2


async def test_a_route_that_says_nothing_of_visitors_makes_nothing(database: store.Database, place: Path) -> None:
    plain = ROUTING.replace('whisper = "{source} {campaign} {keyword}"', 'whisper = "{number_label}"')
    assert plain != ROUTING
    stage = Stage(database, place, plain)
    await stage.clinic.open(url=TAGGED)
    await stage.rehearse()
    assert not any("spring" in wanted.text for wanted in stage.prompter.shelf.items)


async def test_first_and_repeat_callers_have_theirs(database: store.Database, place: Path) -> None:
    text = ROUTING.replace("{source} {campaign} {keyword}", "{campaign}, {first_or_repeat}")
    stage = Stage(database, place, text)
    await stage.clinic.open(url=TAGGED)
    await stage.rehearse()
    said = [wanted.text for wanted in stage.prompter.shelf.items if "spring" in wanted.text]
    assert len(said) == 2 and len(set(said)) == 2
    assert await stage.whisper() in said


async def test_a_flood_of_visitors_is_bounded_and_calls_go_first(stage: Stage) -> None:
    """Made-up campaigns cannot fill the disk or hold up what a call wants."""
    for place in range(3 * prompter.MAX_EXPECTED):
        stage.prompter.expect((prompts.Wanted(prompts.WHISPER, "en", f"campaign {place}"),))
        stage.rehearsing.lent(FIRST, f"visitor-{place}")
    assert len(stage.prompter._expected) == prompter.MAX_EXPECTED
    assert len(stage.rehearsing._waiting) == rehearsing.MAX_WAITING
    assert next(iter(stage.rehearsing._waiting)) == (FIRST, f"visitor-{3 * prompter.MAX_EXPECTED - 200}")
    for group in list(stage.prompter._expected)[5:]:
        del stage.prompter._expected[group]
    stage.prompter.want((prompts.Wanted(prompts.WHISPER, "en", "wanted by a call"),))
    await stage.prompter.make_ready()
    texts = [wanted.text for wanted in stage.prompter.shelf.items if wanted.text]
    assert texts.index("wanted by a call") < min(texts.index(text) for text in texts if text.startswith("campaign"))
    assert stage.prompter.is_idle.is_set()
