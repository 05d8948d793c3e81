"""Calls with their results, as reports count them: read call by call, so that every figure has its calls behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB

from gateway import store
from gateway.store import dealschema, schema

_CALLS, _RESULTS = schema.calls, dealschema.call_results


@dataclass(frozen=True, slots=True)
class Counted:
    """One call of a report. What a rule or a key says of it counts where nobody has said otherwise."""

    day_local: int
    source: str | None
    campaign: str | None
    agent: str | None
    caller: str | None
    answered: bool
    qualified: bool | None
    spam: bool | None
    goal_reached: bool | None
    deal_state: str | None
    value_e4: int | None
    currency: str | None
    closed_on: int | None


async def inbound(
    connection: store.Connection, first_day: int, last_day: int, *, site: str | None = None
) -> list[Counted]:
    """Closed inbound calls of these days, both included, without banned callers."""
    query = _select(connection).where(
        _CALLS.c.day_local >= first_day,
        _CALLS.c.day_local <= last_day,
        _CALLS.c.direction == "inbound",
        _CALLS.c.state == "closed",
        func.coalesce(_CALLS.c.outcome, "") != "banned",
    )
    if site is not None:
        query = query.where(_CALLS.c.site == site)
    return [Counted(*_values(row)) for row in await connection.execute(query)]


async def handled(connection: store.Connection, first_day: int, last_day: int) -> dict[str, int]:
    """Calls that each agent talked in, in and out, of these days."""
    query = (
        select(_CALLS.c.agent, func.count())
        .where(_CALLS.c.day_local >= first_day, _CALLS.c.day_local <= last_day)
        .where(_CALLS.c.agent.is_not(None), _CALLS.c.answered_us.is_not(None))
        .group_by(_CALLS.c.agent)
    )
    return {row[0]: row[1] for row in await connection.execute(query)}


def _select(connection: store.Connection) -> Select[*tuple[Any, ...]]:
    said = [_part(connection, *path) for path in _SAID]
    columns = [_CALLS.c[name] for name in ("day_local", "source", "campaign", "agent", "caller", "outcome")]
    flags = [_RESULTS.c[name] for name in ("qualified", "spam", "goal_reached")]
    deal = [_RESULTS.c[name] for name in ("deal_state", "value_e4", "currency", "closed_on")]
    joined = _CALLS.outerjoin(_RESULTS, _RESULTS.c.call_id == _CALLS.c.call_id)
    return select(*columns, *flags, *said, *deal).select_from(joined)


_SAID = (("scoring", "qualified"), ("scoring", "spam"), ("rating", "goal_reached"))
"""Where the record says the same of a call, by rule or by key."""


def _part(connection: store.Connection, *path: str) -> ColumnElement[Any]:
    """`true`, `false`, 1, 0 or NULL of the record."""
    if connection.dialect.name == "sqlite":
        return func.json_extract(_CALLS.c.record, f"$.{'.'.join(path)}")
    found: ColumnElement[Any] = cast(_CALLS.c.record, JSONB)[path].astext
    return found


def _values(row: Row[*tuple[Any, ...]]) -> tuple[Any, ...]:
    day, source, campaign, agent, caller, outcome, *rest = row
    flags, said, deal = rest[:3], rest[3:6], rest[6:]
    known = (_flag(one) if other is None else bool(other) for other, one in zip(flags, said, strict=True))
    return (day, source, campaign, agent, caller, outcome == "answered", *known, *deal)


def _flag(value: object) -> bool | None:
    return None if value is None else value in (1, True, "true")
