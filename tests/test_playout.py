"""The rig's ear: what is a silence, and what is only a machine that stood still."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.rig import tones
from tests.rig.headset import Packet, Playout
from tests.rig.tones import Track

HERTZ = 1000
SAMPLES = 160
BEGIN = 1_795_331_654.0


def played(arrivals: Iterable[float], stamps: Iterable[int] | None = None) -> Track:
    """Packets of a tone that arrive so many seconds after the beginning."""
    playout = Playout()
    for number, (arrival, stamp) in enumerate(zip(arrivals, stamps or range(10_000), strict=False)):
        sound = tones.sine(HERTZ, (number + 1) * SAMPLES / tones.RATE)[-SAMPLES:]
        playout.take(Packet(BEGIN + arrival, 4_294_960_000 + stamp * SAMPLES & 0xFFFFFFFF, sound))
    return playout.track()


def steady(count: int) -> list[float]:
    return [number * 0.02 for number in range(count)]


def test_steady_packets_are_one_sound() -> None:
    track = played(steady(100))
    assert track.start == pytest.approx(BEGIN, abs=1e-5)
    assert track.seconds == pytest.approx(2.0)
    assert track.longest_silence() == 0


@pytest.mark.parametrize("first", [0, 40, 90])
def test_a_heap_after_a_standstill_is_no_silence(first: int) -> None:
    """Ten packets of the middle, the beginning or the end arrive when the last of them was due."""
    arrivals = steady(100)
    arrivals[first : first + 10] = [arrivals[first + 9]] * 10
    track = played(arrivals)
    assert track.start == pytest.approx(BEGIN, abs=1e-5)
    assert track.seconds == pytest.approx(2.0)
    assert track.longest_silence() == 0


def test_what_stays_late_was_silent_before() -> None:
    """A sender that lost time says the same packets, later, and never catches up."""
    track = played([at + 0.2 * (number >= 50) for number, at in enumerate(steady(100))])
    assert track.seconds == pytest.approx(2.2)
    assert track.longest_silence() == pytest.approx(200, abs=25)


def test_a_gap_of_the_timestamps_is_heard() -> None:
    """As of a party that was on hold."""
    stamps = [*range(50), *range(60, 110)]
    track = played([stamp * 0.02 for stamp in stamps], stamps)
    assert track.seconds == pytest.approx(2.2)
    assert track.longest_silence() == pytest.approx(200, abs=25)


def test_another_source_joins_where_it_arrives() -> None:
    track = played([*steady(50), *(1.0 + at for at in steady(50))], [*range(50), *range(7_000, 7_050)])
    assert track.seconds == pytest.approx(2.0)
    assert track.longest_silence() == 0


def test_little_jitter_is_no_silence() -> None:
    track = played([at + 0.05 * (number % 3 == 2) for number, at in enumerate(steady(100))])
    assert track.seconds == pytest.approx(2.0)
