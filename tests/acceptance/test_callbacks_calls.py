"""Agents call customers back: `*28` and a ticket's number, a click, and the break by `*29` (R18, R30, R56, R84, N8).

The phones of the desks dial as agents do; the carrier is where the customer answers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from gateway.pbx import ami, ringing
from tests.acceptance import desks, sound, stages
from tests.acceptance.desks import (
    CLICKER,
    CLICKER_SECRET,
    NO_HZ,
    OFF_HZ,
    ON_HZ,
    TELLS,
    Page,
    agent,
    missed,
    until_invited,
    until_row,
    until_ticket,
)
from tests.acceptance.stages import Stage
from tests.conftest import NodeFactory
from tests.rig import AGENT_HZ, CALLER_HZ, AsteriskNode, Behaviour, Rig, Voice
from tests.rig.dialmark import CommandFailed
from tests.rig.sipp import CLOCK_SECONDS
from tests.rig.waits import wait_until

pytestmark = pytest.mark.real_time

NUMBER, RECORDED, ANYBODYS, FOREIGN, PAIR = (f"7499000000{number}" for number in range(1, 6))
ROUTING = """
[[route]]
key = "sales"
forward = ["first"]
ring_seconds = 5

[[route]]
key = "recorded"
forward = ["first"]
ring_seconds = 5
recording = "announce"

# Nobody's phone rings, so the tickets are anybody's.
[[route]]
key = "anybody"
forward = ["reception"]
ring_seconds = 5

[[route]]
key = "foreign"
forward = ["second"]
ring_seconds = 5

[[route]]
key = "pair"
forward = ["first"]
reserve = ["second"]
ring_seconds = 5

[[tracking_number]]
number = "+74990000001"
route = "sales"
source = "google-ads"

[[tracking_number]]
number = "+74990000002"
route = "recorded"
source = "radio-jazz"

[[tracking_number]]
number = "+74990000003"
route = "anybody"

[[tracking_number]]
number = "+74990000004"
route = "foreign"

[[tracking_number]]
number = "+74990000005"
route = "pair"
"""


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    made = desks.site(make_node, ROUTING, "consent_announce")
    with stages.up(made) as site:
        sound.until_prompts(site.daemon, "consent_announce")
        desks.until_codes_speak(site)
        yield site


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    yield Stage(site, rig_of(site.node))
    await asyncio.to_thread(site.node.until_idle)


async def test_a_missed_call_is_returned(stage: Stage) -> None:
    """The customer's phone rings, shows the number they had called; the record knows ticket, missed call and source."""
    miss, ticket = await missed(stage, NUMBER)
    customer = stage.rig.callee("carrier-a", ring_ms=300)
    dialled = await agent(stage, f"*28{ticket}#")
    assert await dialled.final() == 200
    invite = await until_invited(customer)
    assert invite.text.startswith(f"INVITE sip:{miss.caller.lstrip('+')}@")
    assert f"<sip:{NUMBER}@" in (invite.header("From") or "")
    await until_ticket(stage, ticket, "closed", "called_back")
    dialled.hang_up()
    record = await stage.record_of(dialled)
    assert record["callback"] == {
        "ticket": ticket,
        "call_id": miss.record["call_id"],
        "by": "code",
        "shown": f"+{NUMBER}",
        "result": None,
    }
    assert (record["direction"], record["outcome"], record["agent"]) == ("outbound", "answered", "anna")
    copied, source = record["attribution"], miss.record["attribution"]
    assert (copied["method"], copied["source"]) == ("callback", "google-ads")
    assert copied == source | {"method": "callback", "candidates": []}
    assert record["recording_consent"]["result"] == "not_asked"
    assert sound.monitors(stage, record) == []


async def test_the_customer_is_asked_for_consent_and_recorded(stage: Stage) -> None:
    """C4, N3: by the rules of the route; the customer is the left side, as in a call that comes in."""
    _, ticket = await missed(stage, RECORDED, hold_ms=8_000)
    customer = stage.rig.callee("carrier-a", ring_ms=200, voice=Voice(CALLER_HZ))
    dialled = await agent(stage, f"*28{ticket}", voice=Voice(AGENT_HZ))
    await until_invited(customer)
    await customer.headset.until_heard(sound.PROMPTS["consent_announce"])
    await dialled.headset.until_talk(CALLER_HZ, 1.0)
    dialled.hang_up()
    record = await stage.record_of(dialled)
    consent = record["recording_consent"]
    assert (consent["mode"], consent["result"], consent["region"]) == ("announce", "granted", "RU")
    assert len(sound.monitors(stage, record)) == 1
    [talk] = await sound.recorded(stage, dialled.call_id)
    assert (sound.told(talk.left), sound.told(talk.right)) == (["caller"], ["agent"])
    assert [attempt["whisper_played"] for attempt in record["attempts"]] == [False]


@pytest.mark.parametrize(
    ("key", "result", "state", "ends"),
    [
        pytest.param("1", "settled", "closed", "called_back", id="settled"),
        pytest.param("2", "again", "open", None, id="again"),
        pytest.param("3", "unwanted", "closed", "unwanted", id="not wanted"),
    ],
)
async def test_the_result_is_keyed_in(stage: Stage, key: str, result: str, state: str, ends: str | None) -> None:
    """Without a browser, when the customer has hung up."""
    _, ticket = await missed(stage, NUMBER)
    stage.rig.callee("carrier-a", ring_ms=100, talk_ms=400)
    dialled = await agent(stage, f"*28{ticket}")
    await dialled.until_heard(TELLS["callback_result"])
    await dialled.press(key)
    await dialled.until_hung_up()
    record = await stage.record_of(dialled)
    assert record["callback"]["result"] == result
    await until_ticket(stage, ticket, state, ends)


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [(Behaviour.BUSY, "busy"), (Behaviour.RING_THEN_UNAVAILABLE, "no_answer"), (Behaviour.NOT_FOUND, "unreachable")],
)
async def test_a_customer_who_is_not_reached(stage: Stage, behaviour: Behaviour, outcome: str) -> None:
    """An attempt (R18, R30): the ticket stays, and says so."""
    _, ticket = await missed(stage, NUMBER)
    stage.rig.callee("carrier-a", behaviour)
    dialled = await agent(stage, f"*28{ticket}")
    await dialled.until_hung_up()
    record = await stage.record_of(dialled)
    assert (record["outcome"], record["callback"]["ticket"], record["agent"]) == (outcome, ticket, "anna")
    await until_row(stage, "SELECT 1 FROM tickets WHERE number = ? AND state = 'open' AND attempts = 1", ticket)


async def refused(stage: Stage, code: str, why: str, desk: str = "desk-1") -> None:
    """The agent hears why, and nobody is called."""
    customer = stage.rig.callee("carrier-a")
    before = len(stage.daemon.stored(state=None))
    dialled = await agent(stage, code, desk)
    await dialled.until_heard(TELLS[f"callback_{why}"])
    await dialled.until_heard(NO_HZ)
    await dialled.until_hung_up()
    assert customer.invites == []
    assert len(stage.daemon.stored(state=None)) == before


@pytest.mark.parametrize(
    ("code", "why", "desk"),
    [
        pytest.param("*28", "no_number", "desk-1", id="without digits"),
        pytest.param("*28999999", "no_ticket", "desk-1", id="no such ticket"),
        pytest.param("*280", "no_ticket", "desk-1", id="zero"),
        pytest.param("*28{}x1", "no_ticket", "desk-1", id="a letter in it"),
        pytest.param("*28{}%0d%0a", "no_ticket", "desk-1", id="a line break in it"),
        pytest.param("*281234567890123", "no_ticket", "desk-1", id="too long"),
        pytest.param("*28" + 40 * "1", "no_ticket", "desk-1", id="forty digits"),
        pytest.param("*28{}" + 40 * "0", "no_ticket", "desk-1", id="forty digits that begin like one"),
        pytest.param("*28{}", "unknown_agent", "desk-4", id="nobody's phone"),
        pytest.param("*28{}", "not_a_phone", "desk-3", id="another context"),
    ],
)
async def test_what_is_refused(stage: Stage, code: str, why: str, desk: str) -> None:
    _, ticket = await missed(stage, NUMBER)
    await refused(stage, code.format(ticket), why, desk)
    await until_ticket(stage, ticket, "open", None)


async def test_a_colleagues_ticket_and_a_closed_one(stage: Stage) -> None:
    _, foreign = await missed(stage, FOREIGN)
    await refused(stage, f"*28{foreign}", "foreign")
    stage.daemon.run("tickets", "close", str(foreign), "--result", "done")
    await refused(stage, f"*28{foreign}", "closed", "desk-2")


async def test_a_number_that_costs_its_caller(stage: Stage) -> None:
    """A caller may have made it up: premium rate, and countries that are not on the list."""
    for caller in ("+78091234567", "+37112345678"):
        _, ticket = await missed(stage, NUMBER, caller=caller)
        await refused(stage, f"*28{ticket}", "not_callable")


async def test_two_agents_at_once(stage: Stage) -> None:
    """Only one of them gets the customer; the other hears that a colleague is at it."""
    _, ticket = await missed(stage, ANYBODYS)
    customer = stage.rig.callee("carrier-a", ring_ms=100)
    both = [await agent(stage, f"*28{ticket}", desk) for desk in ("desk-1", "desk-2")]
    heard = [asyncio.create_task(one.until_heard(TELLS["callback_busy"], 8)) for one in both]
    done, waiting = await asyncio.wait(heard, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    await until_invited(customer)
    for task in waiting:
        task.cancel()
    winner = both[heard.index(next(iter(waiting)))]
    await until_ticket(stage, ticket, "closed", "called_back")
    winner.hang_up()
    record = await stage.record_of(winner)
    assert record["callback"]["ticket"] == ticket
    assert len(customer.invites) == 1


@pytest.mark.parametrize("code", ["*28", "*281", "*29"])
async def test_nobody_from_outside_dials_codes(stage: Stage, code: str) -> None:
    """Toll fraud: the trunks' contexts do not know them."""
    customer = stage.rig.callee("carrier-b")
    caller = await stage.dial(code)
    assert await caller.final() == 404
    assert customer.invites == []


# -- the click -------------------------------------------------------------------------------------------------------


async def test_a_click_rings_the_agent_first(stage: Stage) -> None:
    """Then the customer, once the agent has answered."""
    page = Page(stage, "clicker", "calls:make")
    miss, ticket = await missed(stage, NUMBER)
    phone = stage.phone("desk-1", ring_ms=1_000)
    customer = stage.rig.callee("carrier-a", ring_ms=200, talk_ms=600)
    assert await page.ask(f"tickets/{ticket}/call", {"agent": "anna"}) == (200, {"ticket": ticket, "agent": "anna"})
    await asyncio.to_thread(wait_until, lambda: len(phone.invites) == 1, 5.0, "the agent's phone")
    assert str(ticket) in (phone.invites[0].header("From") or "")
    invite = await until_invited(customer)
    # Not before that phone has rung its time. The answer itself SIPp writes down after it has sent it.
    assert invite.at - phone.invites[0].at > 1.0 - CLOCK_SECONDS
    assert f"<sip:{NUMBER}@" in (invite.header("From") or "")
    await until_ticket(stage, ticket, "closed", "called_back")
    # The agent, who is asked for the result, does not press, and does not hang up.
    query = "SELECT record FROM calls WHERE state = 'closed' AND direction = 'outbound' AND did = ?"
    row = await until_row(stage, query, miss.caller, seconds=20.0)
    record = json.loads(row[0])
    assert record["callback"]["by"] == "click"
    assert record["callback"]["call_id"] == miss.record["call_id"]
    assert (record["agent"], record["outcome"], record["attribution"]["method"]) == ("anna", "answered", "callback")


async def test_a_click_that_is_refused(stage: Stage) -> None:
    page = Page(stage, "refused", "calls:make")
    _, ticket = await missed(stage, FOREIGN)
    phone = stage.phone("desk-1")
    for number, agent_key, status, slug in (
        (ticket, "anna", 409, "callback-refused"),
        (999_999, "anna", 409, "callback-refused"),
        (ticket, "nobody", 404, "agent-not-found"),
    ):
        found, problem = await page.ask(f"tickets/{number}/call", {"agent": agent_key})
        assert (found, problem["type"].rpartition(":")[2]) == (status, slug)
    assert phone.invites == []
    status, problem = await Page(stage, "reader", "calls:read").ask(f"tickets/{ticket}/call", {"agent": "boris"})
    assert (status, problem["type"].rpartition(":")[2]) == (403, "missing-scope")


async def test_a_call_sent_to_the_clicks_context_needs_a_token(stage: Stage) -> None:
    """Whoever holds the second account can start a phone into it, and gets nobody called."""
    _, ticket = await missed(stage, NUMBER)
    phone, customer = stage.phone("desk-1", ring_ms=50), stage.rig.callee("carrier-a")
    ringer = ringing.Ringer(stage.node.ami.host, stage.node.ami.port, CLICKER, lambda: CLICKER_SECRET)
    await ringer.ring("desk-1", ticket, "0" * 32, 10)
    await asyncio.to_thread(
        wait_until, lambda: any("BYE" in one.method for one in phone.messages), 10.0, "the phone is hung up"
    )
    assert customer.invites == []


@pytest.mark.parametrize(
    ("action", "headers"),
    [
        ("Command", {"Command": "core show uptime"}),
        ("CoreStatus", {}),
        ("CoreShowChannels", {}),
        ("Getvar", {"Variable": "DM_AGI"}),
        ("Setvar", {"Variable": "DM_AGI", "Value": "127.0.0.1:1"}),
        ("Hangup", {"Channel": "/PJSIP/.*/"}),
        (
            "Redirect",
            {"Channel": "PJSIP/desk-1", "Context": "dialmark-outbound", "Exten": "79160001122", "Priority": "1"},
        ),
        ("DBPut", {"Family": "dialmark-break", "Key": "desk-1", "Val": "1"}),
        ("GetConfig", {"Filename": "manager.conf"}),
        ("MixMonitor", {"Channel": "PJSIP/desk-1", "File": "x.wav"}),
        ("UserEvent", {"UserEvent": "x"}),
        ("Reload", {}),
    ],
)
async def test_the_second_account_can_do_nothing_else(site: stages.Site, action: str, headers: dict[str, str]) -> None:
    protocol = await ami.connected(site.node.ami.host, site.node.ami.port, 5.0, lambda _: None)
    await protocol.log_in(CLICKER, lambda: CLICKER_SECRET, 5.0, with_events=False)
    with pytest.raises(ami.AmiRefused, match="Permission denied"):
        await protocol.ask(action, headers, 5.0)
    protocol.cut("done")


def test_doctor_looks_at_the_second_account(site: stages.Site) -> None:
    """It is well as it is; one that may more is a failure."""
    file = site.node.etc / "manager_site.conf"
    assert _said_of_clicks(site)["state"] == "ok"
    text = file.read_text()
    try:
        file.write_text(text.replace("write = originate", "write = originate,command"))
        site.node.cli("manager reload")
        assert _said_of_clicks(site)["state"] == "fail"
    finally:
        file.write_text(text)
        site.node.cli("manager reload")
    assert _said_of_clicks(site)["state"] == "ok"


def _said_of_clicks(site: stages.Site) -> dict[str, Any]:
    try:
        said = site.daemon.run("doctor", "--format", "json")
    except CommandFailed as failed:
        said = failed.output
    [found] = [one for one in json.loads(said) if one["check"] == "AMI account of clicks"]
    return dict(found)


# -- the break -------------------------------------------------------------------------------------------------------


def on_break(stage: Stage) -> list[str]:
    listed = json.loads(stage.daemon.run("agents", "list", "--format", "json"))
    return [one["agent"] for one in listed if one["state"] == "on break"]


async def until_break(stage: Stage, agent_key: str, is_on: bool) -> None:
    """Return when the switch stands so, and the daemon has looked."""
    await until_row(stage, "SELECT 1 FROM agent_breaks WHERE agent = ? AND is_on = ?", agent_key, is_on)
    asked = await asyncio.to_thread(stage.daemon.run, "agents", "list", "--format", "json")
    assert any(one["agent"] == agent_key for one in json.loads(asked))


async def press_break(stage: Stage, hertz: int, is_on: bool) -> None:
    dialled = await agent(stage, "*29")
    await dialled.until_heard(hertz)
    await dialled.until_hung_up()
    await until_break(stage, "anna", is_on)


async def test_a_break_keeps_the_phone_silent(stage: Stage) -> None:
    """The reserve rings at once; back, the agent's own phone rings. Survives restarts of Asterisk and daemon."""
    await press_break(stage, ON_HZ, True)
    assert on_break(stage) == ["anna"]
    await stage.daemon.restart()
    # In this thread: Asterisk ends with the one that began it.
    stage.node.restart()
    first, second = stage.phone("desk-1"), stage.phone("desk-2")
    call = await stage.call(PAIR)
    assert (call.record["agent"], call.record["attempts"][0]["destination"]) == ("boris", "second")
    assert first.invites == [] and len(second.invites) == 1
    await press_break(stage, OFF_HZ, False)
    assert on_break(stage) == []
    await until_routed_by(stage, "anna")


async def until_routed_by(stage: Stage, agent_key: str, tries: int = 5) -> None:
    """The router has seen the switch: within a second."""
    for _ in range(tries):
        call = await stage.call(PAIR)
        if call.record["agent"] == agent_key:
            return
    raise AssertionError(f"calls do not reach {agent_key}")


async def test_a_break_with_the_daemon_down(stage: Stage) -> None:
    """The journal carries it; `*28` says politely that it cannot, and loses nothing."""
    _, ticket = await missed(stage, NUMBER)
    customer = stage.rig.callee("carrier-a")
    stage.daemon.stop()
    try:
        dialled = await agent(stage, f"*28{ticket}")
        await dialled.until_heard(TELLS["callback_down"])
        await dialled.until_hung_up()
        assert customer.invites == []
        dialled = await agent(stage, "*29")
        await dialled.until_heard(ON_HZ)
        await dialled.until_hung_up()
    finally:
        stage.daemon.start()
    await stage.daemon.until_ready()
    await until_break(stage, "anna", True)
    await until_ticket(stage, ticket, "open", None)
    stage.daemon.run("agents", "back", "anna")
    await until_break(stage, "anna", False)
    await press_break(stage, ON_HZ, True)
    await press_break(stage, OFF_HZ, False)


async def test_the_caller_gets_through_meanwhile(stage: Stage) -> None:
    """N8: a colleague answers them while their own phone still rings: the ticket is closed by that, and the agent, who
    puts the phone down, has made no attempt."""
    miss, ticket = await missed(stage, PAIR)
    # Whoever has fewest has it: that depends on the tests before.
    await asyncio.to_thread(stage.daemon.run, "tickets", "assign", str(ticket), "anna")
    customer = stage.rig.callee("carrier-a", ring_ms=60_000)
    dialled = await agent(stage, f"*28{ticket}")
    await until_invited(customer)
    stage.phone("desk-2")
    through = await stage.call(PAIR, caller=miss.caller)
    assert (through.record["outcome"], through.record["agent"]) == ("answered", "boris")
    await until_ticket(stage, ticket, "closed", "called_again")
    dialled.hang_up()
    record = await stage.record_of(dialled)
    assert (record["outcome"], record["callback"]["ticket"]) == ("abandoned", ticket)
    [(state, result, attempts)] = stage.daemon.query(
        "SELECT state, result, attempts FROM tickets WHERE number = ?", ticket
    )
    assert (state, result, attempts) == ("closed", "called_again", 0)


async def test_a_daemon_that_hangs_keeps_no_agent_waiting(stage: Stage) -> None:
    """The agent hears within seconds that it is not possible now, and the ticket is as it was. The last test: for some
    seconds Asterisk does not ask again."""
    _, ticket = await missed(stage, NUMBER)
    customer = stage.rig.callee("carrier-a")
    stage.daemon.freeze()
    try:
        dialled = await agent(stage, f"*28{ticket}")
        await dialled.until_heard(TELLS["callback_down"])
        await dialled.until_heard(NO_HZ)
        await dialled.until_hung_up()
    finally:
        stage.daemon.thaw()
    assert customer.invites == []
    await until_ticket(stage, ticket, "open", None)
