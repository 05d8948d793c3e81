"""Rating a call by keys when it is over (R73, R77): what a route asks, and what the journal tells of the answers.

Off by default. Who is still there is asked: the agent when the caller hung up first, the caller when the agent did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

MAX_OUTCOMES = 9
"""Keys 1 to 9."""


class Question(StrEnum):
    """What can be asked, in the order in which it is."""

    OUTCOME = "outcome"
    """One key of several, which the route names."""
    GOAL = "goal"
    """Goal reached (R77): 1 yes, 2 no."""
    SOLVED = "solved"
    """Solved at first contact (R73): 1 yes, 2 no."""


class By(StrEnum):
    """Who is asked."""

    AGENT = "agent"
    CALLER = "caller"
    BOTH = "both"
    """Whoever of them is still there."""


class Ending(StrEnum):
    """How the asking ended, `r` of DM_RATE."""

    KEYED = "keyed"
    NO_KEY = "no_key"
    """Nothing, or nothing sensible, was pressed twice; nothing more was asked."""


YES, NO = "1", "2"
OUTCOMES: Mapping[By, tuple[str, ...]] = {
    By.AGENT: ("success", "follow-up", "no-interest", "not-a-customer"),
    By.CALLER: ("satisfied", "partly", "dissatisfied"),
}
"""What the keys 1, 2, … to the question `outcome` mean, where the route does not say; the prompts' texts say so."""

PROMPT_KEYS: Mapping[By, Mapping[Question, str]] = {
    who: {question: f"rate_{question.value}_{who.value}" for question in Question} for who in (By.AGENT, By.CALLER)
}
THANKS = "rate_thanks"


@dataclass(frozen=True, slots=True)
class Wish:
    """A route's `rating`. `outcomes` are names of the keys 1, 2, …; empty: those of `OUTCOMES`."""

    by: By
    questions: tuple[Question, ...] = tuple(Question)
    outcomes: tuple[str, ...] = ()
    min_talk_seconds: int = 5
    """Nobody is asked after a shorter talk."""
    key_seconds: int = 4
    """To wait for each key."""

    @property
    def asked(self) -> tuple[By, ...]:
        """Who may be asked."""
        return (By.AGENT, By.CALLER) if self.by is By.BOTH else (self.by,)

    def outcomes_of(self, who: By) -> tuple[str, ...]:
        """What the keys of `outcome` mean when `who` presses them."""
        return self.outcomes or OUTCOMES[who]


@dataclass(frozen=True, slots=True)
class Rated:
    """One answer, as DM_RATE tells it. `key` None: asked, and nothing sensible was pressed."""

    who: By
    question: Question
    key: str | None
    at_us: int


def given(data: Mapping[str, str], at_us: int) -> Rated | None:
    """The payload of DM_RATE. Never fails; None for what makes no sense."""
    askers = {By.AGENT.value: By.AGENT, By.CALLER.value: By.CALLER}
    questions = {question.value: question for question in Question}
    who, question = askers.get(data.get("w", "")), questions.get(data.get("q", ""))
    if who is None or question is None:
        return None
    key = data.get("k", "")
    is_sensible = len(key) == 1 and key in "123456789" and (question is Question.OUTCOME or key in (YES, NO))
    if data.get("r") == Ending.KEYED.value:
        return Rated(who, question, key, at_us) if is_sensible else None
    return Rated(who, question, None, at_us)


def latest(told: Sequence[Rated]) -> dict[Question, Rated]:
    """The last word on each question; a key is never taken back by a later silence."""
    found: dict[Question, Rated] = {}
    for one in sorted(told, key=lambda one: one.at_us):
        if one.key is not None or one.question not in found:
            found[one.question] = one
    return found


def outcome_named(key: str | None, who: By, wish: Wish | None) -> str | None:
    """What a key of the question `outcome` means; the key itself where the route knows no such."""
    if key is None:
        return None
    names = wish.outcomes_of(who) if wish is not None else OUTCOMES[who]
    place = int(key) - 1
    return names[place] if place < len(names) else key
