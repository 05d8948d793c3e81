"""The marketing channels of reports, below the book and the tables of traffic, which both name them."""

from __future__ import annotations

from enum import StrEnum


class Channel(StrEnum):
    """The marketing channel of a source."""

    SEARCH = "search"
    SOCIAL = "social"
    DISPLAY = "display"
    REFERRAL = "referral"
    EMAIL = "email"
    OFFLINE = "offline"
    DIRECT = "direct"
    OTHER = "other"
