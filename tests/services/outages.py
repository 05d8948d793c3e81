"""A database that is there and cannot be used, by the hand of another process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

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
    with _refused(url):
        yield


@contextmanager
def out_of_reach(url: str) -> Iterator[None]:
    """Not even reading is possible. SQLite: the disk with the file is away. PostgreSQL: connections are refused."""
    if not url.startswith("sqlite"):
        with _refused(url):
            yield
        return
    path = Path(url.partition("///")[2])
    away = path.rename(path.with_name("away.db"))
    yield
    away.rename(path)


@contextmanager
def _refused(url: str) -> Iterator[None]:
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
