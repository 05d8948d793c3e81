"""A database as the last release left it.

`tests/fixtures/stored_by_0003.json` holds what the release with schema 0003 wrote of the journals that it names, under
`tests.cli.conftest.ROUTING` and on the node `main`: table by table, the rows as SQLite has them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command

from gateway.store import migrations

SCHEMA = "0003"
STORED: dict[str, Any] = json.loads((Path(__file__).parent / "fixtures" / "stored_by_0003.json").read_text("utf-8"))
JOURNALS: list[str] = STORED["journals"]
TABLES = ("routing_revisions", "calls", "attempts", "events", "deliveries")


def make(database_url: str) -> None:
    """Makes the tables of the last release in an empty database, and fills them."""
    engine = sa.create_engine(database_url.replace("+aiosqlite", ""))
    with engine.begin() as connection:
        config = migrations.configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, SCHEMA)
        for name in TABLES:
            table = sa.Table(name, sa.MetaData(), autoload_with=connection)
            connection.execute(table.insert(), [_typed(table, row) for row in STORED[name]])
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT setval('events_seq_seq', max(seq)) FROM events"))
    engine.dispose()


def _typed(table: sa.Table, row: dict[str, Any]) -> dict[str, Any]:
    """SQLite keeps booleans as numbers."""
    return {
        name: bool(value) if value is not None and isinstance(table.c[name].type, sa.Boolean) else value
        for name, value in row.items()
    }
