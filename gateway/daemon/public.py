"""The public listener: what the pages of sites speak to (docs/dni.md). Calls never wait for it: a port that is taken is
told and tried again, and everything else goes on.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway import log

_log = log.get("daemon")

RETRY_SECONDS = 5.0
CLOSE_SECONDS = 1.0
"""For requests that are being answered."""


def application() -> web.Application:
    """What visitors' browsers may ask. Nothing yet."""
    return web.Application()


class PublicListener:
    """`open` listens, or says in `problem` why not; `run`, a root task, goes on trying."""

    def __init__(self, app: web.Application, host: str, port: int) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)
        self._host = host
        self._port = port
        self._is_open = False
        self.problem: str | None = None
        """Why nobody is listened to; None = all is well."""

    @property
    def address(self) -> str:
        """Where it listens, or will."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/"

    async def open(self) -> None:
        """Listen, if the port is free."""
        if self._runner.server is None:
            await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            if self.problem is None:
                _log.error("public listener not open, will be tried again", address=self.address, error=str(error))
            self.problem = str(error)
            return
        if self.problem is not None:
            _log.info("public listener open", address=self.address)
        self._is_open, self.problem = True, None

    async def run(self) -> None:
        """Never returns."""
        while not self._is_open:
            await asyncio.sleep(RETRY_SECONDS)
            await self.open()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """No more requests; those under way are answered."""
        await self._runner.cleanup()
