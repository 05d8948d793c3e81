"""The routing file: `routing.toml` read into a `book.Book`, or refused with all its errors at once.

The stored document is the text itself, so that comments survive: export gives back what was applied. The reference of
the file for telecom admins is `docs/routing.md`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gateway.config import (
    audiences,
    destinations,
    integrations,
    limits,
    outgoing,
    routes,
    rules,
    sections,
    shipped,
    tables,
    timetables,
    trunks,
    webrules,
)
from gateway.config.difference import difference
from gateway.config.problems import Problems, RoutingError, RoutingErrors
from gateway.core import book, displayrules, prompts, receivers, regions, traffictables, webbook
from gateway.core import rules as scoring_rules

__all__ = ["MAX_CHARACTERS", "RoutingError", "RoutingErrors", "difference", "file_revision", "parse"]

MAX_CHARACTERS = 8_000_000
"""10,000 tracking numbers take about 1,500,000."""

_ERROR_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column \d+|end of document)\)$")
_CONTEXT = re.compile(r"[A-Za-z0-9_-]{1,79}")


def parse(
    text: str,
    revision: int,
    *,
    consent_regions: regions.RegionTable | None = None,
    words: prompts.Catalogue | None = None,
    traffic: traffictables.Tables | None = None,
) -> book.Book:
    """The book that `text` says, numbered `revision`, with the law's table, the prompts' texts and the tables of
    traffic sources: the shipped ones unless others are given.

    Raises `RoutingErrors` and nothing else, whatever the text is: one error for text that is no TOML, else every error
    of the file.
    """
    document = _document(text)
    found = Problems()
    root = tables.Table(document, (), "", found)
    made = _Reading(root, revision, shipped.traffic() if traffic is None else traffic).finished()
    found.raise_if_any(text)
    return replace(
        made,
        regions=shipped.consent_regions() if consent_regions is None else consent_regions,
        words=shipped.catalogue() if words is None else words,
    )


def file_revision(text: str) -> int | None:
    """The `revision` the file says it was made from; None if it says none or is no TOML."""
    try:
        value = _document(text).get("revision")
    except RoutingErrors:
        return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _document(text: str) -> dict[str, Any]:
    if len(text) > MAX_CHARACTERS:
        raise RoutingErrors([RoutingError(1, "", f"the file has more than {MAX_CHARACTERS} characters")])
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise RoutingErrors([RoutingError(1, "", "lists or tables are nested too deeply")]) from None
    except ValueError as error:
        raise RoutingErrors([_syntax_error(text, str(error))]) from None


def _syntax_error(text: str, message: str) -> RoutingError:
    """`tomllib` tells the place in its message only."""
    place = _ERROR_PLACE.search(message)
    if place is None:
        return RoutingError(1, "", f"this is not TOML: {message}")
    line = int(place["line"]) if place["line"] else text.count("\n") + 1
    return RoutingError(line, "", f"this is not TOML: {message[: place.start()]}")


class _Reading:
    """One pass over the document, in the order in which tables refer to each other."""

    def __init__(self, root: tables.Table, revision: int, traffic: traffictables.Tables) -> None:
        self._root = root
        self._traffic = traffic
        self._source_rules: list[displayrules.SourceRule] = []
        self._revision = revision
        self._site_tables = self._keyed("site", "site")
        if not self._site_tables:
            root.wrong(None, "has no [[site]]")
        contexts = self._contexts()
        self._trunks = self._read_trunks()
        self._web_sites: dict[str, webbook.WebSite] = {}
        self._sites = {key: sections.read_site(table, key, self._trunks) for key, table in self._site_tables.items()}
        for key, table in self._site_tables.items():
            if (web := webrules.read_site(table, self._sites[key])) is not None:
                self._web_sites[key] = web
        self._default_site = next(iter(self._sites.values()), _NO_SITE)
        self._sources = self._read_sources()
        self._agents = self._read_agents()
        self._hours = {
            key: timetables.read(table, key, self._default_site.time_zone)
            for key, table in self._keyed("hours", "hours").items()
        }
        self._destinations = destinations.Destinations(self._trunks, self._agents, contexts)
        self._local_contexts = contexts

    def finished(self) -> book.Book:
        self._read_destinations()
        sites = {site.key: site for site in self._with_default_destinations()}
        hours_declared = frozenset(self._hours)
        around = routes.Surroundings(
            sites,
            self._trunks,
            self._sources,
            self._destinations,
            self._hours,
            hours_declared,
            self._agents,
            self._default_site,
        )
        route_tables = self._keyed("route", "route")
        read_routes = {key: routes.read(table, key, around) for key, table in route_tables.items()}
        numbers = self._read_tracking_numbers(read_routes)
        web = self._read_web(sites, around, read_routes, numbers)
        bans = self._read_bans()
        told = self._read_receivers()
        known = audiences.Known(sites, read_routes, self._sources, around.sources_under)
        audience_tables = self._keyed("audience", "audience")
        scoring = self._read_rules(around, read_routes)
        self._root.optional_whole("revision", 0, 2**31 - 1)
        self._root.refuse_unknown()
        made = book.Book(
            revision=self._revision,
            sites=sites,
            trunks=self._trunks,
            sources=self._sources,
            agents=self._agents,
            destinations=self._destinations.by_key,
            hours=self._hours,
            routes=read_routes,
            tracking_numbers=numbers,
            bans=bans,
            local_contexts=self._local_contexts,
            web=web,
            receivers=told,
            audiences={key: audiences.read(table, key, known) for key, table in audience_tables.items()},
            scoring=scoring,
        )
        _refuse_large_routes(made, route_tables)
        return made

    def _keyed(self, name: str, what: str) -> dict[str, tables.Table]:
        """The tables `[[name]]` by their keys. A table without a usable key gets a stand-in that nothing can name, so
        that its other errors are found too."""
        by_key: dict[str, tables.Table] = {}
        for index, table in enumerate(self._root.tables(name)):
            key = table.take("key")
            if key is None:
                table.wrong("key", "is missing")
            elif not isinstance(key, str) or not tables.KEY.fullmatch(key):
                table.wrong("key", "must be 1 to 24 of a-z 0-9 -, not beginning with -")
            elif key in by_key:
                table.wrong("key", f"there are two {what} tables with key '{key}'")
            else:
                by_key[key] = table
                continue
            by_key[f"#{index}"] = table
        return by_key

    def _contexts(self) -> frozenset[str]:
        local = self._root.table("local")
        if local is None:
            return frozenset()
        contexts: set[str] = set()
        for index, context in enumerate(local.texts("contexts")):
            if destinations.is_reserved(context):
                local.wrong("contexts", "contexts of Dialmark itself cannot be destinations", index=index)
            elif not _CONTEXT.fullmatch(context):
                local.wrong("contexts", "must be names of dialplan contexts", index=index)
            contexts.add(context)
        local.refuse_unknown()
        return frozenset(contexts)

    def _read_trunks(self) -> dict[str, book.Trunk]:
        first = next(iter(self._site_tables.values()), None)
        country = first.raw.get("country") if first is not None else None
        default_country = country if isinstance(country, str) else ""
        read = {
            key: (table, trunks.read(table, key, default_country))
            for key, table in self._keyed("trunk", "trunk").items()
        }
        trunks.refuse_clashes(read)
        return {key: trunk for key, (_, trunk) in read.items()}

    def _read_sources(self) -> dict[str, book.Source]:
        by_key = self._keyed("source", "source")
        declared = frozenset(by_key)
        read = {}
        for key, table in by_key.items():
            self._source_rules += webrules.source_rules(table, key, self._traffic)
            read[key] = table, sections.read_source(table, key, declared)
        sections.refuse_circles(read)
        webrules.refuse_mixed_cost_lines(read)
        return {key: source for key, (_, source) in read.items()}

    def _read_agents(self) -> dict[str, book.Agent]:
        read = {key: (table, sections.read_agent(table, key)) for key, table in self._keyed("agent", "agent").items()}
        sections.refuse_shared_endpoints(read)
        return {key: agent for key, (_, agent) in read.items()}

    def _read_destinations(self) -> None:
        by_key = self._keyed("destination", "destination")
        self._destinations.declare(frozenset(by_key))
        site = self._default_site
        for key, table in by_key.items():
            self._destinations.read(table, key, site.country, site.outbound_trunk)

    def _with_default_destinations(self) -> Iterator[book.Site]:
        for key, table in self._site_tables.items():
            site = self._sites[key]
            written = table.text("default_destination")
            named = None
            if written is not None:
                named = self._destinations.named(
                    table, "default_destination", written, site.country, site.outbound_trunk
                )
            yield replace(site, default_destination=named or "")

    def _read_tracking_numbers(self, read_routes: dict[str, book.Route]) -> dict[str, book.TrackingNumber]:
        declared = frozenset(read_routes)
        countries = {key: self._sites.get(route.site, self._default_site).country for key, route in read_routes.items()}
        by_digits: dict[str, book.TrackingNumber] = {}
        for table in self._root.tables("tracking_number"):
            number = sections.read_tracking_number(table, declared, countries, self._sources)
            if number is None:
                continue
            if number.number[1:] in by_digits:
                table.wrong("number", f"{number.number} stands in another [[tracking_number]] already")
            by_digits.setdefault(number.number[1:], number)
        return by_digits

    def _read_web(
        self,
        sites: dict[str, book.Site],
        around: routes.Surroundings,
        read_routes: dict[str, book.Route],
        numbers: dict[str, book.TrackingNumber],
    ) -> webbook.WebBook:
        reader = webrules.Reader(
            sites=sites,
            default_site=self._default_site,
            routes=read_routes,
            sources=self._sources,
            sources_under=around.sources_under,
            traffic=self._traffic,
            numbers=numbers,
            web_sites=self._web_sites,
        )
        for key, table in self._keyed("pool", "pool").items():
            reader.read_pool(table, key)
        for key, table in self._keyed("display_rule", "display rule").items():
            reader.read_rule(table, key)
        reader.refuse_unreachable()
        return reader.finished(self._web_sites, self._source_rules)

    def _read_rules(self, around: routes.Surroundings, read_routes: dict[str, book.Route]) -> scoring_rules.Scoring:
        known = rules.Known(
            sources=self._sources,
            sources_under=around.sources_under,
            agents=frozenset(self._agents),
            routes=frozenset(read_routes),
            hours=around.hours_declared,
        )
        by_key = self._keyed("rule", "rule")
        read = {key: rules.read(table, key, known) for key, table in by_key.items()}
        return rules.scoring(self._root, read)

    def _read_receivers(self) -> receivers.Receivers:
        webhooks = {key: outgoing.read_webhook(table, key) for key, table in self._keyed("webhook", "webhook").items()}
        brokers = {key: outgoing.read_broker(table, key) for key, table in self._keyed("broker", "broker").items()}
        told = {key: integrations.read(table, key) for key, table in self._keyed("integration", "integration").items()}
        inbound = {key: outgoing.read_inbound(table, key) for key, table in self._keyed("inbound", "inbound").items()}
        return receivers.Receivers(webhooks, brokers, told, inbound)

    def _read_bans(self) -> tuple[book.Ban, ...]:
        by_number: dict[str, book.Ban] = {}
        for table in self._root.tables("ban"):
            ban = sections.read_ban(table, self._default_site)
            if ban is None:
                continue
            if ban.number in by_number:
                table.wrong("number", f"{ban.number} stands in another [[ban]] already")
            by_number.setdefault(ban.number, ban)
        return tuple(by_number.values())


_NO_SITE = book.Site("", "", "UTC", "", "en", "")


def _refuse_large_routes(made: book.Book, route_tables: dict[str, tables.Table]) -> None:
    widest: dict[str, book.TrackingNumber] = {}
    for number in made.tracking_numbers.values():
        known = widest.setdefault(number.route, number)
        if _label_length(made, number) > _label_length(made, known):
            widest[number.route] = number
    for key, route in made.routes.items():
        if not limits.is_whole(route, made):
            continue
        for message in limits.problems(route, made, widest.get(key)):
            route_tables[key].wrong(None, f"route {key} {message}")


def _label_length(made: book.Book, number: book.TrackingNumber) -> int:
    source = made.sources.get(number.source or "")
    return len(source.name) if source is not None else 0
