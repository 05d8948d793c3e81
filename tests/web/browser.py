"""Chromium on our page, watched: no fault in its console, no breach of the policy, no request to elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.web.listener import Listener

# For what never comes: how fast a page is, tests measure elsewhere.
expect.set_options(timeout=30_000)

TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
  [...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => `${e.tagName}.${e.className} ${e.getBoundingClientRect().right}`).slice(0, 12)"""

CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (layers) => { canvas.clearRect(0, 0, 1, 1);
    for (const colour of layers) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); };
  const luminance = (rgb) => { const [r, g, b] = rgb.map((v) => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const poor = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const box = element.getBoundingClientRect();
    const text = walker.currentNode.nodeValue.trim().slice(0, 20);
    if (!text || box.width < 2 || !element.checkVisibility({ visibilityProperty: true })) continue;
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.unshift(getComputedStyle(e).backgroundColor);
    const ground = over(layers), ink = over([...layers, getComputedStyle(element).color]);
    const [light, dark] = [luminance(ground), luminance(ink)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) poor.add(`${element.className} "${text}" ${ratio.toFixed(2)}`);
  }
  return [...poor];
}"""


@dataclass
class Watched:
    """A page, and everything about it that must not happen."""

    page: Page
    listener: Listener
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def watch(self) -> None:
        page = self.page
        page.on("console", lambda message: self._note_console(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(f"page error: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))

    def _note_console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") or "Security Policy" in text:
            self.faults.append(f"{kind}: {text}")

    async def log_in(self, *scopes: str) -> None:
        await self.page.goto(self.listener.url)
        await self.page.get_by_label("Token").fill(await self.listener.token(*scopes))
        await self.page.get_by_role("button", name="Log in").click()
        await expect(self.page.get_by_role("heading", name="On the line now")).to_be_visible()

    async def check(self) -> None:
        # Asked past the page's own scripts, so it works with scripts switched off as well.
        violations = await self.page.evaluate("window.violations ?? []")
        assert not self.faults and not violations
        outside = [address for address in self.requests if not address.startswith((self.listener.url, "data:"))]
        assert not outside


Opened = Callable[..., AbstractAsyncContextManager[Watched]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
def opened(chromium: Browser) -> Opened:
    """Opens a watched page with a fresh profile; what it must not do is checked at the end of the block."""

    @asynccontextmanager
    async def open_page(listener: Listener, **options: Any) -> AsyncIterator[Watched]:
        context: BrowserContext = await chromium.new_context(**options)
        await context.add_init_script(
            "window.violations = []; document.addEventListener('securitypolicyviolation',"
            " (event) => window.violations.push(event.violatedDirective + ' ' + event.blockedURI))"
        )
        watched = Watched(await context.new_page(), listener)
        watched.watch()
        try:
            yield watched
            await watched.check()
        finally:
            await context.close()

    return open_page
