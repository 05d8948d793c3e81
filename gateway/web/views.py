"""Record documents as the page shows them: words, tones, times in the site's zone, numbers written for people.

Pure: a document and the names of the routing book in, values for the templates out. Texts that a caller sent (name,
raw number) stay plain strings; the templates escape them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any

import phonenumbers

from gateway.core import book, numbers
from gateway.store import targets
from gateway.web import attributionviews, live, soundviews
from gateway.web.looks import Look

Document = Mapping[str, Any]

NAME_LIMIT = 64
"""Characters of a caller's name that are shown; the whole stands in the record."""


OUTCOMES: Mapping[str, Look] = {
    look.key: look
    for look in (
        Look("answered", "Answered", "check", "good", "A person talked to the caller"),
        Look("busy", "Busy", "busy", "warn", "The destinations were busy or the number's limit was reached"),
        Look("rejected", "Rejected", "cross", "bad", "Somebody declined the call"),
        Look("no_answer", "No answer", "bell-off", "bad", "It rang and nobody picked up"),
        Look("unreachable", "Unreachable", "unplug", "bad", "No destination could be reached"),
        Look("failed", "Failed", "alert", "bad", "Our own fault, or no route for this number"),
        Look("abandoned", "Abandoned", "leave", "warn", "The caller gave up before anybody answered"),
        Look("voicemail", "Voicemail", "voicemail", "warn", "The caller left a message"),
        Look("after_hours", "After hours", "moon", "quiet", "Outside business hours"),
        Look("banned", "Banned", "shield", "quiet", "The caller is on the ban list"),
        Look("lost", "Lost", "alert", "bad", "Asterisk went down before anybody answered"),
        Look("not_accepted", "Not accepted", "cross", "warn", "Answered, but nobody pressed 1"),
        Look("cancelled", "Answered elsewhere", "minus", "quiet", "Another phone took the call"),
    )
}
STATES: Mapping[str, Look] = {
    "arriving": Look("arriving", "Arriving", "dots", "quiet", "Not ringing anywhere yet"),
    "ringing": Look("ringing", "Ringing", "bell", "warn"),
    "talking": Look("talking", "Talking", "phone", "live"),
    "ended": Look("ended", "Ended", "minus", "quiet"),
}
STANDINGS: Mapping[str, Look] = {
    "done": Look("done", "Done", "check", "good", "They have it"),
    "skipped": Look("skipped", "Not told", "minus", "quiet", "Nothing was to be sent"),
    "waiting": Look("waiting", "Taken", "dots", "warn", "They have it and have not said how it ended"),
    "pending": Look("pending", "Waiting", "dots", "warn", "Not tried yet"),
    "failed": Look("failed", "Failed", "alert", "bad", "Tried again by the schedule"),
    "blocked": Look("blocked", "Blocked", "alert", "bad", "Our own side cannot"),
    "dead": Look("dead", "Given up", "cross", "bad", "A person may send it again"),
    "gone": Look("gone", "Refused", "cross", "bad", "They want nothing any more"),
}
UNKNOWN = Look("unknown", "Unknown", "dots", "quiet")
RINGING = Look("ringing", "Ringing", "bell", "warn")

ROUTE_SOURCES = {
    "agi": "Plan of the daemon",
    "plan": "Default plan (the daemon did not answer in time)",
    "default": "Default destination of the site",
}
ENDED_BY = {"caller": "Caller", "agent": "Agent", "system": "System", "crash": "Crash of Asterisk"}
SIP_WORDS = {
    200: "OK", 302: "Moved Temporarily", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    408: "Request Timeout", 410: "Gone", 480: "Temporarily Unavailable", 484: "Address Incomplete",
    486: "Busy Here", 487: "Request Terminated", 488: "Not Acceptable Here", 500: "Server Internal Error",
    502: "Bad Gateway", 503: "Service Unavailable", 504: "Server Time-out", 600: "Busy Everywhere", 603: "Decline",
}  # fmt: skip
Q850_WORDS = {
    1: "Unallocated number", 16: "Normal clearing", 17: "User busy", 18: "No user responding", 19: "No answer",
    20: "Subscriber absent", 21: "Call rejected", 22: "Number changed", 26: "Answered elsewhere",
    27: "Destination out of order", 28: "Invalid number format", 31: "Normal, unspecified", 34: "No circuit available",
    38: "Network out of order", 41: "Temporary failure", 42: "Switching congestion", 44: "Circuit not available",
    58: "Bearer capability not available", 88: "Incompatible destination", 102: "Recovery on timer expiry",
    111: "Protocol error", 127: "Interworking",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stop:
    """One destination on the way of a call."""

    step: int
    name: str
    is_reserve: bool
    look: Look
    agent: str | None
    ring: str
    talk: str
    sip: str
    q850: str

    @property
    def kind(self) -> str:
        """`Forward` or `Reserve`."""
        return "Reserve" if self.is_reserve else "Forward"

    @property
    def spoken(self) -> str:
        """For screen readers and tooltips."""
        codes = ", ".join(text for text in (self.sip and f"SIP {self.sip}", self.q850 and f"Q.850 {self.q850}") if text)
        return f"{self.kind}, step {self.step}: {self.name}, {self.look.label.lower()}" + (
            f" ({codes})" if codes else ""
        )


@dataclass(frozen=True, slots=True)
class CallView:
    """One call, ready to show."""

    call_id: str
    is_inbound: bool
    look: Look
    state: Look
    started: datetime
    day: str
    clock: str
    caller: str
    caller_name: str
    place: str
    is_first_time: bool
    calls_before: int | None
    tracking: str
    tracking_label: str
    source: str
    source_key: str | None
    campaign: str
    answered_by: str
    agent_key: str | None
    wait: str
    talk: str
    stops: tuple[tuple[Stop, ...], ...]
    """Steps in order; the members of one step rang together."""
    sound: soundviews.SoundView
    attribution: attributionviews.AttributionView
    recording: Look | None
    """How the recording of a call that is up stands."""
    reading: str
    """Since when the timer of a live call runs: ISO time."""
    document: Document

    @property
    def target(self) -> Stop | None:
        """Where a live call stands: the one who answered, else the last that rings or rang."""
        flat = [stop for step in self.stops for stop in step]
        for key in ("answered", "ringing"):
            for stop in flat:
                if stop.look.key == key:
                    return stop
        return flat[-1] if flat else None

    @property
    def rated(self) -> str:
        """What was keyed in after the call, in words."""
        rating = _part(self.document, "rating")
        words = {"outcome": "outcome {}", "goal_reached": "goal {}reached", "solved": "{}solved at first contact"}
        said = []
        for name, form in words.items():
            if (value := rating.get(name)) is not None:
                said.append(form.format(value if name == "outcome" else "" if value else "not "))
        return ", ".join(said) or "No key was pressed"

    @property
    def json_text(self) -> str:
        """The record as JSON for people."""
        return json.dumps(self.document, ensure_ascii=False, indent=2)


@dataclass(frozen=True, slots=True)
class Names:
    """Names for keys, from the routing book in force; a key that is gone shows as itself."""

    current: book.Book | None

    def source(self, key: str | None, last_name: str | None = None) -> str:
        """Name of a source, else the one it had when the call came, "" for none."""
        found = self.current.sources.get(key) if self.current is not None and key else None
        return found.name if found is not None else last_name or key or ""

    def destination(self, key: str) -> str:
        """Name of a destination; `tel:+7…` is written for people."""
        found = self.current.destinations.get(key) if self.current is not None else None
        if found is not None:
            return found.name
        return phone(key.removeprefix("tel:")) if key.startswith("tel:") else key

    def agent(self, key: str | None) -> str:
        """Name of an agent, "" for none."""
        found = self.current.agents.get(key) if self.current is not None and key else None
        return found.name if found is not None else key or ""


@dataclass(frozen=True, slots=True)
class StandingView:
    """How a call stands at one target."""

    target: str
    look: Look
    type: str | None
    note: str
    external_id: str | None
    when: str
    next: str


def standing_view(one: targets.Standing, zone: tzinfo, now: datetime) -> StandingView:
    """As it is shown; what was given up says so, whatever came before."""
    look = STANDINGS["dead"] if one.given_up else STANDINGS.get(one.state, UNKNOWN)
    return StandingView(
        one.target,
        look,
        one.type,
        one.note,
        one.external_id,
        _at(one.at_us, zone, now),
        _at(one.next_us, zone, now) if look.key in ("failed", "waiting", "pending", "blocked") else "",
    )


def _at(at_us: int | None, zone: tzinfo, now: datetime) -> str:
    if at_us is None:
        return ""
    at = datetime.fromtimestamp(at_us / 1_000_000, zone)
    return at.strftime("%H:%M:%S" if at.date() == now.astimezone(zone).date() else "%d %b, %H:%M")


def call_view(
    document: Document,
    names: Names,
    zone: tzinfo,
    now: datetime,
    api_pauses: Sequence[tuple[str, str | None]] = (),
) -> CallView:
    """A record as it is shown at `now`; `api_pauses` are the pauses of its recording by API."""
    caller = _part(document, "caller")
    tracking = _part(document, "tracking")
    attribution = _part(document, "attribution")
    started = _moment(document.get("started_at"), now).astimezone(zone)
    attempts: Sequence[Document] = document.get("attempts") or ()
    source_key = attribution.get("source") or tracking.get("source")
    number = str(tracking.get("number") or "")
    is_answered = document.get("answered_at") is not None
    return CallView(
        call_id=str(document["call_id"]),
        is_inbound=document.get("direction") != "outbound",
        look=OUTCOMES.get(str(document.get("outcome")), UNKNOWN),
        state=STATES[live.state_of(document)],
        started=started,
        day=_day(started, now.astimezone(zone)),
        clock=started.strftime("%H:%M:%S"),
        caller=_caller(caller),
        caller_name=_short(str(caller.get("name") or "")),
        place=" · ".join(str(part) for part in (caller.get("country"), caller.get("region")) if part),
        is_first_time=caller.get("first_time") is True and bool(caller.get("number")),
        calls_before=caller.get("calls_before"),
        tracking=phone(number),
        tracking_label=str(tracking.get("label") or ""),
        source=names.source(source_key, attribution.get("source_name")),
        source_key=source_key,
        campaign=str(attribution.get("campaign") or ""),
        answered_by=names.agent(document.get("agent")) or names.destination(str(document.get("destination") or "")),
        agent_key=document.get("agent"),
        wait=duration(document.get("wait_seconds")),
        talk=duration(document.get("talk_seconds")) if is_answered else "",
        stops=_steps(attempts, names),
        sound=soundviews.sound_view(document, zone, api_pauses),
        attribution=attributionviews.attribution_view(document),
        recording=soundviews.live_look(document),
        reading=str(document.get("answered_at") or document.get("started_at") or ""),
        document=document,
    )


def _part(document: Document, name: str) -> Document:
    part = document.get(name)
    return part if isinstance(part, Mapping) else {}


def _steps(attempts: Sequence[Document], names: Names) -> tuple[tuple[Stop, ...], ...]:
    steps: dict[int, list[Stop]] = {}
    for attempt in attempts:
        steps.setdefault(int(attempt["step"]), []).append(_stop(attempt, names))
    return tuple(tuple(members) for _, members in sorted(steps.items()))


def _stop(attempt: Document, names: Names) -> Stop:
    outcome = attempt.get("outcome")
    return Stop(
        step=int(attempt["step"]),
        name=names.destination(str(attempt.get("destination") or "")),
        is_reserve=attempt.get("kind") == "reserve",
        look=RINGING if outcome is None else OUTCOMES.get(str(outcome), UNKNOWN),
        agent=names.agent(attempt.get("agent")) or None,
        ring=duration(attempt.get("ring_seconds")),
        talk=duration(attempt.get("talk_seconds")) if outcome == "answered" else "",
        sip=_code(attempt.get("sip_code"), SIP_WORDS),
        q850=_code(attempt.get("q850_cause"), Q850_WORDS),
    )


def _code(code: object, words: Mapping[int, str]) -> str:
    if not isinstance(code, int) or code == 0:
        return ""
    return f"{code} {words[code]}" if code in words else str(code)


def _caller(caller: Document) -> str:
    if caller.get("number"):
        return phone(str(caller["number"]))
    if caller.get("anonymous"):
        return "Anonymous"
    return _short(str(caller.get("raw") or "")) or "Unknown"


def _short(text: str) -> str:
    visible = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return visible if len(visible) <= NAME_LIMIT else visible[: NAME_LIMIT - 1] + "…"


def _day(started: datetime, now: datetime) -> str:
    if started.date() == now.date():
        return ""
    if (now.date() - started.date()).days == 1:
        return "Yesterday"
    return started.strftime("%d %b" if started.year == now.year else "%d %b %Y")


def _moment(value: object, default: datetime) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else default


@lru_cache(maxsize=4096)
def phone(number: str) -> str:
    """A number as people write it: `+7 495 123-45-67`. What is no number stays as it is."""
    if not numbers.is_e164(number):
        return number
    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


duration = soundviews.length
