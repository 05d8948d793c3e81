"""Token buckets of the public listener."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from gateway.core import buckets


def test_so_many_at_once_and_so_many_a_minute() -> None:
    known = buckets.Buckets()
    taken = [known.take("a", 100.0, per_minute=6, burst=3) for _ in range(4)]
    assert taken == [0.0, 0.0, 0.0, 10.0]
    assert known.take("b", 100.0, per_minute=6, burst=3) == 0.0
    assert known.take("a", 105.0, per_minute=6, burst=3) == 5.0
    assert known.take("a", 110.0, per_minute=6, burst=3) == 0.0
    assert known.take("a", 110.0, per_minute=6, burst=3) == 10.0
    # Never more than a full one, however long nobody asked.
    assert [known.take("a", 1e6, per_minute=6, burst=3) for _ in range(4)] == [0.0, 0.0, 0.0, 10.0]


def test_a_clock_that_steps_back_fills_nothing() -> None:
    known = buckets.Buckets()
    known.take("a", 100.0, per_minute=60, burst=1)
    assert known.take("a", 0.0, per_minute=60, burst=1) > 0
    assert known.take("a", 100.5, per_minute=60, burst=1) == 0.5


def test_keys_are_bounded_and_the_one_not_asked_for_longest_goes() -> None:
    known = buckets.Buckets(most_keys=3)
    for key in ("a", "b", "c", "a", "d"):
        known.take(key, 0.0, per_minute=1, burst=1)
    assert len(known) == 3
    assert known.take("a", 0.0, per_minute=1, burst=1) > 0
    assert known.take("b", 0.0, per_minute=1, burst=1) == 0.0


@given(
    gaps=some.lists(some.floats(0, 30), max_size=60),
    per_minute=some.floats(0.1, 600),
    burst=some.integers(1, 20),
)
def test_never_more_than_the_limit(gaps: list[float], per_minute: float, burst: int) -> None:
    known, now, passed = buckets.Buckets(), 0.0, 0
    for gap in gaps:
        now += gap
        wait = known.take("a", now, per_minute=per_minute, burst=burst)
        passed += wait == 0.0
        assert passed <= burst + now * per_minute / 60 + 1e-6
        if wait:
            assert known.take("a", now + wait + 1e-6, per_minute=per_minute, burst=burst) == 0.0
            now, passed = now + wait + 1e-6, passed + 1
