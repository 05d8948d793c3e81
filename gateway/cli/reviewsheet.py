"""The sheet of a weekly sample as people fill it in with a spreadsheet, read back cell by cell (R29, R38).

Spreadsheets of other countries write `;` or tabs, begin with a byte order mark, and move columns: all of that is read.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.cli import failures, output

NEEDED = ("recording_id", "score", "note")
MAX_BYTES = 16_000_000
MAX_NOTE = 2_000
_DELIMITERS = ",;\t"
_SCORE = re.compile(r"[1-5]")
_DEFUSED = re.compile(r"'(?=[=+\-@])")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Filled:
    """One row that somebody filled in; `line` is where it begins in the file."""

    line: int
    recording_id: str
    score: int | None
    note: str | None


@dataclass(slots=True)
class Sheet:
    """What a file holds. `errors` are (line, what is wrong)."""

    filled: list[Filled] = field(default_factory=list)
    empty: int = 0
    """Rows without score and note."""
    errors: list[tuple[int, str]] = field(default_factory=list)


def read(path: Path) -> Sheet:
    """The sheet in a file. Raises Failure for one that is none at all."""
    text = _text(path)
    sheet = Sheet()
    lines: dict[str, int] = {}
    for line, row in _rows(path, text):
        _read_row(sheet, line, row, lines)
    return sheet


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise failures.Failure(f"{path}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise failures.Failure(f"{path}: is larger than {MAX_BYTES:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise failures.Failure(f"{path}: is not UTF-8; save it as “CSV UTF-8”") from None


def _rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows behind the header, each with the line on which it begins. Raises Failure."""
    first = text.partition("\n")[0]
    # Not splitlines(), which breaks a cell at characters that are no line's end for CSV.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first.count), strict=True)
    try:
        places = _places(path, [name.strip().lower() for name in next(reader, [])])
        line = reader.line_num + 1
        for row in reader:
            if any(cell.strip() for cell in row):
                yield line, {name: row[place] if place < len(row) else "" for name, place in places.items()}
            line = reader.line_num + 1
    except csv.Error as error:
        raise failures.Failure(f"{path}:{reader.line_num}: {error}") from None


def _places(path: Path, header: list[str]) -> dict[str, int]:
    """Where the needed columns stand. Raises Failure when one is missing, or there twice."""
    for name in NEEDED:
        if header.count(name) != 1:
            wrong = "has no column" if name not in header else "has more than one column"
            raise failures.Failure(f"{path}: {wrong} {name}; its first line names the columns")
    return {name: header.index(name) for name in NEEDED}


def _read_row(sheet: Sheet, line: int, row: dict[str, str], lines: dict[str, int]) -> None:
    recording_id = row["recording_id"].strip().lower()
    score, note = row["score"].strip(), _note(row["note"])
    wrong = []
    if score and not _SCORE.fullmatch(score):
        wrong.append(f"score: must be 1 to 5, not '{output.plain(score[:20])}'")
    if len(note) > MAX_NOTE:
        wrong.append(f"note: has {len(note)} characters, at most {MAX_NOTE} are kept")
    if not recording_id and (score or note):
        wrong.append("recording_id: is empty, so nobody knows which recording is meant")
    elif recording_id and not _ID.fullmatch(recording_id):
        wrong.append(f"recording_id: '{output.plain(recording_id[:40])}' is no id")
    elif recording_id in lines:
        wrong.append(f"recording_id: {recording_id} stands on line {lines[recording_id]} already")
    elif recording_id:
        lines[recording_id] = line
    sheet.errors += [(line, message) for message in wrong]
    if wrong:
        return
    if score or note:
        sheet.filled.append(Filled(line, recording_id, int(score) if score else None, note or None))
    elif recording_id:
        sheet.empty += 1


def _note(cell: str) -> str:
    """One line, as it was before the listing defused it."""
    return output.plain(" ".join(_DEFUSED.sub("", cell, count=1).split() if _DEFUSED.match(cell) else cell.split()))
