"""What a pool of a given size would have done with visits that really happened (R101, N5).

The formulas of `gateway.core.poolmath` suppose that visitors arrive independently; a site with a radio spot at noon
knows better. Here each visit is played again: numbers are held for the stay, frozen after it, and issued by a policy.
Times are minutes from any origin.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from gateway.core import poolmath
from gateway.core.poolmath import MAX_NUMBERS, Demand


class Policy(StrEnum):
    """Which idle number is issued next. The gateway itself knows only the first; the others show why."""

    LEAST_RECENT = "least_recent"
    RANDOM = "random"
    MOST_RECENT = "most_recent"


Progress = Callable[[int, int], None]
"""Told now and then against how many numbers is played, and how many visits of this turn are done."""

TELL_EVERY = 16_384
"""Visits."""


class Visit(NamedTuple):
    """One visit that wanted a number. A `visitor` who comes back gets the same number if it is still to be had."""

    arrived: float
    stay: float
    visitor: str | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """What happened to a pool of `size` numbers."""

    size: int
    visits: int
    """Counted, which is without those of the warm-up."""
    overflow_shown: int
    reissued: int
    """Numbers that went from one visitor to another."""
    reissue_minutes: float
    """Mean time from leaving until somebody else had the number; infinite when that never happened."""
    most_held: int
    releases: tuple[tuple[float, float], ...]
    """(when a visitor left for good, minutes until somebody else had the number or infinity)."""
    ended: float
    """When the last visit arrived."""

    @property
    def overflow_share(self) -> float:
        """Of the visits, shown the overflow number."""
        return self.overflow_shown / self.visits if self.visits else 0.0

    def reissued_by(self, minutes: float) -> float:
        """Share of numbers that were somebody else's so long after their visitor had left: the wrong-visitor risk.

        Visitors who left too late for the replay to know do not count.
        """
        known = [gap for left, gap in self.releases if left + minutes <= self.ended]
        return sum(gap <= minutes for gap in known) / len(known) if known else 0.0


def replay(
    visits: Sequence[Visit],
    size: int,
    freeze_minutes: float,
    *,
    soft: bool = False,
    policy: Policy = Policy.LEAST_RECENT,
    pick: Callable[[int], int] | None = None,
    warm_up: float = 0.0,
    progress: Progress | None = None,
) -> Replay:
    """Play `visits`, in order of arrival, against `size` numbers.

    `soft`: a frozen number is issued before the overflow number. `pick(n)` gives one of 0 to n - 1 for the random
    policy. `warm_up` is the share of visits at the beginning that fill the pool and are not counted.
    Raises ValueError for visits out of order, and for the random policy without `pick`.
    """
    if policy is Policy.RANDOM and pick is None:
        raise ValueError("the random policy needs something to pick with")
    table = _Table(size, freeze_minutes, soft, policy, pick or (lambda count: 0))
    first = int(len(visits) * warm_up)
    shown, last = 0, -math.inf
    for place, visit in enumerate(visits):
        if visit.arrived < last:
            raise ValueError("visits must be in the order of their arrival")
        last = visit.arrived
        if place == first:
            table.forget()
        if progress is not None and place % TELL_EVERY == 0:
            progress(size, place)
        if not table.seat(visit) and place >= first:
            shown += 1
    return table.result(len(visits) - first, shown, last)


def numbers_needed(
    visits: Sequence[Visit],
    freeze_minutes: float,
    overflow_share: float,
    *,
    soft: bool = False,
    progress: Progress | None = None,
) -> int:
    """Smallest pool that would have shown the overflow number to at most `overflow_share` of `visits`."""
    return sizes_needed(visits, freeze_minutes, (overflow_share,), soft=soft, progress=progress)[overflow_share]


def sizes_needed(
    visits: Sequence[Visit],
    freeze_minutes: float,
    overflow_shares: Sequence[float],
    *,
    soft: bool = False,
    progress: Progress | None = None,
    played: dict[int, float] | None = None,
) -> dict[float, int]:
    """`numbers_needed` for each of the shares; what was played for one serves the others. `played` is filled with what
    share each size that was tried has shown."""
    played = played if played is not None else {}

    def share_of(size: int) -> float:
        if size not in played:
            played[size] = replay(visits, size, freeze_minutes, soft=soft, progress=progress).overflow_share
        return played[size]

    def smallest(share: float) -> int:
        """Looks around what the formula says of the mean load, in growing steps, then between the last two."""
        enough = _near(visits, freeze_minutes if not soft else 0.0, share)
        too_few, step = 0, 1
        while share_of(enough) > share and enough < MAX_NUMBERS:
            too_few, enough, step = enough, min(enough + step, MAX_NUMBERS), 2 * step
        while not too_few and enough > 1:
            fewer, step = max(1, enough - step), 2 * step
            if share_of(fewer) <= share:
                enough = fewer
            else:
                too_few = fewer
        while enough - too_few > 1:
            middle = (enough + too_few) // 2
            if share_of(middle) <= share:
                enough = middle
            else:
                too_few = middle
        return enough

    return {share: smallest(share) for share in overflow_shares}


def _near(visits: Sequence[Visit], freeze_minutes: float, share: float) -> int:
    span = visits[-1].arrived - visits[0].arrived if visits else 0.0
    held = sum(visit.stay + freeze_minutes for visit in visits)
    return 1 if span <= 0 else min(poolmath.numbers_needed(min(held / span, MAX_NUMBERS / 2), share), len(visits))


def demand_of(visits: Sequence[Visit], freeze_minutes: float) -> Demand:
    """The figures for the formulas: arrivals of the busiest sixty minutes, mean time on site of all visits."""
    if not visits:
        return Demand(0.0, 0.0, freeze_minutes)
    arrivals = sorted(visit.arrived for visit in visits)
    busiest, first = 0, 0
    for place, arrived in enumerate(arrivals):
        while arrived - arrivals[first] >= 60:
            first += 1
        busiest = max(busiest, place - first + 1)
    return Demand(busiest / 60, sum(visit.stay for visit in visits) / len(visits), freeze_minutes)


class _Table:
    """The numbers of the pool: with a visitor who is there, frozen, or idle; the last two in the order of leaving."""

    def __init__(self, size: int, freeze: float, soft: bool, policy: Policy, pick: Callable[[int], int]) -> None:
        self.size, self.freeze, self.soft, self.policy, self.pick = size, freeze, soft, policy, pick
        self.idle: OrderedDict[int, None] = OrderedDict.fromkeys(range(size))
        self.frozen: OrderedDict[int, float] = OrderedDict()
        self.leaving: list[tuple[float, int]] = []
        self.leaves: dict[int, float] = {}
        """Of numbers whose visitor is there: until when. An entry of `leaving` with another time is stale."""
        self.left: dict[int, float] = {}
        self.holder: dict[int, str | None] = {}
        self.seats: dict[str, int] = {}
        self.releases: list[tuple[float, float]] = []
        self.most_held = 0

    def forget(self) -> None:
        """Begin to count."""
        self.releases.clear()
        self.most_held = 0

    def seat(self, visit: Visit) -> bool:
        """Give the visitor a number; False when there is none."""
        self._pass_time(visit.arrived)
        number = self._own(visit)
        if number is None:
            number = self._next()
            if number is None:
                return False
            self._hand_over(number, visit)
        leaves = max(visit.arrived + visit.stay, self.leaves.get(number, -math.inf))
        self.leaves[number] = leaves
        heapq.heappush(self.leaving, (leaves, number))
        self.most_held = max(self.most_held, self.size - len(self.idle))
        return True

    def result(self, visits: int, shown: int, ended: float) -> Replay:
        """What was counted. Numbers that nobody else got count as such."""
        gaps = [gap for _, gap in self.releases]
        mean = sum(gaps) / len(gaps) if gaps else math.inf
        never = [(left, math.inf) for number, left in self.left.items() if number not in self.leaves]
        releases = (*self.releases, *never)
        return Replay(self.size, visits, shown, len(gaps), mean, self.most_held, releases, ended)

    def _pass_time(self, now: float) -> None:
        while self.leaving and self.leaving[0][0] <= now:
            left, number = heapq.heappop(self.leaving)
            if self.leaves.get(number) == left:
                del self.leaves[number]
                self.left[number] = left
                self.frozen[number] = left
        while self.frozen:
            number, left = next(iter(self.frozen.items()))
            if left + self.freeze > now:
                break
            del self.frozen[number]
            self.idle[number] = None

    def _own(self, visit: Visit) -> int | None:
        """The number that this visitor had, if nobody else has it since."""
        number = self.seats.get(visit.visitor) if visit.visitor is not None else None
        if number is None or self.holder.get(number) != visit.visitor:
            return None
        self.frozen.pop(number, None)
        self.idle.pop(number, None)
        return number

    def _next(self) -> int | None:
        if not self.idle:
            return self.frozen.popitem(last=False)[0] if self.soft and self.frozen else None
        if self.policy is Policy.RANDOM:
            number = list(self.idle)[self.pick(len(self.idle))]
            del self.idle[number]
            return number
        return self.idle.popitem(last=self.policy is Policy.MOST_RECENT)[0]

    def _hand_over(self, number: int, visit: Visit) -> None:
        left = self.left.pop(number, None)
        if left is not None:
            self.releases.append((left, visit.arrived - left))
        self.holder[number] = visit.visitor
        if visit.visitor is not None:
            self.seats[visit.visitor] = number
