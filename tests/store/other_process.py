"""What another process does to the same database: `python -m tests.store.other_process ACTION URL [NUMBER]`.

It prints one line when it has got so far that the test may go on, and each action's result after it.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from gateway import store
from gateway.store import calls, outbox, routing
from tests.store import examples

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def running(action: str, url: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, which has printed nothing yet; killed at the end if it has not ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        action,
        url,
        *arguments,
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


async def line(process: asyncio.subprocess.Process) -> str:
    """The next line the process prints."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


def say(text: str) -> None:
    print(text, flush=True)


async def wait_for_start() -> None:
    """All processes of a test start their work together, once the test has written a line to each."""
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)


async def open_only(url: str, _: int) -> None:
    await wait_for_start()
    database = await store.Database.open(url)
    await database.close()
    say("opened")


async def apply(url: str, number: int) -> None:
    """Applies `number` routing revisions, each in a transaction."""
    database = await store.Database.open(url)
    await wait_for_start()
    for _ in range(number):
        async with database.begin() as tx:
            await routing.add(
                tx, document="", applied_at=datetime.now(UTC), applied_by="test", comment="", based_on=None
            )
    await database.close()
    say("applied")


async def hang(url: str, number: int) -> None:
    """Saves a call and does not commit."""
    database = await store.Database.open(url)
    async with database.begin() as tx:
        await calls.save(tx, [examples.call(number)])
        await wait_for_start()


async def claim(url: str, _: int) -> None:
    """Claims and settles one delivery at a time until nothing is left; prints what it got."""
    database = await store.Database.open(url)
    await wait_for_start()
    got: list[int] = []
    while True:
        async with database.begin() as tx:
            claimed = await outbox.claim(tx, "jsonl", limit=3, now_us=2 * examples.NOON, lease_us=examples.NOON)
        async with database.begin() as tx:
            assert await outbox.settle(tx, claimed, now_us=2 * examples.NOON) == len(claimed)
        got += [delivery.seq for delivery in claimed]
        async with database.read() as connection:
            if await outbox.pending_count(connection) == 0:
                break
    await database.close()
    say(" ".join(map(str, got)))


async def fill_disk(url: str, number: int) -> None:
    """Saves calls until files may not grow any more, then is given space again."""
    database = await store.Database.open(url)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
    stored = 0
    try:
        while stored < number:
            async with database.begin() as tx:
                await calls.save(tx, [examples.call(stored, record="x" * 10_000)])
            stored += 1
    except store.StoreUnavailable:
        say(f"full {stored}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    for n in range(stored, number):
        async with database.begin() as tx:
            await calls.save(tx, [examples.call(n, record="x" * 10_000)])
    await database.close()
    say(f"stored {number}")


ACTIONS = {"open": open_only, "apply": apply, "hang": hang, "claim": claim, "fill": fill_disk}

if __name__ == "__main__":
    asyncio.run(ACTIONS[sys.argv[1]](sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0))
