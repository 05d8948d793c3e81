"""Web sites, number pools, display rules and rules of sources: the part of the routing file that browsers see."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.config import tables
from gateway.core import book, displayrules, numbers, pool, traffic, webbook
from gateway.core.traffictables import Kind, Tables

MAX_PATTERN = 200
MAX_BLOCK = 1_000

_HOST = re.compile(r"(?!www\.)(?:[a-z0-9-]{1,63}\.)+[a-z0-9-]{2,63}|localhost")
_HOST_SHAPE = "a host's name in lower case without www., like clinic.example"
_ADDRESS = re.compile(r"https?://(?:[a-z0-9-]{1,63}\.)*[a-z0-9-]{1,63}(?::[0-9]{1,5})?/(?:[A-Za-z0-9._~-]{1,63}/){0,5}")
_ADDRESS_SHAPE = "an address with its final slash, like https://calls.clinic.example/"
_BLOCK = re.compile(r"(.+?)\s*\.\.\s*(.+)")
_RULED_BY_BROWSER = tuple(kind.value for kind in Kind if kind is not Kind.OWN)

Sources = Callable[[tuple[str, ...]], frozenset[str]]
"""Keys of sources with those of all their sub-sources (R106)."""


def read_site(table: tables.Table, site: book.Site) -> webbook.WebSite | None:
    """The `[site.web]` of a site's table; None when it has none."""
    web = table.table("web")
    if web is None:
        return None
    hosts = tuple(_hosts(web, "hosts"))
    if not web.raw.get("hosts"):
        web.wrong("hosts", "is missing: whose pages may ask for numbers")
    targets = {site.business_number: ()} if site.business_number is not None else {}
    read = webbook.WebSite(
        hosts=hosts,
        shared_hosts=tuple(_hosts(web, "shared_hosts")),
        targets=_targets(web, site.country) or targets,
        asking=web.choice("asking", webbook.Asking, webbook.Asking.PENDING),
        beat_seconds=web.whole("beat_seconds", webbook.BEAT_SECONDS, 5, 120),
        window_days=web.whole("window_days", webbook.WINDOW_DAYS, 1, 365),
        pages=tuple(_addresses(web, hosts)),
        script_address=web.matching("script_address", _ADDRESS, _ADDRESS_SHAPE),
    )
    if not read.targets:
        web.wrong("targets", "is missing: the site has no business_number that could be replaced on its pages")
    web.refuse_unknown()
    return read


def source_rules(table: tables.Table, source: str, known: Tables) -> Iterator[displayrules.SourceRule]:
    """The `[[source.visits]]` of a source's table, each a condition that makes a visit the source's (R24)."""
    for inner in table.tables("visits"):
        condition = displayrules.Condition(**_of_visit(inner, known))
        if condition == displayrules.Condition():
            inner.wrong(None, "holds for every visit: give utm, kinds, click_ids, referrers or landing_pages")
        inner.refuse_unknown()
        yield displayrules.SourceRule(source, condition)


def refuse_mixed_cost_lines(read_sources: Mapping[str, tuple[tables.Table, book.Source]]) -> None:
    """Note sources of different campaign types with one cost line: what a call cost could not be told (R10, R13)."""
    taken: dict[str, book.Source] = {}
    for table, source in read_sources.values():
        first = taken.setdefault(source.booked_on, source)
        if first.campaign_type is not source.campaign_type:
            table.wrong(
                "cost_line",
                f"'{tables.shown(source.booked_on)}' is that of {first.key}, which is {first.campaign_type.value}: "
                f"{source.campaign_type.value} campaigns are booked on a line of their own",
            )


@dataclass(slots=True)
class Reader:
    """Reads pools and display rules, and sees to it that no number is used twice."""

    sites: Mapping[str, book.Site]
    default_site: book.Site
    routes: Mapping[str, book.Route]
    sources: Mapping[str, book.Source]
    sources_under: Sources
    traffic: Tables
    numbers: dict[str, book.TrackingNumber]
    """By digits; grows by the pools' numbers."""
    web_sites: Mapping[str, webbook.WebSite]
    pools: dict[str, webbook.NumberPool] = field(default_factory=dict)
    rules: dict[str, list[tuple[tables.Table, displayrules.DisplayRule]]] = field(default_factory=dict)

    def read_pool(self, table: tables.Table, key: str) -> None:
        """One `[[pool]]`, with its numbers as tracking numbers."""
        if table.take("route") is None:
            table.wrong("route", "is missing")
        route = self.routes.get(table.reference("route", self.routes, "route") or "")
        site = self._site(table, route)
        if not table.raw.get("numbers"):
            table.wrong("numbers", "is missing: a pool needs numbers")
        members = tuple(
            number
            for index, number in _numbers(table, "numbers", site.country)
            if self._take(table, "numbers", number, key, index)
        )
        overflow = table.number("overflow", site.country)
        source = table.reference("overflow_source", self.sources, "source")
        if overflow is not None and not self._take(table, "overflow", overflow, key, None):
            overflow = None
        if source is not None and overflow is None and "overflow" not in table.raw:
            table.wrong("overflow_source", "says nothing in a pool without overflow")
        read = webbook.NumberPool(key, site.key, route.key if route else "", members, overflow, _freeze(table))
        label = table.text("label")
        table.refuse_unknown()
        if len(members) > webbook.MAX_POOL:
            table.wrong("numbers", f"at most {webbook.MAX_POOL} numbers, not {len(members)}")
        self.pools[key] = read
        for number in members:
            self.numbers[number[1:]] = book.TrackingNumber(
                number, read.route, book.TrackingKind.POOL, label=label, pool=key
            )
        if overflow is not None:
            self.numbers[overflow[1:]] = book.TrackingNumber(
                overflow, read.route, book.TrackingKind.OVERFLOW, source=source, label=label, pool=key
            )

    def _take(self, table: tables.Table, name: str, number: str, key: str, index: tables.Index) -> bool:
        """Whether `number` is nobody else's; else an error there (R46)."""
        known = self.numbers.get(number[1:])
        own = [one.key for one in self.sites.values() if one.business_number == number]
        if own:
            message = f"{number} is the own number of site {own[0]}"
        elif pages := [site for site, one in self.web_sites.items() if number in one.targets]:
            message = f"{number} stands on the pages of site {pages[0]} (targets): everybody would call it"
        elif known is None:
            # Taken at once, so that the next table sees it; replaced when the pool is read.
            self.numbers[number[1:]] = book.TrackingNumber(number, "", book.TrackingKind.POOL, pool=key)
            return True
        elif known.pool is not None:
            where = "this pool" if known.pool == key else f"pool {known.pool}"
            message = f"{number} stands in {where} already"
        else:
            message = f"{number} is also a [[tracking_number]]: its calls would be some visitor's"
        table.wrong(name, message, index=index)
        return False

    def read_rule(self, table: tables.Table, key: str) -> None:
        """One `[[display_rule]]`."""
        shown = self.pools.get(table.reference("pool", self.pools, "pool") or "")
        site = self._site(table, None, self.sites.get(shown.site) if shown is not None else None)
        number = table.number("number", site.country)
        if ("number" in table.raw) == ("pool" in table.raw):
            table.wrong(None, "needs a number or a pool, and not both")
        if number is not None and self._kind(number) is not book.TrackingKind.STATIC:
            known = [one.number for one in self.numbers.values() if one.kind is book.TrackingKind.STATIC]
            message = f"{number} is no [[tracking_number]]: its calls would be nobody's"
            table.wrong("number", message, word=number, choices=known)
        if shown is not None and shown.site != site.key:
            table.wrong("pool", f"pool {shown.key} is of site {shown.site}")
        rule = displayrules.DisplayRule(
            key=key,
            condition=self._condition(table),
            number=number,
            pool=shown.key if shown is not None else None,
            target=self._target(table, site) or "",
        )
        table.refuse_unknown()
        if number is not None or shown is not None:
            self.rules.setdefault(site.key, []).append((table, rule))

    def _target(self, table: tables.Table, site: book.Site) -> str | None:
        target = table.number("target", site.country)
        web = self.web_sites.get(site.key)
        if target is not None and web is not None and target not in web.targets:
            message = f"{target} is none of the site's targets: it is not looked for on its pages"
            table.wrong("target", message, word=target, choices=web.targets)
        return target

    def refuse_unreachable(self) -> None:
        """Note rules that are never reached because another takes all their visits."""
        for known in self.rules.values():
            ordered = sorted(known, key=lambda one: one[1].rank)
            for place, (table, rule) in enumerate(ordered):
                for _, earlier in ordered[:place]:
                    found = [one for one in displayrules.overlaps((earlier, rule)) if one.is_error]
                    if found:
                        table.wrong(None, found[0].message)
                        break

    def finished(
        self, sites: Mapping[str, webbook.WebSite], source_rules: Iterable[displayrules.SourceRule]
    ) -> webbook.WebBook:
        """The web part of the book."""
        rules = {site: tuple(rule for _, rule in known) for site, known in self.rules.items()}
        return webbook.WebBook(sites, self.pools, rules, tuple(source_rules), self.traffic)

    def _site(self, table: tables.Table, route: book.Route | None, other: book.Site | None = None) -> book.Site:
        named = self.sites.get(table.reference("site", self.sites, "site") or "")
        if named is not None and route is not None and route.site != named.key:
            table.wrong("route", f"route {route.key} is of site {route.site}, not of {named.key}")
        implied = self.sites.get(route.site) if route is not None else other
        return named or implied or self.default_site

    def _kind(self, number: str) -> book.TrackingKind | None:
        known = self.numbers.get(number[1:])
        return known.kind if known is not None else None

    def _condition(self, table: tables.Table) -> displayrules.Condition:
        named = table.references("sources", self.sources, "source")
        countries = set()
        for index, country in enumerate(table.texts("countries")):
            if not numbers.is_country(country):
                message = "must be a country code like RU"
                table.wrong("countries", message, index=index, word=country.upper(), choices=_country(country))
            countries.add(country)
        return displayrules.Condition(
            sources=self.sources_under(named) if named else frozenset(),
            countries=frozenset(countries),
            cities=frozenset(_patterns(table, "cities")),
            **_of_visit(table, self.traffic),
        )


def _of_visit(table: tables.Table, known: Tables) -> dict[str, Any]:
    """What rules of sources and display rules can both ask of a visit, by the names of `displayrules.Condition`."""
    return {
        "kinds": frozenset(Kind(kind) for kind in table.references("kinds", _RULED_BY_BROWSER, "kind of traffic")),
        "utm": _utm(table),
        "click_ids": frozenset(table.references("click_ids", known.parameters, "click id")),
        "referrers": tuple(_patterns(table, "referrers")),
        "landing_pages": tuple(_pages(table)),
    }


def _freeze(table: tables.Table) -> pool.Freeze:
    usual = pool.Freeze()
    seconds = table.optional_whole("freeze_seconds", 10, 86_400)
    mode = table.choice("freeze", pool.FreezeMode, pool.FreezeMode.FIXED if seconds is not None else usual.mode)
    if seconds is not None and mode is not pool.FreezeMode.FIXED:
        table.wrong("freeze_seconds", f'says nothing with freeze = "{mode.value}"')
    if seconds is None and mode is pool.FreezeMode.FIXED and "freeze_seconds" not in table.raw:
        table.wrong("freeze", "needs freeze_seconds")
    low = table.whole("freeze_min_seconds", round(usual.min_seconds), 0, 86_400)
    high = table.whole("freeze_max_seconds", round(usual.max_seconds), 0, 86_400)
    if low > high:
        table.wrong("freeze_min_seconds", f"is above freeze_max_seconds, which is {high}")
    if mode is pool.FreezeMode.FIXED:
        # What is said is meant.
        low, high = 0, 86_400
    return pool.Freeze(
        mode=mode,
        fixed_seconds=float(seconds if seconds is not None else usual.fixed_seconds),
        soft=bool(table.flag("freeze_soft")),
        min_seconds=float(low),
        max_seconds=float(high),
    )


def _numbers(table: tables.Table, name: str, country: str) -> Iterator[tuple[int, str]]:
    """Numbers, and blocks of numbers (`+74990000100..+74990000119`), with their place in the list."""
    for index, written in enumerate(table.texts(name)):
        block = _BLOCK.fullmatch(written)
        if block is None:
            number = table.valid_number(name, written, country, index)
            if number is not None:
                yield index, number
            continue
        first = table.valid_number(name, block[1], country, index)
        last = table.valid_number(name, block[2], country, index)
        if first is None or last is None:
            continue
        count = int(last[1:]) - int(first[1:]) + 1
        if len(first) != len(last) or not 1 <= count <= MAX_BLOCK:
            table.wrong(name, f"a block goes from a number up to a higher one, at most {MAX_BLOCK}", index=index)
            continue
        yield from ((index, f"+{int(first[1:]) + place}") for place in range(count))


def _targets(table: tables.Table, country: str) -> dict[str, tuple[str, ...]]:
    """`targets`: a list of numbers, or a table of numbers with lists of other writings."""
    raw = table.take("targets")
    if not isinstance(raw, dict):
        written = [(index, one) for index, one in enumerate(table.texts("targets"))]
        found = (table.valid_number("targets", one, country, index) for index, one in written)
        return {number: () for number in found if number is not None}
    inner = table.table("targets")
    read: dict[str, tuple[str, ...]] = {}
    for one in raw if inner is not None else ():
        assert inner is not None
        number = inner.valid_number(one, one, country)
        writings = tuple(_patterns(inner, one))
        if number is not None:
            read[number] = writings
    return read


def _hosts(table: tables.Table, name: str) -> Iterator[str]:
    for index, host in enumerate(table.texts(name)):
        if _HOST.fullmatch(host):
            yield host
        else:
            guess = host.lower().removeprefix("https://").removeprefix("www.").strip("/")
            table.wrong(name, f"must be {_HOST_SHAPE}", index=index, word=guess, choices=(guess,))


def _addresses(table: tables.Table, hosts: Collection[str]) -> Iterator[str]:
    """`pages`: whole addresses on the site's hosts."""
    for index, page in enumerate(table.texts("pages")):
        host = traffic.parts(page)[0]
        if not page.startswith(("https://", "http://")) or not page.isprintable() or " " in page:
            table.wrong("pages", "must be whole addresses, like https://clinic.example/implants", index=index)
        elif host not in hosts:
            table.wrong("pages", f"{host or 'nobody'} is not among the hosts", index=index, word=host, choices=hosts)
        else:
            yield page


def _utm(table: tables.Table) -> dict[str, str]:
    inner = table.table("utm")
    if inner is None:
        return {}
    names = {name.removeprefix("utm_"): name for name in traffic.UTM}
    found: dict[str, str] = {}
    for name in inner.raw:
        pattern = inner.text(name, max_length=MAX_PATTERN)
        if name.removeprefix("utm_") not in names:
            inner.wrong(name, "there is no such utm parameter", word=name, choices=names)
        elif pattern is not None:
            found[names[name.removeprefix("utm_")]] = pattern
    if not inner.raw:
        table.wrong("utm", "must not be empty")
    return found


def _patterns(table: tables.Table, name: str) -> Iterator[str]:
    for index, pattern in enumerate(table.texts(name)):
        if pattern.strip() and len(pattern) <= MAX_PATTERN and pattern.isprintable():
            yield pattern
        else:
            table.wrong(name, f"must hold texts of 1 to {MAX_PATTERN} printable characters", index=index)


def _pages(table: tables.Table) -> Iterator[str]:
    for index, page in enumerate(_patterns(table, "landing_pages")):
        if not page.startswith(("/", "*")):
            table.wrong("landing_pages", "must begin with / or *, like /implants*", index=index)
        yield page


def _country(written: str) -> tuple[str, ...]:
    return (written.upper(),) if numbers.is_country(written.upper()) else ()
