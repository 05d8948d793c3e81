"""A book and records to show: a clinic with two sources, three phones, and calls that ended in every way."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from gateway.core import book, records
from gateway.store import calls
from gateway.web import parts, streams

NOW = datetime(2026, 11, 21, 11, 30, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Moscow")
DID = "+74990000001"
CALLER = "+74951234567"

AGENTS = {"sales-desk": "anna", "second-desk": "boris"}

Attempt = tuple[str, str | None]
"""Destination key and outcome; the first is the forward step, the others are reserves."""

CODES: dict[str | None, tuple[int | None, int | None]] = {
    "busy": (486, 17),
    "rejected": (603, 21),
    "no_answer": (None, 16),
    "unreachable": (503, 34),
    "answered": (200, 16),
    "cancelled": (None, 26),
}


def routing_book(revision: int = 7) -> book.Book:
    """A routing book as `routing.toml` of a small clinic would give."""
    sources = (
        book.Source("google-ads", "Google Ads", book.Channel.SEARCH, book.CampaignType.CLICK, campaign="Implants"),
        book.Source("radio", "Radio Seven", book.Channel.OFFLINE, book.CampaignType.OFFLINE),
    )
    endpoint = book.DestinationKind.ENDPOINT
    destinations = (
        book.Destination("sales-desk", "Sales desk", endpoint, "desk-1", agent="anna"),
        book.Destination("second-desk", "Second desk", endpoint, "desk-2", agent="boris"),
        book.Destination("mobile", "On-call mobile", book.DestinationKind.TEL, "+79160000000", trunk="carrier-a"),
    )
    return book.Book(
        revision=revision,
        sites={"clinic": book.Site("clinic", "Smile Clinic", "Europe/Moscow", "RU", "ru", "sales-desk")},
        trunks={},
        sources={source.key: source for source in sources},
        agents={"anna": book.Agent("anna", "Anna Orlova"), "boris": book.Agent("boris", "Boris Lebedev")},
        destinations={destination.key: destination for destination in destinations},
        hours={},
        routes={"sales": book.Route("sales", "clinic", ("sales-desk",))},
        tracking_numbers={
            "74990000001": book.TrackingNumber(DID, "sales", source="google-ads", label="Landing page"),
            "74990000002": book.TrackingNumber("+74990000002", "sales", source="radio"),
        },
    )


def record(
    *,
    call_id: str | None = None,
    started_at: datetime = NOW,
    attempts: Sequence[Attempt] = (("sales-desk", "answered"),),
    outcome: str | None = "answered",
    is_up: bool = False,
    caller: str | None = CALLER,
    name: str = "",
    source: str | None = "google-ads",
    calls_before: int = 0,
    wait: float = 8.4,
    talk: float = 74.2,
    **changes: Any,
) -> dict[str, Any]:
    """One call record as `design.md` has it."""
    is_answered = outcome == "answered"
    answered_at = started_at + timedelta(seconds=wait) if is_answered else None
    ended_at = None if is_up else started_at + timedelta(seconds=wait + (talk if is_answered else 0))
    answerer = next((key for key, result in attempts if result == "answered"), None)
    document: dict[str, Any] = {
        "call_id": call_id or str(uuid.uuid4()),
        "revision": 1,
        "node": "main",
        "direction": "inbound",
        "state": "open" if is_up else "closed",
        "site": "clinic",
        "time_zone": "Europe/Moscow",
        "agent": AGENTS.get(answerer or ""),
        "destination": answerer,
        "route": "sales",
        "plan_revision": 7,
        "agi_status": "SUCCESS",
        "trunk": "carrier-a",
        "ring_seconds": 8.4,
        "recording_consent": dict(records.NOT_ASKED),
        "linked_id": "1.1",
        "unique_id": "1.1",
        "started_at": streams.timestamp(started_at),
        "answered_at": streams.timestamp(answered_at) if answered_at else None,
        "ended_at": streams.timestamp(ended_at) if ended_at else None,
        "outcome": outcome,
        "cause": None,
        "missed": outcome not in ("answered", "banned", None),
        "ended_by": None if is_up else "caller",
        "caller": {
            "number": caller,
            "raw": caller or "anonymous",
            "name": name,
            "country": "RU" if caller else None,
            "region": "Moscow" if caller else None,
            "anonymous": caller is None,
            "first_time": calls_before == 0,
            "calls_before": calls_before,
        },
        "tracking": {"number": DID, "kind": "static", "source": source, "label": "Landing page"},
        "attempts": [_attempt(index, *attempt) for index, attempt in enumerate(attempts)],
        "wait_seconds": wait,
        "talk_seconds": talk if is_answered else 0.0,
        "hold_seconds": 0.0,
        "route_source": "agi",
        "experience": {"post_dial_delay_seconds": 0.42, "prompt_seconds": 0.0, "silent_seconds": 0.3},
        "attribution": {
            "method": "static_number" if source else "unknown",
            "confidence": 1.0 if source else 0.0,
            "source": source,
            "source_name": source,
            "channel": "search" if source else None,
            "parent_source": None,
            "campaign_type": "click" if source else None,
            "cost_line": source,
            **dict.fromkeys(("term", "content", "landing_page", "referrer", "visitor_id", "lease_id")),
            "click_ids": {},
            "candidates": [],
            "medium": "cpc" if source else None,
            "campaign": "Implants" if source == "google-ads" else None,
        },
        "sip_call_id": "a84b4c76e66710@carrier.example",
        "pauses": [],
        "recordings": [],
        "receipts": [],
    }
    return {**document, **changes}


def _attempt(index: int, destination: str, outcome: str | None) -> dict[str, Any]:
    sip_code, q850_cause = CODES.get(outcome, (None, None))
    return {
        "step": index + 1,
        "destination": destination,
        "kind": "reserve" if index else "forward",
        "agent": AGENTS.get(destination),
        "outcome": outcome,
        **dict.fromkeys(("started_at", "answered_at", "ended_at", "answered_by")),
        "ring_seconds": 8.4,
        "talk_seconds": 74.2 if outcome == "answered" else 0.0,
        "sip_code": sip_code,
        "q850_cause": q850_cause,
        "whisper_played": False,
        "accepted": None,
        "machine": None,
    }


def row(document: dict[str, Any]) -> calls.CallRow:
    """The row that the tracker would store for a record."""
    started = datetime.fromisoformat(document["started_at"])
    local = started.astimezone(ZONE)
    ended = datetime.fromisoformat(document["ended_at"]) if document["ended_at"] else None
    answered = datetime.fromisoformat(document["answered_at"]) if document["answered_at"] else None
    return calls.CallRow(
        call_id=document["call_id"],
        node="main",
        revision=document["revision"],
        direction=document["direction"],
        state="closed" if ended else "open",
        started_us=parts.micros(started),
        last_row_us=parts.micros(ended or started),
        answered_us=parts.micros(answered) if answered else None,
        ended_us=parts.micros(ended) if ended else None,
        day_local=int(local.strftime("%Y%m%d")),
        hour_local=local.hour,
        site="clinic",
        did=document["tracking"]["number"],
        linked_id="1.1",
        unique_id="1.1",
        content_hash="0",
        record=json.dumps(document, ensure_ascii=False),
        updated_us=parts.micros(ended or started),
        caller=document["caller"]["number"],
        source=document["attribution"]["source"],
        campaign=document["attribution"]["campaign"],
        outcome=document["outcome"],
        score=(document.get("scoring") or {}).get("score"),
        missed=document["missed"],
        agent=document["agent"],
        route="sales",
    )


def busy_day() -> list[dict[str, Any]]:
    """Forty ended calls of today and yesterday, of all kinds."""
    ways: list[tuple[str, Sequence[Attempt]]] = [
        ("answered", [("sales-desk", "answered")]),
        ("answered", [("sales-desk", "busy"), ("second-desk", "answered")]),
        ("answered", [("sales-desk", "answered")]),
        ("no_answer", [("sales-desk", "no_answer"), ("second-desk", "busy"), ("mobile", "no_answer")]),
        ("answered", [("sales-desk", "no_answer"), ("second-desk", "unreachable"), ("mobile", "answered")]),
        ("answered", [("sales-desk", "answered")]),
        ("abandoned", [("sales-desk", "abandoned")]),
        ("answered", [("sales-desk", "answered")]),
        ("banned", []),
        ("answered", [("sales-desk", "rejected"), ("second-desk", "answered")]),
        ("busy", [("sales-desk", "busy"), ("second-desk", "busy")]),
        ("answered", [("sales-desk", "answered")]),
        ("after_hours", []),
        ("unreachable", [("sales-desk", "unreachable"), ("mobile", "unreachable")]),
    ]
    callers = ["+74951234567", "+79161112233", "+78123334455", "+442079460123", None, "+74957778899"]
    names = ["", "Ivan Petrov", "", "J. Whitfield", "", "Мария Соколова"]
    documents = []
    for index in range(40):
        outcome, attempts = ways[index % len(ways)]
        caller = callers[index % len(callers)]
        document = record(
            started_at=NOW - timedelta(minutes=4 + index * 19, seconds=index * 7 % 60),
            attempts=attempts,
            outcome=outcome,
            caller=caller,
            name=names[index % len(names)],
            source=["google-ads", "radio", "google-ads", None][index % 4],
            calls_before=[0, 3, 0, 1][index % 4],
            wait=3.0 + index * 37 % 41,
            talk=20.0 + index * 113 % 400,
        )
        if caller and caller.startswith("+44"):
            document["caller"].update(country="GB", region="London")
        documents.append(document)
    return documents
