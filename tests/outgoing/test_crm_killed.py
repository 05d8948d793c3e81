"""A process is killed between "created in the CRM" and "stored": nothing is doubled, nothing is missing (R32)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import store
from gateway.core import receivers
from gateway.core.outgoing import adapters
from gateway.store import outbox, targets
from tests.fakes import crms, handing, peer
from tests.outgoing import crm_process, posting_process

LEASE_US = round(posting_process.LEASE_SECONDS) * handing.SECOND
FAKES = {"hubspot": crms.HubSpot, "pipedrive": crms.Pipedrive}
PLACES = {"hubspot": (1, 2), "pipedrive": (1, 2, 3)}
"""Requests that make something, counted from the first: contact, call; person, lead, call."""


class Daemon:
    """The post in a process of its own."""

    def __init__(self, *arguments: object) -> None:
        self._arguments = [str(one) for one in arguments]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.outgoing.crm_process", *self._arguments, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert (await self._process.stdout.readline()).strip() == b"ready"

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            await self._process.communicate()
            self._process = None


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def tell(database: store.Database, target: str, handed: adapters.Handed) -> None:
    body = {"id": handed.event_id, "type": handed.type, "timestamp": "…", "data": handed.data}
    one = outbox.Event(handed.event_id, handed.type, handing.NOW_US, json.dumps(body), handed.call_id)
    async with database.begin() as tx:
        await outbox.add(tx, [one], receivers.Subscriptions({target: ("call.*",)}))


async def until_told(database: store.Database, call_id: str) -> None:
    async with asyncio.timeout(60):
        while True:
            async with database.read() as connection:
                (found,) = await targets.standings(connection, call_id)
            if found.state == adapters.State.DONE:
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", sorted(FAKES))
async def test_killed_between_what_the_crm_made_and_what_was_stored(
    database: store.Database, database_url: str, tmp_path: Path, kind: str
) -> None:
    """A retry never doubles a CRM object: of each new caller the process is killed behind another request."""
    target, clock, now_us = crm_process.target_of(kind), tmp_path / "clock", handing.NOW_US
    async with contextlib.AsyncExitStack() as stack:
        there: Any = FAKES[kind]()
        await there.start()
        stack.push_async_callback(there.stop)
        daemon = Daemon(database_url, clock, kind, there.url)
        stack.push_async_callback(daemon.kill)
        posting_process.set_clock(clock, now_us)
        for place in PLACES[kind]:
            before = len(there.asked)
            there.orders = {before + place: peer.SLOW_AFTER}
            call_id, number = f"{place:08d}-0000-4000-8000-000000000000", f"+749512345{place:02d}"
            changes: dict[str, Any] = {"call_id": call_id, "caller": {"number": number}}
            await daemon.start()
            await tell(database, target, handing.event(event_id=f"e{place}", **changes))
            # What the killed one asked was done; nobody was told.
            await until(lambda: not there.orders)
            await daemon.kill()
            there.orders = {}
            now_us += 2 * LEASE_US
            posting_process.set_clock(clock, now_us)
            await daemon.start()
            await until_told(database, call_id)
            await daemon.kill()
            assert (len(there.calls), len(there.leads)) == (place, place), there.asked
        assert there.wrong == []
