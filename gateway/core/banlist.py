"""The ban list (R112): which ban, if any, is about a caller."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from gateway.core import book


class BanList:
    """Bans indexed by number, so that asking costs the same for ten and for ten thousand of them."""

    def __init__(self, bans: Iterable[book.Ban]) -> None:
        self._exact: dict[str, list[book.Ban]] = {}
        self._prefixes: dict[str, list[book.Ban]] = {}
        for ban in bans:
            digits = ban.number.lstrip("+")
            index = self._prefixes if digits.endswith("*") else self._exact
            index.setdefault(digits.rstrip("*"), []).append(ban)
        self._lengths = sorted({len(prefix) for prefix in self._prefixes}, reverse=True)

    def about(self, caller: str, at: datetime) -> book.Ban | None:
        """The ban of `caller` (E.164 digits, no `+`) in force at `at`: its own number before the longest prefix."""
        if not caller:
            return None
        candidates = list(self._exact.get(caller, ()))
        for length in self._lengths:
            candidates += self._prefixes.get(caller[:length], ())
        return next((ban for ban in candidates if ban.expires_at is None or at < ban.expires_at), None)
