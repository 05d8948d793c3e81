"""The page "Spend": what is there, and taking in a table of it (R8, R105).

All rows are taken or none; what was sent and could not be taken stays in the form, with every line that is wrong.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from gateway.core import costs, deals, money, sheets
from gateway.services import costing, dealing
from gateway.store import costs as stored
from gateway.store import restated
from gateway.web import auth, charts, parts, problems, rendering, reportpages, reports, routes, views

MAX_BYTES = 1024 * 1024
"""Of a file that is sent to the page; the command line takes larger ones."""
MAX_PARTS = 8
MAX_SHOWN = 50
MAX_LINE = 200
PAGE = 200

table = routes.Table()


class SpendQuery(reports.SpanQuery):
    """Days, from which row on, and what was just taken in."""

    after: int = 0
    changed: int | None = None
    unchanged: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What a form brought. `raw` are the bytes of the file, or of the text where there is no file."""

    raw: bytes = b""
    is_file: bool = False
    is_trial: bool = False
    is_too_large: bool = False


@dataclass(frozen=True, slots=True)
class WrongLine:
    """One line that cannot be taken. `text` is the line as it was sent."""

    line: int
    field: str
    message: str
    text: str


@table.get("/reports/spend", scope=auth.Scope.COSTS_READ, query=SpendQuery, is_page=True, summary="Spend")
async def show_spend(request: web.Request, query: SpendQuery) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    span, error = reportpages.chosen_span(query, here)
    said = f"{query.changed} rows changed something, {query.unchanged or 0} said nothing new."
    context = await _context(request, span, max(0, query.after))
    context |= {"error": error, "done": said if query.changed is not None else ""}
    return rendering.html(request, "spend.html", context, status=400 if error else 200)


@table.post("/reports/spend", scope=auth.Scope.COSTS_WRITE, is_page=True, summary="Take in spend")
async def take_spend(request: web.Request) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    sent = await _sent(request)
    wrong: Sequence[WrongLine] = ()
    text, error, done = "", "", ""
    if sent.is_too_large:
        limit = MAX_BYTES // 1024
        error = f"The file is larger than {limit} KiB. Split it, or take it in with: dialmark spend import FILE"
    else:
        try:
            text, _ = sheets.decoded(sent.raw, language=_language(here))
            taken = await _take(request, sent)
            if not sent.is_trial:
                address = "/reports/spend?" + urlencode({"changed": taken.changed, "unchanged": taken.unchanged})
                return web.Response(status=303, headers={"Location": address})
            done = f"All rows can be taken: {taken.changed} would change something, {taken.unchanged} say nothing new."
        except sheets.BadSheet as bad:
            error = f"Nothing was taken: {bad}."
        except dealing.Refused as refused:
            wrong = _wrong(refused, text)
    context = {"text": text, "wrong": wrong[:MAX_SHOWN], "more": max(0, len(wrong) - MAX_SHOWN)}
    span, _ = reportpages.chosen_span(reports.SpanQuery(), here)
    shown = {**await _context(request, span, 0), **context, "error": error, "done": done}
    return rendering.html(request, "spend.html", shown, status=422 if error or wrong else 200)


async def _take(request: web.Request, sent: Sent) -> costing.Done:
    """Raises sheets.BadSheet, dealing.Refused."""
    here = request.app[parts.PARTS]
    # A megabyte is parsed beside the loop.
    sheet = await asyncio.to_thread(sheets.read, sent.raw, costs.SPEND.fields, language=_language(here))
    if sheet.wrong:
        raise dealing.Refused([dealing.Problem(line, "", message) for line, message in sheet.wrong])
    return await costing.take(
        here.database,
        costs.SPEND,
        [(row.line, row.cells) for row in sheet.rows],
        current=here.current_book(),
        by=f"token:{request[routes.PRINCIPAL].name}",
        now_us=parts.micros(here.clock()),
        is_sheet=True,
        is_audited=True,
        dry_run=sent.is_trial,
    )


async def _sent(request: web.Request) -> Sent:
    """The parts of the form, read no further than they may be long. Raises Problem `bad-request`."""
    if request.content_type != "multipart/form-data":
        raise problems.Problem("bad-request", "The form must be sent as multipart/form-data.")
    found: dict[str, bytes] = {}
    try:
        reader = await request.multipart()
        for _ in range(MAX_PARTS):
            part = await reader.next()
            if part is None:
                break
            if not isinstance(part, aiohttp.BodyPartReader):
                raise ValueError("a form within the form")
            content = await _limited(part)
            if content is None:
                return Sent(is_too_large=True)
            found[part.name or ""] = content
    except (ValueError, AssertionError, LookupError, RuntimeError, aiohttp.ClientError, ConnectionError) as error:
        raise problems.Problem("bad-request", "The form could not be read.") from error
    is_file = bool(found.get("file"))
    raw = found["file"] if is_file else found.get("rows", b"")
    return Sent(raw, is_file, is_trial=found.get("do") == b"check")


async def _limited(part: aiohttp.BodyPartReader) -> bytes | None:
    """The bytes, None when they are more than `MAX_BYTES`."""
    content = bytearray()
    while piece := await part.read_chunk(65_536):
        content += piece
        if len(content) > MAX_BYTES:
            return None
    return bytes(content)


def _wrong(refused: dealing.Refused, text: str) -> list[WrongLine]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [
        WrongLine(one.place, one.field, one.message, lines[one.place - 1][:MAX_LINE] if one.place <= len(lines) else "")
        for one in refused.problems
    ]


def _language(here: parts.AdminParts) -> str:
    current = here.current_book()
    return current.default_site.language if current is not None and current.sites else "en"


async def _context(request: web.Request, span: reports.Span, after: int) -> dict[str, Any]:
    here = request.app[parts.PARTS]
    may_read = request[routes.PRINCIPAL].may(auth.Scope.COSTS_READ)
    rows: Sequence[costs.Spend] = ()
    late: set[int] = set()
    if may_read:
        async with here.database.read() as connection:
            rows = await stored.spend(connection, *span.days)
            marks = await restated.marks(connection, *span.days)
        late = {one.day_local for one in marks if one.kind == restated.SPEND}
    rows = sorted(rows, key=lambda row: (-row.day, row.source, row.campaign, row.entry))
    sums: dict[str, int] = defaultdict(int)
    for row in rows:
        sums[row.currency] += row.amount_e4
    names = views.Names(here.current_book())
    address = {"from": str(span.first), "to": str(span.last), "after": str(after + PAGE)}
    known = sorted(costs.Known.of(here.current_book()).sources)
    return {
        **rendering.frame(request),
        **reportpages.span_context("/reports/spend", span, here, {}),
        "rows": [_row(row, names, row.day in late) for row in rows[after : after + PAGE]],
        "count": len(rows),
        "sums": [(code, charts.shown(money.shown(e4))) for code, e4 in sorted(sums.items())],
        "older": f"/reports/spend?{urlencode(address)}" if after + PAGE < len(rows) else None,
        "may_write": request[routes.PRINCIPAL].may(auth.Scope.COSTS_WRITE),
        "known": known[:20],
        "example": known[0] if known else "radio",
        "text": "",
        "wrong": (),
        "more": 0,
        "error": "",
        "done": "",
    }


def _row(row: costs.Spend, names: views.Names, is_late: bool) -> dict[str, Any]:
    return {
        "day": deals.day_text(row.day),
        "source": names.source(row.source),
        "key": row.source,
        "campaign": row.campaign,
        "amount": charts.shown(money.shown(row.amount_e4)),
        "currency": row.currency,
        "entry": row.entry,
        "restated": is_late,
    }
