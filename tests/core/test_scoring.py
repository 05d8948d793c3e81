"""R2, R60, R61, R73, R77: rules over call records. What holds, what is added up and cut, and that it stays the same."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import book, erasure, records, rules, scoring
from gateway.core.rules import Rule, Scoring, When
from tests import journals
from tests.core import books

DOCUMENT = records.record(
    journals.facts("answered_agent_ends"), books.routing_book(), revision=1, calls_before=0, node="n1"
)


def record(**fields: Any) -> dict[str, Any]:
    """An answered call of a first-time caller, changed; a name with `__` reaches inside."""
    made: dict[str, Any] = json.loads(json.dumps(DOCUMENT))
    made["route"], made["agent"], made["talk_seconds"], made["wait_seconds"] = "sales", "anna", 60.0, 10.0
    for name, value in fields.items():
        part, _, inner = name.partition("__")
        if inner:
            made[part] = {**(made[part] or {}), inner: value}
        else:
            made[part] = value
    return made


def ruled(*some_rules: Rule, **scored: Any) -> book.Book:
    return replace(books.routing_book(), scoring=Scoring(some_rules, **scored))


def holds(when: When, **fields: Any) -> bool:
    return [one.key for one in scoring.holding(record(**fields), ruled(Rule("r", when, 1)))] == ["r"]


def test_a_rule_that_asks_nothing_holds_for_every_inbound_call() -> None:
    assert holds(When())
    assert not holds(When(), direction="outbound")
    assert holds(When(is_outbound=True), direction="outbound")


@pytest.mark.parametrize(
    ("seconds", "is_in"), [(59.999, False), (60.0, True), (61.0, True), (90.0, True), (90.001, False)]
)
def test_talk_and_wait_bounds_are_included(seconds: float, is_in: bool) -> None:
    assert holds(When(min_talk_seconds=60, max_talk_seconds=90), talk_seconds=seconds) is is_in
    assert holds(When(min_wait_seconds=60, max_wait_seconds=90), wait_seconds=seconds) is is_in


@pytest.mark.parametrize(
    ("when", "fields", "others"),
    [
        (When(outcomes=frozenset({"busy", "no_answer"})), {"outcome": "busy"}, {"outcome": "answered"}),
        (When(sources=frozenset({"radio"})), {"attribution__source": "radio"}, {"attribution__source": None}),
        (
            When(campaigns=frozenset({"весна"})),
            {"attribution__campaign": "ВЕСНА"},
            {"attribution__campaign": "весна 2"},
        ),
        (When(channels=frozenset({"search"})), {"attribution__channel": "search"}, {"attribution__channel": "social"}),
        (When(first_time=True), {"caller__first_time": True}, {"caller__first_time": None}),
        (When(first_time=False), {"caller__first_time": False}, {"caller__first_time": None}),
        (When(agents=frozenset({"anna"})), {"agent": "anna"}, {"agent": None}),
        (When(routes=frozenset({"sales"})), {"route": "sales"}, {"route": None}),
        (When(hours="office"), {"started_at": "2026-11-11T09:00:00.000Z"}, {"started_at": "2026-11-11T20:00:00.000Z"}),
        (
            When(outside_hours="office"),
            {"started_at": "2026-11-11T20:00:00.000Z"},
            {"started_at": "2026-11-11T09:00:00.000Z"},
        ),
        (When(keys=frozenset({("consent", "9")})), {"recording_consent__key": "9"}, {"recording_consent__key": "1"}),
        (When(keys=frozenset({("callback", "1")})), {"cause": "callback"}, {"cause": "limit"}),
        (
            When(keys=frozenset({("goal", "1"), ("outcome", "3")})),
            {"rating": {"keys": {"outcome": None, "goal": "1", "solved": "2"}}},
            {"rating": {"keys": {"outcome": "1", "goal": "2", "solved": "1"}}},
        ),
    ],
)
def test_conditions(when: When, fields: dict[str, Any], others: dict[str, Any]) -> None:
    assert holds(when, **fields)
    assert not holds(when, **others)


def test_all_conditions_must_hold() -> None:
    both = When(first_time=True, min_talk_seconds=100)
    assert not holds(both)
    assert holds(both, talk_seconds=100.0)


def test_points_tags_and_marks() -> None:
    """R60: the sum is cut at the end; a tag is the first rule's; the last word on a mark counts; each rule is named."""
    made = ruled(
        Rule("long", When(), 70, ("hot", "sales")),
        Rule("never", When(first_time=False), 900, ("no",)),
        Rule("new", When(), 60, ("hot", "new"), qualified=True),
        Rule("short", When(), -10, spam=False, qualified=False),
    )
    assert scoring.scored(record(), made) == {
        "score": 100,
        "qualified": False,
        "spam": False,
        "tags": [
            {"tag": "hot", "origin": "rule", "rule": "long"},
            {"tag": "sales", "origin": "rule", "rule": "long"},
            {"tag": "new", "origin": "rule", "rule": "new"},
        ],
        "rules": [
            {"rule": "long", "points": 70},
            {"rule": "new", "points": 60},
            {"rule": "short", "points": -10},
        ],
    }


def test_stop_ends_the_list() -> None:
    made = ruled(Rule("spam", When(), -50, spam=True, stop=True), Rule("long", When(), 70, ("hot",)))
    found = scoring.scored(record(), made)
    assert found is not None
    assert (found["score"], found["spam"], found["tags"]) == (0, True, [])
    assert [one["rule"] for one in found["rules"]] == ["spam"]
    other = scoring.scored(record(), ruled(Rule("spam", When(first_time=False), stop=True), Rule("long", When(), 70)))
    assert other is not None and other["score"] == 70, "a rule that does not hold stops nothing"


@pytest.mark.parametrize(("points", "said"), [(49, False), (50, True)])
def test_qualified_from(points: int, said: bool) -> None:
    """R2: by the score, unless a rule said otherwise."""
    made = ruled(Rule("some", When(), points), qualified_from=50)
    assert (scoring.scored(record(), made) or {})["qualified"] is said
    made = ruled(Rule("some", When(), points), Rule("not", When(), qualified=False), qualified_from=50)
    assert (scoring.scored(record(), made) or {})["qualified"] is False


def test_nothing_while_open_and_without_rules() -> None:
    assert scoring.scored(record(state="open"), ruled(Rule("r", When(), 1))) is None
    assert scoring.scored(record(), books.routing_book()) is None
    assert scoring.scored(record(), None) is None


def test_the_record_carries_it_when_it_closes() -> None:
    made = ruled(Rule("r", When(min_talk_seconds=1), 7, ("t",)))
    closed = records.record(journals.facts("answered_agent_ends"), made, revision=1, calls_before=0, node="n1")
    assert closed["state"] == "closed" and closed["scoring"]["score"] == 7
    assert list(closed)[-2:] == ["recordings", "receipts"]
    assert scoring.scored(closed, made) == closed["scoring"], "the stored record gives the same again"


def test_an_erased_person_leaves_the_score() -> None:
    """R45: rules ask nothing that goes with a person, so a record that is filed without one scores the same."""
    made = ruled(Rule("r", When(first_time=True, sources=frozenset({"radio-jazz"})), 7, ("t",)))
    whole = record(attribution__source="radio-jazz")
    before = scoring.scored(whole, made)
    left = erasure.pseudonymised({**whole, "scoring": before}, "erased-0123")
    assert scoring.scored(left, made) == before == left["scoring"]
    assert before is not None and before["score"] == 7


_marks = some.none() | some.booleans()
_whens = some.builds(
    When,
    min_talk_seconds=some.none() | some.integers(0, 120),
    max_talk_seconds=some.none() | some.integers(0, 120),
    first_time=some.none() | some.booleans(),
    outcomes=some.frozensets(some.sampled_from(["answered", "busy"]), max_size=2),
)
_tags = some.lists(some.sampled_from(["a", "b", "c", "д"]), max_size=3, unique=True).map(tuple)
_rules = some.lists(
    some.builds(
        Rule,
        key=some.text("abcdef", min_size=1, max_size=8),
        when=_whens,
        points=some.integers(-rules.MAX_POINTS, rules.MAX_POINTS),
        tags=_tags,
        qualified=_marks,
        spam=_marks,
        stop=some.booleans(),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda rule: rule.key,
)


@given(_rules, some.floats(0, 200), some.none() | some.booleans(), some.integers(-50, 0), some.integers(1, 50))
def test_whatever_the_rules(made: list[Rule], talk: float, first_time: bool | None, lowest: int, highest: int) -> None:
    """Within the bounds; the sum of what is named, in the file's order; the same again, and without silent rules."""
    one = record(talk_seconds=talk, caller__first_time=first_time)
    routing = ruled(*made, lowest=lowest, highest=highest)
    found = scoring.scored(one, routing)
    assert found is not None
    assert lowest <= found["score"] <= highest
    assert found["score"] == max(lowest, min(highest, sum(rule["points"] for rule in found["rules"])))
    assert scoring.scored(json.loads(json.dumps(one)), routing) == found
    named = [rule["rule"] for rule in found["rules"]]
    keys = [rule.key for rule in made]
    assert named == sorted(named, key=keys.index), "in the order of the file"
    by_key = {rule.key: rule for rule in made}
    assert not any(by_key[key].stop for key in named[:-1])
    tags = [tag["tag"] for tag in found["tags"]]
    assert len(set(tags)) == len(tags)
    assert set(tags) == {tag for key in named for tag in by_key[key].tags}
    without = ruled(*(rule for rule in made if rule.key in named), lowest=lowest, highest=highest)
    assert scoring.scored(one, without) == found or not named
    if not any(rule.stop for rule in made):
        turned = scoring.scored(one, ruled(*reversed(made), lowest=lowest, highest=highest))
        assert turned is not None and turned["score"] == found["score"]


def test_rules_in_words() -> None:
    when = When(
        min_talk_seconds=60, first_time=True, sources=frozenset({"radio", "ads"}), keys=frozenset({("goal", "1")})
    )
    assert when.words == "talk at least 60 s, first-time caller, source ads or radio, key goal=1"
    assert When().words == "every call"
    assert (
        Rule("r", when, -5, ("a", "b"), spam=True, stop=True).gives
        == "-5 points, tags a, b, spam, no later rule is asked"
    )
