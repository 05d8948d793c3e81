"""Event `caller.card`: a CRM said who is calling, while it rings (R91, R115)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from gateway.core import events, records
from gateway.store import outbox

CARD = "caller.card"


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
