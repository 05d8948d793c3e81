"""Tokens of outside services: kept while they last, fetched anew when they do not, rotated ones written down.

Some services void a refresh token when it is used and give a new one. That one is on disk before the access token is
used, or the next start would have none that counts.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import structlog

from gateway.core.outgoing import oauth, talks

log = structlog.get_logger()

Driver = Callable[["talks.Talk[oauth.Token]"], Awaitable[oauth.Token]]
"""Drives a talk; raises `talks.Refused`."""


class Tokens(Protocol):
    """Where a sender's token comes from."""

    async def token(self, refused: str | None = None) -> str:
        """The token to use; `refused` is one that the service did not take. Raises `talks.Refused`."""
        ...


class Fixed:
    """A token that somebody put into a file; a new one there counts from the next request on."""

    def __init__(self, read: Callable[[], str]) -> None:
        """`read` raises ValueError with what is wrong."""
        self._read = read

    async def token(self, refused: str | None = None) -> str:
        """What the file says; one that was refused is not tried again."""
        try:
            found = self._read()
        except ValueError as error:
            raise talks.Refused(talks.Kind.TOKEN, str(error)) from error
        if found == refused:
            raise talks.Refused(talks.Kind.TOKEN, "answered 401")
        return found


class Refreshed:
    """Tokens by OAuth, one fetch at a time. `path` keeps the refresh token that counts, mode 0600."""

    def __init__(
        self, grant: Callable[[], oauth.Grant], drive: Driver, *, path: Path, now_us: Callable[[], int]
    ) -> None:
        """`grant` reads what the configuration says; it raises ValueError with what is wrong."""
        self._grant = grant
        self._drive = drive
        self._path = path
        self._now_us = now_us
        self._lock = asyncio.Lock()
        self._token: oauth.Token | None = None
        self._fetching: asyncio.Task[oauth.Token] | None = None

    async def token(self, refused: str | None = None) -> str:
        """The token to use, fetched if need be."""
        async with self._lock:
            if self._fetching is not None:
                # Whoever asked for it has given up; its refresh token may be void by now.
                await asyncio.wait([self._fetching])
            token = self._token
            if token is None or token.access == refused or token.until_us - oauth.EARLY_US <= self._now_us():
                token = await self._fetched()
            return token.access

    async def _fetched(self) -> oauth.Token:
        try:
            configured = self._grant()
        except ValueError as error:
            raise talks.Refused(talks.Kind.TOKEN, str(error)) from error
        grant = replace(configured, refresh_token=self._kept(configured) or configured.refresh_token)
        # A refresh token that the service has voided must be written down, also when whoever asked has given up.
        self._fetching = asyncio.ensure_future(self._fetch(grant, configured))
        self._fetching.add_done_callback(self._end)
        return await asyncio.shield(self._fetching)

    async def _fetch(self, grant: oauth.Grant, configured: oauth.Grant) -> oauth.Token:
        token = await self._drive(oauth.fetch(grant, self._now_us()))
        if token.refresh is not None and token.refresh != grant.refresh_token:
            await asyncio.to_thread(self._keep, configured, token.refresh)
        self._token = token
        return token

    def _end(self, fetching: asyncio.Task[oauth.Token]) -> None:
        self._fetching = None
        if not fetching.cancelled():
            # Taken, so that a failure that nobody waits for any more is no error of the loop's: the next one asks anew.
            fetching.exception()

    def _kept(self, configured: oauth.Grant) -> str | None:
        """The rotated token, while the configured one is still the one that it came from."""
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            return str(kept["refresh_token"]) if kept["from"] == _fingerprint(configured) else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("kept token not read, the configured one is used", path=str(self._path), error=str(error))
            return None

    def _keep(self, configured: oauth.Grant, refresh_token: str) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._path.with_name(f"{self._path.name}.new")
        text = json.dumps({"from": _fingerprint(configured), "refresh_token": refresh_token})
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)


def _fingerprint(grant: oauth.Grant) -> str:
    return hashlib.sha256(f"{grant.client_id}/{grant.refresh_token}".encode()).hexdigest()
