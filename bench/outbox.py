"""`outbox`: webhooks. How many a second, and how long after the hang-up one arrives at 50 calls a second.

Backlog: events of many calls wait in the outbox of a post with one target; a receiver in another process counts
what arrives, each signed, settled and logged. Beside it, in the same run: the same bodies posted by aiohttp alone, as
many at once, without outbox, signature or log: what this machine's client and receiver can do.

Live: the daemon as `dialmark run` starts it, SQLite, a journal that grows by 50 calls a second (each answered, 1 s of
talk), one webhook for all events. Measured from the time in the journal's row of the hang-up to the request's arrival.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_network
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import psutil

from bench import report
from gateway import store
from gateway.core import receivers
from gateway.senders import webhook
from gateway.services import posting
from gateway.store import outbox
from tests.config import files
from tests.daemon.site import Site
from tests.outgoing import receiver, traffic
from tests.rig import ports
from tests.rig.sipp import percentile

CALLS_PER_SECOND = 50
TALK_SECONDS = 1.0
TARGET_SECONDS = 1.0
AT_ONCE = posting.Pace().at_once


def _receive(port: int, pipe: Connection) -> None:
    """A receiver that answers 204 and notes when each event arrived; tells when it is asked."""
    from aiohttp import web

    arrived: list[tuple[str, str, str | None, float]] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.json()
        arrived.append((body["id"], body["type"], body["data"].get("ended_at"), time.time()))
        return web.Response(status=204)

    async def serve() -> None:
        app = web.Application(client_max_size=1_000_000)
        app.router.add_post("/", take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        pipe.send("ready")
        while True:
            asked = await asyncio.to_thread(pipe.recv)
            if asked is None:
                return
            pipe.send(len(arrived) if asked == "count" else list(arrived))
            if asked == "take":
                arrived.clear()

    asyncio.run(serve())


class Receiver:
    """The receiver's process."""

    def __init__(self) -> None:
        self.port = ports.free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._pipe, other = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_receive, args=(self.port, other))

    def __enter__(self) -> Receiver:
        self._process.start()
        self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(None)
        self._process.join()

    def count(self) -> int:
        self._pipe.send("count")
        return int(self._pipe.recv())

    def wait(self, number: int, seconds: float) -> None:
        """Until so many arrived, or the time is over."""
        deadline = time.monotonic() + seconds
        while self.count() < number and time.monotonic() < deadline:
            time.sleep(0.02)

    def take(self) -> list[tuple[str, str, str | None, float]]:
        self._pipe.send("take")
        return list(self._pipe.recv())


def _events(number: int) -> Iterator[outbox.Event]:
    """With a record as large as a real one."""
    for one in range(number):
        call_id = traffic.call_id(one)
        body = {
            "id": call_id,
            "type": "call.completed",
            "timestamp": "",
            "data": {"call_id": call_id, "x": "x" * 2_500},
        }
        yield outbox.Event(call_id, "call.completed", 1, json.dumps(body), call_id)


def _line(url: str) -> posting.Line:
    described = receivers.Webhook("crm", url, "env:X", allow=(ip_network("127.0.0.0/8"),), per_second=0)
    return posting.Line(described, lambda: webhook.Webhook(described, lambda _: receiver.SECRET))


async def _backlog(there: Receiver, folder: Path, number: int) -> float:
    """Deliveries a second."""
    database = await store.Database.open(f"sqlite:///{folder}/backlog.db")
    subscribed = receivers.Subscriptions({"webhook:crm": receivers.ALL})
    async with database.begin() as tx:
        await outbox.add(tx, list(_events(number)), subscribed)
    shared = posting.Shared(
        database, lambda: time.time_ns() // 1_000, lambda: 0.5, "main", subscribed, events_added=lambda: None
    )
    post = posting.Post(shared)
    post.use({"webhook:crm": _line(there.url)})
    started = time.perf_counter()
    task = asyncio.create_task(post.run())
    await asyncio.to_thread(there.wait, number, 600.0)
    took = time.perf_counter() - started
    await post.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await database.close()
    there.take()
    return number / took


async def _bare(there: Receiver, number: int) -> float:
    """Requests a second of the client alone."""
    bodies = iter([event.payload.encode() for event in _events(number)])
    started = time.perf_counter()
    async with aiohttp.ClientSession() as session:

        async def some() -> None:
            for body in bodies:
                async with session.post(there.url, data=body, headers={"Content-Type": "application/json"}) as answer:
                    await answer.read()

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    took = time.perf_counter() - started
    there.take()
    return number / took


async def _live(there: Receiver, folder: Path, seconds: int) -> dict[str, float]:
    """`stolen_share`: of the cores' time, what a hypervisor gave to others meanwhile."""
    site = Site(folder, f"sqlite:///{folder}/dialmark.db")
    site.settings["journal"] = {"ballast_bytes": 0}
    (folder / "crm.secret").write_text(receiver.SECRET)
    await site.apply(
        f'{files.SMALL}\n[[webhook]]\nkey = "crm"\nurl = "{there.url}"\nsecret = "file:{folder}/crm.secret"\n'
        'allow = ["127.0.0.0/8"]\nper_second = 1000\n'
    )
    calls = CALLS_PER_SECOND * seconds
    path = folder / "cel" / "dialmark.csv"
    before = psutil.cpu_times()
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(path.open("ab", buffering=0))
        async with site.running():
            began = asyncio.get_running_loop().time()
            ends: list[tuple[float, bytes]] = []
            for number in range(calls):
                due = began + number / CALLS_PER_SECOND
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
                begin, end = traffic.begin_and_end(number)
                journal.write(traffic.at(begin, time.time()))
                ends.append((due + TALK_SECONDS, end))
                while ends and ends[0][0] <= asyncio.get_running_loop().time():
                    journal.write(traffic.at(ends.pop(0)[1], time.time()))
            for due, end in ends:
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
                journal.write(traffic.at(end, time.time()))
            await asyncio.to_thread(there.wait, 3 * calls, 60.0)
    after = psutil.cpu_times()
    arrived = there.take()
    late = sorted(
        at - datetime.fromisoformat(ended).timestamp()
        for _, kind, ended, at in arrived
        if ended is not None and kind == "call.completed"
    )
    return {
        "calls": float(calls),
        "arrived": float(len(arrived)),
        "events": float(len({event_id for event_id, *_ in arrived})),
        "completed": float(len(late)),
        "p50_seconds": round(percentile(late, 50), 3),
        "p95_seconds": round(percentile(late, 95), 3),
        "p99_seconds": round(percentile(late, 99), 3),
        "stolen_share": round((after.steal - before.steal) / (sum(after) - sum(before)), 3),
    }


async def _measure(*, quick: bool) -> report.Measured:
    measured = report.Measured("outbox")
    number, rounds, seconds = (2_000, 1, 10) if quick else (5_000, 3, 60)
    with tempfile.TemporaryDirectory(prefix="dm") as name, Receiver() as there:
        ours, bare = [], []
        for turn in range(rounds):
            folder = Path(name) / f"b{turn}"
            folder.mkdir()
            bare.append(await _bare(there, number))
            ours.append(await _backlog(there, folder, number))
            report.say(f"backlog: {ours[-1]:,.0f} deliveries/s, the client alone {bare[-1]:,.0f}/s")
        folder = Path(name) / "live"
        folder.mkdir()
        live = await _live(there, folder, seconds)
        report.say(f"live: {CALLS_PER_SECOND} calls/s for {seconds} s: {live}")
    measured.figures |= {"deliveries_per_second": round(max(ours)), "client_alone_per_second": round(max(bare))}
    measured.figures["live"] = live
    measured.compare("deliveries_to_client_alone", max(ours) / max(bare))
    measured.judge("arrived_share", live["events"] / (3 * live["calls"]), report.at_least, 1.0)
    measured.judge("hang_up_to_delivered_p95_seconds", live["p95_seconds"], report.at_most, TARGET_SECONDS)
    return measured


def measure(*, quick: bool) -> report.Measured:
    """Backlog and live."""
    return asyncio.run(_measure(quick=quick))
