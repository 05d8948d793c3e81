"""Templates, and what every page of a signed-in person has around it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web

from gateway.web import attributionviews, auth, charts, parts, resultviews, routes, statics, views

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals["Scope"] = auth.Scope
_templates.globals["static"] = statics.address_of
_templates.globals["outcomes"] = views.OUTCOMES
_templates.globals["duration"] = views.duration
_templates.globals["phone"] = views.phone
_templates.globals["ENDED_BY"] = views.ENDED_BY
_templates.globals["METHODS"] = attributionviews.METHODS
_templates.globals["ROUTE_SOURCES"] = views.ROUTE_SOURCES
_templates.globals["RESULT_NAMES"] = resultviews.NAMES
_templates.globals["shown"] = charts.shown
_templates.globals["percent"] = charts.percent


def html(
    request: web.Request, template: str, context: dict[str, Any], *, status: int = 200, headers: Any = None
) -> web.Response:
    """A template as the answer."""
    text = _templates.get_template(template).render(context)
    return routes.encoded_response(text, "text/html", status=status, headers=headers)


def frame(request: web.Request) -> dict[str, Any]:
    """What `base.html` shows: who is signed in, the site, the routing in force."""
    here = request.app[parts.PARTS]
    now = here.clock().astimezone(here.zone)
    current = here.current_book()
    principal = request[routes.PRINCIPAL]
    return {
        "principal": principal,
        "may": principal.may,
        "node": here.node,
        "version": here.version,
        "revision": current.revision if current is not None else None,
        "site": current.default_site.name if current is not None and current.sites else here.node,
        "has_web": current is not None and bool(current.web.sites),
        "zone": _zone_text(now),
    }


def _zone_text(now: datetime) -> str:
    offset = now.strftime("%z")
    name = str(now.tzinfo)
    return name if name == "UTC" else f"{name} (UTC{offset[:3]}:{offset[3:]})"
