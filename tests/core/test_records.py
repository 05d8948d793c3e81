"""The record of `design.md`, its events, and attribution by static number (C6, R1, R71, R104, R106, R111)."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace

import pytest

from gateway.core import attribution, book, calls, events, records
from gateway.core.calls import Closing
from gateway.core.events import Due, EventType
from tests import journals
from tests.core import books

MINUTE_US = 60_000_000


def routed(**number: object) -> book.Book:
    """The book whose one number the recordings dial, with its sub-source."""
    made = books.routing_book(number={"source": "radio-jazz", **number})
    sources = {
        "radio": book.Source("radio", "Radio", book.Channel.OFFLINE, book.CampaignType.OFFLINE),
        "radio-jazz": book.Source(
            "radio-jazz",
            "Radio Jazz",
            book.Channel.OFFLINE,
            book.CampaignType.OFFLINE,
            medium="radio",
            campaign="autumn",
            parent="radio",
        ),
    }
    agents = {"anna": book.Agent("anna", "Anna", endpoint="desk-1"), "boris": book.Agent("boris", "Boris")}
    return replace(made, sources=sources, agents=agents)


def document(name: str, the_book: book.Book | None = None, calls_before: int | None = 0) -> dict[str, object]:
    made = records.record(journals.facts(name), the_book, revision=1, calls_before=calls_before, node="n1")
    assert json.loads(json.dumps(made)) == made
    return made


FIELDS = {
    *("call_id", "revision", "node", "direction", "state", "site", "time_zone", "started_at", "answered_at"),
    *("ended_at", "outcome", "missed", "cause", "ended_by", "route", "route_source", "plan_revision", "agi_status"),
    *("trunk", "wait_seconds", "ring_seconds", "talk_seconds", "hold_seconds", "experience", "caller", "tracking"),
    *("agent", "destination", "attempts", "recording_consent", "attribution", "sip_call_id", "linked_id", "unique_id"),
    *("pauses", "callback", "rating", "scoring", "recordings", "receipts"),
}


@pytest.mark.parametrize("name", [name for name in journals.NAMES if name != "asterisk_killed"])
@pytest.mark.parametrize("with_book", [True, False])
def test_every_call_has_every_field(name: str, with_book: bool) -> None:
    made = document(name, routed() if with_book else None)
    assert set(made) == FIELDS
    assert made["missed"] == (made["outcome"] not in ("answered", "banned"))
    assert isinstance(made["attempts"], list)


def test_an_answered_call() -> None:
    made = document("answered_caller_ends", routed())
    assert made["caller"] == {
        "number": "+74951112233",
        "raw": "74951112233",
        "name": "Client",
        "country": "RU",
        "region": "Московская обл.",
        "anonymous": False,
        "first_time": True,
        "calls_before": 0,
    }
    assert made["tracking"] == {"number": "+74990000001", "kind": "static", "source": "radio-jazz", "label": None}
    assert made["agent"] == "anna"
    assert made["site"] == "clinic"
    assert made["state"] == "closed"
    found = made["attribution"]
    assert isinstance(found, dict)
    assert (found["campaign_type"], found["cost_line"]) == ("offline", "radio-jazz")
    assert {key: found[key] for key in ("method", "confidence", "source", "parent_source", "medium", "campaign")} == {
        "method": "static_number",
        "confidence": 1.0,
        "source": "radio-jazz",
        "parent_source": "radio",
        "medium": "radio",
        "campaign": "autumn",
    }
    assert str(made["started_at"]).endswith("Z")
    assert len(str(made["started_at"])) == len("2026-11-21T22:18:10.101Z")


def test_region_is_left_out_where_memory_is_short() -> None:
    facts = journals.facts("answered_caller_ends")
    made = records.record(facts, routed(), revision=1, calls_before=None, node="n", with_region=False)
    assert (made["caller"]["country"], made["caller"]["region"]) == ("RU", None)
    assert made["caller"]["first_time"] is None


def test_repeat_caller() -> None:
    caller = document("limit", routed(), calls_before=3)["caller"]
    assert isinstance(caller, dict)
    assert (caller["first_time"], caller["calls_before"]) == (False, 3)


def test_the_agents_of_missed_attempts_are_whose_destination_it_was() -> None:
    facts = journals.facts("abandoned_first")
    facts = replace(facts, attempts=(replace(facts.attempts[0], destination="desk-2"),))
    made = records.record(facts, routed(), revision=1, calls_before=0, node="n")
    assert made["attempts"][0]["agent"] == "boris"
    assert made["agent"] is None


@pytest.mark.parametrize(
    ("raw", "caller", "anonymous"),
    [("anonymous", "", True), ("", "", True), ("100\r\nX", "100", False), ("x" * 3000, "", False)],
)
def test_callers_without_a_number(raw: str, caller: str, anonymous: bool) -> None:
    facts = replace(journals.facts("limit"), caller=caller, caller_raw=raw)
    made = records.record(facts, routed(), revision=1, calls_before=0, node="n")["caller"]
    assert (made["number"], made["anonymous"], made["country"]) == (None, anonymous, None)


def test_outbound_has_no_tracking_kind_and_no_source() -> None:
    made = document("outbound", routed())
    assert made["direction"] == "outbound"
    assert isinstance(made["tracking"], dict)
    assert (made["tracking"]["number"], made["tracking"]["kind"]) == ("+74957770000", None)
    assert isinstance(made["attribution"], dict)
    assert made["attribution"]["method"] == "unknown"


def test_attribution_is_unknown_without_a_static_source() -> None:
    the_book = routed()
    assert attribution.of_number(None, the_book) == attribution.UNKNOWN
    pool = book.TrackingNumber("+74990000001", "sales", book.TrackingKind.POOL, source="radio-jazz")
    assert attribution.of_number(pool, the_book) == attribution.UNKNOWN
    bare = book.TrackingNumber("+74990000001", "sales")
    assert attribution.of_number(bare, the_book) == attribution.UNKNOWN


def test_a_numbers_campaign_goes_before_its_sources() -> None:
    number = book.TrackingNumber("+74990000001", "sales", source="radio-jazz", campaign="jingle")
    assert attribution.of_number(number, routed()).campaign == "jingle"
    gone = book.TrackingNumber("+74990000001", "sales", source="left-the-book")
    assert attribution.of_number(gone, routed()).source == "left-the-book"


def test_timestamps() -> None:
    assert records.timestamp(None) is None
    assert records.timestamp(1_795_299_490_101_854) == "2026-11-21T22:18:10.101Z"
    assert records.timestamp(0) == "1970-01-01T00:00:00.000Z"


def due(facts: calls.CallFacts, *announced: str, late_by: int = 0, changed: bool = False) -> list[Due]:
    now_us = facts.last_row_at_us + late_by
    return events.events_due(announced, facts, now_us=now_us, content_changed=changed)


def types(found: list[Due]) -> list[str]:
    return [event.type.value for event in found]


def test_each_event_is_due_once_as_the_call_goes_on() -> None:
    (group,) = journals.groups(journals.rows("busy_then_reserve"))
    announced: list[str] = []
    for cut in range(1, len(group) + 1):
        facts = calls.fold(group[:cut])
        if facts is not None:
            announced += types(due(facts, *announced))
    assert announced == ["call.started", "call.answered", "call.completed"]


def test_a_missed_call_and_its_late_change() -> None:
    facts = journals.facts("abandoned_first")
    assert types(due(facts)) == ["call.started", "call.missed"]
    told = ("call.started", "call.missed")
    assert due(facts, *told) == []
    assert types(due(facts, *told, changed=True)) == ["call.updated"]


def test_a_banned_caller_is_no_missed_call() -> None:
    assert types(due(journals.facts("banned"))) == ["call.started", "call.completed"]


def test_found_more_than_a_minute_late() -> None:
    facts = journals.facts("answered_agent_ends")
    late = due(facts, late_by=2 * MINUTE_US)
    assert [(event.type, event.late) for event in late] == [
        (EventType.STARTED, True),
        (EventType.ANSWERED, True),
        (EventType.COMPLETED, False),
    ]
    assert not any(event.late for event in due(facts))


def test_nothing_is_due_before_the_plan() -> None:
    rows = journals.rows("answered_agent_ends")
    facts = calls.fold(rows[:2])
    assert facts is not None
    assert due(facts) == []
    closed = calls.fold(rows[:2], closed=Closing(0))
    assert closed is not None
    assert types(due(closed)) == ["call.missed"]


def test_event_ids_are_fixed() -> None:
    call_id = "b448ed35-e2ba-4ab0-8de7-27a6ea66af88"
    ids = {events.event_id(call_id, event_type, 1) for event_type in EventType}
    assert len(ids) == len(EventType)
    assert events.event_id(call_id, EventType.MISSED, 1) == events.event_id(call_id, EventType.MISSED, 4)
    assert events.event_id(call_id, EventType.UPDATED, 2) != events.event_id(call_id, EventType.UPDATED, 3)
    assert uuid.UUID(events.event_id(call_id, EventType.STARTED, 1)).version == 5
    assert events.event_id(call_id, EventType.STARTED, 1) == str(
        uuid.uuid5(events.EVENT_IDS, f"{call_id}/call.started/1")
    )
