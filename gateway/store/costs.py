"""Spend, wages and staffed hours as they are kept: one row per key, the later replaces the earlier."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Table, delete, select, text

from gateway import store
from gateway.core import costs
from gateway.store import dealschema, statements

_SPEND, _WAGES, _HOURS = dealschema.spend, dealschema.wages, dealschema.staffed_hours
_LOCK = 0x6469616C636F7374
"""PostgreSQL advisory lock of whoever writes costs ("dialcost"): what is there is compared and replaced."""
_LOCK_ALONE = text("SELECT pg_advisory_xact_lock(:key)")


async def lock(tx: store.Transaction) -> None:
    """One writer of costs at a time. On SQLite the one writer is alone anyway."""
    if tx.dialect.name != "sqlite":
        await tx.execute(_LOCK_ALONE, {"key": _LOCK})


async def spend(connection: store.Connection, first_day: int, last_day: int) -> list[costs.Spend]:
    """Spend of the days from `first_day` to `last_day`, both included."""
    table = _SPEND
    query = select(
        table.c.day_local, table.c.source, table.c.campaign, table.c.entry, table.c.amount_e4, table.c.currency
    ).where(table.c.day_local >= first_day, table.c.day_local <= last_day)
    query = query.order_by(table.c.day_local, table.c.source, table.c.campaign, table.c.entry)
    return [costs.Spend(*row) for row in await connection.execute(query)]


async def wages(connection: store.Connection) -> list[costs.Wage]:
    """All wages, by agent and day."""
    query = select(_WAGES.c.agent, _WAGES.c.from_day, _WAGES.c.hourly_e4, _WAGES.c.currency)
    rows = await connection.execute(query.order_by(_WAGES.c.agent, _WAGES.c.from_day))
    return [costs.Wage(*row) for row in rows]


async def hours(connection: store.Connection, first_day: int, last_day: int) -> list[costs.Hours]:
    """Staffed hours of the days from `first_day` to `last_day`, both included."""
    query = select(_HOURS.c.agent, _HOURS.c.day_local, _HOURS.c.minutes)
    query = query.where(_HOURS.c.day_local >= first_day, _HOURS.c.day_local <= last_day)
    return [costs.Hours(*row) for row in await connection.execute(query.order_by(_HOURS.c.day_local, _HOURS.c.agent))]


async def save(tx: store.Transaction, rows: Sequence[costs.Row], *, by: str, now_us: int) -> None:
    """Writes rows over those with the same key. A whole amount of spend also takes the parts of its day away."""
    who: dict[str, Any] = {"changed_by": by, "at_us": now_us}
    whole = [row for row in rows if isinstance(row, costs.Spend) and not row.entry]
    for one in whole:
        of_day = (_SPEND.c.day_local == one.day, _SPEND.c.source == one.source, _SPEND.c.campaign == one.campaign)
        await tx.execute(delete(_SPEND).where(*of_day, _SPEND.c.entry != ""))
    spent = [_spend_values(row) | who for row in rows if isinstance(row, costs.Spend)]
    earned = [_wage_values(row) | who for row in rows if isinstance(row, costs.Wage)]
    worked = [_hours_values(row) | who for row in rows if isinstance(row, costs.Hours)]
    written: tuple[tuple[Table, list[dict[str, Any]]], ...] = ((_SPEND, spent), (_WAGES, earned), (_HOURS, worked))
    for table, values in written:
        for chunk in statements.chunks(values):
            await statements.upsert(tx, table, chunk)


def _spend_values(row: costs.Spend) -> dict[str, Any]:
    names = ("source", "campaign", "entry", "amount_e4", "currency")
    return {"day_local": row.day, **{name: getattr(row, name) for name in names}}


def _wage_values(row: costs.Wage) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("agent", "from_day", "hourly_e4", "currency")}


def _hours_values(row: costs.Hours) -> dict[str, Any]:
    return {"agent": row.agent, "day_local": row.day, "minutes": row.minutes}


async def existing(connection: store.Connection, rows: Collection[costs.Row]) -> dict[tuple[object, ...], costs.Row]:
    """What is kept for the days and agents of these rows, by key."""
    found: dict[tuple[object, ...], costs.Row] = {}
    days = [row.day for row in rows if isinstance(row, costs.Spend | costs.Hours)]
    kept: list[costs.Row] = []
    if any(isinstance(row, costs.Spend) for row in rows):
        kept += await spend(connection, min(days), max(days))
    if any(isinstance(row, costs.Hours) for row in rows):
        kept += await hours(connection, min(days), max(days))
    if any(isinstance(row, costs.Wage) for row in rows):
        kept += await wages(connection)
    for row in kept:
        found[row.key] = row
    return found
