"""Which destinations were rung, and how each ringing ended: members matched to channels, causes to outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.core import outcomes, story, talks
from gateway.core.outcomes import AttemptOutcome

DROPPED_US = 1_000_000
"""With DM_MISS st=ANSWER a shorter talk was none: the dialplan goes on after 0.5 s (DM_DROPPED_MILLISECONDS)."""

CODES_CUT = 420
"""The dialplan cuts the list of SIP codes of a step to so many characters."""

_SECOND = 1_000_000
_NO_SPANS: Sequence[talks.Span] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One destination rung once. Times are microseconds since the epoch; None = it did not come to that."""

    step: int
    destination: str
    kind: str
    """forward | reserve"""
    outcome: AttemptOutcome | None
    """None while it rings."""
    started_at_us: int
    answered_at_us: int | None
    """First bridge of the caller with a person of this destination."""
    ended_at_us: int | None
    ring_seconds: float
    talk_seconds: float
    sip_code: int | None
    q850_cause: int | None
    answered_by: str | None
    """Peer name (endpoint) of the person's channel, e.g. `desk-1`; behind a queue the agent's, not the queue's."""
    channel: str | None
    whisper_played: bool = False
    accepted: bool | None = None
    machine: bool | None = None
    """True: answering machine detection took it for one (an inference); None otherwise."""


@dataclass(frozen=True, slots=True)
class End:
    """How the whole call stands: `at_us` None while the caller's channel is up, `until_us` as far as is known."""

    at_us: int | None
    until_us: int
    by_caller: bool
    crashed: bool
    is_closed: bool


def accepted_spans(tale: story.Story, spans: list[talks.Span]) -> list[talks.Span]:
    """`spans` without those of agents who were gone before they talked: the step went on (DM_MISS st=ANSWER)."""
    for step in tale.steps:
        if step.miss is None or step.miss.get("st") != "ANSWER" or step.miss_at_us is None:
            continue
        here = [span for span in spans if step.at_us <= span.start_us <= step.miss_at_us]
        if sum((span.end_us or step.miss_at_us) - span.start_us for span in here) < DROPPED_US:
            spans = [span for span in spans if span not in here]
    return spans


def attempts(tale: story.Story, spans: Sequence[talks.Span], end: End) -> tuple[Attempt, ...]:
    """Every member of every step that began, in dial order; `spans` as `accepted_spans` left them."""
    made: list[Attempt] = []
    unmatched = [channel for channel in tale.channels if channel.started_at_us is not None]
    for step in tale.steps:
        legs = _legs(step, unmatched)
        talked = _talks_of_legs(step, legs, spans)
        codes = sip_codes(step.miss)
        for index, (key, _) in enumerate(step.members):
            leg = legs[index]
            if leg is None:
                made.append(_without_channel(step, key, legs, index, end))
            else:
                made.append(_with_channel(step, key, leg, talked, codes, end))
    return tuple(made)


def sip_codes(miss: Mapping[str, str] | None) -> dict[str, int]:
    """Last SIP code of each leg by channel name, from `x` of DM_MISS."""
    codes: dict[str, int] = {}
    for token in (miss or {}).get("x", "").split("|"):
        name, _, code = token.partition("~")
        if code.isdecimal() and len(code) == 3:
            codes[name] = int(code)
    return codes


def _legs(step: story.Step, unmatched: list[story.Channel]) -> list[story.Channel | None]:
    """The channel of each member. Dial makes them in order, so the first with the right name is the member's; a queue
    that rings the same phone makes its own later."""
    legs: list[story.Channel | None] = []
    for _, peer in step.members:
        found = None
        for channel in unmatched:
            started = channel.started_at_us or 0
            if step.until_us is not None and started >= step.until_us:
                break
            if started >= step.at_us and channel.peer == peer and not channel.name.endswith(";2"):
                found = channel
                unmatched.remove(channel)
                break
        legs.append(found)
    return legs


def _talks_of_legs(
    step: story.Step, legs: Sequence[story.Channel | None], spans: Sequence[talks.Span]
) -> dict[str, list[talks.Span]]:
    """Spans by the name of the step's leg: the person's own channel, or the Local channel they talked through.

    A person who is neither comes out of a Local channel that optimised itself away, or of a transfer, which is nobody's
    attempt."""
    talked: dict[str, list[talks.Span]] = {}
    if not spans:
        return talked
    by_name = {leg.name: leg for leg in legs if leg is not None}
    for span in spans:
        if step.until_us is not None and span.start_us >= step.until_us:
            continue
        name = span.through or span.person
        if name in by_name:
            talked.setdefault(name, []).append(span)
        elif not talked and span.start_us >= step.at_us:
            local = next((leg for leg in by_name.values() if leg.is_local), None)
            if local is not None:
                talked.setdefault(local.name, []).append(span)
    return talked


def _without_channel(step: story.Step, key: str, legs: Sequence[story.Channel | None], index: int, end: End) -> Attempt:
    outcome: AttemptOutcome | None = None
    cause = None
    if step.miss is not None:
        outcome = AttemptOutcome.UNREACHABLE
        hangup_cause = step.miss.get("hc", "")
        if len(legs) == 1 and hangup_cause.isdecimal():
            cause = int(hangup_cause)
    elif any(leg is not None for leg in legs[index + 1 :]) or step.until_us is not None:
        outcome = AttemptOutcome.UNREACHABLE
    elif end.at_us is not None or end.is_closed:
        if any(leg is not None for leg in legs):
            outcome = AttemptOutcome.UNREACHABLE
        elif end.by_caller:
            outcome = AttemptOutcome.ABANDONED
        else:
            outcome = AttemptOutcome.LOST
    elif any(leg is not None and _is_past_dialling(leg) for leg in legs):
        outcome = AttemptOutcome.UNREACHABLE
    return Attempt(
        step=step.number,
        destination=key,
        kind=step.kind,
        outcome=outcome,
        started_at_us=step.at_us,
        answered_at_us=None,
        ended_at_us=None if outcome is None else step.at_us,
        ring_seconds=0.0,
        talk_seconds=0.0,
        sip_code=None,
        q850_cause=cause,
        answered_by=None,
        channel=None,
    )


def _is_past_dialling(leg: story.Channel) -> bool:
    """Dial makes all channels before it listens to any."""
    return leg.answered_at_us is not None or leg.ended_at_us is not None


def _with_channel(
    step: story.Step,
    key: str,
    leg: story.Channel,
    talked: Mapping[str, Sequence[talks.Span]],
    codes: Mapping[str, int],
    end: End,
) -> Attempt:
    started_us = leg.started_at_us or step.at_us
    spans = talked.get(leg.name, _NO_SPANS)
    if spans:
        outcome: AttemptOutcome | None = AttemptOutcome.ANSWERED
        answered_us = spans[0].start_us
        talk_us = sum(
            stop - start
            for start, stop in talks.merged(
                (span.start_us, end.until_us if span.end_us is None else span.end_us) for span in spans
            )
        )
    else:
        outcome = _outcome(step, leg, talked, codes, end)
        answered_us = None
        talk_us = 0
    ended_us = leg.ended_at_us
    if ended_us is None and end.is_closed:
        ended_us = end.until_us
    if ended_us is not None and leg.asked_at_us is not None:
        ended_us = min(ended_us, leg.asked_at_us)
    # A person's ringing ends when they pick up; a queue's when its agent talks.
    rang_until = (answered_us if leg.is_local else leg.answered_at_us) or answered_us or ended_us or end.until_us
    return Attempt(
        step=step.number,
        destination=key,
        kind=step.kind,
        outcome=outcome,
        started_at_us=started_us,
        answered_at_us=answered_us,
        ended_at_us=ended_us,
        ring_seconds=_seconds(rang_until - started_us),
        talk_seconds=_seconds(talk_us),
        sip_code=200 if spans and not leg.is_local else codes.get(leg.name),
        q850_cause=leg.cause or None,
        answered_by=story.peer_of(spans[0].person) if spans else None,
        channel=leg.name,
        whisper_played=leg.heard_whisper,
        accepted=leg.accepted,
        machine=leg.machine,
    )


def _outcome(
    step: story.Step,
    leg: story.Channel,
    talked: Mapping[str, Sequence[talks.Span]],
    codes: Mapping[str, int],
    end: End,
) -> AttemptOutcome | None:
    """How a leg ended that never talked with the caller."""
    if leg.accepted is False:
        return AttemptOutcome.NOT_ACCEPTED
    if leg.ended_at_us is None:
        if end.crashed:
            return AttemptOutcome.LOST
        if end.at_us is None and not end.is_closed:
            return None
        return AttemptOutcome.ABANDONED if end.by_caller else AttemptOutcome.CANCELLED if talked else None
    if leg.cause == outcomes.ANSWERED_ELSEWHERE or (talked and not leg.ended_itself):
        return AttemptOutcome.CANCELLED
    if leg.answered_at_us is not None and not leg.is_local:
        gone = end.by_caller and step.miss is None and not leg.ended_itself
        return AttemptOutcome.ABANDONED if gone else AttemptOutcome.NOT_ACCEPTED
    if step.miss is None and step.until_us is None and not leg.ended_itself and not leg.is_local:
        return _taken_down(leg, end)
    if leg.is_local:
        return _local_outcome(step, leg, end)
    return _own_outcome(step, leg, codes)


def _taken_down(leg: story.Channel, end: End) -> AttemptOutcome | None:
    """Dial took the leg down and never returned: with the caller's channel, or long before, for want of an answer."""
    if end.at_us is None and not end.crashed:
        return AttemptOutcome.UNREACHABLE
    if leg.ended_at_us is not None and leg.ended_at_us < end.until_us - _SECOND:
        return AttemptOutcome.UNREACHABLE
    if end.crashed:
        return AttemptOutcome.LOST
    return AttemptOutcome.ABANDONED if end.by_caller else AttemptOutcome.LOST


def _local_outcome(step: story.Step, leg: story.Channel, end: End) -> AttemptOutcome | None:
    """A queue or IVR that found nobody."""
    if step.miss is None and step.until_us is None:
        if end.at_us is None:
            return None
        return AttemptOutcome.ABANDONED if end.by_caller else AttemptOutcome.NO_ANSWER
    if leg.answered_at_us is None and len(step.members) == 1 and step.miss is not None:
        return outcomes.DIAL_OUTCOMES.get(step.miss.get("st", ""), AttemptOutcome.NO_ANSWER)
    return AttemptOutcome.NO_ANSWER


def _own_outcome(step: story.Step, leg: story.Channel, codes: Mapping[str, int]) -> AttemptOutcome:
    miss = step.miss or {}
    is_alone = len(step.members) == 1
    rang = is_alone and bool(miss.get("r"))
    code = codes.get(leg.name)
    if code is not None and code >= 300:
        return outcomes.of_sip_code(code, rang=rang)
    if leg.ended_itself and leg.cause:
        return outcomes.of_q850_cause(leg.cause, rang=rang)
    if code is not None and code > 100:
        return outcomes.of_sip_code(code, rang=rang)
    if len(miss.get("x", "")) >= CODES_CUT or (is_alone and (rang or miss.get("p"))):
        return AttemptOutcome.NO_ANSWER
    if is_alone and miss.get("st") == "BUSY":
        # 302: Asterisk keeps the code to itself, and often takes the leg down before its cause is set.
        return AttemptOutcome.BUSY
    # Not one answer, not even 180: the second time-out of Dial, or an address where nobody is.
    return AttemptOutcome.UNREACHABLE


def _seconds(microseconds: int) -> float:
    return round(max(0, microseconds) / _SECOND, 3)
