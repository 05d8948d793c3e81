"""Where each value of a TOML text stands. `tomllib` knows values without lines; this knows lines without values.

The scanner reads text that `tomllib` has accepted, so it need not find errors, and a test compares the paths it gives
with the document `tomllib` gives. (No maintained library offers both: tomlkit drops positions.)
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

Path = tuple[str | int, ...]
"""Keys and array indices from the top: ("route", 0, "reserve", 1)."""

_BLANKS = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_KEY_PART = re.compile(r"""[ \t]*("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)[ \t]*""")
_SCALAR = re.compile(
    r'''"""(?:\\.|[^\\])*?"""(?:"{0,2})|\'\'\'.*?\'\'\'(?:'{0,2})|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^,\]}\n#]+''',
    re.DOTALL,
)


class Positions:
    """Lines (from 1) by path, of text that is valid TOML."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._line_ends = [match.start() for match in re.finditer("\n", self._text)]
        self._array_tables: dict[Path, int] = {}
        self.lines: dict[Path, int] = {}
        self._document()

    def line_of(self, path: Path) -> int:
        """The line of `path`; for what the text does not hold, that of the table or array it would stand in."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1

    def _document(self) -> None:
        base: Path = ()
        at = self._after_blanks(0)
        while at < len(self._text):
            if self._text[at] == "[":
                base, at = self._header(at)
            else:
                at = self._pair(base, at)
            at = self._after_blanks(at)

    def _header(self, at: int) -> tuple[Path, int]:
        is_array = self._text.startswith("[[", at)
        keys, end = self._key(at + (2 if is_array else 1))
        path: Path = ()
        for key in keys[:-1]:
            path = self._entered((*path, key), at)
        path = (*path, keys[-1])
        if is_array:
            index = self._array_tables[path] = self._array_tables.get(path, -1) + 1
            self.lines.setdefault(path, self._line(at))
            path = (*path, index)
        # A table may be opened after its sub-tables: then its own header is the better line.
        self.lines[path] = self._line(at)
        return path, end + (2 if is_array else 1)

    def _entered(self, path: Path, at: int) -> Path:
        if path in self._array_tables:
            return (*path, self._array_tables[path])
        self.lines.setdefault(path, self._line(at))
        return path

    def _pair(self, base: Path, at: int) -> int:
        keys, end = self._key(at)
        for length in range(1, len(keys) + 1):
            self.lines.setdefault((*base, *keys[:length]), self._line(at))
        return self._value((*base, *keys), self._after_blanks(end + 1))

    def _key(self, at: int) -> tuple[tuple[str, ...], int]:
        """The parts of a dotted key and the place after it, where `=` or `]` stands."""
        keys: list[str] = []
        while match := _KEY_PART.match(self._text, at):
            keys.append(_unquoted(match[1]))
            at = match.end()
            if self._text[at : at + 1] != ".":
                break
            at += 1
        return tuple(keys), at

    def _value(self, path: Path, at: int) -> int:
        match self._text[at]:
            case "[":
                return self._array(path, at + 1)
            case "{":
                return self._inline_table(path, at + 1)
        match = _SCALAR.match(self._text, at)
        return match.end() if match else len(self._text)

    def _array(self, path: Path, at: int) -> int:
        index = 0
        at = self._after_blanks(at)
        while self._text[at] != "]":
            self.lines[(*path, index)] = self._line(at)
            at = self._after_blanks(self._value((*path, index), at))
            index += 1
            if self._text[at] == ",":
                at = self._after_blanks(at + 1)
        return at + 1

    def _inline_table(self, path: Path, at: int) -> int:
        at = self._after_blanks(at)
        while self._text[at] != "}":
            at = self._after_blanks(self._pair(path, at))
            if self._text[at] == ",":
                at = self._after_blanks(at + 1)
        return at + 1

    def _after_blanks(self, at: int) -> int:
        match = _BLANKS.match(self._text, at)
        return match.end() if match else at

    def _line(self, at: int) -> int:
        return bisect_right(self._line_ends, at - 1) + 1 if at else 1


def _unquoted(key: str) -> str:
    if key[0] not in "\"'":
        return key
    return str(tomllib.loads(f"key = {key}")["key"])
