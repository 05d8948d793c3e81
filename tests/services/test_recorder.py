"""From the spool into the vault: nothing without consent, nothing lost to a crash, nothing left in plain (N3, R42)."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway import store
from gateway.core import recording, records
from gateway.services import recorder
from gateway.store import audit, calls, forgetting, keyring, outbox, recordings, vault
from tests import audio
from tests.rig import waits
from tests.store import examples

RING = keyring.parse(keyring.new_line("2026-11"))
CALL = examples.call_id(1)
GRANTED = recording.Receipt(True, "granted")
NOON = examples.NOON
SECOND = examples.SECOND


@dataclass
class House:
    """A spool, a vault, a database, and a clock."""

    folder: Path
    database: store.Database
    now_us: int = NOON + 100 * SECOND
    receipts: dict[str, recording.Receipt | None] = field(default_factory=lambda: {CALL: GRANTED})
    over: dict[str, bool] = field(default_factory=lambda: {CALL: True})
    pace: recorder.Pace = field(default_factory=lambda: recorder.Pace(min_free_percent=1))
    ring: keyring.KeyRing | None = RING
    no_ring: str = ""
    is_caught_up: bool = True

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def root(self) -> Path:
        return self.folder / "vault"

    def put(self, name: str, data: bytes, *, ended_us: int = NOON) -> Path:
        """A spool file that was last written at `ended_us`."""
        path = self.spool / name
        path.write_bytes(data)
        os.utime(path, ns=(ended_us * 1000, ended_us * 1000))
        return path

    def put_pair(self, call_id: str = CALL, part: int = 1, seconds: float = 2.0, ended_us: int = NOON) -> None:
        for side, hertz in (("caller", audio.CALLER_HZ), ("agent", audio.AGENT_HZ)):
            self.put(f"{call_id}.{part}-{side}.sln", audio.tone(hertz, seconds), ended_us=ended_us)

    def make(self) -> recorder.Recorder:
        async def receipt_of(call_id: str, kind: recording.Kind) -> recording.Receipt | None:
            return self.receipts.get(call_id)

        async def is_over(call_id: str) -> bool | None:
            return self.over.get(call_id)

        return recorder.Recorder(
            self.database,
            spool=self.spool,
            root=self.root,
            ring=self.ring,
            no_ring=self.no_ring,
            journal_is_read=lambda: self.is_caught_up,
            node="main",
            receipt_of=receipt_of,
            is_over=is_over,
            now_us=lambda: self.now_us,
            pace=self.pace,
            targets=["jsonl"],
        )

    async def step(self) -> recorder.Recorder:
        made = self.make()
        try:
            await made.step()
        finally:
            await made.close()
        return made

    async def stored(self) -> list[recordings.Recording]:
        async with self.database.read() as connection:
            return await recordings.list_recordings(connection, recordings.RecordingFilter())

    async def events(self) -> list[dict[str, Any]]:
        async with self.database.read() as connection:
            return [json.loads(event.payload) for _, event in await outbox.after(connection, 0)]

    async def mp3(self, one: recordings.Recording) -> bytes:
        async with self.database.read() as connection:
            wrapped = await recordings.key_of(connection, one.recording_id)
        assert wrapped is not None
        key = RING.unwrap(wrapped, recordings.subject(one.recording_id))
        with vault.Reader(vault.file_of(self.root, one.recording_id, one.started_us), key, one.recording_id) as reader:
            assert reader.length == one.audio_bytes + one.peaks_bytes
            return reader.read(0, one.audio_bytes)

    def left(self) -> list[str]:
        return sorted(path.name for path in self.spool.iterdir() if not path.name.startswith("."))


@pytest.fixture
async def house(tmp_path: Path, database_url: str) -> AsyncIterator[House]:
    (tmp_path / "spool").mkdir()
    database = await store.Database.open(database_url)
    yield House(tmp_path, database)
    await database.close()


async def only(house: House) -> recordings.Recording:
    found = await house.stored()
    assert len(found) == 1
    return found[0]


async def test_a_pair_becomes_a_stereo_recording_and_the_spool_is_empty(house: House) -> None:
    house.put_pair(seconds=3.0)
    await house.step()
    one = await only(house)
    assert (one.state, one.kind, one.call_id) == (recordings.State.STORED, "talk", CALL)
    assert one.duration_seconds == 3.0
    assert one.started_us == NOON - 3 * SECOND
    left, right = audio.channels(await house.mp3(one))
    middle = slice(8_000, 16_000)
    assert audio.level(left[middle], audio.CALLER_HZ) > 50 * max(1.0, audio.level(left[middle], audio.AGENT_HZ))
    assert audio.level(right[middle], audio.AGENT_HZ) > 50 * max(1.0, audio.level(right[middle], audio.CALLER_HZ))
    assert house.left() == []
    (ready,) = await house.events()
    assert (ready["type"], ready["data"]["recording_id"]) == ("recording.ready", one.recording_id)


async def test_nothing_is_touched_before_the_call_is_over_and_the_files_rest(house: House) -> None:
    house.put_pair()
    house.over[CALL] = False
    await house.step()
    house.over[CALL] = True
    house.now_us = NOON + SECOND
    await house.step()
    assert await house.stored() == []
    assert len(house.left()) == 2
    house.now_us = NOON + 3 * SECOND
    await house.step()
    assert house.left() == []


async def test_it_asks_the_stored_records_whether_a_call_is_over(house: House) -> None:
    asks = recorder.stored_calls(house.database)
    async with house.database.begin() as tx:
        await calls.save(tx, [examples.call(1), examples.call(2, state="open")])
    assert [await asks(examples.call_id(number)) for number in (1, 2, 3)] == [True, False, None]


@pytest.mark.parametrize("result", ["refused", "timed_out", "prompt_failed", "not_asked"])
async def test_sound_without_consent_is_locked_away_with_an_alarm(house: House, result: str) -> None:
    house.put_pair()
    house.receipts[CALL] = recording.Receipt(False, result)
    made = await house.step()
    one = await only(house)
    assert (one.state, one.why) == (recordings.State.REFUSED, f"consent {result}")
    assert (house.left(), made.counts.refused, made.counts.stored) == ([], 1, 0)
    (alarm,) = await house.events()
    assert (alarm["type"], alarm["data"]["kind"]) == ("system.alert", "recording-without-consent")
    async with house.database.read() as connection:
        assert [entry.action for entry in await audit.entries(connection)] == ["recording.refused"]


async def test_a_consent_that_the_journal_does_not_tell_is_waited_for_and_then_counts_as_none(house: House) -> None:
    house.put_pair()
    house.receipts[CALL] = None
    house.over = {}
    await house.step()
    assert await house.stored() == []
    house.now_us = NOON + 601 * SECOND
    await house.step()
    assert (await only(house)).why == "consent not in the journal"


async def test_a_journal_that_is_not_read_yet_takes_nobodys_consent_away(house: House) -> None:
    """The daemon was down for hours: what the store does not know yet may have been granted (N3)."""
    house.put_pair()
    house.over, house.receipts[CALL] = {}, None
    house.now_us = NOON + 7_200 * SECOND
    house.is_caught_up = False
    await house.step()
    assert (await house.stored(), len(house.left())) == ([], 2)
    house.over, house.receipts[CALL], house.is_caught_up = {CALL: True}, GRANTED, True
    await house.step()
    assert (await only(house)).state is recordings.State.STORED


async def test_a_recorder_that_is_closed_lets_its_loop_go_on(house: House) -> None:
    """The loop is a root task: it must not end while the daemon stops."""
    made = house.make()
    running = asyncio.create_task(made.run())
    house.put_pair()
    await asyncio.to_thread(waits.wait_until, lambda: not house.left(), 20, "an empty spool")
    await made.close()
    house.put_pair(examples.call_id(2))
    await made.step()
    await made.look()
    assert not running.done()
    assert len(house.left()) == 2
    running.cancel()


@pytest.mark.real_time
async def test_a_recording_that_is_given_up_is_made_at_the_next_start(house: House) -> None:
    """SIGTERM in the middle of an encryption: the end does not wait for it, and nothing is lost or doubled."""
    house.put_pair(seconds=300.0)
    made = house.make()
    step = asyncio.create_task(made.step())
    await asyncio.to_thread(
        waits.wait_until, lambda: bool(list(house.folder.glob("vault/*/*/*/.*.tmp"))), 20, "a draft"
    )
    step.cancel()
    started = time.monotonic()
    await made.abandon()
    assert time.monotonic() - started < 1.0
    assert [path for path in house.root.rglob("*") if path.is_file()] == []
    assert (await house.stored(), len(house.left())) == ([], 2)
    await house.step()
    assert (await only(house)).duration_seconds == 300.0
    assert house.left() == []


async def test_parts_are_joined_with_the_silence_of_the_gap(house: House) -> None:
    house.put_pair(part=1, seconds=2.0, ended_us=NOON)
    house.put_pair(part=2, seconds=2.0, ended_us=NOON + 7 * SECOND)
    await house.step()
    one = await only(house)
    assert (one.parts, one.duration_seconds) == ("1 2", 9.0)
    left, _ = audio.channels(await house.mp3(one))
    loud = [audio.level(left[at : at + 800], audio.CALLER_HZ) > 1000 for at in range(0, 72_000, 800)]
    # The encoder's own delay is 1,105 samples: 0.14 s.
    quiet = [at for at, is_loud in enumerate(loud) if not is_loud and 5 < at < 85]
    assert (min(quiet), max(quiet)) == pytest.approx((21, 70), abs=2)
    assert len(quiet) == pytest.approx(50, abs=2)


async def test_the_journals_pause_wins_over_the_times_of_the_files(house: House) -> None:
    """R42: a busy machine closes and writes files late, so their times would make the pause too short or too long."""
    for part, ended_us in ((1, NOON + SECOND // 4), (2, NOON + 5 * SECOND + SECOND // 2)):
        house.put_pair(part=part, seconds=2.0, ended_us=ended_us)
    async with house.database.begin() as tx:
        pause = {"from": records.timestamp(NOON), "to": records.timestamp(NOON + 3 * SECOND)}
        await calls.save(tx, [examples.call(1, record=json.dumps({"call_id": CALL, "pauses": [pause]}))])
    await house.step()
    assert (await only(house)).duration_seconds == 7.0


async def test_the_start_in_a_name_wins_over_the_time_of_the_file(house: House) -> None:
    for part, start in ((1, NOON), (2, NOON + 5 * SECOND)):
        for side in ("caller", "agent"):
            house.put(f"{CALL}.{part}.{start // 1000}-{side}.sln", audio.tone(440, 1.0), ended_us=NOON + 50 * SECOND)
    await house.step()
    one = await only(house)
    assert (one.started_us, one.duration_seconds) == (NOON, 6.0)


@pytest.mark.parametrize("late_ms", [-37, -5, 5, 37, 120])
async def test_sides_that_begin_a_little_apart_are_aligned_at_their_end(house: House, late_ms: int) -> None:
    """Asterisk's two files differ by some ms at the front (asterisk.md): a click that both heard must coincide."""
    samples = abs(late_ms) * 8
    full = audio.silence(1.0) + audio.tone(440, 1.0)
    cut = full[2 * samples :]
    sides = (full, cut) if late_ms > 0 else (cut, full)
    for side, data in zip(("caller", "agent"), sides, strict=True):
        house.put(f"{CALL}.1-{side}.sln", data)
    await house.step()
    left, right = audio.channels(await house.mp3(await only(house)))
    assert abs(audio.onset(left) - audio.onset(right)) <= 0.005


async def test_the_frame_of_ringing_before_the_agent_is_left_silent(house: House) -> None:
    """R17: nothing from ringing; Asterisk gives the agent's side one frame of it, and the caller's none."""
    frame, rest = audio.tone(425, 0.02), audio.silence(1.0)
    for side in ("caller", "agent"):
        house.put(f"{CALL}.1-{side}.sln", frame + rest)
    await house.step()
    left, right = audio.channels(await house.mp3(await only(house)))
    assert max(map(abs, left)) > 2_000
    assert max(map(abs, right)) < 400


async def test_a_side_that_broke_off_keeps_its_place(house: House) -> None:
    house.put(f"{CALL}.1-caller.sln", audio.tone(440, 3.0))
    house.put(f"{CALL}.1-agent.sln", audio.tone(1000, 1.0))
    await house.step()
    _, right = audio.channels(await house.mp3(await only(house)))
    assert audio.onset(right) < 0.2


@pytest.mark.parametrize("form", ["sln", "sln16", "ulaw", "alaw", "wav", "killed.wav", "odd.sln"])
async def test_all_forms_that_asterisk_writes_are_read(house: House, form: str) -> None:
    rate = 16_000 if form == "sln16" else 8_000
    samples = audio.tone(440, 2.0, rate)
    suffix = form.rpartition(".")[2]
    data = {
        "wav": audio.wav(samples),
        "killed.wav": audio.wav(samples, is_closed=False),
        "odd.sln": samples + b"\1",
        "ulaw": b"\xff" * 8_000 + b"\x80" * 8_000,
        "alaw": b"\xd5" * 8_000 + b"\xaa" * 8_000,
    }.get(form, samples)
    for side in ("caller", "agent"):
        house.put(f"{CALL}.1-{side}.{suffix}", data)
    await house.step()
    one = await only(house)
    assert one.duration_seconds == 2.0
    left, _ = audio.channels(await house.mp3(one), rate=rate)
    if form not in ("ulaw", "alaw"):
        assert audio.level(left[rate // 2 : rate], 440, rate) > 7_000


async def test_a_message_is_one_channel(house: House) -> None:
    house.put(f"{CALL}.1-message.sln", audio.tone(440, 2.0))
    await house.step()
    one = await only(house)
    assert (one.kind, one.duration_seconds) == ("voicemail", 2.0)
    assert len(audio.channels(await house.mp3(one), count=1)[0]) > 16_000


async def test_the_announcement_is_put_in_front_where_the_receipt_says_so(house: House) -> None:
    prompt = house.folder / "prompt.wav"
    prompt.write_bytes(audio.wav(audio.tone(2000, 1.0)))
    house.receipts[CALL] = recording.Receipt(True, "granted", str(prompt))
    house.put_pair(seconds=2.0)
    await house.step()
    one = await only(house)
    assert one.duration_seconds == 3.0
    left, right = audio.channels(await house.mp3(one))
    assert min(audio.level(side[2_400:7_200], 2000) for side in (left, right)) > 5_000


async def test_an_announcement_that_is_gone_costs_itself_and_not_the_talk(house: House) -> None:
    house.receipts[CALL] = recording.Receipt(True, "granted", "/nowhere/prompt.wav")
    house.put_pair(seconds=2.0)
    await house.step()
    assert (await only(house)).duration_seconds == 2.0


async def test_peaks_tell_both_sides(house: House) -> None:
    house.put(f"{CALL}.1-caller.sln", audio.tone(440, 1.0) + audio.silence(1.0))
    house.put(f"{CALL}.1-agent.sln", audio.silence(1.0) + audio.tone(1000, 1.0))
    await house.step()
    one = await only(house)
    async with house.database.read() as connection:
        wrapped = await recordings.key_of(connection, one.recording_id)
    assert wrapped is not None
    key = RING.unwrap(wrapped, recordings.subject(one.recording_id))
    with vault.Reader(vault.file_of(house.root, one.recording_id, one.started_us), key, one.recording_id) as reader:
        peaks = json.loads(reader.read(one.audio_bytes))
    assert peaks["seconds"] == 2.0
    assert peaks["sides"] == [[62] * 10 + [0] * 10, [0] * 10 + [62] * 10]


@pytest.mark.parametrize("blocks", [0, 1, 2])
async def test_a_file_that_may_not_be_closed_yet_rests_for_longer(house: House, blocks: int) -> None:
    """A busy Asterisk closes its files late, and until then it has written whole blocks only."""
    written = audio.tone(440, 10.0)[: blocks * recording.UNWRITTEN_BYTES]
    for side in ("caller", "agent"):
        house.put(f"{CALL}.1-{side}.sln", written)
    house.now_us = NOON + 19 * SECOND
    await house.step()
    assert (await house.stored(), len(house.left())) == ([], 2)
    for side in ("caller", "agent"):
        house.put(f"{CALL}.1-{side}.sln", written + audio.tone(440, 1.0), ended_us=NOON + 17 * SECOND)
    await house.step()
    assert (await only(house)).duration_seconds == pytest.approx(1.0 + blocks * 2.048)


async def test_files_without_any_sound_leave_no_recording(house: House) -> None:
    house.put_pair(seconds=0.0)
    house.now_us = NOON + 21 * SECOND
    made = await house.step()
    assert (await house.stored(), house.left(), made.counts.empty) == ([], [], 1)


async def test_what_is_no_sound_is_put_aside_and_the_next_one_is_stored(house: House) -> None:
    other = examples.call_id(2)
    house.put(f"{CALL}.1-caller.wav", b"this is not a WAV file")
    house.put_pair(other)
    house.over[other], house.receipts[other] = True, GRANTED
    await house.step()
    assert (await only(house)).call_id == other
    assert house.left() == ["unreadable"]
    assert [path.name for path in (house.spool / "unreadable").iterdir()] == [f"{CALL}.1-caller.wav"]


async def test_foreign_files_and_links_are_left_alone(house: House) -> None:
    secret = house.folder / "secret"
    secret.write_bytes(audio.tone(440, 1.0))
    (house.spool / f"{CALL}.1-caller.sln").symlink_to(secret)
    for name in ("readme.txt", f"{CALL}.1-other.sln", f"../{CALL}.1-caller.sln", "x.1-caller.sln"):
        (house.spool / name).write_bytes(b"x")
    await house.step()
    assert await house.stored() == []
    assert secret.exists()


async def test_a_crash_after_the_commit_only_empties_the_spool(house: House) -> None:
    house.put_pair()
    await house.step()
    first = await only(house)
    house.put_pair()
    await house.step()
    assert await only(house) == first
    assert house.left() == []
    assert len(await house.mp3(first)) == first.audio_bytes


async def test_parts_that_come_later_are_a_recording_of_their_own(house: House) -> None:
    house.put_pair(part=1)
    await house.step()
    house.put_pair(part=1)
    house.put_pair(part=2, ended_us=NOON + 30 * SECOND)
    await house.step()
    assert sorted(one.parts for one in await house.stored()) == ["1", "2"]


async def test_a_forgotten_call_is_not_stored(house: House) -> None:
    async with house.database.begin() as tx:
        await calls.save(tx, [examples.call(1)])
        rows = await forgetting.calls_of(tx, "+79161234567")
        await forgetting.forget(tx, rows, "erased-1", why=forgetting.ERASURE, now_us=NOON)
    house.put_pair()
    await house.step()
    assert (await house.stored(), house.left()) == ([], [])


async def test_without_a_key_ring_nothing_is_stored_and_new_calls_are_not_recorded(house: House) -> None:
    house.ring = None
    house.put_pair()
    made = await house.step()
    assert (made.accepts, made.refusal) == (False, "there is no key ring")
    assert (len(house.left()), made.waiting, await house.events()) == (2, 1, [])


async def test_a_ring_that_is_lost_raises_an_alarm(house: House) -> None:
    house.ring, house.no_ring = None, "the key ring is not readable"
    made = await house.step()
    assert made.refusal == "the key ring is not readable"
    (alarm,) = await house.events()
    assert (alarm["data"]["kind"], alarm["data"]["message"]) == ("recording-stopped", "the key ring is not readable")


async def test_a_spool_that_is_missing_stops_recording_until_it_is_there(house: House) -> None:
    house.spool.rmdir()
    made = house.make()
    await made.look()
    assert made.refusal == "the spool cannot be read: No such file or directory"
    with pytest.raises(FileNotFoundError):
        await made.step()
    house.spool.mkdir()
    await made.step()
    assert made.accepts
    await made.close()


async def test_a_spool_that_is_nearly_full_says_so_once_and_still_stores(house: House) -> None:
    house.pace = recorder.Pace(min_free_percent=100)
    house.put_pair()
    made = house.make()
    await made.step()
    await made.step()
    await made.close()
    assert not made.accepts
    assert "nearly full" in str(made.refusal)
    assert [event["type"] for event in await house.events()] == ["system.alert", "recording.ready"]


async def test_a_full_vault_keeps_the_spool(house: House) -> None:
    """A file stands where the folder should be made: the system refuses as it does without room."""
    house.put_pair()
    house.root.write_bytes(b"")
    with pytest.raises(OSError) as raised:
        await house.step()
    assert raised.value.errno in (errno.ENOTDIR, errno.EEXIST)
    assert (await house.stored(), len(house.left())) == ([], 2)
    house.root.unlink()
    await house.step()
    assert house.left() == []


async def test_a_database_that_is_away_keeps_the_spool(house: House) -> None:
    house.put_pair()
    other = await store.Database.open(f"sqlite:///{house.folder}/other.db")
    good, house.database = house.database, other
    await other.close()
    (house.folder / "other.db").unlink()
    with pytest.raises(store.StoreUnavailable):
        await house.step()
    assert len(house.left()) == 2
    house.database = good
    await house.step()
    assert house.left() == []


async def test_two_recorders_on_one_spool_do_not_work_at_once(house: House) -> None:
    first = house.make()
    await first.step()
    house.put_pair()
    second = house.make()
    assert await second.step() == 0
    assert await first.step() == 1
    await first.close()
    await second.close()


KILLED = """
import asyncio, sys
from pathlib import Path
from gateway import store
from gateway.core import recording, records
from gateway.services import recorder
from gateway.store import keyring

async def main(url, folder, ring):
    async def granted(*_):
        return recording.Receipt(True, "granted")
    async def over(_):
        return True
    database = await store.Database.open(url)
    made = recorder.Recorder(database, spool=Path(folder, "spool"), root=Path(folder, "vault"), node="main",
        ring=keyring.parse(ring), receipt_of=granted, is_over=over, now_us=lambda: 1_900_000_000_000_000,
        pace=recorder.Pace(min_free_percent=1))
    print("ready", flush=True)
    while True:
        await made.step()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("after", [0.0, 0.05, 0.1, 0.2, 0.35])
async def test_sigkill_at_any_moment_loses_and_doubles_nothing(house: House, database_url: str, after: float) -> None:
    ids = [examples.call_id(number) for number in range(12)]
    for call_id in ids:
        house.put_pair(call_id, seconds=20.0)
        house.over[call_id], house.receipts[call_id] = True, GRANTED
    ring = keyring.new_line("2026-11")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, database_url, str(house.folder), ring, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).strip() == b"ready"
    await asyncio.sleep(after)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    house.ring = keyring.parse(ring)
    await house.step()
    found = await house.stored()
    assert sorted(one.call_id for one in found) == sorted(ids)
    assert house.left() == []
    async with house.database.read() as connection:
        for one in found:
            wrapped = await recordings.key_of(connection, one.recording_id)
            assert wrapped is not None
            key = house.ring.unwrap(wrapped, recordings.subject(one.recording_id))
            path = vault.file_of(house.root, one.recording_id, one.started_us)
            with vault.Reader(path, key, one.recording_id) as reader:
                assert reader.length == len(reader.read())
        assert (await connection.execute(text("SELECT count(*) FROM events"))).scalar() == 12
