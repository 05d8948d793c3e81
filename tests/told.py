"""Events held to their published schemas: every field is described, and nothing is in them that is not."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema

from gateway import store
from gateway.store import outbox
from gateway.web import eventdocs


@cache
def _validator(event_type: str) -> jsonschema.Draft202012Validator:
    path = eventdocs.FOLDER / eventdocs.VERSION / f"{event_type}.json"
    return jsonschema.Draft202012Validator(_closed(json.loads(path.read_text())))


def _closed(schema: Any) -> Any:
    """Without leave for fields that are not described: receivers pass over them, we do not."""
    if isinstance(schema, dict):
        changed = {name: _closed(value) for name, value in schema.items()}
        if changed.get("additionalProperties") is True and "properties" in changed:
            changed["additionalProperties"] = False
        return changed
    return [_closed(one) for one in schema] if isinstance(schema, list) else schema


def problems(event: dict[str, Any]) -> list[str]:
    """What is wrong with an event, empty when it is as its schema says."""
    if event.get("type") not in eventdocs.DATA:
        return [f"no schema for {event.get('type')}"]
    found = _validator(event["type"]).iter_errors(event)
    return [f"{event['type']} {'/'.join(map(str, one.absolute_path))}: {one.message[:200]}" for one in found]


async def problems_of(database: store.Database) -> list[str]:
    """Of all events that the product has written into a database; those that tests made up have no type in them."""
    found: list[str] = []
    after = 0
    while True:
        async with database.read() as connection:
            page = await outbox.after(connection, after, limit=1000)
        if not page:
            return found
        after = page[-1][0]
        for _, one in page:
            body = json.loads(one.payload)
            if "type" in body:
                found += problems(body)
