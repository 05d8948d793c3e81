"""Alarms, and reminders of tickets, by e-mail. One mail for an event, to all addresses; its `Message-ID` is made of the
event's id, so that a mail program shows one that came twice as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

import aiosmtplib

from gateway.core.outgoing import adapters
from gateway.senders import outside

TARGET = "mail:alerts"
WANTS = ("system.alert",)
SECONDS = 30.0

Letter = Callable[[adapters.Handed], tuple[str, list[str]]]
"""Subject and lines of an event."""


@dataclass(frozen=True, slots=True)
class Server:
    """The mail server, who sends and who gets it. `security` is starttls, tls or none."""

    host: str
    port: int
    security: str
    sender: str
    to: tuple[str, ...]
    username: str = ""
    ca_file: str | None = None


class Mail:
    """Events by mail, as an adapter; alarms unless told otherwise."""

    needs_visitor = False
    batching: adapters.Batching | None = None

    def __init__(
        self,
        server: Server,
        password: Callable[[], str],
        *,
        target: str = TARGET,
        wants: Sequence[str] = WANTS,
        letter: Letter | None = None,
    ) -> None:
        self.target = target
        self.wants = frozenset(wants)
        self._server = server
        self._password = password
        self._letter = letter or _alarm

    async def deliver(self, event: adapters.Handed, attempt: adapters.Attempt) -> adapters.Settled:
        """Sends one mail."""
        # A test is an alarm, whatever else goes out by these mails.
        message = _message(self._server, event, self._letter if event.type in self.wants else _alarm)
        request = message.as_string()
        if attempt.dry_run:
            return adapters.Settled(adapters.State.SKIPPED, "nothing was sent", request=request)
        try:
            said = await self._send(message)
        except aiosmtplib.SMTPRecipientsRefused:
            return adapters.Settled(
                adapters.State.FAILED, "the server takes no mail for these addresses", request=request
            )
        except (aiosmtplib.SMTPException, OSError, outside.Refused, ValueError) as error:
            return adapters.Settled(adapters.State.FAILED, _described(error), request=request)
        return adapters.Settled(adapters.State.DONE, request=request, response=said)

    async def deliver_many(
        self, events: Sequence[tuple[adapters.Handed, adapters.Attempt]]
    ) -> Sequence[adapters.Settled]:
        """One after the other."""
        return [await self.deliver(event, attempt) for event, attempt in events]

    async def _send(self, message: EmailMessage) -> str:
        server = self._server
        is_secure = server.security != "none"
        _, said = await aiosmtplib.send(
            message,
            hostname=server.host,
            port=server.port,
            username=server.username or None if is_secure else None,
            password=self._password() or None if is_secure else None,
            use_tls=server.security == "tls",
            start_tls=server.security == "starttls",
            tls_context=outside.tls_context(server.ca_file) if is_secure else None,
            timeout=SECONDS,
        )
        return said


def _message(server: Server, event: adapters.Handed, letter: Letter) -> EmailMessage:
    said, lines = letter(event)
    message = EmailMessage()
    # A header must stay one line, whatever a message quotes.
    subject = " ".join(f"[Dialmark] {said}".split())[:150]
    message["Subject"] = "".join(character for character in subject if character.isprintable())
    message["From"] = server.sender
    message["To"] = ", ".join(server.to)
    message["Date"] = format_datetime(datetime.fromtimestamp(event.at_us / 1_000_000, UTC))
    message["Message-ID"] = f"<{event.event_id}@dialmark>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n".join(lines) + "\n")
    return message


def _alarm(event: adapters.Handed) -> tuple[str, list[str]]:
    data = event.data
    state = data.get("state") or "raised"
    return str(data.get("message", "")), [
        str(data.get("message", "")),
        "",
        f"State:    {state}",
        f"Severity: {data.get('severity') or 'warning'}",
        f"Kind:     {data.get('kind')}",
        *([f"Subject:  {data['subject']}"] if data.get("subject") else []),
        *([f"Since:    {data['since']}"] if data.get("since") else []),
        f"Node:     {data.get('node')}",
        *([f"Call:     {data['call_id']}"] if data.get("call_id") else []),
        f"Event:    {event.event_id}",
    ]


def _described(error: Exception) -> str:
    match error:
        case aiosmtplib.SMTPTimeoutError():
            return "no answer in time"
        case aiosmtplib.SMTPAuthenticationError():
            return "the server does not take our password"
        case aiosmtplib.SMTPResponseException():
            return f"answered {error.code}"
        case aiosmtplib.SMTPConnectError():
            return f"not reached: {error}"
    return f"not sent: {type(error).__name__}"
