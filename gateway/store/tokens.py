"""API tokens: `dm_` and 256 random bits, shown once; only the SHA-256 is stored, which is safe for such a secret."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from gateway import store

PREFIX = "dm_"
"""Lets people and secret scanners recognise a token."""


class TokenNameTaken(store.StoreError):
    """There is a token of that name already; revoked ones keep theirs, for the log."""


@dataclass(frozen=True, slots=True)
class ApiToken:
    """What is known of a token. Times are microseconds since the epoch, UTC."""

    token_id: int
    name: str
    scopes: frozenset[str]
    created_us: int
    expires_us: int | None
    last_used_us: int | None
    """Right to within an hour."""
    revoked_us: int | None


async def issue(
    tx: store.Transaction, *, name: str, scopes: Collection[str], now_us: int, expires_us: int | None = None
) -> str:
    """Makes a token and returns its text, which cannot be had again. Raises TokenNameTaken."""
    raise NotImplementedError


async def verify(connection: store.Connection, token: str, *, now_us: int) -> ApiToken | None:
    """The token if it is known, not revoked and not expired."""
    raise NotImplementedError


async def touch(tx: store.Transaction, token_id: int, *, now_us: int) -> None:
    """Notes the use of a token, at most once an hour. Ask `needs_touch` first to spare the transaction."""
    raise NotImplementedError


def needs_touch(token: ApiToken, *, now_us: int) -> bool:
    """Whether `touch` would write."""
    raise NotImplementedError


async def revoke(tx: store.Transaction, name: str, *, now_us: int) -> bool:
    """Ends a token at once. False: no valid token of that name."""
    raise NotImplementedError


async def list_tokens(connection: store.Connection) -> list[ApiToken]:
    """All tokens, oldest first, revoked ones included."""
    raise NotImplementedError
