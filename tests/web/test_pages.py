"""The page in a real browser: live calls, records, filters, hostile callers, phones, and nothing from outside."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect

from gateway.web import health, pages, streams, views
from tests.web import material
from tests.web.browser import CONTRAST, TOO_WIDE, Opened
from tests.web.listener import Listener

HOSTILE = [
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "'\"><svg onload=document.title='owned'>",
    "{{ 7*7 }}{% raw %}${7*7}",
    "\u202eevil\u202c \u0000\u0007 \U0001f600",
    "javascript:document.title='owned'",
    "x" * 3000,
]


async def test_a_call_appears_rings_talks_and_ends_on_the_page(opened: Opened, listener: Listener) -> None:
    """N7: the way over busy to the reserve is on the page while it happens."""
    call_id = "11111111-2222-4333-8444-555555555555"
    facts: dict[str, Any] = {"call_id": call_id, "name": "Ivan Petrov", "started_at": listener.clock.now}
    async with opened(listener) as watched:
        page = watched.page
        await watched.log_in()
        await expect(page.get_by_text("The line is free")).to_be_visible()
        await expect(page.get_by_text("No calls yet.")).to_be_visible()
        await expect(page.locator("#freshness")).to_have_attribute("data-state", "live")
        card = page.locator(f".card[data-call='{call_id}']")

        listener.board.publish(material.record(is_up=True, outcome=None, attempts=[], **facts))
        await expect(card).to_contain_text("Arriving")
        await expect(card).to_contain_text("+7 495 123-45-67")
        await expect(card).to_contain_text("RU · Moscow · Ivan Petrov")
        await expect(card).to_contain_text("Google Ads")

        listener.board.publish(
            material.record(is_up=True, outcome=None, attempts=[("sales-desk", "busy"), ("second-desk", None)], **facts)
        )
        await expect(card).to_contain_text("Ringing")
        await expect(card.locator(".stop").nth(0)).to_have_attribute(
            "title", "Forward, step 1: Sales desk, busy (SIP 486 Busy Here, Q.850 17 User busy)"
        )
        await expect(card.locator(".stop").nth(1)).to_contain_text("Second desk")

        way = [("sales-desk", "busy"), ("second-desk", "answered")]
        listener.board.publish(material.record(is_up=True, attempts=way, **facts))
        await expect(card).to_contain_text("Talking with Boris Lebedev")
        await expect(page.locator(".counts")).to_contain_text("1 call up")

        ended = material.record(attempts=way, **facts)
        await listener.store_calls([ended])
        listener.board.publish(ended)
        await expect(card).to_have_count(0)
        row = page.locator(f"tr[data-call='{call_id}']")
        await expect(row).to_contain_text("Answered")
        await expect(row).to_contain_text("Boris Lebedev")
        await expect(row).to_contain_text("1:14")
        await expect(page.locator(".tile").first).to_contain_text("1")


async def test_it_goes_grey_when_the_stream_is_lost_and_comes_back(opened: Opened, idle: Listener) -> None:
    idle.pace = streams.Pace(heartbeat_seconds=0.2)
    async with idle.running(), opened(idle) as watched:
        page = watched.page
        await page.clock.install()
        await watched.log_in()
        state = page.locator("#freshness")
        await expect(state).to_have_attribute("data-state", "live")
        await page.context.set_offline(True)
        idle.board.close()
        await page.clock.fast_forward(20_000)
        await expect(state).to_have_attribute("data-state", "lost")
        await expect(state).to_contain_text("connection lost")
        await expect(page.locator("#live")).to_have_class("live is-stale")
        await page.context.set_offline(False)
        for _ in range(10):
            await page.clock.fast_forward(6_000)
        await expect(state).to_have_attribute("data-state", "live", timeout=15_000)
        await expect(page.locator("#live")).to_have_class("live")
        # The browser itself reports the connection that we cut.
        watched.faults = [fault for fault in watched.faults if "ERR_" not in fault]


async def test_it_says_so_when_the_journal_is_behind(opened: Opened, idle: Listener) -> None:
    idle.behind = 42.0
    async with idle.running(), opened(idle) as watched:
        await watched.log_in()
        await expect(watched.page.locator("#freshness")).to_have_text("journal 42 s behind")


async def test_complaints_of_the_node_stand_on_the_page(opened: Opened, idle: Listener) -> None:
    idle.probes["ami"] = lambda: health.Check(False, "the manager connection is down", is_required=False)
    async with idle.running(), opened(idle) as watched:
        await watched.log_in()
        await expect(watched.page.get_by_role("alert")).to_contain_text("the manager connection is down")


async def test_hostile_callers_stay_text(opened: Opened, listener: Listener) -> None:
    documents = [
        material.record(
            call_id=f"00000000-0000-4000-8000-{number:012}",
            name=text,
            started_at=listener.clock.now - timedelta(minutes=number + 1),
            sip_call_id=text,
            caller=None,
        )
        for number, text in enumerate(HOSTILE)
    ]
    for document, text in zip(documents, HOSTILE, strict=True):
        document["caller"].update(raw=text, anonymous=False)
        document["attribution"].update(campaign=text)
        document["attempts"][0].update(destination=text)
    await listener.store_calls(documents)
    async with opened(listener, viewport={"width": 390, "height": 844}) as watched:
        page = watched.page
        await watched.log_in()
        for number, document in enumerate(documents):
            up = {"call_id": f"00000000-0000-4000-9000-{number:012}", "ended_at": None, "state": "open"}
            listener.board.publish({**document, **up})
        await expect(page.locator(".card")).to_have_count(len(HOSTILE))
        for number in range(len(HOSTILE)):
            await page.locator("[data-open]").nth(number).click()
            await expect(page.locator(".unfolded .record")).to_have_count(number + 1)
        assert await page.title() == "Calls · Dialmark"
        assert await page.locator("img[src=x], main script, main svg[onload]").count() == 0
        await expect(page.locator(".caller-name").filter(has_text="{{ 7*7 }}").first).to_be_visible()
        assert await page.evaluate(TOO_WIDE) == []


async def test_a_record_unfolds_and_stays_open_while_calls_come_in(opened: Opened, listener: Listener) -> None:
    documents = material.busy_day()
    await listener.store_calls(documents)
    async with opened(listener) as watched:
        page = watched.page
        await watched.log_in()
        link = page.locator("[data-open]").nth(1)
        await link.focus()
        await page.keyboard.press("Enter")
        record = page.locator(".unfolded")
        await expect(record).to_contain_text("486 Busy Here")
        await expect(record).to_contain_text("17 User busy")
        await expect(link).to_have_attribute("aria-expanded", "true")
        await record.locator("summary").click()
        await expect(record.locator("pre")).to_contain_text(f'"call_id": "{documents[1]["call_id"]}"')

        newer = material.record(started_at=listener.clock.now)
        await listener.store_calls([newer])
        listener.board.publish(newer)
        await expect(page.locator(f"tr[data-call='{newer['call_id']}']")).to_be_visible()
        await expect(record.locator("pre")).to_be_visible()
        before = page.locator("tr.unfolded").locator("xpath=preceding-sibling::tr[1]")
        await expect(before).to_have_attribute("data-call", documents[1]["call_id"])

        await page.locator(f"[data-open='{documents[1]['call_id']}']").click()
        await expect(record).to_have_count(0)


async def test_a_record_has_its_own_page_and_needs_no_script(opened: Opened, listener: Listener) -> None:
    document = material.busy_day()[4]
    await listener.store_calls([document])
    async with opened(listener, java_script_enabled=False) as watched:
        await watched.page.goto(f"{listener.url}/calls/{document['call_id']}")
        await watched.page.get_by_label("Token").fill(await listener.token())
        await watched.page.get_by_role("button", name="Log in").click()
        await expect(watched.page.locator(".attempts")).to_contain_text("On-call mobile")


async def test_filters_are_addresses(opened: Opened, listener: Listener) -> None:
    await listener.store_calls(material.busy_day())
    async with opened(listener) as watched:
        page = watched.page
        await watched.log_in()
        await page.get_by_role("link", name="Missed", exact=True).click()
        await expect(page).to_have_url(f"{listener.url}/?missed=true")
        assert await page.locator("tr.row .pill").filter(has_text="Answered").count() == 0
        await page.goto(f"{listener.url}/")
        await page.locator(".filter-link").filter(has_text="Radio Seven").first.click()
        await expect(page.locator(".chip")).to_contain_text("Radio Seven")
        assert await page.locator("tr.row").count() == 10
        await page.locator(".chip").click()
        await expect(page.locator("tr.row")).to_have_count(40)
        await page.goto(f"{listener.url}/?outcome=nonsense")
        await expect(page.get_by_role("heading")).to_have_text("The query does not fit")
        watched.faults.clear()


async def test_the_figures_of_today(opened: Opened, listener: Listener) -> None:
    """R65: the ratio names its population, and banned callers are not in it."""
    yesterday = listener.clock.now - timedelta(hours=15)
    await listener.store_calls([*material.busy_day(), material.record(started_at=yesterday, outcome="busy")])
    async with opened(listener) as watched:
        page = watched.page
        await watched.log_in()
        tiles = page.locator(".tile")
        await expect(tiles.nth(0)).to_contain_text("40")
        await expect(tiles.nth(1)).to_contain_text("65 % of 37")
        await expect(tiles.nth(2)).to_contain_text("13")
        await expect(tiles.nth(3)).to_contain_text("above the target of 5 %")
        await tiles.nth(2).click()
        await expect(page).to_have_url(f"{listener.url}/?direction=inbound&missed=true&from=2026-11-21")
        await expect(page.locator("tr.row")).to_have_count(13)
        await page.get_by_role("button", name="How the blocked ratio is counted").focus()
        await expect(page.get_by_role("tooltip")).to_be_visible()
        await expect(page.get_by_role("tooltip")).to_contain_text("24 answered ÷ 37 calls")
        await expect(page.locator(".foot")).to_contain_text("Times in Europe/Moscow (UTC+03:00)")


async def test_wrong_tokens_and_the_limit_are_told_in_words(opened: Opened, listener: Listener) -> None:
    async with opened(listener) as watched:
        page = watched.page
        await page.goto(listener.url)
        for _ in range(11):
            await page.get_by_label("Token").fill("dm_wrong")
            await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("alert")).to_contain_text("Too many wrong tokens. Try again in")
        watched.faults = [fault for fault in watched.faults if "status of 4" not in fault]


async def test_logout(opened: Opened, listener: Listener) -> None:
    async with opened(listener) as watched:
        await watched.log_in()
        await watched.page.get_by_role("button", name="Log out token 1").click()
        await expect(watched.page.get_by_label("Token")).to_be_visible()
        await watched.page.goto(listener.url + "/")
        await expect(watched.page.get_by_label("Token")).to_be_visible()


async def test_a_token_without_the_live_scope_sees_no_live_call(opened: Opened, listener: Listener) -> None:
    listener.board.publish(material.record(is_up=True))
    async with opened(listener) as watched:
        await watched.log_in("calls:read")
        await expect(watched.page.get_by_text("lacks the scope")).to_be_visible()
        assert await watched.page.locator(".card").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everything_has_a_name_and_enough_contrast(opened: Opened, listener: Listener, scheme: Any) -> None:
    """Controls have names, and every text reaches 4.5 : 1 against what it stands on (WCAG 1.4.3)."""
    await listener.store_calls(material.busy_day())
    listener.board.restore([material.record(is_up=True), material.record(is_up=True, outcome=None, attempts=[])])
    async with opened(listener, color_scheme=scheme, reduced_motion="reduce") as watched:
        page = watched.page
        await watched.log_in()
        await page.locator("[data-open]").nth(4).click()
        await expect(page.locator(".unfolded .record")).to_be_visible()
        nameless = await page.evaluate(
            "[...document.querySelectorAll('a, button, input:not([type=hidden])')].filter((e) =>"
            " !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)"
        )
        assert nameless == []
        assert await page.evaluate(CONTRAST) == []


async def test_it_fits_a_phone(opened: Opened, listener: Listener) -> None:
    await listener.store_calls(material.busy_day())
    listener.board.restore([material.record(is_up=True, name="A very long caller name that does not end soon")])
    async with opened(listener, viewport={"width": 360, "height": 740}) as watched:
        await watched.log_in()
        await watched.page.locator("[data-open]").first.click()
        await expect(watched.page.locator(".unfolded .record")).to_be_visible()
        assert await watched.page.evaluate(TOO_WIDE) == []


async def test_the_theme_is_kept(opened: Opened, listener: Listener) -> None:
    async with opened(listener, color_scheme="light") as watched:
        await watched.log_in()
        await watched.page.get_by_role("button", name="Switch between light and dark").click()
        await watched.page.reload()
        assert await watched.page.evaluate("document.documentElement.dataset.theme") == "dark"


async def test_many_calls_are_capped_and_counted(opened: Opened, listener: Listener) -> None:
    listener.board.restore([material.record(is_up=True) for _ in range(pages.LIVE_SHOWN + 15)])
    async with opened(listener) as watched:
        await watched.log_in()
        await expect(watched.page.locator(".card")).to_have_count(pages.LIVE_SHOWN)
        await expect(watched.page.locator(".more")).to_have_text("and 15 more")


async def test_the_page_is_small(opened: Opened, listener: Listener, http: aiohttp.ClientSession) -> None:
    """`dashboard.md` 3.5: at most 120 kB compressed for the first load; our own part at most 40."""
    async with opened(listener) as watched:
        await watched.log_in()
        static = {address for address in watched.requests if "/static/" in address}
    total = 0
    for address in static:
        async with http.get(address, headers={"Accept-Encoding": "gzip"}, auto_decompress=False) as answer:
            total += len(await answer.read())
            assert "immutable" in answer.headers["Cache-Control"]
    assert len(static) == 5
    assert total < 20_000


async def test_half_a_character_breaks_no_answer(listener: Listener, http: aiohttp.ClientSession) -> None:
    """A name cut inside a character may come as a lone surrogate."""
    listener.board.publish(material.record(is_up=True, name="Zo\ud83d"))
    headers = {"Authorization": f"Bearer {await listener.token()}"}
    for path in ("/api/v1/calls/live", "/fragments/live", "/"):
        async with http.get(listener.url + path, headers=headers) as answer:
            assert answer.status == 200
            assert "Zo" in await answer.text()
    async with http.get(listener.url + "/api/v1/live", headers=headers) as stream:
        assert b"event: snapshot" in await stream.content.readuntil(b"event: snapshot")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (3723, "1:02:03"), (None, ""), ("x", "")]
)
def test_durations(seconds: object, text: str) -> None:
    assert views.duration(seconds) == text


@pytest.mark.parametrize(
    ("today", "words"),
    [
        (pages.Today(0, 0, 0, 0, 0), "no calls yet"),
        (pages.Today(10, 9, 1, 0, 0), "too few calls for a verdict (under 20)"),
        (pages.Today(20, 19, 1, 0, 0), "within the target of 5 %"),
        (pages.Today(25, 19, 2, 4, 0), "above the target of 5 %"),
    ],
)
def test_the_verdict_needs_enough_calls(today: pages.Today, words: str) -> None:
    assert today.verdict[0] == words


def test_a_document_with_little_in_it_still_shows() -> None:
    """An older or newer record must not break the page."""
    view = views.call_view({"call_id": "a"}, views.Names(None), material.ZONE, material.NOW)
    assert (view.caller, view.state.key, view.stops) == ("Unknown", "arriving", ())
