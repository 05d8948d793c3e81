"""An open store on the database of each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway import store
from tests import told


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[store.Database]:
    """An open database with all tables, empty; on SQLite and on PostgreSQL."""
    opened = await store.Database.open(database_url)
    yield opened
    # Whatever the test was about: what the product told stands to its published schemas.
    assert await told.problems_of(opened) == []
    await opened.close()
