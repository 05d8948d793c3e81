"""The demo's landing page and its visitors, against the public listener (R49): headless Chromium, and plain HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from gateway import store
from gateway.store import timelines
from tests.rig import Address, landing
from tests.services.clinic import FIRST, ROUTING, SECOND_NUMBER, SITE_NUMBER
from tests.web.front import Front

HERE = ROUTING.replace('"clinic.example"]', '"clinic.example", "localhost"]')
TAGS = {"utm_source": "google", "utm_medium": "cpc", "utm_campaign": "spring", "utm_term": "implants"}


@pytest_asyncio.fixture(loop_scope="module")
async def front(database: store.Database) -> AsyncIterator[Front]:
    async with Front(database, HERE).running() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def page(front: Front) -> AsyncIterator[landing.LandingPage]:
    port = int(front.url.rpartition(":")[2])
    made = landing.LandingPage(
        Address("127.0.0.1", port), site="clinic", number=SITE_NUMBER, printed="+7 (499) 000-00-00", national="8 499 0"
    )
    await made.open()
    yield made
    await made.aclose()


@pytest.mark.parametrize("has_browser", [True, False], ids=["chromium", "http"])
async def test_a_visitor_of_a_tagged_link_sees_a_number_of_their_own(
    front: Front, page: landing.LandingPage, *, has_browser: bool
) -> None:
    """R49, R93: and is known by it: campaign, keyword, device."""
    binary = landing.browser() if has_browser else None
    assert bool(binary) is has_browser
    async with landing.visitor(page, page.address(**TAGS), binary) as shown:
        assert shown.number in (FIRST, SECOND_NUMBER)
        async with front.database.read() as connection:
            found = await timelines.timeline(connection, shown.visitor)
    assert found is not None
    (visit,) = found.visits
    assert (visit.touch.source, visit.touch.came.campaign, visit.touch.came.term) == (
        "google-ads",
        "spring",
        "implants",
    )
    assert (visit.on.system, visit.on.device) == ("Android 14", "phone, Samsung SM-S918B")


async def test_a_page_that_shows_nothing_new_is_said_so(front: Front, page: landing.LandingPage) -> None:
    front.use(HERE.replace('key = "all"\npool = "moscow"', 'key = "all"\nlanding_pages = ["/none*"]\npool = "moscow"'))
    with pytest.raises(RuntimeError, match="no number is shown: rule_none"):
        async with landing.visitor(page, page.address(), None):
            pass


async def test_calls_are_asked_for_by_the_page_itself_only(
    page: landing.LandingPage, http: aiohttp.ClientSession
) -> None:
    """Another site's page cannot make the demo dial, nor can anybody make it dial anything but a number."""
    address, own = page.address("/call"), {"Origin": page.address("").rstrip("/")}

    async def asked(number: str, headers: dict[str, str]) -> int:
        async with http.post(address, data=number.encode(), headers=headers) as answer:
            return answer.status

    assert await asked(FIRST, own) == 409
    page.can_call = True
    assert await asked(FIRST, own) == 202
    assert await asked(FIRST, {"Origin": "https://elsewhere.example"}) == 409
    assert await asked("*100#", own) == 409
    assert [await asked(FIRST, own) for _ in range(3)] == [202, 202, 409]
    assert page.asked.get_nowait() == FIRST
