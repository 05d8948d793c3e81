"""Checks of who is told of events: secrets that can be read and used, how each receiver does, the mail server's name.

Nothing is sent; `dialmark webhooks test` does that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.findings import Finding, State, fail, ok, warn

if TYPE_CHECKING:
    from gateway import store
    from gateway.config.settings import Settings
    from gateway.core import receivers
    from gateway.core.outgoing.integration import Integration

ROTATED = "tokens of services"
MAILS = "mails"


@dataclass(frozen=True, slots=True)
class _Secret:
    """A secret of a receiver. `used` raises ValueError for one that will not do."""

    check: str
    reference: str
    used: Callable[[str], object] = str


def secrets(settings: Settings, told: receivers.Receivers) -> Iterator[Finding]:
    """Whether each secret of the routing file is there, closed to others, and of use; of those that are in use."""
    for one in _secrets(told):
        kind, _, name = one.reference.partition(":")
        if kind == "env":
            yield _of_environment(one, name)
        else:
            yield _of_file(one, Path(name))
    if any(one.enabled and one.auth.refresh_token for one in told.integrations.values()):
        yield _rotated(settings.events.tokens_dir)


def _secrets(told: receivers.Receivers) -> Iterator[_Secret]:
    from gateway.core import signedhooks
    from gateway.senders import webhook

    for hook in told.webhooks.values():
        if hook.enabled:
            yield _Secret(f"secret of {hook.target}", hook.secret, webhook.secrets)
    for source in told.inbound.values():
        if source.enabled:
            yield _Secret(f"secret of inbound:{source.key}", source.secret, signedhooks.keys)
    for broker in told.brokers.values():
        if broker.enabled and broker.password is not None:
            yield _Secret(f"password of {broker.target}", broker.password)
    for service in told.integrations.values():
        if service.enabled:
            yield from _of_service(service)


def _of_service(service: Integration) -> Iterator[_Secret]:
    auth, account = service.auth, service.account
    named = {
        "token": auth.token,
        "client_secret": auth.client_secret,
        "refresh_token": auth.refresh_token,
        "api_secret": getattr(account, "api_secret", None),
        "developer_token": getattr(account, "developer_token", None),
    }
    for name, reference in named.items():
        if reference is not None:
            yield _Secret(f"{name} of {service.target}", reference)


def _of_environment(one: _Secret, name: str) -> Finding:
    if name not in os.environ:
        return ok(one.check, f"{name} in the daemon's environment, which is not seen from here")
    return _of_use(one, os.environ[name], name)


def _of_file(one: _Secret, path: Path) -> Finding:
    from gateway.cli import host_checks

    found = host_checks.secret_file(one.check, path)
    if found.state is not State.OK:
        return fail(one.check, found.text, found.advice.replace("`dialmark init` makes it, or correct", "correct"))
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return fail(one.check, f"{path} cannot be read as text", "write the secret anew, in UTF-8")
    return _of_use(one, text, str(path))


def _of_use(one: _Secret, text: str, place: str) -> Finding:
    try:
        one.used(text)
    except ValueError as error:
        return fail(one.check, f"{place}: {error}", "write it as the service, or `dialmark webhooks secret`, gave it")
    if not text:
        return fail(one.check, f"{place} is empty", "write the secret there")
    return ok(one.check, place)


def _rotated(folder: Path) -> Finding:
    """The daemon makes it at the first token."""
    from gateway.cli import host_checks

    return host_checks.writable_folder(ROTATED, folder if folder.is_dir() else folder.parent, "refresh tokens")


async def standing(database: store.Database, told: receivers.Receivers) -> list[Finding]:
    """Receivers that take no events now."""
    from gateway.store import targets

    async with database.read() as connection:
        states = await targets.states(connection)
    found = []
    for target in sorted(told.by_target()):
        state = states.get(target)
        if state is None:
            continue
        if state.off_us is not None:
            advice = f"once it is well: dialmark webhooks enable {target}"
            found.append(warn(target, f"is switched off: {state.off_reason}", advice))
        elif state.failing_us is not None:
            advice = f"dialmark webhooks deliveries {target}"
            found.append(warn(target, f"fails: {state.last_error}", advice))
    return found


def mails(settings: Settings) -> Iterator[Finding]:
    """Whether who is to get mails can get any; nothing where nobody is."""
    alerts, server = settings.alerts, settings.mail
    if not (alerts.mail_to or alerts.tickets_mail_to):
        return
    if not server.host:
        yield fail(MAILS, "there are addresses, and no server: nobody gets a mail", "set mail.host")
    elif server.security == "none" and server.username:
        text = f"{server.host} gets no password: mail.security is none"
        yield warn(MAILS, text, "starttls or tls, or no mail.username")
    else:
        yield ok(MAILS, f"by {server.host}:{server.port}; `dialmark webhooks test mail:alerts` sends one")
