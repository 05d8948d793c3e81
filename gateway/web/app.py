"""The admin listener as an aiohttp application."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web

from gateway import log, store
from gateway.store import tokens
from gateway.web import (
    agentpages,
    api,
    audiences,
    auth,
    clients,
    hookpages,
    metrics,
    pages,
    parts,
    pausing,
    reportpages,
    reports,
    resultpages,
    routes,
    security,
    spendpages,
    statics,
    ticketpages,
    visitorpages,
)

CLIENT_MAX_SIZE = 16 * 1024
"""Bytes: a hundred changes of deals; a form is far smaller."""

_log = log.get("web")


def admin_app(here: parts.AdminParts) -> web.Application:
    """The application of the admin listener. Run it with `access_log=None`: it writes its own log lines.

    Raises ValueError for a trusted proxy that is no network.
    """
    app = web.Application(
        client_max_size=CLIENT_MAX_SIZE,
        middlewares=[security.log_requests, security.turn_errors_into_problems, pages.show_errors],
    )
    app[parts.PARTS] = here
    app[routes.OPERATIONS] = {}
    app[routes.GATE] = auth.Gate(
        token_check(here),
        clock=here.clock,
        trusted_proxies=clients.parse_networks(here.trusted_proxies),
        limits=here.limits,
    )
    for table in (
        *api.TABLES,
        pages.table,
        visitorpages.table,
        hookpages.table,
        agentpages.table,
        ticketpages.table,
        reportpages.table,
        resultpages.table,
        spendpages.table,
        statics.table,
    ):
        table.install(app)
    app[audiences.LOCK] = asyncio.Lock()
    app[reports.LOCK] = asyncio.Lock()
    app[pausing.LOCKS] = weakref.WeakValueDictionary()
    app.on_startup.append(_restore_pauses)
    app.on_response_prepare.append(security.add_headers)
    app.on_shutdown.append(_end_streams)
    app.cleanup_ctx.append(_watch_loop)
    return app


def token_check(here: parts.AdminParts) -> auth.TokenCheck:
    """Looks tokens up in the store, and notes their use there at most once an hour."""

    async def check(text: str) -> auth.Principal | None:
        now_us = parts.micros(here.clock())
        async with here.database.read() as connection:
            token = await tokens.verify(connection, text, now_us=now_us)
        if token is None:
            return None
        if tokens.needs_touch(token, now_us=now_us):
            try:
                async with here.database.begin() as tx:
                    await tokens.touch(tx, token.token_id, now_us=now_us)
            except store.StoreUnavailable:
                _log.warning("use of a token could not be noted", name=token.name)
        return auth.Principal(str(token.token_id), token.name, token.scopes)

    return check


async def _restore_pauses(app: web.Application) -> None:
    await pausing.restore(app[parts.PARTS])


async def _end_streams(app: web.Application) -> None:
    app[parts.PARTS].board.close()


async def _watch_loop(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(metrics.watch_loop(app[parts.PARTS].meters), name="loop lag")
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
