"""Tickets over HTTP and on the page "Missed calls" (R18, R37, R43)."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect

from gateway.core import tickets
from gateway.services import ticketkeeping
from gateway.store import tickets as stored
from gateway.web import auth, parts, ticketschemas
from tests import told
from tests.web import material
from tests.web.browser import CONTRAST, TOO_WIDE, Opened
from tests.web.listener import Listener, bearer

TICKETS = "/api/v1/tickets"
MINUTE = 60_000_000
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


async def open_ticket(listener: Listener, place: int, *, minutes_ago: int = 10, **facts: Any) -> tickets.Ticket:
    """A ticket as a missed call opens it."""
    at_us = parts.micros(listener.clock.now) - minutes_ago * MINUTE
    attempt = {
        "destination": "sales-desk",
        "agent": "anna",
        "outcome": "busy",
        "ring_seconds": 0.4,
        "sip_code": 486,
        "q850_cause": 17,
    }
    evidence = {"why": "busy", "outcome": "busy", "cause": None, "wait_seconds": 4.2, "attempts": [attempt]}
    fixed: dict[str, Any] = {
        "number": 0,
        "ticket_id": f"00000000-0000-4000-8000-{place:012}",
        "kind": tickets.Kind.MISSED,
        "caller": f"+7916123450{place}",
        "opened_us": at_us,
        "last_miss_us": at_us,
        "round_us": at_us,
        "deadline_us": at_us,
        "wanted": 0,
        "call_id": f"10000000-0000-4000-8000-{place:012}",
        "tracking_number": material.DID,
        "route": "sales",
        "site": "clinic",
        "node": "main",
        "source": "google-ads",
        "cause": "agents_busy",
        "evidence": evidence,
        "owner": "anna",
    }
    async with listener.database.begin() as tx:
        made = await ticketkeeping.add_new(
            tx, tickets.Ticket(**(fixed | facts)), tickets.Terms(), targets=(), now_us=at_us
        )
    assert made is not None
    return made


async def ask(
    listener: Listener, http: aiohttp.ClientSession, path: str, body: Any = None, *, status: int = 200
) -> dict[str, Any]:
    token = await listener.token(auth.Scope.TICKETS_READ, auth.Scope.TICKETS_MANAGE)
    data = json.dumps(body) if body is not None else None
    async with http.request(
        "GET" if body is None else "POST", listener.url + path, headers=bearer(token), data=data
    ) as answer:
        assert answer.status == status, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


async def test_list_and_one_with_its_history(listener: Listener, http: aiohttp.ClientSession) -> None:
    """All fields as the schema says; those that are not closed first of all, page by page."""
    for place in range(1, 4):
        await open_ticket(listener, place, owner="boris" if place == 2 else "anna")
    found = await ask(listener, http, TICKETS)
    ticketschemas.TicketList.model_validate(found, strict=False)
    assert ([one["number"] for one in found["tickets"]], found["next"]) == ([3, 2, 1], None)
    page = await ask(listener, http, f"{TICKETS}?limit=2")
    assert ([one["number"] for one in page["tickets"]], page["next"]) == ([3, 2], 2)
    assert [one["number"] for one in (await ask(listener, http, f"{TICKETS}?before=2"))["tickets"]] == [1]
    assert [one["number"] for one in (await ask(listener, http, f"{TICKETS}?owner=boris"))["tickets"]] == [2]
    caller = "%2B79161234503"
    assert [one["number"] for one in (await ask(listener, http, f"{TICKETS}?caller={caller}"))["tickets"]] == [3]
    assert (await ask(listener, http, f"{TICKETS}?state=closed"))["tickets"] == []
    one = await ask(listener, http, f"{TICKETS}/2")
    ticketschemas.TicketWithHistory.model_validate(one, strict=False)
    assert (one["caller"]["number"], one["state"], one["history"][0]["what"]) == ("+79161234502", "open", "opened")
    await ask(listener, http, f"{TICKETS}/9", status=404)
    await ask(listener, http, f"{TICKETS}/0", status=404)
    for wrong in ("state=lost", "limit=0", "before=x", "colour=red", "owner=" + 30 * "x"):
        await ask(listener, http, f"{TICKETS}?{wrong}", status=400)


async def test_what_people_do(listener: Listener, http: aiohttp.ClientSession) -> None:
    """R18: each is in the history with who did it, and is told as an event."""
    await open_ticket(listener, 1)
    assert (await ask(listener, http, f"{TICKETS}/1/assign", {"owner": "boris"}))["owner"] == "boris"
    assert (await ask(listener, http, f"{TICKETS}/1/assign", {"owner": None}))["owner"] is None
    await ask(listener, http, f"{TICKETS}/1/notes", {"text": "wants a price"})
    tried = await ask(listener, http, f"{TICKETS}/1/attempts", {"reached": False, "text": "engaged"})
    assert (tried["attempts"], tried["state"]) == (1, "open")
    closed = await ask(listener, http, f"{TICKETS}/1/close", {"result": "unwanted", "text": "spam"})
    assert (closed["state"], closed["result"]) == ("closed", "unwanted")
    again = await ask(listener, http, f"{TICKETS}/1/reopen", {"text": "a mistake"})
    assert again["state"] == "open"
    reached = await ask(listener, http, f"{TICKETS}/1/attempts", {"reached": True})
    assert (reached["state"], reached["result"]) == ("closed", "called_back")
    actors = {one["actor"].partition(":")[0] for one in reached["history"]}
    assert actors == {"system", "token"}
    assert [one["what"] for one in reached["history"]] == [
        "opened",
        "assigned",
        "assigned",
        "noted",
        "attempted",
        "closed",
        "reopened",
        "attempted",
        "closed",
    ]
    assert await told.problems_of(listener.database) == []


async def test_what_cannot_be_done_is_refused_with_a_reason(listener: Listener, http: aiohttp.ClientSession) -> None:
    await open_ticket(listener, 1)
    for path, body, status in (
        ("1/assign", {"owner": "nobody-we-know"}, 409),
        ("1/reopen", {}, 409),
        ("1/notes", {"text": " \x00 "}, 409),
        ("1/close", {"result": "called_again"}, 400),
        ("1/close", {"outcome": "done"}, 400),
        ("1/assign", {}, 400),
        ("1/attempts", {"reached": "yes"}, 400),
        ("1/notes", {"text": "x" * 5_000}, 400),
        ("7/notes", {"text": "x"}, 404),
    ):
        found = await ask(listener, http, f"{TICKETS}/{path}", body, status=status)
        assert found["type"].startswith("urn:dialmark:problem:")
    await ask(listener, http, f"{TICKETS}/1/close", {})
    assert (await ask(listener, http, f"{TICKETS}/1/close", {}, status=409))["detail"] == "the ticket is closed already"


@pytest.mark.parametrize("what", ["assign", "notes", "attempts", "close", "reopen"])
async def test_reading_is_not_changing(listener: Listener, http: aiohttp.ClientSession, what: str) -> None:
    """Two scopes; nobody else's will do."""
    await open_ticket(listener, 1)
    reader = await listener.token(auth.Scope.TICKETS_READ)
    async with http.post(f"{listener.url}{TICKETS}/1/{what}", headers=bearer(reader), data="{}") as answer:
        assert answer.status == 403
    other = await listener.token(auth.Scope.CALLS_READ)
    async with http.get(listener.url + TICKETS, headers=bearer(other)) as answer:
        assert answer.status == 403


async def test_the_page(listener: Listener, opened: Opened) -> None:
    """From the list to one ticket, its buttons, and back; what a caller wrote stays text; nothing is wider than a
    phone, and all can be read in both colours."""
    await open_ticket(listener, 1, caller_name=HOSTILE, misses=2)
    await open_ticket(listener, 2, minutes_ago=90, owner=None)
    await open_ticket(
        listener, 3, kind=tickets.Kind.REQUEST, call_id=None, request={"message": HOSTILE, "when": "at 5"}
    )
    async with opened(listener) as watched:
        page = watched.page
        await watched.log_in("admin")
        await page.get_by_role("link", name="Missed calls").click()
        await expect(page.locator("tr[data-ticket]")).to_have_count(3)
        await expect(page.locator("tr[data-ticket='2']")).to_contain_text("Call now")
        await page.locator("tr[data-ticket='1']").get_by_role("link").first.click()
        await expect(page.get_by_role("heading", name="No. 1", exact=True)).to_be_visible()
        assert await page.title() == "Missed call 1 · Dialmark"
        await page.get_by_label("Owner").select_option("boris")
        await page.get_by_role("button", name="Assign").click()
        await expect(page.locator(".facts")).to_contain_text("Boris Lebedev")
        await page.get_by_label("Note").fill(f"wants a price {HOSTILE}")
        await page.get_by_role("button", name="Write").click()
        await expect(page.get_by_role("region", name="History")).to_contain_text("wants a price <img")
        await page.get_by_role("button", name="Called, not reached").click()
        await expect(page.locator(".facts")).to_contain_text("1 of 2")
        await page.get_by_label("Close as").select_option("unwanted")
        await page.get_by_role("button", name="Close").click()
        await expect(page.get_by_text("not wanted")).to_be_visible()
        await page.get_by_role("button", name="Open again").click()
        await page.get_by_role("button", name="Called and reached").click()
        await expect(page.get_by_text("called back", exact=True)).to_be_visible()
        await page.goto(f"{listener.url}/tickets/3")
        await expect(page.get_by_text("at 5")).to_be_visible()
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            for width in (1280, 390):
                await page.set_viewport_size({"width": width, "height": 900})
                for address in ("/tickets?state=all", "/tickets/1", "/tickets/3"):
                    await page.goto(listener.url + address)
                    assert await page.evaluate(TOO_WIDE) == []
                    assert await page.evaluate(CONTRAST) == []
        assert "owned" not in await page.title()


async def test_a_button_of_another_site_does_nothing(listener: Listener, http: aiohttp.ClientSession) -> None:
    """CSRF: the session's cookie alone is not enough."""
    await open_ticket(listener, 1)
    token = await listener.token("admin")
    same = {"Sec-Fetch-Site": "same-origin"}
    async with http.post(f"{listener.url}/login", data={"token": token}, headers=same, allow_redirects=False) as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    for site in ("cross-site", "same-site"):
        headers = {"Cookie": cookie, "Sec-Fetch-Site": site}
        async with http.post(f"{listener.url}/tickets/1/close", headers=headers) as answer:
            assert answer.status == 403
    async with http.post(
        f"{listener.url}/tickets/1/close", headers={"Cookie": cookie, **same}, allow_redirects=False
    ) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/tickets/1")
    async with listener.database.read() as connection:
        ticket = await stored.by_number(connection, 1)
    assert ticket is not None and ticket.result is tickets.Result.DONE


@pytest.mark.parametrize(("scopes", "is_seen"), [(("calls:read", "tickets:read"), True), (("calls:read",), False)])
async def test_a_record_names_its_ticket(
    listener: Listener, http: aiohttp.ClientSession, scopes: tuple[str, ...], is_seen: bool
) -> None:
    """R18: from the missed call to whom has to be called back, for who may see that."""
    missed = material.record(outcome="no_answer", missed=True)
    await listener.store_calls([missed])
    made = await open_ticket(listener, 1, call_id=missed["call_id"])
    async with listener.database.begin() as tx:
        await stored.note_part(tx, missed["call_id"], made.number, "miss", made.opened_us)
    token = await listener.token(*scopes)
    async with http.post(
        f"{listener.url}/login",
        data={"token": token},
        headers={"Sec-Fetch-Site": "same-origin"},
        allow_redirects=False,
    ) as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    for address in (f"/calls/{missed['call_id']}", f"/fragments/calls/{missed['call_id']}"):
        async with http.get(listener.url + address, headers={"Cookie": cookie}) as answer:
            assert answer.status == 200
            assert (f'href="/tickets/{made.number}"' in await answer.text()) is is_seen


async def test_who_may_only_read_sees_no_buttons(listener: Listener, opened: Opened) -> None:
    await open_ticket(listener, 1)
    async with opened(listener) as watched:
        await watched.log_in(auth.Scope.TICKETS_READ, auth.Scope.CALLS_READ, auth.Scope.LIVE_READ)
        await watched.page.goto(f"{listener.url}/tickets/1")
        await expect(watched.page.get_by_role("heading", name="History")).to_be_visible()
        await expect(watched.page.get_by_role("button", name="Assign")).to_have_count(0)
