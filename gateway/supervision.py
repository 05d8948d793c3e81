"""How the daemon lives: root tasks, signals, systemd, a watchdog, stopping in phases. Knows nothing of calls.

supervise(roots, until=signals.stop, phases=...)
    all roots run ──▶ one ends, well or badly ──▶ the others are cancelled, RootTaskEnded names it ──▶ systemd restarts
                  └─▶ `until` is set ──▶ phases, one after the other ──▶ roots cancelled, the last one first ──▶ return
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Self

from gateway import log

Root = Callable[[], Coroutine[Any, Any, object]]
"""Starts a root task, which never returns by itself."""

_log = log.get("supervision")


class RootTaskEnded(Exception):
    """A root task returned or raised; `name` is the task's, the cause is its error, if it had one."""

    def __init__(self, name: str, error: BaseException | None) -> None:
        self.name = name
        how = "returned" if error is None else f"failed: {type(error).__name__}: {error}"
        super().__init__(f"root task {name} {how}")


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of stopping. Its errors and its lateness are logged, and the next one begins."""

    name: str
    """What is done, for the log: "answer the calls that are asking"."""
    seconds: float
    """How long it may take."""
    work: Callable[[], Awaitable[object]]
    waits_for: Callable[[], str] = lambda: ""
    """What is still open, for the log: "3 sessions"."""


def spare_collector() -> None:
    """Take what is loaded by now out of Python's search for cycles, and search less often.

    The tables of regions alone would make each full search a pause of 0.1 s for every caller; the search takes a sixth
    of the tracker's time otherwise. What we make in numbers (rows, records) has no cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def supervise(
    roots: Mapping[str, Root],
    *,
    until: asyncio.Event,
    phases: Sequence[Phase] = (),
    root_seconds: float = 5.0,
    report_seconds: float = 1.0,
) -> None:
    """Run the roots until `until` is set, then stop; see the module's picture.

    The roots go on during the phases. Each has `root_seconds` to end once it is cancelled, before the next one is; one
    that takes longer is named in the log and still waited for. Raises `RootTaskEnded` for the first root that ended
    before its time.
    """
    tasks: dict[str, asyncio.Task[None]] = {}
    try:
        async with asyncio.TaskGroup() as group:
            for name, root in roots.items():
                tasks[name] = group.create_task(_guard(name, root), name=name)
            await until.wait()
            for phase in phases:
                await _run_phase(phase, report_seconds)
            for name in reversed(tasks):
                await _end(name, tasks[name], root_seconds)
    except* RootTaskEnded as ended:
        first = _first(ended)
        raise first from first.__cause__


async def _guard(name: str, root: Root) -> None:
    error: Exception | None = None
    try:
        await root()
    except Exception as raised:
        error = raised
        _log.error("root task failed", task=name, exc_info=raised)
    else:
        _log.error("root task returned", task=name)
    raise RootTaskEnded(name, error) from error


def _first(group: BaseExceptionGroup[RootTaskEnded]) -> RootTaskEnded:
    found = group.exceptions[0]
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


async def _run_phase(phase: Phase, report_seconds: float) -> None:
    _log.info("stopping", phase=phase.name, waits_for=phase.waits_for() or None, at_most_seconds=phase.seconds)
    work = asyncio.ensure_future(phase.work())
    due = asyncio.get_running_loop().time() + phase.seconds
    try:
        while not work.done():
            left = due - asyncio.get_running_loop().time()
            if left <= 0:
                _log.warning("stopping: gave up waiting", phase=phase.name, waits_for=phase.waits_for() or None)
                return
            await asyncio.wait([work], timeout=min(left, report_seconds))
            if not work.done():
                _log.info("stopping: still waiting", phase=phase.name, waits_for=phase.waits_for() or None)
        if error := work.exception():
            _log.error("stopping: phase failed", phase=phase.name, exc_info=error)
    finally:
        work.cancel()


async def _end(name: str, task: asyncio.Task[None], seconds: float) -> None:
    task.cancel()
    _, pending = await asyncio.wait([task], timeout=seconds)
    if pending:
        # It may have swallowed its cancellation. The group waits for it whatever we do; a second signal of the operator
        # or systemd's TimeoutStopSec is the last word.
        _log.error("root task does not end", task=name, after_seconds=seconds)
        task.cancel()


@dataclass(slots=True)
class Backoff:
    """Waiting times between attempts: doubled each time up to a bound, each shortened by a random part, so that many
    who failed together do not come back together. `random` gives values from 0 to 1."""

    random: Callable[[], float]
    first_seconds: float = 1.0
    most_seconds: float = 60.0
    factor: float = 2.0
    jitter: float = 0.5
    """The largest part that is taken off, 0 to 1."""
    attempts: int = 0
    """Attempts since the last success."""

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        # Bounded before the power is taken: after a long outage it would overflow.
        whole = min(self.most_seconds, self.first_seconds * self.factor ** min(self.attempts, 64))
        self.attempts += 1
        return whole * (1.0 - self.jitter * self.random())

    def reset(self) -> None:
        """After a success."""
        self.attempts = 0


@dataclass(frozen=True, slots=True)
class Signals:
    """What the operator has asked for. `reload` is cleared by who acts on it."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    reload: asyncio.Event = field(default_factory=asyncio.Event)


@contextmanager
def signals(exit_now: Callable[[int], object] = os._exit) -> Iterator[Signals]:
    """SIGTERM and SIGINT set `stop`, a second one exits at once with 128 + its number; SIGHUP sets `reload`.

    To be entered in the main thread while the loop runs.
    """
    loop = asyncio.get_running_loop()
    asked = Signals()

    def stop(number: signal.Signals) -> None:
        if asked.stop.is_set():
            _log.warning("second signal: exit at once", signal=number.name)
            exit_now(128 + number)
            return
        _log.info("stopping: a second signal exits at once", signal=number.name)
        asked.stop.set()

    loop.add_signal_handler(signal.SIGTERM, stop, signal.SIGTERM)
    loop.add_signal_handler(signal.SIGINT, stop, signal.SIGINT)
    loop.add_signal_handler(signal.SIGHUP, asked.reload.set)
    try:
        yield asked
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


class Notifier:
    """Messages to systemd (sd_notify(3)); without a service manager each does nothing."""

    def __init__(self, address: str | None, watchdog_seconds: float | None = None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds
        """Within which systemd wants to hear from us; None: not at all."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], process_id: int) -> Self:
        """NOTIFY_SOCKET and WATCHDOG_USEC, unless WATCHDOG_PID names another process."""
        seconds = None
        if environ.get("WATCHDOG_PID", str(process_id)) == str(process_id):
            with suppress(KeyError, ValueError):
                seconds = int(environ["WATCHDOG_USEC"]) / 1_000_000
        return cls(environ.get("NOTIFY_SOCKET"), seconds)

    def ready(self, status: str) -> None:
        """All listeners are bound, or a reload is over."""
        self._send(READY="1", STATUS=status)

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1_000))

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._send(STOPPING="1", STATUS=status)

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(STATUS=status)

    def watchdog(self) -> None:
        """We are well."""
        self._send(WATCHDOG="1")

    def _send(self, **fields: str) -> None:
        if not self._address:
            return
        message = "\n".join(f"{name}={' '.join(value.split())}" for name, value in fields.items())
        # systemd being slow or gone is no reason to stop calls.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.sendto(message.encode(), self._address)


async def beat(notifier: Notifier, is_well: Callable[[], Awaitable[bool]]) -> None:
    """Root task: tell systemd's watchdog twice per period that we are well, as long as `is_well` says so."""
    period = notifier.watchdog_seconds
    while True:
        if period is None:
            await asyncio.Event().wait()
        elif await is_well():
            notifier.watchdog()
        await asyncio.sleep((period or 0) / 2)


@dataclass(slots=True)
class Stillness:
    """Decides whether the loop hangs: its pulse stood still for `limit` ticks of the observer's own.

    Time does not count, ticks do: while the process is stopped (SIGSTOP), the machine suspended or starved, the
    observer does not tick either. The first tick after such a pause proves nothing, so it starts anew.
    """

    limit: int
    tick_seconds: float
    _pulse: int = -1
    _still: int = 0
    _at: float | None = None

    def tick(self, pulse: int, now: float) -> bool:
        """`pulse` grows while the loop lives; `now` is the observer's monotonic clock. True: it hangs."""
        was_paused = self._at is not None and now - self._at > 4 * self.tick_seconds
        self._at = now
        if pulse != self._pulse or was_paused:
            self._pulse = pulse
            self._still = 0
            return False
        self._still += 1
        return self._still >= self.limit


class LoopWatchdog:
    """A thread that kills a daemon whose loop has hung for `seconds`, so that callers fail open and systemd restarts.

    SIGKILL, because a hung daemon cannot be asked, and the store and the journal survive it. What holds the
    interpreter's lock for ever stops this thread too: then systemd's WatchdogSec is the second net.

    Use as a context manager while the loop runs.
    """

    def __init__(self, seconds: float = 5.0, *, ticks: int = 10, kill: Callable[[], object] | None = None) -> None:
        self._seconds = seconds
        self._stillness = Stillness(ticks, seconds / ticks)
        self._kill = kill or (lambda: os.kill(os.getpid(), signal.SIGKILL))
        self._pulse = 0
        self._over = threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._watch, name="loop watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()
        self._thread.join()

    def _beat(self) -> None:
        self._pulse += 1
        self._timer = self._loop.call_later(self._stillness.tick_seconds / 2, self._beat)

    def _watch(self) -> None:
        while not self._over.wait(self._stillness.tick_seconds):
            if self._stillness.tick(self._pulse, time.monotonic()):
                where = _place(sys._current_frames().get(self._loop_thread))
                line = f"dialmark: the event loop has hung for {self._seconds:g} s in {where}: killing the daemon\n"
                # Not by the log: its stream may be what the loop hangs in.
                os.write(sys.stderr.fileno(), line.encode("utf-8", "replace"))
                self._kill()
                return


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return "an unknown place"
    code = frame.f_code
    return f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})"
