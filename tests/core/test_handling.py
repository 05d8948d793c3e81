"""Plans with consent, whisper, acceptance and unanswered behaviour, and the variables they become (C4, C7, R91, N2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.config import shipped
from gateway.core import book, callingback, consent, handling, prompts, rating, routing
from gateway.core.book import RecordingMode as Mode
from gateway.pbx import dialvars, planfile
from tests.core import books


def made(number: dict[str, Any] | None = None, **route: Any) -> book.Book:
    """The clinic's book, with the law's table and the texts."""
    one = books.routing_book(books.route(**route), number=number)
    trunk = book.Trunk("early", "RU", book.NumberForm.E164, book.DidSource.RURI, (), None, early_media=True)
    return replace(one, trunks={"early": trunk}, regions=shipped.consent_regions(), words=shipped.catalogue())


def stocked(routing_book: book.Book) -> prompts.Shelf:
    """Every demand of the book as if it were ready."""
    items: dict[prompts.Wanted, prompts.Ready] = {}
    for group in handling.demands(routing_book):
        for wanted in group:
            path = f"/var/lib/dialmark/prompts/{wanted.key}-{wanted.language}-{len(items):016x}"
            items[wanted] = prompts.Ready(f"{wanted.key}.{wanted.language}", path, f"{len(items):032x}", 2.0)
    return prompts.Shelf(items)


def variables(routing_book: book.Book, history: routing.History | None = None, **asked: Any) -> dict[str, str]:
    plan = routing.decide(books.question(**asked), routing_book, history or routing.History())
    return dict(dialvars.variables(plan, "agi", stocked(routing_book)))


def test_a_plain_route_stays_on_the_hot_path() -> None:
    found = variables(made())
    assert found["DM_ACT"] == "dial"
    assert not {name for name in found if name.startswith(("DM_C", "DM_W", "DM_A", "DM_U"))} - {"DM_ACT", "DM_WAIT"}
    assert list(handling.demands(made())) == []


def test_what_calls_need_most_comes_first() -> None:
    """What asks for consent, what else calls play, what agents hear of codes, whispers: each once, in its stage."""
    wish = rating.Wish(rating.By.AGENT, (rating.Question.GOAL,))
    one = made(recording=Mode.OPT_IN, tell_agent=True, rating=wish, whisper={"": "{source}"})
    one = replace(
        one,
        agents={key: replace(agent, endpoint=key) for key, agent in one.agents.items()},
        local_contexts=frozenset({"from-phones"}),
    )
    keys = [{group[0].key for group in stage} for stage in handling.stages(one)]
    assert keys == [
        {"consent_opt_in"},
        {"agent_told", "rate_goal_agent", "rate_thanks", "whisper_generic"},
        callingback.PROMPTS - {callingback.RESULT_PROMPT},
        {prompts.WHISPER},
    ]
    assert list(handling.demands(one)) == [group for stage in handling.stages(one) for group in stage]
    named = made(recording=Mode.OPT_IN, whisper={"": "@consent_opt_in"}, unanswered_message="@consent_opt_in")
    assert [group[0].key for group in handling.demands(named)].count("consent_opt_in") == 2
    assert len(set(handling.demands(named))) == len(list(handling.demands(named)))


def test_nobody_is_told_of_a_recording_that_cannot_be() -> None:
    assert list(handling.demands(made(tell_agent=True))) == []
    assert list(handling.demands(made({"recording": Mode.OFF}, recording=Mode.OPT_IN, tell_agent=True))) == []
    told = {group[0].key for group in handling.demands(made({"recording": Mode.NONE}, tell_agent=True))}
    assert told == {"agent_told"}


@pytest.mark.parametrize("mode", [Mode.NONE, Mode.ANNOUNCE, Mode.ANNOUNCE_OPT_OUT, Mode.OPT_IN])
def test_consent_in_both_inlets(mode: Mode) -> None:
    """The default plan keeps the number's mode when the daemon is down (N2)."""
    one = made(recording=mode)
    found = variables(one)
    assert (found["DM_ACT"], found["DM_CM"], found["DM_CL"], found["DM_CG"]) == ("full", mode.value, "ru", "RU")
    text = planfile.render(one, stocked(one))
    for name in ("DM_CM", "DM_CP", "DM_CI", "DM_CV", "DM_CG"):
        assert (name in found) == (mode is not Mode.NONE or name in ("DM_CM", "DM_CG"))
        if name in found:
            assert f"{name}={found[name]}" in text
    if mode is not Mode.NONE:
        assert found["DM_CI"] == f"{consent.PROMPT_KEYS[mode]}.ru"


def test_a_prompt_that_is_not_ready_leaves_the_mode() -> None:
    one = made(recording=Mode.OPT_IN)
    plan = routing.decide(books.question(), one, routing.History())
    found = dict(dialvars.variables(plan, "agi"))
    assert found["DM_CM"] == "opt_in"
    assert "DM_CP" not in found


def test_the_callers_region_decides() -> None:
    one = made(recording=Mode.REGION)
    assert routing.look_ups(books.DID, one).consent_region
    assert not routing.look_ups(books.DID, made(recording=Mode.OPT_IN)).consent_region
    for code, mode in (("DE", "opt_in"), ("FR", "announce_opt_out"), ("KR", "announce")):
        history = routing.History(consent_region=consent.CallerRegion(code))
        assert variables(one, history)["DM_CM"] == mode
    assert "DM_CM=announce," in planfile.render(one)
    assert variables(one, routing.History(consent_region=consent.CallerRegion("US-CA")))["DM_CA"] == "1"


def test_the_numbers_word_wins() -> None:
    assert variables(made({"recording": Mode.OFF}, recording=Mode.OPT_IN))["DM_ACT"] == "dial"
    found = variables(made({"language": "ko"}, recording=Mode.OPT_IN))
    assert (found["DM_CI"], found["DM_CL"]) == ("consent_opt_in.ko", "ko")


def test_early_media_only_for_the_announcement_on_such_a_trunk() -> None:
    assert variables(made(recording=Mode.ANNOUNCE), trunk="early")["DM_CE"] == "1"
    assert "DM_CE" not in variables(made(recording=Mode.ANNOUNCE))
    assert "DM_CE" not in variables(made(recording=Mode.OPT_IN), trunk="early")


def test_whisper_of_first_and_repeat_callers() -> None:
    one = made(whisper={"": "{source}, {first_or_repeat}"})
    assert routing.look_ups(books.DID, one).calls_before
    texts = [
        routing.decide(books.question(), one, routing.History(calls_before=before)).whisper[0].text
        for before in (None, 0, 5)
    ]
    assert texts == ["Radio Jazz", "Radio Jazz, первый звонок", "Radio Jazz, повторный звонок"]
    demanded = [group[0].text for group in handling.demands(one) if group[0].key == prompts.WHISPER]
    assert sorted(demanded) == sorted(texts)
    assert variables(one)["DM_W"].startswith("/var/lib/dialmark/prompts/whisper-ru-")


def test_a_city_falls_back_to_what_is_ready() -> None:
    one = made(whisper={"": "{source}, {city}"})
    assert routing.look_ups(books.DID, one).city == "ru"
    plan = routing.decide(books.question(), one, routing.History(city="Казань"))
    assert [wanted.text for wanted in plan.whisper] == ["Radio Jazz, Казань", "Radio Jazz", ""]
    assert dict(dialvars.variables(plan, "agi", stocked(one)))["DM_W"].startswith(
        "/var/lib/dialmark/prompts/whisper-ru"
    )
    generic = prompts.Wanted("whisper_generic", "ru")
    only = prompts.Shelf({generic: prompts.Ready("whisper_generic.ru", "/p/generic", "0" * 32, 1.0)})
    assert dict(dialvars.variables(plan, "agi", only))["DM_W"] == "/p/generic"
    assert "DM_W" not in dict(dialvars.variables(plan, "agi"))


def test_acceptance_by_step() -> None:
    mobile = replace(books.routing_book().destinations["mobile"], accept=book.Acceptance.PRESS_1)
    one = made()
    one = replace(one, destinations={**one.destinations, "mobile": mobile})
    found = variables(one)
    assert (found["DM_AC"], found["DM_AR"], found["DM_AS"], found["DM_ACT"]) == ("001", "2", "5", "full")
    assert "accept-ru-" in found["DM_AP"]
    desk = replace(books.routing_book().destinations["desk-1"], accept=book.Acceptance.NONE)
    one = made(accept=book.Acceptance.PRESS_1)
    assert variables(replace(one, destinations={**one.destinations, "desk-1": desk}))["DM_AC"] == "011"


def test_machine_detection_only_where_one_must_be_pressed() -> None:
    """Issue 3, item 7: off unless the route says so; the default plan has it too (N2), and `explain` says it (N12)."""
    asked = made(accept=book.Acceptance.PRESS_1, answering_machine_detection=True)
    plan = routing.decide(books.question(), asked, routing.History())
    default = routing.default_plan(asked.tracking_numbers[books.DID], asked).open
    for one in (plan, default):
        assert one.acceptance is not None and one.acceptance.detects_machine
        assert "who answers must press 1 in step 1, 2, 3, and answering machines are looked for" in one.why
    off = routing.decide(books.question(), made(accept=book.Acceptance.PRESS_1), routing.History())
    assert off.acceptance is not None and not off.acceptance.detects_machine
    without = routing.decide(books.question(), made(answering_machine_detection=True), routing.History())
    assert without.acceptance is None


@pytest.mark.parametrize(
    ("behaviour", "asking", "thanking"),
    [
        ("wait", "wait", None),
        ("callback", "callback_offer", "callback_taken"),
        ("voicemail", "leave_message", "message_taken"),
    ],
)
def test_when_nobody_answers(behaviour: str, asking: str, thanking: str | None) -> None:
    found = variables(made(unanswered=book.Unanswered(behaviour)))
    assert found["DM_UN"] == behaviour
    assert f"/{asking}-ru-" in found["DM_UP"]
    assert ("DM_UT" in found) == (thanking is not None)


@pytest.mark.parametrize("after_hours", [book.AfterHours.CALLBACK, book.AfterHours.VOICEMAIL])
def test_after_hours(after_hours: book.AfterHours) -> None:
    one = made(hours="office", after_hours=after_hours, recording=Mode.OPT_IN)
    found = variables(one, at=books.WEDNESDAY_NIGHT)
    assert (found["DM_ACT"], found["DM_UN"]) == ("after_hours", after_hours.value)
    assert "DM_CM" not in found
    assert f"DM_UN={after_hours.value}" in planfile.render(one, stocked(one))


def test_messages_of_the_catalogue() -> None:
    one = made(unanswered_message="@nobody_answers")
    assert "/nobody_answers-ru-" in variables(one)["DM_MSG"]
    plan = routing.decide(books.question(), one, routing.History())
    assert "DM_MSG" not in dict(dialvars.variables(plan, "agi"))
    assert variables(made(unanswered_message="vm-nobodyavail"))["DM_MSG"] == "vm-nobodyavail"


def test_the_challenge_has_a_prompt_of_its_own() -> None:
    ban = book.Ban(f"+{books.CALLER}", book.BanAction.CHALLENGE, "calls daily")
    one = replace(made(recording=Mode.OPT_IN), bans=(ban,))
    found = variables(one)
    assert found["DM_ACT"] == "ban_challenge"
    assert "/ban_challenge-ru-" in found["DM_MSG"]
    assert found["DM_CM"] == "opt_in"


def test_a_banned_caller_gets_no_services() -> None:
    ban = book.Ban(f"+{books.CALLER}", book.BanAction.BUSY, "calls daily")
    one = replace(made(recording=Mode.OPT_IN, unanswered=book.Unanswered.VOICEMAIL), bans=(ban,))
    assert set(variables(one)) == {"DM_SRC", "DM_REV", "DM_RT", "DM_ACT", "DM_WAIT", "DM_OK"}
