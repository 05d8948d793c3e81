"""The documents of the API as models: the OpenAPI document is drawn from them, and a test holds real records to them.

Answers are not built from these models: a stored record goes out as it is.
"""

from __future__ import annotations

from datetime import date, datetime, tzinfo
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

from gateway.core import callingback, calls, deals, touches
from gateway.web import parts, routes

MAX_LIMIT = 200


class Document(pydantic.BaseModel):
    """Base of answers. Fields may be added in later versions; none is removed within /api/v1."""

    model_config = pydantic.ConfigDict(extra="allow")


class Caller(Document):
    """Who called. `number` is E.164, null when unknown or anonymous; `raw` and `name` are as sent, unchecked."""

    number: str | None
    raw: str | None
    name: str | None
    country: str | None
    region: str | None
    anonymous: bool
    first_time: bool | None
    calls_before: int | None


class Tracking(Document):
    """The number that was called."""

    number: str | None
    kind: str | None
    source: str | None
    label: str | None


class AttemptDocument(Document):
    """One destination rung once; `outcome` is null while it rings."""

    step: int
    destination: str
    kind: str
    agent: str | None
    outcome: calls.AttemptOutcome | None
    started_at: datetime | None
    answered_at: datetime | None
    ended_at: datetime | None
    ring_seconds: float
    talk_seconds: float
    sip_code: int | None
    q850_cause: int | None
    answered_by: str | None
    whisper_played: bool
    accepted: bool | None
    machine: bool | None = None


class Experience(Document):
    """What the caller heard, in seconds."""

    post_dial_delay_seconds: float | None
    prompt_seconds: float
    silent_seconds: float


class Consent(Document):
    """What the caller was told about recording, and said."""

    region: str | None
    mode: str
    result: str
    key: str | None
    prompt_id: str | None
    prompt_version: str | None = None
    early_media: bool | None = None
    announcement_in_recording: bool | None = None
    at: datetime | None


class Pause(Document):
    """A pause of the recording by the agent's key; `to` is null while it lasts."""

    from_: datetime = Field(alias="from")
    to: datetime | None


class Review(Document):
    """A recording drawn for the weekly sample; `score` is 1 to 5, null until somebody listened."""

    week: str
    agent: str
    score: int | None
    note: str | None
    reviewer: str | None
    reviewed_at: datetime | None


class CallRecording(Document):
    """A recording of the call, as known when the record was read; no address for one that cannot be heard."""

    recording_id: str
    kind: Literal["talk", "voicemail"]
    state: Literal["stored", "refused", "condemned", "shredded"]
    started_at: datetime
    duration_seconds: float
    audio_url: str | None
    peaks_url: str | None
    analysis: Any
    review: Review | None


class CallReceipt(Document):
    """That there is a signed consent receipt; `/receipts` has it."""

    what: Literal["talk", "message"]
    digest: str
    key_id: str
    signed: datetime


class Candidate(Document):
    """One who may have called: the chance (0 to 1), and how long before the call they were last on the site (0: were on
    it)."""

    visitor_id: str
    share: float
    seconds_since_seen: float


class Origin(Document):
    """The ad that led to a call or a visit."""

    source: str | None
    source_name: str | None
    parent_source: str | None
    campaign_type: str | None
    cost_line: str | None
    channel: str | None
    medium: str | None
    campaign: str | None
    term: str | None
    content: str | None
    landing_page: str | None
    referrer: str | None


class Attribution(Origin):
    """Where the call came from, how that is known, and how surely (0 to 1)."""

    method: str
    confidence: float
    click_ids: dict[str, str] | None
    visitor_id: str | None
    lease_id: str | None
    candidates: list[Candidate]


class CreditPart(Origin):
    """A touch that a call is credited to: its share (all sum to 1), when it was, and where it came from. `at` null: no
    touch is known, this is what the record says."""

    credit: float
    at: datetime | None


class Credit(Document):
    """Worked out when the record is read, never stored. `touches` is empty where nothing tells of a source."""

    model: touches.Model
    window_days: float | None
    touches: list[CreditPart]


class CallBack(Document):
    """Of an outbound call that returns a missed one: `call_id` is that call's (null: somebody asked on a page to be
    called), `shown` the number that the customer saw, `result` what the agent keyed in."""

    ticket: int
    call_id: str | None
    by: callingback.By
    shown: str | None
    result: callingback.Result | None


class Rating(Document):
    """What the agent or the caller, whoever was still there, keyed in when the call was over; null: no sensible key."""

    by: Literal["agent", "caller"]
    outcome: str | None
    goal_reached: bool | None
    solved: bool | None
    keys: dict[str, str | None]
    at: datetime


class RuleTag(Document):
    """A tag, and the rule that gave it."""

    tag: str
    origin: Literal["rule"]
    rule: str


class RuleApplied(Document):
    """A rule that held for the call, with the points it gave."""

    rule: str
    points: int


class Scoring(Document):
    """What the rules of the routing file say of the call. `qualified` and `spam` are null where no rule says so."""

    score: int
    qualified: bool | None
    spam: bool | None
    tags: list[RuleTag]
    rules: list[RuleApplied]


class Deal(Document):
    """The deal a call led to. `value` is a decimal string; `closed_on` the day it was closed, or is expected to be."""

    deal_id: str | None
    state: deals.State
    stage: str | None
    value: str | None
    currency: str | None
    closed_on: date | None


class CallResult(Document):
    """What a CRM, a person or a file said about the call afterwards; null: nobody said anything. `changes` counts how
    often it was changed, and is part of the record's `revision`."""

    qualified: bool | None
    spam: bool | None
    goal_reached: bool | None
    lead_status: str | None
    note: str | None
    tags: list[str]
    deal: Deal | None
    changed_at: datetime
    changed_by: str
    changed_via: str
    changes: int


class CallRecord(Document):
    """One call. Times are RFC 3339 UTC with milliseconds, durations seconds with decimals."""

    call_id: str
    revision: int
    node: str
    direction: calls.Direction
    state: Literal["open", "closed"]
    site: str | None
    time_zone: str
    started_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    outcome: calls.Outcome | None
    cause: str | None
    missed: bool
    ended_by: calls.EndedBy | None
    caller: Caller
    tracking: Tracking
    attempts: list[AttemptDocument]
    wait_seconds: float
    ring_seconds: float
    talk_seconds: float
    hold_seconds: float
    agent: str | None
    destination: str | None
    route: str | None
    route_source: str | None
    plan_revision: int | None
    agi_status: str | None
    trunk: str | None
    experience: Experience
    attribution: Attribution
    callback: CallBack | None = None
    rating: Rating | None = None
    scoring: Scoring | None = Field(None, description="Null while the call is up, and without rules.")
    recording_consent: Consent
    pauses: list[Pause] = []
    recordings: list[CallRecording] = []
    receipts: list[CallReceipt] = []
    credit: Credit | None = None
    result: CallResult | None = None
    sip_call_id: str | None
    linked_id: str
    unique_id: str


class CallList(Document):
    """One page, newest first. `next` is the value of `after` for the following page, null on the last."""

    calls: list[CallRecord]
    next: str | None


class LiveCalls(Document):
    """The calls that are up, newest first. `event_id` may be handed to `/api/v1/live` as `Last-Event-ID`."""

    at: datetime
    event_id: str
    calls: list[CallRecord]


class NamedKey(Document):
    """A key of the routing file and its name."""

    key: str
    name: str


class RoutingState(Document):
    """The routing that is in force. `latest_revision` is the newest in the store; they differ for a second after
    `apply`, and for longer when the newest could not be loaded."""

    revision: int | None
    latest_revision: int | None
    applied_at: datetime | None
    applied_by: str | None
    comment: str | None
    sites: list[NamedKey]
    sources: list[NamedKey]
    destinations: list[NamedKey]
    agents: list[NamedKey]
    tracking_numbers: int


class Alive(Document):
    """The process answers."""

    status: Literal["alive"]


class HangUp(Document):
    """Asterisk was told to end the call; its record follows from the journal."""

    call_id: str
    status: Literal["asked"]


class ReceiptSignature(Document):
    """Ed25519 over the receipt's canonical JSON (sorted keys, no blanks, UTF-8); key and value are base64."""

    algorithm: str
    key_id: str
    public_key: str
    value: str


class SignedReceipt(Document):
    """A receipt in the form in which it is exported: it can be checked without Dialmark."""

    receipt: dict[str, Any]
    signature: ReceiptSignature


class ReceiptList(Document):
    """The receipts of one call: of the talk, of a message left."""

    receipts: list[SignedReceipt]


class PauseWish(routes.Body):
    """What the recording shall be: paused, or going on."""

    paused: bool


class RecordingPause(Document):
    """What the recording is now."""

    call_id: str
    paused: bool


class Readiness(Document):
    """`checks` is given only to who may read metrics."""

    status: Literal["ready", "degraded", "not_ready"]
    checks: dict[str, Any] | None = None


def _spaced_plus(value: object) -> object:
    """A `+` that was not percent-encoded comes as a blank."""
    return value.replace(" ", "+") if isinstance(value, str) else value


def _number(value: object) -> object:
    """`+74990000001`, ` 74990000001` and `74990000001` are one number; short ones are extensions."""
    if not isinstance(value, str):
        return value
    digits = value.strip().lstrip("+")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 20:
        raise ValueError("not a phone number")
    return digits if len(digits) < 7 else f"+{digits}"


def micros(value: datetime | None, zone: tzinfo) -> int | None:
    """Microseconds since the epoch; a time without a zone is one of `zone`."""
    if value is None:
        return None
    return parts.micros(value if value.tzinfo is not None else value.replace(tzinfo=zone))


Moment = Annotated[datetime, pydantic.BeforeValidator(_spaced_plus)]
Number = Annotated[str, pydantic.BeforeValidator(_number)]
Key = Annotated[str, Field(max_length=64)]


class CallsQuery(routes.Query):
    """Filters of the call list; all that are given must hold."""

    lists: ClassVar[frozenset[str]] = frozenset({"outcome"})

    since: Moment | None = Field(
        None, alias="from", description="Started at or after; RFC 3339, or a local date or time of the site"
    )
    until: Moment | None = Field(None, alias="to", description="Started before")
    outcome: frozenset[calls.Outcome] | None = Field(None, description="One or several outcomes, by commas")
    missed: bool | None = Field(None, description="Only missed calls, or only those not missed")
    direction: calls.Direction | None = None
    did: Number | None = Field(None, description="Tracking number called")
    source: Key | None = Field(None, description="Key of the source")
    campaign: Key | None = None
    caller: Number | None = Field(None, description="Caller's number, or extension of an outbound call")
    agent: Key | None = Field(None, description="Key of the agent who answered")
    route: Key | None = None
    min_score: Annotated[int, Field(ge=-1000, le=1000)] | None = Field(
        None, description="At least so many points by rules"
    )
    after: Annotated[str, Field(max_length=120)] | None = Field(None, description="`next` of the page before")
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 50


MODEL = Field(None, description="Credit the call's touches by this model: `credit` is added to each record")


class ModelQuery(routes.Query):
    """How a call is credited."""

    model: touches.Model | None = MODEL


class CreditedCallsQuery(CallsQuery):
    """The list, and how its calls are credited."""

    model: touches.Model | None = MODEL
