"""Meta Conversions API (R68, R90): a call as `Contact`, a lead as `Lead`, also when it becomes one later.

Rules: integrations.md 4.4. `event_id` with `event_name` de-duplicates on their side, so it may be sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.core.outcomes import Outcome
from gateway.core.outgoing import hashing, talks, told, worth
from gateway.core.outgoing.adapters import CLOSING, Attempt, Handed, Settled, done, skipped
from gateway.core.outgoing.told import DAY_US, SECOND_US

WORLD = "https://graph.facebook.com"
MAX_AGE_US = 7 * DAY_US

_HASTY = frozenset({1, 2, 4, 17, 32, 341, 613}) | frozenset(range(80_000, 80_015))
"""Error codes of their side's faults and of rate limits."""
_TOKEN = frozenset({102, 190, 200})


@dataclass(frozen=True, slots=True)
class Account:
    """A dataset (pixel)."""

    dataset_id: str
    version: str = "v24.0"
    qualified_seconds: int = 30
    counts: worth.Counts = worth.Counts.QUALIFIED
    value: Decimal | None = None
    currency: str | None = None
    test_event_code: str | None = None
    """Events show up under "Test events" and are not counted."""


class Meta:
    """One dataset. The access token is the sender's."""

    kind = "meta"
    per_second = 10.0
    token_style = talks.TokenStyle.BEARER
    wants = CLOSING
    needs_visitor = True

    def __init__(self, account: Account, base_url: str = WORLD) -> None:
        self._account = account
        self.base_url = base_url

    def tell(self, event: Handed, attempt: Attempt) -> talks.Talk[Settled]:
        """Sends the call; doubles are theirs to know."""
        call = told.call(event.data)
        why_not = _why_not(call, attempt, self._account)
        if why_not is not None or attempt.visitor is None:
            return skipped(why_not or "no visitor")
        body: dict[str, Any] = {"data": [conversion(call, attempt.visitor, self._account)]}
        if self._account.test_event_code is not None:
            body["test_event_code"] = self._account.test_event_code
        path = f"/{self._account.version}/{self._account.dataset_id}/events"
        answer = yield talks.Request("POST", path, json=body)
        found = _expect(answer)
        known = worth.sent(event.event_id, with_lead=worth.is_lead(call, self._account))
        return done(str(found.get("fbtrace_id", "")) or None, known=known)


def conversion(call: told.Call, visitor: told.Visitor, account: Account) -> dict[str, Any]:
    """One member of `data`."""
    is_lead = worth.is_lead(call, account)
    event: dict[str, Any] = {
        "event_name": "Lead" if is_lead else "Contact",
        "event_time": _at_us(call, account) // SECOND_US,
        "event_id": call.call_id,
        "action_source": "phone_call",
        "user_data": _user_data(call, visitor),
        "custom_data": _custom_data(call, account, is_lead=is_lead),
    }
    if visitor.landing_page is not None:
        event["event_source_url"] = visitor.landing_page
    return event


def _user_data(call: told.Call, visitor: told.Visitor) -> dict[str, Any]:
    found: dict[str, Any] = {"external_id": [hashing.meta_word(visitor.visitor_id)]}
    if call.caller_number is not None:
        found["ph"] = [hashing.meta(call.caller_number)]
    if call.caller_country is not None:
        found["country"] = [hashing.meta_word(call.caller_country)]
    # Hashed, these two would match nobody.
    found |= {name: value for name, value in (("fbp", visitor.fbp), ("fbc", visitor.fbc)) if value is not None}
    return found


def _custom_data(call: told.Call, account: Account, *, is_lead: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"call_outcome": call.outcome.value if call.outcome is not None else None}
    found["talk_seconds"] = call.talk_seconds
    if is_lead and (money := worth.money(call, account)) is not None:
        found |= {"currency": money[1], "value": float(money[0])}
    return found


def _at_us(call: told.Call, account: Account) -> int:
    return worth.lead_us(call, account) if worth.is_lead(call, account) else call.started_us


def _why_not(call: told.Call, attempt: Attempt, account: Account) -> str | None:
    if "sent" in attempt.known and not worth.follows(call, account, attempt.known):
        return "sent before"
    if not call.is_inbound:
        return "outbound"
    if call.outcome is Outcome.BANNED:
        return "banned caller"
    if call.is_spam:
        return "marked as spam"
    if not call.was_answered and not worth.is_lead(call, account):
        return "nobody answered"
    if attempt.visitor is None:
        return "no visitor, or no consent"
    if not attempt.visitor.allows_ads:
        return "no consent to advertising"
    if attempt.now_us - _at_us(call, account) > MAX_AGE_US:
        return "older than 7 days"
    return None


def _expect(answer: talks.Response) -> dict[str, Any]:
    """Meta says with 400 what others say with 401, 429 and 500; its own code tells them apart."""
    body = answer.body()
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict) and answer.status < 500:
        code = error.get("code")
        reason = f"answered {answer.status}, code {code}, subcode {error.get('error_subcode')}"
        if code in _TOKEN:
            raise talks.Refused(talks.Kind.TOKEN, reason)
        if code in _HASTY or error.get("is_transient") is True:
            raise talks.Refused(talks.Kind.LATER, reason, talks.retry_after_seconds(answer))
        raise talks.Refused(talks.Kind.NEVER, reason)
    found = talks.expect_object(answer, 200)
    if found.get("events_received") != 1:
        raise talks.Refused(talks.Kind.LATER, "answered 200 without having received the event")
    return found
