"""Saying on a call's page what became of it (R14-R16, R60, R77). Who did not see the last word is told, not obeyed."""

from __future__ import annotations

from aiohttp import web

from gateway.services import dealing
from gateway.web import auth, lookup, pages, parts, problems, rendering, resultviews, routes, schemas

table = routes.Table()


@table.post(
    f"/calls/{lookup.CALL_ID}/result", scope=auth.Scope.DEALS_WRITE, is_page=True, summary="Say what became of a call"
)
async def say(request: web.Request) -> web.StreamResponse:
    here = request.app[parts.PARTS]
    row = await lookup.find_call(request)
    form = await request.post()
    written = {name: _text(form.get(name)) for name in resultviews.NAMES}
    # An empty field takes its value away: the form shows all that is known.
    values = {name: text or None for name, text in written.items()}
    takes = dealing.Dealing(
        here.database,
        current_book=here.current_book,
        targets=here.targets,
        now_us=lambda: parts.micros(here.clock()),
        events_added=here.events_added,
    )
    asked = dealing.Asked(0, {**values, "call_id": row.call_id}, seen=_seen(form.get("seen")))
    source = dealing.Source(f"token:{request[routes.PRINCIPAL].name}", "page")
    try:
        await takes.take([asked], source, is_sheet=True, is_audited=True)
    except dealing.Refused as refused:
        errors = {one.field: one.message for one in reversed(refused.problems)}
        if not request[routes.PRINCIPAL].may(auth.Scope.CALLS_READ):
            wrong = [{"field": name, "message": text} for name, text in errors.items()]
            raise problems.Problem("not-taken", errors=wrong) from None
        said = await resultviews.context(request, row, written=written, errors=errors)
        shown = {**await pages.call_context(request, row, schemas.ModelQuery()), **said}
        return rendering.html(request, "call.html", shown, status=409 if dealing.SEEN in errors else 422)
    return web.Response(status=303, headers={"Location": f"/calls/{row.call_id}#result"})


def _text(value: object) -> str:
    """What was typed; browsers part lines by CR LF."""
    return value.replace("\r\n", "\n").strip() if isinstance(value, str) else ""


def _seen(value: object) -> int:
    """How many changes the page showed; what is no number fits to no call."""
    is_number = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10
    return int(str(value)) if is_number else -1
