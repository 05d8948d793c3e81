"""Token buckets: so many at once, so many a minute, for each key. Pure: the time is told.

Keys are other people's choice (addresses), so they are bounded: of too many the one not asked for longest is forgotten.
It begins anew with a full bucket, which is why a limit by address goes together with one over all.
"""

from __future__ import annotations

from collections import OrderedDict

MOST_KEYS = 50_000
MINUTE = 60.0


class Buckets:
    """One bucket for each key, full at first."""

    def __init__(self, most_keys: int = MOST_KEYS) -> None:
        self._most_keys = most_keys
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Tokens and when they were counted, the key asked for last at the end."""

    def __len__(self) -> int:
        return len(self._left)

    def take(self, key: str, now: float, *, per_minute: float, burst: float) -> float:
        """Takes a token. 0.0: there was one; else the seconds until there is. `now` in seconds of any clock; one that
        steps back fills nothing."""
        left, counted = self._left.pop(key, (burst, now))
        left = min(burst, left + max(0.0, now - counted) * per_minute / MINUTE)
        counted = max(now, counted)
        wait = 0.0 if left >= 1.0 else (1.0 - left) * MINUTE / per_minute
        self._left[key] = (left - 1.0 if left >= 1.0 else left, counted)
        if len(self._left) > self._most_keys:
            self._left.popitem(last=False)
        return wait
