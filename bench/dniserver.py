"""What `dni` loads, each in a process of its own: `python -m bench.dniserver ours DATABASE | constant`.

It says its port when it is ready, and ends when its input does. `ours` is the public application as the daemon runs it,
with 10,000 visitors on the site.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import suppress

import uvloop
from aiohttp import web
from sqlalchemy import text

from bench.dnirequests import POOLS, SITE, routing
from gateway import store, supervision
from gateway.config import routingfile
from gateway.core import webbook
from gateway.daemon import public
from gateway.services import arrivals, callbacks, leasing
from gateway.web import clients, turnstile, visiting

LIVING = 10_000
"""Visitors on the site, all with a number, before the load begins."""
HOUR_US = 3_600 * 1_000_000
UNLIMITED = turnstile.Limits(10**6, 10**9, 10**6, 10**6)


def now_us() -> int:
    return time.time_ns() // 1_000


def constant() -> web.Application:
    """The least that an aiohttp handler can do: reads what comes, and answers with what ours says."""
    answer = json.dumps(
        {
            "v": 1, "ok": True, "reason": "pool", "visitor": "0" * 36, "lease": "0" * 43, "expires": 360,
            "numbers": {"+74990000000": dict.fromkeys("abcdefgh", "8 (499) 000-00-00")},
        }
    ).encode()  # fmt: skip

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=answer, content_type="application/json")

    made = web.Application()
    made.router.add_post("/dni/v1/visit", handle)
    return made


async def settle(database: store.Database, lending: leasing.Leasing) -> None:
    """Visitors who take a number each, and stay for the time of the measurement."""
    pages = [
        arrivals.Arrival(SITE, f"https://clinic.example/p{number % POOLS}?utm_source=google&utm_medium=cpc")
        for number in range(LIVING)
    ]
    for start in range(0, LIVING, leasing.MAX_WAITING):
        await asyncio.gather(*(lending.arrive(page) for page in pages[start : start + leasing.MAX_WAITING]))
    stay = {"until": now_us() + HOUR_US}
    async with database.begin() as tx:
        held = "UPDATE pool_numbers SET living_until_us = :until, held_until_us = :until WHERE lease_id IS NOT NULL"
        await tx.execute(text(held), stay)
        living = await tx.execute(text("SELECT count(*) FROM pool_numbers WHERE living_until_us = :until"), stay)
        assert living.scalar_one() == LIVING
    if database.engine_name == "postgresql":
        async with database.begin() as tx:
            await tx.execute(text("ANALYZE"))


async def serve(application: web.Application) -> None:
    """Until the input ends."""
    listener = public.PublicListener(application, "127.0.0.1", 0)
    await listener.open()
    assert listener.problem is None, listener.problem
    sys.stdout.write(f"{listener.address.rstrip('/').rpartition(':')[2]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await listener.close()


async def serve_ours(url: str) -> None:
    book = routingfile.parse(routing(), 1)
    assert isinstance(book.web, webbook.WebBook)
    database = await store.Database.open(url)
    lending = leasing.Leasing(database, now_us=now_us, targets=["jsonl"])
    lending.use(book)
    running = asyncio.create_task(lending.run())
    await settle(database, lending)
    supervision.spare_collector()
    try:
        await serve(
            visiting.application(
                visiting.VisitingParts(
                    leasing=lending,
                    callbacks=callbacks.Callbacks(database, now_us=now_us, targets=["jsonl"]),
                    database=database,
                    current_book=lambda: book,
                    now_us=now_us,
                    trusted_proxies=clients.parse_networks(["127.0.0.1"]),
                    limits=lambda: UNLIMITED,
                    answer_seconds=5.0,
                )
            )
        )
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await database.close()


def main() -> None:
    work = serve(constant()) if sys.argv[1] == "constant" else serve_ours(sys.argv[2])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


if __name__ == "__main__":
    main()
