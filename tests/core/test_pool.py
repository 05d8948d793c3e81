"""The lease state machine (R96, R98-R101): examples first, then whatever hypothesis can think of, with two processes
that read, wait and write at their own pace."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from gateway.core import pool, poolmath
from gateway.core.pool import Exhausted, Freeze, FreezeMode, Grant, How, Slot, State, Terms

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND
HARD = Terms(freeze_seconds=360)
SOFT = replace(HARD, soft=True)


def numbers(count: int) -> list[Slot]:
    return [Slot(f"+7499000000{place}") for place in range(count)]


def granted(slots: list[Slot], visitor: str, at: float, terms: Terms = HARD, lease: str | None = None) -> Grant:
    """Ask `at` seconds after the beginning, and put the slot where it belongs."""
    found = pool.ask(slots, visitor, lease or f"{visitor}@{at:g}", NOW + round(at * SECOND), terms)
    assert isinstance(found, Grant)
    slots[[slot.number for slot in slots].index(found.slot.number)] = found.slot
    return found


def refused(slots: list[Slot], visitor: str, at: float, terms: Terms = HARD) -> Exhausted:
    found = pool.ask(slots, visitor, "none", NOW + round(at * SECOND), terms)
    assert isinstance(found, Exhausted)
    return found


def after(at: float) -> int:
    return NOW + round(at * SECOND)


# ---- Freeze ----


@pytest.mark.parametrize(
    ("freeze", "mean_stay", "seconds"),
    [
        (Freeze(), 300.0, 360.0),
        (Freeze(), None, 360.0),
        (Freeze(), 10.0, 60.0),
        (Freeze(), 90_000.0, 3_600.0),
        (Freeze(FreezeMode.WHOLE), 600.0, 120.0),
        (Freeze(FreezeMode.FIXED, fixed_seconds=500), 10.0, 500.0),
        (Freeze(FreezeMode.FIXED, fixed_seconds=5), 10.0, 60.0),
        (Freeze(min_seconds=5), 10.0, 12.0),
    ],
)
def test_the_freeze_is_the_mean_time_on_site_and_a_fifth_or_what_is_set(
    freeze: Freeze, mean_stay: float | None, seconds: float
) -> None:
    """R100, within the operator's bounds."""
    assert pool.terms(freeze, mean_stay).freeze_seconds == pytest.approx(seconds)
    assert pool.terms(replace(freeze, soft=True), mean_stay).soft


# ---- The way of a lease ----


def test_each_visitor_has_a_number_of_their_own() -> None:
    """R98."""
    slots = numbers(3)
    assert [granted(slots, visitor, 0).slot.number for visitor in "abc"] == [slot.number for slot in numbers(3)]
    assert refused(slots, "d", 0) == Exhausted(size=3, living=3, frozen=0, called=0)


def test_a_lease_is_living_then_frozen_then_free() -> None:
    """R99: beats of 30 s, the last at 60 s; living for 75 s after it, frozen for 360 s."""
    slots = numbers(1)
    lease = granted(slots, "anna", 0).slot.lease_id or ""
    for at in (30, 60):
        beaten = pool.beat(slots[0], lease, after(at), HARD)
        assert beaten is not None
        slots[0] = beaten
    states = {at: slots[0].state(after(at)) for at in (134.9, 135, 419.9, 420)}
    assert list(states.values()) == [State.LIVING, State.FROZEN, State.FROZEN, State.FREE]
    assert refused(slots, "boris", 419.9) == Exhausted(1, 0, 1, 0)
    found = granted(slots, "boris", 420)
    assert (found.how, found.ended and found.ended.seen_us) == (How.ISSUED, after(60))


def test_who_leaves_is_frozen_at_once_but_for_the_next_page() -> None:
    slots = numbers(1)
    lease = granted(slots, "anna", 0).slot.lease_id or ""
    left = pool.leave(slots[0], lease, after(100), HARD)
    assert left is not None
    assert [left.state(after(at)) for at in (109, 110, 459, 460)] == [
        *(State.LIVING, State.FROZEN, State.FROZEN, State.FREE)
    ]


def test_the_least_recently_used_number_goes_first() -> None:
    """Numbers never used before all others, then by the last sign of life, whatever the order of issue."""
    slots = numbers(3)
    first, second = granted(slots, "anna", 0), granted(slots, "boris", 1)
    beaten = pool.beat(first.slot, first.slot.lease_id or "", after(50), HARD)
    assert beaten is not None
    slots[0] = beaten
    assert granted(slots, "clara", 5_000).slot.number == slots[2].number
    assert granted(slots, "dmitri", 5_000).slot.number == second.slot.number
    assert granted(slots, "emma", 5_000).slot.number == first.slot.number


def test_who_comes_back_keeps_the_number() -> None:
    """R99: within the freeze the lease goes on; after it a new lease of the same number begins, if it is still idle."""
    slots = numbers(2)
    first = granted(slots, "anna", 0)
    kept = granted(slots, "anna", 300)
    assert (kept.how, kept.slot.lease_id, kept.slot.issued_us) == (How.KEPT, first.slot.lease_id, NOW)
    assert kept.ended is None
    back = granted(slots, "anna", 90_000)
    assert (back.how, back.slot.number, back.slot.lease_id) == (How.RETURNED, first.slot.number, "anna@90000")
    assert back.ended == kept.slot
    granted(slots, "boris", 90_001)
    granted(slots, "clara", 180_000)
    assert granted(slots, "anna", 180_001).slot.number == slots[1].number


def test_a_frozen_number_is_taken_softly_before_the_overflow_number() -> None:
    """The longest frozen one; that of a living visitor never."""
    slots = numbers(3)
    for visitor, at in (("anna", 0), ("boris", 20), ("clara", 200)):
        granted(slots, visitor, at)
    assert refused(slots, "dmitri", 210) == Exhausted(3, living=1, frozen=2, called=0)
    taken = granted(slots, "dmitri", 210, SOFT)
    assert (taken.how, taken.slot.number) == (How.TAKEN, "+74990000000")
    assert granted(slots, "emma", 210, SOFT).slot.number == "+74990000001"
    refused(slots, "frida", 210, SOFT)


def test_a_beat_after_the_number_went_on_is_told_so() -> None:
    slots = numbers(1)
    first = granted(slots, "anna", 0)
    granted(slots, "boris", 400)
    assert pool.beat(slots[0], first.slot.lease_id or "", after(401), HARD) is None
    assert pool.leave(slots[0], first.slot.lease_id or "", after(401), HARD) is None


def test_a_late_beat_wakes_a_lease_that_nobody_took() -> None:
    slots = numbers(1)
    first = granted(slots, "anna", 0)
    woken = pool.beat(slots[0], first.slot.lease_id or "", after(5_000), HARD)
    assert woken is not None and woken.state(after(5_000)) is State.LIVING


def test_a_number_is_not_reissued_while_a_call_is_up_or_fresh() -> None:
    """Its own visitor may have it back."""
    slots = numbers(1)
    granted(slots, "anna", 0)
    slots[0] = pool.call_seen(slots[0], after(419), HARD)
    assert slots[0].state(after(421)) is State.CALLED
    assert refused(slots, "boris", 421) == Exhausted(1, 0, 0, called=1)
    slots[0] = pool.with_calls(slots[0], 1, after(419), HARD)
    refused(slots, "boris", 9_000)
    refused(slots, "boris", 9_000, SOFT)
    slots[0] = pool.with_calls(slots[0], 0, after(9_000), HARD)
    refused(slots, "boris", 9_119)
    assert granted(list(slots), "anna", 9_119).how is How.RETURNED
    assert granted(list(slots), "boris", 9_120).how is How.ISSUED


def test_a_number_that_comes_back_to_its_visitor_keeps_its_call() -> None:
    """Else it went to somebody else once that visit's freeze is over, with the call still up."""
    slots = numbers(1)
    granted(slots, "anna", 0)
    slots[0] = pool.with_calls(slots[0], 1, after(10), HARD)
    assert granted(slots, "anna", 1_000).how is How.RETURNED
    assert refused(slots, "boris", 9_000) == Exhausted(1, 0, 0, called=1)


def test_calls_read_twice_change_nothing() -> None:
    slot = pool.with_calls(numbers(1)[0], 0, NOW, HARD)
    assert pool.with_calls(slot, 0, NOW, HARD) is slot
    up = pool.with_calls(slot, 2, after(5), HARD)
    assert pool.with_calls(up, 2, after(5), HARD) is up
    announced = pool.call_seen(slot, after(100), HARD)
    assert pool.with_calls(announced, 0, after(50), HARD).call_until_us == after(220)


def test_after_an_outage_the_freeze_begins_anew_for_those_who_lived() -> None:
    """attribution.md 2.5: beats that nobody took are not held against a visitor."""
    slots = numbers(3)
    granted(slots, "anna", 0)
    granted(slots, "boris", 100)
    back = [pool.after_outage(slot, after(110), after(1_000), HARD) for slot in slots]
    assert [slot.state(after(1_001)) for slot in back] == [State.FREE, State.LIVING, State.FREE]
    assert back[1].held_until_us == after(1_360)
    assert back[0] is slots[0] and back[2] is slots[2]
    assert pool.after_outage(slots[1], after(110), after(111), HARD).living_until_us >= slots[1].living_until_us


def test_a_clock_that_steps_back_shortens_nothing() -> None:
    slots = numbers(1)
    lease = granted(slots, "anna", 1_000).slot.lease_id or ""
    for change in (pool.beat, pool.leave):
        changed = change(slots[0], lease, after(10), HARD)
        assert changed is not None
        assert (changed.seen_us, changed.held_until_us) == (after(1_000), after(1_360))


def test_an_exhausted_pool_says_which_size_would_do() -> None:
    """R96, R101."""
    found = Exhausted(size=11, living=6, frozen=5, called=0)
    assert pool.would_do(found, poolmath.Demand(1, 5, 6)) == 19
    assert pool.would_do(found, poolmath.Demand(1, 5, 6), 0.001) == 23
    assert pool.would_do(found, poolmath.Demand(0, 5, 6)) == 19
    assert pool.would_do(Exhausted(40, 0, 0, 0), poolmath.Demand(1, 5, 6)) == 41


# ---- Anything at all ----

times = some.integers(0, 2_000)
marks = some.sampled_from([0, 1, 99, 100, 101, 500, 2_000]).map(lambda seconds: NOW + seconds * SECOND)
slots_of_any_kind = some.lists(
    some.builds(
        Slot,
        number=some.integers(10_000_000, 99_999_999).map(lambda digits: f"+7{digits}"),
        lease_id=some.just("lease"),
        visitor_id=some.sampled_from("abcdefgh"),
        living_until_us=marks,
        held_until_us=marks,
        used_us=some.integers(0, 5),
        call_until_us=marks,
    ).map(lambda slot: replace(slot, held_until_us=max(slot.held_until_us, slot.living_until_us))),
    max_size=7,
    unique_by=(lambda slot: slot.number, lambda slot: slot.visitor_id),
)


@given(slots_of_any_kind, some.sampled_from("ahz"), some.booleans())
def test_three_rows_are_enough(slots: list[Slot], visitor: str, soft: bool) -> None:
    """What the module tells a store to read gives what the whole pool gives."""
    now, terms = after(100), replace(HARD, soft=soft)

    def first(rows: list[Slot]) -> list[Slot]:
        return sorted(rows, key=lambda slot: (slot.used_us, slot.number))[:1]

    rows = [slot for slot in slots if slot.visitor_id == visitor]
    rows += first([slot for slot in slots if slot.held_until_us <= now and slot.call_until_us <= now])
    rows += first([slot for slot in slots if slot.living_until_us <= now and slot.call_until_us <= now])
    whole, part = (pool.ask(known, visitor, "new", now, terms) for known in (slots, rows))
    assert isinstance(whole, Exhausted) == isinstance(part, Exhausted)
    assert isinstance(whole, Exhausted) or whole == part


@dataclass
class Seen:
    """What a visitor's browser believes: this number is mine since then."""

    number: str
    lease_id: str
    sign_us: int
    living_until_us: int


@dataclass
class Store:
    """Rows under the conditional update that `gateway.core.pool` asks of a store."""

    rows: dict[str, Slot] = field(default_factory=dict)

    def write(self, grant: Grant) -> bool:
        row = self.rows[grant.slot.number]
        taken = any(
            other.visitor_id == grant.slot.visitor_id and number != grant.slot.number
            for number, other in self.rows.items()
        )
        if row.generation != grant.expected_generation or taken:
            return False
        self.rows[row.number] = grant.slot
        return True


@dataclass(frozen=True)
class Intention:
    """A process has read and decided; it has not written yet."""

    visitor: str
    lease_id: str
    now_us: int
    grant: Grant
    rows: dict[str, Slot]


class TwoProcesses(RuleBasedStateMachine):
    """Visitors come, beat, leave and call; grants are decided on one state of the store and written on another."""

    intentions: Bundle[Intention] = Bundle("intentions")

    @initialize(size=some.integers(1, 3), soft=some.booleans(), freeze=some.sampled_from([10, 90, 360]))
    def open(self, size: int, soft: bool, freeze: int) -> None:
        self.now = NOW
        self.terms = Terms(freeze_seconds=freeze, soft=soft)
        self.store = Store({slot.number: slot for slot in numbers(size)})
        self.seen: dict[str, Seen] = {}
        self.leases = 0
        self.calls_up: set[str] = set()
        self.fresh_until: dict[str, int] = {}

    def believes_living(self, visitor: str) -> bool:
        seen = self.seen.get(visitor)
        return seen is not None and seen.living_until_us > self.now

    @rule(target=intentions, visitor=some.sampled_from("abcde"))
    def ask(self, visitor: str) -> Intention | MultipleResults[Intention]:
        self.leases += 1
        rows = dict(self.store.rows)
        found = pool.ask(rows.values(), visitor, f"lease-{self.leases}", self.now, self.terms)
        if isinstance(found, Grant):
            return Intention(visitor, f"lease-{self.leases}", self.now, found, rows)
        assert found.size == found.held + sum(slot.state(self.now) is State.FREE for slot in rows.values())
        assert found.held == found.size
        if self.terms.soft:
            assert all(slot.living_until_us > self.now or slot.call_until_us > self.now for slot in rows.values())
        return multiple()

    @rule(intention=consumes(intentions))
    def write(self, intention: Intention) -> None:
        """Maybe long after it was decided; the row may have changed since."""
        grant = intention.grant
        before = self.store.rows[grant.slot.number]
        if not self.store.write(grant):
            return
        assert before == intention.rows[grant.slot.number]
        self.check_the_right_one_went(intention)
        for visitor, seen in list(self.seen.items()):
            if seen.number == grant.slot.number and visitor != intention.visitor:
                assert seen.living_until_us <= intention.now_us, "taken from a living visitor"
                if not self.terms.soft:
                    assert seen.sign_us + round(self.terms.freeze_seconds * SECOND) <= intention.now_us
                del self.seen[visitor]
        if grant.how in (How.ISSUED, How.TAKEN):
            assert grant.slot.number not in self.calls_up, "a call was up"
            assert self.fresh_until.get(grant.slot.number, 0) <= intention.now_us, "a call was fresh"
        self.seen[intention.visitor] = Seen(
            grant.slot.number, grant.slot.lease_id or "", intention.now_us, grant.slot.living_until_us
        )

    def check_the_right_one_went(self, intention: Intention) -> None:
        grant, rows = intention.grant, intention.rows
        own = [slot for slot in rows.values() if slot.visitor_id == intention.visitor]
        if own:
            assert grant.slot.number == own[0].number, "sticky"
            assert grant.how in (How.KEPT, How.RETURNED)
            return
        free = [
            slot
            for slot in rows.values()
            if slot.state(intention.now_us) is State.FREE and slot.call_until_us <= intention.now_us
        ]
        if grant.how is How.ISSUED:
            assert rows[grant.slot.number].used_us == min(slot.used_us for slot in free), "least recently used"
        else:
            assert grant.how is How.TAKEN and self.terms.soft and not free

    @rule(visitor=some.sampled_from("abcde"), says=some.sampled_from(["beat", "leave"]))
    def sign(self, visitor: str, says: str) -> None:
        seen = self.seen.get(visitor)
        if seen is None:
            return
        change = pool.beat if says == "beat" else pool.leave
        row = self.store.rows[seen.number]
        changed = change(row, seen.lease_id, self.now, self.terms)
        if changed is None:
            assert row.visitor_id != visitor or row.lease_id != seen.lease_id
            assert not self.believes_living(visitor)
            del self.seen[visitor]
            return
        assert changed.generation == row.generation + 1
        self.store.rows[seen.number] = changed
        self.seen[visitor] = replace(seen, sign_us=self.now, living_until_us=changed.living_until_us)

    @rule(place=some.integers(0, 2), what=some.sampled_from(["announced", "up", "over"]))
    def call(self, place: int, what: str) -> None:
        number = sorted(self.store.rows)[place % len(self.store.rows)]
        row = self.store.rows[number]
        fresh = self.now + round(self.terms.call_seconds * SECOND)
        if what == "announced":
            row = pool.call_seen(row, self.now, self.terms)
            self.fresh_until[number] = max(self.fresh_until.get(number, 0), fresh)
        elif what == "up":
            row = pool.with_calls(row, 1, self.now, self.terms)
            self.calls_up.add(number)
        elif number in self.calls_up:
            row = pool.with_calls(row, 0, self.now, self.terms)
            self.calls_up.discard(number)
            self.fresh_until[number] = max(self.fresh_until.get(number, 0), fresh)
        self.store.rows[number] = row

    @rule(seconds=some.sampled_from([1, 9, 30, 76, 121, 361, 5_000]))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @rule(seconds=some.sampled_from([1, 100, 1_000]))
    def outage(self, seconds: int) -> None:
        stopped, self.now = self.now, self.now + seconds * SECOND
        for number, row in self.store.rows.items():
            back = pool.after_outage(row, stopped, self.now, self.terms)
            assert back.held_until_us >= row.held_until_us and back.living_until_us >= row.living_until_us
            self.store.rows[number] = back
            for seen in self.seen.values():
                if (seen.number, seen.lease_id) == (number, back.lease_id) and seen.living_until_us > stopped:
                    seen.living_until_us = back.living_until_us

    @invariant()
    def a_call_that_is_up_is_known(self) -> None:
        rows = [self.store.rows[number] for number in getattr(self, "calls_up", ())]
        assert all(row.call_until_us == pool.ALWAYS_US for row in rows)

    @invariant()
    def no_number_has_two_living_visitors(self) -> None:
        held = [self.seen[visitor].number for visitor in getattr(self, "seen", {}) if self.believes_living(visitor)]
        assert len(held) == len(set(held))

    @invariant()
    def no_visitor_has_two_numbers(self) -> None:
        rows = self.store.rows.values() if hasattr(self, "store") else ()
        visitors = [slot.visitor_id for slot in rows if slot.visitor_id is not None]
        assert len(visitors) == len(set(visitors))


TestTwoProcesses = TwoProcesses.TestCase
TestTwoProcesses.settings = settings(max_examples=200, stateful_step_count=40)
