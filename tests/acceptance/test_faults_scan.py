"""FastAGI is scanned, and held open by strangers, while calls are placed (N2; design.md, "People")."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.acceptance import faults, stages
from tests.acceptance.faults import SALES
from tests.acceptance.stages import Stage
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Rig

pytestmark = pytest.mark.real_time

HOLD = 300
QUESTION = b"agi_network: yes\nagi_network_script: route\n"


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    with stages.site(make_node, faults.ROUTING, files=faults.SITE_DIALPLAN) as site:
        yield site


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    yield Stage(site, rig_of(site.node))
    assert site.daemon.is_running
    await asyncio.to_thread(site.conserved)


@contextlib.asynccontextmanager
async def load(stage: Stage, seconds: float = 4.0) -> AsyncIterator[asyncio.Event]:
    """Calls while the block runs, all put through and soon; the event says that they are over."""
    stage.phone("desk-1", ring_ms=0, traced=False)
    before = len(stage.daemon.stored())
    over = asyncio.Event()
    calls = int(10 * seconds)
    task = asyncio.create_task(stage.rig.load(SALES, rate=10, calls=calls))
    task.add_done_callback(lambda _: over.set())
    yield over
    result = await task
    assert (result.calls, result.answered, result.failed) == (calls, calls, 0)
    assert result.ringing_ms[-1] < 2000
    await stage.daemon.until_records(before + calls, 20)


async def connected(stage: Stage) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*stage.node.agi)


async def test_a_thousand_port_checks(stage: Stage) -> None:
    """Connect and close, the half of them without waiting for the other side."""
    async with load(stage):
        for number in range(1000):
            _, writer = await connected(stage)
            writer.transport.abort() if number % 2 else writer.close()
    assert stage.daemon.log(1000).count("agi session not answered") <= 3


async def test_garbage(stage: Stage) -> None:
    """Anything, in any length, as a question; the log does not fill with it."""
    lines = stage.daemon.log_file.read_text().count("\n")
    async with load(stage) as over:
        sent = 0
        while not over.is_set():
            reader, writer = await connected(stage)
            with contextlib.suppress(OSError):
                writer.write(
                    [os.urandom(50), b"\n\n", b"A" * 200_000, b"GET / HTTP/1.1\r\n\r\n", QUESTION * 2][sent % 5]
                )
                await writer.drain()
            if sent % 10 == 1:
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(2):
                        await reader.read()
            writer.transport.abort()
            sent += 1
    assert sent > 300
    assert stage.daemon.log_file.read_text().count("\n") - lines < 50


async def test_three_hundred_that_say_almost_nothing(stage: Stage) -> None:
    """A byte now and then, more of them than sessions are allowed, and a new one for each that is closed."""
    async with load(stage, 6.0) as over, asyncio.TaskGroup() as group:
        for _ in range(HOLD):
            group.create_task(hold(stage, over))
    assert stage.daemon.is_ready()


async def hold(stage: Stage, over: asyncio.Event) -> None:
    while not over.is_set():
        with contextlib.suppress(OSError):
            reader, writer = await connected(stage)
            for byte in QUESTION:
                if over.is_set() or reader.at_eof():
                    break
                writer.write(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await reader.read()
            writer.transport.abort()
