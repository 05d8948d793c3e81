from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import strategies
from gateway.core.book import Strategy

from .books import destination

A, B, C = (destination(key) for key in "abc")
NINE, TEN = (datetime(2026, 11, 11, hour, tzinfo=UTC) for hour in (9, 10))


@pytest.mark.parametrize(("turn", "keys"), [(0, "abc"), (1, "bca"), (2, "cab"), (3, "abc"), (10**12, "bca")])
def test_round_robin_starts_one_further_at_each_turn(turn: int, keys: str) -> None:
    ordered = strategies.order(Strategy.ROUND_ROBIN, (A, B, C), turn, {})
    assert "".join(one.key for one in ordered) == keys


@pytest.mark.parametrize(
    ("idle_since", "keys"),
    [({}, "abc"), ({"a": NINE}, "bca"), ({"a": TEN, "b": NINE, "c": NINE}, "bca"), ({"b": TEN, "c": NINE}, "acb")],
)
def test_the_longest_idle_rings_first_and_the_file_decides_between_equals(
    idle_since: dict[str, datetime], keys: str
) -> None:
    ordered = strategies.order(Strategy.LONGEST_IDLE, (A, B, C), 0, idle_since)
    assert "".join(one.key for one in ordered) == keys


@pytest.mark.parametrize("strategy", [Strategy.ALL, Strategy.IN_ORDER])
def test_the_file_gives_the_order_of_the_other_strategies(strategy: Strategy) -> None:
    assert strategies.order(strategy, (C, A, B), 5, {"c": TEN}) == (C, A, B)


def test_weights_are_spread_smoothly() -> None:
    """The sequence of nginx for 5, 1, 1."""
    assert strategies.weighted_picks((5, 1, 1)) == (0, 0, 1, 0, 2, 0, 0)
    assert strategies.weighted_picks((50, 10, 10)) == (0, 0, 1, 0, 2, 0, 0)


@given(weights=some.lists(some.integers(min_value=1, max_value=100), min_size=1, max_size=8))
def test_each_destination_is_first_as_often_as_its_weight_says(weights: list[int]) -> None:
    phones = tuple(destination(str(index), weight=weight) for index, weight in enumerate(weights))
    total = sum(weights)
    firsts: Counter[str] = Counter()
    for turn in range(total):
        ordered = strategies.order(Strategy.WEIGHTED, phones, turn, {})
        assert sorted(one.key for one in ordered) == sorted(one.key for one in phones)
        firsts[ordered[0].key] += 1
    assert [firsts[phone.key] for phone in phones] == weights
