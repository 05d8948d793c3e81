"""Where the SQL of the two engines differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final, TypeVar

from sqlalchemy import Table, TextClause, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")

CHUNK: Final = 1000
"""Values in one IN list: below the limits of both engines (32,766 and 65,535)."""


def insert(connection: AsyncConnection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


async def upsert(connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts rows, each with a value for every column, or overwrites those with the same primary key."""
    if rows:
        await connection.execute(_upsert(connection.dialect.name, table), rows)


async def insert_new(connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts the rows whose keys are not taken."""
    if rows:
        await connection.execute(_insert_new(connection.dialect.name, table), rows)


@cache
def _insert_new(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    statement = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    return statement.on_conflict_do_nothing()


@cache
def _upsert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    statement = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    changed = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=changed)


def over_list(connection: AsyncConnection, query: str, values: Iterable[object]) -> tuple[TextClause, dict[str, str]]:
    """A query over many given values with one parameter, so that its text stays the same for any number of them.

    `{asked}` in `query` becomes a table named `asked` whose column `item` holds one element of `values` as JSON;
    `{item[0]}` the first member of an element that is a list.
    """
    if connection.dialect.name == "sqlite":
        table, item = "(SELECT value AS item FROM json_each(:asked)) AS asked", "json_extract(item, '$[{}]')"
    else:
        table, item = "jsonb_array_elements(CAST(:asked AS jsonb)) AS asked(item)", "(item ->> {})"
    filled = query.format(asked=table, item=[item.format(number) for number in range(3)])
    return text(filled), {"asked": json.dumps(list(values))}


def chunks(values: Sequence[T], size: int = CHUNK) -> Iterable[Sequence[T]]:
    """The values in pieces of at most `size`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
