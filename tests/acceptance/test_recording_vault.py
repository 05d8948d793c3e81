"""Attacks on real recordings in vault and spool, and on the keys: each is found, named, and not played (R33)."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import sqlite3
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.store import vault
from tests.acceptance import faults, sound
from tests.acceptance.stages import Site, Stage
from tests.conftest import NodeFactory
from tests.rig import AGENT_HZ, CALLER_HZ, AsteriskNode, Caller, Daemon, Rig, Voice
from tests.rig.dialmark import CommandFailed, new_ring_line

pytestmark = pytest.mark.real_time

FIRST, SECOND, THIRD, ASKED = "74990000001", "74990000002", "74990000003", "74990000004"
NUMBERS = (FIRST, SECOND, THIRD)
OPT_IN = sound.PROMPTS["consent_opt_in"]
FRAME = vault.FRAME_BYTES + vault.TAG_BYTES
LONGER = 40
"""How often the sound of a talk is repeated, so that its file has several frames."""

ROUTING = (
    "".join(
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
        for number, desk in zip(NUMBERS, ("first", "second", "third"), strict=True)
    )
    + """
[[route]]
key = "asked"
forward = ["reception"]
ring_seconds = 10
recording = "opt_in"

[[tracking_number]]
number = "+74990000004"
route = "asked"
"""
)


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[Site]:
    settings = {"recording": {"unknown_seconds": 1.0}}
    with sound.site(make_node, ROUTING, "consent_opt_in", settings=settings) as made:
        yield made


@pytest.fixture
async def stage(site: Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    """Each test leaves the vault whole and the ring in order."""
    yield Stage(site, rig_of(site.node))
    await told(site.daemon, "recordings", "verify")
    await told(site.daemon, "audit", "verify")


@dataclass(frozen=True)
class Answer:
    """What the API gave. ``is_whole`` is false when it broke off."""

    status: int
    body: bytes
    is_whole: bool = True


class Listener:
    """A program with a token that plays."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        self._daemon = daemon
        said = daemon.run("token", "add", name, "--scope", "recordings:listen,calls:read")
        self._token = next(word for word in said.split() if word.startswith("dm_"))

    def hears(self, recording_id: str, span: str | None = None, what: str = "audio") -> Answer:
        headers = {"Authorization": f"Bearer {self._token}"} | ({"Range": f"bytes={span}"} if span else {})
        url = f"http://{self._daemon.admin}/api/v1/recordings/{recording_id}/{what}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
                try:
                    return Answer(answer.status, answer.read())
                except (http.client.IncompleteRead, ConnectionError) as error:
                    return Answer(answer.status, getattr(error, "partial", b""), is_whole=False)
        except urllib.error.HTTPError as refused:
            with refused:
                return Answer(refused.code, refused.read())


async def told(daemon: Daemon, *arguments: str) -> str:
    return await asyncio.to_thread(daemon.run, *arguments)


async def talked(stage: Stage, *numbers: str, longer: int = 1) -> list[str]:
    """Recorded talks side by side, stored: the recordings' ids. ``longer``: their sound is repeated so often."""
    callers = [await talking(stage, number) for number in numbers]
    await asyncio.gather(*(one.headset.until_talk(AGENT_HZ, 1.0) for one in callers))
    if longer > 1:
        stage.daemon.stop()
    for one in callers:
        one.hang_up()
    if longer > 1:
        await asyncio.to_thread(stage.node.until_idle)
        await faults.until(lambda: not is_recording(stage.node), 30, "files that Asterisk has closed")
        for path in stage.node.recordings.glob("*.sln"):
            path.write_bytes(path.read_bytes() * longer)
        stage.daemon.start()
        await stage.daemon.until_ready()
    found = []
    for one in callers:
        call_id = (await stage.record_of(one))["call_id"]
        await sound.until_spool_is_empty(stage, call_id)
        [(recording_id, _, state)] = sound.rows(stage.daemon, call_id)
        assert state == "stored"
        found.append(recording_id)
    return found


def is_recording(node: AsteriskNode) -> bool:
    """It has a file of the spool open: some time after the channel is gone, too."""
    opened = [os.path.realpath(link) for link in Path(f"/proc/{node.pid}/fd").iterdir()]
    return any(Path(path).parent == node.recordings for path in opened)


async def talking(stage: Stage, number: str) -> Caller:
    stage.phone(f"desk-{NUMBERS.index(number) + 1}", voice=Voice(AGENT_HZ))
    return await stage.dial(number, voice=Voice(CALLER_HZ))


def file_of(daemon: Daemon, recording_id: str) -> Path:
    [found] = daemon.vault.rglob(f"{recording_id}.dmv")
    return found


def problems(daemon: Daemon) -> dict[str, str]:
    """What `recordings verify` names; with any it does not end with 0."""
    try:
        assert json.loads(daemon.run("recordings", "verify", "--format", "json")) == []
    except CommandFailed as failed:
        assert failed.code == 1
        return {one["recording_id"]: one["problem"] for one in json.loads(failed.output)}
    return {}


# -- files -----------------------------------------------------------------------------------------------------------


def flipped(data: bytes) -> bytes:
    """One bit of the second frame."""
    place = vault.HEADER_BYTES + FRAME + 1000
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def swapped(data: bytes) -> bytes:
    """The first two frames."""
    start = vault.HEADER_BYTES
    first, second = data[start : start + FRAME], data[start + FRAME : start + 2 * FRAME]
    return data[:start] + second + first + data[start + 2 * FRAME :]


ATTACKS: dict[str, Callable[[bytes], bytes]] = {
    "a bit flipped": flipped,
    "frames swapped": swapped,
    "cut in a frame": lambda data: data[:-100],
    "cut after a frame": lambda data: data[: vault.HEADER_BYTES + FRAME],
    "lengthened": lambda data: data + bytes(100),
    "its own frame again": lambda data: data + data[vault.HEADER_BYTES : vault.HEADER_BYTES + FRAME],
    "emptied": lambda data: b"",
    "other magic": lambda data: b"DIALMRK2" + data[8:],
}


async def test_files_that_were_changed(stage: Stage) -> None:
    """Each change of each kind is found and named; nothing that is not genuine is given out."""
    daemon = stage.daemon
    one, two, three = await talked(stage, *NUMBERS, longer=LONGER)
    listener = await asyncio.to_thread(Listener, daemon, "attacks")
    files = {name: file_of(daemon, name) for name in (one, two, three)}
    whole = {name: file.read_bytes() for name, file in files.items()}
    sounds = {name: sound.exported(daemon, name) for name in files}
    assert len(whole[one]) > vault.HEADER_BYTES + 2 * FRAME
    assert listener.hears(one).body == sounds[one]

    for attack in ATTACKS.values():
        files[one].write_bytes(attack(whole[one]))
        heard = await asyncio.to_thread(listener.hears, one)
        assert heard.status >= 500 or not heard.is_whole
        assert heard.status >= 500 or sounds[one].startswith(heard.body)
        span = f"{vault.FRAME_BYTES}-{vault.FRAME_BYTES + 99}"
        part = await asyncio.to_thread(listener.hears, one, span)
        assert (part.status, b"recording-damaged" in part.body) == (500, True)
    # What lies before a flipped bit is genuine.
    files[one].write_bytes(flipped(whole[one]))
    assert listener.hears(one, "0-99") == Answer(206, sounds[one][:100])
    await refuse(daemon, one, "is not genuine")

    for name, kind in zip((one, two, three), ("a bit flipped", "frames swapped", "cut after a frame"), strict=True):
        files[name].write_bytes(ATTACKS[kind](whole[name]))
    assert {name: "is not genuine" in said for name, said in problems(daemon).items()} == dict.fromkeys(files, True)
    for name, kind in zip((one, two, three), ("lengthened", "emptied", "cut in a frame"), strict=True):
        files[name].write_bytes(ATTACKS[kind](whole[name]))
    assert problems(daemon).keys() == files.keys()

    # Another's file, and nothing but a new name.
    files[one].write_bytes(whole[two])
    files[two].write_bytes(whole[one])
    files[three].rename(files[three].with_stem("00000000-0000-4000-8000-000000000000"))
    found = problems(daemon)
    assert "is not genuine" in found[one] and "is not genuine" in found[two]
    assert "is not there" in found[three]
    assert "belongs to no recording" in found["00000000-0000-4000-8000-000000000000"]
    for name in files:
        await refuse(daemon, name, "is not")
        assert listener.hears(name).status == listener.hears(name, what="peaks").status == 500
    files[three].with_stem("00000000-0000-4000-8000-000000000000").unlink()
    for name, file in files.items():
        file.write_bytes(whole[name])
    assert problems(daemon) == {}


async def refuse(daemon: Daemon, recording_id: str, why: str) -> None:
    """`export` says why, and leaves no file, not even a part of one."""
    out = daemon.state / "refused.mp3"
    with pytest.raises(CommandFailed, match=why):
        await told(daemon, "recordings", "export", recording_id, "--out", str(out))
    assert not list(daemon.state.glob("*refused.mp3*"))


async def test_keys_that_were_swapped(stage: Stage) -> None:
    """A key fits its own recording only, whoever writes into the database."""
    one, two = await talked(stage, FIRST, SECOND)
    kept = dict(stage.daemon.query("SELECT recording_id, wrapped FROM recording_keys"))
    for name, other in ((one, two), (two, one)):
        change(stage.daemon, "UPDATE recording_keys SET wrapped = ? WHERE recording_id = ?", kept[other], name)
    found = problems(stage.daemon)
    assert {one, two} <= found.keys()
    await refuse(stage.daemon, one, "key 'rig-1'")
    for name in (one, two):
        change(stage.daemon, "UPDATE recording_keys SET wrapped = ? WHERE recording_id = ?", kept[name], name)


def change(daemon: Daemon, statement: str, *values: object) -> None:
    """Behind the daemon's back."""
    with closing(sqlite3.connect(daemon.database, timeout=10)) as file, file:
        file.execute(statement, values)


# -- the spool and the receipts --------------------------------------------------------------------------------------


async def test_sound_without_consent(stage: Stage) -> None:
    """N3: a file put into the spool by hand, of a call that refused, with a receipt forged for it, or of no call."""
    daemon = stage.daemon
    refused = [await call_that_refuses(stage) for _ in range(2)]
    [genuine] = await talked(stage, FIRST)
    listener = await asyncio.to_thread(Listener, daemon, "no-consent")
    [(document,)] = daemon.query("SELECT document FROM receipts WHERE call_id = ?", refused[1])
    forged = document.replace('"result":"refused"', '"result":"granted"').replace(
        '"recording_allowed":false', '"recording_allowed":true'
    )
    assert forged != document
    change(daemon, "UPDATE receipts SET document = ? WHERE call_id = ?", forged, refused[1])
    before = len(alerts(daemon))
    unknown = "99999999-9999-4999-8999-999999999999"
    for call_id in (*refused, unknown):
        for side in ("caller", "agent"):
            shutil.copy(sound_file(stage.node.folder), stage.node.recordings / f"{call_id}.1-{side}.sln")
    for call_id in (*refused, unknown):
        await sound.until_spool_is_empty(stage, call_id, 20)
    await faults.until(lambda: len(alerts(daemon)) >= before + 3, 30, "three alarms")
    found = {call_id: sound.rows(daemon, call_id)[0] for call_id in (*refused, unknown)}
    assert {state for _, _, state in found.values()} == {"refused"}
    said = dict(daemon.query("SELECT call_id, why FROM recordings WHERE state = 'refused'"))
    assert said[refused[0]] == "consent refused"
    assert said[refused[1]].startswith("consent not proved")
    assert said[unknown] == "consent not in the journal"
    assert set(alerts(daemon)) == {"recording-without-consent"}
    audited = {subject for (subject,) in daemon.query("SELECT subject FROM audit WHERE action = 'recording.refused'")}
    for recording_id, _, _ in found.values():
        assert f"recording:{recording_id}" in audited
        assert listener.hears(recording_id).status == 410
        await refuse(daemon, recording_id, "refused")
    assert listener.hears(genuine).status == 200
    if named := problems(daemon):
        # Receipts are proved too.
        assert all("receipt" in problem for problem in named.values())
    change(daemon, "UPDATE receipts SET document = ? WHERE call_id = ?", document, refused[1])


async def call_that_refuses(stage: Stage) -> str:
    stage.phone("desk-4", voice=Voice(AGENT_HZ))
    caller = await stage.dial(ASKED, voice=Voice(CALLER_HZ))
    await caller.headset.until_heard(OPT_IN)
    await caller.press("2")
    await caller.headset.until_talk(AGENT_HZ, 0.5)
    caller.hang_up()
    record: dict[str, Any] = await stage.record_of(caller)
    assert record["recording_consent"]["result"] == "refused"
    return str(record["call_id"])


def sound_file(folder: Path) -> Path:
    """A second of something."""
    path = folder / "sound.sln"
    path.write_bytes(bytes(range(256)) * 62)
    return path


def alerts(daemon: Daemon) -> list[str]:
    return [event["data"]["kind"] for event in daemon.events() if event["type"] == "system.alert"]


# -- the key ring ----------------------------------------------------------------------------------------------------


async def test_rotated_ring(stage: Stage) -> None:
    """R33: a new key, all rewrapped, the old key taken out: everything plays; taken out too early, it is said."""
    daemon = stage.daemon
    [before] = await talked(stage, FIRST)
    old, new = daemon.ring_file.read_text().strip(), f"{new_ring_line('rig-2')} current"
    daemon.write_ring(f"{old.removesuffix(' current')}\n{new}")
    await daemon.restart()
    [after] = await talked(stage, FIRST)
    assert dict(daemon.query("SELECT recording_id, key_id FROM recording_keys"))[after] == "rig-2"
    daemon.write_ring(new)
    assert problems(daemon)[before].startswith("key 'rig-1' is not in the ring")
    daemon.write_ring(f"{old.removesuffix(' current')}\n{new}")
    await told(daemon, "recordings", "rewrap")
    assert {key for (key,) in daemon.query("SELECT DISTINCT key_id FROM recording_keys")} == {"rig-2"}
    daemon.write_ring(new)
    await daemon.restart()
    assert "new calls are not recorded" not in summary(daemon)
    listener = await asyncio.to_thread(Listener, daemon, "rotated")
    for name in (before, after):
        assert listener.hears(name).body == sound.exported(daemon, name)
    assert problems(daemon) == {}


def other_key(text: str) -> str:
    """Under the same name."""
    return f"{new_ring_line(text.split()[0])} current"


RINGS: dict[str, tuple[Callable[[str], str | None], str, str]] = {
    "another ring": (lambda _: f"{new_ring_line('x')} current", "is not in the ring", "none"),
    "another key of that name": (other_key, "recordings cannot be opened: key", "off"),
    "lost": (lambda _: None, "No such file", "off"),
}


async def test_wrong_rings(stage: Stage) -> None:
    """R33: said at the start; calls go on, unrecorded if nobody knew the right key; the right ring mends it."""
    daemon = stage.daemon
    [one] = await talked(stage, FIRST)
    listener = await asyncio.to_thread(Listener, daemon, "wrong-rings")
    kept = [daemon.ring_file.read_text().strip()]
    made = [one]
    for ring, said, mode in RINGS.values():
        wrong = ring(kept[0])
        daemon.ring_file.unlink()
        if wrong is not None:
            daemon.write_ring(wrong)
        await daemon.restart()
        assert said in summary(daemon)
        assert "key ring or signing key not usable" in daemon.log(20)
        caller = await talking(stage, FIRST)
        await caller.headset.until_talk(AGENT_HZ, 0.5)
        caller.hang_up()
        record = await stage.record_of(caller)
        assert (record["outcome"], record["recording_consent"]["mode"]) == ("answered", mode)
        await sound.until_spool_is_empty(stage, record["call_id"])
        found = [name for name, _, _ in sound.rows(daemon, record["call_id"])]
        assert len(sound.monitors(stage, record)) == len(found) == (mode != "off")
        heard = listener.hears(one)
        assert (heard.status, b"key ring" in heard.body) == (503, True)
        await refuse(daemon, one, "ring|No such file")
        made += found
        # What is recorded meanwhile needs the key that it is recorded with.
        kept += [wrong.removesuffix(" current")] if wrong and found else []
        daemon.ring_file.touch(mode=0o600)
    daemon.write_ring("\n".join(kept))
    await daemon.restart()
    assert "cannot" not in summary(daemon)
    assert [listener.hears(name).status for name in made] == [200, 200]


def summary(daemon: Daemon) -> str:
    """What `/readyz` says of recordings."""
    try:
        with urllib.request.urlopen(f"http://{daemon.admin}/readyz", timeout=30) as answer:
            document = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            document = json.load(error)
    return str(document["checks"]["recordings"]["summary"])
