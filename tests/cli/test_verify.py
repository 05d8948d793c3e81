"""`verify` and `replay` on recorded journals: conservation proved, broken, and mended (N1)."""

from __future__ import annotations

import asyncio
import gzip
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import store
from gateway.pbx import journalfiles
from gateway.store import calls as stored_calls
from gateway.store import outbox
from tests import journals
from tests.cli.conftest import Operator
from tests.services import clinic


def _change(operator: Operator, work: Callable[[store.Transaction], Awaitable[None]]) -> None:
    async def change() -> None:
        database = await store.Database.open(f"sqlite:///{operator.folder}/dialmark.db")
        try:
            async with database.begin() as tx:
                await work(tx)
        finally:
            await database.close()

    asyncio.run(change())


def _events(operator: Operator) -> list[str]:
    found: list[str] = []

    async def read(tx: store.Transaction) -> None:
        found.extend(event.event_id for _, event in await outbox.after(tx, 0, limit=10_000))

    _change(operator, read)
    return found


def test_every_recorded_journal_balances(operator: Operator) -> None:
    """One after the other: each is a run of Asterisk of its own."""
    operator.apply()
    operator.write_journal(*(name for name in journals.NAMES if name != "asterisk_killed"))
    operator.track()
    said = operator("verify", "--format", "json").json
    assert (said["missing"], said["doubled"], said["invented"], said["waiting"]) == (0, 0, 0, 0)
    assert said["channels"] == said["records"] >= 30


def test_the_line_that_people_read(busy_day: Operator) -> None:
    assert busy_day("verify").lines[0].startswith("0 of 6 missing, 0 doubled, 0 invented (6 records")
    assert busy_day("verify", "--since", "2000-01-01", "--until", "2000-01-02").lines[0].startswith("0 of 0 missing")


def test_a_record_that_nobody_called_for_is_invented(busy_day: Operator) -> None:
    async def invent(tx: store.Transaction) -> None:
        row = (await stored_calls.list_calls(tx, stored_calls.CallFilter(), limit=1)).calls[0]
        await stored_calls.save(tx, [_like(row, "11111111-1111-4111-8111-111111111111", "ghost-1.1")])
        await stored_calls.save(tx, [_like(row, "22222222-2222-4222-8222-222222222222", row.unique_id)])

    _change(busy_day, invent)
    said = busy_day("verify", code=1)
    assert said.lines[0].startswith("0 of 6 missing, 1 doubled, 1 invented")
    assert "ghost-1.1" in said.out
    assert "22222222-2222-4222-8222-222222222222" in said.out


def _like(row: stored_calls.CallRow, call_id: str, unique_id: str) -> stored_calls.CallRow:
    return replace(row, call_id=call_id, unique_id=unique_id)


def test_missing_records_are_found_and_replayed(operator: Operator) -> None:
    """Records lost to a restored backup come back from the journal, with the same bytes."""
    operator.apply()
    operator.write_journal("answered_agent_ends", "busy_then_reserve", "all_fail")
    operator.track()
    before = operator("calls", "list", "--format", "json").json
    lost = operator.folder / "dialmark.db"
    _forget_one(operator, before[1]["call_id"])

    said = operator("verify", code=1)
    assert said.lines[0].startswith("1 of 3 missing, 0 doubled, 0 invented")
    assert before[1]["call_id"] in said.out

    dry = operator("replay", operator.journal)
    assert "1 new, 0 changed, 2 same" in dry.out
    assert "Nothing was written" in dry.out
    operator("verify", code=1)

    operator("replay", operator.journal, "--write")
    operator("verify")
    assert operator("calls", "list", "--format", "json").json == before
    assert "0 new, 0 changed, 3 same" in operator("replay", "--write").out
    assert lost.exists()


def test_a_replayed_record_names_the_visitor_as_before(operator: Operator) -> None:
    """R48, N4: leases are kept, so that a record made anew from the journal says who it was; `verify` misses none."""
    journal = "answered_caller_ends"
    operator.apply(clinic.ROUTING)

    async def open_page() -> str | None:
        database = await store.Database.open(f"sqlite:///{operator.folder}/dialmark.db")
        try:
            site = clinic.Clinic(database, now_us=journals.rows(journal)[0].at_us - 30 * clinic.SECOND)
            return (await site.open()).visitor_id
        finally:
            await database.close()

    visitor = asyncio.run(open_page())
    operator.write_journal(journal)
    operator.track()
    (before,) = operator("calls", "list", "--format", "json").json
    assert before["attribution"]["visitor_id"] == visitor is not None
    assert "0 new, 0 changed, 1 same" in operator("replay", operator.journal).out
    _forget_one(operator, before["call_id"])
    operator("replay", operator.journal, "--write")
    assert operator("calls", "list", "--format", "json").json == [before]
    operator("verify")


def _forget_one(operator: Operator, call_id: str) -> None:
    with sqlite3.connect(operator.folder / "dialmark.db") as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM calls WHERE call_id = ?", (call_id,))
    connection.close()


def test_replaying_twice_doubles_no_event(busy_day: Operator) -> None:
    events = _events(busy_day)
    assert events
    busy_day("replay", "--write")
    _forget_one(busy_day, busy_day("calls", "list", "--format", "json").json[0]["call_id"])
    busy_day("replay", "--write")
    assert _events(busy_day) == events


def test_a_changed_record_names_its_fields(busy_day: Operator) -> None:
    async def falsify(tx: store.Transaction) -> None:
        row = (await stored_calls.list_calls(tx, stored_calls.CallFilter(), limit=1)).calls[0]
        record = row.record.replace('"missed":true', '"missed":false')
        await stored_calls.save(tx, [replace(row, record=record, content_hash="other", site="elsewhere")])

    _change(busy_day, falsify)
    said = busy_day("replay")
    assert "0 new, 1 changed, 5 same" in said.out
    assert busy_day("replay", "--format", "json").json["changed"] == 1


def test_compressed_journals_in_any_order(operator: Operator, tmp_path: Path) -> None:
    operator.apply()
    files = []
    for name in ("busy_then_reserve", "answered_agent_ends"):
        path = tmp_path / f"{name}.csv.gz"
        path.write_bytes(gzip.compress(journals.content(name)))
        files.append(path)
    assert "2 new, 0 changed, 0 same" in operator("replay", *files, "--write").out
    assert len(operator("calls", "list", "--format", "json").json) == 2


def test_a_call_that_is_not_whole_is_left_out(operator: Operator, tmp_path: Path) -> None:
    operator.apply()
    lines = journals.content("answered_agent_ends").splitlines(keepends=True)
    begin, end = tmp_path / "begin.csv", tmp_path / "end.csv"
    begin.write_bytes(b"".join(lines[:8]))
    end.write_bytes(b"".join(lines[8:]))
    assert operator("replay", begin, "--write").out.startswith("0 new, 0 changed, 0 same; left out: 1 open")
    assert operator("replay", end, "--write").out.startswith("0 new, 0 changed, 0 same")
    assert "1 new" in operator("replay", end, begin, "--write").out


def test_the_archive_is_read_too(operator: Operator) -> None:
    operator.apply()
    operator.write_journal("answered_agent_ends", "busy_then_reserve")
    operator.track()
    archive = operator.journal.parent / journalfiles.ARCHIVE_FOLDER
    archive.mkdir()
    text = operator.journal.read_bytes()
    rows = journals.rows_of(text)
    (archive / f"journal-{rows[0].at_us:016d}-{'0' * 32}.csv.gz").write_bytes(gzip.compress(text))
    operator.journal.unlink()
    assert operator("verify", code=0).lines[0].startswith("0 of 2 missing")


def test_a_journal_that_the_daemon_has_not_read(operator: Operator) -> None:
    """Recorded long ago, so they wait for longer than a minute: the daemon is down."""
    operator.apply()
    operator.write_journal("answered_agent_ends")
    said = operator("verify", code=1)
    assert said.lines[0].startswith("0 of 1 missing")
    assert "1 calls wait to be read: does the daemon run?" in said.out


def test_damaged_rows_are_counted(busy_day: Operator) -> None:
    with busy_day.journal.open("ab") as journal:
        journal.write(b"not a row\n")
    assert "1 damaged rows" in busy_day("verify").out


@pytest.mark.parametrize("what", ["folder", "missing", "binary"])
def test_mistakes(operator: Operator, tmp_path: Path, what: str) -> None:
    operator.apply()
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
        assert "is a folder" in operator("replay", path, code=2).err
    elif what == "missing":
        assert "there is no such file" in operator("replay", path, code=2).err
    else:
        path.write_bytes(bytes(range(256)) * 10)
        assert operator("replay", path).out.startswith("0 new, 0 changed, 0 same")
        torn = tmp_path / "torn.csv.gz"
        torn.write_bytes(gzip.compress(journals.content("all_fail"))[:-20])
        assert "not readable as a journal" in operator("replay", torn, code=1).err


def test_no_journal_folder(operator: Operator) -> None:
    operator.apply()
    operator.journal.parent.rmdir()
    assert "correct asterisk.journal_dir" in operator("verify", code=1).err
