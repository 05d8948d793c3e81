"""Calls in five CRMs (R32, R41, R61, R89, R115, R116): right fields, no doubles, cards at ring time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gateway.core import erasure
from gateway.core.outgoing import amocrm, bitrix24, crm, hubspot, pipedrive, salesforce
from gateway.core.outgoing import told as calls
from gateway.core.outgoing.adapters import State
from gateway.senders import service
from gateway.services import cards
from tests import told
from tests.fakes import crms, handing, peer
from tests.fakes.handing import CALL_ID, CALLER, VISITOR, attempt, event, recorded, said, scored, until_settled

POLICY = crm.Policy(
    users={"anna": "12"},
    default_user="11",
    link="https://calls.example/calls/{call_id}",
    audio_base="https://calls.example",
)


@dataclass(frozen=True)
class Kind:
    """A CRM to be tested: its fake, and our side of it."""

    name: str
    peer: type[crms.CrmPeer]
    make: Callable[[str], crm.Crm]
    profile: str
    """A field of a person."""
    pops: bool = False
    attaches: bool = False
    logs_banned: bool = False
    logs_unknown: bool = True
    comments: bool = False
    """Its calls have no text of ours: a comment beside them has it."""


KINDS = (
    Kind(
        "bitrix24",
        crms.Bitrix24,
        bitrix24.Bitrix24,
        "UF_AGE",
        pops=True,
        attaches=True,
        logs_banned=True,
        comments=True,
    ),
    Kind("amocrm", crms.AmoCrm, amocrm.AmoCrm, "Age", logs_banned=True, logs_unknown=False),
    Kind("hubspot", crms.HubSpot, lambda url: hubspot.HubSpot(base_url=url), "age", attaches=True),
    Kind("salesforce", crms.Salesforce, salesforce.Salesforce, "Age__c", attaches=True),
    Kind("pipedrive", crms.Pipedrive, pipedrive.Pipedrive, "age"),
)
ALL = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@asynccontextmanager
async def site(
    kind: Kind, policy: crm.Policy = POLICY, **options: Any
) -> AsyncIterator[tuple[Any, service.ServiceAdapter]]:
    """The fake and the adapter to it; nothing that it was sent was wrong."""
    there = kind.peer()
    await there.start()
    adapter = handing.adapter(crm.CrmService(kind.make(there.url), policy), **options)
    try:
        yield there, adapter
        assert there.wrong == []
    finally:
        await adapter.close()
        await there.stop()


# -- what arrives -----------------------------------------------------------------------------------------------------


@ALL
async def test_a_known_callers_call_is_logged_with_all_that_sales_wants_to_know(kind: Kind) -> None:
    """A call creates a CRM record by itself with channel, campaign, agent, length (R41)."""
    async with site(kind) as (there, adapter):
        there.knows()
        settled = await adapter.deliver(event(), attempt())
        assert (settled.state, settled.note) == (State.DONE, "")
        assert settled.external_id
        assert (len(there.calls), there.leads) == (1, [])
        logged = str(there.calls[0]) + str(there.comments)
        for word in ("search", "Google Ads", "Implants", "anna", "74", f"https://calls.example/calls/{CALL_ID}"):
            assert word in logged
        assert len(there.comments) == int(kind.comments)


@ALL
async def test_what_rules_and_people_said_and_the_client_id_are_in_the_crms_text(kind: Kind) -> None:
    """Tags and CRM link so that no lead is forgotten (R61); CRM gets call data plus client ID; new/regular (R116)."""
    judged: dict[str, Any] = {
        "scoring": scored(80, qualified=True, tags=("hot", "new-patient")),
        "result": said(tags=("vip",), note="Asked for\nan offer\x07"),
        "rating": {"goal_reached": False},
    }
    async with site(kind) as (there, adapter):
        there.knows()
        assert (await adapter.deliver(event(**judged), attempt())).state is State.DONE
        logged = str(there.calls[0]) + str(there.comments)
        for line in (
            "Score: 80",
            "Qualified: yes",
            "Goal reached: no",
            "Tags: hot, new-patient, vip",
            "Note: Asked for an offer\ufffd",
            "Caller: new",
            f"Client id of Google Analytics: {VISITOR.ga_client_id}",
            f"Client id of Metrica: {VISITOR.ym_client_id}",
        ):
            assert line in logged
        assert "Spam" not in logged


@ALL
async def test_without_a_word_of_anybody_the_text_has_no_empty_lines(kind: Kind) -> None:
    async with site(kind) as (there, adapter):
        there.knows()
        await adapter.deliver(event(), attempt(visitor=None))
        logged = str(there.calls[0]) + str(there.comments)
        for name in ("Score", "Qualified", "Goal", "Spam", "Tags", "Note", "Client id", "None"):
            assert f"{name}:" not in logged
        assert "Client id" not in logged


@ALL
@pytest.mark.parametrize("changes", [{"result": said(spam=True)}, {"scoring": scored(spam=True)}])
async def test_spam_makes_no_lead(kind: Kind, changes: dict[str, Any]) -> None:
    async with site(kind) as (there, adapter):
        await adapter.deliver(event(**changes), attempt())
        assert there.leads == []


@ALL
async def test_an_unknown_caller_becomes_a_lead_and_the_call_is_logged(kind: Kind) -> None:
    """Unknown caller → lead (R61, R115)."""
    async with site(kind) as (there, adapter):
        settled = await adapter.deliver(event(outcome="no_answer", talk_seconds=0.0, agent=None), attempt())
        assert settled.state is State.DONE
        assert (len(there.calls), len(there.leads)) == (1, 1)


@ALL
async def test_leads_are_made_only_if_that_is_wanted(kind: Kind) -> None:
    async with site(kind, replace(POLICY, leads=False)) as (there, adapter):
        settled = await adapter.deliver(event(), attempt())
        assert there.leads == []
        assert settled.state is (State.DONE if kind.logs_unknown else State.SKIPPED)
        assert len(there.calls) == int(kind.logs_unknown)


@ALL
async def test_a_call_of_ours_makes_no_lead(kind: Kind) -> None:
    """Outbound calls are logged with whom they were made to (R56)."""
    async with site(kind) as (there, adapter):
        there.knows("+74990000001")
        settled = await adapter.deliver(event(direction="outbound"), attempt())
        assert (settled.state, there.leads) == (State.DONE, [])


@ALL
async def test_a_caller_without_a_number_is_not_in_the_crm(kind: Kind) -> None:
    async with site(kind) as (there, adapter):
        settled = await adapter.deliver(event(caller={"number": None, "anonymous": True}), attempt())
        assert (settled.state, there.asked) == (State.SKIPPED, [])


@ALL
async def test_banned_callers_as_the_table_says_and_never_as_leads(kind: Kind) -> None:
    """4.0: Bitrix24 403, amoCRM 8, the others: do not send (R112)."""
    async with site(kind) as (there, adapter):
        await adapter.deliver(event(outcome="banned", talk_seconds=0.0), attempt())
        assert there.leads == []
        there.knows()
        await adapter.deliver(event(outcome="banned", talk_seconds=0.0, call_id="other"), attempt())
        logged = [one for one in there.calls if "other" in str(one) or kind.name == "bitrix24"]
        assert bool(logged) is kind.logs_banned


@ALL
async def test_a_hostile_name_is_text(kind: Kind) -> None:
    """What a caller sends is in no field but as text."""
    hostile = "[url=https://evil.example]x[/url]\nCall id: 1<script>alert(1)</script>'); DROP TABLE--\"}{" + "x" * 300
    async with site(kind) as (there, adapter):
        made = event(caller={"name": hostile}, attribution={"campaign": hostile, "source_name": hostile})
        assert (await adapter.deliver(made, attempt())).state is State.DONE
        assert len(there.calls) == 1


@ALL
async def test_a_corrected_record_logs_nothing_twice(kind: Kind) -> None:
    async with site(kind) as (there, adapter):
        first = await adapter.deliver(event(), attempt())
        again = await adapter.deliver(event("call.updated"), attempt(known=first.known))
        assert (again.state, again.note, len(there.calls)) == (State.SKIPPED, "logged before", 1)


# -- while it rings ---------------------------------------------------------------------------------------------------


@ALL
async def test_the_card_of_the_caller_comes_when_it_rings(kind: Kind) -> None:
    """A screen-pop event at ring time carries the card of the caller (R91, R115)."""
    ringing = event("call.started", outcome=None, answered_at=None, ended_at=None, agent=None)
    async with site(kind) as (there, adapter):
        there.knows()
        settled = await adapter.deliver(ringing, attempt())
        assert settled.card is not None
        caller = settled.card["caller"]
        assert (caller["name"], caller["number"], caller["known"]) == ("Ivan", CALLER, True)
        assert caller["crm_id"] == ("003A" if kind.name == "salesforce" else "501")
        assert caller["owner"] is not None
        assert caller["profile"] == {}  # off by default (R89)
        made = cards.event(settled.card, CALL_ID, adapter.target, handing.NOW_US)
        assert told.problems(json.loads(made.payload)) == []
        assert there.shown == ([CALL_ID] if kind.pops else [])
        after = await adapter.deliver(event(), attempt(known=settled.known))
        assert (after.state, len(there.calls)) == (State.DONE, 1)


@ALL
async def test_attributes_of_the_caller_come_from_the_crm_when_they_are_asked_for(kind: Kind) -> None:
    """Profile attributes from the CRM, free keys (R89)."""
    ringing = event("call.started", outcome=None, answered_at=None, ended_at=None)
    async with site(kind, replace(POLICY, profile={kind.profile: "age", "UF_EMPTY": "none"})) as (there, adapter):
        there.knows()
        settled = await adapter.deliver(ringing, attempt())
        assert settled.card is not None
        assert settled.card["caller"]["profile"] == {"age": "41"}
        assert "41" not in "".join(settled.known.values())  # they belong to the CRM


@pytest.mark.parametrize(
    ("written", "told_as"),
    [
        ("41", "41"),
        (41, "41"),
        (1.5, "1.5"),
        (True, "yes"),
        (False, "no"),
        (["a", 7, True], "a, 7, yes"),
        ("  two\nlines\t and\x00 more\u202e ", "two lines and\ufffd more\ufffd"),
        ("x" * 5_000, "x" * crm.MAX_ATTRIBUTE),
        (["y" * 150] * 50, ("y" * 150 + ", " + "y" * 150)[: crm.MAX_ATTRIBUTE]),
        (None, None),
        ("", None),
        (" \n", None),
        ([], None),
        ([[["deep"]]], None),
        ({"value": "41"}, None),
    ],
)
def test_what_a_crm_holds_was_written_by_anybody(written: object, told_as: str | None) -> None:
    """R89: length, types and control characters of attributes are bounded."""
    assert crm.words({"AGE": written, "OTHER": "1"}, ["AGE"]) == ({} if told_as is None else {"AGE": told_as})


def test_a_contact_is_told_in_bounded_lines() -> None:
    hostile: Any = {"not": "a text"}
    tidied = crm.tidy(
        crm.Contact("contact", "501\n", "I" * 5_000 + "\n", hostile, {"AGE": hostile, "CITY": "\x07Omsk"})
    )
    assert tidied == crm.Contact("contact", "501", "I" * crm.MAX_ATTRIBUTE, None, {"CITY": "\ufffdOmsk"})
    assert crm.tidy(None) is None


@ALL
async def test_a_call_found_late_pops_nothing(kind: Kind) -> None:
    async with site(kind) as (there, adapter):
        settled = await adapter.deliver(replace(event("call.started", outcome=None), late=True), attempt())
        assert (settled.state, there.asked) == (State.SKIPPED, [])


@ALL
async def test_an_unknown_caller_has_a_card_too_and_no_lead_before_the_end(kind: Kind) -> None:
    async with site(kind, replace(POLICY, leads=kind.name != "bitrix24")) as (there, adapter):
        settled = await adapter.deliver(event("call.started", outcome=None, ended_at=None), attempt())
        assert settled.card is not None
        assert (settled.card["caller"]["known"], settled.card["source"], there.leads) == (False, "Google Ads", [])


def test_a_forgotten_callers_card_says_nothing_of_them() -> None:
    """One-command erasure (N14)."""
    contact = crm.Contact("contact", "501", "Ivan", "7", {"UF_AGE": "41"})
    task = crm.Task(calls.call(handing.record()), CALLER, replace(POLICY, profile={"UF_AGE": "age"}), False)
    card = crm.card(task, contact)
    assert card["caller"]["profile"] == {"age": "41"}
    left = erasure.pseudonymised(card, "erased-1")["caller"]
    assert (left["number"], left["name"], left["crm_id"], left["profile"]) == ("erased-1", None, None, {})


# -- recordings -------------------------------------------------------------------------------------------------------


@ALL
async def test_the_recording_is_added_once_where_the_crm_takes_an_address(kind: Kind) -> None:
    async with site(kind) as (there, adapter):
        there.knows()
        logged = await adapter.deliver(event(), attempt())
        settled = await adapter.deliver(recorded(), attempt(known=logged.known))
        assert settled.state is State.DONE
        url = "https://calls.example/api/v1/recordings/rec-1/audio"
        assert there.recordings == ([url] if kind.attaches else [])
        again = await adapter.deliver(recorded(), attempt(known=settled.known))
        assert (again.state, len(there.recordings)) == (State.SKIPPED, int(kind.attaches))


@ALL
async def test_a_recording_of_a_call_that_is_not_there_waits_for_nobody(kind: Kind) -> None:
    async with site(kind) as (there, adapter):
        assert (await adapter.deliver(recorded(), attempt())).state is State.SKIPPED
        assert there.asked == []


# -- a retry never doubles an object ----------------------------------------------------------------------------------

FAULTS = {
    "500": peer.ERROR,
    "reset": peer.RESET,
    "answer lost": peer.LOST,
    "429": peer.busy(7),
    "half an answer": peer.Fail(peer.Reply(200, '{"half": '), after=True),
}
MOST_REQUESTS = 7


@ALL
@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_whichever_request_fails_nothing_is_doubled_and_nothing_is_missing(
    kind: Kind, fault: str, is_known: bool
) -> None:
    """A retry never doubles a CRM object: each request of the talk fails in turn."""
    for place in range(MOST_REQUESTS):
        async with site(kind) as (there, adapter):
            if is_known:
                there.knows()
            there.orders[place] = FAULTS[fault]
            settled = await until_settled(adapter, event())
            assert settled[-1].state is State.DONE, settled
            assert (len(there.calls), len(there.leads)) == (1, int(not is_known)), (place, there.asked)
            assert len(there.comments) == int(kind.comments), (place, there.asked)
            if place in there.orders:
                assert place > 1  # at least: who is it, and the call
                return
            if fault == "429":
                assert settled[0].again_us == handing.NOW_US + 7 * handing.SECOND
    raise AssertionError("the talk is longer than this test")


@ALL
@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
async def test_a_process_that_is_killed_before_it_can_say_what_it_did_doubles_nothing(
    kind: Kind, is_known: bool
) -> None:
    for place in range(MOST_REQUESTS):
        async with site(kind) as (there, adapter):
            if is_known:
                there.knows()
            there.orders[place] = peer.LOST
            settled = await until_settled(adapter, event(), forgets=True)
            assert settled[-1].state is State.DONE
            assert len(there.calls) == 1, (place, there.asked)
            # No lead is forgotten (R61), and none is doubled.
            assert len(there.leads) == int(not is_known), (place, there.asked)
            assert len(there.comments) <= 1
            if place in there.orders:
                return
    raise AssertionError("the talk is longer than this test")


@pytest.mark.parametrize("name", ["amocrm", "pipedrive"])
async def test_behind_an_outage_a_call_is_found_among_hundreds_that_came_later(name: str) -> None:
    """A retry never doubles a CRM object, however much was logged between the attempts. These two are asked for lists;
    the others find a call by its id."""
    (kind,) = (one for one in KINDS if one.name == name)
    is_known = name == "pipedrive"
    async with site(kind) as (there, adapter):
        if is_known:
            there.knows()
        there.orders[1] = peer.LOST
        first = await adapter.deliver(event(), attempt())
        assert first.state is State.FAILED
        listed = there.calls if is_known else there.leads
        # A list may come in any order, so ours stands in the middle.
        listed[:] = [_of_others(place) for place in range(300)] + listed + [_of_others(place) for place in range(300)]
        again = await adapter.deliver(event(), attempt(number=2, known=first.known))
        assert (again.state, len(listed)) == (State.DONE, 601)


def _of_others(place: int) -> dict[str, Any]:
    call_id = f"{place:08d}-0000-4000-8000-000000000000"
    return {"id": f"log-x{place}", "note": call_id, "uid": f"x{place}", "metadata": {"uniq": call_id}}


@ALL
async def test_a_crm_that_does_not_answer_in_time_is_asked_again(kind: Kind) -> None:
    async with site(kind, seconds=0.3) as (there, adapter):
        there.knows()
        there.orders[0] = peer.SLOW
        there.orders[2] = peer.SLOW_AFTER
        # On a busy machine others may be too slow as well.
        settled = await until_settled(adapter, event(), most=40)
        assert settled[0].note == "no answer in time"
        assert (settled[-1].state, len(there.calls)) == (State.DONE, 1)


@pytest.mark.parametrize(
    "reply",
    [
        peer.Reply(503, {"error": "QUERY_LIMIT_EXCEEDED"}, {"Retry-After": "2"}),
        peer.Reply(200, {"error": "OPERATION_TIME_LIMIT"}, {"Retry-After": "2"}),
    ],
    ids=["503", "200"],
)
async def test_bitrix24s_leaky_bucket_is_waited_for(reply: peer.Reply) -> None:
    """leaky bucket, 2 req/s drain and 50 burst → 503 QUERY_LIMIT_EXCEEDED"""
    async with site(KINDS[0]) as (there, adapter):
        there.knows()
        there.orders[1] = peer.Fail(reply)
        settled = await until_settled(adapter, event())
        assert [one.state for one in settled] == [State.FAILED, State.DONE]
        assert settled[0].again_us == handing.NOW_US + 2 * handing.SECOND
        assert len(there.calls) == 1


@ALL
async def test_a_token_that_does_not_count_needs_a_person(kind: Kind) -> None:
    async with site(kind, token="taken-back") as (there, adapter):
        settled = await adapter.deliver(event(), attempt())
        assert (settled.state, settled.needs_attention) == (State.FAILED, True)
        assert there.calls == []
        assert "taken-back" not in settled.request + settled.response + settled.note


@ALL
async def test_a_dry_run_shows_the_first_change_and_makes_none(kind: Kind) -> None:
    async with site(kind) as (there, adapter):
        settled = await adapter.deliver(event(), attempt(dry_run=True))
        assert (settled.state, settled.note) == (State.SKIPPED, "dry run: nothing was sent")
        assert (there.calls, there.leads) == ([], [])
        assert CALLER in settled.request


@pytest.mark.parametrize(
    ("written", "is_same"),
    [
        ("+74951234567", True),
        ("8 (495) 123-45-67", True),
        ("7 495 123 45 67", True),
        ("0074951234567", True),
        ("(495) 123-45-67", True),
        ("+14951234567", False),
        ("9 495 123 45 67", False),
        ("123-45-67", False),
        ("", False),
        (None, False),
    ],
)
def test_a_number_as_people_write_it(written: object, is_same: bool) -> None:
    assert crm.same_number(written, "+74951234567") is is_same
