"""HTTP to the outside that does not get into the house.

Addresses are checked after the look-up of the name, in the connector itself: the address that was checked is the one
that is connected to, so a name that changes between two look-ups (DNS rebinding) gains nothing. A redirect is a new
request and passes the same check.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from socket import AF_UNSPEC, AddressFamily
from urllib.parse import urlsplit

import aiohttp
from aiohttp import abc
from yarl import URL

from gateway.core import addresses

MAX_ANSWER = 16_384
"""Bytes of an answer that are kept."""
MAX_REDIRECTS = 3
REDIRECTS = frozenset({307, 308})
"""Those that keep method and body; the others would turn a POST into a GET."""
USER_AGENT = "Dialmark"
_NUMERIC = re.compile(r"[0-9.]+|0[xX][0-9a-fA-F.xX]*")


class Refused(Exception):
    """We do not go there; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `text` is cut to `MAX_ANSWER` bytes; `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    text: str
    url: str
    """Where the answer came from, after redirects."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Where requests may go besides the internet."""

    allowed: tuple[addresses.Network, ...] = ()
    ca_file: str | None = None
    """PEM of the authorities that are believed; None: those of the system."""

    def check_literal(self, url: URL) -> None:
        """Raises Refused for an address written into the URL that may not be reached, and for a scheme that may not be
        used: `http` only to `allowed` networks, which are checked when connecting."""
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused(f"only https:// is possible, not {url.scheme[:20]}:")
        if url.scheme == "http" and not self.allowed:
            raise Refused("plain http goes to networks of `allow` only")
        try:
            ip_address(url.host.partition("%")[0])
        except ValueError:
            if _NUMERIC.fullmatch(url.host):
                # Other writings of an address (2130706433, 127.1): some versions of aiohttp look none of them up, so
                # that they would be connected to unchecked.
                raise Refused("its address is not understood: write it as four numbers") from None
            return
        self.check(url.host, is_plain=url.scheme == "http")

    def check(self, address: str, *, is_plain: bool) -> None:
        """Raises Refused for an address that may not be reached."""
        if not addresses.may_reach(address, self.allowed, only_allowed=is_plain):
            why = "is in no network of `allow`" if is_plain else "is not of the internet, and in no network of `allow`"
            raise Refused(f"{address} {why}")


class _Resolver(abc.AbstractResolver):
    """Looks names up, and gives back addresses that may be reached only."""

    def __init__(self, reach: Reach, *, is_plain: bool) -> None:
        self._reach = reach
        self._is_plain = is_plain
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: AddressFamily = AF_UNSPEC) -> list[abc.ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for one in found:
            # One that may not be reached spoils them all: an honest name has none.
            self._reach.check(one["host"], is_plain=self._is_plain)
        return found

    async def close(self) -> None:
        await self._inner.close()


@dataclass(slots=True)
class Outside:
    """Sessions that reach the outside within `reach`; one for a receiver. Use `close` at the end."""

    reach: Reach = field(default_factory=Reach)
    _sessions: dict[bool, aiohttp.ClientSession] = field(default_factory=dict)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | aiohttp.MultipartWriter | None,
        seconds: float,
        most: int = MAX_ANSWER,
        follow: bool = True,
    ) -> Answer:
        """Asks once, follows redirects that keep method and body unless `follow` is off; `most` bytes of it are kept.

        Raises Refused, TimeoutError, aiohttp.ClientError, OSError and ssl.SSLError; `described` puts each into words.
        """
        target = URL(url)
        async with asyncio.timeout(seconds):
            for _ in range(MAX_REDIRECTS + 1):
                self.reach.check_literal(target)
                answer, location = await self._once(method, target, headers, body, most)
                if location is None or not follow:
                    return answer
                if target.scheme == "https" and location.scheme != "https":
                    raise Refused("it redirects from https to plain http")
                target = location
        raise Refused(f"it redirects more than {MAX_REDIRECTS} times")

    async def _once(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | aiohttp.MultipartWriter | None, most: int
    ) -> tuple[Answer, URL | None]:
        session = self._session(is_plain=url.scheme == "http")
        sent = {"User-Agent": USER_AGENT, **headers}
        async with session.request(method, url, headers=sent, data=body, allow_redirects=False) as response:
            kept = bytearray()
            async for piece in response.content.iter_chunked(MAX_ANSWER):
                kept += piece
                if len(kept) >= most:
                    break
            text = bytes(kept[:most]).decode("utf-8", "replace")
            answer = Answer(
                response.status, {name.lower(): value for name, value in response.headers.items()}, text, str(url)
            )
            location = response.headers.get("Location")
            if response.status in REDIRECTS and location is not None:
                try:
                    return answer, url.join(URL(location))
                except ValueError:
                    raise Refused("it redirects to no address") from None
            return answer, None

    def _session(self, *, is_plain: bool) -> aiohttp.ClientSession:
        if is_plain not in self._sessions:
            connector = aiohttp.TCPConnector(
                resolver=_Resolver(self.reach, is_plain=is_plain),
                ssl=tls_context(self.reach.ca_file),
                # Looked up for each connection: what was checked must not be older than what is connected to.
                use_dns_cache=False,
                limit=0,
            )
            self._sessions[is_plain] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
            )
        return self._sessions[is_plain]

    async def close(self) -> None:
        """Ends all connections."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """TLS that believes the authorities in `ca_file`, or the system's. Raises Refused."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise Refused(f"{ca_file} cannot be read: {error.strerror or 'no certificate'}") from None


def described(error: BaseException) -> str:
    """Why nothing came back, in words for people: no secret, nothing of what was sent."""
    match error:
        case Refused():
            return str(error)
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is not good: {error.certificate_error}"
        case aiohttp.ClientConnectorDNSError():
            return f"its name is not known: {error.host}"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return "TLS failed: " + (getattr(error, "reason", None) or type(error).__name__)
        case aiohttp.ClientConnectorError():
            return f"not reached: {error.strerror or error.os_error}"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | ConnectionError():
            return "the connection was cut"
        case aiohttp.ClientPayloadError():
            return "the answer was cut"
        case aiohttp.InvalidURL():
            return "its address is not understood"
    return f"the answer was not understood: {type(error).__name__}"


FAILURES: tuple[type[BaseException], ...] = (Refused, TimeoutError, aiohttp.ClientError, OSError, ValueError)
"""What `request` may raise."""


def shown_url(url: str) -> str:
    """An address as people may see it: without user, password and query, which may be secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" + ("?…" if parts.query else "")
