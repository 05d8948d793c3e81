"""API tokens."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from gateway import store
from gateway.store import tokens
from tests.store.examples import NOON, SECOND

HOUR = 3600 * SECOND


async def issue(database: store.Database, name: str = "crm", expires_us: int | None = None) -> str:
    async with database.begin() as tx:
        return await tokens.issue(tx, name=name, scopes=["calls:read", "live"], now_us=NOON, expires_us=expires_us)


async def verify(database: store.Database, token: str, now_us: int = NOON) -> tokens.ApiToken | None:
    async with database.read() as connection:
        return await tokens.verify(connection, token, now_us=now_us)


async def test_a_token_is_known_again(database: store.Database) -> None:
    token = await issue(database)
    assert token.startswith("dm_")
    assert len(token) == 3 + 64
    known = await verify(database, token)
    assert known is not None
    assert (known.name, known.scopes, known.created_us) == ("crm", frozenset({"calls:read", "live"}), NOON)


async def test_others_are_not(database: store.Database) -> None:
    token = await issue(database)
    for wrong in ("", "dm_", token[:-1], token + "0", token.removeprefix("dm_"), "dm_" + "\udcff\0'", token.upper()):
        assert await verify(database, wrong) is None


async def test_only_its_hash_is_stored(database: store.Database) -> None:
    token = await issue(database)
    async with database.read() as connection:
        row = (await connection.execute(text("SELECT * FROM api_tokens"))).one()
    assert token.removeprefix("dm_") not in repr(row)


async def test_it_ends_when_it_expires_or_is_revoked(database: store.Database) -> None:
    expiring, revoked = await issue(database, "a", expires_us=NOON + HOUR), await issue(database, "b")
    assert await verify(database, expiring, NOON + HOUR - 1)
    assert await verify(database, expiring, NOON + HOUR) is None
    async with database.begin() as tx:
        assert await tokens.revoke(tx, "b", now_us=NOON + 1)
        assert not await tokens.revoke(tx, "b", now_us=NOON + 2)
        assert not await tokens.revoke(tx, "c", now_us=NOON + 2)
    assert await verify(database, revoked) is None
    async with database.read() as connection:
        assert [(one.name, one.revoked_us) for one in await tokens.list_tokens(connection)] == [
            ("a", None),
            ("b", NOON + 1),
        ]


async def test_a_name_is_given_once(database: store.Database) -> None:
    await issue(database)
    with pytest.raises(tokens.TokenNameTaken, match="crm"):
        await issue(database)


async def test_its_use_is_noted_once_an_hour(database: store.Database) -> None:
    token = await issue(database)
    for now_us, expected in (
        (NOON, NOON),
        (NOON + HOUR - 1, NOON),
        (NOON + HOUR, NOON + HOUR),
    ):
        known = await verify(database, token)
        assert known is not None
        assert tokens.needs_touch(known, now_us=now_us) == (expected == now_us)
        async with database.begin() as tx:
            await tokens.touch(tx, known.token_id, now_us=now_us)
        touched = await verify(database, token)
        assert touched is not None
        assert touched.last_used_us == expected
