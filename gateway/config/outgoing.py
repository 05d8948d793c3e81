"""Webhooks and brokers of the routing file: who is told of what happens."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from gateway.config import tables
from gateway.core import addresses, events, receivers

SECRET = re.compile(r"file:/[A-Za-z0-9_./@+-]{1,200}|env:[A-Za-z_][A-Za-z0-9_]{0,63}")
REFERENCE = "a reference, file:/path or env:NAME, not the secret itself"
_TOPIC = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_PORTS = {"mqtt": 1883, "mqtts": 8883}
MAX_URL = 1_000


def read_webhook(table: tables.Table, key: str) -> receivers.Webhook:
    """One `[[webhook]]`."""
    allow = tuple(networks(table, "allow"))
    read = receivers.Webhook(
        key=key,
        url=_url(table, allow),
        secret=_required(table, "secret"),
        events=_events(table),
        allow=allow,
        per_second=table.whole("per_second", receivers.PER_SECOND, 1, 10_000),
        timeout_seconds=table.whole("timeout_seconds", receivers.TIMEOUT_SECONDS, 1, 60),
        ca_file=_ca_file(table),
        enabled=bool(table.flag("enabled", True)),
    )
    table.refuse_unknown()
    return read


def read_broker(table: tables.Table, key: str) -> receivers.Broker:
    """One `[[broker]]`. Its address may be of the house: a broker is part of it, and gets nothing but events."""
    url = urlsplit(table.text("url", max_length=MAX_URL) or "")
    try:
        port = url.port or _PORTS.get(url.scheme, 0)
    except ValueError:
        port = 0
    if "url" not in table.raw:
        table.wrong("url", "is missing")
    elif isinstance(table.raw["url"], str) and (
        url.scheme not in _PORTS or not url.hostname or not port or url.path.strip("/") or url.username or url.query
    ):
        table.wrong("url", "must be mqtts://host or mqtt://host, with :port if it is not 8883 or 1883, and no more")
    username = table.text("username")
    password = table.matching("password", SECRET, REFERENCE)
    if (username is None) != ("password" not in table.raw):
        table.wrong(None, "needs username and password, or neither")
    read = receivers.Broker(
        key=key,
        host=url.hostname or "",
        port=port,
        topic=table.matching("topic", _TOPIC, "words parted by /, without + and #") or "dialmark",
        is_tls=url.scheme == "mqtts",
        username=username,
        password=password,
        ca_file=_ca_file(table),
        events=_events(table),
        per_second=table.whole("per_second", 0, 0, 100_000),
        timeout_seconds=table.whole("timeout_seconds", receivers.TIMEOUT_SECONDS, 1, 60),
        enabled=bool(table.flag("enabled", True)),
    )
    table.refuse_unknown()
    return read


def read_inbound(table: tables.Table, key: str) -> receivers.Inbound:
    """One `[[inbound]]`: who may tell us of deals."""
    read = receivers.Inbound(key, _required(table, "secret"), bool(table.flag("enabled", True)))
    table.refuse_unknown()
    return read


def _required(table: tables.Table, name: str) -> str:
    if name not in table.raw:
        table.wrong(name, "is missing")
    return table.matching(name, SECRET, REFERENCE) or ""


def _url(table: tables.Table, allow: tuple[addresses.Network, ...]) -> str:
    if "url" not in table.raw:
        table.wrong("url", "is missing")
    written = table.text("url", max_length=MAX_URL)
    if written is None:
        return ""
    try:
        url = urlsplit(written)
        is_good = bool(url.hostname) and url.port != 0 and not url.fragment and " " not in written
    except ValueError:
        is_good = False
    if not is_good or url.scheme not in ("http", "https"):
        table.wrong("url", "must be an address like https://crm.example.com/hooks/calls")
    elif url.username is not None:
        table.wrong("url", "must hold no user and password: the signature tells who sent it")
    elif url.scheme == "http" and not allow:
        table.wrong("url", "is plain http, which goes to networks named in `allow` only: write https://")
    elif not _may_reach(url.hostname or "", allow, is_plain=url.scheme == "http"):
        table.wrong("url", f"{url.hostname} is no address of the internet, and in no network of `allow`")
    return written


def _may_reach(host: str, allow: tuple[addresses.Network, ...], *, is_plain: bool) -> bool:
    """False for an address that will be refused; a name is looked up when something is sent."""
    try:
        ip_network(host)
    except ValueError:
        return host.lower() != "localhost" or bool(allow)
    return addresses.may_reach(host, allow, only_allowed=is_plain)


def networks(table: tables.Table, name: str) -> list[addresses.Network]:
    """The networks in a list; wrong ones are noted and left out."""
    found: list[addresses.Network] = []
    for index, text in enumerate(table.texts(name)):
        try:
            found.append(ip_network(text))
        except ValueError:
            try:
                choices = [str(ip_network(text, strict=False))]
            except ValueError:
                choices = []
            table.wrong(name, "must be networks like 10.1.2.0/24", index=index, word=text, choices=choices)
    return found


def _events(table: tables.Table) -> tuple[str, ...]:
    written = table.texts("events")
    if "events" in table.raw and table.raw["events"] == []:
        table.wrong("events", "must name at least one type; leave it out for all")
    known = sorted(events.ALL_TYPES)
    for index, pattern in enumerate(written):
        if not any(receivers.wants((pattern,), one) for one in known):
            families = sorted({f"{one.partition('.')[0]}.*" for one in known})
            table.wrong(
                "events",
                f"'{tables.shown(pattern)}' is no event",
                index=index,
                word=pattern,
                choices=[*known, *families],
            )
    return written or receivers.ALL


def _ca_file(table: tables.Table) -> str | None:
    written = table.text("ca_file")
    if written is not None and not PurePosixPath(written).is_absolute():
        table.wrong("ca_file", "must be an absolute path")
    return written
