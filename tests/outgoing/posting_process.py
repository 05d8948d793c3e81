"""A post in a process of its own, to be killed: its clock is a file that the test moves.

posting_process.py DATABASE CLOCK URL    prints `ready`, then delivers for ever
"""

from __future__ import annotations

import asyncio
import struct
import sys
from ipaddress import ip_network
from pathlib import Path

from gateway import store
from gateway.core import receivers
from gateway.senders import webhook
from gateway.services import posting
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


async def main(database_url: str, clock: Path, url: str) -> None:
    database = await store.Database.open(database_url, migrate=False)
    subscribed = receivers.Subscriptions({"webhook:crm": receivers.ALL})
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
    print("ready", flush=True)
    await post.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
