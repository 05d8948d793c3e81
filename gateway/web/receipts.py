"""Consent receipts of a call over HTTP, signed, in the form in which they are exported (N3)."""

from __future__ import annotations

import json

from aiohttp import web

from gateway import log
from gateway.store import receipts, signatures
from gateway.web import auth, lookup, parts, problems, routes, schemas

_log = log.get("web")
table = routes.Table()


@table.get(
    f"/api/v1/calls/{lookup.CALL_ID}/receipts",
    scope=auth.Scope.CALLS_READ,
    out=schemas.ReceiptList,
    summary="The signed consent receipts of a call",
    slugs=("call-not-found", "receipt-damaged", "unavailable"),
)
async def get_receipts(request: web.Request) -> web.StreamResponse:
    """Each is checked before it leaves: what was changed in the database is not handed out as proof."""
    row = await lookup.find_call(request)
    async with request.app[parts.PARTS].database.read() as connection:
        found = await receipts.of_calls(connection, [row.call_id])
        known = await receipts.keys(connection) if found else {}
    return routes.json_response({"receipts": [_exported(one, known) for one in found.values()]})


def _exported(one: receipts.Signed, known: dict[str, str]) -> object:
    try:
        signature = receipts.check(one, known)
    except signatures.BadSignature as error:
        _log.error("receipt damaged", call_id=one.call_id, what=one.what, error=str(error))
        raise problems.Problem("receipt-damaged", f"{one.what}: {error}") from None
    return json.loads(signatures.export(one.content(), signature))
