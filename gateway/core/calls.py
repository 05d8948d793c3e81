"""From journal rows to the facts of one call: `fold` over the rows that `grouping` put together.

`fold` is pure and commutative: rows may come in any order, doubled, or cut at either end, and never make it fail. What
a row means is written in docs/call-record.md.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.core import attempts as attempts_
from gateway.core import callingback, consent, outcomes, rating, story, talks
from gateway.core.attempts import Attempt
from gateway.core.consent import Given
from gateway.core.outcomes import AttemptOutcome, Outcome
from gateway.core.rows import EventKind, Row, in_order

__all__ = [
    "Attempt",
    "AttemptOutcome",
    "CallFacts",
    "Closing",
    "Direction",
    "EndedBy",
    "EventKind",
    "Outcome",
    "Row",
    "fold",
]

CALL_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")

CALLS_WITHOUT_ID = uuid.UUID("6f0c1d5e-2f0b-5a64-9b53-8f6f3d0c7a11")
"""Namespace of the ids of calls whose channel was gone before the dialplan could give them one."""

CALLBACK = "callback"
"""Cause of a missed call whose caller pressed 1 to be called back."""

_SECOND = 1_000_000
_CALLED_BACK = frozenset(Outcome) - {Outcome.ANSWERED, Outcome.VOICEMAIL, Outcome.BANNED}


class Direction(StrEnum):
    """Seen from the business: a call to a tracking number, or one of its people's to the outside (R56, R84)."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class EndedBy(StrEnum):
    """Who hung up; `system` is the dialplan or an operator, `crash` an Asterisk that was gone."""

    CALLER = "caller"
    AGENT = "agent"
    SYSTEM = "system"
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class Closing:
    """The end of a call whose channel is gone and never wrote one (Asterisk killed). `at_us` is when it was last known
    to be alive; the call ends then, or with its last row if that is later."""

    at_us: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What the journal proves of one call, before the book is asked who and which source that is."""

    call_id: str
    direction: Direction
    linked_id: str
    unique_id: str
    sip_call_id: str | None
    trunk: str | None
    did: str
    """E.164 digits dialled: the tracking number; for outbound the number called. "" when the journal lost it."""
    caller: str
    """E.164 digits, "" when unknown or anonymous; for outbound the extension."""
    caller_raw: str
    caller_name: str
    started_at_us: int
    answered_at_us: int | None
    """First bridge with a person's channel."""
    ended_at_us: int | None
    last_row_at_us: int
    is_closed: bool
    """The inbound channel and every started attempt ended (or the call was closed after a crash)."""
    outcome: Outcome | None
    """None while open and unanswered; `answered` as soon as a person's bridge was seen."""
    cause: str | None
    """no_route, limit, callback, or the ban action: why, where the outcome alone does not tell."""
    ended_by: EndedBy | None
    route_source: str | None
    """agi | plan | default"""
    route: str | None
    plan_revision: int | None
    agi_status: str | None
    wait_seconds: float
    """Start to the first person, or to the end; so far, while open."""
    talk_seconds: float
    """With at least one person, holds included; to the last row, while open."""
    hold_seconds: float
    """After the first person answered: hold music to the caller, or nobody in the bridge before the next person."""
    post_dial_delay_seconds: float | None
    """Start to the first destination's channel."""
    prompt_seconds: float
    """Files played on the caller's channel before a person answered."""
    silent_seconds: float
    """Before a person answered: neither ringing (from the first step on) nor a prompt."""
    plan_at_us: int | None
    """When the plan was taken (first DM_STEP or DM_ACT)."""
    attempts: tuple[Attempt, ...]
    consent: Given | None = None
    """What DM_CONSENT tells; None = recording was off for this call, or nobody got that far."""
    message_consent: Given | None = None
    """The notice before a message, DM_CONSENT with w=message; None = nobody was invited to leave one."""
    pauses: tuple[tuple[int, int | None], ...] = ()
    """When the agent's key paused the recording, and when it went on; None = not before the end."""
    rated: tuple[rating.Rated, ...] = ()
    """What who was still there said of the call by keys when it was over, in order."""
    phone: str = ""
    """Of an outbound call: the endpoint that made it."""
    callback: callingback.CallBack | None = None
    """Of an outbound call that returns a missed one."""


def fold(rows: Iterable[Row], *, closed: Closing | None = None) -> CallFacts | None:
    """The facts of the call that `rows` (one group, any order, doubles allowed) tell.

    None while there is no call yet: no row of ours, or a channel that has neither got its call id nor ended.
    """
    ordered = in_order(rows)
    if not ordered:
        return None
    tale = story.read(ordered)
    if tale is None:
        return None
    call_id = _call_id(tale, closed)
    if call_id is None:
        return None
    end_us = tale.inbound_ended_at_us
    crashed = closed is not None and end_us is None
    if crashed and closed is not None:
        end_us = max(closed.at_us, tale.last_row_at_us)
    until_us = end_us if end_us is not None else tale.last_row_at_us
    spans = attempts_.accepted_spans(tale, talks.spans(tale.bridge_rows, tale.caller_names))
    ended_by = _ended_by(tale, spans, end_us, crashed=crashed)
    by_caller = ended_by is EndedBy.CALLER
    made = attempts_.attempts(
        tale, spans, attempts_.End(end_us, until_us, by_caller=by_caller, crashed=crashed, is_closed=closed is not None)
    )
    answered_us = spans[0].start_us if spans else None
    outcome, cause = _outcome(tale, made, answered_us, end_us, by_caller=by_caller, crashed=crashed)
    if tale.wants_callback and outcome in _CALLED_BACK:
        cause = CALLBACK
    talk = talks.merged((span.start_us, until_us if span.end_us is None else span.end_us) for span in spans)
    waited_until = until_us if answered_us is None else answered_us
    first_leg = tale.first_leg_at_us
    entry = tale.entry
    plan = tale.plan
    return CallFacts(
        call_id=call_id,
        direction=Direction.OUTBOUND if tale.is_outbound else Direction.INBOUND,
        linked_id=tale.linked_id,
        unique_id=tale.unique_id,
        sip_call_id=entry.get("sip") or None,
        trunk=entry.get("tr") or tale.trunk_of_context,
        did=entry.get("to" if tale.is_outbound else "did", ""),
        caller=entry.get("ext" if tale.is_outbound else "cid", ""),
        caller_raw=entry.get("raw", ""),
        caller_name=entry.get("name", ""),
        started_at_us=tale.started_at_us,
        answered_at_us=answered_us,
        ended_at_us=end_us,
        last_row_at_us=tale.last_row_at_us,
        is_closed=closed is not None or (end_us is not None and tale.all_channels_ended),
        outcome=outcome,
        cause=cause,
        ended_by=ended_by,
        route_source=plan.get("src") or None,
        route=plan.get("rt") or None,
        plan_revision=int(plan["rev"]) if plan.get("rev", "").isdecimal() else None,
        agi_status=plan.get("agi") or None,
        wait_seconds=_seconds(waited_until - tale.started_at_us),
        talk_seconds=_seconds(sum(end - start for start, end in talk)),
        hold_seconds=_seconds(_hold_us(tale, talk, until_us)) if talk else 0.0,
        post_dial_delay_seconds=None if first_leg is None else _seconds(first_leg - tale.started_at_us),
        prompt_seconds=_seconds(talks.within(tale.prompts(until_us), tale.started_at_us, waited_until)),
        silent_seconds=_seconds(_silent_us(tale, waited_until)),
        plan_at_us=tale.plan_at_us,
        attempts=made,
        consent=None if tale.consent_at_us is None else consent.given(tale.consent, tale.consent_at_us),
        message_consent=(
            None
            if tale.message_consent_at_us is None
            else consent.given(tale.message_consent, tale.message_consent_at_us)
        ),
        pauses=tale.pauses,
        rated=tale.rated,
        phone=story.peer_of(tale.inbound_name) if tale.is_outbound else "",
        callback=callingback.told(entry, tale.result_key) if tale.is_outbound else None,
    )


def _seconds(microseconds: int) -> float:
    return round(max(0, microseconds) / _SECOND, 3)


def _call_id(tale: story.Story, closed: Closing | None) -> str | None:
    """The dialplan's id; for a channel that ended before it had one, an id that every reading makes the same."""
    if CALL_ID.match(tale.given_id):
        return tale.given_id
    if tale.inbound_ended_at_us is None and closed is None:
        return None
    return str(uuid.uuid5(CALLS_WITHOUT_ID, tale.unique_id))


def _outcome(
    tale: story.Story,
    made: Sequence[Attempt],
    answered_us: int | None,
    end_us: int | None,
    *,
    by_caller: bool,
    crashed: bool,
) -> tuple[Outcome | None, str | None]:
    if answered_us is not None:
        return Outcome.ANSWERED, None
    if tale.message_seconds:
        return Outcome.VOICEMAIL, None
    action = outcomes.ACTION_OUTCOMES.get(tale.action)
    if action is not None and not tale.steps:
        return action, tale.action if action is not Outcome.AFTER_HOURS else None
    if end_us is None:
        return None, None
    if crashed:
        return Outcome.LOST, None
    if by_caller and not tale.is_exhausted:
        return Outcome.ABANDONED, None
    if made and made[-1].outcome is AttemptOutcome.LOST:
        return Outcome.LOST, None
    return outcomes.of_miss(attempt.outcome for attempt in made), None


def _ended_by(tale: story.Story, spans: Sequence[talks.Span], end_us: int | None, *, crashed: bool) -> EndedBy | None:
    """Who hung up. The source on the caller's channel sticks: an agent who was gone in an earlier step stays in it, and
    behind a Local channel it only says that our dialplan went on. So the last person's channel is asked first."""
    if end_us is None:
        return None
    if crashed:
        return EndedBy.CRASH
    if spans:
        person = spans[-1].person
        for source in (tale.source_of(person), tale.inbound_source):
            if source in tale.caller_names:
                return EndedBy.CALLER
            if source == person:
                return EndedBy.AGENT
        return EndedBy.SYSTEM
    if tale.inbound_source in tale.caller_names:
        return EndedBy.CALLER
    is_dialling = bool(tale.steps) and tale.steps[-1].miss is None and not tale.is_exhausted
    return EndedBy.CALLER if is_dialling and tale.inbound_source in tale.by_name else EndedBy.SYSTEM


def _hold_us(tale: story.Story, talk: Sequence[tuple[int, int]], until_us: int) -> int:
    gaps = [(before[1], after[0]) for before, after in itertools.pairwise(talk)]
    return talks.within([*tale.music(until_us), *gaps], talk[0][0], until_us)


def _silent_us(tale: story.Story, waited_until: int) -> int:
    return waited_until - tale.started_at_us - talks.within(tale.heard(waited_until), tale.started_at_us, waited_until)
