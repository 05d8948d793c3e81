"""Root tasks, phases, back-off, signals, systemd and the loop watchdog."""

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import log, supervision


@pytest.fixture
def records() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What has been logged so far."""
    stream = io.StringIO()
    log.configure(format="json", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    log.configure()


async def forever() -> None:
    await asyncio.Event().wait()


async def test_stopping_runs_the_phases_while_the_roots_live_and_then_ends_the_last_root_first() -> None:
    happened: list[str] = []
    stop = asyncio.Event()

    def root(name: str) -> supervision.Root:
        async def run() -> None:
            happened.append(f"{name} begins")
            if name == "second":
                stop.set()
            try:
                await forever()
            finally:
                happened.append(f"{name} ends")

        return run

    async def drain() -> None:
        happened.append("drained")

    phases = [supervision.Phase("drain", 60, drain)]
    await supervision.supervise({"first": root("first"), "second": root("second")}, until=stop, phases=phases)
    assert happened == ["first begins", "second begins", "drained", "second ends", "first ends"]


async def fails() -> None:
    raise LookupError("no journal")


async def returns() -> None:
    pass


@pytest.mark.parametrize(
    ("root", "message"),
    [(fails, "root task tracker failed: LookupError: no journal"), (returns, "root task tracker returned")],
)
async def test_a_root_that_ends_well_or_badly_ends_all_with_its_name(root: supervision.Root, message: str) -> None:
    ended = asyncio.Event()

    async def other() -> None:
        try:
            await forever()
        finally:
            ended.set()

    with pytest.raises(supervision.RootTaskEnded) as caught:
        await supervision.supervise({"other": other, "tracker": root}, until=asyncio.Event())
    assert (caught.value.name, str(caught.value)) == ("tracker", message)
    assert isinstance(caught.value.__cause__, LookupError) or root is returns
    assert ended.is_set()


async def test_a_root_that_fails_while_it_is_stopped_is_reported() -> None:
    async def clumsy() -> None:
        try:
            await forever()
        finally:
            raise OSError("disk full")

    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)
    with pytest.raises(supervision.RootTaskEnded, match="disk full"):
        await supervision.supervise({"tracker": clumsy, "other": forever}, until=stop)


async def test_cancelling_the_daemon_from_outside_ends_the_roots() -> None:
    running = asyncio.Event()

    async def root() -> None:
        running.set()
        await forever()

    task = asyncio.create_task(supervision.supervise({"root": root}, until=asyncio.Event()))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_stopping_says_what_it_waits_for_and_gives_up(records: Callable[[], list[dict[str, Any]]]) -> None:
    stop = asyncio.Event()
    stop.set()
    phases = [
        supervision.Phase("answer calls", 0.05, forever, lambda: "3 sessions"),
        supervision.Phase("deliver", 60, fails),
        supervision.Phase("commit", 60, returns),
    ]
    await supervision.supervise({"root": forever}, until=stop, phases=phases, report_seconds=0.02)
    told = [(record["event"], record["phase"]) for record in records()]
    assert told[0] == ("stopping", "answer calls")
    assert ("stopping: still waiting", "answer calls") in told
    assert told[-4:] == [
        ("stopping: gave up waiting", "answer calls"),
        ("stopping", "deliver"),
        ("stopping: phase failed", "deliver"),
        ("stopping", "commit"),
    ]
    assert records()[0]["waits_for"] == "3 sessions"


async def test_a_root_that_ends_slowly_is_named_and_waited_for(records: Callable[[], list[dict[str, Any]]]) -> None:
    stop = asyncio.Event()
    may_end = asyncio.Event()

    async def stubborn() -> None:
        stop.set()
        try:
            await forever()
        except asyncio.CancelledError:
            await may_end.wait()
            raise

    async def quick() -> None:
        try:
            await forever()
        finally:
            may_end.set()

    await supervision.supervise({"quick": quick, "stubborn": stubborn}, until=stop, root_seconds=0.01)
    assert [(record["event"], record["task"]) for record in records()] == [("root task does not end", "stubborn")]


def test_backoff_doubles_up_to_its_bound_and_begins_again_after_a_success() -> None:
    waits = supervision.Backoff(lambda: 0.0, first_seconds=1, most_seconds=10)
    assert [waits.next() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    waits.reset()
    assert waits.next() == 1


def test_jitter_takes_off_a_random_part() -> None:
    parts = iter([0.0, 1.0, 0.5])
    waits = supervision.Backoff(lambda: next(parts), first_seconds=8, most_seconds=8, jitter=0.5)
    assert [waits.next() for _ in range(3)] == [8, 4, 6]


def test_backoff_outlives_a_long_outage() -> None:
    waits = supervision.Backoff(lambda: 0.0, most_seconds=60, attempts=100_000)
    assert waits.next() == 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_stops_and_the_second_exits(number: signal.Signals) -> None:
    exits: asyncio.Queue[int] = asyncio.Queue()
    with supervision.signals(exits.put_nowait) as asked:
        os.kill(os.getpid(), number)
        await asked.stop.wait()
        assert exits.empty()
        os.kill(os.getpid(), number)
        assert await exits.get() == 128 + number


async def test_sighup_asks_for_a_reload() -> None:
    with supervision.signals() as asked:
        os.kill(os.getpid(), signal.SIGHUP)
        await asked.reload.wait()
        assert not asked.stop.is_set()


async def test_outside_the_block_the_signals_do_what_they_did() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with supervision.signals():
        pass
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(10)
        yield channel


def test_systemd_is_told(systemd: socket.socket) -> None:
    notifier = supervision.Notifier.from_environment({"NOTIFY_SOCKET": systemd.getsockname()}, 1)
    notifier.ready("catching up:\n10 %")
    assert systemd.recv(999) == b"READY=1\nSTATUS=catching up: 10 %"
    notifier.reloading()
    assert systemd.recv(999).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    notifier.status("12 calls")
    assert systemd.recv(999) == b"STATUS=12 calls"
    notifier.watchdog()
    assert systemd.recv(999) == b"WATCHDOG=1"
    notifier.stopping("draining")
    assert systemd.recv(999) == b"STOPPING=1\nSTATUS=draining"


def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        name = f"dialmark-test-{os.getpid()}"
        channel.bind("\0" + name)
        channel.settimeout(10)
        supervision.Notifier(f"@{name}").status("x")
        assert channel.recv(99) == b"STATUS=x"


@pytest.mark.parametrize("address", [None, "", "/nonexistent/notify"])
def test_without_systemd_nothing_happens(address: str | None) -> None:
    supervision.Notifier(address).ready("x")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdogs_period(environ: dict[str, str], seconds: float | None) -> None:
    assert supervision.Notifier.from_environment(environ, 7).watchdog_seconds == seconds


async def test_systemds_watchdog_hears_from_us_only_while_we_are_well(systemd: socket.socket) -> None:
    answers = iter([True, False, True])
    asked_often = asyncio.Event()

    async def is_well() -> bool:
        answer = next(answers, None)
        if answer is None:
            asked_often.set()
            await forever()
        return bool(answer)

    notifier = supervision.Notifier(systemd.getsockname(), watchdog_seconds=0.001)
    task = asyncio.create_task(supervision.beat(notifier, is_well))
    await asked_often.wait()
    task.cancel()
    assert [systemd.recv(99), systemd.recv(99)] == [b"WATCHDOG=1"] * 2
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(99)


def ticks(stillness: supervision.Stillness, pulses: list[tuple[int, float]]) -> list[bool]:
    return [stillness.tick(pulse, now) for pulse, now in pulses]


def test_a_pulse_that_stands_still_for_ten_ticks_is_a_hung_loop() -> None:
    stillness = supervision.Stillness(10, 0.5)
    assert ticks(stillness, [(7, number / 2) for number in range(11)]) == [False] * 10 + [True]


def test_a_pulse_that_moves_is_a_living_loop() -> None:
    stillness = supervision.Stillness(10, 0.5)
    assert not any(ticks(stillness, [(number // 9, number / 2) for number in range(100)]))


def test_a_stopped_process_or_a_suspended_machine_is_no_hung_loop() -> None:
    """SIGSTOP halts the watchdog as well: after SIGCONT the loop gets its full time, whatever the clock says."""
    stillness = supervision.Stillness(10, 0.5)
    before = [(7, number / 2) for number in range(10)]
    after = [(7, 3_600 + number / 2) for number in range(10)]
    assert not any(ticks(stillness, before + after))
    assert stillness.tick(8, 3_605) is False


HANGING = """
import asyncio, time
from gateway import supervision
async def main():
    with supervision.LoopWatchdog(0.2):
        await asyncio.sleep(0)
        def stuck_in_a_query():
            time.sleep(600)
        stuck_in_a_query()
asyncio.run(main())
"""


def test_a_hung_daemon_is_killed_and_says_where_it_hung() -> None:
    """N2: Asterisk's kernel goes on accepting for a hung daemon, so it must go."""
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    (line,) = done.stderr.splitlines()
    assert line.startswith("dialmark: the event loop has hung for 0.2 s in main.<locals>.stuck_in_a_query (<string>:")


async def test_a_living_loop_is_left_alone_and_the_thread_ends_with_the_block() -> None:
    kills: list[int] = []
    begun = asyncio.Event()

    async def work() -> bool:
        begun.set()
        return True

    with supervision.LoopWatchdog(60, kill=lambda: kills.append(1)):
        assert await asyncio.wait_for(work(), 60)
    assert begun.is_set()
    assert kills == []
