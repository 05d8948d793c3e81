"""The question about one call and its whole answer, as values; `gateway.core.routing` decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from gateway.core import book, consent, prompts, rating, whisper


class Action(StrEnum):
    """What the dialplan does with the call; values of `DM_ACT`."""

    DIAL = "dial"
    PREPARE = "prep"
    """Ring, but check the concurrency limit or set the caller ID first."""
    FULL = "full"
    """Ring like `prep`, with any of: consent and recording, whisper, acceptance, an unanswered behaviour."""
    AFTER_HOURS = "after_hours"
    NO_ROUTE = "no_route"
    BAN_BUSY = "ban_busy"
    BAN_REFUSE = "ban_refuse"
    BAN_MESSAGE = "ban_message"
    BAN_CHALLENGE = "ban_challenge"


@dataclass(frozen=True, slots=True)
class Question:
    """One call that asks for its way. `did` and `caller` are E.164 digits without `+`; `caller` is "" if unknown."""

    call_id: str
    did: str
    caller: str
    at: datetime
    trunk: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What is known of the caller and of the destinations when the call comes; the defaults are an unknown caller."""

    calls_before: int | None = None
    """None: not looked up, or too late; such a caller counts as first-time."""
    last_agent: str | None = None
    last_agent_at: datetime | None = None
    turns: Mapping[str, int] = field(default_factory=dict)
    """How many calls each route has had: round robin and weights count on it."""
    idle_since: Mapping[str, datetime] = field(default_factory=dict)
    """When each destination last ended a talk."""
    on_break: frozenset[str] = frozenset()
    """Keys of the agents who are: their lines do not ring."""
    caller_country: str | None = None
    caller_region: str | None = None
    consent_region: consent.CallerRegion | None = None
    """Where the caller's number is from, as the law of recording counts it."""
    city: str = ""
    """For the whisper, in its language."""
    visitor: whisper.Visitor | None = None
    """Who held the pool number."""


@dataclass(frozen=True, slots=True)
class Step:
    """Destinations that ring together, for at most `ring_seconds`; `next_after` gives the number (1-8) of the step
    after each cause, 0 to end; None = the following one."""

    kind: book.StepKind
    destinations: tuple[book.Destination, ...]
    ring_seconds: int
    next_after: Mapping[book.MissCause, int] | None = None
    caller_number: str | None = None
    """Digits shown instead of the caller's."""
    caller_label: str | None = None
    """Put before the caller's name."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Only who presses 1 is connected (R91, design.md). `steps`: for each step, whether its members must."""

    steps: tuple[bool, ...]
    repeats: int
    """How often the prompt is played again after no key."""
    seconds: int
    """To wait for the key after each prompt."""
    detects_machine: bool = False
    """Asterisk listens for an answering machine before the prompt (AMD)."""


@dataclass(frozen=True, slots=True)
class Rating:
    """Who is asked by keys how the call was, when it is over (R73). `steps`: for each step, whether who answers there
    may be asked; behind a `local:` destination nobody may: a queue would ring its agents for a caller who is gone."""

    wish: rating.Wish
    steps: tuple[bool, ...]

    def wanted(self, language: str) -> tuple[tuple[rating.By, rating.Question, prompts.Wanted], ...]:
        """The prompt of each question to each who may be asked."""
        return tuple(
            (who, question, prompts.Wanted(rating.PROMPT_KEYS[who][question], language))
            for who in self.wish.asked
            for question in self.wish.questions
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole answer. `why` says in plain words, one line per rule that spoke, how it came about (N12)."""

    revision: int
    route: str | None
    action: Action
    steps: tuple[Step, ...] = ()
    longest_wait_seconds: int = 120
    concurrency_limit: int | None = None
    message: str | None = None
    answer_for_message: bool = False
    why: tuple[str, ...] = ()
    consent: consent.Decision = consent.OFF
    early_media: bool = False
    """The announcement may be played before answer: the trunk says it carries it, and the mode asks for no key."""
    language: str = prompts.FALLBACK_LANGUAGE
    tell_agent: bool = False
    whisper: tuple[prompts.Wanted, ...] = ()
    """Best first; the first that is ready is played."""
    acceptance: Acceptance | None = None
    unanswered: book.Unanswered = book.Unanswered.MESSAGE
    rating: Rating | None = None


def unrecorded(plan: Plan, reason: str) -> Plan:
    """The same call while nothing can be recorded: nobody is asked for consent or for a message. `why` says `reason`.

    Gives `plan` itself when it wants nothing recorded anyway.
    """
    takes_message = plan.unanswered is book.Unanswered.VOICEMAIL
    if plan.consent.mode is book.RecordingMode.OFF and not takes_message:
        return plan
    return replace(
        plan,
        consent=consent.OFF,
        early_media=False,
        tell_agent=False,
        unanswered=book.Unanswered.MESSAGE if takes_message else plan.unanswered,
        why=(*plan.why, f"nothing is recorded, and no message taken: {reason}"),
    )


@dataclass(frozen=True, slots=True)
class DefaultPlan:
    """What the dialplan does by itself when the daemon does not answer: the plans of an unknown first-time caller.

    `closed` and `hours` are None for a number without business hours.
    """

    open: Plan
    closed: Plan | None = None
    hours: book.BusinessHours | None = None


@dataclass(frozen=True, slots=True)
class LookUps:
    """Which fields of `History` the decision for a number would read; the others need not be fetched."""

    calls_before: bool = False
    last_agent: bool = False
    turns: bool = False
    idle_since: bool = False
    region: bool = False
    """`caller_region`, by `numbers.region_of`; the country, when not given, `decide` takes from the number."""
    consent_region: bool = False
    """`consent_region`, by `consent.caller_region`."""
    city: str | None = None
    """Language in which `city` is wanted, None = it is not."""
    visitor: bool = False
    """Who holds the pool number, for the whisper."""
