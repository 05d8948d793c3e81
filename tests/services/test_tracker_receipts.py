"""Receipts are written with the record, whatever is killed or late, and stay provable (N3); erased persons stay away
from everything the tracker writes (N14)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from gateway import store
from gateway.core import receipts
from gateway.services import erasing, forgotten
from gateway.store import audit, keyring, outbox, signatures
from gateway.store import receipts as stored_receipts
from tests import served
from tests.services.desk import NODE, Desk
from tests.services.outages import out_of_order
from tests.services.test_tracker import until

RING = keyring.parse(keyring.new_line("2026-11"))
PERSON = f"+{served.CALLER_NUMBER}"
OTHER = "79161234567"


def signer(seed: int = 1) -> signatures.Signer:
    return signatures.Signer(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


@pytest.fixture
async def desk(database: store.Database, tmp_path: Path) -> AsyncIterator[Desk]:
    yield Desk(database, tmp_path, signer=signer(), ring=RING)


def unsigned(one: stored_receipts.Signed) -> dict[str, Any]:
    """The document without what is random."""
    return {**one.content(), "caller_reference": None}


def wanted(names: list[str]) -> list[dict[str, Any]]:
    """The receipts of these stories, straight from the fold, in the order of the store."""
    found = []
    for name in names:
        call = served.STORIES[name]()
        for what in (receipts.TALK, receipts.MESSAGE):
            made = receipts.build(call.facts(), call.rows, node=NODE, what=what)
            found += [made] if made is not None else []
    return sorted(found, key=lambda made: (made["call_id"], made["what"]))


async def keys(desk: Desk) -> dict[str, str]:
    async with desk.database.read() as connection:
        return await stored_receipts.keys(connection)


async def test_every_call_that_was_asked_has_a_receipt_and_no_other(desk: Desk) -> None:
    desk.write(served.text_of(list(served.STORIES)))
    await desk.read()
    kept = await desk.receipts()
    assert [unsigned(one) for one in kept] == wanted(list(served.STORIES))
    assert len(kept) == 5
    known = await keys(desk)
    for one in kept:
        stored_receipts.check(one, known)
        assert one.salt is not None
        assert one.content()["caller_reference"] == audit.digest_of(PERSON, one.salt)
        assert served.CALLER_NUMBER not in one.document
    assert len(await desk.records()) == len(served.STORIES)


async def test_without_a_signing_key_there_is_none(database: store.Database, tmp_path: Path) -> None:
    desk = Desk(database, tmp_path)
    desk.write(served.granted().text)
    await desk.read()
    assert await desk.receipts() == []
    assert (await desk.record())["recording_consent"]["result"] == "granted"


async def test_an_open_call_has_none_yet(desk: Desk) -> None:
    lines = served.granted().text.splitlines(keepends=True)
    desk.write(b"".join(lines[:-3]))
    await desk.read()
    assert await desk.receipts() == []
    desk.write(b"".join(lines[-3:]))
    await desk.read()
    assert len(await desk.receipts()) == 1


@pytest.mark.parametrize("rows_at_once", [1, 3, 7])
async def test_killed_at_every_row(desk: Desk, rows_at_once: int) -> None:
    """What was in memory is gone after each step: receipts stand beside their records, once, and say the same."""
    names = ["granted", "paused", "refused", "message_left"]
    lines = served.text_of(names).splitlines(keepends=True)
    for start in range(0, len(lines), rows_at_once):
        desk.write(b"".join(lines[start : start + rows_at_once]))
        await desk.read()
        closed = {record["call_id"] for record in await desk.records() if record["state"] == "closed"}
        assert {one.call_id for one in await desk.receipts()} == closed
        desk.crash()
    assert [unsigned(one) for one in await desk.receipts()] == wanted(names)


async def test_a_store_that_is_away_writes_neither_record_nor_receipt(desk: Desk, database_url: str) -> None:
    desk.write(served.granted().text)
    running = await desk.tracker()
    with out_of_order(database_url):
        step = asyncio.ensure_future(running.step())
        await until(lambda: running.problem is not None)
    await step
    await desk.read()
    assert [unsigned(one) for one in await desk.receipts()] == wanted(["granted"])


async def test_late_rows_change_the_receipt_and_not_whom_it_is_about(desk: Desk) -> None:
    call = served.paused()
    late = [line for line in call.text.splitlines(keepends=True) if b"DM_PAUSE" in line and b"resumed" in line]
    desk.write(b"".join(line for line in call.text.splitlines(keepends=True) if line not in late))
    await desk.read()
    (before,) = await desk.receipts()
    desk.write(late[0])
    await desk.read()
    (after,) = await desk.receipts()
    assert unsigned(after) == wanted(["paused"])[0] != unsigned(before)
    assert (after.salt, after.content()["caller_reference"]) == (before.salt, before.content()["caller_reference"])
    assert after.digest != before.digest
    stored_receipts.check(after, await keys(desk))


async def test_a_new_signing_key_leaves_old_receipts_provable(desk: Desk) -> None:
    desk.write(served.granted(0).text)
    await desk.read()
    desk.crash()
    desk.signer = signer(2)
    desk.write(served.granted(9).text)
    await desk.read()
    kept = await desk.receipts()
    known = await keys(desk)
    assert {one.key_id for one in kept} == set(known) == {signer(1).key_id, signer(2).key_id}
    for one in kept:
        stored_receipts.check(one, known)


@pytest.mark.parametrize(
    "change",
    [
        {"document": '{"receipt":1}'},
        {"document": "["},
        {"signature": base64.b64encode(bytes(64)).decode()},
        {"signature": ""},
        {"key_id": "0" * 16},
    ],
)
async def test_a_receipt_that_was_tampered_with_is_none(desk: Desk, change: dict[str, str]) -> None:
    desk.write(served.granted().text)
    await desk.read()
    name, value = next(iter(change.items()))
    async with desk.database.begin() as tx:
        await tx.execute(text(f"UPDATE receipts SET {name} = :value"), {"value": value})
    (one,) = await desk.receipts()
    with pytest.raises(signatures.BadSignature):
        stored_receipts.check(one, await keys(desk))


# --- erased persons ---


async def erase(desk: Desk, number: str = PERSON) -> erasing.Receipt:
    """As `dialmark erase` does from another process; the journal on the disk is left as it is here."""
    nowhere = desk.folder / "nowhere"
    places = erasing.Places(nowhere, nowhere, nowhere, "dialmark.csv", nowhere)
    return await erasing.erase(
        desk.database, number, ring=RING, places=places, backup_days=30, actor="cli:anna", now_us=desk.now_us
    )


async def everything(desk: Desk) -> str:
    found = []
    async with desk.database.read() as connection:
        for table in ("calls", "events", "deliveries", "open_rows", "damaged_rows", "receipts", "forgotten_calls"):
            found.append(str((await connection.execute(text(f"SELECT * FROM {table}"))).all()))
    return "\n".join(found)


async def test_a_person_erased_during_the_call_does_not_come_back_with_its_next_row(desk: Desk) -> None:
    lines = served.granted().text.splitlines(keepends=True)
    middle = len(lines) // 2
    desk.write(b"".join(lines[:middle]))
    await desk.read()
    receipt = await erase(desk)
    assert served.CALLER_NUMBER not in await everything(desk)
    for line in lines[middle:]:
        desk.write(line)
        await desk.read()
        assert served.CALLER_NUMBER not in await everything(desk)
    record = await desk.record()
    assert (record["state"], record["outcome"], record["caller"]["number"]) == ("closed", "answered", receipt.pseudonym)
    assert (record["caller"]["name"], record["caller"]["raw"], record["sip_call_id"]) == (None, None, None)
    (one,) = await desk.receipts()
    assert one.content()["caller_reference"] is None
    assert one.salt is None
    assert desk.shown[-1]["caller"]["number"] == receipt.pseudonym, "the live board sees no more than the store"


async def test_nor_after_a_restart_in_between(desk: Desk) -> None:
    lines = served.granted().text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        desk.write(line)
        await desk.read()
        if number == 5:
            await erase(desk)
        if number > 5:
            desk.crash()
            await desk.tracker()
            assert served.CALLER_NUMBER not in await everything(desk) + str(desk.restored)
    assert (await desk.record())["caller"]["number"].startswith("erased-")


async def test_a_call_that_was_not_read_yet_is_recognised_by_its_number(desk: Desk) -> None:
    """Three calls of the person, one of another; the first was stored when the person was erased, the others wait."""
    desk.write(served.granted(0).text)
    await desk.read()
    waiting = [served.granted(1), served.granted(2), served.granted(3, cid=OTHER)]
    desk.now_us = served.BEGIN_US + 4_000_000_000
    receipt = await erase(desk)
    desk.write(b"".join(call.text for call in waiting))
    await desk.read()
    assert served.CALLER_NUMBER not in await everything(desk)
    assert [(record["caller"]["number"], record["caller"]["calls_before"]) for record in await desk.records()] == [
        (receipt.pseudonym, 0),
        (receipt.pseudonym, 1),
        (receipt.pseudonym, 2),
        (f"+{OTHER}", 0),
    ]
    async with desk.database.read() as connection:
        known = (await connection.execute(text("SELECT call_id FROM forgotten_calls"))).scalars().all()
    assert set(known) == {served.granted(number).call_id for number in (0, 1, 2)}


async def test_raw_rows_that_are_kept_of_an_erased_persons_call_are_masked(desk: Desk) -> None:
    """The call is up and was not read yet when the person was erased; its rows are kept until it is over."""
    desk.write(served.granted(0).text)
    await desk.read()
    desk.now_us = served.BEGIN_US + 4_000_000_000
    await erase(desk)
    lines = served.granted(1).text.splitlines(keepends=True)
    for line in lines[:-3]:
        desk.write(line)
        await desk.read()
        assert served.CALLER_NUMBER not in await everything(desk)
    assert await desk.open_rows() == len(lines) - 3
    desk.crash()
    desk.write(b"".join(lines[-3:]))
    await desk.read()
    first, second = await desk.records()
    assert (second["state"], second["caller"]["number"]) == ("closed", first["caller"]["number"])


async def test_who_calls_again_after_the_erasure_is_a_caller_like_any_other(desk: Desk) -> None:
    desk.write(served.granted(0).text)
    await desk.read()
    await erase(desk)
    desk.write(served.granted(5).text)
    await desk.read()
    first, second = await desk.records()
    assert first["caller"]["number"].startswith("erased-")
    assert (second["caller"]["number"], second["caller"]["first_time"]) == (PERSON, True)


async def test_reading_the_whole_journal_again_brings_nobody_back(desk: Desk) -> None:
    """The position is lost, and with it the records: the journal still names the person, the tombstone knows them."""
    desk.write(served.text_of(["granted", "message_left"]))
    await desk.read()
    before = await desk.records()
    await erase(desk)
    erased = await desk.records()
    for tables in (("journal_positions",), ("journal_positions", "calls", "events", "forgotten_calls", "receipts")):
        desk.crash()
        async with desk.database.begin() as tx:
            for table in (*tables, "open_rows", "journal_files"):
                await tx.execute(text(f"DELETE FROM {table}"))
        await desk.read()
        assert served.CALLER_NUMBER not in await everything(desk)
        found = await desk.records()
        assert [record["caller"]["number"] for record in found] == [record["caller"]["number"] for record in erased]
        assert [record["outcome"] for record in found] == [record["outcome"] for record in before]


async def test_erased_while_a_batch_is_being_made(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The erasure is committed after the tracker looked at its tombstones and before it writes."""
    desk.write(served.granted(0).text)
    await desk.read()
    done: list[erasing.Receipt] = []

    async def meanwhile(_: int | None) -> None:
        if not done:
            done.append(await erase(desk))

    monkeypatch.setattr(desk, "_book_of", meanwhile)
    desk.crash()
    desk.write(served.granted(1).text)
    desk.now_us += 1_000_000
    await desk.read()
    assert len(done) == 1
    assert served.CALLER_NUMBER not in await everything(desk)
    assert {record["caller"]["number"] for record in await desk.records()} == {done[0].pseudonym}


async def test_a_ring_that_lost_the_key_still_knows_the_calls(desk: Desk, database: store.Database) -> None:
    lines = served.granted().text.splitlines(keepends=True)
    desk.write(b"".join(lines[:12]))
    await desk.read()
    await erase(desk)
    desk.crash()
    other = Desk(database, desk.folder, signer=signer(), ring=keyring.parse(keyring.new_line("2027-01")))
    other.write(b"".join(lines[12:]))
    await other.read()
    assert served.CALLER_NUMBER not in await everything(other)
    assert (await other.record())["state"] == "closed"


async def test_events_of_an_erased_call_name_nobody(desk: Desk) -> None:
    lines = served.granted().text.splitlines(keepends=True)
    desk.write(b"".join(lines[:12]))
    await desk.read()
    await erase(desk)
    desk.write(b"".join(lines[12:]))
    await desk.read()
    async with desk.database.read() as connection:
        told = [event for _, event in await outbox.after(connection, 0, limit=100)]
    assert [event.type for event in told] == ["call.started", "call.answered", "call.completed"]
    assert all(served.CALLER_NUMBER not in event.payload for event in told)
    assert json.loads(told[-1].payload)["data"]["recordings"] == []


async def test_an_erasure_waits_for_who_is_writing_records(desk: Desk) -> None:
    """A transaction that looked at the tombstones and has not committed yet must be seen by the erasure, or its call
    would stay."""
    desk.write(served.granted(0).text)
    await desk.read()
    watch = forgotten.Forgotten(desk.database, RING)
    await watch.load()
    async with desk.database.begin() as tx:
        await watch.hold(tx)
        erasing_ = asyncio.ensure_future(erase(desk))
        await until_waiting(tx)
        assert not erasing_.done()
        await tx.execute(
            text("UPDATE calls SET record = replace(record, 'Client', :name)"), {"name": f"x {served.CALLER_NUMBER}"}
        )
    await erasing_
    assert served.CALLER_NUMBER not in await everything(desk)


async def until_waiting(tx: store.Transaction) -> None:
    """PostgreSQL: until somebody waits for a lock. SQLite lets one writer in at a time: a few turns of the loop do."""
    query = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    async with asyncio.timeout(60):
        while tx.dialect.name != "sqlite" and not (await tx.execute(query)).scalar():  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
