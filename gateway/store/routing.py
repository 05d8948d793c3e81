"""Routing revisions: each applied `routing.toml` as one numbered row, never changed afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, literal, select, text

from gateway import store
from gateway.store import schema


class RevisionConflict(store.StoreError):
    """Somebody applied a newer revision since the document was exported. Export, merge and apply again."""

    def __init__(self, based_on: int, latest: int) -> None:
        super().__init__(f"the document is based on revision {based_on}, but revision {latest} has been applied since")
        self.based_on = based_on
        self.latest = latest


@dataclass(frozen=True, slots=True)
class Revision:
    """One applied routing file. `document` is its text; "" in listings."""

    revision: int
    document: str
    applied_at: datetime
    applied_by: str
    comment: str
    based_on: int | None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = [column for column in schema.routing_revisions.columns if column.name != "document"]


def _revision(row: Row[*tuple[Any, ...]]) -> Revision:
    return Revision(
        revision=row.revision,
        document=row.document,
        applied_at=_EPOCH + timedelta(microseconds=row.applied_us),
        applied_by=row.applied_by,
        comment=row.comment,
        based_on=row.based_on,
    )


async def add(
    tx: store.Transaction,
    *,
    document: str,
    applied_at: datetime,
    applied_by: str,
    comment: str,
    based_on: int | None,
) -> int:
    """Stores a revision and returns its number: 1, 2, 3, … without gaps.

    `applied_at` is aware. `based_on` is the revision the document was made from; None applies it whatever came in
    between (`--force`, or the first). Raises RevisionConflict when `based_on` is not the latest (0: none yet).
    """
    if tx.dialect.name == "postgresql":
        # Lets readers through, makes a second writer wait for the number.
        await tx.execute(text("LOCK TABLE routing_revisions IN SHARE ROW EXCLUSIVE MODE"))
    newest = await latest(tx) or 0
    if based_on is not None and based_on != newest:
        raise RevisionConflict(based_on, newest)
    row = {
        "revision": newest + 1,
        "document": document,
        "applied_us": (applied_at - _EPOCH) // timedelta(microseconds=1),
        "applied_by": applied_by,
        "comment": comment,
        "based_on": based_on,
    }
    await tx.execute(schema.routing_revisions.insert(), row)
    return newest + 1


async def latest(connection: store.Connection) -> int | None:
    """Number of the latest revision, None before the first. Cheap enough to ask twice a second."""
    newest: int | None = (await connection.execute(select(func.max(schema.routing_revisions.c.revision)))).scalar()
    return newest


async def get(connection: store.Connection, revision: int) -> Revision | None:
    """One revision with its document."""
    table = schema.routing_revisions
    row = (await connection.execute(select(*_COLUMNS, table.c.document).where(table.c.revision == revision))).first()
    return None if row is None else _revision(row)


async def history(connection: store.Connection, limit: int = 50) -> list[Revision]:
    """The latest revisions, newest first, without their documents."""
    table = schema.routing_revisions
    query = select(*_COLUMNS, literal("").label("document")).order_by(table.c.revision.desc()).limit(limit)
    return [_revision(row) for row in await connection.execute(query)]
