"""Headers of every answer, and the log line of every request (without query strings: they hold callers' numbers)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway import log, store
from gateway.web import problems, routes

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: it makes browsers send `Origin: null` with our own forms, which the cross-site check refuses.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Server": "dialmark",
}
HSTS = "max-age=31536000"

_log = log.get("web")


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler: the same headers on every answer, streams and errors included."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")
    if request.app[routes.GATE].client(request).is_secure:
        response.headers["Strict-Transport-Security"] = HSTS


@web.middleware
async def log_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One line per request with the route's pattern, not the address asked for."""
    started = time.perf_counter()
    status = 500
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        resource = request.match_info.route.resource
        principal = request.get(routes.PRINCIPAL)
        _log.debug(
            "http request",
            method=request.method,
            route=resource.canonical if resource is not None else "unknown",
            status=status,
            milliseconds=round((time.perf_counter() - started) * 1000, 1),
            by=principal.name if principal is not None else None,
        )


def errors_as_problems(instance_of: Callable[[web.Request], str]) -> Middleware:
    """Every error leaves as a problem document that names `instance_of` the request."""

    @web.middleware
    async def turn(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except problems.Problem as problem:
            return problem.response(instance_of(request))
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return problems.from_http(error).response(instance_of(request))
        except store.StoreError:
            _log.warning("database not available for a request", route=request.match_info.handler.__name__)
            return problems.Problem("unavailable", headers={"Retry-After": "5"}).response(instance_of(request))
        except Exception:
            _log.exception("request failed", method=request.method)
            return problems.Problem("internal").response(instance_of(request))

    return turn


turn_errors_into_problems = errors_as_problems(lambda request: request.path)
"""Pages turn their errors into HTML before they come here."""
