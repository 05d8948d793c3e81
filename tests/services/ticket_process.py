"""Another process that works on tickets: `python -m tests.services.ticket_process ACTION URL NAME`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway import store
from gateway.core import tickets
from gateway.services import ticketkeeping
from gateway.store import tickets as stored
from tests.services.ticketdesk import HOUR, NOON, SECOND, TARGETS, TicketDesk
from tests.store.other_process import ROOT, line, say, wait_for_start

__all__ = ["CALLERS", "ROUNDS", "line", "running"]

CALLERS = [f"791600001{number:02}" for number in range(12)]
ROUNDS = 6
LATER = NOON + 2 * HOUR


@asynccontextmanager
async def running(action: str, url: str, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process; killed at the end if it has not ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, action, url, name),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def miss(url: str, name: str) -> None:
    """Each caller is missed once a round, several in a batch, in an order of this process's own."""
    database = await store.Database.open(url)
    desk = TicketDesk(database, node=name)
    await wait_for_start()
    step = 5 if name == "one" else 7
    for turn in range(ROUNDS):
        desk.now_us = NOON + turn * SECOND
        callers = [CALLERS[(turn + place * step) % len(CALLERS)] for place in range(len(CALLERS))]
        for start in range(0, len(callers), 4):
            await desk.miss_all(callers[start : start + 4])
    await database.close()
    say(" ".join(sorted(desk.results)))


async def tick(url: str, name: str) -> None:
    """Does what is due, again and again until nothing is."""
    database = await store.Database.open(url)
    desk = TicketDesk(database, node=name)
    desk.now_us = LATER
    await wait_for_start()
    done = 0
    while changed := await desk.timers.step():
        done += changed
    await database.close()
    say(str(done))


async def die_inside(url: str, _: str) -> None:
    """Reminds of the first ticket, and does not commit."""
    database = await store.Database.open(url)
    async with database.begin() as tx:
        number, *_rest = await stored.due(tx, LATER)
        ticket = await stored.take_due(tx, number, LATER)
        assert ticket is not None
        await ticketkeeping.keep(tx, tickets.tick(ticket, LATER), targets=TARGETS, now_us=LATER)
        await wait_for_start()


if __name__ == "__main__":
    asyncio.run({"miss": miss, "tick": tick, "die_inside": die_inside}[sys.argv[1]](*sys.argv[2:4]))
