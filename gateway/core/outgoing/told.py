"""A call as adapters read it: the record of `gateway.core.records`, with types, and the visitor behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from gateway.core import deals, outcomes

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
SURE = 0.5
"""With less confidence nobody outside is told of a visitor: it may well have been another."""
AD_CONSENT = "ad_consent"
"""Variable by which the site's own script says that the visitor agreed to advertising: `granted`."""
GRANTED = "granted"


@dataclass(frozen=True, slots=True)
class Visitor:
    """The visitor of the web site who called. There is one only where the visitor let us remember them."""

    visitor_id: str
    session_started_us: int
    session_seen_us: int
    """Last sign of life of that visit."""
    ga_client_id: str | None = None
    ga_sessions: Mapping[str, str] = field(default_factory=dict)
    """Session id by stream, without `G-`."""
    ym_client_id: str | None = None
    fbp: str | None = None
    fbc: str | None = None
    allows_ads: bool = False
    """Agreed to advertising too, not only to being counted."""
    landing_page: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a person or the CRM said of a call: the record's `result`. None, empty: nothing."""

    at_us: int
    """When it was last changed."""
    qualified: bool | None = None
    spam: bool | None = None
    goal_reached: bool | None = None
    lead_status: str | None = None
    note: str | None = None
    tags: tuple[str, ...] = ()
    deal_state: deals.State | None = None
    deal_stage: str | None = None
    value: Decimal | None = None
    """Of the deal; with `currency`, or neither."""
    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the rules of the routing file made of a call: the record's `scoring`."""

    score: int
    qualified: bool | None = None
    spam: bool | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What adapters use of a record. Times in µs UTC, durations in whole seconds, numbers E.164 with `+`."""

    call_id: str
    revision: int
    direction: str
    outcome: outcomes.Outcome | None
    started_us: int
    answered_us: int | None
    ended_us: int | None
    wait_seconds: int
    talk_seconds: int
    hold_seconds: int
    caller_number: str | None
    caller_name: str | None
    caller_country: str | None
    first_time: bool | None
    tracking_number: str | None
    tracking_kind: str | None
    tracking_label: str | None
    agent: str | None
    site: str | None
    time_zone: str
    source: str | None
    source_name: str | None
    channel: str | None
    medium: str | None
    campaign: str | None
    term: str | None
    content: str | None
    landing_page: str | None
    referrer: str | None
    click_ids: Mapping[str, str]
    visitor_id: str | None
    confidence: float
    is_recorded: bool
    said: Said | None = None
    rules: Rules | None = None
    keyed_goal: bool | None = None
    """Whether the goal was reached, as keyed in after the call."""

    @property
    def is_spam(self) -> bool:
        """What a person or the CRM said outweighs a rule."""
        by_rules = self.rules.spam if self.rules is not None else None
        said = self.said.spam if self.said is not None else None
        return bool(by_rules if said is None else said)

    @property
    def tags(self) -> tuple[str, ...]:
        """Those of rules, then those that were given."""
        given = (*(self.rules.tags if self.rules else ()), *(self.said.tags if self.said else ()))
        return tuple(dict.fromkeys(given))

    @property
    def is_inbound(self) -> bool:
        return self.direction != "outbound"

    @property
    def was_answered(self) -> bool:
        return self.outcome is outcomes.Outcome.ANSWERED

    @property
    def last_us(self) -> int:
        """The end, or the last that is known."""
        return self.ended_us or self.answered_us or self.started_us

    @property
    def seconds(self) -> int:
        """From start to end."""
        return max(0, (self.last_us - self.started_us) // SECOND_US)


def call(record: Mapping[str, Any]) -> Call:
    """The record of an event, typed. Raises `KeyError`, `ValueError` or `TypeError` when it is none of ours."""
    caller, tracking, found = record["caller"], record["tracking"], record["attribution"]
    outcome = record["outcome"]
    return Call(
        call_id=record["call_id"],
        revision=record["revision"],
        direction=record["direction"],
        outcome=outcomes.Outcome(outcome) if outcome is not None else None,
        started_us=_needed_us(record["started_at"]),
        answered_us=_us(record["answered_at"]),
        ended_us=_us(record["ended_at"]),
        wait_seconds=_seconds(record["wait_seconds"]),
        talk_seconds=_seconds(record["talk_seconds"]),
        hold_seconds=_seconds(record["hold_seconds"]),
        caller_number=caller["number"],
        caller_name=caller["name"],
        caller_country=caller["country"],
        first_time=caller["first_time"],
        tracking_number=tracking["number"],
        tracking_kind=tracking["kind"],
        tracking_label=tracking["label"],
        agent=record["agent"],
        site=record["site"],
        time_zone=record["time_zone"],
        source=found["source"],
        source_name=found["source_name"],
        channel=found["channel"],
        medium=found["medium"],
        campaign=found["campaign"],
        term=found["term"],
        content=found["content"],
        landing_page=found["landing_page"],
        referrer=found["referrer"],
        click_ids=found["click_ids"],
        visitor_id=found["visitor_id"],
        confidence=float(found["confidence"]),
        is_recorded=_is_recorded(record["recording_consent"]),
        said=_said(record.get("result")),
        rules=_rules(record.get("scoring")),
        keyed_goal=(record.get("rating") or {}).get("goal_reached"),
    )


def _said(result: Mapping[str, Any] | None) -> Said | None:
    if result is None:
        return None
    deal = result["deal"] or {}
    value, state = deal.get("value"), deal.get("state")
    return Said(
        at_us=_us(result["changed_at"]) or 0,
        qualified=result["qualified"],
        spam=result["spam"],
        goal_reached=result["goal_reached"],
        lead_status=result["lead_status"],
        note=result["note"],
        tags=tuple(result["tags"]),
        deal_state=deals.State(state) if state is not None else None,
        deal_stage=deal.get("stage"),
        value=Decimal(value) if value is not None else None,
        currency=deal.get("currency"),
    )


def _rules(scoring: Mapping[str, Any] | None) -> Rules | None:
    if scoring is None:
        return None
    return Rules(
        score=scoring["score"],
        qualified=scoring["qualified"],
        spam=scoring["spam"],
        tags=tuple(one["tag"] for one in scoring["tags"]),
    )


def _us(text: str | None) -> int | None:
    return None if text is None else _needed_us(text)


def _needed_us(text: str) -> int:
    at = datetime.fromisoformat(text)
    return round(at.timestamp() * 1000) * 1000


def _seconds(value: float | None) -> int:
    return int(value or 0)


def _is_recorded(consent: Mapping[str, Any]) -> bool:
    return (consent["mode"], consent["result"]) == ("none", "not_asked") or bool(consent["result"] == "granted")
