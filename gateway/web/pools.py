"""The number pools over HTTP, for who looks after them (R96, R101, N6)."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.core import leaks, records
from gateway.services import poolwatch
from gateway.web import auth, parts, routes, schemas

table = routes.Table()


class PoolNumber(schemas.Document):
    """One number. `living`: its visitor is on the site; `frozen`: kept for one who left; `called`: a call is up or
    fresh; `free`. `calls` of the last 14 days."""

    number: str
    state: str
    issued_at: str | None
    held_until: str | None
    calls: int


class LeakedNumber(schemas.Document):
    """A number that is called far more often (`calls`) than it was to be expected."""

    number: str
    calls: int
    callers: int
    expected: float
    first_at: str
    last_at: str


class PoolFacts(schemas.Document):
    """One pool. `overflow_visits_24h` began without a number; `would_do` numbers would have done for all but 1 % of the
    busiest hour, null while nobody wants one. `numbers` are at most 200."""

    pool: str
    site: str
    route: str
    size: int
    free: int
    living: int
    frozen: int
    called: int
    overflow: str | None
    freeze_seconds: float
    freeze_soft: bool
    mean_stay_seconds: float | None
    overflow_visits_24h: int
    busiest_hour_visits_24h: int
    would_do: int | None
    exhausted_at: str | None
    leaked: list[LeakedNumber]
    numbers: list[PoolNumber]


class PoolList(schemas.Document):
    """All pools of the routing in force."""

    at: str
    pools: list[PoolFacts]


@table.get(
    "/api/v1/pools",
    scope=auth.Scope.ROUTING_READ,
    out=PoolList,
    summary="How the number pools stand",
    slugs=("unavailable",),
)
async def list_pools(request: web.Request) -> web.StreamResponse:
    at_us, found = await standing(request)
    return routes.json_response({"at": records.timestamp(at_us), "pools": [facts(one) for one in found]})


async def standing(request: web.Request) -> tuple[int, list[poolwatch.PoolStands]]:
    """The moment, and how the pools of the book in force stand."""
    here = request.app[parts.PARTS]
    now_us, current = parts.micros(here.clock()), here.current_book()
    if current is None:
        return now_us, []
    async with here.database.read() as connection:
        return now_us, await poolwatch.standing(connection, current.web, now_us)


def facts(one: poolwatch.PoolStands) -> dict[str, Any]:
    """A pool as JSON."""
    return {
        "pool": one.pool.key,
        "site": one.pool.site,
        "route": one.pool.route,
        "size": one.now.size,
        "free": one.free,
        "living": one.now.living,
        "frozen": one.now.frozen,
        "called": one.now.called,
        "overflow": one.pool.overflow,
        "freeze_seconds": round(one.terms.freeze_seconds, 1),
        "freeze_soft": one.pool.freeze.soft,
        "mean_stay_seconds": None if one.mean_stay_seconds is None else round(one.mean_stay_seconds, 1),
        "overflow_visits_24h": one.overflow_visits,
        "busiest_hour_visits_24h": one.busiest_hour_visits,
        "would_do": one.would_do,
        "exhausted_at": records.timestamp(one.exhausted_us),
        "leaked": [_leak(leak) for leak in one.leaked],
        "numbers": [
            {
                "number": number.number,
                "state": number.state.value,
                "issued_at": records.timestamp(number.issued_us),
                "held_until": records.timestamp(number.held_until_us),
                "calls": number.calls,
            }
            for number in one.numbers
        ],
    }


def _leak(leak: leaks.Suspicion) -> dict[str, Any]:
    return {
        "number": leak.number,
        "calls": leak.calls,
        "callers": leak.callers,
        "expected": round(leak.expected, 2),
        "first_at": records.timestamp(leak.first_us),
        "last_at": records.timestamp(leak.last_us),
    }
