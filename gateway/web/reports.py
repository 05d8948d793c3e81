"""Reports over HTTP (R14-R16, R60, R64, R70, R73, R77, R87): the figures of `dialmark report`, as JSON or CSV."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from gateway.core import dealfigures, deals, money, sheets
from gateway.services import reporting
from gateway.store import dealreports, restated
from gateway.web import auth, parts, problems, routes, schemas, streams

MAX_DAYS = 400
MAX_LIMIT = 1_000
DEFAULT_DAYS = 30
FIGURES = (
    *("calls", "answered", "qualified", "goals", "goal_percent", "callers", "prospects", "buyers", "deals_open"),
    *("deals_won", "conversion_percent", "won", "average_deal", "days_to_close", "revenue_per_call", "spend"),
    *("cost_per_call", "cost_per_lead", "cpa", "romi_percent", "fcr_percent", "spam"),
)
"""Columns of a report that are figures; rows may be sorted by each."""
COLUMNS = ("group", "name", "source", "campaign", "agent", *FIGURES, "currency", "restated")
AGENT_COLUMNS = ("agent", "calls", "hours", "cost", "cost_per_call", "currency", "note", "restated")
SORT_PATTERN = f"^-?({'|'.join(('group', *FIGURES))})$"

table = routes.Table()

LOCK: web.AppKey[asyncio.Lock] = web.AppKey("reports", asyncio.Lock)
"""One report at a time: each reads all calls of its days."""


class Form(StrEnum):
    """As what the rows come."""

    JSON = "json"
    CSV = "csv"


class SpanQuery(routes.Query):
    """Days of the site, both included."""

    first: Annotated[date | None, Field(alias="from", description="First day, 2026-11-01; 30 days if none")] = None
    last: Annotated[date | None, Field(alias="to", description="Last day; today if none")] = None


class FormQuery(SpanQuery):
    """Days, and as what the answer comes."""

    form: Annotated[Form, Field(alias="format", description="json or csv")] = Form.JSON


Source = Annotated[
    str | None, Field(max_length=64, description="Only what is booked on this source; `unknown`: on none")
]
Campaign = Annotated[str | None, Field(max_length=255, description="Only of this campaign; -: of none")]


class SourcesQuery(FormQuery):
    """What a row is of, of which calls, the currency of the money, the order, and which rows."""

    by: Annotated[reporting.By, Field(description="What there is a row of")] = reporting.By.SOURCE
    source: Source = None
    campaign: Campaign = None
    currency: Annotated[str | None, Field(description="Money of this one only, where there are several")] = None
    sort: Annotated[
        str | None,
        Field(pattern=SORT_PATTERN, description="Column, with - before it downward; days in order, else calls down"),
    ] = None
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 200
    after: Annotated[int, Field(ge=0, le=10_000_000, description="`next` of the page before")] = 0


class ReportRow(schemas.Document):
    """One row. Money is decimal text in `currency`; a figure of too few cases is null (docs/deals.md)."""

    group: str
    name: str | None
    source: str | None
    campaign: str | None
    agent: str | None
    calls: int
    answered: int
    qualified: int
    goals: int
    goal_percent: float | None
    callers: int
    prospects: int
    buyers: int
    deals_open: int
    deals_won: int
    conversion_percent: float | None
    won: str
    average_deal: str | None
    days_to_close: float | None
    revenue_per_call: str | None
    spend: str
    cost_per_call: str | None
    cost_per_lead: str | None
    cpa: str | None
    romi_percent: float | None
    fcr_percent: float | None
    currency: str | None
    spam: int
    restated: bool


class LateDay(schemas.Document):
    """A day that was over when its figures were changed: what changed, how often, and when last."""

    day: date
    what: str
    changes: int
    last_at: str


class SourcesReport(schemas.Document):
    """`total` is of all groups together; `next` is the `after` of the following page."""

    by: reporting.By
    first: Annotated[date, Field(alias="from")]
    last: Annotated[date, Field(alias="to")]
    time_zone: str
    currency: str | None
    rows: list[ReportRow]
    total: ReportRow
    restated: list[LateDay]
    next: int | None


class AgentRow(schemas.Document):
    """Wage × staffed hours ÷ calls; `note` says why there is no cost."""

    agent: str
    calls: int
    hours: float
    cost: str | None
    cost_per_call: str | None
    currency: str | None
    note: str
    restated: bool


class AgentsReport(schemas.Document):
    """`total` is of the whole centre."""

    first: Annotated[date, Field(alias="from")]
    last: Annotated[date, Field(alias="to")]
    time_zone: str
    rows: list[AgentRow]
    total: AgentRow
    restated: list[LateDay]


@dataclass(frozen=True, slots=True)
class Span:
    """Days of the site, both included."""

    first: date
    last: date

    @property
    def ends(self) -> tuple[date, date]:
        """Both."""
        return self.first, self.last

    @property
    def days(self) -> tuple[int, int]:
        """Both as yyyymmdd."""
        first, last = (one.year * 10_000 + one.month * 100 + one.day for one in (self.first, self.last))
        return first, last


@table.get(
    "/api/v1/reports/sources",
    scope=auth.Scope.REPORTS_READ,
    query=SourcesQuery,
    out=SourcesReport,
    summary="What calls brought and cost, by source, channel, campaign, day or agent",
    slugs=("unavailable",),
)
async def report_sources(request: web.Request, query: SourcesQuery) -> web.StreamResponse:
    here, span = request.app[parts.PARTS], span_of(query, request.app[parts.PARTS])
    material = await read(request, span, query.source, query.campaign)
    report = await reckoned(material, query.by, currency_of(query.currency))
    rows = ordered(report.rows, query.sort)
    shown = rows[query.after : query.after + query.limit]
    if query.form is Form.CSV:
        return _csv(COLUMNS, shown, f"{query.by.value}-{span.first}-{span.last}")
    return routes.json_response(
        {
            "by": query.by,
            **_head(span, here),
            "currency": report.currency,
            "rows": shown,
            "total": report.total,
            "restated": _late(report.marks),
            "next": query.after + query.limit if query.after + query.limit < len(rows) else None,
        }
    )


@table.get(
    "/api/v1/reports/agents",
    scope=auth.Scope.WAGES_MANAGE,
    query=FormQuery,
    out=AgentsReport,
    summary="What a call costs by agent",
    slugs=("unavailable",),
)
async def report_agents(request: web.Request, query: FormQuery) -> web.StreamResponse:
    here, span = request.app[parts.PARTS], span_of(query, request.app[parts.PARTS])
    async with here.database.read() as connection:
        report = await reporting.agents(connection, *span.days)
    if query.form is Form.CSV:
        return _csv(AGENT_COLUMNS, report.rows, f"agents-{span.first}-{span.last}")
    late = _late(report.marks)
    return routes.json_response({**_head(span, here), "rows": report.rows, "total": report.total, "restated": late})


async def read(
    request: web.Request, span: Span, source: str | None = None, campaign: str | None = None
) -> reporting.Material:
    """All calls of the days, or those of a source or campaign. Raises Problem `invalid-query`: they are too many."""
    here = request.app[parts.PARTS]
    async with request.app[LOCK], here.database.read() as connection:
        try:
            material = await reporting.read(connection, here.current_book(), *span.days)
        except dealreports.TooManyCalls:
            raise _wrong("to", f"there are more than {dealreports.MAX_CALLS:,} calls: ask for fewer days") from None
    return await asyncio.to_thread(material.only, source, campaign)


async def reckoned(material: reporting.Material, by: reporting.By, currency: str | None) -> reporting.Report:
    """Beside the loop. Raises Problem `invalid-query` where there are several currencies to choose from."""
    try:
        return await asyncio.to_thread(material.report, by, currency)
    except dealfigures.MixedCurrencies as error:
        raise _wrong("currency", f"there is money in {error}: choose one") from None


def span_of(query: SpanQuery, here: parts.AdminParts) -> Span:
    """The days that are asked for. Raises Problem `invalid-query`."""
    for name, day in (("from", query.first), ("to", query.last)):
        if day is not None and not 2000 <= day.year <= 2100:
            raise _wrong(name, "must be between 2000 and 2100")
    last = query.last or here.clock().astimezone(here.zone).date()
    first = query.first or last - timedelta(days=DEFAULT_DAYS - 1)
    if not 0 <= (last - first).days < MAX_DAYS:
        raise _wrong("to", f"must be at most {MAX_DAYS} days from `from` on, not before it")
    return Span(first, last)


def currency_of(written: str | None) -> str | None:
    """The code. Raises Problem `invalid-query`."""
    try:
        return money.currency(written) if written is not None else None
    except ValueError as error:
        raise _wrong("currency", str(error)) from None


def ordered(rows: Sequence[reporting.Row], sort: str | None) -> list[reporting.Row]:
    """Rows by a column; those without the figure come last, whichever way."""
    if sort is None:
        return list(rows)
    key, is_down = sort.removeprefix("-"), sort.startswith("-")
    if key == "group":
        return sorted(rows, key=lambda row: str(row["name"] or row["group"]).casefold(), reverse=is_down)
    known = [row for row in rows if row[key] is not None]
    return [
        *sorted(known, key=lambda row: Decimal(str(row[key])), reverse=is_down),
        *(row for row in rows if row[key] is None),
    ]


def _head(span: Span, here: parts.AdminParts) -> dict[str, Any]:
    return {"from": span.first, "to": span.last, "time_zone": str(here.zone)}


def _late(marks: Iterable[restated.Mark]) -> list[dict[str, Any]]:
    return [
        {
            "day": deals.day_text(one.day_local),
            "what": one.kind,
            "changes": one.changes,
            "last_at": streams.timestamp(parts.moment(one.last_us)),
        }
        for one in marks
    ]


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], name: str) -> web.Response:
    text = "".join(sheets.lines(columns, ([row[column] for column in columns] for row in rows)))
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"', "Cache-Control": "no-store"}
    return routes.encoded_response(text, "text/csv", headers=headers)


def _wrong(field: str, message: str) -> problems.Problem:
    return problems.Problem("invalid-query", errors=[{"field": field, "message": message}])
