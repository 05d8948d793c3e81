"""Telephone numbers as analytics and ad platforms match them: normalised, hashed, lower-case hex.

Normalising differs by platform, and a wrong form matches nobody without any error: one function each.
"""

from __future__ import annotations

import hashlib
import re

_NOT_A_DIGIT = re.compile(r"[^0-9]")


def google(number: str) -> str:
    """GA4 and Google Ads: E.164 with its `+` (integrations.md 4.1, 4.3)."""
    return _sha256(number)


def meta(number: str) -> str:
    """Meta: digits with country code, no `+`, no leading zeros (integrations.md 4.4)."""
    return _sha256(_NOT_A_DIGIT.sub("", number).lstrip("0"))


def yandex(number: str) -> str:
    """Yandex Audience: digits with country code ("File requirements" of its help)."""
    return _sha256(_NOT_A_DIGIT.sub("", number))


def yandex_md5(number: str) -> str:
    """As `yandex`, for segments that were begun with MD5: since January 2025 new ones take none."""
    return hashlib.md5(_NOT_A_DIGIT.sub("", number).encode(), usedforsecurity=False).hexdigest()


def meta_word(text: str) -> str:
    """Meta's country, city and the like: lower case, without what surrounds or parts the words."""
    return _sha256("".join(text.lower().split()))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
