"""Which source a call is from: what the record says, and what the tracking number alone tells (R1, R104, R106)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.core import book as book_


class Method(StrEnum):
    """How the source was found."""

    STATIC_NUMBER = "static_number"
    VISITOR = "visitor"
    CLICK_TO_CALL = "click_to_call"
    CALLER_HISTORY = "caller_history"
    OVERFLOW_NUMBER = "overflow_number"
    CALLBACK = "callback"
    """An outbound call that returns a missed one: what was known of that one."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One who may have called."""

    visitor_id: str
    lease_id: str | None
    share: float
    """0 to 1."""
    seconds_since_seen: float
    """0: was on the site."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """The record's `attribution`. `confidence` is 0 to 1; `source` and `parent_source` are keys of the book."""

    method: Method = Method.UNKNOWN
    confidence: float = 0.0
    source: str | None = None
    source_name: str | None = None
    parent_source: str | None = None
    campaign_type: str | None = None
    """Of the source: `click`, `call-only` or `offline` (R10, R13)."""
    cost_line: str | None = None
    """Where the source's cost is booked."""
    channel: str | None = None
    medium: str | None = None
    campaign: str | None = None
    term: str | None = None
    content: str | None = None
    landing_page: str | None = None
    referrer: str | None = None
    click_ids: dict[str, str] = field(default_factory=dict)
    visitor_id: str | None = None
    lease_id: str | None = None
    candidates: tuple[Candidate, ...] = ()
    """The likeliest first."""


UNKNOWN = Attribution()


def of_number(number: book_.TrackingNumber | None, book: book_.Book | None) -> Attribution:
    """Attribution of a call to a tracking number: certain for a static number with a source, else unknown.

    The number's campaign goes before its source's. A source that left the book since is still named by its key.
    """
    if number is None or number.source is None or number.kind is not book_.TrackingKind.STATIC:
        return UNKNOWN
    source = book.sources.get(number.source) if book is not None else None
    if source is None:
        return Attribution(Method.STATIC_NUMBER, 1.0, number.source, campaign=number.campaign)
    return Attribution(
        Method.STATIC_NUMBER,
        1.0,
        source.key,
        source_name=source.name,
        parent_source=source.parent,
        campaign_type=source.campaign_type.value,
        cost_line=source.booked_on,
        channel=source.channel.value,
        medium=source.medium,
        campaign=number.campaign or source.campaign,
    )


_COPIED = tuple(name for name in Attribution.__dataclass_fields__ if name not in ("method", "click_ids", "candidates"))


def of_missed_call(said: Mapping[str, Any]) -> Attribution:
    """Of a call-back: the `attribution` of the record it returns, whole but for the other candidates. A ticket whose
    person was erased keeps only some of its fields."""
    copied = {name: said[name] for name in _COPIED if said.get(name) is not None}
    return Attribution(Method.CALLBACK, click_ids=dict(said.get("click_ids") or {}), **copied)
