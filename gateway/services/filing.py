"""From the facts of a call to what is stored of it: the row, the record, and the events that are due.

Used by the tracker for each batch and by `dialmark replay`; the same facts give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from gateway import store
from gateway.core import attribution, book, calls, erasure, events, records
from gateway.store import calls as stored_calls
from gateway.store import outbox, results


@dataclass(frozen=True, slots=True)
class Filed:
    """One call ready to be stored. `document` is the record; `events` are in the order of delivery."""

    row: stored_calls.CallRow
    document: Mapping[str, Any]
    events: tuple[outbox.Event, ...]


def file(
    facts: calls.CallFacts,
    routing_book: book.Book | None,
    *,
    node: str,
    saved: stored_calls.Saved | None,
    calls_before: int | None,
    now_us: int,
    with_region: bool = True,
    found: attribution.Attribution | None = None,
    pseudonym: str | None = None,
) -> Filed | None:
    """The call as it is to be stored, or None when what is stored already says the same, or more.

    `found`: who called; None: as the number alone tells.
    The revision of a record starts at 1 and goes up when its content changes after it was announced as over.
    `pseudonym`: the person was erased, and this stands for them (`services.forgotten`).
    """
    if pseudonym is not None and saved is not None and saved.state == "closed":
        # The journal was masked since: it knows less than the record, from which the person was taken.
        return None
    if saved is not None and saved.state == "closed" and not facts.is_closed:
        # Its rows are being read again after the position was lost, and the last ones are still to come: what is
        # known of a call that is over is not replaced by half of it.
        return None
    document = records.record(
        facts, routing_book, revision=0, calls_before=calls_before, node=node, with_region=with_region, found=found
    )
    if pseudonym is not None:
        document = erasure.pseudonymised(document, pseudonym)
    text = _json(document)
    content_hash = records.content_hash(text)
    if saved is not None and saved.content_hash == content_hash:
        return None
    announced = saved.announced if saved else frozenset[str]()
    is_late_change = bool(saved and saved.state == "closed")
    revision = (saved.revision + 1 if is_late_change else saved.revision) if saved else 1
    document["revision"] = revision
    # It stands behind the call id, before all that a caller can write.
    text = text.replace('"revision":0,', f'"revision":{revision},', 1)
    due = events.events_due(announced, facts, now_us=now_us, content_changed=is_late_change)
    made = tuple(_event(facts, event, text, revision, now_us) for event in due)
    row = _row(
        facts,
        document,
        text,
        routing_book,
        revision=revision,
        content_hash=content_hash,
        announced=announced | {event.type.value for event in due},
        node=node,
        now_us=now_us,
    )
    return Filed(row, document, made)


async def told(tx: store.Transaction, filed: Sequence[Filed]) -> list[outbox.Event]:
    """Events of calls that were just saved, with what was said about them. Behind `save`, which holds the calls:
    whoever says something about one of them now finds it as it is."""
    telling = [one for one in filed if one.events]
    said = await results.of_calls(tx, [one.row.call_id for one in telling if one.row.state == "closed"])
    return [event for one in telling for event in _with_result(one, said.get(one.row.call_id))]


def _with_result(filed: Filed, result: results.Stored | None) -> list[outbox.Event]:
    row, made = filed.row, []
    data = results.with_result(row.record, row.revision, result)
    for event in filed.events:
        payload = f"{event.payload[: -len(row.record) - 1]}{data}}}"
        made.append(replace(event, payload=payload, revision=results.revision_of(row.revision, result)))
    return made


def _event(facts: calls.CallFacts, due: events.Due, record: str, revision: int, now_us: int) -> outbox.Event:
    event_id = events.event_id(facts.call_id, due.type, revision)
    body: dict[str, Any] = {"id": event_id, "type": due.type.value, "timestamp": records.timestamp(due.at_us)}
    if due.late:
        body["late"] = True
    # The record is JSON already; encoding it again would double the cost of an event.
    payload = f'{_json(body)[:-1]},"data":{record}}}'
    return outbox.Event(
        event_id=event_id,
        type=due.type.value,
        created_us=now_us,
        payload=payload,
        call_id=facts.call_id,
        revision=revision,
        late=bool(due.late),
    )


def _row(
    facts: calls.CallFacts,
    document: Mapping[str, Any],
    text: str,
    routing_book: book.Book | None,
    *,
    revision: int,
    content_hash: str,
    announced: frozenset[str],
    node: str,
    now_us: int,
) -> stored_calls.CallRow:
    site = records.site_of(
        records.route_of(facts, records.tracking_number(facts, routing_book), routing_book), routing_book
    )
    day, hour = _local(facts.started_at_us, site.time_zone if site else "UTC")
    caller, attributed = document["caller"], document["attribution"]
    return stored_calls.CallRow(
        call_id=facts.call_id,
        node=node,
        revision=revision,
        direction=facts.direction.value,
        state="closed" if facts.is_closed else "open",
        started_us=facts.started_at_us,
        last_row_us=facts.last_row_at_us,
        day_local=day,
        hour_local=hour,
        site=document["site"] or "",
        did=document["tracking"]["number"] or "",
        linked_id=facts.linked_id,
        unique_id=facts.unique_id,
        content_hash=content_hash,
        record=text,
        updated_us=now_us,
        answered_us=facts.answered_at_us,
        ended_us=facts.ended_at_us,
        trunk=facts.trunk,
        route=facts.route,
        route_source=facts.route_source,
        plan_revision=facts.plan_revision,
        caller=caller["number"],
        caller_country=caller["country"],
        caller_region=caller["region"],
        source=attributed["source"],
        campaign=attributed["campaign"],
        outcome=facts.outcome.value if facts.outcome else None,
        cause=facts.cause,
        missed=bool(document["missed"]),
        ended_by=facts.ended_by.value if facts.ended_by else None,
        agent=document["agent"],
        destination=document["destination"],
        wait_seconds=facts.wait_seconds,
        ring_seconds=document["ring_seconds"],
        talk_seconds=facts.talk_seconds,
        hold_seconds=facts.hold_seconds,
        calls_before=caller["calls_before"],
        score=document["scoring"]["score"] if document["scoring"] is not None else None,
        sip_call_id=document["sip_call_id"],
        announced=announced,
        attempts=tuple(
            _attempt(attempt, shown) for attempt, shown in zip(facts.attempts, document["attempts"], strict=True)
        ),
    )


def _attempt(attempt: calls.Attempt, shown: Mapping[str, Any]) -> stored_calls.AttemptRow:
    return stored_calls.AttemptRow(
        step=attempt.step,
        destination=attempt.destination,
        kind=attempt.kind,
        outcome=attempt.outcome.value if attempt.outcome else None,
        started_us=attempt.started_at_us,
        answered_us=attempt.answered_at_us,
        ended_us=attempt.ended_at_us,
        ring_seconds=attempt.ring_seconds,
        talk_seconds=attempt.talk_seconds,
        agent=shown["agent"],
        sip_code=attempt.sip_code,
        q850_cause=attempt.q850_cause,
        whisper_played=attempt.whisper_played,
        accepted=attempt.accepted,
    )


def _local(at_us: int, time_zone: str) -> tuple[int, int]:
    """Day (yyyymmdd) and hour in the site's zone."""
    local = datetime.fromtimestamp(at_us / 1_000_000, _zone(time_zone))
    return local.year * 10_000 + local.month * 100 + local.day, local.hour


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
