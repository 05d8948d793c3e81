"""Pool numbers that got out: copied into print, a directory, somebody's address book (N6).

Two signs. A number is called although nobody has been shown it for a day, more often than strays explain. Or a number
of a busy pool, which is never idle so long, is called far more often than its sisters, although least recently used
issue shows all of them alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.core import poolmath

IDLE_SECONDS = 86_400.0
"""A call counts when its number had been nobody's for so long (attribution.md 3.1, 6)."""

WATCH_DAYS = 14
LEAST_CALLS = 3
LEAST_CALLERS = 2
"""One person who calls again and again is a customer, not a leak."""

STRAYS_PER_DAY = 1 / 365
CHANCE = 0.001
"""Chance of suspecting a number that did not leak, by number."""

DAY_US = 86_400 * 1_000_000


@dataclass(frozen=True, slots=True)
class NumberCall:
    """One call to a pool number. `idle_seconds` as in `matching.Match`: None = nobody was shown it in the lookback."""

    at_us: int
    caller: str | None
    idle_seconds: float | None
    is_click: bool = False


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Why a number is believed to have leaked; goes out as the event `pool.leak_suspected`."""

    number: str
    calls: int
    callers: int
    expected: float
    """Calls that were to be expected."""
    first_us: int
    last_us: int


def suspect(
    number: str, calls: Iterable[NumberCall], now_us: int, strays_per_day: float = STRAYS_PER_DAY
) -> Suspicion | None:
    """Whether `number` is called although it is shown to nobody, within the last `WATCH_DAYS`. An anonymous caller is
    somebody else each time."""
    counted = [
        call
        for call in calls
        if now_us - WATCH_DAYS * DAY_US < call.at_us <= now_us
        and not call.is_click
        and (call.idle_seconds is None or call.idle_seconds > IDLE_SECONDS)
    ]
    expected = strays_per_day * WATCH_DAYS
    if len(counted) < LEAST_CALLS or poolmath.poisson_tail(expected, len(counted)) > CHANCE:
        return None
    return _suspicion(number, counted, expected)


def outliers(calls: Mapping[str, Iterable[NumberCall]]) -> list[Suspicion]:
    """Numbers of one pool that are called far more often than the others, the worst first.

    `calls` has every number that was in the pool all the time, those that nobody called as well.
    """
    known = {number: list(theirs) for number, theirs in calls.items()}
    total = sum(map(len, known.values()))
    worst = []
    for number, counted in known.items():
        # The others tell what is usual; one call more of them, so that a silent pool suspects nobody at the first call.
        expected = (total - len(counted) + 1) / max(len(known) - 1, 1)
        few = len(known) < LEAST_CALLS or len(counted) < LEAST_CALLS
        if not few and poolmath.poisson_tail(expected, len(counted)) <= CHANCE / len(known):
            suspicion = _suspicion(number, counted, expected)
            worst += [suspicion] if suspicion is not None else []
    return sorted(worst, key=lambda suspicion: (suspicion.expected - suspicion.calls, suspicion.number))


def found(numbers: Iterable[str], calls: Mapping[str, Iterable[NumberCall]], now_us: int) -> dict[str, Suspicion]:
    """All numbers of one pool that seem to have leaked, by either sign. `calls` of the last `WATCH_DAYS`."""
    by_number = {number: list(calls.get(number, ())) for number in numbers}
    suspected = {leak.number: leak for leak in outliers(by_number)}
    for number, theirs in by_number.items():
        if (leak := suspect(number, theirs, now_us)) is not None:
            suspected[number] = leak
    return suspected


def _suspicion(number: str, calls: list[NumberCall], expected: float) -> Suspicion | None:
    callers = len({call.caller for call in calls if call.caller is not None}) + sum(
        call.caller is None for call in calls
    )
    if callers < LEAST_CALLERS:
        return None
    times = [call.at_us for call in calls]
    return Suspicion(number, len(calls), callers, expected, min(times), max(times))
