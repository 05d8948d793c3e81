"""Numbers for visitors: how many a second, and how soon, to an aiohttp handler that returns a constant, in one run.

Both servers are up all the time. Ours, on SQLite and on PostgreSQL, has 10,000 visitors on the site, each with a number
of four pools of 10,000. Every request is a page opened by somebody new: a visitor, a visit, a page view, a lease, and
the number's slot, committed and synced before the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import dniload, dnirequests, report
from tests.rig.asterisk import ROOT
from tests.rig.sipp import percentile

RATIO = 0.4
PACE = 300.0
LONGEST_MS = 15.0
CONNECTIONS = 64


@dataclass(frozen=True)
class Effort:
    """How long to measure. Free numbers last for 30,000 requests."""

    rounds: int = 3
    seconds: float = 4.0
    paced_seconds: float = 10.0


QUICK = Effort(1, 3.0, 5.0)


@dataclass
class Server:
    """A process that answers."""

    name: str
    port: int
    process: psutil.Process

    def cpu(self) -> float:
        """CPU seconds so far."""
        spent = self.process.cpu_times()
        return float(spent.user + spent.system)


@contextlib.asynccontextmanager
async def served(name: str, *arguments: str) -> AsyncIterator[Server]:
    """A server, ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.dniserver", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        line = await process.stdout.readline()
        assert line, f"{name} did not start"
        yield Server(name, int(line), psutil.Process(process.pid))
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextlib.contextmanager
def postgres(url: str | None) -> Iterator[str]:
    """A database: the given one, else a cluster for the time of the block, which syncs as one in production does."""
    if url is not None:
        yield url
        return
    if shutil.which("pg_virtualenv") is None:
        raise SystemExit("dni needs PostgreSQL: install postgresql-common, or give --postgres URL")
    told = "echo postgresql://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/$PGDATABASE; cat"
    command = ["pg_virtualenv", "-t", "bash", "-c", told]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        lines = iter(process.stdout.readline, "")
        found = next((line.strip() for line in lines if line.startswith("postgresql://")), None)
        if found is None:
            raise SystemExit("pg_virtualenv gave no cluster; another may have started in the same instant: try again")
        try:
            yield found
        finally:
            process.stdin.close()


def requests() -> Iterator[bytes]:
    """Made beforehand, so that the load costs little."""
    chance = random.Random(4)
    made = [dnirequests.visit(chance) for _ in range(4_000)]
    return itertools.cycle(made)


async def full_speed(server: Server, asked: Iterator[bytes], seconds: float) -> tuple[float, float]:
    """Requests per second, and CPU milliseconds of the server per request."""
    before = server.cpu()
    answers = await dniload.run(server.port, asked, connections=CONNECTIONS, seconds=seconds)
    _check(server, answers)
    spent = (server.cpu() - before) * 1_000 / len(answers.seconds)
    report.say(f"{server.name}: {answers.per_second:.0f} requests/s, {spent:.2f} ms of CPU each")
    return answers.per_second, spent


async def paced(server: Server, asked: Iterator[bytes], seconds: float) -> list[float]:
    """Milliseconds at `PACE`, sorted."""
    answers = await dniload.run(server.port, asked, connections=CONNECTIONS, seconds=seconds, per_second=PACE)
    _check(server, answers)
    found = sorted(1_000 * one for one in answers.seconds)
    report.say(f"{server.name}: p50 {percentile(found, 50):.1f}, p99 {percentile(found, 99):.1f} ms at {PACE:g}/s")
    return found


def _check(server: Server, answers: dniload.Answers) -> None:
    assert answers.refused == 0, f"{server.name} refused {answers.refused}"
    assert set(answers.reasons) == {b"pool"}, f"{server.name}: {answers.reasons}"


async def against_constant(measured: report.Measured, engine: str, url: str, effort: Effort) -> None:
    """Both servers in turns."""
    asked = requests()
    report.say(f"{engine}: 10,000 visitors take a number each")
    async with served("constant", "constant") as constant, served(engine, "ours", url) as ours:
        for server in (constant, ours):
            await dniload.run(server.port, asked, connections=CONNECTIONS, seconds=0.5)
        rates: dict[str, list[float]] = {"constant": [], engine: []}
        spent: dict[str, list[float]] = {"constant": [], engine: []}
        slow: dict[str, list[list[float]]] = {"constant": [], engine: []}
        for _ in range(effort.rounds):
            for server in (constant, ours):
                rate, cpu = await full_speed(server, asked, effort.seconds)
                rates[server.name].append(rate)
                spent[server.name].append(cpu)
        for _ in range(effort.rounds):
            for server in (constant, ours):
                slow[server.name].append(await paced(server, asked, effort.paced_seconds / effort.rounds))
    per_round = [mine / theirs for mine, theirs in zip(rates[engine], rates["constant"], strict=True)]
    measured.figures[f"{engine}: requests/s"] = round(statistics.median(rates[engine]))
    measured.figures[f"{engine}: constant handler, requests/s"] = round(statistics.median(rates["constant"]))
    measured.figures[f"{engine}: CPU ms per request"] = round(statistics.median(spent[engine]), 2)
    measured.figures[f"{engine}: constant handler, CPU ms"] = round(statistics.median(spent["constant"]), 2)
    for name, label in ((engine, engine), ("constant", f"{engine}: constant handler")):
        rounds = slow[name]
        measured.figures[f"{label}, at 300/s: p50, p99 ms"] = [
            round(statistics.median(percentile(one, percent) for one in rounds), 1) for percent in (50, 99)
        ]
    measured.judge(f"{engine}_to_constant", statistics.median(per_round), report.at_least, RATIO)
    p99 = statistics.median(percentile(one, 99) for one in slow[engine])
    measured.judge(f"{engine}_p99_ms_at_300", p99, report.at_most, LONGEST_MS)


def measure(measured: report.Measured, *, quick: bool, postgres_url: str | None) -> None:
    """On each engine."""
    effort = QUICK if quick else Effort()
    for engine in ("sqlite", "postgresql"):
        if engine == "sqlite":
            with tempfile.TemporaryDirectory(prefix="dialmark-bench-", dir=os.environ.get("TMPDIR")) as folder:
                url = f"sqlite:///{Path(folder)}/dialmark.db"
                asyncio.run(against_constant(measured, engine, url, effort))
        else:
            with postgres(postgres_url) as url:
                asyncio.run(against_constant(measured, engine, url, effort))
