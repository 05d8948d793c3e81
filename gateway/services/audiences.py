"""Exports of audiences for ad platforms (R11, R12): who is in one, who is left out and why, and the file of hashes.

Callers are read a thousand at a time, each page in a transaction of its own. An export that somebody was erased from
meanwhile is made anew: who is erased when the file is ready is not in it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, BinaryIO

from gateway import store
from gateway.core import audiences, banlist, book
from gateway.store import audiences as stored
from gateway.store import audit, forgetting

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
PAGE = 1_000
TRIES = 3

Told = Callable[["Count"], None]


class Unsettled(Exception):
    """People were erased during each try."""


@dataclass(slots=True)
class Count:
    """Who is in and who is not. `calls_without_number` are calls, all others people."""

    audience: audiences.Audience
    people: int = 0
    left_out: Counter[audiences.Left] = field(default_factory=Counter)
    calls_without_number: int = 0
    sha256: str = ""
    """Of the file, if one was written."""

    @property
    def looked_at(self) -> int:
        """Callers with a call that the audience asks for."""
        return self.people + self.left_out.total()

    @property
    def least(self) -> int:
        """People that the platform wants at least."""
        return audiences.FORMATS[self.audience.platform].least

    @property
    def is_too_small(self) -> bool:
        return self.people < self.least

    def document(self) -> dict[str, Any]:
        """Everything in figures; names nobody."""
        return {
            "audience": self.audience.key,
            "platform": self.audience.platform.value,
            "people": self.people,
            "least": self.least,
            "too_small": self.is_too_small,
            "left_out": {left.value: self.left_out[left] for left in audiences.Left if self.left_out[left]},
            "calls_without_number": self.calls_without_number,
        }


async def count(
    database: store.Database,
    audience: audiences.Audience,
    routing_book: book.Book | None,
    *,
    now_us: int,
    tell: Told = lambda _: None,
) -> Count:
    """The dry run: nothing leaves, nothing is written. Raises StoreUnavailable."""
    made = Count(audience)
    async for _ in _pages(database, made, routing_book, now_us):
        tell(made)
    return made


async def export(
    database: store.Database,
    audience: audiences.Audience,
    routing_book: book.Book | None,
    file: BinaryIO,
    *,
    actor: str,
    now_us: int,
    tell: Told = lambda _: None,
) -> Count:
    """Writes the file and the audit row; the file may leave only when this has returned.

    `file` is empty, and is written from its beginning. Raises StoreUnavailable, OSError and `Unsettled`.
    """
    for _ in range(TRIES):
        async with database.read() as connection:
            before = await forgetting.stamp(connection)
        made = await _write(database, audience, routing_book, file, now_us, tell)
        async with database.begin() as tx:
            await forgetting.hold_off(tx)
            if await forgetting.stamp(tx) != before:
                continue
            details = {**made.document(), "days": audience.days, "sha256": made.sha256}
            await audit.append(
                tx,
                at_us=now_us,
                actor=actor,
                action=stored.EXPORTED,
                subject=stored.subject(audience.key),
                details=details,
            )
        return made
    raise Unsettled(f"people were erased during each of {TRIES} tries")


async def _write(
    database: store.Database,
    audience: audiences.Audience,
    routing_book: book.Book | None,
    file: BinaryIO,
    now_us: int,
    tell: Told,
) -> Count:
    form = audiences.FORMATS[audience.platform]
    written = form.hashes[audience.hash]
    made, digest = Count(audience), hashlib.sha256()

    def write(lines: bytes) -> None:
        file.write(lines)
        digest.update(lines)

    def rewind() -> None:
        file.seek(0)
        file.truncate()
        write(form.header.encode() + b"\n")

    await asyncio.to_thread(rewind)
    async for page in _pages(database, made, routing_book, now_us):
        # By hash: the order of a page does not tell the order of its numbers.
        lines = "".join(f"{one}\n" for one in sorted(map(written, page)))
        await asyncio.to_thread(write, lines.encode())
        tell(made)
    await asyncio.to_thread(file.flush)
    made.sha256 = digest.hexdigest()
    return made


async def _pages(
    database: store.Database, made: Count, routing_book: book.Book | None, now_us: int
) -> AsyncIterator[list[str]]:
    """Numbers that may leave, page by page; counts on."""
    audience, now = made.audience, datetime.fromtimestamp(now_us / SECOND_US, UTC)
    since_us = now_us - audience.days * DAY_US
    bans = banlist.BanList(routing_book.bans if routing_book is not None else ())
    ours = _ours(routing_book)
    async for callers in _callers(database, made, since_us):
        async with database.read() as connection:
            page = await stored.known(connection, callers, since_us=since_us)
        taken: list[str] = []
        for caller in page:
            is_banned = caller.was_banned or bans.about(caller.number.removeprefix("+"), now) is not None
            known = replace(caller, was_banned=is_banned)
            why = audiences.left_out(known, audience, is_ours=caller.number in ours)
            if why is None:
                taken.append(caller.number)
            else:
                made.left_out[why] += 1
        made.people += len(taken)
        yield taken


async def _callers(database: store.Database, made: Count, since_us: int) -> AsyncIterator[Sequence[str]]:
    """Numbers with a call that the audience asks for, each once, page by page."""
    async with database.read() as connection:
        few = await stored.of_few_days(connection, made.audience, since_us=since_us)
        if few is None:
            made.calls_without_number = await stored.without_number(connection, made.audience, since_us=since_us)
    if few is not None:
        callers, made.calls_without_number = few
        for begin in range(0, len(callers), PAGE):
            yield callers[begin : begin + PAGE]
        return
    page = [""]
    while page:
        async with database.read() as connection:
            page = await stored.next_callers(connection, made.audience, since_us=since_us, after=page[-1], limit=PAGE)
        yield page


def _ours(routing_book: book.Book | None) -> frozenset[str]:
    if routing_book is None:
        return frozenset()
    called = {one.number for one in routing_book.tracking_numbers.values()}
    return frozenset(called | {one.address for one in routing_book.destinations.values()})
