"""The page "Agents": who is on break since when, and the switch."""

from __future__ import annotations

from datetime import datetime

from aiohttp import web

from gateway.web import agents, auth, parts, rendering, routes

table = routes.Table()


@table.get("/agents", scope=auth.Scope.CALLS_READ, is_page=True, summary="Agents, and who is on break")
async def show_agents(request: web.Request) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    rows = [{**one, "since_local": _local(one["since"], here)} for one in await agents.states(here)]
    return rendering.html(request, "agents.html", {**rendering.frame(request), "agents": rows})


@table.post(f"/agents/{agents.KEY}/break", scope=auth.Scope.AGENTS_MANAGE, is_page=True, summary="On break")
async def press_break(request: web.Request) -> web.StreamResponse:
    await agents.switch(request, on_break=True)
    return web.Response(status=303, headers={"Location": "/agents"})


@table.post(f"/agents/{agents.KEY}/back", scope=auth.Scope.AGENTS_MANAGE, is_page=True, summary="Back")
async def press_back(request: web.Request) -> web.StreamResponse:
    await agents.switch(request, on_break=False)
    return web.Response(status=303, headers={"Location": "/agents"})


@table.post(f"/tickets/{agents.NUMBER}/call", scope=auth.Scope.CALLS_MAKE, is_page=True, summary="Call back")
async def press_call(request: web.Request) -> web.StreamResponse:
    form = await request.post()
    number = await agents.call_back(request, str(form.get("agent", "")))
    return web.Response(status=303, headers={"Location": f"/tickets/{number}"})


def _local(at: str | None, here: parts.AdminParts) -> str:
    return datetime.fromisoformat(at).astimezone(here.zone).strftime("%d %b, %H:%M:%S") if at is not None else ""
