"""A courier delivers what is due for one target, at least once, in order per call.

Its round is one transaction: what came back is settled (`services/settling`), what is due is claimed. What is claimed
is held by a lease that the courier prolongs while it lives; a process that is killed leaves leases that run out, and
the events go again with the ids they had. Nothing is kept in memory but what is on its way.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from aiolimiter import AsyncLimiter

from gateway import log, store
from gateway.core import delivery
from gateway.core.outgoing import adapters, told
from gateway.services import settling
from gateway.store import outbox, targets

SECOND_US = 1_000_000
QUIET_MOST_US = 3_600 * SECOND_US
"""However long a receiver asks to be left alone altogether."""

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
        self._settling = settling.Settling(
            target,
            shared.targets,
            shared.node,
            shared.events_added,
            keeps_no_log=self._is_ours,
        )
        self._limiter = _limiter(line.per_second)
        self._flights: dict[asyncio.Task[None], tuple[outbox.Delivery, ...]] = {}
        self._ended: list[settling.Ended] = []
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
                    await whole(self.step())
                    if self.problem is not None and self.state.failing_us is None and self.state.off_us is None:
                        self.problem = None
                except store.StoreUnavailable as error:
                    if self.problem is None:
                        _log.error("events not delivered, will be tried again", target=self.target, error=str(error))
                    self.problem = str(error)
                    await asyncio.sleep(self._shared.pace.poll_seconds)
                except Exception as error:
                    # A fault of ours at what one receiver answered: the other receivers, and the callers, go on.
                    _log.exception("what came back cannot be kept by a fault of Dialmark", target=self.target)
                    self.problem = f"our fault: {type(error).__name__}"
                    self._ended = [settling.bare(one, self.problem) for one in self._ended]
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
        judged = [(one, self._next(one, now_us)) for one in ended]
        async with self._shared.database.begin() as tx:
            was = await targets.state(tx, self.target)
            state, judged = await self._settling.settle(tx, judged, was, now_us)
            # Before the claim: after a pause (a stopped process, a clock set forward) it would take its own again.
            lost = await self._beat(tx, now_us)
            claimed = await self._claim(tx, state, now_us, self._free(len(ended)))
            known = await targets.facts(tx, self.target, {one.event.call_id for one in claimed if one.event.call_id})
        self._tell(state, judged)
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
                await whole(self.step())
        self._is_closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._shared.pace.patience_seconds):
                while self._flights or self._ended:
                    if self._flights:
                        await asyncio.wait(self._flights, return_when=asyncio.FIRST_COMPLETED)
                    await whole(self.step())

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
            handed = [(for_adapter(one), await self._attempt(one, known)) for one in group]
            if self._limiter is not None:
                await self._limiter.acquire()
            started, at_us = loop.time(), self._shared.now_us()
            # The signature's time is that of the sending, not of the wait for it.
            handed = [(event, replace(attempt, now_us=at_us)) for event, attempt in handed]
            if self._adapter.batching is not None:
                settled = list(await self._adapter.deliver_many(handed))
            else:
                settled = [await self._adapter.deliver(*one) for one in handed]
            if len(settled) != len(group):
                raise ValueError(f"{len(settled)} answers for {len(group)} events")
        except store.StoreUnavailable as error:
            started, at_us = loop.time(), self._shared.now_us()
            settled = [adapters.Settled(adapters.State.WAITING, str(error), again_us=at_us + SECOND_US)] * len(group)
        except Exception as error:
            # A fault of ours at one event of one target: the others, and the callers, go on.
            _log.exception("a delivery failed by a fault of Dialmark", target=self.target)
            started, at_us = loop.time(), self._shared.now_us()
            settled = [adapters.Settled(adapters.State.FAILED, f"our fault: {type(error).__name__}")] * len(group)
        took_us = round((loop.time() - started) * SECOND_US)
        self._ended += [settling.Ended(one, how, at_us, took_us) for one, how in zip(group, settled, strict=True)]

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

    def _next(self, one: settling.Ended, now_us: int) -> delivery.Step:
        return delivery.next_step(
            one.settled, attempts=one.delivery.attempts, now_us=now_us, random=self._shared.random()
        )

    def _tell(self, state: targets.State, ended: Sequence[settling.Judged]) -> None:
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

    def _observe(self, one: settling.Ended, result: str) -> None:
        age = max(0, one.at_us + one.took_us - one.delivery.event.created_us) / SECOND_US
        self._shared.observe(self.target, result, age if one.settled.state is adapters.State.DONE else None)


async def whole(work: Coroutine[Any, Any, object]) -> None:
    """Cancelled, it ends what it has begun: a statement that is cut off would leave its connection behind, and what
    was claimed to its lease."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


async def close(adapter: adapters.Adapter) -> None:
    """Ends the adapter's connections, if it keeps any."""
    end = getattr(adapter, "close", None)
    if end is not None:
        await end()


def _limiter(per_second: float) -> AsyncLimiter | None:
    if per_second <= 0:
        return None
    return AsyncLimiter(max(per_second, 1), max(1.0, 1 / per_second))


def for_adapter(one: outbox.Delivery) -> adapters.Handed:
    """The claimed event, as an adapter is handed it."""
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
