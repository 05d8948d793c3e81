"""The cause tables (N7), and bridges to talk (R62) on calls made by hand."""

from __future__ import annotations

import pytest

from gateway.core import attempts, outcomes, talks
from gateway.core.outcomes import AttemptOutcome, Outcome
from gateway.core.rows import Row


@pytest.mark.parametrize(
    ("code", "rang", "outcome"),
    [
        (486, False, "busy"),
        (600, False, "busy"),
        (403, False, "rejected"),
        (603, True, "rejected"),
        (404, False, "unreachable"),
        (480, False, "unreachable"),
        (480, True, "no_answer"),
        (503, False, "unreachable"),
        (500, False, "unreachable"),
        (499, False, "unreachable"),
        (699, False, "rejected"),
        (180, False, "no_answer"),
        (183, False, "no_answer"),
        (488, False, "failed"),
    ],
)
def test_sip_codes(code: int, rang: bool, outcome: str) -> None:
    assert outcomes.of_sip_code(code, rang=rang).value == outcome


@pytest.mark.parametrize(
    ("cause", "rang", "outcome"),
    [
        (17, False, "busy"),
        (21, False, "rejected"),
        (19, False, "unreachable"),
        (19, True, "no_answer"),
        (1, False, "unreachable"),
        (3, False, "unreachable"),
        (20, False, "unreachable"),
        (34, False, "unreachable"),
        (127, False, "unreachable"),
    ],
)
def test_q850_causes(cause: int, rang: bool, outcome: str) -> None:
    assert outcomes.of_q850_cause(cause, rang=rang).value == outcome


def test_a_miss_is_named_by_its_most_human_cause() -> None:
    every = list(AttemptOutcome)
    assert outcomes.of_miss(every) is Outcome.BUSY
    assert outcomes.of_miss([AttemptOutcome.UNREACHABLE, AttemptOutcome.REJECTED]) is Outcome.REJECTED
    assert outcomes.of_miss([AttemptOutcome.UNREACHABLE, AttemptOutcome.NOT_ACCEPTED]) is Outcome.NO_ANSWER
    assert outcomes.of_miss([AttemptOutcome.UNREACHABLE, AttemptOutcome.FAILED]) is Outcome.UNREACHABLE
    assert outcomes.of_miss([AttemptOutcome.FAILED, None]) is Outcome.FAILED
    assert outcomes.of_miss([]) is Outcome.FAILED


def test_which_outcomes_are_missed_calls() -> None:
    assert {outcome for outcome in Outcome if not outcome.is_missed} == {Outcome.ANSWERED, Outcome.BANNED}


def test_codes_of_a_step() -> None:
    assert attempts.sip_codes(None) == {}
    assert attempts.sip_codes({"x": "PJSIP/a-1~486|PJSIP/b-2~|garbage|PJSIP/c-3~12x|~180"}) == {
        "PJSIP/a-1": 486,
        "": 180,
    }


def bridge(at: int, kind: str, channel: str, bridge_id: str, peer: str = "") -> Row:
    data = {"bridge_id": bridge_id} if bridge_id else {}
    return Row(at, kind, "", channel, channel, "1", "", peer, "", data)


CALLER = frozenset({"PJSIP/trunk-1"})
ENTER, EXIT, HANGUP = "BRIDGE_ENTER", "BRIDGE_EXIT", "HANGUP"


def spans(*rows: Row) -> list[talks.Span]:
    return talks.spans(rows, CALLER)


def test_two_in_a_bridge_talk() -> None:
    assert spans(
        bridge(1, ENTER, "PJSIP/desk-2", "b"),
        bridge(2, ENTER, "PJSIP/trunk-1", "b", "PJSIP/desk-2"),
        bridge(9, EXIT, "PJSIP/desk-2", "b"),
    ) == [(2, 9, "PJSIP/desk-2", None)]


def test_agents_among_themselves_do_not_talk_with_the_caller() -> None:
    """A consultation before a transfer: the caller is alone in the first bridge."""
    assert spans(
        bridge(1, ENTER, "PJSIP/trunk-1", "b"),
        bridge(2, ENTER, "PJSIP/desk-2", "b"),
        bridge(5, EXIT, "PJSIP/desk-2", "b"),
        bridge(6, ENTER, "PJSIP/desk-2", "c"),
        bridge(7, ENTER, "PJSIP/desk-3", "c"),
        bridge(8, EXIT, "PJSIP/desk-2", "c"),
        bridge(8, ENTER, "PJSIP/trunk-1", "c", "PJSIP/desk-3"),
    ) == [(2, 5, "PJSIP/desk-2", None), (8, None, "PJSIP/desk-3", None)]


def test_through_two_local_channels_in_a_row() -> None:
    assert spans(
        bridge(1, ENTER, "Local/a@x-1;1", "b"),
        bridge(2, ENTER, "PJSIP/trunk-1", "b"),
        bridge(3, ENTER, "Local/a@x-1;2", "c"),
        bridge(4, ENTER, "Local/b@y-2;1", "c"),
        bridge(5, ENTER, "Local/b@y-2;2", "d"),
        bridge(6, ENTER, "PJSIP/desk-2", "d"),
        bridge(7, HANGUP, "Local/b@y-2;2", ""),
    ) == [(6, 7, "PJSIP/desk-2", "Local/a@x-1;1")]


def test_channels_that_chase_each_other_do_not_loop() -> None:
    assert (
        spans(
            bridge(1, ENTER, "PJSIP/trunk-1", "b"),
            bridge(2, ENTER, "Local/a@x-1;1", "b"),
            bridge(3, ENTER, "Local/a@x-1;2", "b"),
        )
        == []
    )


def test_three_in_a_conference_count_once() -> None:
    found = talks.spans(
        [
            bridge(1, ENTER, "PJSIP/trunk-1", "b"),
            bridge(2, ENTER, "PJSIP/desk-2", "b"),
            bridge(4, ENTER, "PJSIP/desk-3", "b"),
            bridge(6, EXIT, "PJSIP/desk-2", "b"),
            bridge(8, EXIT, "PJSIP/trunk-1", "b"),
        ],
        CALLER,
    )
    assert talks.merged((span.start_us, span.end_us or 0) for span in found) == [(2, 8)]


def test_merged_and_within() -> None:
    assert talks.merged([(5, 7), (1, 3), (2, 4), (4, 5), (9, 9)]) == [(1, 7)]
    assert talks.within([(1, 3), (2, 6)], 2, 4) == 2
    assert talks.within([(1, 3)], 4, 2) == 0
