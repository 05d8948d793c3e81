"""The page "Reports": what calls brought and cost, as tiles, pictures and a table (R14-R16, R64, R70, R73, R87)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from aiohttp import web
from pydantic import Field

from gateway.core import dealfigures
from gateway.services import reporting
from gateway.store import restated
from gateway.web import auth, charts, parts, problems, rendering, reports, routes, views

MAX_ROWS = 100
"""Rows of the table; the file has them all."""
PERCENT, MONEY, COUNT, DAYS = "percent", "money", "count", "days"

table = routes.Table()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: `hint` says what it is and from how many cases on it is shown."""

    key: str
    title: str
    kind: str
    hint: str


@dataclass(frozen=True, slots=True)
class Header:
    """The same with the address that sorts by it, and how the table is sorted now."""

    column: Column
    address: str
    sorted: str
    """`ascending`, `descending` or empty."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A link of a group of which one holds."""

    name: str
    address: str
    is_current: bool


COLUMNS = (
    Column("calls", "Calls", COUNT, "Inbound calls without banned callers, test calls and spam"),
    Column("answered", "Answered", COUNT, "Calls that a person answered"),
    Column("qualified", "Qualified", COUNT, "Calls worth having"),
    Column("goals", "Goals", COUNT, "Calls that reached their goal"),
    Column("prospects", "Prospects", COUNT, "Callers with a qualified call or an open deal who have not bought"),
    Column("buyers", "Buyers", COUNT, "Callers with a won deal"),
    Column("conversion_percent", "Conversion", PERCENT, "Buyers ÷ callers; from 30 callers on"),
    Column("deals_won", "Won", COUNT, "Deals won, by the day of the call"),
    Column("won", "Revenue", MONEY, "Value of won deals"),
    Column("average_deal", "Average deal", MONEY, "Value ÷ won deals; from 5 deals on"),
    Column("days_to_close", "Days to close", DAYS, "Median from call to closing; from 5 deals on"),
    Column(
        "revenue_per_call", "Revenue per call", MONEY, "Revenue ÷ answered calls, without those not qualified; from 5"
    ),
    Column("spend", "Spend", MONEY, "What it cost"),
    Column("cost_per_call", "Cost per call", MONEY, "Spend ÷ calls; from 5 calls on"),
    Column("cost_per_lead", "Cost per lead", MONEY, "Spend ÷ qualified calls; from 5 calls on"),
    Column("cpa", "Cost per deal", MONEY, "Spend ÷ won deals; from 5 deals on"),
    Column("romi_percent", "ROMI", PERCENT, "100 × (revenue − spend) ÷ spend; from 5 deals on"),
    Column(
        "fcr_percent", "First contact", PERCENT, "Answered calls after which the caller needed no other; from 20 on"
    ),
)
BY = (
    (reporting.By.SOURCE, "Source"),
    (reporting.By.CHANNEL, "Channel"),
    (reporting.By.CAMPAIGN, "Campaign"),
    (reporting.By.AGENT, "Agent"),
    (reporting.By.DAY, "Day"),
)
REVENUE = charts.Series("won", "Revenue", "revenue")
SPEND = charts.Series("spend", "Spend", "spend")
CALLS = charts.Series("calls", "Calls", "calls")
DEALS = charts.Series("deals_won", "Won deals", "revenue")


class PageQuery(reports.SpanQuery):
    """Days, what the table has a row of, its order, and the currency."""

    by: reporting.By = reporting.By.SOURCE
    source: reports.Source = None
    campaign: reports.Campaign = None
    currency: str | None = None
    sort: Annotated[str | None, Field(pattern=reports.SORT_PATTERN)] = None


@table.get("/reports", scope=auth.Scope.REPORTS_READ, query=PageQuery, is_page=True, summary="Reports")
async def show_reports(request: web.Request, query: PageQuery) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    span, error = chosen_span(query, here)
    material = await reports.read(request, span, query.source, query.campaign)
    given = _given(query, span)
    context: dict[str, Any] = {
        **rendering.frame(request),
        **span_context("/reports", span, here, {name: given[name] for name in given if name not in ("from", "to")}),
        "error": error,
        "by": query.by.value,
        "tabs": [Choice(name, _address(given, by=key.value, sort=None), key is query.by) for key, name in BY],
        "csv": "/api/v1/reports/sources?" + urlencode({**given, "format": "csv", "limit": reports.MAX_LIMIT}),
        "narrowed": _narrowed(query, given, here),
        "currencies": [],
        "report": None,
    }
    try:
        context |= await asyncio.to_thread(_figures, material, query, span, here, given)
        context["agents"] = await _agents(request, span)
    except dealfigures.MixedCurrencies as mixed:
        context["currencies"] = [Choice(code, _address(given, currency=code), False) for code in mixed.found]
    except problems.Problem as problem:
        context["error"] = _said(problem)
    status = 400 if context["error"] else 200
    return rendering.html(request, "reports.html", context, status=status)


def _figures(
    material: reporting.Material, query: PageQuery, span: reports.Span, here: parts.AdminParts, given: dict[str, str]
) -> dict[str, Any]:
    """Raises dealfigures.MixedCurrencies, Problem `invalid-query`."""
    code = reports.currency_of(query.currency)
    report = material.report(query.by, code)
    daily = report if query.by is reporting.By.DAY else material.report(reporting.By.DAY, code)
    channels = material.report(reporting.By.CHANNEL, code)
    names = ("won", "spend", "calls", "deals_won")
    found = charts.buckets(daily.rows, span.first, span.last, names)
    unit = report.currency or ""
    rows = reports.ordered(report.rows, query.sort)
    return {
        "report": report,
        "headers": [Header(one, _sorting(given, query.sort, one.key), _sorted(query.sort, one.key)) for one in COLUMNS],
        "group_header": Header(
            Column("group", dict(BY)[query.by], "", ""),
            _sorting(given, query.sort, "group"),
            _sorted(query.sort, "group"),
        ),
        "rows": [_row_view(row, query.by, span, here, given) for row in rows[:MAX_ROWS]],
        "more": max(0, len(rows) - MAX_ROWS),
        "total": _cells(report.total),
        "late": _late(report.marks, here),
        "unit": unit,
        "has_money": report.total["spend"] != "0.00" or report.total["deals_won"] > 0,
        "charts": [
            charts.columns("Revenue and spend", (REVENUE, SPEND), found, unit),
            charts.columns("Calls", (CALLS,), found, ""),
            charts.columns("Won deals", (DEALS,), found, ""),
        ],
        "beams_of": charts.beams(channels.rows, "romi_percent"),
        "beamless": [str(row["group"]) for row in channels.rows if row["romi_percent"] is None],
    }


async def _agents(request: web.Request, span: reports.Span) -> dict[str, Any] | None:
    """Cost per call of agents, for who may see wages; None without a staffed hour."""
    here = request.app[parts.PARTS]
    if not request[routes.PRINCIPAL].may(auth.Scope.WAGES_MANAGE):
        return None
    async with here.database.read() as connection:
        found = await reporting.agents(connection, *span.days)
    if not any(row["hours"] for row in found.rows):
        return None
    names = views.Names(here.current_book())
    rows = [{**row, "name": names.agent(row["agent"]), **_costs(row)} for row in found.rows]
    return {"rows": rows, "total": {**found.total, **_costs(found.total)}, "late": _late(found.marks, here)}


def _costs(row: reporting.Row) -> dict[str, str]:
    return {"cost": charts.shown(row["cost"]), "cost_per_call": charts.shown(row["cost_per_call"])}


def chosen_span(query: reports.SpanQuery, here: parts.AdminParts) -> tuple[reports.Span, str]:
    """The days that are asked for; where they do not fit, the last 30 and what is wrong."""
    try:
        return reports.span_of(query, here), ""
    except problems.Problem as problem:
        return reports.span_of(reports.SpanQuery(), here), _said(problem)


def span_context(path: str, span: reports.Span, here: parts.AdminParts, rest: dict[str, str]) -> dict[str, Any]:
    """The period picker: first and last day, presets, and what the form must keep."""
    today = here.clock().astimezone(here.zone).date()
    month = today.replace(day=1)
    before = month - timedelta(days=1)
    presets = (
        ("7 days", today - timedelta(days=6), today),
        ("30 days", today - timedelta(days=29), today),
        ("90 days", today - timedelta(days=89), today),
        ("This month", month, today),
        ("Last month", before.replace(day=1), before),
    )
    return {
        "path": path,
        "span": span,
        "kept": rest,
        "presets": [
            Choice(
                name, f"{path}?{urlencode({**rest, 'from': str(first), 'to': str(last)})}", (first, last) == span.ends
            )
            for name, first, last in presets
        ],
    }


def _given(query: PageQuery, span: reports.Span) -> dict[str, str]:
    values = {
        "from": str(span.first),
        "to": str(span.last),
        "by": query.by.value,
        "source": query.source or None,
        "campaign": query.campaign,
        "currency": query.currency or None,
        "sort": query.sort or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _address(given: dict[str, str], **changed: str | None) -> str:
    return "/reports?" + urlencode({name: value for name, value in {**given, **changed}.items() if value is not None})


def _narrowed(query: PageQuery, given: dict[str, str], here: parts.AdminParts) -> list[Choice]:
    """What all figures are of, each with the address without it."""
    found = []
    if query.source is not None:
        name = views.Names(here.current_book()).source(query.source)
        found.append(Choice(f"Source {name}", _address(given, source=None), True))
    if query.campaign is not None:
        said = f"Campaign {query.campaign}" if query.campaign != reporting.NO_CAMPAIGN else "No campaign"
        found.append(Choice(said, _address(given, campaign=None), True))
    return found


def _sorting(given: dict[str, str], sort: str | None, key: str) -> str:
    """Downward first, as figures are looked for; names upward first."""
    first, other = (key, f"-{key}") if key == "group" else (f"-{key}", key)
    return _address(given, sort=other if sort == first else first)


def _sorted(sort: str | None, key: str) -> str:
    if sort is None or sort.removeprefix("-") != key:
        return ""
    return "descending" if sort.startswith("-") else "ascending"


def _row_view(
    row: reporting.Row, by: reporting.By, span: reports.Span, here: parts.AdminParts, given: dict[str, str]
) -> dict[str, Any]:
    name = row["name"] or row["group"]
    if by is reporting.By.CAMPAIGN:
        name = row["campaign"] or "no campaign"
    return {
        "name": name,
        "sub": (row["name"] or row["source"]) if by is reporting.By.CAMPAIGN else "",
        "calls_address": _calls_address(row, by, span, here, given),
        "agents_address": _agents_address(row, by, given),
        "cells": _cells(row, has_costs=by is not reporting.By.AGENT),
        "restated": row["restated"] and by is reporting.By.DAY,
        "spam": row["spam"],
    }


def _agents_address(row: reporting.Row, by: reporting.By, given: dict[str, str]) -> str:
    """The agents within a source or a campaign (R64)."""
    if by not in (reporting.By.SOURCE, reporting.By.CAMPAIGN):
        return ""
    campaign = {"campaign": row["campaign"] or reporting.NO_CAMPAIGN} if by is reporting.By.CAMPAIGN else {}
    return _address(given, by=reporting.By.AGENT.value, source=row["source"], **campaign, sort=None)


def _cells(row: reporting.Row, *, has_costs: bool = True) -> list[tuple[Column, str]]:
    """Spend is of sources: no part of it is an agent's."""
    return [(one, _cell(row[one.key] if has_costs or one.key != "spend" else None, one.kind)) for one in COLUMNS]


def _cell(value: Any, kind: str) -> str:
    if value is None:
        return "–"
    if kind == PERCENT:
        return charts.percent(value)
    return f"{value:g}" if kind == DAYS else charts.shown(str(value))


def _calls_address(
    row: reporting.Row, by: reporting.By, span: reports.Span, here: parts.AdminParts, given: dict[str, str]
) -> str:
    """The calls behind a row, where the list can be narrowed to just them."""
    of = {name: given[name] for name in ("source", "campaign") if name in given}
    if of.get("campaign") == reporting.NO_CAMPAIGN or ("source" in of and not _is_one_source(of["source"], here)):
        return ""
    days = {"from": str(span.first), "to": str(span.last + timedelta(days=1))}
    if by is reporting.By.DAY:
        day = date.fromisoformat(row["group"])
        return "/?" + urlencode(of | {"from": str(day), "to": str(day + timedelta(days=1)), "direction": "inbound"})
    if by is reporting.By.AGENT and row["agent"]:
        return "/?" + urlencode(of | days | {"agent": row["agent"], "direction": "inbound"})
    if by in (reporting.By.CHANNEL, reporting.By.AGENT) or not _is_one_source(row["source"], here):
        return ""
    if by is reporting.By.CAMPAIGN and not row["campaign"]:
        return ""
    campaign = {"campaign": row["campaign"]} if row["campaign"] else {}
    return "/?" + urlencode(of | days | {"source": row["source"], "direction": "inbound"} | campaign)


def _is_one_source(line: str, here: parts.AdminParts) -> bool:
    """Whether all calls of a cost line are of the source of that name: the list knows sources alone."""
    current = here.current_book()
    booked = [key for key, one in current.sources.items() if one.booked_on == line] if current is not None else []
    return line != reporting.UNKNOWN and (booked or [line]) == [line]


def _late(marks: Sequence[restated.Mark], here: parts.AdminParts) -> dict[str, Any] | None:
    """What changed after its day was over, in short."""
    if not marks:
        return None
    days = sorted({one.day_local for one in marks})
    shown = [f"{charts.day_text(date(day // 10_000, day // 100 % 100, day % 100))}" for day in days]
    last = parts.moment(max(one.last_us for one in marks)).astimezone(here.zone)
    return {
        "changes": sum(one.changes for one in marks),
        "days": ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else ""),
        "last": last.strftime("%d %b, %H:%M"),
    }


def _said(problem: problems.Problem) -> str:
    return "; ".join(f"“{one['field']}” {one['message']}" for one in problem.errors or ()) or problem.title
