"""CSV files that commands take in: read as spreadsheets write them, refused with every line that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gateway.cli import failures, output, progress

if TYPE_CHECKING:
    from gateway.core import book, sheets
    from gateway.services import dealing

SHOWN = 50
"""Problems that are shown of one file; one can only mend so many at once."""

File = Annotated[Path, typer.Argument(help="CSV file; its first line names the columns.", metavar="FILE")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check every row and write nothing.")]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", help="utf-8, cp1251, cp1252 or utf-16. [default: as the file looks]", metavar="NAME"),
]


def read(path: Path, columns: Collection[str], encoding: str | None, current: book.Book | None) -> sheets.Sheet:
    """The rows of a file. Raises Failure for one that cannot be read, with every row that is none."""
    from gateway.core import sheets

    try:
        size = path.stat().st_size
        raw = path.read_bytes() if size <= sheets.MAX_BYTES else b" " * (sheets.MAX_BYTES + 1)
    except OSError as error:
        raise failures.Failure(f"{path}: {error.strerror}") from None
    language = current.default_site.language if current is not None else "en"
    try:
        sheet = sheets.read(raw, columns, encoding=encoding, language=language)
    except sheets.BadSheet as error:
        raise failures.Failure(f"{path}: {error}") from None
    if sheet.wrong:
        refuse(path, [(line, "", message) for line, message in sheet.wrong])
    return sheet


def refuse(path: Path, problems: Sequence[tuple[int, str, str]], taken: int = 0) -> NoReturn:
    """Prints problems by line, field and message. `taken` rows were imported before them. Raises Failure."""
    for line, field, message in problems[:SHOWN]:
        output.note(output.plain(f"{path.name}:{line}: {f'{field}: ' if field else ''}{message}"))
    if len(problems) > SHOWN:
        output.note(f"… and {len(problems) - SHOWN} more")
    many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    left = (
        f"{taken} rows were imported before: mend these and import the file again" if taken else "nothing was imported"
    )
    raise failures.Failure(f"{path.name}: {many}, {left}")


def refused(path: Path, error: dealing.Refused) -> NoReturn:
    """The same of what the store or the rules refused."""
    refuse(path, [(one.place, one.field, one.message) for one in error.problems], error.taken)


def counting(shown: progress.Progress, total: int) -> Callable[[int], None]:
    """Tells how far it is."""
    return lambda done: shown.tell(f"{done} of {total} rows read")


def said(changed: int, unchanged: int, sheet: sheets.Sheet, *, dry_run: bool) -> str:
    """The line at the end."""
    how = f"{sheet.encoding}, parted by {_NAMES[sheet.delimiter]}"
    verb = "would change" if dry_run else "changed"
    return f"{changed} rows {verb} something, {unchanged} said nothing new ({how})."


_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}
