"""Notices in the journal that Asterisk was restarted, so that calls of the run before are known to be over.

A unique id is `systemname-epoch.sequence`; the sequence counts channels and begins at 0 with each run of Asterisk. The
rows of one run can be a little out of order, so only a fall by more than `_DISORDER` counts, or the very first channel.
"""

from __future__ import annotations

from gateway.core import calls

_DISORDER = 64


class RestartWatch:
    """Fed with every row in the order of the journal."""

    def __init__(self) -> None:
        self._highest = -1
        self._first_channel = ""

    def is_restart(self, row: calls.Row) -> bool:
        """Whether this row is the first sign of a new run: every channel that started before it is gone."""
        if row.kind != calls.EventKind.CHAN_START:
            return False
        sequence = sequence_of(row.unique_id)
        if sequence is None:
            return False
        is_first = sequence == 0 and row.unique_id != self._first_channel
        fell = sequence < self._highest - _DISORDER
        had_run = self._highest >= 0
        if sequence == 0:
            self._first_channel = row.unique_id
        if had_run and (is_first or fell):
            self._highest = sequence
            return True
        self._highest = max(self._highest, sequence)
        return False

    def seen(self, unique_id: str) -> None:
        """Takes up a channel of a stored open row, after a restart of the daemon."""
        sequence = sequence_of(unique_id)
        if sequence is not None:
            self._highest = max(self._highest, sequence)
            if sequence == 0:
                self._first_channel = unique_id


def sequence_of(unique_id: str) -> int | None:
    """The counter at the end of a unique id, None when it has none."""
    _, dot, tail = unique_id.rpartition(".")
    return int(tail) if dot and tail.isascii() and tail.isdigit() and len(tail) < 19 else None
