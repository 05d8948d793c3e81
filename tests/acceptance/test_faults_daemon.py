"""The daemon is killed, stopped, reconfigured and hung: callers are connected, records whole (N1, N2)."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ctypes
import os
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance import faults, stages
from tests.acceptance.faults import SALES, SECOND
from tests.acceptance.stages import Stage
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Daemon, Rig
from tests.rig.dialmark import Record
from tests.rig.preloaded import Process

PTRACE_SEIZE, PTRACE_INTERRUPT, WAIT_ALL = 0x4206, 0x4207, 0x40000000
EPOLL_CALLS = {"232", "281", "441"}
"""System calls in which the loop waits, on x86-64."""


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    with stages.site(make_node, faults.ROUTING, files=faults.SITE_DIALPLAN) as site:
        yield site


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    """Each test leaves the daemon up, the books even, and each event told once."""
    yield Stage(site, rig_of(site.node))
    if not site.daemon.is_running:
        site.daemon.kill()
        site.daemon.start()
    await site.daemon.until_ready()
    await asyncio.to_thread(site.conserved)
    # What a killed daemon had claimed of the outbox is free again after 30 s; another test looks at that.
    ids = [event["id"] for event in site.daemon.events()]
    assert len(set(ids)) == len(ids)


@pytest.mark.real_time
async def test_killed_in_the_middle_of_a_call(stage: Stage) -> None:
    """SIGKILL while one talks and one rings; both go on, and end while the daemon is away."""
    stage.phone("desk-1", ring_ms=50)
    stage.phone("desk-2", ring_ms=1200)
    talking = await stage.rig.start_call(SALES, hold_ms=1500)
    await talking.until(200)
    ringing = await stage.rig.start_call(SECOND)
    await ringing.until(180)
    await asyncio.to_thread(stage.daemon.kill)
    results = [await talking.result(), await ringing.result()]
    assert [result.status for result in results] == [200, 200]
    stage.daemon.start()
    records = [await faults.record_of(stage, result) for result in results]
    assert [(one["outcome"], one["route_source"], one["agent"], one["revision"]) for one in records] == [
        ("answered", "agi", "anna", 1),
        ("answered", "agi", "boris", 1),
    ]
    assert results[0].talk_ms is not None
    assert stages.near(records[0]["talk_seconds"], results[0].talk_ms / 1000)


async def test_restarted_with_twenty_calls_up(stage: Stage) -> None:
    """An upgrade: calls of before, of meanwhile and of after are records, each once."""
    stage.phone("desk-1", ring_ms=20, traced=False)
    before = len(stage.daemon.stored())
    up = [await stage.dial(SALES) for _ in range(20)]
    for caller in up:
        await caller.until(200)
    restart = asyncio.create_task(stage.daemon.restart())
    meanwhile = [await stage.rig.call(SALES, caller=stage.site.caller(), hold_ms=50) for _ in range(3)]
    await restart
    after = await stage.rig.call(SALES, caller=stage.site.caller(), hold_ms=50)
    assert {result.status for result in (*meanwhile, after)} == {200}
    await stage.daemon.until_records(before + 4, 20)
    assert len(stage.daemon.stored(state="open")) == 20
    for caller in up:
        caller.hang_up()
    found = (await stage.daemon.until_records(before + 24, 20))[before:]
    assert len(found) == 24
    assert {(one["outcome"], one["ended_by"], one["revision"]) for one in found} == {("answered", "caller", 1)}
    assert {caller.call_id for caller in up} < {one["sip_call_id"] for one in found}
    await each_is_told(stage.daemon, found)


async def each_is_told(daemon: Daemon, of: list[Record]) -> None:
    """Every call's three events are in the file, each once, whatever was killed when they were claimed (lease 30 s)."""
    wanted = {one["call_id"] for one in of}

    def told() -> collections.Counter[tuple[str, str]]:
        events = daemon.events()
        return collections.Counter(
            (event["data"]["call_id"], event["type"]) for event in events if event["data"]["call_id"] in wanted
        )

    await faults.until(lambda: len(told()) >= 3 * len(wanted), 45, "all events told")
    assert set(told().values()) == {1}
    assert {kind for _, kind in told()} == {"call.started", "call.answered", "call.completed"}


async def test_killed_ten_times_under_load(stage: Stage) -> None:
    """At random moments; nobody waits for it to come back, calls go on coming."""
    dice = random.Random(20261121)
    stage.phone("desk-1", ring_ms=0, traced=False)
    before = len(stage.daemon.stored())
    load = asyncio.create_task(stage.rig.load(SALES, rate=10, calls=180, hold_ms=200))
    for _ in range(10):
        # At any moment of starting up, catching up or working.
        await asyncio.sleep(dice.uniform(0.2, 2.0))
        await asyncio.to_thread(stage.daemon.kill)
        stage.daemon.start()
    result = await load
    assert (result.calls, result.answered, result.failed) == (180, 180, 0)
    found = (await stage.daemon.until_records(before + 180, 30))[before:]
    assert len(found) == 180
    assert {(one["outcome"], one["revision"]) for one in found} == {("answered", 1)}
    assert {one["route_source"] for one in found} <= {"agi", "plan"}
    await each_is_told(stage.daemon, found)


async def test_sigterm_drains(stage: Stage) -> None:
    """Calls go on, the exit code is 0, and what has happened so far is stored and told."""
    stage.phone("desk-1", ring_ms=20)
    ended = await stage.call(SALES)
    up = await stage.rig.start_call(SALES, hold_ms=3000)
    await up.until(200)
    await stage.until_journal("BRIDGE_ENTER")
    process = stage.daemon._process
    assert process is not None
    process.terminate()
    assert await asyncio.to_thread(process.wait, 20) == 0
    assert "stopped" in stage.daemon.log(1)
    told = [event["type"] for event in stage.daemon.events() if event["data"]["call_id"] == ended.record["call_id"]]
    assert told == ["call.started", "call.answered", "call.completed"]
    assert (await up.result()).status == 200


async def test_sighup_with_broken_settings_keeps_the_old(stage: Stage) -> None:
    """The log says what is wrong; calls and records go on; mended, it is taken."""
    stage.phone("desk-1")
    good = stage.daemon.config.read_text()
    stage.daemon.config.write_text(good + '\n[loging]\nlevel = "debug"\n')
    stage.daemon.signal(signal.SIGHUP)
    await faults.until(lambda: "not reloaded" in stage.daemon.log(200), 30, "the refusal in the log")
    assert "loging" in stage.daemon.log(200)
    assert (await stage.call(SALES)).record["route_source"] == "agi"
    stage.daemon.config.write_text(good + '\n[logging]\nlevel = "debug"\n')
    stage.daemon.signal(signal.SIGHUP)
    await faults.until(lambda: "settings reloaded" in stage.daemon.log(200), 30, "the settings reloaded")
    stage.daemon.config.write_text(good)
    stage.daemon.signal(signal.SIGHUP)
    assert (await stage.call(SALES)).record["route_source"] == "agi"


@pytest.mark.real_time
async def test_a_loop_that_hangs_is_killed(stage: Stage) -> None:
    """The main thread alone is stopped, as by a call that never returns; callers get the default plan meanwhile."""
    stage.phone("desk-1")
    process = stage.daemon._process
    assert process is not None
    with hung(process):
        call = await stage.rig.call(SALES)
        assert call.status == 200
        rang = call.first(180)
        assert rang is not None and rang < 2000
        # Its tracer is told first of its end, then its parent.
        await faults.until(lambda: os.waitpid(process.pid, WAIT_ALL | os.WNOHANG)[0], 15, "the daemon killed")
        assert await asyncio.to_thread(process.wait, 15) == -signal.SIGKILL
    assert "the event loop has hung for 5 s" in stage.daemon.log()
    stage.daemon.kill()
    stage.daemon.start()
    assert (await faults.record_of(stage, call))["route_source"] == "plan"


@contextlib.contextmanager
def hung(process: subprocess.Popen[bytes] | Process) -> Iterator[None]:
    """Hangs its loop. At the end it is gone: of whom a tracer does not take note, no parent ever hears."""
    hang(process.pid)
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, WAIT_ALL)


def hang(pid: int) -> None:
    """Stop a process's main thread for good, at a moment when it does not hold the interpreter's lock.

    Only with the lock free can the watchdog's thread run: what holds it for ever is systemd's to notice.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def trace(request: int) -> None:
        if libc.ptrace(request, pid, None, None) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    trace(PTRACE_SEIZE)
    for _ in range(200):
        trace(PTRACE_INTERRUPT)
        os.waitpid(pid, WAIT_ALL)
        if Path(f"/proc/{pid}/syscall").read_text().split()[0] in EPOLL_CALLS:
            return
        with contextlib.suppress(OSError):
            trace(7)
    raise RuntimeError("the loop never waits")
