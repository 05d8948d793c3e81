"""Checks of what visitors' browsers reach: the public listener, and the operator's own files that it uses."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING

from gateway.cli.findings import Finding, fail, ok, warn

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.core import book

ANSWER_SECONDS = 3.0
LISTENER = "public listener"
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to reach what listens there


def own_files(settings: Settings) -> Iterator[Finding]:
    """Tables and databases of the operator's that are broken or gone."""
    from gateway.config import shipped
    from gateway.config.settings import SettingsErrors

    try:
        shipped.refuse_broken(settings)
    except SettingsErrors as errors:
        for error in errors.errors:
            yield fail(error.key, f"{error.where}: {error.message}", "mend the file, or empty the setting")


def visitors(settings: Settings, in_force: book.Book) -> Iterator[Finding]:
    """Whether pages can ask for numbers; nothing where no site has a web."""
    sites = list(in_force.web.sites)
    if not sites:
        return
    if not settings.web.port:
        yield fail(LISTENER, "web.port is 0, and the routing has web sites", "set web.port: nobody can ask for numbers")
        return
    yield _listener(settings, sites)
    if ip_address(settings.web.host).is_loopback and not settings.web.trusted_proxies:
        yield warn(
            "visitors' addresses",
            "only a proxy on this machine reaches the public listener, and none is trusted",
            'web.trusted_proxies = ["127.0.0.1/32"], or all visitors look like one and share its limits',
        )


def _listener(settings: Settings, sites: list[str]) -> Finding:
    host = ANYWHERE.get(settings.web.host, settings.web.host)
    place = f"http://{f'[{host}]' if ':' in host else host}:{settings.web.port}"
    for site in sites:
        url = f"{place}/dni/v1/{site}.js"
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - it begins with http:
                answer.read()
        except (urllib.error.URLError, OSError) as error:
            said = getattr(error, "reason", None) or error
            return fail(LISTENER, f"{url}: {said}", "pages keep the site's own number; systemctl status dialmark")
    return ok(LISTENER, f"{place} serves the script of {', '.join(sites)}")
