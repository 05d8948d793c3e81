"""An open store on the database of each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway import store


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[store.Database]:
    """An open database with all tables, empty; on SQLite and on PostgreSQL."""
    opened = await store.Database.open(database_url)
    yield opened
    await opened.close()
