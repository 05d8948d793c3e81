"""Leases of pool numbers: the contract of `gateway.core.pool` on both engines, in batches.

A slot is a row of `pool_numbers`; a row of `leases` is its holder in history. Writers of a transaction come one after
the other: on SQLite by `BEGIN IMMEDIATE`, on PostgreSQL by an advisory lock, so that batches never wait for each other
crosswise. Each row is still written only if nobody has changed it since it was read (`generation`); should anybody have
written without the lock, `Overtaken` rolls the batch back, and it is done again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from typing import Any

from sqlalchemy import Row, bindparam, case, delete, func, select, text, update

from gateway import store
from gateway.core import delays, matching, pool, webbook
from gateway.core.pool import Slot
from gateway.store import poolschema, statements

_SLOTS, _LEASES, _STATES = poolschema.pool_numbers, poolschema.leases, poolschema.pool_states

SECOND_US = 1_000_000

_LOCK = 0x6469616C6C656173
"""PostgreSQL advisory lock of everybody who changes leases ("dialleas")."""
_LOCK_IT = text("SELECT pg_advisory_xact_lock(:key)")


class Overtaken(store.StoreUnavailable):
    """A slot was changed by another process between reading and writing: nothing was written, do it again."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A visitor wants a number of a pool. `lease_id` is new, for the case that a lease begins."""

    pool: str
    visitor_id: str
    lease_id: str
    at_us: int
    is_new: bool = False
    """The visitor's id was made just now: no number can be theirs."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A visitor's page lives, or says goodbye, or was never shown the number."""

    lease_id: str
    at_us: int
    leaves: bool = False
    was_shown: bool = True


Terms = Mapping[str, pool.Terms]
"""What each pool goes by; a pool that is missing here is treated as exhausted."""

_FIELDS = tuple(field.name for field in fields(Slot))
_values = attrgetter(*_FIELDS)
_COLUMNS = tuple(_SLOTS.c[name] for name in _FIELDS)
_SELECT = select(*_COLUMNS, _SLOTS.c.pool)
_WRITE = (
    update(_SLOTS)
    .where(_SLOTS.c.number == bindparam("b_number"), _SLOTS.c.generation == bindparam("b_generation"))
    .values({name: bindparam(name) for name in _FIELDS if name != "number"})
)
_END = update(_LEASES).where(_LEASES.c.lease_id == bindparam("b_lease")).values(gone_us=bindparam("at_us"))
_OWN = _SELECT.where(
    _SLOTS.c.pool == bindparam("of_pool"), _SLOTS.c.visitor_id.in_(bindparam("visitors", expanding=True))
)
_IN_TURN = (
    _SELECT.where(_SLOTS.c.pool == bindparam("of_pool"), _SLOTS.c.call_until_us <= bindparam("now_us"))
    .order_by(_SLOTS.c.used_us, _SLOTS.c.number)
    .limit(bindparam("most"))
)
_FREE = _IN_TURN.where(_SLOTS.c.held_until_us <= bindparam("now_us"))
_FROZEN = _IN_TURN.where(_SLOTS.c.living_until_us <= bindparam("now_us"))
_BY_LEASE = _SELECT.where(_SLOTS.c.lease_id.in_(bindparam("leases", expanding=True)))


async def lock(tx: store.Transaction) -> None:
    """Until the end of the transaction nobody else changes leases. Every writing function here does it first."""
    if tx.dialect.name != "sqlite":
        await tx.execute(_LOCK_IT, {"key": _LOCK})


async def grant(
    tx: store.Transaction, asked: Sequence[Ask], terms: Terms, *, beat_seconds: float = webbook.BEAT_SECONDS
) -> list[pool.Grant | pool.Exhausted]:
    """An answer to each question, in order; what was granted is written. Raises Overtaken."""
    await lock(tx)
    answers: dict[int, pool.Grant | pool.Exhausted] = {}
    changed: list[tuple[Slot, Slot]] = []
    for key in dict.fromkeys(one.pool for one in asked):
        places = [place for place, one in enumerate(asked) if one.pool == key]
        found = await _of_pool(tx, key, [asked[place] for place in places], terms.get(key), changed)
        answers |= dict(zip(places, found, strict=True))
    await _write(tx, changed)
    begun = [
        (one.pool, answer)
        for place, one in enumerate(asked)
        if isinstance(answer := answers[place], pool.Grant) and answer.how is not pool.How.KEPT
    ]
    await _keep_history(tx, begun, beat_seconds)
    # How a pool stands counts what was just lent.
    short = {one.pool: one.at_us for place, one in enumerate(asked) if isinstance(answers[place], pool.Exhausted)}
    stands = {key: await standing(tx, key, at_us) for key, at_us in short.items()}
    return [
        stands.get(one.pool, answer) if isinstance(answer := answers[place], pool.Exhausted) else answer
        for place, one in enumerate(asked)
    ]


async def peek(connection: store.Connection, key: str, now_us: int, terms: Terms) -> str | None:
    """The number that the next new visitor would be granted; None: the overflow number. Changes nothing."""
    if key not in terms:
        return None
    asked = [Ask(key, "", "", now_us)]
    slots = await _candidates(connection, key, asked, now_us, is_soft=terms[key].soft)
    found = pool.ask(slots.values(), "", "", now_us, terms[key])
    return found.slot.number if isinstance(found, pool.Grant) else None


async def _of_pool(
    tx: store.Transaction,
    key: str,
    asked: Sequence[Ask],
    terms: pool.Terms | None,
    changed: list[tuple[Slot, Slot]],
) -> list[pool.Grant | pool.Exhausted]:
    """What is granted is appended to `changed`, with what was read. Exhausted: not yet as the pool stands."""
    if terms is None:
        return [pool.Exhausted(0, 0, 0, 0)] * len(asked)
    now_us = max(one.at_us for one in asked)
    slots = await _candidates(tx, key, asked, now_us, is_soft=terms.soft)
    read = dict(slots)
    turns = _Turns(slots, now_us)
    # In the order of granting: a visitor whose idle number goes to another is off that row before they enter a new one.
    granted: dict[str, Slot] = {}
    answers: list[pool.Grant | pool.Exhausted] = []
    for one in asked:
        found = pool.ask(turns.of(one.visitor_id), one.visitor_id, one.lease_id, now_us, terms)
        if isinstance(found, pool.Grant):
            turns.take(found.slot)
            granted[found.slot.number] = found.slot
        answers.append(found)
    changed += [(read[number], slot) for number, slot in granted.items()]
    return answers


class _Turns:
    """The rows that `core.pool` asks for, of those that were read: the visitor's own, the first free and the first
    frozen one. Numbers are only ever taken, so that the first in turn is looked for no further back."""

    def __init__(self, slots: dict[str, Slot], now_us: int) -> None:
        self._slots = slots
        self._now_us = now_us
        self._own = {slot.visitor_id: number for number, slot in slots.items()}
        self._turn = sorted(slots, key=lambda number: (slots[number].used_us, number))
        self._free = self._frozen = 0

    def of(self, visitor_id: str) -> list[Slot]:
        """Three at most."""
        while self._free < len(self._turn) and not self._is_to_be_had(self._free, is_soft=False):
            self._free += 1
        while self._frozen < len(self._turn) and not self._is_to_be_had(self._frozen, is_soft=True):
            self._frozen += 1
        wanted = {*self._turn[self._free : self._free + 1], *self._turn[self._frozen : self._frozen + 1]}
        if visitor_id in self._own:
            wanted.add(self._own[visitor_id])
        return [self._slots[number] for number in wanted]

    def take(self, slot: Slot) -> None:
        """The slot as it was granted."""
        self._own[slot.visitor_id] = slot.number
        self._slots[slot.number] = slot

    def _is_to_be_had(self, place: int, *, is_soft: bool) -> bool:
        slot = self._slots[self._turn[place]]
        held_us = slot.living_until_us if is_soft else slot.held_until_us
        return held_us <= self._now_us and slot.call_until_us <= self._now_us


async def _candidates(
    connection: store.Connection, key: str, asked: Sequence[Ask], now_us: int, *, is_soft: bool
) -> dict[str, Slot]:
    """The visitors' own slots, and as many free and frozen ones as could be wanted, each first in its turn."""
    visitors = list({one.visitor_id for one in asked if not one.is_new})
    found: dict[str, Slot] = {}
    if visitors:
        rows = await connection.execute(_OWN, {"of_pool": key, "visitors": visitors})
        found = {row.number: _slot(row) for row in rows}
    wanted = {"of_pool": key, "now_us": now_us, "most": len(asked) + len(found)}
    for statement in (_FREE, _FROZEN) if is_soft else (_FREE,):
        for row in await connection.execute(statement, wanted):
            found.setdefault(row.number, _slot(row))
    return found


async def _write(tx: store.Transaction, changed: Sequence[tuple[Slot, Slot]]) -> None:
    """Each slot over what was read of it."""
    if not changed:
        return
    rows = [
        {**dict(zip(_FIELDS, _values(slot), strict=True)), "b_number": slot.number, "b_generation": read.generation}
        for read, slot in changed
    ]
    written = await tx.execute(_WRITE, rows)
    if written.rowcount != len(rows):
        raise Overtaken


async def _keep_history(tx: store.Transaction, begun: Sequence[tuple[str, pool.Grant]], beat_seconds: float) -> None:
    rows = [
        {
            "lease_id": one.slot.lease_id,
            "pool": key,
            "number": one.slot.number,
            "visitor_id": one.slot.visitor_id,
            "issued_us": one.slot.issued_us,
            "gone_us": None,
        }
        for key, one in begun
    ]
    await statements.insert_new(tx, _LEASES, rows)
    await _end(tx, [one.ended for _, one in begun if one.ended is not None], beat_seconds)


async def _end(tx: store.Transaction, ended: Sequence[Slot], beat_seconds: float) -> None:
    rows = [{"b_lease": slot.lease_id, "at_us": gone_us(slot, beat_seconds)} for slot in ended if slot.lease_id]
    if rows:
        await tx.execute(_END, rows)


def gone_us(slot: Slot, beat_seconds: float = webbook.BEAT_SECONDS) -> int:
    """When the slot's visitor left: at the goodbye, or a beat after the last sign of life."""
    rest = slot.living_until_us - slot.seen_us
    if rest <= pool.NAVIGATION_SECONDS * SECOND_US:
        return slot.seen_us
    return min(slot.living_until_us, slot.seen_us + round(beat_seconds * SECOND_US))


async def standing(connection: store.Connection, key: str, now_us: int) -> pool.Exhausted:
    """How a pool stands: how many of its numbers are living, frozen, called."""
    living = _SLOTS.c.living_until_us > now_us
    held = _SLOTS.c.held_until_us > now_us
    called = _SLOTS.c.call_until_us > now_us
    count = func.count()
    query = select(
        count,
        func.coalesce(func.sum(case((living, 1), else_=0)), 0),
        func.coalesce(func.sum(case((held & ~living, 1), else_=0)), 0),
        func.coalesce(func.sum(case((called & ~held & ~living, 1), else_=0)), 0),
    ).where(_SLOTS.c.pool == key)
    row = (await connection.execute(query)).one()
    return pool.Exhausted(*(int(value) for value in row))


async def keep_alive(tx: store.Transaction, signs: Iterable[Sign], terms: Terms, *, now_us: int) -> set[str]:
    """Takes beats and goodbyes. Returns the leases that have ended: their visitors must ask again. Raises Overtaken."""
    latest: dict[str, list[Sign]] = {}
    for sign in signs:
        latest.setdefault(sign.lease_id, []).append(sign)
    await lock(tx)
    changed: list[tuple[Slot, Slot]] = []
    lost = set(latest)
    pools: set[str] = set()
    for chunk in statements.chunks(list(latest)):
        for row in await tx.execute(_BY_LEASE, {"leases": list(chunk)}):
            read = _slot(row)
            its_terms = terms.get(row.pool or "")
            slot = _signed(read, latest[row.lease_id], its_terms) if its_terms is not None else None
            if slot is not None:
                lost.discard(row.lease_id)
                pools.add(row.pool)
                changed.append((read, slot))
    await _write(tx, changed)
    unshown = [read.lease_id for read, slot in changed if slot.lease_id is None]
    if unshown:
        await tx.execute(delete(_LEASES).where(_LEASES.c.lease_id.in_(unshown)))
    await note_beat(tx, pools, now_us)
    return lost


def _signed(slot: Slot, signs: Sequence[Sign], terms: pool.Terms) -> Slot | None:
    read: Slot | None = slot
    for sign in sorted(signs, key=lambda sign: sign.at_us):
        if read is None or read.lease_id is None:
            break
        take = pool.beat if not sign.leaves else pool.leave if sign.was_shown else pool.give_back
        read = take(read, sign.lease_id, sign.at_us, terms)
    return read


async def note_beat(tx: store.Transaction, pools: Collection[str], now_us: int) -> None:
    """Beats are taken at `now_us`: what lived then, and cannot beat until the next start, is not held gone."""
    await _with_states(tx, pools, now_us)
    if pools:
        later = _STATES.c.pool.in_(sorted(pools)) & (_STATES.c.beat_us < now_us)
        await tx.execute(update(_STATES).where(later).values(beat_us=now_us))


async def _with_states(tx: store.Transaction, pools: Collection[str], now_us: int) -> None:
    fresh = {"beat_us": now_us, "law": None, "exhausted_us": None, "leak_us": None, "leaked": ""}
    await statements.insert_new(tx, _STATES, [{"pool": key, **fresh} for key in sorted(pools)])


async def call_seen(tx: store.Transaction, calls: Iterable[tuple[str, int]], terms: Terms) -> None:
    """The router was asked about calls: (number, time). Numbers that are in no pool are passed over. Raises
    Overtaken."""
    latest: dict[str, int] = {}
    for number, at_us in calls:
        latest[number] = max(at_us, latest.get(number, 0))
    await lock(tx)
    changed = []
    for number, at_us in latest.items():
        row = (await tx.execute(_SELECT.where(_SLOTS.c.number == number))).first()
        its_terms = terms.get(row.pool or "") if row is not None else None
        if row is not None and its_terms is not None:
            read = _slot(row)
            changed.append((read, pool.call_seen(read, at_us, its_terms)))
    await _write(tx, [(read, slot) for read, slot in changed if slot is not read])


_UP = text(
    "SELECT (SELECT count(*) FROM calls WHERE state = 'open' AND did = :number AND direction = 'inbound') AS up, "
    "(SELECT max(CASE WHEN ended_us > started_us THEN ended_us ELSE started_us END) FROM calls "
    "WHERE did = :number AND started_us >= :since_us AND direction = 'inbound') AS last_us"
)


async def with_calls(tx: store.Transaction, numbers: Collection[str], terms: Terms, *, now_us: int) -> None:
    """Slots as the records of this transaction have them: with calls up, or the last one over. Numbers that are in no
    pool are passed over. Raises Overtaken."""
    if not numbers:
        return
    await lock(tx)
    changed = []
    for number in sorted(numbers):
        row = (await tx.execute(_SELECT.where(_SLOTS.c.number == number))).first()
        if row is None:
            continue
        asked = {"number": number, "since_us": now_us - 86_400 * SECOND_US}
        known = (await tx.execute(_UP, asked)).one()
        read = _slot(row)
        slot = pool.with_calls(read, known.up, known.last_us or 0, terms.get(row.pool or "", pool.Terms(0.0)))
        if slot is not read:
            changed.append((read, slot))
    await _write(tx, changed)


async def fit(
    tx: store.Transaction,
    pools: Iterable[webbook.NumberPool],
    *,
    now_us: int,
    beat_seconds: float = webbook.BEAT_SECONDS,
) -> None:
    """Makes the pools' numbers those of the book.

    A number that comes from another pool keeps its freeze and its call, so that nobody gets it early; one that left
    is in no pool. Its lease ends. Raises Overtaken.
    """
    await lock(tx)
    wanted = {number: one.key for one in pools for number in one.numbers}
    rows = {row.number: row for row in await tx.execute(_SELECT)}
    fresh = [number for number in wanted if number not in rows]
    empty = dict.fromkeys((name for name in _FIELDS if name.endswith("_us")), 0)
    new = [
        {"number": number, "pool": wanted[number], "lease_id": None, "visitor_id": None, "generation": 0, **empty}
        for number in fresh
    ]
    for chunk in statements.chunks(new):
        await statements.insert_new(tx, _SLOTS, list(chunk))
    for number, row in rows.items():
        if row.pool == wanted.get(number):
            continue
        await _end(tx, [_slot(row)], beat_seconds)
        moved = (
            update(_SLOTS)
            .where(_SLOTS.c.number == number, _SLOTS.c.generation == row.generation)
            .values(pool=wanted.get(number), visitor_id=None, lease_id=None, generation=row.generation + 1)
        )
        if (await tx.execute(moved)).rowcount != 1:
            raise Overtaken
    await _with_states(tx, set(wanted.values()), now_us)


async def mend_outage(tx: store.Transaction, terms: Terms, *, now_us: int) -> int:
    """At the start: visitors who lived when beats were last taken could not beat since. Returns how many leases were
    prolonged. Raises Overtaken."""
    await lock(tx)
    changed: list[tuple[Slot, Slot]] = []
    for key, its_terms in terms.items():
        state = (await tx.execute(select(_STATES.c.beat_us).where(_STATES.c.pool == key))).first()
        if state is None:
            continue
        for row in await tx.execute(_SELECT.where(_SLOTS.c.pool == key, _SLOTS.c.living_until_us > state.beat_us)):
            read = _slot(row)
            slot = pool.after_outage(read, state.beat_us, now_us, its_terms)
            if slot is not read:
                changed.append((read, slot))
    for chunk in statements.chunks(changed):
        await _write(tx, list(chunk))
    await note_beat(tx, set(terms), now_us)
    return len(changed)


async def of_visitor(connection: store.Connection, pools: Collection[str], visitor_id: str) -> list[str]:
    """The leases that a visitor has in these pools."""
    query = select(_SLOTS.c.lease_id).where(_SLOTS.c.pool.in_(sorted(pools)), _SLOTS.c.visitor_id == visitor_id)
    return [lease for lease in (await connection.execute(query)).scalars() if lease is not None]


async def slots(connection: store.Connection, key: str) -> list[Slot]:
    """All slots of a pool, by number."""
    query = _SELECT.where(_SLOTS.c.pool == key).order_by(_SLOTS.c.number)
    return [_slot(row) for row in await connection.execute(query)]


async def slot_of(connection: store.Connection, number: str) -> tuple[str | None, Slot] | None:
    """The pool and the slot of a number; None for a number that never was in a pool."""
    row = (await connection.execute(_SELECT.where(_SLOTS.c.number == number))).first()
    return None if row is None else (row.pool, _slot(row))


_HOLDERS = (
    select(_LEASES.c.lease_id, _LEASES.c.visitor_id, _LEASES.c.issued_us, _LEASES.c.gone_us)
    .add_columns(_SLOTS.c.seen_us, _SLOTS.c.living_until_us)
    .join_from(_LEASES, _SLOTS, _SLOTS.c.lease_id == _LEASES.c.lease_id, isouter=True)
    .where(_LEASES.c.number == bindparam("of_number"), _LEASES.c.issued_us <= bindparam("at_us"))
    .order_by(_LEASES.c.issued_us.desc(), _LEASES.c.lease_id.desc())
    .limit(matching.MAX_HOLDERS + 1)
)


async def holders(
    connection: store.Connection, number: str, at_us: int, *, beat_seconds: float = webbook.BEAT_SECONDS
) -> tuple[list[matching.Holder], bool]:
    """The latest leases of a number that began before `at_us`, newest first, and whether there were more."""
    rows = (await connection.execute(_HOLDERS, {"of_number": number, "at_us": at_us})).all()
    found = [
        matching.Holder(row.lease_id, row.visitor_id, row.issued_us, _gone_us(row, beat_seconds))
        for row in rows[: matching.MAX_HOLDERS]
    ]
    return found, len(rows) > matching.MAX_HOLDERS


def _gone_us(row: Row[*tuple[Any, ...]], beat_seconds: float) -> int:
    if row.gone_us is not None:
        return int(row.gone_us)
    if row.seen_us is None:
        # Neither ended nor current: between the two statements of another transaction; the slot is asked again later.
        return int(row.issued_us)
    current = Slot("", seen_us=row.seen_us, living_until_us=row.living_until_us)
    return gone_us(current, beat_seconds)


async def law_of(connection: store.Connection, key: str) -> delays.Law:
    """When visitors of the pool call; the usual law until one was fitted."""
    written = (await connection.execute(select(_STATES.c.law).where(_STATES.c.pool == key))).scalar()
    if written is None:
        return delays.Law()
    read = json.loads(written)
    return delays.Law(**{**read, "late": tuple((share, mean) for share, mean in read["late"])})


async def keep_law(tx: store.Transaction, key: str, law: delays.Law, *, now_us: int) -> None:
    """Calls to the pool are judged by this law from now on."""
    await _with_states(tx, {key}, now_us)
    await tx.execute(update(_STATES).where(_STATES.c.pool == key).values(law=json.dumps(asdict(law))))


async def count(connection: store.Connection, key: str, since_us: int, until_us: int) -> int:
    """Leases of a pool that began in the time."""
    query = select(func.count()).where(
        _LEASES.c.pool == key, _LEASES.c.issued_us >= since_us, _LEASES.c.issued_us < until_us
    )
    return (await connection.execute(query)).scalar_one()


async def tell_once(tx: store.Transaction, key: str, *, at_us: int, every_us: int) -> bool:
    """Whether the alarm of an exhausted pool is due; then it is not again for `every_us`, whichever process asks."""
    await _with_states(tx, {key}, at_us)
    is_due = _STATES.c.exhausted_us.is_(None) | (_STATES.c.exhausted_us <= at_us - every_us)
    changed = update(_STATES).where(_STATES.c.pool == key, is_due).values(exhausted_us=at_us)
    return (await tx.execute(changed)).rowcount == 1


async def tell_leaks(tx: store.Transaction, key: str, numbers: Collection[str], *, at_us: int) -> set[str]:
    """Which of these leaked numbers were not told yet; numbers that are not named any more may be told again."""
    await _with_states(tx, {key}, at_us)
    query = select(_STATES.c.leaked).where(_STATES.c.pool == key)
    before = set((await tx.execute(query.with_for_update())).scalar_one().split())
    new = set(numbers) - before
    if set(numbers) != before:
        values = {"leaked": " ".join(sorted(numbers)), "leak_us": at_us}
        await tx.execute(update(_STATES).where(_STATES.c.pool == key).values(values))
    return new


def _slot(row: Row[*tuple[Any, ...]]) -> Slot:
    return Slot(*(getattr(row, name) for name in _FIELDS))


async def last_exhausted(connection: store.Connection) -> dict[str, int]:
    """By pool, when its last alarm was that nothing was free; pools that never had one are missing."""
    query = select(_STATES.c.pool, _STATES.c.exhausted_us).where(_STATES.c.exhausted_us.is_not(None))
    return {row.pool: row.exhausted_us for row in await connection.execute(query)}
