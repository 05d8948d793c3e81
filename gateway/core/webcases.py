"""Visits that a check of the web pages makes up (R28, R40): one for each way in which the rules tell visits apart.

A case is made of a condition: tags for its UTM patterns, a click id, a referrer, a page, a place. It is taken only if
the condition really holds for it, so that nothing is checked by a visit of another kind.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from gateway.core import displayrules, traffic
from gateway.core.displayrules import Condition, DisplayRule, Facts, Place
from gateway.core.traffictables import Kind, Row, Tables
from gateway.core.webbook import WebBook

SAMPLE = "dialmark-check"
SAMPLE_DIGITS = "1234567890123456789"
UNTAGGED = "no tags"
AS_GIVEN = "as given"

_KINDS_BY_REFERRER = ("search", "social", "ai", "email", "messenger")


@dataclass(frozen=True, slots=True)
class Case:
    """One visit: an address with its tags, where it comes from, and what it stands for."""

    site: str
    url: str
    name: str
    referrer: str = ""
    country: str | None = None
    city: str | None = None

    @property
    def place(self) -> Place:
        """Where the visitor is said to be."""
        return Place(self.country, (self.city,) if self.city is not None else ())


@dataclass(frozen=True, slots=True)
class Cases:
    """What is to be opened, and which rules no visit could be made up for."""

    cases: tuple[Case, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Way:
    """How somebody comes to a page."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    referrer: str = ""


def site_of(web: WebBook, url: str) -> str | None:
    """The site whose page an address is; None: nobody's."""
    host = traffic.parts(url)[0]
    return next((key for key, site in web.sites.items() if site.serves(host)), None)


def usual_pages(web: WebBook, site: str) -> list[str]:
    """The pages that are checked when none is named: those of the book, else the front page of each host."""
    known = web.sites[site]
    return list(known.pages or (f"https://{host}/" for host in known.hosts))


def of_site(web: WebBook, site: str, pages: Sequence[str]) -> Cases:
    """Every page without tags, with those of each source, and as each display rule asks for. A page whose address has
    tags is an ad's link, and is opened as it is."""
    found: dict[tuple[str, str, Place], Case] = {}
    left_out = []
    plain = []
    for page in pages:
        tags = traffic.landing(page, "", {}, web.traffic).parameters
        _keep(found, Case(site, page, AS_GIVEN if tags else UNTAGGED))
        plain += [] if tags else [page]
    for name, condition in _conditions(web, site) if plain else ():
        made = list(_of_condition(web, site, name, condition, plain))
        for case in made:
            _keep(found, case)
        if not made:
            left_out.append(name)
    return Cases(tuple(found.values()), tuple(dict.fromkeys(left_out)))


def expected(web: WebBook, case: Case, url: str | None = None) -> dict[str, displayrules.Shown]:
    """What the rules say for each number of the page; `url`: where the visit really began, after redirects."""
    facts = facts_of(web, case, url)
    rules = web.rules_of(case.site)
    return {target: displayrules.decide(rules, facts, target=target) for target in web.sites[case.site].targets}


def facts_of(web: WebBook, case: Case, url: str | None = None) -> Facts:
    """The visit as the rules see it."""
    site = web.sites[case.site]
    landing = traffic.landing(case.url if url is None else url, case.referrer, {}, web.traffic)
    came = traffic.classify(landing, web.traffic, (*site.hosts, *site.shared_hosts))
    return Facts(landing, came, displayrules.source_of(web.source_rules, landing, came), case.place)


def _keep(found: dict[tuple[str, str, Place], Case], case: Case) -> None:
    found.setdefault((case.url, case.referrer, case.place), case)


def _conditions(web: WebBook, site: str) -> Iterator[tuple[str, Condition]]:
    """Names and conditions of the sources' visits and of the site's display rules."""
    numbers: dict[str, itertools.count[int]] = {}
    for rule in web.source_rules:
        place = next(numbers.setdefault(rule.source, itertools.count(1)))
        yield f"source {rule.source}" + (f" ({place})" if place > 1 else ""), rule.condition
    for display in web.rules_of(site):
        for condition in _with_sources(display, web.source_rules):
            yield f"rule {display.key}", condition


def _with_sources(rule: DisplayRule, sources: Iterable[displayrules.SourceRule]) -> list[Condition]:
    """What a rule asks of a visit, joined with what makes the visit one of its sources."""
    asked = rule.condition
    if not asked.sources:
        return [asked]
    return [_joined(asked, one.condition) for one in sources if one.source in asked.sources]


def _joined(one: Condition, other: Condition) -> Condition:
    return replace(
        one,
        kinds=one.kinds & other.kinds if one.kinds and other.kinds else one.kinds | other.kinds,
        utm={**other.utm, **one.utm},
        click_ids=one.click_ids or other.click_ids,
        referrers=one.referrers or other.referrers,
        landing_pages=one.landing_pages or other.landing_pages,
    )


def _of_condition(web: WebBook, site: str, name: str, condition: Condition, pages: Sequence[str]) -> Iterator[Case]:
    country = min(condition.countries, default=None)
    city = min(condition.cities, default=None)
    for page in _pages(condition, pages):
        for way in _ways(condition, web.traffic):
            case = Case(site, _tagged(page, way.parameters), name, way.referrer, country, city)
            if displayrules.holds(condition, facts_of(web, case)):
                yield case
                break


def _pages(condition: Condition, pages: Sequence[str]) -> list[str]:
    """The pages themselves, or for a condition that names pages those, on the host of the first."""
    if not condition.landing_pages:
        return list(pages)
    scheme, _, rest = pages[0].partition("://")
    host = rest.partition("/")[0]
    # `/implants*`: the page that the beginning is the address of. `*/price` could be anywhere.
    known = [pattern.rstrip("*").rstrip("?") for pattern in condition.landing_pages]
    return [f"{scheme}://{host}{path}" for path in known if path.startswith("/") and "*" not in path]


def _ways(condition: Condition, tables: Tables) -> Iterator[_Way]:
    """Tags and referrers that a condition may hold for, the likeliest first."""
    tags = {name: _sample(pattern) for name, pattern in condition.utm.items()}
    ids = [{}] if not condition.click_ids else [{name: _id(name, tables)} for name in sorted(condition.click_ids)]
    referrers = [_address(pattern) for pattern in condition.referrers] or [""]
    for click, referrer in itertools.product(ids, referrers):
        yield _Way({**tags, **click}, referrer)
    for kind in sorted(condition.kinds):
        for way in _of_kind(kind, tables):
            yield _Way({**way.parameters, **tags, **ids[0]}, referrers[0] or way.referrer)


def _of_kind(kind: Kind, tables: Tables) -> Iterator[_Way]:
    """Ways by which traffic of a kind comes: over an address that the tables know, or by a tag."""
    if kind is Kind.REFERRAL:
        yield _Way({}, "https://referral.example/")
    if kind in _KINDS_BY_REFERRER:
        yield from (_Way({}, _address(host)) for host in _hosts(kind, tables))
    words = [row.match.rstrip("*") for row in tables.mediums.values() if row.medium is kind]
    yield from (_Way({"utm_source": SAMPLE, "utm_medium": word}) for word in words)
    yield from (_Way({row.match: _id(row.match, tables)}) for row in tables.parameters.values() if row.medium is kind)
    if kind is Kind.OTHER:
        yield _Way({"utm_source": SAMPLE})


def _hosts(kind: Kind, tables: Tables) -> Iterator[str]:
    rows: Iterator[Row] = (row for rows in tables.hosts.values() for row in rows)
    names = [row.match for row in rows if row.kind == kind.value and not row.match.startswith("android-app:")]
    # Browsers tell another site the host alone.
    names.sort(key=lambda name: "/" in name)
    yield from itertools.islice((name.replace(".*", ".com") for name in names), 3)


def _id(name: str, tables: Tables) -> str:
    row = tables.parameters.get(name)
    if row is None or not row.detail:
        return SAMPLE
    return SAMPLE_DIGITS if row.detail == "digits" else SAMPLE[: int(row.detail)]


def _sample(pattern: str) -> str:
    """A text that a pattern fits, in the writing of the pattern."""
    return pattern.replace("*", "") or SAMPLE


def _address(pattern: str) -> str:
    host, slash, path = pattern.partition("/")
    return f"https://{host}/{_sample(path) if slash and path else ''}"


def _tagged(page: str, parameters: Mapping[str, str]) -> str:
    if not parameters:
        return page
    address, mark, fragment = page.partition("#")
    joint = "&" if "?" in address else "?"
    return f"{address}{joint}{urlencode(parameters)}{mark}{fragment}"
