"""Erasing a person (N14): one number, everywhere it stands, or a visitor of a web site; and a receipt of what was done.

First one transaction: tombstone, records, events, keys of recordings, audit. Then files: vault, spool, JSON lines,
journal and archive. Breaking off in between does no harm: the same command goes on where it stopped.

Journal files and JSON lines that are being written are changed in place, each line as long as before, so that neither
Asterisk nor the post nor a reader's offset is disturbed. Archived ones are written anew beside and renamed.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gateway import store
from gateway.core import erasure, events, recording, records, ticketdocs
from gateway.core.rows import Row
from gateway.pbx import journal, journalfiles
from gateway.senders import jsonlines
from gateway.store import audit, calls, forgetting, keyring, profiles, recordings, vault

DAY_US = 86_400_000_000
WRITING_SECONDS = 5.0
"""A line is written within milliseconds, unless disk or process hangs."""
UNWRITTEN = "an event is still being written to the JSON lines"


@dataclass(frozen=True, slots=True)
class Places:
    """Where a person may stand besides the database. A folder that is not there holds nobody."""

    vault: Path
    spool: Path
    journal: Path
    journal_name: str
    archive: Path
    exports: tuple[Path, ...] = ()
    """JSON-lines files; their rotated ones (`name.*`) are found by themselves."""


@dataclass(slots=True)
class Receipt:
    """What an erasure did. It holds no number: whoever has the number can prove by `salt` and the digest in audit row
    `audit_row` that it was theirs; `salt` is nowhere else."""

    erasure_id: str
    erased_at: str | None
    pseudonym: str
    audit_row: int
    salt: str
    calls: int = 0
    callbacks: int = 0
    """Requests for a call back."""
    recordings_shredded: int = 0
    recordings_held: list[str] = field(default_factory=list)
    """Under legal hold: they stay until it is released and the command is run again."""
    spool_files: int = 0
    journal_rows: int = 0
    export_lines: int = 0
    audit_rows_unlinked: int = 0
    receivers_served: list[dict[str, Any]] = field(default_factory=list)
    """They have the person's events: tell them."""
    routing_revisions: list[int] = field(default_factory=list)
    """Routing revisions that name the number (a ban list): they are kept, and yours to change."""
    last_backup_ends: str | None = None
    """When the last backup of the database from before this erasure is to be gone."""
    problems: list[str] = field(default_factory=list)
    """Files that could not be changed: run the command again."""

    def document(self) -> dict[str, Any]:
        return asdict(self)


async def erase(
    database: store.Database,
    number: str,
    *,
    ring: keyring.KeyRing,
    places: Places,
    backup_days: int,
    actor: str,
    now_us: int,
    targets: Collection[str] = (),
) -> Receipt:
    """Erases the person with this number (E.164 with `+`). Raises KeyMissing, StoreUnavailable.

    `targets` are told that the person's open ticket is closed.
    """
    async with database.begin() as tx:
        receipt, rows, gone, seqs = await _erase_stored(tx, number, ring, actor, now_us, targets)
    if places.exports and not await _is_written(database, [row.call_id for row in rows], seqs, now_us):
        receipt.problems.append(UNWRITTEN)
    receipt.last_backup_ends = records.timestamp(now_us + backup_days * DAY_US)
    files = _Files(number, places, receipt, rows)
    await asyncio.to_thread(files.erase, gone)
    return receipt


async def _erase_stored(
    tx: store.Transaction, number: str, ring: keyring.KeyRing, actor: str, now_us: int, targets: Collection[str]
) -> tuple[Receipt, list[calls.CallRow], list[recordings.Recording], list[int]]:
    stone = await forgetting.bury(tx, ring, number, now_us=now_us)
    rows = await forgetting.calls_of(tx, number, stone.pseudonym)
    ids = [row.call_id for row in rows]
    known = await recordings.of_calls(tx, ids)
    gone = await recordings.shred(tx, [one.recording_id for one in known], now_us=now_us, why="person erased")
    await forgetting.forget(tx, rows, stone.pseudonym, why=forgetting.ERASURE, now_us=now_us, targets=targets)
    asked = await forgetting.forget_askers(tx, number, stone.pseudonym)
    told = await forgetting.forget_tickets(tx, number, stone.pseudonym, now_us=now_us, targets=targets)
    await profiles.forget(tx, number)
    served = await forgetting.receivers_served(tx, ids, [*asked, *told], now_us=now_us)
    masked = await forgetting.mask_rows(tx, [row.linked_id for row in rows], ids, erasure.spellings(number)[0])
    held = [one.recording_id for one in known if one.held_us is not None and one.shredded_us is None]
    details = {"calls": len(rows), "recordings": len(gone), "held": len(held)}
    subject = f"erasure:{stone.pseudonym.removeprefix(erasure.PREFIX)}"
    entry = await audit.append(
        tx, at_us=now_us, actor=actor, action="person.erased", subject=subject, details=details, person=number
    )
    salt = await audit.salt_of(tx, entry.seq)
    receipt = Receipt(
        subject.partition(":")[2], records.timestamp(now_us), stone.pseudonym, entry.seq, salt or "", calls=len(rows)
    )
    receipt.callbacks = len(asked)
    receipt.audit_rows_unlinked = await audit.forget(tx, number)
    receipt.recordings_shredded, receipt.recordings_held = len(gone), held
    receipt.receivers_served = _served(served)
    receipt.routing_revisions = await forgetting.revisions_naming(tx, number)
    receipt.journal_rows = masked
    # All of them, so that a run after a crash removes files whose keys went before it.
    return receipt, rows, [one for one in known if one.recording_id not in held], [*asked, *told]


async def _is_written(database: store.Database, call_ids: Sequence[str], seqs: Sequence[int], now_us: int) -> bool:
    """Waits until no event of theirs is on its way into the JSON lines: what was claimed before they were erased has
    them in it still, and would be written behind our back. False: it took too long."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    while (passed := loop.time() - started) < WRITING_SECONDS:
        async with database.read() as connection:
            at_us = now_us + round(passed * 1_000_000)
            if not await forgetting.are_on_their_way(connection, jsonlines.TARGET, call_ids, seqs, now_us=at_us):
                return True
        await asyncio.sleep(0.05)
    return False


@dataclass(slots=True)
class VisitorReceipt:
    """What erasing a visitor of a web site did. It holds no id of theirs: whoever has it can prove by `salt` and the
    digest in audit row `audit_row` that it was theirs."""

    erasure_id: str
    erased_at: str | None
    audit_row: int
    salt: str
    calls: int = 0
    """Calls whose records named them."""
    export_lines: int = 0
    receivers_served: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        return asdict(self)


async def erase_visitor(
    database: store.Database, visitor_id: str, *, exports: Collection[Path], actor: str, now_us: int
) -> VisitorReceipt | None:
    """Erases what a visitor left behind: visits, pages, clicks, ids, and what records, events and JSON lines say of
    them. Who called stays in the call's record: that is a person with a number (`erase`). None: nobody knows them.
    Raises StoreUnavailable."""
    async with database.begin() as tx:
        done = await forgetting.forget_visitors(tx, [visitor_id], now_us=now_us)
        if not done.known and not done.call_ids:
            return None
        erasure_id = secrets.token_hex(6)
        entry = await audit.append(
            tx,
            at_us=now_us,
            actor=actor,
            action="visitor.erased",
            subject=f"erasure:{erasure_id}",
            details={"calls": len(done.call_ids)},
            person=visitor_id,
        )
        salt = await audit.salt_of(tx, entry.seq)
        served = await forgetting.receivers_served(tx, done.call_ids, done.requests, now_us=now_us)
        await audit.forget(tx, visitor_id)
    receipt = VisitorReceipt(erasure_id, records.timestamp(now_us), entry.seq, salt or "", calls=len(done.call_ids))
    receipt.receivers_served = _served(served)
    if exports:
        if not await _is_written(database, done.call_ids, done.requests, now_us):
            receipt.problems.append(UNWRITTEN)
        await asyncio.to_thread(_mask_visitor, exports, visitor_id, set(done.call_ids), receipt)
    return receipt


def _mask_visitor(exports: Collection[Path], visitor_id: str, call_ids: set[str], receipt: VisitorReceipt) -> None:
    def change(data: dict[str, Any]) -> list[dict[str, Any]]:
        return [erasure.without_visitors(data, [visitor_id])]

    for path in _rotated(exports):
        try:
            receipt.export_lines += _change_lines(path, _Whose(call_ids, visitor=visitor_id.encode()), change)
        except OSError as error:
            receipt.problems.append(f"{path}: {error}")


def _served(served: Collection[forgetting.Served]) -> list[dict[str, Any]]:
    return [{"target": one.target, "events": one.events, "last_at": records.timestamp(one.last_us)} for one in served]


# --- JSON lines ---

_CALL_OF_LINE = re.compile(rb'"call_id": ?"([0-9a-f-]{36})"')

_OF_NO_CALL = (f'"type":"{events.CALLBACK_REQUESTED}"'.encode(), b'"type":"ticket.')
"""Events that may be of no call, and are known by number or visitor."""

Change = Callable[[dict[str, Any]], list[dict[str, Any]]]
"""What may stand for the data of an event, the best first."""


def _rotated(exports: Collection[Path]) -> Iterator[Path]:
    for path in exports:
        if path.parent.is_dir():
            names = re.compile(re.escape(path.name) + r"(\.\d+)?")
            yield from sorted(one for one in path.parent.iterdir() if names.fullmatch(one.name))


@dataclass(frozen=True, slots=True)
class _Whose:
    """Events that are changed: those of calls, and requests for a call back and tickets of a number or a visitor."""

    call_ids: Collection[str]
    digits: Collection[bytes] = ()
    visitor: bytes | None = None

    def has(self, line: bytes) -> bool:
        found = _CALL_OF_LINE.search(line)
        if found is not None and found[1].decode() in self.call_ids:
            return True
        is_visitors = self.visitor is not None and b'"visitor_id":"' + self.visitor + b'"' in line
        may_be = any(kind in line for kind in _OF_NO_CALL)
        return may_be and (is_visitors or erasure.names_number(line, self.digits))


def _change_lines(path: Path, whose: _Whose, change: Change) -> int:
    """Changes these events in place, each line as long as before. Returns how many."""
    changed = 0
    with path.open("r+b") as file:
        offset = 0
        for line in file.read().split(b"\n"):
            new = _changed_line(line, whose, change) if whose.has(line) else line
            if new != line:
                os.pwrite(file.fileno(), new, offset)
                changed += 1
            offset += len(line) + 1
        os.fsync(file.fileno())
    return changed


def _changed_line(line: bytes, whose: _Whose, change: Change) -> bytes:
    """The event after the change, padded with blanks to its old length. `line` is without its line end."""
    try:
        body = json.loads(line)
    except ValueError:
        return erasure.masked_line(line, whose.digits)
    data = body.get("data") or {}
    for left in change(data):
        if left == data:
            return line
        made = json.dumps({**body, "data": left}, ensure_ascii=False, separators=(",", ":")).encode()
        if len(made) <= len(line):
            return made.ljust(len(line))
    return erasure.masked_line(line, whose.digits)


# --- Everything of a person on disks ---


class _Files:
    """The part that runs in a thread: everything of the person on disks."""

    def __init__(self, number: str, places: Places, receipt: Receipt, rows: list[calls.CallRow]) -> None:
        self._digits = erasure.spellings(number)
        self._places = places
        self._receipt = receipt
        self._call_ids = {row.call_id for row in rows}
        self._linked = {row.linked_id for row in rows}

    def erase(self, gone: Collection[recordings.Recording]) -> None:
        for one in gone:
            self._try(vault.remove, vault.file_of(self._places.vault, one.recording_id, one.started_us))
        self._try(self._empty_spool, self._places.spool)
        for path in _rotated(self._places.exports):
            self._try(self._mask_export, path)
        files = self._journals()
        for file in files:
            self._try(self._gather, file)
        for file in files:
            self._try(self._mask_archived if file.is_compressed else self._mask_journal, file)

    def _try(self, work: Any, where: Any) -> None:
        try:
            work(where)
        except (OSError, EOFError) as error:
            self._receipt.problems.append(f"{getattr(where, 'path', where)}: {error}")

    def _empty_spool(self, spool: Path) -> None:
        for path in spool.iterdir() if spool.is_dir() else ():
            file = recording.parse_name(path.name)
            if file is not None and file.call_id in self._call_ids:
                path.unlink(missing_ok=True)
                self._receipt.spool_files += 1

    def _mask_export(self, path: Path) -> None:
        def change(data: dict[str, Any]) -> list[dict[str, Any]]:
            forget: Callable[[dict[str, Any], str | None], dict[str, Any]] = erasure.pseudonymised
            if "ticket_id" in data:
                forget = ticketdocs.forgotten
            elif "number_raw" in data:
                forget = erasure.without_asker
            return [forget(data, pseudonym) for pseudonym in (self._receipt.pseudonym, None)]

        self._receipt.export_lines += _change_lines(path, _Whose(self._call_ids, self._digits), change)

    # --- journal ---

    def _journals(self) -> list[journalfiles.JournalFile]:
        if not self._places.journal.is_dir():
            return []
        live = journalfiles.JournalReader(self._places.journal, live_name=self._places.journal_name).files()
        return [*live, *(journalfiles.archived(self._places.archive) if self._places.archive.is_dir() else [])]

    def _gather(self, file: journalfiles.JournalFile) -> None:
        """Calls that name the number and that the database does not know (a journal from elsewhere)."""
        with _open(file.path) as stream:
            for line in stream:
                if erasure.names_number(line, self._digits):
                    parsed = journal.parse_line(line)
                    if isinstance(parsed, Row):
                        self._linked.add(parsed.linked_id)

    def _masked(self, line: bytes) -> bytes:
        parsed = journal.parse_line(line)
        is_theirs = isinstance(parsed, Row) and parsed.linked_id in self._linked
        if not is_theirs and not erasure.names_number(line, self._digits):
            return line
        new = erasure.masked_line(line, self._digits)
        self._receipt.journal_rows += new != line
        return new

    def _mask_journal(self, file: journalfiles.JournalFile) -> None:
        with file.path.open("r+b") as stream:
            offset = 0
            while line := stream.readline():
                new = self._masked(line)
                if new != line:
                    os.pwrite(stream.fileno(), new, offset)
                offset += len(line)
            os.fsync(stream.fileno())

    def _mask_archived(self, file: journalfiles.JournalFile) -> None:
        with gzip.open(file.path, "rb") as stream:
            old = stream.read()
        lines = [self._masked(line) for line in old.splitlines(keepends=True)]
        new = b"".join(lines)
        if new == old:
            return
        name = f"journal-{file.first_row_us:016d}-{journalfiles.fingerprint(lines[0])}.csv.gz"
        draft = file.path.with_suffix(".tmp")
        with draft.open("wb") as raw:
            with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6, filename="", mtime=0) as packed:
                packed.write(new)
            raw.flush()
            os.fsync(raw.fileno())
        status = file.path.stat()
        os.utime(draft, ns=(status.st_atime_ns, status.st_mtime_ns))
        draft.replace(file.path.with_name(name))
        if name != file.path.name:
            file.path.unlink(missing_ok=True)
        vault.sync_folder(file.path.parent)


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
