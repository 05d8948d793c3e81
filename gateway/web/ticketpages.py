"""The page "Missed calls": tickets by age, one with its history, and the buttons (R18, R37)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from gateway.core import tickets as core_tickets
from gateway.web import auth, parts, problems, rendering, routes, tickets, ticketviews, views

table = routes.Table()
TABS = (("", "To call"), ("overdue", "Overdue"), ("closed", "Closed"), ("all", "All"))


@table.get("/tickets", scope=auth.Scope.TICKETS_READ, query=tickets.TicketsQuery, is_page=True, summary="Missed calls")
async def show_tickets(request: web.Request, query: tickets.TicketsQuery) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    found, following = await tickets.page_of(request, query)
    names, now = views.Names(here.current_book()), here.clock()
    given = {name: value for name, value in request.query.items() if name != "before" and value}
    context = {
        **rendering.frame(request),
        "tickets": [ticketviews.ticket_view(one, names, here.zone, now) for one in found],
        "tabs": TABS,
        "state": query.state or "",
        "owner": query.owner or "",
        "agents": _agents(here),
        "older": "/tickets?" + urlencode({**given, "before": following}) if following is not None else None,
    }
    return rendering.html(request, "tickets.html", context)


@table.get(f"/tickets/{tickets.NUMBER}", scope=auth.Scope.TICKETS_READ, is_page=True, summary="A missed call")
async def show_ticket(request: web.Request) -> web.StreamResponse:
    return await _shown(request, await tickets.find(request))


@table.post(
    f"/tickets/{tickets.NUMBER}/{{what:assign|note|attempt|reached|close|reopen}}",
    scope=auth.Scope.TICKETS_MANAGE,
    is_page=True,
    summary="The buttons",
)
async def press(request: web.Request) -> web.StreamResponse:
    form = await request.post()
    said = {name: value for name, value in form.items() if isinstance(value, str)}
    try:
        ticket = await tickets.act(request, _act(request.match_info["what"], said))
    except problems.Problem as problem:
        if problem.slug != "ticket-refused":
            raise
        return await _shown(request, await tickets.find(request), error=problem.detail, status=problem.status)
    return web.Response(status=303, headers={"Location": f"/tickets/{ticket.number}"})


def _act(what: str, said: dict[str, str]) -> tickets.Act:
    text = said.get("text", "")
    match what:
        case "assign":
            return lambda hands, number, actor: hands.assign(number, said.get("owner") or None, actor=actor)
        case "note":
            return lambda hands, number, actor: hands.note(number, text, actor=actor)
        case "attempt" | "reached":
            return lambda hands, number, actor: hands.attempt(number, reached=what == "reached", text=text, actor=actor)
        case "reopen":
            return lambda hands, number, actor: hands.reopen(number, text=text, actor=actor)
    result = tickets.result_of(said.get("result", "")) or core_tickets.Result.DONE
    return lambda hands, number, actor: hands.close(number, result, text=text, actor=actor)


async def _shown(
    request: web.Request, ticket: core_tickets.Ticket, *, error: str = "", status: int = 200
) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    names = views.Names(here.current_book())
    history = await tickets.history(request, ticket.number)
    context = {
        **rendering.frame(request),
        "ticket": ticketviews.ticket_view(ticket, names, here.zone, here.clock()),
        "history": [ticketviews.entry_view(one, names, here.zone) for one in reversed(history)],
        "evidence": _evidence(ticket),
        "agents": _agents(here),
        "may_click": here.click is not None and request[routes.PRINCIPAL].may(auth.Scope.CALLS_MAKE),
        "may_change": here.hands is not None and request[routes.PRINCIPAL].may(auth.Scope.TICKETS_MANAGE),
        "error": error,
    }
    return rendering.html(request, "ticket.html", context, status=status)


def _evidence(ticket: core_tickets.Ticket) -> list[dict[str, Any]]:
    """Who was rung in vain."""
    return [
        {
            "destination": one.get("destination"),
            "look": views.OUTCOMES.get(str(one.get("outcome")), views.UNKNOWN),
            "ring": views.duration(one.get("ring_seconds")),
            "sip": one.get("sip_code"),
            "q850": one.get("q850_cause"),
        }
        for one in ticket.evidence.get("attempts") or ()
    ]


def _agents(here: parts.AdminParts) -> list[tuple[str, str]]:
    current = here.current_book()
    return [(agent.key, agent.name) for agent in current.agents.values()] if current is not None else []
