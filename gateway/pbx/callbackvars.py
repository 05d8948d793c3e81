"""What the agents' codes are answered, as channel variables; names and values by `dialvars`."""

from __future__ import annotations

from gateway.core import callingback, prompts
from gateway.pbx import dialvars

CALLBACK_SCRIPT, BREAK_SCRIPT = "callback", "break"
"""Names under which the dialplan asks (`agi://…/callback`)."""

Pairs = list[tuple[str, str]]


def told(refusal: callingback.Refusal, language: str, shelf: prompts.Shelf) -> Pairs:
    """The agent hears why nobody is called."""
    pairs = [("DM_CB", "told"), *_said("DM_SAY", f"callback_{refusal.value}", language, shelf)]
    return _safe([*pairs, ("DM_OK", "1")])


def calls(
    plan: callingback.Plan, revision: int, shelf: prompts.Shelf, *, whisper: prompts.Ready | None, keyed: bool
) -> Pairs:
    """The customer is called, shown `plan.shown`."""
    pairs = [
        ("DM_CB", "go"),
        ("DM_SRC", "agi"),
        ("DM_REV", str(revision)),
        ("DM_RT", plan.route or ""),
        ("DM_NR", plan.number.lstrip("+")),
        ("DM_OF", plan.call_id or ""),
        ("DM_OUT_TRUNK", plan.trunk),
        ("DM_OUT_CALLERID", (plan.shown or "").lstrip("+")),
        ("DM_T1", str(callingback.RING_SECONDS)),
        ("DM_CL", plan.language),
        *dialvars.consent_variables(plan.consent, plan.language, shelf),
    ]
    if whisper is not None:
        pairs.append(("DM_W", whisper.path))
    if keyed:
        pairs += [("DM_KEYED", "1"), *_said("DM_KP", "callback_result", plan.language, shelf)]
    return _safe([*pairs, ("DM_OK", "1")])


def switch(*, is_on: bool, language: str, shelf: prompts.Shelf) -> Pairs:
    """How the agent's switch stands now; the dialplan turns it."""
    pairs = [("DM_CB", "go"), ("DM_ON", "1" if is_on else "0"), ("DM_CL", language)]
    pairs += _said("DM_SAY", "break_on", language, shelf) + _said("DM_SAY_OFF", "break_off", language, shelf)
    return _safe([*pairs, ("DM_OK", "1")])


def globals_of(language: str, shelf: prompts.Shelf) -> dict[str, str]:
    """For the generated plan: what is said while the daemon does not answer."""
    names = {"DM_DOWN": "callback_down", "DM_BREAK_ON": "break_on", "DM_BREAK_OFF": "break_off"}
    return {name: dict(_said(name, key, language, shelf)).get(name, "") for name, key in names.items()}


def _said(name: str, key: str, language: str, shelf: prompts.Shelf) -> Pairs:
    ready = shelf.find(prompts.Wanted(key, language))
    return [(name, ready.path)] if ready is not None else []


def _safe(pairs: Pairs) -> Pairs:
    return [(name, dialvars.safe(name, value, " of a call-back")) for name, value in pairs]
