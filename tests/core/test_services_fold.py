"""The fold of calls with services: consent, pause, whisper, acceptance, message, call-back, wait (C4, C7, N3, N13)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import calls, consent, records
from gateway.core.calls import Closing, EndedBy, Outcome
from tests import served

EXPECTED: dict[str, tuple[str, str | None, str, str]] = {
    "granted": ("answered", None, "agent", "1:anna=answered"),
    "paused": ("answered", None, "agent", "1:anna=answered"),
    "refused": ("answered", None, "caller", "1:anna=answered"),
    "left_while_asked": ("abandoned", None, "caller", ""),
    "not_accepted": (
        "answered",
        None,
        "caller",
        "1:mobile=not_accepted 2:boris=not_accepted 3:robot=not_accepted 4:anna=answered",
    ),
    "message_left": ("voicemail", None, "caller", "1:silent=no_answer"),
    "called_back": ("no_answer", "callback", "system", "1:silent=no_answer"),
    "waited": ("answered", None, "agent", "1:silent=no_answer 1:silent=no_answer 2:anna=answered"),
    "left_while_waiting": ("abandoned", None, "caller", "1:silent=no_answer 1:silent=abandoned"),
}


def folded(name: str) -> calls.CallFacts:
    return served.STORIES[name]().facts()


def test_every_story_is_told() -> None:
    assert set(EXPECTED) == set(served.STORIES)


@pytest.mark.parametrize("name", served.STORIES)
def test_story(name: str) -> None:
    facts = folded(name)
    attempts = " ".join(
        f"{one.step}:{one.destination}={one.outcome.value if one.outcome else ''}" for one in facts.attempts
    )
    assert facts.outcome is not None and facts.ended_by is not None
    assert (facts.outcome.value, facts.cause, facts.ended_by.value, attempts) == EXPECTED[name]
    assert facts.is_closed
    assert (facts.route, facts.route_source, facts.plan_revision) == ("sales", "agi", 7)


def test_prompt_and_ringing_of_an_answered_caller_are_told_apart() -> None:
    """N13: the caller is answered for consent and hears ringing from the class `ring`, which is neither hold nor prompt
    nor silence."""
    facts = folded("granted")
    assert facts.prompt_seconds == pytest.approx(2.98)
    assert facts.wait_seconds == pytest.approx(9.2, abs=0.001)
    assert facts.silent_seconds == pytest.approx(0.14, abs=0.01)
    assert facts.hold_seconds == 0
    assert facts.talk_seconds == pytest.approx(10.0, abs=0.01)
    assert facts.attempts[0].ring_seconds == pytest.approx(3.978, abs=0.01)


def test_ring_music_that_outlasts_the_answer_by_a_moment_is_no_hold() -> None:
    call = served.Journal().begin().step(0.1, 1, "anna:desk-1", plan=True).music(0.2, 5.05)
    call.picks_up(4.9, "desk-1").bridge(5.0, 9.0, "desk-1").gone(9.1, "desk-1", by="caller").gone(9.1, by="caller")
    assert call.facts().hold_seconds == 0


def test_hold_music_after_the_answer_is_hold_still() -> None:
    call = served.granted().music(12.0, 14.0, "default")
    assert call.facts().hold_seconds == pytest.approx(2.0)


def test_a_caller_waits_with_music_not_in_silence() -> None:
    facts = folded("waited")
    assert facts.hold_seconds == 0
    assert facts.silent_seconds == pytest.approx(0.1, abs=0.01), "from the call's beginning to the first step"
    assert facts.prompt_seconds == pytest.approx(4.0)


def test_who_speaks_a_message_does_not_sit_in_silence() -> None:
    facts = folded("message_left")
    assert facts.silent_seconds == pytest.approx(0.9, abs=0.01)
    assert facts.prompt_seconds == pytest.approx(3.0)


def test_an_open_key_wait_is_silence() -> None:
    """Opt-in: five seconds of waiting for the key after the prompt, in which the caller hears nothing."""
    call = served.Journal().begin().answer(0.0).file(0.0, 3.0, served.CONSENT_PROMPT)
    call.mark(8.0, served.consent_row("timed_out", "")).step(8.0, 1, "anna:desk-1", plan=True).gone(9.0, by="caller")
    assert call.facts().silent_seconds == pytest.approx(5.0)


def test_whisper_and_acceptance_stand_in_the_attempts() -> None:
    said = [(one.whisper_played, one.accepted, one.machine) for one in folded("not_accepted").attempts]
    assert said == [(False, False, None), (True, None, None), (False, False, True), (True, True, None)]
    assert [(one.whisper_played, one.accepted) for one in folded("granted").attempts] == [(True, None)]
    assert [one.whisper_played for one in folded("refused").attempts] == [False]


@pytest.mark.parametrize("sound", ["beep", served.ACCEPT, served.TOLD])
def test_what_asks_for_a_key_is_no_whisper(sound: str) -> None:
    call = served.Journal().begin().step(0.1, 1, "anna:desk-1", plan=True).file(2.0, 3.0, sound, leg="desk-1")
    assert not call.facts().attempts[0].whisper_played
    call.file(3.0, 4.0, "my-own-welcome", leg="desk-1")
    assert call.facts().attempts[0].whisper_played


def test_a_refusal_in_a_group_leaves_the_others_as_they_were() -> None:
    call = served.Journal().begin().step(0.1, 1, "mobile:cell-1", "boris:desk-2", plan=True).picks_up(2.0, "cell-1")
    call.gone(2.0, "desk-2", cause=26).mark(5.0, "DM_ACCEPT,s=1&r=refused", leg="cell-1").gone(5.1, "cell-1", cause=26)
    call.mark(5.2, "DM_MISS,s=1&st=ANSWER&hc=16&r=500&p=&x=").mark(5.3, "DM_ACT,a=exhausted").gone(5.4)
    facts = call.facts()
    assert [one.outcome.value if one.outcome else None for one in facts.attempts] == ["not_accepted", "cancelled"]
    assert facts.outcome is Outcome.NO_ANSWER, "not_accepted counts as no answer"


def test_pauses_by_the_agents_key() -> None:
    facts = folded("paused")
    begin = facts.started_at_us
    assert facts.pauses == ((begin + 11_000_000, begin + 14_000_000),)
    twice = (
        served.paused().mark(12.0, "DM_PAUSE,r=paused").mark(15.0, "DM_PAUSE,r=resumed").mark(16.0, "DM_PAUSE,r=paused")
    )
    assert twice.facts().pauses == (*facts.pauses, (begin + 16_000_000, None))
    shown = records.record(twice.facts(), None, revision=1, calls_before=None, node="n")["pauses"]
    assert shown[1] == {"from": records.timestamp(begin + 16_000_000), "to": None}


def test_the_notice_before_a_message_is_a_consent_of_its_own() -> None:
    facts = folded("message_left")
    assert facts.consent is None
    assert facts.message_consent is not None
    assert (facts.message_consent.result, facts.message_consent.prompt_id) == (
        consent.Result.GRANTED,
        "leave_message.ru",
    )
    both = served.message_left().mark(0.05, served.consent_row("refused", "2")).facts()
    assert both.consent is not None and both.consent.result is consent.Result.REFUSED
    assert both.message_consent == facts.message_consent


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_message_of_a_second_is_one(seconds: int) -> None:
    facts = served.message_left(seconds=seconds).facts()
    assert facts.outcome is (Outcome.VOICEMAIL if seconds else Outcome.NO_ANSWER)
    assert facts.outcome.is_missed


@pytest.mark.parametrize("written", ["", "x", "-3", "1e9", "999999999999999999999999", "²"])
def test_a_message_of_no_length_is_none(written: str) -> None:
    call = served.missed(9).mark(2.3, "DM_ACT,a=exhausted").mark(3.0, f"DM_ACT,a=voicemail&n={written}").gone(4.0)
    assert call.facts().outcome is Outcome.NO_ANSWER


def test_after_hours_a_message_or_a_call_back_may_follow() -> None:
    begun = "DM_ACT,a=after_hours&src=agi&rev=7&rt=sales&agi=SUCCESS"
    called = served.Journal().begin().mark(0.1, begun).mark(3.0, "DM_ACT,a=callback").gone(4.0).facts()
    assert (called.outcome, called.cause, called.route) == (Outcome.AFTER_HOURS, "callback", "sales")
    spoke = served.Journal().begin().mark(0.1, begun).mark(9.0, "DM_ACT,a=voicemail&n=5").gone(10.0).facts()
    assert (spoke.outcome, spoke.cause) == (Outcome.VOICEMAIL, None)


def test_who_was_talked_to_in_the_end_has_no_cause() -> None:
    call = served.granted().mark(3.0, "DM_ACT,a=callback").mark(3.0, "DM_ACT,a=voicemail&n=5")
    assert (call.facts().outcome, call.facts().cause) == (Outcome.ANSWERED, None)


@pytest.mark.parametrize("name", served.STORIES)
def test_doubled_rows_change_nothing(name: str) -> None:
    rows = served.STORIES[name]().rows
    assert calls.fold(rows + rows) == calls.fold([row for row in rows for _ in range(2)]) == calls.fold(rows)


@pytest.mark.parametrize("name", served.STORIES)
def test_every_prefix_and_every_suffix_folds(name: str) -> None:
    rows = served.STORIES[name]().rows
    for cut in range(len(rows) + 1):
        for part in (rows[:cut], rows[cut:]):
            for closed in (None, Closing(rows[-1].at_us + 5_000_000, "gone")):
                facts = calls.fold(part, closed=closed)
                if facts is None:
                    continue
                records.record(facts, None, revision=1, calls_before=None, node="n")
                assert 0 <= facts.silent_seconds <= facts.wait_seconds
                if closed is not None:
                    assert facts.is_closed and facts.outcome is not None
                    assert all(one.outcome is not None for one in facts.attempts)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_order_does_not_matter_and_rows_may_be_lost(data: st.DataObject) -> None:
    rows = served.STORIES[data.draw(st.sampled_from(sorted(served.STORIES)))]().rows
    assert calls.fold(data.draw(st.permutations(rows))) == calls.fold(rows)
    kept = [row for row in rows if data.draw(st.booleans())]
    facts = calls.fold(kept, closed=Closing(0))
    assert facts is None or (facts.is_closed and facts.outcome is not None)


def test_the_recorder_of_a_killed_asterisk_keeps_the_consent() -> None:
    """Talk cut by a crash: answered, and what was agreed to before stays agreed (N1, N3)."""
    rows = [row for row in served.granted().rows if row.at_us < served.BEGIN_US + 12_000_000]
    facts = calls.fold(rows, closed=Closing(rows[-1].at_us + 2_000_000, "asterisk gone"))
    assert facts is not None and facts.consent is not None
    assert (facts.outcome, facts.ended_by, facts.consent.allows_recording) == (Outcome.ANSWERED, EndedBy.CRASH, True)
