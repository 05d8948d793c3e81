"""Prometheus metrics of the daemon, in a registry of their own.

Counters are fed by calls (`Meters.call_ended`, `agi_answered`); what others know already is read when scraped
(`watch`). Labels are only values of fixed sets: no number, name or campaign (privacy, cardinality).
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from gateway.core import calls

AGI_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5)
"""Seconds; 1.5 is where the dialplan stops waiting."""
WAIT_BUCKETS = (2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0)
VISIT_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 2.0)
"""Seconds; at 0.8 the page stops waiting."""
TALK_BUCKETS = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
DELIVERY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, 3600.0, 86400.0)
"""Seconds; at 1.0 is what a receiver may expect, behind it what was tried again."""
MAX_TARGETS = 200
"""Receivers with a label of their own; further ones are `other`."""
OTHER = "other"
LAG_PROBE_SECONDS = 0.5

Reading = Callable[[], float | None]
"""Gives a figure at scrape time; None leaves the sample out."""
Results = Callable[[], Mapping[str, float]]
"""Gives figures by result, whose words are a fixed set."""


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for a receiver, how old the oldest of it is, and what was given up."""

    waiting: int
    oldest_seconds: float
    dead: int


_OF_QUEUE: tuple[tuple[str, str, Callable[[Queue], float]], ...] = (
    ("outbox_waiting", "Events that a receiver has not taken yet", lambda one: one.waiting),
    ("outbox_oldest_seconds", "Age of the oldest of them", lambda one: one.oldest_seconds),
    ("outbox_dead", "Events given up, which a person may send again", lambda one: one.dead),
)

Queues = Callable[[], Mapping[str, Queue]]
Refresh = Callable[[], Awaitable[None]]
"""Reads what only the database knows, before the readings are asked."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What is asked when Prometheus scrapes; each may be left out by a part that does not run on this node."""

    active_calls: Reading | None = None
    ami_connected: Reading | None = None
    journal_lag_seconds: Reading | None = None
    journal_rows: Reading | None = None
    """Rows read since the start of the process."""
    journal_damaged: Reading | None = None
    """Rows that could not be read, since the start of the process."""
    outbox_depth: Reading | None = None
    queues: Queues | None = None
    """By receiver of the routing in force; `other` for those that something is left of."""
    refresh: Refresh | None = None
    live_readers: Reading | None = None
    live_cut_off: Reading | None = None
    """Readers of the live stream cut off because they were too slow, since the start."""
    recordings: Results | None = None
    """What became of what was in the spool, since the start: stored, refused, unreadable, empty."""
    recorded_seconds: Reading | None = None
    recordings_waiting: Reading | None = None
    """In the spool, those of calls that are up included."""
    recording_accepted: Reading | None = None
    recording_problem: Reading | None = None
    analyses: Results | None = None
    """How the external command ended, since the start: analysed, failed, given_up."""
    analyses_waiting: Reading | None = None
    numbers_shown: Results | None = None
    """What pages were told, since the start, by reason."""
    pools_exhausted: Reading | None = None
    """Visitors for whom no number was free, since the start."""
    leases_lost: Reading | None = None
    """Leases that were gone while their page lived, since the start."""
    assignments_refused: Reading | None = None
    """Visitors who could not be given a number in time, since the start."""
    places_problem: Reading | None = None
    lending_problem: Reading | None = None
    tickets_waiting: Results | None = None
    """Tickets that are not closed, by state."""
    alarms: Results | None = None
    """Alarms that are up, by kind (R66)."""
    ticket_timers: Results | None = None
    """What time alone did to tickets, since the start: reminded, escalated, closed."""
    attributions_revised: Reading | None = None
    """Records whose attribution changed when looked at again, since the start."""


class _ReadingsCollector(Collector):
    """Turns readings into samples at the time of the scrape."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.readings = Readings()

    def collect(self) -> Iterator[Metric]:
        for name, help_text, kind, reading in self._table():
            value = reading() if reading is not None else None
            if value is not None:
                family = kind(f"dialmark_{name}", help_text, labels=["node"])
                family.add_metric([self.node], float(value))
                yield family
        for name, help_text, label, numbers in self._standing():
            if numbers is not None:
                gauge = GaugeMetricFamily(f"dialmark_{name}", help_text, labels=["node", label])
                for what, number in numbers().items():
                    gauge.add_metric([self.node, what], number)
                yield gauge
        for name, help_text, results in self._results():
            counted = CounterMetricFamily(f"dialmark_{name}", help_text, labels=["node", "result"])
            for result, number in results().items() if results is not None else ():
                counted.add_metric([self.node, result], number)
            if results is not None:
                yield counted
        yield from self._queues()

    def _queues(self) -> Iterator[Metric]:
        found = self.readings.queues() if self.readings.queues is not None else {}
        for name, help_text, figure in _OF_QUEUE:
            family = GaugeMetricFamily(f"dialmark_{name}", help_text, labels=["node", "target"])
            for target, one in sorted(found.items())[:MAX_TARGETS]:
                family.add_metric([self.node, target], figure(one))
            if found:
                yield family

    def _standing(self) -> tuple[tuple[str, str, str, Results | None], ...]:
        readings = self.readings
        return (
            ("tickets", "Tickets not closed, by state", "state", readings.tickets_waiting),
            ("alarms", "Alarms that are up, by kind", "kind", readings.alarms),
        )

    def _results(self) -> tuple[tuple[str, str, Results | None], ...]:
        readings = self.readings
        return (
            ("recordings_total", "Recordings taken from the spool, by what became of them", readings.recordings),
            ("recording_analyses_total", "Runs of the external command, by how they ended", readings.analyses),
            ("numbers_shown_total", "Numbers that pages were told, by reason", readings.numbers_shown),
            ("ticket_timers_total", "What time alone did to tickets", readings.ticket_timers),
        )

    def _table(self) -> tuple[tuple[str, str, Any, Reading | None], ...]:
        readings = self.readings
        return (
            ("active_calls", "Calls that are up", GaugeMetricFamily, readings.active_calls),
            ("ami_connected", "1 when the manager connection answers", GaugeMetricFamily, readings.ami_connected),
            (
                "journal_lag_seconds",
                "Age of the oldest row not yet stored",
                GaugeMetricFamily,
                readings.journal_lag_seconds,
            ),
            ("journal_rows_total", "Journal rows read", CounterMetricFamily, readings.journal_rows),
            (
                "journal_damaged_total",
                "Journal rows that could not be read",
                CounterMetricFamily,
                readings.journal_damaged,
            ),
            ("outbox_depth", "Events not yet handed on", GaugeMetricFamily, readings.outbox_depth),
            ("live_readers", "Open live streams", GaugeMetricFamily, readings.live_readers),
            ("live_cut_off_total", "Live readers cut off as too slow", CounterMetricFamily, readings.live_cut_off),
            ("recorded_seconds_total", "Sound taken from the spool", CounterMetricFamily, readings.recorded_seconds),
            ("recordings_waiting", "Recordings in the spool", GaugeMetricFamily, readings.recordings_waiting),
            ("recording_accepted", "1 when new calls may be recorded", GaugeMetricFamily, readings.recording_accepted),
            (
                "recording_problem",
                "1 when recordings cannot be stored",
                GaugeMetricFamily,
                readings.recording_problem,
            ),
            (
                "recording_analyses_waiting",
                "Recordings not yet analysed",
                GaugeMetricFamily,
                readings.analyses_waiting,
            ),
            ("pools_exhausted_total", "Visitors without a free number", CounterMetricFamily, readings.pools_exhausted),
            ("leases_lost_total", "Leases gone while their page lived", CounterMetricFamily, readings.leases_lost),
            (
                "assignments_refused_total",
                "Visitors not given a number in time",
                CounterMetricFamily,
                readings.assignments_refused,
            ),
            (
                "places_problem",
                "1 when the newest file of places is not used",
                GaugeMetricFamily,
                readings.places_problem,
            ),
            ("lending_problem", "1 when numbers cannot be lent", GaugeMetricFamily, readings.lending_problem),
            (
                "attributions_revised_total",
                "Records whose attribution changed later",
                CounterMetricFamily,
                readings.attributions_revised,
            ),
        )


class Meters:
    """All metrics of one node. `version` and `node` label `dialmark_build_info` and every sample of the node."""

    def __init__(self, node: str, version: str) -> None:
        self.registry = CollectorRegistry()
        self.node = node
        self._readings = _ReadingsCollector(node)
        self.registry.register(self._readings)
        self._calls = Counter(
            "dialmark_calls", "Calls that ended", ("node", "direction", "outcome"), registry=self.registry
        )
        self._wait = self._histogram("dialmark_call_wait_seconds", "Start of a call to its answer or end", WAIT_BUCKETS)
        self._talk = self._histogram("dialmark_call_talk_seconds", "Talk of an answered call", TALK_BUCKETS)
        self._agi = Counter(
            "dialmark_agi_requests", "Routing questions by how they ended", ("node", "result"), registry=self.registry
        )
        self._agi_time = self._histogram("dialmark_agi_duration_seconds", "Question read to answer sent", AGI_BUCKETS)
        self._requests = Counter(
            "dialmark_web_requests",
            "Requests of sites' pages, by what they asked and how they were answered",
            ("node", "kind", "result"),
            registry=self.registry,
        )
        self._misses = Counter(
            "dialmark_missed_calls",
            "Missed calls, by what became of them: opened or merged into a ticket, or why they gave none",
            ("node", "result"),
            registry=self.registry,
        )
        self._visit_time = self._histogram("dialmark_visit_duration_seconds", "A page's numbers", VISIT_BUCKETS)
        self._deliveries = Counter(
            "dialmark_deliveries",
            "Attempts to hand an event to a receiver, by how they ended",
            ("node", "target", "result"),
            registry=self.registry,
        )
        self._delivery_time = Histogram(
            "dialmark_delivery_seconds",
            "From an event to its receiver having it",
            ("node", "target"),
            buckets=DELIVERY_BUCKETS,
            registry=self.registry,
        )
        self._targets: set[str] = set()
        self._loop_lag = Gauge(
            "dialmark_loop_lag_seconds",
            "Longest stall of the event loop since the last scrape",
            ("node",),
            registry=self.registry,
        ).labels(node)
        self._longest_lag = 0.0
        self._loop_lag.set_function(self._take_lag)
        Gauge("dialmark_build_info", "Always 1", ("version", "python"), registry=self.registry).labels(
            version, platform.python_version()
        ).set(1)

    def watch(self, readings: Readings) -> None:
        """Name what is read at scrape time."""
        self._readings.readings = readings

    def call_ended(self, document: Mapping[str, Any]) -> None:
        """Count a call from its record document; hand it to `LiveBoard.on_ended`."""
        direction = _known(calls.Direction, document.get("direction"))
        outcome = _known(calls.Outcome, document.get("outcome"))
        self._calls.labels(self.node, direction, outcome).inc()
        if direction == calls.Direction.INBOUND:
            self._wait.labels(self.node).observe(float(document.get("wait_seconds") or 0.0))
            if outcome == calls.Outcome.ANSWERED:
                self._talk.labels(self.node).observe(float(document.get("talk_seconds") or 0.0))

    def agi_answered(self, result: str, seconds: float) -> None:
        """Count a routing question: `result` is a word of a fixed set (answered, refused, failed, late)."""
        self._agi.labels(self.node, result).inc()
        self._agi_time.labels(self.node).observe(seconds)

    def visited(self, kind: str, status: int, seconds: float) -> None:
        """Count a request to the public listener. `kind` is a word of a fixed set; `status` that of the answer."""
        limit = {429: "limited", 499: "gone"}
        result = limit.get(status) or ("answered" if status < 400 else "refused" if status < 500 else "failed")
        self._requests.labels(self.node, kind, result).inc()
        if kind == "visit" and result == "answered":
            self._visit_time.labels(self.node).observe(seconds)

    def missed(self, result: str) -> None:
        """Count a missed call. `result` is a word of a fixed set."""
        self._misses.labels(self.node, result).inc()

    def delivered(self, target: str, result: str, seconds: float | None) -> None:
        """Count an attempt. `target` is one of the routing or of the settings, `result` a word of a fixed set;
        `seconds` the age of the event when the receiver had it, None when it has not."""
        if target not in self._targets:
            if len(self._targets) >= MAX_TARGETS:
                target = OTHER
            else:
                self._targets.add(target)
        self._deliveries.labels(self.node, target, result).inc()
        if seconds is not None:
            self._delivery_time.labels(self.node, target).observe(seconds)

    async def refresh(self) -> None:
        """Have the readings read what only the database knows; ask before `exposition`. Never raises for a database
        that does not answer."""
        if self._readings.readings.refresh is not None:
            await self._readings.readings.refresh()

    def loop_lagged(self, seconds: float) -> None:
        """Note that the event loop ran so much late."""
        self._longest_lag = max(self._longest_lag, seconds)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes, in format 0.0.4."""
        return generate_latest(self.registry)

    def _take_lag(self) -> float:
        lag, self._longest_lag = self._longest_lag, 0.0
        return lag

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, help_text, ("node",), buckets=buckets, registry=self.registry)


async def watch_loop(meters: Meters) -> None:
    """Measure for ever how late the event loop wakes this task."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_PROBE_SECONDS
        await asyncio.sleep(LAG_PROBE_SECONDS)
        meters.loop_lagged(max(0.0, loop.time() - due))


def _known(kind: type[calls.Direction] | type[calls.Outcome], value: object) -> str:
    try:
        return str(kind(str(value)))
    except ValueError:
        return "unknown"
