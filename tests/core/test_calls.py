"""The fold on recorded journals (C5, N1, N7, N13, R62): what each call is, and that nothing makes it fail or waver."""

from __future__ import annotations

import itertools
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import calls
from gateway.core.calls import Closing, Direction, EndedBy, Outcome
from gateway.core.rows import Row, in_order
from tests import journals

ONE_CALL = tuple(name for name in journals.NAMES if name != "asterisk_killed")

STORIES: dict[str, tuple[str, str | None, str, str]] = {
    # outcome, cause, ended by, attempts as step:destination=outcome
    "answered_caller_ends": ("answered", None, "caller", "1:anna=answered"),
    "answered_agent_ends": ("answered", None, "agent", "1:boris=answered"),
    "busy_then_reserve": ("answered", None, "agent", "1:sales=busy 2:boris=answered"),
    "ring_group": (
        "answered",
        None,
        "agent",
        "1:silent=cancelled 1:boris=answered 1:sales=busy 1:ghost=unreachable 1:mobile=unreachable",
    ),
    "all_fail": (
        "busy",
        None,
        "system",
        "1:silent=no_answer 2:dora=rejected 3:ghost=unreachable 3:dead=unreachable 4:off=unreachable"
        " 5:mobile=unreachable 6:wrong=unreachable 7:early=no_answer 8:redir=busy",
    ),
    "abandoned_first": ("abandoned", None, "caller", "1:silent=abandoned"),
    "abandoned_second": ("abandoned", None, "caller", "1:sales=busy 2:silent=abandoned 2:ghost=unreachable"),
    "agent_drops_then_reserve": ("answered", None, "caller", "1:drop=not_accepted 2:slow=answered"),
    "agent_drops_then_abandoned": ("abandoned", None, "caller", "1:drop=not_accepted 2:slow=abandoned"),
    "queue_answered": ("answered", None, "agent", "1:queue=answered"),
    "queue_abandoned": ("abandoned", None, "caller", "1:queue=abandoned"),
    "queue_refuses_then_reserve": ("answered", None, "agent", "1:queue=no_answer 2:boris=answered"),
    "queue_hold": ("answered", None, "agent", "1:queue=answered"),
    "ivr_hands_back": ("answered", None, "agent", "1:ivr=no_answer 2:boris=answered"),
    "local_group": ("answered", None, "agent", "1:group=answered"),
    "local_busy": ("busy", None, "system", "1:group=busy"),
    "local_optimised": ("answered", None, "agent", "1:queue=answered"),
    "group_nobody": ("no_answer", None, "system", "1:silent=no_answer 1:early=no_answer 1:dead=unreachable"),
    "unregistered": ("unreachable", None, "system", "1:ghost=unreachable"),
    "blind_transfer": ("answered", None, "caller", "1:vera=answered"),
    "attended_transfer": ("answered", None, "caller", "1:gleb=answered"),
    "hold_by_agent": ("answered", None, "agent", "1:dina=answered"),
    "hostile": ("answered", None, "caller", "1:anna=answered"),
    "default_plan": ("answered", None, "caller", "1:anna=answered"),
    "outbound": ("answered", None, "agent", "1:outbound=answered"),
    "after_hours": ("after_hours", None, "system", ""),
    "banned": ("banned", "ban_refuse", "system", ""),
    "ban_message": ("banned", "ban_message", "system", ""),
    "no_route": ("failed", "no_route", "system", ""),
    "limit": ("busy", "limit", "system", ""),
    "hung_up_by_operator": ("answered", None, "system", "1:anna=answered"),
    "hung_up_by_operator_ringing": ("lost", None, "system", "1:silent=lost"),
    "stopped_while_ringing": ("lost", None, "system", "1:silent=lost"),
}


def told(facts: calls.CallFacts) -> tuple[str | None, str | None, str | None, str]:
    attempts = " ".join(
        f"{attempt.step}:{attempt.destination}={attempt.outcome.value if attempt.outcome else None}"
        for attempt in facts.attempts
    )
    return (
        facts.outcome.value if facts.outcome else None,
        facts.cause,
        facts.ended_by.value if facts.ended_by else None,
        attempts,
    )


def fold(rows: list[Row], closed: Closing | None = None) -> calls.CallFacts:
    found = calls.fold(rows, closed=closed)
    assert found is not None
    return found


def test_every_recording_has_its_story() -> None:
    assert set(STORIES) == set(ONE_CALL)


@pytest.mark.parametrize("name", ONE_CALL)
def test_story(name: str) -> None:
    facts = journals.facts(name)
    assert told(facts) == STORIES[name]
    assert facts.is_closed
    assert facts.ended_at_us is not None


@pytest.mark.parametrize("name", ONE_CALL)
def test_what_holds_for_every_call(name: str) -> None:
    facts = journals.facts(name)
    assert uuid.UUID(facts.call_id).version == 4
    assert facts.ended_at_us is not None
    whole = (facts.ended_at_us - facts.started_at_us) / 1_000_000
    assert 0 <= facts.silent_seconds <= facts.wait_seconds <= whole + 0.001
    assert facts.wait_seconds + facts.talk_seconds <= whole + 0.51
    assert facts.hold_seconds <= whole
    assert (facts.talk_seconds > 0) == (facts.outcome is Outcome.ANSWERED)
    for attempt in facts.attempts:
        assert attempt.ring_seconds >= 0
        assert attempt.ended_at_us is not None
        assert attempt.talk_seconds <= facts.talk_seconds + 0.001


def test_entry_and_plan_are_taken_from_our_events() -> None:
    facts = journals.facts("answered_caller_ends")
    assert (facts.did, facts.caller, facts.caller_raw, facts.caller_name) == (
        "74990000001",
        "74951112233",
        "74951112233",
        "Client",
    )
    assert (facts.trunk, facts.route, facts.route_source, facts.plan_revision) == ("carrier-a", "sales", "plan", 7)
    assert facts.agi_status == "FAILURE"
    assert facts.direction is Direction.INBOUND
    assert facts.sip_call_id is not None
    assert journals.facts("default_plan").route_source == "default"


def test_times_come_from_bridges_and_rings_from_channels() -> None:
    facts = journals.facts("busy_then_reserve")
    assert facts.talk_seconds == pytest.approx(2.0, abs=0.1)
    assert facts.wait_seconds == pytest.approx(0.51, abs=0.1)
    busy, answered = facts.attempts
    assert busy.ring_seconds < 0.1
    assert answered.ring_seconds == pytest.approx(0.5, abs=0.1)
    assert (busy.sip_code, busy.q850_cause) == (486, 17)
    assert (busy.kind, answered.kind) == ("forward", "reserve")
    assert facts.post_dial_delay_seconds is not None
    assert facts.post_dial_delay_seconds < 0.1


@pytest.mark.parametrize("name", ["queue_answered", "local_group", "local_optimised"])
def test_behind_a_queue_the_agent_answers_not_the_queue(name: str) -> None:
    facts = journals.facts(name)
    (attempt,) = facts.attempts
    assert attempt.answered_by == "desk-2"
    assert attempt.answered_at_us == facts.answered_at_us
    agent = next(row for row in journals.rows(name) if row.kind == "BRIDGE_ENTER" and "desk-2" in row.channel)
    assert facts.answered_at_us is not None
    assert 0 <= facts.answered_at_us - agent.at_us < 10_000
    assert facts.talk_seconds == pytest.approx(2.0, abs=0.1)


def test_an_ivr_that_answers_is_no_person() -> None:
    facts = journals.facts("ivr_hands_back")
    assert facts.wait_seconds == pytest.approx(3.0, abs=0.1)
    assert facts.attempts[0].talk_seconds == 0
    assert facts.attempts[0].answered_at_us is None


def test_talk_goes_on_with_another_person_after_a_transfer() -> None:
    blind = journals.facts("blind_transfer")
    assert blind.talk_seconds == pytest.approx(6.7, abs=0.1)
    assert blind.hold_seconds == pytest.approx(0.31, abs=0.1), "nobody was there while 303 rang"
    assert blind.attempts[0].talk_seconds == pytest.approx(1.0, abs=0.1)
    attended = journals.facts("attended_transfer")
    assert attended.talk_seconds == pytest.approx(7.0, abs=0.1)
    assert attended.attempts[0].talk_seconds == pytest.approx(2.5, abs=0.1)


@pytest.mark.parametrize("name", ["hold_by_agent", "queue_hold"])
def test_hold_music_to_the_caller_is_hold(name: str) -> None:
    facts = journals.facts(name)
    assert facts.hold_seconds == pytest.approx(1.5, abs=0.1)
    assert facts.talk_seconds > facts.hold_seconds


def test_music_in_the_queue_before_the_agent_is_no_hold() -> None:
    assert journals.facts("queue_answered").hold_seconds == 0


def test_prompts_and_silence_are_counted() -> None:
    after_hours = journals.facts("after_hours")
    assert after_hours.prompt_seconds == pytest.approx(2.0, abs=0.1)
    assert after_hours.silent_seconds < 0.1
    nobody = journals.facts("all_fail")
    assert nobody.prompt_seconds == pytest.approx(2.0, abs=0.1)
    assert nobody.silent_seconds < 0.1
    without_streams = [row for row in journals.rows("after_hours") if not row.kind.startswith("STREAM")]
    assert fold(without_streams).silent_seconds == pytest.approx(2.0, abs=0.1)


def test_hostile_caller_data_stays_data() -> None:
    """`%0d%0aX: y&PJSIP`, `${SHELL(id)}`, `&did=1&i=x` and a name cut inside a character (R49)."""
    facts = journals.facts("hostile")
    assert facts.did == "74990000001"
    assert facts.caller == "100"
    assert facts.caller_raw.startswith("100\r\nX: y&P")
    assert facts.caller_name.startswith("${SHELL(id)} &did=1&i=x ")
    assert uuid.UUID(facts.call_id).version == 4


def test_outbound_is_a_record_too() -> None:
    facts = journals.facts("outbound")
    assert facts.direction is Direction.OUTBOUND
    assert (facts.did, facts.caller) == ("74957770000", "101") or facts.caller
    assert facts.outcome is Outcome.ANSWERED


@pytest.mark.parametrize("name", journals.NAMES)
def test_doubled_rows_change_nothing(name: str) -> None:
    for group in journals.groups(journals.rows(name)):
        assert calls.fold(group + group) == calls.fold(group)
        assert calls.fold([row for row in group for _ in range(2)]) == calls.fold(group)


@pytest.mark.parametrize("name", journals.NAMES)
def test_every_prefix_and_every_suffix_folds(name: str) -> None:
    for group in journals.groups(journals.rows(name)):
        for cut in range(len(group) + 1):
            for part in (group[:cut], group[cut:]):
                for closed in (None, Closing(group[-1].at_us + 5_000_000, "gone")):
                    facts = calls.fold(part, closed=closed)
                    if facts is not None and closed is not None:
                        assert facts.is_closed
                        assert facts.outcome is not None
                        assert facts.ended_at_us is not None
                        assert all(attempt.outcome is not None for attempt in facts.attempts)


@pytest.mark.parametrize("name", ONE_CALL)
def test_the_story_only_grows(name: str) -> None:
    """Seen row by row a call keeps its id, is answered once (unless the agent drops at once), and closes at the end."""
    group = in_order(journals.rows(name))
    seen = [found for cut in range(1, len(group) + 1) if (found := calls.fold(group[:cut])) is not None]
    assert len({facts.call_id for facts in seen}) == 1
    assert seen[-1].is_closed
    if "drops" not in name:
        answered = [facts.answered_at_us for facts in seen]
        assert len(set(answered)) <= 2
        assert answered == sorted(answered, key=lambda at_us: at_us is not None)
    closed = [facts.is_closed for facts in seen]
    assert closed == sorted(closed), "a closed call does not open again"
    assert closed.count(True) <= 3, "only the last rows close it"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_order_does_not_matter(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(ONE_CALL))
    (group,) = journals.groups(journals.rows(name))
    assert calls.fold(data.draw(st.permutations(group))) == calls.fold(group)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_rows_lost_is_no_failure(data: st.DataObject) -> None:
    """A full disk eats rows: what is left still folds, and closes."""
    name = data.draw(st.sampled_from(journals.NAMES))
    for group in journals.groups(journals.rows(name)):
        kept = [row for row in group if data.draw(st.booleans())]
        calls.fold(kept)
        facts = calls.fold(kept, closed=Closing(0))
        assert facts is None or (facts.is_closed and facts.outcome is not None)


def test_asterisk_killed_with_calls_up() -> None:
    """Talk cut by a crash stays answered; lost only where nobody had answered (N1)."""
    talking, ringing = journals.groups(journals.rows("asterisk_killed"))
    last = talking[-1].at_us
    open_talk = fold(talking)
    assert (open_talk.outcome, open_talk.is_closed, open_talk.ended_by) == (Outcome.ANSWERED, False, None)
    assert fold(ringing).outcome is None
    assert [attempt.outcome for attempt in fold(ringing).attempts] == [None]

    closed_talk = fold(talking, Closing(last + 3_000_000, "asterisk gone"))
    assert (closed_talk.outcome, closed_talk.ended_by) == (Outcome.ANSWERED, EndedBy.CRASH)
    assert closed_talk.talk_seconds == pytest.approx(3.0, abs=0.1)
    assert closed_talk.ended_at_us == last + 3_000_000
    closed_ring = fold(ringing, Closing(ringing[-1].at_us))
    assert told(closed_ring) == ("lost", None, "crash", "1:silent=lost")


def test_a_closing_that_was_wrong_gives_way_to_the_real_end() -> None:
    group = journals.rows("answered_caller_ends")
    facts = fold(group, Closing(group[3].at_us))
    assert told(facts) == STORIES["answered_caller_ends"]


def test_two_hours_of_talk() -> None:
    facts = fold(journals.moved("answered_agent_ends", 7200, after="BRIDGE_EXIT"))
    assert facts.talk_seconds == pytest.approx(7202.0, abs=0.1)
    assert facts.is_closed


def test_channel_gone_before_it_had_an_id() -> None:
    """Killed between its start and DM_IN: still one record, with an id that every reading makes the same (N1)."""
    rows = journals.rows("answered_caller_ends")
    first, hangup = rows[0], next(row for row in rows if row.kind == "HANGUP" and row.channel == rows[0].channel)
    assert calls.fold([first]) is None, "its id may still come"
    facts = fold([first, hangup])
    assert facts == fold([hangup, first])
    assert uuid.UUID(facts.call_id).version == 5
    assert facts.trunk == "carrier-a"
    assert facts.did == ""
    assert facts.outcome is Outcome.ABANDONED
    assert fold([first], Closing(first.at_us)).call_id == facts.call_id


def test_nothing_and_strangers_are_no_call() -> None:
    assert calls.fold([]) is None
    strangers = [row._replace(context="from-internal") for row in journals.rows("unregistered") if not row.user_event]
    assert calls.fold(strangers) is None


def test_rows_that_differ_in_data_alone_keep_an_order() -> None:
    row = journals.rows("limit")[1]
    other = row._replace(data={**row.data, "did": "1"})
    for permutation in itertools.permutations([row, other, row]):
        assert in_order(permutation) == in_order([row, other])


def test_a_missing_end_is_proved_by_the_linked_id() -> None:
    """The caller's HANGUP and CHAN_END were eaten, LINKEDID_END came: nobody is left."""
    rows = journals.rows("answered_agent_ends")
    kept = [row for row in rows if row.channel != rows[0].channel or row.kind not in ("HANGUP", "CHAN_END")]
    facts = fold(kept)
    assert facts.is_closed
    assert facts.outcome is Outcome.ANSWERED


def test_caller_with_unparsable_numbers_in_our_payload() -> None:
    """Cut payloads leave fields without values: they count as nothing."""
    rows = [
        row._replace(data={"i": row.data["i"], "s": "x", "d": "||:|a:desk-1|", "rev": "--"})
        if row.user_event == "DM_STEP"
        else row
        for row in journals.rows("answered_caller_ends")
    ]
    facts = fold(rows)
    assert facts.plan_revision is None
    assert facts.outcome is Outcome.ANSWERED
    assert "a" in {attempt.destination for attempt in facts.attempts}
