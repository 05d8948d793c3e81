"""Documents about tickets of missed calls, for API and events."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from gateway.core import ticketcauses, tickets
from gateway.web import schemas


class TicketCaller(schemas.Document):
    """Whom to call. `number` is E.164; a pseudonym or null once the person was forgotten."""

    number: str | None
    name: str | None


class TicketAttempt(schemas.Document):
    """One destination that was rung in vain."""

    destination: str
    agent: str | None
    outcome: str | None
    ring_seconds: float
    sip_code: int | None
    q850_cause: int | None


class TicketEvidence(schemas.Document):
    """What shows the cause."""

    why: str = Field(description="One word: busy, limit, no_answer, after_hours, gave_up, fault, unknown_number …")
    outcome: str | None
    cause: str | None
    wait_seconds: float
    attempts: list[TicketAttempt]
    short_abandons: int | None = Field(default=None, description="Of a spike: within the hour, this one included.")
    calls: int | None = Field(default=None, description="Of a spike: all calls to the number within the hour.")
    tag_check: str | None = Field(default=None, description="What the last check of the web tags found wrong.")


class TicketSource(schemas.Document):
    """Where the caller came from: of a missed call as in its record, of a request as in `callback.requested`. What is
    not known is absent."""

    method: str | None = None
    confidence: float | None = None
    source: str | None = None
    source_name: str | None = None
    parent_source: str | None = None
    campaign_type: str | None = None
    cost_line: str | None = None
    channel: str | None = None
    kind: str | None = None
    came_from: str | None = None
    medium: str | None = None
    campaign: str | None = None
    term: str | None = None
    content: str | None = None
    landing_page: str | None = None
    referrer: str | None = None
    click_ids: dict[str, str] | None = None
    visitor_id: str | None = None
    lease_id: str | None = None


class TicketConsent(schemas.Document):
    """How the missed call would have been recorded: a call-back keeps to the same rules."""

    mode: str | None
    region: str | None


class TicketRequest(schemas.Document):
    """What was asked on a page."""

    message: str | None = None
    when: str | None = None
    page: str | None = None
    number_raw: str | None = None


class TicketEntry(schemas.Document):
    """Something that happened to a ticket. `actor`: `system`, `agent:<key>`, `phone:<extension>`, `token:<name>` or
    `user:<name>`."""

    at: datetime
    what: tickets.What
    actor: str
    call_id: str | None
    note: str | None = Field(
        description="What somebody wrote; of `assigned` the agent, of `attempted` and `repeated` how it ended."
    )


class TicketDocument(schemas.Document):
    """A caller whom somebody has to call back."""

    ticket_id: str
    number: int = Field(description="Short and running: it can be keyed on a phone.")
    revision: int
    call_id: str | None = Field(description="The missed call; null for a request on a page.")
    last_call_id: str | None = Field(description="The latest missed call.")
    kind: tickets.Kind
    state: tickets.State
    result: tickets.Result | None
    cause: ticketcauses.Cause | None = Field(description="Null for a request.")
    evidence: TicketEvidence | None
    caller: TicketCaller
    tracking_number: str | None
    route: str | None
    site: str | None
    node: str
    source: str | None
    campaign: str | None
    attribution: TicketSource | None
    recording_consent: TicketConsent
    request: TicketRequest | None
    owner: str | None = Field(description="Key of an agent.")
    misses: int
    attempts: int
    attempts_wanted: int
    opened_at: datetime
    last_missed_at: datetime
    next_due_at: datetime | None = Field(description="When the next attempt is due.")
    deadline_at: datetime = Field(description="When all of them must be made.")
    first_attempt_at: datetime | None
    last_attempt_at: datetime | None
    callback_seconds: float | None = Field(description="From the miss to the first attempt.")
    reminded_at: datetime | None
    escalated_at: datetime | None
    closed_at: datetime | None


class TicketEvent(TicketDocument):
    """A ticket after something happened to it."""

    change: TicketEntry


class TicketWithHistory(TicketDocument):
    """A ticket and all that happened to it."""

    history: list[TicketEntry]


class TicketList(schemas.Document):
    """Tickets, newest first. `next` is the `before` of the next page."""

    tickets: list[TicketDocument]
    next: int | None


Asked = Literal["open", "tried", "overdue", "closed", "all"]
