"""The border dictionary: every name that crosses between dialplan and daemon, and how a plan becomes variables.

A test greps `dialplans/` for each name, both ways. The values go through `EXEC MSet`, whose words and commas are parsed
twice, so nothing outside `SAFE_VALUE` may pass; display text is percent-encoded (asterisk.md section 1).
"""

from __future__ import annotations

import re
from urllib.parse import quote

from gateway.core import book, consent, handling, prompts, rating, routing

AGI_SCRIPT = "route"

SAFE_VALUE = re.compile(r"[A-Za-z0-9_.+:/@&%|~-]{0,400}\Z")
"""What a variable's value may hold (the limits of `design.md`)."""

PAYLOAD_BYTES = 600
"""Longest payload of one CEL user event; a row is cut at 1,023 bytes."""

PLAN_VARIABLES = frozenset(
    {
        "DM_OK",
        "DM_SRC",
        "DM_REV",
        "DM_RT",
        "DM_ACT",
        "DM_WAIT",
        "DM_LIMIT",
        "DM_MSG",
        "DM_ANS",
        *("DM_CM", "DM_CG", "DM_CP", "DM_CI", "DM_CV", "DM_CE", "DM_CA", "DM_CT", "DM_CL"),
        *("DM_W", "DM_AC", "DM_AP", "DM_AR", "DM_AS", "DM_AD"),
        *("DM_UN", "DM_UP", "DM_UT", "DM_UI", "DM_UV"),
        *("DM_CB", "DM_SAY", "DM_SAY_OFF", "DM_ON", "DM_NR", "DM_OF", "DM_KEYED", "DM_KP"),
        *("DM_QA", "DM_QO", "DM_QG", "DM_QS", "DM_PO", "DM_PG", "DM_PS", "DM_QE", "DM_QN", "DM_QT", "DM_QM"),
    }
)
STEP_VARIABLES = frozenset({"DM_S", "DM_K", "DM_T", "DM_R", "DM_N", "DM_F", "DM_L"})
"""Prefixes: the step's number (1-8) follows."""

DIALPLAN_VARIABLES = frozenset(
    {
        "DM_ID",
        "DM_DID",
        "DM_CID",
        "DM_TRUNK",
        "DM_CALLER",
        "DM_HEADER",
        "DM_DIALLED",
        "DM_START",
        "DM_I",
        "DM_WORST",
        "DM_RING",
        "DM_NAME",
        "DM_CAUSES",
        "DM_DIGIT",
        "DM_BACK",
        *("DM_OPT", "DM_DONE", "DM_CK", "DM_CR", "DM_EARLY", "DM_RECORD", "DM_PART", "DM_MONITOR"),
        *("DM_SAID", "DM_LEFT", "DM_BEGAN"),
        *("DM_QQ", "DM_QK"),
        *("DM_TICKET", "DM_FROM", "DM_PHONE", "DM_CLICK"),
    }
)
"""Used by the dialplan alone."""

GLOBALS = frozenset(
    {
        "DM_AGI",
        "DM_AGI_OFF_SECONDS",
        "DM_AGI_OFF_UNTIL",
        "DM_UNREACHABLE_SECONDS",
        "DM_TALK_SECONDS",
        "DM_DROPPED_MILLISECONDS",
        "DM_PLAN_REVISION",
        "DM_DEFAULT_DIAL",
        "DM_DEFAULT_MEMBERS",
        "DM_OUT_TRUNK",
        "DM_OUT_CALLERID",
        "DM_SPOOL",
        "DM_MUSIC",
        *("DM_KEY", "DM_DOWN", "DM_BREAK_ON", "DM_BREAK_OFF"),
    }
)

USER_EVENTS = frozenset(
    {"DM_IN", "DM_OUT", "DM_STEP", "DM_MISS", "DM_ACT", "DM_BACK", "DM_CONSENT", "DM_ACCEPT", "DM_PAUSE", "DM_RATE"}
    | {"DM_RESULT", "DM_BREAK"}
)

_RATING_PROMPTS = {
    (rating.By.AGENT, rating.Question.OUTCOME): "DM_QO",
    (rating.By.AGENT, rating.Question.GOAL): "DM_QG",
    (rating.By.AGENT, rating.Question.SOLVED): "DM_QS",
    (rating.By.CALLER, rating.Question.OUTCOME): "DM_PO",
    (rating.By.CALLER, rating.Question.GOAL): "DM_PG",
    (rating.By.CALLER, rating.Question.SOLVED): "DM_PS",
}

_CAUSE_ORDER = (
    book.MissCause.BUSY,
    book.MissCause.REJECTED,
    book.MissCause.NO_ANSWER,
    book.MissCause.UNREACHABLE,
)


class UnsafeValue(ValueError):
    """A value that must not reach the dialplan; the routing file's check refuses such a book, so this is our defect."""


def variables(plan: routing.Plan, route_source: str, shelf: prompts.Shelf = prompts.EMPTY) -> list[tuple[str, str]]:
    """The plan as channel variables in the order of `MSet`, `DM_OK` last.

    `route_source` is `agi` or `plan`; prompts that are not on `shelf` are left out. Raises `UnsafeValue` when a value
    could break out of its place.
    """
    pairs = [
        ("DM_SRC", route_source),
        ("DM_REV", str(plan.revision)),
        ("DM_RT", plan.route or ""),
        ("DM_ACT", plan.action.value),
        ("DM_WAIT", str(plan.longest_wait_seconds)),
    ]
    if plan.concurrency_limit is not None:
        pairs.append(("DM_LIMIT", str(plan.concurrency_limit)))
    message = _message(plan, shelf)
    if message is not None:
        pairs.append(("DM_MSG", message))
        if plan.answer_for_message:
            pairs.append(("DM_ANS", "1"))
    pairs += _services(plan, shelf)
    for number, step in enumerate(plan.steps, start=1):
        pairs += _step_variables(number, step)
    pairs.append(("DM_OK", "1"))
    return [(name, safe(name, value, f" of route {plan.route!r}")) for name, value in pairs]


def _message(plan: routing.Plan, shelf: prompts.Shelf) -> str | None:
    """A sound's name or path as it stands; `@key` and the challenge's own prompt by what is ready."""
    wanted = prompts.named(plan.message, plan.language)
    if plan.message is None and plan.action is routing.Action.BAN_CHALLENGE:
        wanted = prompts.Wanted("ban_challenge", plan.language)
    if wanted is None:
        return plan.message
    ready = shelf.find(wanted)
    return ready.path if ready is not None else None


def _services(plan: routing.Plan, shelf: prompts.Shelf) -> list[tuple[str, str]]:
    """Consent, whisper, acceptance and what happens when nobody answers; nothing for a plan with none of them."""
    pairs: list[tuple[str, str]] = []
    if plan.consent.mode is not book.RecordingMode.OFF:
        pairs += _consent(plan, shelf)
    whispered = shelf.first(plan.whisper)
    if whispered is not None:
        pairs.append(("DM_W", whispered.path))
    if plan.acceptance is not None:
        pairs.append(("DM_AC", "".join("1" if asks else "0" for asks in plan.acceptance.steps)))
        pairs += _played("DM_AP", "accept", plan, shelf)
        pairs += [("DM_AR", str(plan.acceptance.repeats)), ("DM_AS", str(plan.acceptance.seconds))]
        if plan.acceptance.detects_machine:
            pairs.append(("DM_AD", "1"))
    if plan.unanswered in handling.UNANSWERED_PROMPTS:
        pairs.append(("DM_UN", plan.unanswered.value))
        for name, key in zip(("DM_UP", "DM_UT"), handling.UNANSWERED_PROMPTS[plan.unanswered], strict=False):
            pairs += _played(name, key, plan, shelf)
        if plan.unanswered is book.Unanswered.VOICEMAIL:
            pairs += _notice(plan, shelf)
    if plan.rating is not None:
        pairs += _rating(plan.rating, plan, shelf)
    if pairs:
        pairs.append(("DM_CL", plan.language))
    return pairs


def _rating(asked: routing.Rating, plan: routing.Plan, shelf: prompts.Shelf) -> list[tuple[str, str]]:
    """A question without a prompt is not asked; without any prompt nobody is asked."""
    pairs = []
    for who, question, wanted in asked.wanted(plan.language):
        if (ready := shelf.find(wanted)) is not None:
            pairs.append((_RATING_PROMPTS[who, question], ready.path))
    if not pairs:
        return []
    wish = asked.wish
    pairs += _played("DM_QE", rating.THANKS, plan, shelf)
    pairs.append(("DM_QA", "".join("1" if may_be else "0" for may_be in asked.steps)))
    keys = "-".join(str(len(wish.outcomes_of(who))) for who in (rating.By.AGENT, rating.By.CALLER))
    return [*pairs, ("DM_QN", keys), ("DM_QT", str(wish.key_seconds)), ("DM_QM", str(wish.min_talk_seconds))]


def _consent(plan: routing.Plan, shelf: prompts.Shelf) -> list[tuple[str, str]]:
    pairs = consent_variables(plan.consent, plan.language, shelf)
    if plan.consent.prompt_key is not None and plan.early_media:
        pairs.append(("DM_CE", "1"))
    if plan.tell_agent:
        pairs += _played("DM_CT", "agent_told", plan, shelf)
    return pairs


def consent_variables(asked: consent.Decision, language: str, shelf: prompts.Shelf) -> list[tuple[str, str]]:
    """Mode, region and prompt of the question; nothing where nothing is recorded."""
    if asked.mode is book.RecordingMode.OFF:
        return []
    pairs = [("DM_CM", asked.mode.value)]
    if asked.region is not None:
        pairs.append(("DM_CG", asked.region))
    if asked.prompt_key is not None:
        ready = shelf.find(prompts.Wanted(asked.prompt_key, language))
        if ready is not None:
            pairs += [("DM_CP", ready.path), ("DM_CI", ready.prompt_id), ("DM_CV", ready.version)]
        if asked.recorded_announcement:
            pairs.append(("DM_CA", "1"))
    return pairs


def _notice(plan: routing.Plan, shelf: prompts.Shelf) -> list[tuple[str, str]]:
    """Which prompt told the caller that a message is kept, for its receipt."""
    ready = shelf.find(prompts.Wanted(handling.UNANSWERED_PROMPTS[plan.unanswered][0], plan.language))
    return [("DM_UI", ready.prompt_id), ("DM_UV", ready.version)] if ready is not None else []


def _played(name: str, key: str, plan: routing.Plan, shelf: prompts.Shelf) -> list[tuple[str, str]]:
    ready = shelf.find(prompts.Wanted(key, plan.language))
    return [(name, ready.path)] if ready is not None else []


def safe(name: str, value: str, place: str = "") -> str:
    """`value` itself, which may stand in the dialplan. Raises `UnsafeValue` for one that must not."""
    if not SAFE_VALUE.match(value):
        raise UnsafeValue(f"{name}{place} may not hold {value!r}")
    return value


def members(step: routing.Step) -> str:
    """The step's destinations for the journal, `key:peer` joined by `|`, in dial order."""
    return "|".join(f"{destination.key}:{destination.peer}" for destination in step.destinations)


def dial_string(step: routing.Step) -> str:
    """First argument of `Dial`: the destinations rung together."""
    return "&".join(destination.dial_string for destination in step.destinations)


def _step_variables(number: int, step: routing.Step) -> list[tuple[str, str]]:
    pairs = [
        (f"DM_S{number}", dial_string(step)),
        (f"DM_K{number}", members(step)),
        (f"DM_T{number}", str(step.ring_seconds)),
        (f"DM_R{number}", "f" if step.kind is book.StepKind.FORWARD else "r"),
    ]
    if step.next_after is not None:
        following = "".join(str(step.next_after.get(cause, number + 1)) for cause in _CAUSE_ORDER)
        pairs.append((f"DM_N{number}", following))
    if step.caller_number:
        pairs.append((f"DM_F{number}", step.caller_number))
    if step.caller_label:
        pairs.append((f"DM_L{number}", quote(step.caller_label, safe="")))
    return pairs
