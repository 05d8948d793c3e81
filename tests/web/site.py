"""A clinic whose visitors came, looked and called, behind the admin listener: visits by the real leasing, records as
the tracker files them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.core.displayrules import Place
from gateway.services import arrivals
from gateway.store import attributions
from gateway.web import parts
from tests.services.clinic import Clinic, number
from tests.web import material
from tests.web.listener import Listener

GOOGLE = "https://clinic.example/implants?utm_source=google&utm_medium=cpc&utm_campaign=spring&utm_term=implant+price&gclid=Cj0"
PHONE = {"browser": "Chrome Mobile 129", "system": "Android 14", "device": "phone, Samsung SM-S918B"}
COMPUTER = {"browser": "Firefox 132", "system": "Windows 10", "device": "computer"}
CALLER = "+74951112233"


@dataclass
class Site:
    """What happened on the clinic's site. Time begins a day before the listener's clock."""

    listener: Listener
    clinic: Clinic = field(init=False)

    def __post_init__(self) -> None:
        before = parts.micros(self.listener.clock.now - timedelta(days=1))
        self.clinic = Clinic(self.listener.database, now_us=before)
        self.listener.current = self.clinic.book

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clinic.now_us / 1_000_000, UTC)

    async def visit(self, visitor: str | None = None, url: str = GOOGLE, **more: Any) -> arrivals.Answer:
        """A page is opened, from Moscow with a phone unless told otherwise."""
        facts: dict[str, Any] = {"place": Place("RU", ("Moscow",)), **PHONE, **more}
        return await self.clinic.open(visitor, url, **facts)

    async def call(
        self,
        visitor: arrivals.Answer | None,
        *,
        method: str = "visitor",
        share: float = 0.92,
        others: tuple[tuple[str, float, float], ...] = (),
        is_certain: bool = True,
        **changes: Any,
    ) -> str:
        """A call to the number that was shown; `others` are candidates: id, share, seconds since they were seen."""
        call_id = str(uuid.uuid4())
        visitor_id = visitor.visitor_id if visitor is not None else None
        called = (number(visitor) if visitor is not None else None) or "+74990000002"
        named = [] if visitor_id is None else [{"visitor_id": visitor_id, "share": share, "seconds_since_seen": 0.0}]
        document = material.record(call_id=call_id, started_at=self.now, caller=CALLER)
        document["tracking"] |= {"number": called, "kind": "pool", "source": None, "label": None}
        document["attribution"] |= {
            "method": method,
            "confidence": share if visitor_id else 0.0,
            "source": "google-ads" if visitor_id else None,
            "source_name": "Google Ads" if visitor_id else None,
            "medium": "cpc" if visitor_id else None,
            "campaign": "spring" if visitor_id else None,
            "term": "implant price" if visitor_id else None,
            "landing_page": GOOGLE if visitor_id else None,
            "click_ids": {"gclid": "Cj0"} if visitor_id else {},
            "visitor_id": visitor_id,
            "lease_id": visitor.shows[0].lease_id if visitor is not None else None,
            "candidates": named
            + [{"visitor_id": one, "share": part, "seconds_since_seen": gone} for one, part, gone in others],
        }
        await self.listener.store_calls([{**document, **changes}])
        filed = attributions.Filed(
            call_id,
            called,
            "pool",
            self.clinic.now_us,
            method,
            share if visitor_id else 0.0,
            pool="moscow",
            caller=CALLER,
            visitor_id=visitor_id,
            link_confidence=share if is_certain and visitor_id else None,
        )
        async with self.listener.database.begin() as tx:
            await attributions.keep(tx, [filed])
        return call_id


async def lived(listener: Listener) -> tuple[Site, arrivals.Answer, str]:
    """A visitor who came by an ad, came back directly on the next day, followed the link and called; two more who only
    looked. Gives the site, the visitor's last answer, and the call's id."""
    site = Site(listener)
    first = await site.visit(ids={"ga": "1234.5678"}, variables={"plan": "family"})
    site.clinic.later(40)
    await site.visit(first.visitor_id, "https://clinic.example/prices")
    await site.clinic.leave(first)
    site.clinic.later(20 * 3_600)
    other = await site.visit(url="https://clinic.example/", referrer="https://yandex.ru/", **COMPUTER)
    site.clinic.later(60)
    again = await site.visit(first.visitor_id, "https://clinic.example/contacts", **PHONE)
    site.clinic.later(30)
    await site.clinic.click(again)
    site.clinic.later(5)
    others = ((other.visitor_id or "", 0.05, 90.0),)
    call_id = await site.call(again, method="click_to_call", share=0.95, others=others)
    await site.visit(url="https://clinic.example/", device="tablet, iPad")
    listener.clock.now = site.now + timedelta(minutes=2)
    return site, again, call_id
