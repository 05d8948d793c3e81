"""The lease state machine of one number pool (R96, R98-R101): who holds which number, until when, and who is next.

A **slot** is one number of the pool with its last lease. It goes round:

```
        asked                     no sign of life             freeze over
 FREE ────────▶ LIVING ─────────────────────────▶ FROZEN ─────────────────▶ FREE
                 ▲ │ beat, page view, asked again    │ asked again by the same visitor, beat
                 │ └──▶ LIVING                       └──▶ LIVING
                 └──── FREE: the same visitor comes back and nobody else has the number
 CALLED: a call is up on the number or a moment old. The slot goes to nobody but its own visitor.
```

What always holds: a number has at most one living visitor; a visitor has at most one number of a pool; a number goes
to another visitor only when it is FREE (or, with a soft freeze and nothing free, FROZEN), the one not used for longest
first; never while CALLED. Nothing free: the visitor is shown the overflow number.

**For a store** (two processes, SQLite or PostgreSQL; one row per slot, keyed by pool and number):

- *Ask.* Read three rows at most: the visitor's own, the first free and the first frozen one
  (`held_until_us <= now AND call_until_us <= now`, or `living_until_us <= now AND call_until_us <= now`, each
  `ORDER BY used_us, number LIMIT 1`, on PostgreSQL `FOR UPDATE SKIP LOCKED`). `ask` over these gives what it gives
  over the whole pool. Write its grant by `UPDATE … SET (all of grant.slot) WHERE pool = … AND number = … AND
  generation = grant.expected_generation`. No row changed: somebody was faster; read and ask again. A unique index on
  (pool, visitor_id) makes two tabs of one visitor the same case. In the same transaction the ended lease gets its
  last `seen_us` and a new one its row, so that history is never short of a holder.
- *Beat, leave.* Read by `lease_id`, `beat` or `leave`, write under the same condition. No such row: the number is
  somebody else's by now, and the visitor has to ask. `give_back` takes the lease off the slot when its number was
  never on a page: its row of history goes, since nobody can have called by it.
- *Calls.* `call_seen` when the router is asked (at once), `with_calls` from the tracker's transaction, which knows
  every call and may run twice.
- *Start.* `after_outage` over the pool: beats that nobody could take are not held against a visitor.

Numbers that left the pool are not passed to `ask` any more and their `visitor_id` is emptied; their leases stay.
Times are microseconds UTC. A clock that steps back never shortens a lease.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.core import poolmath

FREEZE_FACTOR = 1.2
"""Freeze = visitor's time on site + 20 % (R100)."""

UNKNOWN_STAY_SECONDS = 300.0
"""Mean time on site of a site that has no visits yet."""

NAVIGATION_SECONDS = 10
"""A page that is left for the next page of the site says goodbye too; so long the visitor still counts as living."""

SECOND_US = 1_000_000

ALWAYS_US = 2**62
"""Later than any time: a call is up."""


class State(StrEnum):
    """Where a slot stands at a moment."""

    FREE = "free"
    LIVING = "living"
    FROZEN = "frozen"
    CALLED = "called"
    """Free of its visitor, but a call is up or fresh."""


class FreezeMode(StrEnum):
    """How long a number is kept after the last sign of life."""

    AUTO = "auto"
    """1.2 × the site's mean time on site."""
    WHOLE = "whole"
    """1.2 × the mean time on site for the whole lease: what an average visitor has stayed is taken off."""
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Freeze:
    """A pool's freeze as its operator sets it."""

    mode: FreezeMode = FreezeMode.AUTO
    fixed_seconds: float = 360.0
    soft: bool = False
    """A frozen number of a visitor who has left is issued before the overflow number is shown."""
    min_seconds: float = 60.0
    max_seconds: float = 3_600.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What a pool goes by just now; made anew when the mean time on site is."""

    freeze_seconds: float
    soft: bool = False
    living_seconds: float = 75.0
    """So long after a beat a visitor counts as living: two and a half beats of 30 s, so that one may be lost."""
    call_seconds: float = 120.0
    """A number is not re-issued so soon after a call (attribution.md 2.5)."""

    @property
    def promised_seconds(self) -> float:
        """For so long after a sign of life nobody else has the number, even if nothing more is heard."""
        return self.living_seconds if self.soft else max(self.living_seconds, self.freeze_seconds)


@dataclass(frozen=True, slots=True)
class Slot:
    """One number of a pool. All times are microseconds UTC; 0 = never."""

    number: str
    """E.164 with `+`."""
    lease_id: str | None = None
    visitor_id: str | None = None
    issued_us: int = 0
    seen_us: int = 0
    """Last sign of life of the lease's visitor."""
    living_until_us: int = 0
    """Without another sign, the visitor counts as gone from here."""
    held_until_us: int = 0
    """End of the freeze; never before `living_until_us`."""
    used_us: int = 0
    """Last sign of life or call: the order in which numbers are issued."""
    call_until_us: int = 0
    generation: int = 0
    """Counts the changes; what a conditional update compares."""

    def state(self, now_us: int) -> State:
        """Where the slot stands at `now_us`."""
        if self.living_until_us > now_us:
            return State.LIVING
        if self.held_until_us > now_us:
            return State.FROZEN
        return State.CALLED if self.call_until_us > now_us else State.FREE


class How(StrEnum):
    """By what a visitor has the number."""

    KEPT = "kept"
    """The lease goes on: another page, another tab, or back within the freeze (R99)."""
    RETURNED = "returned"
    """A new lease of the same number, which nobody else had since."""
    ISSUED = "issued"
    TAKEN = "taken"
    """From the freeze of a visitor who has left (soft)."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A number for a visitor, once a store has written `slot` over the row of `expected_generation`."""

    how: How
    slot: Slot
    expected_generation: int
    ended: Slot | None = None
    """The slot as it was, when a lease ends by this grant."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """No number for this visitor: the overflow number is shown (R96), and somebody should know."""

    size: int
    living: int
    frozen: int
    called: int

    @property
    def held(self) -> int:
        """Numbers that were not to be had."""
        return self.living + self.frozen + self.called


def terms(freeze: Freeze, mean_stay_seconds: float | None, living_seconds: float = 75.0) -> Terms:
    """What a pool goes by. `mean_stay_seconds`: time on site over the last 28 days, None without visits (R100)."""
    stay = mean_stay_seconds if mean_stay_seconds is not None else UNKNOWN_STAY_SECONDS
    wanted = {
        FreezeMode.AUTO: FREEZE_FACTOR * stay,
        FreezeMode.WHOLE: (FREEZE_FACTOR - 1) * stay,
        FreezeMode.FIXED: freeze.fixed_seconds,
    }[freeze.mode]
    seconds = max(freeze.min_seconds, min(wanted, freeze.max_seconds))
    return Terms(seconds, freeze.soft, living_seconds)


def ask(slots: Iterable[Slot], visitor_id: str, lease_id: str, now_us: int, terms: Terms) -> Grant | Exhausted:
    """A number for `visitor_id`: the one they have or had, else the least recently used. `lease_id` is new, and used
    when a lease begins. Nothing is changed: a grant holds only once it is written under its condition."""
    known = list(slots)
    own = next((slot for slot in known if slot.visitor_id == visitor_id), None)
    if own is not None:
        return _back(own, lease_id, now_us, terms)
    for can_have in (_is_free, _is_taken_softly) if terms.soft else (_is_free,):
        ready = [slot for slot in known if can_have(slot, now_us)]
        if ready:
            chosen = min(ready, key=lambda slot: (slot.used_us, slot.number))
            how = How.ISSUED if can_have is _is_free else How.TAKEN
            return _begin(how, chosen, visitor_id, lease_id, now_us, terms)
    return exhausted(known, now_us)


def exhausted(slots: Iterable[Slot], now_us: int) -> Exhausted:
    """How the pool stands, for the alarm. Of all its slots, not of the three that `ask` needs."""
    states = [slot.state(now_us) for slot in slots]
    return Exhausted(len(states), *(states.count(state) for state in (State.LIVING, State.FROZEN, State.CALLED)))


def would_do(found: Exhausted, demand: poolmath.Demand, overflow_share: float = poolmath.USUAL_OVERFLOW_SHARE) -> int:
    """The pool size that would show the overflow number to at most `overflow_share` of visitors.

    `demand` is that of the busiest hour; what is held just now is believed when it is more. Always more than there are.
    """
    # Of a flood of visits the largest size there is: it is told within the transaction that lends.
    load = min(max(demand.erlangs, float(found.held)), poolmath.MAX_NUMBERS / 2)
    return max(found.size + 1, poolmath.numbers_needed(load, overflow_share))


def beat(slot: Slot, lease_id: str, now_us: int, terms: Terms) -> Slot | None:
    """The slot after a sign of life; None when the lease has ended and the visitor must ask again.

    A late sign wakes a lease whose freeze is over, as long as nobody else has the number.
    """
    if slot.lease_id != lease_id:
        return None
    now_us = max(now_us, slot.seen_us)
    living = max(slot.living_until_us, now_us + _us(terms.living_seconds))
    return replace(
        slot,
        seen_us=now_us,
        living_until_us=living,
        held_until_us=max(slot.held_until_us, living, now_us + _us(terms.freeze_seconds)),
        used_us=max(slot.used_us, now_us),
        generation=slot.generation + 1,
    )


def leave(slot: Slot, lease_id: str, now_us: int, terms: Terms) -> Slot | None:
    """The slot after its visitor said goodbye: frozen at once, but for the moment that the next page needs. None as
    for `beat`."""
    if slot.lease_id != lease_id:
        return None
    now_us = max(now_us, slot.seen_us)
    living = now_us + _us(min(NAVIGATION_SECONDS, terms.living_seconds))
    return replace(
        slot,
        seen_us=now_us,
        living_until_us=living,
        held_until_us=max(living, now_us + _us(terms.freeze_seconds)),
        used_us=max(slot.used_us, now_us),
        generation=slot.generation + 1,
    )


def give_back(slot: Slot, lease_id: str, now_us: int, terms: Terms) -> Slot | None:
    """The slot after its number came too late to be shown: free at once, and no lease, if this was all of it. A lease
    that was alive before or since is left as by a goodbye. None as for `beat`."""
    if slot.lease_id != lease_id or slot.seen_us > slot.issued_us:
        return leave(slot, lease_id, now_us, terms)
    return replace(slot, lease_id=None, living_until_us=now_us, held_until_us=now_us, generation=slot.generation + 1)


def call_seen(slot: Slot, now_us: int, terms: Terms) -> Slot:
    """The slot when the router is asked about a call to its number: the journal's word comes a little later."""
    return _called(slot, max(slot.call_until_us, now_us + _us(terms.call_seconds)), now_us)


def with_calls(slot: Slot, open_calls: int, last_us: int, terms: Terms) -> Slot:
    """The slot as the records have it: how many calls to its number are up, and when the last one began or ended.

    A function of facts, so reading the journal twice changes nothing; a call that only the router knows yet is kept.
    """
    if open_calls:
        return _called(slot, ALWAYS_US, last_us)
    announced = slot.call_until_us if slot.call_until_us < ALWAYS_US else 0
    return _called(slot, max(announced, last_us + _us(terms.call_seconds)), last_us)


def after_outage(slot: Slot, stopped_us: int, now_us: int, terms: Terms) -> Slot:
    """The slot when the gateway is back: a visitor who lived when it stopped could not beat, so the freeze begins now.

    `stopped_us`: when a beat was last taken, at the latest. Only lengthens leases; another process may be at work.
    """
    if slot.lease_id is None or slot.living_until_us <= stopped_us:
        return slot
    living = max(slot.living_until_us, now_us + _us(terms.living_seconds))
    held = max(slot.held_until_us, living, now_us + _us(terms.freeze_seconds))
    return replace(slot, living_until_us=living, held_until_us=held, generation=slot.generation + 1)


def _is_free(slot: Slot, now_us: int) -> bool:
    return slot.held_until_us <= now_us and slot.call_until_us <= now_us


def _is_taken_softly(slot: Slot, now_us: int) -> bool:
    return slot.living_until_us <= now_us and slot.call_until_us <= now_us


def _back(own: Slot, lease_id: str, now_us: int, terms: Terms) -> Grant:
    """To the visitor whose number it is or was: nobody else's call or freeze is in the way."""
    assert own.visitor_id is not None
    if own.lease_id is None or own.held_until_us <= now_us:
        return _begin(How.RETURNED, own, own.visitor_id, lease_id, now_us, terms)
    kept = beat(own, own.lease_id, now_us, terms)
    assert kept is not None
    return Grant(How.KEPT, kept, own.generation)


def _begin(how: How, slot: Slot, visitor_id: str, lease_id: str, now_us: int, terms: Terms) -> Grant:
    living = now_us + _us(terms.living_seconds)
    fresh = Slot(
        number=slot.number,
        lease_id=lease_id,
        visitor_id=visitor_id,
        issued_us=now_us,
        seen_us=now_us,
        living_until_us=living,
        held_until_us=max(living, now_us + _us(terms.freeze_seconds)),
        used_us=max(slot.used_us, now_us),
        call_until_us=slot.call_until_us,
        generation=slot.generation + 1,
    )
    return Grant(how, fresh, slot.generation, slot if slot.lease_id is not None else None)


def _called(slot: Slot, until_us: int, last_us: int) -> Slot:
    used = max(slot.used_us, last_us)
    if (until_us, used) == (slot.call_until_us, slot.used_us):
        return slot
    return replace(slot, call_until_us=until_us, used_us=used, generation=slot.generation + 1)


def _us(seconds: float) -> int:
    return round(seconds * SECOND_US)
