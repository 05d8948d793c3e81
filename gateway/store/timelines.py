"""What is known of one visitor, in the order of time: visits with their pages, clicks on numbers, calls (R89, R107)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select

from gateway import store
from gateway.store import poolschema
from gateway.store import visits as stored

_VISITORS, _VISITS, _PAGES = poolschema.visitors, poolschema.visits, poolschema.page_views
_CLICKS, _ATTRIBUTIONS = poolschema.clicks, poolschema.attributions

MAX_VISITS = 100
MAX_PAGES = 1_000
MAX_CALLS = 200
"""And as many clicks."""


@dataclass(frozen=True, slots=True)
class Click:
    """The visitor followed a link of a number (E.164 with `+`)."""

    at_us: int
    number: str


@dataclass(frozen=True, slots=True)
class Called:
    """A call that the visitor probably made. `is_certain`: so sure that caller and visitor are taken for one."""

    call_id: str
    at_us: int
    number: str
    method: str
    confidence: float
    caller: str | None
    is_certain: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """All of it, oldest first; of very much the latest, and `is_cut` says so."""

    person: stored.Person
    visits: tuple[stored.Visit, ...]
    pages: tuple[stored.Page, ...]
    clicks: tuple[Click, ...]
    calls: tuple[Called, ...]
    is_cut: bool = False


async def timeline(connection: store.Connection, visitor_id: str) -> Timeline | None:
    """What is known of a visitor; None for one who is not."""
    row = (await connection.execute(select(_VISITORS).where(_VISITORS.c.visitor_id == visitor_id))).first()
    if row is None:
        return None
    theirs = select(_VISITS).where(_VISITS.c.visitor_id == visitor_id)
    newest = theirs.order_by(_VISITS.c.started_us.desc(), _VISITS.c.visit_id.desc()).limit(MAX_VISITS + 1)
    visited = (await connection.execute(newest)).all()
    shown = visited[:MAX_VISITS]
    seen = select(_PAGES).where(_PAGES.c.visit_id.in_([one.visit_id for one in shown]))
    seen = seen.order_by(_PAGES.c.at_us.desc(), _PAGES.c.place.desc()).limit(MAX_PAGES + 1)
    pages = (await connection.execute(seen)).all()
    clicked = select(_CLICKS).where(_CLICKS.c.visitor_id == visitor_id)
    clicked = clicked.order_by(_CLICKS.c.at_us.desc(), _CLICKS.c.click_id.desc()).limit(MAX_CALLS + 1)
    clicks = (await connection.execute(clicked)).all()
    called = select(_ATTRIBUTIONS).where(_ATTRIBUTIONS.c.visitor_id == visitor_id)
    called = called.order_by(_ATTRIBUTIONS.c.at_us.desc(), _ATTRIBUTIONS.c.call_id.desc()).limit(MAX_CALLS + 1)
    calls = (await connection.execute(called)).all()
    return Timeline(
        person=stored.person_from(row),
        visits=tuple([stored.visit_from(one) for one in reversed(shown)]),
        pages=tuple([stored.Page(one.visit_id, one.place, one.at_us, one.url) for one in reversed(pages[:MAX_PAGES])]),
        clicks=tuple([Click(one.at_us, one.number) for one in reversed(clicks[:MAX_CALLS])]),
        calls=tuple([_called(one) for one in reversed(calls[:MAX_CALLS])]),
        is_cut=len(visited) > MAX_VISITS or len(pages) > MAX_PAGES or max(len(clicks), len(calls)) > MAX_CALLS,
    )


def _called(row: Row[*tuple[Any, ...]]) -> Called:
    is_certain = row.link_confidence is not None
    return Called(row.call_id, row.at_us, row.number, row.method, row.confidence, row.caller, is_certain)
