"""Events by POST, signed by the rules of Standard Webhooks, so that receivers can use a published verifier.

The body is the event as it is stored, byte for byte the same on every attempt; the id of the message is the event's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import standardwebhooks

from gateway.core import receivers
from gateway.core.outgoing import adapters
from gateway.senders import outside

MAX_SECRETS = 2
_MIN_SECRET, _MAX_SECRET = 24, 64
_PREFIX = "whsec_"

SecretOf = Callable[[str], str]
"""Text behind a reference `file:/path` or `env:NAME`. Raises ValueError with what is wrong."""


class Webhook:
    """One webhook as an adapter."""

    needs_visitor = False
    batching: adapters.Batching | None = None

    def __init__(self, receiver: receivers.Webhook, secret_of: SecretOf) -> None:
        self.target = receiver.target
        self.wants = frozenset(receiver.events)
        self._receiver = receiver
        self._secret_of = secret_of
        self._outside = outside.Outside(outside.Reach(receiver.allow, receiver.ca_file))

    async def deliver(self, event: adapters.Handed, attempt: adapters.Attempt) -> adapters.Settled:
        """Hands over one event."""
        url, moment = self._receiver.url, datetime.fromtimestamp(attempt.now_us // 1_000_000, UTC)
        try:
            signers = secrets(self._secret_of(self._receiver.secret))
        except ValueError as error:
            return _failed(f"not signed: {error}", "")
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event.event_id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": " ".join(one.sign(event.event_id, moment, event.payload) for one in signers),
        }
        shown = [f"POST {outside.shown_url(url)}", *(f"{name}: {value}" for name, value in headers.items())]
        request = "\n".join([*shown, "", event.payload])
        if attempt.dry_run:
            return adapters.Settled(adapters.State.SKIPPED, "nothing was sent", request=request)
        try:
            answer = await self._outside.request(
                "POST", url, headers=headers, body=event.payload.encode(), seconds=self._receiver.timeout_seconds
            )
        except outside.FAILURES as error:
            return _failed(outside.described(error), request)
        return _settled(answer, request, attempt.now_us)

    async def deliver_many(
        self, events: Sequence[tuple[adapters.Handed, adapters.Attempt]]
    ) -> Sequence[adapters.Settled]:
        """One after the other."""
        return [await self.deliver(event, attempt) for event, attempt in events]

    async def close(self) -> None:
        """Ends its connections."""
        await self._outside.close()


def secrets(text: str) -> list[standardwebhooks.Webhook]:
    """The signers of the secrets in `text`, one a line, the newest first. Raises ValueError without repeating them."""
    written = text.split()
    if not written:
        raise ValueError("the secret is empty")
    if len(written) > MAX_SECRETS:
        raise ValueError(f"there are more than {MAX_SECRETS} secrets")
    for one in written:
        try:
            bare = one.removeprefix(_PREFIX).rstrip("=")
            key = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("a secret is no base64; `dialmark webhooks secret` makes one") from None
        if not one.startswith(_PREFIX) or not _MIN_SECRET <= len(key) <= _MAX_SECRET:
            raise ValueError(f"a secret is {_PREFIX} and {_MIN_SECRET} to {_MAX_SECRET} bytes as base64")
    return [standardwebhooks.Webhook(one) for one in written]


def _failed(note: str, request: str) -> adapters.Settled:
    return adapters.Settled(adapters.State.FAILED, note, request=request)


def _settled(answer: outside.Answer, request: str, now_us: int) -> adapters.Settled:
    response = "\n".join([str(answer.status), *(f"{k}: {v}" for k, v in answer.headers.items()), "", answer.text])
    state, note, again_us = adapters.State.FAILED, f"answered {answer.status}", None
    if 200 <= answer.status < 300:
        state, note = adapters.State.DONE, ""
    elif answer.status == 410:
        state = adapters.State.GONE
    else:
        again_us = retry_after_us(answer.headers.get("retry-after", ""), now_us)
    return adapters.Settled(state, note, again_us=again_us, request=request, response=response, status=answer.status)


def retry_after_us(value: str, now_us: int) -> int | None:
    """When `Retry-After` (seconds or a date, RFC 9110 10.2.3) wants to be asked again; None for no usable value."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return now_us + int(value[:9]) * 1_000_000
    try:
        until = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return int(until.timestamp()) * 1_000_000
