"""The rig itself: if it lies, every other acceptance test does."""

from __future__ import annotations

import asyncio
import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Behaviour, Rig, processes, waits
from tests.rig.asterisk import ROOT
from tests.rig.sipp import tone
from tests.rig.waits import wait_until

DIALPLAN = """
[general]
clearglobalvars = no

[try]
exten => _X!,1,CELGenUserEvent(DM_IN,did=${EXTEN})
 same => n,Dial(PJSIP/desk-1&PJSIP/desk-2,20^4,gi)
 same => n,Hangup(${IF($["${DIALSTATUS}"="BUSY"]?17:${IF($["${HANGUPCAUSE}"="0"]?19:${HANGUPCAUSE})})})
exten => 7,1,Answer()
 same => n,Read(KEY,,1,,1,4)
 same => n,CELGenUserEvent(TRY_KEY,key=${FILTER(0-9,${KEY})})
 same => n,Dial(PJSIP/desk-1,10^4,im(ring))

#tryinclude dialmark_plan.conf
"""


@pytest.fixture(scope="module")
def node(make_node: NodeFactory) -> AsteriskNode:
    node = make_node(dialplan={"extensions.conf": DIALPLAN})
    node.add_site(node.trunk_text("carrier-a", "try"))
    node.start()
    return node


@pytest.fixture
def rig(node: AsteriskNode, rig_of: Callable[[AsteriskNode], Rig]) -> Rig:
    if not node.is_running:
        node.start()
    return rig_of(node)


def rows(node: AsteriskNode) -> list[list[str]]:
    with node.journal.open(newline="") as journal:
        return list(csv.reader(journal))


@pytest.mark.real_time
async def test_answered(rig: Rig) -> None:
    phone = rig.callee("desk-1", ring_ms=200)
    result = await rig.call("74990000001", caller="+79161234567", name="Alice", hold_ms=250)
    assert result.status == 200
    assert result.ended_by == "caller"
    assert result.setup_ms is not None and 200 <= result.setup_ms < 1000
    assert result.talk_ms is not None and 250 <= result.talk_ms < 1000
    assert (result.first(180) or 9999) < 200
    assert phone.invites[0].header("From") is not None
    assert "+79161234567" in (phone.invites[0].header("From") or "")


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (Behaviour.BUSY, 486),
        (Behaviour.DECLINE, 403),
        (Behaviour.REJECT, 403),
        (Behaviour.NOT_FOUND, 404),
        (Behaviour.UNAVAILABLE, 480),
        (Behaviour.CONGESTION, 503),
        (Behaviour.REDIRECT, 486),
        (Behaviour.RING_THEN_UNAVAILABLE, 480),
        (Behaviour.SILENT, 480),
        (Behaviour.DEAD, 480),
    ],
)
async def test_a_phone_that_refuses(rig: Rig, behaviour: Behaviour, status: int) -> None:
    rig.callee("desk-1", behaviour)
    # The second phone must not change the picture: it does the same.
    rig.callee("desk-2", behaviour)
    assert (await rig.call("74990000001")).status == status


@pytest.mark.parametrize("behaviour", [Behaviour.RING_FOR_EVER, Behaviour.EARLY_MEDIA])
async def test_a_caller_gives_up(rig: Rig, behaviour: Behaviour) -> None:
    phone = rig.callee("desk-1", behaviour)
    result = await rig.call("74990000001", patience_ms=400)
    assert result.status == 487
    # The caller has its answer before the phone has its CANCEL.
    heard = ["INVITE", "CANCEL", "ACK"]
    wait_until(lambda: [m.method for m in phone.messages if not m.is_sent and m.status is None] == heard, 30, "CANCEL")


async def test_an_agent_hangs_up(rig: Rig) -> None:
    rig.callee("desk-1", talk_ms=150)
    result = await rig.call("74990000001", hold_ms=20_000)
    assert result.ended_by == "callee"


async def test_a_ring_group_cancels_the_slower_phone(rig: Rig) -> None:
    rig.callee("desk-1", ring_ms=100)
    slow = rig.callee("desk-2", Behaviour.RING_FOR_EVER)
    assert (await rig.call("74990000001")).status == 200
    assert "CANCEL" in {m.method for m in slow.messages}


async def test_ringing_keys_and_tones_are_heard(rig: Rig) -> None:
    """The music class ``ring``, RFC 4733 and audio both ways."""
    rig.callee("desk-1", ring_ms=1500, talk_ms=1500, tone_hz=1004)
    caller = await rig.dial("7")
    await caller.until(200)
    await caller.press("1")
    await caller.until_heard(425)
    await caller.until_heard(1004)
    await caller.until_hung_up()
    assert any(row[2] == "TRY_KEY" and "key=1" in row[9] for row in rows(rig.node))


async def test_echo(rig: Rig) -> None:
    rig.callee("desk-1", echo=True)
    caller = await rig.dial("74990000001")
    await caller.until(200)
    speaking = asyncio.create_task(caller.speak(tone(rig.node.folder, 700).read_bytes() * 3))
    await caller.until_heard(700)
    speaking.cancel()
    caller.hang_up()


async def test_bytes_go_out_as_given(rig: Rig) -> None:
    """``%0d%0a`` and bad UTF-8 reach Asterisk; it may refuse, not fall over."""
    rig.callee("desk-1")
    caller = await rig.dial(
        b"7499%0d%0aX%3a%20y", from_header=b'"\xff\xfe${SHELL(id)}" <sip:1%0d%0aX@x>', headers=["Diversion: <sip:77@x>"]
    )
    assert await caller.final() in (200, 404)
    assert rig.node.is_running


async def test_a_stranger_is_challenged_and_logged(rig: Rig) -> None:
    """asterisk.md 7: identified by address only, the security log names the others."""
    caller = await rig.dial("74990000001", stranger=True)
    assert await caller.final() == 401
    log = rig.node.log / "security.log"
    wait_until(lambda: caller.place.host in log.read_text(errors="replace"), 30, "a line of the stranger")


async def test_a_new_endpoint_is_seen(node: AsteriskNode) -> None:
    """A trunk comes with the generated file, without a restart."""
    with pytest.raises(TimeoutError):
        node.until_endpoint("carrier-b", seconds=0.1)
    node.write("dialmark_pjsip.conf", node.trunk_text("carrier-b", "try"))
    node.until_endpoint("carrier-b", seconds=3)


async def test_load(rig: Rig) -> None:
    rig.callee("desk-1", ring_ms=0, traced=False)
    result = await rig.load("74990000001", rate=40, calls=80)
    assert (result.calls, result.answered, result.failed) == (80, 80, 0)
    assert 0 < result.setup_percentile(50) <= result.setup_percentile(99) < 1000
    assert 20 < result.rate < 45


async def test_journal_rows_have_ten_fields(rig: Rig) -> None:
    rig.callee("desk-1")
    await rig.call("74990000009")
    assert {len(row) for row in rows(rig.node)} == {10}
    assert any(row[1:3] == ["USER_DEFINED", "DM_IN"] and "did=74990000009" in row[9] for row in rows(rig.node))
    assert {row[1] for row in rows(rig.node)} >= {"CHAN_START", "ANSWER", "BRIDGE_ENTER", "HANGUP", "LINKEDID_END"}


def test_runs_without_any_right(node: AsteriskNode) -> None:
    """asterisk.md 8: not root, no capabilities, none to be had."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{node.pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert "0" not in status["Uid"].split()
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    if os.geteuid() == 0:
        assert status["Uid"].split() == [str(processes.UNPRIVILEGED_ID)] * 4
        assert int(status["CapBnd"], 16) == 0


def test_every_module_of_the_list_runs(node: AsteriskNode) -> None:
    """autoload is off: a module that does not load would be missed by its first caller."""
    wanted = {
        line.split("=")[1].split(";")[0].strip()
        for line in (ROOT / "asterisk" / "modules.conf").read_text().splitlines()
        if line.startswith("load")
    }
    shown = node.cli("module show")
    running = {
        line.split()[0]
        for line in shown.splitlines()
        if line.strip().endswith(("core", "extended", "deprecated")) and "Running" in line
    }
    assert wanted - running == set()


def test_nothing_is_complained_of_at_start(node: AsteriskNode) -> None:
    log = (node.log / "messages.log").read_text(errors="replace")
    start = log.split("CEL records", 1)[0]
    assert "ERROR" not in start
    assert "WARNING" not in start


def test_the_manager_account_has_least_rights(node: AsteriskNode) -> None:
    """asterisk.md 7."""
    shown = node.cli("manager show user dialmark")
    rights = {
        line.split(":", 1)[0].strip(): line.split(":", 1)[1].strip() for line in shown.splitlines() if ":" in line
    }
    assert rights["read perm"] == "system"
    assert set(rights["write perm"].split(",")) == {"call", "reporting"}


def test_generated_files_are_read_when_they_change(node: AsteriskNode) -> None:
    node.write("dialmark_plan.conf", "[dialmark-plan]\nexten => 4990000001,1,NoOp(first)\n")
    waits.wait_until(lambda: "first" in node.cli("dialplan show dialmark-plan"), 3, "the plan read")
    node.write("dialmark_plan.conf", "[dialmark-plan]\nexten => 4990000001,1,NoOp(second)\n")
    waits.wait_until(lambda: "second" in node.cli("dialplan show dialmark-plan"), 3, "the new plan read")


async def test_killed_in_mid_call_and_started_again(rig: Rig) -> None:
    rig.callee("desk-1")
    call = await rig.start_call("74990000001", hold_ms=60_000)
    await call.until(200)
    before = len(rows(rig.node))
    rig.node.kill()
    assert not rig.node.is_running
    rig.node.start()
    assert rig.node.channels() == 0
    assert (await rig.call("74990000001")).status == 200
    assert len(rows(rig.node)) > before


async def test_frozen_and_thawed(rig: Rig) -> None:
    rig.callee("desk-1")
    rig.node.freeze()
    caller = await rig.dial("74990000001")
    assert await caller.silence(0.3)
    rig.node.thaw()
    assert await caller.final() == 200
    caller.hang_up()


def test_nothing_outlives_its_starter() -> None:
    """A test process that is killed leaves no Asterisk and no SIPp behind."""
    script = (
        "from tests.rig import AsteriskNode, Rig\n"
        "from tests.rig.asterisk import new_folder\n"
        "import os, signal\n"
        "node = AsteriskNode(new_folder()," + f"dialplan={{'extensions.conf': {DIALPLAN!r}}})\n"
        "node.start()\n"
        "phone = Rig(node).callee('desk-1')\n"
        "print(node.pid, phone._process.pid, node.folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    asterisk, phone, folder = done.stdout.split()
    try:
        waits.wait_until(
            lambda: not Path(f"/proc/{asterisk}").exists() and not Path(f"/proc/{phone}").exists(), 5, "both gone"
        )
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)
