"""The fixtures that other tests stand on."""

from __future__ import annotations

import os

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.conftest import KEPT


async def test_a_database_is_fresh_and_works(database_url: str) -> None:
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("create table mark (n integer)"))
        await connection.execute(text("insert into mark values (1)"))
        assert (await connection.execute(text("select sum(n) from mark"))).scalar_one() == 1
    await engine.dispose()


def test_no_setting_leaks_in_from_the_environment() -> None:
    assert {name for name in os.environ if name.startswith("DIALMARK_")} <= KEPT
