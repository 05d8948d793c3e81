"""Sites of React and Vue, built from npm, made by a server and hydrated: the number stays swapped."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page

from gateway.core import scriptwire
from tests.web.dni.conftest import Stage
from tests.web.dni.standin import document

FRAMEWORKS = ["react", "vue"]


async def opened(stage: Stage, webapps: Path, framework: str, *, is_from_server: bool = True) -> Page:
    """The page with the script, and without a complaint of the framework's about what it found."""
    stage.site.files[f"/{framework}.js"] = ("text/javascript", (webapps / f"{framework}.js").read_bytes())
    html = (webapps / f"{framework}.html").read_text() if is_from_server else ""
    page = await stage.page()
    complaints = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    body = f'<div id="app">{html}</div><script defer src="/{framework}.js"></script>'
    stage.site.pages[f"/{framework}"] = document(stage.gateway, body)
    await page.goto(f"{stage.site.url}/{framework}?utm_source=test")
    await page.evaluate("window.hydrated")
    await stage.settled(page)
    assert complaints == []
    assert await page.evaluate("window.recovered") is None
    return page


async def shown(page: Page) -> list[str]:
    return [" ".join((await page.inner_text(where)).split()) for where in ("a.phone", "#split", "#line")]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("is_from_server", [True, False], ids=["hydrated", "rendered"])
async def test_numbers_stay_swapped(stage: Stage, webapps: Path, framework: str, is_from_server: bool) -> None:
    page = await opened(stage, webapps, framework, is_from_server=is_from_server)
    numbers = ["+7 (499) 765-43-21", "8 (499) 765-43-21"]
    assert await shown(page) == [*numbers, "0 people called 8 499 765-43-21 today"]
    assert await page.locator("a.phone").get_attribute("href") == "tel:+74997654321"
    # Rendered again.
    for _ in range(3):
        await page.click("#count")
    await stage.settled(page)
    assert await shown(page) == [*numbers, "3 people called 8 499 765-43-21 today"]
    # A part that comes and goes.
    for _ in range(3):
        await page.click(".open")
    await stage.settled(page)
    assert await page.inner_text("#cards em") == "84997654321"


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_routes_without_a_load(stage: Stage, webapps: Path, framework: str) -> None:
    """Each is a page view with the one before as its referrer; going back too."""
    page = await opened(stage, webapps, framework)
    await page.click("#contacts")
    first = await stage.gateway.until(scriptwire.PageView)
    await stage.settled(page)
    assert await page.inner_text("#there address") == "Moscow, 8 499 765 43 21"
    assert first.url == f"{stage.site.url}/{framework}?page=contacts"
    assert first.referrer == f"{stage.site.url}/{framework}?utm_source=test"
    await page.click("#home")
    await stage.gateway.until(scriptwire.PageView, 2)
    await page.click("#contacts")
    third = await stage.gateway.until(scriptwire.PageView, 3)
    await stage.settled(page)
    # Vue brings back the very nodes that it had kept.
    assert await page.inner_text("#there address") == "Moscow, 8 499 765 43 21"
    assert third.url == first.url and third.page != first.page
    await page.go_back()
    assert (await stage.gateway.until(scriptwire.PageView, 4)).url.endswith("?page=home")
    assert len(stage.gateway.of(scriptwire.Visit)) == 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_consent_taken_back_restores_what_the_framework_wrote(
    stage: Stage, webapps: Path, framework: str
) -> None:
    page = await opened(stage, webapps, framework)
    await page.click("#count")
    stage.gateway.shown = {}
    await page.evaluate("dialmark.start('denied')")
    await stage.settled(page)
    assert await shown(page) == [
        "+7 (495) 123-45-67", "8 (495) 123-45-67", "1 people called 8 495 123-45-67 today",
    ]  # fmt: skip
    assert await page.locator("a.phone").get_attribute("href") == "tel:+74951234567"
