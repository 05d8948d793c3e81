"""An open store on the database of each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import store


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """For what only a file can suffer."""
    return f"sqlite:///{tmp_path}/dialmark.db"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[store.Database]:
    """An open database with all tables, empty; on SQLite and on PostgreSQL."""
    opened = await store.Database.open(database_url)
    yield opened
    await opened.close()
