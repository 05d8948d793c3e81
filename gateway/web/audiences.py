"""Audiences for ad platforms over HTTP (R11, R12): listed, tried, exported as the file the platform takes."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import datetime

from aiohttp import web

from gateway.core import audiences
from gateway.services import audiences as exporting
from gateway.store import audiences as stored
from gateway.web import auth, parts, problems, routes, schemas

PIECE = 256 * 1024
KEY = "{key:[a-z0-9][a-z0-9-]{0,23}}"
table = routes.Table()


class AudienceState(schemas.Document):
    """An audience of the routing in force, and its last export; null: never."""

    audience: str
    platform: audiences.Platform
    who: audiences.Who
    days: int
    exported_at: datetime | None
    people: int | None


class AudienceList(schemas.Document):
    """All of them."""

    audiences: list[AudienceState]


class AudienceCount(schemas.Document):
    """Who would be in it, and why the others are not. `too_small`: the platform wants at least `least` people."""

    audience: str
    platform: audiences.Platform
    people: int
    least: int
    too_small: bool
    left_out: dict[audiences.Left, int]
    calls_without_number: int


@table.get(
    "/api/v1/audiences",
    scope=auth.Scope.AUDIENCES_EXPORT,
    out=AudienceList,
    summary="Audiences for ad platforms, and their last exports",
    slugs=("unavailable",),
)
async def list_audiences(request: web.Request) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    current = here.current_book()
    async with here.database.read() as connection:
        exports = await stored.last_exports(connection)
    rows = []
    for key, one in (current.audiences if current is not None else {}).items():
        last = exports.get(key)
        rows.append(
            {
                "audience": key,
                "platform": one.platform.value,
                "who": one.who.value,
                "days": one.days,
                "exported_at": parts.moment(last.at_us).isoformat() if last is not None else None,
                "people": last.people if last is not None else None,
            }
        )
    return routes.json_response({"audiences": rows})


@table.post(
    f"/api/v1/audiences/{KEY}/try",
    scope=auth.Scope.AUDIENCES_EXPORT,
    out=AudienceCount,
    summary="Count who would be in an audience, and why the others are not",
    slugs=("not-found", "unavailable"),
)
async def try_out(request: web.Request) -> web.StreamResponse:
    here, audience = _named(request)
    async with _turn(request):
        made = await exporting.count(here.database, audience, here.current_book(), now_us=parts.micros(here.clock()))
    return routes.json_response(made.document())


@table.post(
    f"/api/v1/audiences/{KEY}/export",
    scope=auth.Scope.AUDIENCES_EXPORT,
    media_type="text/csv",
    summary="The file for the ad platform: one hashed number in a line",
    slugs=("not-found", "unavailable"),
)
async def export(request: web.Request) -> web.StreamResponse:
    here, audience = _named(request)
    # The whole file before its first byte: only what the audit knows of may leave.
    with tempfile.TemporaryFile() as file:
        async with _turn(request):
            try:
                made = await exporting.export(
                    here.database,
                    audience,
                    here.current_book(),
                    file,
                    actor=f"token:{request[routes.PRINCIPAL].name}",
                    now_us=parts.micros(here.clock()),
                )
            except exporting.Unsettled as error:
                raise problems.Problem("unavailable", str(error)) from None
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/csv; charset=utf-8",
                "Content-Disposition": f'attachment; filename="{audience.key}.csv"',
                "X-Dialmark-People": str(made.people),
                "Cache-Control": "no-store",
            }
        )
        response.content_length = file.seek(0, 2)
        await response.prepare(request)
        file.seek(0)
        while piece := await asyncio.to_thread(file.read, PIECE):
            await response.write(piece)
    return response


LOCK: web.AppKey[asyncio.Lock] = web.AppKey("audiences", asyncio.Lock)


def _turn(request: web.Request) -> asyncio.Lock:
    """One at a time: each reads all callers."""
    return request.app[LOCK]


def _named(request: web.Request) -> tuple[parts.AdminParts, audiences.Audience]:
    here = request.app[parts.PARTS]
    current = here.current_book()
    found = current.audiences.get(request.match_info["key"]) if current is not None else None
    if found is None:
        raise problems.Problem("not-found", "There is no such audience.")
    return here, found
