"""Visitors, candidates, credit and pools, over HTTP and in a real browser (R85, R88, R89, R96, R101, R107, N6, N14)."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect

from gateway.core import pool
from gateway.core.displayrules import Place
from gateway.core.touches import Model
from gateway.core.traffic import Kind
from gateway.store import attributions, audit, outbox, visits
from gateway.web import attributionviews, auth, schemas, visitors, visitorviews
from tests.services.clinic import FIRST, SECOND_NUMBER
from tests.web import material, site
from tests.web.browser import CONTRAST, TOO_WIDE, Opened
from tests.web.listener import Listener, bearer

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


async def get(
    listener: Listener, http: aiohttp.ClientSession, path: str, *scopes: str, status: int = 200
) -> dict[str, Any]:
    async with http.get(listener.url + path, headers=bearer(await listener.token(*scopes))) as answer:
        assert answer.status == status, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


# ---- The API ----


async def test_a_visitors_way_from_the_ad_to_the_call(listener: Listener, http: aiohttp.ClientSession) -> None:
    """R89, R107: visits with source, pages, device, browser, system and place; clicks; calls. No IP address."""
    _, visitor, call_id = await site.lived(listener)
    found = await get(listener, http, f"/api/v1/visitors/{visitor.visitor_id}", auth.Scope.VISITORS_READ)
    visitors.VisitorProfile.model_validate(found)
    first, second = found["visits"]
    assert (first["source"], first["source_name"], first["channel"]) == ("google-ads", "Google Ads", "search")
    assert (first["campaign"], first["term"], first["kind"]) == ("spring", "implant price", "paid_search")
    assert (first["click_ids"], first["landing_page"]) == ({"gclid": "Cj0"}, site.GOOGLE)
    assert [page["url"] for page in first["pages"]] == [site.GOOGLE, "https://clinic.example/prices"]
    device = {name: first[name] for name in ("browser", "system", "device", "country", "city")}
    assert device == {**site.PHONE, "country": "RU", "city": "Moscow"}
    assert (first["seconds"], second["source"], second["page_count"]) == (40.0, "direct", 1)
    (click,) = found["clicks"]
    (called,) = found["calls"]
    assert click["number"] == called["number"] == FIRST
    assert (called["call_id"], called["outcome"], called["confidence"]) == (call_id, "answered", 0.95)
    assert (found["callers"], found["ids"]) == ([site.CALLER], {"ga": "1234.5678"})
    assert (found["variables"], found["is_cut"]) == ({"plan": "family"}, False)
    assert "127.0.0.1" not in json.dumps(found)


async def test_the_list_is_filtered_and_goes_on(listener: Listener, http: aiohttp.ClientSession) -> None:
    """R89: by source, campaign, city, caller, whether they called, and when; the latest first, page by page."""
    here, visitor, _ = await site.lived(listener)
    moved = await here.visit(url="https://clinic.example/?utm_campaign=winter", place=Place("RU", ("Yekaterinburg",)))

    async def ids(query: str) -> list[str]:
        found = await get(listener, http, f"/api/v1/visitors?{query}")
        visitors.VisitorList.model_validate(found)
        return [one["visitor_id"] for one in found["visitors"]]

    everybody = await ids("")
    assert (len(everybody), everybody[0]) == (4, moved.visitor_id)
    for query in ("source=google-ads", "campaign=spring", "called=true", f"caller={site.CALLER[1:]}"):
        assert await ids(query) == [visitor.visitor_id], query
    # The campaign of one visit and the source of another are no visit.
    assert await ids("source=direct&campaign=spring") == []
    assert await ids("city=Yekaterinburg") == [moved.visitor_id]
    assert visitor.visitor_id not in await ids("called=false")
    assert await ids("site=other") == await ids("to=2026-11-19") == []
    assert await ids("from=2026-11-19") == everybody
    first = await get(listener, http, "/api/v1/visitors?limit=3")
    rest = await get(listener, http, f"/api/v1/visitors?limit=3&after={first['next']}")
    assert [one["visitor_id"] for one in (*first["visitors"], *rest["visitors"])] == everybody
    assert rest["next"] is None
    (caller,) = (await get(listener, http, "/api/v1/visitors?called=true"))["visitors"]
    assert (caller["source"], caller["campaign"], caller["visits"], caller["pages"], caller["calls"]) == (
        *("google-ads", "spring", 2, 3, 1),
    )


@pytest.mark.parametrize(
    ("query", "field"), [("after=nonsense", "after"), ("after=MTox", "after"), ("limit=0", "limit"), ("ip=1", "ip")]
)
async def test_a_query_that_does_not_fit(
    listener: Listener, http: aiohttp.ClientSession, query: str, field: str
) -> None:
    if query == "after=MTox":
        # `1:1`: an id that could be one.
        assert (await get(listener, http, f"/api/v1/visitors?{query}"))["visitors"] == []
        return
    problem = await get(listener, http, f"/api/v1/visitors?{query}", status=400)
    assert [error["field"] for error in problem["errors"]] == [field]


async def test_who_may_see_and_erase_visitors(listener: Listener, http: aiohttp.ClientSession) -> None:
    """Calls are no licence for visitors, nor is reading one for erasing."""
    _, visitor, _ = await site.lived(listener)
    await get(listener, http, "/api/v1/visitors", auth.Scope.CALLS_READ, status=403)
    address = f"{listener.url}/api/v1/visitors/{visitor.visitor_id}/erase"
    for scope, status in ((auth.Scope.VISITORS_READ, 403), (auth.Scope.CALLS_READ, 403)):
        async with http.post(address, headers=bearer(await listener.token(scope))) as answer:
            assert answer.status == status
    await get(listener, http, "/api/v1/visitors/nobody", status=404)
    await get(listener, http, "/api/v1/pools", auth.Scope.VISITORS_READ, status=403)


async def test_erasing_a_visitor_leaves_nothing_of_them(
    idle: Listener, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """N14: visits, what calls say, JSON lines; the call stays with source and caller, and the audit chain says who."""
    lines = tmp_path / "events.jsonl"
    idle.exports = (lines,)
    async with idle.running():
        _, visitor, call_id = await site.lived(idle)
        record = await get(idle, http, f"/api/v1/calls/{call_id}")
        other = material.record()
        asked: dict[str, Any] = {"site": "clinic", "number": "+79161234567", "number_raw": "8916", "page": site.GOOGLE}
        asked |= {
            "visitor_id": visitor.visitor_id,
            "attribution": {"source": "google-ads", "click_ids": {"gclid": "x"}},
        }
        event = outbox.Event("cb-1", "callback.requested", 1, json.dumps({"id": "cb-1", "data": asked}))
        async with idle.database.begin() as tx:
            await outbox.add(tx, [event], ["jsonl"])
        written = [{"id": "e", "data": record}, {"id": "e", "data": other}]
        written.append({"id": "cb-1", "type": "callback.requested", "data": asked})
        text = "".join(json.dumps(one, separators=(",", ":")) + "\n" for one in written)
        lines.write_text(text)
        token = await idle.token(auth.Scope.VISITORS_ERASE)
        address = f"{idle.url}/api/v1/visitors/{visitor.visitor_id}/erase"
        async with http.post(address, headers=bearer(token)) as answer:
            receipt = await answer.json()
            assert answer.status == 200
        visitors.VisitorErasure.model_validate(receipt)
        assert (receipt["calls"], receipt["export_lines"], receipt["problems"]) == (1, 2, [])
        await get(idle, http, f"/api/v1/visitors/{visitor.visitor_id}", status=404)
        after = await get(idle, http, f"/api/v1/calls/{call_id}")
        async with http.post(address, headers=bearer(token)) as answer:
            assert answer.status == 404
    said = after["attribution"]
    assert (said["source"], said["campaign"], after["caller"]["number"]) == ("google-ads", "spring", site.CALLER)
    assert (said["visitor_id"], said["landing_page"], said["term"], said["click_ids"]) == (None, None, None, {})
    assert after["revision"] == record["revision"] + 1
    first, second, third = lines.read_text().splitlines()
    async with idle.database.read() as connection:
        [kept] = [
            event.payload for _, event in await outbox.after(connection, 0, limit=100) if event.event_id == "cb-1"
        ]
    for request in (json.loads(third)["data"], json.loads(kept)["data"]):
        assert (request["visitor_id"], request["page"], request["number"]) == (None, None, "+79161234567")
        assert request["attribution"] == {"source": "google-ads", "click_ids": {}}
    assert len(first) == len(text.splitlines()[0]) and "gclid" not in first and json.loads(first)["data"]["call_id"]
    assert json.loads(second)["data"] == other
    async with idle.database.read() as connection:
        rows = await audit.entries(connection)
    assert (await audit.verify(idle.database)).is_whole
    (row,) = [row for row in rows if row.action == "visitor.erased"]
    assert (row.actor, row.subject) == ("token:token 2", f"erasure:{receipt['erasure_id']}")
    assert row.person_digest is None or row.person_digest == audit.digest_of(visitor.visitor_id or "", receipt["salt"])
    assert str(visitor.visitor_id) not in row.details


MODELS = {
    "first_touch": [("google-ads", 1.0)],
    "last_touch": [("direct", 1.0)],
    "last_non_direct": [("google-ads", 1.0)],
    "linear": [("google-ads", 0.5), ("direct", 0.5)],
    "position_based": [("google-ads", 0.5), ("direct", 0.5)],
}


@pytest.mark.parametrize("model", MODELS)
async def test_a_call_is_credited_by_the_model_that_is_asked_for(
    listener: Listener, http: aiohttp.ClientSession, model: str
) -> None:
    """R85, R88: chosen when read, never stored; the record itself stays as it was."""
    _, _, call_id = await site.lived(listener)
    plain = await get(listener, http, f"/api/v1/calls/{call_id}")
    found = await get(listener, http, f"/api/v1/calls/{call_id}?model={model}")
    credit = found.pop("credit")
    assert found == plain and "credit" not in plain
    schemas.Credit.model_validate(credit)
    assert (credit["model"], credit["window_days"]) == (model, 30)
    assert [(one["source"], one["credit"]) for one in credit["touches"]] == MODELS[model]
    listed = await get(listener, http, f"/api/v1/calls?model={model}")
    assert listed["calls"][0]["credit"] == credit
    schemas.CallList.model_validate(listed)


async def test_time_decay_gives_more_to_what_is_nearer(listener: Listener, http: aiohttp.ClientSession) -> None:
    _, _, call_id = await site.lived(listener)
    found = await get(listener, http, f"/api/v1/calls/{call_id}?model=time_decay")
    first, last = found["credit"]["touches"]
    # 20 hours at a half-life of a week.
    assert last["credit"] / first["credit"] == pytest.approx(2 ** (20 / 24 / 7), rel=0.01)
    assert first["credit"] + last["credit"] == pytest.approx(1, abs=0.001)


async def test_calls_without_a_touch_are_credited_to_what_they_say(
    listener: Listener, http: aiohttp.ClientSession
) -> None:
    """A static number is its own proof; nobody knows where an unknown call came from; so it is after an erasure too."""
    here, visitor, call_id = await site.lived(listener)
    static, unknown = material.record(), await here.call(None, method="unknown")
    await listener.store_calls([static])
    async with listener.database.begin() as tx:
        await visits.forget(tx, [visitor.visitor_id or ""])
    for one, wanted in ((static["call_id"], ["google-ads"]), (unknown, []), (call_id, ["google-ads"])):
        credit = (await get(listener, http, f"/api/v1/calls/{one}?model=linear"))["credit"]
        assert [part["source"] for part in credit["touches"]] == wanted
        assert all((part["credit"], part["at"]) == (1.0, None) for part in credit["touches"])
    await get(listener, http, f"/api/v1/calls/{call_id}?model=guess", status=400)


async def test_how_the_pools_stand(listener: Listener, http: aiohttp.ClientSession) -> None:
    """R96, R101, N6: free, lent, frozen, called; visits without a number, the alarm, and how many would do."""
    here = site.Site(listener)
    lasting = await here.visit()
    await here.clinic.leave(lasting)
    here.clinic.later(11)
    second = await here.visit()
    third = await here.visit()
    assert [one.shows[0].number for one in (lasting, second, third)] == [FIRST, SECOND_NUMBER, "+74990000199"]
    listener.clock.now = here.now + timedelta(seconds=1)
    found = await get(listener, http, "/api/v1/pools", auth.Scope.ROUTING_READ)
    (one,) = found["pools"]
    counts = {name: one[name] for name in ("size", "free", "living", "frozen", "called", "overflow_visits_24h")}
    assert counts == {"size": 2, "free": 0, "living": 1, "frozen": 1, "called": 0, "overflow_visits_24h": 1}
    assert (one["busiest_hour_visits_24h"], one["leaked"]) == (3, [])
    # Somebody found none: whatever the mean of the hour says, two are too few.
    assert one["would_do"] > one["size"]
    assert one["exhausted_at"] and (one["pool"], one["overflow"]) == ("moscow", "+74990000199")
    assert [(number["number"], number["state"]) for number in one["numbers"]] == [
        (FIRST, "frozen"),
        (SECOND_NUMBER, "living"),
    ]
    here.clinic.later(4_000)
    here.clinic.leasing.called(FIRST)
    await here.clinic.leasing.step()
    listener.clock.now = here.now + timedelta(seconds=1)
    (one,) = (await get(listener, http, "/api/v1/pools"))["pools"]
    assert (one["free"], one["called"]) == (1, 1)


async def test_leaked_numbers_are_named(listener: Listener, http: aiohttp.ClientSession) -> None:
    """N6: called by several people though it was shown to nobody."""
    here = await _leaked(listener)
    (one,) = (await get(listener, http, "/api/v1/pools"))["pools"]
    (leak,) = one["leaked"]
    assert (leak["number"], leak["calls"], leak["callers"]) == (SECOND_NUMBER, 4, 4)
    assert here.listener is listener


async def _leaked(listener: Listener) -> site.Site:
    here = site.Site(listener)
    await here.clinic.leasing.step()
    for place in range(4):
        call_id = await here.call(None, method="unknown")
        async with listener.database.begin() as tx:
            filed = (await attributions.of_calls(tx, [call_id]))[call_id]
            await attributions.keep(tx, [replace(filed, caller=f"+7495111000{place}", idle_seconds=None)])
        here.clinic.later(3_600)
    listener.clock.now = here.now
    return here


async def test_without_a_routing_there_are_no_pools(listener: Listener, http: aiohttp.ClientSession) -> None:
    listener.current = None
    assert (await get(listener, http, "/api/v1/pools"))["pools"] == []


# ---- In a browser ----


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_pages_of_a_visitor_a_call_and_the_pools(opened: Opened, listener: Listener, scheme: str) -> None:
    """R89, R107: the way of a visitor, the call with its candidates, and the pools; named, readable, on a phone too."""
    _, visitor, call_id = await site.lived(listener)
    for viewport in ({"width": 1280, "height": 800}, {"width": 390, "height": 800}):
        async with opened(listener, color_scheme=scheme, reduced_motion="reduce", viewport=viewport) as watched:
            page = watched.page
            await watched.log_in()
            await page.get_by_role("link", name="Visitors", exact=True).click()
            await expect(page.locator("tbody tr")).to_have_count(3)
            await _check(watched.page)
            await page.get_by_role("link", name=attributionviews.short(visitor.visitor_id or ""), exact=True).click()
            way = page.locator(".visit")
            await expect(way).to_have_count(2)
            await expect(way.nth(1)).to_contain_text("Google Ads")
            await expect(way.nth(1)).to_contain_text("spring · implant price")
            await expect(way.nth(0).locator(".event")).to_have_count(3)
            await expect(page.locator(".record-head")).to_contain_text("Samsung SM-S918B · Chrome Mobile 129 · Android")
            await _check(watched.page)
            await way.nth(0).get_by_role("link", name="Call to").click()
            assert page.url.endswith(call_id)
            shares = page.locator(".came-from .shares").first.locator("li")
            await expect(shares).to_have_count(2)
            await expect(shares.nth(0)).to_contain_text("named")
            await expect(page.get_by_label("Confidence 95 %")).to_be_visible()
            await page.get_by_role("link", name="Linear").click()
            await expect(page.locator(".came-from .shares").last.locator("li")).to_have_count(2)
            await _check(watched.page)
            await page.get_by_role("link", name="Pools").click()
            await expect(page.get_by_role("heading", name="moscow")).to_be_visible()
            await expect(page.locator(".cell")).to_have_count(2)
            await page.get_by_text("Numbers", exact=True).click()
            await _check(watched.page)


async def _check(page: Any) -> None:
    assert await page.evaluate(TOO_WIDE) == []
    assert await page.evaluate(CONTRAST) == []
    nameless = await page.evaluate(
        "[...document.querySelectorAll('a, button, input:not([type=hidden])')].filter((e) =>"
        " !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)"
    )
    assert nameless == []


async def test_erasing_needs_the_word(opened: Opened, listener: Listener) -> None:
    """N14: nothing goes by a slip of the finger."""
    _, visitor, _ = await site.lived(listener)
    async with opened(listener) as watched:
        page = watched.page
        await watched.log_in()
        await page.goto(f"{listener.url}/visitors/{visitor.visitor_id}")
        await page.get_by_text("Erase this visitor").click()
        await page.get_by_label("Type erase to confirm").fill("yes")
        await page.get_by_role("button", name="Erase").click()
        await expect(page.get_by_role("alert")).to_contain_text("Nothing was erased")
        await expect(page.locator(".visit")).to_have_count(2)
        await page.get_by_label("Type erase to confirm").fill("erase")
        await page.get_by_role("button", name="Erase").click()
        await expect(page.get_by_role("status")).to_contain_text("The visitor was erased")
        await expect(page.locator("tbody tr")).to_have_count(2)
        # The browser itself reports the answer 400 of the first try.
        watched.faults = [fault for fault in watched.faults if "400" not in fault]


async def test_without_the_scope_there_is_no_button_and_no_way_in(opened: Opened, listener: Listener) -> None:
    _, visitor, call_id = await site.lived(listener)
    async with opened(listener) as watched:
        page = watched.page
        await watched.log_in(auth.Scope.CALLS_READ, auth.Scope.LIVE_READ)
        # Who may read calls may see who is on break; no visitors.
        links = page.get_by_role("navigation", name="Pages").get_by_role("link")
        await expect(links).to_have_text(["Calls", "Agents"])
        await page.goto(f"{listener.url}/calls/{call_id}")
        await expect(page.locator(".came-from")).to_contain_text("Visitor id-1")
        await expect(page.locator(".visitor-link")).to_have_count(0)
    async with opened(listener) as watched:
        await watched.log_in(auth.Scope.CALLS_READ, auth.Scope.VISITORS_READ)
        await watched.page.goto(f"{listener.url}/visitors/{visitor.visitor_id}")
        await expect(watched.page.get_by_role("heading", name="Visitor id-1")).to_be_visible()
        await expect(watched.page.get_by_text("Erase this visitor")).to_have_count(0)


async def test_what_visitors_write_stays_text(opened: Opened, listener: Listener) -> None:
    """Addresses, tags, variables, device: all of it was written by anybody."""
    here = site.Site(listener)
    tagged = f"https://clinic.example/?utm_source={HOSTILE}&utm_medium={HOSTILE}&utm_campaign={HOSTILE}&gclid={HOSTILE}"
    visitor = await here.visit(
        url=tagged, referrer=f"javascript:{HOSTILE}", variables={HOSTILE: HOSTILE}, device=HOSTILE, browser=HOSTILE
    )
    call_id = await here.call(visitor, others=((HOSTILE, 0.4, 1e9),))
    async with opened(listener) as watched:
        await watched.log_in()
        for path in (
            "/visitors",
            f"/visitors/{visitor.visitor_id}",
            f"/calls/{call_id}",
            "/visitors?source=" + HOSTILE,
        ):
            await watched.page.goto(listener.url + path)
            await expect(watched.page.locator("main")).to_be_visible()
            assert "owned" not in await watched.page.title()
            assert await watched.page.locator("img[src=x]").count() == 0
            assert await watched.page.locator("a[href^='javascript']").count() == 0


async def test_nobody_came_yet(opened: Opened, listener: Listener) -> None:
    site.Site(listener)
    async with opened(listener) as watched:
        await watched.log_in()
        await watched.page.goto(f"{listener.url}/visitors")
        await expect(watched.page.get_by_text("No visitors yet.")).to_be_visible()
        await expect(watched.page.locator("code")).to_contain_text("/dni/v1/clinic.js")


async def test_alarms_stand_on_the_pools_page(opened: Opened, listener: Listener) -> None:
    await _leaked(listener)
    async with opened(listener) as watched:
        await watched.log_in()
        await watched.page.goto(f"{listener.url}/pools")
        await expect(watched.page.get_by_role("alert")).to_contain_text(
            "+7 499 000-00-02 seems to be printed somewhere"
        )
        await expect(watched.page.locator(".cell.is-leaked")).to_have_count(1)


# ---- Words ----


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "on the site"),
        (-1, "on the site"),
        (40, "left 40 s before"),
        (720, "left 12 min before"),
        (10_800, "left 3 h before"),
        (432_000, "left 5 days before"),
        (None, ""),
        ("soon", ""),
        (True, ""),
    ],
)
def test_how_long_ago(seconds: object, words: str) -> None:
    assert attributionviews.ago(seconds) == words


@pytest.mark.parametrize(
    "said",
    [
        None,
        "nonsense",
        {"candidates": "none", "confidence": "high", "click_ids": []},
        {"candidates": ["an-older-record", None, {"share": 0.5}], "method": 7},
        {"method": "visitor", "confidence": float("nan"), "landing_page": "x" * 3_000},
    ],
    ids=lambda said: type(said).__name__,
)
def test_a_record_of_another_form_still_shows(said: object) -> None:
    view = attributionviews.attribution_view({"attribution": said})
    assert view.candidates == ()
    assert all(len(value) <= attributionviews.TEXT_LIMIT + 1 for _, value in view.facts)


def test_an_erased_visitor_has_no_page() -> None:
    said = {"method": "visitor", "confidence": 0.9, "visitor_id": f"erased-{uuid.uuid4()}"}
    view = attributionviews.attribution_view({"attribution": said})
    assert (view.visitor_id, view.percent) == (None, 90.0)
    assert "erased" in view.sentence


def test_every_method_and_state_has_words() -> None:
    assert {look.label for look in attributionviews.METHODS.values()}
    assert set(attributionviews.MODELS) == set(Model)
    assert set(visitorviews.KINDS) == set(Kind)
    assert {state.value for state in pool.State} == {"free", "living", "frozen", "called"}
