"""Of one call: who outside was told of it and how that stands, and what the CRM said of the caller (R32, R89)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from gateway.store import calls, profiles, targets
from gateway.web import auth, lookup, parts, routes, schemas, streams

table = routes.Table()


class Standing(schemas.Document):
    """How a call stands at one target. `state` is that of the last attempt: done, skipped, waiting, failed, blocked,
    dead, gone; pending before the first one."""

    target: str
    state: str
    type: str | None
    note: str
    external_id: str | None
    at: datetime | None
    next_at: datetime | None
    given_up: bool


class StandingList(schemas.Document):
    """All targets that were to be told of the call."""

    deliveries: list[Standing]


class Attribute(schemas.Document):
    """What a CRM said of the caller. Free text of others."""

    name: str
    value: str
    target: str
    said_at: datetime


class AttributeList(schemas.Document):
    """Attributes of the caller, as the CRM said them when they last called."""

    attributes: list[Attribute]


@table.get(
    f"/api/v1/calls/{lookup.CALL_ID}/deliveries",
    scope=auth.Scope.CALLS_READ,
    out=StandingList,
    summary="Who was told of a call, and how that stands",
    slugs=("call-not-found", "unavailable"),
)
async def list_standings(request: web.Request) -> web.StreamResponse:
    row = await lookup.find_call(request)
    async with request.app[parts.PARTS].database.read() as connection:
        found = await targets.standings(connection, row.call_id)
    return routes.json_response({"deliveries": [standing(one) for one in found]})


@table.get(
    f"/api/v1/calls/{lookup.CALL_ID}/attributes",
    scope=auth.Scope.VISITORS_READ,
    out=AttributeList,
    summary="What the CRM said of the caller",
    slugs=("call-not-found", "unavailable"),
)
async def list_attributes(request: web.Request) -> web.StreamResponse:
    row = await lookup.find_call(request)
    async with request.app[parts.PARTS].database.read() as connection:
        found = await profiles.of_callers(connection, other_side(row))
    return routes.json_response({"attributes": [attribute(one) for one in found]})


def other_side(row: calls.CallRow) -> Sequence[str]:
    """The number of who called; of an outbound call nobody's: a CRM is not asked about those."""
    return [row.caller] if row.caller is not None and row.direction != "outbound" else []


def standing(one: targets.Standing) -> dict[str, Any]:
    """As in `StandingList`."""
    return {
        "target": one.target,
        "state": one.state,
        "type": one.type,
        "note": one.note,
        "external_id": one.external_id,
        "at": _rfc3339(one.at_us),
        "next_at": _rfc3339(one.next_us),
        "given_up": one.given_up,
    }


def attribute(one: profiles.Attribute) -> dict[str, Any]:
    """As in `AttributeList`."""
    return {"name": one.name, "value": one.value, "target": one.target, "said_at": _rfc3339(one.at_us)}


def _rfc3339(at_us: int | None) -> str | None:
    return None if at_us is None else streams.timestamp(parts.moment(at_us))
