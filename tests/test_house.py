"""Rules of the house that no other tool holds (CONTRIBUTING.md, style.md 7)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.rig.asterisk import ROOT

MAX_LINES = 600
LONGEST_SLEEP_SECONDS = 0.1
# requirements.md
REQUIREMENTS = {"R": 120, "C": 7, "N": 14}

KNOWN_HOSTS = re.compile(
    r"""(127\.[0-9.]+|localhost|\[?::1\]?|0\.0\.0\.0                       # this machine
    |(.*\.)?(example(\.(com|org|net))?|invalid|test)                     # RFC 2606
    |192\.0\.2\.\d+|198\.51\.100\.\d+|203\.0\.113\.\d+                     # RFC 5737
    |(www\.)?(w3|python|freedesktop|debian|asterisk|apache|sqlalchemy|pytest|prometheus|json-schema|toml|iana|keepachangelog|semver)\.(org|io|com)
    |www\.google\.com|yandex\.ru                                         # where visitors come from
    |(docs|spec)\.[a-z0-9.-]+
    |(www|region1)\.google-analytics\.com|(googleads|oauth2)\.googleapis\.com        # services that are told of calls
    |api-metrika\.yandex\.net|graph\.facebook\.com|api\.hubapi\.com|(api|oauth)\.pipedrive\.com|oauth\.bitrix\.info
    |github\.com)""",
    re.VERBOSE,
)


@cache
def tracked(*suffixes: str) -> tuple[Path, ...]:
    """Files in git with one of these suffixes; all of them without any."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = (ROOT / name.decode() for name in listed.split(b"\0") if name)
    return tuple(path for path in paths if path.is_file() and (not suffixes or path.suffix in suffixes))


def texts() -> Iterator[tuple[Path, str]]:
    """Every tracked text but this one, which names what it forbids."""
    for path in tracked():
        if path != Path(__file__) and path.suffix not in (".png", ".ico", ".woff2", ".gz"):
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def python(folder: str) -> list[Path]:
    return [path for path in tracked(".py") if path.is_relative_to(ROOT / folder)]


def test_no_module_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in tracked(".py")}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


# -- docstrings ------------------------------------------------------------------------------------------------------

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public(node: ast.AST, inside: str = "") -> Iterator[tuple[str, Definition]]:
    """Public functions, classes and methods, by their dotted names; what a function holds inside is its own."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition) and not child.name.startswith("_"):
            name = f"{inside}{child.name}"
            yield name, child
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{name}.")


# What libraries call by name: their own documentation says what these are.
FOREIGN_NAMES = {"upgrade", "downgrade", "process_bind_param", "process_result_value"}
# A function of so few lines may speak for itself.
SHORT_LINES = 3


def says_itself(definition: Definition) -> bool:
    """Short functions, names that a library gives, and request handlers, whose route says what they answer."""
    if isinstance(definition, ast.ClassDef):
        return False
    arguments = definition.args.posonlyargs + definition.args.args
    is_handler = bool(arguments) and ast.unparse(arguments[0].annotation or ast.Constant("")) == "web.Request"
    lines = (definition.end_lineno or 0) - definition.body[0].lineno + 1
    return lines <= SHORT_LINES or is_handler or definition.name in FOREIGN_NAMES


@pytest.mark.parametrize("path", python("gateway"), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_public_has_a_docstring(path: Path) -> None:
    without = [
        name
        for name, definition in public(tree(path))
        if ast.get_docstring(definition) is None and not says_itself(definition)
    ]
    assert without == []
    if path.read_text().strip():
        assert ast.get_docstring(tree(path)), "the module itself"


# -- words -----------------------------------------------------------------------------------------------------------


def found(pattern: str) -> list[str]:
    expression = re.compile(pattern)
    return [
        f"{path}:{number}: {line.strip()[:80]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if expression.search(line)
    ]


def test_nothing_is_left_to_do() -> None:
    assert found(r"\b(TODO|FIXME|XXX|HACK)\b") == []


def test_no_path_of_a_machine() -> None:
    assert found(r"(?<![\w./])/(root|home/[a-z]\w*|Users/\w+|work)(/|\b)(?!\w)") == []


def test_no_address_but_the_worlds_own() -> None:
    """Package mirrors and registries belong to a machine, not to the project."""
    urls = [
        (path, match[1])
        for path, text in texts()
        if path.suffix not in (".lock",)
        for match in re.finditer(r"https?://(\[[0-9a-f:]+\]|[A-Za-z0-9.-]+)", text)
    ]
    assert [f"{path}: {host}" for path, host in urls if not KNOWN_HOSTS.fullmatch(host.lower())] == []
    assert found(r"(?i)(extra-index-url|index-url|trusted-host)\s*[=:]") == []


def test_a_rule_is_switched_off_with_a_reason_or_not_at_all() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked(".py")
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"#\s*(noqa(:\s*[A-Z0-9, ]+)?|type:\s*ignore(\[[\w, -]+\])?)\s*$", line)
    ]
    assert bare == []


def test_requirements_that_are_named_exist() -> None:
    """`R65` in a test, a docstring or a page is a line of requirements.md."""
    wrong = [
        f"{path}: {letter}{number}"
        for path, text in texts()
        if path.suffix in (".py", ".md", ".conf", ".toml")
        for letter, number in re.findall(r"(?<![\w$#{/.-])([RCN])([1-9]\d{0,2})(?![\w%-]|\.\d|\()", text)
        if int(number) > REQUIREMENTS[letter]
    ]
    assert wrong == []


# -- tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", python("tests"), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_sleeps_or_skips(path: Path) -> None:
    """Waiting is for a condition; what is missing is an error."""
    wrong = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            seconds = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else 0
            if name in ("time.sleep", "asyncio.sleep") and float(str(seconds)) > LONGEST_SLEEP_SECONDS:
                wrong.append(f"line {node.lineno}: {ast.unparse(node)}")
            if name in ("pytest.skip", "pytest.importorskip", "pytest.xfail"):
                wrong.append(f"line {node.lineno}: {name}")
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in (
            "pytest.mark.skip",
            "pytest.mark.skipif",
            "pytest.mark.xfail",
        ):
            wrong.append(f"line {node.lineno}: {ast.unparse(node)}")
    assert wrong == []


def test_no_mock() -> None:
    """Tests stand on real parts; a recorded or scripted peer speaks over a socket (style.md 7.18)."""
    mocking = [
        str(path.relative_to(ROOT))
        for path in python("tests")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom) and re.search(r"\b(pytest_)?mock\b", ast.unparse(node))
    ]
    assert mocking == []


# -- the layout ------------------------------------------------------------------------------------------------------


def test_asterisk_is_pyst2_from_the_root_of_the_repository() -> None:
    """Our folder of that name holds no Python, so the package wins (libraries.md 1.4)."""
    script = "import asterisk.manager; print(asterisk.__file__ or asterisk.__path__)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(ROOT / "asterisk") not in done.stdout


def test_decisions_are_numbered_without_a_gap_and_dated() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        title, _, date = page.read_text().splitlines()[:3]
        assert title.startswith(f"# {int(page.name[:4])}. "), page
        assert re.fullmatch(r"\*20\d\d-\d\d-\d\d\*", date), page
