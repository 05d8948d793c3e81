"""The call record of `design.md`: facts from the journal, names and sources from the book, as one JSON document.

The same document leaves by command line, API and events. Every field is always there; None where nothing is known.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from gateway.core import attribution, callingback, calls, numbers, rating, scoring
from gateway.core import book as book_

NOT_ASKED = {
    "region": None,
    "mode": "off",
    "result": "not_asked",
    "key": None,
    "prompt_id": None,
    "prompt_version": None,
    "early_media": None,
    "announcement_in_recording": False,
    "at": None,
}

LATER = ("callback", "rating", "scoring")
"""Fields that records stored by an older release do not have."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def record(
    facts: calls.CallFacts,
    book: book_.Book | None,
    *,
    revision: int,
    calls_before: int | None,
    node: str,
    language: str | None = None,
    with_region: bool = True,
    found: attribution.Attribution | None = None,
) -> dict[str, Any]:
    """The JSON document of a call. Times RFC 3339 UTC with milliseconds, durations in seconds, numbers E.164 with `+`.

    `recordings` and `receipts` stay empty: `gateway.store.joined` fills them in when a record is read, and knows that
    they are the last two. `calls_before` None: not looked up. `language` of the region's name: the site's unless given;
    `with_region` False leaves it out (it costs 100 MB of memory). `found`: who called; None: as the number alone tells.
    """
    number = tracking_number(facts, book)
    route = route_of(facts, number, book)
    site = site_of(route, book)
    names = _Names(book)
    answered = next((attempt for attempt in facts.attempts if attempt.answered_at_us is not None), None)
    found = found or attribution.of_number(number, book)
    made: dict[str, Any] = {
        "call_id": facts.call_id,
        "revision": revision,
        "node": node,
        "direction": facts.direction.value,
        "state": "closed" if facts.is_closed else "open",
        "site": site.key if site is not None else None,
        "time_zone": site.time_zone if site is not None else "UTC",
        "started_at": timestamp(facts.started_at_us),
        "answered_at": timestamp(facts.answered_at_us),
        "ended_at": timestamp(facts.ended_at_us),
        "outcome": facts.outcome.value if facts.outcome is not None else None,
        "missed": facts.outcome is not None and facts.outcome.is_missed,
        "cause": facts.cause,
        "ended_by": facts.ended_by.value if facts.ended_by is not None else None,
        "route": facts.route,
        "route_source": facts.route_source,
        "plan_revision": facts.plan_revision,
        "agi_status": facts.agi_status,
        "trunk": facts.trunk,
        "wait_seconds": facts.wait_seconds,
        "ring_seconds": answered.ring_seconds if answered is not None else last_ring_seconds(facts),
        "talk_seconds": facts.talk_seconds,
        "hold_seconds": facts.hold_seconds,
        "experience": {
            "post_dial_delay_seconds": facts.post_dial_delay_seconds,
            "prompt_seconds": facts.prompt_seconds,
            "silent_seconds": facts.silent_seconds,
        },
        "caller": _caller(facts, site, calls_before, language, with_region=with_region),
        "tracking": _tracking(facts, number),
        "agent": _agent(facts, answered, names),
        "destination": answered.destination if answered is not None else None,
        "attempts": [_attempt(attempt, names) for attempt in facts.attempts],
        "recording_consent": _consent(facts),
        "pauses": [{"from": timestamp(start), "to": timestamp(end)} for start, end in facts.pauses],
        "attribution": attributed(found),
        "callback": _callback(facts.callback),
        "rating": _rating(facts, route),
        "scoring": None,
        "sip_call_id": facts.sip_call_id,
        "linked_id": facts.linked_id,
        "unique_id": facts.unique_id,
        "recordings": [],
        "receipts": [],
    }
    made["scoring"] = scoring.scored(made, book)
    return made


def content_hash(text: str) -> str:
    """Whether two records, as JSON without blanks and with revision 0, say the same.

    A later field counts from when it says something: a record stored before there was one is not another record, and
    nobody is told of it again.
    """
    for name in LATER:
        text = text.replace(f'"{name}":null,', "", 1)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def tracking_number(facts: calls.CallFacts, book: book_.Book | None) -> book_.TrackingNumber | None:
    """The number called, as the book has it; None for outbound calls and numbers it does not know."""
    if book is None or facts.direction is calls.Direction.OUTBOUND:
        return None
    return book.tracking_numbers.get(facts.did)


def route_of(
    facts: calls.CallFacts, number: book_.TrackingNumber | None, book: book_.Book | None
) -> book_.Route | None:
    """The route that was taken, or that the number has now when the journal does not say."""
    if book is None:
        return None
    return book.routes.get(facts.route or (number.route if number is not None else ""))


def site_of(route: book_.Route | None, book: book_.Book | None) -> book_.Site | None:
    """Whose call it is: the route's site, else the default one. None without a book."""
    if book is None:
        return None
    return book.sites[route.site] if route is not None else book.default_site


def agent_of(endpoint: str | None, book: book_.Book | None) -> str | None:
    """Key of the agent whose phone `endpoint` is; None when it is nobody's."""
    return _Names(book).agent_of(endpoint)


def last_ring_seconds(facts: calls.CallFacts) -> float:
    """How long it rang in the last step, for a call that nobody took."""
    last = facts.attempts[-1].step if facts.attempts else 0
    return max((attempt.ring_seconds for attempt in facts.attempts if attempt.step == last), default=0.0)


def e164(digits: str) -> str | None:
    """Digits of the journal as a number with `+`; None for extensions, nothing, and what is no number."""
    number = f"+{digits}"
    return number if numbers.is_e164(number) and len(digits) >= numbers.MIN_DIGITS else None


def timestamp(at_us: int | None) -> str | None:
    """RFC 3339 in UTC with milliseconds: `2026-11-21T22:18:10.101Z`."""
    if at_us is None:
        return None
    seconds, microseconds = divmod(at_us, 1_000_000)
    return f"{_to_the_second(seconds)}.{microseconds // 1_000:03d}Z"


def at_us(written: str) -> int:
    """The reverse of `timestamp`: microseconds since the epoch."""
    return (datetime.fromisoformat(written) - _EPOCH) // timedelta(microseconds=1)


@lru_cache(maxsize=4096)
def _to_the_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


@dataclass(frozen=True, slots=True)
class _Names:
    book: book_.Book | None

    def agent_of(self, endpoint: str | None, destination: str = "") -> str | None:
        """By the endpoint that talked; a mobile is its destination's agent."""
        if self.book is None or endpoint is None:
            return None
        for agent in self.book.agents.values():
            if agent.endpoint == endpoint:
                return agent.key
        known = self.book.destinations.get(destination)
        return known.agent if known is not None else None

    def expected_at(self, destination: str) -> str | None:
        """Whose destination it is."""
        known = self.book.destinations.get(destination) if self.book is not None else None
        return known.agent if known is not None else None


def _agent(facts: calls.CallFacts, answered: calls.Attempt | None, names: _Names) -> str | None:
    """Who talked with the customer: of a call out, who made it, reached or not."""
    if facts.direction is calls.Direction.OUTBOUND:
        return names.agent_of(facts.phone)
    return names.agent_of(answered.answered_by, answered.destination) if answered is not None else None


def _callback(made: callingback.CallBack | None) -> dict[str, Any] | None:
    if made is None:
        return None
    return {
        "ticket": made.ticket,
        "call_id": made.call_id,
        "by": made.by.value,
        "shown": made.shown,
        "result": made.result.value if made.result is not None else None,
    }


def _attempt(attempt: calls.Attempt, names: _Names) -> dict[str, Any]:
    agent = names.agent_of(attempt.answered_by, attempt.destination)
    return {
        "step": attempt.step,
        "destination": attempt.destination,
        "kind": attempt.kind,
        "agent": agent or (names.expected_at(attempt.destination) if attempt.answered_by is None else None),
        "outcome": attempt.outcome.value if attempt.outcome is not None else None,
        "started_at": timestamp(attempt.started_at_us),
        "answered_at": timestamp(attempt.answered_at_us),
        "ended_at": timestamp(attempt.ended_at_us),
        "ring_seconds": attempt.ring_seconds,
        "talk_seconds": attempt.talk_seconds,
        "sip_code": attempt.sip_code,
        "q850_cause": attempt.q850_cause,
        "answered_by": attempt.answered_by,
        "whisper_played": attempt.whisper_played,
        "accepted": attempt.accepted,
        "machine": attempt.machine,
    }


def _caller(
    facts: calls.CallFacts,
    site: book_.Site | None,
    calls_before: int | None,
    language: str | None,
    *,
    with_region: bool,
) -> dict[str, Any]:
    number = e164(facts.caller)
    is_outbound = facts.direction is calls.Direction.OUTBOUND
    spoken = language or (site.language if site is not None else "en")
    is_known = number is not None and not is_outbound
    return {
        "number": number,
        "raw": facts.caller_raw or facts.caller or None,
        "name": facts.caller_name or None,
        "country": _country(number) if number is not None and is_known else None,
        "region": _region(number, spoken) if number is not None and is_known and with_region else None,
        "anonymous": not is_outbound and number is None and numbers.is_anonymous(facts.caller_raw),
        "first_time": None if calls_before is None else calls_before == 0,
        "calls_before": calls_before,
    }


@lru_cache(maxsize=4096)
def _country(number: str) -> str | None:
    return numbers.country_of(number)


@lru_cache(maxsize=4096)
def _region(number: str, language: str) -> str | None:
    return numbers.region_of(number, language)


def _consent(facts: calls.CallFacts) -> dict[str, Any]:
    given = facts.consent
    if given is None:
        return dict(NOT_ASKED)
    return {
        "region": given.region,
        "mode": given.mode.value,
        "result": given.result.value,
        "key": given.key,
        "prompt_id": given.prompt_id,
        "prompt_version": given.version,
        "early_media": given.early_media if given.prompt_id is not None else None,
        "announcement_in_recording": given.recorded_announcement and given.allows_recording,
        "at": timestamp(given.at_us),
    }


def _rating(facts: calls.CallFacts, route: book_.Route | None) -> dict[str, Any] | None:
    """What who was still there keyed in after the call; None where nobody was asked."""
    if not facts.rated:
        return None
    said = rating.latest(facts.rated)
    keys = {question.value: said[question].key if question in said else None for question in rating.Question}
    outcome = said.get(rating.Question.OUTCOME)
    wish = route.rating if route is not None else None
    return {
        "by": facts.rated[-1].who.value,
        "outcome": rating.outcome_named(outcome.key, outcome.who, wish) if outcome is not None else None,
        "goal_reached": _yes(keys[rating.Question.GOAL.value]),
        "solved": _yes(keys[rating.Question.SOLVED.value]),
        "keys": keys,
        "at": timestamp(facts.rated[-1].at_us),
    }


def _yes(key: str | None) -> bool | None:
    return None if key is None else key == rating.YES


def _tracking(facts: calls.CallFacts, number: book_.TrackingNumber | None) -> dict[str, Any]:
    is_outbound = facts.direction is calls.Direction.OUTBOUND
    return {
        "number": e164(facts.did) or facts.did or None,
        "kind": None if is_outbound or number is None else number.kind.value,
        "source": number.source if number is not None else None,
        "label": number.label if number is not None else None,
    }


def attributed(found: attribution.Attribution) -> dict[str, Any]:
    """The record's `attribution`."""
    return {
        "method": found.method.value,
        "confidence": round(found.confidence, 3),
        "source": found.source,
        "source_name": found.source_name,
        "parent_source": found.parent_source,
        "campaign_type": found.campaign_type,
        "cost_line": found.cost_line,
        "channel": found.channel,
        "medium": found.medium,
        "campaign": found.campaign,
        "term": found.term,
        "content": found.content,
        "landing_page": found.landing_page,
        "referrer": found.referrer,
        "click_ids": found.click_ids,
        "visitor_id": found.visitor_id,
        "lease_id": found.lease_id,
        "candidates": [
            {
                "visitor_id": one.visitor_id,
                "share": round(one.share, 3),
                "seconds_since_seen": round(one.seconds_since_seen, 1),
            }
            for one in found.candidates
        ],
    }
