"""When visitors call: on the site, minutes after, days after, or not visitors at all (N4, N6, attribution.md 3.1).

The law is the density of the time of a visitor's call: spread over the stay with probability `on_site_share`, else
some time after leaving, by a mixture of exponentials. Strays - misdialled, from a directory, long forgotten - come at a
steady rate. The law is fitted to a site's own calls by expectation and maximisation, ambiguous calls included, since
those that are certain are not like the others: a small pool makes only early calls certain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

DAY_SECONDS = 86_400.0

ON_SITE = -1.0
"""As a delay: the visitor was on the site."""

_SMALLEST = 1e-300
_LEAST_CALLING = 1e-4


@dataclass(frozen=True, slots=True)
class Law:
    """When a visitor who calls does it. The defaults are those of attribution.md, for a site without calls yet."""

    on_site_share: float = 0.7
    late: tuple[tuple[float, float], ...] = ((0.7, 900.0), (0.3, DAY_SECONDS))
    """(share, mean seconds after leaving) of each exponential; the shares sum to 1."""
    mean_stay_seconds: float = 300.0
    strays_per_second: float = 6.3e-7
    """Calls to one number that are no visitor's, divided by the share of visitors who call: one a year, 5 %."""

    def density(self, delay_seconds: float) -> float:
        """Of a call so long after leaving, per second; `ON_SITE` or anything below zero: while on the site."""
        if delay_seconds < 0:
            return self.on_site_share / max(self.mean_stay_seconds, 1.0)
        return (1 - self.on_site_share) * sum(
            share / mean * math.exp(-delay_seconds / mean) for share, mean in self.late
        )

    def late_share(self, delay_seconds: float) -> float:
        """Share of a visitor's calls that come later than this after leaving."""
        return (1 - self.on_site_share) * sum(share * math.exp(-delay_seconds / mean) for share, mean in self.late)


@dataclass(frozen=True, slots=True)
class Observed:
    """What a call's number tells: how long ago its latest holders left, newest first (`ON_SITE`, or seconds).

    A number has hundreds of holders a month. Those before the listed ones, of whom there were `earlier_per_second`
    (0 = none), left at some time before `earlier_seconds` ago; nobody looks at them one by one.
    """

    delays: tuple[float, ...]
    earlier_per_second: float = 0.0
    earlier_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted law, and how many visitors' calls it stands on."""

    law: Law
    calls: float
    strays: float
    calling_share: float
    """Of leases, that made a call."""


def fit(
    calls: Iterable[Observed],
    *,
    leases: int,
    number_seconds: float,
    mean_stay_seconds: float,
    start: Law | None = None,
    start_calls: float = 200.0,
    rounds: int = 25,
) -> Fit:
    """The law under which `calls` to pool numbers are likeliest.

    `leases` were issued in the time, `number_seconds` are numbers × seconds. `start` (the usual law) is believed as
    much as `start_calls` calls: a busy number tells strays and calls of the day before hardly apart.
    """
    law = replace(start or Law(), mean_stay_seconds=mean_stay_seconds)
    observed = list(calls)
    if not observed or leases <= 0 or number_seconds <= 0:
        return Fit(law, 0.0, 0.0, 0.0)
    believed = _Believed(law, start_calls)
    found = Fit(law, 0.0, 0.0, min(1.0, len(observed) / leases))
    for _ in range(rounds):
        found = _round(observed, found, believed, leases, number_seconds)
    return found


@dataclass(frozen=True, slots=True)
class _Believed:
    law: Law
    calls: float

    @property
    def late(self) -> list[float]:
        """Late calls of each exponential."""
        return [self.calls * (1 - self.law.on_site_share) * share for share, _ in self.law.late]


def _round(calls: list[Observed], before: Fit, believed: _Believed, leases: int, number_seconds: float) -> Fit:
    """One expectation over all calls, one maximisation."""
    law = before.law
    here, stray = believed.calls * believed.law.on_site_share, 0.0
    counts = believed.late
    sums = [count * mean for count, (_, mean) in zip(counts, believed.law.late, strict=True)]
    for call in calls:
        parts = list(_parts(call, law))
        on_site = law.density(ON_SITE) * sum(delay < 0 for delay in call.delays)
        total = max(sum(weight for _, weight, _ in parts) + on_site + law.strays_per_second, _SMALLEST)
        here += on_site / total
        stray += law.strays_per_second / total
        for place, weight, seconds in parts:
            counts[place] += weight / total
            sums[place] += weight / total * seconds
    late = sum(counts)
    visitors = max(here + late - believed.calls, 0.0)
    calling = max(visitors / leases, _LEAST_CALLING)
    mixture = tuple(
        (count / late, max(total / count, 1.0)) if count > 0 else (0.0, mean)
        for count, total, (_, mean) in zip(counts, sums, law.late, strict=True)
    )
    fitted = Law(
        on_site_share=here / max(here + late, _SMALLEST),
        late=mixture if late > 0 else law.late,
        mean_stay_seconds=law.mean_stay_seconds,
        strays_per_second=stray / number_seconds / calling,
    )
    return Fit(fitted, visitors, stray, calling)


def _parts(call: Observed, law: Law) -> Iterator[tuple[int, float, float]]:
    """(exponential, weight, delay in seconds) of everybody who may have called after leaving."""
    for place, (share, mean) in enumerate(law.late):
        rate = (1 - law.on_site_share) * share
        for delay in call.delays:
            if delay >= 0:
                yield place, rate / mean * math.exp(-delay / mean), delay
        if call.earlier_per_second > 0:
            weight = call.earlier_per_second * rate * math.exp(-call.earlier_seconds / mean)
            yield place, weight, call.earlier_seconds + mean


# ---- Whether the stated confidence is true ----


@dataclass(frozen=True, slots=True)
class Bin:
    """Calls whose stated confidence lies from `lower` to below `upper`."""

    lower: float
    upper: float
    calls: int
    stated: float
    """Mean confidence."""
    hit_rate: float


def calibration(outcomes: Iterable[tuple[float, bool]], bins: int = 10) -> list[Bin]:
    """(confidence, whether the named visitor was the caller) in bins of equal width; empty bins are left out."""
    held: dict[int, list[tuple[float, bool]]] = {}
    for confidence, is_right in outcomes:
        held.setdefault(min(int(confidence * bins), bins - 1), []).append((confidence, is_right))
    return [
        Bin(
            lower=place / bins,
            upper=(place + 1) / bins,
            calls=len(found),
            stated=sum(confidence for confidence, _ in found) / len(found),
            hit_rate=sum(is_right for _, is_right in found) / len(found),
        )
        for place, found in sorted(held.items())
    ]


def brier(outcomes: Iterable[tuple[float, bool]]) -> float:
    """Mean squared error of the stated confidence; 0 is perfect, 0.25 is what always saying one half gets."""
    errors = [(confidence - is_right) ** 2 for confidence, is_right in outcomes]
    return sum(errors) / len(errors) if errors else 0.0
