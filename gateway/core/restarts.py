"""Notices in the journal that Asterisk was restarted, so that calls of the run before are known to be over.

A unique id is `systemname-epoch.sequence`: the second in which the channel was made, and a count of channels that
begins at 0 with each run of Asterisk. Within a run both rise together; in the journal their rows may be far out of
order on a busy machine (by 114 channels, measured at 64 calls/s). So a count that is no higher tells of a new run only
together with a second that is later. A clock that was set back over a restart hides it; AMI tells of it then.
"""

from __future__ import annotations

from gateway.core import calls

_SAME_SECONDS = 1
"""Count and clock are not read in one step, so a lower count of the same run can bear the next second. No Asterisk is
up again within it."""


class RestartWatch:
    """Fed with every row in the order of the journal."""

    def __init__(self) -> None:
        self._sequence = -1
        self._second = 0

    def is_restart(self, row: calls.Row) -> bool:
        """Whether this row is the first sign of a new run: every channel that started before it is gone."""
        if row.kind != calls.EventKind.CHAN_START:
            return False
        started = _started(row.unique_id)
        if started is None:
            return False
        second, sequence = started
        if sequence <= self._sequence and second > self._second + _SAME_SECONDS:
            self._second, self._sequence = second, sequence
            return True
        self._take(second, sequence)
        return False

    def seen(self, unique_id: str) -> None:
        """Takes up a channel of a stored open row, after a restart of the daemon."""
        started = _started(unique_id)
        if started is not None:
            self._take(*started)

    def _take(self, second: int, sequence: int) -> None:
        if sequence > self._sequence:
            self._second, self._sequence = second, sequence


def _started(unique_id: str) -> tuple[int, int] | None:
    """Second and count of a unique id, None when it is of another form."""
    head, _, sequence = unique_id.rpartition(".")
    second = head.rpartition("-")[2]
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in (second, sequence)):
        return None
    return int(second), int(sequence)
