"""`calls`: the same calls through bare `Dial`, through Dialmark and through panoramisk, on one Asterisk.

Rounds alternate (A B A B …) and medians are compared, since a machine is never quite alone. A side carries a rate when
every call is answered and the set-up (INVITE to 200) takes at most 250 ms in 99 of 100. The highest such rate is where
a staircase comes to rest: up by 8 % after a load that was carried, down by 8 % after one that was not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median

from bench import report
from bench.house import NUMBER, House, Load, Way
from gateway.cli import agi_probe
from tests.rig.sipp import percentile

SETUP_MS = 250.0
STEADY_RATE = 50.0
FIRST_RATE = 80.0
BRACKET = 1.25
STEP = 1.08
PROBES_PER_SECOND = 20
POLL_SECONDS = 0.005
NAMED = 20
"""Of the calls that `verify` finds wrong."""


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    steady_rounds: int = 5
    steady_seconds: float = 8.0
    trial_seconds: float = 6.0
    trials: int = 10
    """Of the staircase, after the bracket."""


QUICK = Effort(steady_rounds=2, steady_seconds=4.0, trial_seconds=3.0, trials=4)


@dataclass
class Staircase:
    """Search for the highest rate that is carried."""

    rate: float = FIRST_RATE
    tried: list[float] = field(default_factory=list)
    _is_bracketed: bool = False

    def take(self, *, carried: bool) -> None:
        """Choose the next rate by what came of this one."""
        if self._is_bracketed:
            self.tried.append(self.rate)
        elif not carried:
            self._is_bracketed = True
        factor = STEP if self._is_bracketed else BRACKET
        self.rate = self.rate * factor if carried else self.rate / factor

    @property
    def found(self) -> float:
        """Calls per second; the first trials still come down from the bracket."""
        return median([*self.tried[len(self.tried) // 3 :], self.rate])

    def needs(self, trials: int) -> bool:
        return len(self.tried) < trials


async def measure(*, quick: bool) -> report.Measured:
    """Start everything, measure, prove that no record is missing, end everything."""
    effort = QUICK if quick else Effort()
    measured = report.Measured("calls")
    report.say("starting Asterisk and the daemon")
    async with House() as house:
        measured.figures["asterisk"] = house.node.installation.version
        await warm_up(house)
        await _steady(house, effort, measured)
        await _latency(house, effort, measured)
        bare, full = await highest(house, effort, (Way.BARE, Way.FULL), measured)
        measured.judge("rate_to_bare_dial", full / bare, report.at_least, 0.8)
        await conservation(house, measured)
    return measured


async def warm_up(house: House) -> None:
    """A few calls each way, before anything is measured."""
    for way in house.ways:
        await house.load(way, 20, 2)


async def steady(house: House, effort: Effort, measured: report.Measured) -> dict[Way, list[Load]]:
    """50 calls/s, all ways in turn: the loads of each, with set-up time and CPU per call among the figures."""
    loads: dict[Way, list[Load]] = {way: [] for way in house.ways}
    for number in range(effort.steady_rounds):
        for way in house.ways:
            load = await house.load(way, STEADY_RATE, effort.steady_seconds)
            loads[way].append(load)
            report.say(f"round {number + 1}: {told(way, STEADY_RATE, load)}")
    for way in house.ways:
        measured.figures[f"{way.value}: set-up p50 at 50/s, ms"] = middle(
            [load.result.setup_percentile(50) for load in loads[way]]
        )
        measured.figures[f"{way.value}: set-up p99 at 50/s, ms"] = middle([load.p99_ms for load in loads[way]])
        measured.figures[f"{way.value}: Asterisk CPU per call, ms"] = middle([load.asterisk_ms for load in loads[way]])
    return loads


def told(way: Way, rate: float, load: Load) -> str:
    """A load in a line."""
    behind = f", {load.backlog} recordings waited, {load.drain_seconds:.1f} s" if load.backlog else ""
    return (
        f"{way.value:9} {rate:6.1f}/s p50 {load.result.setup_percentile(50):5.1f} p99 {load.p99_ms:7.1f} ms, "
        f"CPU per call: Asterisk {load.asterisk_ms:5.2f} ms, server {load.server_ms:5.2f} ms{behind}"
    )


async def _steady(house: House, effort: Effort, measured: report.Measured) -> None:
    """What the steady rate says of Dialmark, bare `Dial` and panoramisk."""
    loads = await steady(house, effort, measured)
    measured.figures["daemon CPU per call, ms"] = middle([load.server_ms for load in loads[Way.FULL]])
    measured.figures["panoramisk CPU per call, ms"] = middle([load.server_ms for load in loads[Way.PEER]])
    measured.figures["the same without VarSet events, ms"] = middle([load.server_ms for load in loads[Way.QUIET]])
    more = [full.p99_ms - bare.p99_ms for full, bare in zip(loads[Way.FULL], loads[Way.BARE], strict=True)]
    measured.judge("setup_p99_more_ms_at_50", median(more), report.at_most, 10.0)
    cpu = [full.server_ms / peer.server_ms for full, peer in zip(loads[Way.FULL], loads[Way.PEER], strict=True)]
    measured.judge("daemon_cpu_to_panoramisk", median(cpu), report.at_most, 0.4)
    dearer = [full.asterisk_ms / bare.asterisk_ms for full, bare in zip(loads[Way.FULL], loads[Way.BARE], strict=True)]
    measured.figures["Asterisk CPU per call, full to bare"] = middle(dearer)


async def _latency(house: House, effort: Effort, measured: report.Measured) -> None:
    """50 calls/s: FastAGI answers while calls go on, and the way from hang-up to the event in the JSON-lines file,
    which is written after the record is stored."""
    seconds = 2 * effort.steady_seconds
    loop = asyncio.create_task(house.load(Way.FULL, STEADY_RATE, seconds))
    answers: list[float] = []
    delays: list[float] = []
    watching = [
        asyncio.create_task(_probe(house, answers)),
        asyncio.create_task(_watch_events(house.daemon.state / "events.jsonl", delays)),
    ]
    try:
        await loop
    finally:
        for task in watching:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    answers.sort()
    delays.sort()
    measured.figures["FastAGI session p50 at 50/s, ms"] = round(percentile(answers, 50), 2)
    measured.figures["FastAGI session p99 at 50/s, ms"] = round(percentile(answers, 99), 2)
    measured.figures["hang-up to event p50 at 50/s, s"] = round(percentile(delays, 50), 3)
    measured.judge("hangup_to_event_p95_s", percentile(delays, 95), report.at_most, 1.0)
    report.say(
        f"FastAGI p99 {percentile(answers, 99):.2f} ms of {len(answers)}; "
        f"hang-up to event p95 {percentile(delays, 95):.3f} s of {len(delays)}"
    )


async def _probe(house: House, answers: list[float]) -> None:
    """A question now and then, as Asterisk asks it; milliseconds from connect to the answer taken."""
    place = house.node.agi
    while True:
        try:
            answer = await agi_probe.ask(place.host, place.port, NUMBER, "79160000000")
        except agi_probe.NoAnswer:
            answers.append(float("inf"))
        else:
            answers.append(1_000 * answer.seconds)
        await asyncio.sleep(1 / PROBES_PER_SECOND)


async def _watch_events(path: Path, delays: list[float]) -> None:
    """Follow the events; seconds from the end of a call to its line."""
    with path.open("rb") as file:
        file.seek(0, 2)
        rest = b""
        while True:
            rest += file.read()
            *lines, rest = rest.split(b"\n")
            now = time.time()
            for line in lines:
                event = json.loads(line)
                if event["type"] in ("call.completed", "call.missed"):
                    delays.append(now - _seconds(event["data"]["ended_at"]))
            await asyncio.sleep(POLL_SECONDS)


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


async def highest(
    house: House, effort: Effort, ways: tuple[Way, Way], measured: report.Measured
) -> tuple[float, float]:
    """The highest rates of two ways, by interleaved staircases."""
    searches = {way: Staircase() for way in ways}
    while any(search.needs(effort.trials) for search in searches.values()):
        for way, search in searches.items():
            load = await house.load(way, search.rate, effort.trial_seconds)
            carried = load.p99_ms <= SETUP_MS
            report.say(f"{told(way, search.rate, load)}: {'carried' if carried else 'not carried'}")
            search.take(carried=carried)
    for way, search in searches.items():
        measured.figures[f"{way.value}: highest rate, calls/s"] = round(search.found, 1)
    return searches[ways[0]].found, searches[ways[1]].found


async def conservation(house: House, measured: report.Measured) -> None:
    """Figures of a run that lost a record are worth nothing."""
    found = await asyncio.to_thread(house.daemon.verify)
    wrong = sum(int(found[kind]) for kind in ("missing", "doubled", "invented"))
    if wrong:
        report.say(f"verify: {json.dumps(found | {'calls': found['calls'][:NAMED]})}")
    records = house.daemon.query("SELECT count(*) FROM calls WHERE state = 'closed'")[0][0]
    measured.figures["calls through Dialmark"] = house.full_calls
    measured.figures["records"] = records
    measured.judge("records_missing_doubled_invented", wrong, report.at_most, 0)
    # A call refused before the dialplan (an overloaded Asterisk) has no channel and no record, so fewer is no loss.
    if records > house.full_calls:
        measured.missed.append("records_missing_doubled_invented")


def middle(values: Sequence[float]) -> float:
    """Median, rounded for people."""
    return round(median(values), 2)
