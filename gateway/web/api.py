"""The HTTP API v1: calls, the live board, routing state, health and metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from gateway import store
from gateway.core import book, touches
from gateway.services import crediting
from gateway.store import calls, joined, routing
from gateway.web import (
    agents,
    audiences,
    auth,
    costs,
    cursors,
    deals,
    eventdocs,
    hooks,
    lookup,
    parts,
    pausing,
    pools,
    problems,
    receipts,
    recordings,
    reports,
    routes,
    schemas,
    streams,
    tickets,
    told,
    visitors,
)

_CURSOR = re.compile(r"([0-9]{1,18}):([0-9a-f-]{36})", re.ASCII)

Named = book.Site | book.Source | book.Destination | book.Agent

table = routes.Table()
TABLES = (
    table,
    pausing.table,
    receipts.table,
    recordings.table,
    visitors.table,
    pools.table,
    hooks.table,
    told.table,
    tickets.table,
    deals.table,
    costs.table,
    reports.table,
    audiences.table,
    agents.table,
    eventdocs.table,
)
"""All of the API."""


@table.get("/healthz", scope=auth.Open.ANYONE, out=schemas.Alive, summary="The process answers")
async def healthz(request: web.Request) -> web.StreamResponse:
    return routes.json_response({"status": "alive"})


@table.get(
    "/readyz",
    scope=auth.Open.ANYONE,
    out=schemas.Readiness,
    summary="Ready to take calls; 503 with the same body if not",
)
async def readyz(request: web.Request) -> web.StreamResponse:
    """Readiness for anyone, reasons only for a local process or a token with metrics:read."""
    here = request.app[parts.PARTS]
    report = await here.examine()
    may_see_checks = await _may_see_checks(request)
    document = report.document()
    if not may_see_checks:
        del document["checks"]
    response = routes.json_response(document)
    response.set_status(200 if report.is_ready else 503)
    return response


async def _may_see_checks(request: web.Request) -> bool:
    try:
        principal = await request.app[routes.GATE].principal(request)
    except store.StoreUnavailable:
        return False
    return principal is not None and principal.may(auth.Scope.METRICS_READ)


@table.get("/metrics", scope=auth.Scope.METRICS_READ, media_type="text/plain", summary="Prometheus metrics")
async def metrics(request: web.Request) -> web.StreamResponse:
    meters = request.app[parts.PARTS].meters
    await meters.refresh()
    body = meters.exposition()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


@table.get("/api/v1/openapi.json", scope=auth.Open.SIGNED_IN, summary="This API as an OpenAPI 3.1 document")
async def openapi_json(request: web.Request) -> web.StreamResponse:
    return routes.json_response(routes.openapi(TABLES, request.app[parts.PARTS].version))


@table.get(
    "/api/v1/calls",
    scope=auth.Scope.CALLS_READ,
    query=schemas.CreditedCallsQuery,
    out=schemas.CallList,
    summary="Calls, newest first",
    slugs=("unavailable",),
)
async def list_calls(request: web.Request, query: schemas.CreditedCallsQuery) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    after = decode_cursor(query.after) if query.after is not None else None
    async with here.database.read() as connection:
        page = await calls.list_calls(connection, call_filter(query, here), after=after, limit=query.limit)
        # Records are stored as JSON text: most go out as they are, unparsed.
        records = ",".join(await _texts(connection, page.calls, query.model, here))
    following = json.dumps(encode_cursor(page.next) if page.next is not None else None)
    return web.Response(text=f'{{"calls":[{records}],"next":{following}}}', content_type="application/json")


@table.get(
    "/api/v1/calls/live", scope=auth.Scope.LIVE_READ, out=schemas.LiveCalls, summary="The calls that are up, now"
)
async def list_live_calls(request: web.Request) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    return routes.json_response(
        {"at": streams.timestamp(here.clock()), "event_id": here.board.event_id, "calls": here.board.snapshot()}
    )


@table.get(
    f"/api/v1/calls/{lookup.CALL_ID}",
    scope=auth.Scope.CALLS_READ,
    query=schemas.ModelQuery,
    out=schemas.CallRecord,
    summary="One call",
    slugs=("call-not-found", "unavailable"),
)
async def get_call(request: web.Request, query: schemas.ModelQuery) -> web.StreamResponse:
    row = await lookup.find_call(request)
    here = request.app[parts.PARTS]
    async with here.database.read() as connection:
        (record,) = await _texts(connection, [row], query.model, here)
    return web.Response(text=record, content_type="application/json")


async def _texts(
    connection: store.Connection, rows: Sequence[calls.CallRow], model: touches.Model | None, here: parts.AdminParts
) -> list[str]:
    found = await joined.texts(connection, rows)
    if model is None:
        return found
    credit = await crediting.credited(connection, rows, model, here.current_book())
    return [crediting.with_credit(text, credit[row.call_id]) for row, text in zip(rows, found, strict=True)]


@table.post(
    f"/api/v1/calls/{lookup.CALL_ID}/hang-up",
    scope=auth.Scope.CALLS_HANG_UP,
    out=schemas.HangUp,
    summary="End a call that is up",
    slugs=("call-not-found", "call-not-up", "asterisk-unreachable", "unavailable"),
)
async def hang_up_call(request: web.Request) -> web.StreamResponse:
    """Asks Asterisk; what became of the call is in its record, as with every other end."""
    row = await lookup.find_call(request)
    hang_up = request.app[parts.PARTS].hang_up
    if row.state != "open":
        raise problems.Problem("call-not-up")
    if hang_up is None:
        raise problems.Problem("asterisk-unreachable", "this process has no manager session")
    try:
        await hang_up(row.unique_id)
    except LookupError:
        raise problems.Problem("call-not-up") from None
    except ConnectionError as error:
        raise problems.Problem("asterisk-unreachable", str(error)) from None
    response = routes.json_response({"call_id": row.call_id, "status": "asked"})
    response.set_status(202)
    return response


@table.get(
    "/api/v1/live",
    scope=auth.Scope.LIVE_READ,
    media_type="text/event-stream",
    summary="Server-sent events: snapshot, call, heartbeat, resync",
    slugs=("too-many-streams",),
)
async def stream_live_calls(request: web.Request) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    if here.board.reader_count >= here.limits().live_clients:
        raise problems.Problem("too-many-streams", headers={"Retry-After": "10"})

    async def still_allowed() -> bool:
        try:
            principal = await request.app[routes.GATE].principal(request)
        except problems.Problem:
            return False
        except store.StoreUnavailable:
            # Revocation cannot be seen now; a wallboard that goes dark with the database would help nobody.
            return True
        return principal is not None and principal.may(auth.Scope.LIVE_READ)

    return await streams.serve(
        request, here.board, still_allowed=still_allowed, behind_seconds=here.behind_seconds, pace=here.pace
    )


@table.get(
    "/api/v1/routing",
    scope=auth.Scope.ROUTING_READ,
    out=schemas.RoutingState,
    summary="The routing in force",
    slugs=("unavailable",),
)
async def get_routing(request: web.Request) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    current = here.current_book()
    async with here.database.read() as connection:
        latest = await routing.latest(connection)
        revision = await routing.get(connection, current.revision) if current is not None else None
    return routes.json_response(
        {
            "revision": current.revision if current is not None else None,
            "latest_revision": latest,
            "applied_at": streams.timestamp(revision.applied_at) if revision is not None else None,
            "applied_by": revision.applied_by if revision is not None else None,
            "comment": revision.comment if revision is not None else None,
            "sites": _named(current.sites if current is not None else {}),
            "sources": _named(current.sources if current is not None else {}),
            "destinations": _named(current.destinations if current is not None else {}),
            "agents": _named(current.agents if current is not None else {}),
            "tracking_numbers": len(current.tracking_numbers) if current is not None else 0,
        }
    )


def _named(values: Mapping[str, Named]) -> list[dict[str, str]]:
    return [{"key": key, "name": value.name} for key, value in values.items()]


def call_filter(query: schemas.CallsQuery, here: parts.AdminParts) -> calls.CallFilter:
    """The store's filter; times without a zone are those of the site."""
    filter = calls.CallFilter(
        since_us=schemas.micros(query.since, here.zone),
        until_us=schemas.micros(query.until, here.zone),
        outcomes=frozenset(str(outcome) for outcome in query.outcome) if query.outcome else None,
        missed=query.missed,
        source=query.source,
        campaign=query.campaign,
        did=query.did,
        caller=query.caller,
        agent=query.agent,
        route=query.route,
        min_score=query.min_score,
    )
    return replace(filter, direction=str(query.direction)) if query.direction is not None else filter


def encode_cursor(cursor: calls.Cursor) -> str:
    """A cursor as text that needs no escaping in an address."""
    return cursors.encode(cursor.started_us, cursor.call_id)


def decode_cursor(text: str) -> calls.Cursor:
    """The cursor of `encode_cursor`. Raises Problem `invalid-query` for anything else."""
    return calls.Cursor(*cursors.decode(text, _CURSOR))
