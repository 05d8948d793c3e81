"""Who called (R48, R88, N4, N6): a call to a number, the visitors who were shown it, and what else is known.

The last holder of the number is nearly always the best guess; what matters is how sure to be. Each holder is weighed by
the law of delays at the time since they left, strays by their rate, and the confidence is the best one's share. When
that is low, nobody is named: unknown is an answer. A click on the number's link, or a caller known as one of the
holders, settles it (attribution.md 3.1). The same evidence gives the same answer, so a call is attributed again
whenever more is known; `is_news` says when the record needs a new revision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from gateway.core.attribution import Candidate, Method
from gateway.core.book import TrackingKind
from gateway.core.delays import ON_SITE, Law, Observed

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US

LOOKBACK_DAYS = 30
MAX_HOLDERS = 50
"""Holders that need to be read, the latest ones. Busy numbers have more; what those weigh together is worked out."""

MAX_CANDIDATES = 5
"""That a record names."""

CLICK_SECONDS = 120
"""A click on a `tel:` link belongs to a call that begins so soon after it."""

LATE_BEACON_SECONDS = 10
"""A beacon may come in after its call."""

CLICK_CONFIDENCE = 0.95
LEAST_CONFIDENCE = 0.2
"""Nobody is named with less."""

KNOWN_CALLER_LIMIT = 0.99
NEWS_CONFIDENCE = 0.05
"""A change of confidence below this makes no new revision."""


@dataclass(frozen=True, slots=True)
class Holder:
    """One lease of the number. Times are microseconds UTC."""

    lease_id: str
    visitor_id: str
    issued_us: int
    gone_us: int
    """Last sign of life; plus a beat for a visitor who did not say goodbye."""


@dataclass(frozen=True, slots=True)
class Click:
    """A visitor's browser told that a `tel:` link of the number was followed."""

    visitor_id: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Past:
    """The caller's last touch: by an earlier call, with the confidence that it was theirs."""

    visitor_id: str | None
    at_us: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known about one call. `holders` of the number, in any order; clicks on this very number."""

    holders: Collection[Holder] = ()
    is_cut: bool = False
    """The number had more holders in the lookback than are given: those are the latest ones."""
    clicks: Collection[Click] = ()
    known_as: Mapping[str, float] = field(default_factory=dict)
    """Visitors that the caller's number was linked with before, with the link's confidence; empty for shared lines."""
    past: Past | None = None
    """None for new and anonymous callers and shared lines."""


@dataclass(frozen=True, slots=True)
class Match:
    """Who called, and how that was found. `visitor_id` None: nobody is named."""

    method: Method
    confidence: float
    visitor_id: str | None = None
    lease_id: str | None = None
    candidates: tuple[Candidate, ...] = ()
    """The likeliest first, at most `MAX_CANDIDATES`, also when nobody is named."""
    idle_seconds: float | None = None
    """Since the last holder of a pool number left; 0 while one is there, None when nobody held it in the lookback."""


def match(kind: TrackingKind, at_us: int, evidence: Evidence, law: Law, window_days: int = LOOKBACK_DAYS) -> Match:
    """Who made a call at `at_us` to a number of `kind`. `window_days`: how long an earlier touch is inherited."""
    clickers = _clickers(evidence.clicks, at_us)
    if kind is TrackingKind.STATIC:
        return Match(Method.STATIC_NUMBER, 1.0, clickers[0] if len(clickers) == 1 else None)
    if kind is TrackingKind.OVERFLOW:
        # Shown to many at once, so only a click tells them apart.
        if len(clickers) == 1:
            return Match(Method.CLICK_TO_CALL, CLICK_CONFIDENCE, clickers[0])
        return _inherited(evidence.past, at_us, window_days) or Match(Method.OVERFLOW_NUMBER, 0.0)
    return _of_pool(at_us, evidence, clickers, law, window_days)


def candidates(
    holders: Iterable[Holder], at_us: int, law: Law, *, is_cut: bool = False
) -> tuple[list[Candidate], float, float]:
    """Everyone who may have called, the likeliest first; the share of holders before those listed; that of strays.

    All shares together are 1.
    """
    known = delays(holders, at_us)
    weights: dict[str, float] = {}
    latest: dict[str, tuple[float, Holder]] = {}
    for holder, delay in known:
        weights[holder.visitor_id] = weights.get(holder.visitor_id, 0.0) + law.density(delay)
        if holder.visitor_id not in latest or delay < latest[holder.visitor_id][0]:
            latest[holder.visitor_id] = delay, holder
    seen = _observed(known, at_us, is_cut)
    earlier = seen.earlier_per_second * law.late_share(seen.earlier_seconds)
    total = sum(weights.values()) + earlier + law.strays_per_second
    if total <= 0:
        return [], 0.0, 1.0
    found = [
        Candidate(visitor, latest[visitor][1].lease_id, weight / total, max(latest[visitor][0], 0.0))
        for visitor, weight in weights.items()
    ]
    found.sort(key=lambda candidate: (-candidate.share, candidate.seconds_since_seen, candidate.visitor_id))
    return found, earlier / total, law.strays_per_second / total


def delays(holders: Iterable[Holder], at_us: int) -> list[tuple[Holder, float]]:
    """The latest holders before `at_us` with the seconds since they left (`ON_SITE` while there), newest first."""
    before = [holder for holder in holders if holder.issued_us <= at_us]
    before = [holder for holder in before if holder.gone_us >= at_us - LOOKBACK_DAYS * DAY_US]
    before.sort(key=lambda holder: (holder.issued_us, holder.gone_us, holder.lease_id), reverse=True)
    return [(holder, ON_SITE if holder.gone_us >= at_us else (at_us - holder.gone_us) / SECOND_US) for holder in before]


def observed(holders: Iterable[Holder], at_us: int, *, is_cut: bool = False) -> Observed:
    """A call as `gateway.core.delays.fit` wants it."""
    return _observed(delays(holders, at_us), at_us, is_cut)


def is_news(before: Match, now: Match) -> bool:
    """Whether a record that says `before` is to be revised."""
    same = (before.method, before.visitor_id, before.lease_id) == (now.method, now.visitor_id, now.lease_id)
    return not same or abs(before.confidence - now.confidence) >= NEWS_CONFIDENCE


def _observed(known: list[tuple[Holder, float]], at_us: int, is_cut: bool) -> Observed:
    """Holders before the listed ones came as often as the listed ones did."""
    seconds = tuple(delay for _, delay in known)
    span = (at_us - known[-1][0].issued_us) / SECOND_US if known else 0.0
    if not is_cut or span <= 0:
        return Observed(seconds)
    return Observed(seconds, (len(known) - 1) / span, max(seconds[-1], 0.0))


def _of_pool(at_us: int, evidence: Evidence, clickers: list[str], law: Law, window_days: int) -> Match:
    found, _, _ = candidates(evidence.holders, at_us, law, is_cut=evidence.is_cut)
    idle = min((candidate.seconds_since_seen for candidate in found), default=None)
    shown = tuple(found[:MAX_CANDIDATES])

    def named(method: Method, one: Candidate, confidence: float) -> Match:
        return Match(method, confidence, one.visitor_id, one.lease_id, shown, idle)

    # Only a holder's click counts: anybody can send a beacon.
    clicked = [candidate for candidate in found if candidate.visitor_id in clickers]
    if clicked:
        share = clicked[0].share / max(sum(candidate.share for candidate in clicked), 1e-300)
        return named(Method.CLICK_TO_CALL, clicked[0], max(clicked[0].share, CLICK_CONFIDENCE * share))
    known = [candidate for candidate in found if candidate.visitor_id in evidence.known_as]
    if known:
        sure = min(evidence.known_as[known[0].visitor_id], KNOWN_CALLER_LIMIT)
        return named(Method.VISITOR, known[0], max(known[0].share, sure))
    if found and found[0].share >= LEAST_CONFIDENCE:
        return named(Method.VISITOR, found[0], found[0].share)
    inherited = _inherited(evidence.past, at_us, window_days)
    if inherited is None:
        return Match(Method.UNKNOWN, 0.0, candidates=shown, idle_seconds=idle)
    return Match(inherited.method, inherited.confidence, inherited.visitor_id, None, shown, idle)


def _inherited(past: Past | None, at_us: int, window_days: int) -> Match | None:
    """The touch of the caller's earlier call, with that one's confidence."""
    if past is None or not 0 <= at_us - past.at_us <= window_days * DAY_US:
        return None
    return Match(Method.CALLER_HISTORY, past.confidence, past.visitor_id)


def _clickers(clicks: Iterable[Click], at_us: int) -> list[str]:
    """Visitors who clicked just before the call, each once."""
    first, last = at_us - CLICK_SECONDS * SECOND_US, at_us + LATE_BEACON_SECONDS * SECOND_US
    return list(dict.fromkeys(click.visitor_id for click in clicks if first <= click.at_us <= last))
