"""Visitors, credit and pools as they are read, on both engines (R85, R89, R101, R107)."""

from __future__ import annotations

from gateway import store
from gateway.core.touches import Model
from gateway.services import crediting, journeys, poolwatch
from gateway.store import attributions, calls, visitorlist
from tests.services.clinic import FIRST, Clinic
from tests.web import material

TAGGED = "https://clinic.example/?utm_source=google&utm_medium=cpc&utm_campaign=spring&utm_term=implant"


async def test_list_profile_credit_and_pools(database: store.Database) -> None:
    clinic = Clinic(database)
    visitor = await clinic.open(url=TAGGED, browser="Firefox 132")
    clinic.later(7_200)
    await clinic.open(visitor.visitor_id)
    other = await clinic.open()
    row = material.row(material.record())
    filed = attributions.Filed(
        row.call_id, FIRST, "pool", clinic.now_us, "visitor", 0.9, "moscow", visitor_id=visitor.visitor_id
    )
    async with database.begin() as tx:
        await calls.save(tx, [row])
        await attributions.keep(tx, [filed])
    async with database.read() as connection:
        asked = visitorlist.VisitorFilter(source="google", campaign="spring", has_called=True, since_us=0)
        found = await visitorlist.list_visitors(connection, asked)
        everybody = await visitorlist.list_visitors(connection, visitorlist.VisitorFilter(), limit=1)
        rest = await visitorlist.list_visitors(connection, visitorlist.VisitorFilter(), after=everybody.next)
        profile = await journeys.profile(connection, visitor.visitor_id or "", clinic.book)
        credit = await crediting.credited(connection, [row], Model.LINEAR, clinic.book)
        (pool,) = await poolwatch.standing(connection, clinic.book.web, clinic.now_us)
    (one,) = found.rows
    summary = journeys.summary(one, clinic.book)
    assert (one.visits, one.pages, one.calls, summary["source"], summary["term"]) == (2, 2, 1, "google-ads", "implant")
    seen = [row.person.visitor_id for row in (*everybody.rows, *rest.rows)]
    assert sorted(seen) == sorted([visitor.visitor_id or "", other.visitor_id or ""])
    assert rest.next is None
    assert profile is not None
    assert [visit["source"] for visit in profile["visits"]] == ["google-ads", "direct"]
    assert profile["calls"][0]["call_id"] == row.call_id
    assert credit[row.call_id]["window_days"] == 30
    assert (pool.now.size, pool.now.living, pool.free) == (2, 2, 0)
