"""Why a call was missed: one class for the reports, and the evidence for it (R21, R22, N7).

Works on the call record. SIP codes: RFC 3261 section 21; causes: ITU-T Q.850.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.core import numbers


class Cause(StrEnum):
    """The class."""

    AGENTS_BUSY = "agents_busy"
    NOBODY_ANSWERED = "nobody_answered"
    CALLER_GAVE_UP = "caller_gave_up"
    SYSTEM = "system"
    """Ours or the carrier's fault: IT is told."""
    NUMBER = "number"
    """The number is shown wrongly, or is none that we know."""


SHORT_SECONDS = 5.0
"""Who gives up within so many seconds of ringing is a short abandon."""
SPIKE_SECONDS = 3_600
SPIKE_CALLS = 5
"""So many short abandons of one number within the span, and most of its calls: it is shown where it should not be."""

FAULT_SIP = frozenset({401, 407, 415, 488, 500, 501, 502, 503, 504, 505, 513, 580})
"""The far side, the carrier or we are out of order."""
FAULT_Q850 = frozenset({34, 38, 41, 42, 43, 44, 47, 58, 65, 79, 88, 95, 96, 97, 98, 99, 100, 101, 102, 111})
"""Congestion, network out of order, facility and protocol errors."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known beside the record: of the number called, at the time of the call."""

    is_known: bool = True
    """It stands in the routing book."""
    short_abandons: int = 0
    """Within the last hour, this call included."""
    calls: int = 0
    tag_check: str | None = None
    """What the last check of the web tags found wrong with the number; None = nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The class, one word why, and what shows it."""

    cause: Cause
    why: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


def is_short_abandon(record: Mapping[str, Any]) -> bool:
    """Whether the caller gave up within five seconds of ringing."""
    return record["outcome"] == "abandoned" and float(record["ring_seconds"] or 0.0) <= SHORT_SECONDS


def is_anonymous(record: Mapping[str, Any]) -> bool:
    """Whether there is no number to call back."""
    number = record["caller"]["number"]
    return not isinstance(number, str) or not numbers.is_e164(number)


def verdict(record: Mapping[str, Any], signs: Signs) -> Verdict:
    """The class of a missed call."""
    cause, why = _class(record, signs)
    evidence = {
        "why": why,
        "outcome": record["outcome"],
        "cause": record["cause"],
        "wait_seconds": record["wait_seconds"],
        "attempts": [
            {name: one[name] for name in ("destination", "agent", "outcome", "ring_seconds", "sip_code", "q850_cause")}
            for one in record["attempts"]
        ],
    }
    if why == "short_abandon_spike":
        evidence |= {"short_abandons": signs.short_abandons, "calls": signs.calls}
    if why == "tag_check":
        evidence["tag_check"] = signs.tag_check
    return Verdict(cause, why, evidence)


def _class(record: Mapping[str, Any], signs: Signs) -> tuple[Cause, str]:
    outcome, attempts = record["outcome"], record["attempts"]
    if record["cause"] == "callback":
        return _of_outcome(outcome, attempts)[0], "callback_wanted"
    if not signs.is_known or record["cause"] == "no_route":
        return Cause.NUMBER, "unknown_number"
    if is_short_abandon(record):
        if signs.tag_check is not None:
            return Cause.NUMBER, "tag_check"
        if signs.short_abandons >= SPIKE_CALLS and 2 * signs.short_abandons > signs.calls:
            return Cause.NUMBER, "short_abandon_spike"
        return Cause.CALLER_GAVE_UP, "short_abandon"
    if record["cause"] == "limit":
        return Cause.AGENTS_BUSY, "limit"
    return _of_outcome(outcome, attempts)


def _of_outcome(outcome: str, attempts: Sequence[Mapping[str, Any]]) -> tuple[Cause, str]:
    match outcome:
        case "busy":
            return Cause.AGENTS_BUSY, "busy"
        case "abandoned":
            return Cause.CALLER_GAVE_UP, "gave_up"
        case "failed" | "lost":
            return Cause.SYSTEM, outcome
        case "unreachable":
            if is_fault(attempts):
                return Cause.SYSTEM, "fault"
            return Cause.NOBODY_ANSWERED, "unreachable"
    return Cause.NOBODY_ANSWERED, outcome


def is_fault(attempts: Sequence[Mapping[str, Any]]) -> bool:
    """Whether nobody could be rung because something was out of order, not because phones were off."""
    tried = [one for one in attempts if one["outcome"] in ("unreachable", "failed")]
    return bool(tried) and all(_is_fault(one) for one in tried)


def _is_fault(attempt: Mapping[str, Any]) -> bool:
    if attempt["outcome"] == "failed":
        return True
    if attempt["sip_code"] is not None:
        return attempt["sip_code"] in FAULT_SIP
    return attempt["q850_cause"] in FAULT_Q850


COUNTED = ("busy", "rejected", "no_answer", "unreachable", "voicemail")


def is_attempt(record: Mapping[str, Any]) -> bool:
    """Whether an outbound call that nobody answered was an honest attempt to reach somebody: it rang there, or their
    phone was off or busy. A fault of ours is none, nor a call that was hung up at once."""
    if record["outcome"] == "abandoned":
        return float(record["ring_seconds"] or 0.0) > SHORT_SECONDS
    return record["outcome"] in COUNTED and not is_fault(record["attempts"])
