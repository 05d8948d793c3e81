"""What is said about calls afterwards, over HTTP (R14-R16, R60, R77, R87): by token, or by a signed message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from aiohttp import web
from pydantic import Field

from gateway import log
from gateway.core import deals, receivers, signedhooks
from gateway.services import dealing
from gateway.store import results
from gateway.web import auth, lookup, parts, problems, routes, schemas, streams

MAX_CHANGES = 100
MAX_ERRORS = 100
table = routes.Table()
_log = log.get("web")


class Said(routes.Body):
    """What is said about one call; a field that is left out stays as it is, null takes it away."""

    qualified: bool | None = None
    spam: bool | None = None
    goal_reached: bool | None = None
    lead_status: str | None = Field(None, max_length=deals.MAX_WORD)
    note: str | None = Field(None, max_length=deals.MAX_NOTE)
    tags: list[str] | None = Field(None, max_length=deals.MAX_TAGS)
    deal_id: str | int | None = Field(None, description="The deal's id in the CRM. A deal belongs to one call.")
    deal_state: deals.State | None = None
    deal_stage: str | None = Field(None, max_length=deals.MAX_WORD)
    value: str | int | float | None = Field(None, description='Decimal: "1234.50"')
    currency: str | None = Field(None, description="ISO 4217")
    closed_on: str | None = Field(None, description="Day, 2026-11-21")


class SaidOf(Said):
    """The same, and of which call: `call_id`; or `crm` and `object_id`; or `caller` and `at`; or a known `deal_id`."""

    call_id: str | None = None
    crm: str | None = Field(None, description="Key of the [[integration]], or its target")
    object_id: str | int | None = Field(None, description="Id of call, contact or lead in that CRM")
    caller: str | None = None
    at: str | None = Field(None, description="About when the call began")
    within_minutes: int | None = Field(None, description="How far from `at`; 60 unless given")


class Changes(routes.Body):
    """Changes that are taken all together or not at all."""

    changes: list[SaidOf] = Field(max_length=MAX_CHANGES)


class Rows(routes.Body):
    """The same, unjudged: `core.deals` reads them and tells the place of every mistake."""

    changes: list[dict[str, Any]] = Field(max_length=MAX_CHANGES)


class Taken(schemas.Document):
    """How many rows changed a call, and how many said nothing new. `duplicate`: the message was here before."""

    changed: int
    unchanged: int
    call_ids: list[str]
    duplicate: bool


class ResultChange(schemas.Document):
    """One change: each field with its value before and after."""

    at: datetime
    changed_by: str
    changed_via: str
    changed: dict[str, list[Any]]


class ResultHistory(schemas.Document):
    """All changes of one call, oldest first."""

    changes: list[ResultChange]


@table.post(
    f"/api/v1/calls/{lookup.CALL_ID}/result",
    scope=auth.Scope.DEALS_WRITE,
    body=Said,
    out=Taken,
    summary="Say what became of a call",
    slugs=("call-not-found", "not-taken", "unavailable"),
)
async def set_result(request: web.Request) -> web.StreamResponse:
    row = await lookup.find_call(request)
    said = _object(await _json_body(request))
    if named := sorted(set(said) & set(deals.FINDING)):
        raise _not_taken([(named[0], "the address says which call it is")])
    by = dealing.Source(f"token:{request[routes.PRINCIPAL].name}", "api")
    asked = [dealing.Asked(0, {**said, "call_id": row.call_id})]
    return _answer(await _take(request, asked, by, prefix=""))


@table.get(
    f"/api/v1/calls/{lookup.CALL_ID}/result/history",
    scope=auth.Scope.CALLS_READ,
    out=ResultHistory,
    summary="Who said what about a call, and when",
    slugs=("call-not-found", "unavailable"),
)
async def get_result_history(request: web.Request) -> web.StreamResponse:
    row = await lookup.find_call(request)
    async with request.app[parts.PARTS].database.read() as connection:
        found = await results.history(connection, row.call_id)
    changes = [
        {
            "at": streams.timestamp(parts.moment(one.at_us)),
            "changed_by": one.changed_by,
            "changed_via": one.way,
            "changed": one.said,
        }
        for one in found
    ]
    return routes.json_response({"changes": changes})


@table.post(
    "/api/v1/deals",
    scope=auth.Scope.DEALS_WRITE,
    body=Changes,
    out=Taken,
    summary="Say what became of several calls, all or none",
    slugs=("not-taken", "unavailable"),
)
async def take_deals(request: web.Request) -> web.StreamResponse:
    rows = await routes.parse_body(Rows, request)
    by = dealing.Source(f"token:{request[routes.PRINCIPAL].name}", "api")
    return _answer(await _take(request, _asked(rows.changes), by, prefix="changes"))


@table.post(
    "/api/v1/inbound/{key:[a-z0-9-]{1,24}}",
    scope=auth.Open.SIGNED,
    out=Taken,
    summary="A message of a CRM, signed by the rules of Standard Webhooks",
    slugs=("not-signed", "invalid-body", "not-taken", "too-large", "unavailable"),
)
async def take_message(request: web.Request) -> web.StreamResponse:
    """The signature is over the bytes as they came, so nothing is read of them before it is checked."""
    key = request.match_info["key"]
    body = await _raw(request)
    message_id = await _sender(request, key, body)
    await request.app[routes.GATE].count_request(auth.Principal(f"inbound:{key}", key, frozenset()))
    content = _object(_parsed(body))
    data = content.get("data")
    rows = data if isinstance(data, list) else [data]
    given = [one for one in rows if isinstance(one, dict)]
    if not 1 <= len(rows) <= MAX_CHANGES or len(given) != len(rows):
        message = f"must be a change, or a list of 1 to {MAX_CHANGES}"
        raise problems.Problem("invalid-body", errors=[{"field": "data", "message": message}])
    by = dealing.Source(f"inbound:{key}", "webhook")
    prefix = "data" if isinstance(data, list) else ""
    return _answer(await _take(request, _asked(given), by, prefix=prefix, message=(key, message_id)))


async def _sender(request: web.Request, key: str, body: bytes) -> str:
    """Id of the message. Raises Problem `not-signed`, the same whatever is wrong: a stranger learns no more."""
    here = request.app[parts.PARTS]
    current = here.current_book()
    inbound = current.receivers.inbound.get(key) if current is not None else None
    try:
        if inbound is None or not inbound.enabled:
            raise signedhooks.NotSigned("there is no such source in the routing file, or it is switched off")
        secrets = _secrets(here, inbound)
        return signedhooks.verified(request.headers, body, secrets, here.clock().timestamp())
    except signedhooks.NotSigned as error:
        _log.warning("a signed message was refused", source=key, reason=str(error))
        await request.app[routes.GATE].count_wrong(request)
        raise problems.Problem("not-signed") from None


def _secrets(here: parts.AdminParts, inbound: receivers.Inbound) -> Sequence[bytes]:
    try:
        if here.secret_of is None:
            raise ValueError("this process reads no secrets")
        return signedhooks.keys(here.secret_of(inbound.secret))
    except ValueError as error:
        _log.error("a secret cannot be used", source=inbound.key, reason=str(error))
        raise problems.Problem("unavailable") from None


async def _take(
    request: web.Request,
    asked: Sequence[dealing.Asked],
    by: dealing.Source,
    *,
    prefix: str,
    message: tuple[str, str] | None = None,
) -> dealing.Done:
    here = request.app[parts.PARTS]
    takes = dealing.Dealing(
        here.database,
        current_book=here.current_book,
        targets=here.targets,
        now_us=lambda: parts.micros(here.clock()),
        events_added=here.events_added,
    )
    try:
        return await takes.take(asked, by, message=message)
    except dealing.Refused as refused:
        named = [
            (f"{prefix}[{one.place}].{one.field}" if prefix else one.field, one.message) for one in refused.problems
        ]
        raise _not_taken(named) from None


def _asked(rows: Sequence[dict[str, Any]]) -> list[dealing.Asked]:
    return [dealing.Asked(place, row) for place, row in enumerate(rows)]


def _answer(done: dealing.Done) -> web.Response:
    return routes.json_response(
        {
            "changed": done.changed,
            "unchanged": done.unchanged,
            "call_ids": list(done.call_ids),
            "duplicate": done.duplicate,
        }
    )


def _not_taken(wrong: Sequence[tuple[str, str]]) -> problems.Problem:
    return problems.Problem("not-taken", errors=[{"field": name, "message": text} for name, text in wrong[:MAX_ERRORS]])


async def _raw(request: web.Request) -> bytes:
    try:
        return await request.read()
    except ConnectionError:
        # The client left in the middle of its own body.
        raise problems.Problem("bad-request") from None


async def _json_body(request: web.Request) -> object:
    return _parsed(await _raw(request))


def _parsed(body: bytes) -> object:
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError):
        raise problems.Problem("invalid-body", errors=[{"field": "body", "message": "is no JSON"}]) from None
    return found


def _object(found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise problems.Problem("invalid-body", errors=[{"field": "body", "message": "must be an object"}])
    return found
