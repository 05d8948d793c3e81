"""docs/cli.md names every command and every option."""

from __future__ import annotations

import re
from collections.abc import Iterator

import typer.main

from gateway.cli import app
from tests.cli.conftest import ROOT

COMMON = {"--help", "--config", "--format", "--version"}


def _commands() -> Iterator[tuple[str, set[str]]]:
    """Each command's path and its long options."""
    root = typer.main.get_command(app.app)
    todo = [("", root)]
    while todo:
        path, command = todo.pop()
        inner = getattr(command, "commands", None)
        if inner is not None:
            todo += [(f"{path} {name}".strip(), one) for name, one in inner.items()]
        else:
            names = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
            yield path, {name for name in names if name.startswith("--")} - COMMON


def test_every_command_and_option_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    found = dict(_commands())
    assert len(found) >= 20
    for path, options in found.items():
        assert re.search(rf"`{path}[ `]", text), f"{path} is not in docs/cli.md"
        for option in options - {"--lines", "--output"}:
            assert option in text, f"{option} of {path} is not in docs/cli.md"
