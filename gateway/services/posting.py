"""Hands events to everyone outside who wants them: a post keeps one courier for each target (`services/delivering`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from gateway import log, store
from gateway.core.outgoing import adapters
from gateway.services import delivering, settling
from gateway.services.delivering import Courier, Line, Pace, Shared, close
from gateway.store import outbox, targets

__all__ = ["Courier", "Line", "Pace", "Post", "Shared", "close", "try_out"]

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
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
