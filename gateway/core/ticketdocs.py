"""A ticket as a JSON document: the same in API, command line and events; and its events."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from gateway.core import events, records, tickets


@dataclass(frozen=True, slots=True)
class Told:
    """An event to be written. `payload` is JSON."""

    event_id: str
    type: str
    payload: str


def document(ticket: tickets.Ticket) -> dict[str, Any]:
    """All that is known of it. Times RFC 3339 UTC with milliseconds, numbers E.164 with `+`."""
    at = records.timestamp
    return {
        "ticket_id": ticket.ticket_id,
        "number": ticket.number,
        "revision": ticket.revision,
        "call_id": ticket.call_id,
        "last_call_id": ticket.last_call_id,
        "kind": ticket.kind.value,
        "state": ticket.state.value,
        "result": ticket.result.value if ticket.result is not None else None,
        "cause": ticket.cause,
        "evidence": dict(ticket.evidence) or None,
        "caller": {"number": ticket.caller, "name": ticket.caller_name},
        "tracking_number": ticket.tracking_number,
        "route": ticket.route,
        "site": ticket.site,
        "node": ticket.node,
        "source": ticket.source,
        "campaign": ticket.campaign,
        "attribution": dict(ticket.attribution) or None,
        "recording_consent": {"mode": ticket.consent_mode, "region": ticket.consent_region},
        "request": dict(ticket.request) or None,
        "owner": ticket.owner,
        "misses": ticket.misses,
        "attempts": ticket.attempts,
        "attempts_wanted": ticket.wanted,
        "opened_at": at(ticket.opened_us),
        "last_missed_at": at(ticket.last_miss_us),
        "next_due_at": at(ticket.next_due_us),
        "deadline_at": at(ticket.deadline_us),
        "first_attempt_at": at(ticket.first_attempt_us),
        "last_attempt_at": at(ticket.last_attempt_us),
        "callback_seconds": ticket.callback_seconds,
        "reminded_at": at(ticket.reminded_us),
        "escalated_at": at(ticket.escalated_us),
        "closed_at": at(ticket.closed_us),
    }


def entry(news: tickets.News) -> dict[str, Any]:
    """One line of the history."""
    return {
        "at": records.timestamp(news.at_us),
        "what": news.what.value,
        "actor": news.actor,
        "call_id": news.call_id,
        "note": news.text,
    }


def told(change: tickets.Change) -> list[Told]:
    """The events of a change, in order. Their ids follow from ticket, revision and place, so that each is one."""
    made = []
    data = document(change.ticket)
    for place, news in enumerate(change.news):
        kind = tickets.EVENTS[news.what]
        name = f"ticket/{change.ticket.ticket_id}/{kind}/{change.ticket.revision}/{place}"
        event_id = str(uuid.uuid5(events.EVENT_IDS, name))
        body = {
            "id": event_id,
            "type": kind,
            "timestamp": records.timestamp(news.at_us),
            "data": {**data, "change": entry(news)},
        }
        made.append(Told(event_id, kind, json.dumps(body, ensure_ascii=False, separators=(",", ":"))))
    return made


def forgotten(data: dict[str, Any], pseudonym: str | None) -> dict[str, Any]:
    """The data of such an event without the person. Doing it again changes nothing."""
    left = dict(data)
    named = (left.get("caller") or {}).get("number") is not None
    left["caller"] = {"number": pseudonym if named else None, "name": None}
    left["request"] = None
    kept = ("method", "source", "channel", "campaign")
    said = left.get("attribution")
    left["attribution"] = {name: said[name] for name in kept if name in said} if isinstance(said, dict) else None
    if isinstance(left.get("change"), dict) and left["change"].get("what") != tickets.What.ASSIGNED:
        left["change"] = {**left["change"], "note": None}
    return left
