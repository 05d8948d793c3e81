"""`apply` and `routing …`: what an administrator does to the routing file, mistakes included."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import EXAMPLE, ROUTING, Operator


def test_a_file_becomes_the_next_revision_and_shows_what_it_changes(operator: Operator) -> None:
    first = operator.apply(ROUTING, "--by", "olga", "--comment", "first")
    assert "+ route sales" in first.out
    assert first.lines[-1] == "Revision 1 applied."

    second = operator.apply(ROUTING.replace('reserve = ["second"]', "ring_seconds = 30"))
    assert "~ route sales: reserve" in second.out
    assert second.lines[-1] == "Revision 2 applied."

    history = operator("routing", "history", "--format", "json").json
    assert [(one["revision"], one["comment"]) for one in history] == [(2, ""), (1, "first")]
    assert history[1]["applied_by"] == "olga"


def test_an_unchanged_file_makes_no_revision(operator: Operator) -> None:
    operator.apply()
    assert "nothing to apply" in operator.apply().out
    exported = operator("routing", "export").out
    assert "nothing to apply" in operator.apply(exported).out
    assert len(operator("routing", "history", "--format", "json").json) == 1


def test_a_changed_comment_is_a_revision_that_says_so(operator: Operator) -> None:
    operator.apply()
    assert "Only comments or layout changed." in operator.apply(f"# moved house\n{ROUTING}").out


def test_a_dry_run_stores_nothing(operator: Operator) -> None:
    operator.apply()
    said = operator.apply(ROUTING.replace("Radio", "Wireless"), "--dry-run")
    assert "~ source radio: name Radio → Wireless" in said.out
    assert "would become revision 2" in said.out
    assert len(operator("routing", "history", "--format", "json").json) == 1


def test_ten_mistakes_are_told_at_once_and_nothing_is_stored(operator: Operator) -> None:
    """C3: the whole file is refused, each error with its line, its key and what was meant."""
    wrong = (
        ROUTING.replace("time_zone", "timezone")
        .replace('"RU"', '"Russia"')
        .replace('channel = "offline"', 'channel = "ofline"')
        .replace('forward = ["desk"]', 'forward = ["desk"]\nring_seconds = "20"\nring_secs = 5')
        .replace('reserve = ["second"]', 'reserve = ["secand"]\nstrategy = "round-robin"')
        .replace("+74990000001", "+7499")
        .replace('source = "radio"', 'source = "raido"')
    )
    operator.routing.write_text(wrong)
    said = operator("apply", operator.routing, code=1)
    assert len([line for line in said.err.splitlines() if line.startswith(f"{operator.routing}:")]) >= 10
    assert "(did you mean 'radio'?)" in said.err
    assert "(did you mean 'ring_seconds'?)" in said.err
    assert "nothing was applied" in said.err.splitlines()[-1]
    line = wrong.splitlines().index("ring_secs = 5") + 1
    assert f"{operator.routing}:{line}: route.sales.ring_secs:" in said.err
    operator("routing", "export", code=1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff\xfe\x00binary\x00", "not UTF-8"),
        (b"[[site]\n", "not TOML"),
        (b"", "has no [[site]]"),
        (b"\x7fELF" + b"\0" * 100, "not TOML"),
    ],
    ids=["utf-16", "broken", "empty", "program"],
)
def test_a_file_that_is_no_routing_file(operator: Operator, content: bytes, expected: str) -> None:
    operator.routing.write_bytes(content)
    said = operator("apply", operator.routing, code=1)
    assert expected in said.err
    assert len(said.err) < 1000


def test_a_missing_file_and_a_folder(operator: Operator, tmp_path: Path) -> None:
    assert "there is no such file" in operator("apply", tmp_path / "nothing.toml", code=1).err
    assert "is a folder" in operator("apply", tmp_path, code=1).err


def test_newer_edits_are_not_overwritten_without_force(operator: Operator) -> None:
    operator.apply()
    mine = operator("routing", "export").out
    operator.apply(ROUTING.replace("Radio", "Wireless"))
    said = _refused(operator, mine.replace("Clinic", "Hospital"))
    assert "made from revision 1, but revision 2 is in force" in said
    assert "dialmark routing export" in said
    assert len(operator("routing", "history", "--format", "json").json) == 2
    assert "Revision 3 applied." in operator.apply(mine.replace("Clinic", "Hospital"), "--force").out


def test_a_dry_run_tells_of_newer_edits_too(operator: Operator) -> None:
    operator.apply()
    mine = operator("routing", "export").out
    operator.apply(ROUTING.replace("Radio", "Wireless"))
    operator.routing.write_text(mine.replace("Clinic", "Hospital"))
    assert "but revision 2 is in force" in operator("apply", operator.routing, "--dry-run", code=1).err


def test_export_gives_back_the_text_with_its_comments(operator: Operator, tmp_path: Path) -> None:
    operator.apply(f"# ours\n{ROUTING}")
    operator.apply(ROUTING)
    target = tmp_path / "out.toml"
    operator("routing", "export", "--revision", 1, "-o", target)
    assert target.read_text() == f"revision = 1\n\n# ours\n{ROUTING}"


def test_the_example_goes_through_and_out_again(operator: Operator) -> None:
    operator("apply", EXAMPLE)
    operator.apply(operator("routing", "export").out)


def test_rollback_is_a_new_revision_with_the_old_text(operator: Operator) -> None:
    operator.apply()
    operator.apply(ROUTING.replace("Radio", "Wireless"))
    assert "Revision 3 applied" in operator("routing", "rollback", 1).out
    assert operator("routing", "diff", 1, 3).out == ""
    history = operator("routing", "history", "--format", "json").json
    assert history[0]["comment"] == "rollback to revision 1"
    assert history[0]["based_on"] == 2


@pytest.mark.parametrize("revision", ["0", "9", "-1"])
def test_a_revision_that_is_not_there(operator: Operator, revision: str) -> None:
    operator.apply()
    said = operator("routing", "rollback", "--", revision, code=1)
    assert f"there is no revision {revision}: they go from 1 to 1" in said.err


def test_rollback_to_what_is_in_force(operator: Operator) -> None:
    operator.apply()
    assert "in force already" in operator("routing", "rollback", 1, code=1).err


def test_difference_of_two_revisions(operator: Operator) -> None:
    operator.apply()
    operator.apply(ROUTING.replace("Radio", "Wireless"))
    assert operator("routing", "diff", 1, 2).lines == ["~ source radio: name Radio → Wireless"]
    text = operator("routing", "diff", 1, "--text").out
    assert '-name = "Radio"' in text
    assert '+name = "Wireless"' in text


def test_before_the_first_revision_commands_say_what_to_do(operator: Operator) -> None:
    operator("token", "add", "x", "--scope", "admin")
    for command in (["routing", "export"], ["explain", "+74990000001"], ["numbers", "list"]):
        assert "dialmark apply routing.toml" in operator(*command, code=1).err
    assert "No revision yet" in operator("routing", "history").err


def test_without_a_database_commands_say_what_to_do(operator: Operator) -> None:
    assert "dialmark init --write" in operator("calls", "list", code=1).err


def test_terminal_codes_in_a_routing_file_are_not_printed(operator: Operator) -> None:
    operator.routing.write_text(ROUTING.replace('"radio"', '"ra\\u001b[2Jdio"'))
    assert "\x1b" not in operator("apply", operator.routing, code=1).err


def _refused(operator: Operator, text: str) -> str:
    operator.routing.write_text(text)
    return operator("apply", operator.routing, code=1).err
