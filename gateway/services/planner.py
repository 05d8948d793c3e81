"""Follows the routing revision: reads the new book, hands it on, and writes the generated Asterisk files.

The daemon has no right to command Asterisk: a path unit (in the demo a script) reloads the dialplan when a file
changed. A revision that cannot be read leaves the last good book in force, and says so.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from gateway import store
from gateway.core import book
from gateway.store import routing as revisions

log = structlog.get_logger()

Parse = Callable[[str, int], book.Book]
"""Text and revision of a routing file to its book; raises ValueError for one with errors."""

Render = Callable[[book.Book], Mapping[str, str]]
"""The generated files of a book: name to text."""

BookInForce = Callable[[book.Book], None]


class Planner:
    """Polls the latest revision, which is one indexed row, every `poll_seconds`."""

    def __init__(
        self,
        database: store.Database,
        *,
        parse: Parse,
        render: Render,
        folder: Path,
        in_force: BookInForce,
        poll_seconds: float = 0.5,
    ) -> None:
        self._database = database
        self._parse = parse
        self._render = render
        self._folder = folder
        self._in_force = in_force
        self._poll_seconds = poll_seconds
        self._seen: int | None = None
        self._book: book.Book | None = None
        self._is_stale = False
        self.revision: int | None = None
        """Revision in force."""
        self.problem: str | None = None
        """Why the latest revision, or its files, could not be put in force; None = all is well."""

    async def run(self) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            await self.follow()

    def write_again(self) -> None:
        """What the files are made from besides the book has changed (prompts): write them at the next poll."""
        self._is_stale = True

    async def follow(self) -> None:
        """Puts the latest revision in force if it is not yet."""
        try:
            async with self._database.read() as connection:
                latest = await revisions.latest(connection)
                if latest is None or (latest == self._seen and self.problem is None):
                    await self._write_if_stale()
                    return
                revision = await revisions.get(connection, latest)
        except store.StoreUnavailable as error:
            log.warning("routing revision not readable, the last book stays in force", error=str(error))
            return
        if revision is None:
            return
        first_sight = latest != self._seen
        self._seen = latest
        try:
            routing_book = await asyncio.to_thread(self._parse, revision.document, latest)
        except ValueError as error:
            self._refuse(f"revision {latest} is not usable: {error}", first_sight)
            return
        if first_sight:
            self._in_force(routing_book)
            self.revision = latest
            log.info("routing revision in force", revision=latest)
        await self._write(routing_book, first_sight)

    async def _write_if_stale(self) -> None:
        if self._is_stale and self._book is not None:
            await self._write(self._book, first_sight=False)

    async def _write(self, routing_book: book.Book, first_sight: bool) -> None:
        self._book = routing_book
        self._is_stale = False
        try:
            files = await asyncio.to_thread(self._render, routing_book)
            for name, text in files.items():
                await asyncio.to_thread(replace_file, self._folder / name, text)
        except (OSError, ValueError) as error:
            self._refuse(f"generated files of revision {routing_book.revision} not written: {error}", first_sight)
            return
        self.problem = None

    def _refuse(self, problem: str, first_sight: bool) -> None:
        if first_sight or problem != self.problem:
            log.error("routing problem", problem=problem)
        self.problem = problem


def replace_file(path: Path, text: str) -> None:
    """Writes `text` by temp file and rename, unless the file holds it already: Asterisk reloads when it changes.

    Mode 0640: the trunks' file holds carrier passwords. A reader sees the old text or the new one, never a part.
    """
    data = text.encode()
    if path.is_file() and path.read_bytes() == data:
        return
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o640)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
