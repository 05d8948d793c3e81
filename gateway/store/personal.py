"""Which columns hold personal data, so that erasing a person forgets none (a test fails for a column not judged)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import Column, LargeBinary, MetaData

from gateway.store import schema

SOUNDS_PERSONAL = re.compile(
    r"caller|number|name|raw|record|line|payload|document|agent|error|phone|mail|address|visitor|did$"
)


@dataclass(frozen=True, slots=True)
class PersonalColumn:
    """A column with personal data, and what that is."""

    table: str
    column: str
    what: str


def _columns(metadata: MetaData) -> list[Column[object]]:
    return [column for table in metadata.sorted_tables for column in table.columns]


def personal_columns(metadata: MetaData = schema.metadata) -> list[PersonalColumn]:
    """All of them, by table."""
    return [
        PersonalColumn(column.table.name, column.name, column.info["personal"])
        for column in _columns(metadata)
        if "personal" in column.info
    ]


def unjudged_columns(metadata: MetaData = schema.metadata) -> list[str]:
    """`table.column` whose name sounds personal, or whose type holds free bytes, but which is neither registered as
    personal nor declared impersonal with a reason."""
    return [
        f"{column.table.name}.{column.name}"
        for column in _columns(metadata)
        if (SOUNDS_PERSONAL.search(column.name) or isinstance(column.type, LargeBinary))
        and not (column.info.get("personal") or column.info.get("impersonal"))
    ]
