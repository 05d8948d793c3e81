"""The external hook (R120): a command of the operator's hears each finished recording once and says what it found.

    stored recording ─▶ claim: audit row ─▶ command: MP3 on stdin, facts in RECORDING_… ─▶ JSON object on stdout
                           ▲                    └─ failed ─▶ again later, five times at most ─▶ given up, with an alarm
                           └── nobody said how it ended (killed, power): again when its time is over
                                                ─▶ `recordings.analysis` and event `recording.analysed`, one transaction

The sound goes through a pipe: no file in plain is made. The audit row is written before the first byte leaves the
vault, and it is the claim too: the chain says how often a recording was handed over, and when last, also after a crash.
One command runs at a time, below everything else, and dies with its process group when its time is over.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from gateway import store
from gateway.core import analysis, events, recording, records
from gateway.store import audit, calls, forgetting, keyring, outbox, recordings, vault

log = structlog.get_logger()

ANALYSED = "recording.analysed"
ALERT = "system.alert"
HANDED_OVER = "recording.handed-over"
GIVEN_UP = "recording.analysis-failed"
LOOK_BACK_US = 7 * 86_400_000_000
"""Recordings older than this are let be: who sets up a command does not have half a year read at once."""
PAGE = 200
GRACE_SECONDS = 30.0
"""Beyond the command's time before an end that nobody noted counts as none."""
UNREADABLE_SECONDS = 1800.0
"""Until a recording that the vault does not give is tried again."""
_PIECE_BYTES = 1_048_576
_MAX_SAID = 200
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_OOM_SCORE = "500"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the command may take, how long to wait after each failure (one more attempt than that), how often to
    look for recordings when nobody calls `wake`, how long to wait for a database that is away, and how much the command
    gives way to all else (nice value)."""

    command_seconds: float = 300.0
    back_off_seconds: tuple[float, ...] = (60.0, 300.0, 1800.0, 7200.0)
    poll_seconds: float = 10.0
    store_seconds: float = 5.0
    niceness: int = 15

    @property
    def attempts(self) -> int:
        return len(self.back_off_seconds) + 1


@dataclass(slots=True)
class Counts:
    """What was done since the start, for metrics."""

    analysed: int = 0
    failed: int = 0
    """Attempts that failed."""
    given_up: int = 0


class HandOverFailed(Exception):
    """The command did not give a usable answer; the message is ours. `said` is the end of its stderr, for the log."""

    def __init__(self, why: str, said: str = "") -> None:
        super().__init__(why)
        self.said = said


class _NotReadable(Exception):
    """The vault does not give the sound; the command is not to blame."""


@dataclass(frozen=True, slots=True)
class _Claim:
    recording: recordings.Recording
    call: calls.CallRow | None
    attempt: int


class Analyser:
    """Hands recordings of this node to `command` (argv, not empty), one after the other, oldest first."""

    def __init__(
        self,
        database: store.Database,
        *,
        command: Sequence[str],
        root: Path,
        ring: keyring.KeyRing | None,
        node: str,
        now_us: Callable[[], int],
        pace: Pace | None = None,
        targets: Collection[str] = (),
        events_added: Callable[[], None] = lambda: None,
    ) -> None:
        assert command, "without a command there is nothing to run"
        self._database = database
        self._command = tuple(command)
        self._root = root
        self._ring = ring
        self._node = node
        self._now_us = now_us
        self._pace = pace or Pace()
        self._targets = targets
        self._events_added = events_added
        self._wake = asyncio.Event()
        # A reader of the vault is not for two threads at once: one thread opens, reads and closes.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="analyser")
        self._not_before: dict[str, int] = {}
        self._unreadable: dict[str, str] = {}
        self._ended: set[str] = set()
        self.counts = Counts()
        self.problem: str | None = None
        """Why recordings wait; None = all is well."""
        self.waiting = 0
        """Recordings that are to be analysed, at most `PAGE`, when last looked."""

    def wake(self) -> None:
        """There may be a new recording."""
        self._wake.set()

    async def run(self) -> None:
        """Never returns. Cancelled, it takes the running command with it; that recording is handed over again."""
        while True:
            wait = self._pace.poll_seconds
            try:
                self._wake.clear()
                if await self.step():
                    continue
            except store.StoreUnavailable as error:
                self._say(str(error))
                wait = self._pace.store_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    async def close(self) -> None:
        """Let go of the vault. Call it when `run` is over."""
        await asyncio.to_thread(self._worker.shutdown, wait=True)

    async def step(self) -> bool:
        """Hand over one recording, the oldest that is due; False: there is none now. Raises StoreUnavailable."""
        now_us = self._now_us()
        async with self._database.read() as connection:
            pending = await recordings.to_analyse(connection, now_us - LOOK_BACK_US, node=self._node, limit=PAGE)
        self._drop_all_but({one.recording_id for one in pending})
        self.waiting = len(pending)
        if refusal := self._why_not():
            self._say(refusal)
            return False
        for one in pending:
            if self._not_before.get(one.recording_id, 0) > now_us:
                continue
            try:
                reader = await self._open(one)
            except _NotReadable as error:
                self._unreadable[one.recording_id] = str(error)
                self._not_before[one.recording_id] = now_us + _us(UNREADABLE_SECONDS)
                continue
            self._unreadable.pop(one.recording_id, None)
            try:
                if claim := await self._claim(one.recording_id):
                    self._say_what_is_unreadable()
                    await self._hand_over(claim, reader)
                    return True
            finally:
                await self._in_thread(reader.close)
        self._say_what_is_unreadable()
        return False

    def _drop_all_but(self, pending: set[str]) -> None:
        self._not_before = {one: at for one, at in self._not_before.items() if one in pending}
        self._unreadable = {one: why for one, why in self._unreadable.items() if one in pending}
        self._ended &= pending

    def _say_what_is_unreadable(self) -> None:
        self._say(next(iter(self._unreadable.values()), None))

    def _why_not(self) -> str | None:
        if self._ring is None:
            return "no key ring"
        if not os.access(self._command[0], os.X_OK):
            return f"{self._command[0]} is no program that may be run"
        return None

    def _say(self, reason: str | None) -> None:
        problem = None if reason is None else f"recordings wait for their analysis: {reason}"
        if problem is not None and problem != self.problem:
            log.error("recordings wait for their analysis", reason=reason)
        elif problem is None and self.problem is not None:
            log.info("recordings are analysed again")
        self.problem = problem

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    # --- the claim ---

    async def _open(self, one: recordings.Recording) -> vault.Reader:
        """The sound. Before the claim, so that a vault that is not there costs no attempt. Raises _NotReadable."""
        assert self._ring is not None, "step() asked for one"
        async with self._database.read() as connection:
            wrapped = await recordings.key_of(connection, one.recording_id)
        if wrapped is None:
            raise _NotReadable(f"recording {one.recording_id} has no key")
        path = vault.file_of(self._root, one.recording_id, one.started_us)
        try:
            key = self._ring.unwrap(wrapped, recordings.subject(one.recording_id))
            return await self._in_thread(vault.Reader, path, key, one.recording_id)
        except (keyring.KeyMissing, vault.VaultDamaged, vault.VaultMissing, OSError) as error:
            raise _NotReadable(str(error)) from None

    async def _claim(self, recording_id: str) -> _Claim | None:
        """The audit row of one hand-over, and what is known of the call; None: not now, or not any more."""
        now_us = self._now_us()
        async with self._database.begin() as tx:
            one = await recordings.get(tx, recording_id, for_update=True)
            if one is None or one.state is not recordings.State.STORED or one.analysed_us is not None:
                return None
            if await forgetting.is_forgotten(tx, one.call_id):
                await recordings.set_analysis(tx, recording_id, None, now_us=now_us)
                return None
            subject = recordings.subject(recording_id)
            before = await audit.entries(tx, subject=subject, action=HANDED_OVER)
            if before and recording_id not in self._ended:
                over_us = before[-1].at_us + _us(self._pace.command_seconds + GRACE_SECONDS)
                if now_us < over_us:
                    self._not_before[recording_id] = over_us
                    return None
            attempt = len(before) + 1
            is_exhausted = attempt > self._pace.attempts
            if is_exhausted:
                await self._give_up(tx, one, len(before), "nobody noted how the last attempt ended")
            else:
                details = {"call_id": one.call_id, "attempt": attempt, "program": Path(self._command[0]).name}
                await self._audit(tx, HANDED_OVER, one, details)
            call = await calls.get(tx, one.call_id)
        if is_exhausted:
            log.error("recording not analysed, given up", call_id=one.call_id, reason="no attempt ever ended", said="")
            self._events_added()
            return None
        self._ended.discard(recording_id)
        return _Claim(one, call, attempt)

    async def _audit(
        self, tx: store.Transaction, action: str, one: recordings.Recording, details: Mapping[str, object]
    ) -> None:
        subject = recordings.subject(one.recording_id)
        await audit.append(tx, at_us=self._now_us(), actor="daemon", action=action, subject=subject, details=details)

    # --- the command ---

    async def _hand_over(self, claim: _Claim, reader: vault.Reader) -> None:
        one = claim.recording
        try:
            found = analysis.parse(await self._converse(reader, one.audio_bytes, _environment(claim)))
        except (HandOverFailed, analysis.BadAnalysis) as error:
            said = error.said if isinstance(error, HandOverFailed) else ""
            await self._failed(claim, str(error), said)
        else:
            await self._until_stored(lambda: self._keep(one, found))
        finally:
            # Whatever came, the command of this hand-over is not running any more.
            self._ended.add(one.recording_id)

    async def _converse(self, reader: vault.Reader, length: int, environment: dict[str, str]) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                env=environment,
                cwd="/",
            )
        except OSError as error:
            raise HandOverFailed(f"it cannot be started: {error.strerror}") from None
        _give_way(process.pid, self._pace.niceness)
        assert process.stdin and process.stdout and process.stderr, "all three are pipes"
        tail = bytearray()
        try:
            async with asyncio.timeout(self._pace.command_seconds), asyncio.TaskGroup() as tasks:
                feeding = tasks.create_task(self._feed(process.stdin, reader, length, process.pid))
                printed = tasks.create_task(_read(process.stdout, process.pid))
                tasks.create_task(_keep_end(process.stderr, tail))
                code = await process.wait()
        except TimeoutError:
            raise HandOverFailed(f"it took longer than {self._pace.command_seconds:g} s", _end(tail)) from None
        finally:
            _kill_group(process.pid)
            # A child that left the group may hold our pipes for ever, and `wait` waits for these too.
            process._transport.close()  # type: ignore[attr-defined]  # asyncio has no public way
            await process.wait()
        if unreadable := feeding.result():
            raise HandOverFailed(f"the sound could not be read: {unreadable}")
        output = printed.result()
        # One that was killed for printing too much is told so by the parser.
        if code and len(output) <= analysis.MAX_BYTES:
            raise HandOverFailed(_ending(code), _end(tail))
        return output

    async def _feed(
        self, stdin: asyncio.StreamWriter, reader: vault.Reader, length: int, process_id: int
    ) -> str | None:
        """Write the MP3; a command that does not want all of it is left in peace. What the vault refused, if it did."""
        try:
            for start in range(0, length, _PIECE_BYTES):
                piece = await self._in_thread(reader.read, start, min(start + _PIECE_BYTES, length))
                stdin.write(piece)
                await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return None
        except (vault.VaultDamaged, OSError) as error:
            _kill_group(process_id)
            return str(error)
        finally:
            stdin.close()
        return None

    # --- the end ---

    async def _until_stored(self, work: Callable[[], Awaitable[None]]) -> None:
        """What a command took minutes for waits for a database that is away."""
        while True:
            try:
                await work()
                return
            except store.StoreUnavailable as error:
                self._say(str(error))
                await asyncio.sleep(self._pace.store_seconds)

    async def _keep(self, one: recordings.Recording, found: str) -> None:
        """Result and event in one transaction, unless the recording, or its person, went in the meantime."""
        now_us = self._now_us()
        async with self._database.begin() as tx:
            # The row is locked first: erasure changes it before it says that it did.
            await recordings.get(tx, one.recording_id, for_update=True)
            is_forgotten = await forgetting.is_forgotten(tx, one.call_id)
            kept = await recordings.set_analysis(tx, one.recording_id, None if is_forgotten else found, now_us=now_us)
            if not kept or is_forgotten:
                return
            await outbox.add(tx, [_analysed(one, now_us)], self._targets)
        self.counts.analysed += 1
        log.info("recording analysed", call_id=one.call_id, bytes=len(found))
        self._events_added()

    async def _failed(self, claim: _Claim, why: str, said: str) -> None:
        one = claim.recording
        self.counts.failed += 1
        if claim.attempt < self._pace.attempts:
            seconds = self._pace.back_off_seconds[claim.attempt - 1]
            self._not_before[one.recording_id] = self._now_us() + _us(seconds)
            log.warning(
                "recording not analysed, will be tried again", call_id=one.call_id, reason=why, said=said, after=seconds
            )
            return
        log.error("recording not analysed, given up", call_id=one.call_id, reason=why, said=said)

        async def give_up() -> None:
            async with self._database.begin() as tx:
                await self._give_up(tx, one, claim.attempt, why)

        await self._until_stored(give_up)
        self._events_added()

    async def _give_up(self, tx: store.Transaction, one: recordings.Recording, attempts: int, why: str) -> None:
        """Marked as done without a result, with an audit row and an alarm."""
        now_us = self._now_us()
        await recordings.set_analysis(tx, one.recording_id, None, now_us=now_us)
        await self._audit(tx, GIVEN_UP, one, {"call_id": one.call_id, "attempts": attempts, "why": why})
        body = {"kind": "analysis-failed", "message": why, "node": one.node, "call_id": one.call_id}
        body["recording_id"] = one.recording_id
        await outbox.add(tx, [_event(ALERT, f"analysis-failed/{one.recording_id}", now_us, body, None)], self._targets)
        self.counts.given_up += 1


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _environment(claim: _Claim) -> dict[str, str]:
    """Nothing of ours that could be a secret, and no telephone number: whoever needs one asks for the record."""
    one, call = claim.recording, claim.call
    facts = {
        "ID": one.recording_id,
        "CALL_ID": one.call_id,
        "KIND": one.kind,
        "STARTED_AT": records.timestamp(one.started_us),
        "SECONDS": f"{one.duration_seconds:.3f}",
        "CHANNELS": "1" if one.kind == recording.Kind.VOICEMAIL else "2",
        "BYTES": str(one.audio_bytes),
        "SHA256": one.digest,
        "ATTEMPT": str(claim.attempt),
        "DIRECTION": call.direction if call else "",
        "SITE": call.site if call else "",
        "ROUTE": (call.route if call else None) or "",
        "SOURCE": (call.source if call else None) or "",
        "AGENT": (call.agent if call else None) or "",
    }
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    # NUL cannot stand in an environment.
    return {
        "PATH": os.defpath,
        **kept,
        **{f"RECORDING_{name}": (text or "").replace("\0", "") for name, text in facts.items()},
    }


def _give_way(process_id: int, niceness: int) -> None:
    """Calls come first, for processor and memory. What the machine does not allow is left."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PGRP, process_id, niceness)
    with suppress(OSError):
        Path(f"/proc/{process_id}/oom_score_adj").write_text(_OOM_SCORE, "ascii")


def _kill_group(process_id: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process_id, signal.SIGKILL)


async def _read(stdout: asyncio.StreamReader, process_id: int) -> bytes:
    """All that is printed; one byte too much and the command is killed."""
    output = bytearray()
    while piece := await stdout.read(65_536):
        if len(output) <= analysis.MAX_BYTES:
            output += piece
        else:
            _kill_group(process_id)
    return bytes(output)


async def _keep_end(stderr: asyncio.StreamReader, tail: bytearray) -> None:
    while piece := await stderr.read(65_536):
        tail += piece
        del tail[: -_MAX_SAID * 4]


def _end(tail: bytearray) -> str:
    return " ".join(bytes(tail).decode("utf-8", "replace").split())[-_MAX_SAID:]


def _ending(code: int) -> str:
    if code > 0:
        return f"it ended with status {code}"
    try:
        return f"it was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was killed by signal {-code}"


def _analysed(one: recordings.Recording, now_us: int) -> outbox.Event:
    """What was found is not in the event: it may be all the words of a person, and events are copied far."""
    body = {
        "recording_id": one.recording_id,
        "call_id": one.call_id,
        "kind": one.kind,
        "node": one.node,
        "analysed_at": records.timestamp(now_us),
        "call_url": f"/api/v1/calls/{one.call_id}",
    }
    return _event(ANALYSED, one.recording_id, now_us, body, one.call_id)


def _event(kind: str, what: str, at_us: int, body: Mapping[str, object], call_id: str | None) -> outbox.Event:
    event_id = str(uuid.uuid5(events.EVENT_IDS, f"{kind}/{what}"))
    document = {"id": event_id, "type": kind, "timestamp": records.timestamp(at_us), "data": body}
    payload = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return outbox.Event(event_id, kind, at_us, payload, call_id)
