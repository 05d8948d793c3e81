"""Number pools as their page shows them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from gateway.core import leaks, pool
from gateway.services import poolwatch
from gateway.web import soundviews, views
from gateway.web.looks import Look

SECOND_US = 1_000_000

STATES: Mapping[pool.State, Look] = {
    pool.State.LIVING: Look("living", "Lent", "person", "live", "Its visitor is on the site"),
    pool.State.FROZEN: Look("frozen", "Frozen", "snow", "warn", "Kept for a visitor who left"),
    pool.State.CALLED: Look("called", "In a call", "phone", "quiet", "A call is up, or was just now"),
    pool.State.FREE: Look("free", "Free", "check", "good"),
}


@dataclass(frozen=True, slots=True)
class Share:
    """A state, how many numbers are in it, and where its part of the bar begins and how long it is (of 100)."""

    look: Look
    count: int
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class NumberView:
    """One number of a pool."""

    number: str
    look: Look
    issued: str
    held: str
    calls: int
    is_leaked: bool


@dataclass(frozen=True, slots=True)
class LeakView:
    """A number that seems to be printed somewhere."""

    number: str
    calls: int
    callers: int
    expected: str
    last: str


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool."""

    key: str
    site: str
    size: int
    shares: tuple[Share, ...]
    overflow: str
    overflow_visits: int
    busiest: int
    would_do: int | None
    is_short: bool
    """More numbers are wanted than there are."""
    freeze: str
    stay: str
    exhausted: str
    leaked: tuple[LeakView, ...]
    numbers: tuple[NumberView, ...]
    unnamed: int
    """Numbers that are only counted."""


def pool_view(one: poolwatch.PoolStands, now_us: int, zone: tzinfo) -> PoolView:
    """A pool at a moment."""
    counts = {
        pool.State.LIVING: one.now.living,
        pool.State.FROZEN: one.now.frozen,
        pool.State.CALLED: one.now.called,
        pool.State.FREE: one.free,
    }
    shares, start = [], 0.0
    for state, count in counts.items():
        width = 100 * count / one.now.size if one.now.size else 0.0
        shares.append(Share(STATES[state], count, start, width))
        start += width
    leaked = {leak.number for leak in one.leaked}
    return PoolView(
        key=one.pool.key,
        site=one.pool.site,
        size=one.now.size,
        shares=tuple(shares),
        overflow=views.phone(one.pool.overflow) if one.pool.overflow else "",
        overflow_visits=one.overflow_visits,
        busiest=one.busiest_hour_visits,
        would_do=one.would_do,
        is_short=one.would_do is not None and one.would_do > one.now.size,
        freeze=soundviews.length(one.terms.freeze_seconds),
        stay=soundviews.length(one.mean_stay_seconds),
        exhausted=_moment(one.exhausted_us, now_us, zone),
        leaked=tuple(_leak(leak, now_us, zone) for leak in one.leaked),
        numbers=tuple(_number(number, now_us, zone, number.number in leaked) for number in one.numbers),
        unnamed=one.now.size - len(one.numbers),
    )


def _number(one: poolwatch.NumberStands, now_us: int, zone: tzinfo, is_leaked: bool) -> NumberView:
    held = (one.held_until_us - now_us) / SECOND_US if one.held_until_us is not None else None
    return NumberView(
        number=views.phone(one.number),
        look=STATES[one.state],
        issued=_moment(one.issued_us, now_us, zone),
        held=soundviews.length(held),
        calls=one.calls,
        is_leaked=is_leaked,
    )


def _leak(leak: leaks.Suspicion, now_us: int, zone: tzinfo) -> LeakView:
    return LeakView(
        views.phone(leak.number), leak.calls, leak.callers, _few(leak.expected), _moment(leak.last_us, now_us, zone)
    )


def _few(expected: float) -> str:
    return "hardly any" if expected < 1 else f"about {expected:.0f}"


def _moment(at_us: int | None, now_us: int, zone: tzinfo) -> str:
    if at_us is None:
        return ""
    moment, now = (datetime.fromtimestamp(value / SECOND_US, UTC).astimezone(zone) for value in (at_us, now_us))
    return moment.strftime("%H:%M:%S" if moment.date() == now.date() else "%d %b, %H:%M")
