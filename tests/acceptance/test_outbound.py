"""Calls of our people to the outside are records too (R56, R84), and nobody from outside can make one."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.acceptance import stages
from tests.acceptance.stages import Call, Stage, near, tried
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Behaviour, Rig

pytestmark = pytest.mark.real_time

BUSINESS = "74990000000"
TRUNK_B = 'hosts = ["{carrier_b.host}"]'
ROUTING = (
    stages.SITE.replace(TRUNK_B, 'number_form = "national"\n' + TRUNK_B)
    + """
[[route]]
key = "sales"
forward = ["first"]

[[tracking_number]]
number = "+74990000001"
route = "sales"
"""
)
assert "national" in ROUTING
DIALPLAN = """
[from-phones]
include => dialmark-out-carrier-a

; By hand: E.164 digits, the trunk of the site.
[from-softphones]
exten => _9X.,1,Goto(dialmark-outbound,${EXTEN:1},1)
exten => _8X.,1,Set(DM_OUT_TRUNK=carrier-b)
 same => n,Set(DM_OUT_CALLERID=)
 same => n,Goto(dialmark-outbound,${EXTEN:1},1)
"""


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    made = stages.Site(
        make_node,
        ROUTING,
        carriers=("carrier-a", "carrier-b", "office", "softphone"),
        files={"extensions_site.conf": DIALPLAN},
    )
    made.node.add_site(made.node.trunk_text("office", "from-phones"))
    made.node.add_site(made.node.trunk_text("softphone", "from-softphones"))
    with stages.up(made) as site:
        yield site


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    yield Stage(site, rig_of(site.node))
    await asyncio.to_thread(site.node.until_idle)


def _outbound(call: Call, outcome: str, attempt: tuple[str, int | None], **expected: Any) -> None:
    record = call.record
    [made] = tried(record)
    assert (record["direction"], record["outcome"]) == ("outbound", outcome)
    assert (made.destination, made.outcome, made.sip, made.kind) == ("outbound", *attempt, "forward")
    wanted = {
        "state": "closed",
        "site": "clinic",
        "trunk": "carrier-a",
        "route": None,
        "route_source": "plan",
        "caller__number": None,
        "caller__raw": "101",
        "caller__first_time": None,
        "tracking__kind": None,
        "tracking__source": None,
        "attribution__source": None,
        "sip_call_id": call.result.call_id,
        **expected,
    }
    assert {name: stages.within(record, name) for name in wanted} == wanted
    assert call.result.setup_ms is not None
    assert near(record["wait_seconds"], call.result.setup_ms / 1000)


@pytest.mark.parametrize(
    ("dialled", "number"),
    [
        pytest.param("89160001122", "79160001122", id="national with 8"),
        pytest.param("9160001122", "79160001122", id="national"),
        pytest.param("+79160001122", "79160001122", id="plus"),
        pytest.param("810442071234567", "442071234567", id="international"),
    ],
)
async def test_a_call_out(stage: Stage, dialled: str, number: str) -> None:
    """What the carrier gets is E.164 and shows the business number; the record holds who called whom."""
    carrier = stage.rig.callee("carrier-a", ring_ms=300)
    call = await stage.call(dialled, caller="101", carrier="office", hold_ms=600)
    assert call.result.status == 200
    [invite] = carrier.invites
    assert invite.text.startswith(f"INVITE sip:{number}@")
    assert f"sip:{BUSINESS}@" in (invite.header("From") or "")
    _outbound(call, "answered", ("answered", 200), tracking__number=f"+{number}", ended_by="caller", missed=False)
    assert call.result.talk_ms is not None
    assert near(call.record["talk_seconds"], call.result.talk_ms / 1000)


async def test_the_other_side_hangs_up(stage: Stage) -> None:
    stage.rig.callee("carrier-a", talk_ms=500)
    call = await stage.call("89160001122", caller="101", carrier="office", hold_ms=20_000)
    _outbound(call, "answered", ("answered", 200), ended_by="agent")


@pytest.mark.parametrize(
    ("behaviour", "outcome", "sip", "status"),
    [
        (Behaviour.BUSY, "busy", 486, 486),
        (Behaviour.DECLINE, "rejected", 603, 403),
        (Behaviour.RING_THEN_UNAVAILABLE, "no_answer", 480, 480),
        (Behaviour.NOT_FOUND, "unreachable", 404, 480),
    ],
)
async def test_a_call_out_that_fails(stage: Stage, behaviour: Behaviour, outcome: str, sip: int, status: int) -> None:
    stage.rig.callee("carrier-a", behaviour)
    call = await stage.call("89160001122", caller="101", carrier="office")
    assert call.result.status == status
    _outbound(call, outcome, (outcome, sip), ended_by="system")


async def test_a_call_out_that_is_given_up(stage: Stage) -> None:
    stage.rig.callee("carrier-a", Behaviour.RING_FOR_EVER)
    call = await stage.call("89160001122", caller="101", carrier="office", patience_ms=600)
    assert call.result.status == 487
    _outbound(call, "abandoned", ("abandoned", None), ended_by="caller")


async def test_early_media_of_the_carrier_is_heard(stage: Stage) -> None:
    """Announcements and busy tones of the far side, not ringing of ours."""
    stage.rig.callee("carrier-a", Behaviour.EARLY_MEDIA, tone_hz=700)
    caller = await stage.dial("89160001122", caller="101", carrier="office")
    await caller.until(183)
    await caller.until_heard(700)
    caller.cancel()
    assert await caller.final() == 487
    assert (await stage.record_of(caller))["direction"] == "outbound"


async def test_by_hand_through_the_trunk_of_the_site(stage: Stage) -> None:
    """``Goto(dialmark-outbound,…)`` from a dialplan of the site's own."""
    carrier = stage.rig.callee("carrier-a")
    call = await stage.call("979160001133", caller="101", carrier="softphone")
    assert carrier.invites[0].text.startswith("INVITE sip:79160001133@")
    _outbound(call, "answered", ("answered", 200), tracking__number="+79160001133")


async def test_by_hand_through_another_trunk(stage: Stage) -> None:
    """In that carrier's number form, and with the phone's own number shown."""
    carrier = stage.rig.callee("carrier-b")
    call = await stage.call("879160001133", caller="101", carrier="softphone")
    [invite] = carrier.invites
    assert invite.text.startswith("INVITE sip:89160001133@")
    assert "sip:101@" in (invite.header("From") or "")
    _outbound(call, "answered", ("answered", 200), tracking__number="+79160001133", trunk="carrier-b")


async def test_listed_by_direction(stage: Stage) -> None:
    stage.rig.callee("carrier-a")
    stage.phone("desk-1")
    out = await stage.call("89160001122", caller="101", carrier="office")
    came = await stage.call("74990000001")
    for direction, call in (("outbound", out), ("inbound", came)):
        listed = json.loads(stage.daemon.run("calls", "list", "--direction", direction, "--format", "json"))
        assert listed[0] == call.record | {"result": None}
        assert {record["direction"] for record in listed} == {direction}


@pytest.mark.parametrize(
    "number",
    ["79160001122", "+79160001122", "89160001122", "810442071234567", "442071234567", "79160001122@carrier-a-out"],
)
async def test_nobody_from_outside_dials_out(stage: Stage, number: str) -> None:
    """Toll fraud: what a carrier sends us is a tracking number or an unknown one, never a number to call."""
    carriers = [stage.rig.callee(name) for name in ("carrier-a", "carrier-b")]
    reception = stage.phone("desk-4")
    caller = await stage.dial(number.replace("@", "%40"))
    assert await caller.final() == 200
    caller.hang_up()
    record = await stage.record_of(caller)
    assert [carrier.invites for carrier in carriers] == [[], []]
    assert len(reception.invites) == 1
    assert (record["direction"], record["destination"]) == ("inbound", "reception")
    assert record["tracking"]["kind"] is None


@pytest.mark.parametrize("carrier", ["carrier-a", "carrier-b"])
def test_trunks_in_and_out_are_apart(site: stages.Site, carrier: str) -> None:
    """asterisk.md 7: the endpoint that takes calls cannot send any, the other one takes none."""
    came, sent = (_parts(site.node.cli(f"pjsip show endpoint {name}")) for name in (carrier, f"{carrier}-out"))
    assert (came["Identify"], came["Contact"], came["context"]) == (True, False, f"dialmark-from-{carrier}")
    assert (sent["Identify"], sent["Contact"], sent["context"]) == (False, True, "dialmark-nowhere")
    assert "There is no existence of" in site.node.cli("dialplan show dialmark-nowhere")


def _parts(shown: str) -> dict[str, bool | str]:
    """Whether the endpoint has an address to be known by and one to call, and where its calls go."""
    context = re.search(r"(?m)^ context +: (\S+)", shown)
    assert context is not None
    # The head of the listing names each kind of line too, with <what stands there>.
    kinds = {kind: re.search(rf"(?m)^ +{kind}: +[^<\s]", shown) is not None for kind in ("Identify", "Contact")}
    return {**kinds, "context": context[1]}
