"""`[[audience]]` of the routing file: which callers go to which ad platform."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from gateway.config import tables
from gateway.core import audiences, calls

MAX_TALK_SECONDS = 86_400
MAX_TAGS = 20


@dataclass(frozen=True, slots=True)
class Known:
    """Keys that an audience may name. `sources_under` gives sources with all that stand under them."""

    sites: Collection[str]
    routes: Collection[str]
    sources: Collection[str]
    sources_under: Callable[[tuple[str, ...]], frozenset[str]]


def read(table: tables.Table, key: str, known: Known) -> audiences.Audience:
    """One `[[audience]]`."""
    if "platform" not in table.raw:
        table.wrong("platform", "is missing")
    platform = table.choice("platform", audiences.Platform, audiences.Platform.GOOGLE)
    found = audiences.Audience(
        key=key,
        platform=platform,
        who=table.choice("who", audiences.Who, audiences.Who.NOT_CONNECTED),
        hash=_hash(table, platform),
        days=table.whole("days", audiences.DAYS, 1, audiences.MAX_DAYS),
        sites=table.references("sites", known.sites, "site"),
        routes=table.references("routes", known.routes, "route"),
        sources=tuple(sorted(known.sources_under(table.references("sources", known.sources, "source")))),
        campaigns=table.texts("campaigns"),
        outcomes=table.references("outcomes", [one.value for one in calls.Outcome], "outcome"),
        tags=_tags(table),
        times=table.choice("times", audiences.Times, audiences.Times.ALL),
        min_talk_seconds=table.whole("min_talk_seconds", 0, 0, MAX_TALK_SECONDS),
        visit_covers_ads=bool(table.flag("visit_covers_ads")),
    )
    _refuse_empty(table, found)
    table.refuse_unknown()
    return found


def _hash(table: tables.Table, platform: audiences.Platform) -> audiences.Hash:
    chosen = table.choice("hash", audiences.Hash, audiences.Hash.SHA256)
    if chosen not in audiences.FORMATS[platform].hashes:
        table.wrong("hash", f"{platform.value} takes {audiences.Hash.SHA256.value} only")
    return chosen


def _tags(table: tables.Table) -> tuple[str, ...]:
    found = table.texts("tags")
    if len(found) > MAX_TAGS:
        table.wrong("tags", f"must hold at most {MAX_TAGS}")
    return found


def _refuse_empty(table: tables.Table, found: audiences.Audience) -> None:
    """Filters that no call can meet: an export of nobody would look like success."""
    if found.who is not audiences.Who.NOT_CONNECTED:
        return
    if found.min_talk_seconds:
        table.wrong("min_talk_seconds", "calls that nobody took have no talk")
    for index, outcome in enumerate(found.outcomes):
        if not calls.Outcome(outcome).is_missed:
            table.wrong("outcomes", f"calls that are {outcome} are not missed", index=index)
