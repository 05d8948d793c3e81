"""The admin listener on loopback over a real store, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway import store
from gateway.core import book
from gateway.core.outgoing import adapters
from gateway.services import tickethands
from gateway.store import calls, tokens
from gateway.web import app, auth, health, live, metrics, parts, streams
from tests.web import material


@dataclass
class Clock:
    """Time that stands still until the test moves it."""

    now: datetime = material.NOW

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **span: float) -> None:
        self.now += timedelta(**span)


@dataclass
class Listener:
    """A running admin listener and what the daemon would have handed to it."""

    database: store.Database
    board: live.LiveBoard
    meters: metrics.Meters
    clock: Clock
    current: book.Book | None = field(default_factory=material.routing_book)
    probes: dict[str, health.Probe] = field(default_factory=dict)
    behind: float | None = 0.1
    trusted_proxies: tuple[str, ...] = ()
    pace: streams.Pace = field(default_factory=streams.Pace)
    limits: auth.Limits = field(default_factory=auth.Limits)
    hang_up: parts.HangUp | None = None
    mute_recording: parts.MuteRecording | None = None
    click: parts.Click | None = None
    vault_parts: parts.VaultParts = field(default_factory=lambda: parts.VaultParts(Path("/nonexistent"), None))
    exports: tuple[Path, ...] = ()
    adapter_of: Callable[[str], adapters.Adapter | None] | None = None
    targets: tuple[str, ...] = ()
    secrets: dict[str, str] = field(default_factory=dict)
    url: str = ""
    made: int = 0

    async def token(self, *scopes: str) -> str:
        """A token with these scopes; all reading scopes without an argument."""
        self.made += 1
        name = f"token {self.made}"
        wanted = scopes or tuple(str(scope) for scope in auth.Scope if scope is not auth.Scope.ADMIN)
        async with self.database.begin() as tx:
            return await tokens.issue(tx, name=name, scopes=wanted, now_us=parts.micros(self.clock.now))

    def _secret(self, reference: str) -> str:
        if reference not in self.secrets:
            raise ValueError(f"{reference} cannot be read")
        return self.secrets[reference]

    async def _hang_up(self, unique_id: str) -> None:
        if self.hang_up is None:
            raise ConnectionError("no manager session")
        await self.hang_up(unique_id)

    async def _mute_recording(self, unique_id: str, is_muted: bool) -> None:
        if self.mute_recording is None:
            raise ConnectionError("no manager session")
        await self.mute_recording(unique_id, is_muted)

    async def store_calls(self, documents: Iterable[dict[str, Any]]) -> None:
        """Save records as the tracker does."""
        async with self.database.begin() as tx:
            await calls.save(tx, [material.row(document) for document in documents])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Listener]:
        """Serve for the time of the block."""
        application = app.admin_app(
            parts.AdminParts(
                database=self.database,
                board=self.board,
                meters=self.meters,
                current_book=lambda: self.current,
                node="main",
                version="0.1.0",
                behind_seconds=lambda: self.behind,
                probes=self.probes,
                limits=lambda: self.limits,
                trusted_proxies=self.trusted_proxies,
                hang_up=self._hang_up,
                mute_recording=self._mute_recording,
                click=self.click,
                vault=self.vault_parts,
                exports=self.exports,
                targets=self.targets,
                secret_of=self._secret,
                adapter_of=self.adapter_of,
                hands=tickethands.Hands(
                    self.database,
                    in_force=lambda: self.current,
                    targets=self.targets,
                    now_us=lambda: parts.micros(self.clock.now),
                ),
                clock=self.clock,
                pace=self.pace,
            )
        )
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()


def bearer(token: str) -> dict[str, str]:
    """The header that presents a token."""
    return {"Authorization": f"Bearer {token}"}
