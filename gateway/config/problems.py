"""What is wrong with a routing file: all of it at once, each with line, key and a guess at what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.config import positions

MAX_ERRORS = 200
"""More are counted, not listed: nobody mends 10,000 numbers by hand, and guesses cost time."""

_MAX_CHOICES = 2_000


@dataclass(frozen=True, slots=True, order=True)
class RoutingError:
    """One error. `key` is dotted, tables named by their own key (`route.sales.ring_seconds`); `line` counts from 1."""

    line: int
    key: str
    message: str
    suggestion: str | None = None
    """What was probably meant, as it would be written."""

    def __str__(self) -> str:
        guess = f" Did you mean '{self.suggestion}'?" if self.suggestion else ""
        where = f"{self.key}: " if self.key else ""
        return f"line {self.line}: {where}{self.message}.{guess}"


class RoutingErrors(Exception):
    """The file is refused. `errors` holds at least one, in order of lines; at most `MAX_ERRORS`, `total` counts all."""

    def __init__(self, errors: Iterable[RoutingError], total: int | None = None) -> None:
        self.errors = tuple(sorted(errors, key=lambda error: error.line))
        self.total = len(self.errors) if total is None else total
        super().__init__(self.errors)

    def __str__(self) -> str:
        lines = [str(error) for error in self.errors]
        if self.total > len(lines):
            lines.append(f"and {self.total - len(lines)} more")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Problem:
    path: positions.Path
    key: str
    message: str
    suggestion: str | None


class Problems:
    """Collects while the file is read; lines are looked up at the end, and only if something is wrong."""

    def __init__(self) -> None:
        self._found: list[_Problem] = []
        self._total = 0

    def __bool__(self) -> bool:
        return self._total > 0

    def add(self, path: positions.Path, key: str, message: str, *, word: str = "", choices: Iterable[str] = ()) -> None:
        """Note that the value at `path` is wrong. Of `choices` the one most like `word` becomes the suggestion."""
        self._total += 1
        if len(self._found) < MAX_ERRORS:
            self._found.append(_Problem(path, key, message, closest(word, choices)))

    def raise_if_any(self, text: str) -> None:
        """Raise `RoutingErrors` with the lines that the paths have in `text`."""
        if self._found:
            raise RoutingErrors(self.located(text), self._total)

    def located(self, text: str) -> list[RoutingError]:
        """What was noted, with the lines that the paths have in `text`, in their order."""
        if not self._found:
            return []
        where = positions.Positions(text)
        found = [
            RoutingError(where.line_of(problem.path), problem.key, problem.message, problem.suggestion)
            for problem in self._found
        ]
        return sorted(found, key=lambda one: one.line)


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like `word`, or None when none is."""
    if not word or len(word) > 100:
        return None
    listed = list(choices)[:_MAX_CHOICES]
    by_lower = {choice.lower(): choice for choice in listed}
    found = difflib.get_close_matches(word.lower(), list(by_lower), n=3, cutoff=0.6)
    if not found:
        return None
    # Letters in the wrong order are the commonest slip, and difflib rates them low: `aig` is `agi` before `ami`.
    swapped = next((choice for choice in found if sorted(choice) == sorted(word.lower())), found[0])
    return by_lower[swapped]
