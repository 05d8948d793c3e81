"""The alarms that are pending or raised, so that a restart neither tells one twice nor forgets it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, select, text

from gateway import store
from gateway.core import alarms
from gateway.store import outgoingschema, statements

Key = tuple[str, str]
"""Kind and subject."""

_ALARMS = outgoingschema.alarms
_LOCK = 0x6469616C616C726D
"""PostgreSQL advisory lock of whoever judges alarms ("dialalrm"): of a new one there is no row to lock."""
_LOCK_ALONE = text("SELECT pg_advisory_xact_lock(:key)")


async def all_states(connection: store.Connection, *, alone: bool = False) -> dict[Key, alarms.State]:
    """Of all that are not quiet. `alone`: until the end of the transaction no other process judges them (PostgreSQL; on
    SQLite the one writer is alone)."""
    if alone and connection.dialect.name != "sqlite":
        await connection.execute(_LOCK_ALONE, {"key": _LOCK})
    return {
        (row.kind, row.subject): alarms.State(row.pending_us, row.clearing_us, row.raised_us, row.told_us)
        for row in await connection.execute(select(_ALARMS))
    }


async def save(tx: store.Transaction, changed: Mapping[Key, alarms.State]) -> None:
    """Writes states; quiet ones go."""
    rows = [
        {
            "kind": kind,
            "subject": subject,
            "pending_us": state.pending_us,
            "clearing_us": state.clearing_us,
            "raised_us": state.raised_us,
            "told_us": state.told_us,
        }
        for (kind, subject), state in sorted(changed.items())
        if state != alarms.QUIET
    ]
    await statements.upsert(tx, _ALARMS, rows)
    for (kind, subject), state in changed.items():
        if state == alarms.QUIET:
            await tx.execute(delete(_ALARMS).where(_ALARMS.c.kind == kind, _ALARMS.c.subject == subject))
