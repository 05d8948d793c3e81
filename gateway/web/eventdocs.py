"""Every event as a model; the JSON Schemas in `eventschemas/v1` are written from here, and a test holds them to it.

python -m gateway.web.eventdocs      rewrites them

Fields may be added within a version; a field that goes or changes its meaning makes `v2`, beside this one.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from gateway.core import events
from gateway.web import auth, problems, routes, schemas, ticketschemas

VERSION = "v1"
FOLDER = Path(__file__).parent / "eventschemas"

table = routes.Table()


class RecordingReady(schemas.Document):
    """A recording can be heard."""

    recording_id: str
    call_id: str
    kind: Literal["talk", "voicemail"]
    node: str
    started_at: datetime
    duration_seconds: float
    audio_url: str
    peaks_url: str
    sha256: str = Field(description="Of the MP3, hex.")


class RecordingAnalysed(schemas.Document):
    """The external command gave its result; it stands in the call's record."""

    recording_id: str
    call_id: str
    kind: Literal["talk", "voicemail"]
    node: str
    analysed_at: datetime
    call_url: str


class CardCaller(schemas.Document):
    """The caller as a CRM knows them."""

    number: str | None
    name: str | None
    known: bool = Field(description="Whether the CRM has them; false: the rest is ours.")
    entity: str | None = Field(description="The CRM's word: contact, lead, company.")
    crm_id: str | None
    owner: str | None = Field(description="The CRM's user who looks after them.")
    first_time: bool | None
    profile: dict[str, str] = Field(description="Attributes that `profile` of the integration names.")


class Card(schemas.Document):
    """A CRM said who is calling, while it rings."""

    call_id: str
    target: str
    caller: CardCaller
    source: str | None
    campaign: str | None


class AskerSource(schemas.Document):
    """Where the visitor who asks came from; only of one who agreed to be known."""

    source: str | None = Field(description="Key of the source in the routing file.")
    kind: str
    came_from: str
    medium: str
    campaign: str | None
    term: str | None
    content: str | None
    click_ids: dict[str, str]
    landing_page: str | None
    referrer: str | None


class CallbackRequested(schemas.Document):
    """Somebody left a number on a page of a site and asks to be called. What is null was erased, or not said."""

    site: str
    requested_at: datetime
    number: str | None = Field(description="E.164; null when it cannot be read as a number.")
    number_raw: str | None = Field(description="As typed.")
    name: str | None
    message: str | None
    when: str | None = Field(description="When they wish to be called, in their own words.")
    page: str | None = Field(description="Address of the page.")
    visitor_id: str | None
    attribution: AskerSource | None


class PoolExhausted(schemas.Document):
    """A visitor found no free number in a pool. Counts are numbers of the pool by state."""

    pool: str
    site: str
    size: int
    living: int
    frozen: int
    called: int
    would_do: int | None = Field(description="Numbers that would show the overflow number to 1 % of visitors.")


class PoolLeak(schemas.Document):
    """A pool number is called though nobody is shown it, or far more than its sisters."""

    pool: str
    number: str
    calls: int
    callers: int
    expected: float
    first_at: datetime
    last_at: datetime


class Alert(schemas.Document):
    """Something needs a person, or no longer does (`state` cleared)."""

    kind: str
    message: str
    node: str
    call_id: str | None
    recording_id: str | None = None
    subject: str | None = Field(None, description="What it is about: a target, a pool, a site.")
    state: Literal["raised", "cleared"] | None = None
    severity: Literal["warning", "critical"] | None = None
    since: datetime | None = None
    value: float | None = None


DATA: dict[str, type[schemas.Document]] = {
    "call.started": schemas.CallRecord,
    "call.answered": schemas.CallRecord,
    "call.completed": schemas.CallRecord,
    "call.missed": schemas.CallRecord,
    "call.updated": schemas.CallRecord,
    "caller.card": Card,
    "callback.requested": CallbackRequested,
    "recording.ready": RecordingReady,
    "recording.analysed": RecordingAnalysed,
    "ticket.opened": ticketschemas.TicketEvent,
    "ticket.updated": ticketschemas.TicketEvent,
    "ticket.attempted": ticketschemas.TicketEvent,
    "ticket.reminded": ticketschemas.TicketEvent,
    "ticket.escalated": ticketschemas.TicketEvent,
    "ticket.closed": ticketschemas.TicketEvent,
    "pool.exhausted": PoolExhausted,
    "pool.leak_suspected": PoolLeak,
    "system.alert": Alert,
}
"""Model of an event's `data`, by type."""

LATE = frozenset({"call.started", "call.answered"})


class EventList(schemas.Document):
    """Types of events, each with the address of its schema."""

    version: str
    events: dict[str, str]


def schema(event_type: str) -> dict[str, Any]:
    """JSON Schema (2020-12) of a whole event."""
    data = DATA[event_type].model_json_schema(ref_template="#/$defs/{model}")
    definitions = data.pop("$defs", {})
    properties: dict[str, Any] = {
        "id": {"type": "string", "format": "uuid", "description": "The same on every attempt."},
        "type": {"const": event_type},
        "timestamp": {"type": "string", "format": "date-time"},
        "data": data,
    }
    if event_type in LATE:
        properties["late"] = {"const": True, "description": "Found long after it happened: pop no screen."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:dialmark:event:{VERSION}:{event_type}",
        "title": event_type,
        "type": "object",
        "properties": properties,
        "required": ["id", "type", "timestamp", "data"],
        "additionalProperties": True,
        "$defs": definitions,
    }


def text(event_type: str) -> str:
    """The schema as its file has it."""
    return json.dumps(schema(event_type), indent=1, ensure_ascii=False) + "\n"


@cache
def _stored(name: str) -> str:
    return (FOLDER / VERSION / name).read_text(encoding="utf-8")


@table.get(
    f"/api/v1/events/{VERSION}", scope=auth.Scope.CALLS_READ, out=EventList, summary="Types of events and their schemas"
)
async def list_events(request: web.Request) -> web.StreamResponse:
    known = {one: f"/api/v1/events/{VERSION}/{one}" for one in sorted(events.ALL_TYPES)}
    return routes.json_response({"version": VERSION, "events": known})


@table.get(
    f"/api/v1/events/{VERSION}/{{type:[a-z_.]+}}",
    scope=auth.Scope.CALLS_READ,
    media_type="application/schema+json",
    summary="JSON Schema of an event",
    slugs=("not-found",),
)
async def get_event_schema(request: web.Request) -> web.StreamResponse:
    event_type = request.match_info["type"]
    if event_type not in DATA:
        raise problems.Problem("not-found")
    return web.Response(text=_stored(f"{event_type}.json"), content_type="application/schema+json")


def main() -> None:
    """Rewrite the files in the working copy."""
    folder = FOLDER / VERSION
    folder.mkdir(parents=True, exist_ok=True)
    for event_type in DATA:
        (folder / f"{event_type}.json").write_text(text(event_type), encoding="utf-8")


if __name__ == "__main__":
    main()
