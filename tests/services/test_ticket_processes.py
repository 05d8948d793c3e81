"""Several processes on the same tickets, and processes that die (N8): one open ticket per caller, reminded once."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Sequence

from gateway import store
from tests.services import ticket_process
from tests.services.ticket_process import CALLERS, LATER, ROUNDS, line, running
from tests.services.ticketdesk import TicketDesk


async def together(processes: Sequence[asyncio.subprocess.Process]) -> list[str]:
    """All start in the same moment; what each says at the end."""
    for process in processes:
        assert await line(process) == "ready"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
    return list(await asyncio.gather(*(line(process) for process in processes)))


async def test_two_processes_open_one_ticket_for_each_caller(database: store.Database, database_url: str) -> None:
    """Two nodes see the same callers at the same time, in different orders: nobody has two tickets, no miss is lost,
    and neither waits for the other for ever."""
    async with running("miss", database_url, "one") as one, running("miss", database_url, "two") as two:
        async with asyncio.timeout(60):
            said = await together([one, two])
    results = collections.Counter(" ".join(said).split())
    assert results == {"opened": len(CALLERS), "merged": len(CALLERS) * (2 * ROUNDS - 1)}
    found = await TicketDesk(database).all()
    assert sorted(one.caller or "" for one in found) == sorted(f"+{caller}" for caller in CALLERS)
    assert {one.misses for one in found} == {2 * ROUNDS}


async def test_two_processes_remind_once(database: store.Database, database_url: str) -> None:
    desk = TicketDesk(database)
    await desk.miss_all(CALLERS)
    async with running("tick", database_url, "one") as one, running("tick", database_url, "two") as two:
        async with asyncio.timeout(60):
            said = await together([one, two])
    assert sum(map(int, said)) == len(CALLERS)
    for ticket in await desk.all():
        assert await desk.history(ticket.number) == ["opened", "reminded"]
    assert collections.Counter(event["type"] for event in await desk.told()) == {
        "ticket.opened": len(CALLERS),
        "ticket.reminded": len(CALLERS),
    }


async def test_a_process_that_is_killed_inside_leaves_nothing(database: store.Database, database_url: str) -> None:
    """kill -9 between what it did and its commit: the next one does it, once."""
    desk = TicketDesk(database)
    await desk.miss()
    async with ticket_process.running("die_inside", database_url, "one") as one:
        assert await line(one) == "ready"
        one.kill()
        await one.wait()
    assert await desk.history(1) == ["opened"]
    desk.now_us = LATER
    done = 0
    async with asyncio.timeout(60):
        # PostgreSQL sees a moment after the kill that the lock is nobody's any more.
        while not (done := await desk.timers.step()):  # noqa: ASYNC110  the server tells nobody
            await asyncio.sleep(0.05)
    assert done == 1
    assert await desk.history(1) == ["opened", "reminded"]
    assert await desk.timers.step() == 0
