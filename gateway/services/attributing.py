"""Who called (R1, R48, R88, N4, N6): evidence of the store, judgement of `core.matching`, attribution of the record.

The tracker asks for each call it files, so calls of the time when nobody was awake are attributed like any other, from
leases that were stored when they were given. The router asks for the whisper, and has no time. `Attributing` looks at
calls again a little later, when beacons have come in and pages have beaten after an outage; a changed record is a new
revision and is told again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from gateway import store
from gateway.core import (
    attribution,
    book,
    calls,
    events,
    matching,
    records,
    routing,
    scoring,
    touches,
    visitors,
    webbook,
    whisper,
)
from gateway.core.book import TrackingKind
from gateway.core.delays import Law
from gateway.store import attributions, leases, outbox, results, visits
from gateway.store import calls as stored_calls

log = structlog.get_logger()

SECOND_US = 1_000_000
LOOK_AGAIN_US = 180 * SECOND_US
"""After a call began: beacons have come in by then, and pages that outlived an outage have beaten again."""
QUIET_US = 60 * SECOND_US
"""A record is looked at again only so long after it was last written: by then the tracker has let go of it."""
TICK_SECONDS = 15.0
AT_ONCE = 50
WHISPERED = 0.5
"""With less confidence an agent is told nothing."""

BookOf = Callable[[int | None], Awaitable[book.Book | None]]


@dataclass(frozen=True, slots=True)
class Question:
    """A call to one of our numbers. `number` and `caller` are E.164 with `+`."""

    call_id: str
    number: str
    at_us: int
    caller: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Who called: what the record says, and what is kept beside it."""

    attribution: attribution.Attribution
    filed: attributions.Filed
    touch: touches.Touch | None = None


def is_ours(number: book.TrackingNumber | None, routing_book: book.Book | None) -> bool:
    """Whether visitors can be behind a call to the number: without web sites the number alone tells all."""
    return number is not None and routing_book is not None and bool(routing_book.web.sites)


async def find(
    connection: store.Connection, question: Question, number: book.TrackingNumber, routing_book: book.Book
) -> Found | None:
    """Who made this call. None: as the number alone tells, and there is nothing to be kept."""
    site = _site_of(number, routing_book)
    window_days = site.window_days if site is not None else webbook.WINDOW_DAYS
    beat_seconds = site.beat_seconds if site is not None else webbook.BEAT_SECONDS
    first_us = question.at_us - matching.CLICK_SECONDS * SECOND_US
    last_us = question.at_us + matching.LATE_BEACON_SECONDS * SECOND_US
    clicks = await visits.clicks(connection, number.number, first_us, last_us)
    if number.kind is TrackingKind.STATIC and not clicks:
        return None
    known: list[visitors.Link] = []
    if question.caller is not None:
        known = await attributions.links(connection, question.caller, question.at_us)
    holders: list[matching.Holder] = []
    is_cut = False
    if number.kind is TrackingKind.POOL:
        holders, is_cut = await leases.holders(connection, number.number, question.at_us, beat_seconds=beat_seconds)
    evidence = matching.Evidence(
        holders=holders,
        is_cut=is_cut,
        clicks=clicks,
        known_as=visitors.known_as(question.caller, known, question.at_us),
        past=visitors.past(question.caller, known, question.at_us),
    )
    law = await leases.law_of(connection, number.pool) if number.kind is TrackingKind.POOL and number.pool else Law()
    match = matching.match(number.kind, question.at_us, evidence, law, window_days)
    touch = None
    if match.visitor_id is not None:
        theirs = await _touches_of(connection, match.visitor_id, question, known, window_days)
        touch = touches.deciding(theirs, question.at_us, window_days)
    return Found(touches.attributed(match, touch, number, routing_book), _filed(question, number, match), touch)


async def touches_before(
    connection: store.Connection, filed: attributions.Filed, routing_book: book.Book | None
) -> tuple[list[touches.Touch], float]:
    """The touches of whoever made this call, up to it, and the days for which one counts; none when nobody is named,
    or they were forgotten."""
    number = routing_book.tracking_numbers.get(filed.number[1:]) if routing_book is not None else None
    site = _site_of(number, routing_book) if number is not None and routing_book is not None else None
    window_days = site.window_days if site is not None else webbook.WINDOW_DAYS
    if filed.visitor_id is None:
        return [], window_days
    known = await attributions.links(connection, filed.caller, filed.at_us) if filed.caller is not None else []
    question = Question(filed.call_id, filed.number, filed.at_us, filed.caller)
    return await _touches_of(connection, filed.visitor_id, question, known, window_days), window_days


async def _touches_of(
    connection: store.Connection,
    visitor_id: str,
    question: Question,
    known: Sequence[visitors.Link],
    window_days: float,
) -> list[touches.Touch]:
    # One person's several devices: where they first looked may be another than where they called.
    devices = {visitor_id, *_devices(question.caller, known, visitor_id)}
    return await visits.touches_of(connection, devices, question.at_us, window_days)


def _devices(caller: str | None, known: Sequence[visitors.Link], visitor_id: str) -> tuple[str, ...]:
    if caller is None:
        return ()
    profile = visitors.profile(caller, known)
    return profile.visitors if visitor_id in profile.visitors else ()


def _filed(question: Question, number: book.TrackingNumber, match: matching.Match) -> attributions.Filed:
    link = visitors.link(number.kind, match, question.caller, question.at_us)
    return attributions.Filed(
        call_id=question.call_id,
        number=number.number,
        kind=number.kind.value,
        at_us=question.at_us,
        method=match.method.value,
        confidence=round(match.confidence, 3),
        pool=number.pool,
        caller=question.caller,
        visitor_id=match.visitor_id,
        lease_id=match.lease_id,
        idle_seconds=match.idle_seconds,
        link_confidence=link.confidence if link is not None else None,
        due_us=question.at_us + LOOK_AGAIN_US,
    )


def _site_of(number: book.TrackingNumber, routing_book: book.Book) -> webbook.WebSite | None:
    lent = routing_book.web.pools.get(number.pool or "")
    route = routing_book.routes.get(number.route)
    key = lent.site if lent is not None else (route.site if route is not None else "")
    return routing_book.web.sites.get(key)


# ---- For the tracker ----


async def of_batch(
    connection: store.Connection, asked: Sequence[tuple[calls.CallFacts, book.Book | None]]
) -> dict[str, Found]:
    """Who made these calls, by call id; calls of which the number alone tells all are left out."""
    found: dict[str, Found] = {}
    for facts, routing_book in asked:
        number = records.tracking_number(facts, routing_book)
        if number is None or routing_book is None or not is_ours(number, routing_book):
            continue
        question = Question(facts.call_id, number.number, facts.started_at_us, records.e164(facts.caller))
        one = await find(connection, question, number, routing_book)
        if one is not None:
            found[facts.call_id] = one
    return found


async def keep(tx: store.Transaction, found: Sequence[Found], *, now_us: int) -> None:
    """Stores what was found beside the records, and holds the numbers with calls: the last part of a transaction that
    has written the calls."""
    if not found:
        return
    settled = [
        replace(one.filed, due_us=None) if (one.filed.due_us or 0) + LOOK_AGAIN_US < now_us else one.filed
        for one in found
    ]
    await attributions.keep(tx, settled)
    lent = {one.number for one in settled if one.kind == TrackingKind.POOL.value}
    await leases.with_calls(tx, lent, {}, now_us=now_us)


# ---- For the router ----


async def visitor_of(
    connection: store.Connection, asked: routing.Question, routing_book: book.Book
) -> whisper.Visitor | None:
    """What the whisper can say of who is calling; None when that is not known well enough."""
    number = routing_book.tracking_numbers.get(asked.did)
    if number is None or number.kind is TrackingKind.STATIC or not is_ours(number, routing_book):
        return None
    at_us = int(asked.at.timestamp() * SECOND_US)
    question = Question(asked.call_id, number.number, at_us, records.e164(asked.caller))
    found = await find(connection, question, number, routing_book)
    if found is None or found.attribution.visitor_id is None or found.attribution.confidence < WHISPERED:
        return None
    return await _whispered(connection, found.attribution, question.at_us)


async def expected(
    connection: store.Connection, number: book.TrackingNumber, visitor_id: str, at_us: int, routing_book: book.Book
) -> whisper.Visitor:
    """What the whisper would say if the visitor, who was lent the number, called at `at_us`."""
    match = matching.Match(attribution.Method.VISITOR, 1.0, visitor_id)
    site = _site_of(number, routing_book)
    window_days = site.window_days if site is not None else webbook.WINDOW_DAYS
    theirs = await visits.touches_of(connection, [visitor_id], at_us, window_days)
    touch = touches.deciding(theirs, at_us, window_days)
    return await _whispered(connection, touches.attributed(match, touch, number, routing_book), at_us)


async def _whispered(connection: store.Connection, said: attribution.Attribution, at_us: int) -> whisper.Visitor:
    visit = await visits.visit_of(connection, said.visitor_id, at_us) if said.visitor_id is not None else None
    return whisper.Visitor(
        source=said.source_name or said.source or "",
        campaign=said.campaign or "",
        keyword=said.term or "",
        city=(visit.on.city if visit is not None else None) or "",
    )


# ---- Looking again ----


class Attributing:
    """Looks at calls again once what came late has come. `run` is a root task."""

    def __init__(
        self,
        database: store.Database,
        *,
        book_of: BookOf,
        now_us: Callable[[], int],
        targets: Collection[str] = (),
        events_added: Callable[[], None] = lambda: None,
        changed: Callable[[dict[str, Any]], None] = lambda record: None,
    ) -> None:
        self._database = database
        self._book_of = book_of
        self._now_us = now_us
        self._targets = targets
        self._events_added = events_added
        self._changed = changed
        self.revised = 0
        self.problem: str | None = None
        """Why calls are not looked at again at the moment; None = all is well."""

    async def run(self) -> None:
        """Never returns."""
        while True:
            try:
                while await self.step() == AT_ONCE:
                    pass
                self.problem = None
            except store.StoreUnavailable as error:
                if self.problem is None:
                    log.warning("calls are not looked at again, will be tried later", error=str(error))
                self.problem = str(error)
            await asyncio.sleep(TICK_SECONDS)

    async def step(self) -> int:
        """Looks at what is due. Returns how many calls that were."""
        now_us = self._now_us()
        async with self._database.read() as connection:
            due = await attributions.due(connection, now_us, limit=AT_ONCE)
        for before in due:
            await self._look(before, now_us)
        return len(due)

    async def _look(self, before: attributions.Filed, now_us: int) -> None:
        async with self._database.read() as connection:
            row = await stored_calls.get(connection, before.call_id)
            found = None
            if row is not None and row.state == "closed" and row.updated_us <= now_us - QUIET_US:
                found = await self._find(connection, before, row)
        if row is not None and (row.state != "closed" or row.updated_us > now_us - QUIET_US):
            await self._settle(before, now_us + QUIET_US)
        elif row is None or found is None or not matching.is_news(before.match, found.filed.match):
            await self._settle(before, None)
        else:
            await self._revise(row, found, now_us)

    async def _find(
        self, connection: store.Connection, before: attributions.Filed, row: stored_calls.CallRow
    ) -> Found | None:
        routing_book = await self._book_of(row.plan_revision)
        number = routing_book.tracking_numbers.get(before.number[1:]) if routing_book is not None else None
        if routing_book is None or number is None:
            return None
        question = Question(before.call_id, before.number, before.at_us, before.caller)
        return await find(connection, question, number, routing_book)

    async def _settle(self, before: attributions.Filed, due_us: int | None) -> None:
        async with self._database.begin() as tx:
            await attributions.settle(tx, [before.call_id], due_us)

    async def _revise(self, row: stored_calls.CallRow, found: Found, now_us: int) -> None:
        document = {**json.loads(row.record), "attribution": records.attributed(found.attribution), "revision": 0}
        if "scoring" in document:
            document["scoring"] = scoring.scored(document, await self._book_of(row.plan_revision))
        content_hash = records.content_hash(_json(document))
        document["revision"] = row.revision + 1
        kind = events.EventType.UPDATED
        revised = attributions.Revised(
            call_id=row.call_id,
            before=row.revision,
            record=_json(document),
            content_hash=content_hash,
            source=document["attribution"]["source"],
            campaign=document["attribution"]["campaign"],
            announced=row.announced | {kind.value},
            score=(document.get("scoring") or {}).get("score"),
        )
        event_id = events.event_id(row.call_id, kind, row.revision + 1)
        body = {"id": event_id, "type": kind.value, "timestamp": records.timestamp(row.ended_us or row.last_row_us)}
        async with self._database.begin() as tx:
            if await attributions.revise(tx, revised, now_us=now_us):
                await attributions.keep(tx, [replace(found.filed, due_us=None)])
                said = (await results.of_calls(tx, [row.call_id])).get(row.call_id)
                data = results.with_result(revised.record, row.revision + 1, said)
                payload = f'{_json(body)[:-1]},"data":{data}}}'
                number = results.revision_of(row.revision + 1, said)
                await outbox.add(
                    tx, [outbox.Event(event_id, kind.value, now_us, payload, row.call_id, number)], self._targets
                )
            else:
                await attributions.settle(tx, [row.call_id], None)
                return
        self.revised += 1
        self._changed(document)
        self._events_added()


_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
