"""Builds the parts of the daemon and starts them in order."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from gateway import __version__, log, store
from gateway.config import routingfile, settings, shipped
from gateway.core import alarms as core_alarms
from gateway.core import book, numbers, prompts, receivers, regions, traffictables
from gateway.daemon import alarms, checks, keys, outgoing, public, queues
from gateway.daemon.node import Books, Node
from gateway.pbx import agi, ami, callbackvars, journalfiles, planfile, promptfiles, ringing, speech, trunkfile
from gateway.services import (
    alerting,
    analysing,
    attributing,
    callbacks,
    callersvisit,
    callingback,
    forgotten,
    journalguard,
    leasing,
    places,
    planner,
    posting,
    prompter,
    recorder,
    rehearsing,
    router,
    tickethands,
    ticketing,
    tickettimers,
    tracker,
)
from gateway.store import journal as stored_journal
from gateway.web import app as admin
from gateway.web import auth, live, metrics, parts, turnstile, visiting

_log = log.get("daemon")
NO_RING = recorder.NO_RING


async def start(chosen: settings.Settings, roles: frozenset[str], stack: AsyncExitStack) -> Node:
    """Everything up to READY. Raises StoreError and OSError."""
    database = await store.Database.open(chosen.database.url)
    stack.push_async_callback(database.close)
    meters = metrics.Meters(chosen.node.name, __version__)
    board = live.LiveBoard(on_ended=meters.call_ended)
    words = _words(chosen)
    parse = _parser(shipped.consent_regions(chosen.consent.regions_file), words, _traffic(chosen))
    books = Books(database, parse)
    found = await keys.find(chosen, database, signs="calls" in roles)
    folder = promptfiles.PromptFolder(chosen.prompts.dir)

    # Without a ring the default plan asks nobody for consent either.
    spool = chosen.recording.spool_dir if found.recording_ring is not None else None

    def shelf_changed(shelf: prompts.Shelf, is_planned: bool) -> None:
        routes.use_prompts(shelf)
        calling_back.use_prompts(shelf)
        if is_planned:
            follower.write_again()

    spoken = prompter.Prompter(
        folder,
        prompter.Sources(words, _engine(chosen), chosen.prompts.own_dir),
        shelf_changed,
        chosen.callbacks.rules(),
    )

    def refusal() -> str | None:
        return node.refusal()

    told = outgoing.Outgoing(chosen)
    targets = told.subscriptions

    def events_added() -> None:
        node.events_added()

    rehearsal = rehearsing.Rehearsing(database, expect=spoken.expect, now_us=_now_us)
    lend = leasing.Leasing(
        database,
        now_us=_now_us,
        targets=targets,
        events_added=events_added,
        # Who does not speak to agents makes no whispers.
        lent=rehearsal.lent if "calls" in roles else lambda number, visitor_id: None,
    )
    routes = router.Router(
        database,
        now=lambda: datetime.now(UTC),
        lookup_seconds=chosen.agi.lookup_seconds,
        want=spoken.want,
        refusal=refusal,
        visitor_of=attributing.visitor_of,
        called=lend.called,
    )

    key = planfile.key_of(chosen.asterisk.generated_dir / planfile.FILE_NAME)
    calling_back = _calling_back(chosen, database, key, refusal, routes)

    def in_force(routing_book: book.Book) -> None:
        books.use(routing_book)
        routes.use(routing_book)
        calling_back.use(routing_book)
        spoken.use(routing_book)
        lend.use(routing_book)
        told.use(routing_book)
        rehearsal.use(routing_book)
        if books.wants_recording and found.recording_ring is None:
            _log.error("the routing asks for recording, and nothing can be recorded", reason=found.problem or NO_RING)

    follower = planner.Planner(
        database,
        parse=parse,
        render=(lambda made: _generated_files(made, spoken.shelf, spool, key)) if "calls" in roles else _no_files,
        folder=chosen.asterisk.generated_dir,
        in_force=in_force,
    )
    await follower.follow()
    waiting = queues.Queues(database, lambda: targets, _now_us)
    node = Node(chosen, database, books, board, meters, follower, found, waiting)
    if "calls" in roles or "web" in roles:
        # Both need it: who answers calls keeps a called number from being lent.
        node.leasing = lend
    if "calls" in roles:
        node.prompter, node.rehearsal = spoken, rehearsal
        node.recorder = await _recorder(node, folder, stack, targets)
        node.calling_back = calling_back
        await _start_calls(node, routes, stack, targets)
    if "worker" in roles:
        _start_work(node, told, stack)
    if "web" in roles:
        # First, since the admin listener tells of it.
        await _start_public(node, stack, targets)
        await _start_web(node, stack, targets)
    meters.watch(checks.readings(node))
    return node


def _start_work(node: Node, told: outgoing.Outgoing, stack: AsyncExitStack) -> None:
    """What goes on behind the calls: deliveries, alarms, what time does to tickets, analysis, who called."""
    chosen, database, targets = node.settings, node.database, told.subscriptions
    shared = posting.Shared(
        database,
        now_us=_now_us,
        random=random.SystemRandom().random,
        node=chosen.node.name,
        targets=targets,
        events_added=node.events_added,
        visitor_of=callersvisit.CallersVisit(database),
        observe=node.meters.delivered,
    )
    node.post = posting.Post(shared, keep_days=chosen.journal.archive_days)
    told.deliver_by(node.post)
    node.alerting = alerting.Alerting(
        database,
        lambda: alarms.look(node, _now_us()),
        alarms.rules(node),
        quiet_hours=core_alarms.quiet_hours(chosen.alerts.quiet_hours),
        zone=lambda: alarms.zone(node),
        node=chosen.node.name,
        now_us=_now_us,
        targets=targets,
        events_added=node.events_added,
        poll_seconds=chosen.alerts.poll_seconds,
    )
    node.ticket_timers = tickettimers.Timers(
        database,
        in_force=lambda: node.books.current,
        targets=targets,
        now_us=_now_us,
        events_added=node.events_added,
        is_current=node.journal_is_current,
    )
    if chosen.recording.command:
        node.analyser = _analyser(node, stack, targets)
    node.attributing = attributing.Attributing(
        database,
        book_of=node.books.of,
        now_us=_now_us,
        targets=targets,
        events_added=node.events_added,
        changed=node.board.publish,
    )


async def _recorder(
    node: Node, folder: promptfiles.PromptFolder, stack: AsyncExitStack, targets: receivers.Subscriptions
) -> recorder.Recorder:
    """In the process that answers calls: the spool is Asterisk's, and the router asks it for each call."""
    chosen = node.settings.recording
    made = recorder.Recorder(
        node.database,
        spool=chosen.spool_dir,
        root=node.settings.vault.dir,
        ring=node.keys.recording_ring,
        no_ring=node.keys.problem,
        node=node.settings.node.name,
        receipt_of=recorder.stored_receipts(node.database, folder.find),
        journal_is_read=lambda: node.tracker is not None and node.tracker.is_caught_up and not node.tracker.problem,
        now_us=_now_us,
        pace=recorder.Pace(chosen.settle_seconds, chosen.unknown_seconds, chosen.min_free_percent, chosen.poll_seconds),
        targets=targets,
        events_added=node.recording_added,
    )
    stack.push_async_callback(made.abandon)
    await made.look()
    return made


def _analyser(node: Node, stack: AsyncExitStack, targets: receivers.Subscriptions) -> analysing.Analyser:
    chosen = node.settings.recording
    made = analysing.Analyser(
        node.database,
        command=chosen.command,
        root=node.settings.vault.dir,
        ring=node.keys.ring,
        node=node.settings.node.name,
        now_us=_now_us,
        pace=analysing.Pace(command_seconds=chosen.command_seconds),
        targets=targets,
        events_added=node.events_added,
    )
    stack.push_async_callback(made.close)
    return made


async def _start_calls(
    node: Node, routes: router.Router, stack: AsyncExitStack, targets: receivers.Subscriptions
) -> None:
    chosen = node.settings
    await routes.restore()
    node.router = routes
    limits = agi.AgiLimits(answer_seconds=chosen.agi.answer_seconds, max_sessions=chosen.agi.max_sessions)
    assert node.calling_back is not None
    await node.calling_back.look()
    node.agi = agi.AgiServer(
        _answers(routes, node.calling_back),
        limits=limits,
        observe=lambda result, took: node.meters.agi_answered(result.value, took),
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
            events_added=node.events_added,
            targets=targets,
            missed=node.meters.missed,
        ),
        alive=_alive(node.ami),
        now_us=_now_us,
        batch_seconds=chosen.journal.batch_milliseconds / 1_000,
        archive_days=chosen.journal.archive_days,
        with_region=chosen.caller.region,
        signer=node.keys.signer,
        erased=forgotten.Forgotten(node.database, node.keys.ring),
        desk=ticketing.Ticketing(targets=targets, now_us=_now_us),
    )
    node.guard = journalguard.JournalGuard(folder, ballast_bytes=chosen.journal.ballast_bytes)
    if chosen.caller.region:
        # The region table takes a second to load; in the loop, callers would wait for it.
        await asyncio.to_thread(numbers.region_of, "+74951234567", "en")
    node.board.restore(await node.tracker.restore())


def _answers(routes: router.Router, calling_back: callingback.CallingBack) -> agi.Answer:
    """Who answers which question."""
    by_script: dict[str, agi.Answer] = {
        callbackvars.CALLBACK_SCRIPT: calling_back.answer,
        callbackvars.BREAK_SCRIPT: calling_back.break_answer,
    }

    def answer(request: agi.AgiRequest) -> agi.Pairs | Awaitable[agi.Pairs | None] | None:
        return by_script.get(request.script, routes.answer)(request)

    return answer


def _calling_back(
    chosen: settings.Settings, database: store.Database, key: str, refusal: router.Refusal, routes: router.Router
) -> callingback.CallingBack:
    ours = chosen.callbacks
    ringer = ringing.Ringer(chosen.ami.host, chosen.ami.port, ours.username, ours.password)
    return callingback.CallingBack(
        database,
        rules=ours.rules(),
        key=key,
        now_us=_now_us,
        refusal=refusal,
        ring=ringer.ring if ours.click else None,
        ring_seconds=ours.ring_seconds,
        breaks_changed=routes.use_breaks,
    )


async def _start_web(node: Node, stack: AsyncExitStack, targets: receivers.Subscriptions) -> None:
    chosen = node.settings
    here = parts.AdminParts(
        database=node.database,
        board=node.board,
        meters=node.meters,
        current_book=lambda: node.books.current,
        node=chosen.node.name,
        version=__version__,
        behind_seconds=lambda: checks.behind_seconds(node),
        probes=checks.probes(node),
        trusted_proxies=[str(network) for network in chosen.web.trusted_proxies],
        limits=lambda: _limits(node.settings),
        hang_up=_hang_up(node.ami) if node.ami is not None else None,
        click=node.calling_back.click if node.calling_back is not None and chosen.callbacks.click else None,
        mute_recording=_mute_recording(node.ami) if node.ami is not None else None,
        vault=parts.VaultParts(chosen.vault.dir, node.keys.ring),
        adapter_of=outgoing.adapters_of(chosen, lambda: node.books.current),
        targets=targets,
        events_added=node.events_added,
        secret_of=outgoing.secret,
        hands=tickethands.Hands(
            node.database,
            in_force=lambda: node.books.current,
            targets=targets,
            now_us=_now_us,
            events_added=node.events_added,
        ),
        exports=(chosen.events.jsonl_path,) if chosen.events.jsonl_path is not None else (),
    )
    node.web_runner = web.AppRunner(admin.admin_app(here), access_log=None, shutdown_timeout=2.0)
    await node.web_runner.setup()
    stack.push_async_callback(node.web_runner.cleanup)
    await web.TCPSite(node.web_runner, chosen.web.admin_host, chosen.web.admin_port).start()


async def _start_public(node: Node, stack: AsyncExitStack, targets: receivers.Subscriptions) -> None:
    chosen = node.settings.web
    if chosen.port:
        if chosen.places_file is not None:
            node.places = places.Places(chosen.places_file)
            await node.places.look()
        node.public = public.PublicListener(visiting.application(_visiting(node, targets)), chosen.host, chosen.port)
        stack.push_async_callback(node.public.close)
        await node.public.open()


def _visiting(node: Node, targets: receivers.Subscriptions) -> visiting.VisitingParts:
    chosen, places_of = node.settings.web, node.places
    assert node.leasing is not None

    def visit_limits() -> turnstile.Limits:
        limits = node.settings.limits
        return turnstile.Limits(
            limits.visits_per_minute,
            limits.site_visits_per_minute,
            limits.callbacks_per_hour,
            limits.site_callbacks_per_hour,
        )

    return visiting.VisitingParts(
        leasing=node.leasing,
        callbacks=callbacks.Callbacks(
            node.database,
            now_us=_now_us,
            targets=targets,
            events_added=node.events_added,
            in_force=lambda: node.books.current,
            node=node.settings.node.name,
        ),
        database=node.database,
        current_book=lambda: node.books.current,
        now_us=_now_us,
        place_of=places_of.of if places_of is not None else visiting.nowhere,
        trusted_proxies=chosen.trusted_proxies,
        country_header=chosen.country_header,
        city_header=chosen.city_header,
        limits=visit_limits,
        observe=node.meters.visited,
    )


def _limits(in_force: settings.Settings) -> auth.Limits:
    limits = in_force.limits
    return auth.Limits(limits.login_per_minute, limits.api_per_minute, limits.live_clients)


def _parser(
    consent_regions: regions.RegionTable, words: prompts.Catalogue, traffic: traffictables.Tables
) -> planner.Parse:
    def parse(text: str, revision: int) -> book.Book:
        try:
            return routingfile.parse(text, revision, consent_regions=consent_regions, words=words, traffic=traffic)
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


def _traffic(chosen: settings.Settings) -> traffictables.Tables:
    """The tables of traffic sources; a broken one of the operator's is left out, since calls must go on."""
    try:
        return shipped.traffic(chosen.web.traffic_file)
    except (traffictables.BadTables, OSError) as error:
        _log.error("own table of traffic sources is not used", error=str(error))
        return shipped.traffic()


def _engine(chosen: settings.Settings) -> speech.Engine | None:
    said = chosen.prompts
    return speech.find(said.engine, said.command, said.voice_by_language())


def _generated_files(routing_book: book.Book, shelf: prompts.Shelf, spool: Path | None, key: str) -> Mapping[str, str]:
    return {
        planfile.FILE_NAME: planfile.render(routing_book, shelf, spool, key),
        trunkfile.CONTEXTS_FILE_NAME: trunkfile.render_contexts(routing_book),
        trunkfile.PJSIP_FILE_NAME: trunkfile.render_pjsip(routing_book, outgoing.password),
    }


def _no_files(_: book.Book) -> Mapping[str, str]:
    return {}


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
        await _on_channel(session, unique_id, session.hang_up)

    return hang_up


def _mute_recording(session: ami.AmiSession) -> parts.MuteRecording:
    async def mute(unique_id: str, is_muted: bool) -> None:
        await _on_channel(session, unique_id, functools.partial(session.mute_recording, is_muted=is_muted))

    return mute


async def _on_channel(session: ami.AmiSession, unique_id: str, act: Callable[[str], Awaitable[None]]) -> None:
    """Does it with the channel's name. Raises LookupError, ConnectionError and `parts.NotRecorded`."""
    try:
        for channel in await session.channels():
            if channel.unique_id == unique_id:
                await act(channel.name)
                return
    except ami.NoSuchChannel:
        pass
    except ami.NotRecorded as error:
        raise parts.NotRecorded(unique_id) from error
    except ami.AmiError as error:
        raise ConnectionError(str(error)) from error
    raise LookupError(unique_id)


def _now_us() -> int:
    return time.time_ns() // 1_000
