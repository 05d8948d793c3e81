"""Routing revisions: each applied `routing.toml` as one numbered row, never changed afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway import store


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
    raise NotImplementedError


async def latest(connection: store.Connection) -> int | None:
    """Number of the latest revision, None before the first. Cheap enough to ask twice a second."""
    raise NotImplementedError


async def get(connection: store.Connection, revision: int) -> Revision | None:
    """One revision with its document."""
    raise NotImplementedError


async def history(connection: store.Connection, limit: int = 50) -> list[Revision]:
    """The latest revisions, newest first, without their documents."""
    raise NotImplementedError
