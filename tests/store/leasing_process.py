"""Another process that leases: `python -m tests.store.leasing_process ACTION URL NUMBER`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway import store
from gateway.core import pool
from gateway.store import leases
from tests.store.other_process import ROOT, line, say, wait_for_start

__all__ = ["line", "running"]

NOW = 1_800_000_000 * 1_000_000
TERMS = {"moscow": pool.Terms(freeze_seconds=360)}
ROUNDS = 25


@asynccontextmanager
async def running(action: str, url: str, number: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process; killed at the end if it has not ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, action, url, number),
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


async def granted(database: store.Database, visitors: list[str], lease: str) -> list[pool.Grant | pool.Exhausted]:
    async with database.begin() as tx:
        return await leases.grant(
            tx, [leases.Ask("moscow", visitor, f"{lease}-{visitor}", NOW) for visitor in visitors], TERMS
        )


async def fight(url: str, number: str) -> None:
    """Asks for 60 visitors in batches of 7, in an order of its own, and prints who has which number."""
    database = await store.Database.open(url)
    await wait_for_start()
    had: set[str] = set()
    step = 7 if number == "0" else 11
    for turn in range(ROUNDS):
        visitors = [f"v{(turn * step + place * step) % 60}" for place in range(7)]
        for visitor, answer in zip(visitors, await granted(database, visitors, f"p{number}-{turn}"), strict=True):
            if isinstance(answer, pool.Grant):
                had.add(f"{visitor}={answer.slot.number}")
    await database.close()
    say(" ".join(sorted(had)))


async def die_after(url: str, _: str) -> None:
    """Commits a lease for Anna, and answers nobody."""
    database = await store.Database.open(url)
    await granted(database, ["anna"], "p")
    await wait_for_start()


async def die_inside(url: str, _: str) -> None:
    """Leases for Boris, and does not commit."""
    database = await store.Database.open(url)
    async with database.begin() as tx:
        await leases.grant(tx, [leases.Ask("moscow", "boris", "p-boris", NOW)], TERMS)
        await wait_for_start()


if __name__ == "__main__":
    asyncio.run({"fight": fight, "die_after": die_after, "die_inside": die_inside}[sys.argv[1]](*sys.argv[2:4]))
