"""To which touches of its visitor a call is credited (R85, R88), by a model that is chosen when the record is read.

Nothing of it is stored: another model tomorrow gives other shares of the same touches.

    "credit": {"model": "linear", "window_days": 30,
               "touches": [{credit, at, source, source_name, parent_source, campaign_type, cost_line, channel, medium,
                            campaign, term, content, landing_page, referrer}]}

The shares sum to 1; `touches` is empty where nobody knows where the call came from. A call of which no touch is known -
a static or overflow number, a visitor whose visits are gone - is credited to what its record says, with `at` null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gateway import store
from gateway.core import attribution, book, records, touches
from gateway.core.touches import Model
from gateway.services import attributing
from gateway.store import attributions
from gateway.store import calls as stored_calls

FIELDS = (
    "source",
    "source_name",
    "parent_source",
    "campaign_type",
    "cost_line",
    "channel",
    "medium",
    "campaign",
    "term",
    "content",
    "landing_page",
    "referrer",
)


async def credited(
    connection: store.Connection, rows: Sequence[stored_calls.CallRow], model: Model, routing_book: book.Book | None
) -> dict[str, dict[str, Any]]:
    """The `credit` of each call, by call id. The book says what sources are called and for how long a touch counts."""
    filed = await attributions.of_calls(connection, [row.call_id for row in rows])
    found = {}
    for row in rows:
        found[row.call_id] = await _credit(connection, row, filed.get(row.call_id), model, routing_book)
    return found


def with_credit(text: str, credit: Mapping[str, Any]) -> str:
    """The record `text`, a JSON object, with its `credit` at the end."""
    return f'{text[:-1]},"credit":{_json(credit)}}}'


async def _credit(
    connection: store.Connection,
    row: stored_calls.CallRow,
    filed: attributions.Filed | None,
    model: Model,
    routing_book: book.Book | None,
) -> dict[str, Any]:
    known: list[touches.Touch] = []
    window_days: float | None = None
    # A printed number is its own proof, whoever called it.
    if filed is not None and filed.method != attribution.Method.STATIC_NUMBER.value:
        known, window_days = await attributing.touches_before(connection, filed, routing_book)
    shares = touches.credit(known, model, row.started_us, window_days) if window_days is not None else []
    parts = [_part(touch, share, routing_book) for touch, share in shares if share > 0] or _of_record(row)
    return {"model": model.value, "window_days": window_days, "touches": parts}


def _part(touch: touches.Touch, share: float, routing_book: book.Book | None) -> dict[str, Any]:
    said = records.attributed(touches.origin(touch, routing_book))
    at = records.timestamp(touch.at_us)
    return {"credit": round(share, 4), "at": at, **{name: said[name] for name in FIELDS}}


def _of_record(row: stored_calls.CallRow) -> list[dict[str, Any]]:
    said = json.loads(row.record).get("attribution") or {}
    if not said.get("source"):
        return []
    return [{"credit": 1.0, "at": None, **{name: said.get(name) for name in FIELDS}}]


_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
