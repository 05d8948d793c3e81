"""What is hardly meant in the web part of a routing file that holds (R24, R46): each with line, key and a guess.

A file with warnings is taken: calls go their way. But visits are counted for nobody, for somebody else, or otherwise
than in the tools that the same tags feed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.config import rulelint, tables
from gateway.config.problems import Problems, RoutingError
from gateway.core import book, displayrules, traffic, webbook
from gateway.core.displayrules import Condition, SourceRule
from gateway.core.traffictables import Kind, Tables

_ENCODED = re.compile(r"%20|\+")
_MACRO = re.compile(r"\{.*\}|\[\[.*\]\]|%%")
_CPC = ("cpc", "ppc", "paid*")


@dataclass(frozen=True, slots=True)
class Places:
    """What the settings can tell of where a visitor is."""

    countries: bool = False
    cities: bool = False


def warnings(text: str, made: book.Book, places: Places) -> list[RoutingError]:
    """All that is hardly meant in `text`, which was read as `made`; in the order of its lines."""
    found = Problems()
    root = tables.Table(tomllib.loads(text.replace("\r\n", "\n")), (), "", found)
    by_key = {
        name: {str(table.raw.get("key")): table for table in root.tables(name)}
        for name in ("source", "pool", "display_rule")
    }
    for key, table in by_key["source"].items():
        _source(table, made.sources[key], made.web.traffic)
    _taken_visits(by_key["source"], made.web.source_rules)
    _unnumbered(by_key["source"], made)
    _pools(by_key["pool"], made.web)
    _rules(by_key["display_rule"], made, places)
    rulelint.warn(root, made)
    for finding in webbook.findings(made.web):
        table = by_key["pool" if finding.what == "no_overflow" else "display_rule"][finding.about]
        table.wrong("numbers" if finding.what == "no_overflow" else None, finding.message)
    return found.located(text)


# ---- Sources ----


def _source(table: tables.Table, source: book.Source, known: Tables) -> None:
    if source.campaign_type is book.CampaignType.CLICK:
        for name in ("medium", "campaign"):
            if table.raw.get(name) is not None:
                _tag(table, name, str(table.raw[name]))
        if source.medium is not None:
            _medium(table, "medium", source.medium, known)
    for visits in table.tables("visits"):
        _condition(visits, known)
        if source.campaign_type is book.CampaignType.CALL_ONLY:
            visits.wrong(None, "never gives a visit: nobody sees the site for a call-only ad")


def _unnumbered(of_sources: Mapping[str, tables.Table], made: book.Book) -> None:
    """Sources that only a number of their own could tell, such as each station of the radio (R10, R106)."""
    named = {number.source for number in made.tracking_numbers.values()}
    named |= {rule.source for rule in made.web.source_rules} | {source.parent for source in made.sources.values()}
    for key, table in of_sources.items():
        if made.sources[key].campaign_type is not book.CampaignType.CLICK and key not in named:
            table.wrong(None, "no tracking number names it: its calls are counted for nobody")


def _taken_visits(of_sources: Mapping[str, tables.Table], rules: Iterable[SourceRule]) -> None:
    """Visits that an earlier source has all of."""
    earlier: list[SourceRule] = []
    read: dict[str, Iterator[tables.Table]] = {key: table.tables("visits") for key, table in of_sources.items()}
    for rule in rules:
        table = next(read[rule.source])
        first = next((one for one in earlier if displayrules.covers(one.condition, rule.condition)), None)
        if first is not None and first.source != rule.source:
            table.wrong(None, f"never gives a visit: source {first.source}, which comes first, takes them all")
        earlier.append(rule)


# ---- Pools ----


def _pools(of_pools: Mapping[str, tables.Table], web: webbook.WebBook) -> None:
    shown = {rule.pool for rules in web.display_rules.values() for rule in rules}
    for key, table in of_pools.items():
        if web.pools[key].site not in web.sites:
            table.wrong(None, f"site {web.pools[key].site} has no [site.web]: its visitors are lent nothing")
        elif key not in shown:
            table.wrong(None, "no display rule names it: nobody is lent its numbers")


# ---- Display rules ----


def _rules(of_rules: Mapping[str, tables.Table], made: book.Book, places: Places) -> None:
    sites = {rule.key: site for site, rules in made.web.display_rules.items() for rule in rules}
    rules = {rule.key: rule for rules in made.web.display_rules.values() for rule in rules}
    with_visits = {rule.source for rule in made.web.source_rules}
    for key, table in of_rules.items():
        rule = rules[key]
        if sites[key] not in made.web.sites:
            table.wrong(None, f"site {sites[key]} has no [site.web]: the rule is never asked")
        if rule.condition.sources and with_visits.isdisjoint(rule.condition.sources):
            named = ", ".join(str(one) for one in table.raw["sources"])
            table.wrong("sources", f"never holds: nothing says which visits are of {named} ([[source.visits]])")
        _condition(table, made.web.traffic)
        _place(table, rule.condition, places)
        _number(table, rule, made)


def _place(table: tables.Table, asked: Condition, places: Places) -> None:
    for name, is_asked, is_known in (
        ("cities", bool(asked.cities), places.cities),
        ("countries", bool(asked.countries), places.countries),
    ):
        if is_asked and not is_known:
            header = "city_header" if name == "cities" else "country_header"
            table.wrong(name, f"never holds: nothing tells where visitors are (web.places_file, web.{header})")


def _number(table: tables.Table, rule: displayrules.DisplayRule, made: book.Book) -> None:
    """A printed number whose calls are counted for another source than that of the visits it is shown to (R106)."""
    if rule.number is None or not rule.condition.sources:
        return
    source = made.tracking_numbers[rule.number[1:]].source
    if source is not None and source not in rule.condition.sources:
        asked = ", ".join(str(one) for one in table.raw["sources"])
        table.wrong("number", f"its calls are counted for {source}, and it is shown to visits of {asked}")


# ---- Conditions ----


def _condition(table: tables.Table, known: Tables) -> None:
    """What a `[[source.visits]]` or a display rule asks of a visit."""
    inner = table.table("utm")
    tags: dict[str, str] = {}
    for name, value in (inner.raw if inner is not None else {}).items():
        assert inner is not None
        _tag(inner, name, str(value))
        tags[name.removeprefix("utm_")] = str(value)
        if name.removeprefix("utm_") == "medium":
            _medium(inner, name, str(value), known)
    clicks = [str(one) for one in table.raw.get("click_ids", ())]
    if tags and any(known.parameters[one].kind == "click_id" for one in clicks):
        ids = " or ".join(clicks)
        table.wrong("click_ids", f"asks for {ids} and for manual tags: a link that has only one of them does not count")
    _kinds(table, tags, clicks, known)
    for index, page in enumerate(table.raw.get("landing_pages", ())):
        names = {pair.partition("=")[0].strip("*") for pair in str(page).partition("?")[2].split("&")}
        tagged = sorted(name for name in names if name in traffic.UTM or name in known.parameters)
        if tagged:
            message = f"has {tagged[0]} at a fixed place of the address: ask for it by utm or click_ids"
            table.wrong("landing_pages", message, index=index)


def _tag(table: tables.Table, name: str, value: str) -> None:
    """One tag's value or pattern, as people write them wrongly."""
    meant = ""
    if value != value.strip():
        message, meant = "never holds: tags are read without the blanks around them", value.strip()
    elif _MACRO.search(value):
        message = "looks like a placeholder that the ad platform fills in: what does it become?"
    elif _ENCODED.search(value):
        message, meant = "never holds where an address has `+` or `%20`: they are spaces", _ENCODED.sub(" ", value)
    elif " " in value:
        message, meant = "has a space, which some tools write as + and some as %20", value.replace(" ", "_")
    elif value != value.lower():
        message, meant = "has capitals, which do not matter here but make another tag elsewhere", value.lower()
    else:
        return
    table.wrong(name, message, word=meant, choices=(meant,))


def _medium(table: tables.Table, name: str, value: str, known: Tables) -> None:
    word = value.strip().lower()
    if "*" not in word and known.medium(word) is None:
        words = [one.rstrip("*") for one in known.mediums]
        message = f"'{tables.shown(value)}' is no medium that the table of traffic knows: its visits are of kind other"
        table.wrong(name, message, word=word, choices=words)


def _kinds(table: tables.Table, tags: Mapping[str, str], clicks: list[str], known: Tables) -> None:
    """Kinds that the other conditions rule out."""
    kinds = {Kind(kind) for kind in table.raw.get("kinds", ())}
    if not kinds:
        return
    possible = _possible(tags, clicks, bool(table.raw.get("referrers")), known)
    if possible is not None and kinds.isdisjoint(possible):
        are = ", ".join(sorted(kind.value for kind in possible)[:4])
        table.wrong("kinds", f"never holds: visits as the rest asks for are {are}")


def _possible(tags: Mapping[str, str], clicks: list[str], has_referrer: bool, known: Tables) -> set[Kind] | None:
    """The kinds that visits with these tags or click ids can have; None: hard to tell."""
    by_click = {row.medium for row in known.parameters.values() if row.kind == "click_id" and row.medium is not None}
    medium = tags.get("medium", "").lower()
    if medium and "*" not in medium:
        row = known.medium(medium)
        own = {row.medium or Kind.OTHER} if row is not None else {Kind.OTHER}
        if row is not None and row.match in _CPC:
            own.add(Kind.PAID_SOCIAL)
        return own | by_click
    if tags.keys() & {"source", "medium"} or clicks:
        return set(Kind) - {Kind.DIRECT}
    return set(Kind) - {Kind.DIRECT} if has_referrer else None
