"""Calls with their results, as reports count them: read call by call, so that every figure has its calls behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, bindparam, case, cast, func, not_, null, or_, select
from sqlalchemy.dialects.postgresql import JSONB

from gateway import store
from gateway.store import dealschema, schema

MAX_CALLS = 300_000
"""Of one report."""
_TEST_RULE = '"tag":"test"'
_CALLS, _RESULTS = schema.calls, dealschema.call_results


@dataclass(frozen=True, slots=True)
class Counted:
    """One call of a report. What a rule or a key says of it counts where nobody has said otherwise."""

    day_local: int
    started_us: int
    route: str | None
    source: str | None
    campaign: str | None
    agent: str | None
    caller: str | None
    answered: bool
    qualified: bool | None
    spam: bool | None
    goal_reached: bool | None
    solved: bool | None
    """Keyed in only."""
    deal_state: str | None
    value_e4: int | None
    currency: str | None
    closed_on: int | None


class TooManyCalls(Exception):
    """More than are read for one report: it would be wrong without the others."""


async def inbound(
    connection: store.Connection,
    first_day: int,
    last_day: int,
    *,
    site: str | None = None,
    max_calls: int = MAX_CALLS,
) -> list[Counted]:
    """Closed inbound calls of these days, both included, without banned callers and test calls. Raises
    TooManyCalls."""
    query = _select(connection).where(*_IN_DAY, not_(_is_test(connection)))
    if site is not None:
        query = query.where(_CALLS.c.site == site)
    found: list[Counted] = []
    async for piece in _pieces(connection, query, first_day, last_day, max_calls):
        # Beside the loop: a busy day is a tenth of a second.
        found += await asyncio.to_thread(_counted, piece)
    return found


async def contacts(
    connection: store.Connection, first_day: int, last_day: int, *, max_calls: int = MAX_CALLS
) -> list[tuple[str, str, int]]:
    """Caller, route and start (µs) of such calls, where both are known: who called again (R73). Raises
    TooManyCalls."""
    query = select(_CALLS.c.caller, _CALLS.c.route, _CALLS.c.started_us).where(*_IN_DAY)
    query = query.where(_CALLS.c.caller.is_not(None), _CALLS.c.route.is_not(None))
    found: list[tuple[str, str, int]] = []
    async for piece in _pieces(connection, query, first_day, last_day, max_calls):
        found += [(row[0], row[1], row[2]) for row in piece]
    return found


async def _pieces(
    connection: store.Connection, query: Select[*tuple[Any, ...]], first_day: int, last_day: int, max_calls: int
) -> AsyncIterator[Sequence[Row[*tuple[Any, ...]]]]:
    """The rows day by day: those of a year at once would hold the loop up."""
    read = 0
    for day in await _days(connection, first_day, last_day):
        rows = (await connection.execute(query, {"day": day})).all()
        read += len(rows)
        if read > max_calls:
            raise TooManyCalls
        yield rows


async def _days(connection: store.Connection, first_day: int, last_day: int) -> Sequence[int]:
    """Those with calls."""
    within = (_CALLS.c.day_local >= first_day, _CALLS.c.day_local <= last_day)
    query = select(_CALLS.c.day_local).where(*within).distinct().order_by(_CALLS.c.day_local)
    return (await connection.execute(query)).scalars().all()


async def handled(connection: store.Connection, first_day: int, last_day: int) -> dict[str, int]:
    """Calls that each agent talked in, in and out, of these days."""
    query = (
        select(_CALLS.c.agent, func.count())
        .where(_CALLS.c.day_local >= first_day, _CALLS.c.day_local <= last_day)
        .where(_CALLS.c.agent.is_not(None), _CALLS.c.answered_us.is_not(None))
        .group_by(_CALLS.c.agent)
    )
    return {row[0]: row[1] for row in await connection.execute(query)}


_IN_DAY = (
    _CALLS.c.day_local == bindparam("day"),
    _CALLS.c.direction == "inbound",
    _CALLS.c.state == "closed",
    func.coalesce(_CALLS.c.outcome, "") != "banned",
)


def _is_test(connection: store.Connection) -> ColumnElement[bool]:
    """Tagged `test`, by a rule or afterwards. Both are written without blanks between their parts."""
    by_rule = _holds(connection, _CALLS.c.record, _TEST_RULE)
    return or_(by_rule, _holds(connection, func.coalesce(_RESULTS.c.tags, ""), '"test"'))


def _holds(connection: store.Connection, column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """LIKE takes ten times as long on SQLite."""
    find = func.instr if connection.dialect.name == "sqlite" else func.strpos
    return find(column, text) > 0


def _select(connection: store.Connection) -> Select[*tuple[Any, ...]]:
    said = [_part(connection, *path) for path in _SAID]
    names = ("day_local", "started_us", "route", "source", "campaign", "agent", "caller", "outcome")
    columns = [_CALLS.c[name] for name in names]
    flags = [_RESULTS.c[name] for name in ("qualified", "spam", "goal_reached")]
    deal = [_RESULTS.c[name] for name in ("deal_state", "value_e4", "currency", "closed_on")]
    joined = _CALLS.outerjoin(_RESULTS, _RESULTS.c.call_id == _CALLS.c.call_id)
    return select(*columns, *flags, *said, *deal).select_from(joined)


_SAID = (("scoring", "qualified"), ("scoring", "spam"), ("rating", "goal_reached"), ("rating", "solved"))
"""Where the record says the same of a call, by rule or by key; the last only there."""


def _part(connection: store.Connection, *path: str) -> ColumnElement[Any]:
    """`true`, `false`, 1, 0 or NULL of the record. Most records say nothing of it, and parsing them is what a report's
    time goes into."""
    if connection.dialect.name == "sqlite":
        found: ColumnElement[Any] = func.json_extract(_CALLS.c.record, f"$.{'.'.join(path)}")
    else:
        # It knows no NUL, which a damaged row of the journal can bring: one record would stop all reports.
        found = cast(func.replace(_CALLS.c.record, "\\u0000", "\\ufffd"), JSONB)[path].astext
    return case((_holds(connection, _CALLS.c.record, f'"{path[0]}":{{'), found), else_=null())


def _counted(rows: Sequence[Row[*tuple[Any, ...]]]) -> list[Counted]:
    return [Counted(*_values(row)) for row in rows]


def _values(row: Row[*tuple[Any, ...]]) -> tuple[Any, ...]:
    day, started_us, route, source, campaign, agent, caller, outcome, *rest = row
    flags, said, (solved, *deal) = rest[:3], rest[3:6], rest[6:]
    known = (_flag(one) if other is None else bool(other) for other, one in zip(flags, said, strict=True))
    call = (day, started_us, route, source, campaign, agent, caller, outcome == "answered")
    return (*call, *known, _flag(solved), *deal)


def _flag(value: object) -> bool | None:
    return None if value is None else value in (1, True, "true")
