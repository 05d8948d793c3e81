"""How the number pools stand, for who looks after them (R96, R98-R101, N6): numbers free, lent, frozen and with a call,
how often there was none, how many would do, and numbers that seem to be printed somewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway import store
from gateway.core import leaks, poolmath, webbook
from gateway.core import pool as rules
from gateway.store import attributions, leases, overflows, poolalarms, visits

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
STAY_DAYS = 28
MAX_NUMBERS = 200
"""Of one pool, that are named one by one; counts are of all."""


@dataclass(frozen=True, slots=True)
class NumberStands:
    """One number of a pool. `issued_us` None: it was never lent; `held_until_us` while it is living or frozen."""

    number: str
    state: rules.State
    issued_us: int | None
    held_until_us: int | None
    calls: int
    """In the last `leaks.WATCH_DAYS` days."""


@dataclass(frozen=True, slots=True)
class PoolStands:
    """One pool. `overflow_visits` and `busiest_hour_visits` are of the last 24 hours; `would_do` numbers would show
    the overflow number to at most 1 % of the busiest hour's visitors."""

    pool: webbook.NumberPool
    now: rules.Exhausted
    """Of the numbers in the book; those that the daemon has not taken up yet are free."""
    calls_up: int
    """Calls to its numbers just now."""
    terms: rules.Terms
    mean_stay_seconds: float | None
    numbers: tuple[NumberStands, ...]
    overflow_visits: int
    busiest_hour_visits: int
    would_do: int | None
    """None: nobody wanted a number, or so many that no pool would do."""
    exhausted_us: int | None
    """When it was last told that none was free."""
    leaked: tuple[leaks.Suspicion, ...]

    @property
    def free(self) -> int:
        """Numbers to be had."""
        return self.now.size - self.now.held


async def standing(connection: store.Connection, web: webbook.WebBook, now_us: int) -> list[PoolStands]:
    """All pools of the book, in its order."""
    told = await poolalarms.alarms(connection)
    short = await overflows.counts(connection, now_us - DAY_US, now_us)
    return [
        await _pool(connection, web, one, now_us, told.get(one.key, poolalarms.Alarms()), short.get(one.key, 0))
        for one in web.pools.values()
    ]


async def _pool(
    connection: store.Connection,
    web: webbook.WebBook,
    one: webbook.NumberPool,
    now_us: int,
    told: poolalarms.Alarms,
    short: int,
) -> PoolStands:
    own = set(one.numbers)
    slots = [slot for slot in await leases.slots(connection, one.key) if slot.number in own]
    stay = await visits.mean_stay_seconds(connection, one.site, now_us - STAY_DAYS * DAY_US, now_us)
    terms = web.terms(one, stay)
    calls = await attributions.number_calls(connection, one.key, now_us - leaks.WATCH_DAYS * DAY_US, now_us)
    busiest = await overflows.busiest_hour(connection, one.key, now_us - DAY_US, now_us)
    now = replace(rules.exhausted(slots, now_us), size=len(own))
    leaked = leaks.found(one.numbers, calls, now_us)
    numbers = [_number(slot, now_us, len(calls.get(slot.number, ()))) for slot in slots]
    return PoolStands(
        pool=one,
        now=now,
        calls_up=sum(slot.call_until_us >= rules.ALWAYS_US for slot in slots),
        terms=terms,
        mean_stay_seconds=stay,
        numbers=tuple(numbers[:MAX_NUMBERS]),
        overflow_visits=short,
        busiest_hour_visits=busiest,
        would_do=_would_do(now, busiest, stay, terms, was_short=short > 0),
        exhausted_us=told.exhausted_us,
        leaked=tuple(sorted(leaked.values(), key=lambda leak: (-leak.calls, leak.number))),
    )


def _number(slot: rules.Slot, now_us: int, calls: int) -> NumberStands:
    state = slot.state(now_us)
    is_held = state in (rules.State.LIVING, rules.State.FROZEN)
    return NumberStands(slot.number, state, slot.issued_us or None, slot.held_until_us if is_held else None, calls)


def _would_do(
    now: rules.Exhausted, busiest: int, stay_seconds: float | None, terms: rules.Terms, *, was_short: bool
) -> int | None:
    """Where visitors found no number it is more than there are, as the alarm says it."""
    if not busiest:
        return None
    stay_minutes = (stay_seconds if stay_seconds is not None else rules.UNKNOWN_STAY_SECONDS) / 60
    demand = poolmath.Demand(busiest / 60, stay_minutes, terms.freeze_seconds / 60)
    wanted = demand.taken_softly() if terms.soft else demand
    try:
        return rules.would_do(now, wanted) if was_short else poolmath.numbers_needed(wanted.erlangs)
    except ValueError:
        return None
