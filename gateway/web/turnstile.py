"""How much one address, and one site, may ask of the public listener (issue 4, abuse).

Addresses are counted in memory and never stored or logged; of IPv6 a customer's whole /64 is one. A made-up visitor
costs a lease, so that visits count by address and by site: a pool cannot be drained faster than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gateway import log
from gateway.core import buckets
from gateway.web import problems

REQUESTS_PER_VISIT = 10
"""Of any kind, for each visit that an address may make: beats, goodbyes, clicks."""
TELL_SECONDS = 60.0

_log = log.get("web")


@dataclass(frozen=True, slots=True)
class Limits:
    """So many at once, and so many again in the time. Call-backs are per hour."""

    visits_per_minute: int = 60
    site_visits_per_minute: int = 1_200
    callbacks_per_hour: int = 10
    site_callbacks_per_hour: int = 120


class Turnstile:
    """Raises `Problem` for who has to wait. `clock` in seconds, of any beginning."""

    def __init__(self, limits: Callable[[], Limits], clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._requests, self._visits, self._callbacks = buckets.Buckets(), buckets.Buckets(), buckets.Buckets()
        self._sites = buckets.Buckets()
        self._told = -math.inf

    def request(self, address: str) -> None:
        """Anything at all."""
        limit = self._limits().visits_per_minute * REQUESTS_PER_VISIT
        self._pass(self._requests, address, limit, limit, "address", None)

    def visit(self, address: str, site: str) -> None:
        """A page that asks for its numbers."""
        limits = self._limits()
        one, all_of_them = limits.visits_per_minute, limits.site_visits_per_minute
        self._pass(self._visits, address, one, one, "address", site)
        self._pass(self._sites, f"visits {site}", all_of_them, all_of_them, "site", site)

    def callback(self, address: str, site: str) -> None:
        """Somebody wants to be called."""
        limits = self._limits()
        one, all_of_them = limits.callbacks_per_hour, limits.site_callbacks_per_hour
        self._pass(self._callbacks, address, one / 60, one, "address", site)
        self._pass(self._sites, f"callbacks {site}", all_of_them / 60, all_of_them, "site", site)

    def _pass(
        self, of: buckets.Buckets, key: str, per_minute: float, burst: float, limit: str, site: str | None
    ) -> None:
        now = self._clock()
        wait = of.take(key, now, per_minute=per_minute, burst=burst)
        if wait <= 0:
            return
        if now - self._told >= TELL_SECONDS:
            self._told = now
            _log.warning("browsers turned away", limit=limit, site=site)
        raise problems.Problem("too-many-visits", headers={"Retry-After": str(math.ceil(wait))})
