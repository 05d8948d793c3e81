"""A routing file read and checked: its errors, and what is hardly meant, each with file, line and key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli import context, failures, output

if TYPE_CHECKING:
    from gateway.config.problems import RoutingError
    from gateway.config.settings import Settings
    from gateway.core import book


def read(file: Path) -> str:
    """The text of a routing file; `-` reads standard input. Raises Failure."""
    from gateway.config import routingfile

    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except IsADirectoryError:
        raise failures.Failure(f"{file} is a folder: name the routing file in it") from None
    except FileNotFoundError:
        raise failures.Failure(f"{file}: there is no such file") from None
    except OSError as error:
        raise failures.Failure(f"{file}: {error.strerror}") from None
    if len(data) > 4 * routingfile.MAX_CHARACTERS:
        raise failures.Failure(f"{file}: too large for a routing file ({len(data)} bytes)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise failures.Failure(f"{file}:{line}: this is not UTF-8 text: save the routing file as UTF-8") from None


def checked(text: str, file: Path, settings: Settings) -> book.Book:
    """The book that `text` says. Prints every error and raises Failure for text that is refused."""
    from gateway.config import routingfile

    try:
        return context.parse_routing(text, 0, settings)
    except routingfile.RoutingErrors as refused:
        for error in refused.errors:
            output.note(_line(file, "", error))
        if refused.total > len(refused.errors):
            output.note(f"… and {refused.total - len(refused.errors)} more")
        plural = "1 error" if refused.total == 1 else f"{refused.total} errors"
        raise failures.Failure(f"{file} is refused: {plural}; nothing was applied") from None


def warn(text: str, file: Path, made: book.Book, settings: Settings) -> int:
    """Prints what is hardly meant in a file that holds; how much that is."""
    from gateway.config import weblint

    web = settings.web
    by_file = web.places_file is not None
    through_proxy = bool(web.trusted_proxies)
    places = weblint.Places(
        countries=by_file or (through_proxy and bool(web.country_header)),
        cities=by_file or (through_proxy and bool(web.city_header)),
    )
    found = weblint.warnings(text, made, places)
    for warning in found:
        output.note(_line(file, "warning: ", warning))
    return len(found)


def _line(file: Path, level: str, problem: RoutingError) -> str:
    guess = f" (did you mean '{problem.suggestion}'?)" if problem.suggestion else ""
    key = f"{problem.key}: " if problem.key else ""
    return output.plain(f"{file}:{problem.line}: {level}{key}{problem.message}{guess}")
