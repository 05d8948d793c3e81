"""When the visitors of a pool call, learnt from its own calls (N4, N6): a stated confidence is true only by the law of
the very site."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway import store
from gateway.core import delays, matching, pool
from gateway.store import attributions, leases

FIT_DAYS = 30
LEAST_CALLS = 50
MOST_CALLS = 1_000
"""The latest; fitting takes about a millisecond for each."""

DAY_US = 86_400 * 1_000_000


async def fitted(
    database: store.Database, key: str, numbers: int, mean_stay_seconds: float | None, now_us: int
) -> delays.Law:
    """The law of a pool of so many numbers, by its calls of the last 30 days; with few calls the usual one, which
    knows the site's mean time on site."""
    stay = mean_stay_seconds if mean_stay_seconds is not None else pool.UNKNOWN_STAY_SECONDS
    since_us = now_us - FIT_DAYS * DAY_US
    async with database.read() as connection:
        calls = await attributions.latest(connection, key, since_us, now_us, limit=MOST_CALLS)
        if len(calls) < LEAST_CALLS:
            return replace(delays.Law(), mean_stay_seconds=stay)
        # Of many calls the latest: the time that they span is what leases and strays are counted in.
        first_us = min(at_us for _, at_us in calls) if len(calls) == MOST_CALLS else since_us
        observed = []
        for number, at_us in calls:
            holders, is_cut = await leases.holders(connection, number, at_us)
            observed.append(matching.observed(holders, at_us, is_cut=is_cut))
        begun = await leases.count(connection, key, first_us, now_us)
    found = await asyncio.to_thread(
        delays.fit,
        observed,
        leases=begun,
        number_seconds=numbers * (now_us - first_us) / 1_000_000,
        mean_stay_seconds=stay,
    )
    return found.law
