"""The pages "Visitors" and "Number pools" (R89, R96, R101, R107)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from gateway.web import auth, parts, pools, poolviews, problems, rendering, routes, visitors, visitorviews

CONFIRMATION = "erase"
"""To be typed before a visitor is erased."""

table = routes.Table()


class VisitorsPageQuery(visitors.VisitorsQuery):
    """The list's filters, and what was just done."""

    erased: str | None = None


@table.get(
    "/visitors",
    scope=auth.Scope.VISITORS_READ,
    query=VisitorsPageQuery,
    is_page=True,
    summary="Visitors of the web sites",
)
async def show_visitors(request: web.Request, query: VisitorsPageQuery) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    found, following = await visitors.page_of(request, query)
    given = {name: value for name, value in request.query.items() if value and name not in ("after", "erased")}
    context = {
        "page": "visitors",
        "rows": [visitorviews.row_view(one, here.zone, here.clock()) for one in found],
        "filter": given,
        "older": "/visitors?" + urlencode({**given, "after": following}) if following else None,
        "newest": "/visitors?" + urlencode(given) if given else "/visitors",
        "is_first_page": query.after is None,
        "chips": [(name, value, _without(given, name)) for name, value in given.items() if name != "limit"],
        "was_erased": query.erased is not None,
        "example": _example(here),
    }
    return rendering.html(request, "visitors.html", {**rendering.frame(request), **context})


@table.get(
    f"/visitors/{visitors.VISITOR_ID}", scope=auth.Scope.VISITORS_READ, is_page=True, summary="One visitor's way"
)
async def show_visitor(request: web.Request) -> web.StreamResponse:
    return await _visitor(request)


@table.post(
    f"/visitors/{visitors.VISITOR_ID}/erase",
    scope=auth.Scope.VISITORS_ERASE,
    is_page=True,
    summary="Erase a visitor",
)
async def erase(request: web.Request) -> web.StreamResponse:
    form = await request.post()
    typed = form.get("confirm", "")
    if not isinstance(typed, str) or typed.strip().lower() != CONFIRMATION:
        return await _visitor(request, f"Nothing was erased: type “{CONFIRMATION}” to confirm.", status=400)
    receipt = await visitors.erase(request)
    if receipt.problems or receipt.receivers_served:
        context = {"page": "visitors", "receipt": receipt}
        return rendering.html(request, "erased.html", {**rendering.frame(request), **context})
    return web.Response(status=303, headers={"Location": "/visitors?erased=1"})


@table.get("/pools", scope=auth.Scope.ROUTING_READ, is_page=True, summary="Number pools")
async def show_pools(request: web.Request) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    now_us, found = await pools.standing(request)
    context = {"page": "pools", "pools": [poolviews.pool_view(one, now_us, here.zone) for one in found]}
    return rendering.html(request, "pools.html", {**rendering.frame(request), **context})


async def _visitor(request: web.Request, error: str = "", status: int = 200) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    if not request[routes.PRINCIPAL].may(auth.Scope.VISITORS_READ):
        raise problems.Problem("missing-scope", f"This needs the scope {auth.Scope.VISITORS_READ}.")
    found = visitorviews.profile_view(await visitors.profile_of(request), here.zone, here.clock())
    context = {"page": "visitors", "visitor": found, "error": error, "confirmation": CONFIRMATION}
    return rendering.html(request, "visitor.html", {**rendering.frame(request), **context}, status=status)


def _without(given: dict[str, str], name: str) -> str:
    rest = {key: value for key, value in given.items() if key != name}
    return "/visitors?" + urlencode(rest) if rest else "/visitors"


def _example(here: parts.AdminParts) -> dict[str, Any] | None:
    """A site whose pages could have the script."""
    current = here.current_book()
    for key, site in (current.web.sites if current is not None else {}).items():
        return {"site": key, "hosts": site.hosts}
    return None
