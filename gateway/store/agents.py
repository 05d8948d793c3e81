"""Agents at work: who is on break, and who is calling whom back right now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, select

from gateway import store
from gateway.store import agentschema, schema, statements, tickets

_BREAKS, _CLAIMS, _CALLS = agentschema.agent_breaks, agentschema.callback_claims, schema.calls
BY_PHONE = "phone"
"""Who changed it: the agent, by `*29`."""


@dataclass(frozen=True, slots=True)
class Break:
    """Whether an agent (key of the routing book) is on break, since when (µs), and by whom."""

    agent: str
    is_on: bool
    at_us: int
    changed_by: str = BY_PHONE


@dataclass(frozen=True, slots=True)
class Claim:
    """Whose a ticket is for a moment; `call_id` None: a click whose phone still rings, with the digest of its token."""

    ticket: int
    agent: str
    until_us: int
    call_id: str | None = None
    token: str | None = None


async def breaks(connection: store.Connection) -> dict[str, Break]:
    """The last change of each agent who ever made one."""
    rows = await connection.execute(select(_BREAKS))
    return {row.agent: Break(row.agent, row.is_on, row.at_us, row.changed_by) for row in rows}


async def on_break(connection: store.Connection) -> frozenset[str]:
    """Who is."""
    return frozenset((await connection.execute(select(_BREAKS.c.agent).where(_BREAKS.c.is_on))).scalars())


async def switch(tx: store.Transaction, changes: Sequence[Break]) -> None:
    """Keeps the changes, oldest first. One that is not newer than what is kept (a journal read again) does nothing."""
    for change in changes:
        statement = statements.insert(tx, _BREAKS).values(asdict(change))
        said = statement.excluded
        await tx.execute(
            statement.on_conflict_do_update(
                index_elements=[_BREAKS.c.agent],
                set_={"is_on": said.is_on, "at_us": said.at_us, "changed_by": said.changed_by},
                where=_BREAKS.c.at_us < said.at_us,
            )
        )


async def claim_of(connection: store.Connection, ticket: int) -> Claim | None:
    """The last claim on a ticket, over or not."""
    row = (await connection.execute(select(_CLAIMS).where(_CLAIMS.c.ticket == ticket))).first()
    return None if row is None else Claim(row.ticket, row.agent, row.until_us, row.call_id, row.token)


async def is_at_it(connection: store.Connection, claim: Claim, now_us: int) -> bool:
    """Whether the claim holds: its call is up, or may not have reached the journal yet."""
    state = await _state_of(connection, claim)
    return state == "open" if state is not None else claim.until_us > now_us


async def is_call_up(connection: store.Connection, claim: Claim) -> bool:
    """Whether the records know its call, and not its end."""
    return await _state_of(connection, claim) == "open"


async def _state_of(connection: store.Connection, claim: Claim) -> str | None:
    if claim.call_id is None:
        return None
    found = (await connection.execute(select(_CALLS.c.state).where(_CALLS.c.call_id == claim.call_id))).scalar()
    return None if found is None else str(found)


async def missed_source(connection: store.Connection, ticket: int, call_id: str | None) -> dict[str, Any] | None:
    """The `attribution` of the call that is returned, else of its ticket; None when neither is there."""
    if call_id is not None:
        query = select(_CALLS.c.record).where(_CALLS.c.call_id == call_id)
        if (record := (await connection.execute(query)).scalar()) is not None:
            return dict(json.loads(record)["attribution"])
    found = await tickets.by_number(connection, ticket)
    return dict(found.attribution) if found is not None else None


async def keep_claim(tx: store.Transaction, claim: Claim) -> None:
    """In place of the one before."""
    await statements.upsert(tx, _CLAIMS, [asdict(claim)])


async def drop_claim(tx: store.Transaction, ticket: int, token: str) -> None:
    """Takes back a click whose phone could not be rung."""
    await tx.execute(delete(_CLAIMS).where(_CLAIMS.c.ticket == ticket, _CLAIMS.c.token == token))
