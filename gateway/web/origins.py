"""Where a page is, by the `Origin` that its browser sends and no script can change."""

from __future__ import annotations

import re

from aiohttp import web

ALLOWED = web.RequestKey("allowed_origin", str)
"""Key of a request: the origin whose page may read the answer."""

_ORIGIN = re.compile(r"(?:https?|capacitor|ionic)://([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)(?::[0-9]{1,5})?")


def host_of(origin: str) -> str | None:
    """The host of an origin, None for `null` and for what is none. Any port: a site's hosts are its own."""
    match = _ORIGIN.fullmatch(origin)
    return match[1] if match is not None else None
