"""Leases in the store (R96, R98-R101): the contract of `core.pool`, on both engines, with two processes at it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import text

from gateway import store
from gateway.core import pool, webbook
from gateway.store import calls, leases, poolschema
from tests.store import examples, leasing_process

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND
TERMS = {"moscow": pool.Terms(freeze_seconds=360)}
SOFT = {"moscow": pool.Terms(freeze_seconds=360, soft=True)}


def numbers(count: int) -> tuple[str, ...]:
    return tuple(f"+7499000{place:04}" for place in range(count))


def moscow(count: int) -> webbook.NumberPool:
    return webbook.NumberPool("moscow", "clinic", "sales", numbers(count))


async def fit(database: store.Database, *pools: webbook.NumberPool, at: int = NOW) -> None:
    async with database.begin() as tx:
        await leases.fit(tx, pools, now_us=at)


async def ask(
    database: store.Database, *visitors: str, at: float = 0, terms: leases.Terms = TERMS
) -> list[pool.Grant | pool.Exhausted]:
    """All in one transaction, `at` seconds after the beginning."""
    at_us = NOW + round(at * SECOND)
    asked = [leases.Ask("moscow", visitor, f"{visitor}@{at:g}", at_us) for visitor in visitors]
    async with database.begin() as tx:
        return await leases.grant(tx, asked, terms)


def shown(answers: Sequence[pool.Grant | pool.Exhausted]) -> list[str]:
    """`kept 0`, by the last digit of the number, or `exhausted`."""
    return [f"{one.how.value} {one.slot.number[-1]}" if isinstance(one, pool.Grant) else "exhausted" for one in answers]


async def history(database: store.Database, number: str, at: float = 1e6) -> list[tuple[str, float, float]]:
    """(lease, seconds from the beginning to issue, to leaving), newest first."""
    async with database.read() as connection:
        found, _ = await leases.holders(connection, number, NOW + round(at * SECOND))
    return [(one.lease_id, (one.issued_us - NOW) / SECOND, (one.gone_us - NOW) / SECOND) for one in found]


async def test_each_visitor_of_a_batch_has_a_number_of_their_own(database: store.Database) -> None:
    """R96, R98: and twice the same visitor in one batch has one number, not two."""
    await fit(database, moscow(3))
    answers = await ask(database, "anna", "boris", "anna", "clara", "dmitri")
    assert shown(answers) == ["issued 0", "issued 1", "kept 0", "issued 2", "exhausted"]
    assert answers[-1] == pool.Exhausted(size=3, living=3, frozen=0, called=0)


async def test_a_number_that_is_taken_over_leaves_its_old_holder_in_history(database: store.Database) -> None:
    """N6: the ended lease tells when its visitor was last there: a beat after the last sign, or at the goodbye."""
    await fit(database, moscow(2))
    await ask(database, "anna", "boris")
    signs = [leases.Sign("anna@0", NOW + 60 * SECOND), leases.Sign("boris@0", NOW + 50 * SECOND, leaves=True)]
    async with database.begin() as tx:
        assert await leases.keep_alive(tx, signs, TERMS, now_us=NOW + 60 * SECOND) == set()
    assert await history(database, numbers(2)[0]) == [("anna@0", 0, 90)]
    assert shown(await ask(database, "clara", "emma", at=600)) == ["issued 1", "issued 0"]
    assert await history(database, numbers(2)[0]) == [("emma@600", 600, 630), ("anna@0", 0, 90)]
    assert await history(database, numbers(2)[1]) == [("clara@600", 600, 630), ("boris@0", 0, 50)]
    assert await history(database, numbers(2)[1], at=599) == [("boris@0", 0, 50)]


async def test_idle_numbers_change_hands_within_one_batch(database: store.Database) -> None:
    """Boris takes what was Anna's, Anna what was Clara's: the index on visitors is never broken on the way."""
    await fit(database, moscow(3))
    await ask(database, "anna", at=0)
    await ask(database, "clara", at=1)
    await ask(database, "emma", at=2)
    assert shown(await ask(database, "boris", "anna", "clara", at=9_000)) == ["issued 0", "issued 1", "issued 2"]


async def test_who_comes_back_has_the_same_number(database: store.Database) -> None:
    """R99."""
    await fit(database, moscow(3))
    await ask(database, "anna", "boris", "clara")
    assert shown(await ask(database, "boris", at=300)) == ["kept 1"]
    assert shown(await ask(database, "boris", at=90_000)) == ["returned 1"]
    assert [lease for lease, _, _ in await history(database, numbers(3)[1])] == ["boris@90000", "boris@0"]


async def test_the_longest_unused_goes_first_and_softly_the_longest_frozen(database: store.Database) -> None:
    await fit(database, moscow(2))
    await ask(database, "anna", at=0)
    await ask(database, "boris", at=10)
    assert shown(await ask(database, "clara", at=200)) == ["exhausted"]
    assert shown(await ask(database, "clara", "emma", "fyodor", at=200, terms=SOFT)) == [
        *("taken 0", "taken 1", "exhausted")
    ]


async def test_beats_keep_and_lost_leases_are_told(database: store.Database) -> None:
    await fit(database, moscow(1))
    await ask(database, "anna")
    for at in range(30, 600, 30):
        signs = [leases.Sign("anna@0", NOW + at * SECOND), leases.Sign("nobody", NOW + at * SECOND)]
        async with database.begin() as tx:
            assert await leases.keep_alive(tx, signs, TERMS, now_us=NOW + at * SECOND) == {"nobody"}
    assert shown(await ask(database, "boris", at=600)) == ["exhausted"]
    assert shown(await ask(database, "boris", at=931)) == ["issued 0"]
    async with database.begin() as tx:
        late = [leases.Sign("anna@0", NOW + 940 * SECOND)]
        assert await leases.keep_alive(tx, late, TERMS, now_us=NOW + 940 * SECOND) == {"anna@0"}


async def test_a_number_with_a_call_is_lent_to_nobody_else(database: store.Database) -> None:
    """Issue 4.2: while a call on it is up, or fresh, whether the router says so or the records do."""
    await fit(database, moscow(1))
    await ask(database, "anna")
    number = numbers(1)[0]
    start = NOW + 1_000 * SECOND
    async with database.begin() as tx:
        await leases.call_seen(tx, [(number, start), ("+70000000000", start)], TERMS)
    assert shown(await ask(database, "boris", at=1_119)) == ["exhausted"]
    async with database.begin() as tx:
        await calls.save(tx, [examples.call(1, did=number, state="open", started_us=start)])
        await leases.with_calls(tx, [number, "+70000000000"], TERMS, now_us=start)
        await leases.with_calls(tx, [number], TERMS, now_us=start)
    assert shown(await ask(database, "boris", at=9_000)) == ["exhausted"]
    ended = NOW + 9_000 * SECOND
    async with database.begin() as tx:
        await calls.save(tx, [examples.call(1, did=number, state="closed", started_us=start, ended_us=ended)])
        await leases.with_calls(tx, [number], TERMS, now_us=ended)
    assert shown(await ask(database, "boris", at=9_119)) == ["exhausted"]
    assert shown(await ask(database, "boris", at=9_120)) == ["issued 0"]


async def test_numbers_with_calls_are_passed_over(database: store.Database) -> None:
    """However many stand first in their turn."""
    await fit(database, moscow(5))
    async with database.begin() as tx:
        # The last number was called before the others, so that it is the longest unused when theirs are over.
        await leases.call_seen(
            tx, [(number, NOW) for number in numbers(4)], {"moscow": pool.Terms(360, call_seconds=0)}
        )
        await leases.call_seen(
            tx, [(number, NOW) for number in numbers(4)], {"moscow": pool.Terms(360, call_seconds=900)}
        )
        await leases.call_seen(tx, [(numbers(5)[4], NOW + SECOND)], {"moscow": pool.Terms(360, call_seconds=0)})
    assert shown(await ask(database, "anna", at=60)) == ["issued 4"]
    assert shown(await ask(database, "boris", at=60)) == ["exhausted"]


async def test_a_visitor_who_comes_back_is_in_nobodys_way(database: store.Database) -> None:
    """In one batch: what is frozen for one visitor is read too, and stands first in turn, but is not another's."""
    await fit(database, moscow(2))
    await ask(database, "anna")
    async with database.begin() as tx:
        await leases.call_seen(tx, [(numbers(2)[1], NOW + SECOND)], {"moscow": pool.Terms(360, call_seconds=0)})
    assert shown(await ask(database, "boris", "anna", at=200)) == ["issued 1", "kept 0"]


async def test_numbers_come_to_a_pool_and_leave_it(database: store.Database) -> None:
    """A number that moved to another pool keeps its freeze there; one that left is lent to nobody, and known still."""
    await fit(database, moscow(3))
    await ask(database, "anna", "boris", "clara")
    one, two, three = numbers(3)
    ural = webbook.NumberPool("ural", "clinic", "sales", (two,))
    await fit(database, webbook.NumberPool("moscow", "clinic", "sales", (one, "+74990009999")), ural)
    async with database.begin() as tx:
        asked = [leases.Ask("ural", "emma", "emma@1", NOW + SECOND), leases.Ask("moscow", "boris", "x", NOW + SECOND)]
        answers = await leases.grant(tx, asked, {**TERMS, "ural": TERMS["moscow"]})
    assert shown(answers) == ["exhausted", "issued 9"]
    assert [lease for lease, _, _ in await history(database, three)] == ["clara@0"]
    async with database.read() as connection:
        assert (await leases.slot_of(connection, three) or ("?",))[0] is None


async def test_after_an_outage_visitors_who_lived_are_given_time(database: store.Database) -> None:
    await fit(database, moscow(2))
    await ask(database, "anna", at=-400)
    await ask(database, "boris", at=0)
    async with database.begin() as tx:
        assert await leases.keep_alive(tx, [leases.Sign("boris@0", NOW)], TERMS, now_us=NOW) == set()
    async with database.begin() as tx:
        assert await leases.mend_outage(tx, TERMS, now_us=NOW + 3_600 * SECOND) == 1
    assert shown(await ask(database, "clara", "emma", at=3_900)) == ["issued 0", "exhausted"]
    async with database.begin() as tx:
        assert await leases.keep_alive(tx, [leases.Sign("boris@0", NOW)], TERMS, now_us=NOW) == set()


async def test_a_slot_that_somebody_changed_meanwhile_is_not_overwritten(database: store.Database) -> None:
    """Should anybody write without the lock: the batch is rolled back and done again, nobody is given a held number."""
    await fit(database, moscow(2))
    read = pool.Slot(numbers(2)[0])
    async with database.begin() as tx:
        await tx.execute(text("UPDATE pool_numbers SET generation = generation + 1"))
    with pytest.raises(leases.Overtaken):
        async with database.begin() as tx:
            await leases._write(tx, [(read, pool.Slot(read.number, generation=1))])


async def test_a_visitor_cannot_have_two_numbers_of_a_pool(database: store.Database) -> None:
    """The database itself refuses it: two tabs of one visitor at two processes."""
    await fit(database, moscow(2))
    await ask(database, "anna")
    with pytest.raises(Exception, match=r"(?i)unique"):
        async with database.begin() as tx:
            await tx.execute(poolschema.pool_numbers.update().values(visitor_id="anna"))


async def test_alarms_are_told_once_whoever_asks(database: store.Database) -> None:
    async with database.begin() as tx:
        told = [await leases.tell_once(tx, "moscow", at_us=NOW + at, every_us=100) for at in (0, 50, 100, 150)]
        assert told == [True, False, True, False]
        leaked = [await leases.tell_leaks(tx, "moscow", names, at_us=NOW) for names in ("ab", "ab", "b", "ab")]
        assert leaked == [{"a", "b"}, set(), set(), {"a"}]


async def test_two_processes_fight_for_one_pool(database: store.Database, database_url: str) -> None:
    """R98: 40 numbers, 60 visitors, each asked for by both processes again and again; at no time has a number two
    living visitors, or a visitor two numbers."""
    await fit(database, moscow(40), at=1)
    async with (
        leasing_process.running("fight", database_url, "0") as one,
        leasing_process.running("fight", database_url, "1") as two,
    ):
        for process in (one, two):
            assert await leasing_process.line(process) == "ready"
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write(b"\n")
        said = [await leasing_process.line(process) for process in (one, two)]
    holders: dict[str, set[str]] = {}
    for line in said:
        for pair in line.split():
            visitor, number = pair.split("=")
            holders.setdefault(number, set()).add(visitor)
    assert len(holders) == 40
    assert all(len(visitors) == 1 for visitors in holders.values())
    assert len({visitor for visitors in holders.values() for visitor in visitors}) == 40


async def test_a_process_killed_between_assignment_and_answer(database: store.Database, database_url: str) -> None:
    """kill -9 after the commit: the number is its visitor's, who gets it by asking again; before it: nobody's."""
    await fit(database, moscow(2), at=1)
    async with leasing_process.running("die_after", database_url, "0") as process:
        assert await leasing_process.line(process) == "ready"
        process.kill()
        await process.wait()
    async with leasing_process.running("die_inside", database_url, "1") as process:
        assert await leasing_process.line(process) == "ready"
        process.kill()
        await process.wait()
    async with asyncio.timeout(60):
        assert shown(await ask(database, "boris", "anna", "clara")) == ["issued 1", "kept 0", "exhausted"]
