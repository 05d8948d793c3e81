"""`calls-recorded`: calls with real sound, recorded by bare `Dial` + `MixMonitor` and by Dialmark, on one Asterisk.

The caller sends a tone, the phone sends it back, and both sides do the same to record it: MixMonitor, a file for each
side, the bridged talk only. Mode `none`, since `announce` would put a prompt before one side's answer and nothing
before the other's. What comes after, encoding and encrypting, only Dialmark does; it does it on the same cores, and a
load is over when the spool is empty. Method and staircase are those of `calls`.
"""

from __future__ import annotations

from bench import report
from bench.calls import QUICK, Effort, conservation, highest, middle, steady, told, warm_up
from bench.house import WITH_SOUND, House, Load, Way

TALK_SECONDS = 10
"""Of the calls whose cost is told beside that of calls of one second."""
TALK_RATE = 5.0
LEAST_RECORDED_SECONDS = 0.5
"""Of half of the calls, of which most last one second; less is sound that was not there."""


async def measure(*, quick: bool) -> report.Measured:
    """Start everything, measure, prove that no record and no recording is missing, end everything."""
    effort = QUICK if quick else Effort()
    measured = report.Measured("calls-recorded")
    report.say("starting Asterisk and the daemon")
    async with House(WITH_SOUND) as house:
        measured.figures["asterisk"] = house.node.installation.version
        await warm_up(house)
        _at_steady_rate(await steady(house, effort, measured), measured)
        await _longer_talks(house, effort, measured)
        bare, full = await highest(house, effort, (Way.MONITORED, Way.RECORDED), measured)
        measured.judge("rate_to_dial_and_mixmonitor", full / bare, report.at_least, 0.85)
        await conservation(house, measured)
        _recordings(house, measured)
    return measured


def _at_steady_rate(loads: dict[Way, list[Load]], measured: report.Measured) -> None:
    ours, theirs, plain = loads[Way.RECORDED], loads[Way.MONITORED], loads[Way.FULL]
    measured.figures["daemon CPU per call, not recorded, ms"] = middle([load.server_ms for load in plain])
    measured.figures["daemon CPU per recorded call, ms"] = middle([load.server_ms for load in ours])
    more = [one.server_ms - other.server_ms for one, other in zip(ours, plain, strict=True)]
    measured.figures["of it the recorder, receipt and consent, ms"] = middle(more)
    measured.figures["waiting in the spool when the load ends"] = middle([load.backlog for load in ours])
    measured.figures["until the spool is empty, s"] = middle([load.drain_seconds for load in ours])
    pace = [load.result.calls / (load.result.seconds + load.drain_seconds) for load in ours]
    measured.figures["recordings into the vault, per second"] = middle(pace)
    later = [one.p99_ms - other.p99_ms for one, other in zip(ours, theirs, strict=True)]
    measured.compare("setup_p99_more_ms_at_50", middle(later))
    dearer = [one.asterisk_ms / other.asterisk_ms for one, other in zip(ours, theirs, strict=True)]
    measured.compare("asterisk_cpu_to_dial_and_mixmonitor", middle(dearer))


async def _longer_talks(house: House, effort: Effort, measured: report.Measured) -> None:
    """Calls of ten seconds, as many up at once: what sound costs beside what a call costs."""
    costs: dict[Way, list[float]] = {Way.MONITORED: [], Way.RECORDED: []}
    for _ in range(max(1, effort.steady_rounds // 2)):
        for way, found in costs.items():
            load = await house.load(way, TALK_RATE, 2 * effort.steady_seconds, 1_000 * TALK_SECONDS)
            report.say(f"talks of {TALK_SECONDS} s: {told(way, TALK_RATE, load)}")
            found.append(load.asterisk_ms + load.server_ms)
    for way, found in costs.items():
        measured.figures[f"{way.value}: all CPU per call of {TALK_SECONDS} s, ms"] = middle(found)
    measured.compare("all_cpu_talks_of_10_s", middle(costs[Way.RECORDED]) / middle(costs[Way.MONITORED]))


def _recordings(house: House, measured: report.Measured) -> None:
    """A side that records less than it was asked to has not carried the calls."""
    lengths = [
        length for (length,) in house.daemon.query("SELECT duration_seconds FROM recordings WHERE state = 'stored'")
    ]
    [(others,)] = house.daemon.query("SELECT count(*) FROM recordings WHERE state <> 'stored'")
    measured.figures["calls answered, to be recorded"] = house.answered_recorded
    measured.figures["recordings in the vault"] = len(lengths)
    measured.figures["length of half of them is at least, s"] = middle(lengths or [0.0])
    missing = max(0, house.answered_recorded - len(lengths))
    measured.judge("recordings_missing_refused", missing + others, report.at_most, 0)
    if not lengths or middle(lengths) < LEAST_RECORDED_SECONDS:
        measured.missed.append("recordings_missing_refused")
