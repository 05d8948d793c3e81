"""Visitors of the sites: where they came from, what they saw, what they clicked (R89, R107), and forgetting it.

What came with a visit is kept as it came (`raw`), beside what the rules of its time made of it. IP addresses are not.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import BigInteger, Row, bindparam, delete, func, literal, select, text, tuple_, update

from gateway import store
from gateway.core import erasure, matching, touches, traffic
from gateway.store import overflows, poolschema, statements

_VISITORS, _VISITS, _PAGES = poolschema.visitors, poolschema.visits, poolschema.page_views
_CLICKS, _LEASES, _SLOTS = poolschema.clicks, poolschema.leases, poolschema.pool_numbers
_ATTRIBUTIONS = poolschema.attributions

MAX_PAGES = 200
"""Of one visit; what a page that reloads itself all night adds is counted and not kept."""

MAX_TOUCHES = 200
MAX_IDS = 20
MAX_VALUE = 200

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US


@dataclass(frozen=True, slots=True)
class Person:
    """What is kept of a visitor. `ids` are those of web analytics, `variables` what the site's script told."""

    visitor_id: str
    site: str
    first_us: int
    seen_us: int
    ids: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Device:
    """With what the visitor looks, and where they are (R107)."""

    browser: str | None = None
    system: str | None = None
    device: str | None = None
    country: str | None = None
    city: str | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit. `touch` is how it began; when `is_touch` is false it went on where an earlier one was."""

    touch: touches.Touch
    landing: traffic.Landing
    site: str
    seen_us: int
    is_touch: bool = True
    pages: int = 1
    on: Device = Device()


@dataclass(frozen=True, slots=True)
class Known:
    """A visitor who has been here before: the visit they were last in, and the touch that counts."""

    person: Person
    last: Visit | None = None
    touch: Visit | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a visit; `place` counts from 1."""

    visit_id: str
    place: int
    at_us: int
    url: str


_RANKED = text(
    "SELECT visit_id FROM (SELECT visit_id, row_number() OVER (PARTITION BY visitor_id, is_touch "
    "ORDER BY started_us DESC, visit_id DESC) AS place FROM visits WHERE visitor_id IN :visitors) AS ranked "
    "WHERE place = 1"
).bindparams(bindparam("visitors", expanding=True))


async def known(connection: store.Connection, visitor_ids: Collection[str]) -> dict[str, Known]:
    """Those of the visitors who are known, by id."""
    found: dict[str, Known] = {}
    for chunk in statements.chunks(sorted(set(visitor_ids))):
        people = await connection.execute(select(_VISITORS).where(_VISITORS.c.visitor_id.in_(chunk)))
        found |= {row.visitor_id: Known(person_from(row)) for row in people}
        ids = list((await connection.execute(_RANKED, {"visitors": list(chunk)})).scalars())
        visits: dict[str, list[Visit]] = {}
        for row in await connection.execute(select(_VISITS).where(_VISITS.c.visit_id.in_(ids))):
            visits.setdefault(row.visitor_id, []).append(visit_from(row))
        for visitor_id, theirs in visits.items():
            last = max(theirs, key=lambda one: (one.touch.at_us, one.touch.visit_id))
            touch = next((one for one in theirs if one.is_touch), None)
            found[visitor_id] = Known(found[visitor_id].person, last, touch)
    return found


async def save(tx: store.Transaction, people: Sequence[Person], visits: Sequence[Visit], pages: Sequence[Page]) -> None:
    """Visitors and visits as they are now, whole rows; pages are added. Saving twice changes nothing."""
    await statements.upsert(tx, _VISITORS, [_person_values(one) for one in people])
    await statements.upsert(tx, _VISITS, [_visit_values(one) for one in visits])
    kept = [
        {"visit_id": one.visit_id, "place": one.place, "at_us": one.at_us, "url": one.url}
        for one in pages
        if one.place <= MAX_PAGES
    ]
    await statements.insert_new(tx, _PAGES, kept)


_SEEN = (
    update(_VISITS)
    .where(_VISITS.c.visit_id == bindparam("b_visit"), _VISITS.c.seen_us < bindparam("b_seen"))
    .values(seen_us=bindparam("b_seen"))
)


async def seen(tx: store.Transaction, visits: Mapping[str, int]) -> None:
    """Signs of life: time by visit id. Visits that are not known are passed over."""
    if visits:
        rows = [{"b_visit": visit_id, "b_seen": at_us} for visit_id, at_us in sorted(visits.items())]
        await tx.execute(_SEEN, rows)


_CLICK = _CLICKS.insert().from_select(
    ["number", "visitor_id", "at_us"],
    select(bindparam("of_number"), _VISITORS.c.visitor_id, bindparam("b_at", type_=BigInteger)).where(
        _VISITORS.c.visitor_id == bindparam("of_visitor")
    ),
)


async def click(tx: store.Transaction, number: str, visitor_id: str, at_us: int) -> None:
    """A visitor followed a link of the number. One who is not known is passed over: anybody can make up an id."""
    await tx.execute(_CLICK, {"of_number": number, "of_visitor": visitor_id, "b_at": at_us})


Told = tuple[Mapping[str, str], Mapping[str, str]]
"""Ids and variables of a visitor."""


async def tell(tx: store.Transaction, told: Mapping[str, Told]) -> None:
    """More of visitors, by visitor id. Unknown visitors are passed over."""
    for chunk in statements.chunks(sorted(told)):
        for row in (await tx.execute(select(_VISITORS).where(_VISITORS.c.visitor_id.in_(chunk)))).all():
            one, (ids, variables) = person_from(row), told[row.visitor_id]
            more = replace(one, ids=merged(one.ids, ids), variables=merged(one.variables, variables))
            if more != one:
                await statements.upsert(tx, _VISITORS, [_person_values(more)])


def merged(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """What is kept of ids or variables when more are told: the latest, cut, and not too many."""
    both = {**before, **now}
    cut = {name[:MAX_VALUE]: value[:MAX_VALUE] for name, value in both.items() if value}
    return dict(list(cut.items())[:MAX_IDS])


async def clicks(connection: store.Connection, number: str, since_us: int, until_us: int) -> list[matching.Click]:
    """Clicks on links of a number, both times included, in their order."""
    query = select(_CLICKS.c.visitor_id, _CLICKS.c.at_us).where(
        _CLICKS.c.number == number, _CLICKS.c.at_us >= since_us, _CLICKS.c.at_us <= until_us
    )
    rows = await connection.execute(query.order_by(_CLICKS.c.at_us, _CLICKS.c.click_id))
    return [matching.Click(row.visitor_id, row.at_us) for row in rows]


async def touches_of(
    connection: store.Connection, visitor_ids: Collection[str], until_us: int, window_days: float
) -> list[touches.Touch]:
    """The touches of a visitor, or of one person's several devices, within the window before `until_us`, oldest
    first; of very many the latest."""
    first_us = until_us - round(window_days * DAY_US)
    query = (
        select(_VISITS)
        .where(_VISITS.c.visitor_id.in_(sorted(set(visitor_ids))), _VISITS.c.is_touch)
        .where(_VISITS.c.started_us >= first_us, _VISITS.c.started_us <= until_us)
        .order_by(_VISITS.c.started_us.desc(), _VISITS.c.visit_id.desc())
        .limit(MAX_TOUCHES)
    )
    return [visit_from(row).touch for row in (await connection.execute(query)).all()][::-1]


async def visit_of(connection: store.Connection, visitor_id: str, at_us: int) -> Visit | None:
    """The visit that a visitor was in, or was in last, at a time."""
    query = (
        select(_VISITS)
        .where(_VISITS.c.visitor_id == visitor_id, _VISITS.c.started_us <= at_us)
        .order_by(_VISITS.c.started_us.desc(), _VISITS.c.visit_id.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).first()
    return None if row is None else visit_from(row)


async def mean_stay_seconds(connection: store.Connection, site: str, since_us: int, until_us: int) -> float | None:
    """Mean time on site of visits that began in the time, None when there were none (R100)."""
    stay = func.avg(_VISITS.c.seen_us - _VISITS.c.started_us)
    query = select(stay).where(
        _VISITS.c.site == site, _VISITS.c.started_us >= since_us, _VISITS.c.started_us < until_us
    )
    found = (await connection.execute(query)).scalar()
    return None if found is None else float(found) / SECOND_US


async def begun(
    connection: store.Connection, site: str, since_us: int, until_us: int, *, after: Visit | None = None, limit: int
) -> list[Visit]:
    """Visits of a site that began in the time, in their order; `after` one of them, if there were more than `limit`."""
    query = select(_VISITS).where(
        _VISITS.c.site == site, _VISITS.c.started_us >= since_us, _VISITS.c.started_us < until_us
    )
    if after is not None:
        place = tuple_(_VISITS.c.started_us, _VISITS.c.visit_id)
        # The first condition alone has an index to go by.
        query = query.where(_VISITS.c.started_us >= after.touch.at_us)
        query = query.where(place > tuple_(literal(after.touch.at_us), literal(after.touch.visit_id)))
    rows = await connection.execute(query.order_by(_VISITS.c.started_us, _VISITS.c.visit_id).limit(limit))
    return [visit_from(row) for row in rows]


async def last_touches(connection: store.Connection, visitor_ids: Collection[str], before_us: int) -> dict[str, Visit]:
    """By visitor the last visit before a time that was a touch."""
    found: dict[str, Visit] = {}
    for chunk in statements.chunks(sorted(set(visitor_ids))):
        query = select(_VISITS).where(
            _VISITS.c.visitor_id.in_(chunk), _VISITS.c.is_touch, _VISITS.c.started_us < before_us
        )
        for row in await connection.execute(query.order_by(_VISITS.c.started_us, _VISITS.c.visit_id)):
            found[row.visitor_id] = visit_from(row)
    return found


async def forget(tx: store.Transaction, visitor_ids: Collection[str]) -> int:
    """Takes visitors out of all of these tables. Leases stay, of nobody: other calls are weighed by them. Returns how
    many were known."""
    count = 0
    for chunk in statements.chunks(sorted(set(visitor_ids))):
        theirs = {"ids": list(chunk)}
        for statement in _FORGET:
            result = await tx.execute(statement, theirs)
        count += result.rowcount
    return count


_FORGET = tuple(
    text(statement).bindparams(bindparam("ids", expanding=True))
    for statement in (
        f"UPDATE leases SET visitor_id = '{erasure.PREFIX}' || lease_id WHERE visitor_id IN :ids",  # noqa: S608 - ours
        # The number stays frozen, for nobody.
        "UPDATE pool_numbers SET visitor_id = NULL, generation = generation + 1 WHERE visitor_id IN :ids",
        "UPDATE attributions SET visitor_id = NULL, link_confidence = NULL, due_us = NULL WHERE visitor_id IN :ids",
        "DELETE FROM clicks WHERE visitor_id IN :ids",
        "DELETE FROM page_views WHERE visit_id IN (SELECT visit_id FROM visits WHERE visitor_id IN :ids)",
        "DELETE FROM visits WHERE visitor_id IN :ids",
        "DELETE FROM visitors WHERE visitor_id IN :ids",
    )
)


async def old(connection: store.Connection, before_us: int, *, limit: int = 500) -> list[str]:
    """Visitors not seen since a time."""
    query = select(_VISITORS.c.visitor_id).where(_VISITORS.c.seen_us < before_us).order_by(_VISITORS.c.seen_us)
    return list((await connection.execute(query.limit(limit))).scalars())


async def count_old(connection: store.Connection, before_us: int) -> int:
    """How many visits began before a time."""
    query = select(func.count()).select_from(_VISITS).where(_VISITS.c.started_us < before_us)
    return (await connection.execute(query)).scalar_one()


async def prune(tx: store.Transaction, before_us: int) -> int:
    """Deletes what is older: visits with their pages, clicks, ended leases, who called. Returns how many visits."""
    aged = select(_VISITS.c.visit_id).where(_VISITS.c.started_us < before_us)
    await tx.execute(delete(_PAGES).where(_PAGES.c.visit_id.in_(aged)))
    gone = (await tx.execute(delete(_VISITS).where(_VISITS.c.started_us < before_us))).rowcount
    await tx.execute(delete(_CLICKS).where(_CLICKS.c.at_us < before_us))
    await tx.execute(delete(_ATTRIBUTIONS).where(_ATTRIBUTIONS.c.at_us < before_us))
    await tx.execute(delete(_LEASES).where(_LEASES.c.issued_us < before_us, _LEASES.c.gone_us < before_us))
    await overflows.prune(tx, before_us)
    return gone


def person_from(row: Row[*tuple[Any, ...]]) -> Person:
    """A row of `visitors`."""
    return Person(row.visitor_id, row.site, row.first_us, row.seen_us, json.loads(row.ids), json.loads(row.variables))


def _person_values(one: Person) -> dict[str, Any]:
    return {
        "visitor_id": one.visitor_id,
        "site": one.site,
        "first_us": one.first_us,
        "seen_us": one.seen_us,
        "ids": _json(one.ids),
        "variables": _json(one.variables),
    }


def visit_from(row: Row[*tuple[Any, ...]]) -> Visit:
    """A row of `visits`."""
    raw = json.loads(row.raw)
    host, path, _ = traffic.parts(row.landing_page)
    came = traffic.Classified(
        kind=traffic.Kind(row.kind),
        source=row.came_from,
        medium=row.medium,
        campaign=row.campaign,
        term=row.term,
        content=row.content,
        campaign_id=raw.get("campaign_id"),
        click_ids=raw.get("click_ids", {}),
        referrer_host=raw.get("referrer_host"),
        rule=row.rule,
        version=row.version,
    )
    touch = touches.Touch(
        at_us=row.started_us,
        visit_id=row.visit_id,
        visitor_id=row.visitor_id,
        came=came,
        source=row.book_source,
        landing_page=row.landing_page or None,
        referrer=row.referrer or None,
    )
    return Visit(
        touch=touch,
        landing=traffic.Landing(row.landing_page, row.referrer, raw.get("parameters", {}), host, path),
        site=row.site,
        seen_us=row.seen_us,
        is_touch=row.is_touch,
        pages=row.pages,
        on=Device(row.browser, row.system, row.device, row.country, row.city),
    )


def _visit_values(one: Visit) -> dict[str, Any]:
    touch, came, on = one.touch, one.touch.came, one.on
    raw = {
        "parameters": dict(one.landing.parameters),
        "click_ids": dict(came.click_ids),
        "campaign_id": came.campaign_id,
        "referrer_host": came.referrer_host,
    }
    return {
        "visit_id": touch.visit_id,
        "visitor_id": touch.visitor_id,
        "site": one.site,
        "started_us": touch.at_us,
        "seen_us": one.seen_us,
        "is_touch": one.is_touch,
        "book_source": touch.source,
        "kind": came.kind.value,
        "came_from": came.source,
        "medium": came.medium,
        "campaign": came.campaign,
        "term": came.term,
        "content": came.content,
        "rule": came.rule,
        "version": came.version,
        "landing_page": one.landing.url,
        "referrer": one.landing.referrer,
        "raw": _json(raw),
        "country": on.country,
        "city": on.city,
        "browser": on.browser,
        "system": on.system,
        "device": on.device,
        "pages": one.pages,
    }


_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode
