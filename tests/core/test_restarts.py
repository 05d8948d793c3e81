"""A new run of Asterisk is noticed by its channels, and a busy one is not taken for it (N1)."""

from __future__ import annotations

import itertools
import random

import pytest

from gateway.core import restarts
from gateway.core.rows import Row

SECOND = 1_795_300_000


def started(second: int, sequence: int, name: str = "site-") -> Row:
    unique_id = f"{name}{second}.{sequence}"
    at_us = second * 1_000_000
    return Row(at_us, "CHAN_START", "", f"PJSIP/x-{sequence:08x}", unique_id, unique_id, "dialmark-from-a", "", "", {})


def signs(*rows: Row) -> list[str]:
    watch = restarts.RestartWatch()
    return [row.unique_id for row in rows if watch.is_restart(row)]


@pytest.mark.parametrize("name", ["site-", "", "a-b-"])
@pytest.mark.parametrize("before", [1, 2, 5_000])
def test_a_new_run_is_noticed_once(before: int, name: str) -> None:
    first = [started(SECOND + place // 100, place, name) for place in range(before)]
    later = SECOND + before // 100 + 3
    second = [started(later + place // 100, place, name) for place in range(300)]
    assert signs(*first, *second) == [f"{name}{later}.0"]


def test_rows_far_out_of_order_are_no_restart() -> None:
    """By 114 channels at 64 calls a second, as measured, and by a good deal more."""
    channels = [started(SECOND + place // 128, place) for place in range(4_000)]
    chance = random.Random(7)
    order = sorted(range(len(channels)), key=lambda place: place + chance.uniform(0, 400))
    assert any(later < earlier - 200 for earlier, later in itertools.pairwise(order))
    assert signs(*(channels[place] for place in order)) == []


def test_the_first_channel_of_a_run_may_come_late() -> None:
    old = [started(SECOND, place) for place in range(50)]
    new = [started(SECOND + 5, place) for place in (3, 1, 0, 2, 4)]
    assert signs(*old, *new) == [f"site-{SECOND + 5}.3"]


def test_a_count_read_a_second_before_its_clock() -> None:
    assert signs(started(SECOND, 7), started(SECOND + 1, 6)) == []


def test_channels_of_stored_rows_count() -> None:
    watch = restarts.RestartWatch()
    watch.seen(f"site-{SECOND}.90")
    assert not watch.is_restart(started(SECOND, 91))
    assert watch.is_restart(started(SECOND + 9, 0))


@pytest.mark.parametrize(
    "unique_id", ["", ".", "x", "site-.5", "site-1795300000.", "site-1795300000.5a", "9" * 40 + ".1"]
)
def test_what_is_no_unique_id_tells_nothing(unique_id: str) -> None:
    odd = started(SECOND + 60, 0)._replace(unique_id=unique_id)
    assert signs(started(SECOND, 5), odd, started(SECOND, 6)) == []
