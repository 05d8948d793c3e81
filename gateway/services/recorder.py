"""Sound from Asterisk's spool into the vault: waits for the end of a call, encodes, encrypts, registers, removes.

    spool ─▶ whose call is over, files at rest ─▶ consent? ─▶ one MP3, encrypted, synced ─▶ row and key ─▶ spool emptied
                                                    └─ none ─▶ the same, but locked away as `refused`, with an alarm

A crash at any point leaves the spool as it was or a recording that is registered: the id follows from the spool's
names, the row is committed before a file of the spool goes, and what is registered already is not encoded again. One
thread works, one recording at a time, so that audio never starves calls.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import threading
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import structlog

from gateway import store
from gateway.core import events, recording, records
from gateway.core import receipts as documents
from gateway.services import audio
from gateway.store import audit, calls, forgetting, keyring, outbox, receipts, recordings, signatures, vault

log = structlog.get_logger()

READY = "recording.ready"
ALERT = "system.alert"
NO_RING = "there is no key ring"
UNREADABLE = "unreadable"
"""Folder in the spool for files that hold no sound; an administrator looks at them."""
LOCK_NAME = ".recorder.lock"
BACK_OFF_SECONDS = 5.0
UNCLOSED_TIMES = 10
"""So much longer a file rests that may not be closed yet; one whose Asterisk was killed never will be."""

_ABOUT = {recording.Kind.TALK: documents.TALK, recording.Kind.VOICEMAIL: documents.MESSAGE}

_T = TypeVar("_T")

NowUs = Callable[[], int]
ReceiptOf = Callable[[str, recording.Kind], Awaitable[recording.Receipt | None]]
"""The consent to recording this kind in this call; None while the journal has not told. Raises StoreUnavailable."""
PromptFile = Callable[[str, str], Path | None]
"""The sound file of a prompt by its id and version, None when it is not there any more. May block."""
IsOver = Callable[[str], Awaitable[bool | None]]
"""Whether the call is over; None when there is no such call (yet)."""
Pauses = Sequence[tuple[int, int | None]]
"""From and to in microseconds since the epoch; the last may have no end."""
PausesOf = Callable[[str], Awaitable[Pauses]]
"""The pauses by the agent's key in a call, by the journal. Raises StoreUnavailable."""


def stored_calls(database: store.Database) -> IsOver:
    """Asks the stored records whether a call is over."""

    async def is_over(call_id: str) -> bool | None:
        async with database.read() as connection:
            known = await calls.saved(connection, [call_id])
        return known[call_id].state == "closed" if call_id in known else None

    return is_over


def stored_pauses(database: store.Database) -> PausesOf:
    """Asks the stored records for the pauses of a call."""

    async def pauses_of(call_id: str) -> Pauses:
        async with database.read() as connection:
            row = await calls.get(connection, call_id)
        found = json.loads(row.record).get("pauses", ()) if row is not None else ()
        return [(records.at_us(one["from"]), records.at_us(one["to"]) if one["to"] else None) for one in found]

    return pauses_of


def stored_receipts(database: store.Database, prompt_file: PromptFile) -> ReceiptOf:
    """Asks the stored receipts. One that is not what one of our keys signed is no consent."""

    async def receipt_of(call_id: str, kind: recording.Kind) -> recording.Receipt | None:
        async with database.read() as connection:
            found = await receipts.get(connection, call_id, _ABOUT[kind])
            known = await receipts.keys(connection)
        if found is None:
            return None
        try:
            receipts.check(found, known)
        except signatures.BadSignature as error:
            return recording.Receipt(False, f"not proved: {error}")
        said = found.content()
        preface = None
        if said.get("announcement_in_recording"):
            preface = await asyncio.to_thread(prompt_file, str(said["prompt_id"]), str(said["prompt_version"]))
            if preface is None:
                log.error("announcement not put in front of the recording", prompt=said["prompt_id"], error="gone")
        return recording.Receipt(
            said.get("recording_allowed") is True, str(said.get("result")), str(preface) if preface else None
        )

    return receipt_of


@dataclass(frozen=True, slots=True)
class Pace:
    """How long files must rest, when to stop waiting for the journal, when the spool is full, how often to look."""

    settle_seconds: float = 2.0
    unknown_seconds: float = 600.0
    min_free_percent: int = 10
    poll_seconds: float = 0.5


@dataclass(frozen=True, slots=True)
class _State:
    size: int
    changed_us: int


@dataclass(slots=True)
class Counts:
    """What was done since the start, for metrics."""

    stored: int = 0
    refused: int = 0
    unreadable: int = 0
    empty: int = 0
    seconds: float = 0.0


class _GivenUp(OSError):
    """The daemon ends before a recording is written; its draft is removed, and its plain files stay."""


class Recorder:
    """Polls the spool. Without a key ring it stores nothing and says so: plain sound waits in the spool.

    `no_ring` says why there is none; "" is a node that was never meant to record, which is no reason for an alarm.
    `journal_is_read` tells whether all that the journal holds is in the store: until then, nothing counts as recorded
    without consent because the store does not know it.
    """

    def __init__(
        self,
        database: store.Database,
        *,
        spool: Path,
        root: Path,
        ring: keyring.KeyRing | None,
        no_ring: str = "",
        node: str,
        receipt_of: ReceiptOf,
        now_us: NowUs,
        is_over: IsOver | None = None,
        pauses_of: PausesOf | None = None,
        journal_is_read: Callable[[], bool] = lambda: True,
        pace: Pace | None = None,
        targets: Collection[str] = (),
        events_added: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._spool = spool
        self._root = root
        self._ring = ring
        self._no_ring = no_ring
        self._node = node
        self._receipt_of = receipt_of
        self._is_over = is_over or stored_calls(database)
        self._pauses_of = pauses_of or stored_pauses(database)
        self._journal_is_read = journal_is_read
        self._now_us = now_us
        self._pace = pace or Pace()
        self._targets = targets
        self._events_added = events_added
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recorder")
        self._busy = asyncio.Lock()
        self._is_closing = False
        self._given_up = threading.Event()
        self._lock: int | None = None
        self._alarmed = ""
        self.counts = Counts()
        self.problem: str | None = None
        """What keeps recordings from being stored; None = all is well."""
        self.refusal: str | None = "the spool was not looked at yet"
        """Why new calls must not be recorded now; None = they may. The router asks `accepts`."""
        self.waiting = 0
        """Recordings in the spool that are not stored yet, those of calls that are up included."""

    @property
    def accepts(self) -> bool:
        """Whether a new call may be recorded: there is a key ring, the spool is there and has room."""
        return self.refusal is None

    async def run(self) -> None:
        """Never returns; full disks and a locked database are waited out."""
        await self._in_thread(self._clean_up)
        while True:
            wait = self._pace.poll_seconds
            try:
                await self.step()
                self._say(self._left_in_plain())
            except (OSError, store.StoreUnavailable) as error:
                self._say(str(error))
                wait = max(wait, BACK_OFF_SECONDS)
            await asyncio.sleep(wait)

    def _left_in_plain(self) -> str | None:
        if self._ring is not None or not self.waiting:
            return None
        return f"{self.waiting} in plain: {self._no_ring or NO_RING}"

    def _say(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            log.error("recordings wait in the spool", reason=problem)
        elif problem is None and self.problem is not None:
            log.info("recordings are stored again")
        self.problem = problem

    async def close(self) -> None:
        """Let go of the spool for good; a recording that is being encrypted is finished first."""
        self._is_closing = True
        async with self._busy:
            await asyncio.to_thread(self._worker.shutdown, wait=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def abandon(self) -> None:
        """As `close`, without finishing: what is being encrypted is done again at the next start."""
        self._given_up.set()
        await self.close()

    async def look(self) -> None:
        """Find out whether new calls may be recorded, before the first of them comes."""
        async with self._busy:
            if not self._is_closing:
                await self._look_at_room()

    async def step(self) -> int:
        """One look at the spool; returns how many recordings were stored. Raises OSError, StoreUnavailable."""
        async with self._busy:
            return 0 if self._is_closing else await self._step()

    async def _step(self) -> int:
        await self._look_at_room()
        if self._ring is None:
            self.waiting = await self._in_thread(self._count_spool)
            return 0
        if not await self._in_thread(self._hold_lock):
            return 0
        states = await self._in_thread(self._scan)
        groups = recording.groups(states)
        self.waiting = len(groups)
        done, failed = 0, None
        for group in groups:
            if self._is_closing:
                break
            if self._rests(group, states):
                try:
                    done += await self._take(group, states)
                except audio.AudioUnreadable as error:
                    await self._put_aside(group, str(error))
                except OSError as error:
                    # One file without rights must not hold up all behind it.
                    failed = failed or error
        self.waiting = max(0, self.waiting - done)
        if failed is not None:
            raise failed
        return done

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    # --- the spool ---

    async def _look_at_room(self) -> None:
        refusal = await self._in_thread(self._why_not)
        if refusal and refusal != self.refusal and self._alarmed != refusal.split(":")[0]:
            self._alarmed = refusal.split(":")[0]
            if self._ring is not None or self._no_ring:
                log.error("new calls are not recorded", reason=refusal)
                await self._alert("recording-stopped", refusal, None)
        elif not refusal:
            if self._alarmed:
                log.info("new calls are recorded again")
            self._alarmed = ""
        self.refusal = refusal

    def _why_not(self) -> str | None:
        if self._ring is None:
            return self._no_ring or NO_RING
        try:
            room = os.statvfs(self._spool)
        except OSError as error:
            return f"the spool cannot be read: {error.strerror}"
        free = 100 * room.f_bavail / room.f_blocks if room.f_blocks else 0.0
        if free < self._pace.min_free_percent:
            return f"the spool is nearly full: {free:.0f} % free, {self._pace.min_free_percent} % are needed"
        return None

    def _hold_lock(self) -> bool:
        """Two recorders on one spool would write the same files under two keys: the second one waits."""
        if self._lock is None:
            handle = os.open(self._spool / LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                return False
            self._lock = handle
        return True

    def _count_spool(self) -> int:
        try:
            return len(recording.groups(self._scan()))
        except OSError:
            # A node without a key ring needs no spool.
            return 0

    def _scan(self) -> dict[str, _State]:
        states = {}
        with os.scandir(self._spool) as entries:
            for entry in entries:
                if recording.parse_name(entry.name) is not None and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        states[entry.name] = _State(status.st_size, status.st_mtime_ns // 1000)
        return states

    def _rests(self, group: recording.Group, states: dict[str, _State]) -> bool:
        found = [states[file.name] for file in group.files]
        wait = self._pace.settle_seconds
        if any(state.size % recording.UNWRITTEN_BYTES == 0 for state in found):
            # Nothing yet, or whole blocks only: a busy Asterisk may not have closed it, with sound still in its hands.
            wait *= UNCLOSED_TIMES
        settled_us = self._now_us() - round(wait * 1_000_000)
        return all(state.changed_us <= settled_us for state in found)

    def _clean_up(self) -> None:
        """Drafts of a process that was killed."""
        for draft in self._root.glob("[0-9]*/[0-9]*/[0-9]*/.*.tmp"):
            draft.unlink(missing_ok=True)

    # --- one recording ---

    async def _take(self, group: recording.Group, states: dict[str, _State]) -> int:
        is_over = await self._is_over(group.call_id)
        quiet_us = self._now_us() - max(states[file.name].changed_us for file in group.files)
        is_lost = quiet_us > self._pace.unknown_seconds * 1_000_000 and self._journal_is_read()
        if is_over is False or (is_over is None and not is_lost):
            return 0
        async with self._database.read() as connection:
            known = await recordings.of_calls(connection, [group.call_id])
            is_forgotten = await forgetting.is_forgotten(connection, group.call_id)
        if is_forgotten:
            await self._in_thread(self._remove, [file.name for file in group.files])
            return 0
        left = await self._without_known(group, known)
        if left is None:
            return 0
        receipt = await self._receipt_of(group.call_id, group.kind)
        if receipt is None and not is_lost:
            return 0
        return await self._store(left, states, receipt)

    async def _without_known(
        self, group: recording.Group, known: Iterable[recordings.Recording]
    ) -> recording.Group | None:
        """The parts that are in no recording yet; files of the others were left by a crash and go now."""
        numbers = {
            number for one in known if one.kind == group.kind.value for number in recording.part_numbers(one.parts)
        }
        left = group.without(numbers)
        names = {file.name for file in left.files} if left else set()
        await self._in_thread(self._remove, [file.name for file in group.files if file.name not in names])
        return left

    async def _store(self, group: recording.Group, states: dict[str, _State], receipt: recording.Receipt | None) -> int:
        is_granted = receipt is not None and receipt.is_granted
        recording_id = recording.recording_id(group.call_id, group.kind, group.parts[0].number)
        key = vault.new_key()
        pauses = await self._pauses_of(group.call_id) if len(group.parts) > 1 else ()
        written = await self._in_thread(self._encrypt, group, states, pauses, receipt, recording_id, key)
        names = [file.name for file in group.files]
        if written is None:
            self.counts.empty += 1
            await self._in_thread(self._remove, names)
            return 0
        started_us, encoding = written
        made = recordings.Recording(
            recording_id=recording_id,
            call_id=group.call_id,
            node=self._node,
            kind=group.kind.value,
            state=recordings.State.STORED if is_granted else recordings.State.REFUSED,
            started_us=started_us,
            duration_seconds=round(encoding.seconds, 3),
            parts=recording.parts_text(group.parts),
            audio_bytes=encoding.audio_bytes,
            peaks_bytes=encoding.peaks_bytes,
            digest=encoding.digest,
            created_us=self._now_us(),
            why=None if is_granted else f"consent {receipt.result if receipt else 'not in the journal'}",
        )
        await self._register(made, key)
        await self._in_thread(self._remove, names)
        self._count(made)
        return 1

    def _count(self, made: recordings.Recording) -> None:
        if made.state is recordings.State.REFUSED:
            self.counts.refused += 1
            log.error("sound without consent, locked away", call_id=made.call_id, reason=made.why)
        else:
            self.counts.stored += 1
            log.info("recording stored", call_id=made.call_id, seconds=made.duration_seconds)
        self.counts.seconds += made.duration_seconds

    def _encrypt(
        self,
        group: recording.Group,
        states: dict[str, _State],
        pauses: Pauses,
        receipt: recording.Receipt | None,
        recording_id: str,
        key: bytes,
    ) -> tuple[int, audio.Encoding] | None:
        """In the thread: when it began, and what was written. None: there is no sound at all."""
        takes, rates = self._takes_of(group, states, pauses)
        if not takes:
            return None
        if len(rates) > 1:
            raise audio.AudioUnreadable(f"parts of {sorted(rates)} samples a second cannot be one recording")
        channels = 1 if group.kind is recording.Kind.VOICEMAIL else 2
        rate = rates.pop()
        encoding = audio.Encoding(takes, rate, channels, _preface(receipt, rate))
        path = vault.file_of(self._root, recording_id, takes[0].start_us)
        vault.write(path, key, recording_id, self._unless_given_up(encoding.pieces()))
        return takes[0].start_us, encoding

    def _unless_given_up(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._given_up.is_set():
                raise _GivenUp("the daemon ends")
            yield piece

    def _takes_of(
        self, group: recording.Group, states: dict[str, _State], pauses: Pauses
    ) -> tuple[list[audio.Take], set[int]]:
        """The parts that hold sound, each when it began, and their sample rates."""
        takes: list[audio.Take] = []
        rates: set[int] = set()
        before = 0
        for part in group.parts:
            take, rate = self._take_of(part, states)
            if not take.samples:
                continue
            if takes:
                at_us = recording.resumed_us(takes[-1].end_us(rate), before, part.number, pauses)
                take = take if at_us is None else replace(take, start_us=at_us)
            takes.append(take)
            rates.add(rate)
            before = part.number
        return takes, rates

    def _take_of(self, part: recording.Part, states: dict[str, _State]) -> tuple[audio.Take, int]:
        lengths, rates, starts = [0, 0], [], []
        for index, file in enumerate((part.caller, part.agent)):
            if file is not None:
                lengths[index], rate = audio.samples_of(self._spool / file.name)
                rates.append(rate)
                ended_us = states[file.name].changed_us
                known_us = file.start_ms * 1000 if file.start_ms is not None else None
                starts.append(known_us or ended_us - lengths[index] * 1_000_000 // rate)
        if len(set(rates)) > 1:
            raise audio.AudioUnreadable(f"part {part.number}: the two sides have different sample rates")
        caller, agent = (self._spool / file.name if file else None for file in (part.caller, part.agent))
        return audio.Take(caller, agent, min(starts), lengths[0], lengths[1]), rates[0]

    async def _register(self, made: recordings.Recording, key: bytes) -> None:
        """Row, key, event, and for a refused one the audit row, in one transaction."""
        assert self._ring is not None, "step() does nothing without a ring"
        is_refused = made.state is recordings.State.REFUSED
        wrapped = self._ring.wrap(key, recordings.subject(made.recording_id))
        event = self._alarm_event("recording-without-consent", made.why or "", made) if is_refused else _ready(made)
        async with self._database.begin() as tx:
            await recordings.register(tx, made, wrapped)
            if is_refused:
                await audit.append(
                    tx,
                    at_us=made.created_us,
                    actor="daemon",
                    action="recording.refused",
                    subject=recordings.subject(made.recording_id),
                    details={"call_id": made.call_id, "why": made.why},
                )
            await outbox.add(tx, [event], self._targets)
        self._events_added()

    async def _put_aside(self, group: recording.Group, why: str) -> None:
        log.error("sound not readable, put aside", call_id=group.call_id, folder=UNREADABLE, reason=why)
        await self._in_thread(self._move_aside, [file.name for file in group.files])
        self.counts.unreadable += 1
        await self._alert("recording-unreadable", why, group.call_id)

    def _move_aside(self, names: list[str]) -> None:
        folder = self._spool / UNREADABLE
        folder.mkdir(mode=0o750, exist_ok=True)
        for name in names:
            (self._spool / name).replace(folder / name)

    def _remove(self, names: list[str]) -> None:
        for name in names:
            (self._spool / name).unlink(missing_ok=True)
        if names:
            vault.sync_folder(self._spool)

    # --- events ---

    async def _alert(self, kind: str, text: str, call_id: str | None) -> None:
        now_us = self._now_us()
        body = {"kind": kind, "message": text, "node": self._node, "call_id": call_id}
        try:
            async with self._database.begin() as tx:
                await outbox.add(tx, [_event(ALERT, f"{kind}/{call_id}/{now_us}", now_us, body, None)], self._targets)
        except store.StoreUnavailable as error:
            # The log has it; an alarm must not stop what it warns of.
            log.warning("alarm not written as an event", kind=kind, error=str(error))
            return
        self._events_added()

    def _alarm_event(self, kind: str, text: str, made: recordings.Recording) -> outbox.Event:
        body = {"kind": kind, "message": text, "node": self._node, "call_id": made.call_id}
        body["recording_id"] = made.recording_id
        return _event(ALERT, f"{kind}/{made.recording_id}", made.created_us, body, None)


def _preface(receipt: recording.Receipt | None, rate: int) -> Path | None:
    """The prompt that belongs in front. One that cannot be read costs itself, not the talk."""
    if receipt is None or not receipt.is_granted or not receipt.preface:
        return None
    path = Path(receipt.preface)
    try:
        _, found = audio.samples_of(path)
    except (OSError, audio.AudioUnreadable) as error:
        log.error("announcement not put in front of the recording", prompt=str(path), error=str(error))
        return None
    if found != rate:
        log.error("announcement not put in front of the recording", prompt=str(path), rate=found)
        return None
    return path


def _ready(made: recordings.Recording) -> outbox.Event:
    body = {
        "recording_id": made.recording_id,
        "call_id": made.call_id,
        "kind": made.kind,
        "node": made.node,
        "started_at": records.timestamp(made.started_us),
        "duration_seconds": made.duration_seconds,
        "audio_url": f"/api/v1/recordings/{made.recording_id}/audio",
        "peaks_url": f"/api/v1/recordings/{made.recording_id}/peaks",
        "sha256": made.digest,
    }
    return _event(READY, made.recording_id, made.created_us, body, made.call_id)


def _event(kind: str, what: str, at_us: int, body: Mapping[str, object], call_id: str | None) -> outbox.Event:
    event_id = str(uuid.uuid5(events.EVENT_IDS, f"{kind}/{what}"))
    document = {"id": event_id, "type": kind, "timestamp": records.timestamp(at_us), "data": body}
    payload = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return outbox.Event(event_id, kind, at_us, payload, call_id)
