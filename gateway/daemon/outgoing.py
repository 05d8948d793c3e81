"""Who is told of events: what settings and routing book say, for everyone who writes events and for the post."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.config import settings, settingsections
from gateway.core import book, receivers
from gateway.core.outgoing import adapters, integration
from gateway.senders import catalogue, jsonlines, mail, mqtt, ticketmail, webhook
from gateway.services import posting


def secret(reference: str) -> str:
    """The secret that `file:PATH` or `env:NAME` names. Raises ValueError with what is wrong."""
    kind, _, name = reference.partition(":")
    try:
        return Path(name).read_text(encoding="utf-8").strip() if kind == "file" else os.environ[name]
    except (OSError, UnicodeDecodeError, KeyError):
        raise ValueError(f"{kind}:{name} cannot be read") from None


def password(reference: str) -> str:
    """As `secret`, for the files of Asterisk."""
    try:
        return secret(reference)
    except ValueError as error:
        raise ValueError(f"the password {error}") from None


def subscriptions(chosen: settings.Settings) -> receivers.Subscriptions:
    """With what the settings name; the routing book's come with `Outgoing.use`."""
    fixed: dict[str, tuple[str, ...]] = (
        {jsonlines.TARGET: receivers.ALL} if chosen.events.jsonl_path is not None else {}
    )
    if mails(chosen):
        fixed[mail.TARGET] = mail.WANTS
    if mails_tickets(chosen):
        fixed[ticketmail.TARGET] = ticketmail.WANTS
    return receivers.Subscriptions(fixed)


def mails(chosen: settings.Settings) -> bool:
    """Whether alarms go out by mail."""
    return bool(chosen.alerts.mail_to and chosen.mail.host)


def fixed_lines(chosen: settings.Settings) -> dict[str, posting.Line]:
    """The targets that the settings name, whatever the routing book says."""
    found = mail_lines(chosen)
    if (line := file_line(chosen.events)) is not None:
        found[jsonlines.TARGET] = line
    return found


def mail_lines(chosen: settings.Settings) -> dict[str, posting.Line]:
    """Those of them that are mails."""
    found = {mail.TARGET: mail_line(chosen)} if mails(chosen) else {}
    if mails_tickets(chosen):
        found[ticketmail.TARGET] = ticket_line(chosen)
    return found


def file_line(said: settingsections.Events) -> posting.Line | None:
    """The JSON-lines file."""
    path = said.jsonl_path
    if path is None:
        return None
    facts = (path, said.rotate_bytes, said.rotate_hours)
    return posting.Line(
        facts, lambda: jsonlines.JsonLines(path, rotate_bytes=said.rotate_bytes, rotate_hours=said.rotate_hours)
    )


def mails_tickets(chosen: settings.Settings) -> bool:
    """Whether reminders and escalations of tickets go out by mail."""
    return bool(chosen.alerts.tickets_mail_to and chosen.mail.host)


def ticket_line(chosen: settings.Settings) -> posting.Line:
    """The target of their mails."""
    server = _server(chosen, chosen.alerts.tickets_mail_to)

    def made() -> mail.Mail:
        secret = chosen.mail.password.get_secret_value
        return mail.Mail(server, secret, target=ticketmail.TARGET, wants=ticketmail.WANTS, letter=ticketmail.letter)

    return posting.Line(server, made, per_second=1)


def mail_line(chosen: settings.Settings) -> posting.Line:
    """The target of mails."""
    server = _server(chosen, chosen.alerts.mail_to)
    return posting.Line(server, lambda: mail.Mail(server, chosen.mail.password.get_secret_value), per_second=1)


def _server(chosen: settings.Settings, to: tuple[str, ...]) -> mail.Server:
    said = chosen.mail
    ca_file = str(said.ca_file) if said.ca_file is not None else None
    return mail.Server(said.host, said.port, said.security, said.sender, to, said.username, ca_file)


def wanted(routing_book: book.Book) -> dict[str, tuple[str, ...]]:
    """Targets of the routing book, with what each wants."""
    return {target: one.events for target, one in routing_book.receivers.by_target().items()}


def workshop(chosen: settings.Settings) -> catalogue.Workshop:
    """What adapters of integrations are made with."""
    return catalogue.Workshop(secret, lambda: time.time_ns() // 1000, chosen.events.tokens_dir)


def adapter(receiver: receivers.Receiver, tools: catalogue.Workshop) -> adapters.Adapter:
    """What speaks to a receiver."""
    match receiver:
        case receivers.Webhook():
            return webhook.Webhook(receiver, secret)
        case receivers.Broker():
            return mqtt.Broker(receiver, secret)
        case integration.Integration():
            return catalogue.adapter(receiver, tools)


def adapters_of(
    chosen: settings.Settings, current: Callable[[], book.Book | None]
) -> Callable[[str], adapters.Adapter | None]:
    """Makes what speaks to a target of the book in force, or by mail, for a test; None for one that it does not
    know."""
    tools, letters = workshop(chosen), mail_lines(chosen)

    def made(target: str) -> adapters.Adapter | None:
        if target in letters:
            return letters[target].make()
        in_force = current()
        known = in_force.receivers.everyone() if in_force is not None else []
        return next((adapter(one, tools) for one in known if one.target == target), None)

    return made


def _line(receiver: receivers.Receiver, tools: catalogue.Workshop) -> posting.Line:
    return posting.Line(receiver, lambda: adapter(receiver, tools), receiver.per_second)


class Outgoing:
    """What is in force now. The post is there only in a process that delivers."""

    def __init__(self, chosen: settings.Settings) -> None:
        self.subscriptions = subscriptions(chosen)
        self._tools = workshop(chosen)
        self._fixed = fixed_lines(chosen)
        self._lines: Mapping[str, posting.Line] = self._fixed
        self._post: posting.Post | None = None

    def use(self, routing_book: book.Book) -> None:
        """Puts a book's receivers in force."""
        self.subscriptions.use(wanted(routing_book))
        made = {target: _line(one, self._tools) for target, one in routing_book.receivers.by_target().items()}
        self._lines = {**made, **self._fixed}
        if self._post is not None:
            self._post.use(self._lines)

    def deliver_by(self, post: posting.Post) -> None:
        """This post delivers, now and whatever is put in force later."""
        self._post = post
        post.use(self._lines)
