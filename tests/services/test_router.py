"""The answer does not wait for the database: late, locked or gone, it means an unknown caller (design.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import pytest

from gateway import store
from gateway.core import book, plans, webbook, whisper
from gateway.core import routing as core_routing
from gateway.pbx import agi
from gateway.services import router
from gateway.store import calls
from tests.core import books
from tests.services.outages import out_of_order, out_of_reach
from tests.store import examples

CALL_ID = "1b6b7f4e-0000-4000-8000-000000000001"
QUESTION = agi.AgiRequest("route", (CALL_ID, books.DID, books.CALLER, ""))
YESTERDAY_US = int(books.WEDNESDAY_NOON.timestamp() * 1_000_000) - 86_400_000_000


@pytest.fixture
async def routing(database: store.Database) -> router.Router:
    """Sticky for a month; the caller talked to boris yesterday."""
    async with database.begin() as tx:
        await calls.save(tx, [examples.call(caller=f"+{books.CALLER}", agent="boris", started_us=YESTERDAY_US)])
    made = router.Router(database, now=lambda: books.WEDNESDAY_NOON, lookup_seconds=5.0)
    made.use(books.routing_book(books.route(sticky_days=30)))
    return made


async def answer(of: router.Router, question: agi.AgiRequest = QUESTION) -> dict[str, str]:
    pairs = of.answer(question)
    if isinstance(pairs, Awaitable):
        pairs = await pairs
    assert pairs is not None
    return dict(pairs)


async def test_a_repeat_caller_is_known(routing: router.Router) -> None:
    found = await answer(routing)
    assert (found["DM_S1"], found["DM_SRC"], found["DM_OK"]) == ("PJSIP/desk-2", "agi", "1")
    assert routing.late_look_ups == 0


async def test_a_late_look_up_means_an_unknown_caller(routing: router.Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "_lookup_seconds", 0.0)
    for number in range(1, 4):
        found = await answer(routing)
        assert (found["DM_S1"], found["DM_OK"]) == ("PJSIP/desk-1", "1")
        assert routing.late_look_ups == number


async def test_a_look_up_on_a_database_that_is_gone(routing: router.Router, database_url: str) -> None:
    with out_of_reach(database_url):
        async with asyncio.timeout(60):
            found = await answer(routing)
        assert (found["DM_S1"], found["DM_OK"]) == ("PJSIP/desk-1", "1")
        assert routing.late_look_ups == 1
    assert (await answer(routing))["DM_S1"] == "PJSIP/desk-2"


async def test_writers_do_not_delay_a_look_up(routing: router.Router, database_url: str) -> None:
    """On SQLite another process may hold the write lock."""
    is_sqlite = database_url.startswith("sqlite")
    outage: AbstractContextManager[None] = out_of_order(database_url) if is_sqlite else nullcontext()
    with outage:
        assert (await answer(routing))["DM_S1"] == "PJSIP/desk-2"


@pytest.mark.parametrize("trouble", ["slow", "failing"])
async def test_a_visitor_who_is_not_found_costs_the_caller_nothing(database: store.Database, trouble: str) -> None:
    """C7, R91: only the whisper wants to know; what was known of the caller by then still counts."""
    async with database.begin() as tx:
        await calls.save(tx, [examples.call(caller=f"+{books.CALLER}", agent="boris", started_us=YESTERDAY_US)])

    async def visitor_of(*_: object) -> whisper.Visitor | None:
        if trouble == "failing":
            raise store.StoreUnavailable("gone")
        await asyncio.Event().wait()
        return None

    made = router.Router(database, now=lambda: books.WEDNESDAY_NOON, lookup_seconds=2.0, visitor_of=visitor_of)
    route = books.route(sticky_days=30, whisper={"ru": "{campaign}"})
    site = webbook.WebBook({"clinic": webbook.WebSite(("clinic.example",))})
    number = {"kind": book.TrackingKind.POOL, "pool": "moscow", "source": None}
    made.use(replace(books.routing_book(route, number=number), web=site))
    async with asyncio.timeout(60):
        found = await answer(made)
    assert (found["DM_S1"], found["DM_OK"]) == ("PJSIP/desk-2", "1")
    assert made.late_look_ups == 1


async def test_without_a_look_up_there_is_no_waiting(routing: router.Router, database_url: str) -> None:
    """Most routes ask nothing of the database; the answer is there without a turn of the loop."""
    routing.use(books.routing_book())
    with out_of_reach(database_url):
        assert isinstance(routing.answer(QUESTION), list)


@pytest.mark.parametrize("mode", [mode for mode in book.RecordingMode if mode is not book.RecordingMode.OFF])
async def test_while_nothing_can_be_recorded_nobody_is_asked(
    database: store.Database, mode: book.RecordingMode
) -> None:
    """R42, N3: the spool is full, the ring is lost: the call goes on, and again recorded once it is over."""
    refusal: str | None = None
    made = router.Router(database, now=lambda: books.WEDNESDAY_NOON, lookup_seconds=60.0, refusal=lambda: refusal)
    made.use(books.routing_book(books.route(recording=mode, tell_agent=True, unanswered=book.Unanswered.VOICEMAIL)))
    asked = await answer(made)
    refusal = "the spool is nearly full"
    silent = await answer(made)
    refusal = None
    assert await answer(made) == asked
    assert {"DM_CM", "DM_UN"} <= asked.keys()
    gone = asked.keys() - silent.keys()
    assert gone == {name for name in asked if name.startswith(("DM_C", "DM_U"))}
    assert silent.items() <= asked.items()


def test_why_a_call_is_not_recorded_is_told_and_others_stay_as_they_are() -> None:
    routing_book = books.routing_book(books.route(recording=book.RecordingMode.OPT_IN, tell_agent=True))
    plan = plans.unrecorded(
        core_routing.decide(books.question(), routing_book, core_routing.History()),
        "the spool is nearly full: 3 % free",
    )
    assert plan.why[-1] == "nothing is recorded, and no message taken: the spool is nearly full: 3 % free"
    assert (plan.consent.mode, plan.tell_agent) == (book.RecordingMode.OFF, False)
    plain = core_routing.decide(books.question(), books.routing_book(), core_routing.History())
    assert plans.unrecorded(plain, "x") is plain


async def test_without_a_book_the_dialplan_decides(database: store.Database) -> None:
    made = router.Router(database, now=lambda: books.WEDNESDAY_NOON, lookup_seconds=60.0)
    assert made.answer(QUESTION) is None
    made.use(books.routing_book())
    assert made.answer(agi.AgiRequest("route", (CALL_ID,))) is None


async def test_round_robin_goes_on_after_a_restart(database: store.Database) -> None:
    """The turn is taken up from the stored calls of the last day."""
    wanted = books.routing_book(
        books.route(forward=("desk-1", "desk-2", "desk-3"), reserve=(), strategy=book.Strategy.ROUND_ROBIN)
    )
    first = []
    for number in range(5):
        made = router.Router(database, now=lambda: books.WEDNESDAY_NOON, lookup_seconds=60.0)
        await made.restore()
        made.use(wanted)
        first.append((await answer(made))["DM_S1"])
        async with database.begin() as tx:
            await calls.save(tx, [examples.call(number, started_us=YESTERDAY_US + 3_600_000_000 + number)])
    assert first == [f"PJSIP/desk-{number}" for number in (1, 2, 3, 1, 2)]
