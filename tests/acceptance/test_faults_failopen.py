"""Callers are put through whatever state the daemon is in (N2): by the number's default plan, and soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.acceptance import faults, stages
from tests.acceptance.faults import CLOSED, NOBODY, SALES, SECOND, Ill, Server
from tests.acceptance.stages import Stage
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Behaviour, CallResult, Rig
from tests.rig.waits import Patience

pytestmark = pytest.mark.real_time

RINGS_WITHIN_MS = 2000
HUNG_SECONDS, HUNG_RATE = 30, 50
"""design.md says 30 s; two rounds of waiting and skipping are in 10 s as well."""


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    with stages.site(make_node, faults.ROUTING, files=faults.SITE_DIALPLAN) as site:
        yield site


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    """Each test leaves the daemon up, and the books even."""
    yield Stage(site, rig_of(site.node))
    if not site.daemon.is_running:
        site.daemon.start()
    await site.daemon.until_ready()
    await asyncio.to_thread(site.conserved)


def rang_in_time(result: CallResult) -> None:
    rang = result.first(180)
    assert rang is not None and rang < RINGS_WITHIN_MS


@pytest.mark.parametrize("ill", list(Ill), ids=lambda ill: ill.name.lower())
async def test_a_server_that_is_ill(stage: Stage, ill: Ill) -> None:
    stage.phone("desk-1")
    wrong = stage.phone("desk-3")
    with faults.asking(stage.site, Server(ill)) as server:
        call = await stage.call(SALES)
    assert call.result.status == 200
    rang_in_time(call.result)
    assert server.questions == (0 if ill is Ill.REFUSES else 1)
    assert (call.record["route_source"], call.record["route"], call.record["agent"]) == ("plan", "sales", "anna")
    if ill.value[1] is not None:
        assert call.record["agi_status"] == ill.value[1]
    assert call.record["attribution"]["source"] == "google-ads"
    assert not wrong.invites


async def test_an_answer_that_is_slow_and_yet_in_time(stage: Stage) -> None:
    stage.phone("desk-2")
    with faults.asking(stage.site, Server(None, delay_seconds=1.0)):
        call = await stage.call(SALES)
    rang_in_time(call.result)
    assert (call.record["route_source"], call.record["agent"]) == ("agi", "boris")


async def test_reserve_hours_and_unknown_numbers_without_the_daemon(stage: Stage) -> None:
    """The default plan has steps and hours; a number without a plan goes to the site's default destination."""
    stage.phone("desk-1", Behaviour.BUSY)
    stage.phone("desk-2")
    stage.phone("desk-4")
    await asyncio.to_thread(stage.daemon.stop)
    placed = {number: await stage.rig.call(number) for number in (SALES, CLOSED, NOBODY)}
    assert [result.status for result in placed.values()] == [200, 480, 200]
    stage.daemon.start()
    found = {number: await faults.record_of(stage, result) for number, result in placed.items()}
    assert {(one["route_source"], one["agi_status"]) for one in (found[SALES], found[CLOSED])} == {("plan", "FAILURE")}
    assert [(one["destination"], one["outcome"]) for one in found[SALES]["attempts"]] == [
        ("first", "busy"),
        ("second", "answered"),
    ]
    assert found[CLOSED]["outcome"] == "after_hours"
    assert (found[NOBODY]["route_source"], found[NOBODY]["destination"]) == ("default", "reception")


async def test_a_hung_daemon_under_load(stage: Stage) -> None:
    """SIGSTOP: the kernel accepts for it. One call in each round waits 1.5 s, the others skip it for 5 s."""
    stage.phone("desk-2", ring_ms=0, traced=False)
    before = len(stage.daemon.stored())
    calls = HUNG_SECONDS * HUNG_RATE
    stage.daemon.freeze()
    try:
        load = await stage.rig.load(SECOND, rate=HUNG_RATE, calls=calls)
    finally:
        stage.daemon.thaw()
    assert (load.calls, load.failed, load.answered) == (calls, 0, calls)
    assert load.ringing_ms[-1] < RINGS_WITHIN_MS
    assert sum(ms > 1000 for ms in load.ringing_ms) < calls / 2
    found = (await stage.daemon.until_records(before + calls, 30))[before:]
    assert {(one["outcome"], one["route_source"]) for one in found} == {("answered", "plan")}
    assert {one["agi_status"] for one in found} == {"TIMEOUT", "SKIPPED"}


async def test_after_a_hang_the_daemon_is_asked_again(stage: Stage) -> None:
    """Skipped for 5 s and no longer, though nobody tells Asterisk that it is well."""
    stage.phone("desk-1")
    faults.ask_at(stage.site)
    stage.daemon.freeze()
    hung = await stage.rig.call(SALES)
    stage.daemon.thaw()
    assert (await faults.record_of(stage, hung))["agi_status"] == "TIMEOUT"
    patience = Patience(10)
    seen = []
    while "agi" not in seen and not patience.is_over():
        seen.append((await stage.call(SALES)).record["route_source"])
    assert seen[0] == "plan" and seen[-1] == "agi"


async def test_the_plan_follows_each_revision(stage: Stage) -> None:
    """Within 3 s, with the daemon's own watcher and Asterisk's reload in between."""
    for forward in ("third", "second", "first"):
        text = stage.site.routing.replace(
            'key = "sales"\nforward = ["first"]', f'key = "sales"\nforward = ["{forward}"]'
        )
        file = stage.node.folder / "routing.toml"
        file.write_text(text)
        await asyncio.to_thread(stage.daemon.run, "apply", "--force", str(file))
        applied = time.monotonic()
        await asyncio.to_thread(stage.daemon.until_plan)
        assert time.monotonic() - applied < 3


async def test_the_plan_survives_restarts_of_both(stage: Stage) -> None:
    """And a revision applied while the daemon is down is in force when it comes back."""
    for name in ("desk-1", "desk-3"):
        stage.phone(name)
    await asyncio.to_thread(stage.daemon.stop)
    stage.node.restart()
    await asyncio.to_thread(stage.node.until_endpoint, "carrier-a")
    one = await stage.rig.call(SALES)
    changed = stage.site.routing.replace('key = "sales"\nforward = ["first"]', 'key = "sales"\nforward = ["third"]')
    await asyncio.to_thread(stage.daemon.apply, changed)
    two = await stage.rig.call(SALES)
    stage.daemon.start()
    await asyncio.to_thread(stage.daemon.until_plan, 10.0)
    await stage.daemon.until_ready()
    three = await stage.rig.call(SALES)
    await asyncio.to_thread(stage.daemon.stop)
    four = await stage.rig.call(SALES)
    stage.daemon.start()
    found = [await faults.record_of(stage, result) for result in (one, two, three, four)]
    assert [(record["agent"], record["route_source"]) for record in found] == [
        ("anna", "plan"),
        ("anna", "plan"),
        ("clara", "agi"),
        ("clara", "plan"),
    ]
    assert found[3]["plan_revision"] == found[1]["plan_revision"] + 1
    await asyncio.to_thread(stage.daemon.apply, stage.site.routing)
