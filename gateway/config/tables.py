"""Typed reading of one table of the routing file: every getter notes what is wrong and gives a usable value back, so
that reading goes on to the next error."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from typing import Any, TypeVar

from gateway.config import positions, problems
from gateway.core import book, numbers

KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")
MAX_TEXT_LENGTH = 120

Index = int | tuple[int, ...] | None
"""Which element of a list an error is about; (1, 0) is the first of the list that is the second element."""

_Choice = TypeVar("_Choice", bound=StrEnum)
_TYPE_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a point",
    str: "a text in quotes",
    list: "a list in [brackets]",
    dict: "a table",
}


class Table:
    """One TOML table at `path`; `label` names it in errors, like `route.sales`. Names that are read become known."""

    def __init__(self, raw: dict[str, Any], path: positions.Path, label: str, found: problems.Problems) -> None:
        self.raw = raw
        self.path = path
        self.label = label
        self.found = found
        self._known: set[str] = set()

    def wrong(
        self, name: str | None, message: str, *, index: Index = None, word: str = "", choices: Iterable[str] = ()
    ) -> None:
        """Note an error at `name` (None: the table itself), or at one element of the list there."""
        path: positions.Path = self.path if name is None else (*self.path, name)
        key = self.label if name is None else f"{self.label}.{name}" if self.label else name
        if index is not None:
            path = (*path, *(index if isinstance(index, tuple) else (index,)))
        self.found.add(path, key, message, word=word, choices=choices)

    def take(self, name: str) -> Any:
        """The raw value, None if absent; `name` becomes known."""
        self._known.add(name)
        return self.raw.get(name)

    def refuse_unknown(self) -> None:
        """Note every key that no getter has asked for."""
        for name in self.raw:
            if name not in self._known:
                self.wrong(name, "there is no such key here", word=name, choices=sorted(self._known))

    def text(self, name: str, *, max_length: int = MAX_TEXT_LENGTH) -> str | None:
        """One line of printable text; None if absent or wrong."""
        value = self._typed(name, str)
        if value is None:
            return None
        if not value.strip() or len(value) > max_length or not value.isprintable():
            self.wrong(name, f"must be 1 to {max_length} printable characters")
            return None
        return str(value)

    def required_text(self, name: str) -> str:
        """Like `text`; absent is an error. "" if wrong."""
        if self.take(name) is None:
            self.wrong(name, "is missing")
        return self.text(name) or ""

    def matching(self, name: str, pattern: re.Pattern[str], what: str) -> str | None:
        """A text that `pattern` matches whole; None if absent or wrong."""
        value = self._typed(name, str)
        if value is None:
            return None
        if not pattern.fullmatch(value):
            self.wrong(name, f"must be {what}")
            return None
        return str(value)

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.optional_whole(name, low, high)
        return default if value is None else value

    def optional_whole(self, name: str, low: int, high: int) -> int | None:
        """A whole number from `low` to `high`; None if absent or wrong."""
        value = self._typed(name, int)
        if value is None:
            return None
        if not low <= value <= high:
            self.wrong(name, f"must be from {low} to {high}")
            return None
        return int(value)

    def flag(self, name: str, default: bool | None = False) -> bool | None:
        """true or false; `default` if absent or wrong."""
        value = self._typed(name, bool)
        return default if value is None else bool(value)

    def choice(self, name: str, kind: type[_Choice], default: _Choice) -> _Choice:
        """One of the values of `kind`."""
        value = self._typed(name, str)
        if value is None:
            return default
        allowed = [member.value for member in kind]
        if value not in allowed:
            self.wrong(name, f"must be one of {', '.join(allowed)}", word=value, choices=allowed)
            return default
        return kind(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; wrong elements are noted and left out."""
        value = self._typed(name, list)
        if value is None:
            return ()
        return tuple(element for _, element in self._elements(name, value))

    def reference(self, name: str, keys: Collection[str], what: str) -> str | None:
        """The key of a `what` declared elsewhere in the file; None if absent or unknown."""
        value = self._typed(name, str)
        if value is None:
            return None
        if value not in keys:
            self.wrong(name, f"there is no {what} '{shown(value)}'", word=value, choices=keys)
            return None
        return str(value)

    def references(self, name: str, keys: Collection[str], what: str) -> tuple[str, ...]:
        """Keys of `what` declared elsewhere, without repetition."""
        value = self._typed(name, list)
        known: list[str] = []
        for index, element in self._elements(name, value or []):
            if element not in keys:
                message = f"there is no {what} '{shown(element)}'"
                self.wrong(name, message, index=index, word=element, choices=keys)
            elif element in known:
                self.wrong(name, f"'{element}' stands here twice", index=index)
            else:
                known.append(element)
        return tuple(known)

    def number(self, name: str, country: str) -> str | None:
        """A telephone number as E.164 with `+`; without `+` it is read as dialled inside `country`."""
        value = self._typed(name, str)
        return None if value is None else self.valid_number(name, value, country)

    def valid_number(self, name: str, written: str, country: str, index: Index = None) -> str | None:
        """`written` as E.164 with `+`; None, and an error at `name`, when no such number exists."""
        number = numbers.normalise(written, country, book.NumberForm.PLUS)
        if number is not None and numbers.is_valid(number):
            return number
        if not country and not written.startswith("+"):
            return None  # The country is wrong or missing itself, which has its own error.
        if written.startswith("+"):
            message = f"'{shown(written)}' is not a valid telephone number"
        else:
            message = f"'{shown(written)}' is not a valid number of {country}; those of other countries begin with +"
        self.wrong(name, message, index=index)
        return None

    def table(self, name: str) -> Table | None:
        """A sub-table, written `{…}` or under a header of its own; None if absent."""
        value = self._typed(name, dict)
        label = f"{self.label}.{name}" if self.label else name
        return None if value is None else Table(value, (*self.path, name), label, self.found)

    def tables(self, name: str) -> Iterator[Table]:
        """An array of tables (`[[name]]`), labelled by number."""
        value = self._typed(name, list)
        for index, element in enumerate(value or []):
            label = f"{self.label}.{name}" if self.label else name
            if isinstance(element, dict):
                own = element.get("key", element.get("number"))
                label += f".{shown(own)}" if isinstance(own, str) and own.isprintable() else f"[{index + 1}]"
                yield Table(element, (*self.path, name, index), label, self.found)
            else:
                self.wrong(name, f"must be tables, each under [[{label}]]", index=index)

    def _typed(self, name: str, kind: type) -> Any:
        value = self.take(name)
        if value is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
            return value
        given = _TYPE_NAMES.get(type(value), "a date or time")
        self.wrong(name, f"must be {_TYPE_NAMES[kind]}, not {given}")
        return None

    def _elements(self, name: str, value: list[Any]) -> Iterator[tuple[int, str]]:
        for index, element in enumerate(value):
            if isinstance(element, str):
                yield index, element
            else:
                self.wrong(name, "must hold texts in quotes", index=index)


def shown(text: str) -> str:
    """`text` as an error message may repeat it: short and printable."""
    return text if len(text) <= 40 and text.isprintable() else ascii(text[:40])[1:-1] + "…"
