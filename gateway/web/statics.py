"""Style sheet, scripts and pictures: read at start, named by content, compressed once, cached for ever by browsers."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import web

from gateway.web import auth, problems, routes

FOLDER = Path(__file__).parent / "static"
IMMUTABLE = "public, max-age=31536000, immutable"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_TEXT = frozenset(_TYPES)

table = routes.Table()


@dataclass(frozen=True, slots=True)
class Asset:
    """One file; `compressed` is None where gzip gains nothing."""

    address: str
    content_type: str
    body: bytes
    compressed: bytes | None


@cache
def assets() -> Mapping[str, Asset]:
    """All files of the folder by file name."""
    return {path.name: _load(path) for path in sorted(FOLDER.iterdir()) if path.is_file()}


def address_of(name: str) -> str:
    """Where a file is served. Raises KeyError for a file that does not exist."""
    return assets()[name].address


def _load(path: Path) -> Asset:
    body = path.read_bytes()
    mark = hashlib.sha256(body).hexdigest()[:12]
    guessed = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    compressed = gzip.compress(body, 9, mtime=0) if path.suffix in _TEXT else None
    return Asset(f"/static/{mark}/{path.name}", guessed, body, compressed)


@table.get("/static/{mark}/{name}", scope=auth.Open.ANYONE, is_page=True, summary="A static file")
async def serve_file(request: web.Request) -> web.StreamResponse:
    asset = assets().get(request.match_info["name"])
    if asset is None or asset.address != request.path:
        raise problems.Problem("not-found")
    headers = {"Cache-Control": IMMUTABLE, "Content-Type": asset.content_type, "Vary": "Accept-Encoding"}
    if asset.content_type.startswith("text/"):
        headers["Content-Type"] += "; charset=utf-8"
    if asset.compressed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=asset.compressed, headers=headers)
    return web.Response(body=asset.body, headers=headers)
