"""How many numbers a pool needs, and what too few cost (R101, N5): Erlang's formulas over visits.

A pool is M/G/c/c: visitors arrive as a Poisson stream, each holds one of `size` numbers for the time on site and the
freeze after it, and whoever finds none is shown the overflow number. The formulas do not depend on how the times are
spread, only on their mean. Times are minutes and rates are per minute throughout, of the busiest hour. Replaying a
site's own visits instead is `gateway.core.poolreplay`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate

USUAL_OVERFLOW_SHARE = 0.01
"""The share of visitors who may see the overflow number, unless the operator says otherwise."""

SHARES = (0.01, 0.001)
"""For which the simulator says how many numbers are needed (issue 4, R101)."""

RISK_MINUTES = (5, 10, 15, 20, 30, 60)
"""After leaving: when the wrong-visitor risk is told."""

MAX_NUMBERS = 100_000
"""A pool larger than this is a mistake in the figures."""

_NEGLIGIBLE = 1e-15


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pool has to carry: only visitors whom a display rule sends to the pool, without bots."""

    arrivals_per_minute: float
    stay_minutes: float
    """Mean time on site."""
    freeze_minutes: float
    """A number is kept for its visitor so long after the last sign of life."""

    def __post_init__(self) -> None:
        """Raises ValueError for figures below zero or not finite."""
        for figure in (self.arrivals_per_minute, self.stay_minutes, self.freeze_minutes):
            if not (math.isfinite(figure) and figure >= 0):
                raise ValueError(f"{figure} is no rate and no time")

    @property
    def erlangs(self) -> float:
        """Offered load: mean count of numbers held if there were always one."""
        return self.arrivals_per_minute * (self.stay_minutes + self.freeze_minutes)

    def taken_softly(self) -> Demand:
        """The demand of a pool with a soft freeze: frozen numbers are to be had, the longest frozen first, so only
        visitors who are on the site hold theirs. The order in which numbers go out stays the same."""
        return replace(self, freeze_minutes=0.0)

    def with_bots(self, share: float) -> Demand:
        """The demand when `share` (0 to below 1) of all that arrives are undetected bots."""
        return replace(self, arrivals_per_minute=self.arrivals_per_minute / (1 - share))


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a pool of `size` numbers does under a demand."""

    size: int
    overflow_share: float
    """Of visitors, shown the overflow number."""
    reissue_minutes: float
    """Mean time from leaving until the number is somebody else's; infinite without demand."""
    risks: tuple[tuple[float, float], ...]
    """(minutes after leaving, share of numbers that are somebody else's by then)."""
    monthly_cost: float | None = None


def erlang_b(size: int, erlangs: float) -> float:
    """Share of visitors who find no number in a pool of `size` under a load of `erlangs`."""
    if erlangs <= 0:
        return 0.0 if size > 0 else 1.0
    blocked = 1.0
    for count in range(1, size + 1):
        blocked = erlangs * blocked / (count + erlangs * blocked)
    return blocked


@lru_cache(maxsize=256)
def numbers_needed(erlangs: float, overflow_share: float = USUAL_OVERFLOW_SHARE) -> int:
    """Smallest pool that shows the overflow number to at most `overflow_share` of visitors.

    Raises ValueError when more than `MAX_NUMBERS` were needed.
    """
    if erlangs <= 0:
        return 1
    blocked, size = 1.0, 0
    while blocked > overflow_share:
        size += 1
        if size > MAX_NUMBERS:
            raise ValueError(f"more than {MAX_NUMBERS} numbers would be needed")
        blocked = erlangs * blocked / (size + erlangs * blocked)
    return size


def numbers_for(demand: Demand, overflow_share: float = USUAL_OVERFLOW_SHARE, late_minutes: float = 0.0) -> int:
    """Smallest pool that keeps to `overflow_share` and, on average, gives no number to another visitor for
    `late_minutes` after leaving (the 90th percentile of observed late calls is a good choice)."""
    protected = math.ceil(demand.arrivals_per_minute * (demand.stay_minutes + late_minutes) - 1e-9)
    return max(numbers_needed(demand.erlangs, overflow_share), protected if late_minutes > 0 else 1)


def busy_shares(size: int, erlangs: float) -> list[float]:
    """Share of time during which 0, 1, … `size` numbers are held. Sums to 1."""
    if erlangs <= 0:
        return [1.0] + [0.0] * size
    logs = [count * math.log(erlangs) - math.lgamma(count + 1) for count in range(size + 1)]
    highest = max(logs)
    weights = [math.exp(log - highest) for log in logs]
    total = sum(weights)
    return [weight / total for weight in weights]


def reissued_lru(demand: Demand, size: int, minutes: float) -> float:
    """Share of numbers that are another visitor's `minutes` after their visitor left, issued least recently used.

    A number that is released while n others are held has `size - 1 - n` idle ones before it, and so goes out with
    the (size - n)-th arrival after its freeze.
    """
    late = demand.arrivals_per_minute * (minutes - demand.freeze_minutes)
    if late <= 0 or size < 1:
        return 0.0
    shares = busy_shares(size, demand.erlangs)
    free = 1 - shares[size]
    if free <= 0:
        return 1.0
    tails = _poisson_tails(late, size)
    return min(1.0, sum(shares[held] / free * tails[size - held] for held in range(size)))


def reissued_random(demand: Demand, size: int, minutes: float) -> float:
    """The same when idle numbers are issued at random; an approximation, good to about 0.03."""
    late = minutes - demand.freeze_minutes
    carried = 1 - erlang_b(size, demand.erlangs)
    idle = size - demand.erlangs * carried
    if late <= 0 or size < 1:
        return 0.0
    return 1.0 if idle <= 0 else 1 - math.exp(-demand.arrivals_per_minute * carried * late / idle)


def reissue_minutes(demand: Demand, size: int) -> float:
    """Mean time from leaving until somebody else has the number (Little's law); the freeze cancels out of it.

    Infinite when nobody arrives.
    """
    issued = demand.arrivals_per_minute * (1 - erlang_b(size, demand.erlangs))
    return size / issued - demand.stay_minutes if issued > 0 else math.inf


def poisson_tail(mean: float, count: int) -> float:
    """Chance of `count` events or more where `mean` are expected."""
    if count <= 0:
        return 1.0
    return _poisson_tails(mean, count)[count] if mean > 0 else 0.0


def outlook(demand: Demand, size: int, monthly_price: float | None = None) -> Outlook:
    """Everything the simulator says of one pool size. `monthly_price` is that of one number, in any currency."""
    return Outlook(
        size=size,
        overflow_share=erlang_b(size, demand.erlangs),
        reissue_minutes=reissue_minutes(demand, size),
        risks=tuple((minutes, reissued_lru(demand, size, minutes)) for minutes in RISK_MINUTES),
        monthly_cost=None if monthly_price is None else size * monthly_price,
    )


def outlooks(demand: Demand, sizes: Sequence[int] = (), monthly_price: float | None = None) -> list[Outlook]:
    """One outlook per size, smallest first: those asked for and those that `SHARES` need."""
    wanted = {*sizes, *(numbers_needed(demand.erlangs, share) for share in SHARES)}
    return [outlook(demand, size, monthly_price) for size in sorted(wanted)]


def _poisson_tails(mean: float, highest: int) -> list[float]:
    """P[Poisson(mean) >= k] for k = 0 to `highest`, from the end on which nothing cancels or vanishes."""
    just = [math.exp(count * math.log(mean) - mean - math.lgamma(count + 1)) for count in range(highest + 1)]
    if highest <= mean:
        return [max(0.0, 1 - below) for below in accumulate(just[:-1], initial=0.0)]
    beyond, term, count = 0.0, just[highest], highest
    while term > _NEGLIGIBLE:
        beyond += term
        count += 1
        term *= mean / count
    return list(accumulate(reversed(just[:-1]), initial=beyond))[::-1]
