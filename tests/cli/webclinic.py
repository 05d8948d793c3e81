"""A clinic's web site and the gateway of its numbers, both served beside the operator on one database."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway import store
from gateway.config import routingfile
from gateway.services import callbacks, leasing
from gateway.web import security, visiting
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


def now_us() -> int:
    return round(time.time() * 1_000_000)


@dataclass
class Gate:
    """The real public application on the operator's database; `delay_seconds` holds its answers up."""

    path: Path
    routing: str
    delay_seconds: float = 0.0
    leasing: leasing.Leasing | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serves it; its address."""
        script.program()
        database = await store.Database.open(f"sqlite:///{self.path}")
        book = routingfile.parse(self.routing, 1)
        self.leasing = leasing.Leasing(database, now_us=now_us)
        self.leasing.use(book)
        # The pools are in the database from here on: a test may change their rows.
        await self.leasing.step()
        lending = asyncio.create_task(self.leasing.run())
        parts = visiting.VisitingParts(
            self.leasing, callbacks.Callbacks(database, now_us=now_us), database, lambda: book, now_us
        )
        application = visiting.application(parts)
        application.middlewares.append(self._delay)
        try:
            async with standin.served(application) as url:
                yield url
        finally:
            lending.cancel()
            await asyncio.gather(lending, return_exceptions=True)
            await database.close()

    @web.middleware
    async def _delay(self, request: web.Request, handler: security.Handler) -> web.StreamResponse:
        if request.method == "POST":
            await asyncio.sleep(self.delay_seconds)
        return await handler(request)


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
        async with clinic.gate.running() as gate, standin.served(clinic.site.application()) as at:
            clinic.url = at.replace("127.0.0.1", "localhost")
            clinic.script = f"{gate}/dni/v1/clinic.js"
            begun.set()
            await over.wait()

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
