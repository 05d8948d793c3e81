"""Who is at the other end of a connection: the client's address behind trusted proxies, scheme, and loopback."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from aiohttp import web

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_PROXY_MARKS = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class Client:
    """The client of one request, after trusted proxies are taken off.

    `is_local` is true only for a process of this machine that speaks to us directly: the peer is loopback, no proxy
    left its mark, and the Host header is a loopback name, so that neither an unlisted reverse proxy on this machine nor
    a web page by DNS rebinding passes for it.
    """

    address: str
    is_local: bool
    is_secure: bool
    host: str

    @property
    def rate_key(self) -> str:
        """What login limits count on: the address, or its /64 for IPv6, where one customer has a whole network."""
        try:
            parsed = ipaddress.ip_address(self.address)
        except ValueError:
            return self.address
        if isinstance(parsed, IPv6Address):
            return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
        return str(parsed)


def parse_networks(values: Sequence[str]) -> tuple[Network, ...]:
    """Networks or single addresses of trusted proxies. Raises ValueError on the first that is neither."""
    return tuple(ipaddress.ip_network(value, strict=False) for value in values)


def client_of(request: web.Request, trusted: Sequence[Network]) -> Client:
    """The client of `request`. Forwarding headers count only when the peer is within `trusted` proxies."""
    peer = _parse(request.remote or "")
    through_trusted = peer is not None and _is_within(peer, trusted)
    address, scheme, host = peer, request.scheme, request.host
    if through_trusted:
        address = _forwarded_address(request, trusted) or peer
        scheme = _last(request.headers.get("X-Forwarded-Proto", "")) or scheme
        host = _last(request.headers.get("X-Forwarded-Host", "")) or host
    has_proxy_mark = any(name in request.headers for name in _PROXY_MARKS)
    is_local = peer is not None and peer.is_loopback and not has_proxy_mark and _host_name(host) in _LOOPBACK_NAMES
    return Client(
        address=str(address) if address is not None else "unknown",
        is_local=is_local,
        is_secure=scheme == "https",
        host=host.lower(),
    )


def is_from_proxy(request: web.Request, trusted: Sequence[Network]) -> bool:
    """Whether a trusted proxy sent the request, so that its own headers are believed."""
    peer = _parse(request.remote or "")
    return peer is not None and _is_within(peer, trusted)


def is_from_stranger(request: web.Request, trusted: Sequence[Network]) -> bool:
    """Whether somebody forwards requests who is not trusted to: all its clients look like one."""
    return "X-Forwarded-For" in request.headers and not is_from_proxy(request, trusted)


def _forwarded_address(request: web.Request, trusted: Sequence[Network]) -> Address | None:
    """The right-most X-Forwarded-For entry that is not one of our proxies: what stands left of it is hearsay."""
    entries = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
    last_known: Address | None = None
    for entry in reversed(entries):
        parsed = _parse(entry.strip())
        if parsed is None:
            return last_known
        last_known = parsed
        if not _is_within(parsed, trusted):
            return parsed
    return last_known


# Each request is asked several times who it is from.
@lru_cache(maxsize=1_024)
def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _last(value: str) -> str:
    return value.rpartition(",")[2].strip().lower()


def _host_name(host: str) -> str:
    name, _, port = host.lower().rpartition(":")
    return name if name and port.isdigit() else host.lower()
