"""When a delivery is tried again: the schedule of Standard Webhooks with jitter, `Retry-After`, and when to stop.

claimed ──▶ done | skipped ─────────▶ done
        ──▶ waiting ────────────────▶ pending, due when it asked for; the attempt does not count
        ──▶ blocked ────────────────▶ pending, due again soon; the attempt does not count
        ──▶ failed ─────────────────▶ pending, due by the schedule; behind its end: dead
        ──▶ dead ───────────────────▶ dead
        ──▶ gone ───────────────────▶ pending, and the target is switched off until a person turns it on
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.core.outgoing import adapters

SECOND_US = 1_000_000

DELAYS_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Between an attempt that failed and the next: ten attempts within 75 hours (Standard Webhooks, "Retry schedule")."""
JITTER = 0.2
"""The largest part by which a delay is prolonged, so that what failed together does not come back together."""
LONGEST_SECONDS = 86_400
"""Whatever a receiver asks for."""


class Fate(StrEnum):
    """What becomes of the row of a delivery."""

    DONE = "done"
    AGAIN = "again"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Step:
    """The end of an attempt. `at_us` is when the next one is due, None unless `fate` is AGAIN."""

    fate: Fate
    at_us: int | None = None
    counts: bool = True
    """Whether the attempt takes one of the schedule."""
    switches_off: bool = False
    """The target gets nothing until a person turns it on."""


def next_step(settled: adapters.Settled, *, attempts: int, now_us: int, random: float) -> Step:
    """What follows from an attempt, which was number `attempts`. `random` is from 0 to 1."""
    match settled.state:
        case adapters.State.DONE | adapters.State.SKIPPED:
            return Step(Fate.DONE)
        case adapters.State.DEAD:
            return Step(Fate.DEAD)
        case adapters.State.GONE:
            return Step(Fate.AGAIN, now_us, counts=False, switches_off=True)
        case adapters.State.WAITING | adapters.State.BLOCKED:
            return Step(Fate.AGAIN, _bounded(settled.again_us or now_us, now_us), counts=False)
    if attempts > len(DELAYS_SECONDS):
        return Step(Fate.DEAD)
    delay = DELAYS_SECONDS[max(attempts, 1) - 1] * (1 + JITTER * random)
    due_us = now_us + round(delay * SECOND_US)
    # A receiver that names a time is not asked before it; naming an early one does not make it be asked more often.
    return Step(Fate.AGAIN, max(due_us, _bounded(settled.again_us or 0, now_us)))


def _bounded(at_us: int, now_us: int) -> int:
    return min(at_us, now_us + LONGEST_SECONDS * SECOND_US)
