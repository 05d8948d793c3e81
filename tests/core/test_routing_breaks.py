"""Who is on break is not rung, whatever chose them; and nobody is lost for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.core import book, routing
from tests.core import books

ANNA, BOTH = frozenset({"anna"}), frozenset({"anna", "boris"})


def steps(on_break: frozenset[str], history: dict[str, Any] | None = None, **fields: Any) -> list[str]:
    """The steps of a call by this route, as text; the strategy's turn is the first."""
    made = books.routing_book(books.route(**fields))
    plan = routing.decide(books.question(), made, routing.History(on_break=on_break, **(history or {})))
    # The choice is kept by what it depends on, the break included.
    assert plan is routing.decide(books.question(), made, routing.History(on_break=on_break, **(history or {})))
    assert routing.decide(books.question(), made, routing.History()).steps != plan.steps or not on_break
    return books.laid_out(plan)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, ["r desk-2", "r mobile"]),
        ({"forward": ("desk-1", "desk-3")}, ["f desk-3", "r desk-2", "r mobile"]),
        (
            {"forward": ("desk-1", "desk-3"), "strategy": book.Strategy.IN_ORDER},
            ["f desk-3", "r desk-2", "r mobile"],
        ),
        (
            {"forward": ("desk-1", "desk-3"), "strategy": book.Strategy.ROUND_ROBIN},
            ["f desk-3", "r desk-2", "r mobile"],
        ),
        (
            {"forward": ("desk-1", "desk-3"), "strategy": book.Strategy.LONGEST_IDLE},
            ["f desk-3", "r desk-2", "r mobile"],
        ),
        ({"forward": ("desk-2",), "reserve": (("desk-1", "desk-3"), ("desk-1",))}, ["f desk-2", "r desk-3"]),
    ],
)
def test_lines_of_an_agent_on_break(fields: dict[str, Any], wanted: list[str]) -> None:
    assert steps(ANNA, **fields) == wanted


def test_the_sticky_agent_on_break() -> None:
    known = {"last_agent": "anna", "last_agent_at": books.WEDNESDAY_NOON}
    sticky: dict[str, Any] = {"forward": ("desk-3",), "reserve": (("desk-1",), ("desk-2",)), "sticky_days": 30}
    assert steps(ANNA, known, **sticky) == ["f desk-3", "r desk-2"]


def test_reserve_by_cause() -> None:
    """With nobody to forward to there is no cause: the plain list rings."""
    by_cause = {book.MissCause.BUSY: (("desk-1",), ("desk-3",)), book.MissCause.NO_ANSWER: (("mobile",),)}
    fields: dict[str, Any] = {"forward": ("desk-2",), "reserve": (("desk-3",),), "reserve_by_cause": by_cause}
    assert steps(ANNA, **fields) == ["f desk-2", "r desk-3", "r mobile"]
    made = books.routing_book(books.route(**(fields | {"forward": ("desk-1",)})))
    plan = routing.decide(books.question(), made, routing.History(on_break=ANNA))
    assert books.laid_out(plan) == ["r desk-3"]
    assert plan.steps[0].next_after is None


def test_when_everybody_is_on_break_they_ring() -> None:
    """A caller is not lost for a break (N2)."""
    made = books.routing_book(books.route(forward=("desk-1",), reserve=(("desk-2",),)))
    plan = routing.decide(books.question(), made, routing.History(on_break=BOTH))
    assert books.laid_out(plan) == ["f desk-1", "r desk-2"]
    assert plan.action is routing.Action.DIAL


def test_after_hours() -> None:
    fields: dict[str, Any] = {
        "hours": "office",
        "after_hours": book.AfterHours.DESTINATIONS,
        "after_hours_destinations": (("desk-1",), ("desk-2",)),
    }
    made = books.routing_book(books.route(**fields))
    night = replace(books.question(), at=books.WEDNESDAY_NIGHT)
    plan = routing.decide(night, made, routing.History(on_break=ANNA))
    assert books.laid_out(plan) == ["f desk-2"]


def test_the_plan_says_who_was_left_out() -> None:
    plan = routing.decide(books.question(), books.routing_book(), routing.History(on_break=ANNA))
    assert "on break, not rung: desk-1" in plan.why
    unrelated = routing.decide(books.question(), books.routing_book(), routing.History(on_break=frozenset({"zoe"})))
    assert not any("on break" in line for line in unrelated.why)
