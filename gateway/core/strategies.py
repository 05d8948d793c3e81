"""In which order the forwarding destinations ring (C2): pure arithmetic over counted turns and idle times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from math import gcd

from gateway.core import book

_NEVER_TALKED = datetime.min.replace(tzinfo=UTC)


def order(
    strategy: book.Strategy,
    destinations: Sequence[book.Destination],
    turn: int,
    idle_since: Mapping[str, datetime],
) -> tuple[book.Destination, ...]:
    """The destinations, first to ring first. `turn` counts the calls the route has had before this one.

    Round robin and weights depend on `turn` alone, so that two daemons that count alike choose alike. Of equally idle
    destinations the one written first in the file leads; one that has never talked counts as idle for ever.
    """
    match strategy:
        case book.Strategy.ROUND_ROBIN:
            start = turn % len(destinations)
            return (*destinations[start:], *destinations[:start])
        case book.Strategy.WEIGHTED:
            picks = weighted_picks(tuple(destination.weight for destination in destinations))
            start = turn % len(picks)
            return tuple(destinations[index] for index in dict.fromkeys((*picks[start:], *picks[:start])))
        case book.Strategy.LONGEST_IDLE:
            return tuple(sorted(destinations, key=lambda one: idle_since.get(one.key, _NEVER_TALKED)))
        case book.Strategy.ALL | book.Strategy.IN_ORDER:
            return tuple(destinations)


@lru_cache(maxsize=1024)
def weighted_picks(weights: tuple[int, ...]) -> tuple[int, ...]:
    """One round of smooth weighted round robin: which index is picked at each turn.

    (5, 1, 1) gives 0 0 1 0 2 0 0: shares are exact over a round, and the heavy one does not take five in a row.
    Source: nginx, ngx_http_upstream_round_robin.c.
    """
    shared = gcd(*weights)
    shares = [weight // shared for weight in weights]
    total = sum(shares)
    current = [0] * len(shares)
    picks: list[int] = []
    for _ in range(total):
        current = [value + share for value, share in zip(current, shares, strict=True)]
        best = max(range(len(shares)), key=current.__getitem__)
        current[best] -= total
        picks.append(best)
    return tuple(picks)
