"""R73, R77: what is asked by keys when a call is over, and what the journal makes of the answers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import book, calls, grouping, handling, prompts, rating, records, routing
from gateway.core.rating import By, Question, Rated, Wish
from gateway.pbx import dialvars, planfile
from tests import served
from tests.core import books
from tests.core.test_handling import made, stocked, variables

GOAL_PROMPT = f"{served.PROMPTS}/rate_goal_agent-ru-6666666666666666"
ALL = Wish(By.AGENT)


def after_the_call(*marks: str, end: float = 20.0) -> served.Journal:
    """Talk of 10 s; the caller hangs up at 12.2 s and the agent is asked until `end`, on their own channel."""
    call = served.Journal().begin().step(0.1, 1, "anna:desk-1", plan=True).picks_up(2.0, "desk-1")
    call.bridge(2.2, 12.2, "desk-1").gone(12.22, by="caller", is_last=False)
    call.mark(12.25, "DM_RATE,w=agent&q=outcome&r=asked", leg="desk-1").file(12.3, 14.0, GOAL_PROMPT, leg="desk-1")
    for at, mark in enumerate(marks):
        call.mark(14.0 + at, f"DM_RATE,w=agent&{mark}", leg="desk-1")
    return call.gone(end, "desk-1", by="desk-1").over(end)


def document(call: served.Journal, wish: Wish | None = ALL) -> dict[str, object]:
    the_book = books.routing_book(books.route(rating=wish))
    return records.record(call.facts(), the_book, revision=1, calls_before=0, node="n")


def test_the_answers_stand_in_the_record() -> None:
    said = document(after_the_call("q=outcome&r=keyed&k=2", "q=goal&r=keyed&k=1", "q=solved&r=keyed&k=2"))["rating"]
    assert said == {
        "by": "agent",
        "outcome": "follow-up",
        "goal_reached": True,
        "solved": False,
        "keys": {"outcome": "2", "goal": "1", "solved": "2"},
        "at": records.timestamp(served.BEGIN_US + 16_000_000),
    }


def test_asking_changes_nothing_else() -> None:
    """R73: outcome, talk, who ended it, the attempt: as if nobody had been asked and the phone had been hung up on."""
    plain = served.Journal().begin().step(0.1, 1, "anna:desk-1", plan=True).picks_up(2.0, "desk-1")
    plain.bridge(2.2, 12.2, "desk-1").gone(12.22, by="caller").gone(12.25, "desk-1", by="caller")
    asked = document(after_the_call("q=outcome&r=keyed&k=2", end=40.0))
    wanted = document(plain)
    for one in (asked, wanted):
        one.pop("rating")
    assert asked == wanted
    assert (asked["ended_by"], asked["talk_seconds"]) == ("caller", 10.0)


def test_the_call_is_over_when_the_asking_is() -> None:
    call = after_the_call("q=outcome&r=keyed&k=2")
    without_end = [row for row in call.rows if row.at_us < served.BEGIN_US + 19_000_000 and row.kind != "LINKEDID_END"]
    facts = calls.fold(without_end)
    assert facts is not None and not facts.is_closed
    assert facts.ended_at_us is not None
    assert call.facts().is_closed


def test_no_key_is_no_answer_and_never_takes_one_back() -> None:
    said = document(after_the_call("q=outcome&r=keyed&k=2", "q=goal&r=no_key"))["rating"]
    assert isinstance(said, dict)
    assert (said["outcome"], said["goal_reached"], said["solved"]) == ("follow-up", None, None)
    again = document(after_the_call("q=goal&r=keyed&k=1", "q=goal&r=no_key"))["rating"]
    assert isinstance(again, dict) and again["goal_reached"] is True


def test_who_hung_up_before_a_key_was_asked_all_the_same() -> None:
    said = document(after_the_call())["rating"]
    assert isinstance(said, dict)
    assert said["keys"] == {"outcome": None, "goal": None, "solved": None}
    assert document(served.granted())["rating"] is None


def test_the_caller_is_asked_on_their_own_channel() -> None:
    call = served.Journal().begin().step(0.1, 1, "anna:desk-1", plan=True).picks_up(2.0, "desk-1")
    call.bridge(2.2, 12.2, "desk-1").gone(12.22, "desk-1", by="desk-1")
    call.mark(12.3, "DM_RATE,w=caller&q=goal&r=asked").mark(15.0, "DM_RATE,w=caller&q=goal&r=keyed&k=2").gone(16.0)
    said = document(call, Wish(By.CALLER))
    assert isinstance(said["rating"], dict)
    assert (said["rating"]["by"], said["rating"]["goal_reached"]) == ("caller", False)
    assert (said["ended_by"], said["talk_seconds"], said["outcome"]) == ("agent", 10.0, "answered")


@pytest.mark.parametrize(
    "payload",
    [
        "w=agent&q=goal&r=keyed&k=3",
        "w=agent&q=goal&r=keyed&k=",
        "w=agent&q=goal&r=keyed&k=11",
        "w=agent&q=outcome&r=keyed&k=0",
        "w=agent&q=outcome&r=keyed&k=%2A",
        "w=boss&q=goal&r=keyed&k=1",
        "w=both&q=goal&r=keyed&k=1",
        "w=agent&q=price&r=keyed&k=1",
        "",
    ],
)
def test_a_row_that_makes_no_sense_says_nothing(payload: str) -> None:
    said = served.Journal().begin().step(0.1, 1, "anna:desk-1", plan=True).mark(3.0, f"DM_RATE,{payload}").gone(4.0)
    assert said.facts().rated == ()


@given(some.dictionaries(some.sampled_from(["w", "q", "r", "k", "i"]), some.text(max_size=4)), some.integers())
def test_given_never_fails(data: dict[str, str], at_us: int) -> None:
    found = rating.given(data, at_us)
    assert found is None or found.key is None or found.key in "123456789"


@given(some.permutations(range(6)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    rows = after_the_call("q=outcome&r=keyed&k=2", "q=goal&r=no_key", "q=goal&r=keyed&k=1").rows
    wanted = calls.fold(rows)
    chunks = (
        [list(chunk) for chunk in itertools.batched(rows, -(-len(rows) // 6))]
        if hasattr(itertools, "batched")
        else [rows[place::6] for place in range(6)]
    )
    assert calls.fold([row for place in order for row in chunks[place % len(chunks)]]) == wanted


def test_a_rating_never_begins_a_call() -> None:
    """A late row of a call that nobody remembers would be a record of its own (N1)."""
    late = [row for row in after_the_call("q=goal&r=keyed&k=1").rows if row.user_event == grouping.RATE_EVENT]
    assert [grouping.Grouping().assign(row) for row in late] == [None, None]
    assert calls.fold(late) is None


# -- the plan ----------------------------------------------------------------------------------------------------


def test_off_by_default() -> None:
    assert book.Route("r", "s", ("d",)).rating is None
    assert not [name for name in variables(made()) if name.startswith(("DM_Q", "DM_P"))]


def test_the_agent_is_asked_with_the_daemon_up_and_down() -> None:
    """N2: both inlets carry the same."""
    one = made(rating=Wish(By.AGENT, key_seconds=3, min_talk_seconds=10))
    found = variables(one)
    assert (found["DM_ACT"], found["DM_QA"], found["DM_QN"], found["DM_QT"], found["DM_QM"]) == (
        "full",
        "111",
        "4-3",
        "3",
        "10",
    )
    assert {
        name: found[name].rpartition("/")[2].partition("-")[0] for name in ("DM_QO", "DM_QG", "DM_QS", "DM_QE")
    } == {
        "DM_QO": "rate_outcome_agent",
        "DM_QG": "rate_goal_agent",
        "DM_QS": "rate_solved_agent",
        "DM_QE": "rate_thanks",
    }
    assert not {"DM_PO", "DM_PG", "DM_PS"} & set(found)
    text = planfile.render(one, stocked(one))
    assert all(f"{name}={found[name]}" in text for name in found if name.startswith("DM_Q"))


def test_the_caller_alone() -> None:
    found = variables(made(rating=Wish(By.CALLER, (Question.SOLVED,))))
    assert found["DM_QA"] == "000"
    assert "rate_solved_caller" in found["DM_PS"]
    assert not {"DM_PO", "DM_PG", "DM_QO", "DM_QG", "DM_QS"} & set(found)


def test_whoever_is_still_there() -> None:
    found = variables(made(rating=Wish(By.BOTH, (Question.GOAL,))))
    assert "rate_goal_agent" in found["DM_QG"] and "rate_goal_caller" in found["DM_PG"]


def test_nobody_behind_a_local_destination() -> None:
    """A queue would ring its agents for a caller who is gone."""
    queue = book.Destination("queue", "queue", book.DestinationKind.LOCAL, "600@pbx")
    route = books.route(forward=("desk-1",), reserve=(("desk-2", "queue"), ("desk-3",)), rating=ALL)
    one = replace(made(), routes={"sales": route}, destinations={**made().destinations, "queue": queue})
    assert variables(one)["DM_QA"] == "101"


def test_without_prompts_nobody_is_asked() -> None:
    plan = routing.decide(books.question(), made(rating=ALL), routing.History())
    assert not [name for name, _ in dialvars.variables(plan, "agi") if name.startswith("DM_Q")]
    goal = prompts.Wanted("rate_goal_agent", "ru")
    shelf = prompts.Shelf({goal: prompts.Ready("rate_goal_agent.ru", "/p/goal", "0" * 32, 1.0)})
    assert {name for name, _ in dialvars.variables(plan, "agi", shelf) if name.startswith("DM_Q")} == {
        *("DM_QG", "DM_QA", "DM_QN", "DM_QT", "DM_QM"),
    }


def test_the_prompts_are_demanded_ahead_of_time() -> None:
    keys = {group[0].key for group in handling.demands(made(rating=Wish(By.CALLER, (Question.GOAL,))))}
    assert keys == {"rate_goal_caller", "rate_thanks"}


def test_keys_are_named_by_the_route_or_by_who_pressed() -> None:
    own = Wish(By.AGENT, outcomes=("booked", "lost"))
    assert [rating.outcome_named(key, By.AGENT, own) for key in ("1", "2", "3", None)] == ["booked", "lost", "3", None]
    assert rating.outcome_named("1", By.CALLER, None) == "satisfied"
    assert rating.outcome_named("1", By.AGENT, Wish(By.BOTH)) == "success"


def test_the_latest_word() -> None:
    told = [
        Rated(By.AGENT, Question.GOAL, "1", 5),
        Rated(By.AGENT, Question.GOAL, "2", 9),
        Rated(By.AGENT, Question.GOAL, None, 12),
    ]
    assert rating.latest(told)[Question.GOAL].key == "2"
