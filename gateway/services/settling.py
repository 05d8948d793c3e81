"""What came back from a target, into the store: deliveries, the target's state, what it was sent, alarms.

It happens in one transaction of the target's courier. Of a person who was erased, maybe while an event was on its way,
nothing is written (N14): nobody would look for it again.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from gateway import store
from gateway.core import delivery, events, records
from gateway.core.outgoing import adapters
from gateway.services import cards
from gateway.store import forgetting, outbox, targets

ALERT = "system.alert"
ERASED = "nothing is kept: the person was erased"


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that came back."""

    delivery: outbox.Delivery
    settled: adapters.Settled
    at_us: int
    took_us: int
    is_bare: bool = False
    """Nothing of what was sent or answered is here."""


Judged = tuple[Ended, delivery.Step]
"""An attempt, and what follows from it."""


@dataclass(frozen=True, slots=True)
class Settling:
    """Of one target. `everyone` (targets) and `events_added` are for the events that it makes itself."""

    target: str
    everyone: Collection[str]
    node: str
    events_added: Callable[[], None]
    keeps_no_log: bool = False

    async def settle(
        self, tx: store.Transaction, came: Sequence[Judged], state: targets.State, now_us: int
    ) -> tuple[targets.State, list[Judged]]:
        """Writes it all; returns how the target is now, and the attempts as they may be told of."""
        if not came:
            return state, []
        # Before anything else: a person is erased before this transaction or after it.
        await forgetting.hold_off(tx)
        stored = await outbox.settle_as_stored(tx, _done(came), now_us=now_us)
        judged = await _without_erased(tx, came, stored)
        for one, step in judged:
            await self._keep(tx, one, step, now_us)
        await self._show_cards(tx, judged, now_us)
        if not self.keeps_no_log:
            await targets.log(tx, [logged(self.target, one) for one, _ in judged if not one.is_bare])
        changed = _state_after(state, [(one.settled, step) for one, step in judged], now_us)
        if changed != state:
            await targets.save(tx, changed)
        await self._raise_alarms(tx, state, changed, judged, now_us)
        return changed, judged

    async def _keep(self, tx: store.Transaction, one: Ended, step: delivery.Step, now_us: int) -> None:
        event, settled = one.delivery.event, one.settled
        if step.fate is not delivery.Fate.DONE:
            await outbox.fail(
                tx, one.delivery, error=settled.note, now_us=now_us, next_at_us=step.at_us, counts=step.counts
            )
        if settled.known and event.call_id is not None:
            await targets.learn(tx, event.call_id, self.target, settled.known, now_us=now_us)

    async def _show_cards(self, tx: store.Transaction, judged: Sequence[Judged], now_us: int) -> None:
        shown = [
            (one.settled.card, one.delivery.event.call_id)
            for one, _ in judged
            if one.settled.card is not None and one.delivery.event.call_id is not None
        ]
        await self._add(tx, await cards.told(tx, shown, self.target, now_us=now_us))

    async def _raise_alarms(
        self, tx: store.Transaction, was: targets.State, now: targets.State, judged: Sequence[Judged], now_us: int
    ) -> None:
        told_of: list[tuple[str, str]] = []
        if now.off_us is not None and was.off_us is None:
            what = f"{self.target} wants no events any more ({now.off_reason}): they wait until it is switched on"
            told_of.append(("target-switched-off", what))
        if any(one.settled.needs_attention for one, _ in judged) and was.failing_us is None:
            note = next(one.settled.note for one, _ in judged if one.settled.needs_attention)
            told_of.append(("target-needs-attention", f"{self.target}: {note}"))
        await self._add(tx, [alert(kind, self.target, what, self.node, now_us) for kind, what in told_of])

    async def _add(self, tx: store.Transaction, made: Sequence[outbox.Event]) -> None:
        if made:
            await outbox.add(tx, made, self.everyone)
            asyncio.get_running_loop().call_soon(self.events_added)


def _done(judged: Sequence[Judged]) -> list[outbox.Delivery]:
    return [one.delivery for one, step in judged if step.fate is delivery.Fate.DONE]


async def _without_erased(tx: store.Transaction, judged: Sequence[Judged], stored: dict[int, str]) -> list[Judged]:
    """The attempts; those of erased persons without anything that was sent, answered or learned. `stored`: events that
    were looked at already."""
    if unseen := [one.delivery.seq for one, _ in judged if one.delivery.seq not in stored]:
        stored = stored | await outbox.payloads(tx, unseen)
    # Requests on pages are of no call, visitors of many: what is stored is compared.
    return [
        (one if stored.get(one.delivery.seq) == one.delivery.event.payload else bare(one), step) for one, step in judged
    ]


def bare(one: Ended, why: str = ERASED) -> Ended:
    """The attempt with its end alone: nothing that was sent, answered or learned is kept of it."""
    status = one.settled.status
    note = why if status is None else f"answered {status}; {why}"
    left = replace(one.settled, note=note, request="", response="", known={}, card=None, external_id=None)
    return replace(one, settled=left, is_bare=True)


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


def logged(target: str, one: Ended) -> targets.Logged:
    """The attempt, as it is kept with the target's last deliveries."""
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
