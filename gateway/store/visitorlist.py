"""Visitors as a list (R89): who was last seen when, from where, and whether they called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, func, or_, select, text

from gateway import store
from gateway.store import poolschema, statements, visits

_VISITORS, _VISITS, _ATTRIBUTIONS = poolschema.visitors, poolschema.visits, poolschema.attributions


@dataclass(frozen=True, slots=True)
class VisitorFilter:
    """All that are given must hold. `since_us`, `until_us`: last seen; `caller` is E.164 with `+` and must have been
    certain to be theirs; `source` is a key of the book or what the visit came from; `city` as it was found."""

    since_us: int | None = None
    until_us: int | None = None
    site: str | None = None
    source: str | None = None
    campaign: str | None = None
    city: str | None = None
    caller: str | None = None
    has_called: bool | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """Goes on behind this visitor."""

    seen_us: int
    visitor_id: str


@dataclass(frozen=True, slots=True)
class Row:
    """One visitor in short. `touch` is the visit whose source counts: the last that was not direct, else the last.
    `last` is the one they were in last."""

    person: visits.Person
    last: visits.Visit | None
    touch: visits.Visit | None
    visits: int
    pages: int
    calls: int


@dataclass(frozen=True, slots=True)
class Found:
    """One page of the list; `next` None: the last."""

    rows: tuple[Row, ...]
    next: Cursor | None


async def list_visitors(
    connection: store.Connection, asked: VisitorFilter, *, after: Cursor | None = None, limit: int = 50
) -> Found:
    """Visitors, last seen first."""
    query = select(_VISITORS.c.visitor_id, _VISITORS.c.seen_us).where(*_conditions(asked))
    if after is not None:
        seen, visitor = _VISITORS.c.seen_us, _VISITORS.c.visitor_id
        query = query.where(or_(seen < after.seen_us, and_(seen == after.seen_us, visitor < after.visitor_id)))
    query = query.order_by(_VISITORS.c.seen_us.desc(), _VISITORS.c.visitor_id.desc()).limit(limit + 1)
    ids = (await connection.execute(query)).all()
    shown = ids[:limit]
    rows = await _rows(connection, [row.visitor_id for row in shown])
    following = Cursor(shown[-1].seen_us, shown[-1].visitor_id) if len(ids) > limit else None
    return Found(rows, following)


def _conditions(asked: VisitorFilter) -> list[ColumnElement[bool]]:
    chosen: list[ColumnElement[bool]] = []
    if asked.since_us is not None:
        chosen.append(_VISITORS.c.seen_us >= asked.since_us)
    if asked.until_us is not None:
        chosen.append(_VISITORS.c.seen_us < asked.until_us)
    if asked.site is not None:
        chosen.append(_VISITORS.c.site == asked.site)
    visited: list[ColumnElement[bool]] = []
    if asked.source is not None:
        visited.append(or_(_VISITS.c.book_source == asked.source, _VISITS.c.came_from == asked.source))
    if asked.campaign is not None:
        visited.append(_VISITS.c.campaign == asked.campaign)
    if asked.city is not None:
        visited.append(_VISITS.c.city == asked.city)
    if visited:
        # One visit that fits them all: a source of one and a campaign of another say nothing.
        chosen.append(select(_VISITS.c.visit_id).where(_of_visitor(_VISITS), *visited).exists())
    if asked.caller is not None:
        certain = (_ATTRIBUTIONS.c.caller == asked.caller, _ATTRIBUTIONS.c.link_confidence.is_not(None))
        chosen.append(select(_ATTRIBUTIONS.c.call_id).where(_of_visitor(_ATTRIBUTIONS), *certain).exists())
    if asked.has_called is not None:
        called = select(_ATTRIBUTIONS.c.call_id).where(_of_visitor(_ATTRIBUTIONS)).exists()
        chosen.append(called if asked.has_called else ~called)
    return chosen


def _of_visitor(table: Any) -> ColumnElement[bool]:
    same: ColumnElement[bool] = table.c.visitor_id == _VISITORS.c.visitor_id
    return same


async def _rows(connection: store.Connection, visitor_ids: Sequence[str]) -> tuple[Row, ...]:
    known = await visits.known(connection, visitor_ids)
    came = await _touches(connection, visitor_ids)
    visited: dict[str, tuple[int, int]] = {}
    called: dict[str, int] = {}
    for chunk in statements.chunks(visitor_ids):
        pages = func.coalesce(func.sum(_VISITS.c.pages), 0)
        counted = select(_VISITS.c.visitor_id, func.count(), pages).where(_VISITS.c.visitor_id.in_(chunk))
        for row in await connection.execute(counted.group_by(_VISITS.c.visitor_id)):
            visited[row[0]] = int(row[1]), int(row[2])
        calls = select(_ATTRIBUTIONS.c.visitor_id, func.count()).where(_ATTRIBUTIONS.c.visitor_id.in_(chunk))
        for row in await connection.execute(calls.group_by(_ATTRIBUTIONS.c.visitor_id)):
            called[row[0]] = int(row[1])
    return tuple(
        Row(
            known[visitor_id].person,
            known[visitor_id].last,
            came.get(visitor_id),
            *visited.get(visitor_id, (0, 0)),
            called.get(visitor_id, 0),
        )
        for visitor_id in visitor_ids
        if visitor_id in known
    )


_DECIDING = text(
    "SELECT visit_id FROM (SELECT visit_id, row_number() OVER (PARTITION BY visitor_id "
    "ORDER BY CASE WHEN kind = 'direct' THEN 1 ELSE 0 END, started_us DESC, visit_id DESC) AS place "
    "FROM visits WHERE visitor_id IN :visitors AND is_touch) AS ranked WHERE place = 1"
).bindparams(bindparam("visitors", expanding=True))


async def _touches(connection: store.Connection, visitor_ids: Sequence[str]) -> dict[str, visits.Visit]:
    found = {}
    for chunk in statements.chunks(visitor_ids):
        ids = list((await connection.execute(_DECIDING, {"visitors": list(chunk)})).scalars())
        for row in await connection.execute(select(_VISITS).where(_VISITS.c.visit_id.in_(ids))):
            found[row.visitor_id] = visits.visit_from(row)
    return found
