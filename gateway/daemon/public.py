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
IDLE_SECONDS = 20.0
"""For the next request of a connection, its headers included, to come in."""
LINGERING_SECONDS = 1.0
"""For the rest of a request that is answered already."""
MOST_CONNECTIONS = 2_000
"""Of browsers; a proxy needs a few. More are closed at once, so that calls never lack a file descriptor."""
MOST_HEADERS = 64
MOST_LINE = 4_096


class _Refusing(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class PublicListener:
    """`open` listens, or says in `problem` why not; `run`, a root task, goes on trying."""

    def __init__(
        self,
        app: web.Application,
        host: str,
        port: int,
        *,
        idle_seconds: float = IDLE_SECONDS,
        most_connections: int = MOST_CONNECTIONS,
    ) -> None:
        self._runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=CLOSE_SECONDS,
            keepalive_timeout=idle_seconds,
            lingering_time=LINGERING_SECONDS,
            max_headers=MOST_HEADERS,
            max_line_size=MOST_LINE,
            # Nobody sends compressed bodies, and a small one can become a large one.
            auto_decompress=False,
        )
        self._host = host
        self._most_connections = most_connections
        self._port = port
        self._listening: asyncio.Server | None = None
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
            loop = asyncio.get_running_loop()
            self._listening = await loop.create_server(self._protocol, self._host, self._port, reuse_address=True)
        except OSError as error:
            if self.problem is None:
                _log.error("public listener not open, will be tried again", address=self.address, error=str(error))
            self.problem = str(error)
            return
        self._port = self._listening.sockets[0].getsockname()[1]
        if self.problem is not None:
            _log.info("public listener open", address=self.address)
        self.problem = None

    async def run(self) -> None:
        """Never returns."""
        while self._listening is None:
            await asyncio.sleep(RETRY_SECONDS)
            await self.open()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """No more requests; those under way are answered."""
        if self._listening is not None:
            self._listening.close()
        await self._runner.cleanup()

    def _protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None or len(server.connections) >= self._most_connections:
            return _Refusing()
        return server()
