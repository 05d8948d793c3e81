"""Who is no visitor (attribution.md 2.5): crawlers by their names, and pages that are loaded before anybody looks.

A bot that were lent a number would hold one that a visitor needs. It sees the page as the server sent it, as everybody
does whose browser runs no script.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import crawleruseragents

MAX_LENGTH = 512
"""Characters of a `User-Agent` that are looked at."""
_AHEAD = ("prefetch", "prerender", "preview")
_PURPOSES = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")


def is_bot(headers: Mapping[str, str]) -> bool:
    """Whether a request's headers say that nobody looks at the page."""
    purpose = " ".join(headers.get(name, "")[:MAX_LENGTH] for name in _PURPOSES).lower()
    return any(word in purpose for word in _AHEAD) or _is_crawler(headers.get("User-Agent", "")[:MAX_LENGTH])


def prepare() -> None:
    """Loads the names, which takes a tenth of a second: at the start, and not while a visitor waits."""
    _is_crawler("Mozilla/5.0")


@lru_cache(maxsize=4_096)
def _is_crawler(user_agent: str) -> bool:
    return not user_agent.strip() or bool(crawleruseragents.is_crawler(user_agent))
