"""What the book says about web sites: number pools, what a site shows its visitors, which visits are whose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.core import displayrules, pool, traffictables

MAX_POOL = 10_000
BEAT_SECONDS = 30
LIVING_BEATS = 2.5
"""A visitor is there until so many signs of life in a row are missing."""
WINDOW_DAYS = 30


class Asking(StrEnum):
    """What a visitor who was not asked yet has agreed to."""

    PENDING = "pending"
    """Nothing: the site's own number stays until the page says more."""
    GRANTED = "granted"
    """Where the law asks for no consent."""


@dataclass(frozen=True, slots=True)
class NumberPool:
    """Numbers that are lent to visitors of one site, each to one at a time (R98). Numbers are E.164 with `+`."""

    key: str
    site: str
    route: str
    numbers: tuple[str, ...]
    overflow: str | None = None
    """Shown when all are held; a number of its own, so that its calls are counted (R96)."""
    freeze: pool.Freeze = field(default_factory=pool.Freeze)


@dataclass(frozen=True, slots=True)
class WebSite:
    """A site's pages. `hosts` may ask for numbers, and nobody else; with `www.` before them too."""

    hosts: tuple[str, ...]
    shared_hosts: tuple[str, ...] = ()
    """Others that visitors go to and come back from: their visits go on where they were."""
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Numbers on the pages that are replaced, E.164 with `+`, each with other writings (`8-800-CLINICS`)."""
    asking: Asking = Asking.PENDING
    beat_seconds: int = BEAT_SECONDS
    window_days: int = WINDOW_DAYS
    """How long before a call a touch counts, and how long an earlier call's visitor is inherited (R85)."""

    pages: tuple[str, ...] = ()
    """Addresses that `verify --web` opens when none is named."""

    script_address: str | None = None
    """Where browsers find the gateway, `https://calls.clinic.example/`; None: where the script came from."""

    def serves(self, host: str) -> bool:
        """Whether pages of `host` may ask for numbers."""
        return host.lower().removeprefix("www.") in self.hosts


@dataclass(frozen=True, slots=True)
class WebBook:
    """The web part of one revision of the routing. `display_rules` are by site, in the order of the file."""

    sites: Mapping[str, WebSite] = field(default_factory=dict)
    pools: Mapping[str, NumberPool] = field(default_factory=dict)
    display_rules: Mapping[str, tuple[displayrules.DisplayRule, ...]] = field(default_factory=dict)
    source_rules: tuple[displayrules.SourceRule, ...] = ()
    traffic: traffictables.Tables = traffictables.EMPTY
    """Not part of the routing file."""

    def rules_of(self, site: str) -> tuple[displayrules.DisplayRule, ...]:
        """The site's display rules."""
        return self.display_rules.get(site, ())

    def pools_of(self, site: str) -> list[NumberPool]:
        """The site's pools."""
        return [one for one in self.pools.values() if one.site == site]

    def terms(self, one: NumberPool, mean_stay_seconds: float | None) -> pool.Terms:
        """What a pool goes by; `mean_stay_seconds` as in `pool.terms`."""
        site = self.sites.get(one.site)
        beat_seconds = site.beat_seconds if site is not None else BEAT_SECONDS
        return pool.terms(one.freeze, mean_stay_seconds, LIVING_BEATS * beat_seconds)


def findings(book: WebBook) -> list[displayrules.Finding]:
    """What is hardly meant (R46): rules of which only their order decides, pools without an overflow number."""
    found = [one for rules in book.display_rules.values() for one in displayrules.overlaps(rules, book.source_rules)]
    known = [displayrules.PoolNumbers(one.key, one.numbers, one.overflow) for one in book.pools.values()]
    return found + displayrules.number_findings(known, ())
