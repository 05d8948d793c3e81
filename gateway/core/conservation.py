"""Conservation (N1): every inbound channel of the journal is exactly one stored record, and nothing else is.

`Ledger` is fed journal rows roughly in order, doubled ones included, and then balanced against what the store holds. It
knows nothing of folding: it looks for the two marks by which a channel shows that it is ours, so that a defect of the
fold cannot hide itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.core import rows

CONTEXT_PREFIX = "dialmark-"
EVENT_PREFIX = "DM_"
NO_CALL = "DM_BREAK"
"""The one event of ours that is of no call."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the store holds of one call."""

    call_id: str
    unique_id: str
    started_us: int
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of the journal that must be a record. `call_ids` are those it announced itself, oldest first: none
    if it was gone before, two if it entered twice, which is still one call."""

    unique_id: str
    started_us: int
    call_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Doubled:
    """A channel with more records than it should have."""

    channel: Channel
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Balance:
    """What came of the comparison."""

    channels: int
    """Channels that must be a record, waiting ones included."""
    records: int
    """Stored records that started within the span of the comparison."""
    open: int
    """Records of calls that are not over: they balance, and may still change."""
    missing: tuple[Channel, ...]
    doubled: tuple[Doubled, ...]
    invented: tuple[Record, ...]
    waiting: tuple[Channel, ...]
    """Channels without a record that need none yet: the tracker has not read their rows, or they have neither got a
    call id nor ended. They are due within seconds; whoever asks decides how long is too long."""

    @property
    def is_even(self) -> bool:
        """Nothing missing, doubled or invented."""
        return not (self.missing or self.doubled or self.invented)


@dataclass(slots=True)
class _Seen:
    """One channel while rows come in. `is_due`: the tracker has read a row by which it must be a record."""

    started_us: int
    linked_id: str
    call_ids: dict[str, int] = field(default_factory=dict)
    is_due: bool = False


class Ledger:
    """Collects the channels of the journal that are ours. Memory: one entry per channel, none per row."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._first_us: int | None = None

    @property
    def first_us(self) -> int | None:
        """Time of the earliest row fed; records from before cannot be judged."""
        return self._first_us

    def feed(self, row: rows.Row, *, is_read: bool = True) -> None:
        """Take one row. `is_read`: the tracker's position is behind it."""
        if self._first_us is None or row.at_us < self._first_us:
            self._first_us = row.at_us
        if row.user_event.startswith(EVENT_PREFIX) and row.user_event != NO_CALL:
            seen = self._note(row)
            if call_id := row.data.get("i", ""):
                seen.call_ids[call_id] = min(seen.call_ids.get(call_id, row.at_us), row.at_us)
                seen.is_due = seen.is_due or is_read
        elif row.kind == rows.EventKind.CHAN_START:
            if row.unique_id == row.linked_id and row.context.startswith(CONTEXT_PREFIX):
                self._note(row)
        elif row.kind == rows.EventKind.CHAN_END and row.unique_id in self._seen:
            seen = self._seen[row.unique_id]
            seen.is_due = seen.is_due or is_read

    def _note(self, row: rows.Row) -> _Seen:
        seen = self._seen.get(row.unique_id)
        if seen is None:
            seen = self._seen[row.unique_id] = _Seen(row.at_us, row.linked_id)
        seen.started_us = min(seen.started_us, row.at_us)
        return seen

    def balance(
        self, records: Iterable[Record], *, since_us: int | None = None, until_us: int | None = None
    ) -> Balance:
        """Compare with the stored records; `since_us` is inclusive, `until_us` exclusive, both by start of the call.

        Give records from a little outside the span too: they decide whether a channel near its edge is missing, but
        only those inside it are counted or called invented.
        """
        since = max(since_us or 0, self._first_us or 0)
        by_channel: dict[str, list[Record]] = {}
        counted = open_calls = 0
        invented: list[Record] = []
        for record in records:
            by_channel.setdefault(record.unique_id, []).append(record)
            if not _is_within(record.started_us, since, until_us):
                continue
            counted += 1
            open_calls += record.is_open
            if record.unique_id not in self._seen:
                invented.append(record)
        missing: list[Channel] = []
        waiting: list[Channel] = []
        doubled: list[Doubled] = []
        channels = 0
        for unique_id, seen in self._seen.items():
            if self._is_part_of_another(unique_id, seen) or not _is_within(seen.started_us, since, until_us):
                continue
            channels += 1
            channel = Channel(unique_id, seen.started_us, tuple(sorted(seen.call_ids, key=seen.call_ids.__getitem__)))
            found = by_channel.get(unique_id, [])
            if len(found) > 1:
                doubled.append(Doubled(channel, tuple(found)))
            elif not found:
                (missing if seen.is_due else waiting).append(channel)
        return Balance(
            channels=channels,
            records=counted,
            open=open_calls,
            missing=tuple(sorted(missing, key=_by_start)),
            doubled=tuple(sorted(doubled, key=lambda one: one.channel.started_us)),
            invented=tuple(sorted(invented, key=lambda record: record.started_us)),
            waiting=tuple(sorted(waiting, key=_by_start)),
        )

    def _is_part_of_another(self, unique_id: str, seen: _Seen) -> bool:
        """A channel that our caller's own call made and sent out through us: one call, one record."""
        return seen.linked_id != unique_id and seen.linked_id in self._seen


def _is_within(at_us: int, since_us: int, until_us: int | None) -> bool:
    return at_us >= since_us and (until_us is None or at_us < until_us)


def _by_start(channel: Channel) -> int:
    return channel.started_us
