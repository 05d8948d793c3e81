"""What of the daemon files calls and tells of them, in a process of its own, to be killed: its clock is a file that the
test moves.

posting_process.py DATABASE CLOCK URL JOURNAL    prints `ready`, then reads the journal and delivers for ever
"""

from __future__ import annotations

import asyncio
import struct
import sys
from ipaddress import ip_network
from pathlib import Path

from gateway import store
from gateway.core import receivers
from gateway.pbx import journalfiles
from gateway.senders import webhook
from gateway.services import posting, tracker
from gateway.store import journal
from tests.outgoing import receiver

LEASE_SECONDS = 30.0


def read_clock(path: Path) -> int:
    """Microseconds."""
    return int(struct.unpack("<q", path.read_bytes())[0])


def set_clock(path: Path, now_us: int) -> None:
    """Replaced whole, so that nobody reads half of it."""
    new = path.with_suffix(".new")
    new.write_bytes(struct.pack("<q", now_us))
    new.replace(path)


def line(url: str) -> posting.Line:
    described = receivers.Webhook(
        "crm", url, "env:SECRET", allow=(ip_network("127.0.0.0/8"),), per_second=0, timeout_seconds=60
    )
    return posting.Line(described, lambda: webhook.Webhook(described, lambda _: receiver.SECRET))


async def reading(database: store.Database, folder: Path, clock: Path, outlets: tracker.Outlets) -> tracker.Tracker:
    """A tracker that goes on where an earlier one was killed."""

    async def no_book(_: int | None) -> None:
        return None

    async def nothing_known() -> tracker.Alive | None:
        return None

    async with database.read() as connection:
        progress = tracker.progress(await journal.files(connection, "main"))
    made = tracker.Tracker(
        database,
        journalfiles.JournalReader(folder, progress=progress),
        node="main",
        book_of=no_book,
        outlets=outlets,
        alive=nothing_known,
        now_us=lambda: read_clock(clock),
        batch_seconds=0.02,
    )
    await made.restore()
    return made


async def main(database_url: str, clock: Path, url: str, folder: Path) -> None:
    database = await store.Database.open(database_url, migrate=False)
    subscribed = receivers.Subscriptions({"webhook:crm": ("call.started", "call.completed")})
    shared = posting.Shared(
        database,
        now_us=lambda: read_clock(clock),
        random=lambda: 0.5,
        node="main",
        targets=subscribed,
        events_added=lambda: None,
        pace=posting.Pace(lease_seconds=LEASE_SECONDS, poll_seconds=0.02),
    )
    post = posting.Post(shared)
    post.use({"webhook:crm": line(url)})
    outlets = tracker.Outlets(changed=lambda _: None, events_added=post.wake, targets=subscribed)
    filing = await reading(database, folder, clock, outlets)
    print("ready", flush=True)
    await asyncio.gather(post.run(), filing.run())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
