"""Passes of `dialmark verify --web`: by one its pages are let in where a bot is not, and are lent nothing.

A pass is 192 random bits, known to the command and, as SHA-256, to the database; it lives as long as the command.
"""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import delete, insert, select

from gateway import store
from gateway.store import poolschema

_PASSES = poolschema.web_checks


async def issue(tx: store.Transaction, *, now_us: int, expires_us: int) -> str:
    """Makes a pass; those that have expired go."""
    pass_id = secrets.token_urlsafe(24)
    await tx.execute(delete(_PASSES).where(_PASSES.c.expires_us <= now_us))
    await tx.execute(insert(_PASSES).values(digest=_digest(pass_id), expires_us=expires_us))
    return pass_id


async def is_valid(connection: store.Connection, pass_id: str, *, now_us: int) -> bool:
    """Whether a check with this pass is under way."""
    query = select(_PASSES.c.digest).where(_PASSES.c.digest == _digest(pass_id), _PASSES.c.expires_us > now_us)
    return (await connection.execute(query)).first() is not None


async def end(tx: store.Transaction, pass_id: str) -> None:
    """The check is over."""
    await tx.execute(delete(_PASSES).where(_PASSES.c.digest == _digest(pass_id)))


def _digest(pass_id: str) -> str:
    return hashlib.sha256(pass_id.encode("utf-8", "backslashreplace")).hexdigest()
