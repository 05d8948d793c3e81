from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import book, routing
from gateway.core.book import AfterHours, BanAction, CallerIdPolicy, MissCause, Strategy
from gateway.core.routing import Action, History, LookUps

from .books import (
    CALLER,
    DID,
    OFFICE,
    WEDNESDAY_NIGHT,
    WEDNESDAY_NOON,
    destination,
    laid_out,
    question,
    route,
    routing_book,
)

NOBODY = History()


def plan_of(the_route: book.Route, history: History = NOBODY, **asked: Any) -> routing.Plan:
    return routing.decide(question(**asked), routing_book(the_route), history)


# ---- The number ----


def test_a_tracking_number_goes_by_its_route() -> None:
    """C2, C3, R95: the forwarding destination, then the reserve destinations in order."""
    plan = plan_of(route(ring_seconds=25, reserve_ring_seconds=15, longest_wait_seconds=90))
    assert (plan.revision, plan.route, plan.action) == (7, "sales", Action.DIAL)
    assert laid_out(plan) == ["f desk-1", "r desk-2", "r mobile"]
    assert [step.ring_seconds for step in plan.steps] == [25, 15, 15]
    assert plan.longest_wait_seconds == 90
    assert plan.why == ("tracking number +74990000001 of source radio-jazz goes by route sales",)


def test_an_unknown_number_rings_the_default_destination_of_the_first_site() -> None:
    plan = routing.decide(question(did="70000000000"), routing_book(default_destination="desk-3"), NOBODY)
    assert (plan.route, plan.action, laid_out(plan)) == (None, Action.DIAL, ["f desk-3"])
    assert plan.why == ("the dialled number is no tracking number: default destination desk-3 of site clinic",)


def test_an_unknown_number_without_default_destination_has_no_route() -> None:
    nowhere = replace(routing_book(), sites={})
    for books in (nowhere, routing_book(default_destination="")):
        plan = routing.decide(question(did="1"), books, NOBODY)
        assert (plan.action, plan.steps) == (Action.NO_ROUTE, ())
        assert "no default destination" in plan.why[0]


def test_no_step_rings_longer_than_the_caller_may_wait() -> None:
    plan = plan_of(route(ring_seconds=60, reserve_ring_seconds=20, longest_wait_seconds=30))
    assert [step.ring_seconds for step in plan.steps] == [30, 20, 20]


@given(caller=some.text(max_size=50) | some.just("9" * 3_000), did=some.text(max_size=50) | some.just("9" * 3_000))
def test_strange_callers_are_routed_like_any_other(caller: str, did: str) -> None:
    """R49: anonymous, malformed and 3,000-character numbers."""
    books = routing_book(
        route(sticky_days=5, exceptions=(exception(regions=frozenset({"KZ", "+7343", "Moscow"})),)),
        bans=(book.Ban("+7800*", BanAction.BUSY, "robots"),),
    )
    expected = (
        ["f desk-3", "r desk-2", "r mobile"] if caller.startswith("7343") else ["f desk-1", "r desk-2", "r mobile"]
    )
    assert laid_out(routing.decide(question(caller=caller), books, NOBODY)) == expected
    assert laid_out(routing.decide(question(caller=caller, did=did), books, NOBODY)) in (["f desk-1"], expected)


# ---- Ban list ----


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (BanAction.REFUSE, Action.BAN_REFUSE),
        (BanAction.BUSY, Action.BAN_BUSY),
        (BanAction.MESSAGE, Action.BAN_MESSAGE),
    ],
)
def test_a_banned_caller_rings_nobody(action: BanAction, expected: Action) -> None:
    """R112."""
    ban = book.Ban(f"+{CALLER}", action, "calls daily", message="go-away")
    plan = routing.decide(question(), routing_book(bans=(ban,)), NOBODY)
    assert (plan.action, plan.steps, plan.route, plan.message) == (expected, (), "sales", "go-away")
    assert plan.why == (f"the caller is on the ban list ({action}): calls daily",)


def test_a_challenged_caller_keeps_the_whole_plan() -> None:
    """R112: whoever presses 1 is put through like any other."""
    ban = book.Ban(f"+{CALLER}", BanAction.CHALLENGE, "robot?", message="press-one")
    plan = routing.decide(question(), routing_book(route(concurrency_limit=3), bans=(ban,)), NOBODY)
    assert (plan.action, plan.message, plan.concurrency_limit) == (Action.BAN_CHALLENGE, "press-one", 3)
    assert laid_out(plan) == ["f desk-1", "r desk-2", "r mobile"]


def test_a_challenge_asks_for_nothing_when_nobody_would_ring() -> None:
    ban = book.Ban(f"+{CALLER}", BanAction.CHALLENGE, "robot?")
    closed = route(hours="office", after_hours=AfterHours.MESSAGE, after_hours_message="closed")
    plan = routing.decide(question(at=WEDNESDAY_NIGHT), routing_book(closed, bans=(ban,)), NOBODY)
    assert (plan.action, plan.message) == (Action.AFTER_HOURS, "closed")


@pytest.mark.parametrize(
    ("number", "is_banned"),
    [("+7916*", True), ("+79161234567", True), ("+79161234568", False), ("+7917*", False), ("+791612345678*", False)],
)
def test_a_ban_is_for_a_number_or_a_prefix(number: str, is_banned: bool) -> None:
    plan = routing.decide(question(), routing_book(bans=(book.Ban(number, BanAction.BUSY, ""),)), NOBODY)
    assert (plan.action is Action.BAN_BUSY) is is_banned


def test_the_ban_of_the_number_wins_over_the_longest_prefix_over_shorter_ones() -> None:
    bans = [
        book.Ban("+7*", BanAction.REFUSE, ""),
        book.Ban("+7916*", BanAction.CHALLENGE, ""),
        book.Ban(f"+{CALLER}", BanAction.BUSY, ""),
    ]
    actions = [routing.decide(question(), routing_book(bans=tuple(bans[:count])), NOBODY).action for count in (1, 2, 3)]
    assert actions == [Action.BAN_REFUSE, Action.BAN_CHALLENGE, Action.BAN_BUSY]


def test_a_ban_ends_when_it_expires() -> None:
    ban = book.Ban(f"+{CALLER}", BanAction.BUSY, "", expires_at=WEDNESDAY_NOON)
    books = routing_book(bans=(ban,))
    assert routing.decide(question(at=WEDNESDAY_NOON - timedelta(seconds=1)), books, NOBODY).action is Action.BAN_BUSY
    assert routing.decide(question(at=WEDNESDAY_NOON), books, NOBODY).action is Action.DIAL


def test_a_caller_without_number_is_never_banned() -> None:
    books = routing_book(bans=(book.Ban("+7*", BanAction.BUSY, ""),))
    assert routing.decide(question(caller=""), books, NOBODY).action is Action.DIAL


# ---- Exceptions ----


def exception(
    *, forward: tuple[str, ...] = ("desk-3",), strategy: Strategy | None = None, reserve: Any = None, **condition: Any
) -> book.RouteException:
    return book.RouteException(book.Condition(**condition), forward, strategy, reserve)


SEEN = History(calls_before=3)
FROM_MOSCOW = History(caller_country="RU", caller_region="Moscow")


@pytest.mark.parametrize(
    ("condition", "history", "asked", "holds"),
    [
        ({"first_time": True}, NOBODY, {}, True),
        ({"first_time": True}, History(calls_before=0), {}, True),
        ({"first_time": True}, SEEN, {}, False),
        ({"first_time": False}, SEEN, {}, True),
        ({"first_time": False}, NOBODY, {}, False),
        ({"regions": frozenset({"RU"})}, NOBODY, {}, True),
        ({"regions": frozenset({"KZ"})}, NOBODY, {}, False),
        ({"regions": frozenset({"KZ"})}, NOBODY, {"caller": "77012345678"}, True),
        ({"regions": frozenset({"KZ"})}, History(caller_country="KZ"), {}, True),
        ({"regions": frozenset({"RU"})}, NOBODY, {"caller": ""}, False),
        ({"regions": frozenset({"+7916"})}, NOBODY, {}, True),
        ({"regions": frozenset({"+7495", "KZ"})}, NOBODY, {}, False),
        ({"regions": frozenset({"moscow"})}, FROM_MOSCOW, {}, True),
        ({"regions": frozenset({"Tver"})}, FROM_MOSCOW, {}, False),
        ({"sources": frozenset({"radio-jazz"})}, NOBODY, {}, True),
        ({"sources": frozenset({"billboard"})}, NOBODY, {}, False),
        ({"hours": "night"}, NOBODY, {"at": WEDNESDAY_NIGHT}, True),
        ({"hours": "night"}, NOBODY, {}, False),
        ({"first_time": True, "sources": frozenset({"radio-jazz"})}, NOBODY, {}, True),
        ({"first_time": True, "sources": frozenset({"radio-jazz"})}, SEEN, {}, False),
    ],
)
def test_an_exception_holds_when_all_its_conditions_do(
    condition: dict[str, Any], history: History, asked: dict[str, Any], holds: bool
) -> None:
    """R71, R89."""
    plan = plan_of(route(exceptions=(exception(**condition),)), history, **asked)
    assert laid_out(plan)[0] == ("f desk-3" if holds else "f desk-1")
    assert any("exception 1" in line for line in plan.why) is holds


def test_the_first_exception_that_holds_wins() -> None:
    exceptions = (
        exception(first_time=False),
        exception(forward=("desk-2", "desk-3"), strategy=Strategy.IN_ORDER, reserve=(("mobile",),), first_time=True),
        exception(first_time=True),
    )
    assert laid_out(plan_of(route(exceptions=exceptions))) == ["f desk-2", "f desk-3", "r mobile"]


def test_an_exception_without_reserve_keeps_that_of_the_route() -> None:
    assert laid_out(plan_of(route(exceptions=(exception(first_time=True),)))) == ["f desk-3", "r desk-2", "r mobile"]
    assert laid_out(plan_of(route(exceptions=(exception(first_time=True, reserve=()),)))) == ["f desk-3"]


def test_an_exception_with_hours_of_its_own_overrules_closing_time() -> None:
    exceptions = (exception(hours="night"),)
    plan = plan_of(route(hours="office", exceptions=exceptions), at=WEDNESDAY_NIGHT)
    assert laid_out(plan) == ["f desk-3", "r desk-2", "r mobile"]


# ---- Strategies ----


@pytest.mark.parametrize(
    ("strategy", "history", "steps"),
    [
        (Strategy.ALL, NOBODY, ["f desk-1+desk-2+desk-3"]),
        (Strategy.IN_ORDER, NOBODY, ["f desk-1", "f desk-2", "f desk-3"]),
        (Strategy.ROUND_ROBIN, History(turns={"sales": 4}), ["f desk-2", "f desk-3", "f desk-1"]),
        (Strategy.ROUND_ROBIN, History(turns={"other": 4}), ["f desk-1", "f desk-2", "f desk-3"]),
        (Strategy.WEIGHTED, History(turns={"sales": 1}), ["f desk-2", "f desk-3", "f desk-1"]),
        (
            Strategy.LONGEST_IDLE,
            History(idle_since={"desk-1": WEDNESDAY_NOON, "desk-2": WEDNESDAY_NOON - timedelta(hours=1)}),
            ["f desk-3", "f desk-2", "f desk-1"],
        ),
    ],
)
def test_strategies_order_the_forwarding_destinations(strategy: Strategy, history: History, steps: list[str]) -> None:
    """C2: all at once in one step, else each in a step of its own."""
    plan = plan_of(route(forward=("desk-1", "desk-2", "desk-3"), strategy=strategy, reserve=()), history)
    assert laid_out(plan) == steps
    assert plan.why[-1].startswith(f"strategy {strategy}: ")


# ---- Sticky agent ----


def last_talked(days_ago: float, agent: str = "boris") -> History:
    return History(calls_before=1, last_agent=agent, last_agent_at=WEDNESDAY_NOON - timedelta(days=days_ago))


def test_a_repeat_caller_rings_the_agent_who_last_answered_first() -> None:
    """R72; the step after it is the next one whatever happened, so a busy line costs no time."""
    plan = plan_of(route(sticky_days=30), last_talked(29))
    assert laid_out(plan) == ["f desk-2", "f desk-1", "r mobile"]
    assert plan.steps[0].next_after is None
    assert "agent boris answered this caller within the last 30 days: desk-2 rings first" in plan.why


def test_the_sticky_agent_does_not_ring_again_in_a_group() -> None:
    plan = plan_of(route(forward=("desk-1", "desk-2"), reserve=(("desk-2", "mobile"),), sticky_days=30), last_talked(1))
    assert laid_out(plan) == ["f desk-2", "f desk-1", "r mobile"]


@pytest.mark.parametrize(
    "history", [last_talked(31), last_talked(1, "gone"), History(last_agent="boris"), NOBODY], ids=str
)
def test_without_a_recent_agent_nobody_is_preferred(history: History) -> None:
    assert laid_out(plan_of(route(sticky_days=30), history))[0] == "f desk-1"


def test_an_agent_is_rung_on_the_line_that_the_route_has() -> None:
    phones = (destination("a-phone", agent="boris"), destination("desk-4", agent="boris"))
    books = routing_book(route(forward=("desk-1", "desk-4"), sticky_days=1), destinations=phones)
    assert laid_out(routing.decide(question(), books, last_talked(0)))[0] == "f desk-4"


def test_nobody_is_sticky_after_hours() -> None:
    plan = plan_of(route(sticky_days=30, hours="office"), last_talked(1), at=WEDNESDAY_NIGHT)
    assert laid_out(plan) == ["r desk-2", "r mobile"]


# ---- Reserve by cause ----


def test_each_cause_leads_to_its_own_reserve_list() -> None:
    """C3: 0 ends the call, and no list runs on into the next."""
    by_cause = {MissCause.BUSY: (("mobile",), ("desk-3",)), MissCause.REJECTED: ()}
    plan = plan_of(route(forward=("desk-1", "desk-2"), strategy=Strategy.IN_ORDER, reserve_by_cause=by_cause))
    assert laid_out(plan) == ["f desk-1", "f desk-2", "r mobile", "r desk-3", "r desk-2", "r mobile"]
    assert plan.steps[0].next_after is None
    assert plan.steps[1].next_after == {
        MissCause.BUSY: 3,
        MissCause.REJECTED: 0,
        MissCause.NO_ANSWER: 5,
        MissCause.UNREACHABLE: 5,
    }
    assert plan.steps[3].next_after == dict.fromkeys(MissCause, 0)


def test_equal_reserve_lists_share_their_steps() -> None:
    by_cause = {MissCause.BUSY: (("desk-2",), ("mobile",)), MissCause.UNREACHABLE: (("mobile",),)}
    plan = plan_of(route(reserve_by_cause=by_cause))
    assert laid_out(plan) == ["f desk-1", "r desk-2", "r mobile", "r mobile"]


def test_a_sticky_agent_who_is_the_whole_reserve_leaves_nothing_behind() -> None:
    by_cause = {MissCause.BUSY: (("desk-2",),)}
    plan = plan_of(route(reserve=(), reserve_by_cause=by_cause, sticky_days=3), last_talked(1))
    assert laid_out(plan) == ["f desk-2", "f desk-1"]
    assert plan.steps[1].next_after == dict.fromkeys(MissCause, 0)


# ---- Hours ----


@pytest.mark.parametrize(
    ("fields", "action", "steps", "message"),
    [
        ({}, Action.DIAL, ["r desk-2", "r mobile"], None),
        ({"reserve": (), "after_hours_message": "closed"}, Action.AFTER_HOURS, [], "closed"),
        ({"after_hours": AfterHours.MESSAGE, "after_hours_message": "closed"}, Action.AFTER_HOURS, [], "closed"),
        (
            {
                "after_hours": AfterHours.DESTINATIONS,
                "after_hours_destinations": (("mobile", "desk-3"), ("desk-2",)),
                "unanswered_message": "sorry",
            },
            Action.DIAL,
            ["f mobile+desk-3", "r desk-2"],
            "sorry",
        ),
    ],
)
def test_after_hours_the_route_does_what_it_says(
    fields: dict[str, Any], action: Action, steps: list[str], message: str | None
) -> None:
    plan = plan_of(route(hours="office", **fields), at=WEDNESDAY_NIGHT)
    assert (plan.action, laid_out(plan), plan.message) == (action, steps, message)
    assert any(line.startswith("closed by business hours office") for line in plan.why)


def test_inside_the_hours_the_forwarding_destination_rings() -> None:
    plan = plan_of(route(hours="office", after_hours=AfterHours.MESSAGE, unanswered_message="sorry"))
    assert (laid_out(plan)[0], plan.message) == ("f desk-1", "sorry")
    assert plan.why[-1] == "open by business hours office"


# ---- What the called phone shows, and limits ----


def test_a_limit_is_checked_before_the_first_ring_and_that_of_the_number_wins() -> None:
    plan = plan_of(route(concurrency_limit=9))
    assert (plan.action, plan.concurrency_limit) == (Action.PREPARE, 9)
    books = routing_book(route(concurrency_limit=9), number={"concurrency_limit": 2})
    assert routing.decide(question(), books, NOBODY).concurrency_limit == 2


def test_a_destination_shows_the_tracking_number_and_the_source() -> None:
    phones = (destination("show", caller_id=CallerIdPolicy.TRACKING, label_source=True),)
    plan = routing.decide(question(), routing_book(route(forward=("show",)), destinations=phones), NOBODY)
    assert plan.action is Action.PREPARE
    assert [(step.caller_number, step.caller_label) for step in plan.steps] == [(DID, "Radio Jazz")] + [
        (None, None)
    ] * 2


@given(name=some.text(max_size=200))
def test_a_label_is_printable_and_fits_its_place(name: str) -> None:
    label = routing.caller_label(name)
    assert len(quote(label, safe="")) <= routing.MAX_LABEL_BYTES
    assert label.isprintable()


def test_a_cyrillic_label_is_cut_between_letters() -> None:
    assert routing.caller_label("Радио Джаз и Классика") == "Радио Джаз"


# ---- Without the daemon ----


def test_the_default_plan_is_that_of_an_unknown_first_time_caller() -> None:
    """N2: no ban list and no sticky agent, first turn of the strategy, both plans where there are hours."""
    books = routing_book(
        route(
            forward=("desk-1", "desk-3"),
            strategy=Strategy.ROUND_ROBIN,
            hours="office",
            sticky_days=9,
            exceptions=(exception(first_time=False), exception(regions=frozenset({"RU"}))),
        ),
        bans=(book.Ban("+7*", BanAction.BUSY, ""),),
    )
    default = routing.default_plan(books.tracking_numbers[DID], books)
    assert laid_out(default.open) == ["f desk-1", "f desk-3", "r desk-2", "r mobile"]
    assert default.closed is not None
    assert laid_out(default.closed) == ["r desk-2", "r mobile"]
    assert default.hours is OFFICE


def test_a_number_without_hours_has_one_default_plan() -> None:
    books = routing_book()
    default = routing.default_plan(books.tracking_numbers[DID], books)
    assert (default.closed, default.hours) == (None, None)
    assert default.open == routing.decide(question(), books, NOBODY)


def test_an_exception_by_hours_holds_by_default_only_inside_the_routes_own() -> None:
    for hours, first in (("office", "f desk-3"), ("night", "f desk-1")):
        books = routing_book(route(hours="office", exceptions=(exception(hours=hours),)))
        default = routing.default_plan(books.tracking_numbers[DID], books)
        assert laid_out(default.open)[0] == first
        assert default.closed is not None
        assert laid_out(default.closed)[0] == "r desk-2"


def test_numbers_that_nobody_knows_have_a_default_plan_too() -> None:
    default = routing.default_plan(None, routing_book())
    assert (laid_out(default.open), default.closed) == (["f desk-1"], None)


# ---- What the daemon has to look up ----


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, LookUps()),
        ({"sticky_days": 1}, LookUps(last_agent=True)),
        ({"strategy": Strategy.WEIGHTED}, LookUps(turns=True)),
        ({"strategy": Strategy.LONGEST_IDLE}, LookUps(idle_since=True)),
        ({"exceptions": (exception(first_time=False),)}, LookUps(calls_before=True)),
        (
            {"exceptions": (exception(regions=frozenset({"RU", "+7343"}), strategy=Strategy.ROUND_ROBIN),)},
            LookUps(turns=True),
        ),
        ({"exceptions": (exception(regions=frozenset({"Moscow"})),)}, LookUps(region=True)),
    ],
)
def test_only_what_the_route_reads_is_looked_up(fields: dict[str, Any], expected: LookUps) -> None:
    books = routing_book(route(**fields))
    assert routing.look_ups(DID, books) == expected
    assert routing.look_ups("1", books) == LookUps()


def test_equal_questions_share_one_plan_and_a_changed_book_has_its_own() -> None:
    books = routing_book()
    first = routing.decide(question(), books, NOBODY)
    assert routing.decide(question(caller=""), books, NOBODY) is first
    changed = replace(books, routes={"sales": route(forward=("desk-3",))})
    assert laid_out(routing.decide(question(), changed, NOBODY))[0] == "f desk-3"


def test_many_different_plans_do_not_fill_the_memory() -> None:
    phones = tuple(destination(f"d{index}") for index in range(8))
    books = routing_book(
        route(forward=tuple(phone.key for phone in phones), strategy=Strategy.LONGEST_IDLE, reserve=()),
        destinations=phones,
    )
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for turn in range(6_000):
        idle = {
            phone.key: start + timedelta(seconds=(turn * 7_919 * (index + 1)) % 40_009)
            for index, phone in enumerate(phones)
        }
        routing.decide(question(), books, History(idle_since=idle))
    compiled = books.compiled["gateway.core.routing"]
    assert isinstance(compiled, routing._Compiled)
    assert 0 < len(compiled.plans) <= routing._MAX_CACHED_PLANS
