"""A post with one CRM in a process of its own, to be killed: its clock is a file that the test moves.

crm_process.py DATABASE CLOCK KIND URL    prints `ready`, then delivers for ever
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway import store
from gateway.core import receivers
from gateway.core.outgoing import crm, hubspot, pipedrive
from gateway.services import posting
from tests.fakes import handing
from tests.outgoing import posting_process

CRMS: Mapping[str, Callable[[str], crm.Crm]] = {
    "hubspot": lambda url: hubspot.HubSpot(base_url=url),
    "pipedrive": pipedrive.Pipedrive,
}


def target_of(kind: str) -> str:
    """Its name in the outbox."""
    return f"{kind}:test"


async def main(database_url: str, clock: Path, kind: str, url: str) -> None:
    database = await store.Database.open(database_url, migrate=False)
    service = crm.CrmService(CRMS[kind](url), crm.Policy(cards=False))
    shared = posting.Shared(
        database,
        now_us=lambda: posting_process.read_clock(clock),
        random=lambda: 0.5,
        node="main",
        targets=receivers.Subscriptions({target_of(kind): tuple(service.wants)}),
        events_added=lambda: None,
        pace=posting.Pace(lease_seconds=posting_process.LEASE_SECONDS, poll_seconds=0.02),
    )
    post = posting.Post(shared)
    post.use({target_of(kind): posting.Line(kind, lambda: handing.adapter(service, seconds=60.0))})
    print("ready", flush=True)
    await post.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
