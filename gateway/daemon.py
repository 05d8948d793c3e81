"""The daemon: builds the parts, starts them in order, keeps them running, stops them in phases.

    settings ─▶ store, migrations ─▶ routing book ─▶ FastAGI ─▶ admin web ─▶ READY ─▶ catch-up with the journal ─▶ work

FastAGI answers as soon as there is a book: a caller must not wait for the journal. Router or tracker dying ends the
daemon, and systemd starts it anew; dispatcher and AMI wait their outside faults out and show them in `/readyz`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from gateway import __version__, log, store, supervision
from gateway.config import routingfile, settings, shipped
from gateway.core import book, numbers, prompts, regions
from gateway.pbx import agi, ami, journalfiles, planfile, promptfiles, speech, trunkfile
from gateway.services import dispatcher, journalguard, planner, prompter, router, tracker
from gateway.store import journal as stored_journal
from gateway.store import outbox
from gateway.store import routing as revisions
from gateway.web import app as admin
from gateway.web import auth, health, live, metrics, parts

_log = log.get("daemon")

ROLES = frozenset({"calls", "web", "worker"})
LOOP_SECONDS = 5.0
"""A loop that hangs for so long is killed, so that callers fail open."""
DRAIN_SECONDS = 2.0
STATUS_SECONDS = 1.0

Reread = Callable[[], settings.Settings]
"""Reads the settings again; raises `settings.SettingsErrors`."""


async def run(chosen: settings.Settings, roles: frozenset[str] = ROLES, reread: Reread | None = None) -> int:
    """Run until SIGTERM; the exit status is 0 then, and 1 when a part ended by itself."""
    notifier = supervision.Notifier.from_environment(os.environ, os.getpid())
    async with AsyncExitStack() as stack:
        try:
            node = await _start(chosen, roles, stack)
        except (store.StoreError, OSError, regions.BadRegions) as error:
            _log.error("cannot start", error=str(error))
            return 1
        supervision.spare_collector()
        stack.enter_context(supervision.LoopWatchdog(LOOP_SECONDS))
        asked = stack.enter_context(supervision.signals())
        roots = node.roots()
        roots["status line"] = lambda: node.report(notifier)
        roots["settings"] = lambda: node.follow_settings(asked.reload, reread, notifier)
        roots["systemd watchdog"] = lambda: supervision.beat(notifier, node.answers)
        notifier.ready(node.status())
        _log.info("READY", node=chosen.node.name, **node.addresses())
        try:
            await supervision.supervise(roots, until=asked.stop, phases=node.phases(notifier))
        except supervision.RootTaskEnded as ended:
            _log.error("the daemon ends", reason=str(ended))
            return 1
    _log.info("stopped")
    return 0


@dataclass(slots=True)
class _Books:
    """Routing books by revision: the one in force, and those that calls still in the journal were routed by."""

    database: store.Database
    parse: planner.Parse
    current: book.Book | None = None
    _known: dict[int, book.Book] = field(default_factory=dict)

    def use(self, routing_book: book.Book) -> None:
        self.current = routing_book
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
class _Node:
    """The parts of a running daemon; a part whose role was not chosen is None."""

    settings: settings.Settings
    database: store.Database
    books: _Books
    board: live.LiveBoard
    meters: metrics.Meters
    planner: planner.Planner
    router: router.Router | None = None
    agi: agi.AgiServer | None = None
    ami: ami.AmiSession | None = None
    tracker: tracker.Tracker | None = None
    reader: journalfiles.JournalReader | None = None
    guard: journalguard.JournalGuard | None = None
    dispatcher: dispatcher.Dispatcher | None = None
    prompter: prompter.Prompter | None = None
    web_runner: web.AppRunner | None = None

    def roots(self) -> dict[str, supervision.Root]:
        """Root tasks in the order of starting."""
        roots: dict[str, supervision.Root] = {"planner": self.planner.run}
        if self.ami is not None:
            roots["manager session"] = self.ami.run
        if self.tracker is not None:
            roots["tracker"] = self.tracker.run
        if self.guard is not None:
            roots["journal guard"] = self.guard.run
        if self.dispatcher is not None:
            roots["dispatcher"] = self.dispatcher.run
        if self.prompter is not None:
            roots["prompter"] = self.prompter.run
        return roots

    def phases(self, notifier: supervision.Notifier) -> list[supervision.Phase]:
        """How the daemon stops: first no more questions, then what happened is stored and handed on."""

        async def refuse() -> None:
            notifier.stopping("draining")
            if self.agi is not None:
                await self.agi.close(DRAIN_SECONDS)

        phases = [
            supervision.Phase(
                "refuse new questions, answer those under way",
                DRAIN_SECONDS + 1.0,
                refuse,
                lambda: f"{self.agi.sessions if self.agi else 0} sessions",
            )
        ]
        if self.dispatcher is not None:
            phases.append(supervision.Phase("hand on what is in the outbox", 5.0, self.dispatcher.deliver))
        return phases

    def addresses(self) -> dict[str, str]:
        """Where the listeners are, for the log."""
        found: dict[str, str] = {}
        if self.agi is not None:
            found["agi"] = f"{self.settings.agi.host}:{self.agi.port}"
        if self.web_runner is not None and self.web_runner.addresses:
            host, port = self.web_runner.addresses[0][:2]
            found["admin"] = f"http://{host}:{port}/"
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


async def _start(chosen: settings.Settings, roles: frozenset[str], stack: AsyncExitStack) -> _Node:
    """Everything up to READY. Raises StoreError and OSError."""
    database = await store.Database.open(chosen.database.url)
    stack.push_async_callback(database.close)
    meters = metrics.Meters(chosen.node.name, __version__)
    board = live.LiveBoard(on_ended=meters.call_ended)
    words = _words(chosen)
    parse = _parser(shipped.consent_regions(chosen.consent.regions_file), words)
    books = _Books(database, parse)

    def shelf_changed(shelf: prompts.Shelf, is_planned: bool) -> None:
        routes.use_prompts(shelf)
        if is_planned:
            follower.write_again()

    spoken = prompter.Prompter(
        promptfiles.PromptFolder(chosen.prompts.dir),
        prompter.Sources(words, _engine(chosen), chosen.prompts.own_dir),
        shelf_changed,
    )
    routes = router.Router(
        database, now=lambda: datetime.now(UTC), lookup_seconds=chosen.agi.lookup_seconds, want=spoken.want
    )

    def in_force(routing_book: book.Book) -> None:
        books.use(routing_book)
        routes.use(routing_book)
        spoken.use(routing_book)

    follower = planner.Planner(
        database,
        parse=parse,
        render=(lambda made: _generated_files(made, spoken.shelf)) if "calls" in roles else _no_files,
        folder=chosen.asterisk.generated_dir,
        in_force=in_force,
    )
    await follower.follow()
    node = _Node(chosen, database, books, board, meters, follower)
    if "calls" in roles:
        node.prompter = spoken
        await _start_calls(node, routes, stack, targets=[dispatcher.TARGET] if _has_file_target(chosen) else [])
    if "worker" in roles and chosen.events.jsonl_path is not None:
        node.dispatcher = dispatcher.Dispatcher(
            database,
            path=chosen.events.jsonl_path,
            rotate_bytes=chosen.events.rotate_bytes,
            now_us=_now_us,
            keep_days=chosen.journal.archive_days,
        )
    if "web" in roles:
        await _start_web(node, stack)
    meters.watch(_readings(node))
    return node


def _has_file_target(chosen: settings.Settings) -> bool:
    return chosen.events.jsonl_path is not None


async def _start_calls(node: _Node, routes: router.Router, stack: AsyncExitStack, targets: list[str]) -> None:
    chosen = node.settings
    await routes.restore()
    node.router = routes
    limits = agi.AgiLimits(answer_seconds=chosen.agi.answer_seconds, max_sessions=chosen.agi.max_sessions)
    node.agi = agi.AgiServer(
        routes.answer, limits=limits, observe=lambda result, took: node.meters.agi_answered(result.value, took)
    )
    await node.agi.start(chosen.agi.host, chosen.agi.port, backlog=chosen.agi.backlog)
    stack.push_async_callback(node.agi.close, 0.0)
    if chosen.ami.enabled:
        node.ami = ami.AmiSession(chosen.ami.host, chosen.ami.port, chosen.ami.username, chosen.ami.password)
    async with node.database.read() as connection:
        files = await stored_journal.files(connection, chosen.node.name)
    folder = chosen.asterisk.journal_dir
    node.reader = journalfiles.JournalReader(
        folder,
        progress=tracker.progress(files),
        archive=folder / journalfiles.ARCHIVE_FOLDER,
        live_name=chosen.asterisk.journal_name,
        rotate_bytes=chosen.journal.rotate_bytes,
        max_rows=chosen.journal.batch_rows,
    )
    node.tracker = tracker.Tracker(
        node.database,
        node.reader,
        node=chosen.node.name,
        book_of=node.books.of,
        outlets=tracker.Outlets(
            changed=node.board.publish,
            events_added=lambda: node.dispatcher.wake() if node.dispatcher else None,
            targets=targets,
        ),
        alive=_alive(node.ami),
        now_us=_now_us,
        batch_seconds=chosen.journal.batch_milliseconds / 1_000,
        archive_days=chosen.journal.archive_days,
        with_region=chosen.caller.region,
    )
    node.guard = journalguard.JournalGuard(folder, ballast_bytes=chosen.journal.ballast_bytes)
    if chosen.caller.region:
        # The region table takes a second to load; in the loop, callers would wait for it.
        await asyncio.to_thread(numbers.region_of, "+74951234567", "en")
    node.board.restore(await node.tracker.restore())


async def _start_web(node: _Node, stack: AsyncExitStack) -> None:
    chosen = node.settings
    here = parts.AdminParts(
        database=node.database,
        board=node.board,
        meters=node.meters,
        current_book=lambda: node.books.current,
        node=chosen.node.name,
        version=__version__,
        behind_seconds=lambda: _behind_seconds(node),
        probes=_probes(node),
        trusted_proxies=[str(network) for network in chosen.web.trusted_proxies],
        limits=lambda: _limits(node.settings),
        hang_up=_hang_up(node.ami) if node.ami is not None else None,
    )
    node.web_runner = web.AppRunner(admin.admin_app(here), access_log=None, shutdown_timeout=2.0)
    await node.web_runner.setup()
    stack.push_async_callback(node.web_runner.cleanup)
    await web.TCPSite(node.web_runner, chosen.web.admin_host, chosen.web.admin_port).start()


def _limits(in_force: settings.Settings) -> auth.Limits:
    limits = in_force.limits
    return auth.Limits(limits.login_per_minute, limits.api_per_minute, limits.live_clients)


def _parser(consent_regions: regions.RegionTable, words: prompts.Catalogue) -> planner.Parse:
    def parse(text: str, revision: int) -> book.Book:
        try:
            return routingfile.parse(text, revision, consent_regions=consent_regions, words=words)
        except routingfile.RoutingErrors as error:
            raise ValueError(str(error)) from error

    return parse


def _words(chosen: settings.Settings) -> prompts.Catalogue:
    """The shipped texts with the operator's in their place; broken ones are left out, since calls must go on."""
    try:
        return shipped.catalogue().over(shipped.read_catalogue(chosen.prompts.own_dir))
    except (shipped.BadCatalogue, OSError) as error:
        _log.error("own texts of prompts are not used", error=str(error))
        return shipped.catalogue()


def _engine(chosen: settings.Settings) -> speech.Engine | None:
    said = chosen.prompts
    return speech.find(said.engine, said.command, said.voice_by_language())


def _generated_files(routing_book: book.Book, shelf: prompts.Shelf) -> Mapping[str, str]:
    return {
        planfile.FILE_NAME: planfile.render(routing_book, shelf),
        trunkfile.CONTEXTS_FILE_NAME: trunkfile.render_contexts(routing_book),
        trunkfile.PJSIP_FILE_NAME: trunkfile.render_pjsip(routing_book, _secret),
    }


def _no_files(_: book.Book) -> Mapping[str, str]:
    return {}


def _secret(reference: str) -> str:
    """The secret that `file:PATH` or `env:NAME` names. Raises ValueError with what is wrong."""
    kind, _, name = reference.partition(":")
    try:
        return Path(name).read_text(encoding="utf-8").strip() if kind == "file" else os.environ[name]
    except (OSError, UnicodeDecodeError, KeyError):
        raise ValueError(f"the password {kind}:{name} cannot be read") from None


def _alive(session: ami.AmiSession | None) -> Callable[[], Awaitable[tracker.Alive | None]]:
    """What AMI says is up, None when it does not answer."""

    async def ask() -> tracker.Alive | None:
        if session is None or not session.connected.is_set():
            return None
        try:
            status = await session.core_status()
            channels = await session.channels()
        except ami.AmiError as error:
            _log.warning("channels not known", error=str(error))
            return None
        started_at_us = int(status.started_at.timestamp() * 1_000_000) if status.started_at else 0
        return tracker.Alive(frozenset(channel.unique_id for channel in channels), started_at_us)

    return ask


def _hang_up(session: ami.AmiSession) -> parts.HangUp:
    async def hang_up(unique_id: str) -> None:
        try:
            for channel in await session.channels():
                if channel.unique_id == unique_id:
                    await session.hang_up(channel.name)
                    return
        except ami.NoSuchChannel:
            pass
        except ami.AmiError as error:
            raise ConnectionError(str(error)) from error
        raise LookupError(unique_id)

    return hang_up


def _behind_seconds(node: _Node) -> float | None:
    """Age of the oldest journal row that is not stored yet; 0 when there is none."""
    if node.tracker is None or node.reader is None:
        return None
    if node.tracker.last_row_us is None or node.reader.unread_bytes() == 0:
        return 0.0
    return max(0.0, (_now_us() - node.tracker.last_row_us) / 1_000_000)


def _probes(node: _Node) -> dict[str, health.Probe]:
    """The checks of `/readyz`. A check that keeps callers from being routed is required."""
    probes: dict[str, health.Probe] = {"routing": lambda: _routing_check(node)}
    if node.tracker is not None:
        probes["journal"] = lambda: _journal_check(node)
        probes["journal disk"] = lambda: _journal_disk_check(node)
    if node.ami is not None:
        probes["manager"] = lambda: _manager_check(node)
    if node.prompter is not None:
        probes["prompts"] = lambda: _prompts_check(node)
    probes["events"] = lambda: _events_check(node)
    return probes


def _routing_check(node: _Node) -> health.Check:
    revision, problem = node.planner.revision, node.planner.problem
    if problem is not None:
        return health.Check(False, problem, is_required=revision is None, facts={"revision": revision})
    if revision is None:
        return health.Check(False, "no routing applied yet: run `dialmark apply FILE`")
    return health.Check(True, f"revision {revision} in force", facts={"revision": revision})


def _journal_check(node: _Node) -> health.Check:
    assert node.tracker is not None and node.reader is not None
    facts: dict[str, health.Fact] = {
        "rows": node.reader.counts.rows,
        "damaged_rows": node.reader.counts.damaged,
        "unread_bytes": node.reader.unread_bytes(),
    }
    if node.tracker.problem is not None:
        return health.Check(False, f"records wait: {node.tracker.problem}", facts=facts)
    if not node.tracker.is_caught_up:
        return health.Check(True, f"catching up, {facts['unread_bytes']} bytes to read", facts=facts)
    return health.Check(True, f"{node.tracker.open_calls} calls up", facts=facts)


def _journal_disk_check(node: _Node) -> health.Check:
    assert node.guard is not None
    space = node.guard.space
    said = f"{space.free_share:.1%} free" if space else "free space not known"
    if node.guard.problem is not None:
        said = f"{said}, {node.guard.problem}"
    facts: dict[str, health.Fact] = {
        "free_bytes": space.free_bytes if space else None,
        "total_bytes": space.total_bytes if space else None,
        "has_ballast": node.guard.has_ballast,
    }
    return health.Check(node.guard.problem is None, said, is_required=False, facts=facts)


def _manager_check(node: _Node) -> health.Check:
    assert node.ami is not None
    seen = node.ami.health
    is_up = seen.state is ami.AmiState.CONNECTED
    said = f"Asterisk {seen.asterisk_version}" if is_up else f"{seen.state.value}: {seen.last_error or 'no error yet'}"
    return health.Check(is_up, said, is_required=False, facts={"ping_milliseconds": seen.ping_milliseconds})


def _prompts_check(node: _Node) -> health.Check:
    assert node.prompter is not None
    ready = len(node.prompter.shelf.items)
    problem = node.prompter.problem
    return health.Check(problem is None, problem or f"{ready} ready", is_required=False, facts={"ready": ready})


async def _events_check(node: _Node) -> health.Check:
    async with node.database.read() as connection:
        waiting = await outbox.pending_count(connection)
    problem = node.dispatcher.problem if node.dispatcher else None
    return health.Check(problem is None, problem or f"{waiting} waiting", is_required=False, facts={"waiting": waiting})


def _readings(node: _Node) -> metrics.Readings:
    reader, session, deliveries = node.reader, node.ami, node.dispatcher
    return metrics.Readings(
        active_calls=lambda: node.board.open_count,
        ami_connected=(lambda: float(session.connected.is_set())) if session else None,
        journal_lag_seconds=lambda: _behind_seconds(node),
        journal_rows=(lambda: reader.counts.rows) if reader else None,
        journal_damaged=(lambda: reader.counts.damaged) if reader else None,
        outbox_depth=(lambda: deliveries.waiting) if deliveries else None,
        live_readers=lambda: node.board.reader_count,
        live_cut_off=lambda: node.board.cut_off_total,
    )


def _apply_settings(new: settings.Settings, changed: tuple[str, ...]) -> None:
    log.configure(format=new.logging.format, level=new.logging.level, mask_numbers=new.logging.mask_numbers)
    waiting = [key for key in changed if key.partition(".")[0] not in settings.RELOADABLE]
    _log.info("settings reloaded", changed=list(changed))
    if waiting:
        _log.warning("these settings take effect at the next start", keys=waiting)


def _now_us() -> int:
    return time.time_ns() // 1_000
