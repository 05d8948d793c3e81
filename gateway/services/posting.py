"""Hands events to everyone outside who wants them: a post keeps one courier for each target (`services/delivering`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from gateway import log, store
from gateway.core.outgoing import adapters
from gateway.services import delivering, settling
from gateway.services.delivering import Courier, Line, Pace, Shared, close
from gateway.store import outbox, targets

__all__ = ["Courier", "Line", "Pace", "Post", "Shared", "close", "hurry", "replay", "try_out"]

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
PRUNED_AT_ONCE = 20
"""Pieces of old events that are let go of in one round, some seconds, so that a stop need not wait for more."""
FACTS_US = 400 * DAY_US
"""How long what a service knows a call by is kept: a deal may close a year later."""

_log = log.get("posting")


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
                await delivering.whole(self._prune())
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
        before_us, buried = now_us - self._keep_us, 0
        try:
            for _ in range(PRUNED_AT_ONCE):
                async with self._shared.database.begin() as tx:
                    some = await self._bury(tx, before_us, now_us)
                    gone = await outbox.prune(tx, before_us=before_us)
                buried += some
                if not some and not gone:
                    break
                await self._shared.database.give_way()
            else:
                # More than an hour brings: the rest soon.
                self._next_prune_us = now_us
            async with self._shared.database.begin() as tx:
                await targets.prune(tx, before_us=now_us - FACTS_US)
        except store.StoreUnavailable as error:
            _log.warning("delivered events not pruned, will be tried again", error=str(error))
            return
        if buried:
            _log.warning("events that nobody took are given up", events=buried, days=self._keep_us // DAY_US)

    async def _bury(self, tx: store.Transaction, before_us: int, now_us: int) -> int:
        off = {one.target for one in (await targets.states(tx)).values() if one.off_us is not None}
        known = {*self._shared.targets, *self.lines}
        return await outbox.bury(tx, before_us=before_us, known=known, off=off, now_us=now_us)


async def hurry(database: store.Database, target: str, *, now_us: int) -> int:
    """Makes due at once what waits for its next attempt at a target; returns how many. Raises StoreUnavailable."""
    async with database.read() as connection:
        # What fails again meanwhile is left to its schedule.
        seqs = await outbox.waiting(connection, target, now_us=now_us)
    return await _in_pieces(database, seqs, lambda tx, piece: outbox.hurry(tx, target, now_us=now_us, seqs=piece))


async def replay(
    database: store.Database, target: str, chosen: outbox.Chosen, *, now_us: int, only_dead: bool = False
) -> int:
    """As `outbox.replay`, of however many events. Raises StoreUnavailable: some may be on their way already."""

    async def some(tx: store.Transaction, piece: Sequence[int]) -> int:
        which = replace(chosen, seqs=tuple(piece), event_ids=None)
        return await outbox.replay(tx, target, which, now_us=now_us, only_dead=only_dead)

    async with database.read() as connection:
        seqs = await outbox.choose(connection, target, chosen, only_dead=only_dead)
    return await _in_pieces(database, seqs, some)


async def _in_pieces(
    database: store.Database, seqs: Sequence[int], work: Callable[[store.Transaction, Sequence[int]], Awaitable[int]]
) -> int:
    """Each in a transaction of its own: those who file calls wait for none of them long. Returns how much was done."""
    done = 0
    for start in range(0, len(seqs), outbox.PIECE):
        if start:
            await database.give_way()
        async with database.begin() as tx:
            done += await work(tx, seqs[start : start + outbox.PIECE])
    return done


async def try_out(
    database: store.Database, adapter: adapters.Adapter, *, node: str, now_us: int, dry_run: bool = False
) -> targets.Logged:
    """Sends an event of kind `test` to a target, past the outbox, and keeps what came back with its last deliveries."""
    made = settling.alert("test", adapter.target, "This is a test of Dialmark.", node, now_us)
    one = outbox.Delivery(made, 0, adapter.target, 1, "")
    loop = asyncio.get_running_loop()
    started = loop.time()
    settled = await adapter.deliver(delivering.for_adapter(one), adapters.Attempt(now_us=now_us, dry_run=dry_run))
    took_us = round((loop.time() - started) * SECOND_US)
    logged = replace(settling.logged(adapter.target, settling.Ended(one, settled, now_us, took_us)), is_test=True)
    if not dry_run:
        async with database.begin() as tx:
            await targets.log(tx, [logged])
    return logged
