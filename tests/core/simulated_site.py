"""A web site whose visitors and callers are known: the truth that attribution is held against (N4).

Visitors arrive at random and are given numbers by the real state machine; a tenth of them call, on the site, minutes or
days after, and now and then a stranger dials a number out of nowhere. Seeded, so each run is the same.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_right
from dataclasses import dataclass, replace

from gateway.core import pool
from gateway.core.delays import ON_SITE, Law
from gateway.core.matching import Holder

SECOND = 1_000_000
TRUTH = Law(on_site_share=0.7, late=((0.7, 900.0), (0.3, 86_400.0)), mean_stay_seconds=300.0)
CALLING_SHARE = 0.1


@dataclass(frozen=True)
class Call:
    """What happened: who really called which number."""

    number: str
    at_us: int
    visitor_id: str | None
    """None: a stray."""
    delay_seconds: float
    """After leaving; below zero: on the site."""


@dataclass
class Site:
    """Leases by number, in the order of issue, and calls in the order of time."""

    holders: dict[str, list[Holder]]
    calls: list[Call]
    leases: int
    seconds: float
    mean_stay_seconds: float
    overflow_shown: int

    def holders_before(self, number: str, at_us: int, count: int = 50) -> list[Holder]:
        """As a store gives them."""
        held = self.holders[number]
        last = bisect_right(held, at_us, key=lambda holder: holder.issued_us)
        return held[max(0, last - count) : last]


def simulate(
    *,
    numbers: int,
    visitors: int,
    seed: int,
    per_minute: float = 1.0,
    truth: Law = TRUTH,
    strays_per_day: float = 0.05,
    steady: bool = True,
) -> Site:
    """A site with a pool of `numbers`; stays are log-normal (cv = 2), the freeze is 1.2 × their mean.

    `steady`: while on the site a visitor calls at a steady rate, so who stays longer calls more; else those who call do
    it once, at any moment of their stay.
    """
    dice = random.Random(seed)
    mean_stay = truth.mean_stay_seconds
    terms = replace(pool.terms(pool.Freeze(), mean_stay), living_seconds=30 * 86_400.0)
    slots = {slot.number: slot for slot in (pool.Slot(f"+7499{place:07d}") for place in range(numbers))}
    sigma = math.sqrt(math.log(1 + 2.0**2))
    leaving: list[tuple[int, str, str]] = []
    site = Site({number: [] for number in slots}, [], 0, 0.0, 0.0, 0)
    now, stays = 0.0, 0.0
    for place in range(visitors):
        now += dice.expovariate(per_minute / 60)
        at_us = round(now * SECOND)
        while leaving and leaving[0][0] <= at_us:
            left_us, number, lease = heapq.heappop(leaving)
            slots[number] = pool.leave(slots[number], lease, left_us, terms) or slots[number]
        found = pool.ask(slots.values(), f"v{place}", f"l{place}", at_us, terms)
        if isinstance(found, pool.Exhausted):
            site.overflow_shown += 1
            continue
        stay = dice.lognormvariate(math.log(mean_stay) - sigma**2 / 2, sigma)
        slots[found.slot.number] = found.slot
        holder = Holder(f"l{place}", f"v{place}", at_us, at_us + round(stay * SECOND))
        heapq.heappush(leaving, (holder.gone_us, found.slot.number, holder.lease_id))
        site.holders[found.slot.number].append(holder)
        site.leases += 1
        stays += stay
        site.calls += _calls(found.slot.number, holder, truth, dice, steady=steady)
    site.seconds, site.mean_stay_seconds = now, stays / max(site.leases, 1)
    _add_strays(site, strays_per_day, dice)
    site.calls = sorted((call for call in site.calls if call.at_us <= now * SECOND), key=lambda call: call.at_us)
    return site


def _calls(number: str, holder: Holder, truth: Law, dice: random.Random, *, steady: bool) -> list[Call]:
    """Of one visitor."""
    stay = (holder.gone_us - holder.issued_us) / SECOND
    moments = []
    if steady:
        at = 0.0
        while (at := at + dice.expovariate(CALLING_SHARE * truth.density(ON_SITE))) <= stay:
            moments.append(at)
    elif dice.random() < CALLING_SHARE * truth.on_site_share:
        moments.append(dice.uniform(0, stay))
    made = [Call(number, holder.issued_us + round(at * SECOND), holder.visitor_id, ON_SITE) for at in moments]
    if dice.random() < CALLING_SHARE * (1 - truth.on_site_share):
        mean = dice.choices([mean for _, mean in truth.late], [share for share, _ in truth.late])[0]
        delay = dice.expovariate(1 / mean)
        made.append(Call(number, holder.gone_us + round(delay * SECOND), holder.visitor_id, delay))
    return made


def _add_strays(site: Site, per_day: float, dice: random.Random) -> None:
    for number in site.holders:
        at = 0.0
        while per_day > 0 and (at := at + dice.expovariate(per_day / 86_400)) < site.seconds:
            site.calls.append(Call(number, round(at * SECOND), None, math.inf))
