"""The page "Receivers": how they are, a test button, the last deliveries with request and answer."""

from __future__ import annotations

from aiohttp import web

from gateway.store import targets
from gateway.web import auth, hooks, parts, rendering, routes

SHOWN = 50
"""Deliveries on the page."""

table = routes.Table()


@table.get("/webhooks", scope=auth.Scope.WEBHOOKS_MANAGE, is_page=True, summary="Receivers of events")
async def show_receivers(request: web.Request) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    async with here.database.read() as connection:
        found = await targets.last(connection, limit=SHOWN)
    context = {
        **rendering.frame(request),
        "receivers": await hooks.receiver_states(here),
        "deliveries": [{**hooks.delivery(one), "local": _local(one.at_us, here)} for one in found],
        "may_test": here.adapter_of is not None,
    }
    return rendering.html(request, "webhooks.html", context)


@table.post(f"/webhooks/{hooks.TARGET}/test", scope=auth.Scope.WEBHOOKS_MANAGE, is_page=True, summary="The test button")
async def press_test(request: web.Request) -> web.StreamResponse:
    await hooks.try_out(request)
    return web.Response(status=303, headers={"Location": "/webhooks"})


def _local(at_us: int, here: parts.AdminParts) -> str:
    return parts.moment(at_us).astimezone(here.zone).strftime("%d %b, %H:%M:%S")
