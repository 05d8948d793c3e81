"""Attributes of callers as their CRM said them when they last called (R89): few, chosen by the operator, erasable."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import delete, func, select

from gateway import store
from gateway.store import profileschema, statements

_TABLE = profileschema.caller_attributes


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: whose it is (E.164 with `+`), which CRM said it, our name of it, and when it was said, in µs."""

    caller: str
    target: str
    name: str
    value: str
    at_us: int


async def keep(tx: store.Transaction, caller: str, target: str, said: Mapping[str, str], *, now_us: int) -> None:
    """What a CRM says of a caller now takes the place of all that it said before, also when it says nothing."""
    await tx.execute(delete(_TABLE).where(_TABLE.c.caller == caller, _TABLE.c.target == target))
    rows = [
        {"caller": caller, "target": target, "name": name, "value": value, "at_us": now_us}
        for name, value in sorted(said.items())
    ]
    if rows:
        await tx.execute(_TABLE.insert(), rows)


async def of_callers(connection: store.Connection, callers: Collection[str]) -> list[Attribute]:
    """Of these numbers, by number, CRM and name."""
    found: list[Attribute] = []
    for chunk in statements.chunks(sorted(set(callers))):
        query = select(_TABLE).where(_TABLE.c.caller.in_(chunk))
        rows = await connection.execute(query.order_by(_TABLE.c.caller, _TABLE.c.target, _TABLE.c.name))
        found += [Attribute(*row) for row in rows]
    return found


async def forget(tx: store.Transaction, caller: str) -> int:
    """Deletes all of a number. Returns how many there were."""
    return (await tx.execute(delete(_TABLE).where(_TABLE.c.caller == caller))).rowcount


async def count_before(connection: store.Connection, before_us: int) -> int:
    """How many `forget_before` would delete."""
    return (await connection.execute(select(func.count()).where(_TABLE.c.at_us < before_us))).scalar_one()


async def forget_before(tx: store.Transaction, before_us: int) -> int:
    """Deletes those of callers who did not call since then. Returns how many."""
    return (await tx.execute(delete(_TABLE).where(_TABLE.c.at_us < before_us))).rowcount
