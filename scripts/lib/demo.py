"""Asterisk, the daemon and SIP parties on loopback; real calls, and their records against what was expected.

``python scripts/lib/demo.py [--once]``, started by ``scripts/demo``. Everything lives in one folder below /tmp and is
gone at the end. The routing is ``config/routing.example.toml``, whose numbers say which call is theirs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.rig import Address, AsteriskNode, Behaviour, Daemon, Rig
from tests.rig.asterisk import new_folder

ROOT = Path(__file__).resolve().parents[2]
# As config/routing.example.toml has it.
CARRIERS = {"carrier-a": Address("127.0.0.2", 5070)}
PHONES = ("desk-1", "desk-2")
RECORD_SECONDS = 10.0


@dataclass(frozen=True)
class Call:
    """One call of the demo and the record it must leave."""

    title: str
    number: str
    outcome: str
    source: str | None = None
    caller: str = "+79161234567"
    parties: Mapping[str, Behaviour] = field(default_factory=dict)
    """Who is there and what he does; everybody else is absent."""
    ring_ms: int = 700
    hold_ms: int = 1200
    patience_ms: int | None = None
    answered_by: str | None = None
    """Endpoint of the agent."""


ANSWER, BUSY, RINGS, DECLINE = Behaviour.ANSWER, Behaviour.BUSY, Behaviour.RING_FOR_EVER, Behaviour.DECLINE
CALLS = (
    Call(
        "answered", "+74990000001", "answered", "google-ads", "+79161110001", {"desk-1": ANSWER}, answered_by="desk-1"
    ),
    Call(
        "busy, the reserve answers",
        "+74990000002",
        "answered",
        "yandex-direct",
        "+79161110002",
        {"desk-1": BUSY, "desk-2": ANSWER},
        answered_by="desk-2",
    ),
    Call(
        "no answer, the reserve answers",
        "+74990000003",
        "answered",
        "radio-energy",
        "+79161110003",
        {"desk-1": RINGS, "desk-2": ANSWER},
        answered_by="desk-2",
    ),
    Call(
        "ring group",
        "+74990000004",
        "answered",
        "radio-jazz",
        "+79161110004",
        {"desk-1": RINGS, "desk-2": ANSWER},
        answered_by="desk-2",
    ),
    Call(
        "the caller gives up",
        "+74990000001",
        "abandoned",
        "google-ads",
        "+79161110005",
        {"desk-1": RINGS},
        patience_ms=2500,
    ),
    Call("after hours", "+74990000005", "after_hours", "billboard", "+79161110006"),
    Call(
        "nobody takes it", "+74990000006", "rejected", "leaflet", "+79161110007", {"desk-1": DECLINE, "desk-2": DECLINE}
    ),
    Call("banned caller", "+74990000001", "banned", "google-ads", "+74957770001", {"desk-1": ANSWER}),
)


def say(text: str) -> None:
    """A line for the person who watches, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def judge(call: Call, records: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the record of a call; nothing when it is as expected."""
    mine = [record for record in records if record["caller"]["number"] == call.caller]
    if len(mine) != 1:
        return [f"{len(mine)} records"]
    record = mine[0]
    agent = next((a.get("destination") for a in record["attempts"] if a["outcome"] == "answered"), None)
    seen = {
        "outcome": record["outcome"],
        "source": record["attribution"]["source"],
        "number": record["tracking"]["number"],
    }
    wanted = {"outcome": call.outcome, "source": call.source, "number": call.number}
    wrong = [f"{key} {seen[key]}, not {wanted[key]}" for key in wanted if seen[key] != wanted[key]]
    if (agent is not None) != (call.answered_by is not None):
        wrong.append(f"answered by {agent}")
    return wrong


async def place(rig: Rig, daemon: Daemon, call: Call) -> list[str]:
    """Make the call, wait for its record, print a line."""
    for name in PHONES:
        rig.callee(name, call.parties.get(name, Behaviour.DEAD), ring_ms=call.ring_ms, tone_hz=None)
    result = await rig.call(
        call.number.removeprefix("+"), caller=call.caller, hold_ms=call.hold_ms, patience_ms=call.patience_ms
    )
    deadline = asyncio.get_running_loop().time() + RECORD_SECONDS
    while wrong := judge(call, await asyncio.to_thread(daemon.records)):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(0.2)
    said = "; ".join(wrong) or call.outcome
    say(f"  {'✗' if wrong else '✓'} {call.title:32} {call.number}  SIP {result.status}  {said}")
    return wrong


async def demo(*, once: bool) -> int:
    """Exit code."""
    say("\033[1m▶ Asterisk\033[0m")
    node = AsteriskNode(new_folder("demo"), phones=PHONES, carriers=CARRIERS, system_name="demo")
    daemon = Daemon(node, name="demo")
    try:
        node.start()
        say(f"  {node.installation.version}, SIP on {node.sip}")
        say("\033[1m▶ Dialmark\033[0m")
        say(daemon.run("apply", str(ROOT / "config" / "routing.example.toml")).rstrip())
        daemon.start()
        await daemon.until_ready()
        # The trunk reaches Asterisk by the generated files, a second after the revision.
        await asyncio.to_thread(node.until_endpoint, "carrier-a")
        say("\033[1m▶ calls\033[0m")
        async with Rig(node) as rig:
            outcomes = [await place(rig, daemon, call) for call in CALLS]
        say(daemon.run("calls", "list"))
        if not once:
            say(f"web page: http://{daemon.admin}/   (Ctrl-C ends)")
            await asyncio.Event().wait()
        good = sum(not wrong for wrong in outcomes)
        say(f"{good} of {len(outcomes)} calls as expected")
        return 0 if good == len(outcomes) else 1
    finally:
        daemon.stop()
        node.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--once", action="store_true", help="end after the calls; exit code 1 unless all are as expected"
    )
    options = parser.parse_args()
    try:
        return asyncio.run(demo(once=options.once))
    except KeyboardInterrupt:
        return 0
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
