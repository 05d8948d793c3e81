"""Tables as spreadsheets save them: CSV in UTF-8, UTF-16 or a code page, with commas, semicolons or tabs.

Pure: bytes in, rows out, each with its line in the file; and rows out as lines that spreadsheets do not reckon with.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 16 * 1024 * 1024
MAX_ROWS = 5_000
"""A file is one transaction, for which other writers wait: a second or two."""
MAX_CELL = 8_000
MAX_COLUMNS = 200
CYRILLIC = frozenset({"ru", "uk", "be", "bg", "mk", "sr"})
"""Languages whose spreadsheets save CSV in code page 1251."""

_DELIMITERS = ",;\t"
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_NUMBER = re.compile(r"[+-]*[0-9]+(\.[0-9]+)?")
_FORMULA_TEXT = re.compile(r'="([^"]*)"')


class BadSheet(Exception):
    """The file is no table that can be read. Says what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """Cells by column; empty ones are left out. `line` counts from 1, the header included."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table that was read. `encoding` and `delimiter` are what was found."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    encoding: str
    delimiter: str
    wrong: tuple[tuple[int, str], ...] = ()
    """Rows that are no rows: line and what is wrong."""


def read(raw: bytes, columns: Collection[str], *, encoding: str | None = None, language: str = "en") -> Sheet:
    """Reads a file whose header names some of `columns`, in any order and case.

    `encoding` None: UTF-8, UTF-16 by its mark, else the code page of `language`. Raises BadSheet.
    """
    text, found = decoded(raw, encoding=encoding, language=language)
    first, given = 1, None
    if text.lower().startswith("sep=") and text[4:5] and text[5:6] in "\r\n":
        given, first, text = text[4], 2, text.partition("\n")[2]
    if not text.strip():
        raise BadSheet("the file is empty")
    delimiter = given or _delimiter(text)
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    try:
        header = _header(next(reader), columns)
        rows, wrong = _rows(reader, header, first)
    except csv.Error as error:
        raise BadSheet(f"line {reader.line_num + first - 1}: {error}; is a quotation mark missing?") from None
    return Sheet(tuple(rows), header, found, delimiter, tuple(wrong))


def lines(header: Sequence[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """CSV, line by line, the header first. None becomes an empty cell."""
    written: list[str] = []
    writer = csv.writer(_Pieces(written), lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([cell(value) for value in row])
        yield "".join(written)
        written.clear()
    yield "".join(written)


class _Pieces:
    def __init__(self, pieces: list[str]) -> None:
        self._pieces = pieces

    def write(self, piece: str) -> None:
        self._pieces.append(piece)


def cell(value: object) -> str:
    """A value as text that steers no terminal and that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = _printable(str(value))
    is_number = isinstance(value, int | float) or _NUMBER.fullmatch(text) is not None
    return f"'{text}" if text[:1] in "=+-@" and text and not is_number else text


def decoded(raw: bytes, *, encoding: str | None = None, language: str = "en") -> tuple[str, str]:
    """The text of a file and its encoding, as `read` takes them. Raises BadSheet."""
    if len(raw) > MAX_BYTES:
        raise BadSheet(f"the file is larger than {MAX_BYTES // 1_048_576} MiB: split it")
    text, found = _text(raw, encoding, language)
    if "\0" in text:
        raise BadSheet(f"the file holds NUL characters: it is no text in {found}, save it as CSV (UTF-8)")
    return text, found


def _text(raw: bytes, encoding: str | None, language: str) -> tuple[str, str]:
    marked = next((name for mark, name in _BOMS if raw.startswith(mark)), None)
    chosen = encoding or marked
    if chosen is None:
        try:
            return raw.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            chosen = "cp1251" if language in CYRILLIC else "cp1252"
    try:
        return raw.decode(chosen).removeprefix("\ufeff"), chosen
    except LookupError:
        raise BadSheet(f"there is no encoding '{chosen[:20]}'; write utf-8, cp1251, cp1252 or utf-16") from None
    except (UnicodeDecodeError, UnicodeError):
        raise BadSheet(f"the file is not in {chosen}: save it as CSV (UTF-8), or name its encoding") from None


def _delimiter(text: str) -> str:
    """The separator of which the header has most."""
    header = text.lstrip("\r\n").partition("\n")[0]
    return max(_DELIMITERS, key=header.count)


def _lines(text: str) -> Iterator[str]:
    """Lines by line feed only: other characters that Python takes for line ends may stand in a cell."""
    yield from re.findall(r"[^\n]*\n|[^\n]+", text.replace("\r\n", "\n").replace("\r", "\n"))


def _header(cells: list[str], columns: Collection[str]) -> tuple[str, ...]:
    names = tuple(cell.strip().lower().replace(" ", "_") for cell in cells)
    while names and not names[-1]:
        names = names[:-1]
    shown = ", ".join(sorted(columns))
    if len(names) > MAX_COLUMNS or not set(names) & set(columns):
        raise BadSheet(f"the first line must name columns; known are: {shown}")
    if unknown := [name for name in names if name not in columns]:
        word = _printable(unknown[0][:40])
        raise BadSheet(f"there is no column '{word}'; known are: {shown}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadSheet(f"the column '{twice[0]}' is there twice")
    return names


def _rows(reader: Any, header: tuple[str, ...], first: int) -> tuple[list[Row], list[tuple[int, str]]]:
    """`reader` is a csv.reader, whose type has no name."""
    rows: list[Row] = []
    wrong: list[tuple[int, str]] = []
    last = reader.line_num
    for cells in reader:
        line, last = last + first, reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(rows) + len(wrong) >= MAX_ROWS:
            raise BadSheet(f"the file has more than {MAX_ROWS} rows: split it")
        if any(cell.strip() for cell in cells[len(header) :]):
            wrong.append((line, f"has {len(cells)} cells, the header {len(header)}: is a quotation mark missing?"))
        elif any(len(cell) > MAX_CELL for cell in cells):
            wrong.append((line, f"a cell has more than {MAX_CELL} characters"))
        else:
            named = zip(header, cells, strict=False)
            rows.append(Row(line, {name: text for name, cell in named if (text := _cell(cell))}))
    return rows, wrong


def _cell(written: str) -> str:
    """What was meant: `="+7495…"` is how spreadsheets keep a number's plus, `'=…` how we keep them from reckoning."""
    text = written.strip()
    if match := _FORMULA_TEXT.fullmatch(text):
        return match[1].strip()
    return text[1:] if text.startswith(("'=", "'+", "'-", "'@")) else text


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
