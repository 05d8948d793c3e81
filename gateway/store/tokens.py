"""API tokens: `dm_` and 256 random bits, shown once; only the SHA-256 is stored, which is safe for such a secret."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, or_, select, update

from gateway import store
from gateway.store import schema, statements

PREFIX = "dm_"
"""Lets people and secret scanners recognise a token."""

TOUCH_US = 3_600_000_000
"""How exactly the last use is known: a write per request would make each reader a writer."""


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


_COLUMNS = [column for column in schema.api_tokens.columns if column.name != "digest"]


def _token(row: Row[*tuple[Any, ...]]) -> ApiToken:
    return ApiToken(
        token_id=row.token_id,
        name=row.name,
        scopes=frozenset(row.scopes.split()),
        created_us=row.created_us,
        expires_us=row.expires_us,
        last_used_us=row.last_used_us,
        revoked_us=row.revoked_us,
    )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "backslashreplace")).hexdigest()


async def issue(
    tx: store.Transaction, *, name: str, scopes: Collection[str], now_us: int, expires_us: int | None = None
) -> str:
    """Makes a token and returns its text, which cannot be had again. Raises TokenNameTaken."""
    token = PREFIX + secrets.token_hex(32)
    table = schema.api_tokens
    statement = statements.insert(tx, table).values(
        name=name, digest=_digest(token), scopes=" ".join(sorted(scopes)), created_us=now_us, expires_us=expires_us
    )
    inserted = statement.on_conflict_do_nothing(index_elements=["name"]).returning(table.c.token_id)
    if (await tx.execute(inserted)).first() is None:
        raise TokenNameTaken(f"there is a token named {name!r} already")
    return token


async def verify(connection: store.Connection, token: str, *, now_us: int) -> ApiToken | None:
    """The token if it is known, not revoked and not expired."""
    if not token.startswith(PREFIX):
        return None
    table = schema.api_tokens
    query = select(*_COLUMNS).where(table.c.digest == _digest(token), table.c.revoked_us.is_(None))
    query = query.where(or_(table.c.expires_us.is_(None), table.c.expires_us > now_us))
    row = (await connection.execute(query)).first()
    return None if row is None else _token(row)


async def touch(tx: store.Transaction, token_id: int, *, now_us: int) -> None:
    """Notes the use of a token, at most once an hour. Ask `needs_touch` first to spare the transaction."""
    table = schema.api_tokens
    is_stale = or_(table.c.last_used_us.is_(None), table.c.last_used_us <= now_us - TOUCH_US)
    await tx.execute(update(table).where(table.c.token_id == token_id, is_stale).values(last_used_us=now_us))


def needs_touch(token: ApiToken, *, now_us: int) -> bool:
    """Whether `touch` would write."""
    return token.last_used_us is None or token.last_used_us <= now_us - TOUCH_US


async def revoke(tx: store.Transaction, name: str, *, now_us: int) -> bool:
    """Ends a token at once. False: no valid token of that name."""
    table = schema.api_tokens
    statement = update(table).where(table.c.name == name, table.c.revoked_us.is_(None)).values(revoked_us=now_us)
    return (await tx.execute(statement)).rowcount == 1


async def list_tokens(connection: store.Connection) -> list[ApiToken]:
    """All tokens, oldest first, revoked ones included."""
    rows = await connection.execute(select(*_COLUMNS).order_by(schema.api_tokens.c.token_id))
    return [_token(row) for row in rows]
