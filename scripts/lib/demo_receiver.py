"""A program that the demo's calls are told to: it takes webhooks on loopback, and believes only what is signed."""

from __future__ import annotations

import base64
import secrets
from collections import Counter
from pathlib import Path

import standardwebhooks
from aiohttp import web

from tests.rig import ports

TARGET = "webhook:demo"


class Receiver:
    """`ids`: how often each event arrived. `forged`: how many requests were not signed as the rule says."""

    def __init__(self, folder: Path) -> None:
        self.secret_file = folder / "webhook.secret"
        self.port = ports.free_port()
        self.ids: Counter[str] = Counter()
        self.forged = 0
        self._secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        self._runner: web.AppRunner | None = None

    async def open(self) -> None:
        """Write the secret down and listen."""
        self.secret_file.touch(mode=0o600)
        self.secret_file.write_text(f"{self._secret}\n")
        app = web.Application()
        app.router.add_post("/calls", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def aclose(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def routing(self) -> str:
        """What the routing file says of it."""
        return (
            f'\n[[webhook]]\nkey = "demo"\nurl = "http://127.0.0.1:{self.port}/calls"\n'
            f'secret = "file:{self.secret_file}"\nallow = ["127.0.0.1/32"]\n'
        )

    async def _take(self, request: web.Request) -> web.Response:
        try:
            standardwebhooks.Webhook(self._secret).verify(await request.read(), dict(request.headers))
        except standardwebhooks.WebhookVerificationError:
            self.forged += 1
            return web.Response(status=401)
        self.ids[request.headers["webhook-id"]] += 1
        return web.Response(status=204)
