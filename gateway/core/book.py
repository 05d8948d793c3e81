"""The routing book: everything the business says about its numbers, as one immutable value.

A book is built from `routing.toml` by `gateway.config.routingfile`, which finds every error first, so a `Book` is
always consistent: each key that is referred to exists. It is swapped whole when the routing revision changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from enum import StrEnum
from typing import TYPE_CHECKING

from gateway.core import prompts, rating, rules, ticketrules, webbook
from gateway.core.channels import Channel as Channel
from gateway.core.receivers import Receivers
from gateway.core.regions import RecordingMode as RecordingMode
from gateway.core.regions import RegionTable

if TYPE_CHECKING:
    # It reads numbers, whose forms stand here.
    from gateway.core.audiences import Audience

MAX_STEPS = 8
MAX_MEMBERS = 8
MAX_KEY_LENGTH = 24


class NumberForm(StrEnum):
    """How a carrier writes numbers in its INVITE."""

    E164 = "e164"
    """Country code first, no `+`: 74950000001."""
    PLUS = "plus"
    """`+` for every number; digits without `+` are national."""
    NATIONAL = "national"
    """National significant number, or with the country's trunk or international prefix: 4950000001, 8495…, 810…"""


class DidSource(StrEnum):
    """Where the carrier writes the dialled number."""

    RURI = "ruri"
    TO = "to"
    P_CALLED_PARTY = "p-called-party"


class CampaignType(StrEnum):
    """How the ad leads to the call (R10, R13)."""

    CLICK = "click"
    CALL_ONLY = "call-only"
    OFFLINE = "offline"


class DestinationKind(StrEnum):
    """What is dialled."""

    ENDPOINT = "endpoint"
    TEL = "tel"
    LOCAL = "local"


class CallerIdPolicy(StrEnum):
    """Whose number the answering phone shows."""

    CALLER = "caller"
    TRACKING = "tracking"


class Strategy(StrEnum):
    """In which order the forwarding destinations ring."""

    ALL = "all"
    IN_ORDER = "in_order"
    ROUND_ROBIN = "round_robin"
    WEIGHTED = "weighted"
    LONGEST_IDLE = "longest_idle"


class StepKind(StrEnum):
    """Whether a step is the forwarding destination (C2) or a reserve destination (C3)."""

    FORWARD = "forward"
    RESERVE = "reserve"


class MissCause(StrEnum):
    """Why a step was not taken, as the dialplan tells them apart, most human first."""

    BUSY = "busy"
    REJECTED = "rejected"
    NO_ANSWER = "no_answer"
    UNREACHABLE = "unreachable"


class AfterHours(StrEnum):
    """What happens outside business hours."""

    RESERVE = "reserve"
    """Skip the forwarding destination, ring the reserve steps."""
    DESTINATIONS = "destinations"
    """Ring `after_hours_destinations` instead."""
    MESSAGE = "message"
    """Play `after_hours_message`, then end the call with outcome `after_hours`."""

    CALLBACK = "callback"
    """Offer a call-back for pressing 1, then end the call."""
    VOICEMAIL = "voicemail"
    """Let the caller leave a message."""


class Acceptance(StrEnum):
    """What an answering person must do before the caller is connected."""

    NONE = "none"
    PRESS_1 = "press-1"
    """Press 1: a mobile's voicemail cannot."""


class Unanswered(StrEnum):
    """What happens when every step was tried and nobody took the call."""

    MESSAGE = "message"
    """Play the route's message, if any, and end the call."""
    WAIT = "wait"
    """Music with a word every 20 s, while the steps ring once more."""
    CALLBACK = "callback"
    """Press 1 for a call-back."""
    VOICEMAIL = "voicemail"
    """Leave a message of at most 120 s."""


class BanAction(StrEnum):
    """What a banned caller meets (R112)."""

    REFUSE = "refuse"
    BUSY = "busy"
    MESSAGE = "message"
    CHALLENGE = "challenge"
    """Only a caller who presses 1 is put through."""


class TrackingKind(StrEnum):
    """How a tracking number is used."""

    STATIC = "static"
    POOL = "pool"
    OVERFLOW = "overflow"


@dataclass(frozen=True, slots=True)
class Site:
    """A business whose calls these are; days and hours of reports are in its `time_zone` (IANA name)."""

    key: str
    name: str
    time_zone: str
    country: str
    """ISO 3166-1 alpha-2, upper case."""
    language: str
    default_destination: str
    """Destination key for calls that nothing else routes."""
    outbound_trunk: str | None = None
    business_number: str | None = None
    """E.164 with `+`: the caller ID of outbound calls."""
    region: str | None = None
    """ISO 3166-2, where the state decides on consent (`US-CA`); None = the country."""
    recording: RecordingMode | None = None
    consent: Mapping[str, RecordingMode] = field(default_factory=dict)
    """By region code: the mode that replaces that of the region's row."""


@dataclass(frozen=True, slots=True)
class Registration:
    """Digest registration with the carrier; `password` is a reference `file:PATH` or `env:NAME`, never the secret."""

    server: str
    username: str
    password: str
    expiration_seconds: int = 300


@dataclass(frozen=True, slots=True)
class Trunk:
    """A carrier's line. `hosts` are addresses or networks its INVITEs come from; `server` is where ours go."""

    key: str
    country: str
    number_form: NumberForm
    did_from: DidSource
    hosts: tuple[str, ...]
    server: str | None
    """`host[:port]`, needed to dial out."""
    registration: Registration | None = None
    nat: bool = False
    early_media: bool = False
    """The carrier passes audio before answer."""
    transport: str = "udp"


@dataclass(frozen=True, slots=True)
class Source:
    """Where calls come from; `parent` makes it a sub-source, such as one radio station of the channel radio (R106)."""

    key: str
    name: str
    channel: Channel
    campaign_type: CampaignType
    medium: str | None = None
    campaign: str | None = None
    parent: str | None = None
    cost_line: str | None = None
    """Where its cost is booked; never shared by sources of different campaign types (R10, R13). None = by its key."""

    @property
    def booked_on(self) -> str:
        """The cost line that holds."""
        return self.cost_line or self.key


@dataclass(frozen=True, slots=True)
class Agent:
    """A person who answers. `endpoint` is the SIP endpoint by which the journal knows them."""

    key: str
    name: str
    extension: str | None = None
    endpoint: str | None = None
    languages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Destination:
    """Who answers. `address` is an endpoint name, E.164 with `+` (tel), or `extension@context` (local)."""

    key: str
    name: str
    kind: DestinationKind
    address: str
    trunk: str | None = None
    agent: str | None = None
    caller_id: CallerIdPolicy = CallerIdPolicy.CALLER
    label_source: bool = False
    """Put the source's name before the caller's name on the phone's display."""
    weight: int = 1
    dialled: str | None = None
    """Of `tel`: the number as its trunk wants it; None = E.164 digits."""
    accept: Acceptance | None = None
    """Wins over the route's."""

    @property
    def dial_string(self) -> str:
        """The member's part of `Dial`'s first argument."""
        match self.kind:
            case DestinationKind.ENDPOINT:
                return f"PJSIP/{self.address}"
            case DestinationKind.TEL:
                return f"PJSIP/{self.dialled or self.address.lstrip('+')}@{self.trunk}-out"
            case DestinationKind.LOCAL:
                return f"Local/{self.address}/n"

    @property
    def peer(self) -> str:
        """What stands between `/` and the last `-` in the name of the channel that is dialled."""
        return f"{self.trunk}-out" if self.kind is DestinationKind.TEL else self.address


@dataclass(frozen=True, slots=True)
class OpeningTime:
    """Open from `start` to `end` (local time of the hours' zone, `end` exclusive, 24:00 as `time.max`)."""

    weekday: int
    """0 = Monday."""
    start: time
    end: time


@dataclass(frozen=True, slots=True)
class BusinessHours:
    """A weekly timetable with holidays, in an IANA `time_zone`."""

    key: str
    time_zone: str
    opening_times: tuple[OpeningTime, ...]
    holidays: frozenset[date] = frozenset()


@dataclass(frozen=True, slots=True)
class Condition:
    """Who and when an exception of a route is for; an empty field asks nothing. All that is set must hold."""

    first_time: bool | None = None
    """True: only callers never seen before; False: only repeat callers (R71)."""
    regions: frozenset[str] = frozenset()
    """Where the caller's number is from (R89): country codes (`RU`), area codes as the number's beginning (`+7343`), or
    region names as `gateway.core.numbers.region_of` gives them in English (`Moscow`)."""
    sources: frozenset[str] = frozenset()
    hours: str | None = None
    """Key of business hours inside which the exception holds."""


@dataclass(frozen=True, slots=True)
class RouteException:
    """Other destinations for some callers; the first whose condition holds wins."""

    condition: Condition
    forward: tuple[str, ...]
    strategy: Strategy | None = None
    reserve: tuple[tuple[str, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """How calls to a tracking number are put through.

    `forward` are destination keys of the forwarding step; `reserve` are steps tried in order, each rung together.
    `reserve_by_cause` replaces `reserve` when the last forwarding step ended by that cause.
    """

    key: str
    site: str
    forward: tuple[str, ...]
    strategy: Strategy = Strategy.ALL
    reserve: tuple[tuple[str, ...], ...] = ()
    reserve_by_cause: Mapping[MissCause, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    ring_seconds: int = 20
    reserve_ring_seconds: int = 20
    longest_wait_seconds: int = 120
    sticky_days: int = 0
    """A repeat caller rings the agent who last answered within so many days first (R72); 0 = off."""
    hours: str | None = None
    after_hours: AfterHours = AfterHours.RESERVE
    after_hours_destinations: tuple[tuple[str, ...], ...] = ()
    after_hours_message: str | None = None
    concurrency_limit: int | None = None
    unanswered_message: str | None = None
    """Prompt for a caller whom nobody took; None = none."""
    answer_for_message: bool = False
    """Answer before the message instead of playing it as early media."""
    exceptions: tuple[RouteException, ...] = ()
    recording: RecordingMode | None = None
    """None = the site's; nobody says anything = off."""
    consent: Mapping[str, RecordingMode] = field(default_factory=dict)
    """By region code; wins over the site's."""
    tell_agent: bool = False
    """The agent hears that the call is recorded."""
    language: str | None = None
    """Of prompts and whispers; None = the site's."""
    whisper: Mapping[str, str] = field(default_factory=dict)
    """Templates by language, "" for every language; empty = no whisper (C7)."""
    accept: Acceptance = Acceptance.NONE
    accept_repeats: int = 2
    accept_seconds: int = 5
    answering_machine_detection: bool = False
    """Asterisk guesses whether a machine answered, where 1 must be pressed; the record calls it an inference."""
    unanswered: Unanswered = Unanswered.MESSAGE
    rating: rating.Wish | None = None
    """Whom to ask by keys how the call was, when it is over (R73); None = nobody."""
    tickets: ticketrules.Rules = ticketrules.DEFAULT
    """What becomes of its missed calls."""


@dataclass(frozen=True, slots=True)
class TrackingNumber:
    """A number printed or shown. `number` is E.164 with `+`."""

    number: str
    route: str
    kind: TrackingKind = TrackingKind.STATIC
    source: str | None = None
    campaign: str | None = None
    label: str | None = None
    concurrency_limit: int | None = None
    """Wins over the route's."""
    recording: RecordingMode | None = None
    consent: Mapping[str, RecordingMode] = field(default_factory=dict)
    language: str | None = None
    pool: str | None = None
    """Key of the pool whose number, or overflow number, it is."""


@dataclass(frozen=True, slots=True)
class Ban:
    """A caller number (E.164 with `+`) or a prefix ending in `*` that is not wanted (R112)."""

    number: str
    action: BanAction
    reason: str
    expires_at: datetime | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Book:
    """One revision of the routing. Mappings are by key; tracking numbers by their digits without `+`."""

    revision: int
    sites: Mapping[str, Site]
    trunks: Mapping[str, Trunk]
    sources: Mapping[str, Source]
    agents: Mapping[str, Agent]
    destinations: Mapping[str, Destination]
    hours: Mapping[str, BusinessHours]
    routes: Mapping[str, Route]
    tracking_numbers: Mapping[str, TrackingNumber]
    bans: tuple[Ban, ...] = ()
    local_contexts: frozenset[str] = frozenset()
    """Contexts of the PBX that `local:` destinations may enter."""
    web: webbook.WebBook = field(default_factory=webbook.WebBook)
    receivers: Receivers = field(default_factory=Receivers)
    """Who is told of what happens."""
    audiences: Mapping[str, Audience] = field(default_factory=dict)
    """Callers to be exported for ad platforms."""
    scoring: rules.Scoring = field(default_factory=rules.Scoring)
    """Rules that score and tag calls."""
    regions: RegionTable = field(default_factory=lambda: RegionTable({}))
    """What the law of recording asks for where; not part of the routing file."""
    words: prompts.Catalogue = field(default_factory=lambda: prompts.Catalogue({}))
    """Texts of prompts, for the words inside whispers; not part of the routing file."""
    compiled: dict[str, object] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What `gateway.core.routing` has worked out from this book so far; nothing else reads or writes it."""

    @property
    def default_site(self) -> Site:
        """The first site: whose default destination takes calls to numbers that the book does not know."""
        return next(iter(self.sites.values()))
