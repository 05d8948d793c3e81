"""The outbox: events written in the transaction of the call they tell of, and their delivery to each target.

    pending ──claim──▶ claimed ──settle──▶ done
       ▲                 │  └──fail(None)─▶ dead
       └──fail / lease over┘

A target gets the events of one call in order: the next is not claimable before the older one is done or dead. A
claim is a lease; a process that dies leaves nothing behind but a lease that runs out, and the event goes again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway import store


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `event_id` is fixed by what happened (UUIDv5), so that it is inserted once whatever is re-read."""

    event_id: str
    type: str
    created_us: int
    payload: str
    """JSON text."""
    call_id: str | None = None
    revision: int | None = None
    late: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """One claimed event for one target. `claim` proves the claim in `extend`, `settle` and `fail`."""

    event: Event
    seq: int
    """Grows with each event of the database; has gaps."""
    target: str
    attempts: int
    """This one included."""
    claim: str


async def add(tx: store.Transaction, events: Sequence[Event], targets: Collection[str]) -> int:
    """Writes events with a delivery to each target; events already there are left alone. Returns how many were new.

    Order in `events` is the order of delivery. `targets` are names like `jsonl` or `webhook:crm`; may be empty.
    """
    raise NotImplementedError


async def claim(tx: store.Transaction, target: str, *, limit: int, now_us: int, lease_us: int) -> list[Delivery]:
    """Claims what is due for a target, oldest first, at most one event of each call. Commit before delivering."""
    raise NotImplementedError


async def extend(tx: store.Transaction, delivery: Delivery, *, until_us: int) -> bool:
    """Prolongs the lease. False: the claim was lost to another process; stop delivering."""
    raise NotImplementedError


async def settle(tx: store.Transaction, deliveries: Sequence[Delivery], *, now_us: int) -> int:
    """Marks claimed deliveries done. Returns how many of the claims still held."""
    raise NotImplementedError


async def fail(tx: store.Transaction, delivery: Delivery, *, error: str, now_us: int, next_at_us: int | None) -> bool:
    """Gives a claim back to be tried again at `next_at_us`, or for good with None (dead letter). False: claim lost.

    `error` is kept for people, cut to 500 characters.
    """
    raise NotImplementedError


async def pending_count(connection: store.Connection, target: str | None = None) -> int:
    """Deliveries neither done nor dead, of one target or of all."""
    raise NotImplementedError


async def oldest_pending(connection: store.Connection, target: str | None = None) -> int | None:
    """`created_us` of the oldest event neither done nor dead."""
    raise NotImplementedError


async def after(connection: store.Connection, seq: int, *, limit: int = 100) -> list[tuple[int, Event]]:
    """Events behind a sequence number, in order, each with its own: for followers like `calls tail`."""
    raise NotImplementedError


async def prune(tx: store.Transaction, *, before_us: int, limit: int = 10_000) -> int:
    """Deletes up to `limit` events created before `before_us` of which no delivery is pending; returns how many."""
    raise NotImplementedError
