"""Databases with all tables, laid out once by the product's own migrations and then copied: a test that only wants a
store to work with need not wait for them."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway import store


class Templates:
    """One for each engine, made when first asked for. `dsn` of a PostgreSQL cluster, None: there is none."""

    def __init__(self, folder: Path, dsn: str | None) -> None:
        self._file = folder / "dialmark.db"
        self._dsn = dsn
        self._name: str | None = None

    def copy_sqlite(self, path: Path) -> None:
        """Puts a database with all tables at `path`."""
        if not self._file.exists():
            _lay_out(f"sqlite:///{self._file}")
        shutil.copy(self._file, path)

    def postgres(self) -> str:
        """Name of a database of the cluster to be copied with `create database … template`."""
        if self._name is None:
            name = f"dialmark_{uuid.uuid4().hex}"
            self._execute(f'create database "{name}"')
            _lay_out(url(self._dsn or "", name))
            self._name = name
        return self._name

    def close(self) -> None:
        """Drops what was made in the cluster."""
        if self._name is not None:
            self._execute(f'drop database "{self._name}" with (force)')

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self._dsn or "", autocommit=True) as connection:
            connection.execute(statement.encode())


def url(dsn: str, name: str) -> str:
    """SQLAlchemy's address of one database of the cluster."""
    # Here and not above, so that tests without a database need no driver.
    import psycopg

    parameters = psycopg.conninfo.conninfo_to_dict(dsn)
    parameters["dbname"] = name
    return "postgresql+psycopg://{user}:{password}@{host}:{port}/{dbname}".format(**{"password": "", **parameters})


def _lay_out(where: str) -> None:
    async def work() -> None:
        await (await store.Database.open(where)).close()

    # In a thread of its own: the test's loop is not to be disturbed.
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, work()).result()
