"""Who the client is: trusted proxies, forged headers, loopback."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.web import clients

PROXIES = clients.parse_networks(["10.0.0.0/8", "192.0.2.7", "2001:db8::/48"])


def client(peer: str, headers: dict[str, str] | None = None) -> clients.Client:
    """The client of a request from `peer`: addresses that a test on loopback cannot have."""
    transport = asyncio.Transport(extra={"peername": (peer, 1234)})
    request = make_mocked_request(
        "GET", "/", headers={"Host": "localhost:8081", **(headers or {})}, transport=transport
    )
    return clients.client_of(request, PROXIES)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.5", None, "203.0.113.5"),
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),
        ("10.1.1.1", "198.51.100.1", "198.51.100.1"),
        ("10.1.1.1", "127.0.0.1, 198.51.100.1", "198.51.100.1"),
        ("10.1.1.1", "198.51.100.1, 10.2.2.2", "198.51.100.1"),
        ("10.1.1.1", "garbage, 10.2.2.2", "10.2.2.2"),
        ("10.1.1.1", "garbage", "10.1.1.1"),
        ("10.1.1.1", "", "10.1.1.1"),
        ("10.1.1.1", "10.9.9.9", "10.9.9.9"),
        ("::ffff:10.1.1.1", "2001:db8:1::9", "2001:db8:1::9"),
        ("nonsense", None, "unknown"),
    ],
)
def test_it_believes_forwarding_headers_of_trusted_proxies_only(peer: str, forwarded: str | None, address: str) -> None:
    headers = {"X-Forwarded-For": forwarded} if forwarded is not None else {}
    assert client(peer, headers).address == address


def test_it_takes_scheme_and_host_from_trusted_proxies_only() -> None:
    forged = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "calls.example"}
    assert client("10.1.1.1", forged).is_secure
    assert client("10.1.1.1", forged).host == "calls.example"
    assert not client("203.0.113.5", forged).is_secure
    assert client("203.0.113.5", forged).host == "localhost:8081"


@pytest.mark.parametrize(
    ("peer", "headers", "is_local"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {"Host": "[::1]:8081"}, True),
        ("127.0.0.1", {"Host": "127.0.0.1:8081"}, True),
        ("127.0.0.1", {"Host": "rebound.example"}, False),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, False),
        ("127.0.0.1", {"Via": "1.1 proxy"}, False),
        ("127.0.0.1", {"X-Real-IP": "127.0.0.1"}, False),
        ("192.168.1.5", {}, False),
    ],
)
def test_only_a_direct_process_of_this_machine_is_local(peer: str, headers: dict[str, str], is_local: bool) -> None:
    """An unlisted reverse proxy on the same machine, or a page by DNS rebinding, must not pass for one."""
    assert client(peer, headers).is_local is is_local


def test_one_ipv6_network_is_one_client_for_limits() -> None:
    assert client("2001:db9::1").rate_key == client("2001:db9::2").rate_key == "2001:db9::/64"
    assert client("203.0.113.5").rate_key == "203.0.113.5"
    assert client("nonsense").rate_key == "unknown"


def test_a_wrong_network_is_refused() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        clients.parse_networks(["proxy.example"])
