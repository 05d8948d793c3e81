"""The parts of a running daemon: what runs, how it stops, what it says of itself, what SIGHUP changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from gateway import log, store, supervision
from gateway.config import settings
from gateway.core import book, handling
from gateway.daemon.keys import Keys
from gateway.daemon.public import PublicListener
from gateway.daemon.queues import Queues
from gateway.pbx import agi, ami, journalfiles
from gateway.services import (
    alerting,
    analysing,
    attributing,
    callingback,
    journalguard,
    leasing,
    places,
    planner,
    posting,
    prompter,
    recorder,
    rehearsing,
    router,
    tickettimers,
    tracker,
)
from gateway.store import routing as revisions
from gateway.web import live, metrics

_log = log.get("daemon")

DRAIN_SECONDS = 2.0
RECORDING_SECONDS = 2.0
"""For the recording that is being encrypted: three minutes of talk. A longer one is begun anew at the next start."""
LEASES_SECONDS = 2.0
STATUS_SECONDS = 1.0

Reread = Callable[[], settings.Settings]
"""Reads the settings again; raises `settings.SettingsErrors`."""


@dataclass(slots=True)
class Books:
    """Routing books by revision: the one in force, and those that calls still in the journal were routed by."""

    database: store.Database
    parse: planner.Parse
    current: book.Book | None = None
    wants_recording: bool = False
    """Whether the book in force would have calls recorded or messages taken."""
    _known: dict[int, book.Book] = field(default_factory=dict)

    def use(self, routing_book: book.Book) -> None:
        self.current = routing_book
        self.wants_recording = handling.wants_recording(routing_book)
        self._known[routing_book.revision] = routing_book

    async def of(self, revision: int | None) -> book.Book | None:
        """The book of a revision; the one in force for none, and for one that the store does not know."""
        if not revision:
            return self.current
        if revision not in self._known:
            async with self.database.read() as connection:
                stored = await revisions.get(connection, revision)
            if stored is None:
                return self.current
            try:
                self._known[revision] = await asyncio.to_thread(self.parse, stored.document, revision)
            except ValueError as error:
                # A later version may refuse what an earlier one applied; the record must not wait for that.
                _log.warning("an old routing revision is not readable", revision=revision, error=str(error))
                return self.current
        return self._known[revision]


@dataclass(slots=True)
class Node:
    """The parts of a running daemon; a part whose role was not chosen is None."""

    settings: settings.Settings
    database: store.Database
    books: Books
    board: live.LiveBoard
    meters: metrics.Meters
    planner: planner.Planner
    keys: Keys
    queues: Queues
    router: router.Router | None = None
    calling_back: callingback.CallingBack | None = None
    agi: agi.AgiServer | None = None
    ami: ami.AmiSession | None = None
    tracker: tracker.Tracker | None = None
    reader: journalfiles.JournalReader | None = None
    guard: journalguard.JournalGuard | None = None
    post: posting.Post | None = None
    alerting: alerting.Alerting | None = None
    prompter: prompter.Prompter | None = None
    rehearsal: rehearsing.Rehearsing | None = None
    recorder: recorder.Recorder | None = None
    analyser: analysing.Analyser | None = None
    leasing: leasing.Leasing | None = None
    attributing: attributing.Attributing | None = None
    ticket_timers: tickettimers.Timers | None = None
    web_runner: web.AppRunner | None = None
    public: PublicListener | None = None
    places: places.Places | None = None

    def roots(self) -> dict[str, supervision.Root]:
        """Root tasks in the order of starting."""
        roots: dict[str, supervision.Root] = {"planner": self.planner.run}
        if self.ami is not None:
            roots["manager session"] = self.ami.run
        if self.calling_back is not None:
            roots["calling back"] = self.calling_back.run
        if self.tracker is not None:
            roots["tracker"] = self.tracker.run
        if self.guard is not None:
            roots["journal guard"] = self.guard.run
        if self.post is not None:
            roots["post"] = self.post.run
        if self.alerting is not None:
            roots["alerting"] = self.alerting.run
        if self.prompter is not None:
            roots["prompter"] = self.prompter.run
        if self.rehearsal is not None:
            roots["rehearsing"] = self.rehearsal.run
        if self.recorder is not None:
            roots["recorder"] = self.recorder.run
        if self.analyser is not None:
            roots["analyser"] = self.analyser.run
        if self.leasing is not None:
            roots["leasing"] = self.leasing.run
        if self.attributing is not None:
            roots["attributing"] = self.attributing.run
        if self.ticket_timers is not None:
            roots["ticket timers"] = self.ticket_timers.run
        if self.public is not None:
            roots["public listener"] = self.public.run
        if self.places is not None:
            roots["places"] = self.places.run
        return roots

    def phases(self, notifier: supervision.Notifier) -> list[supervision.Phase]:
        """How the daemon stops: first no more questions, then what happened is stored and handed on."""

        async def refuse() -> None:
            notifier.stopping("draining")
            if self.public is not None:
                await self.public.close()
            if self.agi is not None:
                await self.agi.close(DRAIN_SECONDS)

        phases = [
            supervision.Phase(
                "refuse new questions, answer those under way",
                DRAIN_SECONDS + 2.0,
                refuse,
                lambda: f"{self.agi.sessions if self.agi else 0} sessions",
            )
        ]
        if self.recorder is not None:
            finish, waiting = self.recorder.close, self.recorder
            phases.append(
                supervision.Phase(
                    "finish the recording that is being encrypted",
                    RECORDING_SECONDS,
                    finish,
                    lambda: f"{waiting.waiting} in the spool",
                )
            )
        if self.leasing is not None:
            phases.append(supervision.Phase("store what visitors did last", LEASES_SECONDS, self.leasing.step))
        if self.post is not None:
            phases.append(supervision.Phase("end the deliveries that are on their way", 6.0, self.post.close))
        return phases

    def refusal(self) -> str | None:
        """Why new calls must not be recorded now; None = they may."""
        return self.recorder.refusal if self.recorder is not None else recorder.NO_RING

    def events_added(self) -> None:
        """Somebody wrote events: they may go out."""
        if self.post is not None:
            self.post.wake()

    def journal_is_current(self) -> bool:
        """Whether what happened until now is stored, as far as this process can know."""
        return self.tracker is None or (self.tracker.is_caught_up and not self.tracker.problem)

    def recording_added(self) -> None:
        """A recording came into the vault, or an alarm was raised."""
        self.events_added()
        if self.analyser is not None:
            self.analyser.wake()

    def addresses(self) -> dict[str, str]:
        """Where the listeners are, for the log."""
        found: dict[str, str] = {}
        if self.agi is not None:
            found["agi"] = f"{self.settings.agi.host}:{self.agi.port}"
        if self.web_runner is not None and self.web_runner.addresses:
            host, port = self.web_runner.addresses[0][:2]
            found["admin"] = f"http://{host}:{port}/"
        if self.public is not None and self.public.problem is None:
            found["public"] = self.public.address
        return found

    def status(self) -> str:
        """One line for `systemctl status`."""
        revision = self.planner.revision
        said = [f"routing revision {revision}" if revision else "no routing applied yet"]
        if self.tracker is not None and self.reader is not None:
            if self.tracker.is_caught_up:
                said.append(f"{self.tracker.open_calls} calls up")
            else:
                said.append(f"catching up, {self.reader.unread_bytes():,} bytes of journal to read")
            if self.tracker.problem:
                said.append(f"RECORDS WAIT: {self.tracker.problem}")
        if problem := self.keys.problem or (self.recorder.problem if self.recorder is not None else None):
            said.append(f"RECORDINGS WAIT: {problem}")
        if self.leasing is not None and self.leasing.problem:
            said.append(f"NUMBERS ARE NOT LENT: {self.leasing.problem}")
        if self.ami is not None and not self.ami.connected.is_set():
            said.append("manager not connected")
        return "; ".join(said)

    async def report(self, notifier: supervision.Notifier) -> None:
        """Root task: keeps the status line true, and tells the log when catching up is over."""
        last, was_behind = "", True
        while True:
            status = self.status()
            if status != last:
                notifier.status(status)
                last = status
            if was_behind and (self.tracker is None or self.tracker.is_caught_up):
                was_behind = False
                _log.info("caught up with the journal", rows=self.reader.counts.rows if self.reader else 0)
            await asyncio.sleep(STATUS_SECONDS)

    async def follow_settings(
        self, asked: asyncio.Event, reread: Reread | None, notifier: supervision.Notifier
    ) -> None:
        """Root task: SIGHUP reads the settings again; broken ones leave the old in force."""
        while True:
            await asked.wait()
            asked.clear()
            if reread is None:
                continue
            notifier.reloading()
            try:
                new = reread()
            except settings.SettingsErrors as error:
                _log.error("settings not reloaded, the old ones stay in force", errors=str(error))
                notifier.ready("settings not reloaded: see the log")
                continue
            _apply_settings(new, settings.changes(self.settings, new))
            self.settings = new
            notifier.ready(self.status())

    async def answers(self) -> bool:
        """Whether FastAGI accepts a connection: what callers need, proved from outside the loop's own view."""
        if self.agi is None:
            return True
        try:
            async with asyncio.timeout(1.0):
                _, writer = await asyncio.open_connection(self.settings.agi.host, self.agi.port)
        except OSError:
            return False
        writer.close()
        return True


def _apply_settings(new: settings.Settings, changed: tuple[str, ...]) -> None:
    log.configure(format=new.logging.format, level=new.logging.level, mask_numbers=new.logging.mask_numbers)
    waiting = [key for key in changed if key.partition(".")[0] not in settings.RELOADABLE]
    _log.info("settings reloaded", changed=list(changed))
    if waiting:
        _log.warning("these settings take effect at the next start", keys=waiting)
