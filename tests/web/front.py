"""The public listener over a real store, as the daemon runs it, and browsers that speak to it by HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from gateway import store
from gateway.core import book, webbook
from gateway.daemon import public
from gateway.services import callbacks, leasing
from gateway.store import outbox
from gateway.web import clients, turnstile, visiting
from tests.services import clinic

T = TypeVar("T")

SECOND = 1_000_000
ORIGIN = "https://clinic.example"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
)
PAGE = {"v": 1, "site": "clinic", "page": "abc123"}
SEEN = {"seconds": 5, "found": 2}
FIELDS: dict[str, dict[str, Any]] = {
    "visit": {"consent": "granted", "url": f"{ORIGIN}/", "referrer": "", "automated": False},
    "beat": SEEN,
    "page": {**SEEN, "url": f"{ORIGIN}/", "referrer": ""},
    "leave": SEEN,
    "click": {"number": clinic.FIRST, "scheme": "tel"},
    "callback": {"url": f"{ORIGIN}/", "consent": True, "number": "8 (912) 345-67-89"},
}


@dataclass
class Said:
    """One answer."""

    status: int
    headers: CIMultiDict[str]
    cookies: dict[str, Any]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read

    @property
    def number(self) -> str | None:
        """What is shown in place of the clinic's number."""
        numbers = self.json["numbers"]
        return numbers[clinic.SITE_NUMBER]["e164"] if numbers else None


@dataclass
class Front:
    """A running gateway. `later` moves its clock; what is set before `running` is handed to the application."""

    database: store.Database
    routing: str = clinic.ROUTING
    now_us: int = field(default_factory=lambda: time.time_ns() // 1_000)
    limits: turnstile.Limits = field(default_factory=lambda: turnstile.Limits(10_000, 100_000, 10_000, 10_000))
    trusted: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)
    """Further parts of the application."""
    listener: dict[str, Any] = field(default_factory=dict)
    """How the listener is bounded."""
    place_of: Any = visiting.nowhere
    url: str = ""
    seen: list[tuple[str, int]] = field(default_factory=list)
    """Kind and status of each request."""

    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.leasing = leasing.Leasing(self.database, now_us=lambda: self.now_us, targets=["jsonl"])
        self.callbacks = callbacks.Callbacks(self.database, now_us=lambda: self.now_us, targets=["jsonl"])
        self.book: book.Book | None = clinic.routing_book(self.routing)
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    def use(self, routing: str, revision: int = 8) -> None:
        """Another routing comes into force."""
        self.book = clinic.routing_book(routing, revision)
        self.leasing.use(self.book)

    def later(self, seconds: float) -> None:
        self.now_us += round(seconds * SECOND)

    def application(self) -> web.Application:
        return visiting.application(
            visiting.VisitingParts(
                leasing=self.leasing,
                callbacks=self.callbacks,
                database=self.database,
                current_book=lambda: self.book,
                now_us=lambda: self.now_us,
                place_of=self.place_of,
                trusted_proxies=clients.parse_networks(self.trusted),
                limits=lambda: self.limits,
                clock=lambda: self.now_us / SECOND,
                observe=self._observe,
                **{"answer_seconds": 30.0, "page_seconds": 30.0, **self.more},
            )
        )

    def _observe(self, kind: str, status: int, _: float) -> None:
        self.seen.append((kind, status))
        self._news.set()

    async def until(self, kind: str, number: int = 1) -> None:
        """Until so many requests of a kind have been answered well."""
        async with asyncio.timeout(90):
            while len([one for one, status in self.seen if one == kind and status < 300]) < number:
                self._news.clear()
                await self._news.wait()

    async def comes_to(self, ask: Callable[[], Awaitable[T]], wanted: T) -> None:
        """Signs of life are stored a little after they are answered: the store is asked until it says so."""
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                while await ask() != wanted:
                    pass
        assert await ask() == wanted

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Front]:
        """Serve for the time of the block."""
        if self.book is not None:
            self.leasing.use(self.book)
        listener = public.PublicListener(self.application(), "127.0.0.1", 0, **self.listener)
        await listener.open()
        assert listener.problem is None
        self.url = listener.address.rstrip("/")
        lending = asyncio.create_task(self.leasing.run())
        try:
            yield self
        finally:
            lending.cancel()
            with suppress(asyncio.CancelledError):
                await lending
            await listener.close()
            await self.session.close()

    async def ask(self, method: str, path: str, **options: Any) -> Said:
        headers = {"User-Agent": CHROME, **options.pop("headers", {})}
        headers = {name: value for name, value in headers.items() if value is not None}
        skip = {"User-Agent"} - headers.keys()
        async with self.session.request(
            method, self.url + path, headers=headers, skip_auto_headers=skip, **options
        ) as answer:
            cookies = dict(answer.cookies.items())
            return Said(answer.status, CIMultiDict(answer.headers), cookies, await answer.read())

    async def post(
        self, kind: str, body: bytes | None = None, headers: dict[str, Any] | None = None, **more: Any
    ) -> Said:
        """As the script asks; `...` leaves a field out."""
        if body is None:
            fields = {**PAGE, **FIELDS[kind], **more}
            body = json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()
        sent = {"Origin": ORIGIN, "Content-Type": "text/plain;charset=UTF-8", **(headers or {})}
        return await self.ask("POST", f"/dni/v1/{kind}", data=body, headers=sent)

    async def visit(self, before: Said | None = None, **more: Any) -> Said:
        """A page is opened, by somebody new or by the visitor of an earlier answer."""
        if before is not None:
            more = {"visitor": before.json["visitor"], "lease": before.json["lease"], **more}
        return await self.post("visit", **more)

    async def again(self, kind: str, before: Said, **more: Any) -> Said:
        """The page of an answer says something."""
        return await self.post(kind, **{"visitor": before.json["visitor"], "lease": before.json["lease"], **more})

    async def events(self, kind: str) -> list[dict[str, Any]]:
        """The data of events of a type, in order."""
        async with self.database.read() as connection:
            found = await outbox.after(connection, 0, limit=10_000)
        return [json.loads(event.payload)["data"] for _, event in found if event.type == kind]

    def web(self) -> webbook.WebBook:
        assert self.book is not None
        return self.book.web
