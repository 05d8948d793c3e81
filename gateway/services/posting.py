"""Hands events to everyone outside who wants them: one courier for each target, at least once, in order per call.

A courier's round is one transaction: what came back is settled, what is due is claimed. What is claimed is held by a
lease that the courier prolongs while it lives; a process that is killed leaves leases that run out, and the events go
again with the ids they had. Nothing is kept in memory but what is on its way.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from aiolimiter import AsyncLimiter

from gateway import log, store
from gateway.core import delivery, events, records
from gateway.core.outgoing import adapters, told
from gateway.services import cards
from gateway.store import outbox, targets

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
ALERT = "system.alert"
QUIET_MOST_US = 3_600 * SECOND_US
"""However long a receiver asks to be left alone altogether."""
FACTS_US = 400 * DAY_US
"""How long what a service knows a call by is kept: a deal may close a year later."""

_log = log.get("posting")

NowUs = Callable[[], int]
Observe = Callable[[str, str, float | None], None]
"""Told of each attempt: target, how it ended, and of those that the receiver has, how old the event is in seconds."""
VisitorOf = Callable[[str], Awaitable[told.Visitor | None]]


@dataclass(frozen=True, slots=True)
class Line:
    """One target as the routing file has it. Lines that are equal are the same: their courier goes on."""

    described: object
    """What the adapter is made from."""
    make: Callable[[], adapters.Adapter] = field(compare=False)
    per_second: float = 0
    """0: no limit."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a post works. `lease_seconds` is how long a killed process's events wait for another one."""

    lease_seconds: float = 30.0
    poll_seconds: float = 1.0
    gather_seconds: float = 0.005
    """Between what came back first and the commit: ten answers cost little more than one."""
    at_once: int = 32
    """Events of one target on their way at once, each of another call."""
    patience_seconds: float = 5.0
    """At a stop, for what is on its way."""

    @property
    def lease_us(self) -> int:
        """`lease_seconds` in microseconds."""
        return round(self.lease_seconds * SECOND_US)


@dataclass(slots=True)
class Shared:
    """What all couriers of a process have in common."""

    database: store.Database
    now_us: NowUs
    random: Callable[[], float]
    node: str
    targets: Collection[str]
    events_added: Callable[[], None]
    visitor_of: VisitorOf | None = None
    observe: Observe = lambda target, result, seconds: None
    pace: Pace = field(default_factory=Pace)


@dataclass(slots=True)
class _Ended:
    delivery: outbox.Delivery
    settled: adapters.Settled
    at_us: int
    took_us: int


class Courier:
    """Delivers what is due for one target. `run` never returns; faults outside are waited out."""

    def __init__(self, shared: Shared, target: str, line: Line) -> None:
        self.target = target
        self.line = line
        self.problem: str | None = None
        """Why deliveries fail, or wait; None: all is well."""
        self.state = targets.State(target)
        self.counts: Counter[str] = Counter()
        """Attempts since the start by `adapters.State`, and `given_up`."""
        self._shared = shared
        self._adapter = line.make()
        self._limiter = _limiter(line.per_second)
        self._flights: dict[asyncio.Task[None], tuple[outbox.Delivery, ...]] = {}
        self._ended: list[_Ended] = []
        self._held: dict[int, outbox.Delivery] = {}
        """By `seq`: claimed, and not settled yet."""
        self._wake = asyncio.Event()
        self._quiet_until_us = 0
        self._next_batch_us = 0
        self._next_beat_us = 0
        self._is_closing = False
        # A stop takes steps beside `run`.
        self._turn = asyncio.Lock()

    def wake(self) -> None:
        """There may be something to deliver."""
        self._wake.set()

    @property
    def _is_ours(self) -> bool:
        """A file of our own, not a service outside."""
        return self._adapter.batching is not None and self._adapter.batching.in_order

    @property
    def in_flight(self) -> int:
        """Events that are on their way now."""
        return sum(len(deliveries) for deliveries in self._flights.values())

    async def run(self) -> None:
        """Until it is cancelled; what is on its way then is left to its lease."""
        try:
            while True:
                try:
                    await _whole(self.step())
                    if self.problem is not None and self.state.failing_us is None and self.state.off_us is None:
                        self.problem = None
                except store.StoreUnavailable as error:
                    if self.problem is None:
                        _log.error("events not delivered, will be tried again", target=self.target, error=str(error))
                    self.problem = str(error)
                    await asyncio.sleep(self._shared.pace.poll_seconds)
                await self._rest()
        finally:
            await self._abandon()

    async def step(self) -> int:
        """One round; returns how many events it began to deliver."""
        async with self._turn:
            return await self._step()

    async def _step(self) -> int:
        self._wake.clear()
        is_beat_due = bool(self._held) and self._shared.now_us() >= self._next_beat_us
        if not self._ended and not is_beat_due and not await self._has_work():
            return 0
        ended, now_us = self._ended[:], self._shared.now_us()
        steps = [self._next(one, now_us) for one in ended]
        async with self._shared.database.begin() as tx:
            state = await targets.state(tx, self.target)
            state = await self._settle(tx, list(zip(ended, steps, strict=True)), state, now_us)
            # Before the claim: after a pause (a stopped process, a clock set forward) it would take its own again.
            lost = await self._beat(tx, now_us)
            claimed = await self._claim(tx, state, now_us, self._free(len(ended)))
            known = await targets.facts(tx, self.target, {one.event.call_id for one in claimed if one.event.call_id})
        self._tell(state, list(zip(ended, steps, strict=True)))
        del self._ended[: len(ended)]
        self._let_go({*lost, *(one.delivery.seq for one in ended)})
        if now_us >= self._next_beat_us:
            # Only now: a transaction that failed has prolonged nothing.
            self._next_beat_us = now_us + self._shared.pace.lease_us // 3
        self._take_off(claimed, known)
        return len(claimed)

    async def close(self) -> None:
        """Takes nothing new, and waits for what is on its way, for as long as the pace has patience."""
        if self._is_ours:
            self._next_batch_us = 0
            with suppress(store.StoreUnavailable):
                await _whole(self.step())
        self._is_closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._shared.pace.patience_seconds):
                while self._flights or self._ended:
                    if self._flights:
                        await asyncio.wait(self._flights, return_when=asyncio.FIRST_COMPLETED)
                    await _whole(self.step())

    async def _abandon(self) -> None:
        flights = list(self._flights)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await close(self._adapter)

    # ---- What is due ----

    def _free(self, settling: int = 0) -> int:
        """How many more may be claimed, when `settling` of those that are held are being settled."""
        batching = self._adapter.batching
        if self._is_closing:
            return 0
        if batching is not None:
            return 0 if len(self._held) > settling else batching.most
        return self._shared.pace.at_once - len(self._held) + settling

    async def _has_work(self) -> bool:
        """Asks the database, so that a target without work costs no transaction."""
        if self._free() <= 0 or self._shared.now_us() < max(self._quiet_until_us, self._next_batch_us):
            return False
        async with self._shared.database.read() as connection:
            self.state = await targets.state(connection, self.target)
            due_us = await outbox.next_due(connection, self.target)
        if self.state.off_us is not None:
            self.problem = f"switched off: {self.state.off_reason}"
            return False
        return due_us is not None and due_us <= self._shared.now_us()

    async def _claim(
        self, tx: store.Transaction, state: targets.State, now_us: int, most: int
    ) -> list[outbox.Delivery]:
        is_quiet = now_us < max(self._quiet_until_us, self._next_batch_us)
        if most <= 0 or is_quiet or state.off_us is not None:
            return []
        lease_us, batching = self._shared.pace.lease_us, self._adapter.batching
        how = {"limit": most, "now_us": now_us, "lease_us": lease_us}
        claimed = await outbox.claim(tx, self.target, **how, in_order=self._is_ours)
        if claimed and batching is not None and not (batching.in_order and len(claimed) == batching.most):
            self._next_batch_us = now_us + batching.every_us
        return claimed

    # ---- On the way ----

    def _take_off(self, claimed: Sequence[outbox.Delivery], known: Mapping[str, Mapping[str, str]]) -> None:
        if self._adapter.batching is not None:
            groups = [tuple(claimed)] if claimed else []
        else:
            groups = [(one,) for one in claimed]
        self._held |= {one.seq: one for one in claimed}
        for group in groups:
            flight = asyncio.create_task(self._fly(group, known), name=f"delivery to {self.target}")
            self._flights[flight] = group
            flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.pop(flight, None)
        self._wake.set()

    async def _fly(self, group: Sequence[outbox.Delivery], known: Mapping[str, Mapping[str, str]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            handed = [(_handed(one), await self._attempt(one, known)) for one in group]
            if self._limiter is not None:
                await self._limiter.acquire()
            started, at_us = loop.time(), self._shared.now_us()
            # The signature's time is that of the sending, not of the wait for it.
            handed = [(event, replace(attempt, now_us=at_us)) for event, attempt in handed]
            if self._adapter.batching is not None:
                settled = list(await self._adapter.deliver_many(handed))
            else:
                settled = [await self._adapter.deliver(*one) for one in handed]
        except store.StoreUnavailable as error:
            started, at_us = loop.time(), self._shared.now_us()
            settled = [adapters.Settled(adapters.State.WAITING, str(error), again_us=at_us + SECOND_US)] * len(group)
        except Exception as error:
            # A fault of ours at one event of one target: the others, and the callers, go on.
            _log.exception("a delivery failed by a fault of Dialmark", target=self.target)
            started, at_us = loop.time(), self._shared.now_us()
            settled = [adapters.Settled(adapters.State.FAILED, f"our fault: {type(error).__name__}")] * len(group)
        took_us = round((loop.time() - started) * SECOND_US)
        self._ended += [_Ended(one, how, at_us, took_us) for one, how in zip(group, settled, strict=True)]

    async def _attempt(self, one: outbox.Delivery, known: Mapping[str, Mapping[str, str]]) -> adapters.Attempt:
        call_id, visitor = one.event.call_id, None
        if self._adapter.needs_visitor and call_id is not None and self._shared.visitor_of is not None:
            visitor = await self._shared.visitor_of(call_id)
        return adapters.Attempt(
            now_us=0,
            number=one.attempts,
            is_unsure=one.is_unsure,
            known=known.get(call_id or "", {}),
            visitor=visitor,
        )

    async def _beat(self, tx: store.Transaction, now_us: int) -> set[int]:
        """Prolongs the leases of all that is held; gives those that are not ours any more."""
        if now_us < self._next_beat_us:
            return set()
        until_us = now_us + self._shared.pace.lease_us
        return {seq for seq, one in self._held.items() if not await outbox.extend(tx, one, until_us=until_us)}

    def _let_go(self, seqs: set[int]) -> None:
        """After the commit: these are settled, or another process has taken them over and delivers them."""
        for seq in seqs:
            self._held.pop(seq, None)
        for flight, group in self._flights.items():
            if not any(one.seq in self._held for one in group):
                flight.cancel()

    async def _rest(self) -> None:
        """Until something came back or came in, the next look is due, or leases are to be prolonged."""
        pace = self._shared.pace
        seconds = min(pace.poll_seconds, pace.lease_seconds / 3)
        until_batch_us = self._next_batch_us - self._shared.now_us()
        if until_batch_us > 0:
            # What came in meanwhile was not looked at.
            seconds = min(seconds, until_batch_us / SECOND_US)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        if self._flights or self._ended:
            await asyncio.sleep(pace.gather_seconds)

    # ---- What came back ----

    def _next(self, one: _Ended, now_us: int) -> delivery.Step:
        return delivery.next_step(
            one.settled, attempts=one.delivery.attempts, now_us=now_us, random=self._shared.random()
        )

    async def _settle(
        self, tx: store.Transaction, ended: Sequence[tuple[_Ended, delivery.Step]], state: targets.State, now_us: int
    ) -> targets.State:
        if not ended:
            return state
        done = [one.delivery for one, step in ended if step.fate is delivery.Fate.DONE]
        await outbox.settle(tx, done, now_us=now_us)
        for one, step in ended:
            if step.fate is not delivery.Fate.DONE:
                await outbox.fail(
                    tx,
                    one.delivery,
                    error=one.settled.note,
                    now_us=now_us,
                    next_at_us=step.at_us,
                    counts=step.counts,
                )
            if one.settled.known and one.delivery.event.call_id is not None:
                await targets.learn(tx, one.delivery.event.call_id, self.target, one.settled.known, now_us=now_us)
        await self._show_cards(tx, ended, now_us)
        if not self._is_ours:
            await targets.log(tx, [_logged(self.target, one) for one, _ in ended])
        changed = _state_after(state, [(one.settled, step) for one, step in ended], now_us)
        if changed != state:
            await targets.save(tx, changed)
        await self._raise_alarms(tx, state, changed, ended, now_us)
        return changed

    async def _show_cards(
        self, tx: store.Transaction, ended: Sequence[tuple[_Ended, delivery.Step]], now_us: int
    ) -> None:
        made = [
            cards.event(one.settled.card, one.delivery.event.call_id, self.target, now_us)
            for one, _ in ended
            if one.settled.card is not None and one.delivery.event.call_id is not None
        ]
        if made:
            await outbox.add(tx, made, self._shared.targets)
            asyncio.get_running_loop().call_soon(self._shared.events_added)

    async def _raise_alarms(
        self,
        tx: store.Transaction,
        was: targets.State,
        now: targets.State,
        ended: Sequence[tuple[_Ended, delivery.Step]],
        now_us: int,
    ) -> None:
        told_of: list[tuple[str, str]] = []
        if now.off_us is not None and was.off_us is None:
            what = f"{self.target} wants no events any more ({now.off_reason}): they wait until it is switched on"
            told_of.append(("target-switched-off", what))
        if any(one.settled.needs_attention for one, _ in ended) and was.failing_us is None:
            note = next(one.settled.note for one, _ in ended if one.settled.needs_attention)
            told_of.append(("target-needs-attention", f"{self.target}: {note}"))
        alerts = [alert(kind, self.target, what, self._shared.node, now_us) for kind, what in told_of]
        if alerts:
            await outbox.add(tx, alerts, self._shared.targets)
            asyncio.get_running_loop().call_soon(self._shared.events_added)

    def _tell(self, state: targets.State, ended: Sequence[tuple[_Ended, delivery.Step]]) -> None:
        """After the commit: the log, the counts, how long to leave the receiver alone."""
        was, self.state = self.state, state
        for one, step in ended:
            self.counts[one.settled.state.value] += 1
            self._observe(one, "dead" if step.fate is delivery.Fate.DEAD else one.settled.state.value)
            if step.fate is delivery.Fate.DEAD:
                self.counts["given_up"] += 1
                _log.error(
                    "event given up", target=self.target, event_id=one.delivery.event.event_id, reason=one.settled.note
                )
            if one.settled.status in (429, 503) and one.settled.again_us is not None:
                bound_us = self._shared.now_us() + QUIET_MOST_US
                self._quiet_until_us = max(self._quiet_until_us, min(one.settled.again_us, bound_us))
        if state.off_us is not None and was.off_us is None:
            _log.error("target switched off", target=self.target, reason=state.off_reason)
        elif state.failing_us is not None and was.failing_us is None:
            _log.warning("target fails, will be tried again", target=self.target, reason=state.last_error)
        elif state.failing_us is None and was.failing_us is not None and ended:
            _log.info("target takes events again", target=self.target)
        if state.off_us is not None:
            self.problem = f"switched off: {state.off_reason}"
        elif ended:
            self.problem = state.last_error if state.failing_us is not None else None

    def _observe(self, one: _Ended, result: str) -> None:
        age = max(0, one.at_us + one.took_us - one.delivery.event.created_us) / SECOND_US
        self._shared.observe(self.target, result, age if one.settled.state is adapters.State.DONE else None)


async def _whole(work: Coroutine[Any, Any, object]) -> None:
    """Cancelled, it ends what it has begun: a statement that is cut off would leave its connection behind, and what
    was claimed to its lease."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def alert(kind: str, subject: str, message: str, node: str, now_us: int) -> outbox.Event:
    """The event of an alarm of this part."""
    event_id = str(uuid.uuid5(events.EVENT_IDS, f"{ALERT}/{kind}/{subject}/{now_us}"))
    body = {
        "id": event_id,
        "type": ALERT,
        "timestamp": records.timestamp(now_us),
        "data": {"kind": kind, "message": message, "node": node, "call_id": None, "subject": subject},
    }
    return outbox.Event(event_id, ALERT, now_us, json.dumps(body, ensure_ascii=False, separators=(",", ":")))


def _limiter(per_second: float) -> AsyncLimiter | None:
    if per_second <= 0:
        return None
    return AsyncLimiter(max(per_second, 1), max(1.0, 1 / per_second))


def _handed(one: outbox.Delivery) -> adapters.Handed:
    event = one.event
    body: Any = json.loads(event.payload)
    return adapters.Handed(
        event_id=event.event_id,
        type=event.type,
        at_us=event.created_us,
        data=body.get("data") or {},
        call_id=event.call_id,
        late=event.late,
        payload=event.payload,
    )


def _logged(target: str, one: _Ended) -> targets.Logged:
    event = one.delivery.event
    return targets.Logged(
        target=target,
        event_id=event.event_id,
        type=event.type,
        call_id=event.call_id,
        attempt=one.delivery.attempts,
        at_us=one.at_us,
        took_us=one.took_us,
        state=one.settled.state.value,
        note=one.settled.note,
        request=one.settled.request,
        response=one.settled.response,
        status=one.settled.status,
    )


def _state_after(
    state: targets.State, ended: Sequence[tuple[adapters.Settled, delivery.Step]], now_us: int
) -> targets.State:
    """How the target is after these attempts, in the order in which they ended."""
    for settled, step in ended:
        if step.switches_off:
            state = replace(state, off_us=now_us, off_reason=settled.note, last_error=settled.note)
        elif settled.state in (adapters.State.FAILED, adapters.State.DEAD, adapters.State.BLOCKED):
            state = replace(state, failing_us=state.failing_us or now_us, last_error=settled.note)
        elif settled.state is adapters.State.DONE:
            state = replace(state, failing_us=None, last_error=None)
    return state


class Post:
    """All couriers of this process, as the routing book wants them."""

    def __init__(self, shared: Shared, *, keep_days: int = 14) -> None:
        """`keep_days`: how long events are kept after they were delivered, or for targets that take none."""
        self._shared = shared
        self._keep_us = keep_days * DAY_US
        self._next_prune_us = 0
        self.lines: dict[str, Line] = {}
        """In force, by target."""
        self._changed = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.couriers: dict[str, Courier] = {}

    def use(self, lines: Mapping[str, Line]) -> None:
        """These targets are in force; the couriers of others stop."""
        self.lines = dict(lines)
        self._changed.set()

    def wake(self) -> None:
        """Somebody wrote events."""
        for courier in self.couriers.values():
            courier.wake()

    async def run(self) -> None:
        """Root task: keeps couriers running, and once an hour lets go of old events."""
        try:
            while True:
                self._changed.clear()
                await self._fit()
                await _whole(self._prune())
                await self._wait()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def close(self) -> None:
        """Waits a little for what is on its way."""
        await asyncio.gather(*(courier.close() for courier in self.couriers.values()))

    async def _wait(self) -> None:
        """Until other lines are in force, it is time to clean, or a courier has died of a fault of ours."""
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait([changed, *self._tasks.values()], timeout=60, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        for task in self._tasks.values():
            if task.done():
                task.result()

    async def _fit(self) -> None:
        for target, courier in list(self.couriers.items()):
            if self.lines.get(target) != courier.line:
                task = self._tasks.pop(target)
                del self.couriers[target]
                await courier.close()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for target, line in self.lines.items():
            if target not in self.couriers:
                courier = Courier(self._shared, target, line)
                self.couriers[target] = courier
                self._tasks[target] = asyncio.create_task(courier.run(), name=f"courier of {target}")

    async def _prune(self) -> None:
        now_us = self._shared.now_us()
        if now_us < self._next_prune_us:
            return
        self._next_prune_us = now_us + 3_600 * SECOND_US
        before_us = now_us - self._keep_us
        try:
            async with self._shared.database.begin() as tx:
                off = {one.target for one in (await targets.states(tx)).values() if one.off_us is not None}
                known = {*self._shared.targets, *self.lines}
                buried = await outbox.bury(tx, before_us=before_us, known=known, off=off, now_us=now_us)
                await outbox.prune(tx, before_us=before_us)
                await targets.prune(tx, before_us=now_us - FACTS_US)
        except store.StoreUnavailable as error:
            _log.warning("delivered events not pruned, will be tried again", error=str(error))
            return
        if buried:
            _log.warning("events that nobody took are given up", events=buried, days=self._keep_us // DAY_US)


async def close(adapter: adapters.Adapter) -> None:
    """Ends the adapter's connections, if it keeps any."""
    end = getattr(adapter, "close", None)
    if end is not None:
        await end()


async def try_out(
    database: store.Database, adapter: adapters.Adapter, *, node: str, now_us: int, dry_run: bool = False
) -> targets.Logged:
    """Sends an event of kind `test` to a target, past the outbox, and keeps what came back with its last deliveries."""
    made = alert("test", adapter.target, "This is a test of Dialmark.", node, now_us)
    one = outbox.Delivery(made, 0, adapter.target, 1, "")
    loop = asyncio.get_running_loop()
    started = loop.time()
    settled = await adapter.deliver(_handed(one), adapters.Attempt(now_us=now_us, dry_run=dry_run))
    took_us = round((loop.time() - started) * SECOND_US)
    logged = replace(_logged(adapter.target, _Ended(one, settled, now_us, took_us)), is_test=True)
    if not dry_run:
        async with database.begin() as tx:
            await targets.log(tx, [logged])
    return logged
