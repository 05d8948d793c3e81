"""A visitor's touches, and to which of them a call is credited (R85, R88).

A touch is the beginning of a visit from somewhere. Every touch before a call is kept with the visitor; which of them
gets the credit is chosen when a report is read, so a model can be changed without touching a record. The record itself
names the last touch that was not direct.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.core import attribution, matching
from gateway.core import book as book_
from gateway.core.traffic import Classified, Kind

DAY_US = 86_400 * 1_000_000
WINDOW_DAYS = 30
HALF_LIFE_DAYS = 7.0
VISIT_SECONDS = 1_800
"""A visit ends after so long without a page: what comes then is a new one."""


class Model(StrEnum):
    """Which touches a call is credited to (attribution.md 3.2)."""

    FIRST = "first_touch"
    LAST = "last_touch"
    LAST_NON_DIRECT = "last_non_direct"
    LINEAR = "linear"
    POSITION = "position_based"
    """40 % to the first, 40 % to the last, the rest evenly between."""
    TIME_DECAY = "time_decay"
    """Half as much for every `HALF_LIFE_DAYS` before the call."""


@dataclass(frozen=True, slots=True)
class Touch:
    """One arrival. `source` is the key that the book gives it, None when no source's rule fits."""

    at_us: int
    visit_id: str
    visitor_id: str
    came: Classified
    source: str | None = None
    landing_page: str | None = None
    referrer: str | None = None

    @property
    def is_direct(self) -> bool:
        """Whether nothing tells where it came from."""
        return self.came.kind is Kind.DIRECT


def begins_touch(before: Touch | None, came: Classified, quiet_seconds: float) -> bool:
    """Whether a page view begins a new touch; `quiet_seconds` since the visitor's last page.

    Moving within the site, or coming back from a payment, never does. Within a visit only another source does; after
    one, everything but a direct return, which goes on where the visitor was.
    """
    if before is None:
        return True
    if came.keeps_previous:
        return False
    same = _origin(before.came) == _origin(came)
    if quiet_seconds < VISIT_SECONDS:
        return not same and came.kind is not Kind.DIRECT
    return True


def within(touches: Iterable[Touch], at_us: int, window_days: float = WINDOW_DAYS) -> list[Touch]:
    """Touches before a call inside the attribution window, in the order of time."""
    first = at_us - round(window_days * DAY_US)
    return sorted(
        (touch for touch in touches if first <= touch.at_us <= at_us), key=lambda touch: (touch.at_us, touch.visit_id)
    )


def credit(
    touches: Iterable[Touch], model: Model, at_us: int, window_days: float = WINDOW_DAYS
) -> list[tuple[Touch, float]]:
    """The touches that get credit for a call at `at_us`, and how much; sums to 1, or is empty without a touch."""
    known = within(touches, at_us, window_days)
    if not known:
        return []
    match model:
        case Model.FIRST:
            return [(known[0], 1.0)]
        case Model.LAST:
            return [(known[-1], 1.0)]
        case Model.LAST_NON_DIRECT:
            return [(next((touch for touch in reversed(known) if not touch.is_direct), known[-1]), 1.0)]
        case Model.LINEAR:
            return _shared(known, [1.0] * len(known))
        case Model.POSITION:
            return _shared(known, _by_position(len(known)))
        case Model.TIME_DECAY:
            newest = known[-1].at_us
            return _shared(known, [2.0 ** ((touch.at_us - newest) / (HALF_LIFE_DAYS * DAY_US)) for touch in known])


def deciding(touches: Iterable[Touch], at_us: int, window_days: float = WINDOW_DAYS) -> Touch | None:
    """The touch that a record names: the last that was not direct, else the last."""
    credited = credit(touches, Model.LAST_NON_DIRECT, at_us, window_days)
    return credited[0][0] if credited else None


def attributed(
    match: matching.Match,
    touch: Touch | None,
    number: book_.TrackingNumber | None,
    book: book_.Book | None,
) -> attribution.Attribution:
    """The record's `attribution`: who called, and where they came from by the touch of theirs that decides.

    A static number, and an overflow number without a visitor, go by the number's own source.
    """
    if match.method is attribution.Method.STATIC_NUMBER:
        return replace(attribution.of_number(number, book), visitor_id=match.visitor_id)
    found = attribution.Attribution(
        match.method,
        match.confidence,
        visitor_id=match.visitor_id,
        lease_id=match.lease_id,
        candidates=match.candidates,
    )
    if match.visitor_id is None:
        return _of_source(found, number.source if number is not None else None, book)
    return found if touch is None else _of_touch(found, touch, book)


def origin(touch: Touch, book: book_.Book | None) -> attribution.Attribution:
    """Where a touch came from, in the words of the record's `attribution`; method and confidence say nothing."""
    return _of_touch(attribution.UNKNOWN, touch, book)


def _of_touch(found: attribution.Attribution, touch: Touch, book: book_.Book | None) -> attribution.Attribution:
    came = touch.came
    named = replace(found, source=came.source, channel=came.kind.channel.value)
    if touch.source is not None:
        named = _of_source(found, touch.source, book)
    return replace(
        named,
        channel=named.channel or came.kind.channel.value,
        medium=came.medium,
        campaign=came.campaign or named.campaign,
        term=came.term,
        content=came.content,
        landing_page=touch.landing_page,
        referrer=touch.referrer,
        click_ids=dict(came.click_ids),
    )


def _of_source(found: attribution.Attribution, key: str | None, book: book_.Book | None) -> attribution.Attribution:
    source = book.sources.get(key) if book is not None and key is not None else None
    if source is None:
        return replace(found, source=key)
    return replace(
        found,
        source=source.key,
        source_name=source.name,
        parent_source=source.parent,
        campaign_type=source.campaign_type.value,
        cost_line=source.booked_on,
        channel=source.channel.value,
        medium=source.medium,
        campaign=source.campaign,
    )


def _origin(came: Classified) -> tuple[object, ...]:
    return came.kind, came.source, came.campaign, came.content, tuple(came.click_ids.items())


def _by_position(count: int) -> list[float]:
    if count <= 2:
        return [1.0] * count
    return [0.4, *[0.2 / (count - 2)] * (count - 2), 0.4]


def _shared(touches: Sequence[Touch], weights: Sequence[float]) -> list[tuple[Touch, float]]:
    total = sum(weights)
    return [(touch, weight / total) for touch, weight in zip(touches, weights, strict=True)]
