"""Which number a visitor is shown (R51, R93-R96, R103): static, dynamic and combined in one list of rules.

Precedence: a rule for the landing page, one for the referrer, one that gives a static number to a source, then a pool,
then the site's own number, which stays as it is on the page. Among rules of one rank the first in the file wins. What a
rule asks for must all hold; among several values of one thing, one is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from gateway.core import globs, traffic
from gateway.core.traffic import Classified, Kind, Landing


class Rank(IntEnum):
    """Precedence, highest first."""

    LANDING_PAGE = 1
    REFERRER = 2
    SOURCE = 3
    POOL = 4


class Reason(StrEnum):
    """Why a visitor is shown a number; told to the script (attribution.md 1.5)."""

    STATIC = "static"
    POOL = "pool"
    OVERFLOW = "overflow"
    """The pool is exhausted; said by whoever asks it."""
    BOT = "bot"
    CONSENT = "consent"
    """Not given yet, or refused and no static number fits."""
    RULE_NONE = "rule_none"


class Consent(StrEnum):
    """What the visitor agreed to."""

    GRANTED = "granted"
    DENIED = "denied"
    """Nothing is stored: only a static number, by the address and the referrer of this very page."""
    PENDING = "pending"
    """The site's number stays."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a visitor is, by their address on the net. `cities`: its name in every language that is known."""

    country: str | None = None
    cities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """Which visitors a rule is for; an empty field asks nothing. Texts may hold `*` for anything."""

    sources: frozenset[str] = frozenset()
    """Keys of the book."""
    kinds: frozenset[Kind] = frozenset()
    utm: Mapping[str, str] = field(default_factory=dict)
    """By parameter: `utm_campaign` = `spring*`."""
    click_ids: frozenset[str] = frozenset()
    """Parameters, of which the visit has one."""
    referrers: tuple[str, ...] = ()
    """`forum.example` with all below it, perhaps with a path: `forum.example/clinics*`."""
    landing_pages: tuple[str, ...] = ()
    """`/implants*`, or with what the address asks: `/?offer=spring`."""
    countries: frozenset[str] = frozenset()
    """ISO 3166-1 alpha-2, upper case."""
    cities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SourceRule:
    """Which visits are of a source of the book; the first that holds wins (R24)."""

    source: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class DisplayRule:
    """Visitors that meet `condition` are shown `number` (static, E.164 with `+`) or a number of `pool`."""

    key: str
    condition: Condition
    number: str | None = None
    pool: str | None = None
    target: str = ""
    """The number on the page that is replaced; "" = each."""

    @property
    def rank(self) -> Rank:
        """A pool never beats a static number, whatever it asks for."""
        if self.number is None:
            return Rank.POOL
        if self.condition.landing_pages:
            return Rank.LANDING_PAGE
        return Rank.REFERRER if self.condition.referrers else Rank.SOURCE


@dataclass(frozen=True, slots=True)
class Facts:
    """A visit as the rules see it. `source`: by `source_of`, or of an earlier touch of the same visitor."""

    landing: Landing
    came: Classified
    source: str | None = None
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class Shown:
    """What a visitor is shown in place of a target: a static number, a number of a pool, or with neither the site's."""

    reason: Reason
    number: str | None = None
    pool: str | None = None
    rule: str | None = None


def holds(condition: Condition, facts: Facts) -> bool:
    """Whether a visit meets a condition."""
    landing, place = facts.landing, facts.place
    cities = {city.casefold() for city in place.cities}
    return (
        (not condition.sources or facts.source in condition.sources)
        and (not condition.kinds or facts.came.kind in condition.kinds)
        and all(_tagged(landing.parameters.get(name), wanted) for name, wanted in condition.utm.items())
        and (not condition.click_ids or not condition.click_ids.isdisjoint(landing.parameters))
        and (not condition.referrers or _any(condition.referrers, _referrer_globs, _referrer(landing)))
        and (not condition.landing_pages or _any(condition.landing_pages, _landing_globs, _landed(landing)))
        and (not condition.countries or place.country in condition.countries)
        and (not condition.cities or any(city.casefold() in cities for city in condition.cities))
    )


def source_of(rules: Iterable[SourceRule], landing: Landing, came: Classified) -> str | None:
    """The book's source of a visit, None when no rule holds."""
    facts = Facts(landing, came)
    return next((rule.source for rule in rules if holds(rule.condition, facts)), None)


def decide(
    rules: Sequence[DisplayRule],
    facts: Facts,
    *,
    target: str = "",
    consent: Consent = Consent.GRANTED,
    is_bot: bool = False,
) -> Shown:
    """What is shown in place of `target`. Bots see the page as it is: a lease for them would be lost on a visitor."""
    if is_bot:
        return Shown(Reason.BOT)
    if consent is Consent.PENDING:
        return Shown(Reason.CONSENT)
    known = [rule for rule in rules if rule.target in ("", target)]
    if consent is Consent.DENIED:
        known = [rule for rule in known if rule.number is not None and not _needs_place(rule.condition)]
    for rule in sorted(known, key=lambda rule: rule.rank):
        if holds(rule.condition, facts):
            reason = Reason.STATIC if rule.number is not None else Reason.POOL
            return Shown(reason, rule.number, rule.pool if rule.number is None else None, rule.key)
    return Shown(Reason.CONSENT if consent is Consent.DENIED else Reason.RULE_NONE)


# ---- Lint (R46) ----


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the rules or pools that is hardly meant. `is_error`: calls would be counted wrongly."""

    what: str
    message: str
    is_error: bool
    about: str = ""
    """Key of the rule, or of the pool."""


@dataclass(frozen=True, slots=True)
class PoolNumbers:
    """The numbers of one pool, E.164 with `+`."""

    key: str
    numbers: tuple[str, ...]
    overflow: str | None = None


def overlaps(rules: Sequence[DisplayRule], sources: Iterable[SourceRule] = ()) -> list[Finding]:
    """Rules of one rank that a single visit can meet, with different outcomes, so that only their order decides; and
    rules that are never reached because an earlier one takes all their visits."""
    found, known = [], tuple(sources)
    ordered = sorted(rules, key=lambda rule: rule.rank)
    for place, first in enumerate(ordered):
        for second in ordered[place + 1 :]:
            if "" not in (first.target, second.target) and first.target != second.target:
                continue
            if (first.number, first.pool) == (second.number, second.pool):
                continue
            if covers(first.condition, second.condition) and first.target in ("", second.target):
                message = f"rule {second.key} is never reached: {first.key} takes all its visits"
                found.append(Finding("unreachable", message, is_error=True, about=second.key))
            elif first.rank is second.rank and can_both_hold(first.condition, second.condition, known):
                message = f"rules {first.key} and {second.key} can both hold; {first.key} wins as it comes first"
                found.append(Finding("overlap", message, is_error=False, about=second.key))
    return found


def number_findings(pools: Sequence[PoolNumbers], static: Iterable[str], business: Iterable[str] = ()) -> list[Finding]:
    """Numbers used twice. `static`: printed or shown for a source; `business`: the sites' own numbers."""
    found: list[Finding] = []
    printed, own = set(static), set(business)
    pool_of: dict[str, str] = {}
    for pool in pools:
        if not pool.numbers:
            found.append(Finding("empty_pool", f"pool {pool.key} has no numbers", is_error=True, about=pool.key))
        for number in pool.numbers:
            if pool_of.setdefault(number, pool.key) != pool.key:
                message = f"{number} is in the pools {pool_of[number]} and {pool.key}"
                found.append(Finding("two_pools", message, is_error=True, about=pool.key))
            if number in printed:
                message = f"{number} of pool {pool.key} is also a static number: its calls would be some visitor's"
                found.append(Finding("pool_is_static", message, is_error=True, about=pool.key))
            if number in own:
                message = f"{number} of pool {pool.key} is the site's own number"
                found.append(Finding("pool_is_business", message, is_error=True, about=pool.key))
    for pool in pools:
        if pool.overflow is None:
            message = (
                f"pool {pool.key} has no overflow number: exhausted, it leaves the site's, whose calls are not counted"
            )
            found.append(Finding("no_overflow", message, is_error=False, about=pool.key))
        elif pool.overflow in pool_of:
            message = f"the overflow number {pool.overflow} of pool {pool.key} is in pool {pool_of[pool.overflow]}"
            found.append(Finding("overflow_in_pool", message, is_error=True, about=pool.key))
        elif pool.overflow in own | printed:
            message = (
                f"the overflow number {pool.overflow} of pool {pool.key} is used elsewhere: give it one of its own"
            )
            found.append(Finding("overflow_is_used", message, is_error=True, about=pool.key))
    return found


def can_both_hold(one: Condition, other: Condition, sources: Sequence[SourceRule] = ()) -> bool:
    """Whether one visit can meet both, as far as conditions tell; `sources` say what a source's visits are like."""
    return (
        _meet(one.sources, other.sources)
        and _meet(one.kinds, other.kinds)
        and _meet(one.countries, other.countries)
        and _meet({city.casefold() for city in one.cities}, {city.casefold() for city in other.cities})
        and all(globs.can_both_match(one.utm[name], other.utm[name]) for name in one.utm.keys() & other.utm.keys())
        and _patterns_meet(one.referrers, other.referrers, _referrer_globs)
        and _patterns_meet(one.landing_pages, other.landing_pages, _landing_globs)
        and _source_allows(one, other, sources)
        and _source_allows(other, one, sources)
    )


def covers(wide: Condition, narrow: Condition) -> bool:
    """Whether every visit that meets `narrow` meets `wide`; False where that is hard to tell."""
    sets = (
        (wide.sources, narrow.sources),
        (wide.kinds, narrow.kinds),
        (wide.click_ids, narrow.click_ids),
        (wide.countries, narrow.countries),
        ({city.casefold() for city in wide.cities}, {city.casefold() for city in narrow.cities}),
    )
    return (
        all(not asked or (bool(given) and given <= asked) for asked, given in sets)
        and all(name in narrow.utm and globs.covers(text, narrow.utm[name]) for name, text in wide.utm.items())
        and _patterns_cover(wide.referrers, narrow.referrers, _referrer_globs)
        and _patterns_cover(wide.landing_pages, narrow.landing_pages, _landing_globs)
    )


def _tagged(value: str | None, wanted: str) -> bool:
    return value is not None and globs.matches(wanted, value)


def _needs_place(condition: Condition) -> bool:
    return bool(condition.countries or condition.cities)


# A pattern as alternatives, each a pattern for every part of an address: a `*` does not reach from one into the next.
_Globs = Callable[[str], tuple[tuple[str, str], ...]]


def _referrer(landing: Landing) -> tuple[str, str]:
    host, path, _ = traffic.parts(landing.referrer)
    return host, path or "/"


def _landed(landing: Landing) -> tuple[str, str]:
    _, path, query = traffic.parts(landing.url)
    return path or "/", query


def _referrer_globs(pattern: str) -> tuple[tuple[str, str], ...]:
    host, slash, path = pattern.partition("/")
    rest = f"/{path}" if slash else "*"
    return (host, rest), (f"*.{host}", rest)


def _landing_globs(pattern: str) -> tuple[tuple[str, str], ...]:
    path, mark, query = pattern.partition("?")
    return ((path, query if mark else "*"),)


def _any(patterns: Iterable[str], made: _Globs, address: tuple[str, str]) -> bool:
    return any(all(map(globs.matches, each, address)) for pattern in patterns for each in made(pattern))


def _meet(one: Iterable[object], other: Iterable[object]) -> bool:
    """Nothing asked by either, or something in common."""
    first, second = set(one), set(other)
    return not first or not second or not first.isdisjoint(second)


def _patterns_meet(one: Sequence[str], other: Sequence[str], made: _Globs) -> bool:
    if not one or not other:
        return True
    first = [each for pattern in one for each in made(pattern)]
    second = [each for pattern in other for each in made(pattern)]
    return any(all(map(globs.can_both_match, mine, yours)) for mine in first for yours in second)


def _patterns_cover(wide: Sequence[str], narrow: Sequence[str], made: _Globs) -> bool:
    if not wide:
        return True
    first = [each for pattern in wide for each in made(pattern)]
    second = [each for pattern in narrow for each in made(pattern)]
    return bool(second) and all(any(all(map(globs.covers, mine, yours)) for mine in first) for yours in second)


def _source_allows(one: Condition, other: Condition, rules: Sequence[SourceRule]) -> bool:
    """Whether some visit of the sources that `one` asks for can meet `other`, which asks for no source."""
    if not one.sources or other.sources:
        return True
    known = [rule.condition for rule in rules if rule.source in one.sources]
    if {rule.source for rule in rules} < one.sources or not known:
        return True
    return any(can_both_hold(condition, other) for condition in known)
