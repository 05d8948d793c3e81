"""Who may do what: scopes, API tokens, browser sessions, cross-site checks, and the limit on wrong credentials.

A token comes in the `Authorization` header, never in an address, and is looked up by its hash in the store. The login
form turns a token into a session: an opaque random cookie, of which this process keeps only the SHA-256. A session
ends with its token: revoking the token ends it within `RECHECK_SECONDS`.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit

from aiohttp import web
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from gateway.web import clients, problems

COOKIE = "dialmark_session"
SECURE_COOKIE = "__Host-dialmark_session"
IDLE_LIMIT = timedelta(hours=12)
"""A working day: who leaves the page open overnight logs in again."""
AGE_LIMIT = timedelta(days=7)
RECHECK_SECONDS = 10
SESSIONS_LIMIT = 1000
"""Sessions kept; the oldest goes first, so that a login loop cannot eat the memory."""
TOKEN_MAX_LENGTH = 200
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Scope(StrEnum):
    """What a token may be allowed; `admin` includes all others."""

    CALLS_READ = "calls:read"
    CALLS_HANG_UP = "calls:hang-up"
    CALLS_MAKE = "calls:make"
    AGENTS_MANAGE = "agents:manage"
    ROUTING_READ = "routing:read"
    LIVE_READ = "live:read"
    METRICS_READ = "metrics:read"
    RECORDINGS_PAUSE = "recordings:pause"
    RECORDINGS_LISTEN = "recordings:listen"
    RECORDINGS_DOWNLOAD = "recordings:download"
    VISITORS_READ = "visitors:read"
    VISITORS_ERASE = "visitors:erase"
    WEBHOOKS_MANAGE = "webhooks:manage"
    DEALS_WRITE = "deals:write"
    REPORTS_READ = "reports:read"
    COSTS_READ = "costs:read"
    COSTS_WRITE = "costs:write"
    WAGES_MANAGE = "wages:manage"
    AUDIENCES_EXPORT = "audiences:export"
    TICKETS_READ = "tickets:read"
    TICKETS_MANAGE = "tickets:manage"
    ADMIN = "admin"


class Open(StrEnum):
    """Why a route asks for no scope."""

    ANYONE = "anyone"
    """Nothing of the business is shown: liveness, login form, style sheets."""
    SIGNED_IN = "signed-in"
    """Any valid token or session."""
    SIGNED = "signed"
    """The body carries the signature of who sent it, which the handler checks."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: the token's id and name, and its scopes."""

    token_id: str
    name: str
    scopes: frozenset[str]

    def may(self, scope: Scope) -> bool:
        """Whether the scope is held, by itself or through `admin`."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


LOCAL_PRINCIPAL = Principal("local", "local process", frozenset({Scope.METRICS_READ}))
"""A process of this machine: sees metrics and readiness, no call."""

TokenCheck = Callable[[str], Awaitable[Principal | None]]
"""Gives the principal of a valid token, None for any other text."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on clients. Log-ins and wrong tokens count per client address, requests per token; both per minute in a
    moving window. `live_clients` may follow calls live at once."""

    login_per_minute: int = 10
    api_per_minute: int = 600
    live_clients: int = 50


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that logged in with a token. `token` stays in memory to see whether it is still valid."""

    principal: Principal
    token: str
    started_at: datetime
    seen_at: datetime
    checked_at: datetime


def digest(secret: str) -> bytes:
    """SHA-256 of a random secret: what is kept and looked up instead of it, so timing tells nothing of its value."""
    return hashlib.sha256(secret.encode()).digest()


class Sessions:
    """Browser sessions of this process. They end with it: after a restart the browser logs in again."""

    def __init__(self, check: TokenCheck, clock: Callable[[], datetime]) -> None:
        self._check = check
        self._clock = clock
        self._by_digest: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._by_digest)

    def start(self, principal: Principal, token: str) -> str:
        """Begin a session; gives the cookie's value (256 random bits)."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        self._drop_expired(now)
        while len(self._by_digest) >= SESSIONS_LIMIT:
            del self._by_digest[next(iter(self._by_digest))]
        self._by_digest[digest(secret)] = Session(principal, token, now, now, now)
        return secret

    async def find(self, secret: str) -> Principal | None:
        """Whose session it is, or None when it is unknown, expired, or its token was revoked meanwhile."""
        key, now = digest(secret), self._clock()
        session = self._by_digest.get(key)
        if session is None:
            return None
        if _is_expired(session, now):
            self._by_digest.pop(key, None)
            return None
        if now - session.checked_at >= timedelta(seconds=RECHECK_SECONDS):
            principal = await self._check(session.token)
            if principal is None or key not in self._by_digest:
                self._by_digest.pop(key, None)
                return None
            session = replace(session, principal=principal, checked_at=now)
        self._by_digest[key] = replace(session, seen_at=now)
        return session.principal

    def end(self, secret: str) -> None:
        """Log out; an unknown secret is no error."""
        self._by_digest.pop(digest(secret), None)

    def _drop_expired(self, now: datetime) -> None:
        for key in [key for key, session in self._by_digest.items() if _is_expired(session, now)]:
            del self._by_digest[key]


def _is_expired(session: Session, now: datetime) -> bool:
    return now - session.seen_at > IDLE_LIMIT or now - session.started_at > AGE_LIMIT


class Gate:
    """Finds the principal of a request and guards against guessing and cross-site forms."""

    def __init__(
        self,
        check: TokenCheck,
        clock: Callable[[], datetime],
        trusted_proxies: Sequence[clients.Network] = (),
        limits: Callable[[], Limits] = Limits,
    ) -> None:
        self.sessions = Sessions(check, clock)
        self._check = check
        self._trusted = tuple(trusted_proxies)
        self._limits = limits
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def client(self, request: web.Request) -> clients.Client:
        """The client behind trusted proxies."""
        return clients.client_of(request, self._trusted)

    @property
    def limits(self) -> Limits:
        """The bounds in force."""
        return self._limits()

    @property
    def _wrong_tries(self) -> RateLimitItem:
        return RateLimitItemPerMinute(self.limits.login_per_minute, namespace="wrong")

    async def count_request(self, principal: Principal) -> None:
        """Count an API request of a token. Raises Problem `too-many-requests` above the limit."""
        allowed = RateLimitItemPerMinute(self.limits.api_per_minute, namespace="api")
        if not await self._limiter.hit(allowed, principal.token_id):
            raise await self._later("too-many-requests", allowed, principal.token_id)

    async def principal(self, request: web.Request) -> Principal | None:
        """Who asks, by bearer token, else by session cookie, else as a local process; None = a stranger.

        Raises Problem `unauthenticated` or `too-many-attempts` for a bearer token that is wrong: a client that
        presents one is told, not served as somebody else.
        """
        client = self.client(request)
        if "Authorization" in request.headers:
            return await self._bearer(request, client)
        secret = request.cookies.get(cookie_name(client))
        if secret:
            principal = await self.sessions.find(secret)
            if principal is not None:
                return principal
        return LOCAL_PRINCIPAL if client.is_local else None

    async def log_in(self, request: web.Request, token: str) -> str | None:
        """The new session's cookie value, None for a wrong token. Raises Problem `too-many-attempts`."""
        client = self.client(request)
        # Counted before the look-up, or many tries at once would all pass the test.
        if not await self._limiter.hit(self._wrong_tries, client.rate_key):
            raise await self._too_many(client)
        principal = await self._check(token) if is_plausible(token) else None
        if principal is None:
            return None
        await self._limiter.clear(self._wrong_tries, client.rate_key)
        return self.sessions.start(principal, token)

    def log_out(self, request: web.Request) -> None:
        """End the request's session."""
        secret = request.cookies.get(cookie_name(self.client(request)))
        if secret:
            self.sessions.end(secret)

    def check_same_site(self, request: web.Request) -> None:
        """Raises Problem `cross-site` unless a form or script of our own pages sent the request.

        Browsers say so by Sec-Fetch-Site, and over plain HTTP, where that header is not sent, by Origin.
        """
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None and site not in ("same-origin", "none"):
            raise problems.Problem("cross-site")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != self.client(request).host:
            raise problems.Problem("cross-site")
        if site is None and origin is None:
            raise problems.Problem("cross-site", "Neither Sec-Fetch-Site nor Origin is set.")

    async def _bearer(self, request: web.Request, client: clients.Client) -> Principal:
        kind, _, token = request.headers["Authorization"].partition(" ")
        token = token.strip()
        principal = await self._check(token) if kind.lower() == "bearer" and is_plausible(token) else None
        if principal is not None:
            return principal
        if not await self._limiter.hit(self._wrong_tries, client.rate_key):
            raise await self._too_many(client)
        raise unauthenticated("The token is wrong, expired or revoked.", error="invalid_token")

    async def count_wrong(self, request: web.Request) -> None:
        """Count a wrong signature as a wrong token. Raises Problem `too-many-attempts` above the limit."""
        client = self.client(request)
        if not await self._limiter.hit(self._wrong_tries, client.rate_key):
            raise await self._too_many(client)

    async def _too_many(self, client: clients.Client) -> problems.Problem:
        return await self._later("too-many-attempts", self._wrong_tries, client.rate_key)

    async def _later(self, slug: str, item: RateLimitItem, key: str) -> problems.Problem:
        window = await self._limiter.get_window_stats(item, key)
        seconds = max(1, math.ceil(window.reset_time - time.time()))
        return problems.Problem(slug, f"Try again in {seconds} s.", headers={"Retry-After": str(seconds)})


def unauthenticated(detail: str = "", error: str | None = None) -> problems.Problem:
    """Problem 401 with its challenge (RFC 6750 section 3)."""
    challenge = 'Bearer realm="dialmark"' + (f', error="{error}"' if error else "")
    return problems.Problem("unauthenticated", detail, headers={"WWW-Authenticate": challenge})


def is_plausible(token: str) -> bool:
    """Whether a text can be a token at all; anything else costs no look-up."""
    return 0 < len(token) <= TOKEN_MAX_LENGTH and token.isascii() and token.isprintable() and " " not in token


def cookie_name(client: clients.Client) -> str:
    """Over HTTPS the `__Host-` prefix binds the cookie to this host and to HTTPS."""
    return SECURE_COOKIE if client.is_secure else COOKIE


def set_session_cookie(response: web.StreamResponse, client: clients.Client, secret: str) -> None:
    """Hand the session to the browser."""
    response.set_cookie(
        cookie_name(client),
        secret,
        max_age=int(AGE_LIMIT.total_seconds()),
        path="/",
        httponly=True,
        samesite="Lax",
        secure=client.is_secure,
    )


def clear_session_cookie(response: web.StreamResponse, client: clients.Client) -> None:
    """Take the session from the browser."""
    response.del_cookie(cookie_name(client), path="/", httponly=True, samesite="Lax", secure=client.is_secure)
