"""Visitors and their way as the pages show them. Pure: documents of `services.journeys` in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from gateway.core.traffic import Kind
from gateway.web import attributionviews, soundviews, views
from gateway.web.looks import Look

Document = Mapping[str, Any]

KINDS: Mapping[Kind, str] = {
    Kind.PAID_SEARCH: "Paid search",
    Kind.PAID_SOCIAL: "Paid social",
    Kind.DISPLAY: "Display",
    Kind.PAID: "Other paid",
    Kind.AFFILIATE: "Affiliate",
    Kind.SEARCH: "Search",
    Kind.SOCIAL: "Social",
    Kind.AI: "AI assistant",
    Kind.EMAIL: "E-mail",
    Kind.MESSENGER: "Messenger",
    Kind.PUSH: "SMS or push",
    Kind.REFERRAL: "Referral",
    Kind.DIRECT: "Direct",
    Kind.OTHER: "Other",
    Kind.OWN: "The site itself",
}
DEVICES = ("phone", "tablet", "computer", "television")
_ICONS = {"phone": "handset", "tablet": "tablet"}


@dataclass(frozen=True, slots=True)
class DeviceView:
    """With what, and where."""

    icon: str
    words: str
    place: str


@dataclass(frozen=True, slots=True)
class RowView:
    """One visitor of the list."""

    visitor_id: str
    name: str
    site: str
    seen: str
    seen_at: str
    source: str
    source_key: str | None
    kind: str
    detail: str
    device: DeviceView
    visits: int
    pages: int
    calls: int


@dataclass(frozen=True, slots=True)
class Moment:
    """Something in a visit: `kind` is page, click or call. `after`: how long after the visit's last sign of life."""

    kind: str
    clock: str
    at: str
    text: str
    query: str = ""
    call_id: str = ""
    look: Look | None = None
    percent: float | None = None
    after: str = ""


@dataclass(frozen=True, slots=True)
class VisitView:
    """One visit with what happened in it, oldest first."""

    started: str
    at: str
    length: str
    source: str
    kind: str
    is_touch: bool
    detail: str
    device: DeviceView
    facts: tuple[tuple[str, str], ...]
    moments: tuple[Moment, ...]
    more_pages: int
    """Pages that were counted and not kept."""


@dataclass(frozen=True, slots=True)
class ProfileView:
    """One visitor, the latest visit first. `orphans` are calls and clicks of before the visits that are kept."""

    visitor_id: str
    name: str
    site: str
    first: str
    seen: str
    device: DeviceView
    callers: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    attributes: tuple[tuple[str, str], ...]
    """From the CRM: name and value."""
    visits: tuple[VisitView, ...]
    orphans: tuple[Moment, ...]
    calls: int
    pages: int
    is_cut: bool


def row_view(document: Document, zone: tzinfo, now: datetime) -> RowView:
    """One visitor of the list."""
    return RowView(
        visitor_id=document["visitor_id"],
        name=attributionviews.short(document["visitor_id"]),
        site=document["site"],
        seen=_moment(document["seen_at"], zone, now),
        seen_at=document["seen_at"],
        source=_source(document),
        source_key=document["source"],
        kind=_kind(document),
        detail=_detail(document),
        device=device_view(document),
        visits=document["visits"],
        pages=document["pages"],
        calls=document["calls"],
    )


def profile_view(document: Document, zone: tzinfo, now: datetime) -> ProfileView:
    """One visitor's page."""
    visits = document["visits"]
    loose = [(one["at"], one) for one in document["clicks"]] + [(one["started_at"], one) for one in document["calls"]]
    shown = []
    for place, visit in enumerate(visits):
        until = visits[place + 1]["started_at"] if place + 1 < len(visits) else "9999"
        inside = [(at, one) for at, one in loose if visit["started_at"] <= at < until]
        shown.append(_visit(visit, inside, zone, now))
    first = visits[0]["started_at"] if visits else "9999"
    before = sorted((at, one) for at, one in loose if at < first) if loose else []
    latest = visits[-1] if visits else {}
    facts = [*document["ids"].items(), *document["variables"].items()]
    return ProfileView(
        visitor_id=document["visitor_id"],
        name=attributionviews.short(document["visitor_id"]),
        site=document["site"],
        first=_moment(document["first_at"], zone, now),
        seen=_moment(document["seen_at"], zone, now),
        device=device_view(latest),
        callers=tuple(views.phone(number) for number in document["callers"]),
        facts=tuple((_visible(name), _visible(value)) for name, value in facts),
        attributes=tuple((_visible(one["name"]), _visible(one["value"])) for one in document["attributes"]),
        visits=tuple(reversed(shown)),
        orphans=tuple(_loose(at, one, zone, None) for at, one in before),
        calls=len(document["calls"]),
        pages=sum(visit["page_count"] for visit in visits),
        is_cut=document["is_cut"],
    )


def device_view(document: Document) -> DeviceView:
    """With what a visitor looked, and where they were."""
    device = document.get("device") or ""
    kind = device.partition(",")[0]
    words = [_visible(document.get(name)) for name in ("device", "browser", "system")]
    place = [_visible(document.get(name)) for name in ("city", "country")]
    icon = _ICONS.get(kind, "computer" if kind in DEVICES else "question")
    return DeviceView(
        icon, " · ".join(word for word in words if word) or "unknown device", ", ".join(filter(None, place))
    )


def _visit(visit: Document, inside: list[tuple[str, Document]], zone: tzinfo, now: datetime) -> VisitView:
    ended = visit["seen_at"]
    moments = [(page["at"], _page(page, zone)) for page in visit["pages"]]
    moments += [(at, _loose(at, one, zone, ended)) for at, one in inside]
    # A click and its call come after the page of the same moment.
    moments.sort(key=lambda pair: pair[0])
    facts = [
        ("Landing page", visit["landing_page"]),
        ("Came from", visit["referrer"]),
        ("Content", visit["content"]),
        *((f"Click id {name}", value) for name, value in visit["click_ids"].items()),
        (
            "Classified by",
            f"{visit['rule']}, tables {visit['rule_version']}" if visit["rule_version"] else visit["rule"],
        ),
    ]
    return VisitView(
        started=_moment(visit["started_at"], zone, now),
        at=visit["started_at"],
        length=soundviews.length(visit["seconds"]),
        source=_source(visit),
        kind=_kind(visit),
        is_touch=visit["is_touch"],
        detail=_detail(visit),
        device=device_view(visit),
        facts=tuple((name, _visible(value)) for name, value in facts if value),
        moments=tuple(moment for _, moment in moments),
        more_pages=max(0, visit["page_count"] - len(visit["pages"])),
    )


def _page(page: Document, zone: tzinfo) -> Moment:
    address, question, query = page["url"].partition("?")
    clock = _local(page["at"], zone).strftime("%H:%M:%S")
    return Moment("page", clock, page["at"], _visible(address), _visible(question + query))


def _loose(at: str, one: Document, zone: tzinfo, ended: str | None) -> Moment:
    moment = _local(at, zone)
    clock = moment.strftime("%H:%M:%S")
    if "call_id" not in one:
        return Moment("click", clock, at, views.phone(one["number"]))
    seconds = (moment - _local(ended, zone)).total_seconds() if ended is not None else 0.0
    return Moment(
        "call",
        clock,
        at,
        views.phone(one["number"]),
        call_id=one["call_id"],
        look=views.OUTCOMES.get(one["outcome"] or "", views.UNKNOWN),
        percent=100 * one["confidence"],
        after=_later(seconds) if seconds >= 60 else "",
    )


def _later(seconds: float) -> str:
    for size, limit, unit in ((60, 5_400, "min"), (3_600, 129_600, "h")):
        if seconds < limit:
            return f"{round(seconds / size)} {unit} after leaving"
    return f"{round(seconds / 86_400)} days after leaving"


def _source(document: Document) -> str:
    return _visible(document.get("source_name") or document.get("source")) or "unknown"


def _kind(document: Document) -> str:
    kind = document.get("kind")
    words = KINDS[Kind(kind)] if kind else ""
    return "" if words.lower() == _source(document).lower() else words


def _detail(document: Document) -> str:
    return " · ".join(text for name in ("campaign", "term") if (text := _visible(document.get(name))))


def _moment(at: str, zone: tzinfo, now: datetime) -> str:
    moment, today = _local(at, zone), now.astimezone(zone).date()
    if moment.date() == today:
        return moment.strftime("%H:%M:%S")
    return moment.strftime("%d %b, %H:%M" if moment.year == today.year else "%d %b %Y, %H:%M")


def _local(at: str, zone: tzinfo) -> datetime:
    return datetime.fromisoformat(at).astimezone(zone)


def _visible(text: object) -> str:
    shown = text if isinstance(text, str) else ""
    return "".join(character if character.isprintable() else "\ufffd" for character in shown[:1_000])
