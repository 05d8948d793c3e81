"""The border has a dictionary: `gateway/pbx/dialvars.py` and the dialplan name the same things, both ways."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import pytest

from gateway.config import routingfile
from gateway.core import book, routing, rows
from gateway.pbx import dialvars, planfile, trunkfile
from tests.rig.asterisk import ROOT

DIALPLANS = sorted((ROOT / "dialplans").glob("*.conf*"))
NAME = re.compile(r"(?<![A-Za-z0-9_])_{0,2}(DM_[A-Z0-9_]*[A-Z0-9])(?![A-Za-z0-9_])")
STEP = re.compile(r"(DM_[A-Z])([1-8]|\$\{DM_I\})")


def code(text: str) -> str:
    """The dialplan without its comments."""
    return re.sub(r"(?m)(?<!\\);.*$", "", text)


def in_use(text: str) -> set[str]:
    """Names in a dialplan, the variables of steps by their prefix: `DM_S1` and `DM_S${DM_I}` are `DM_S`."""
    # The name of an expression goes first, or `DM_S${DM_I}` would be taken for nothing.
    steps = {match[1] for match in STEP.finditer(text)}
    plain = {name for name in NAME.findall(text) if not re.fullmatch(r"DM_[A-Z][1-8]", name)}
    return steps | plain


def events(text: str) -> set[str]:
    return set(re.findall(r"CELGenUserEvent\((\w+)", text))


def ours() -> str:
    """All dialplan text that is written by hand."""
    return "\n".join(code(path.read_text()) for path in DIALPLANS)


def generated() -> str:
    """All dialplan text that the daemon writes for the example, whose trunk may say its number anywhere."""
    text = (ROOT / "config" / "routing.example.toml").read_text()
    found = []
    for source in ("ruri", "to", "p-called-party"):
        routing_book = routingfile.parse(text.replace('did_from = "ruri"', f'did_from = "{source}"'), 1)
        found += [planfile.render(routing_book), trunkfile.render_contexts(routing_book)]
    return "\n".join(map(code, found))


def dictionary() -> set[str]:
    return set(
        dialvars.PLAN_VARIABLES
        | dialvars.STEP_VARIABLES
        | dialvars.DIALPLAN_VARIABLES
        | dialvars.GLOBALS
        | dialvars.USER_EVENTS
    )


def test_every_name_of_the_dialplan_is_in_the_dictionary() -> None:
    assert in_use(ours()) - dictionary() == set()


def test_every_name_of_the_generated_files_is_in_the_dictionary() -> None:
    assert in_use(generated()) - dictionary() == set()


def test_every_name_of_the_dictionary_is_used() -> None:
    assert dictionary() - in_use(ours() + generated()) == set()


def test_user_events_are_those_of_the_dictionary_both_ways() -> None:
    assert events(ours()) == dialvars.USER_EVENTS
    assert events(generated()) == set()


def test_every_field_of_an_event_is_a_word_that_the_readme_explains() -> None:
    """C5: the fold reads these by name; the README is what a telephonist reads beside the journal."""
    table = (ROOT / "dialplans" / "README.md").read_text().partition("## Journal events")[2]
    for name, payload in re.findall(r"CELGenUserEvent\((\w+),([^\n]*)\)\n", ours()):
        (row,) = re.findall(rf"(?m)^\| `{name}` \|(.*)$", table)
        for field, _ in parse_qsl(re.sub(r"\$\{[^&]*\}", "x", payload), keep_blank_values=True):
            assert f"`{field}`" in row or field == "v", f"{name}: {field}"


def test_the_readme_names_every_variable() -> None:
    text = (ROOT / "dialplans" / "README.md").read_text()
    named = set(NAME.findall(text)) | {match[1] for match in STEP.finditer(text)}
    assert dictionary() - named == set()


def test_the_actions_of_the_daemon_are_extensions_of_dialmark_act() -> None:
    act = code((ROOT / "dialplans" / "subroutines.conf").read_text()).partition("[dialmark-act]")[2].partition("\n[")[0]
    extensions = set(re.findall(r"(?m)^exten => (\w+),1,", act))
    assert {action.value for action in routing.Action} - extensions == set()


@pytest.mark.parametrize("cause", book.MissCause)
def test_the_causes_stand_in_the_order_in_which_the_dialplan_counts_them(cause: book.MissCause) -> None:
    """`DM_N1` has one digit per cause; `dialmark-missed` takes the one at its number."""
    place = list(book.MissCause).index(cause)
    text = (ROOT / "dialplans" / "subroutines.conf").read_text()
    assert f"{place} {cause.value.replace('_', ' ')}" in text


def test_the_fold_reads_the_events_of_the_dictionary() -> None:
    known = {str(value) for value in vars(rows).values() if isinstance(value, str)}
    folding = "".join(path.read_text() for path in (ROOT / "gateway" / "core").glob("*.py"))
    assert [name for name in dialvars.USER_EVENTS if name not in known and f'"{name}"' not in folding] == []
