"""With what a visitor looks (R107): browser, system and device in words, of the `User-Agent` that the browser sends.

The header itself is not kept: a browser's version to the last digit tells people apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import ua_parser

MAX_LENGTH = 512
"""Characters that are read: browsers send at most half of it."""
MAX_WORDS = 60

_TABLET = re.compile(r"\biPad\b|\bTablet\b|\bAndroid(?!.*\bMobile\b)", re.IGNORECASE)
_PHONE = re.compile(r"Mobi|\biPhone\b|\biPod\b", re.IGNORECASE)
_TELEVISION = re.compile(r"\bSmart-?TV\b|\bHbbTV\b|\bAppleTV\b|\bBRAVIA\b|\bAFT[A-Z]", re.IGNORECASE)
_COMPUTERS = ("Windows", "Mac OS X", "Linux", "Ubuntu", "Fedora", "Debian", "Chrome OS", "FreeBSD", "OpenBSD")
_APPLE = ("iPhone", "iPad", "iPod")


@dataclass(frozen=True, slots=True)
class Look:
    """None where the header tells nothing."""

    browser: str | None = None
    """`Chrome Mobile 129`."""
    system: str | None = None
    """`Android 14`."""
    device: str | None = None
    """`phone`, `tablet`, `computer` or `television`, and what it is called where that is told: `phone, Samsung
    SM-S918B`."""


NOTHING = Look()


def look(user_agent: str | None) -> Look:
    """What a `User-Agent` tells. Never fails: anybody may send anything."""
    text = (user_agent or "")[:MAX_LENGTH]
    if not text.strip():
        return NOTHING
    found = ua_parser.parse(text)
    browser, system = found.user_agent, found.os
    return Look(
        _words(browser.family, browser.major) if browser is not None else None,
        _words(system.family, system.major) if system is not None else None,
        _device(text, system.family if system is not None else "", found.device),
    )


def prepare() -> None:
    """Loads the patterns, which takes a seventh of a second: at the start, and not while a visitor waits."""
    look("Mozilla/5.0")


def _device(text: str, system: str, device: ua_parser.Device | None) -> str | None:
    if _TELEVISION.search(text):
        kind = "television"
    elif _TABLET.search(text):
        kind = "tablet"
    elif _PHONE.search(text):
        kind = "phone"
    elif system in _COMPUTERS:
        kind = "computer"
    else:
        return None
    if device is None or kind == "computer" or (device.brand or "").startswith("Generic"):
        return kind
    name = device.family if device.family in _APPLE or not device.brand else f"{device.brand} {device.model or ''}"
    return _words(f"{kind},", name)


def _words(*parts: str | None) -> str | None:
    joined = " ".join(part for part in parts if part)
    printable = "".join(character if character.isprintable() else " " for character in joined)
    return " ".join(printable.split())[:MAX_WORDS].strip() or None
