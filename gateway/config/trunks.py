"""Carriers of the routing file. Their values end up in generated Asterisk configuration, so each is held to a shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from gateway.config import tables
from gateway.core import book, numbers

TRANSPORTS = ("udp", "tcp", "tls")

_HOST_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_NUMERIC = re.compile(r"[0-9.]+")
_SERVER = re.compile(r"(?P<host>[^:\[\]]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?")
_USERNAME = re.compile(r"[A-Za-z0-9_.+@~-]{1,64}")
_SECRET = re.compile(r"file:/[A-Za-z0-9_./@+-]{1,200}|env:[A-Za-z_][A-Za-z0-9_]{0,63}")
_Network = IPv4Network | IPv6Network


def read(table: tables.Table, key: str, default_country: str) -> book.Trunk:
    """The trunk in `table`; its INVITEs come from `hosts`, or from `server` when there are none."""
    server = _server(table, "server")
    hosts = _hosts(table)
    if table.raw.get("hosts") is None:
        if server is None:
            table.wrong(None, "needs hosts, the addresses its calls come from, or server")
        else:
            hosts = (_host_of(server),)
    transport = table.text("transport") or "udp"
    if transport not in TRANSPORTS:
        table.wrong("transport", f"must be one of {', '.join(TRANSPORTS)}", word=transport, choices=TRANSPORTS)
    trunk = book.Trunk(
        key=key,
        country=country(table, default_country),
        number_form=table.choice("number_form", book.NumberForm, book.NumberForm.E164),
        did_from=table.choice("did_from", book.DidSource, book.DidSource.RURI),
        hosts=hosts,
        server=server,
        registration=_registration(table, server),
        nat=bool(table.flag("nat")),
        early_media=bool(table.flag("early_media")),
        transport=transport,
    )
    table.refuse_unknown()
    return trunk


def country(table: tables.Table, default: str) -> str:
    """The ISO code of a country that has telephones; `default` if absent or wrong."""
    code = table.text("country")
    if code is None:
        return default
    if not numbers.is_country(code):
        upper = code.upper()
        table.wrong(
            "country",
            "must be an ISO code of two capital letters, like RU",
            word=upper,
            choices=(upper,) if numbers.is_country(upper) else (),
        )
        return default
    return code


def refuse_clashes(read_trunks: Mapping[str, tuple[tables.Table, book.Trunk]]) -> None:
    """Note trunks that cannot be told apart: by the address of their calls, or by the names Asterisk gives them."""
    taken: dict[str, str] = {}
    networks: list[tuple[_Network, str, str]] = []
    for key, (table, trunk) in read_trunks.items():
        if key.endswith("-out") and key.removesuffix("-out") in read_trunks:
            table.wrong(
                "key", f"'{key}' is what Asterisk calls the outgoing side of trunk '{key.removesuffix('-out')}'"
            )
        for index, host in enumerate(trunk.hosts):
            network = _network(host)
            clash = taken.get(host.lower())
            if clash is None and network is not None:
                clash = next((other for known, other, _ in networks if _overlap(known, network)), None)
            if clash is not None and clash != key:
                name, place = ("hosts", index) if "hosts" in table.raw else ("server", None)
                table.wrong(name, f"calls from {host} cannot be told from those of trunk '{clash}'", index=place)
            taken.setdefault(host.lower(), key)
            if network is not None:
                networks.append((network, key, host))


def _hosts(table: tables.Table) -> tuple[str, ...]:
    hosts: list[str] = []
    for index, host in enumerate(table.texts("hosts")):
        if not _is_host(host, table, index):
            continue
        if host.lower() in (known.lower() for known in hosts):
            table.wrong("hosts", f"'{host}' stands here twice", index=index)
        else:
            hosts.append(host)
    if table.raw.get("hosts") == []:
        table.wrong("hosts", "must name at least one address")
    return tuple(hosts)


def _is_host(host: str, table: tables.Table, index: int) -> bool:
    what = "must be an IP address, a network like 203.0.113.0/24 or a host name"
    if _network(host) is not None or (_HOST_NAME.fullmatch(host) and not _NUMERIC.fullmatch(host)):
        return True
    try:
        table.wrong("hosts", what, index=index, word=host, choices=(str(ip_network(host, strict=False)),))
    except ValueError:
        table.wrong("hosts", what, index=index)
    return False


def _network(host: str) -> _Network | None:
    try:
        return ip_network(host)
    except ValueError:
        return None


def _overlap(one: _Network, other: _Network) -> bool:
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.overlaps(other)
    return isinstance(one, IPv6Network) and isinstance(other, IPv6Network) and one.overlaps(other)


def _server(table: tables.Table, name: str) -> str | None:
    value = table.text(name, max_length=260)
    if value is None:
        return None
    match = _SERVER.fullmatch(value)
    if match and _is_server_host(match["host"]) and 0 < int(match["port"] or 5060) < 65_536:
        return value
    table.wrong(name, "must be a host name or address, with :port if it is not 5060; IPv6 in [brackets]")
    return None


def _is_server_host(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return bool(_HOST_NAME.fullmatch(host)) and not _NUMERIC.fullmatch(host)
    return True


def _host_of(server: str) -> str:
    match = _SERVER.fullmatch(server)
    return match["host"].strip("[]") if match else server


def _registration(table: tables.Table, server: str | None) -> book.Registration | None:
    inner = table.table("registration")
    if inner is None:
        return None
    registrar = _server(inner, "server") or server
    if registrar is None:
        inner.wrong(None, "needs a server to register with, here or in the trunk")
    username = inner.matching("username", _USERNAME, "letters, digits and _.+@~-, at most 64")
    password = inner.matching("password", _SECRET, "a reference, file:/path or env:NAME, not the password itself")
    for name, value in (("username", username), ("password", password)):
        if value is None and name not in inner.raw:
            inner.wrong(name, "is missing")
    seconds = inner.whole("expiration_seconds", 300, 30, 86_400)
    inner.refuse_unknown()
    return book.Registration(registrar or "", username or "", password or "", seconds)
