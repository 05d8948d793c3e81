"""Rules that score and tag a call (R2, R60, R61): what they ask and what they give, as values of the routing book.

`gateway.core.scoring` applies them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

MAX_RULES = 100
MAX_POINTS = 1_000
"""Of one rule, and of the bounds of a score."""
MAX_TAGS = 10
"""Of one rule."""
MAX_TAG_LENGTH = 40


class Pressed(StrEnum):
    """Questions whose keys a rule may ask for, as in `keys = ["goal=1"]`."""

    CONSENT = "consent"
    """Recording consent: 1 agrees (opt_in), 9 refuses (announce_opt_out)."""
    CALLBACK = "callback"
    """1: the caller asked to be called back."""
    OUTCOME = "outcome"
    GOAL = "goal"
    SOLVED = "solved"


@dataclass(frozen=True, slots=True)
class When:
    """What must hold of a call, all that is set; an empty field asks nothing."""

    is_outbound: bool = False
    min_talk_seconds: int | None = None
    max_talk_seconds: int | None = None
    """At most so many; with 0 only calls without talk."""
    min_wait_seconds: int | None = None
    max_wait_seconds: int | None = None
    outcomes: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    """Keys, sub-sources included."""
    campaigns: frozenset[str] = frozenset()
    """Case-folded."""
    channels: frozenset[str] = frozenset()
    first_time: bool | None = None
    """True: callers never seen before (R71); a caller without a number is neither."""
    keys: frozenset[tuple[str, str]] = frozenset()
    """(`Pressed`, key): one of them was pressed."""
    agents: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()
    hours: str | None = None
    """Key of business hours: the call began inside them."""
    outside_hours: str | None = None
    """The call began outside them."""

    @property
    def words(self) -> str:
        """All that it asks, as people say it; `every call` when it asks nothing."""
        return ", ".join(self._words()) or "every call"

    def _words(self) -> Iterator[str]:
        if self.is_outbound:
            yield "outbound"
        yield from _span("talk", self.min_talk_seconds, self.max_talk_seconds)
        yield from _span("wait", self.min_wait_seconds, self.max_wait_seconds)
        if self.first_time is not None:
            yield "first-time caller" if self.first_time else "repeat caller"
        for name in ("outcomes", "sources", "campaigns", "channels", "agents", "routes"):
            if some := getattr(self, name):
                yield f"{name.removesuffix('s')} {' or '.join(sorted(some))}"
        if self.keys:
            yield "key " + " or ".join(sorted(f"{question}={key}" for question, key in self.keys))
        if self.hours is not None:
            yield f"inside the hours {self.hours}"
        if self.outside_hours is not None:
            yield f"outside the hours {self.outside_hours}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `points` are added to the score, `tags` to the tags; True and False of `qualified` and `spam` mark the
    call, the last word wins."""

    key: str
    when: When
    points: int = 0
    tags: tuple[str, ...] = ()
    qualified: bool | None = None
    spam: bool | None = None
    stop: bool = False
    """When it holds, no later rule is asked."""

    @property
    def gives(self) -> str:
        """What it does to a call, as people say it."""
        marks = (("qualified", self.qualified), ("spam", self.spam))
        parts = [f"{self.points:+d} points"] if self.points else []
        parts += [f"tags {', '.join(self.tags)}"] if self.tags else []
        parts += [name if is_marked else f"not {name}" for name, is_marked in marks if is_marked is not None]
        parts += ["no later rule is asked"] if self.stop else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Scoring:
    """All rules in the order of the file, and what holds for their sum."""

    rules: tuple[Rule, ...] = ()
    lowest: int = 0
    highest: int = 100
    qualified_from: int | None = None
    """A score from which a call counts as qualified, unless a rule said otherwise."""


def _span(what: str, least: int | None, most: int | None) -> Iterator[str]:
    if least is not None:
        yield f"{what} at least {least} s"
    if most is not None:
        yield f"{what} at most {most} s"
