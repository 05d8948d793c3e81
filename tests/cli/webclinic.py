"""A clinic's web site and the gateway of its numbers, both served beside the operator's commands on the same database."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from gateway import store
from gateway.config import routingfile
from gateway.core import numberformats, scriptwire
from gateway.core.displayrules import Place, Reason
from gateway.services import arrivals, leasing
from gateway.store import webchecks
from gateway.web.dni import script
from tests.web.dni import standin

SITE_NUMBER, FIRST, OVERFLOW, PRINTED = "+74950000001", "+74990000101", "+74990000199", "+74990000006"
YEKATERINBURG = "+73430000006"

ROUTING = f"""\
[[site]]
key = "clinic"
time_zone = "Europe/Moscow"
country = "RU"
default_destination = "desk"
business_number = "{SITE_NUMBER}"

[site.web]
hosts = ["localhost"]

[[source]]
key = "google-ads"
channel = "search"

[[source.visits]]
utm = {{ source = "google", medium = "cpc" }}

[[source]]
key = "leaflet"
channel = "offline"

[[destination]]
key = "desk"
dial = "sip:desk-1"

[[route]]
key = "sales"
forward = ["desk"]

[[tracking_number]]
number = "{PRINTED}"
route = "sales"
source = "leaflet"

[[tracking_number]]
number = "{YEKATERINBURG}"
route = "sales"

[[pool]]
key = "moscow"
route = "sales"
numbers = ["{FIRST}", "+74990000102"]
overflow = "{OVERFLOW}"

[[display_rule]]
key = "forum"
referrers = ["forum.example"]
number = "{PRINTED}"

[[display_rule]]
key = "ural"
cities = ["Yekaterinburg"]
number = "{YEKATERINBURG}"

[[display_rule]]
key = "ads"
sources = ["google-ads"]
pool = "moscow"
"""

BODY = """<h1>Clinic</h1><p>Call <b>8 (495) 000-00-01</b></p><a href="tel:+74950000001">call</a>"""


@dataclass
class Gate:
    """What a gateway does with the script's questions; `lends` is a real pool."""

    path: Path
    routing: str
    status: int = 200
    wait_ms: int = 30_000
    delay_seconds: float = 0.0
    visits: list[scriptwire.Visit] = field(default_factory=list)
    lends: leasing.Leasing | None = None
    database: store.Database | None = None

    async def begin(self) -> None:
        self.database = await store.Database.open(f"sqlite:///{self.path}")
        self.lends = leasing.Leasing(self.database, now_us=lambda: 1_900_000_000_000_000)
        self.lends.use(routingfile.parse(self.routing, 1))
        await self.lends.step()

    def application(self) -> web.Application:
        made = web.Application()
        made.router.add_get("/dni/v1/{site}.js", self._script)
        made.router.add_post("/dni/v1/visit", self._visit)
        return made

    async def _script(self, request: web.Request) -> web.Response:
        if self.status == 404:
            return web.Response(status=404)
        target = numberformats.target(SITE_NUMBER)
        assert target is not None
        site = request.match_info["site"]
        made = script.render(scriptwire.configuration(site, [target], wait_ms=self.wait_ms))
        return web.Response(body=made.body, headers=made.headers)

    async def _visit(self, request: web.Request) -> web.Response:
        visit = scriptwire.visit(await request.read())
        self.visits.append(visit)
        headers = {"Access-Control-Allow-Origin": request.headers["Origin"], "Access-Control-Allow-Credentials": "true"}
        if self.status != 200:
            return web.Response(status=self.status, headers=headers)
        await asyncio.sleep(self.delay_seconds)
        assert self.lends is not None and self.database is not None
        async with self.database.read() as connection:
            known = visit.check and await webchecks.is_valid(connection, visit.check.pass_id, now_us=0)
        if not known or visit.check is None:
            return web.Response(body=scriptwire.visit_answer(Reason.BOT), headers=headers)
        place = Place(visit.check.country, (visit.check.city,) if visit.check.city else ())
        answer = await self.lends.preview(arrivals.Arrival("clinic", visit.url, visit.referrer, place=place))
        shown = [scriptwire.Shown(one.target, one.number) for one in answer.shows if one.number]
        return web.Response(body=scriptwire.visit_answer(answer.shows[0].reason, shown), headers=headers)


@dataclass
class WebClinic:
    """Both servers. `url` is the site's, on a host of the routing."""

    gate: Gate
    site: standin.Site
    url: str = ""
    script: str = ""

    def page(self, body: str = BODY, *, path: str = "/", head: str = "", script: str | None = None) -> str:
        """A page of the site; its address."""
        tag = f'<script async src="{script or self.script}"></script>'
        self.site.pages[path] = (
            f"<!doctype html><html><head><title>C</title>{head}{tag}</head><body>{body}</body></html>"
        )
        return self.url + path


@contextmanager
def served(database: Path, routing: str = ROUTING) -> Iterator[WebClinic]:
    """A clinic whose servers run in a thread of their own, as commands run to their end in this one."""
    clinic = WebClinic(Gate(database, routing), standin.Site())
    begun, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        await clinic.gate.begin()
        try:
            async with (
                standin.served(clinic.gate.application()) as gate,
                standin.served(clinic.site.application()) as at,
            ):
                clinic.url = at.replace("127.0.0.1", "localhost")
                clinic.script = f"{gate}/dni/v1/clinic.js"
                begun.set()
                await over.wait()
        finally:
            assert clinic.gate.database is not None
            await clinic.gate.database.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert begun.wait(20)
        clinic.page()
        yield clinic
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(20)
        loop.close()


def jsonld(number: str) -> str:
    return f'<script type="application/ld+json">{json.dumps({"telephone": number})}</script>'
