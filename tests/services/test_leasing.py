"""Numbers for visitors (R85, R96, R98-R101, R107): what a page is told, what is kept of it, what happens when not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from gateway import store
from gateway.core import poolmath
from gateway.core.displayrules import Consent
from gateway.services import arrivals, leasing
from gateway.store import leases, overflows, timelines
from tests.services.clinic import FIRST, OVERFLOW, PRINTED, ROUTING, SECOND_NUMBER, Clinic, number, reason, routing_book
from tests.services.outages import out_of_reach

TAGGED = "https://clinic.example/implants?utm_source=google&utm_medium=cpc&utm_campaign=spring&utm_term=implant"


@pytest.fixture
def clinic(database: store.Database) -> Clinic:
    return Clinic(database)


async def timeline(clinic: Clinic, visitor_id: str | None) -> timelines.Timeline | None:
    async with clinic.database.read() as connection:
        return await timelines.timeline(connection, visitor_id or "")


async def test_visitors_get_numbers_and_the_rest_the_overflow_number(clinic: Clinic) -> None:
    """R96, R98; told once an hour, with the size that would do (R101)."""
    answers = [await clinic.open() for _ in range(4)]
    assert [number(one) for one in answers] == [FIRST, SECOND_NUMBER, OVERFLOW, OVERFLOW]
    assert [reason(one) for one in answers] == ["pool", "pool", "overflow", "overflow"]
    assert len({one.visitor_id for one in answers}) == 4
    (told,) = await clinic.events(leasing.EXHAUSTED)
    assert (told["pool"], told["size"], told["living"], told["would_do"]) == ("moscow", 2, 2, 7)
    clinic.later(30)
    await clinic.open()
    assert len(await clinic.events(leasing.EXHAUSTED)) == 1
    assert clinic.leasing.counts.exhausted["moscow"] == 3


async def test_the_size_that_would_do_counts_those_who_found_no_number(clinic: Clinic) -> None:
    """R101: two numbers never begin more than two leases at once, however many visitors want one."""
    asked = arrivals.Arrival("clinic", "https://clinic.example/")
    answers = await clinic.open_all(*[asked] * 600)
    assert [number(one) for one in answers].count(OVERFLOW) == 598
    await clinic.open(answers[-1].visitor_id, "https://clinic.example/prices")
    clinic.later(3_700)
    await clinic.open_all(*[asked] * 3)
    told = await clinic.events(leasing.EXHAUSTED)
    # Ten visits a minute that saw one page: no time on site, the least freeze.
    assert told[-1]["would_do"] == poolmath.numbers_needed(10 * 1.0) == 18
    async with clinic.database.read() as connection:
        assert await overflows.counts(connection, 0, clinic.now_us) == {"moscow": 599}, "visits, not pages"
        assert await overflows.counts(connection, clinic.now_us, clinic.now_us + 1) == {"moscow": 1}
    async with clinic.database.begin() as tx:
        await overflows.prune(tx, clinic.now_us - 3_600 * 1_000_000)
        assert await overflows.counts(tx, 0, clinic.now_us) == {"moscow": 1}


async def test_pages_that_come_together_share_a_commit(clinic: Clinic) -> None:
    asked = arrivals.Arrival("clinic", "https://clinic.example/")
    answers = await clinic.open_all(asked, asked)
    assert {number(one) for one in answers} == {FIRST, SECOND_NUMBER}
    async with clinic.database.read() as connection:
        times = (await connection.execute(text("SELECT DISTINCT issued_us FROM leases"))).scalars().all()
    assert len(times) == 1


async def test_a_visitor_keeps_number_and_visit_from_page_to_page(clinic: Clinic) -> None:
    """R99; and the touch: what brought them stays what brought them."""
    first = await clinic.open(url=TAGGED, browser="Firefox", system="Linux", ids={"ga": "1.2"})
    clinic.later(60)
    second = await clinic.open(first.visitor_id, "https://clinic.example/prices", referrer=TAGGED)
    assert (number(second), second.visit_id, second.visitor_id) == (FIRST, first.visit_id, first.visitor_id)
    clinic.later(7_200)
    third = await clinic.open(first.visitor_id, ids={"ym_uid": "9"})
    assert (number(third), third.visit_id != first.visit_id) == (FIRST, True)
    found = await timeline(clinic, first.visitor_id)
    assert found is not None
    assert [page.url for page in found.pages] == [TAGGED, "https://clinic.example/prices", "https://clinic.example/"]
    touch = found.visits[0].touch
    assert (touch.source, touch.came.campaign, touch.came.term) == ("google-ads", "spring", "implant")
    assert (found.visits[0].pages, found.visits[0].on.browser) == (2, "Firefox")
    assert found.person.ids == {"ga": "1.2", "ym_uid": "9"}


async def test_the_rule_that_gave_the_number_holds_on_the_next_page(database: store.Database) -> None:
    """A rule by tags is about how the visit began, not about each page's address."""
    narrow = ROUTING.replace('key = "all"\n', 'key = "all"\nutm = { campaign = "spring" }\n')
    clinic = Clinic(database, text=narrow)
    first = await clinic.open(url=TAGGED)
    clinic.later(10)
    second = await clinic.open(first.visitor_id, "https://clinic.example/prices", referrer=TAGGED)
    assert (number(first), number(second)) == (FIRST, FIRST)
    assert reason(await clinic.open()) == "rule_none"


async def test_without_consent_nothing_is_kept(clinic: Clinic) -> None:
    """Only a static number, by this very page; bots and undecided visitors see the page as it is."""
    leaflet = "https://clinic.example/leaflet"
    denied = await clinic.open(url=leaflet, consent=Consent.DENIED)
    assert (number(denied), denied.visitor_id, denied.visit_id) == (PRINTED, None, None)
    assert reason(await clinic.open(consent=Consent.DENIED)) == "consent"
    assert reason(await clinic.open(consent=Consent.PENDING)) == "consent"
    assert reason(await clinic.open(is_bot=True)) == "bot"
    async with clinic.database.read() as connection:
        for table in ("visitors", "visits", "page_views", "leases"):
            assert (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0


async def test_an_id_that_is_not_known_is_somebody_new(clinic: Clinic) -> None:
    """After an erasure the browser's old id brings nobody back."""
    answer = await clinic.open("made-up")
    assert answer.visitor_id not in (None, "made-up")


async def test_beats_keep_a_number_and_a_lost_one_is_said(clinic: Clinic) -> None:
    first = await clinic.open()
    for _ in range(20):
        clinic.later(30)
        assert await clinic.beat(first)
    assert number(await clinic.open()) == SECOND_NUMBER
    assert number(await clinic.open()) == OVERFLOW
    await clinic.leave(first)
    clinic.later(3_700)
    for _ in range(2):
        await clinic.open()
    assert not await clinic.beat(first)
    assert clinic.leasing.counts.lost == 1


async def test_the_freeze_follows_the_mean_time_on_site(clinic: Clinic) -> None:
    """R100: a visit of 500 s, so a freeze of 600 s."""
    first = await clinic.open()
    for _ in range(25):
        clinic.later(20)
        await clinic.beat(first)
    await clinic.leave(first)
    clinic.later(590)
    await clinic.leasing.step()
    clinic.later(15)
    await clinic.leasing.step()
    assert clinic.leasing._terms["moscow"].freeze_seconds == pytest.approx(600)


async def test_two_gateways_lend_from_one_pool(database_url: str) -> None:
    """Issue 4.2: no number has two visitors, none is left over, and who asks the other one next has the same."""
    numbers = tuple(f"+7499001{place:04}" for place in range(30))
    quoted = ", ".join(f'"{one}"' for one in numbers)
    book = routing_book(ROUTING.replace(f'"{FIRST}", "{SECOND_NUMBER}"', quoted))
    now_us = 1_795_300_000 * 1_000_000
    databases = [await store.Database.open(database_url) for _ in range(2)]
    gateways = [leasing.Leasing(one, now_us=lambda: now_us) for one in databases]
    for gateway in gateways:
        gateway.use(book)
    running = [asyncio.create_task(one.run()) for one in gateways]
    asked = arrivals.Arrival("clinic", "https://clinic.example/")
    async with asyncio.timeout(60):
        first = await asyncio.gather(*(gateways[place % 2].arrive(asked) for place in range(50)))
        again = await asyncio.gather(
            *(
                gateways[1 - place % 2].arrive(replace(asked, visitor_id=one.visitor_id))
                for place, one in enumerate(first)
            )
        )
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for one in databases:
        await one.close()
    lent = [shown for one in first if (shown := number(one)) != OVERFLOW]
    assert sorted(shown or "" for shown in lent) == sorted(numbers)
    assert [number(one) for one in again] == [number(one) for one in first]


async def test_a_restart_loses_no_lease(clinic: Clinic) -> None:
    """And what could not beat meanwhile is given time."""
    first = await clinic.open()
    await clinic.beat(first)
    clinic.later(3_600)
    clinic.start()
    second, third = [await clinic.open() for _ in range(2)]
    assert (number(second), number(third)) == (SECOND_NUMBER, OVERFLOW)
    assert await clinic.beat(first)


async def test_a_call_keeps_its_number_from_being_lent(clinic: Clinic) -> None:
    """Issue 4.2: as soon as the router is asked."""
    await clinic.leave(await clinic.open())
    clinic.later(1_000)
    clinic.leasing.called(FIRST)
    clinic.leasing.called("+70000000000")
    await clinic.leasing.step()
    assert [number(await clinic.open()) for _ in range(2)] == [SECOND_NUMBER, OVERFLOW]


async def test_a_new_book_is_lent_by_at_once(clinic: Clinic) -> None:
    await clinic.open()
    clinic.leasing.use(routing_book(ROUTING.replace(f'"{SECOND_NUMBER}"', '"+74990000003"'), 8))
    assert number(await clinic.open()) == "+74990000003"


async def test_without_a_store_pages_are_told_at_once_and_beats_are_kept(
    clinic: Clinic, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leasing, "RETRY_SECONDS", 0.0)
    first = await clinic.open()
    with out_of_reach(database_url):
        clinic.later(30)
        assert await clinic.beat(first)
        with pytest.raises(leasing.Unavailable):
            await clinic.open()
        assert clinic.leasing.problem is not None
    await clinic.leasing.step()
    assert clinic.leasing.problem is None
    async with clinic.database.read() as connection:
        _, slot = await leases.slot_of(connection, FIRST) or (None, None)
    assert slot is not None and slot.seen_us == clinic.now_us


async def test_the_task_answers_by_itself(clinic: Clinic) -> None:
    """As the daemon runs it: pages, signs and calls without a step by hand."""
    running = asyncio.create_task(clinic.leasing.run())
    async with asyncio.timeout(60):
        first = await clinic.leasing.arrive(arrivals.Arrival("clinic", "https://clinic.example/"))
        assert await clinic.leasing.beat(first.visit_id, [first.shows[0].lease_id or ""])
        assert not await clinic.leasing.beat(None, ["nobody's"])
        asked = arrivals.Arrival("clinic", "https://clinic.example/")
        answers = await asyncio.gather(*(clinic.leasing.arrive(asked) for _ in range(20)))
    running.cancel()
    assert sorted(number(one) or "" for one in answers).count(OVERFLOW) == 19


async def test_forgetting_takes_all_of_a_visitor(clinic: Clinic) -> None:
    """R107, N14: the number stays frozen, for nobody; the lease stays in history, of nobody."""
    first = await clinic.open(url=TAGGED)
    await clinic.click(first)
    assert await clinic.leasing.forget(first.visitor_id or "")
    assert not await clinic.leasing.forget(first.visitor_id or "")
    assert await timeline(clinic, first.visitor_id) is None
    async with clinic.database.read() as connection:
        (holder,), _ = await leases.holders(connection, FIRST, clinic.now_us)
        for table in ("clicks", "visits", "page_views"):
            assert (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0
    assert holder.visitor_id.startswith("erased-")
    assert number(await clinic.open(first.visitor_id)) == SECOND_NUMBER


async def test_a_preview_says_what_the_next_visitor_gets_and_takes_nothing(clinic: Clinic) -> None:
    """R28: however often pages are checked, the pool stays as it is, and nobody is stored or counted."""
    arrival = arrivals.Arrival("clinic", "https://clinic.example/")
    with pytest.raises(leasing.Unavailable):
        await clinic.leasing.preview(arrival)
    await clinic.leasing.step()
    for expected in (FIRST, SECOND_NUMBER, OVERFLOW):
        previews = [await clinic.leasing.preview(arrival) for _ in range(3)]
        assert [(number(one), one.visitor_id, one.shows[0].lease_id) for one in previews] == [
            (expected, None, None)
        ] * 3
        assert number(await clinic.open()) == expected
    assert clinic.leasing.counts.shown.total() == 3
    async with clinic.database.read() as connection:
        counted = [
            (await connection.execute(text(f"SELECT count(*) FROM {one}"))).scalar() for one in ("visits", "leases")
        ]
    assert counted == [3, 2]
    printed = await clinic.leasing.preview(arrivals.Arrival("clinic", "https://clinic.example/leaflet"))
    assert (number(printed), reason(printed)) == (PRINTED, "static")
    with pytest.raises(KeyError):
        await clinic.leasing.preview(arrivals.Arrival("nobody", "https://clinic.example/"))
