"""A clinic with a web site, a pool of two numbers and a clock that tests set; visitors that open its pages."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

from gateway import store
from gateway.config import routingfile
from gateway.core import book
from gateway.services import arrivals, leasing
from gateway.store import outbox

SECOND = 1_000_000
FIRST, SECOND_NUMBER, OVERFLOW, PRINTED = "+74990000001", "+74990000002", "+74990000199", "+74990000006"
SITE_NUMBER = "+74990000000"
PAGE = "https://clinic.example/"

ROUTING = f"""\
[[site]]
key = "clinic"
time_zone = "Europe/Moscow"
country = "RU"
default_destination = "desk"
business_number = "{SITE_NUMBER}"

[site.web]
hosts = ["clinic.example"]

[[trunk]]
key = "carrier-a"
hosts = ["203.0.113.5"]

[[source]]
key = "google-ads"
name = "Google Ads"
channel = "search"

[[source.visits]]
utm = {{ source = "google", medium = "cpc" }}

[[source]]
key = "leftover"
name = "Leftover"
channel = "other"

[[source]]
key = "leaflet"
channel = "offline"

[[destination]]
key = "desk"
dial = "sip:desk-1"

[[route]]
key = "sales"
forward = ["desk"]
whisper = "{{source}} {{campaign}} {{keyword}}"

[[tracking_number]]
number = "{PRINTED}"
route = "sales"
source = "leaflet"

[[pool]]
key = "moscow"
route = "sales"
numbers = ["{FIRST}", "{SECOND_NUMBER}"]
overflow = "{OVERFLOW}"
overflow_source = "leftover"

[[display_rule]]
key = "leaflet"
landing_pages = ["/leaflet*"]
number = "{PRINTED}"

[[display_rule]]
key = "all"
pool = "moscow"
"""


def routing_book(text: str = ROUTING, revision: int = 7) -> book.Book:
    return routingfile.parse(text, revision)


class Clinic:
    """Lends to visitors; `crash` throws the process away. Ids are `id-1`, `id-2`, …"""

    def __init__(self, database: store.Database, *, text: str = ROUTING, now_us: int = 1_795_300_000 * SECOND) -> None:
        self.database = database
        self.now_us = now_us
        self.book = routing_book(text)
        self._ids = itertools.count(1)
        self.lent: list[tuple[str, str]] = []
        self.start()

    def start(self) -> None:
        """A new process on the same database."""
        self.leasing = leasing.Leasing(
            self.database,
            now_us=lambda: self.now_us,
            targets=["jsonl"],
            new_id=lambda: f"id-{next(self._ids)}",
            lent=lambda number, visitor_id: self.lent.append((number, visitor_id)),
        )
        self.leasing.use(self.book)

    def later(self, seconds: float) -> None:
        self.now_us += round(seconds * SECOND)

    async def open(self, visitor: str | None = None, url: str = PAGE, **more: Any) -> arrivals.Answer:
        """A visitor opens a page."""
        (answer,) = await self.open_all(arrivals.Arrival("clinic", url, visitor_id=visitor, **more))
        return answer

    async def open_all(self, *arriving: arrivals.Arrival) -> list[arrivals.Answer]:
        """Several pages at once."""
        waiting = [asyncio.create_task(self.leasing.arrive(one)) for one in arriving]
        await asyncio.sleep(0)
        await self.leasing.step()
        return await asyncio.gather(*waiting)

    async def beat(self, answer: arrivals.Answer) -> bool:
        """A page of the visitor lives."""
        lease_ids = [one.lease_id for one in answer.shows if one.lease_id]
        waiting = asyncio.create_task(self.leasing.beat(answer.visit_id, lease_ids))
        await asyncio.sleep(0)
        await self.leasing.step()
        return await waiting

    async def leave(self, answer: arrivals.Answer) -> None:
        """The visitor's page says goodbye."""
        self.leasing.leave(answer.visit_id, [one.lease_id for one in answer.shows if one.lease_id])
        await self.leasing.step()

    async def click(self, answer: arrivals.Answer) -> None:
        """The visitor follows the number's link."""
        assert answer.visitor_id is not None
        self.leasing.click(answer.visitor_id, number(answer) or "")
        await self.leasing.step()

    async def events(self, kind: str) -> list[dict[str, Any]]:
        """The data of events of a type, in order."""
        async with self.database.read() as connection:
            found = await outbox.after(connection, 0, limit=10_000)
        return [json.loads(event.payload)["data"] for _, event in found if event.type == kind]


def number(answer: arrivals.Answer) -> str | None:
    """What is shown in place of the site's number."""
    (shown,) = answer.shows
    return shown.number


def reason(answer: arrivals.Answer) -> str:
    (shown,) = answer.shows
    return shown.reason.value
