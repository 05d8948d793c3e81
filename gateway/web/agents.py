"""Agents over HTTP: who is on break, and the click that calls a customer back (R18, R30)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiohttp import web

from gateway import store
from gateway.core import book
from gateway.services import callingback
from gateway.store import agents as stored
from gateway.store import audit
from gateway.web import auth, parts, problems, routes, schemas

KEY = "{agent:[a-z0-9][a-z0-9-]{0,23}}"
NUMBER = "{number:[1-9][0-9]{0,8}}"

table = routes.Table()


class AgentState(schemas.Document):
    """An agent of the routing in force; `since` and `by` of the last change of the break, null: there was none."""

    agent: str
    name: str
    extension: str | None
    endpoint: str | None
    on_break: bool
    since: datetime | None
    by: str | None


class AgentList(schemas.Document):
    """All of them, in the order of the routing file."""

    agents: list[AgentState]


class BreakWish(routes.Body):
    """Whether the agent is on break from now on."""

    on_break: bool


class ClickWish(routes.Body):
    """Whose phone rings first."""

    agent: str


class Clicked(schemas.Document):
    """The agent's phone rings; once it is answered, the customer is called."""

    ticket: int
    agent: str


@table.get("/api/v1/agents", scope=auth.Scope.CALLS_READ, out=AgentList, summary="Agents, and who is on break")
async def list_agents(request: web.Request) -> web.StreamResponse:
    return routes.json_response({"agents": await states(request.app[parts.PARTS])})


@table.post(
    f"/api/v1/agents/{KEY}/break",
    scope=auth.Scope.AGENTS_MANAGE,
    body=BreakWish,
    out=AgentState,
    summary="Put an agent on break, or back",
    slugs=("agent-not-found", "unavailable"),
)
async def set_break(request: web.Request) -> web.StreamResponse:
    wish = await routes.parse_body(BreakWish, request)
    await switch(request, on_break=wish.on_break)
    found = await states(request.app[parts.PARTS])
    return routes.json_response(next(one for one in found if one["agent"] == request.match_info["agent"]))


@table.post(
    f"/api/v1/tickets/{NUMBER}/call",
    scope=auth.Scope.CALLS_MAKE,
    body=ClickWish,
    out=Clicked,
    summary="Call the customer of a ticket back: the agent's phone rings first",
    slugs=("agent-not-found", "callback-refused", "asterisk-unreachable", "unavailable"),
)
async def click(request: web.Request) -> web.StreamResponse:
    wish = await routes.parse_body(ClickWish, request)
    number = await call_back(request, wish.agent)
    return routes.json_response({"ticket": number, "agent": wish.agent})


async def call_back(request: web.Request, agent: str) -> int:
    """Rings this agent's phone for the ticket in the address, and gives its number. Every click is in the audit,
    carried out or not. Raises `problems.Problem`, StoreUnavailable."""
    here = request.app[parts.PARTS]
    number = int(request.match_info["number"])
    if here.click is None:
        raise problems.Problem("asterisk-unreachable", "Clicks are off (callbacks.click), or another process has them.")
    async with here.database.begin() as tx:
        await _write_down(tx, request, "callback.clicked", f"ticket:{number}", {"agent": agent[:24]})
    try:
        await here.click(number, agent)
    except callingback.Refused as refused:
        raise problems.Problem("callback-refused", f"reason: {refused.why.value}") from None
    except LookupError:
        raise problems.Problem("agent-not-found") from None
    except ConnectionError as error:
        raise problems.Problem("asterisk-unreachable", str(error)) from None
    return number


async def states(here: parts.AdminParts) -> list[dict[str, Any]]:
    """Documents of `AgentState`. Raises StoreUnavailable."""
    async with here.database.read() as connection:
        breaks = await stored.breaks(connection)
    return [_state(agent, breaks.get(agent.key)) for agent in _agents(here).values()]


async def switch(request: web.Request, *, on_break: bool) -> None:
    """Turns the switch of the agent in the address. Raises `problems.Problem`, StoreUnavailable."""
    here, agent = request.app[parts.PARTS], request.match_info["agent"]
    if agent not in _agents(here):
        raise problems.Problem("agent-not-found")
    by = f"token:{request[routes.PRINCIPAL].name}"
    async with here.database.begin() as tx:
        await stored.switch(tx, [stored.Break(agent, on_break, parts.micros(here.clock()), by)])
        await _write_down(tx, request, "agent.break" if on_break else "agent.back", f"agent:{agent}", {})


async def _write_down(
    tx: store.Transaction, request: web.Request, action: str, subject: str, details: dict[str, object]
) -> None:
    await audit.append(
        tx,
        at_us=parts.micros(request.app[parts.PARTS].clock()),
        actor=f"token:{request[routes.PRINCIPAL].name}",
        action=action,
        subject=subject,
        details=details,
    )


def _agents(here: parts.AdminParts) -> dict[str, book.Agent]:
    current = here.current_book()
    return dict(current.agents) if current is not None else {}


def _state(agent: book.Agent, last: stored.Break | None) -> dict[str, Any]:
    return {
        "agent": agent.key,
        "name": agent.name,
        "extension": agent.extension,
        "endpoint": agent.endpoint,
        "on_break": last is not None and last.is_on,
        "since": parts.moment(last.at_us).isoformat() if last is not None else None,
        "by": last.changed_by if last is not None else None,
    }
