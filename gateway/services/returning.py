"""Where call-backs came from: what is known of the calls they return."""

from __future__ import annotations

from collections.abc import Iterable

from gateway import store
from gateway.core import attribution, calls
from gateway.store import agents


async def sources(database: store.Database, facts: Iterable[calls.CallFacts]) -> dict[str, attribution.Attribution]:
    """By call id, of those among them that are call-backs. Raises StoreError."""
    asked = {one.call_id: one.callback for one in facts if one.callback is not None}
    found: dict[str, attribution.Attribution] = {}
    if not asked:
        return found
    async with database.read() as connection:
        for call_id, callback in asked.items():
            said = await agents.missed_source(connection, callback.ticket, callback.call_id)
            if said is not None:
                found[call_id] = attribution.of_missed_call(said)
    return found
