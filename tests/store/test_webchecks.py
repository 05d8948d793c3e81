"""Passes of the check of pages (R28)."""

from __future__ import annotations

from gateway import store
from gateway.store import webchecks


async def test_a_pass_holds_until_its_check_is_over(database: store.Database) -> None:
    async with database.begin() as tx:
        first = await webchecks.issue(tx, now_us=0, expires_us=10)
        second = await webchecks.issue(tx, now_us=0, expires_us=100)
    async with database.read() as connection:
        assert [await webchecks.is_valid(connection, one, now_us=5) for one in (first, second, "x" * 32)] == [
            *(True, True, False)
        ]
        assert not await webchecks.is_valid(connection, first, now_us=10)
    async with database.begin() as tx:
        third = await webchecks.issue(tx, now_us=20, expires_us=100)
        await webchecks.end(tx, second)
    async with database.read() as connection:
        assert [await webchecks.is_valid(connection, one, now_us=5) for one in (first, second, third)] == [
            *(False, False, True)
        ]
