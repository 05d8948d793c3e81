"""The script and the gateway that the daemon runs, in Chromium (issue 4, shown by tests; R69, R93, R96, R99)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page
from sqlalchemy import text

from gateway import store
from gateway.store import leases, timelines
from gateway.web import turnstile, visiting
from tests.services.clinic import FIRST, PRINTED, ROUTING, SITE_NUMBER
from tests.web.dni import standin
from tests.web.dni.conftest import CALM, Stage
from tests.web.dni.standin import document
from tests.web.front import CHROME, Front

OWN, MINE, NEXT, SPARE, LEAFLET = (f"8 499 000-{end}" for end in ("00-00", "00-01", "00-02", "01-99", "00-06"))
NUMBER = f'<p class=line>{OWN}</p><a href="tel:{SITE_NUMBER}">call</a>'
HERE = ROUTING.replace('"clinic.example"]', '"clinic.example", "localhost"]\nasking = "granted"\nbeat_seconds = 5')
ASKING = HERE.replace('asking = "granted"', 'asking = "pending"')
COOKIE = visiting.cookie_of("clinic")
# Playwright's Chromium says that it is driven.
HUMAN = "Object.defineProperty(Navigator.prototype, 'webdriver', { get: () => false });"


@dataclass
class Visitor(Stage):
    """One visitor's browser, the site, and the gateway itself. Both are on `localhost`, as they are on one site's
    names: its cookies are not those of a third party."""

    front: Front | None = None

    @property
    def lent(self) -> Front:
        assert self.front is not None
        return self.front

    async def seen(self, page: Page) -> timelines.Timeline:
        """What the gateway keeps of the page's visitor."""
        async with self.lent.database.read() as connection:
            found = await timelines.timeline(connection, (await self.status(page))["visitor"])
        assert found is not None
        return found

    async def count(self, table: str) -> int:
        async with self.lent.database.read() as connection:
            found: int = (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
        return found

    async def load(self, path: str = "/", *, state: str = "ready", body: str = NUMBER, **embed: str) -> Page:
        """A page, when the script stands at `state`."""
        self.site.pages[path.partition("?")[0]] = document(self.gateway, body, **embed)
        page = await self.page()
        await page.goto(self.site.url + path)
        await self.settled(page, state)
        return page

    async def load_in_time(self, path: str) -> Page:
        """A page whose number came in time; on a busy machine it may not be the first."""
        self.site.pages[path] = document(self.gateway, NUMBER)
        page = await self.page()
        while True:
            await page.goto(self.site.url + path)
            answered = await page.wait_for_function(
                "() => ['ready', 'slow'].find((state) => window.dialmark?.status && dialmark.status().state === state)"
            )
            if await answered.json_value() == "ready":
                await page.evaluate(CALM)
                return page


@pytest_asyncio.fixture(loop_scope="module")
async def front(database: store.Database, request: pytest.FixtureRequest) -> AsyncIterator[Front]:
    """A parameter is for how long pages wait, in seconds; without one, for as long as a busy machine takes."""
    waits = {"page_seconds": request.param} if hasattr(request, "param") else {}
    async with Front(database, routing=HERE, limits=turnstile.Limits(), more=waits).running() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(front: Front, chromium: Browser) -> AsyncIterator[Visitor]:
    site = standin.Site()
    async with standin.served(site.application()) as url:
        site.url = url.replace("127.0.0.1", "localhost")
        context = await chromium.new_context(user_agent=CHROME)
        await context.add_init_script(HUMAN)
        gateway = standin.Gateway(url=front.url.replace("127.0.0.1", "localhost"))
        made = Visitor(site, gateway, context, front=front)
        try:
            yield made
            assert made.faults == []
        finally:
            await context.close()


async def test_a_page_shows_the_visitors_number(visitor: Visitor) -> None:
    page = await visitor.load("/implants?utm_source=google&utm_medium=cpc&utm_campaign=spring")
    assert await visitor.texts(page) == [MINE]
    assert await page.locator("a").get_attribute("href") == f"tel:{FIRST}"
    assert (await visitor.status(page))["reason"] == "pool"
    (cookie,) = await visitor.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (COOKIE, True, True, "Lax")
    assert await page.evaluate("document.cookie") == ""
    found = await visitor.seen(page)
    assert (found.visits[0].touch.source, found.visits[0].touch.came.campaign) == ("google-ads", "spring")
    assert (found.visits[0].on.browser, found.visits[0].on.device) == ("Chrome 141", "computer")


async def test_reloaded_and_on_the_next_page_the_number_stays(visitor: Visitor) -> None:
    """R99; also when the browser has thrown away what the site's pages keep, since the cookie is the gateway's own."""
    page = await visitor.load()
    await page.reload()
    await visitor.settled(page)
    assert await visitor.texts(page) == [MINE]
    await page.evaluate("localStorage.clear()")
    visitor.site.pages["/prices"] = document(visitor.gateway, NUMBER)
    await page.goto(f"{visitor.site.url}/prices")
    await visitor.settled(page)
    assert await visitor.texts(page) == [MINE]
    found = await visitor.seen(page)
    assert [one.url.removeprefix(visitor.site.url) for one in found.pages] == ["/", "/", "/prices"]
    assert await visitor.count("leases") == 1


async def test_two_tabs_are_one_visitor(visitor: Visitor) -> None:
    first = await visitor.load()
    second = await visitor.load("/prices")
    assert await visitor.texts(second) == await visitor.texts(first) == [MINE]
    await first.close()
    visitor.lent.later(30)
    await second.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await visitor.lent.until("beat")
    assert await visitor.texts(second) == [MINE]
    assert (await visitor.count("visitors"), await visitor.count("leases")) == (1, 1)


async def test_a_pool_that_is_used_up(visitor: Visitor, chromium: Browser) -> None:
    """R96: the overflow number, which is nobody's, so that the call is counted."""
    shown = []
    for _ in range(3):
        visitor.context = await chromium.new_context(user_agent=CHROME)
        await visitor.context.add_init_script(HUMAN)
        page = await visitor.load()
        shown += await visitor.texts(page)
    assert shown == [MINE, NEXT, SPARE]
    assert (await visitor.status(page))["reason"] == "overflow"
    for context in chromium.contexts[1:]:
        await context.close()


BANNER = """
<div id=banner><button id=yes onclick="answer('granted')">Accept</button>
<button id=no onclick="answer('denied')">Decline</button></div>
<script>
  function answer(consent) {
    banner.remove();
    (window.dialmark = window.dialmark || []).push(["start", consent]);
  }
</script>
"""


async def test_a_consent_banner_accepted_and_taken_back(visitor: Visitor) -> None:
    visitor.lent.use(ASKING)
    page = await visitor.load("/?utm_source=google&utm_medium=cpc", state="idle", body=BANNER + NUMBER)
    assert await visitor.texts(page) == [OWN]
    assert visitor.lent.seen == [("script", 200)]
    await page.click("#yes")
    await visitor.settled(page)
    assert await visitor.texts(page) == [MINE]
    assert (await visitor.seen(page)).visits[0].touch.source == "google-ads"
    await page.evaluate("dialmark.start('denied')")
    await visitor.settled(page)
    assert await visitor.texts(page) == [OWN]
    await visitor.lent.until("leave")
    async with asyncio.timeout(60):
        while await visitor.context.cookies():
            await page.evaluate("1")
    assert [await visitor.count(table) for table in ("visitors", "visits", "page_views")] == [0, 0, 0]
    assert await page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]


async def test_a_consent_banner_declined(visitor: Visitor) -> None:
    """A static number by this page's address; nothing is kept on either side."""
    visitor.lent.use(ASKING)
    page = await visitor.load("/leaflet", state="idle", body=BANNER + NUMBER)
    await page.click("#no")
    await visitor.settled(page)
    assert await visitor.texts(page) == [LEAFLET]
    assert await page.locator("a").get_attribute("href") == f"tel:{PRINTED}"
    assert [await visitor.count(table) for table in ("visitors", "visits", "leases")] == [0, 0, 0]
    assert await visitor.context.cookies() == []
    assert await page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


@pytest.mark.parametrize("front", [visiting.ANSWER_SECONDS], indirect=True)
async def test_a_slow_gateway_leaves_the_page_and_keeps_no_number(
    database: store.Database, front: Front, visitor: Visitor
) -> None:
    """R93: 800 ms, then the site's number stands, whatever comes later; what was lent meanwhile is given back."""
    async with database.begin() as other:
        await leases.lock(other)
        page = await visitor.load(state="slow")
        assert await visitor.texts(page) == [OWN]
    # Answered after all: the script gives it back, as docs/dni.md says.
    await front.until("leave")
    assert await visitor.texts(page) == [OWN]
    await front.comes_to(lambda: visitor.count("leases"), 0)
    async with database.read() as connection:
        assert all(one.living_until_us <= front.now_us for one in await leases.slots(connection, "moscow"))
    # The next page asks again.
    again = await visitor.load_in_time("/next")
    assert len(set(await visitor.texts(again)) - {OWN}) == 1


async def test_a_gateway_that_goes_away_leaves_the_page(database: store.Database, chromium: Browser) -> None:
    """With the script in the browser's cache, and without."""
    site = standin.Site()
    async with standin.served(site.application()) as url:
        site.url = url.replace("127.0.0.1", "localhost")
        context = await chromium.new_context(user_agent=CHROME)
        await context.add_init_script(HUMAN)
        gone = Front(database, routing=HERE)
        async with gone.running():
            gateway = standin.Gateway(url=gone.url.replace("127.0.0.1", "localhost"))
            visitor = Visitor(site, gateway, context, front=gone)
            page = await visitor.load()
            assert await visitor.texts(page) == [MINE]
        # The number stays for as long as it was promised.
        await page.evaluate("localStorage.clear()")
        await page.goto(f"{site.url}/")
        await visitor.settled(page, "failed")
        assert await visitor.texts(page) == [OWN]
        other = await chromium.new_context(user_agent=CHROME)
        page = await other.new_page()
        await page.goto(f"{site.url}/")
        assert await page.inner_text(".line") == OWN
        await other.close()
        await context.close()


async def test_pages_without_a_load_are_told(visitor: Visitor) -> None:
    """A single-page site: each address is a page of the visit, and the number stays through every rendering."""
    router = """<script>
      function go(path) {
        history.pushState({}, "", path);
        document.querySelector(".line").textContent = "8 499 000-00-00";
      }
    </script>"""
    page = await visitor.load("/?utm_source=google&utm_medium=cpc", body=router + NUMBER)
    for place, path in enumerate(("/prices", "/doctors"), 1):
        await page.evaluate("(path) => go(path)", path)
        await visitor.lent.until("page", place)
        await page.evaluate(CALM)
        assert await visitor.texts(page) == [MINE]
    found = await visitor.seen(page)
    assert [one.url.removeprefix(visitor.site.url) for one in found.pages] == [
        "/?utm_source=google&utm_medium=cpc", "/prices", "/doctors",
    ]  # fmt: skip
    assert (len(found.visits), found.visits[0].touch.source) == (1, "google-ads")
    assert [kind for kind, _ in visitor.lent.seen].count("visit") == 1


FORM = """<form data-dialmark-callback><input name=number value="8 912 345-67-89"><input name=name value=Anna>
<input type=checkbox name=consent checked><button>Call me</button></form>"""


async def test_a_click_and_a_form_are_told(visitor: Visitor) -> None:
    """R48, R69."""
    stay = "<script>addEventListener('click', (event) => event.target.href && event.preventDefault())</script>"
    page = await visitor.load("/?utm_source=google&utm_medium=cpc", body=stay + NUMBER + FORM)
    await page.click("a")
    await page.click("button")
    await page.wait_for_selector("form[data-dialmark-callback=sent]")
    await visitor.lent.until("click")
    await visitor.lent.comes_to(lambda: visitor.count("clicks"), 1)
    assert [one.number for one in (await visitor.seen(page)).clicks] == [FIRST]
    (asked,) = await visitor.lent.events("callback.requested")
    assert (asked["number"], asked["name"], asked["attribution"]["source"]) == ("+79123456789", "Anna", "google-ads")


async def test_a_copy_of_the_page_elsewhere_shows_its_own_number(visitor: Visitor) -> None:
    """Somebody who copies the site copies the script's tag too."""
    visitor.site.url = visitor.site.url.replace("localhost", "127.0.0.1")
    page = await visitor.load(state="failed")
    assert await visitor.texts(page) == [OWN]
    assert await visitor.count("leases") == 0


async def test_a_browser_that_is_driven_by_a_program_is_lent_nothing(visitor: Visitor, chromium: Browser) -> None:
    visitor.context = await chromium.new_context(user_agent=CHROME)
    page = await visitor.load()
    assert (await visitor.status(page))["reason"] == "bot"
    assert await visitor.texts(page) == [OWN]
    assert await visitor.count("leases") == 0
    await visitor.context.close()


def test_what_is_said_here_is_what_the_script_waits_for() -> None:
    """docs/dni.md: 800 ms on both sides."""
    assert visiting.ANSWER_SECONDS == 0.8
