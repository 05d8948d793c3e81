"""How a pool of so many numbers does: by formula from figures, or by playing a site's own visits again (R101, N5).

The figures and what they mean are those of `gateway.core.poolmath` and `poolreplay`; times are minutes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gateway.core import displayrules, poolmath, poolreplay
from gateway.core.poolmath import RISK_MINUTES, SHARES, Demand, Outlook
from gateway.core.poolreplay import Policy, Progress, Visit

if TYPE_CHECKING:
    from gateway import store
    from gateway.core import book, webbook
    from gateway.store import visits as stored

PAGE = 5_000
"""Visits read from the database at a time."""
MINUTE_US = 60_000_000
CURVE_MINUTES = tuple(range(61))


@dataclass(frozen=True, slots=True)
class Pool:
    """What is asked: of a pool that is lent so, how `sizes` numbers do, beside what `shares` need."""

    freeze_minutes: float
    soft: bool = False
    policy: Policy = Policy.LEAST_RECENT
    sizes: tuple[int, ...] = ()
    price: float | None = None
    """Of one number a month, in any currency."""
    late_minutes: float | None = None
    """So long after leaving, on average, no number is to be somebody else's: one size more."""
    shares: tuple[float, ...] = SHARES
    """For which the sizes that are needed are looked for."""

    def effective(self, demand: Demand) -> Demand:
        """The demand that the formulas go by."""
        return demand.taken_softly() if self.soft else demand


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out. `outlooks` are by size, smallest first. A risk is NaN where there is no formula for it."""

    pool: Pool
    demand: Demand
    """Of a replay: arrivals of its busiest hour, mean time on site of all visits."""
    outlooks: tuple[Outlook, ...]
    needed: dict[float, int]
    """Size by share."""
    late_size: int | None = None
    visits: int | None = None
    """How many were played; None = by formula."""
    busiest: tuple[Outlook, ...] = ()
    """Of a replay: the same sizes in its busiest hour, by formula."""
    tried: Mapping[int, float] = field(default_factory=dict)
    """Of a replay: share shown the overflow number by size, of more sizes."""
    curves: Mapping[int, Sequence[float]] = field(default_factory=dict)
    """By size the wrong-visitor risk at each of `CURVE_MINUTES`, where it was asked for."""


def by_formula(pool: Pool, demand: Demand) -> Outcome:
    """By Erlang's formulas. Raises ValueError when more numbers than `poolmath.MAX_NUMBERS` would be needed."""
    effective = pool.effective(demand)
    needed = {share: poolmath.numbers_needed(effective.erlangs, share) for share in pool.shares}
    late = None
    if pool.late_minutes is not None:
        late = poolmath.numbers_for(effective, late_minutes=pool.late_minutes)
    sizes = sorted({*pool.sizes, *needed.values(), *([late] if late is not None else [])})
    return Outcome(pool, demand, tuple(_formula(pool, effective, size) for size in sizes), needed, late)


def by_replay(
    pool: Pool,
    visits: Sequence[Visit],
    *,
    warm_up: float = 0.0,
    progress: Progress | None = None,
    with_curves: bool = False,
) -> Outcome:
    """By playing `visits`, in the order of their arrival. `warm_up` as for `poolreplay.replay`; the sizes that are
    needed are worked out without."""
    demand = poolreplay.demand_of(visits, pool.freeze_minutes)
    tried: dict[int, float] = {}
    needed = poolreplay.sizes_needed(
        visits, pool.freeze_minutes, pool.shares, soft=pool.soft, progress=progress, played=tried
    )
    late = None
    if pool.late_minutes is not None:
        late = poolmath.numbers_for(pool.effective(demand), late_minutes=pool.late_minutes)
    sizes = sorted({*pool.sizes, *needed.values(), *([late] if late is not None else [])})
    played, curves = [], {}
    for size in sizes:
        found = poolreplay.replay(
            visits,
            size,
            pool.freeze_minutes,
            soft=pool.soft,
            policy=pool.policy,
            pick=random.Random(size).randrange,  # noqa: S311 - dice, the same in every run
            warm_up=warm_up,
            progress=progress,
        )
        played.append(_outlook(pool, found))
        if with_curves:
            curves[size] = [found.reissued_by(minutes) for minutes in CURVE_MINUTES]
    for size in _between(sizes) if with_curves else ():
        if size not in tried:
            found = poolreplay.replay(visits, size, pool.freeze_minutes, soft=pool.soft, progress=progress)
            tried[size] = found.overflow_share
    busiest = tuple(_formula(pool, pool.effective(demand), size) for size in sizes)
    return Outcome(pool, demand, tuple(played), needed, late, len(visits), busiest, tried, curves)


def _between(sizes: Sequence[int]) -> list[int]:
    """Sizes for a line: from far too few to more than enough."""
    first, last = max(1, sizes[0] // 3), sizes[-1]
    return sorted({first + (last - first) * place // 8 for place in range(9)})


def curve(pool: Pool, demand: Demand, size: int, minutes: Sequence[float]) -> list[float]:
    """Wrong-visitor risk by formula at each of `minutes` after leaving."""
    effective = pool.effective(demand)
    if pool.policy is Policy.MOST_RECENT:
        return [math.nan] * len(minutes)
    law = poolmath.reissued_lru if pool.policy is Policy.LEAST_RECENT else poolmath.reissued_random
    return [law(effective, size, at) for at in minutes]


def _formula(pool: Pool, effective: Demand, size: int) -> Outlook:
    made = poolmath.outlook(effective, size, pool.price)
    if pool.policy is Policy.LEAST_RECENT:
        return made
    risks = curve(pool, effective, size, RISK_MINUTES)
    return replace(made, risks=tuple(zip(RISK_MINUTES, risks, strict=True)))


def _outlook(pool: Pool, found: poolreplay.Replay) -> Outlook:
    return Outlook(
        size=found.size,
        overflow_share=found.overflow_share,
        reissue_minutes=found.reissue_minutes,
        risks=tuple((minutes, found.reissued_by(minutes)) for minutes in RISK_MINUTES),
        monthly_cost=None if pool.price is None else found.size * pool.price,
    )


# ---- The site's own visits ----


async def read_visits(
    connection: store.Connection,
    book_in_force: book.Book,
    site: str,
    pool: str | None,
    since_us: int,
    until_us: int,
    progress: Progress | None = None,
) -> list[Visit]:
    """The site's visits of the time, as `poolreplay` wants them: those that the rules in force send to `pool`, or all.

    Minutes count from `since_us`. A visit that went on where an earlier one was is judged by that one, as when it came.
    """
    from gateway.store import visits as stored

    chooser = _Chooser(book_in_force.web, site, pool) if pool is not None else None
    found: list[Visit] = []
    last = None
    read = 0
    while True:
        page = await stored.begun(connection, site, since_us, until_us, after=last, limit=PAGE)
        if chooser is not None:
            strangers = chooser.unknown(page)
            chooser.learn((await stored.last_touches(connection, strangers, page[0].touch.at_us)) if strangers else {})
        for visit in page:
            if chooser is None or chooser.wants(visit):
                stay = max(0, visit.seen_us - visit.touch.at_us) / MINUTE_US
                found.append(Visit((visit.touch.at_us - since_us) / MINUTE_US, stay, visit.touch.visitor_id))
        read += len(page)
        if len(page) < PAGE:
            return found
        last = page[-1]
        if progress is not None:
            progress(0, read)


class _Chooser:
    """Which visits want a number of a pool, by the rules in force; reads them in the order of time."""

    def __init__(self, web: webbook.WebBook, site: str, pool: str) -> None:
        self._web, self._site, self._pool = web, site, pool
        self._wants: dict[str, bool] = {}

    def unknown(self, page: Sequence[stored.Visit]) -> set[str]:
        """Visitors of the page whose first visit in it goes on from one that was not read."""
        met: set[str] = set()
        found = set()
        for visit in page:
            visitor = visit.touch.visitor_id
            if not visit.is_touch and visitor not in met and visitor not in self._wants:
                found.add(visitor)
            met.add(visitor)
        return found

    def learn(self, touches: dict[str, stored.Visit]) -> None:
        """Visits before those that are read."""
        for visit in touches.values():
            self.wants(visit)

    def wants(self, visit: stored.Visit) -> bool:
        """Whether the visit is shown a number of the pool."""
        visitor = visit.touch.visitor_id
        if visit.is_touch or visitor not in self._wants:
            self._wants[visitor] = any(shown.pool == self._pool for shown in self._shown(visit))
        return self._wants[visitor]

    def _shown(self, visit: stored.Visit) -> Iterator[displayrules.Shown]:
        web, came = self._web, visit.touch.came
        source = displayrules.source_of(web.source_rules, visit.landing, came)
        place = displayrules.Place(visit.on.country, (visit.on.city,) if visit.on.city is not None else ())
        facts = displayrules.Facts(visit.landing, came, source, place)
        rules = web.rules_of(self._site)
        for target in web.sites[self._site].targets:
            yield displayrules.decide(rules, facts, target=target)
