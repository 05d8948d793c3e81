"""`report review-samples`: five recordings of each agent a week, drawn once, judged in a sheet (R29, R38)."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import stat
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import store
from gateway.cli import failures, moments, output, reviewsheet
from gateway.core import sampling
from gateway.store import audit, calls, forgetting, keyring, recordings, vault
from tests.cli.conftest import ROUTING, Operator
from tests.store import examples

_T = TypeVar("_T")
RING = keyring.parse(keyring.new_line("2026-11"))
WEEK = sampling.Week(2025, 40)
AGENTS = "".join(f'\n[[agent]]\nkey = "{key}"\nname = "{key.title()}"\n' for key in ("anna", "boris", "eva"))
MOSCOW = ZoneInfo("Europe/Moscow")
START = WEEK.bounds(MOSCOW)[0]


class Office:
    """An operator with three agents, and recordings in the database."""

    def __init__(self, operator: Operator, url: str) -> None:
        self.operator = operator
        self.url = url
        self.sheet = operator.folder / "week.csv"
        text = operator.config.read_text().replace(f"sqlite:///{operator.folder}/dialmark.db", url)
        operator.config.write_text(text)
        operator.apply(ROUTING + AGENTS)

    def run(self, work: Callable[[store.Database], Coroutine[Any, Any, _T]]) -> _T:
        async def with_database() -> _T:
            database = await store.Database.open(self.url)
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(with_database())

    def put(self, number: int, agent: str | None = "anna", at: datetime | None = None, **changes: Any) -> str:
        """A recording of call `number`; gives its id."""
        started_us = moments.micros(at or START + timedelta(hours=number))
        values: dict[str, Any] = {
            "recording_id": examples.call_id(1000 + number),
            "call_id": examples.call_id(number),
            "node": "main",
            "kind": "talk",
            "state": recordings.State.STORED,
            "started_us": started_us,
            "duration_seconds": 61.5,
            "parts": "1",
            "audio_bytes": 1,
            "peaks_bytes": 1,
            "digest": "0",
            "created_us": started_us,
        }
        one = recordings.Recording(**(values | changes))

        async def register(database: store.Database) -> None:
            async with database.begin() as tx:
                await calls.save(tx, [examples.call(number, started_us=started_us, agent=agent)])
                await recordings.register(tx, one, RING.wrap(vault.new_key(), recordings.subject(one.recording_id)))

        self.run(register)
        return one.recording_id

    def shred(self, recording_id: str) -> None:
        async def shred(database: store.Database) -> None:
            async with database.begin() as tx:
                await recordings.shred(tx, [recording_id], now_us=1)

        self.run(shred)

    def drawn(self, *options: object, week: sampling.Week = WEEK) -> list[dict[str, Any]]:
        rows = self.operator("report", "review-samples", "--week", week, "--format", "json", *options).json
        assert isinstance(rows, list)
        return rows

    def write_sheet(self) -> list[dict[str, str]]:
        self.operator("report", "review-samples", "--week", WEEK, "--out", self.sheet)
        return list(csv.DictReader(io.StringIO(self.sheet.read_text("utf-8-sig"))))

    def fill(self, rows: list[dict[str, str]], code: int = 0) -> Any:
        with self.sheet.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return self.operator("report", "review-samples", "--fill", self.sheet, code=code)


@pytest.fixture
def office(operator: Operator) -> Office:
    return Office(operator, f"sqlite:///{operator.folder}/dialmark.db")


def ids(rows: list[dict[str, Any]], agent: str) -> list[str]:
    return [row["recording_id"] for row in rows if row["agent"] == agent and row["recording_id"]]


def test_a_week_from_the_draw_to_the_scores(operator: Operator, database_url: str) -> None:
    """On both engines: five of seven, both of two, none of none; only listening is audited, and nobody listened."""
    office = Office(operator, database_url)
    of_anna = [office.put(number) for number in range(1, 8)]
    of_boris = [office.put(number, "boris") for number in (8, 9)]
    rows = office.write_sheet()
    assert stat.S_IMODE(office.sheet.stat().st_mode) == 0o600
    assert [(row["agent"], row["drawn"]) for row in rows] == [("anna", "5")] * 5 + [("boris", "2")] * 2 + [("eva", "0")]
    assert ids(rows, "anna") == sampling.draw(WEEK, "anna", of_anna, 5)
    assert sorted(ids(rows, "boris")) == sorted(of_boris)
    one = rows[0]
    assert one["caller"] == "'+7********67"
    assert (one["week"], one["source"], one["duration_seconds"]) == ("2025-W40", "google-ads", "61.5")
    assert one["link"] == f"http://127.0.0.1:8081/calls/{one['call_id']}"
    assert (one["score"], one["note"]) == ("", "")

    rows[0] |= {"score": "4", "note": "kind,\nand  quick"}
    rows[6] |= {"score": "1"}
    assert "2 reviews taken in, 0 were known, 5 rows are still empty" in office.fill(rows).out
    assert "0 reviews taken in, 2 were known" in office.fill(rows).out
    found = office.drawn()
    assert ids(found, "anna") == ids(rows, "anna")
    assert [(row["score"], row["note"]) for row in found if row["score"]] == [(4, "kind, and quick"), (1, None)]
    assert found[-1] | {"agent": "eva", "drawn": 0, "recording_id": None} == found[-1]

    async def actions(database: store.Database) -> list[str]:
        async with database.read() as connection:
            return [row.action for row in await audit.entries(connection)]

    assert office.run(actions) == []


def test_a_draw_stays_whatever_comes_or_goes(office: Office) -> None:
    for number in range(1, 9):
        office.put(number)
    first = office.drawn("--per-agent", 3)
    for number in range(20, 60):
        office.put(number, at=START + timedelta(minutes=number))
    office.put(60, "eva")
    office.shred(ids(first, "anna")[0])
    again = office.drawn("--per-agent", 9)
    assert ids(again, "anna") == ids(first, "anna")
    assert ids(again, "eva") == []
    assert [row["state"] for row in again if row["agent"] == "anna"] == ["shredded", "stored", "stored"]
    said = office.operator("report", "review-samples", "--week", WEEK)
    assert "3 recordings of 1 agents, drawn at " in said.err and "a draw stays as it is" in said.err


def test_the_table_for_people(office: Office) -> None:
    office.put(1)
    said = office.operator("report", "review-samples", "--week", WEEK, "--link", "https://calls.example.org/")
    assert " ".join(said.lines[0].split()) == "Agent Drawn Started Caller Source Seconds Score Note State Link"
    assert said.lines[1].split()[:5] == ["anna", "1", "2025-09-29", "01:00:00", "+7********67"]
    assert said.lines[1].endswith(f"https://calls.example.org/calls/{examples.call_id(1)}")
    assert said.lines[2].split()[:3] == ["boris", "0", "-"]
    assert "1 recordings of 1 agents drawn" in said.err


def test_what_is_not_drawn(office: Office) -> None:
    """Refused, condemned, messages, calls of nobody known, and what is outside the week by a microsecond."""
    first, after = WEEK.bounds(MOSCOW)
    office.put(1, state=recordings.State.REFUSED, why="consent refused")
    office.put(2, state=recordings.State.CONDEMNED, why="old")
    office.put(3, kind="voicemail")
    office.put(4, agent=None)
    office.put(5, at=first - timedelta(microseconds=1))
    office.put(6, at=after)
    kept = {office.put(7, at=first), office.put(8, at=after - timedelta(microseconds=1))}
    assert set(ids(office.drawn(), "anna")) == kept


@pytest.mark.parametrize(("number", "hours"), [(13, 167), (43, 169)])
def test_a_week_in_which_clocks_are_changed(operator: Operator, database_url: str, number: int, hours: int) -> None:
    """The site's days count, not 168 hours."""
    office = Office(operator, database_url)
    operator.apply(ROUTING.replace("Europe/Moscow", "Europe/Berlin") + AGENTS)
    week = sampling.Week(2025, number)
    first, after = week.bounds(ZoneInfo("Europe/Berlin"))
    assert after - first == timedelta(hours=hours)
    for place, at in enumerate((first, after - timedelta(seconds=1), after, first - timedelta(seconds=1)), start=1):
        office.put(place, at=at)
    assert set(ids(office.drawn(week=week), "anna")) == {examples.call_id(1001), examples.call_id(1002)}


def test_the_last_full_week_is_what_is_drawn(office: Office) -> None:
    last = sampling.Week.of(datetime.now(UTC), MOSCOW).before()
    office.put(1, at=last.bounds(MOSCOW)[0])
    (one, *_) = office.operator("report", "review-samples", "--format", "json").json
    assert (one["week"], one["recording_id"]) == (str(last), examples.call_id(1001))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--week", "last"], "--week: must be a week like 2026-W47"),
        (["--week", "2025-W53"], "--week: the year 2025 has no week 53"),
        (["--week", "2999-W01"], "--week: 2999-W01 is not over; the last full week is 20"),
        (["--week", "2025-W40", "--fill", "x.csv"], "--fill goes alone"),
        (["--per-agent", "0"], "Invalid value for '--per-agent'"),
    ],
)
def test_what_is_asked_wrongly(office: Office, options: list[str], said: str) -> None:
    assert said in office.operator("report", "review-samples", *options, code=2).err


def test_nobody_and_nothing(operator: Operator) -> None:
    operator.apply()
    said = operator("report", "review-samples", "--week", WEEK)
    assert (said.out, said.lines) == ("", [])
    assert "Nobody to review" in said.err


def test_a_sheet_that_is_there_is_not_overwritten(office: Office) -> None:
    office.put(1)
    office.sheet.write_text("filled in")
    said = office.operator("report", "review-samples", "--week", WEEK, "--out", office.sheet, code=1)
    assert "there already" in said.err
    assert office.sheet.read_text() == "filled in"
    as_json = office.operator.folder / "week.json"
    office.operator("report", "review-samples", "--week", WEEK, "--out", as_json, "--format", "json")
    assert json.loads(as_json.read_text()) == office.drawn()


def test_all_errors_are_told_at_once_and_nothing_is_changed(office: Office) -> None:
    for number in range(1, 6):
        office.put(number)
    rows = office.write_sheet()
    stranger = examples.call_id(77)
    rows[0] |= {"score": "5", "note": "good"}
    rows[1] |= {"score": "6"}
    rows[2] |= {"score": "four"}
    rows[3] |= {"recording_id": rows[0]["recording_id"].upper(), "score": "1"}
    rows[4] |= {"recording_id": stranger, "score": "2", "note": "two\nlines"}
    rows[5] |= {"score": "3"}
    rows.append(rows[5] | {"recording_id": "=1+1", "note": "x" * 2001})
    said = office.fill(rows, code=1)
    told = said.err.replace(str(office.sheet), "SHEET").removeprefix("dialmark: ").splitlines()
    assert told == [
        "SHEET:3: score: must be 1 to 5, not '6'",
        "SHEET:4: score: must be 1 to 5, not 'four'",
        f"SHEET:5: recording_id: {rows[0]['recording_id']} stands on line 2 already",
        f"SHEET:6: recording_id: {stranger} was never drawn",
        "SHEET:8: recording_id: is empty, so nobody knows which recording is meant",
        "SHEET:10: note: has 2001 characters, at most 2000 are kept",
        "SHEET:10: recording_id: '=1+1' is no id",
        "Nothing was changed.",
    ]
    assert [row["score"] for row in office.drawn() if row["score"]] == []


def test_formulas_are_defused_on_the_way_out_and_whole_on_the_way_back(office: Office) -> None:
    """A spreadsheet must not run what a reviewer wrote; written and read, a note is the same."""
    office.put(1)
    rows = office.write_sheet()
    office.sheet.unlink()
    office.fill([rows[0] | {"score": "2", "note": "=HYPERLINK(1)"}, *rows[1:]])
    office.sheet.unlink()
    rows = office.write_sheet()
    assert rows[0]["note"] == "'=HYPERLINK(1)"
    assert "0 reviews taken in, 1 were known" in office.fill(rows).out
    assert office.drawn()[0]["note"] == "=HYPERLINK(1)"


@pytest.mark.parametrize(("delimiter", "newline", "encoding"), [(";", "\r\n", "utf-8-sig"), ("\t", "\n", "utf-8")])
def test_spreadsheets_of_other_countries(office: Office, delimiter: str, newline: str, encoding: str) -> None:
    one = office.put(1)
    office.drawn()
    lines = [["Note", " Recording_ID ", "Remark", "SCORE"], ["вежливо\u2028очень", one, "=1+1", "5"], ["", "", "", ""]]
    text = "".join(delimiter.join(cells) + newline for cells in lines)
    office.sheet.write_bytes(text.encode(encoding))
    office.operator("report", "review-samples", "--fill", office.sheet)
    found = office.drawn()[0]
    assert (found["score"], found["note"]) == (5, "вежливо очень")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "has no column recording_id"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"recording_id,score\n", "has no column note"),
        (b"recording_id,score,note,score\n", "has more than one column score"),
        (b'recording_id,score,note\n,,"never closed', ":2: unexpected end of data"),
        (b"recording_id,score,note\n\n,,\n", None),
        (b"recording_id,score,note\n\0,1,\n", "is no id"),
        (b"recording_id,score,note\n,," + b"x" * 200_000, "field larger than field limit"),
        (b"x" * (reviewsheet.MAX_BYTES + 1), "is larger than 16,000,000 bytes"),
    ],
    ids=range(9),
)
def test_files_that_are_no_sheet(office: Office, data: bytes, said: str | None) -> None:
    office.sheet.write_bytes(data)
    ended = office.operator("report", "review-samples", "--fill", office.sheet, code=1 if said else 0)
    assert said is None or said in ended.err
    assert "No such file" in office.operator("report", "review-samples", "--fill", "no-such-file", code=1).err


def test_words_about_an_erased_person_do_not_come_back(office: Office) -> None:
    """N14: an old sheet is filled in after the erasure; a score stays a number, a note is refused."""
    shredded, forgotten = office.put(1), office.put(2)
    rows = office.write_sheet()

    async def forget(database: store.Database) -> None:
        async with database.begin() as tx:
            row = await calls.get(tx, examples.call_id(2))
            assert row is not None
            await forgetting.forget(tx, [row], "erased-1", why=forgetting.ERASURE, now_us=1)

    office.shred(shredded)
    office.run(forget)
    noted = [row | {"score": "3", "note": "ill" if row["recording_id"] else ""} for row in rows[:2]]
    said = office.fill(noted, code=1).err
    assert f"{shredded} was erased" in said and f"{forgotten} was erased" in said
    office.fill([row | {"score": "3"} for row in rows[:2]])
    assert [(row["score"], row["note"]) for row in office.drawn()[:2]] == [(3, None)] * 2


@given(st.text(max_size=60))
def test_a_note_survives_writing_and_reading(tmp_path_factory: pytest.TempPathFactory, note: str) -> None:
    """What is stored is one printable line; such a line comes back from a sheet as it was."""
    path = tmp_path_factory.getbasetemp() / "note.csv"

    def through(text: str, written: bool) -> str | None:
        with path.open("w", encoding="utf-8", newline="") as file:
            if written:
                output.CsvLines(reviewsheet.NEEDED, file).write([examples.call_id(1), 3, text])
            else:
                csv.writer(file).writerows([reviewsheet.NEEDED, [examples.call_id(1), 3, text]])
        (one,) = reviewsheet.read(path).filled
        return one.note

    stored = through(note, written=False) or ""
    assert stored.isprintable()
    if not stored.startswith(("'=", "'+", "'-", "'@")):
        assert (through(stored, written=True) or "") == stored


def test_reading_a_folder_is_no_crash(tmp_path: Path) -> None:
    with pytest.raises(failures.Failure, match="Is a directory"):
        reviewsheet.read(tmp_path)
