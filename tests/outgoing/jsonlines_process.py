"""A post that writes the JSON-lines file, in a process of its own, to be killed.

jsonlines_process.py DATABASE FILE ROTATE_BYTES LEASE_SECONDS    prints `ready`, then delivers for ever
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from gateway import store
from gateway.core import receivers
from gateway.senders import jsonlines
from gateway.services import posting


def line(path: Path, rotate_bytes: int, rotate_hours: int = 0) -> posting.Line:
    facts = (path, rotate_bytes, rotate_hours)
    return posting.Line(facts, lambda: jsonlines.JsonLines(path, rotate_bytes=rotate_bytes, rotate_hours=rotate_hours))


async def main(database_url: str, path: Path, rotate_bytes: int, lease_seconds: float) -> None:
    database = await store.Database.open(database_url, migrate=False)
    shared = posting.Shared(
        database,
        now_us=lambda: time.time_ns() // 1_000,
        random=lambda: 0.5,
        node="main",
        targets=receivers.Subscriptions({jsonlines.TARGET: receivers.ALL}),
        events_added=lambda: None,
        pace=posting.Pace(lease_seconds=lease_seconds, poll_seconds=0.02),
    )
    post = posting.Post(shared)
    post.use({jsonlines.TARGET: line(path, rotate_bytes)})
    print("ready", flush=True)
    await post.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
