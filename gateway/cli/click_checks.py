"""Checks of `doctor` around call-backs by click: the second account has its one right, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.cli.findings import Finding, fail, ok, warn

if TYPE_CHECKING:
    from gateway.config.settings import Settings

CHECK = "AMI account of clicks"


def secret(settings: Settings) -> Iterator[Finding]:
    """Of its file; nothing where clicks are off."""
    from gateway.cli import host_checks

    if settings.callbacks.click and settings.callbacks.secret_file is not None:
        yield host_checks.secret_file("AMI secret of clicks", settings.callbacks.secret_file)


def account(settings: Settings) -> Iterator[Finding]:
    """Logs in and asks what it may."""
    from gateway.cli import ami_probe
    from gateway.config import settings as reading

    ours = settings.callbacks
    if not ours.click:
        return
    try:
        password = ours.password()
    except reading.SettingsErrors as error:
        yield fail(CHECK, str(error), "callbacks.secret_file must be readable for the daemon's user")
        return
    if password and password == _daemons(settings):
        yield warn(CHECK, "has the secret of the daemon's own account", "give each a secret of its own")
    found = ami_probe.abilities(settings.ami.host, settings.ami.port, ours.username, password)
    place = f"{settings.ami.host}:{settings.ami.port} as {ours.username}"
    if found.problem is not None:
        yield fail(CHECK, f"{place}: {found.problem}", "see docs/callbacks.md (then: manager reload)")
    elif found.refused:
        yield fail(CHECK, f"{place} may not originate", "write = originate in manager_site.conf")
    elif found.excessive:
        yield fail(
            CHECK, f"{place} may too much: {', '.join(found.excessive)}", "read = and write = originate, no more"
        )
    else:
        yield ok(CHECK, f"{place} may originate, and nothing else")


def _daemons(settings: Settings) -> str:
    from gateway.config import settings as reading

    try:
        return settings.ami.password()
    except reading.SettingsErrors:
        return ""
