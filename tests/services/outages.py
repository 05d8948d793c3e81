"""A database that is there and cannot be used, by the hand of another process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.conftest import POSTGRES_DSN


@contextmanager
def out_of_order(url: str) -> Iterator[None]:
    """SQLite: another process holds the write lock. PostgreSQL: all connections are cut, new ones refused."""
    if url.startswith("sqlite"):
        path = url.partition("///")[2]
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")
        return
    import psycopg
    from psycopg import sql

    name = url.rpartition("/")[2]
    assert POSTGRES_DSN is not None
    with psycopg.connect(POSTGRES_DSN, autocommit=True) as admin:
        change = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        admin.execute(change.format(sql.Identifier(name), sql.Literal(False)))
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            yield
        finally:
            admin.execute(change.format(sql.Identifier(name), sql.Literal(True)))
