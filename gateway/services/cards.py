"""Event `caller.card`: a CRM said who is calling, while it rings (R91, R115); what it said is kept (R89)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from gateway import store
from gateway.core import events, records
from gateway.store import forgetting, outbox, profiles

CARD = "caller.card"


async def told(
    tx: store.Transaction, cards: Sequence[tuple[Mapping[str, Any], str]], target: str, *, now_us: int
) -> list[outbox.Event]:
    """Events of cards, each with its call's id; what the CRM said of the callers is kept. A person who was erased while
    the CRM was asked has neither."""
    if not cards:
        return []
    await forgetting.hold_off(tx)
    made: list[outbox.Event] = []
    for card, call_id in cards:
        if await forgetting.is_forgotten(tx, call_id):
            continue
        caller = card["caller"]
        await profiles.keep(tx, caller["number"], target, caller["profile"], now_us=now_us)
        made.append(event(card, call_id, target, now_us))
    return made


def event(card: Mapping[str, Any], call_id: str, target: str, now_us: int) -> outbox.Event:
    """The event; one for each call and CRM, whatever is delivered again."""
    event_id = str(uuid.uuid5(events.EVENT_IDS, f"{call_id}/{CARD}/{target}"))
    body = {
        "id": event_id,
        "type": CARD,
        "timestamp": records.timestamp(now_us),
        "data": {**card, "call_id": call_id, "target": target},
    }
    payload = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return outbox.Event(event_id, CARD, now_us, payload, call_id)
