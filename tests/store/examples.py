"""Rows as the tracker would make them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from gateway.store import calls, outbox

SECOND = 1_000_000
NOON = 1_790_000_000 * SECOND


def call_id(number: int) -> str:
    """The same id for the same number."""
    return str(uuid5(NAMESPACE_OID, str(number)))


def attempt(**changes: Any) -> calls.AttemptRow:
    """An answered attempt at desk-1."""
    base = calls.AttemptRow(
        step=1,
        destination="desk-1",
        kind="forward",
        outcome="answered",
        started_us=NOON,
        answered_us=NOON + 5 * SECOND,
        ended_us=NOON + 65 * SECOND,
        ring_seconds=5.0,
        talk_seconds=60.0,
        agent="anna",
        sip_code=200,
        q850_cause=16,
    )
    return dataclasses.replace(base, **changes)


def call(number: int = 1, **changes: Any) -> calls.CallRow:
    """A closed, answered call; call `number` started that many seconds after noon."""
    started_us = changes.get("started_us", NOON + number * SECOND)
    base = calls.CallRow(
        call_id=call_id(number),
        node="node-1",
        revision=1,
        direction="inbound",
        state="closed",
        started_us=started_us,
        answered_us=started_us + 5 * SECOND,
        ended_us=started_us + 65 * SECOND,
        last_row_us=started_us + 65 * SECOND,
        day_local=20260921,
        hour_local=15,
        site="clinic",
        did="+74990000001",
        caller="+79161234567",
        linked_id=f"1790000000.{number}",
        unique_id=f"1790000000.{number}",
        content_hash="c0ffee",
        record=json.dumps({"call_id": call_id(number)}),
        updated_us=started_us + 66 * SECOND,
        route="sales",
        source="google-ads",
        outcome="answered",
        agent="anna",
        destination="desk-1",
        talk_seconds=60.0,
        announced=frozenset({"call.started", "call.answered"}),
        attempts=(attempt(),),
    )
    return dataclasses.replace(base, **changes)


def event(number: int = 1, **changes: Any) -> outbox.Event:
    """The completion of call `number`."""
    base = outbox.Event(
        event_id=str(uuid5(NAMESPACE_OID, f"event {number}")),
        type="call.completed",
        created_us=NOON + number * SECOND,
        payload=json.dumps({"number": number}),
        call_id=call_id(number),
        revision=1,
    )
    return dataclasses.replace(base, **changes)
