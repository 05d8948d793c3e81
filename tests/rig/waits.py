"""Waiting for what other processes do: limits for when it never comes, and no bounds on how fast it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.rig import standstills


class Patience:
    """For so many seconds from now on, those in which the machine stood still not counted."""

    def __init__(self, seconds: float) -> None:
        self._began = time.time()
        self._seconds = seconds

    def is_over(self) -> bool:
        waited = time.time() - self._began
        return waited > self._seconds and waited - standstills.mean_lost_ms(self._began) / 1000 > self._seconds


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll every 10 ms until the condition holds.

    Raises:
        TimeoutError: it did not within ``seconds``.
    """
    patience = Patience(seconds)
    while not condition():
        if patience.is_over():
            raise TimeoutError(f"after {seconds} s still not: {what}")
        time.sleep(0.01)
