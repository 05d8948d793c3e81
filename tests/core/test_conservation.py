"""Conservation (N1): the ledger finds what is missing, doubled and invented, and nothing else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import calls, conservation
from gateway.core.rows import Row
from tests import journals

START = 1_800_000_000_000_000


def _row(
    kind: str, unique_id: str, *, at: int = 0, linked_id: str = "", context: str = "", event: str = "", i: str = ""
) -> Row:
    data = {"i": i} if i else {}
    return Row(START + at, kind, event, f"PJSIP/{unique_id}", unique_id, linked_id or unique_id, context, "", "", data)


def _call(number: int) -> list[Row]:
    unique_id, at = f"x-{number}.0", number * 1_000_000
    return [
        _row("CHAN_START", unique_id, at=at, context="dialmark-from-carrier-a"),
        _row("USER_DEFINED", unique_id, at=at + 1, context="dialmark-inbound", event="DM_IN", i=f"call-{number}"),
        _row("CHAN_START", f"y-{number}.1", at=at + 2, linked_id=unique_id, context="dialmark-nowhere"),
        _row("CHAN_END", unique_id, at=at + 9),
    ]


def _record(number: int, *, is_open: bool = False, call_id: str = "") -> conservation.Record:
    return conservation.Record(call_id or f"call-{number}", f"x-{number}.0", START + number * 1_000_000, is_open)


def _balance(rows: list[Row], records: list[conservation.Record], **span: int | None) -> conservation.Balance:
    ledger = conservation.Ledger()
    for row in rows:
        ledger.feed(row)
    return ledger.balance(records, **span)


def test_even() -> None:
    balance = _balance([*_call(1), *_call(2)], [_record(1), _record(2, is_open=True)])
    assert balance.is_even
    assert (balance.channels, balance.records, balance.open) == (2, 2, 1)


def test_missing_doubled_and_invented_are_told_apart() -> None:
    balance = _balance([*_call(1), *_call(2)], [_record(1), _record(1, call_id="other"), _record(9)])
    assert not balance.is_even
    assert [channel.call_ids for channel in balance.missing] == [("call-2",)]
    assert [record.call_id for record in balance.doubled[0].records] == ["call-1", "other"]
    assert [record.call_id for record in balance.invented] == ["call-9"]


@given(st.randoms(use_true_random=False))
def test_doubled_and_shuffled_rows_change_nothing(order: random.Random) -> None:
    """Rows of one channel keep their order in the file; those of others stand anywhere between them."""
    queues = [_call(number) for number in range(1, 5)]
    rows: list[Row] = []
    while queues:
        queue = order.choice(queues)
        rows.append(queue.pop(0))
        if order.random() < 0.3:
            rows.append(order.choice(rows))
        queues = [one for one in queues if one]
    assert _balance(rows, [_record(number) for number in range(1, 5)]).is_even


def test_a_channel_that_was_gone_before_it_got_an_id_is_a_call() -> None:
    rows = [row for row in _call(1) if row.user_event != "DM_IN"]
    assert [channel.call_ids for channel in _balance(rows, []).missing] == [()]
    assert _balance(rows, [_record(1, call_id="made from its channel")]).is_even


def test_a_channel_without_id_and_end_waits() -> None:
    """The fold makes no record of it yet: a millisecond later it has its id."""
    balance = _balance(_call(1)[:1], [])
    assert balance.is_even
    assert [channel.unique_id for channel in balance.waiting] == ["x-1.0"]


def test_rows_that_the_tracker_has_not_read_make_a_call_wait() -> None:
    ledger = conservation.Ledger()
    for row in _call(1):
        ledger.feed(row, is_read=False)
    assert ledger.balance([]).is_even
    assert len(ledger.balance([]).waiting) == 1
    assert not ledger.balance([]).missing


def test_callees_and_calls_of_a_shared_pbx_are_no_calls_of_ours() -> None:
    foreign = [
        _row("CHAN_START", "pbx-1.0", context="from-internal"),
        _row("CHAN_END", "pbx-1.0", context="from-internal"),
    ]
    assert _balance([*_call(1), *foreign], [_record(1)]).channels == 1


def test_a_call_handed_in_from_a_foreign_context_counts() -> None:
    rows = [
        _row("CHAN_START", "x-1.0", context="from-pstn"),
        _row("USER_DEFINED", "x-1.0", context="dialmark-inbound", event="DM_IN", i="call-1"),
    ]
    assert len(_balance(rows, []).missing) == 1


def test_a_leg_that_goes_out_through_us_is_part_of_its_call() -> None:
    leg = _row("USER_DEFINED", "x-1.5", linked_id="x-1.0", context="dialmark-outbound", event="DM_OUT", i="call-1b")
    assert _balance([*_call(1), leg], [_record(1)]).is_even


def test_only_what_started_in_the_span_is_judged() -> None:
    rows = [row for number in range(1, 6) for row in _call(number)]
    span = {"since_us": START + 2_000_000, "until_us": START + 4_000_000}
    balance = _balance(rows, [_record(2), _record(5)], **span)
    assert (balance.channels, balance.records) == (2, 1)
    assert [channel.unique_id for channel in balance.missing] == ["x-3.0"]


def test_records_older_than_the_journal_cannot_be_judged() -> None:
    """Journals are kept 14 days, records for years."""
    assert _balance(_call(5), [_record(1), _record(5)]).is_even
    assert _balance([], [_record(1)]).records == 1


@pytest.mark.parametrize("name", journals.NAMES)
def test_the_ledger_agrees_with_the_fold_on_recorded_journals(name: str) -> None:
    """Two independent readings of the same rows: one counts channels, the other makes calls."""
    facts = [
        found
        for group in journals.groups(journals.rows(name))
        if (found := calls.fold(group, closed=calls.Closing(0))) is not None
    ]
    records = [conservation.Record(one.call_id, one.unique_id, one.started_at_us) for one in facts]
    assert records
    balance = _balance(journals.rows(name), records)
    assert balance.is_even
    assert not balance.waiting
    assert balance.channels == len(records)
    for record in records:
        rest = [one for one in records if one is not record]
        assert len(_balance(journals.rows(name), rest).missing) == 1
