"""The alarms of number pools, as they were last told (R101, N6)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from gateway import store
from gateway.store import poolschema

_STATES = poolschema.pool_states


@dataclass(frozen=True, slots=True)
class Alarms:
    """Of one pool. `leaked` are numbers that were told as leaked and still seem to be."""

    exhausted_us: int | None = None
    leak_us: int | None = None
    leaked: frozenset[str] = frozenset()


async def alarms(connection: store.Connection) -> dict[str, Alarms]:
    """By pool; one that never had any may be missing."""
    rows = await connection.execute(select(_STATES))
    return {row.pool: Alarms(row.exhausted_us, row.leak_us, frozenset(row.leaked.split())) for row in rows}
