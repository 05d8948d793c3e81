"""Asterisk or the daemon is killed in mid-recording, the spool is full: calls go on, each talk is there once (R42)."""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import os
import random
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import faults, sound, stages
from tests.acceptance.stages import Site, Stage, slack
from tests.conftest import NodeFactory
from tests.rig import AGENT_HZ, CALLER_HZ, AsteriskNode, Caller, Daemon, Rig, Voice, ports, tones
from tests.rig.dialmark import Record
from tests.rig.ports import Address

NUMBERS = ("74990000001", "74990000002", "74990000003", "74990000004")
DESKS = ("first", "second", "third", "reception")
BLOCK_SECONDS = 2.05
"""What Asterisk may not have written yet of a side when it is killed: 32 KiB."""
SPOOL_BYTES = 4_000_000

ROUTING = "".join(
    f"""
[[route]]
key = "route-{desk}"
forward = ["{desk}"]
ring_seconds = 10
recording = "none"

[[tracking_number]]
number = "+{number}"
route = "route-{desk}"
"""
    for number, desk in zip(NUMBERS, DESKS, strict=True)
)


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[Site]:
    made = Site(make_node, stages.SITE + ROUTING, records=True, realtime=True)
    made.node.limit_recordings(SPOOL_BYTES)
    with stages.up(made):
        yield made


@pytest.fixture
async def stage(site: Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    """Each test leaves nothing in plain, and a vault that holds what is registered, whole, and nothing else."""
    yield Stage(site, rig_of(site.node))
    daemon = site.daemon
    if not site.node.is_running:
        site.node.kill()
        site.node.start()
    if not daemon.is_running:
        daemon.kill()
        daemon.start()
    await daemon.until_ready()
    await asyncio.to_thread(daemon.run, "recordings", "verify")
    registered = {f"{one}.dmv" for (one,) in daemon.query("SELECT recording_id FROM recordings")}
    assert {path.name for path in daemon.vault.rglob("*") if path.is_file()} == registered
    assert sound.spooled(Stage(site, Rig(site.node))) == []


async def talking(stage: Stage, number: str, seconds: float) -> Caller:
    """A recorded call whose agent has been heard for so long."""
    stage.phone(f"desk-{NUMBERS.index(number) + 1}", voice=Voice(AGENT_HZ))
    caller = await stage.dial(number, voice=Voice(CALLER_HZ))
    await caller.headset.until_talk(AGENT_HZ, seconds)
    return caller


def check(talk: sound.Recorded, seconds: float, *, lost: float = 0.0) -> None:
    """Both sides, in sync, so long but for what may be lost."""
    assert (sound.told(talk.left), sound.told(talk.right)) == (["caller"], ["agent"])
    # Not the measure of it, which tests of its own take: these run while machines start.
    assert tones.misalignment(talk.left, CALLER_HZ, talk.right, AGENT_HZ) < 120
    assert seconds - lost - slack() < talk.left.seconds < seconds + 0.2 + slack()


@pytest.mark.real_time
async def test_asterisk_killed_in_mid_recording(stage: Stage) -> None:
    """R17: what had reached the spool is there and can be heard; the record says how the call ended."""
    # Long enough that two marks, one a second, are whole in what is left of each.
    callers = await asyncio.gather(*(talking(stage, number, 2 * BLOCK_SECONDS + 0.2) for number in NUMBERS[:3]))
    callers.append(await talking(stage, NUMBERS[3], 0.5))
    stage.node.kill()
    killed = time.time()
    stage.node.start()
    for caller in callers[:3]:
        record = await stage.daemon.until_record_of(caller.call_id, 30)
        assert (record["outcome"], record["ended_by"], record["missed"]) == ("answered", "crash", False)
        [talk] = await sound.recorded(stage, caller.call_id)
        check(talk, killed - caller.headset.answered_at(), lost=BLOCK_SECONDS)
    # Of so short a talk nothing had been written.
    assert await sound.recorded(stage, callers[3].call_id) == []
    assert alerts(stage.daemon) == []


@pytest.mark.real_time
async def test_the_daemon_killed_in_mid_call(stage: Stage) -> None:
    """One call ends while it is away, one goes on over all of it: each is one recording, whole."""
    ends, stays = await talking(stage, NUMBERS[0], 2.5), await talking(stage, NUMBERS[1], 0.5)
    stage.daemon.kill()
    ends.hang_up()
    length = time.time() - ends.headset.answered_at()
    stage.daemon.start()
    await stage.daemon.until_ready()
    await stays.headset.until_talk(AGENT_HZ, 1.0)
    stays.hang_up()
    longer = time.time() - stays.headset.answered_at()
    [one], [other] = await sound.recorded(stage, ends.call_id), await sound.recorded(stage, stays.call_id)
    check(one, length)
    check(other, longer)


async def test_killed_between_vault_and_row(stage: Stage) -> None:
    """What lies encrypted without a row is written again, under the same name."""
    caller = await talking(stage, NUMBERS[0], 1.5)
    # The recorder finds the files at rest 2 s after the call, when the database is locked.
    caller.hang_up()
    await asyncio.to_thread(stage.node.until_idle)
    for path in stage.node.recordings.glob("*.sln"):
        os.utime(path, (time.time() + 2, time.time() + 2))
    call_id = (await stage.record_of(caller))["call_id"]
    before = vault_files(stage.daemon)
    with closing(sqlite3.connect(stage.daemon.database, isolation_level=None, timeout=5)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert vault_files(stage.daemon) == before
        await faults.until(lambda: vault_files(stage.daemon) != before, 30, "a file in the vault")
        stage.daemon.kill()
    assert sound.rows(stage.daemon, call_id) == []
    assert len(sound.spooled(stage, call_id)) == 2
    stage.daemon.start()
    [talk] = await sound.recorded(stage, caller.call_id, 30)
    assert len(vault_files(stage.daemon)) == len(before) + 1
    # What the killed one had claimed of the outbox is free again after 30 s.
    await faults.until(lambda: ready(stage.daemon) == [call_id], 45, "the word of the recording")
    assert (sound.told(talk.left), sound.told(talk.right)) == (["caller"], ["agent"])


async def test_killed_between_row_and_spool(stage: Stage) -> None:
    """What is registered and still in plain goes, and is not recorded again."""
    caller = await talking(stage, NUMBERS[0], 1.0)
    kept = stage.node.recordings / "kept"
    kept.mkdir()
    for path in stage.node.recordings.glob("*.sln"):
        (kept / path.name).hardlink_to(path)
    caller.hang_up()
    [talk] = await sound.recorded(stage, caller.call_id)
    [file] = stage.daemon.vault.rglob(f"{talk.recording_id}.dmv")
    written = file.stat().st_mtime_ns
    stage.daemon.kill()
    for path in kept.iterdir():
        path.rename(stage.node.recordings / path.name)
    kept.rmdir()
    assert len(sound.spooled(stage)) == 2
    stage.daemon.start()
    [again] = await sound.recorded(stage, caller.call_id, 30)
    assert again.recording_id == talk.recording_id
    assert file.stat().st_mtime_ns == written


async def test_killed_at_any_moment(stage: Stage) -> None:
    """Again and again while recordings are stored: none is lost, none is there twice, no sound stays in plain."""
    dice = random.Random(20261122)
    for place, _ in enumerate(NUMBERS, 1):
        stage.phone(f"desk-{place}", tone_hz=AGENT_HZ, traced=False)
    placed = [
        await stage.rig.start_call(number, caller=stage.site.caller(), tone_hz=CALLER_HZ, hold_ms=400 * turn)
        for turn in range(1, 6)
        for number in NUMBERS
    ]
    first = before = vault_files(stage.daemon)
    # In the middle of the work: at the next file of the vault, or soon after it; five times if the work lasts so long.
    for _ in range(5):
        await faults.until(functools.partial(has_others, stage.daemon, before), 30, "another recording")
        await asyncio.sleep(dice.choice((0.0, 0.001, 0.005, 0.02)))
        stage.daemon.kill()
        before = vault_files(stage.daemon)
        stage.daemon.start()
        if len(before - first) == len(placed):
            break
    results = [await one.result() for one in placed]
    assert {one.status for one in results} == {200}
    for one in results:
        record = await stage.daemon.until_record_of(one.call_id or "", 30)
        await sound.until_spool_is_empty(stage, record["call_id"], 30)
        assert [state for _, _, state in sound.rows(stage.daemon, record["call_id"])] == ["stored"]


async def test_two_daemons_on_one_spool(stage: Stage) -> None:
    """Started twice by mistake, with a vault of its own each: only one takes the recordings; the other when it goes."""
    second = beside(stage)
    try:
        second.apply(stage.site.routing)
        second.start()
        await second.until_ready()
        caller = await talking(stage, NUMBERS[0], 1.0)
        caller.hang_up()
        [_] = await sound.recorded(stage, caller.call_id)
        assert second.query("SELECT count(*) FROM recordings") == [(0,)]
        assert vault_files(second) == set()
        caller = await talking(stage, NUMBERS[0], 1.0)
        stage.daemon.kill()
        caller.hang_up()
        record = await second.until_record_of(caller.call_id)
        await sound.until_spool_is_empty(stage, record["call_id"])
        assert len(sound.rows(second, record["call_id"])) == len(vault_files(second)) == 1
    finally:
        second.stop()
    stage.daemon.start()
    assert await sound.recorded(stage, caller.call_id, 30) == []


def beside(stage: Stage) -> Daemon:
    """Another daemon on the same Asterisk, journal and spool, with its own everything else."""
    node = copy.copy(stage.node)
    node.folder = stage.node.folder / "second"
    node.etc = node.folder / "etc"
    node.etc.mkdir(parents=True)
    node.agi = Address("127.0.0.1", ports.free_port())
    return Daemon(node, {"journal": {"ballast_bytes": 0}}, records=True)


async def test_a_full_spool(stage: Stage) -> None:
    """Recording stops, talks go on and new calls are put through; it is said everywhere, and what is there is kept."""
    daemon = stage.daemon
    up = [await talking(stage, number, 0.5) for number in NUMBERS[:2]]
    ballast = stage.node.recordings / "ballast"
    fill(ballast, leave=160_000)
    await faults.until(lambda: not check_of(daemon)["facts"]["recorded"], 30, "the alarm in the health")
    assert "the spool is nearly full" in check_of(daemon)["summary"]
    assert metric(daemon, "dialmark_recording_accepted") == 0
    await faults.until(lambda: alerts(daemon) == ["recording-stopped"], 30, "the alarm as an event")
    await unrecorded(stage, NUMBERS[2])
    await faults.until(lambda: room(stage) == 0, 20, "a spool without room")
    for caller in up:
        at = caller.headset.heard().seconds
        await caller.headset.until(functools.partial(_is_longer, at=at + 1.0))
    daemon.kill()
    # Without the daemon nobody knows that there is no room: the call is put through all the same.
    away = await talking(stage, NUMBERS[3], 1.0)
    away.hang_up()
    daemon.start()
    await daemon.until_ready()
    assert not check_of(daemon)["facts"]["recorded"]
    await unrecorded(stage, NUMBERS[2])
    for caller in up:
        caller.hang_up()
    for caller in up:
        [talk] = await sound.recorded(stage, caller.call_id)
        assert talk.record["outcome"] == "answered"
        assert (sound.told(talk.left), sound.told(talk.right)) == (["caller"], ["agent"])
        assert 1.5 < talk.left.seconds < talk.record["talk_seconds"] - 1.0
    assert (await stage.record_of(away))["outcome"] == "answered"
    assert await sound.recorded(stage, away.call_id) == []
    ballast.unlink()
    await faults.until(lambda: check_of(daemon)["facts"]["recorded"], 30, "recording again")
    again = await talking(stage, NUMBERS[2], 1.0)
    again.hang_up()
    assert len(await sound.recorded(stage, again.call_id)) == 1
    assert metric(daemon, "dialmark_recording_accepted") == 1


async def unrecorded(stage: Stage, number: str) -> None:
    """A call now is put through and talks; nothing of it is recorded, and the record says so."""
    caller = await talking(stage, number, 0.7)
    during = sound.spooled(stage)
    caller.hang_up()
    record: Record = await stage.record_of(caller)
    assert not [name for name in during if name.startswith(record["call_id"])]
    assert (record["outcome"], record["recording_consent"]["mode"]) == ("answered", "off")
    assert record["recording_consent"]["result"] == "not_asked"
    assert sound.rows(stage.daemon, record["call_id"]) == []
    assert sound.monitors(stage, record) == []


def _is_longer(heard: tones.Track, at: float) -> bool:
    return heard.seconds > at


def fill(ballast: Path, *, leave: int) -> None:
    """Leave so many bytes of the spool's filesystem."""
    free = os.statvfs(ballast.parent)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leave)


def room(stage: Stage) -> int:
    return os.statvfs(stage.node.recordings).f_bavail


def vault_files(daemon: Daemon) -> set[str]:
    return {path.name for path in daemon.vault.rglob("*.dmv")}


def has_others(daemon: Daemon, before: set[str]) -> bool:
    return vault_files(daemon) != before


def alerts(daemon: Daemon) -> list[str]:
    """Kinds of the alarms that were told as events."""
    return [event["data"]["kind"] for event in daemon.events() if event["type"] == "system.alert"]


def ready(daemon: Daemon) -> list[str]:
    """Calls of the last recording that was told of."""
    return [event["data"]["call_id"] for event in daemon.events() if event["type"] == "recording.ready"][-1:]


def check_of(daemon: Daemon) -> dict[str, Any]:
    """What `/readyz` says of recordings."""
    try:
        with urllib.request.urlopen(f"http://{daemon.admin}/readyz", timeout=30) as answer:
            document = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            document = json.load(error)
    found: dict[str, Any] = document["checks"]["recordings"]
    return found


def metric(daemon: Daemon, name: str) -> float:
    with urllib.request.urlopen(f"http://{daemon.admin}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))
