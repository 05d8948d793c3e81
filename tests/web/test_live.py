"""The live board: snapshot, changes, replay after a reconnect, and readers that are too slow."""

from __future__ import annotations

import pytest

from gateway.web import live
from tests.web import material


def changes_of(reader: live.Reader) -> list[str]:
    found = []
    while not reader.queue.empty():
        change = reader.queue.get_nowait()
        found.append("cut off" if change is None else str(change.document["call_id"]))
    return found


def test_it_holds_calls_from_their_first_document_to_their_end() -> None:
    board = live.LiveBoard()
    up = material.record(call_id="a", is_up=True, outcome=None, attempts=[("sales-desk", None)])
    board.publish(up)
    assert board.snapshot() == [up]
    board.publish(material.record(call_id="a"))
    assert board.snapshot() == []
    assert board.open_count == 0


@pytest.mark.parametrize(
    ("document", "state"),
    [
        (material.record(is_up=True, outcome=None, attempts=[]), "arriving"),
        (material.record(is_up=True, outcome=None, attempts=[("sales-desk", "busy")]), "arriving"),
        (material.record(is_up=True, outcome=None, attempts=[("sales-desk", "busy"), ("mobile", None)]), "ringing"),
        (material.record(is_up=True), "talking"),
        (material.record(), "ended"),
        ({"call_id": "a"}, "arriving"),
        (material.record(state="open"), "talking"),
    ],
)
def test_it_names_the_state_of_a_call(document: live.Document, state: str) -> None:
    assert live.state_of(document) == state


def test_it_tells_of_each_ending_once() -> None:
    """A later revision of a record is no second call in the counters."""
    ended: list[object] = []
    board = live.LiveBoard(on_ended=lambda document: ended.append(document["call_id"]))
    board.publish(material.record(call_id="a", is_up=True))
    board.publish(material.record(call_id="a"))
    board.publish(material.record(call_id="a", revision=2))
    assert ended == ["a"]


def test_it_replays_what_a_reader_missed() -> None:
    board = live.LiveBoard()
    board.publish(material.record(call_id="a", is_up=True))
    seen = board.event_id
    board.publish(material.record(call_id="b", is_up=True))
    with board.reading(seen) as reader:
        assert reader.replay is not None
        assert [change.document["call_id"] for change in reader.replay] == ["b"]
    with board.reading(board.event_id) as reader:
        assert reader.replay == ()


@pytest.mark.parametrize(
    "last_id", [None, "", "other-1", "0", "{name}-", "{name}-x", "{name}-99", "{name}-1", "{name}-²"]
)
def test_it_sends_a_snapshot_when_the_last_event_is_unknown_too_old_or_invented(last_id: str | None) -> None:
    board = live.LiveBoard(history_size=2)
    for number in range(5):
        board.publish(material.record(call_id=str(number), is_up=True))
    with board.reading(last_id.format(name=board.name) if last_id else last_id) as reader:
        assert reader.replay is None


def test_it_cuts_off_a_slow_reader_without_waiting_and_spares_the_others() -> None:
    board = live.LiveBoard(queue_size=2)
    with board.reading() as slow, board.reading() as quick:
        board.publish(material.record(call_id="1"))
        board.publish(material.record(call_id="2"))
        assert changes_of(quick) == ["1", "2"]
        board.publish(material.record(call_id="3"))
        board.publish(material.record(call_id="4"))
        assert slow.is_cut_off
        assert changes_of(slow) == ["1", "2", "cut off"]
        assert changes_of(quick) == ["3", "4"]
        assert (board.reader_count, board.cut_off_total) == (1, 1)
    assert board.reader_count == 0


def test_it_is_filled_from_the_store_after_a_restart() -> None:
    board = live.LiveBoard()
    board.restore([material.record(call_id="a", is_up=True), material.record(call_id="b")])
    assert [document["call_id"] for document in board.snapshot()] == ["a"]


def test_it_forgets_ended_calls_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "CLOSED_REMEMBERED", 2)
    ended: list[object] = []
    board = live.LiveBoard(on_ended=lambda document: ended.append(document["call_id"]))
    for call_id in ("a", "b", "c", "c", "a"):
        board.publish(material.record(call_id=call_id))
    assert ended == ["a", "b", "c", "a"]
