"""A site, a gateway that listens, and Chromium."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.rig.asterisk import ROOT
from tests.web.dni import standin

# Past the browser's idle time and two frames: whatever the script had to do at once is done. After a click Chromium may
# have no idle time at all, so there is an end to waiting for it.
CALM = """new Promise((done) => requestIdleCallback(() => requestAnimationFrame(() => requestAnimationFrame(
    () => requestIdleCallback(() => done(), { timeout: 1_000 }))), { timeout: 1_000 }))"""


@dataclass
class Stage:
    """One visitor's browser, the site and the gateway."""

    site: standin.Site
    gateway: standin.Gateway
    context: BrowserContext
    faults: list[str] = field(default_factory=list)

    async def page(self) -> Page:
        page = await self.context.new_page()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        return page

    async def open(self, body: str, *, path: str = "/", query: str = "", referer: str = "", **embed: str) -> Page:
        """A page with this body, when its numbers have been swapped or left."""
        self.site.pages[path] = standin.document(self.gateway, body, **embed)
        page = await self.page()
        await page.goto(self.site.url + path + query, referer=referer or None)
        await self.settled(page)
        return page

    async def settled(self, page: Page, state: str = "ready") -> None:
        """Until the script stands at `state` and has done what follows from it."""
        await page.wait_for_function(
            "(state) => window.dialmark?.status && dialmark.status().state === state", arg=state
        )
        await page.evaluate(CALM)

    async def texts(self, page: Page, selector: str = ".line") -> list[str]:
        found: list[str] = await page.eval_on_selector_all(selector, "(all) => all.map((each) => each.textContent)")
        return found

    async def status(self, page: Page) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(await page.evaluate("JSON.stringify(dialmark.status())"))
        return status


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox"],
            # Playwright switches the cache of left pages off.
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def stage(chromium: Browser) -> AsyncIterator[Stage]:
    """A fresh visitor. At the end: no error on a page, and nothing said that the gateway could not read."""
    gateway, site = standin.Gateway(), standin.Site()
    async with standin.served(gateway.application()) as gateway.url, standin.served(site.application()) as site.url:
        gateway.origins = [site.url]
        context = await chromium.new_context()
        made = Stage(site, gateway, context)
        try:
            yield made
            assert made.faults == []
            assert gateway.refused == []
        finally:
            gateway.go_on.set()
            await context.close()


@pytest.fixture(scope="session")
def webapps() -> Path:
    """The folder with the built pages of React and Vue."""
    built = subprocess.run([ROOT / "scripts/lib/webapps"], capture_output=True, text=True, timeout=150)
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip())
