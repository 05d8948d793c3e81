"""The dialplan with generated and site files: linted, every jump lands, the real Asterisk takes it without a word."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.config import routingfile
from gateway.core import routing
from gateway.pbx import planfile, trunkfile
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode
from tests.rig.asterisk import ROOT

LINT = ROOT / "scripts" / "lib" / "dialplan_lint.py"
ACTIONS = tuple(action.value for action in routing.Action)


def site_text() -> str:
    """`extensions_site.conf.example` with all its examples in force."""
    text = (ROOT / "dialplans" / "extensions_site.conf.example").read_text()
    return re.sub(r"(?m)^;(?! [A-Z])", "", text)


def generated() -> dict[str, str]:
    """What the daemon writes for the example."""
    routing_book = routingfile.parse((ROOT / "config" / "routing.example.toml").read_text(), 3)
    return {
        planfile.FILE_NAME: planfile.render(routing_book),
        trunkfile.CONTEXTS_FILE_NAME: trunkfile.render_contexts(routing_book),
        trunkfile.PJSIP_FILE_NAME: trunkfile.render_pjsip(routing_book, lambda reference: "secret"),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dialplan as it lies on a site."""
    target = tmp_path_factory.mktemp("asterisk")
    for path in (ROOT / "dialplans").glob("*.conf"):
        shutil.copy(path, target)
    for name, text in (generated() | {"extensions_site.conf": site_text()}).items():
        (target / name).write_text(text)
    return target


def lint(path: Path, *ignored: str) -> str:
    environment = {**os.environ, "ALINT_IGNORE": ",".join(("W_WSH_VARSET", *ignored))}
    done = subprocess.run([sys.executable, LINT, path], env=environment, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_the_linter_finds_nothing_in_ours() -> None:
    assert lint(ROOT / "dialplans" / "extensions.conf") == ""


def test_the_linter_finds_nothing_beside_generated_and_site_files(folder: Path) -> None:
    # Asterisk takes every [globals] it reads; a test below shows it. The site's example knows no queue and no trunk.
    assert lint(folder / "extensions.conf", "E_DP_GLOBALS_DUPE") == ""


# -- every jump lands ------------------------------------------------------------------------------------------------


@dataclass
class Extension:
    """An extension's labels, and where it jumps: (context, extension, label)."""

    labels: set[str] = field(default_factory=set)
    jumps: list[tuple[str, str, str]] = field(default_factory=list)


Dialplan = dict[str, dict[str, Extension]]


def parsed(texts: list[str]) -> Dialplan:
    contexts: Dialplan = {}
    context, name = "", ""
    for line in re.sub(r"(?m)(?<!\\);.*$", "", "\n".join(texts)).splitlines():
        if section := re.match(r"\[([\w-]+)\]", line):
            context = section[1]
            contexts.setdefault(context, {})
        elif step := re.match(r"exten => ([^,]+),1,(.*)|\s*same => n(?:\((\w+)\))?,(.*)", line.rstrip()):
            name = step[1] or name
            extension = contexts[context].setdefault(name, Extension())
            if step[3]:
                extension.labels.add(step[3])
            extension.jumps += [resolved(one, context, name) for one in jumps(step[2] or step[4])]
    return contexts


def jumps(application: str) -> Iterator[str]:
    """Targets as they are written: `a,b,1`, `a,1` or a label."""
    name, _, rest = application.partition("(")
    inside = rest.removesuffix(")")
    if name == "Goto":
        yield inside
    elif name == "Gosub":
        yield re.sub(r"\(.*\)$", "", inside)
    elif name in ("GotoIf", "GosubIf", "GotoIfTime"):
        for target in cut(cut(inside, "?")[-1], ":"):
            if target:
                yield re.sub(r"\(.*\)$", "", target)


def cut(text: str, mark: str) -> list[str]:
    """Parts between the marks that stand in no parentheses."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == mark and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def resolved(target: str, context: str, extension: str) -> tuple[str, str, str]:
    parts = cut(target, ",")
    match parts:
        case [label]:
            return context, extension, label
        case [name, label]:
            return context, name, label
        case _:
            return parts[0], parts[1], parts[2]


def lands(contexts: Dialplan, context: str, extension: str, label: str) -> bool:
    if "${" in context:
        # One context per trunk.
        return any(name.startswith(context.partition("${")[0]) for name in contexts)
    here = contexts.get(context, {})
    if "${" in extension:
        # The number called, which a pattern takes, or the action, each of which must be there.
        wanted = ACTIONS if extension == "${DM_ACT}" else ()
        return bool(here) and set(wanted) <= set(here)
    candidates = [one for name, one in here.items() if name == extension or matches(name, extension)]
    return bool(candidates) and (label == "1" or any(label in one.labels for one in candidates))


def matches(pattern: str, extension: str) -> bool:
    if not pattern.startswith("_"):
        return False
    wild = {"X": "[0-9]", "Z": "[1-9]", "N": "[2-9]", "!": ".*", ".": ".+"}
    marks = re.findall(r"\[[^]]*\]|.", pattern[1:])
    expression = "".join(mark if mark.startswith("[") else wild.get(mark, re.escape(mark)) for mark in marks)
    return re.fullmatch(expression, extension) is not None


def test_every_goto_and_gosub_lands(folder: Path) -> None:
    contexts = parsed([path.read_text() for path in sorted(folder.glob("*.conf")) if "pjsip" not in path.name])
    targets = [
        (context, name, jump) for context, here in contexts.items() for name, one in here.items() for jump in one.jumps
    ]
    assert len(targets) > 60
    assert [f"[{context}] {name} to {jump}" for context, name, jump in targets if not lands(contexts, *jump)] == []


def test_no_pattern_of_ours_matches_the_special_extensions(folder: Path) -> None:
    """Such a pattern would run a hang-up or a time-out as if it were a call."""
    assert matches("_[A-Za-z]!", "h") and not matches("_[A-Za-z].", "h")
    for context, here in parsed(
        [path.read_text() for path in folder.glob("*.conf") if "pjsip" not in path.name]
    ).items():
        for name in here:
            assert not any(matches(name, special) for special in "hitTseo"), (context, name)


# -- the real Asterisk -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node(make_node: NodeFactory) -> AsteriskNode:
    node = make_node(files=generated() | {"extensions_site.conf": site_text()})
    node.start()
    return node


def complaints(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.search("WARNING|ERROR", line)]


def test_asterisk_loads_and_reloads_it_without_a_word(node: AsteriskNode) -> None:
    log = node.log / "messages.log"
    node.reload_dialplan()
    node.cli("module reload res_pjsip.so")
    assert complaints(log.read_text()) == []


def test_the_sites_globals_win_and_survive_a_reload(node: AsteriskNode) -> None:
    """dialplans/extensions_site.conf.example: what is set there wins."""
    for _ in range(2):
        shown = node.cli("dialplan show globals").replace(" ", "")
        assert "DM_DEFAULT_DIAL=PJSIP/reception" in shown
        assert "DM_PLAN_REVISION=3" in shown
        node.reload_dialplan()


def test_a_hung_daemons_mark_survives_a_reload(node: AsteriskNode) -> None:
    """N2: a reload must not make calls ask a hung daemon again."""
    node.cli("dialplan set global DM_AGI_OFF_UNTIL 1234567890")
    node.reload_dialplan()
    assert "DM_AGI_OFF_UNTIL=1234567890" in node.cli("dialplan show globals")


def test_every_extension_of_ours_is_in_asterisk(node: AsteriskNode, folder: Path) -> None:
    """A line that Asterisk does not understand is dropped with a warning at best."""
    shown = node.cli("dialplan show")
    for context, here in parsed(
        [path.read_text() for path in folder.glob("*.conf") if "pjsip" not in path.name]
    ).items():
        if not here:
            continue
        body = shown.partition(f"[ Context '{context}' ")[2].partition("[ Context '")[0]
        for name in here:
            assert f"'{name}' =>" in body, (context, name)
