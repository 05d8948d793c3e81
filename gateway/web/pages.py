"""The page "Calls": what is up now, today's figures, the last calls; the record of one call; login and logout.

The browser gets HTML only. A script listens to `/api/v1/live` and, when something changed, fetches the fragment that
shows it: one place renders a call, so what is live and what is loaded look the same and are escaped the same way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from gateway import store
from gateway.core import calls as core_calls
from gateway.core.touches import Model
from gateway.services import crediting
from gateway.store import calls, joined, profiles, targets, tickets
from gateway.web import (
    api,
    attributionviews,
    auth,
    live,
    lookup,
    parts,
    pausing,
    problems,
    rendering,
    resultviews,
    routes,
    schemas,
    told,
    views,
)

LIVE_SHOWN = 60
"""Cards of calls that are up; more do not fit a screen, and the number of the rest is printed."""
BLOCKED_TARGET_PERCENT = 5.0
"""R65."""
BLOCKED_MINIMUM = 20
"""Below so many calls a ratio is no verdict (`kpi.md`)."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

table = routes.Table()


@dataclass(frozen=True, slots=True)
class Today:
    """Figures since midnight of the site. `population` is inbound calls that ended, without banned ones."""

    inbound: int
    answered: int
    missed: int
    banned: int
    open: int

    @property
    def population(self) -> int:
        """What the blocked ratio is a share of (`requirements.md`, "One denominator")."""
        return self.answered + self.missed

    @property
    def answered_percent(self) -> float | None:
        """Share of the population that was answered."""
        return 100 * self.answered / self.population if self.population else None

    @property
    def blocked_percent(self) -> float | None:
        """100 × (1 − answered ÷ population), R65."""
        answered = self.answered_percent
        return None if answered is None else 100 - answered

    @property
    def verdict(self) -> tuple[str, str]:
        """Words and tone for the blocked ratio."""
        if self.blocked_percent is None:
            return "no calls yet", "quiet"
        if self.population < BLOCKED_MINIMUM:
            return f"too few calls for a verdict (under {BLOCKED_MINIMUM})", "quiet"
        if self.blocked_percent <= BLOCKED_TARGET_PERCENT:
            return f"within the target of {BLOCKED_TARGET_PERCENT:g} %", "good"
        return f"above the target of {BLOCKED_TARGET_PERCENT:g} %", "bad"


@dataclass(frozen=True, slots=True)
class Chip:
    """One filter in force, and the address without it."""

    name: str
    value: str
    address: str


class LoginQuery(routes.Query):
    """Where to go after the login."""

    next: str = "/"


@table.get("/", scope=auth.Scope.CALLS_READ, query=schemas.CallsQuery, is_page=True, summary="The page")
async def show_calls(request: web.Request, query: schemas.CallsQuery) -> web.StreamResponse:
    context = {**rendering.frame(request), **await _recent(request, query), **await _live(request)}
    return rendering.html(request, "calls.html", context)


@table.get("/fragments/live", scope=auth.Scope.LIVE_READ, is_page=True, summary="Calls that are up")
async def show_live(request: web.Request) -> web.StreamResponse:
    return rendering.html(request, "live.html", await _live(request))


@table.get(
    "/fragments/recent",
    scope=auth.Scope.CALLS_READ,
    query=schemas.CallsQuery,
    is_page=True,
    summary="Figures and calls",
)
async def show_recent(request: web.Request, query: schemas.CallsQuery) -> web.StreamResponse:
    return rendering.html(request, "recent.html", await _recent(request, query))


@table.get(
    f"/fragments/calls/{lookup.CALL_ID}", scope=auth.Scope.CALLS_READ, is_page=True, summary="A record, to unfold"
)
async def show_record(request: web.Request) -> web.StreamResponse:
    context = {"call": await _one(request), "may": request[routes.PRINCIPAL].may, **await _outside(request)}
    return rendering.html(request, "record.html", context)


@table.get(
    f"/calls/{lookup.CALL_ID}",
    scope=auth.Scope.CALLS_READ,
    query=schemas.ModelQuery,
    is_page=True,
    summary="A record",
)
async def show_call(request: web.Request, query: schemas.ModelQuery) -> web.StreamResponse:
    row = await lookup.find_call(request)
    context = {**await call_context(request, row, query), **await resultviews.context(request, row)}
    return rendering.html(request, "call.html", context)


async def call_context(request: web.Request, row: calls.CallRow, query: schemas.ModelQuery) -> dict[str, Any]:
    """What `call.html` shows besides the result."""
    here, model = request.app[parts.PARTS], query.model or Model.LAST_NON_DIRECT
    async with here.database.read() as connection:
        credit = (await crediting.credited(connection, [row], model, here.current_book()))[row.call_id]
    return {
        **rendering.frame(request),
        "call": await _one(request),
        # Where no touch is known, the record says all there is.
        "credits": attributionviews.credit_views(credit) if credit["touches"] and credit["window_days"] else None,
        "model": model,
        "models": attributionviews.MODELS,
        "moment": lambda at: datetime.fromisoformat(at).astimezone(here.zone).strftime("%d %b, %H:%M"),
        **await _outside(request),
    }


@table.get("/login", scope=auth.Open.ANYONE, query=LoginQuery, is_page=True, summary="Login form")
async def show_login(request: web.Request, query: LoginQuery) -> web.StreamResponse:
    return _login_form(request, _local(query.next))


@table.post("/login", scope=auth.Open.ANYONE, is_page=True, summary="Log in with a token")
async def log_in(request: web.Request) -> web.StreamResponse:
    form = await request.post()
    token, following = form.get("token", ""), _local(str(form.get("next", "/")))
    gate = request.app[routes.GATE]
    try:
        secret = await gate.log_in(request, token.strip() if isinstance(token, str) else "")
    except problems.Problem as problem:
        return _login_form(request, following, f"Too many wrong tokens. {problem.detail}", problem)
    if secret is None:
        wrong = problems.Problem("unauthenticated")
        return _login_form(request, following, "This token is wrong, expired or revoked.", wrong)
    response = web.Response(status=303, headers={"Location": following})
    auth.set_session_cookie(response, gate.client(request), secret)
    return response


@table.post("/logout", scope=auth.Open.ANYONE, is_page=True, summary="Log out")
async def log_out(request: web.Request) -> web.StreamResponse:
    gate = request.app[routes.GATE]
    gate.log_out(request)
    response = web.Response(status=303, headers={"Location": "/login"})
    auth.clear_session_cookie(response, gate.client(request))
    return response


@web.middleware
async def show_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Problems of pages as pages; a stranger is led to the login form. Fragments answer like the API."""
    operation = request.app[routes.OPERATIONS].get(request.match_info.route)
    is_page = operation.is_page if operation is not None else "text/html" in request.headers.get("Accept", "")
    if not is_page or request.path.startswith(("/fragments/", "/static/", "/api/")):
        return await handler(request)
    try:
        return await handler(request)
    except problems.Problem as problem:
        shown = problem
    except web.HTTPException as error:
        if error.status < 400:
            raise
        shown = problems.from_http(error)
    if shown.slug == "unauthenticated" and request.method in auth.SAFE_METHODS:
        following = "?" + urlencode({"next": request.path_qs}) if request.path_qs != "/" else ""
        return web.Response(status=303, headers={"Location": "/login" + following})
    return rendering.html(request, "problem.html", {"problem": shown}, status=shown.status, headers=shown.headers)


def _local(address: str) -> str:
    """Only an address of this site: `//host`, `/\\host` and control characters lead elsewhere."""
    is_local = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_local and "\\" not in address else "/"


async def _one(request: web.Request) -> views.CallView:
    here = request.app[parts.PARTS]
    row = await lookup.find_call(request)
    async with here.database.read() as connection:
        (document,) = await joined.documents(connection, [row])
        paused = await pausing.pauses(connection, row.call_id)
    return views.call_view(document, views.Names(here.current_book()), here.zone, here.clock(), paused)


async def _outside(request: web.Request) -> dict[str, Any]:
    """Who was told of the call, its ticket, and what the CRM said of the caller, as far as it may be seen."""
    here = request.app[parts.PARTS]
    row = await lookup.find_call(request)
    async with here.database.read() as connection:
        standings = await targets.standings(connection, row.call_id)
        callers = told.other_side(row) if request[routes.PRINCIPAL].may(auth.Scope.VISITORS_READ) else ()
        attributes = await profiles.of_callers(connection, callers)
        ticket, _ = (await tickets.parts(connection, [row.call_id])).get(row.call_id, (None, ""))
    return {
        # Our own file is nobody outside.
        "standings": [views.standing_view(one, here.zone, here.clock()) for one in standings if ":" in one.target],
        "attributes": attributes,
        "ticket": ticket if request[routes.PRINCIPAL].may(auth.Scope.TICKETS_READ) else None,
    }


def _login_form(
    request: web.Request, following: str, error: str = "", problem: problems.Problem | None = None
) -> web.StreamResponse:
    context = {"next": following, "error": error, "version": request.app[parts.PARTS].version}
    status = problem.status if problem is not None else 200
    return rendering.html(request, "login.html", context, status=status, headers=problem.headers if problem else None)


async def _live(request: web.Request) -> dict[str, Any]:
    here = request.app[parts.PARTS]
    names, now = views.Names(here.current_book()), here.clock()
    report = await here.examine()
    may_see = request[routes.PRINCIPAL].may(auth.Scope.LIVE_READ)
    snapshot = here.board.snapshot() if may_see else []
    states = [live.state_of(document) for document in snapshot]
    return {
        "live_calls": [views.call_view(document, names, here.zone, now) for document in snapshot[:LIVE_SHOWN]],
        "live_total": len(snapshot),
        "live_ringing": states.count("ringing"),
        "live_talking": states.count("talking"),
        "may_see_live": may_see,
        "may_pause": request[routes.PRINCIPAL].may(auth.Scope.RECORDINGS_PAUSE),
        "complaints": report.complaints,
        "health": report.status,
        "now": now.isoformat(timespec="milliseconds"),
    }


async def _recent(request: web.Request, query: schemas.CallsQuery) -> dict[str, Any]:
    here = request.app[parts.PARTS]
    names, now = views.Names(here.current_book()), here.clock()
    filter = replace(api.call_filter(query, here), state="closed")
    after = api.decode_cursor(query.after) if query.after is not None else None
    async with here.database.read() as connection:
        today = await _today(connection, here)
        page = await calls.list_calls(connection, filter, after=after, limit=query.limit)
        documents = await joined.documents(connection, page.calls)
    given = {name: value for name, value in request.query.items() if name != "after"}
    return {
        "today": today,
        "day": now.astimezone(here.zone).date().isoformat(),
        "calls": [views.call_view(document, names, here.zone, now) for document in documents],
        "older": "/?" + urlencode({**given, "after": api.encode_cursor(page.next)}) if page.next is not None else None,
        "is_first_page": after is None,
        "newest": "/?" + urlencode(given) if given else "/",
        "chips": _chips(given, names),
        "filter": given,
        "numbers": _example_numbers(here),
        "missed_kinds": ",".join(str(kind) for kind in core_calls.Outcome if kind not in ("answered", "banned")),
    }


async def _today(connection: store.Connection, here: parts.AdminParts) -> Today:
    midnight = here.clock().astimezone(here.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    since = parts.micros(midnight.astimezone(UTC))

    async def count(**facts: Any) -> int:
        filter = calls.CallFilter(since_us=since, direction="inbound", **facts)
        return sum((await calls.count_by_day(connection, filter)).values())

    return Today(
        inbound=await count(),
        answered=await count(outcomes=frozenset({"answered"})),
        missed=await count(missed=True),
        banned=await count(outcomes=frozenset({"banned"})),
        open=await count(state="open"),
    )


def _chips(given: dict[str, str], names: views.Names) -> list[Chip]:
    chips = []
    for name, value in given.items():
        if name == "limit":
            continue
        rest = {key: other for key, other in given.items() if key != name}
        shown = {"source": names.source(value), "agent": names.agent(value), "did": views.phone(value)}.get(name, value)
        if name == "outcome" and value in views.OUTCOMES:
            shown = views.OUTCOMES[value].label
        if name == "missed":
            shown = "yes" if value == "true" else "no"
        chips.append(Chip(name, shown, "/?" + urlencode(rest) if rest else "/"))
    return chips


def _example_numbers(here: parts.AdminParts) -> list[str]:
    current = here.current_book()
    return [views.phone(number.number) for number in current.tracking_numbers.values()][:3] if current else []
