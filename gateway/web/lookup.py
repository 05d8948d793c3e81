"""Finding the call that an address names."""

from __future__ import annotations

from aiohttp import web

from gateway.store import calls
from gateway.web import parts, problems

CALL_ID = "{call_id:[0-9a-fA-F-]{36}}"


async def find_call(request: web.Request) -> calls.CallRow:
    """The call of the address. Raises Problem `call-not-found`."""
    async with request.app[parts.PARTS].database.read() as connection:
        row = await calls.get(connection, request.match_info["call_id"].lower())
    if row is None:
        raise problems.Problem("call-not-found")
    return row
