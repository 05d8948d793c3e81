"""Numbers for visitors: what came in within 3 ms is decided, leased and stored in one transaction (R96, R98-R101).

A page that asks waits for the commit: what it is told is true whatever dies next. Signs of life and calls wait a little
longer for company. When the store cannot be written, pages are told so and keep the site's own number, and signs of
life are kept for when it can.
"""

from __future__ import annotations

import asyncio
import functools
import json
import uuid
from collections import Counter, deque
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from gateway import store
from gateway.core import book, displayrules, events, leaks, pool, poolmath, records, webbook
from gateway.core.displayrules import Consent, Reason
from gateway.services import arrivals, lawfitting
from gateway.services.arrivals import Answer, Arrival, Show
from gateway.store import attributions, forgetting, leases, outbox, overflows, visits

log = structlog.get_logger()

_T = TypeVar("_T")

GATHER_SECONDS = 0.003
"""An assignment waits so long for others to share its commit."""
SIGN_SECONDS = 0.25
"""A sign of life, or a call, waits so long."""
MOST_AT_ONCE = 200
MAX_WAITING = 2_000
"""More assignments than this are refused: each would be answered after its page had given up."""
MAX_SIGNS = 50_000
PATIENCE = 5
"""Times that a batch is done again because another process came between."""
TICK_SECONDS = 30.0
TERMS_SECONDS = 600.0
STAY_DAYS = 28
ALARM_SECONDS = 3_600.0
LEAK_SECONDS = 3_600.0
RETRY_SECONDS = 1.0

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US

EXHAUSTED = "pool.exhausted"
LEAKED = "pool.leak_suspected"


class Unavailable(Exception):
    """No number can be lent now: the page keeps the site's own."""


@dataclass(slots=True)
class _Asked:
    arrival: Arrival
    answer: asyncio.Future[Answer]


@dataclass(slots=True)
class _Beat:
    lease_ids: frozenset[str]
    lives: asyncio.Future[bool]


@dataclass(slots=True)
class _Batch:
    """What one transaction takes in."""

    asked: list[_Asked] = field(default_factory=list)
    signs: list[leases.Sign] = field(default_factory=list)
    beats: list[_Beat] = field(default_factory=list)
    """Who waits to hear whether the leases of their signs are gone."""
    seen: dict[str, int] = field(default_factory=dict)
    clicks: list[tuple[str, str, int]] = field(default_factory=list)
    told: dict[str, visits.Told] = field(default_factory=dict)
    calls: list[tuple[str, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.asked or self.signs or self.seen or self.clicks or self.told or self.calls)


@dataclass(frozen=True, slots=True)
class _Stored:
    answers: list[Answer]
    lost: set[str]
    exhausted: Counter[str]


@dataclass(slots=True)
class Counts:
    """Since the start, by site and reason: what pages were shown; leases that were gone when their page lived still."""

    shown: Counter[tuple[str, str]] = field(default_factory=Counter)
    exhausted: Counter[str] = field(default_factory=Counter)
    """Visitors shown the overflow number, or none, by pool."""
    lost: int = 0
    refused: int = 0
    """Assignments that could not be stored in time."""


class Leasing:
    """Lends the numbers of all pools of the book in force. `run` is a root task."""

    def __init__(
        self,
        database: store.Database,
        *,
        now_us: Callable[[], int],
        targets: Collection[str] = (),
        events_added: Callable[[], None] = lambda: None,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        lent: Callable[[str, str], None] = lambda number, visitor_id: None,
    ) -> None:
        """`lent` is told the number and the visitor of each answer that gives one; it must not block."""
        self._database = database
        self._now_us = now_us
        self._targets = targets
        self._events_added = events_added
        self._new_id = new_id
        self._lent = lent
        self._book: book.Book | None = None
        self._has_told = False
        """The transaction has events for the post."""
        self._is_fitted = False
        self._is_mended = False
        self._terms: dict[str, pool.Terms] = {}
        self._stays: dict[str, float | None] = {}
        self._next_laws_us = self._next_terms_us = self._next_tick_us = self._next_leaks_us = 0
        self._asked: deque[_Asked] = deque()
        self._to_forget: set[str] = set()
        self._batch = _Batch()
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()
        self.counts = Counts()
        self.problem: str | None = None
        """Why numbers cannot be lent at the moment; None = all is well."""

    # ---- What the web asks ----

    async def arrive(self, arrival: Arrival) -> Answer:
        """What the page of a visitor is to show. Raises Unavailable, KeyError for a site without web."""
        web = self._web()
        if web.sites.get(arrival.site) is None:
            raise KeyError(arrival.site)
        if arrival.consent is not Consent.GRANTED or arrival.is_bot:
            facts = arrivals.passing_facts(arrival, web)
            decided = arrivals.decided(arrival, web, facts)
            return self._counted(arrival, Answer(tuple(_shown(target, shown) for target, shown in decided)))
        if len(self._asked) >= MAX_WAITING or self.problem is not None:
            self.counts.refused += 1
            raise Unavailable(self.problem or "too many at once")
        asked = _Asked(arrival, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        self._hurry.set()
        self._wanted.set()
        return self._counted(arrival, await asked.answer)

    async def preview(self, arrival: Arrival) -> Answer:
        """What a new visitor who arrives so would be shown; nothing is lent, stored or counted. Raises as `arrive`."""
        web = self._web()
        if web.sites.get(arrival.site) is None:
            raise KeyError(arrival.site)
        if not self._is_fitted or self.problem is not None:
            raise Unavailable(self.problem or "no numbers yet")
        decided = arrivals.decided(arrival, web, arrivals.passing_facts(arrival, web))
        shows = []
        try:
            async with self._database.read() as connection:
                for target, shown in decided:
                    if shown.pool is None:
                        shows.append(_shown(target, shown))
                    elif (number := await leases.peek(connection, shown.pool, self._now_us(), self._terms)) is not None:
                        shows.append(Show(target, Reason.POOL, number, None, shown.rule))
                    else:
                        overflow = web.pools[shown.pool].overflow
                        shows.append(Show(target, Reason.OVERFLOW, overflow, None, shown.rule))
        except store.StoreUnavailable as error:
            raise Unavailable(str(error)) from None
        return Answer(tuple(shows))

    async def beat(self, visit_id: str | None, lease_ids: Sequence[str] = ()) -> bool:
        """A page lives. False: a lease of it is gone, so that it must ask again. While the store cannot be written the
        beat is kept for later and the lease believed."""
        self._sign(visit_id, lease_ids, leaves=False)
        if not lease_ids or self.problem is not None or not self._is_fitted:
            return True
        beaten = _Beat(frozenset(lease_ids), asyncio.get_running_loop().create_future())
        self._batch.beats.append(beaten)
        return await beaten.lives

    def leave(self, visit_id: str | None, lease_ids: Sequence[str] = (), *, was_shown: bool = True) -> None:
        """A page says goodbye; one that has not `was_shown` its numbers gives them back."""
        self._sign(visit_id, lease_ids, leaves=True, was_shown=was_shown)

    def tell(self, visitor_id: str, ids: Mapping[str, str], variables: Mapping[str, str]) -> None:
        """A page knows more of its visitor than when it was opened."""
        before = self._batch.told.get(visitor_id, ({}, {}))
        if len(self._batch.told) < MAX_SIGNS:
            self._batch.told[visitor_id] = {**before[0], **ids}, {**before[1], **variables}
        self._wanted.set()

    def promised_seconds(self, site: str) -> int:
        """For so long after an answer the site's numbers are nobody else's, even if nothing more is heard."""
        known = [self._terms[one.key].promised_seconds for one in self._web().pools_of(site) if one.key in self._terms]
        return int(min(known, default=pool.UNKNOWN_STAY_SECONDS))

    async def leases_of(self, site: str, visitor_id: str) -> list[str]:
        """The leases that a visitor of a site has. Raises StoreUnavailable."""
        async with self._database.read() as connection:
            return await leases.of_visitor(connection, {one.key for one in self._web().pools_of(site)}, visitor_id)

    def click(self, visitor_id: str, number: str) -> None:
        """A visitor followed a `tel:` link of a number that we show; others are passed over."""
        if self._book is not None and number.removeprefix("+") in self._book.tracking_numbers:
            self._batch.clicks.append((number, visitor_id, self._now_us()))
            self._wanted.set()

    def called(self, number: str) -> None:
        """The router is asked about a call to `number` (E.164 with `+`): it is lent to nobody else meanwhile."""
        known = self._book.tracking_numbers.get(number[1:]) if self._book is not None else None
        if known is not None and known.kind is book.TrackingKind.POOL:
            self._batch.calls.append((number, self._now_us()))
            self._wanted.set()

    async def forget(self, visitor_id: str) -> bool:
        """The visitor takes the consent back: all that is kept of them goes. False: nobody knows them. Raises
        StoreUnavailable: it is done as soon as it can be."""
        self._to_forget.add(visitor_id)
        return await self._forget() > 0

    async def _forget(self) -> int:
        going = frozenset(self._to_forget)
        async with self._database.begin() as tx:
            done = await forgetting.forget_visitors(tx, going, now_us=self._now_us())
        self._to_forget -= going
        return done.known

    # ---- Life ----

    def use(self, routing_book: book.Book) -> None:
        """Lends by this book from now on."""
        self._book = routing_book
        self._is_fitted = self._is_fitted and not routing_book.web.pools
        self._next_terms_us = 0
        self._wanted.set()

    async def run(self) -> None:
        """Never returns. Without pools it sleeps."""
        while True:
            await self.step()
            if self._asked:
                continue
            self._hurry.clear()
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                continue
            self._wanted.clear()
            await self._gather()

    async def _gather(self) -> None:
        """Waits for company: briefly when a page waits, else a little longer, unless one comes."""
        if not self._hurry.is_set():
            try:
                async with asyncio.timeout(SIGN_SECONDS):
                    await self._hurry.wait()
            except TimeoutError:
                return
        await asyncio.sleep(GATHER_SECONDS)

    async def step(self) -> None:
        """Stores what is waiting, and does what is due."""
        try:
            await self._keep_house()
            if self._to_forget:
                await self._forget()
            while batch := self._next_batch():
                await self._take(batch)
        except store.StoreUnavailable as error:
            if self.problem is None:
                log.error("numbers are not lent, will be tried again", error=str(error))
            self.problem = str(error)
            self._refuse(_Batch(asked=list(self._asked), beats=self._batch.beats), self.problem)
            self._asked.clear()
            self._batch.beats = []
            await asyncio.sleep(RETRY_SECONDS)
            return
        if self.problem is not None:
            log.info("numbers are lent again")
            self.problem = None

    def _next_batch(self) -> _Batch:
        batch, self._batch = self._batch, _Batch()
        if self._is_fitted:
            while self._asked and len(batch.asked) < MOST_AT_ONCE:
                batch.asked.append(self._asked.popleft())
        return batch

    async def _take(self, batch: _Batch) -> None:
        batch.asked = [one for one in batch.asked if not one.answer.done()]
        try:
            stored = await self._patiently(lambda tx: self._store(tx, batch))
        except BaseException as error:
            self._refuse(batch, str(error))
            if isinstance(error, store.StoreUnavailable):
                self._put_back(batch)
            raise
        for one, answer in zip(batch.asked, stored.answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)
                self._tell_lent(answer)
            else:
                # Its page has given up meanwhile.
                self.leave(answer.visit_id, [show.lease_id for show in answer.shows if show.lease_id], was_shown=False)
        self.counts.exhausted.update(stored.exhausted)
        for beat in batch.beats:
            lives = beat.lease_ids.isdisjoint(stored.lost)
            self.counts.lost += not lives
            if not beat.lives.done():
                beat.lives.set_result(lives)

    def _tell_lent(self, answer: Answer) -> None:
        for show in answer.shows:
            if show.lease_id is not None and show.number is not None and answer.visitor_id is not None:
                self._lent(show.number, answer.visitor_id)

    def _refuse(self, batch: _Batch, why: str) -> None:
        for one in batch.asked:
            if not one.answer.done():
                self.counts.refused += 1
                one.answer.set_exception(Unavailable(why))
                # Nobody may be waiting any more.
                one.answer.exception()
        for beat in batch.beats:
            if not beat.lives.done():
                beat.lives.set_result(True)

    def _put_back(self, batch: _Batch) -> None:
        kept = self._batch
        kept.signs = [*batch.signs, *kept.signs][-MAX_SIGNS:]
        kept.seen = {**batch.seen, **kept.seen} if len(batch.seen) < MAX_SIGNS else kept.seen
        kept.clicks = [*batch.clicks, *kept.clicks][-MAX_SIGNS:]
        kept.told = {**batch.told, **kept.told} if len(batch.told) < MAX_SIGNS else kept.told
        kept.calls = [*batch.calls, *kept.calls][-MAX_SIGNS:]

    async def _patiently(self, work: Callable[[store.Transaction], Coroutine[Any, Any, _T]]) -> _T:
        """In a transaction of its own, done again when another process came between. On SQLite `work` runs in another
        thread; nothing else of this object that it writes is touched meanwhile."""
        for _ in range(PATIENCE):
            self._has_told = False
            try:
                done = await self._database.transact(work)
            except leases.Overtaken:
                continue
            if self._has_told:
                self._events_added()
            return done
        raise store.StoreUnavailable("another process changes leases without end")

    # ---- One transaction ----

    async def _store(self, tx: store.Transaction, batch: _Batch) -> _Stored:
        lost: set[str] = set()
        if batch.signs:
            # First, so that what is given back can be lent, and what has just shown life is not.
            lost = await leases.keep_alive(tx, batch.signs, self._terms, now_us=self._now_us())
        exhausted: Counter[str] = Counter()
        answers = await self._lend(tx, batch.asked, exhausted) if batch.asked else []
        await visits.seen(tx, batch.seen)
        await visits.tell(tx, batch.told)
        for number, visitor_id, at_us in batch.clicks:
            await visits.click(tx, number, visitor_id, at_us)
        if batch.clicks:
            await attributions.look_again(tx, {number for number, _, _ in batch.clicks}, now_us=self._now_us())
        if batch.calls:
            await leases.call_seen(tx, batch.calls, self._terms)
        return _Stored(answers, lost, exhausted)

    async def _lend(self, tx: store.Transaction, asked: Sequence[_Asked], exhausted: Counter[str]) -> list[Answer]:
        web, now_us = self._web(), self._now_us()
        known = await visits.known(tx, {one.arrival.visitor_id for one in asked if one.arrival.visitor_id})
        found: list[arrivals.Opened] = []
        decided = []
        new: set[str] = set()
        for one in asked:
            before = known.get(one.arrival.visitor_id or "")
            if before is not None and before.person.site != one.arrival.site:
                # Sites do not tell each other of their visitors.
                before = None
            opened = arrivals.opened(one.arrival, before, web, now_us, self._new_id)
            found.append(opened)
            if before is None:
                new.add(opened.person.visitor_id)
            decided.append(arrivals.decided(one.arrival, web, arrivals.facts_of(one.arrival, opened, before)))
            touch = opened.visit if opened.visit.is_touch else (before.touch if before is not None else None)
            # Two pages of one visitor in one batch: the second goes on where the first is.
            known[opened.person.visitor_id] = visits.Known(opened.person, opened.visit, touch)
        lent = await self._lease(tx, web, found, decided, new, now_us)
        exhausted.update(key for (_, key), answer in lent.items() if isinstance(answer, pool.Exhausted))
        people = {one.person.visitor_id: one.person for one in found}
        visited = {one.visit.touch.visit_id: one.visit for one in found}
        await visits.save(tx, list(people.values()), list(visited.values()), [one.page for one in found])
        return [
            Answer(
                tuple(_show(target, shown, lent.get((place, shown.pool or "")), web) for target, shown in rules),
                one.person.visitor_id,
                one.visit.touch.visit_id,
            )
            for place, (one, rules) in enumerate(zip(found, decided, strict=True))
        ]

    async def _lease(
        self,
        tx: store.Transaction,
        web: webbook.WebBook,
        found: Sequence[arrivals.Opened],
        decided: Sequence[list[tuple[str, displayrules.Shown]]],
        new: Collection[str],
        now_us: int,
    ) -> dict[tuple[int, str], pool.Grant | pool.Exhausted]:
        """By place in the batch and pool: one number of a pool for all targets that are sent to it."""
        wanted = [
            (place, key)
            for place, rules in enumerate(decided)
            for key in dict.fromkeys(shown.pool for _, shown in rules if shown.pool is not None)
        ]
        if not wanted:
            return {}
        asks = [
            leases.Ask(key, visitor_id, self._new_id(), now_us, is_new=visitor_id in new)
            for place, key in wanted
            for visitor_id in (found[place].person.visitor_id,)
        ]
        answers = await leases.grant(tx, asks, self._terms)
        short = Counter(
            key
            for (place, key), answer in zip(wanted, answers, strict=True)
            if isinstance(answer, pool.Exhausted) and found[place].visit.pages == 1
        )
        await overflows.add(tx, short, now_us)
        for key, answer in {key: answer for (_, key), answer in zip(wanted, answers, strict=True)}.items():
            if isinstance(answer, pool.Exhausted):
                await self._alarm(tx, web.pools[key], answer, now_us)
        return dict(zip(wanted, answers, strict=True))

    async def _alarm(self, tx: store.Transaction, one: webbook.NumberPool, stands: pool.Exhausted, now_us: int) -> None:
        """Once an hour, whichever process sees it, with the size that would do (R101)."""
        if not await leases.tell_once(tx, one.key, at_us=now_us, every_us=round(ALARM_SECONDS * SECOND_US)):
            return
        enough = pool.would_do(stands, await self._demand(tx, one, now_us))
        log.warning("number pool exhausted", pool=one.key, size=stands.size, would_do=enough)
        body = {
            "pool": one.key,
            "site": one.site,
            "size": stands.size,
            "living": stands.living,
            "frozen": stands.frozen,
            "called": stands.called,
            "would_do": enough,
        }
        await self._tell(tx, EXHAUSTED, one.key, body, now_us)

    async def _demand(self, tx: store.Transaction, one: webbook.NumberPool, now_us: int) -> poolmath.Demand:
        """Of the busiest of the last 24 hours, with the visits that were shown the overflow number."""
        arrivals_per_minute = await overflows.busiest_hour(tx, one.key, now_us - DAY_US, now_us) / 60
        stay = await visits.mean_stay_seconds(tx, one.site, now_us - STAY_DAYS * DAY_US, now_us)
        terms = self._terms.get(one.key) or pool.terms(one.freeze, stay)
        stay_minutes = (stay if stay is not None else pool.UNKNOWN_STAY_SECONDS) / 60
        demand = poolmath.Demand(arrivals_per_minute, stay_minutes, terms.freeze_seconds / 60)
        return demand.taken_softly() if terms.soft else demand

    async def _tell(self, tx: store.Transaction, kind: str, key: str, data: dict[str, object], now_us: int) -> None:
        event_id = str(uuid.uuid5(events.EVENT_IDS, f"{key}/{kind}/{now_us}"))
        body = {"id": event_id, "type": kind, "timestamp": records.timestamp(now_us), "data": data}
        payload = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        await outbox.add(tx, [outbox.Event(event_id, kind, now_us, payload)], self._targets)
        self._has_told = True

    # ---- What is due now and then ----

    async def _keep_house(self) -> None:
        routing_book, now_us = self._book, self._now_us()
        if routing_book is None:
            return
        if now_us >= self._next_terms_us:
            self._terms = await self._work_out_terms(routing_book.web, now_us)
            if routing_book is self._book:
                # Else a newer book came meanwhile, and its pools have no terms yet.
                self._next_terms_us = now_us + round(TERMS_SECONDS * SECOND_US)
        if not self._is_fitted:
            pools = list(routing_book.web.pools.values())
            if pools or self._is_mended:
                await self._patiently(lambda tx: leases.fit(tx, pools, now_us=now_us))
            if not self._is_mended and pools:
                mended = await self._patiently(lambda tx: leases.mend_outage(tx, self._terms, now_us=now_us))
                log.info("leases taken up", pools=len(pools), prolonged=mended)
            self._is_mended = True
            self._is_fitted = routing_book is self._book
        if self._terms and now_us >= self._next_tick_us:
            await self._patiently(lambda tx: leases.note_beat(tx, set(self._terms), now_us))
            self._next_tick_us = now_us + round(TICK_SECONDS * SECOND_US)
        if self._terms and now_us >= self._next_laws_us:
            await self._learn_laws(routing_book.web, now_us)
            self._next_laws_us = now_us + DAY_US
        if self._terms and now_us >= self._next_leaks_us:
            await self._look_for_leaks(routing_book.web, now_us)
            self._next_leaks_us = now_us + round(LEAK_SECONDS * SECOND_US)

    async def _work_out_terms(self, web: webbook.WebBook, now_us: int) -> dict[str, pool.Terms]:
        stays = self._stays
        if web.pools:
            async with self._database.read() as connection:
                for site in {one.site for one in web.pools.values()}:
                    since_us = now_us - STAY_DAYS * DAY_US
                    stays[site] = await visits.mean_stay_seconds(connection, site, since_us, now_us)
        return {key: web.terms(one, stays[one.site]) for key, one in web.pools.items()}

    async def _learn_laws(self, web: webbook.WebBook, now_us: int) -> None:
        for key, one in web.pools.items():
            law = await lawfitting.fitted(self._database, key, len(one.numbers), self._stays.get(one.site), now_us)
            await self._patiently(functools.partial(leases.keep_law, key=key, law=law, now_us=now_us))

    async def _look_for_leaks(self, web: webbook.WebBook, now_us: int) -> None:
        """Numbers that are called although nobody is shown them (N6)."""
        for one in web.pools.values():
            async with self._database.read() as connection:
                since_us = now_us - leaks.WATCH_DAYS * DAY_US
                calls = await attributions.number_calls(connection, one.key, since_us, now_us)
            found = leaks.found(one.numbers, calls, now_us)
            await self._patiently(functools.partial(self._tell_leaks, one.key, found, now_us))

    async def _tell_leaks(
        self, key: str, found: dict[str, leaks.Suspicion], now_us: int, tx: store.Transaction
    ) -> None:
        for number in sorted(await leases.tell_leaks(tx, key, set(found), at_us=now_us)):
            leak = found[number]
            log.warning("a pool number seems to be printed somewhere", pool=key, number=number, calls=leak.calls)
            body = {
                "pool": key,
                "number": number,
                "calls": leak.calls,
                "callers": leak.callers,
                "expected": round(leak.expected, 2),
                "first_at": records.timestamp(leak.first_us),
                "last_at": records.timestamp(leak.last_us),
            }
            await self._tell(tx, LEAKED, f"{key}/{number}", body, now_us)

    # ---- Small things ----

    def _web(self) -> webbook.WebBook:
        if self._book is None:
            raise Unavailable("no routing applied yet")
        return self._book.web

    def _sign(self, visit_id: str | None, lease_ids: Sequence[str], *, leaves: bool, was_shown: bool = True) -> None:
        now_us = self._now_us()
        if visit_id is not None and len(self._batch.seen) < MAX_SIGNS:
            self._batch.seen[visit_id] = now_us
        if len(self._batch.signs) < MAX_SIGNS:
            self._batch.signs += [leases.Sign(lease_id, now_us, leaves, was_shown) for lease_id in lease_ids]
        self._wanted.set()

    def _counted(self, arrival: Arrival, answer: Answer) -> Answer:
        for one in answer.shows:
            self.counts.shown[arrival.site, one.reason.value] += 1
        return answer


def _show(
    target: str, shown: displayrules.Shown, answer: pool.Grant | pool.Exhausted | None, web: webbook.WebBook
) -> Show:
    if isinstance(answer, pool.Grant):
        return Show(target, Reason.POOL, answer.slot.number, answer.slot.lease_id, shown.rule)
    if isinstance(answer, pool.Exhausted):
        return Show(target, Reason.OVERFLOW, web.pools[shown.pool or ""].overflow, None, shown.rule)
    return _shown(target, shown)


def _shown(target: str, shown: displayrules.Shown) -> Show:
    return Show(target, shown.reason, shown.number, None, shown.rule)
