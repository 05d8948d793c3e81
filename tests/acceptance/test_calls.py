"""Calls through the real Asterisk, one destination after the other: what both ends got, and the whole record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.acceptance import stages
from tests.acceptance.stages import Stage, Tried, attempts_are, check, invites, near, only_invite, rang_at_once
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Behaviour, Rig

pytestmark = pytest.mark.real_time

ROUTING = (
    stages.SITE
    + """
[[route]]
key = "sales"
forward = ["first"]
reserve = ["second"]
ring_seconds = 3
reserve_ring_seconds = 3

[[route]]
key = "trunks"
forward = ["far"]
reserve = ["second"]
ring_seconds = 3

[[route]]
key = "group"
forward = ["first", "second"]
reserve = ["third"]
ring_seconds = 3
reserve_ring_seconds = 3

[[tracking_number]]
number = "+74990000001"
route = "sales"
source = "google-ads"
campaign = "implants"
label = "Landing page"

[[tracking_number]]
number = "+74990000002"
route = "trunks"
source = "radio-jazz"

[[tracking_number]]
number = "+74990000003"
route = "group"
"""
)
SALES, TRUNKS, GROUP = "74990000001", "74990000002", "74990000003"
# A silent host would otherwise take four seconds of each test.
SITE_DIALPLAN = "[globals]\nDM_UNREACHABLE_SECONDS = 1\n"


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    with stages.site(make_node, ROUTING, files={"extensions_site.conf": SITE_DIALPLAN}) as site:
        yield site


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    yield Stage(site, rig_of(site.node))
    await asyncio.to_thread(site.node.until_idle)


GOOGLE = {
    "route": "sales",
    "attribution__method": "static_number",
    "attribution__source": "google-ads",
    "attribution__source_name": "Google Ads",
    "attribution__medium": "cpc",
    "attribution__campaign": "implants",
    "attribution__channel": "search",
    "tracking__source": "google-ads",
    "tracking__label": "Landing page",
}


async def test_answered_and_the_caller_hangs_up(stage: Stage) -> None:
    """R1, R53, R62, R95, R104, R111, R113."""
    phone = stage.phone("desk-1", ring_ms=400)
    second = stage.phone("desk-2")
    call = await stage.call(SALES, name="Ivan", hold_ms=700)
    assert call.result.status == 200
    assert call.result.ended_by == "caller"
    rang_at_once(call.result)
    assert invites(second, call.caller) == []
    revision = stage.daemon.revision()
    check(call, "answered", Tried("first", "answered", 200, 16), caller__name="Ivan", plan_revision=revision, **GOOGLE)
    [attempt] = call.record["attempts"]
    assert near(attempt["ring_seconds"], 0.4)
    assert near(call.record["ring_seconds"], 0.4)
    assert near(attempt["talk_seconds"], 0.7)
    assert attempt["answered_by"] == "desk-1"
    assert near(stages.seconds_of(attempt["started_at"]), only_invite(phone, call).at)


async def test_answered_and_the_agent_hangs_up(stage: Stage) -> None:
    stage.phone("desk-1", ring_ms=100, talk_ms=700)
    call = await stage.call(SALES, hold_ms=20_000)
    assert (call.result.status, call.result.ended_by) == (200, "callee")
    check(call, "answered", Tried("first", "answered", 200, 16), ended_by="agent", **GOOGLE)


async def test_a_second_call_of_a_caller_is_a_repeat(stage: Stage) -> None:
    """R71, R111; the region is that of the number (R89), in the site's language."""
    stage.phone("desk-1")
    caller = "+78123456789"
    first = await stage.call(SALES, caller=caller)
    second = await stage.call(GROUP, caller=caller)
    here = {"caller__region": "г. Санкт-Петербург", "caller__country": "RU"}
    check(first, "answered", Tried("first", "answered", 200, 16), **here)
    assert second.record["caller"] == {
        **first.record["caller"],
        "first_time": False,
        "calls_before": 1,
    }


async def test_a_source_inside_a_channel(stage: Stage) -> None:
    """R106: the station has its own number and adds up to the radio."""
    stage.rig.callee("carrier-b")
    call = await stage.call(TRUNKS)
    check(
        call,
        "answered",
        Tried("far", "answered", 200, 16),
        attribution__source="radio-jazz",
        attribution__source_name="Радио Джаз",
        attribution__parent_source="radio",
        attribution__channel="offline",
    )


async def test_busy_then_the_reserve(stage: Stage) -> None:
    """C5: the caller hears ringing at once and without a gap, and is answered by a person only."""
    first = stage.phone("desk-1", Behaviour.BUSY)
    second = stage.phone("desk-2", ring_ms=500)
    call = await stage.call(SALES)
    assert call.result.status == 200
    rang_at_once(call.result)
    assert only_invite(second, call).at - only_invite(first, call).at < stages.slack()
    check(
        call,
        "answered",
        Tried("first", "busy", 486, 17),
        Tried("second", "answered", 200, 16, step=2, kind="reserve"),
        **GOOGLE,
    )


@pytest.mark.parametrize(
    ("behaviour", "attempt"),
    [
        pytest.param(Behaviour.DECLINE, Tried("first", "rejected", 603, 21), id="603 after ringing"),
        pytest.param(Behaviour.REJECT, Tried("first", "rejected", 403, 21), id="403"),
        pytest.param(Behaviour.NOT_FOUND, Tried("first", "unreachable", 404, 1), id="404"),
        pytest.param(Behaviour.UNAVAILABLE, Tried("first", "unreachable", 480, 19), id="480 without ringing"),
        pytest.param(Behaviour.RING_THEN_UNAVAILABLE, Tried("first", "no_answer", 480, 19), id="480 after ringing"),
        pytest.param(Behaviour.CONGESTION, Tried("first", "unreachable", 503, 34), id="503"),
        pytest.param(Behaviour.DEAD, Tried("first", "unreachable"), id="closed port"),
        pytest.param(Behaviour.SILENT, Tried("first", "unreachable"), id="silent host"),
    ],
)
async def test_a_destination_that_fails_then_the_reserve(stage: Stage, behaviour: Behaviour, attempt: Tried) -> None:
    """C5, N7: raw codes and outcome of the attempt; the next step rings at once."""
    stage.phone("desk-1", behaviour, ring_ms=300)
    second = stage.phone("desk-2", ring_ms=100)
    call = await stage.call(SALES)
    assert call.result.status == 200
    rang_at_once(call.result)
    lost = {Behaviour.DEAD: 1.0, Behaviour.SILENT: 1.0, Behaviour.DECLINE: 0.3, Behaviour.RING_THEN_UNAVAILABLE: 0.3}
    assert near(only_invite(second, call).at - call.result.messages[0].at, lost.get(behaviour, 0.0))
    check(call, "answered", attempt, Tried("second", "answered", 200, 16, step=2, kind="reserve"), **GOOGLE)


@pytest.mark.parametrize("behaviour", [Behaviour.RING_FOR_EVER, Behaviour.EARLY_MEDIA])
async def test_no_answer_then_the_reserve(stage: Stage, behaviour: Behaviour) -> None:
    """A network's announcement (183 with audio) is not an answer either."""
    first = stage.phone("desk-1", behaviour)
    second = stage.phone("desk-2", ring_ms=300)
    call = await stage.call(SALES)
    assert call.result.status == 200
    rang_at_once(call.result)
    assert "CANCEL" in {m.method for m in first.messages}
    assert near(only_invite(second, call).at - only_invite(first, call).at, 3)
    sip = 183 if behaviour is Behaviour.EARLY_MEDIA else 180
    assert call.record["attempts"][0]["sip_code"] == sip
    check(
        call,
        "answered",
        Tried("first", "no_answer", sip, call.record["attempts"][0]["q850_cause"]),
        Tried("second", "answered", 200, 16, step=2, kind="reserve"),
        **GOOGLE,
    )
    assert near(call.record["attempts"][0]["ring_seconds"], 3)
    assert near(call.record["attempts"][1]["ring_seconds"], 0.3)


@pytest.mark.parametrize(
    ("behaviour", "attempt"),
    [
        pytest.param(Behaviour.DEAD, Tried("far", "unreachable"), id="closed port"),
        pytest.param(Behaviour.SILENT, Tried("far", "unreachable"), id="silent host"),
        pytest.param(Behaviour.CONGESTION, Tried("far", "unreachable", 503, 34), id="503"),
    ],
)
async def test_a_dead_trunk_then_the_reserve(stage: Stage, behaviour: Behaviour, attempt: Tried) -> None:
    stage.rig.callee("carrier-b", behaviour)
    stage.phone("desk-2")
    call = await stage.call(TRUNKS)
    assert call.result.status == 200
    rang_at_once(call.result)
    check(call, "answered", attempt, Tried("second", "answered", 200, 16, step=2, kind="reserve"), route="trunks")


async def test_a_redirect_is_not_followed(stage: Stage) -> None:
    """302 is a loop and a door for toll fraud: the next step rings, and nothing leaves by a trunk."""
    carrier = stage.rig.callee("carrier-b")
    stage.phone("desk-1", Behaviour.REDIRECT)
    stage.phone("desk-2")
    call = await stage.call(SALES)
    assert call.result.status == 200
    assert invites(carrier, call.caller) == []
    first = call.record["attempts"][0]
    # Asterisk keeps the code to itself: neither HANGUPCAUSE() nor the journal has it, and the cause only at times.
    check(
        call,
        "answered",
        Tried("first", "busy", None, first["q850_cause"]),
        Tried("second", "answered", 200, 16, step=2, kind="reserve"),
    )


async def test_an_agent_who_drops_at_once_has_not_talked(stage: Stage) -> None:
    """C5: the next step rings; ``not_accepted`` is how the record calls it."""
    stage.phone("desk-1", Behaviour.ANSWER_AND_DROP)
    second = stage.phone("desk-2", ring_ms=200)
    call = await stage.call(SALES, hold_ms=900)
    assert call.result.status == 200
    assert len(invites(second, call.caller)) == 1
    record = call.record
    attempts_are(
        record,
        Tried("first", "not_accepted", record["attempts"][0]["sip_code"], 16),
        Tried("second", "answered", 200, 16, step=2, kind="reserve"),
    )
    assert (record["outcome"], record["agent"], record["ended_by"]) == ("answered", "boris", "caller")


# -- ring group --------------------------------------------------------------------------------------------------


async def test_a_ring_group_and_one_answers(stage: Stage) -> None:
    slower = stage.phone("desk-1", Behaviour.RING_FOR_EVER)
    stage.phone("desk-2", ring_ms=400)
    call = await stage.call(GROUP)
    rang_at_once(call.result)
    assert "CANCEL" in {m.method for m in slower.messages}
    check(
        call,
        "answered",
        Tried("first", "cancelled", call.record["attempts"][0]["sip_code"], 26),
        Tried("second", "answered", 200, 16),
        route="group",
        agent="boris",
        attribution__source=None,
    )
    assert near(call.record["attempts"][0]["ring_seconds"], 0.4)


async def test_a_ring_group_with_a_busy_member(stage: Stage) -> None:
    stage.phone("desk-1", Behaviour.BUSY)
    stage.phone("desk-2", ring_ms=400)
    call = await stage.call(GROUP)
    check(
        call,
        "answered",
        Tried("first", "busy", call.record["attempts"][0]["sip_code"], 17),
        Tried("second", "answered", 200, 16),
    )


async def test_a_ring_group_with_a_dead_member(stage: Stage) -> None:
    """A dead peer does not delay the others."""
    stage.phone("desk-2", ring_ms=400)
    call = await stage.call(GROUP)
    assert call.result.setup_ms is not None and near(call.result.setup_ms / 1000, 0.4)
    assert [a["outcome"] for a in call.record["attempts"]][1] == "answered"
    assert call.record["attempts"][0]["outcome"] in ("cancelled", "unreachable")


async def test_a_ring_group_that_fails_then_the_reserve(stage: Stage) -> None:
    stage.phone("desk-1", Behaviour.BUSY)
    stage.phone("desk-2", Behaviour.DECLINE, ring_ms=200)
    stage.phone("desk-3")
    call = await stage.call(GROUP)
    check(
        call,
        "answered",
        Tried("first", "busy", 486, 17),
        Tried("second", "rejected", 603, 21),
        Tried("third", "answered", 200, 16, step=2, kind="reserve"),
        agent="clara",
    )


async def test_a_ring_group_and_nobody(stage: Stage) -> None:
    """The most human cause of all names the miss: 486 for the busy one, whoever else rang or was dead."""
    stage.phone("desk-1", Behaviour.RING_FOR_EVER)
    stage.phone("desk-2", Behaviour.BUSY)
    call = await stage.call(GROUP)
    rang_at_once(call.result)
    check(
        call,
        "busy",
        Tried("first", "no_answer", 180, call.record["attempts"][0]["q850_cause"]),
        Tried("second", "busy", 486, 17),
        Tried("third", "unreachable", step=2, kind="reserve"),
    )
    assert call.result.status == 486


# -- nobody takes it ---------------------------------------------------------------------------------------------

FAILURES = {
    "busy": (Behaviour.BUSY, "busy", 486, 17),
    "rejected": (Behaviour.DECLINE, "rejected", 603, 21),
    "no answer": (Behaviour.RING_THEN_UNAVAILABLE, "no_answer", 480, 19),
    "off": (Behaviour.UNAVAILABLE, "unreachable", 480, 19),
    "trouble": (Behaviour.CONGESTION, "unreachable", 503, 34),
}


@pytest.mark.parametrize(
    ("first", "second", "outcome", "status"),
    [
        ("busy", "rejected", "busy", 486),
        ("rejected", "busy", "busy", 486),
        ("rejected", "no answer", "rejected", 403),
        ("no answer", "rejected", "rejected", 403),
        ("no answer", "off", "no_answer", 480),
        ("trouble", "no answer", "no_answer", 480),
        ("off", "trouble", "unreachable", 480),
    ],
)
async def test_all_fail(stage: Stage, first: str, second: str, outcome: str, status: int) -> None:
    """A miss is named by its most human cause, and the caller's network gets that cause's code (N7)."""
    for phone, name in (("desk-1", first), ("desk-2", second)):
        stage.phone(phone, FAILURES[name][0], ring_ms=200)
    call = await stage.call(SALES)
    assert call.result.status == status
    assert 200 not in [m.status for m in call.result.messages]
    check(
        call,
        outcome,
        Tried("first", *FAILURES[first][1:]),
        Tried("second", *FAILURES[second][1:], step=2, kind="reserve"),
        **GOOGLE,
    )


async def test_all_ring_out(stage: Stage) -> None:
    stage.phone("desk-1", Behaviour.RING_FOR_EVER)
    stage.phone("desk-2", Behaviour.RING_FOR_EVER)
    call = await stage.call(SALES)
    assert call.result.status == 480
    assert near(call.record["wait_seconds"], 6)
    assert call.record["outcome"] == "no_answer"
    assert [a["outcome"] for a in call.record["attempts"]] == ["no_answer", "no_answer"]
    assert near(call.record["ring_seconds"], 3)


# -- the caller gives up -----------------------------------------------------------------------------------------


async def test_abandoned_while_the_first_rings(stage: Stage) -> None:
    phone = stage.phone("desk-1", Behaviour.RING_FOR_EVER)
    second = stage.phone("desk-2")
    call = await stage.call(SALES, patience_ms=700)
    assert call.result.status == 487
    assert "CANCEL" in {m.method for m in phone.messages}
    assert invites(second, call.caller) == []
    q850 = call.record["attempts"][0]["q850_cause"]
    check(call, "abandoned", Tried("first", "abandoned", None, q850), ended_by="caller", **GOOGLE)
    assert near(call.record["wait_seconds"], 0.7)
    assert near(call.record["ring_seconds"], 0.7)


async def test_abandoned_while_the_second_rings(stage: Stage) -> None:
    stage.phone("desk-1", Behaviour.BUSY)
    stage.phone("desk-2", Behaviour.RING_FOR_EVER)
    call = await stage.call(SALES, patience_ms=700)
    assert call.result.status == 487
    q850 = call.record["attempts"][1]["q850_cause"]
    check(
        call,
        "abandoned",
        Tried("first", "busy", 486, 17),
        Tried("second", "abandoned", None, q850, step=2, kind="reserve"),
        ended_by="caller",
        **GOOGLE,
    )


async def test_abandoned_before_anything_rings(stage: Stage) -> None:
    """The caller is gone while the daemon is still asked: a record all the same, without an attempt."""
    phone = stage.phone("desk-1")
    stage.daemon.freeze()
    try:
        caller = stage.site.caller()
        held = await stage.dial(SALES, caller=caller)
        await stage.until_journal(held.call_id)
        held.cancel()
        assert await held.final() == 487
    finally:
        stage.daemon.thaw()
    record = await stage.record_of(held)
    assert invites(phone, caller) == []
    assert (record["outcome"], record["ended_by"], record["attempts"]) == ("abandoned", "caller", [])
    assert (record["caller"]["number"], record["tracking"]["number"]) == (caller, f"+{SALES}")
    assert record["attribution"]["source"] == "google-ads"
    assert record["missed"] is True


# -- numbers -----------------------------------------------------------------------------------------------------


async def test_an_unknown_number_rings_the_default_destination(stage: Stage) -> None:
    phone = stage.phone("desk-4")
    call = await stage.call("74990009999")
    assert only_invite(phone, call)
    check(
        call,
        "answered",
        Tried("reception", "answered", 200, 16),
        route=None,
        tracking__kind=None,
        tracking__source=None,
        attribution__method="unknown",
        attribution__source=None,
    )


@pytest.mark.parametrize(
    ("user", "number", "country", "is_anonymous"),
    [
        pytest.param("anonymous", None, None, True, id="anonymous"),
        pytest.param("Restricted", None, None, True, id="restricted"),
        pytest.param("", None, None, True, id="no user"),
        pytest.param("7 (916) 555-00-01", "+79165550001", "RU", False, id="separators"),
        pytest.param("+14155550123", "+14155550123", "US", False, id="foreign"),
        pytest.param("+999123", None, None, False, id="no country"),
        pytest.param("12", None, None, False, id="short"),
        pytest.param("abc.def-9", None, None, False, id="words"),
        pytest.param("%2B79165550002", "+79165550002", "RU", False, id="escaped plus"),
        pytest.param("9" * 3000, None, None, False, id="3,000 digits"),
        pytest.param("x" * 3000, None, None, False, id="3,000 letters"),
    ],
)
async def test_a_strange_caller_number_is_routed_like_any_other(
    stage: Stage, user: str, number: str | None, country: str | None, is_anonymous: bool
) -> None:
    """R49."""
    phone = stage.phone("desk-1")
    uri = f"sip:{user}@carrier.invalid" if user else "sip:carrier.invalid"
    caller = await stage.dial(SALES, from_header=f"<{uri.replace(' ', '%20')}>")
    assert await caller.final() == 200
    caller.hang_up()
    record = await stage.record_of(caller)
    assert len(phone.invites) == 1
    assert (record["outcome"], record["attribution"]["source"]) == ("answered", "google-ads")
    seen = record["caller"]
    assert (seen["number"], seen["country"], seen["anonymous"]) == (number, country, is_anonymous)
    assert len(seen["raw"] or "") <= 32


async def test_two_calls_at_once(stage: Stage) -> None:
    """On one number from two callers: two records, each its own."""
    stage.phone("desk-1", ring_ms=200)
    one, two = await stage.calls(SALES, SALES, hold_ms=600)
    for call in (one, two):
        check(call, "answered", Tried("first", "answered", 200, 16), **GOOGLE)
    assert one.record["call_id"] != two.record["call_id"]
    assert one.record["caller"]["number"] != two.record["caller"]["number"]


async def test_the_command_line_and_the_events_tell_the_same(stage: Stage) -> None:
    """One document everywhere, with what was said of the call since: nothing. `call.*` events once each, in order."""
    stage.phone("desk-1")
    call = await stage.call(SALES)
    [exported] = [one for one in stage.daemon.records() if one["call_id"] == call.record["call_id"]]
    assert exported == call.record | {"result": None}
    told = await stage.events_of(call.record["call_id"], "call.completed")
    assert [event["type"] for event in told] == ["call.started", "call.answered", "call.completed"]
    assert told[-1]["data"] == exported
