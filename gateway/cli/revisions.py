"""The text of a routing revision: where it says which revision it was made from, and how two of them compare."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

_REVISION = re.compile(r"\s*revision\s*=\s*\d+\s*(#.*)?")
_HEADER = re.compile(r"\s*\[")


def with_revision(document: str, revision: int) -> str:
    """The document as `export` gives it: the key `revision` says what the next `apply` is compared with."""
    line = f"revision = {revision}\n"
    lines = document.splitlines(keepends=True)
    place = _place(lines)
    if place is not None:
        comment = _REVISION.fullmatch(lines[place].rstrip("\r\n"))
        kept = comment[1] if comment else None
        lines[place] = f"revision = {revision}  {kept}\n" if kept else line
        return "".join(lines)
    return f"{line}\n{document}" if document.strip() else line


def without_revision(document: str) -> str:
    """The document without that key, for comparing: who only exports and applies has changed nothing."""
    lines = document.splitlines(keepends=True)
    place = _place(lines)
    if place is not None:
        del lines[place]
    return "".join(lines).strip("\r\n \t").replace("\r\n", "\n")


def unified(old: str, new: str, old_name: str, new_name: str) -> Iterator[str]:
    """Lines of a unified diff of two documents, their revision keys left out."""
    yield from difflib.unified_diff(
        without_revision(old).splitlines(), without_revision(new).splitlines(), old_name, new_name, lineterm=""
    )


def _place(lines: list[str]) -> int | None:
    """Index of the line with the key; it can stand before the first table only."""
    for index, line in enumerate(lines):
        if _HEADER.match(line):
            return None
        if _REVISION.fullmatch(line.rstrip("\r\n")):
            return index
    return None
