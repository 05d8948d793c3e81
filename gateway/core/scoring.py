"""What the rules of the routing book say of one call: score, tags and marks, with each rule that spoke (R2, R60, R61).

Works on the call record (`gateway.core.records`), so that it says the same when the call closes, when the journal is
read again, and when stored records are tried with other rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from gateway.core import book, hours, rules
from gateway.core.rules import Pressed, Rule, When

ORIGIN = "rule"
"""Origin of a tag: people and the CRM have others."""


def scored(record: Mapping[str, Any], routing: book.Book | None) -> dict[str, Any] | None:
    """The record's `scoring`; None while the call is open, without a book, and where the book has no rules.

    The points of all rules that hold are added up and cut to the bounds once, at the end, so their order does not
    matter to the sum; it does to `stop` and to the marks.
    """
    if routing is None or not routing.scoring.rules or record.get("state") != "closed":
        return None
    return summed(routing.scoring, list(holding(record, routing)))


def holding(record: Mapping[str, Any], routing: book.Book) -> Iterator[Rule]:
    """The rules that hold for the call, in the order of the file, up to one that says `stop`."""
    facts = _Facts(record)
    for rule in routing.scoring.rules:
        if facts.fit(rule.when, routing):
            yield rule
            if rule.stop:
                return


def possible(record: Mapping[str, Any], routing: book.Book) -> list[Rule]:
    """The rules that may hold for a call of which only what is known beforehand stands in `record`: `started_at`,
    `direction`, `attribution`, `caller.first_time`, `route`."""
    facts = _Facts(record)
    return [rule for rule in routing.scoring.rules if facts.fit(_beforehand(rule.when), routing)]


def _beforehand(when: When) -> When:
    """Without what only the call itself can tell."""
    return replace(
        when,
        min_talk_seconds=None,
        max_talk_seconds=None,
        min_wait_seconds=None,
        max_wait_seconds=None,
        outcomes=frozenset(),
        keys=frozenset(),
        agents=frozenset(),
    )


def summed(scoring: rules.Scoring, found: list[Rule]) -> dict[str, Any]:
    """`scoring` of a record for which these rules hold."""
    score = min(scoring.highest, max(scoring.lowest, sum(rule.points for rule in found)))
    tags: dict[str, str] = {}
    qualified: bool | None = None
    spam: bool | None = None
    for rule in found:
        for tag in rule.tags:
            tags.setdefault(tag, rule.key)
        qualified = qualified if rule.qualified is None else rule.qualified
        spam = spam if rule.spam is None else rule.spam
    if qualified is None and scoring.qualified_from is not None:
        qualified = score >= scoring.qualified_from
    return {
        "score": score,
        "qualified": qualified,
        "spam": spam,
        "tags": [{"tag": tag, "origin": ORIGIN, "rule": key} for tag, key in tags.items()],
        "rules": [{"rule": rule.key, "points": rule.points} for rule in found],
    }


def keys_pressed(record: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Which keys were pressed to which question, as far as the record tells."""
    found: set[tuple[str, str]] = set()
    if (key := _part(record, "recording_consent").get("key")) is not None:
        found.add((Pressed.CONSENT.value, key))
    if record.get("cause") == "callback":
        found.add((Pressed.CALLBACK.value, "1"))
    keyed = _part(_part(record, "rating"), "keys")
    found.update((question, key) for question, key in keyed.items() if key is not None)
    return frozenset(found)


class _Facts:
    """What rules ask of one record."""

    __slots__ = (
        "agent",
        "at",
        "campaign",
        "channel",
        "first_time",
        "is_outbound",
        "keys",
        "outcome",
        "route",
        "source",
        "talk",
        "wait",
    )

    def __init__(self, record: Mapping[str, Any]) -> None:
        came, caller = _part(record, "attribution"), _part(record, "caller")
        self.is_outbound = record.get("direction") == "outbound"
        self.talk: float = record.get("talk_seconds") or 0.0
        self.wait: float = record.get("wait_seconds") or 0.0
        self.outcome = record.get("outcome")
        self.source = came.get("source")
        self.campaign = str(came.get("campaign") or "").casefold()
        self.channel = came.get("channel")
        self.first_time = caller.get("first_time")
        self.keys = keys_pressed(record)
        self.agent = record.get("agent")
        self.route = record.get("route")
        self.at = datetime.fromisoformat(record["started_at"])

    def fit(self, when: When, routing: book.Book) -> bool:
        """Whether all that `when` asks holds."""
        return (
            self.is_outbound is when.is_outbound
            and self._fits_seconds(when)
            and (not when.outcomes or self.outcome in when.outcomes)
            and (not when.sources or self.source in when.sources)
            and (not when.campaigns or self.campaign in when.campaigns)
            and (not when.channels or self.channel in when.channels)
            and (when.first_time is None or self.first_time is when.first_time)
            and (not when.keys or bool(self.keys & when.keys))
            and (not when.agents or self.agent in when.agents)
            and (not when.routes or self.route in when.routes)
            and (when.hours is None or hours.is_open(routing.hours[when.hours], self.at))
            and (when.outside_hours is None or not hours.is_open(routing.hours[when.outside_hours], self.at))
        )

    def _fits_seconds(self, when: When) -> bool:
        return _is_between(self.talk, when.min_talk_seconds, when.max_talk_seconds) and _is_between(
            self.wait, when.min_wait_seconds, when.max_wait_seconds
        )


def _is_between(seconds: float, least: int | None, most: int | None) -> bool:
    return (least is None or seconds >= least) and (most is None or seconds <= most)


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = record.get(name)
    return part if isinstance(part, Mapping) else {}
