"""The AMI session against the real Asterisk, with the account that is shipped."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable

import pytest

from gateway import supervision
from gateway.pbx import ami
from tests.conftest import NodeFactory
from tests.pbx.test_ami import until
from tests.rig import AsteriskNode, Rig

DIALPLAN = """
[globals]
DM_PLAN_REVISION = 17

[try]
exten => _X!,1,Dial(PJSIP/desk-1,20^4,gi)
 same => n,Hangup(16)
"""


@pytest.fixture(scope="module")
def node(make_node: NodeFactory) -> AsteriskNode:
    node = make_node(dialplan={"extensions.conf": DIALPLAN})
    node.add_site(node.trunk_text("carrier-a", "try"))
    node.start()
    return node


@pytest.fixture
async def session(node: AsteriskNode) -> AsyncIterator[ami.AmiSession]:
    if not node.is_running:
        node.start()
    session = ami.AmiSession(
        node.ami.host,
        node.ami.port,
        node.ami_user,
        lambda: node.ami_secret,
        times=ami.AmiTimes(connect=0.5, ping_every=0.05, ping=0.5),
        backoff=supervision.Backoff(lambda: 0.0, first_seconds=0.05, most_seconds=0.05),
    )
    task = asyncio.create_task(session.run())
    await session.connected.wait()
    yield session
    task.cancel()


async def until_lost(session: ami.AmiSession) -> None:
    await until(lambda: not session.connected.is_set())


async def test_the_shipped_account_may_do_what_the_daemon_does(node: AsteriskNode, session: ami.AmiSession) -> None:
    assert re.match(r"\d+\.\d+", session.health.asterisk_version or "")
    status = await session.core_status()
    assert status.started_at == session.health.asterisk_started_at is not None
    assert status.current_calls == 0
    assert await session.channels() == []
    assert await session.get_global("DM_PLAN_REVISION") == "17"
    assert await session.get_global("DM_NOT_SET") is None
    with pytest.raises(ami.NoSuchChannel):
        await session.hang_up("/.*/")


async def test_seeing_a_call_and_hanging_it_up(
    node: AsteriskNode, session: ami.AmiSession, rig_of: Callable[[AsteriskNode], Rig]
) -> None:
    rig = rig_of(node)
    rig.callee("desk-1", ring_ms=100)
    call = asyncio.create_task(rig.call("74990000001", caller="+79161234567", name="Zoë", hold_ms=60_000))
    seen: list[ami.ChannelSeen] = []
    while [one.state for one in seen] != ["Up", "Up"]:
        seen = await session.channels()
    caller = next(one for one in seen if one.unique_id == one.linked_id)
    assert caller.name.startswith("PJSIP/carrier-a-")
    await session.hang_up(caller.name)
    await call
    with pytest.raises(ami.NoSuchChannel):
        await session.hang_up(caller.name)


async def test_a_frozen_asterisk_is_noticed_and_met_again(node: AsteriskNode, session: ami.AmiSession) -> None:
    node.freeze()
    await until_lost(session)
    with pytest.raises(ami.AmiUnavailable):
        await session.channels()
    node.thaw()
    await session.connected.wait()
    assert session.health.logins == 2


async def test_a_restarted_asterisk_shows_a_new_start(node: AsteriskNode, session: ami.AmiSession) -> None:
    before = session.health.asterisk_started_at
    node.kill()
    await until_lost(session)
    # Not in a thread: the node dies with the thread that started it.
    node.start()
    await session.connected.wait()
    after = session.health.asterisk_started_at
    assert before is not None
    assert after is not None
    assert after > before


async def test_a_wrong_secret_is_a_failed_login(node: AsteriskNode) -> None:
    wrong = ami.AmiSession(node.ami.host, node.ami.port, node.ami_user, lambda: "wrong")
    task = asyncio.create_task(wrong.run())
    await until(lambda: wrong.health.state is ami.AmiState.LOGIN_FAILED)
    assert wrong.health.last_error == "Authentication failed"
    task.cancel()
