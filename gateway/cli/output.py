"""Listings in three forms: a table for people, JSON for programs, CSV for spreadsheets.

Names and numbers in them were written by callers, so nothing is printed that could steer a terminal or be taken for a
formula by a spreadsheet.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TextIO

from gateway.core import sheets


class Format(StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `key` in JSON and CSV, `title` in the table. Columns without a title are left out of the table."""

    key: str
    title: str = ""
    is_number: bool = False
    table_key: str = ""
    """Row key whose value the table shows instead, where people read another form than programs."""
    is_whole: bool = False
    """Never broken over two lines in a narrow terminal; the other columns give way."""


def listing(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[Column], form: Format, *, nothing: str = "Nothing to list."
) -> None:
    """Print rows. `nothing` is what the table form says of an empty list (on stderr, so that pipes stay empty)."""
    match form:
        case Format.JSON:
            json_document([{column.key: row.get(column.key) for column in columns} for row in rows])
        case Format.CSV:
            writer = CsvLines([column.key for column in columns])
            for row in rows:
                writer.write([row.get(column.key) for column in columns])
        case Format.TABLE:
            shown = list(rows)
            if shown:
                table(shown, [column for column in columns if column.title])
            else:
                note(nothing)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    """Print a table: as wide as the terminal, and as wide as its text when piped, so that no row is ever cut there."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # One blank between columns on a terminal, where 80 must do; two where a program may split at them.
    drawn = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=sys.stdout.isatty())
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        drawn.add_column(column.title, justify=justify, overflow="fold", no_wrap=column.is_whole)
    for row in rows:
        cells = [row.get(column.table_key or column.key) for column in columns]
        drawn.add_row(*(Text(plain(_cell(cell))) for cell in cells))
    if sys.stdout.isatty():
        Console(highlight=False).print(drawn)
        return
    piped = Console(width=10_000, highlight=False, no_color=True)
    with piped.capture() as captured:
        piped.print(drawn)
    for line in captured.get().splitlines():
        print(line.rstrip())


def json_document(value: object) -> None:
    """Print one JSON document, indented."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def json_line(value: object, file: TextIO | None = None) -> None:
    """Print one JSON document on one line."""
    print(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str), file=file or sys.stdout)


class CsvLines:
    """CSV with a header, written row by row."""

    def __init__(self, header: Sequence[str], file: TextIO | None = None) -> None:
        self._writer = csv.writer(file or sys.stdout, lineterminator="\n")
        self._writer.writerow(header)

    def write(self, row: Iterable[Value]) -> None:
        """One row; None becomes an empty cell."""
        self._writer.writerow([sheets.cell(value) for value in row])


def note(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    print(text, file=sys.stderr)


def plain(text: str) -> str:
    """`text` without characters that move a cursor or hide other text; each becomes U+FFFD."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _cell(value: Value) -> str:
    match value:
        case None:
            return "-"
        case True | False:
            return "yes" if value else "no"
        case float():
            return f"{value:.1f}"
    return str(value)


def flush() -> None:
    """Push what was printed to whoever reads the pipe."""
    sys.stdout.flush()


def refuse_lost_reader() -> None:
    """Raises BrokenPipeError when whoever read our output has gone, also while there is nothing to write."""
    import select

    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        # Not a file: somebody collects the output in memory.
        return
    poll = select.poll()
    poll.register(descriptor, 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise BrokenPipeError
