"""Journal to records: reads what Asterisk wrote, folds the calls it touches, and stores each batch as one transaction.

The transaction holds changed calls and attempts, their events, the raw rows of calls still open, and the position. So a
crash repeats a batch and never loses or doubles one. Calls that a killed Asterisk left open are closed when the journal
shows a new run of it, or when AMI says that their channel has been gone for 10 s.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from gateway import store
from gateway.core import callingback, calls, grouping, restarts
from gateway.core.rows import EventKind, Row
from gateway.pbx import journal, journalfiles
from gateway.services import filer, forgotten, ticketing
from gateway.services.filer import BookOf, Changed, Known, Papers
from gateway.store import agents as stored_agents
from gateway.store import journal as stored_journal
from gateway.store import signatures

log = structlog.get_logger()

_T = TypeVar("_T")

LINGER_US = 5_000_000
"""A closed call is kept in memory for so long, for rows that stand a little out of order."""
GONE_US = 10_000_000
"""A channel that AMI has not seen for so long, and that wrote no row meanwhile, is gone."""
ALIVE_CHECK_US = 2_000_000
DAY_US = 86_400_000_000
PRUNE_US = DAY_US // 24
"""How often the archive is looked through for files that are too old."""
_ENDS = frozenset({EventKind.HANGUP.value, EventKind.CHAN_END.value, EventKind.LINKEDID_END.value})
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)


def progress(files: Iterable[stored_journal.JournalFile]) -> dict[str, int]:
    """How far each known journal file has been stored, by fingerprint: what the reader starts from."""
    read: dict[str, int] = {}
    for file in files:
        read[file.fingerprint] = max(read.get(file.fingerprint, 0), file.size)
    return read


@dataclass(frozen=True, slots=True)
class Alive:
    """What AMI says is up: unique ids of all channels, and when Asterisk started (microseconds since the epoch)."""

    unique_ids: frozenset[str]
    started_at_us: int


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where the tracker's work goes besides the store. All are called after the commit and must not block."""

    changed: Callable[[Mapping[str, Any]], None]
    """A record that changed."""
    events_added: Callable[[], None]
    targets: Collection[str] = ()
    """Delivery targets of events."""
    missed: Callable[[str], None] = lambda result: None
    """What became of a missed call."""


@dataclass(slots=True)
class _Call:
    """A group of rows that is one call, while it is open and a little longer."""

    key: str
    rows: list[Row] = field(default_factory=list)
    unsaved: list[bytes] = field(default_factory=list)
    """Lines of this batch."""
    unsaved_at: int = 0
    """Place of the first of them in the file."""
    has_open_rows: bool = False
    facts: calls.CallFacts | None = None
    closing: calls.Closing | None = None
    known: Known = field(default_factory=Known)
    absent_since_us: int | None = None
    may_be_over: bool = False
    """A channel of it has ended."""

    @property
    def is_closed(self) -> bool:
        return self.facts is not None and self.facts.is_closed

    @property
    def last_row_us(self) -> int:
        return max(row.at_us for row in self.rows)

    def is_alive(self, unique_ids: Collection[str]) -> bool:
        """Whether its channel is among these; once that has ended, any of it: who answered may be asked how it was."""
        if self.facts is not None and self.facts.ended_at_us is not None:
            return any(row.unique_id in unique_ids for row in self.rows)
        return self.key in unique_ids


@dataclass(slots=True)
class _Work:
    """What one transaction writes. Without a batch it only closes calls."""

    batch: journalfiles.Batch | None
    file_id: int = 0
    changed: list[Changed] = field(default_factory=list)
    papers: Papers = field(default_factory=Papers)
    still_open: list[_Call] = field(default_factory=list)
    postponed: list[_Call] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    closings: list[stored_journal.Closing] = field(default_factory=list)
    damaged: list[stored_journal.DamagedRow] = field(default_factory=list)
    breaks: list[stored_agents.Break] = field(default_factory=list)


class Tracker:
    """Owns the journal of one node. `run` is a root task: when it ends, the daemon ends.

    `signer` signs the receipts of calls whose callers were asked; None: there will be none, and what was recorded is
    refused. `erased` keeps erased persons out of what is written; None: on a node that never erases (tests, bench).
    `desk` opens and closes tickets; None: nobody does.
    """

    def __init__(
        self,
        database: store.Database,
        reader: journalfiles.JournalReader,
        *,
        node: str,
        book_of: BookOf,
        outlets: Outlets,
        alive: Callable[[], Awaitable[Alive | None]],
        now_us: Callable[[], int],
        batch_seconds: float = 0.1,
        archive_days: int = 14,
        with_region: bool = True,
        signer: signatures.Signer | None = None,
        erased: forgotten.Forgotten | None = None,
        desk: ticketing.Ticketing | None = None,
    ) -> None:
        self._database = database
        self._book_of = book_of
        self._reader = reader
        self._node = node
        self._filer = filer.Filer(
            database,
            node=node,
            book_of=book_of,
            targets=outlets.targets,
            now_us=now_us,
            with_region=with_region,
            signer=signer,
            erased=erased,
            desk=desk,
        )
        self._outlets = outlets
        self._alive = alive
        self._now_us = now_us
        self._batch_seconds = batch_seconds
        self._grouping = grouping.Grouping()
        self._restarts = restarts.RestartWatch()
        self._calls: dict[str, _Call] = {}
        self._postponed: dict[str, _Call] = {}
        self._lingering: deque[tuple[int, str]] = deque()
        self._archive_us = archive_days * DAY_US
        self._next_alive_check_us = 0
        self._next_prune_us = 0
        self._file_ids: dict[str, int] = {}
        self.last_row_us: int | None = None
        self.is_caught_up = False
        self.problem: str | None = None
        """Why records are not written at the moment; None = all is well."""

    @property
    def open_calls(self) -> int:
        """Calls that are up."""
        return sum(not call.is_closed for call in self._calls.values())

    async def restore(self) -> list[Mapping[str, Any]]:
        """Takes up the open calls where the last run left them; gives their records, for the live board."""
        async with self._database.read() as connection:
            rows = await stored_journal.open_rows(connection, self._node)
        for stored in rows:
            call = self._calls.setdefault(stored.group, _Call(stored.group, has_open_rows=True))
            call.rows += _rows_of(stored.line, stored.group)
        for key, call in self._calls.items():
            self._grouping.adopt(key, call.rows)
            for row in call.rows:
                self._restarts.seen(row.unique_id)
            call.facts = calls.fold(call.rows)
        told = {call.key: Changed(call.facts, call.rows, call.known) for call in self._calls.values() if call.facts}
        # They may have been postponed when the last run ended.
        self._postponed = {key: self._calls[key] for key in told}
        return await self._filer.resume(list(told.values()))

    async def run(self) -> None:
        """Never returns; a journal that cannot be read is waited for, since calls can be put through meanwhile."""
        while True:
            try:
                is_more = await self.step()
            except OSError as error:
                is_more = False
                if self.problem is None:
                    log.error("journal not readable, will be tried again", error=str(error))
                self.problem = str(error)
                await asyncio.sleep(RETRY_SECONDS[-1])
            if not is_more:
                await asyncio.sleep(self._batch_seconds)

    async def step(self) -> bool:
        """Reads and stores one batch. Returns whether more is waiting, so that catching up does not pause."""
        batch = await self._reader.next_batch(self._now_us())
        self._is_well_again()
        touched: dict[str, _Call] = {}
        work = _Work(batch)
        if batch is not None:
            work.file_id = await self._file_id(batch)
            touched = self._take(batch)
            work.damaged = self._quarantined(batch, work.file_id)
            work.breaks = await self._breaks(batch)
        await self._close_the_gone(touched)
        is_more = batch is not None and batch.end < batch.file.size
        self._postpone(touched, work, is_more=is_more)
        if batch is None and not touched:
            self._forget_closed()
            self.is_caught_up = True
            await self._tidy()
            return False
        self._fold(touched.values(), work)
        await self._store(work)
        self._settle(touched.values(), work)
        return is_more

    async def _tidy(self) -> None:
        """Rotation and archive can wait for space or rights; records cannot."""
        now_us = self._now_us()
        try:
            await self._reader.tidy(now_us)
            if now_us >= self._next_prune_us and self._reader.archive is not None:
                self._next_prune_us = now_us + PRUNE_US
                await asyncio.to_thread(journalfiles.prune, self._reader.archive, now_us - self._archive_us)
        except OSError as error:
            log.warning("journal not rotated or archived", error=str(error))

    async def _file_id(self, batch: journalfiles.Batch) -> int:
        """The store's number of the batch's file, entered when it is first seen."""
        fingerprint = batch.file.fingerprint
        if fingerprint not in self._file_ids:
            self._file_ids[fingerprint] = await self._with_patience(lambda: self._enter(batch))
        return self._file_ids[fingerprint]

    async def _enter(self, batch: journalfiles.Batch) -> int:
        async with self._database.begin() as tx:
            return await stored_journal.enter_file(
                tx,
                node=self._node,
                device=batch.file.device,
                inode=batch.file.inode,
                fingerprint=batch.file.fingerprint,
                name=batch.file.path.name,
                size=batch.start,
            )

    def _take(self, batch: journalfiles.Batch) -> dict[str, _Call]:
        """Puts the batch's rows to their calls; returns the calls that changed."""
        touched: dict[str, _Call] = {}
        place = -1
        for line in batch.lines:
            row = line.row
            # Rows recovered from one damaged line share its offset, but a stored row needs one of its own.
            place = max(line.offset, place + 1)
            if self._restarts.is_restart(row):
                self._close_all_before(row.at_us, touched)
            key = self._grouping.assign(row)
            if key is None:
                continue
            call = self._calls.get(key)
            if call is None:
                if not self._grouping.is_open(key):
                    continue
                call = self._calls[key] = _Call(key)
            call.rows.append(row)
            call.may_be_over = call.may_be_over or row.kind in _ENDS
            call.absent_since_us = None
            if not call.unsaved:
                call.unsaved_at = place
            call.unsaved.append(line.raw)
            touched[key] = call
        if batch.lines:
            self.last_row_us = batch.lines[-1].row.at_us
        return touched

    async def _breaks(self, batch: journalfiles.Batch) -> list[stored_agents.Break]:
        """Agents' switches (`*29`), which are of no call."""
        rows = [line.row for line in batch.lines if line.row.user_event == grouping.BREAK_EVENT]
        switched = callingback.switches(rows, await self._book_of(None)) if rows else []
        return [stored_agents.Break(agent, is_on, at_us) for agent, is_on, at_us in switched]

    def _quarantined(self, batch: journalfiles.Batch, file_id: int) -> list[stored_journal.DamagedRow]:
        for place in batch.damaged:
            log.warning("journal row damaged", offset=place.offset, reason=place.damaged.reason)
        now_us = self._now_us()
        return [
            stored_journal.DamagedRow(file_id, place.offset, place.damaged.raw, place.damaged.reason, now_us)
            for place in batch.damaged
        ]

    def _postpone(self, touched: dict[str, _Call], work: _Work, *, is_more: bool) -> None:
        """While more is waiting, only the rows of calls that go on are kept: their records of the meantime would be of
        no use to anybody, and cost as much as the last one. At the end of the journal they are filed."""
        if not is_more:
            touched.update(self._postponed)
            self._postponed.clear()
            return
        for call in list(touched.values()):
            if call.may_be_over or call.closing is not None:
                self._postponed.pop(call.key, None)
                continue
            self._postponed[call.key] = call
            work.postponed.append(call)
            work.still_open.append(call)
            del touched[call.key]

    def _close_all_before(self, at_us: int, touched: dict[str, _Call]) -> None:
        """Asterisk began a new run: what was open before it is over."""
        for call in self._calls.values():
            if not call.is_closed and call.last_row_us <= at_us:
                call.closing = calls.Closing(call.last_row_us, "asterisk restarted")
                touched[call.key] = call

    async def _close_the_gone(self, touched: dict[str, _Call]) -> None:
        """Asks AMI for the channels of open calls that have been silent for a while."""
        now_us = self._now_us()
        if now_us < self._next_alive_check_us or not self.is_caught_up:
            return
        self._next_alive_check_us = now_us + ALIVE_CHECK_US
        silent = [
            call
            for call in self._calls.values()
            if not call.is_closed and call.key not in touched and now_us - call.last_row_us > ALIVE_CHECK_US
        ]
        if not silent:
            return
        alive = await self._alive()
        if alive is None:
            return
        for call in silent:
            if call.is_alive(alive.unique_ids):
                call.absent_since_us = None
                continue
            if call.absent_since_us is None:
                call.absent_since_us = now_us
            is_gone = now_us - call.absent_since_us >= GONE_US
            if is_gone or call.last_row_us < alive.started_at_us:
                call.closing = calls.Closing(call.last_row_us, "channel gone")
                touched[call.key] = call

    def _fold(self, touched: Iterable[_Call], work: _Work) -> None:
        for call in touched:
            call.facts = calls.fold(call.rows, closed=call.closing)
            if call.facts is not None:
                work.changed.append(Changed(call.facts, call.rows, call.known))
            if call.is_closed:
                if call.has_open_rows:
                    work.closed.append(call.key)
            elif call.unsaved:
                work.still_open.append(call)
            if call.closing is not None and call.facts is not None and call.facts.ended_by is calls.EndedBy.CRASH:
                work.closings.append(
                    stored_journal.Closing(call.facts.call_id, call.closing.at_us, call.closing.reason)
                )

    async def _store(self, work: _Work) -> None:
        while True:
            work.papers = await self._with_patience(lambda: self._filer.prepare(work.changed))
            try:
                return await self._with_patience(lambda: self._write(work))
            except forgotten.Overtaken:
                await self._with_patience(lambda: self._filer.catch_up(work.changed))

    async def _write(self, work: _Work) -> None:
        """Raises Overtaken: somebody was erased meanwhile, and nothing was written."""
        async with self._database.begin() as tx:
            await self._filer.hold(tx)
            if work.batch is not None:
                place = stored_journal.Position(work.file_id, work.batch.end)
                await stored_journal.set_progress(tx, self._node, place, self.last_row_us)
            if work.still_open:
                rows = [self._open_row(call, work.file_id) for call in work.still_open]
                await stored_journal.add_open_rows(tx, self._node, rows)
            if work.closed:
                await stored_journal.delete_open_rows(tx, self._node, work.closed)
            if work.closings:
                await stored_journal.close_calls(tx, work.closings)
            if work.damaged:
                await stored_journal.quarantine(tx, work.damaged)
            if work.breaks:
                await stored_agents.switch(tx, work.breaks)
            await self._filer.write(tx, work.papers)

    def _open_row(self, call: _Call, file_id: int) -> stored_journal.OpenRow:
        """The unsaved lines as one row of the store: a tenth of what a row for each of them costs."""
        lines = self._filer.masked(b"\n".join(call.unsaved), call.rows)
        return stored_journal.OpenRow(file_id, call.unsaved_at, call.key, lines)

    async def _with_patience(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Repeats store work until it succeeds: the journal waits for us, so nothing is lost meanwhile."""
        pauses = iter(RETRY_SECONDS)
        while True:
            try:
                result = await work()
            except store.StoreUnavailable as error:
                if self.problem is None:
                    log.error("records not stored, will be tried again", error=str(error))
                self.problem = str(error)
                await asyncio.sleep(next(pauses, RETRY_SECONDS[-1]))
                continue
            self._is_well_again()
            return result

    def _is_well_again(self) -> None:
        if self.problem is not None:
            log.info("records are stored again")
            self.problem = None

    def _settle(self, touched: Iterable[_Call], work: _Work) -> None:
        """After the commit: remember what is stored, let go of closed calls, tell the outlets."""
        filed_of = {filed.row.call_id: filed for filed in work.papers.filed}
        for call in work.postponed:
            call.has_open_rows = True
            call.unsaved.clear()
        for call in touched:
            call.has_open_rows = not call.is_closed and (call.has_open_rows or bool(call.unsaved))
            call.unsaved.clear()
            filed = filed_of.get(call.facts.call_id) if call.facts else None
            if filed is not None:
                call.known.keep(filed.row)
            if call.is_closed:
                self._lingering.append((self._now_us() + LINGER_US, call.key))
        self._forget_closed()
        for filed in work.papers.filed:
            self._outlets.changed(filed.document)
        for result in work.papers.missed:
            self._outlets.missed(result)
        if any(filed.events for filed in work.papers.filed):
            self._outlets.events_added()

    def _forget_closed(self) -> None:
        """Drops closed calls whose late rows are no longer expected, so that memory follows the open calls."""
        now_us = self._now_us()
        while self._lingering and self._lingering[0][0] <= now_us:
            _, key = self._lingering.popleft()
            call = self._calls.get(key)
            if call is not None and call.is_closed:
                del self._calls[key]
                self._grouping.close(key)


def _rows_of(lines: bytes, group: str) -> Iterator[Row]:
    """The group's rows in stored lines; rows glued together by a full disk may be of several calls."""
    for line in lines.split(b"\n"):
        parsed = journal.parse_line(line)
        if isinstance(parsed, Row):
            yield parsed
        else:
            yield from (row for row in parsed.recovered if group in (row.unique_id, row.linked_id))
