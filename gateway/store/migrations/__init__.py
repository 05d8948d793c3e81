"""Schema changes, one numbered file each in `versions/`, the same on both engines; run at start by `Database.open`.

A new one: change `schema.py`, write `versions/vNNNN_what.py` (batch operations, for SQLite), raise `schema.HEAD`. A
test compares the migrated schema with `schema.metadata` on both engines.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection


def configuration() -> Config:
    """Alembic's configuration, made here: there is no alembic.ini to install or to edit."""
    config = Config()
    # Doubled: the value passes through ConfigParser's interpolation.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def upgrade(connection: Connection) -> None:
    """Runs all missing migrations in the transaction of `connection`; nothing is committed here."""
    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
