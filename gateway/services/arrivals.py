"""A page of a site was opened: which visit it belongs to, where that came from, and what its visitor is to be shown.

Pure work on what the store knows of the visitor; `services.leasing` reads and writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gateway.core import displayrules, touches, traffic, webbook
from gateway.core.displayrules import Consent, Place, Reason
from gateway.core.scriptwire import FirstPage
from gateway.store import visits

SECOND_US = 1_000_000
MISSED_SECONDS = 5
"""A visitor last heard of so long before the visit's first page had not told of it: the gateway was away."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A page was opened, as its script and the connection tell. What is personal is stored with consent only."""

    site: str
    url: str
    referrer: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Tags that the script knows besides those of `url`."""
    visitor_id: str | None = None
    """What the browser keeps; one that is not known here is somebody new."""
    consent: Consent = Consent.GRANTED
    is_bot: bool = False
    place: Place = field(default_factory=Place)
    browser: str | None = None
    system: str | None = None
    device: str | None = None
    ids: Mapping[str, str] = field(default_factory=dict)
    """Of web analytics: `ga`, `ga_session.<stream>`, `ym_uid`, …"""
    first: FirstPage | None = None
    """The visit's first page, of which the gateway may not have heard."""
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Show:
    """What is shown in place of one number of the page. `number` None: the site's own stays."""

    target: str
    reason: Reason
    number: str | None = None
    lease_id: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the page is told. Ids are None without consent: nothing is kept of such a visitor."""

    shows: tuple[Show, ...]
    visitor_id: str | None = None
    visit_id: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """The stored side of an arrival: all three are to be saved."""

    person: visits.Person
    visit: visits.Visit
    page: visits.Page


def classified(arrival: Arrival, web: webbook.WebBook) -> tuple[traffic.Landing, traffic.Classified]:
    """Where a page view came from, by itself."""
    site = web.sites[arrival.site]
    landing = traffic.landing(arrival.url, arrival.referrer, arrival.parameters, web.traffic)
    return landing, traffic.classify(landing, web.traffic, (*site.hosts, *site.shared_hosts))


def opened(
    arrival: Arrival, known: visits.Known | None, web: webbook.WebBook, at_us: int, new_id: Callable[[], str]
) -> Opened:
    """The visit that the page belongs to: the one that goes on, or a new one (R85, R88)."""
    page = arrival
    last = known.last if known is not None else None
    if arrival.first is not None and _was_missed(arrival.first, last, at_us):
        arrival = replace(arrival, url=arrival.first.url, referrer=arrival.first.referrer)
    landing, came = classified(arrival, web)
    before = known.touch if known is not None else None
    quiet_seconds = (at_us - last.seen_us) / SECOND_US if last is not None else 0.0
    begins = touches.begins_touch(before.touch if before is not None else None, came, quiet_seconds)
    visitor_id = known.person.visitor_id if known is not None else new_id()
    if last is not None and not begins and quiet_seconds < touches.VISIT_SECONDS:
        visit = replace(last, seen_us=max(last.seen_us, at_us), pages=last.pages + 1)
    else:
        source = displayrules.source_of(web.source_rules, landing, came)
        touch = touches.Touch(
            at_us=at_us,
            visit_id=new_id(),
            visitor_id=visitor_id,
            came=came,
            source=source,
            landing_page=landing.url or None,
            referrer=landing.referrer or None,
        )
        city = arrival.place.cities[0] if arrival.place.cities else None
        on = visits.Device(arrival.browser, arrival.system, arrival.device, arrival.place.country, city)
        visit = visits.Visit(touch, landing, arrival.site, at_us, is_touch=begins, on=on)
    person = visits.Person(
        visitor_id,
        arrival.site,
        known.person.first_us if known is not None else at_us,
        at_us,
        visits.merged(known.person.ids if known is not None else {}, arrival.ids),
        visits.merged(known.person.variables if known is not None else {}, arrival.variables),
    )
    shown = landing.url if page is arrival else traffic.landing(page.url, "", {}, web.traffic).url
    return Opened(person, visit, visits.Page(visit.touch.visit_id, visit.pages, at_us, shown))


def _was_missed(first: FirstPage, last: visits.Visit | None, at_us: int) -> bool:
    return last is None or last.seen_us < at_us - (first.seconds + MISSED_SECONDS) * SECOND_US


def decided(arrival: Arrival, web: webbook.WebBook, facts: displayrules.Facts) -> list[tuple[str, displayrules.Shown]]:
    """What the rules say for each number of the page."""
    rules = web.rules_of(arrival.site)
    return [
        (
            target,
            displayrules.decide(rules, facts, target=target, consent=arrival.consent, is_bot=arrival.is_bot),
        )
        for target in web.sites[arrival.site].targets
    ]


def facts_of(arrival: Arrival, found: Opened, known: visits.Known | None) -> displayrules.Facts:
    """How the visit is judged: by the touch it goes on from, so that a visitor keeps a number on every page."""
    touch = found.visit
    if not touch.is_touch and known is not None and known.touch is not None:
        touch = known.touch
    return displayrules.Facts(touch.landing, touch.touch.came, touch.touch.source, arrival.place)


def passing_facts(arrival: Arrival, web: webbook.WebBook) -> displayrules.Facts:
    """Of a visitor of whom nothing is kept: this very page."""
    landing, came = classified(arrival, web)
    return displayrules.Facts(landing, came, displayrules.source_of(web.source_rules, landing, came), arrival.place)
