"""The rig knows when the machine stood still."""

from __future__ import annotations

import os
import signal
import time

from tests.rig import processes, standstills, waits


def test_a_standstill_is_measured_where_it_was() -> None:
    """One core's sleeper is stopped for a tenth of a second, as by a hypervisor."""
    sleeper, *_ = standstills.watch()
    assert standstills.watch()[0] == sleeper
    processes.freeze(sleeper)
    stopped = time.time()
    waits.wait_until(lambda: time.time() >= stopped + 0.1, 1, "a tenth of a second")
    os.kill(sleeper, signal.SIGCONT)
    waits.wait_until(lambda: standstills.lost_ms(stopped) >= 90, 30, "a standstill in the book")
    assert standstills.lost_ms(stopped, stopped + 0.05) >= 30
    assert standstills.longest_ms(stopped) >= 90 and standstills.longest_ms(stopped, stopped + 0.05) <= 50
    assert standstills.lost_ms(stopped + 3_600) == standstills.longest_ms(stopped + 3_600) == 0


def test_waiting_does_not_count_what_the_machine_stood_still() -> None:
    """Half a second of one core is lost, which is half of that on two: so much longer patience lasts."""
    sleeper, *others = standstills.watch()
    patience = waits.Patience(0.6)
    began = time.time()
    processes.freeze(sleeper)
    while time.time() < began + 0.5:
        assert not patience.is_over()
        time.sleep(0.001)
    os.kill(sleeper, signal.SIGCONT)
    waits.wait_until(lambda: standstills.lost_ms(began) >= 400, 30, "a standstill in the book")
    while not patience.is_over():
        time.sleep(0.001)
    assert time.time() - began >= 0.6 + 0.4 / (1 + len(others))
