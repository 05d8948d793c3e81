"""SQLite's files hold nothing of what was deleted: neither the write-ahead log nor the room that splits left (N14)."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from gateway.store import scrubbing

PERSON = b"79165550101"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dialmark.db"


def opened(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    connection.executescript("PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON")
    return connection


def held(file: Path) -> list[str]:
    return [path.name for path in sorted(file.parent.iterdir()) if PERSON in path.read_bytes()]


def test_the_log_is_emptied(file: Path) -> None:
    with closing(opened(file)) as other:
        other.execute("CREATE TABLE calls (caller TEXT)")
        other.execute("INSERT INTO calls VALUES (?)", (PERSON.decode(),))
        other.execute("DELETE FROM calls")
        assert held(file) == ["dialmark.db-wal"]
        assert scrubbing.scrub(f"sqlite:///{file}") is None
        assert held(file) == []


def test_what_a_split_left_is_gone_too(file: Path) -> None:
    """Copies that SQLite does not clear: made here as an older file's would be, whose deletions were not secure."""
    with closing(opened(file)) as other:
        other.executescript("PRAGMA secure_delete = OFF; CREATE TABLE calls (caller TEXT)")
        other.executemany("INSERT INTO calls VALUES (?)", [(PERSON.decode(),)] * 100)
        other.execute("DELETE FROM calls")
        assert scrubbing.scrub(f"sqlite:///{file}") is None
        assert held(file) == ["dialmark.db"]
        assert scrubbing.scrub(f"sqlite:///{file}", PERSON) is None
        assert held(file) == []


def test_a_reader_is_waited_for_and_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(opened(file)) as other, closing(opened(file)) as reader:
        other.execute("CREATE TABLE calls (caller TEXT)")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM calls").fetchall()
        other.execute("INSERT INTO calls VALUES (?)", (PERSON.decode(),))
        monkeypatch.setattr(scrubbing, "PATIENCE_SECONDS", 0.2)
        assert "in use" in (scrubbing.scrub(f"sqlite:///{file}") or "")
        monkeypatch.setattr(scrubbing, "PATIENCE_SECONDS", 10.0)
        leaving = threading.Timer(0.2, reader.execute, ["COMMIT"])
        leaving.start()
        assert scrubbing.scrub(f"sqlite:///{file}", PERSON) is None
        leaving.join()


def test_no_business_of_postgresql(tmp_path: Path) -> None:
    assert scrubbing.scrub("postgresql://nobody@192.0.2.1/none", PERSON) is None
    assert "unable to open" in (scrubbing.scrub(f"sqlite:///{tmp_path}/no/folder.db") or "")
