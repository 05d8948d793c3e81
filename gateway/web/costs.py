"""What calls cost, over HTTP (R8, R70, R105): spend, agents' wages and staffed hours."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from gateway.core import costs, deals, money
from gateway.services import costing, dealing
from gateway.store import costs as stored
from gateway.store import restated
from gateway.web import auth, parts, problems, routes, schemas

MAX_ROWS = 200
MAX_DAYS = 1_100
table = routes.Table()

Amount = str | int | float


class SpendRow(routes.Body):
    """What a source cost on a day. Without `entry` this is the whole amount, in the place of what was there; with it
    one of several parts that add up."""

    day: str
    source: str = Field(description="Key of a source, or a cost line")
    campaign: str | None = None
    amount: Amount = Field(description='Decimal: "1234.50"')
    currency: str = Field(description="ISO 4217")
    entry: str | None = Field(None, description="Id of this part")


class WageRow(routes.Body):
    """What an agent earns in an hour, from a day on."""

    agent: str
    from_day: str
    hourly: Amount
    currency: str


class HoursRow(routes.Body):
    """How long an agent was there to take calls on a day."""

    agent: str
    day: str
    hours: Amount = Field(description="7.5 or 7:30")


class SpendRows(routes.Body):
    """Taken all together or not at all."""

    rows: list[SpendRow] = Field(max_length=MAX_ROWS)


class WageRows(routes.Body):
    """Taken all together or not at all."""

    rows: list[WageRow] = Field(max_length=MAX_ROWS)


class HoursRows(routes.Body):
    """Taken all together or not at all."""

    rows: list[HoursRow] = Field(max_length=MAX_ROWS)


class AnyRows(routes.Body):
    """The same, unjudged: `core.costs` reads them and tells the place of every mistake."""

    rows: list[dict[str, Any]] = Field(max_length=MAX_ROWS)


class Taken(schemas.Document):
    """How many rows changed something, and how many said nothing new."""

    changed: int
    unchanged: int


class Restated(schemas.Document):
    """A day that was over when its figures were changed."""

    day: date
    what: str
    changes: int


class SpendList(schemas.Document):
    """Spend by day, source and campaign; `entry` is null for a whole amount."""

    spend: list[dict[str, Any]]
    restated: list[Restated]


class WageList(schemas.Document):
    """Wages, and staffed hours of the days asked for."""

    wages: list[dict[str, Any]]
    hours: list[dict[str, Any]]
    restated: list[Restated]


class DaysQuery(routes.Query):
    """Days, both included."""

    first: Annotated[date, Field(alias="from", description="First day, 2026-11-01")]
    last: Annotated[date, Field(alias="to", description="Last day")]


@table.get(
    "/api/v1/spend",
    scope=auth.Scope.COSTS_READ,
    query=DaysQuery,
    out=SpendList,
    summary="Spend per source, campaign and day",
    slugs=("unavailable",),
)
async def list_spend(request: web.Request, query: DaysQuery) -> web.StreamResponse:
    first, last = _days(query)
    async with request.app[parts.PARTS].database.read() as connection:
        rows = await stored.spend(connection, first, last)
        marks = await restated.marks(connection, first, last)
    found = [
        {
            "day": deals.day_text(row.day),
            "source": row.source,
            "campaign": row.campaign or None,
            "amount": money.shown(row.amount_e4),
            "currency": row.currency,
            "entry": row.entry or None,
        }
        for row in rows
    ]
    return routes.json_response({"spend": found, "restated": _restated(marks, restated.SPEND)})


@table.post(
    "/api/v1/spend",
    scope=auth.Scope.COSTS_WRITE,
    body=SpendRows,
    out=Taken,
    summary="Enter spend, all rows or none",
    slugs=("not-taken", "unavailable"),
)
async def take_spend(request: web.Request) -> web.StreamResponse:
    return await _take(request, costs.SPEND)


@table.get(
    "/api/v1/wages",
    scope=auth.Scope.WAGES_MANAGE,
    query=DaysQuery,
    out=WageList,
    summary="Agents' wages and staffed hours",
    slugs=("unavailable",),
)
async def list_wages(request: web.Request, query: DaysQuery) -> web.StreamResponse:
    first, last = _days(query)
    async with request.app[parts.PARTS].database.read() as connection:
        wages = await stored.wages(connection)
        hours = await stored.hours(connection, first, last)
        marks = await restated.marks(connection, first, last)
    return routes.json_response(
        {
            "wages": [
                {
                    "agent": row.agent,
                    "from_day": deals.day_text(row.from_day),
                    "hourly": money.shown(row.hourly_e4),
                    "currency": row.currency,
                }
                for row in wages
            ],
            "hours": [
                {"agent": row.agent, "day": deals.day_text(row.day), "hours": round(row.minutes / 60, 4)}
                for row in hours
            ],
            "restated": _restated(marks, restated.WAGES),
        }
    )


@table.post(
    "/api/v1/wages",
    scope=auth.Scope.WAGES_MANAGE,
    body=WageRows,
    out=Taken,
    summary="Enter wages, all rows or none",
    slugs=("not-taken", "unavailable"),
)
async def take_wages(request: web.Request) -> web.StreamResponse:
    return await _take(request, costs.WAGES)


@table.post(
    "/api/v1/wages/hours",
    scope=auth.Scope.WAGES_MANAGE,
    body=HoursRows,
    out=Taken,
    summary="Enter staffed hours, all rows or none",
    slugs=("not-taken", "unavailable"),
)
async def take_hours(request: web.Request) -> web.StreamResponse:
    return await _take(request, costs.HOURS)


async def _take(request: web.Request, kind: costs.Kind) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    body = await routes.parse_body(AnyRows, request)
    try:
        done = await costing.take(
            here.database,
            kind,
            list(enumerate(body.rows)),
            current=here.current_book(),
            by=f"token:{request[routes.PRINCIPAL].name}",
            now_us=parts.micros(here.clock()),
        )
    except dealing.Refused as refused:
        errors = [{"field": f"rows[{one.place}].{one.field}", "message": one.message} for one in refused.problems]
        raise problems.Problem("not-taken", errors=errors[:MAX_ROWS]) from None
    return routes.json_response({"changed": done.changed, "unchanged": done.unchanged})


def _days(query: DaysQuery) -> tuple[int, int]:
    if not 0 <= (query.last - query.first).days <= MAX_DAYS:
        message = f"must be at most {MAX_DAYS} days after `from`, not before it"
        raise problems.Problem("invalid-query", errors=[{"field": "to", "message": message}])
    first, last = (one.year * 10_000 + one.month * 100 + one.day for one in (query.first, query.last))
    return first, last


def _restated(marks: list[restated.Mark], kind: str) -> list[dict[str, Any]]:
    return [
        {"day": deals.day_text(one.day_local), "what": one.kind, "changes": one.changes}
        for one in marks
        if one.kind == kind
    ]
