"""GA4 Measurement Protocol (R68, R114): a call as event `phone_call`, a lead as `generate_lead` too, or later.

Rules: integrations.md 4.1. GA4 answers 204 to anything and knows no doubles, so what may have arrived is not sent
again; nothing is sent without the visitor's own `client_id`, which is known only with consent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.core.outcomes import Outcome
from gateway.core.outgoing import hashing, talks, told, worth
from gateway.core.outgoing.adapters import CLOSING, Attempt, Handed, Settled, dead, done, skipped
from gateway.core.outgoing.told import DAY_US, SECOND_US

WORLD = "https://www.google-analytics.com"
EUROPE = "https://region1.google-analytics.com"

MAX_EVENTS = 25
MAX_VALUE = 100
MAX_BACKDATING_US = 72 * 3_600 * SECOND_US
MAX_SESSION_US = DAY_US
MAX_SINCE_SESSION_US = 63 * DAY_US
"""For a lead that is said later: so long GA4 hands it on to ads."""

CALL, LEAD = "phone_call", "generate_lead"

VALIDATION = "ENFORCE_RECOMMENDATIONS"


@dataclass(frozen=True, slots=True)
class Account:
    """A GA4 data stream."""

    measurement_id: str
    """`G-…`."""
    api_secret: str
    europe: bool = False
    qualified_seconds: int = 30
    """Talk from which a call is a lead, if nobody says otherwise."""
    counts: worth.Counts = worth.Counts.QUALIFIED
    value: Decimal | None = None
    """Of a lead without a deal."""
    currency: str | None = None
    """ISO 4217; both or neither."""
    send_hashed_number: bool = False
    """Hashed caller numbers of visitors who agreed to advertising."""


class Ga4:
    """One data stream."""

    kind = "ga4"
    per_second = 10.0
    token_style = talks.TokenStyle.BEARER
    wants = CLOSING
    needs_visitor = True

    def __init__(self, account: Account, base_url: str | None = None) -> None:
        self._account = account
        self.base_url = base_url or (EUROPE if account.europe else WORLD)

    def tell(self, event: Handed, attempt: Attempt) -> talks.Talk[Settled]:
        """Sends the call once, and its lead once."""
        call = told.call(event.data)
        due = _due(call, attempt, self._account)
        if isinstance(due, str):
            return skipped(due)
        if attempt.is_unsure:
            return dead("may have arrived with an attempt that was cut off, and GA4 would count it twice")
        body = payload(call, _known(attempt), self._account, attempt.now_us, due)
        answer = yield self._request("/mp/collect", body)
        talks.expect(answer, 200, 204)
        return done(known=worth.sent(event.event_id, with_lead=LEAD in due))

    def check(self, event: Handed, attempt: Attempt) -> talks.Talk[list[str]]:
        """What GA4's validation has against the event, or why it would not be sent; nothing is counted."""
        call = told.call(event.data)
        due = _due(call, attempt, self._account)
        if isinstance(due, str):
            return [due]
        body = payload(call, _known(attempt), self._account, attempt.now_us, due) | {"validation_behavior": VALIDATION}
        answer = yield self._request("/debug/mp/collect", body)
        found = talks.expect_object(answer, 200).get("validationMessages", [])
        return [f"{one.get('fieldPath')}: {one.get('description')} ({one.get('validationCode')})" for one in found]

    def _request(self, path: str, body: Mapping[str, Any]) -> talks.Request:
        return talks.Request(
            "POST",
            path,
            query={"measurement_id": self._account.measurement_id},
            secret_query={"api_secret": self._account.api_secret},
            json=body,
            repeatable=False,
            authorised=False,
        )


def payload(
    call: told.Call, visitor: told.Visitor, account: Account, now_us: int, due: Collection[str] = (CALL, LEAD)
) -> dict[str, Any]:
    """The request's body for a call of a visitor who has a `ga_client_id`, with the events of `due` that it has."""
    session_id = visitor.ga_sessions.get(account.measurement_id.removeprefix("G-"))
    started_us = _session_start_us(session_id, visitor)
    in_session: dict[str, Any] = {"engagement_time_msec": 1}
    if session_id is not None and now_us < started_us + MAX_SESSION_US:
        in_session["session_id"] = session_id
    at_us = clamped_us(call.started_us, started_us, visitor.session_seen_us)
    if _is_too_old(call, visitor, now_us):
        at_us = worth.lead_us(call, account)
    consent = "GRANTED" if visitor.allows_ads else "DENIED"
    body: dict[str, Any] = {
        "client_id": visitor.ga_client_id,
        "timestamp_micros": at_us,
        "consent": {"ad_user_data": consent, "ad_personalization": consent},
        "events": [],
    }
    if CALL in due:
        body["events"].append(_event(CALL, {**in_session, **_call_params(call)}))
    if LEAD in due and worth.is_lead(call, account):
        body["events"].append(_event(LEAD, {**in_session, **_lead_params(call, account)}))
    if account.send_hashed_number and visitor.allows_ads and call.caller_number is not None:
        body["user_data"] = {"sha256_phone_number": [hashing.google(call.caller_number)]}
    return body


def clamped_us(at_us: int, started_us: int, seen_us: int) -> int:
    """A time within the session: GA4 counts an event to it only between its start and its end."""
    return max(started_us, min(at_us, seen_us))


def _due(call: told.Call, attempt: Attempt, account: Account) -> tuple[str, ...] | str:
    """Names of the events to be sent, or why none is."""
    visitor = attempt.visitor
    is_follow_up = worth.follows(call, account, attempt.known)
    if "sent" in attempt.known and not is_follow_up:
        return "sent before: GA4 takes no corrections"
    if not call.is_inbound:
        return "outbound"
    if call.outcome is Outcome.BANNED:
        return "banned caller"
    if call.is_spam:
        return "marked as spam"
    if visitor is None or visitor.ga_client_id is None:
        return "no client_id: no visitor, or no consent"
    lead = (LEAD,) if worth.is_lead(call, account) else ()
    if not _is_too_old(call, visitor, attempt.now_us):
        return lead if is_follow_up else (CALL, *lead)
    since_us = worth.lead_us(call, account)
    if not lead or since_us == call.started_us or attempt.now_us - since_us > MAX_BACKDATING_US:
        return "older than 72 hours"
    if attempt.now_us - visitor.session_seen_us > MAX_SINCE_SESSION_US:
        return "the visit is more than 63 days ago"
    return lead


def _is_too_old(call: told.Call, visitor: told.Visitor, now_us: int) -> bool:
    return now_us - min(call.started_us, visitor.session_seen_us) > MAX_BACKDATING_US


def _known(attempt: Attempt) -> told.Visitor:
    assert attempt.visitor is not None, "asked before"
    return attempt.visitor


def _session_start_us(session_id: str | None, visitor: told.Visitor) -> int:
    """GA4's session id is the second in which the session began; ours may have begun before or after."""
    theirs = int(session_id) * SECOND_US if session_id is not None and session_id.isdecimal() else 0
    return theirs if 0 < theirs <= visitor.session_seen_us else visitor.session_started_us


def _call_params(call: told.Call) -> dict[str, Any]:
    return {
        "call_id": call.call_id,
        "call_outcome": call.outcome.value if call.outcome is not None else None,
        "talk_seconds": call.talk_seconds,
        "wait_seconds": call.wait_seconds,
        "tracking_number_label": call.tracking_label,
        "first_time_caller": None if call.first_time is None else int(call.first_time),
        "attribution_confidence": call.confidence,
    }


def _lead_params(call: told.Call, account: Account) -> dict[str, Any]:
    found: dict[str, Any] = {"call_id": call.call_id, "lead_source": call.source or call.channel}
    if (money := worth.money(call, account)) is not None:
        found |= {"currency": money[1], "value": float(money[0])}
    return found


def _event(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        key: value[:MAX_VALUE] if isinstance(value, str) else value
        for key, value in params.items()
        if value is not None and value != ""
    }
    return {"name": name, "params": kept}
