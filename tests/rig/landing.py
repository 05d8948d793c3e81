"""A landing page of a site whose numbers Dialmark shows, on loopback, and visitors who open it: a headless Chromium, or
what its script says over HTTP where no Chromium is installed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from gateway.cli import chromium, failures
from tests.rig import ports
from tests.rig.ports import Address
from tests.rig.waits import Patience

PAGE = Path(__file__).with_name("landing.html")
HOST = "localhost"
"""A browser takes the gateway's cookie on this name without HTTPS, and a routing file may name it."""
SHOWN_SECONDS = 15.0
# A driven browser says so, and gets no number: here it stands for a person.
PERSON = "Object.defineProperty(Navigator.prototype, 'webdriver', { get: () => false });"
USER_AGENT = (
    "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Mobile Safari/537"
)
_AGREE = "document.getElementById('consent').hidden || document.getElementById('agree').click()"
_SHOWN = "({number: document.querySelector('.number').getAttribute('href'), visitor: window.dialmark.status().visitor})"


@dataclass(frozen=True)
class Shown:
    """What a visitor sees: the number (E.164 with ``+``), and the id that their browser keeps."""

    number: str
    visitor: str


class LandingPage:
    """Serves the page. ``number`` is printed in it; ``asked`` gets the numbers that people want to be called from."""

    def __init__(self, gateway: Address, *, site: str, number: str, printed: str, national: str) -> None:
        self.gateway = gateway
        self.site = site
        self.number = number
        self.port = ports.free_port()
        self.asked: asyncio.Queue[str] = asyncio.Queue(maxsize=3)
        self.can_call = False
        self._texts = {"e164": number, "printed": printed, "national": national}
        self._runner: web.AppRunner | None = None

    def address(self, path: str = "/implants", **tags: str) -> str:
        """Of the page, with tags as an advertiser adds them."""
        return f"http://{HOST}:{self.port}{path}" + (f"?{urlencode(tags)}" if tags else "")

    async def open(self) -> None:
        """Serve until ``aclose``."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/{path:[a-z-]*}", self._show)
        app.router.add_post("/call", self._call)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def aclose(self) -> None:
        """Serve no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _show(self, _: web.Request) -> web.Response:
        script = f"http://{HOST}:{self.gateway.port}/dni/v1/{self.site}.js"
        text = PAGE.read_text(encoding="utf-8")
        for name, value in {**self._texts, "script": script, "can_call": json.dumps(self.can_call)}.items():
            text = text.replace("{{" + name + "}}", value)
        return web.Response(text=text, content_type="text/html", headers={"Cache-Control": "no-store"})

    async def _call(self, request: web.Request) -> web.Response:
        number = (await request.text()).strip()
        is_number = number.startswith("+") and number[1:].isascii() and number[1:].isdigit() and len(number) < 17
        # Another site's page must not let this machine place calls, not even pretended ones.
        is_ours = request.headers.get("Origin", "") == f"http://{HOST}:{self.port}"
        if not (self.can_call and is_number and is_ours) or self.asked.full():
            return web.Response(status=409)
        self.asked.put_nowait(number)
        return web.Response(status=202)


def browser() -> str | None:
    """The path of a Chromium, None where there is none."""
    with contextlib.suppress(failures.Failure):
        return chromium.find(None)
    return None


@contextlib.asynccontextmanager
async def visitor(page: LandingPage, address: str, binary: str | None) -> AsyncIterator[Shown]:
    """A visitor opens the address, agrees, and stays on the page for the time of the block. Raises RuntimeError when no
    other number than the printed one is shown."""
    if binary is None:
        yield await over_http(page, address)
        return
    async with chromium.running(binary, is_sandboxed=os.geteuid() != 0) as running, running.page() as session:
        await session.call("Page.enable")
        await session.call("Page.addScriptToEvaluateOnNewDocument", source=PERSON)
        await session.call("Emulation.setUserAgentOverride", userAgent=USER_AGENT)
        await session.call("Page.navigate", url=address)
        yield await _until_shown(session, page.number)


async def _until_shown(session: chromium.Session, printed: str) -> Shown:
    patience = Patience(SHOWN_SECONDS)
    seen = ""
    while not patience.is_over():
        # A page that is still loading has neither button nor number.
        with contextlib.suppress(chromium.CallFailed):
            await session.call("Runtime.evaluate", expression=_AGREE)
            found = await session.call("Runtime.evaluate", expression=_SHOWN, returnByValue=True)
            value = found.get("result", {}).get("value") or {}
            seen = str(value.get("number") or "").removeprefix("tel:")
            if seen not in ("", printed) and value.get("visitor"):
                return Shown(seen, str(value["visitor"]))
        await asyncio.sleep(0.1)
    raise RuntimeError(f"the page shows {seen or 'no number'}")


async def over_http(page: LandingPage, address: str) -> Shown:
    """What the script says when a visitor who agreed opens the address."""
    said = {
        "v": 1,
        "site": page.site,
        "page": secrets.token_hex(4),
        "consent": "granted",
        "url": address,
        "referrer": "https://www.google.com/",
        "automated": False,
    }
    headers = {"Origin": f"http://{HOST}:{page.port}", "User-Agent": USER_AGENT, "Content-Type": "text/plain"}
    target = f"http://{page.gateway}/dni/v1/visit"
    async with (
        aiohttp.ClientSession() as session,
        session.post(target, data=json.dumps(said).encode(), headers=headers) as answer,
    ):
        if answer.status != 200:
            raise RuntimeError(f"the gateway answers {answer.status}: {await answer.text()}")
        told = await answer.json()
    numbers = told["numbers"].get(page.number)
    if numbers is None:
        raise RuntimeError(f"no number is shown: {told['reason']}")
    return Shown(numbers["e164"], told["visitor"])
