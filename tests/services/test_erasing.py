"""One command removes a person everywhere, and a replay does not bring them back (N14)."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway import store
from gateway.core import book, scriptwire
from gateway.pbx import journalfiles
from gateway.services import callbacks, erasing, posting, tracker
from gateway.store import audit, calls, forgetting, keyring, outbox, profiles, recordings, targets, vault
from tests import journals
from tests.outgoing import jsonlines_process
from tests.store import examples

RING = keyring.parse(keyring.new_line("2026-11"))
NOW = 1_900_000_000_000_000
PERSON = "+74951112233"
"""The caller of most recorded journals."""


@dataclass
class House:
    """A node that has read a journal, delivered its events, and stored a recording of each call."""

    folder: Path
    database: store.Database

    @property
    def places(self) -> erasing.Places:
        cel = self.folder / "cel"
        return erasing.Places(
            self.folder / "vault",
            self.folder / "spool",
            cel,
            "dialmark.csv",
            cel / "archive",
            (self.folder / "events.jsonl",),
        )

    async def work(self, *names: str) -> None:
        self.places.journal.mkdir()
        self.places.spool.mkdir()
        (self.places.journal / "dialmark.csv").write_bytes(b"".join(journals.content(name) for name in names))
        await self.track()
        for row in await self.rows():
            await self.record(row)
        await self.hand_on()

    async def hand_on(self) -> None:
        """Events into the JSON lines."""
        shared = posting.Shared(
            self.database,
            now_us=lambda: NOW,
            random=lambda: 0.0,
            node="main",
            targets=["jsonl"],
            events_added=lambda: None,
        )
        await posting.Courier(shared, "jsonl", jsonlines_process.line(self.places.exports[0], 10_000_000)).close()

    async def post_to(self, target: str) -> None:
        """Every event to a receiver that repeats in its refusal what it was sent."""
        async with self.database.begin() as tx:
            await outbox.replay(tx, target, outbox.Chosen(), now_us=NOW)
            for one in await outbox.claim(tx, target, limit=100, now_us=NOW, lease_us=1_000_000):
                said = one.event.payload
                await outbox.fail(tx, one, error=f"refused: {said}", now_us=NOW, next_at_us=None)
                logged = targets.Logged(
                    target, one.event.event_id, one.event.type, one.event.call_id, 1, NOW, 5, "dead", said, said, said
                )
                await targets.log(tx, [logged])

    async def track(self) -> None:
        async def no_book(_: int | None) -> None:
            return None

        async def nothing_known() -> tracker.Alive | None:
            return None

        reading = tracker.Tracker(
            self.database,
            journalfiles.JournalReader(self.places.journal),
            node="main",
            book_of=no_book,
            outlets=tracker.Outlets(changed=lambda _: None, events_added=lambda: None, targets=["jsonl"]),
            alive=nothing_known,
            now_us=lambda: NOW,
        )
        await reading.restore()
        while await reading.step() or not reading.is_caught_up:
            pass

    async def rows(self) -> list[calls.CallRow]:
        async with self.database.read() as connection:
            return list((await calls.list_calls(connection, calls.CallFilter(), limit=100)).calls)

    async def record(self, row: calls.CallRow) -> None:
        made = recordings.Recording(
            recording_id=row.call_id,
            call_id=row.call_id,
            node="main",
            kind="talk",
            state=recordings.State.STORED,
            started_us=row.started_us,
            duration_seconds=1.0,
            parts="1",
            audio_bytes=4,
            peaks_bytes=0,
            digest="",
            created_us=NOW,
        )
        key = vault.new_key()
        vault.write(vault.file_of(self.places.vault, row.call_id, row.started_us), key, row.call_id, [b"talk"])
        async with self.database.begin() as tx:
            await recordings.register(tx, made, RING.wrap(key, recordings.subject(row.call_id)))

    async def erase(self, number: str = PERSON) -> erasing.Receipt:
        return await erasing.erase(
            self.database, number, ring=RING, places=self.places, backup_days=30, actor="cli:anna", now_us=NOW
        )

    async def everything(self) -> str:
        """All that the database and the disk hold, as text."""
        said = []
        async with self.database.read() as connection:
            for table in (
                *("calls", "events", "deliveries", "delivery_log", "delivery_facts", "target_states"),
                "caller_attributes",
                *("open_rows", "damaged_rows", "audit", "tombstones"),
            ):
                said.append(str((await connection.execute(text(f"SELECT * FROM {table}"))).all()))
        for path in self.folder.rglob("*"):
            if path.is_file() and path.suffix in (".csv", ".jsonl"):
                said.append(path.read_bytes().decode(errors="replace"))
            if path.suffix == ".gz":
                said.append(gzip.decompress(path.read_bytes()).decode(errors="replace"))
        return "\n".join(said)


@pytest.fixture
async def house(tmp_path: Path, database_url: str) -> AsyncIterator[House]:
    database = await store.Database.open(database_url)
    yield House(tmp_path, database)
    await database.close()


async def test_the_person_is_gone_everywhere_and_the_counts_stay(house: House) -> None:
    await house.work("answered_caller_ends", "busy_then_reserve", "outbound", "all_fail")
    before = await house.rows()
    theirs = [row for row in before if row.caller == PERSON]
    assert theirs
    async with house.database.begin() as tx:
        await profiles.keep(tx, PERSON, "hubspot:main", {"age": "a-hundred-and-one"}, now_us=NOW)
        await profiles.keep(tx, "+79160000000", "hubspot:main", {"age": "another's"}, now_us=NOW)
    assert PERSON[1:] in await house.everything()
    (house.places.spool / f"{theirs[0].call_id}.1-caller.sln").write_bytes(b"sound")
    receipt = await house.erase()
    left = await house.everything()
    assert PERSON[1:] not in left
    assert "a-hundred-and-one" not in left
    assert "another's" in left
    after = await house.rows()
    assert [(row.call_id, row.outcome, row.started_us, row.route) for row in after] == [
        (row.call_id, row.outcome, row.started_us, row.route) for row in before
    ]
    assert {row.caller for row in after if row.call_id in {one.call_id for one in theirs}} == {receipt.pseudonym}
    assert receipt.calls >= len(theirs)
    assert receipt.recordings_shredded == receipt.calls
    assert (receipt.spool_files, receipt.problems) == (1, [])
    assert receipt.journal_rows > 0
    assert receipt.export_lines > 0
    assert [served["target"] for served in receipt.receivers_served] == ["jsonl"]
    assert receipt.last_backup_ends == "2030-04-16T17:46:40.000Z"
    assert PERSON[1:] not in json.dumps(receipt.document())
    for one in theirs:
        assert not vault.file_of(house.places.vault, one.call_id, one.started_us).exists()


async def test_who_asked_to_be_called_is_forgotten_too(house: House) -> None:
    """R69, N14: number, name and words go, in the database, in the JSON lines, and in what receivers were sent and
    answered; that somebody asked stays."""
    asking = callbacks.Callbacks(house.database, now_us=lambda: NOW, targets=["jsonl"])
    site = book.Site("clinic", "Clinic", "Europe/Moscow", "RU", "ru", "desk")
    for number, name in ((PERSON, "Anna"), ("+7 495 123-45-67", "Boris")):
        asked = scriptwire.Callback(
            site="clinic", page="abc", visitor=None, lease=None, url="https://clinic.example/anna", number=number,
            name=name, message=f"I am {name}", when=f"when {name} is there",
        )  # fmt: skip
        await asking.take(asked, site)
    await house.hand_on()
    await house.post_to("webhook:crm")
    assert "Anna" in await house.everything()
    receipt = await house.erase()
    left = await house.everything()
    assert (receipt.callbacks, receipt.problems) == (1, [])
    assert [(one["target"], one["events"]) for one in receipt.receivers_served] == [("jsonl", 1)]
    assert "Anna" not in left and PERSON[1:] not in left
    assert "Boris" in left and receipt.pseudonym in left
    assert (await house.erase()).callbacks == 0


async def test_the_receipt_proves_whose_erasure_it_was_and_the_chain_is_whole(house: House) -> None:
    await house.work("answered_caller_ends")
    async with house.database.begin() as tx:
        await audit.append(tx, at_us=NOW, actor="token:x", action="recording.listened", subject="s", person=PERSON)
    receipt = await house.erase()
    async with house.database.read() as connection:
        (entry,) = await audit.entries(connection, after=receipt.audit_row - 1)
        assert await audit.salt_of(connection, receipt.audit_row) is None
    assert entry.person_digest == audit.digest_of(PERSON, receipt.salt)
    assert receipt.audit_rows_unlinked == 2
    assert (await audit.verify(house.database)).is_whole


async def test_lines_keep_their_places_in_files_that_are_being_written(house: House) -> None:
    await house.work("answered_caller_ends", "outbound", "hostile")
    files = [house.places.journal / "dialmark.csv", house.places.exports[0]]
    old = [path.read_bytes() for path in files]
    await house.erase()
    for path, was in zip(files, old, strict=True):
        now = path.read_bytes()
        assert [len(line) for line in now.split(b"\n")] == [len(line) for line in was.split(b"\n")]
        assert now != was
    for line in files[1].read_text().splitlines():
        assert json.loads(line)["type"].startswith("call.")


async def test_reading_the_journal_again_does_not_bring_the_person_back(house: House) -> None:
    await house.work("answered_caller_ends")
    await house.erase()
    async with house.database.begin() as tx:
        await tx.execute(text("DELETE FROM journal_positions"))
        await tx.execute(text("UPDATE journal_files SET size = 0"))
    await house.track()
    assert PERSON[1:] not in await house.everything()


async def test_an_old_copy_of_the_journal_is_recognised_by_the_tombstone(house: House) -> None:
    await house.work("answered_caller_ends")
    (row,) = await house.rows()
    async with house.database.read() as connection:
        nobody = await forgetting.tombstones(connection, RING)
    assert nobody.pseudonym_of(row.call_id, PERSON, row.started_us) is None
    receipt = await house.erase()
    async with house.database.read() as connection:
        known = await forgetting.tombstones(connection, RING)
        without_ring = await forgetting.tombstones(connection, None)
    assert known.pseudonym_of("another call", PERSON, NOW - 1) == receipt.pseudonym
    assert known.pseudonym_of("another call", "+74950000000", NOW - 1) is None
    assert known.pseudonym_of("a call after the erasure", PERSON, NOW + 1) is None
    assert without_ring.pseudonym_of(row.call_id, None, 0) == receipt.pseudonym


async def test_archived_journals_are_written_anew(house: House) -> None:
    await house.work("answered_caller_ends")
    live = house.places.journal / "dialmark.csv"
    house.places.archive.mkdir()
    first = live.read_bytes().split(b"\n")[0]
    name = f"journal-{1795300070540450:016d}-{journalfiles.fingerprint(first)}.csv.gz"
    archived = house.places.archive / name
    archived.write_bytes(gzip.compress(live.read_bytes()))
    live.unlink()
    assert (await house.erase()).problems == []
    assert PERSON[1:].encode() not in gzip.decompress(archived.read_bytes())
    assert [path.name for path in house.places.archive.iterdir()] == [name]


async def test_doing_it_again_changes_nothing_and_finds_the_same_calls(house: House) -> None:
    await house.work("answered_caller_ends", "busy_then_reserve")
    first = await house.erase()
    said = await house.rows()
    second = await house.erase()
    assert (second.calls, second.pseudonym) == (first.calls, first.pseudonym)
    assert (second.journal_rows, second.export_lines, second.recordings_shredded) == (0, 0, 0)
    assert [row.record for row in await house.rows()] == [row.record for row in said]


async def test_a_held_recording_stays_and_is_named(house: House) -> None:
    await house.work("answered_caller_ends")
    (row,) = await house.rows()
    async with house.database.begin() as tx:
        await recordings.hold(tx, row.call_id, why="case 12", now_us=NOW)
    receipt = await house.erase()
    assert (receipt.recordings_held, receipt.recordings_shredded) == ([row.call_id], 0)
    assert vault.file_of(house.places.vault, row.call_id, row.started_us).exists()


async def test_other_callers_are_untouched(house: House) -> None:
    await house.work("answered_caller_ends", "outbound")
    before = await house.everything()
    receipt = await house.erase("+79999999999")
    assert (receipt.calls, receipt.journal_rows, receipt.export_lines) == (0, 0, 0)
    assert before.count(PERSON[1:]) == (await house.everything()).count(PERSON[1:])
    assert examples.call_id(1) not in before
