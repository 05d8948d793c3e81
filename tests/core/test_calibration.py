"""N4: on a simulated site with known truth, the stated confidence is the hit rate (issue 4, 6)."""

from __future__ import annotations

from functools import cache

import pytest

from gateway.core import delays, matching
from gateway.core.book import TrackingKind
from gateway.core.delays import Law

from .simulated_site import CALLING_SHARE, SECOND, TRUTH, Site, simulate

VISITORS = 30_000
HOLDERS = 16  # That are looked at one by one; the rest is worked out.
ENOUGH_CALLS = 500
WITHIN = 0.05
SIZES = (13, 18, 30, 60)
STRAYS_PER_DAY = 0.05


@cache
def site(size: int, *, steady: bool = True) -> Site:
    return simulate(numbers=size, visitors=VISITORS, seed=1, strays_per_day=STRAYS_PER_DAY, steady=steady)


@cache
def fitted(size: int) -> delays.Fit:
    """From the first half of the site's own calls, all of them, ambiguous or not."""
    whole = site(size)
    half_us = whole.seconds * SECOND / 2
    seen = [
        matching.observed(whole.holders_before(call.number, call.at_us, 6), call.at_us, is_cut=True)
        for call in whole.calls
        if call.at_us < half_us
    ]
    return delays.fit(
        seen,
        leases=whole.leases // 2,
        number_seconds=size * whole.seconds / 2,
        mean_stay_seconds=whole.mean_stay_seconds,
    )


def law(name: str, size: int) -> Law:
    if name == "fitted":
        return fitted(size).law
    strays = STRAYS_PER_DAY / delays.DAY_SECONDS / CALLING_SHARE
    return Law() if name == "default" else Law(TRUTH.on_site_share, TRUTH.late, TRUTH.mean_stay_seconds, strays)


@cache
def outcomes(name: str, size: int, *, steady: bool = True) -> tuple[tuple[float, bool], ...]:
    """(stated confidence, right) of the calls with a named visitor; of a fitted law, those it was not fitted to."""
    whole, found = site(size, steady=steady), []
    since_us = whole.seconds * SECOND / 2 if name == "fitted" else 0
    for call in whole.calls:
        if call.at_us >= since_us:
            evidence = matching.Evidence(whole.holders_before(call.number, call.at_us, HOLDERS), is_cut=True)
            made = matching.match(TrackingKind.POOL, call.at_us, evidence, law(name, size))
            if made.visitor_id is not None:
                found.append((made.confidence, made.visitor_id == call.visitor_id))
    return tuple(found)


def judged(found: list[tuple[float, bool]]) -> int:
    """How many bins had enough calls; each of them is as true as it says."""
    bins = [one for one in delays.calibration(found) if one.calls >= ENOUGH_CALLS]
    for one in bins:
        assert one.hit_rate == pytest.approx(one.stated, abs=WITHIN), one
    return len(bins)


@pytest.mark.parametrize(("name", "bins"), [("true", 5), ("default", 5), ("fitted", 2)])
def test_stated_confidence_is_the_hit_rate(name: str, bins: int) -> None:
    """Pools from too small to ample, one by one and together: ±0.05 in every bin with 500 calls."""
    assert all(judged(list(outcomes(name, size))) for size in SIZES)
    assert judged([one for size in SIZES for one in outcomes(name, size)]) >= bins


def test_another_habit_of_calling_on_the_site_changes_little() -> None:
    """The law supposes a steady rate of calls during a stay. Here each caller calls once, at any moment of it."""
    assert judged(list(outcomes("default", 18, steady=False)))


def test_a_confidence_that_is_made_up_is_found_out() -> None:
    """The check can fail: naming the last holder as if that were certain."""
    certain = [(0.99, is_right) for _, is_right in outcomes("true", 13)]
    with pytest.raises(AssertionError):
        judged(certain)


# Accuracy of the last holder, and late calls right when they came after the freeze: attribution.md 3.1.
TABLE = ((13, 0.799, 0.125), (18, 0.821, 0.218), (30, 0.866, 0.422), (60, 0.906, 0.593))


@pytest.mark.parametrize(("size", "accuracy", "late"), TABLE)
def test_the_visitor_named_is_as_often_right_as_in_the_table(size: int, accuracy: float, late: float) -> None:
    """Of visitors' calls, whoever is the likeliest; the table's "late calls right" are those after the freeze."""
    whole, right, late_right = site(size), [], []
    for call in whole.calls:
        holders = whole.holders_before(call.number, call.at_us, 3)
        if call.visitor_id is not None and holders:
            found, _, _ = matching.candidates(holders, call.at_us, TRUTH, is_cut=True)
            right.append(found[0].visitor_id == call.visitor_id)
            if call.delay_seconds > 360:
                late_right.append(right[-1])
    assert sum(right) / len(right) == pytest.approx(accuracy, abs=0.02)
    assert sum(late_right) / len(late_right) == pytest.approx(late, abs=0.04)


def test_the_fit_finds_the_law_where_numbers_are_plenty() -> None:
    """What can be known: on the site or not, soon after or not. How many strays there are is told only roughly."""
    found = fitted(60).law
    assert found.on_site_share == pytest.approx(TRUTH.on_site_share, abs=0.05)
    for seconds in (300, 900, 3_600):
        assert found.late_share(seconds) == pytest.approx(TRUTH.late_share(seconds), abs=0.03), seconds
    assert fitted(60).calling_share == pytest.approx(CALLING_SHARE, abs=0.015)


def test_the_fit_follows_another_law() -> None:
    """A site whose visitors call late: three in ten while there, the others within minutes."""
    truth = Law(on_site_share=0.3, late=((0.9, 300.0), (0.1, 20_000.0)), mean_stay_seconds=120.0)
    whole = simulate(numbers=40, visitors=15_000, seed=5, truth=truth)
    seen = [
        matching.observed(whole.holders_before(call.number, call.at_us, 6), call.at_us, is_cut=True)
        for call in whole.calls
    ]
    found = delays.fit(
        seen,
        leases=whole.leases,
        number_seconds=40 * whole.seconds,
        mean_stay_seconds=whole.mean_stay_seconds,
        start_calls=50,
    )
    assert found.law.on_site_share == pytest.approx(0.3, abs=0.05)
    assert found.law.late_share(600) == pytest.approx(truth.late_share(600), abs=0.04)


def test_a_fit_without_calls_keeps_the_law() -> None:
    start = Law(on_site_share=0.5)
    found = delays.fit([], leases=10, number_seconds=5, mean_stay_seconds=200, start=start)
    assert (found.law.on_site_share, found.law.mean_stay_seconds, found.calls) == (0.5, 200, 0)
    only_strays = delays.fit([delays.Observed(())], leases=10, number_seconds=5, mean_stay_seconds=200, start_calls=0)
    assert (only_strays.calls, round(only_strays.strays)) == (0, 1)


def test_densities_are_those_of_one_call() -> None:
    """The law spreads one call over all time: what is not on the site and not later than d comes between."""
    found = TRUTH
    step = 20.0
    between = sum(found.density(step * place + step / 2) * step for place in range(500))
    assert between == pytest.approx(found.late_share(0) - found.late_share(10_000), rel=0.001)
    assert found.density(delays.ON_SITE) * found.mean_stay_seconds == pytest.approx(found.on_site_share)
    assert Law(mean_stay_seconds=0).density(delays.ON_SITE) == 0.7


def test_calibration_and_brier_count_right() -> None:
    found = delays.calibration([(0.05, False), (0.95, True), (1.0, True), (0.91, False)])
    assert [(one.lower, one.calls) for one in found] == [(0.0, 1), (0.9, 3)]
    assert found[1].hit_rate == pytest.approx(2 / 3)
    assert delays.brier([(0.5, True), (1.0, True)]) == 0.125
    assert delays.brier([]) == 0
