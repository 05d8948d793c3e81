"""Routes of the routing file, with their exceptions and hours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config import destinations, handling, tables, ticketsettings, timetables
from gateway.core import book, numbers

PROMPT = re.compile(r"@[a-z][a-z0-9_]{0,39}|(?!@|.*\.\.)[A-Za-z0-9_.+/@-]{1,200}")
PROMPT_SHAPE = (
    "a sound's name or absolute path without extension, of A-Z a-z 0-9 _ . + / @ -, or @ and the key of a prompt"
)

_AREA_CODE = re.compile(r"\+[1-9][0-9]{0,11}")
_Groups = tuple[tuple[str, ...], ...]


@dataclass(slots=True)
class Surroundings:
    """What a route may refer to. `hours` grows by the timetables that routes bring inline."""

    sites: Mapping[str, book.Site]
    trunks: Mapping[str, book.Trunk]
    sources: Mapping[str, book.Source]
    destinations: destinations.Destinations
    hours: dict[str, book.BusinessHours]
    hours_declared: frozenset[str]
    agents: Mapping[str, book.Agent]
    default_site: book.Site

    def sources_under(self, keys: tuple[str, ...]) -> frozenset[str]:
        """The sources with all their sub-sources: a condition on radio holds for each station (R106)."""
        under = set(keys)
        grows = True
        while grows:
            more = {source.key for source in self.sources.values() if source.parent in under} - under
            under |= more
            grows = bool(more)
        return frozenset(under)


def read(table: tables.Table, key: str, around: Surroundings) -> book.Route:
    """The route in `table`."""
    site = around.sites.get(table.reference("site", around.sites, "site") or "", around.default_site)
    trunk = table.reference("trunk", around.trunks, "trunk") or site.outbound_trunk
    reader = _Reader(table, key, site, trunk, around)
    strategy = table.choice("strategy", book.Strategy, book.Strategy.ALL)
    hours = reader.hours(table, f"{key}-hours")
    after_hours_destinations = reader.groups(table, "after_hours_destinations")
    route = book.Route(
        key=key,
        site=site.key,
        forward=reader.forward(table, strategy),
        strategy=strategy,
        reserve=reader.groups(table, "reserve"),
        reserve_by_cause=reader.reserve_by_cause(),
        ring_seconds=table.whole("ring_seconds", 20, 3, 300),
        reserve_ring_seconds=table.whole("reserve_ring_seconds", 20, 3, 300),
        longest_wait_seconds=table.whole("longest_wait_seconds", 120, 5, 900),
        sticky_days=table.whole("sticky_days", 0, 0, 3650),
        hours=hours,
        after_hours=_after_hours(table),
        after_hours_destinations=after_hours_destinations,
        after_hours_message=table.matching("after_hours_message", PROMPT, PROMPT_SHAPE),
        concurrency_limit=table.optional_whole("concurrency_limit", 1, 10_000),
        unanswered_message=table.matching("unanswered_message", PROMPT, PROMPT_SHAPE),
        answer_for_message=bool(table.flag("answer_for_message")),
        exceptions=tuple(reader.exceptions(strategy)),
        recording=handling.recording(table),
        consent=handling.overrides(table),
        tell_agent=bool(table.flag("tell_agent")),
        language=handling.language(table),
        whisper=handling.whispers(table),
        accept=handling.accept(table) or book.Acceptance.NONE,
        accept_repeats=table.whole("accept_repeats", 2, 1, 5),
        accept_seconds=table.whole("accept_seconds", 5, 2, 15),
        answering_machine_detection=bool(table.flag("answering_machine_detection")),
        unanswered=table.choice("unanswered", book.Unanswered, book.Unanswered.MESSAGE),
        rating=handling.rated(table),
        tickets=ticketsettings.read(table, around.agents, around.hours_declared, has_hours=hours is not None),
    )
    _refuse_idle_hours(table, route)
    if route.answering_machine_detection and not _asks_anybody(route, around.destinations.by_key):
        table.wrong("answering_machine_detection", 'is for those who must press 1: give accept = "press-1"')
    table.refuse_unknown()
    return route


def _after_hours(table: tables.Table) -> book.AfterHours:
    """What is said, else what the other keys of the route imply."""
    implied = book.AfterHours.RESERVE
    if "after_hours_destinations" in table.raw:
        implied = book.AfterHours.DESTINATIONS
    elif "after_hours_message" in table.raw:
        implied = book.AfterHours.MESSAGE
    return table.choice("after_hours", book.AfterHours, implied)


def _refuse_idle_hours(table: tables.Table, route: book.Route) -> None:
    for name in ("after_hours", "after_hours_destinations", "after_hours_message"):
        if name in table.raw and "hours" not in table.raw:
            table.wrong(name, "says nothing in a route without hours")
            return
    if "hours" not in table.raw:
        return
    match route.after_hours:
        case book.AfterHours.DESTINATIONS if not table.raw.get("after_hours_destinations"):
            table.wrong("after_hours", "needs after_hours_destinations")
        case book.AfterHours.MESSAGE if "after_hours_message" not in table.raw:
            table.wrong("after_hours", "needs after_hours_message")
        case book.AfterHours.RESERVE if not table.raw.get("reserve") and "after_hours_message" not in table.raw:
            table.wrong(
                "hours", "nobody would ring after hours: give reserve, after_hours_destinations or after_hours_message"
            )


def _asks_anybody(route: book.Route, known: Mapping[str, book.Destination]) -> bool:
    """Whether anybody whom the route rings must press 1; a sticky agent's line may be any."""
    groups = [route.forward, *route.reserve, *route.after_hours_destinations]
    groups += [group for by_cause in route.reserve_by_cause.values() for group in by_cause]
    for exception in route.exceptions:
        groups += [exception.forward, *(exception.reserve or ())]
    keys = {key for group in groups for key in group}
    rung = known.values() if route.sticky_days else [known[key] for key in keys if key in known]
    return any((one.accept or route.accept) is book.Acceptance.PRESS_1 for one in rung)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the parts of one route; short forms of destinations go out by `trunk`."""

    table: tables.Table
    key: str
    site: book.Site
    trunk: str | None
    around: Surroundings

    def forward(self, table: tables.Table, strategy: book.Strategy) -> tuple[str, ...]:
        value = table.take("forward")
        if not isinstance(value, list) or not value:
            message = "is missing" if value is None else 'must be a list of destinations, like ["sales-desk"]'
            table.wrong("forward", message)
            return ()
        keys = tuple(self._members(table, "forward", value, ()))
        if strategy is book.Strategy.ALL:
            self._check_group(table, "forward", keys, None)
        return keys

    def groups(self, table: tables.Table, name: str) -> _Groups:
        """A list of steps: a destination, or a list of those that ring together."""
        value = table.take(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            table.wrong(name, 'must be a list of destinations, like ["second-desk", ["a", "b"]]')
            return ()
        return tuple(group for index, step in enumerate(value) if (group := self._group(table, name, index, step)))

    def reserve_by_cause(self) -> dict[book.MissCause, _Groups]:
        inner = self.table.table("reserve_by_cause")
        if inner is None:
            return {}
        by_cause = {cause: self.groups(inner, cause.value) for cause in book.MissCause if cause.value in inner.raw}
        for cause in book.MissCause:
            inner.take(cause.value)
        inner.refuse_unknown()
        return by_cause

    def hours(self, table: tables.Table, inline_key: str) -> str | None:
        """The key of business hours, named or written inline."""
        value = table.take("hours")
        if not isinstance(value, dict):
            return table.reference("hours", self.around.hours_declared, "[[hours]]")
        inner = table.table("hours")
        if inner is None:
            return None
        key = destinations.derived_key(inline_key)
        while key in self.around.hours or key in self.around.hours_declared:
            key = destinations.derived_key(f"{key}-inline-of-{self.key}")
        self.around.hours[key] = timetables.read(inner, key, self.site.time_zone)
        return key

    def exceptions(self, strategy: book.Strategy) -> Iterator[book.RouteException]:
        for number, inner in enumerate(self.table.tables("exception"), start=1):
            condition = self._condition(inner, number)
            own = inner.choice("strategy", book.Strategy, strategy)
            yield book.RouteException(
                condition=condition,
                forward=self.forward(inner, own),
                strategy=own if "strategy" in inner.raw else None,
                reserve=self.groups(inner, "reserve") if inner.take("reserve") is not None else None,
            )
            inner.refuse_unknown()

    def _condition(self, inner: tables.Table, number: int) -> book.Condition:
        first_time = inner.flag("first_time", None)
        regions = frozenset(_regions(inner))
        sources = self.around.sources_under(inner.references("sources", self.around.sources, "source"))
        hours = self.hours(inner, f"{self.key}-hours-{number}")
        if not {"first_time", "regions", "sources", "hours"} & inner.raw.keys():
            inner.wrong(None, "holds for every call: give first_time, regions, sources or hours")
        for name in ("regions", "sources"):
            if inner.raw.get(name) == []:
                inner.wrong(name, "must not be empty")
        return book.Condition(first_time, regions, sources, hours)

    def _group(self, table: tables.Table, name: str, index: int, step: Any) -> tuple[str, ...]:
        if isinstance(step, str):
            return tuple(self._members(table, name, [step], (index,), nested=False))
        if not isinstance(step, list) or not step:
            table.wrong(name, "each step must be a destination or a list of destinations", index=index)
            return ()
        keys = tuple(self._members(table, name, step, (index,)))
        self._check_group(table, name, keys, index)
        return keys

    def _members(
        self, table: tables.Table, name: str, members: list[Any], at: tuple[int, ...], *, nested: bool = True
    ) -> Iterator[str]:
        seen: set[str] = set()
        for position, member in enumerate(members):
            index = (*at, position) if nested else at
            if not isinstance(member, str):
                table.wrong(name, "must hold destinations in quotes", index=index)
                continue
            key = self.around.destinations.named(table, name, member, self.site.country, self.trunk, index)
            if key in seen:
                table.wrong(name, f"'{tables.shown(member)}' stands here twice", index=index)
            elif key is not None:
                seen.add(key)
                yield key

    def _check_group(self, table: tables.Table, name: str, keys: tuple[str, ...], index: int | None) -> None:
        if len(keys) > book.MAX_MEMBERS:
            table.wrong(
                name, f"at most {book.MAX_MEMBERS} destinations can ring together, not {len(keys)}", index=index
            )
        known = [self.around.destinations.by_key[key] for key in keys if key in self.around.destinations.by_key]
        for policy, values in (
            ("caller_id", {one.caller_id.value for one in known}),
            ("label_source", {str(one.label_source).lower() for one in known}),
        ):
            if len(values) > 1:
                members = ", ".join(one.key for one in known)
                message = f"destinations that ring together must agree in {policy}: {members}"
                table.wrong(name, message, index=index)


def _regions(table: tables.Table) -> Iterator[str]:
    for index, region in enumerate(table.texts("regions")):
        choices: tuple[str, ...] = ()
        if region.startswith("+"):
            is_known = _AREA_CODE.fullmatch(region) is not None
        elif len(region) == 2 and region.isascii():
            is_known = numbers.is_country(region)
            choices = (region.upper(),) if numbers.is_country(region.upper()) else ()
        else:
            is_known = region.isprintable() and 3 <= len(region) <= tables.MAX_TEXT_LENGTH
        if is_known:
            yield region
        else:
            message = "must be a country code (RU), an area code with country (+7343) or a region's name"
            table.wrong("regions", message, index=index, word=region.upper(), choices=choices)
