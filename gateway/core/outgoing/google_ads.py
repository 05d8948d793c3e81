"""Google Ads click conversions (R68, R90): a lead, or a deal that was won, of somebody who clicked an ad and called.

Rules: integrations.md 4.3. `orderId` is unique for each conversion action, so it may be sent again. Newer fields need
their Data Manager API: only `Request` and `_judged` know which transport this is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from gateway.core.outcomes import Outcome
from gateway.core.outgoing import hashing, talks, told, worth
from gateway.core.outgoing.adapters import CLOSING, Attempt, Handed, Settled, done, skipped
from gateway.core.outgoing.told import SECOND_US

WORLD = "https://googleads.googleapis.com"
CLICK_IDS = ("gclid", "gbraid", "wbraid")
"""One of them, the first that is there: a conversion with two is refused."""

TOO_RECENT_SECONDS = 6 * 3600.0

_THERE_ALREADY = frozenset(
    {"CLICK_CONVERSION_ALREADY_EXISTS", "ORDER_ID_ALREADY_IN_USE", "DUPLICATE_ORDER_ID", "CONVERSION_ALREADY_EXISTS"}
)
_TOO_RECENT = frozenset({"TOO_RECENT_CALL", "TOO_RECENT_CONVERSION_ACTION", "TOO_RECENT_EVENT", "TOO_RECENT_CLICK"})
_THEIR_FAULT = frozenset({"INTERNAL_ERROR", "TRANSIENT_ERROR", "RESOURCE_EXHAUSTED", "RESOURCE_TEMPORARILY_EXHAUSTED"})


@dataclass(frozen=True, slots=True)
class Account:
    """A conversion action of a customer. The OAuth token is the sender's."""

    customer_id: str
    """Digits, no hyphens."""
    conversion_action_id: str
    developer_token: str
    login_customer_id: str | None = None
    version: str = "v24"
    qualified_seconds: int = 30
    """Shorter talks are no conversion, if nobody says otherwise."""
    counts: worth.Counts = worth.Counts.QUALIFIED
    value: Decimal | None = None
    """Of a conversion without a deal."""
    currency: str | None = None
    send_hashed_number: bool = False
    validate_only: bool = False
    """Google checks and counts nothing."""


class GoogleAds:
    """One conversion action."""

    kind = "google_ads"
    per_second = 10.0
    token_style = talks.TokenStyle.BEARER
    wants = CLOSING
    needs_visitor = True

    def __init__(self, account: Account, base_url: str = WORLD) -> None:
        self._account = account
        self.base_url = base_url

    def tell(self, event: Handed, attempt: Attempt) -> talks.Talk[Settled]:
        """Uploads the conversion."""
        call = told.call(event.data)
        why_not = _why_not(call, attempt, self._account)
        if why_not is not None:
            return skipped(why_not)
        body: dict[str, Any] = {"conversions": [conversion(call, self._account)], "partialFailure": True}
        if self._account.validate_only:
            body["validateOnly"] = True
        path = f"/{self._account.version}/customers/{self._account.customer_id}:uploadClickConversions"
        answer = yield talks.Request("POST", path, json=body, headers=self._headers())
        note = _judged(talks.expect_object(answer, 200))
        return done(call.call_id, known={"sent": event.event_id}, note=note)

    def _headers(self) -> Mapping[str, str]:
        named = {"developer-token": self._account.developer_token}
        if self._account.login_customer_id is not None:
            named["login-customer-id"] = self._account.login_customer_id
        return named


def conversion(call: told.Call, account: Account) -> dict[str, Any]:
    """One member of `conversions`, for a call with a click id and consent to advertising."""
    click = next(name for name in CLICK_IDS if call.click_ids.get(name))
    found: dict[str, Any] = {
        click: call.click_ids[click],
        "conversionAction": f"customers/{account.customer_id}/conversionActions/{account.conversion_action_id}",
        # Of the call also for a deal of later: our own reports count it there too.
        "conversionDateTime": date_time(call.started_us, call.time_zone),
        "orderId": call.call_id,
        "consent": {"adUserData": "GRANTED", "adPersonalization": "GRANTED"},
    }
    if (money := worth.money(call, account)) is not None:
        found |= {"conversionValue": float(money[0]), "currencyCode": money[1]}
    # Enhanced conversions go with a gclid alone.
    if account.send_hashed_number and click == "gclid" and call.caller_number is not None:
        found["userIdentifiers"] = [{"hashedPhoneNumber": hashing.google(call.caller_number)}]
    return found


def date_time(at_us: int, time_zone: str) -> str:
    """`2026-11-22 07:15:00+03:00`: the time on the site's clocks, with its distance from UTC."""
    at = datetime.fromtimestamp(at_us // SECOND_US, UTC).astimezone(ZoneInfo(time_zone))
    return at.isoformat(sep=" ")


def _why_not(call: told.Call, attempt: Attempt, account: Account) -> str | None:
    if "sent" in attempt.known:
        return "sent before"
    if not call.is_inbound:
        return "outbound"
    if call.outcome is Outcome.BANNED:
        return "banned caller"
    if (why := worth.why_no_lead(call, account)) is not None:
        return why
    if not any(call.click_ids.get(name) for name in CLICK_IDS):
        return "no click on an ad of Google"
    if attempt.visitor is None or not attempt.visitor.allows_ads:
        return "no consent to advertising"
    return None


def _judged(body: Mapping[str, Any]) -> str:
    """With `partialFailure` a refusal stands in an answer of 200. Returns a note; raises `Refused`."""
    failure = body.get("partialFailureError")
    if not failure:
        return ""
    codes = set(_codes(failure))
    named = ", ".join(sorted(codes)) or f"code {failure.get('code')}"
    if codes and codes <= _THERE_ALREADY:
        return f"there already: {named}"
    if codes & _TOO_RECENT:
        raise talks.Refused(talks.Kind.LATER, named, TOO_RECENT_SECONDS)
    if codes & _THEIR_FAULT:
        raise talks.Refused(talks.Kind.LATER, named)
    raise talks.Refused(talks.Kind.NEVER, named)


def _codes(failure: Mapping[str, Any]) -> Iterator[str]:
    for detail in failure.get("details", ()):
        for error in detail.get("errors", ()):
            yield from error.get("errorCode", {}).values()
