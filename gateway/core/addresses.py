"""Which addresses of the network a request of ours may go to: what the configuration names must not become a way into
the house (server-side request forgery)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64 = ip_network("64:ff9b::/96")
_NAT64_LOCAL = ip_network("64:ff9b:1::/48")


def is_public(address: Address) -> bool:
    """Whether it belongs to the internet: not private, loopback, link-local, shared, multicast, reserved or unset, also
    not as the IPv4 address inside an IPv6 one (mapped, 6to4, Teredo, NAT64)."""
    if isinstance(address, IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local or address in _NAT64_LOCAL:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def may_reach(address: str, allowed: Sequence[Network], *, only_allowed: bool = False) -> bool:
    """Whether a request may go to `address` (as a socket writes it, a zone is cut): public ones, and those in
    `allowed`; with `only_allowed` these alone. A text that is no address may not."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inner = _inner(found) if isinstance(found, IPv6Address) else None
    if any(one in network for one in (found, inner) if one is not None for network in allowed):
        return True
    return not only_allowed and is_public(found)


def _inner(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
