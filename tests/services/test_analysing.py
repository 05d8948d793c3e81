"""The external hook: each finished recording once, nothing in plain on disk, whatever the command does (R120, R45)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway import store
from gateway.core import analysis
from gateway.services import analysing
from gateway.store import audit, calls, forgetting, keyring, outbox, recordings, vault
from tests.services import outages
from tests.store import examples

RING_LINE = keyring.new_line("2026-11")
RING = keyring.parse(RING_LINE)
SECOND, NOON = examples.SECOND, examples.NOON
MINUTE = 60 * SECOND
SOUND = bytes(range(256)) * 1024
OK = """cat > /dev/null; echo '{"mood": "good"}'"""


@dataclass
class House:
    """A vault with recordings, a database, a clock, and a command."""

    folder: Path
    database: store.Database
    now_us: int = NOON + 3600 * SECOND
    ring: keyring.KeyRing | None = RING
    pace: analysing.Pace = field(default_factory=lambda: analysing.Pace(poll_seconds=30.0, store_seconds=0.02))

    @property
    def root(self) -> Path:
        return self.folder / "vault"

    async def put(self, number: int = 1, *, sound: bytes = SOUND, **changes: Any) -> str:
        """A stored recording of call `number`; gives its id."""
        values: dict[str, Any] = {
            "recording_id": examples.call_id(1000 + number),
            "call_id": examples.call_id(number),
            "node": "main",
            "kind": "talk",
            "state": recordings.State.STORED,
            "started_us": NOON + number * SECOND,
            "duration_seconds": 12.5,
            "parts": "1",
            "audio_bytes": len(sound),
            "peaks_bytes": 2,
            "digest": hashlib.sha256(sound).hexdigest(),
            "created_us": NOON + 60 * SECOND,
        }
        one = recordings.Recording(**(values | changes))
        key = vault.new_key()
        vault.write(vault.file_of(self.root, one.recording_id, one.started_us), key, one.recording_id, [sound, b"{}"])
        async with self.database.begin() as tx:
            await calls.save(tx, [examples.call(number)])
            await recordings.register(tx, one, RING.wrap(key, recordings.subject(one.recording_id)))
        return one.recording_id

    def make(self, command: str | Sequence[str]) -> analysing.Analyser:
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else command
        return analysing.Analyser(
            self.database,
            command=argv,
            root=self.root,
            ring=self.ring,
            node="main",
            now_us=lambda: self.now_us,
            pace=self.pace,
            targets=["jsonl"],
        )

    async def run(self, command: str | Sequence[str] = OK) -> analysing.Analyser:
        """All that is due now."""
        made = self.make(command)
        try:
            while await made.step():
                pass
        finally:
            await made.close()
        return made

    async def found(self, number: int = 1) -> Any:
        """The analysis, "none yet", or None when it was given up."""
        async with self.database.read() as connection:
            one = await recordings.get(connection, examples.call_id(1000 + number))
        assert one is not None
        if one.analysed_us is None:
            return "none yet"
        return json.loads(one.analysis) if one.analysis is not None else None

    async def events(self) -> list[dict[str, Any]]:
        async with self.database.read() as connection:
            return [json.loads(event.payload) for _, event in await outbox.after(connection, 0)]

    async def audited(self) -> list[str]:
        async with self.database.read() as connection:
            return [row.action for row in await audit.entries(connection)]


@pytest.fixture
async def house(tmp_path: Path, database_url: str) -> AsyncIterator[House]:
    database = await store.Database.open(database_url)
    yield House(tmp_path, database)
    await database.close()


def python(program: str) -> list[str]:
    return [sys.executable, "-c", f"import hashlib, json, os, stat, sys\n{program}"]


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nobody sets an event
            await asyncio.sleep(0.01)


def is_alive(process_id: int) -> bool:
    """A zombie that nobody has waited for is dead."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_the_sound_goes_by_pipe_and_the_facts_by_environment(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file in plain, no secret of ours, no number; MP3 without the waveform behind it."""
    monkeypatch.setenv("DIALMARK_VAULT__KEYS", "a secret")
    one = await house.put()
    before = sorted(house.folder.rglob("*"))
    made = await house.run(
        python(
            "sound = sys.stdin.buffer.read()\n"
            "is_pipe = stat.S_ISFIFO(os.fstat(0).st_mode)\n"
            "print(json.dumps({'sha256': hashlib.sha256(sound).hexdigest(), 'pipe': is_pipe, 'env': dict(os.environ)}))"
        )
    )
    found = await house.found()
    assert (found["sha256"], found["pipe"]) == (hashlib.sha256(SOUND).hexdigest(), True)
    facts = {name: text for name, text in found["env"].items() if name.startswith("RECORDING_")}
    assert facts == {
        "RECORDING_ID": one,
        "RECORDING_CALL_ID": examples.call_id(1),
        "RECORDING_KIND": "talk",
        "RECORDING_STARTED_AT": "2026-09-21T14:13:21.000Z",
        "RECORDING_SECONDS": "12.500",
        "RECORDING_CHANNELS": "2",
        "RECORDING_BYTES": str(len(SOUND)),
        "RECORDING_SHA256": hashlib.sha256(SOUND).hexdigest(),
        "RECORDING_ATTEMPT": "1",
        "RECORDING_DIRECTION": "inbound",
        "RECORDING_SITE": "clinic",
        "RECORDING_ROUTE": "sales",
        "RECORDING_SOURCE": "google-ads",
        "RECORDING_AGENT": "anna",
    }
    assert set(found["env"]) - set(facts) <= {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"}
    new = set(house.folder.rglob("*")) - set(before)
    assert {path.name for path in new} <= {"dialmark.db-wal", "dialmark.db-shm"}
    assert (made.counts.analysed, made.problem) == (1, None)


async def test_result_event_and_audit_row_are_there_once(house: House) -> None:
    one = await house.put()
    await house.run()
    await house.run("""echo '{"mood": "bad"}'""")
    assert await house.found() == {"mood": "good"}
    assert await house.audited() == ["recording.handed-over"]
    (event,) = await house.events()
    assert event["type"] == "recording.analysed"
    assert (event["data"]["recording_id"], event["data"]["call_url"]) == (one, f"/api/v1/calls/{examples.call_id(1)}")
    assert "mood" not in json.dumps(event)


async def test_oldest_first_and_only_what_lies_in_our_vault(house: House) -> None:
    for number in (3, 1, 2):
        await house.put(number)
    await house.put(4, node="other")
    await house.put(5, started_us=house.now_us - analysing.LOOK_BACK_US - SECOND)
    log = house.folder / "order"
    await house.run(f"echo $RECORDING_CALL_ID >> {shlex.quote(str(log))}; {OK}")
    assert log.read_text().split() == [examples.call_id(number) for number in (1, 2, 3)]
    assert [await house.found(number) for number in (4, 5)] == ["none yet"] * 2


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("echo no json", "it did not print JSON (line 1, column 1)"),
        ("""echo '{"a": NaN}'""", "its JSON has NaN, which is no number"),
        ("head -c 4096 /dev/urandom", "it did not print UTF-8"),
        (f"yes | head -c {analysis.MAX_BYTES + 1}", "it printed more than 262,144 bytes"),
        ("yes", "it printed more than 262,144 bytes"),
        ("yes | head -c 30000000 >&2; echo '{}'; exit 3", "it ended with status 3"),
        ("echo '{}'; kill -SEGV $$", "it was killed by SIGSEGV"),
        ("exec /no/such/program", "it ended with status 127"),
        (["/etc"], "it cannot be started: Permission denied"),
        (python("print('{\"a\": ' * 10000 + '1' + '}' * 10000)"), "its JSON is nested more than 32 deep"),
    ],
    ids=range(10),
)
async def test_a_hostile_command_is_harmless(house: House, command: str | list[str], why: str) -> None:
    """Five hand-overs at growing distances, then the recording is marked as done without a result, and says why."""
    await house.put()
    made = house.make(command)
    waits = [0, *house.pace.back_off_seconds]
    for attempt, seconds in enumerate(waits, start=1):
        house.now_us += round(seconds * SECOND) - 1
        if attempt > 1:
            assert not await made.step(), "too early"
        house.now_us += 1
        assert await house.found() == "none yet"
        assert await made.step()
    assert not await made.step()
    await made.close()
    assert await house.found() is None
    assert await house.audited() == ["recording.handed-over"] * 5 + ["recording.analysis-failed"]
    (alarm,) = await house.events()
    assert (alarm["type"], alarm["data"]["kind"], alarm["data"]["message"]) == ("system.alert", "analysis-failed", why)
    assert (made.counts.failed, made.counts.given_up, made.counts.analysed) == (5, 1, 0)


async def test_a_failure_does_not_hold_up_others(house: House) -> None:
    await house.put(1)
    await house.put(2)
    await house.run(f'test "$RECORDING_CALL_ID" = {examples.call_id(1)} && exit 1; {OK}')
    assert [await house.found(number) for number in (1, 2)] == ["none yet", {"mood": "good"}]


async def test_a_command_need_not_listen(house: House) -> None:
    await house.put(sound=b"sound" * 500_000)
    await house.run("""echo '{"mood": "deaf"}'""")
    assert await house.found() == {"mood": "deaf"}


SHORT = analysing.Pace(command_seconds=0.5, back_off_seconds=(60.0,) * 20)


def is_written(path: Path) -> bool:
    return path.exists() and bool(path.read_text())


async def run_until_written(house: House, command: str, path: Path) -> None:
    """Runs that meet their limit, until one came so far that it wrote the file before: the machine may be slow."""
    while not is_written(path):
        house.now_us += MINUTE
        assert (await house.run(command)).counts.failed == 1


async def test_at_its_limit_the_command_dies_with_its_children(house: House) -> None:
    await house.put()
    house.pace = SHORT
    pids = house.folder / "pids"
    await run_until_written(house, f"sleep 600 & echo $$ $! > {shlex.quote(str(pids))}; wait", pids)
    first, second = map(int, pids.read_text().split())
    await until(lambda: not is_alive(first) and not is_alive(second))
    house.now_us += MINUTE
    await house.run()
    assert await house.found() == {"mood": "good"}


@pytest.mark.parametrize("rest", ["echo '{}'", "sleep 600"], ids=["parent ends", "parent stays"])
async def test_a_child_that_left_the_group_holds_nobody_up(house: House, rest: str) -> None:
    """It keeps our pipes; the time limit ends the hand-over all the same."""
    await house.put()
    house.pace = SHORT
    pid = house.folder / "pid"
    child = f"echo $$ >> {shlex.quote(str(pid))}; exec sleep 600"
    try:
        async with asyncio.timeout(60):
            await run_until_written(house, f"setsid sh -c {shlex.quote(child)} & {rest}", pid)
    finally:
        for one in pid.read_text().split():
            os.kill(int(one), signal.SIGKILL)


async def test_the_command_gives_way_to_calls(house: House) -> None:
    await house.put()
    await house.run("""cat > /dev/null; echo "{\\"nice\\": $(nice), \\"oom\\": $(cat /proc/self/oom_score_adj)}" """)
    found = await house.found()
    assert (found["nice"] >= 15, found["oom"]) == (True, 500)


KILLED = """
import asyncio, sys
from pathlib import Path
from gateway import store
from gateway.services import analysing
from gateway.store import keyring

async def main(url, folder, ring, command, now_us):
    analyser = analysing.Analyser(
        await store.Database.open(url), command=["/bin/sh", "-c", command], root=Path(folder),
        ring=keyring.parse(ring), node="main", now_us=lambda: int(now_us),
    )
    await analyser.step()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_sigkill_of_the_daemon_hands_over_again_when_the_time_is_over(house: House, database_url: str) -> None:
    """At least once: the orphan may still be at work until its time is over, and is never met by a second one."""
    await house.put()
    pid = house.folder / "pid"
    command = f"echo $$ > {shlex.quote(str(pid))}; exec sleep 600"
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED, database_url, str(house.root), RING_LINE, command, str(house.now_us))
    )
    try:
        await until(lambda: pid.exists() and pid.read_text().strip())
    finally:
        daemon.send_signal(signal.SIGKILL)
        await daemon.wait()
        os.kill(int(pid.read_text()), signal.SIGKILL)
    again = """cat > /dev/null; echo "{\\"attempt\\": $RECORDING_ATTEMPT}" """
    lease_us = round((house.pace.command_seconds + analysing.GRACE_SECONDS) * SECOND)
    house.now_us += lease_us - 1
    await house.run(again)
    assert await house.found() == "none yet"
    house.now_us += 1
    await house.run(again)
    assert await house.found() == {"attempt": 2}
    assert await house.audited() == ["recording.handed-over"] * 2


async def test_a_recording_that_kills_the_daemon_is_given_up(house: House) -> None:
    one = await house.put()
    async with house.database.begin() as tx:
        for attempt in range(5):
            subject = recordings.subject(one)
            await audit.append(tx, at_us=NOON + attempt, actor="daemon", action=analysing.HANDED_OVER, subject=subject)
    await house.run()
    assert await house.found() is None
    (alarm,) = await house.events()
    assert alarm["data"]["message"] == "nobody noted how the last attempt ended"


async def test_what_is_out_of_reach_is_never_handed_out(house: House) -> None:
    """Refused, condemned, shredded, of an erased person (here under legal hold, so that it is still stored)."""
    await house.put(1, state=recordings.State.REFUSED, why="consent refused")
    condemned, shredded, held = [await house.put(number) for number in (2, 3, 4)]
    async with house.database.begin() as tx:
        await recordings.condemn(tx, [condemned], why="old", now_us=NOON)
        await recordings.shred(tx, [shredded], now_us=NOON)
        await recordings.hold(tx, held, why="court", now_us=NOON)
        row = await calls.get(tx, examples.call_id(4))
        assert row is not None
        await forgetting.forget(tx, [row], "erased-1", why=forgetting.ERASURE, now_us=NOON)
    marker = house.folder / "ran"
    await house.run(f"touch {shlex.quote(str(marker))}; {OK}")
    assert not marker.exists()
    assert await house.audited() == []


class Overtaken(analysing.Analyser):
    """Somebody condemns each recording between the look and the claim."""

    async def _open(self, one: recordings.Recording) -> vault.Reader:
        async with self._database.begin() as tx:
            await recordings.condemn(tx, [one.recording_id], why="old", now_us=NOON)
        return await super()._open(one)


async def test_what_goes_before_the_claim_is_not_handed_out(house: House) -> None:
    await house.put()
    arguments: dict[str, Any] = {"root": house.root, "ring": RING, "node": "main", "now_us": lambda: house.now_us}
    made = Overtaken(house.database, command=["/bin/sh", "-c", OK], **arguments)
    assert not await made.step()
    await made.close()
    assert await house.audited() == []


@pytest.mark.parametrize("end", ["condemned", "erased"])
async def test_what_goes_while_it_is_heard_leaves_no_result(house: House, end: str) -> None:
    one = await house.put()
    started, go_on = house.folder / "started", house.folder / "go-on"
    os.mkfifo(go_on)
    made = house.make(f"touch {shlex.quote(str(started))}; read line < {shlex.quote(str(go_on))}; {OK}")
    step = asyncio.ensure_future(made.step())
    await until(started.exists)
    async with house.database.begin() as tx:
        if end == "condemned":
            await recordings.condemn(tx, [one], why="old", now_us=NOON)
        else:
            row = await calls.get(tx, examples.call_id(1))
            assert row is not None
            await forgetting.forget(tx, [row], "erased-1", why=forgetting.ERASURE, now_us=NOON)
    await asyncio.to_thread(go_on.write_text, "\n")
    assert await step
    assert not await made.step()
    await made.close()
    assert await house.found() in ("none yet", None)
    assert (await house.events(), made.counts.analysed) == ([], 0)


async def test_what_the_vault_does_not_give_waits_and_costs_no_attempt(house: House) -> None:
    await house.put(1)
    await house.put(2)
    path = vault.file_of(house.root, examples.call_id(1001), NOON + SECOND)
    aside = path.rename(path.with_suffix(".aside"))
    made = house.make(OK)
    while await made.step():
        pass
    assert await house.found(2) == {"mood": "good"}
    assert made.problem is not None and "is not there" in made.problem
    aside.rename(path)
    house.now_us += round(analysing.UNREADABLE_SECONDS * SECOND)
    assert await made.step()
    assert await house.found(1) == {"mood": "good"}
    assert not made.problem
    await made.close()
    assert await house.audited() == ["recording.handed-over"] * 2


@pytest.mark.parametrize(
    ("ring", "command", "problem"),
    [
        (None, ["/bin/true"], "no key ring"),
        (RING, ["/no/such/program"], "/no/such/program is no program that may be run"),
        (keyring.parse(keyring.new_line("other")), ["/bin/true"], "key '2026-11' is not in the ring"),
    ],
    ids=["no ring", "no program", "another ring"],
)
async def test_what_is_wrong_with_the_machine_costs_no_attempt(
    house: House, ring: keyring.KeyRing | None, command: list[str], problem: str
) -> None:
    await house.put()
    house.ring = ring
    made = await house.run(command)
    assert made.problem is not None and problem in made.problem
    assert (made.waiting, await house.audited(), await house.found()) == (1, [], "none yet")


async def test_sound_that_breaks_off_is_a_failure(house: House) -> None:
    """The last frame is whole, so that the file opens; the first is not."""
    await house.put()
    path = vault.file_of(house.root, examples.call_id(1001), NOON + SECOND)
    damaged = bytearray(path.read_bytes())
    damaged[1000] ^= 1
    path.write_bytes(damaged)
    made = await house.run()
    assert (made.counts.failed, await house.found()) == (1, "none yet")


async def test_a_result_waits_for_a_database_that_is_away(house: House, database_url: str) -> None:
    """What a command took minutes for is not thrown away; the command runs once."""
    await house.put()
    count, go_on = house.folder / "count", house.folder / "go-on"
    os.mkfifo(go_on)
    made = house.make(f"echo 1 >> {shlex.quote(str(count))}; read line < {shlex.quote(str(go_on))}; {OK}")
    step = asyncio.ensure_future(made.step())
    await until(count.exists)
    with outages.out_of_reach(database_url):
        await asyncio.to_thread(go_on.write_text, "\n")
        await until(lambda: made.problem is not None)
    assert await step
    await made.close()
    assert (count.read_text().split(), await house.found()) == (["1"], {"mood": "good"})


async def test_the_part_wakes_up_and_takes_its_command_with_it(house: House) -> None:
    made = house.make(OK)
    running = asyncio.ensure_future(made.run())
    await house.put(1)
    made.wake()
    await until(lambda: made.counts.analysed == 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await made.close()
    await house.put(2)
    pid = house.folder / "pid"
    made = house.make(f"echo $$ > {shlex.quote(str(pid))}; exec sleep 600")
    running = asyncio.ensure_future(made.run())
    await until(lambda: pid.exists() and pid.read_text().strip())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await made.close()
    assert running.cancelled()
    await until(lambda: not is_alive(int(pid.read_text())))
    assert await house.found(2) == "none yet"
