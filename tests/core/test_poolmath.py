"""How many numbers a pool needs (R101, N5): the formulas and the replay, held against every cell of the tables in
attribution.md 2.3 and 2.4."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import poolmath, poolreplay
from gateway.core.poolmath import Demand
from gateway.core.poolreplay import Policy, Visit

VISITS = 80_000
WITHIN = 0.01

Stay = Callable[[random.Random], float]


def exponential(mean: float) -> Stay:
    return lambda dice: dice.expovariate(1 / mean)


def lognormal(mean: float, variation: float = 2.0) -> Stay:
    sigma = math.sqrt(math.log(1 + variation**2))
    return lambda dice: dice.lognormvariate(math.log(mean) - sigma**2 / 2, sigma)


def constant(mean: float) -> Stay:
    return lambda dice: mean


STAYS: dict[str, Callable[[float], Stay]] = {
    "exponential": exponential,
    "lognormal": lognormal,
    "constant": constant,
}


@cache
def visits(rate: float, spread: str, mean_stay: float, seed: int, count: int = VISITS) -> list[Visit]:
    """A Poisson stream of strangers."""
    dice, now, made = random.Random(seed), 0.0, []
    stay = STAYS[spread](mean_stay)
    for _ in range(count):
        now += dice.expovariate(rate)
        made.append(Visit(now, stay(dice)))
    return made


# ---- attribution.md 2.3: share shown the overflow number ----

# λ, E[S], F, c, a, formula, then simulated with exponential, lognormal (cv = 2) and constant stays.
OVERFLOW = (
    (1, 5, 6, 11, 11, 0.2061, {"exponential": 0.2052, "lognormal": 0.2075, "constant": 0.2055}),
    (1, 5, 6, 18, 11, 0.0148, {"exponential": 0.0150, "lognormal": 0.0148, "constant": 0.0145}),
    (1, 5, 20, 36, 25, 0.0080, {"exponential": 0.0078, "lognormal": 0.0078, "constant": 0.0080}),
    (5, 4, 4.8, 58, 44, 0.0070, {"exponential": 0.0065, "lognormal": 0.0071, "constant": 0.0071}),
)


@pytest.mark.parametrize(("rate", "stay", "freeze", "size", "load", "formula", "simulated"), OVERFLOW)
def test_overflow_share_by_formula(
    rate: float, stay: float, freeze: float, size: int, load: float, formula: float, simulated: dict[str, float]
) -> None:
    demand = Demand(rate, stay, freeze)
    assert demand.erlangs == pytest.approx(load)
    assert poolmath.erlang_b(size, load) == pytest.approx(formula, abs=0.00005)


@pytest.mark.parametrize("spread", STAYS)
@pytest.mark.parametrize(("rate", "stay", "freeze", "size", "load", "formula", "simulated"), OVERFLOW)
def test_overflow_share_by_replay(
    rate: float,
    stay: float,
    freeze: float,
    size: int,
    load: float,
    formula: float,
    simulated: dict[str, float],
    spread: str,
) -> None:
    """However the stays are spread, the replay finds the table's share, and so the formula's."""
    stream = visits(rate, spread, stay, seed=4)
    found = poolreplay.replay(stream, size, freeze, warm_up=0.1)
    assert found.overflow_share == pytest.approx(simulated[spread], abs=WITHIN)
    assert found.overflow_share == pytest.approx(formula, abs=WITHIN)


# ---- attribution.md 2.3: re-issued by d minutes after leaving ----

MINUTES = (5, 10, 20, 30)
# case, policy, formula at 5, 10, 20 and 30 minutes, simulated at the same, mean gap by formula and simulated.
FIRST, SECOND, THIRD = (1, 5, 6, 18), (1, 5, 20, 36), (5, 4, 4.8, 100)
REISSUED = (
    (FIRST, Policy.LEAST_RECENT, (0, 0.226, 0.938, 0.999), (0, 0.227, 0.937, 1.0), 13.3, 13.3),
    (FIRST, Policy.RANDOM, (0, 0.423, 0.854, 0.963), (0, 0.453, 0.845, 0.954), 13.3, 13.3),
    (FIRST, Policy.MOST_RECENT, (0, None, None, None), (0, 0.729, 0.880, 0.928), 13.3, 13.3),
    (SECOND, Policy.LEAST_RECENT, (0, 0, 0, 0.443), (0, 0, 0, 0.442), 31.3, 31.3),
    (THIRD, Policy.LEAST_RECENT, (0, 0, 0.972, 1), (0, 0.001, 0.972, 1), 16.0, 16.0),
    (THIRD, Policy.RANDOM, (0.018, 0.371, 0.743, 0.895), (0.018, 0.373, 0.741, 0.894), 16.0, 16.0),
)
Case = tuple[float, float, float, int]


@pytest.mark.parametrize(("case", "policy", "formula", "simulated", "gap", "simulated_gap"), REISSUED)
def test_wrong_visitor_risk(
    case: Case,
    policy: Policy,
    formula: tuple[float | None, ...],
    simulated: tuple[float, ...],
    gap: float,
    simulated_gap: float,
) -> None:
    """Every cell within 0.01, the gaps within a tenth of a minute as the table rounds them."""
    rate, stay, freeze, size = case
    demand = Demand(rate, stay, freeze)
    laws = {Policy.LEAST_RECENT: poolmath.reissued_lru, Policy.RANDOM: poolmath.reissued_random}
    for minutes, expected in zip(MINUTES, formula, strict=True):
        if policy in laws and expected is not None:
            assert laws[policy](demand, size, minutes) == pytest.approx(expected, abs=0.001), minutes
    assert poolmath.reissue_minutes(demand, size) == pytest.approx(gap, abs=0.05)
    stream = visits(rate, "lognormal", stay, seed=7, count=2 * VISITS)
    found = poolreplay.replay(stream, size, freeze, policy=policy, pick=random.Random(1).randrange, warm_up=0.1)
    for minutes, expected in zip(MINUTES, simulated, strict=True):
        assert found.reissued_by(minutes) == pytest.approx(expected, abs=WITHIN), minutes
    assert found.reissue_minutes == pytest.approx(simulated_gap, abs=0.3)


# F, P(re-issued) at 15, 20 and 25 minutes, B: λ = 1, S = 5, c = 30.
FREEZES = (
    (1, (0.022, 0.182, 0.524), 0.0),
    (6, (0.022, 0.182, 0.524), 0.0),
    (10, (0.021, 0.182, 0.524), 0.0),
    (15, (0, 0.164, 0.514), 0.008),
    (20, (0, 0, 0.418), 0.053),
)


@pytest.mark.parametrize(("freeze", "reissued", "overflow"), FREEZES)
def test_the_freeze_hardly_matters_when_the_pool_is_given(
    freeze: float, reissued: tuple[float, ...], overflow: float
) -> None:
    demand = Demand(1, 5, freeze)
    assert [round(poolmath.reissued_lru(demand, 30, minutes), 3) for minutes in (15, 20, 25)] == list(reissued)
    assert round(poolmath.erlang_b(30, demand.erlangs), 3) == overflow


# ---- attribution.md 2.4: tables for the operator ----

SIZES = (
    (2, 5, 7, 8, 0.40),
    (5, 9, 11, 14, 0.28),
    (10, 15, 18, 21, 0.22),
    (20, 26, 30, 35, 0.16),
    (50, 56, 64, 71, 0.10),
    (100, 105, 117, 128, 0.076),
    (200, 202, 221, 238, 0.054),
)


@pytest.mark.parametrize(("load", "five", "one", "tenth", "if_mean"), SIZES)
def test_numbers_needed(load: int, five: int, one: int, tenth: int, if_mean: float) -> None:
    """R101: the pool is as large as the peak of simultaneous visitors, not their mean."""
    assert [poolmath.numbers_needed(load, share) for share in (0.05, 0.01, 0.001)] == [five, one, tenth]
    assert poolmath.erlang_b(load, load) == pytest.approx(if_mean, abs=0.006)


# visitors an hour, then numbers for 1 % with hold 1.2·T, T + 1.2·T and T + 20 minutes; T = 4 minutes.
HOLDS = ((30, 7, 10, 20), (60, 11, 16, 35), (120, 17, 27, 62), (300, 35, 57, 138), (600, 62, 105, 263))


@pytest.mark.parametrize(("hourly", "total", "after", "twenty"), HOLDS)
def test_numbers_needed_by_kind_of_freeze(hourly: int, total: int, after: int, twenty: int) -> None:
    freezes = (0.2 * 4, 1.2 * 4, 20)
    assert [poolmath.numbers_for(Demand(hourly / 60, 4, freeze)) for freeze in freezes] == [total, after, twenty]


def test_the_example_of_a_vendor_shows_every_fifth_visitor_the_overflow_number() -> None:
    assert poolmath.erlang_b(10, 10) == pytest.approx(0.215, abs=0.0005)
    assert poolmath.numbers_needed(10) == 18
    assert poolmath.numbers_for(Demand(200 / 60, 3, 3.6)) == 32


@pytest.mark.parametrize(("bots", "overflow"), [(0, 0.009), (0.1, 0.019), (0.3, 0.079), (0.5, 0.24)])
def test_bots_eat_numbers(bots: float, overflow: float) -> None:
    """attribution.md 2.5: a = 11, c = 19. The table's 0.9 % is 0.85 %."""
    demand = Demand(1, 5, 6).with_bots(bots)
    assert poolmath.erlang_b(19, demand.erlangs) == pytest.approx(overflow, abs=0.001)


# ---- the formulas in themselves ----

loads = some.floats(min_value=0.01, max_value=150)


@given(loads, some.integers(1, 200))
def test_busy_shares_are_shares_and_end_in_erlang_b(load: float, size: int) -> None:
    shares = poolmath.busy_shares(size, load)
    assert sum(shares) == pytest.approx(1)
    assert shares[-1] == pytest.approx(poolmath.erlang_b(size, load), abs=1e-9)


@given(loads, some.sampled_from([0.5, 0.05, 0.01, 0.001]))
def test_numbers_needed_is_the_smallest(load: float, share: float) -> None:
    size = poolmath.numbers_needed(load, share)
    assert poolmath.erlang_b(size, load) <= share < poolmath.erlang_b(size - 1, load)


@given(some.floats(0.01, 10), some.floats(0, 30), some.floats(0, 30), some.integers(1, 120))
def test_the_risk_grows_from_none_within_the_freeze(rate: float, stay: float, freeze: float, size: int) -> None:
    demand = Demand(rate, stay, freeze)
    risks = [poolmath.reissued_lru(demand, size, freeze + minutes) for minutes in (-1, 0, 1, 5, 20, 100, 1_000)]
    assert risks[:2] == [0, 0]
    assert all(0 <= lower <= higher + 1e-9 <= 1 + 2e-9 for lower, higher in pairwise(risks))


def test_edges() -> None:
    """Nobody comes, no numbers, mistaken figures."""
    nobody = Demand(0, 4, 4)
    assert poolmath.numbers_for(nobody) == 1
    assert (poolmath.erlang_b(0, 0), poolmath.erlang_b(0, 5), poolmath.erlang_b(3, 0)) == (1, 1, 0)
    assert poolmath.busy_shares(2, 0) == [1, 0, 0]
    assert poolmath.reissue_minutes(nobody, 5) == math.inf
    assert poolmath.reissued_lru(Demand(1, 4, 4), 0, 60) == 0
    assert poolmath.reissued_random(Demand(1, 4, 4), 0, 60) == 0
    assert poolmath.reissued_lru(Demand(1, 0, 0), 1, 60) == pytest.approx(1)
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="no rate"):
            Demand(wrong, 1, 1)
    with pytest.raises(ValueError, match="numbers would be needed"):
        poolmath.numbers_needed(10.0 * poolmath.MAX_NUMBERS)


def test_late_callers_are_protected_by_numbers_not_by_freezing() -> None:
    """W = c/λ - E[S]: 25 minutes at one visitor a minute with 5 minutes on site are 30 numbers."""
    demand = Demand(1, 5, 6)
    assert poolmath.numbers_for(demand) == 19
    assert poolmath.numbers_for(demand, late_minutes=25) == 30
    assert poolmath.reissue_minutes(demand, 30) == pytest.approx(25, abs=0.01)


def test_outlooks_say_what_each_size_costs() -> None:
    """N5: share shown the overflow number, wrong-visitor risk, cost."""
    few, one, tenth = poolmath.outlooks(Demand(1, 5, 6), sizes=[11], monthly_price=2.5)
    assert [found.size for found in (few, one, tenth)] == [11, 19, 23]
    assert few.monthly_cost == 27.5
    assert few.overflow_share == pytest.approx(0.206, abs=0.001)
    assert one.overflow_share <= 0.01 and tenth.overflow_share <= 0.001
    assert dict(tenth.risks)[10] < dict(one.risks)[10] < dict(few.risks)[10]
    assert poolmath.outlook(Demand(1, 5, 6), 11).monthly_cost is None


# ---- the replay in itself ----


def strangers(*times: tuple[float, float]) -> list[Visit]:
    return [Visit(arrived, stay) for arrived, stay in times]


def test_a_number_is_held_for_the_stay_and_the_freeze() -> None:
    """One number, 5 minutes of stay and 6 of freeze: taken again at 11, not at 10.9."""
    assert poolreplay.replay(strangers((0, 5), (10.9, 1)), 1, 6).overflow_shown == 1
    again = poolreplay.replay(strangers((0, 5), (11, 1)), 1, 6)
    assert (again.overflow_shown, again.reissued, again.reissue_minutes) == (0, 1, 6)


def test_soft_freeze_gives_a_frozen_number_before_the_overflow_number() -> None:
    """The longest frozen one goes first, and never that of a visitor who is there."""
    stream = strangers((0, 5), (0, 7), (8, 60), (8, 60), (9, 1))
    hard, soft = (poolreplay.replay(stream, 2, 6, soft=soft) for soft in (False, True))
    assert hard.overflow_shown == 3
    assert soft.overflow_shown == 1
    assert [gap for _, gap in soft.releases] == [3, 1]


def test_who_comes_back_gets_the_same_number() -> None:
    """R99: within the freeze and after it, as long as nobody else took it; a second tab is the same visit."""
    stream = [
        Visit(0, 5, "anna"),
        Visit(1, 1, "anna"),
        Visit(20, 5, "anna"),
        Visit(27, 1, "boris"),
        Visit(60, 1, "anna"),
    ]
    found = poolreplay.replay(stream, 1, 6)
    assert (found.overflow_shown, found.reissued) == (1, 0)
    swapped = poolreplay.replay([*stream[:3], Visit(31, 1, "boris"), Visit(60, 1, "anna")], 1, 6)
    assert [gap for _, gap in swapped.releases] == [6, 28]


def test_numbers_needed_by_replay_agree_with_the_formula() -> None:
    stream = visits(1, "lognormal", 5, seed=3, count=20_000)
    assert poolreplay.numbers_needed(stream, 6, 0.01) == pytest.approx(poolmath.numbers_needed(11, 0.01), abs=1)
    assert poolreplay.numbers_needed(stream, 6, 0.001) == pytest.approx(poolmath.numbers_needed(11, 0.001), abs=2)
    assert poolreplay.numbers_needed([], 6, 0.01) == 1
    assert poolreplay.numbers_needed(strangers((0, 1), (0, 1), (0, 1)), 6, 0) == 3


def test_demand_of_visits_is_that_of_the_busiest_hour() -> None:
    stream = strangers((0, 2), (59.9, 4), (60, 6), (61, 8), (300, 0))
    demand = poolreplay.demand_of(stream, 6)
    assert (demand.arrivals_per_minute, demand.stay_minutes, demand.freeze_minutes) == (3 / 60, 4, 6)
    assert poolreplay.demand_of([], 6).erlangs == 0


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="order"):
        poolreplay.replay(strangers((5, 1), (4, 1)), 1, 6)
    with pytest.raises(ValueError, match="pick"):
        poolreplay.replay([], 1, 6, policy=Policy.RANDOM)
    assert poolreplay.replay([], 1, 6).overflow_share == 0


@given(
    some.lists(some.tuples(some.floats(0, 20), some.floats(0, 20)), max_size=40).map(sorted),
    some.integers(0, 6),
    some.floats(0, 10),
)
def test_the_replay_counts_as_a_plain_count_does(times: list[tuple[float, float]], size: int, freeze: float) -> None:
    """Without returns, a visitor is turned away exactly when `size` others have or freeze a number."""
    held: list[float] = []
    refused = 0
    for arrived, stay in times:
        while held and held[0] <= arrived:
            heapq.heappop(held)
        if len(held) < size:
            heapq.heappush(held, arrived + stay + freeze)
        else:
            refused += 1
    assert poolreplay.replay(strangers(*times), size, freeze).overflow_shown == refused
