"""How long the machine stood still: a hypervisor takes a core away from all that runs on it, real-time or not.

    assert heard.longest_silence(ringing, talking) < 400 + standstills.lost_ms(ringing, talking)

What is heard or recorded meanwhile is late or lost by so much. One sleeper for each core, before all other work, writes
down each time it woke too late; where all is well it writes nothing, and the bound is the bare one.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.rig import processes

SLEEP_SECONDS, LATE_SECONDS = 0.01, 0.01
PRIORITY = 3
"""Above Asterisk's and the voices', who are not to be taken for a standstill."""

_SLEEPER = f"""
import os, sys, time
os.sched_setaffinity(0, {{int(sys.argv[1])}})
with open(sys.argv[2], "a", buffering=1) as late:
    while True:
        slept = time.time()
        time.sleep({SLEEP_SECONDS})
        woke = time.time()
        if woke - slept - {SLEEP_SECONDS} > {LATE_SECONDS}:
            late.write(f"{{slept + {SLEEP_SECONDS}}} {{woke}}\\n")
"""
_books: list[Path] = []
_pids: list[int] = []


def watch() -> list[int]:
    """From now on, until this process ends, by these processes; a second time does nothing.

    Without the right to real time nothing is watched.
    """
    if _books or not processes.real_time([], PRIORITY):
        return _pids
    folder = Path(tempfile.mkdtemp(prefix="dialmark-standstills-"))
    for core in sorted(os.sched_getaffinity(0)):
        _books.append(folder / str(core))
        argv = processes.guarded([sys.executable, "-I", "-S", "-c", _SLEEPER, str(core), str(_books[-1])])
        sleeper = subprocess.Popen(processes.real_time(argv, PRIORITY), stdin=subprocess.DEVNULL)
        _pids.append(sleeper.pid)
        atexit.register(processes.stop, sleeper)
    while not all(book.exists() for book in _books):
        time.sleep(0.01)
    return _pids


def lost_ms(start: float, end: float | None = None) -> float:
    """Milliseconds for which any core stood still between these moments, in seconds since the epoch; until now."""
    return sum(_standstills_ms(start, end))


def mean_lost_ms(start: float) -> float:
    """The same of a core, since this moment."""
    return lost_ms(start) / max(1, len(_books))


def longest_ms(start: float, end: float | None = None) -> float:
    """The same, of the longest one standstill; 0.0 if there was none."""
    return max(_standstills_ms(start, end), default=0.0)


def _standstills_ms(start: float, end: float | None) -> Iterator[float]:
    end = time.time() if end is None else end
    for book in _books:
        for line in book.read_text().splitlines():
            due, _, woke = line.partition(" ")
            yield 1000 * max(0.0, min(float(woke), end) - max(float(due), start))
