"""The script as browsers get it: made small once, put together with a site's configuration, compressed, marked."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gateway.web.dni import minify

SOURCE = Path(__file__).parent / "script.js"
MAX_AGE_SECONDS = 300
MAX_COMPRESSED_BYTES = 4_096
"""What the script may weigh on the wire (attribution.md 1.2)."""


@dataclass(frozen=True, slots=True)
class Script:
    """The script of one site. `etag` is a strong one, with its quotes."""

    body: bytes
    compressed: bytes
    etag: str

    @property
    def headers(self) -> Mapping[str, str]:
        """Of every answer, those with 304 too. It is the same for every visitor, so anybody may keep it."""
        return {
            "Cache-Control": f"public, max-age={MAX_AGE_SECONDS}, stale-while-revalidate=86400, stale-if-error=604800",
            "Content-Type": "text/javascript; charset=utf-8",
            "ETag": self.etag,
            "Vary": "Accept-Encoding",
            # A page on any address may load it; what it may ask is up to the site's origins.
            "Cross-Origin-Resource-Policy": "cross-origin",
        }


@cache
def program() -> str:
    """The script without a configuration: a function in parentheses."""
    return minify.minify(SOURCE.read_text(encoding="utf-8"))


def render(configuration: bytes) -> Script:
    """The script of a site. `configuration`: by `scriptwire.configuration`."""
    body = f"{program()}({configuration.decode('ascii')});\n".encode()
    return Script(body, gzip.compress(body, 9, mtime=0), f'"{hashlib.sha256(body).hexdigest()[:20]}"')
