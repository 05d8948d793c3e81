"""Audiences for ad platforms (R11, R12): who of the callers is in one, why the others are not, and how a number is
written for each platform. A number leaves hashed; who may not leave is named here, and nowhere else.

Consent to advertising is what the site's own script says of a visitor (`ad_consent`); a caller without such a word
never leaves, and one word of refusal outweighs any number of agreements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.core import erasure, numbers
from gateway.core.outgoing import hashing, told

MAX_DAYS = 540
"""The longest membership that Google knows; who called earlier has forgotten us."""
DAYS = 30


class Platform(StrEnum):
    """Where the file goes."""

    GOOGLE = "google"
    META = "meta"
    YANDEX = "yandex"


class Hash(StrEnum):
    """How numbers are hashed; hexadecimal, lower case."""

    SHA256 = "sha256"
    MD5 = "md5"


class Who(StrEnum):
    """Which callers: whose call nobody took and to whom nobody has talked since, those who talked, or both."""

    NOT_CONNECTED = "not_connected"
    CONNECTED = "connected"
    CALLED = "called"


class Times(StrEnum):
    """Whether the call was the first of its caller."""

    ALL = "all"
    FIRST = "first"
    REPEAT = "repeat"


class Left(StrEnum):
    """Why a caller is left out; the first that holds counts."""

    ERASED = "erased"
    NO_NUMBER = "no_number"
    """An extension, or what a caller made up: no number of the public network."""
    OURS = "ours"
    """A tracking number, or a destination of our own."""
    BANNED = "banned"
    TALKED = "talked"
    """In an audience of those who did not connect: somebody has talked to them."""
    NO_CONSENT = "no_consent"
    """No visit of theirs says that they have agreed to advertising."""
    REFUSED = "refused"
    """Said no to advertising, or to being recorded."""
    SPAM = "spam"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """One `[[audience]]` of the routing file. Empty filters ask nothing; all that are set must hold for one call."""

    key: str
    platform: Platform
    who: Who = Who.NOT_CONNECTED
    hash: Hash = Hash.SHA256
    days: int = DAYS
    """How long ago a call may have been."""
    sites: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    campaigns: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    times: Times = Times.ALL
    min_talk_seconds: int = 0
    visit_covers_ads: bool = False
    """Who lets the site remember them has agreed to advertising too."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of somebody who made a call that the audience asks for."""

    number: str
    """E.164 with `+`, or what stands in its place."""
    has_talked: bool = False
    """In the time of the audience, to anybody of ours."""
    was_banned: bool = False
    """By a call that was turned away, or by the ban list now."""
    said: frozenset[str] = frozenset()
    """What their visits say of advertising, "" where one says nothing; empty without any visit."""
    refused_recording: bool = False
    """In any call. Of this and of the marks the store tells nothing of a caller who says no word of consent."""
    is_spam: bool = False
    is_test: bool = False


@dataclass(frozen=True, slots=True)
class Format:
    """The file of a platform: one column, one line for each person."""

    header: str
    hashes: Mapping[Hash, Callable[[str], str]]
    """What may be asked for, and how a number (E.164 with `+`) is written then."""
    least: int
    """People below which the platform does not serve a list."""


FORMATS = {
    # Google Ads help 7659867.
    Platform.GOOGLE: Format("Phone", {Hash.SHA256: hashing.google}, 100),
    # Meta business help 2082575038703844.
    Platform.META: Format("phone", {Hash.SHA256: hashing.meta}, 100),
    # Yandex Audience, "File requirements". Since January 2025 new segments take SHA-256 only.
    Platform.YANDEX: Format("phone", {Hash.SHA256: hashing.yandex, Hash.MD5: hashing.yandex_md5}, 100),
}


def left_out(caller: Caller, audience: Audience, *, is_ours: bool) -> Left | None:
    """Why this caller is not in the audience; None: they are."""
    if erasure.is_pseudonym(caller.number):
        return Left.ERASED
    if not numbers.is_e164(caller.number) or len(caller.number) <= numbers.MIN_DIGITS:
        return Left.NO_NUMBER
    if is_ours:
        return Left.OURS
    if caller.was_banned:
        return Left.BANNED
    if audience.who is Who.NOT_CONNECTED and caller.has_talked:
        return Left.TALKED
    return _without_consent(caller, audience) or _marked(caller)


def _without_consent(caller: Caller, audience: Audience) -> Left | None:
    if caller.refused_recording or caller.said - {told.GRANTED, ""}:
        return Left.REFUSED
    if told.GRANTED in caller.said or (audience.visit_covers_ads and caller.said):
        return None
    return Left.NO_CONSENT


def _marked(caller: Caller) -> Left | None:
    if caller.is_spam:
        return Left.SPAM
    return Left.TEST if caller.is_test else None
