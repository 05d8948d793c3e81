"""Days whose figures changed after they were over (R14-R16): reports of them say so.

A mark is for a day of a site and what changed: results of calls, spend, wages. Spend and wages are of no site (empty).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, select

from gateway import store
from gateway.store import dealschema, statements

RESULTS, SPEND, WAGES = "results", "spend", "wages"

_DAYS = dealschema.restated_days


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark. `day_local` is yyyymmdd; `changes` how many there were since the day was over."""

    day_local: int
    site: str
    kind: str
    first_us: int
    last_us: int
    changes: int


async def mark(tx: store.Transaction, changed: Iterable[tuple[int, str]], kind: str, *, now_us: int) -> None:
    """Marks days, each given as (day, site) once for every change."""
    counted = Counter(changed)
    rows = [
        {"day_local": day, "site": site, "kind": kind, "first_us": now_us, "last_us": now_us, "changes": number}
        for (day, site), number in sorted(counted.items())
    ]
    for chunk in statements.chunks(rows):
        statement = statements.insert(tx, _DAYS)
        again = {"last_us": statement.excluded.last_us, "changes": _DAYS.c.changes + statement.excluded.changes}
        await tx.execute(
            statement.on_conflict_do_update(index_elements=["day_local", "site", "kind"], set_=again), chunk
        )


async def marks(connection: store.Connection, first_day: int, last_day: int, *, site: str | None = None) -> list[Mark]:
    """Marks of the days from `first_day` to `last_day`, both included; of one site with those of no site, or of all."""
    query = select(_DAYS).where(_DAYS.c.day_local >= first_day, _DAYS.c.day_local <= last_day)
    if site is not None:
        query = query.where(_DAYS.c.site.in_((site, "")))
    rows = await connection.execute(query.order_by(_DAYS.c.day_local, _DAYS.c.site, _DAYS.c.kind))
    return [Mark(*row) for row in rows]


async def count(connection: store.Connection) -> int:
    """How many marks there are."""
    return (await connection.execute(select(func.count()).select_from(_DAYS))).scalar_one()
