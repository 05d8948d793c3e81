"""What all fakes have in common: a server on loopback, a list of orders to fail, and what was wrong with requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered. A text goes out as it is."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fail:
    """An order for one request: answer with `reply`, or cut the connection (`reply` None).

    `after`: the request is carried out first, so that only its answer is lost. `slow`: the answer never comes.
    """

    reply: Reply | None = None
    after: bool = False
    slow: bool = False


ERROR = Fail(Reply(500, "<html>Bad Gateway</html>"))
RESET = Fail()
LOST = Fail(after=True)
SLOW = Fail(slow=True)
SLOW_AFTER = Fail(after=True, slow=True)


def busy(seconds: int) -> Fail:
    """429 with `Retry-After`."""
    return Fail(Reply(429, {"error": "slow down"}, {"Retry-After": str(seconds)}))


class Broken(Exception):
    """The request breaks the contract."""


class Peer:
    """A service. `orders` maps the number of a request, from 0, to how it fails; requests behind it are served."""

    token = "token-1"
    """The one that counts."""

    def __init__(self) -> None:
        self.orders: dict[int, Fail] = {}
        self.asked: list[Asked] = []
        self.wrong: list[str] = []
        self._runner: web.AppRunner | None = None
        self._released = asyncio.Event()
        self.url = ""

    async def start(self) -> None:
        app = web.Application(client_max_size=8_000_000)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        self._released.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        asked = Asked(
            request.method,
            request.path,
            dict(request.query),
            {name.lower(): value for name, value in request.headers.items()},
            await request.read(),
        )
        order = self.orders.pop(len(self.asked), None)
        self.asked.append(asked)
        reply = self._replied(asked) if order is None or order.after else None
        if order is not None:
            if order.slow:
                await self._released.wait()
            if order.reply is None:
                if request.transport is not None:  # whoever asked may be gone
                    request.transport.abort()
                return web.Response()
            reply = order.reply
        assert reply is not None
        if isinstance(reply.body, str) or reply.body is None:
            return web.Response(status=reply.status, text=reply.body, headers=reply.headers)
        return web.json_response(reply.body, status=reply.status, headers=reply.headers)

    def _replied(self, asked: Asked) -> Reply:
        try:
            return self.answer(asked)
        except Broken as broken:
            self.wrong.append(f"{asked.method} {asked.path}: {broken}")
            return Reply(400, {"error": str(broken)})

    def answer(self, asked: Asked) -> Reply:
        """What the service does with a request. Raises Broken for one that it would not take."""
        raise NotImplementedError


def holds(fact: object, rule: str) -> None:
    """The rule of the contract that the request keeps."""
    if not fact:
        raise Broken(rule)


Check = Callable[[Any], bool]


def fields(given: Any, needed: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> None:
    """Every field that must be there is, none that the contract does not know, and each value is what it says."""
    holds(isinstance(given, dict), f"an object, not {type(given).__name__}")
    known = {**needed, **(optional or {})}
    holds(set(needed) <= set(given), f"missing {sorted(set(needed) - set(given))}")
    holds(set(given) <= set(known), f"unknown {sorted(set(given) - set(known))}")
    for name, value in given.items():
        holds(known[name](value), f"{name} must not be {value!r}")


def text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def digits(value: Any) -> bool:
    return isinstance(value, str) and value.isdecimal()


def sha256(value: Any) -> bool:
    """64 lower-case hex digits."""
    return isinstance(value, str) and len(value) == 64 and all(char in "0123456789abcdef" for char in value)


def one_of(*allowed: Any) -> Check:
    return lambda value: value in allowed


def equal(expected: Any) -> Check:
    return lambda value: bool(value == expected and type(value) is type(expected))
