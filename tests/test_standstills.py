"""The rig knows when the machine stood still."""

from __future__ import annotations

import os
import signal
import time

from tests.rig import processes, standstills


def test_a_standstill_is_measured_where_it_was() -> None:
    """One core's sleeper is stopped for a tenth of a second, as by a hypervisor."""
    sleeper, *_ = standstills.watch()
    assert standstills.watch()[0] == sleeper
    processes.freeze(sleeper)
    stopped = time.time()
    processes.wait_until(lambda: time.time() >= stopped + 0.1, 1, "a tenth of a second")
    os.kill(sleeper, signal.SIGCONT)
    processes.wait_until(lambda: standstills.lost_ms(stopped) >= 90, 5, "a standstill in the book")
    assert standstills.lost_ms(stopped, stopped + 0.05) >= 30
    assert standstills.lost_ms(stopped + 3_600) == 0
