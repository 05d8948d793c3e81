"""Visits that began with the overflow number, by pool and hour: what the pools were short of (R96, R101)."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, func, select, text

from gateway import store
from gateway.store import poolschema

_OVERFLOWS, _LEASES, _STATES = poolschema.pool_overflows, poolschema.leases, poolschema.pool_states

HOUR_US = 3_600 * 1_000_000

_ADD = text(
    "INSERT INTO pool_overflows (pool, hour_us, visits) VALUES (:pool, :hour_us, :visits) "
    "ON CONFLICT (pool, hour_us) DO UPDATE SET visits = pool_overflows.visits + excluded.visits"
)


async def add(tx: store.Transaction, visits: Mapping[str, int], at_us: int) -> None:
    """So many visits, by pool, began at `at_us` without a number of the pool."""
    rows = [{"pool": key, "hour_us": at_us - at_us % HOUR_US, "visits": count} for key, count in sorted(visits.items())]
    if rows:
        await tx.execute(_ADD, rows)


async def counts(connection: store.Connection, since_us: int, until_us: int) -> dict[str, int]:
    """How many there were, by pool; the hours in which the time begins and ends count whole."""
    query = (
        select(_OVERFLOWS.c.pool, func.sum(_OVERFLOWS.c.visits))
        .where(_OVERFLOWS.c.hour_us > since_us - HOUR_US, _OVERFLOWS.c.hour_us < until_us)
        .group_by(_OVERFLOWS.c.pool)
    )
    return {row[0]: int(row[1]) for row in await connection.execute(query)}


async def busiest_hour(connection: store.Connection, pool: str, since_us: int, until_us: int) -> int:
    """Visits that wanted a number of the pool in the busiest hour of the time: leases that began, and those who found
    none."""
    hour = (_LEASES.c.issued_us - _LEASES.c.issued_us % HOUR_US).label("hour")
    begun = (
        select(hour, func.count().label("visits"))
        .where(_LEASES.c.pool == pool, _LEASES.c.issued_us >= since_us, _LEASES.c.issued_us < until_us)
        .group_by(hour)
    )
    refused = select(_OVERFLOWS.c.hour_us, _OVERFLOWS.c.visits).where(
        _OVERFLOWS.c.pool == pool, _OVERFLOWS.c.hour_us > since_us - HOUR_US, _OVERFLOWS.c.hour_us < until_us
    )
    both = begun.union_all(refused).subquery()
    hours = select(func.sum(both.c.visits).label("visits")).group_by(both.c.hour).subquery()
    return int((await connection.execute(select(func.coalesce(func.max(hours.c.visits), 0)))).scalar_one())


async def prune(tx: store.Transaction, before_us: int) -> None:
    """Forgets the counts of hours before a time."""
    await tx.execute(delete(_OVERFLOWS).where(_OVERFLOWS.c.hour_us < before_us))
