"""GA4 Measurement Protocol (R68, R114): a call as event `phone_call`, a qualified one as `generate_lead` too.

Rules: integrations.md 4.1. GA4 answers 204 to anything and knows no doubles, so what may have arrived is not sent
again; nothing is sent without the visitor's own `client_id`, which is known only with consent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.core.outcomes import Outcome
from gateway.core.outgoing import hashing, talks, told
from gateway.core.outgoing.adapters import CLOSING, Attempt, Handed, Settled, dead, done, skipped
from gateway.core.outgoing.told import DAY_US, SECOND_US

WORLD = "https://www.google-analytics.com"
EUROPE = "https://region1.google-analytics.com"

MAX_EVENTS = 25
MAX_PARAMS = 25
MAX_VALUE = 100
MAX_BACKDATING_US = 72 * 3_600 * SECOND_US
MAX_SESSION_US = DAY_US

VALIDATION = "ENFORCE_RECOMMENDATIONS"


@dataclass(frozen=True, slots=True)
class Account:
    """A GA4 data stream."""

    measurement_id: str
    """`G-…`."""
    api_secret: str
    europe: bool = False
    qualified_seconds: int = 30
    """Talk from which a call is a lead."""
    value: Decimal | None = None
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
        """Sends the call once."""
        call = told.call(event.data)
        why_not = _why_not(call, attempt)
        if why_not is not None:
            return skipped(why_not)
        if attempt.is_unsure:
            return dead("may have arrived with an attempt that was cut off, and GA4 would count it twice")
        body = payload(call, _known(attempt), self._account, attempt.now_us)
        answer = yield self._request("/mp/collect", body)
        talks.expect(answer, 200, 204)
        return done(known={"sent": event.event_id})

    def check(self, event: Handed, attempt: Attempt) -> talks.Talk[list[str]]:
        """What GA4's validation has against the event; nothing is counted. Empty: nothing."""
        call = told.call(event.data)
        body = payload(call, _known(attempt), self._account, attempt.now_us) | {"validation_behavior": VALIDATION}
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


def payload(call: told.Call, visitor: told.Visitor, account: Account, now_us: int) -> dict[str, Any]:
    """The request's body for a call of a visitor who has a `ga_client_id`."""
    session_id = visitor.ga_sessions.get(account.measurement_id.removeprefix("G-"))
    started_us = _session_start_us(session_id, visitor)
    in_session: dict[str, Any] = {"engagement_time_msec": 1}
    if session_id is not None and now_us < started_us + MAX_SESSION_US:
        in_session["session_id"] = session_id
    consent = "GRANTED" if visitor.allows_ads else "DENIED"
    body: dict[str, Any] = {
        "client_id": visitor.ga_client_id,
        "timestamp_micros": clamped_us(call.started_us, started_us, visitor.session_seen_us),
        "consent": {"ad_user_data": consent, "ad_personalization": consent},
        "events": [_event("phone_call", {**in_session, **_call_params(call)})],
    }
    if is_qualified(call, account.qualified_seconds):
        body["events"].append(_event("generate_lead", {**in_session, **_lead_params(call, account)}))
    if account.send_hashed_number and visitor.allows_ads and call.caller_number is not None:
        body["user_data"] = {"sha256_phone_number": [hashing.google(call.caller_number)]}
    return body


def clamped_us(at_us: int, started_us: int, seen_us: int) -> int:
    """A time within the session: GA4 counts an event to it only between its start and its end."""
    return max(started_us, min(at_us, seen_us))


def is_qualified(call: told.Call, qualified_seconds: int) -> bool:
    """A lead: somebody was talked to for long enough."""
    return call.was_answered and call.talk_seconds >= qualified_seconds


def _why_not(call: told.Call, attempt: Attempt) -> str | None:
    visitor = attempt.visitor
    if "sent" in attempt.known:
        return "sent before: GA4 takes no corrections"
    if not call.is_inbound:
        return "outbound"
    if call.outcome is Outcome.BANNED:
        return "banned caller"
    if visitor is None or visitor.ga_client_id is None:
        return "no client_id: no visitor, or no consent"
    if attempt.now_us - min(call.started_us, visitor.session_seen_us) > MAX_BACKDATING_US:
        return "older than 72 hours"
    return None


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
    worth: dict[str, Any] = {}
    if account.value is not None and account.currency is not None:
        worth = {"currency": account.currency, "value": float(account.value)}
    return {"call_id": call.call_id, "lead_source": call.source or call.channel, **worth}


def _event(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        key: value[:MAX_VALUE] if isinstance(value, str) else value
        for key, value in params.items()
        if value is not None and value != ""
    }
    return {"name": name, "params": kept}
