"""The documents tell the truth: commands run, files load, links lead somewhere, what exists is described."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import shlex
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import routingfile
from gateway.core import book, events
from gateway.pbx import trunkfile
from tests import filesystems
from tests.conftest import NodeFactory
from tests.rig import Address, AsteriskNode, Behaviour, Daemon, Rig, processes, waits
from tests.rig.asterisk import ROOT

PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in ("build", "dist") for part in path.relative_to(ROOT).parts)
)
INSTALL = ROOT / "docs" / "install.md"
OPERATIONS = ROOT / "docs" / "operations.md"


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


# -- links -----------------------------------------------------------------------------------------------------------


def prose(text: str) -> str:
    """Without fenced blocks and code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"(?ms)^```.*?^```$", "", text))


def anchors(path: Path) -> set[str]:
    """Headings as GitHub names them."""
    headings = re.findall(r"(?m)^#{1,6} (.+)$", re.sub(r"(?ms)^```.*?^```$", "", path.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_and_image_leads_somewhere(page: Path) -> None:
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(target)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    """`docs/settings.md`, `scripts/lib/setup`: paths of the repository in code marks."""
    folders = "asterisk|bench|config|dialplans|docs|gateway|scripts|systemd|tests"
    named = re.findall(rf"`((?:{folders})/[\w./-]+)`", page.read_text())
    assert [one for one in named if not (ROOT / one).exists()] == []


# -- commands --------------------------------------------------------------------------------------------------------

# Root's commands change the machine itself; what stands in for a run of each.
ROOTS_COMMANDS = {
    "apt-get": "scripts/lib/setup installs Debian packages",
    "python3": "scripts/lib/setup makes environments, tests/rig runs ring_tone.py",
    "/opt/dialmark/bin/pip": "scripts/lib/setup installs the project",
    "ln": "names a program",
    "cp": "its sources are looked up below",
    "mkdir": "makes a folder",
    "install": "makes a folder",
    "chown": "gives a folder away",
    "sed": "edits a unit",
    "systemd-sysusers": "wants to be root of a machine with systemd",
    "systemd-tmpfiles": "wants to be root of a machine with systemd",
    "systemctl": "wants systemd",
    "systemd-creds": "wants systemd; tests/test_systemd.py names the credential",
    "asterisk": "tests/rig sends console commands",
    "dialmark": "init: tests/cli/test_init.py",
}


def consoles(page: Path) -> Iterator[str]:
    """Lines of the blocks that show a terminal."""
    for block in re.findall(r"(?ms)^```console\n(.*?)^```$", page.read_text()):
        yield from block.splitlines()


def commands(page: Path, prompt: str) -> list[str]:
    return [line.removeprefix(prompt) for line in consoles(page) if line.startswith(prompt)]


@pytest.fixture(scope="module")
def spool() -> Iterator[Path]:
    """A folder for sound on a filesystem of its own, as the pages ask for."""
    folder = Path(tempfile.mkdtemp(prefix="dialmark-", dir=filesystems.another()))
    if os.geteuid() == 0:
        os.chown(folder, processes.UNPRIVILEGED_ID, processes.UNPRIVILEGED_ID)
    folder.chmod(0o2770)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def site(make_node: NodeFactory, spool: Path) -> Iterator[Daemon]:
    """A running site with the example in force, which records."""
    node = make_node(phones=("desk-1", "desk-2"), carriers={"carrier-a": Address("127.0.0.2", 5070)})
    node.start()
    daemon = Daemon(node, {"recording": {"spool_dir": str(spool)}}, records=True)
    daemon.run("apply", str(ROOT / "config" / "routing.example.toml"))
    daemon.begin()
    node.until_endpoint("carrier-a")
    daemon.until_plan()
    # The last that is spoken; `doctor` misses those that are not.
    waits.wait_until(lambda: "/whisper-en-" in (node.etc / "dialmark_plan.conf").read_text(), 300, "all prompts")
    daemon.until_plan()
    yield daemon
    daemon.stop()


async def test_every_command_of_the_daemons_user_runs(site: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one call behind it, beside a running daemon and a running Asterisk, each ends with 0."""
    async with Rig(site.node) as rig:
        rig.callee("desk-1", Behaviour.ANSWER)
        await rig.call("74990000001")
    await site.until_records(1)
    monkeypatch.chdir(ROOT / "config")
    shown = [(page, line) for page in PAGES for line in commands(page, "$ ")]
    assert len(shown) > 10
    for page, line in shown:
        words = shlex.split(line.removeprefix("sudo -u dialmark "))
        assert words[0] == "dialmark", f"{name(page)}: only dialmark's own commands are run: {line}"
        # The page's routing.toml is an example of its own, which a test below reads; here it would change the site.
        arguments = ["routing.example.toml" if word == "routing.toml" else word for word in words[1:]]
        site.run(*arguments)


def test_every_command_of_root_is_known_and_its_sources_exist() -> None:
    for page in PAGES:
        for line in commands(page, "# "):
            words = shlex.split(line)
            assert words[0] in ROOTS_COMMANDS, f"{name(page)}: {line}"
            if words[0] == "cp":
                for source in words[1:-1]:
                    assert list(ROOT.glob(source)), f"{name(page)}: {source}"
            if words[0] == "dialmark":
                assert words[1] == "init", f"{name(page)}: {line}"


def test_units_that_are_named_exist() -> None:
    units = {
        unit
        for page in PAGES
        for line in commands(page, "# ")
        if line.startswith("systemctl")
        for unit in re.findall(r"dialmark[\w.-]*", line)
    }
    assert units
    for unit in units:
        assert (ROOT / "systemd" / (unit if "." in unit else f"{unit}.service")).exists(), unit


# -- files that the pages show ---------------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    """The three examples of docs/install.md by their letter."""
    parts = re.split(r"(?m)^## ([ABC])\. ", INSTALL.read_text())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def shown_files(text: str) -> dict[str, str]:
    """Asterisk's files in a page: the blocks whose first line names the file."""
    return dict(re.findall(r"(?ms)^```ini\n; /etc/asterisk/([\w.]+)\n(.*?)^```$", text))


def shown_routing(text: str) -> str:
    (found,) = re.findall(r"(?ms)^```toml\n# routing.toml\n(.*?)^```$", text)
    return str(found)


@pytest.mark.parametrize("letter", "ABC")
def test_the_example_of_the_installation_loads_in_asterisk(make_node: NodeFactory, letter: str) -> None:
    """Site files and generated files of the example together, without a warning."""
    text = sections()[letter]
    routing_book = routingfile.parse(shown_routing(text), 1)
    files = shown_files(text)
    # On FreePBX the same text lies in a file that FreePBX includes.
    files = {file.replace("extensions_custom", "extensions_site"): content for file, content in files.items()}
    files[trunkfile.CONTEXTS_FILE_NAME] = trunkfile.render_contexts(routing_book)
    files[trunkfile.PJSIP_FILE_NAME] = trunkfile.render_pjsip(routing_book, lambda reference: "secret")
    node = make_node(files=files)
    node.start()
    complaints = [
        line for line in (node.log / "messages.log").read_text().splitlines() if " WARNING" in line or " ERROR" in line
    ]
    # From a loopback address no carrier and no PBX of the example can be asked whether it is there.
    is_of_network = re.compile("carrier\\.example|sending OPTIONS request")
    assert [line for line in complaints if not is_of_network.search(line)] == []
    check_destinations(node, routing_book)
    for context in re.findall(r"(?m)^\[(from-[\w-]+)\]", files.get("extensions_site.conf", "")):
        assert f"Context '{context}'" in node.cli(f"dialplan show {context}")


def check_destinations(node: AsteriskNode, routing_book: book.Book) -> None:
    """Each SIP endpoint that the routing names is in the page's pjsip_site.conf."""
    for destination in routing_book.destinations.values():
        if destination.kind is book.DestinationKind.ENDPOINT:
            assert "Unable to find" not in node.cli(f"pjsip show endpoint {destination.address}"), destination.key


def test_a_national_number_is_completed_as_the_page_says(make_node: NodeFactory) -> None:
    """Example B4: the context that a carrier with national numbers needs on FreePBX."""
    text = shown_files(sections()["B"])["extensions_custom.conf"]
    walk = (
        "[dialmark-inbound]\nexten => _X!,1,Log(NOTICE,ARRIVED ${EXTEN} ${CALLERID(num)})\n same => n,Return()\n"
        "[walk]\nexten => s,1,Set(CALLERID(num)=89161234567)\n same => n,Gosub(from-carrier-a,84990000001,1)\n"
        " same => n,Set(CALLERID(num)=9161234567)\n same => n,Gosub(from-carrier-a,4990000001,1)\n"
        " same => n,Log(NOTICE,WALKED)\n"
    )
    node = make_node(
        dialplan={"extensions.conf": f"[general]\n{text}\n{walk}"},
        files={"modules_site.conf": "[modules](+)\nload = res_clioriginate.so\n"},
    )
    node.start()
    node.cli("channel originate Local/s@walk application Wait 10")
    node.until_idle()
    log = (node.log / "messages.log").read_text()
    assert re.findall(r"ARRIVED (\d+) (\d+)", log) == [("74990000001", "79161234567")] * 2


# -- what exists is described ----------------------------------------------------------------------------------------


def log_lines() -> set[str]:
    """First words of everything the program logs at info and above."""
    found = set()
    for path in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            is_logging = ast.unparse(node.func.value) in ("log", "_log") and node.func.attr in (
                *("info", "warning", "error", "exception", "critical"),
            )
            # The manager session logs what it is handed.
            place = 0 if is_logging else 1 if ast.unparse(node.func) == "self._down" else None
            if place is not None and isinstance(node.args[place], ast.Constant):
                found.add(str(node.args[place].value))  # type: ignore[attr-defined]  # it is a Constant
    return found


def test_every_line_of_the_log_is_explained_and_no_other() -> None:
    table = OPERATIONS.read_text().partition("## What the log says")[2].partition("\n## ")[0]
    explained = {
        line
        for cells in re.findall(r"(?m)^\| (`.*?) \| (?:info|warning|error) \|", table)
        for line in re.findall(r"`([^`]+)`", cells)
    }
    lines = log_lines()
    assert len(lines) > 20
    assert lines - explained == set()
    assert explained - lines == set()


def fetched(site: Daemon, page: str) -> str:
    with urllib.request.urlopen(f"http://{site.admin}/{page}", timeout=30) as answer:
        return str(answer.read().decode())


def test_every_metric_and_every_check_is_explained(site: Daemon) -> None:
    text = OPERATIONS.read_text()
    families = {
        one for one in re.findall(r"(?m)^# TYPE (\w+) ", fetched(site, "metrics")) if not one.endswith("_created")
    }
    assert len(families) > 10
    assert {family for family in families if f"`{family}`" not in text} == set()
    assert {check for check in json.loads(fetched(site, "readyz"))["checks"] if f"| `{check}` |" not in text} == set()


async def test_events_are_as_the_page_shows_them(site: Daemon) -> None:
    """C6."""
    text = (ROOT / "docs" / "events.md").read_text()
    for event_type in events.EventType:
        assert f"| `{event_type.value}` |" in text
    (example,) = re.findall(r"(?ms)^```json\n(.*?)^```$", text)
    shown = json.loads(example)
    async with Rig(site.node) as rig:
        rig.callee("desk-1", Behaviour.ANSWER)
        await rig.call("74990000001")
    await site.until_records(1)

    def told() -> list[dict[str, Any]]:
        return [event for event in site.events() if event["type"] == shown["type"]]

    await asyncio.to_thread(waits.wait_until, lambda: bool(told()), 10, "the event in the file")
    assert told()[0].keys() == shown.keys()
    assert shown["data"].keys() - {"…"} <= told()[0]["data"].keys()


def test_the_changelog_has_a_place_for_what_comes_and_the_readme_names_both_scripts() -> None:
    assert re.search(r"(?m)^## Unreleased$", (ROOT / "CHANGELOG.md").read_text())
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:40])
    for script in ("./scripts/demo", "./scripts/test"):
        assert script in first_screen
        assert (ROOT / script).stat().st_mode & 0o111
