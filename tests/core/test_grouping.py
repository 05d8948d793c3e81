"""Which rows belong together: transfers, strangers on a shared PBX, restarts, and memory that stays small."""

from __future__ import annotations

import pytest

from gateway.core import calls
from gateway.core.grouping import Grouping
from gateway.core.rows import Row
from tests import journals


def assigned(grouping: Grouping, rows: list[Row]) -> list[str | None]:
    return [grouping.assign(row) for row in rows]


@pytest.mark.parametrize("name", journals.NAMES)
def test_every_recorded_row_finds_its_call(name: str) -> None:
    rows = journals.rows(name)
    keys = assigned(Grouping(), rows)
    inbound = {row.unique_id for row in rows if row.user_event in ("DM_IN", "DM_OUT")}
    assert set(keys) - {None} == inbound
    if name != "attended_transfer":
        assert None not in keys


def test_a_consultation_call_is_a_stranger_until_it_is_transferred() -> None:
    rows = journals.rows("attended_transfer")
    keys = assigned(Grouping(), rows)
    strangers = {row.channel.partition("-0")[0] for row, key in zip(rows, keys, strict=True) if key is None}
    assert strangers == {"PJSIP/phone3", "PJSIP/desk-3"}
    last_of_target = max(index for index, row in enumerate(rows) if "desk-3" in row.channel)
    assert keys[last_of_target] is not None, "it has the caller's linked id by then"


def test_a_channel_stays_in_its_call_when_its_linked_id_changes() -> None:
    grouping = Grouping()
    first = journals.rows("limit")[0]
    key = grouping.assign(first)
    assert grouping.assign(first._replace(linked_id="older.1")) == key
    newcomer = first._replace(unique_id="node1-1.9", linked_id="older.1", context="from-internal")
    assert grouping.assign(newcomer) == key


def test_strangers_leave_nothing_behind() -> None:
    grouping = Grouping()
    row = journals.rows("limit")[0]._replace(context="from-internal")
    for number in range(10_000):
        assert grouping.assign(row._replace(unique_id=f"pbx-1.{number}", linked_id=f"pbx-1.{number}")) is None
    assert len(grouping) == 0


def test_closed_groups_are_forgotten_but_recognised() -> None:
    grouping = Grouping(remembered_closed=2)
    rows = journals.rows("limit")
    key = grouping.assign(rows[0])
    assert key is not None
    assert grouping.is_open(key)
    grouping.close(key)
    assert not grouping.is_open(key)
    assert len(grouping) == 0
    assert assigned(grouping, rows) == [key] * len(rows), "late or doubled rows do not make a second call"
    for number in range(5):
        grouping.close(f"other-{number}")
    assert assigned(grouping, rows[-1:]) == [None]


def test_memory_is_flat_over_many_calls() -> None:
    grouping = Grouping(remembered_closed=100)
    rows = journals.rows("ring_group")
    for number in range(1_000):
        moved = [
            row._replace(unique_id=f"{number}-{row.unique_id}", linked_id=f"{number}-{row.linked_id}") for row in rows
        ]
        (key,) = set(assigned(grouping, moved))
        assert key is not None
        grouping.close(key)
    assert len(grouping) == 0
    assert grouping.open_groups == []


@pytest.mark.parametrize("name", journals.NAMES)
def test_goes_on_after_a_restart_anywhere(name: str) -> None:
    """The rows of open calls are adopted again; what follows joins them, and the facts are the same."""
    rows = journals.rows(name)
    whole = [calls.fold(group) for group in journals.groups(rows)]
    for cut in range(len(rows)):
        before: dict[str, list[Row]] = {}
        first = Grouping()
        for row in rows[:cut]:
            key = first.assign(row)
            if key is not None:
                before.setdefault(key, []).append(row)
        second = Grouping()
        for key, stored in before.items():
            second.adopt(key, stored)
        for row in rows[cut:]:
            key = second.assign(row)
            if key is not None:
                before.setdefault(key, []).append(row)
        assert [calls.fold(group) for group in before.values()] == whole


def test_a_call_that_comes_from_elsewhere_begins_with_our_first_event() -> None:
    """`Goto(dialmark-inbound,…)` from a context of the PBX, or the start of the journal lost."""
    rows = [
        row._replace(context="from-pstn") if row.kind == "CHAN_START" else row
        for row in journals.rows("answered_agent_ends")
    ]
    keys = assigned(Grouping(), rows)
    assert keys[0] is None
    assert None not in keys[1:]
    facts = calls.fold([row for row, key in zip(rows, keys, strict=True) if key is not None])
    assert facts is not None
    assert facts.outcome is calls.Outcome.ANSWERED


def test_a_queue_that_sends_its_caller_into_our_contexts_again_is_the_same_call() -> None:
    rows = journals.rows("queue_refuses_then_reserve")
    local = next(row for row in rows if row.channel.endswith(";2"))
    nested = rows[1]._replace(
        at_us=local.at_us + 10,
        channel=local.channel,
        unique_id=local.unique_id,
        data={**rows[1].data, "i": "00000000-0000-4000-8000-000000000000", "did": "7499"},
    )
    bent = [*rows, nested]
    (group,) = journals.groups(sorted(bent))
    assert calls.fold(group) == journals.facts("queue_refuses_then_reserve")
