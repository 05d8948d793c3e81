"""What `apply` would change, in lines a telecom admin reads: `+` comes, `-` goes, `~` changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from enum import StrEnum
from itertools import groupby
from typing import Any

from gateway.config import timetables
from gateway.core import audiences, book, displayrules, receivers, rules, webbook
from gateway.core.outgoing.integration import Integration


def difference(old: book.Book | None, new: book.Book) -> list[str]:
    """One line per addition, removal and changed field; empty when both say the same. `old` None: nothing yet."""
    lines: list[str] = []
    for what, name in (
        ("site", "sites"),
        ("trunk", "trunks"),
        ("source", "sources"),
        ("agent", "agents"),
        ("destination", "destinations"),
        ("hours", "hours"),
        ("route", "routes"),
        ("audience", "audiences"),
    ):
        lines += _changes(what, getattr(old, name) if old is not None else {}, getattr(new, name))
    lines += _changes("tracking number", {} if old is None else _static_numbers(old), _static_numbers(new))
    for what, name in (("web site", "sites"), ("pool", "pools")):
        lines += _changes(what, getattr(old.web, name) if old is not None else {}, getattr(new.web, name))
    lines += _changes("display rule", {} if old is None else _rules(old), _rules(new))
    if old is not None and old.web.source_rules != new.web.source_rules:
        lines.append("~ which visits are of which source")
    for what, name in (
        ("webhook", "webhooks"),
        ("broker", "brokers"),
        ("integration", "integrations"),
        ("inbound source", "inbound"),
    ):
        lines += _changes(what, getattr(old.receivers, name) if old is not None else {}, getattr(new.receivers, name))
    lines += _scoring_changes(rules.Scoring() if old is None else old.scoring, new.scoring)
    old_bans = {} if old is None else {ban.number: ban for ban in old.bans}
    lines += _changes("ban", old_bans, {ban.number: ban for ban in new.bans})
    lines += _context_changes(frozenset() if old is None else old.local_contexts, new.local_contexts)
    if old is not None and old.sites and new.sites and old.default_site.key != new.default_site.key:
        lines.append(f"~ first site: {old.default_site.key} → {new.default_site.key}")
    return lines


def _static_numbers(of: book.Book) -> dict[str, book.TrackingNumber]:
    """Without those of pools, which stand with their pool."""
    return {one.number: one for one in of.tracking_numbers.values() if one.pool is None}


def _rules(of: book.Book) -> dict[str, displayrules.DisplayRule]:
    return {rule.key: rule for rules in of.web.display_rules.values() for rule in rules}


def _changes(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(old.keys() - new.keys()):
        yield f"- {what} {key}"
    for key, value in new.items():
        if key not in old:
            yield f"+ {what} {key}{_summary(value)}"
        elif old[key] != value:
            changed = (
                field.name for field in fields(value) if getattr(old[key], field.name) != getattr(value, field.name)
            )
            for name in changed:
                yield f"~ {what} {key}: {name} {_said(getattr(old[key], name))} → {_said(getattr(value, name))}"


def _scoring_changes(old: rules.Scoring, new: rules.Scoring) -> Iterator[str]:
    before, after = {rule.key: rule for rule in old.rules}, {rule.key: rule for rule in new.rules}
    yield from _changes("rule", before, after)
    if [key for key in before if key in after] != [key for key in after if key in before]:
        yield f"~ order of rules: {_listed(list(after))}"
    for name in ("lowest", "highest", "qualified_from"):
        if getattr(old, name) != getattr(new, name):
            yield f"~ scoring: {name} {_said(getattr(old, name))} → {_said(getattr(new, name))}"


def _context_changes(old: frozenset[str], new: frozenset[str]) -> Iterator[str]:
    yield from (f"- local context {context}" for context in sorted(old - new))
    yield from (f"+ local context {context}" for context in sorted(new - old))


def _summary(value: Any) -> str:
    match value:
        case book.TrackingNumber():
            return f" → route {value.route}" + (f", source {value.source}" if value.source else "")
        case book.Route():
            reserve = f", reserve {_said(value.reserve)}" if value.reserve else ""
            return f": {value.strategy} of {_said(value.forward)}{reserve}"
        case book.Destination():
            return f": {value.dial_string}"
        case book.Ban():
            return f": {value.action}, {value.reason}"
        case book.Trunk():
            return f": calls from {', '.join(value.hosts)}"
        case book.Site() | book.Source() | book.Agent():
            return f": {value.name}"
        case webbook.NumberPool():
            return f": {len(value.numbers)} numbers → route {value.route}"
        case webbook.WebSite():
            return f": {_said(value.hosts)}"
        case displayrules.DisplayRule():
            return f" → {value.number or f'pool {value.pool}'}"
        case receivers.Webhook():
            return f": {_said(value.events)} → {value.url.partition('?')[0]}"
        case receivers.Broker():
            return f": {_said(value.events)} → {value.host}:{value.port}, topic {value.topic}"
        case Integration():
            return f": {value.kind.value}{', dry run' if value.dry_run else ''}"
        case audiences.Audience():
            return f": {value.who.value} → {value.platform.value}"
        case rules.Rule():
            return f": {value.when.words}: {value.gives}"
        case book.BusinessHours():
            return f": {_said(value.opening_times) if value.opening_times else 'always closed'}"
    return ""


def _said(value: Any) -> str:
    match value:
        case None:
            return "none"
        case True | False:
            return "yes" if value else "no"
        case StrEnum():
            return value.value
        case datetime() | date():
            return value.isoformat()
        case frozenset():
            return _listed(sorted(value))
        case Mapping():
            return _listed([f"{_said(key)} {_said(item)}" for key, item in value.items()])
        case rules.When():
            return value.words
        case (book.OpeningTime(), *_):
            return _timetable(value)
        case tuple():
            return _listed(
                [f"({_said(item)})" if isinstance(item, tuple) and len(item) > 1 else _said(item) for item in value]
            )
    if is_dataclass(value):
        return _listed([f"{field.name} {_said(getattr(value, field.name))}" for field in fields(value)])
    return str(value)


def _timetable(opening_times: tuple[book.OpeningTime, ...]) -> str:
    """Opening times by day, days in a row with equal times together: `mon-fri 09:00-18:00, sat 10:00-14:00`."""
    by_day = ["" for _ in timetables.DAYS]
    for opening in opening_times:
        closes = "24:00" if opening.end == time.max else f"{opening.end:%H:%M}"
        known = f"{by_day[opening.weekday]} and " if by_day[opening.weekday] else ""
        by_day[opening.weekday] = f"{known}{opening.start:%H:%M}-{closes}"
    parts: list[str] = []
    for times, days in groupby(range(7), key=by_day.__getitem__):
        row = [timetables.DAYS[day] for day in days]
        day = row[0] if len(row) == 1 else f"{row[0]}-{row[-1]}"
        parts += [f"{day} {times}"] if times else []
    return ", ".join(parts)


def _listed(items: list[Any]) -> str:
    return ", ".join(item if isinstance(item, str) else _said(item) for item in items) or "none"
