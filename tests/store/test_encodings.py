"""PostgreSQL clusters that were made with locale C: their databases hold bytes and call them text."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from gateway import store
from tests.conftest import POSTGRES_DSN


@pytest.fixture
def ascii_url() -> Iterator[str]:
    if POSTGRES_DSN is None:
        pytest.fail("DIALMARK_TEST_POSTGRES is not set: run ./scripts/test")
    name = sql.Identifier(f"dialmark_{uuid.uuid4().hex}")
    made = sql.SQL("create database {} encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'")
    with psycopg.connect(POSTGRES_DSN, autocommit=True) as connection:
        connection.execute(made.format(name))
    parameters = {"password": "", **psycopg.conninfo.conninfo_to_dict(POSTGRES_DSN), "dbname": name._obj[0]}
    yield "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**parameters)
    with psycopg.connect(POSTGRES_DSN, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(name))


async def test_text_is_text_in_a_database_without_an_encoding(ascii_url: str) -> None:
    database = await store.Database.open(ascii_url)
    try:
        async with database.read() as connection:
            said = (await connection.execute(text("select 'Жанна'"))).scalar_one()
        assert said == "Жанна"
    finally:
        await database.close()
