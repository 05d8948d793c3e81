"""`rules list`, `rules try`, and what other commands tell of rules: words, changes, nothing written (R60, R61, N12)."""

from __future__ import annotations

import pytest

from tests.cli.conftest import ROUTING, Operator

RULES = """
[[rule]]
key = "talked"
min_talk_seconds = 1
score = 40
tags = ["talked", "=1+1"]

[[rule]]
key = "new"
first_time = true
score = 5
qualified = true
"""
CALLS = ("answered_agent_ends", "busy_then_reserve", "all_fail", "abandoned_first", "outbound", "hostile")


@pytest.fixture
def ruled(operator: Operator) -> Operator:
    """Six recorded calls, filed with rules in force."""
    operator.apply(ROUTING + RULES)
    operator.write_journal(*CALLS)
    operator.track()
    return operator


def test_the_rules_in_words(ruled: Operator) -> None:
    assert ruled("rules", "list", "--format", "json").json == [
        {"rule": "talked", "when": "talk at least 1 s", "gives": "+40 points, tags talked, =1+1"},
        {"rule": "new", "when": "first-time caller", "gives": "+5 points, qualified"},
    ]
    assert "talk at least 1 s" in ruled("rules", "list").out


def test_without_rules(busy_day: Operator) -> None:
    assert "There are no rules" in busy_day("rules", "list").err
    assert "No call would change" in busy_day("rules", "try", "--since", "2020-01-01").err


def test_the_same_rules_change_nothing(ruled: Operator) -> None:
    """What was said when the call closed is what trying says: the same code on the same record."""
    found = ruled("rules", "try", "--since", "2020-01-01", "--format", "json").json
    assert (found["calls"], found["changed"], found["changes"]) == (len(CALLS), 0, [])
    counts = {one["rule"]: one["calls"] for one in found["rules"]}
    assert counts["talked"] >= 2 and counts["new"] >= 1


def test_what_other_rules_would_change(ruled: Operator) -> None:
    """R60: which calls, from what to what, by which rules; the store is as before."""
    before = ruled("calls", "list", "--format", "json").json
    other = ruled.folder / "other.toml"
    other.write_text(ROUTING + RULES.replace("score = 40", "score = -3").replace('"talked", ', '"spoke", '))
    found = ruled("rules", "try", other, "--since", "2020-01-01", "--format", "json").json
    talked = next(one["calls"] for one in found["rules"] if one["rule"] == "talked")
    assert found["changed"] == talked > 0
    first = found["changes"][0]
    assert first["tags"] == "+spoke, -talked"
    assert first["score_now"] in (40, 45) and first["score"] in (0, 2)
    text = ruled("rules", "try", other, "--since", "2020-01-01", "--limit", "1")
    assert f"{talked} of {len(CALLS)} calls would change" in text.err
    assert ("are not shown" in text.err) == (talked > 1)
    assert "talked: holds for" in text.err
    assert ruled("calls", "list", "--format", "json").json == before
    assert "0 new, 0 changed" in ruled("replay").out, "nor would the journal read again say anything else"


def test_a_file_with_errors_is_refused(ruled: Operator) -> None:
    wrong = ruled.folder / "wrong.toml"
    wrong.write_text(ROUTING + '\n[[rule]]\nkey = "r"\nscore = 1\nsources = ["radoi"]\n')
    said = ruled("rules", "try", wrong, code=1)
    assert "rule.r.sources: there is no source 'radoi' (did you mean 'radio'?)" in said.err
    assert "--since: 'soon' is not a time" in ruled("rules", "try", "--since", "soon", code=2).err


def test_apply_tells_the_difference(ruled: Operator) -> None:
    said = ruled.apply(ROUTING + RULES.replace("score = 40", "score = 41"), "--dry-run").out
    assert "~ rule talked: points 40 → 41" in said


def test_a_call_in_words_and_in_csv(ruled: Operator) -> None:
    """A tag that a spreadsheet would take for a formula is none there."""
    lines = ruled("calls", "list", "--format", "csv").lines
    header = lines[0].split(",")
    assert {"score", "rule_tags"} <= set(header)
    assert any('"talked, =1+1"' in line for line in lines)
    found = ruled("calls", "list", "--format", "json").json
    record = next(one for one in found if one["scoring"] and one["scoring"]["score"] == 45)
    good = ruled("calls", "list", "--min-score", "45", "--format", "json").json
    assert good == [one for one in found if one["scoring"] and one["scoring"]["score"] >= 45]
    text = ruled("calls", "show", record["call_id"]).out
    assert "score       45, qualified yes  (talked +40, new +5)" in text
    assert "tags        talked, =1+1" in text


def test_explain_names_the_rules_that_may_score(ruled: Operator) -> None:
    """N12: those that a call to this number by this caller at this time can meet."""
    text = ruled("explain", "+74990000001", "--from", "+79161234567").out
    assert "Rules that may score it" in text
    assert "talked: talk at least 1 s: +40 points" in text
    assert "new: first-time caller: +5 points, qualified" in text
    known = ruled("calls", "list", "--format", "json").json
    caller = next(one["caller"]["number"] for one in known if one["direction"] == "inbound" and one["caller"]["number"])
    repeat = ruled("explain", "+74990000001", "--from", caller, "--at", "2030-01-01").out
    assert "talked: " in repeat and "new: " not in repeat
