"""A web site and a gateway for the script to speak to, on origins of their own. The gateway reads with the real module
and keeps what it hears; which numbers it gives, and how badly it does, is up to the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from gateway.core import numberformats, scriptwire
from gateway.core.displayrules import Consent, Reason
from gateway.web.dni import script

MOSCOW, MOSCOW_499 = "+74951234567", "+74997654321"
VISITOR, LEASE = "visitor-0123456789", "lease-0123456789abc"
COOKIE = "dialmark_visitor"

READERS: Mapping[str, Callable[[bytes], scriptwire.Sender]] = {
    "visit": scriptwire.visit,
    "beat": scriptwire.beat,
    "page": scriptwire.page_view,
    "leave": scriptwire.leave,
    "click": scriptwire.click,
    "callback": scriptwire.callback,
}


@dataclass
class Gateway:
    """What the script may see of a gateway. `heard` is every request that was understood, in order."""

    targets: dict[str, tuple[str, ...]] = field(default_factory=lambda: {MOSCOW: ()})
    """The site's numbers with their other writings."""
    shown: dict[str, str] = field(default_factory=lambda: {MOSCOW: MOSCOW_499})
    consent: Consent = Consent.GRANTED
    beat_seconds: float = 3600
    wait_ms: int = 30_000
    expires_seconds: int = 600
    is_kept: bool = True
    status: int = 200
    """Of every answer; the script itself is always served."""
    base: str = ""
    url: str = ""
    origins: list[str] = field(default_factory=list)
    heard: list[scriptwire.Sender] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    cookies: list[str | None] = field(default_factory=list)
    """The visitor's cookie with each request."""
    visits: int = 0
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared: every request waits."""
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.go_on.set()

    @property
    def script_url(self) -> str:
        return f"{self.url}/dni/v1/clinic.js"

    def of(self, kind: type[scriptwire.Sender]) -> list[Any]:
        """Requests of exactly this kind."""
        return [one for one in self.heard if type(one) is kind]

    async def until(self, kind: type[scriptwire.Sender], number: int = 1) -> Any:
        """The `number`th request of a kind, when it is there."""
        async with asyncio.timeout(60), self.news:
            await self.news.wait_for(lambda: len(self.of(kind)) >= number)
        return self.of(kind)[number - 1]

    def application(self) -> web.Application:
        made = web.Application()
        made.router.add_get("/dni/v1/clinic.js", self._script)
        made.router.add_post("/dni/v1/{kind}", self._hear)
        return made

    async def _script(self, request: web.Request) -> web.Response:
        targets = [numberformats.target(number, texts) for number, texts in self.targets.items()]
        made = script.render(
            scriptwire.configuration(
                "clinic",
                [target for target in targets if target is not None],
                consent=self.consent,
                beat_seconds=self.beat_seconds,
                wait_ms=self.wait_ms,
                base=self.base,
            )
        )
        # Not kept by the browser: what a test changes in between holds for the next page.
        headers = {**made.headers, "Content-Encoding": "gzip", "Cache-Control": "no-store"}
        return web.Response(body=made.compressed, headers=headers)

    async def _hear(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        kind = request.match_info["kind"]
        headers = {"Cache-Control": "no-store", "Access-Control-Allow-Credentials": "true"}
        if request.headers.get("Origin") in self.origins:
            headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        self.cookies.append(request.cookies.get(COOKIE))
        try:
            heard = READERS[kind](body)
        except scriptwire.Refused as refused:
            self.refused.append(f"{kind}: {refused} {body!r}")
            return web.Response(status=400, headers=headers)
        async with self.news:
            self.heard.append(heard)
            self.news.notify_all()
        await self.go_on.wait()
        if self.status != 200:
            return web.Response(status=self.status, headers=headers)
        return self._answer(heard, headers)

    def _answer(self, heard: scriptwire.Sender, headers: dict[str, str]) -> web.Response:
        if isinstance(heard, scriptwire.Visit):
            return self._visited(heard, headers)
        if isinstance(heard, scriptwire.Beat):
            return web.Response(body=scriptwire.beat_answer(self.is_kept, self.expires_seconds), headers=headers)
        if isinstance(heard, scriptwire.Callback):
            return web.Response(status=202, body=scriptwire.callback_answer(), headers=headers)
        response = web.Response(status=204, headers=headers)
        if isinstance(heard, scriptwire.Leave) and heard.forget:
            response.del_cookie(COOKIE)
        return response

    def _visited(self, heard: scriptwire.Visit, headers: dict[str, str]) -> web.Response:
        self.visits += 1
        shown = [
            scriptwire.Shown(target, self.shown[target], texts)
            for target, texts in self.targets.items()
            if target in self.shown
        ]
        if heard.consent is not Consent.GRANTED:
            return web.Response(body=scriptwire.visit_answer(Reason.STATIC, shown), headers=headers)
        body = scriptwire.visit_answer(
            Reason.POOL,
            shown,
            visitor=heard.visitor or VISITOR,
            lease=f"{LEASE}{self.visits}",
            expires_seconds=self.expires_seconds,
        )
        response = web.Response(body=body, headers=headers)
        response.set_cookie(COOKIE, heard.visitor or VISITOR, httponly=True, samesite="Lax")
        return response


@dataclass
class Site:
    """Pages by their paths, as HTML."""

    pages: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""

    async def _serve(self, request: web.Request) -> web.Response:
        if request.path in self.files:
            kind, body = self.files[request.path]
            return web.Response(body=body, content_type=kind)
        html = self.pages.get(request.path)
        if html is None:
            return web.Response(status=204)
        return web.Response(text=html, content_type="text/html", headers=self.headers)

    def application(self) -> web.Application:
        made = web.Application()
        made.router.add_get("/{path:.*}", self._serve)
        return made


@asynccontextmanager
async def served(application: web.Application) -> AsyncIterator[str]:
    """The application on a free port of this machine; gives its address."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "http://{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


def document(gateway: Gateway, body: str, *, head: str = "", attributes: str = "") -> str:
    """A page with the script as docs/dni.md embeds it."""
    tag = f'<script async src="{gateway.script_url}" {attributes}></script>'
    page = f"<title>Clinic</title>{head}{tag}</head><body>{body}</body></html>"
    return f'<!doctype html><html lang="ru"><head><meta charset="utf-8">{page}'


def lines(texts: Sequence[str]) -> str:
    """Each text in a paragraph of its own."""
    return "".join(f"<p class=line>{text}</p>" for text in texts)
