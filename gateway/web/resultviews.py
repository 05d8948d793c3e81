"""What is said about one call, as its page shows it: the last word, a form to say more, and the history (R14, R60)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.core import deals
from gateway.store import calls, results
from gateway.web import auth, parts, routes

NAMES: Mapping[str, str] = {
    "qualified": "Qualified",
    "spam": "Spam",
    "goal_reached": "Goal reached",
    "lead_status": "Lead status",
    "tags": "Tags",
    "note": "Note",
    "deal_id": "Deal",
    "deal_state": "Deal state",
    "deal_stage": "Deal stage",
    "value": "Value",
    "currency": "Currency",
    "closed_on": "Closed on",
}
"""Fields of `deals.SAYING` in the order in which they are shown."""
WAYS = {"api": "API", "webhook": "signed message", "csv": "file", "page": "page"}


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One entry of the history: who said it, when and how, and fields with the words before and after."""

    at: str
    by: str
    way: str
    fields: Sequence[tuple[str, str, str]]


async def context(
    request: web.Request,
    row: calls.CallRow,
    *,
    written: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What `result.html` shows. `written` is a form that could not be taken, with what is wrong by field."""
    here = request.app[parts.PARTS]
    async with here.database.read() as connection:
        stored = (await results.of_calls(connection, [row.call_id])).get(row.call_id)
        history = await results.history(connection, row.call_id)
        is_gone = bool(await results.forgotten(connection, [row.call_id]))
    told = (stored.result if stored is not None else deals.NOTHING).told()
    return {
        "said": [(NAMES[name], name, _words(told[name])) for name in NAMES if told[name] not in (None, [])],
        "values": written if written is not None else {name: _typed(told[name]) for name in NAMES},
        "seen": stored.changes if stored is not None else 0,
        "states": [state.value for state in deals.State],
        "result_errors": errors or {},
        "changes": [_change(one, here) for one in reversed(history)],
        "may_say": request[routes.PRINCIPAL].may(auth.Scope.DEALS_WRITE) and not is_gone,
        "is_gone": is_gone,
        "limits": {"note": deals.MAX_NOTE, "word": deals.MAX_WORD, "tags": deals.MAX_TAGS * (deals.MAX_TAG + 2)},
    }


def _change(one: results.Change, here: parts.AdminParts) -> ChangeView:
    at = parts.moment(one.at_us).astimezone(here.zone)
    fields = [(NAMES[name], _words(one.said[name][0]), _words(one.said[name][1])) for name in NAMES if name in one.said]
    return ChangeView(at.strftime("%d %b %Y, %H:%M:%S"), one.changed_by, WAYS.get(one.way, one.way), fields)


def _words(value: Any) -> str:
    if value is None or value == []:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _typed(value: Any) -> str:
    """As it stands in a field of the form."""
    return "" if value is None or value == [] else _words(value)
