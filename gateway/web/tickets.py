"""Tickets of missed calls over HTTP: list, one with its history, and what people do with them (R18, R37)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from pydantic import Field

from gateway.core import ticketdocs, tickets
from gateway.services import tickethands
from gateway.store import tickets as stored
from gateway.web import auth, parts, problems, routes, ticketschemas

NUMBER = "{number:[1-9][0-9]{0,8}}"
WAITING = tuple(state for state in tickets.State if state is not tickets.State.CLOSED)
table = routes.Table()
_SLUGS = ("not-found", "ticket-refused", "unavailable")

Act = Callable[[tickethands.Hands, int, str], Awaitable[tickets.Ticket]]
"""What is done, with the number of the ticket and who does it."""


class TicketsQuery(routes.Query):
    """Which tickets. Without `state`: those that are not closed."""

    state: ticketschemas.Asked | None = None
    owner: str | None = Field(default=None, max_length=24, description="Key of an agent.")
    route: str | None = Field(default=None, max_length=24)
    site: str | None = Field(default=None, max_length=24)
    caller: str | None = Field(default=None, max_length=20, description="E.164 with +.")
    before: int | None = Field(default=None, ge=1, le=999_999_999, description="Tickets with smaller numbers.")
    limit: int = Field(default=50, ge=1, le=200)


class Assign(routes.Body):
    """Whose it is: the key of an agent, null for nobody."""

    owner: str | None


class Note(routes.Body):
    """Something to write down."""

    text: str = Field(max_length=4_000)


class AttemptMade(routes.Body):
    """Somebody called by a phone that Dialmark does not see."""

    reached: bool
    text: str = Field(default="", max_length=4_000)


class Close(routes.Body):
    """How it ended: `done`, `called_back`, `not_reached` or `unwanted`."""

    result: str = "done"
    text: str = Field(default="", max_length=4_000)


class Reopen(routes.Body):
    """Why it is taken up again."""

    text: str = Field(default="", max_length=4_000)


@table.get(
    "/api/v1/tickets",
    scope=auth.Scope.TICKETS_READ,
    query=TicketsQuery,
    out=ticketschemas.TicketList,
    summary="Tickets of missed calls, newest first",
    slugs=("unavailable",),
)
async def list_tickets(request: web.Request, query: TicketsQuery) -> web.StreamResponse:
    found, following = await page_of(request, query)
    return routes.json_response({"tickets": [ticketdocs.document(one) for one in found], "next": following})


@table.get(
    f"/api/v1/tickets/{NUMBER}",
    scope=auth.Scope.TICKETS_READ,
    out=ticketschemas.TicketWithHistory,
    summary="A ticket with its history",
    slugs=("not-found", "unavailable"),
)
async def get_ticket(request: web.Request) -> web.StreamResponse:
    return await _answer(request, await find(request))


@table.post(
    f"/api/v1/tickets/{NUMBER}/assign",
    scope=auth.Scope.TICKETS_MANAGE,
    body=Assign,
    out=ticketschemas.TicketWithHistory,
    summary="Give a ticket to an agent",
    slugs=_SLUGS,
)
async def assign_ticket(request: web.Request) -> web.StreamResponse:
    asked = await routes.parse_body(Assign, request)
    return await _done(request, lambda hands, number, actor: hands.assign(number, asked.owner, actor=actor))


@table.post(
    f"/api/v1/tickets/{NUMBER}/notes",
    scope=auth.Scope.TICKETS_MANAGE,
    body=Note,
    out=ticketschemas.TicketWithHistory,
    summary="Write a note",
    slugs=_SLUGS,
)
async def note_ticket(request: web.Request) -> web.StreamResponse:
    asked = await routes.parse_body(Note, request)
    return await _done(request, lambda hands, number, actor: hands.note(number, asked.text, actor=actor))


@table.post(
    f"/api/v1/tickets/{NUMBER}/attempts",
    scope=auth.Scope.TICKETS_MANAGE,
    body=AttemptMade,
    out=ticketschemas.TicketWithHistory,
    summary="Report an attempt that Dialmark could not see",
    slugs=_SLUGS,
)
async def report_attempt(request: web.Request) -> web.StreamResponse:
    asked = await routes.parse_body(AttemptMade, request)
    return await _done(
        request,
        lambda hands, number, actor: hands.attempt(number, reached=asked.reached, text=asked.text, actor=actor),
    )


@table.post(
    f"/api/v1/tickets/{NUMBER}/close",
    scope=auth.Scope.TICKETS_MANAGE,
    body=Close,
    out=ticketschemas.TicketWithHistory,
    summary="Close a ticket",
    slugs=_SLUGS,
)
async def close_ticket(request: web.Request) -> web.StreamResponse:
    asked = await routes.parse_body(Close, request)
    result = result_of(asked.result)
    if result is None:
        known = ", ".join(one.value for one in tickets.BY_HAND)
        raise problems.Problem("invalid-body", errors=[{"field": "result", "message": f"must be one of {known}"}])
    return await _done(request, lambda hands, number, actor: hands.close(number, result, text=asked.text, actor=actor))


@table.post(
    f"/api/v1/tickets/{NUMBER}/reopen",
    scope=auth.Scope.TICKETS_MANAGE,
    body=Reopen,
    out=ticketschemas.TicketWithHistory,
    summary="Take a closed ticket up again",
    slugs=_SLUGS,
)
async def reopen_ticket(request: web.Request) -> web.StreamResponse:
    asked = await routes.parse_body(Reopen, request)
    return await _done(request, lambda hands, number, actor: hands.reopen(number, text=asked.text, actor=actor))


def result_of(word: str) -> tickets.Result | None:
    """A result that people may give."""
    return next((one for one in tickets.BY_HAND if one.value == word), None)


async def page_of(request: web.Request, query: TicketsQuery) -> tuple[list[tickets.Ticket], int | None]:
    """One page, and `before` of the next, None for the last."""
    states: tuple[tickets.State, ...] | None = WAITING
    if query.state is not None:
        states = None if query.state == "all" else (tickets.State(query.state),)
    wanted = stored.Filter(states, query.owner, query.route, query.site, query.caller)
    async with request.app[parts.PARTS].database.read() as connection:
        found = await stored.list_tickets(connection, wanted, before=query.before, limit=query.limit + 1)
    shown = found[: query.limit]
    return shown, shown[-1].number if len(found) > query.limit else None


async def find(request: web.Request) -> tickets.Ticket:
    """The ticket of the address. Raises Problem `not-found`."""
    async with request.app[parts.PARTS].database.read() as connection:
        ticket = await stored.by_number(connection, int(request.match_info["number"]))
    if ticket is None:
        raise problems.Problem("not-found")
    return ticket


async def act(request: web.Request, what: Act) -> tickets.Ticket:
    """Does something with the ticket of the address, in the name of who asks. Raises Problem."""
    hands = request.app[parts.PARTS].hands
    if hands is None:
        raise problems.Problem("unavailable")
    actor = f"token:{request[routes.PRINCIPAL].name}"
    try:
        return await what(hands, int(request.match_info["number"]), actor)
    except tickethands.NoSuchTicket:
        raise problems.Problem("not-found") from None
    except tickets.Refused as refused:
        raise problems.Problem("ticket-refused", str(refused)) from None


async def history(request: web.Request, number: int) -> list[dict[str, Any]]:
    """All that happened to it."""
    async with request.app[parts.PARTS].database.read() as connection:
        return [ticketdocs.entry(one) for one in await stored.history(connection, number)]


async def _done(request: web.Request, what: Act) -> web.StreamResponse:
    return await _answer(request, await act(request, what))


async def _answer(request: web.Request, ticket: tickets.Ticket) -> web.StreamResponse:
    found = {**ticketdocs.document(ticket), "history": await history(request, ticket.number)}
    return routes.json_response(found)
