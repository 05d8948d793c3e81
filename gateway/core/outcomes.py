"""What SIP and Q.850 codes mean to a caller: the cause tables, and how attempts name a missed call (C5, N7).

Sources: the outcome table of asterisk.md section 2 (tried on Asterisk 22.10.1, one leg per line), RFC 3261 section 21
for the SIP codes, ITU-T Q.850 for the causes. A table is data: change a line, not the code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum


class Outcome(StrEnum):
    """How a call ended, `design.md` "The call record"."""

    ANSWERED = "answered"
    BUSY = "busy"
    REJECTED = "rejected"
    NO_ANSWER = "no_answer"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    ABANDONED = "abandoned"
    VOICEMAIL = "voicemail"
    AFTER_HOURS = "after_hours"
    BANNED = "banned"
    LOST = "lost"

    @property
    def is_missed(self) -> bool:
        """A caller we wanted and did not get to a person."""
        return self not in (Outcome.ANSWERED, Outcome.BANNED)


class AttemptOutcome(StrEnum):
    """How one destination's ringing ended."""

    ANSWERED = "answered"
    BUSY = "busy"
    REJECTED = "rejected"
    NO_ANSWER = "no_answer"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    ABANDONED = "abandoned"
    """The caller gave up while it rang."""
    NOT_ACCEPTED = "not_accepted"
    """The agent was gone before talking."""
    CANCELLED = "cancelled"
    """Another member answered."""
    LOST = "lost"


ANSWERED_ELSEWHERE = 26
"""Cause of a leg that Dial took back because another answered."""

SIP_OUTCOMES: Mapping[int, AttemptOutcome] = {
    180: AttemptOutcome.NO_ANSWER,
    181: AttemptOutcome.NO_ANSWER,
    182: AttemptOutcome.NO_ANSWER,
    183: AttemptOutcome.NO_ANSWER,  # early media only: an announcement, voicemail or a busy tone
    302: AttemptOutcome.BUSY,  # not followed; Dial calls it BUSY
    401: AttemptOutcome.FAILED,  # our credentials
    402: AttemptOutcome.UNREACHABLE,
    403: AttemptOutcome.REJECTED,
    404: AttemptOutcome.UNREACHABLE,
    407: AttemptOutcome.FAILED,
    408: AttemptOutcome.UNREACHABLE,
    410: AttemptOutcome.UNREACHABLE,
    415: AttemptOutcome.FAILED,  # no codec in common
    480: AttemptOutcome.UNREACHABLE,  # phone off; after ringing it is no answer
    486: AttemptOutcome.BUSY,
    487: AttemptOutcome.NO_ANSWER,
    488: AttemptOutcome.FAILED,
    600: AttemptOutcome.BUSY,
    603: AttemptOutcome.REJECTED,
    604: AttemptOutcome.UNREACHABLE,
    606: AttemptOutcome.FAILED,
    607: AttemptOutcome.REJECTED,
    608: AttemptOutcome.REJECTED,
}
"""By the last SIP code of the leg. Others: `of_sip_code`."""

Q850_OUTCOMES: Mapping[int, AttemptOutcome] = {
    16: AttemptOutcome.NO_ANSWER,
    17: AttemptOutcome.BUSY,
    18: AttemptOutcome.UNREACHABLE,
    19: AttemptOutcome.UNREACHABLE,  # Asterisk's name for 480; after ringing it is no answer
    21: AttemptOutcome.REJECTED,
    23: AttemptOutcome.BUSY,  # 302
    58: AttemptOutcome.FAILED,
    65: AttemptOutcome.FAILED,
    88: AttemptOutcome.FAILED,
}
"""By the cause with which the far side ended the leg; the rest (1, 3, 20, 27, 34, 38, ...) is unreachable."""

DIAL_OUTCOMES: Mapping[str, AttemptOutcome] = {
    "BUSY": AttemptOutcome.BUSY,
    "CHANUNAVAIL": AttemptOutcome.UNREACHABLE,
    "CONGESTION": AttemptOutcome.UNREACHABLE,
    "NOANSWER": AttemptOutcome.NO_ANSWER,
    "ANSWER": AttemptOutcome.NOT_ACCEPTED,
}
"""By DIALSTATUS, for a leg of which nothing else is known and which rang alone."""

MOST_HUMAN: tuple[tuple[Outcome, frozenset[AttemptOutcome]], ...] = (
    (Outcome.BUSY, frozenset({AttemptOutcome.BUSY})),
    (Outcome.REJECTED, frozenset({AttemptOutcome.REJECTED})),
    (
        Outcome.NO_ANSWER,
        frozenset({AttemptOutcome.NO_ANSWER, AttemptOutcome.NOT_ACCEPTED, AttemptOutcome.ABANDONED}),
    ),
    (Outcome.UNREACHABLE, frozenset({AttemptOutcome.UNREACHABLE})),
)
"""A miss is named by the first of these that any attempt had (`design.md`)."""

ACTION_OUTCOMES: Mapping[str, Outcome] = {
    "busy": Outcome.BUSY,
    "refuse": Outcome.REJECTED,
    "message": Outcome.NO_ANSWER,
    "challenge": Outcome.BANNED,
    "after_hours": Outcome.AFTER_HOURS,
    "no_route": Outcome.FAILED,
    "limit": Outcome.BUSY,
    "ban_busy": Outcome.BANNED,
    "ban_refuse": Outcome.BANNED,
    "ban_message": Outcome.BANNED,
    "ban_challenge": Outcome.BANNED,
}
"""By the action the dialplan took instead of ringing anybody (DM_ACT)."""


def of_sip_code(code: int, *, rang: bool) -> AttemptOutcome:
    """Outcome of a leg whose last SIP answer was `code`; `rang` if it is known to have rung before."""
    if code == 480 and rang:
        return AttemptOutcome.NO_ANSWER
    known = SIP_OUTCOMES.get(code)
    if known is not None:
        return known
    return AttemptOutcome.REJECTED if code >= 600 else AttemptOutcome.UNREACHABLE


def of_q850_cause(cause: int, *, rang: bool) -> AttemptOutcome:
    """Outcome of a leg that its far side ended with Q.850 `cause` before answering."""
    if cause == 19 and rang:
        return AttemptOutcome.NO_ANSWER
    return Q850_OUTCOMES.get(cause, AttemptOutcome.UNREACHABLE)


def of_miss(attempts: Iterable[AttemptOutcome | None]) -> Outcome:
    """The name of a call that nobody took: the most human cause among its attempts, else failed."""
    seen = set(attempts)
    for outcome, causes in MOST_HUMAN:
        if seen & causes:
            return outcome
    return Outcome.FAILED
