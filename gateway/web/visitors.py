"""Visitors of the web sites over HTTP (R89, R107): the list, one visitor's way to the call, and erasing one.

What a visitor's browser wrote (addresses, tags, names of variables) leaves as JSON text and is trusted by nobody.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from gateway.services import erasing, journeys
from gateway.store import visitorlist
from gateway.web import auth, cursors, parts, problems, routes, schemas

VISITOR_ID = "{visitor_id:[A-Za-z0-9_-]{1,64}}"
_CURSOR = re.compile(r"([0-9]{1,18}):([A-Za-z0-9_-]{1,64})", re.ASCII)

table = routes.Table()

Text = Annotated[str, Field(max_length=200)]


class VisitorsQuery(routes.Query):
    """Filters of the list; all that are given must hold."""

    since: schemas.Moment | None = Field(
        None, alias="from", description="Last seen at or after; RFC 3339, or a local date or time of the site"
    )
    until: schemas.Moment | None = Field(None, alias="to", description="Last seen before")
    site: schemas.Key | None = Field(None, description="Key of the site")
    source: Text | None = Field(None, description="Key of a source, or what a visit came from, such as `google`")
    campaign: Text | None = Field(None, description="Of any visit")
    city: Text | None = Field(None, description="Of any visit")
    caller: schemas.Number | None = Field(None, description="Whose number this surely is")
    called: bool | None = Field(None, description="Only who called, or only who did not")
    after: Annotated[str, Field(max_length=160)] | None = Field(None, description="`next` of the page before")
    limit: Annotated[int, Field(ge=1, le=schemas.MAX_LIMIT)] = 50


class Origin(schemas.Document):
    """Where a visit came from. `source` is a key of the routing, or what the visit itself tells (`google`)."""

    source: str | None
    source_name: str | None
    channel: str | None
    kind: str | None
    medium: str | None
    campaign: str | None
    term: str | None
    browser: str | None
    system: str | None
    device: str | None
    country: str | None
    city: str | None


class VisitorSummary(Origin):
    """One visitor of the list; `calls` are those that they probably made."""

    visitor_id: str
    site: str
    first_at: str
    seen_at: str
    visits: int
    pages: int
    calls: int


class VisitorList(schemas.Document):
    """Visitors, last seen first. `next` is the value of `after` for the following page, null on the last."""

    visitors: list[VisitorSummary]
    next: str | None


class PageView(schemas.Document):
    """A page that was opened."""

    at: str
    url: str


class VisitFacts(Origin):
    """One visit. `is_touch` false: it went on where an earlier one came from. `rule` decided where it came from."""

    visit_id: str
    site: str
    started_at: str
    seen_at: str
    seconds: float
    is_touch: bool
    content: str | None
    click_ids: dict[str, str]
    landing_page: str | None
    referrer: str | None
    rule: str
    rule_version: str
    page_count: int
    pages: list[PageView]


class NumberClick(schemas.Document):
    """The visitor followed a link of a number."""

    at: str
    number: str


class VisitorCall(schemas.Document):
    """A call that the visitor made, with this confidence; `is_certain`: its caller is taken for this visitor."""

    call_id: str
    started_at: str
    number: str
    caller: str | None
    method: str
    confidence: float
    is_certain: bool
    outcome: str | None
    talk_seconds: float | None


class SaidOfCaller(schemas.Document):
    """What a CRM said of a caller who is surely this visitor. Free text of others."""

    name: str
    value: str
    target: str
    said_at: str


class VisitorProfile(schemas.Document):
    """All that is known of a visitor, each list oldest first; `is_cut`: of very much the latest."""

    visitor_id: str
    site: str
    first_at: str
    seen_at: str
    ids: dict[str, str]
    variables: dict[str, str]
    callers: list[str]
    attributes: list[SaidOfCaller]
    visits: list[VisitFacts]
    clicks: list[NumberClick]
    calls: list[VisitorCall]
    is_cut: bool


class VisitorErasure(schemas.Document):
    """What was done. `salt` proves that audit row `audit_row` is about this visitor, and is nowhere else."""

    erasure_id: str
    erased_at: str
    audit_row: int
    salt: str
    calls: int
    export_lines: int
    receivers_served: list[dict[str, Any]]
    problems: list[str]


@table.get(
    "/api/v1/visitors",
    scope=auth.Scope.VISITORS_READ,
    query=VisitorsQuery,
    out=VisitorList,
    summary="Visitors of the web sites, last seen first",
    slugs=("unavailable",),
)
async def list_visitors(request: web.Request, query: VisitorsQuery) -> web.StreamResponse:
    found, following = await page_of(request, query)
    return routes.json_response({"visitors": found, "next": following})


@table.get(
    f"/api/v1/visitors/{VISITOR_ID}",
    scope=auth.Scope.VISITORS_READ,
    out=VisitorProfile,
    summary="One visitor: visits, pages, clicks, calls",
    slugs=("visitor-not-found", "unavailable"),
)
async def get_visitor(request: web.Request) -> web.StreamResponse:
    return routes.json_response(await profile_of(request))


@table.post(
    f"/api/v1/visitors/{VISITOR_ID}/erase",
    scope=auth.Scope.VISITORS_ERASE,
    out=VisitorErasure,
    summary="Erase a visitor; it cannot be undone",
    slugs=("visitor-not-found", "unavailable"),
)
async def erase_visitor(request: web.Request) -> web.StreamResponse:
    return routes.json_response((await erase(request)).document())


async def page_of(request: web.Request, query: VisitorsQuery) -> tuple[list[dict[str, Any]], str | None]:
    """One page of the list, and the cursor of the next."""
    here = request.app[parts.PARTS]
    after = visitorlist.Cursor(*cursors.decode(query.after, _CURSOR)) if query.after is not None else None
    async with here.database.read() as connection:
        page = await visitorlist.list_visitors(connection, _filter(query, here), after=after, limit=query.limit)
    following = cursors.encode(page.next.seen_us, page.next.visitor_id) if page.next is not None else None
    return [journeys.summary(row, here.current_book()) for row in page.rows], following


async def profile_of(request: web.Request) -> dict[str, Any]:
    """The visitor of the address. Raises Problem `visitor-not-found`."""
    here = request.app[parts.PARTS]
    async with here.database.read() as connection:
        found = await journeys.profile(connection, request.match_info["visitor_id"], here.current_book())
    if found is None:
        raise problems.Problem("visitor-not-found")
    return found


async def erase(request: web.Request) -> erasing.VisitorReceipt:
    """Erases the visitor of the address, as an audit row says. Raises Problem `visitor-not-found`."""
    here = request.app[parts.PARTS]
    receipt = await erasing.erase_visitor(
        here.database,
        request.match_info["visitor_id"],
        exports=here.exports,
        actor=f"token:{request[routes.PRINCIPAL].name}",
        now_us=parts.micros(here.clock()),
    )
    if receipt is None:
        raise problems.Problem("visitor-not-found")
    return receipt


def _filter(query: VisitorsQuery, here: parts.AdminParts) -> visitorlist.VisitorFilter:
    return visitorlist.VisitorFilter(
        since_us=schemas.micros(query.since, here.zone),
        until_us=schemas.micros(query.until, here.zone),
        site=query.site,
        source=query.source,
        campaign=query.campaign,
        city=query.city,
        caller=query.caller,
        has_called=query.called,
    )
