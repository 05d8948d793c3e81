"""`doctor` against a real Asterisk and a FastAGI server of ours, well and ill."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.cli import agi_probe, ami_probe, host_checks
from gateway.cli.findings import State
from gateway.pbx import agi
from tests.cli.conftest import Operator
from tests.rig import AsteriskNode

# pyst2 was written for older Pythons.
pytestmark = pytest.mark.filterwarnings(r"ignore:(isSet|setDaemon|currentThread)\(\) is deprecated:DeprecationWarning")

PLAN = "[globals]\nDM_PLAN_REVISION = 1\n"


@contextmanager
def _daemon(answer: agi.Answer) -> Iterator[int]:
    """A FastAGI server in a thread; gives its port."""
    ready, port = threading.Event(), [0]
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        server = agi.AgiServer(answer)
        await server.start("127.0.0.1", 0)
        port[0] = server.port
        ready.set()
        await stop.wait()
        await server.close(0.0)

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    assert ready.wait(10)
    try:
        yield port[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def _plan(_: agi.AgiRequest) -> agi.Pairs:
    return [("DM_SRC", "agi"), ("DM_REV", "1"), ("DM_OK", "1")]


@pytest.fixture(scope="module")
def node(make_node: Callable[..., AsteriskNode]) -> AsteriskNode:
    node = make_node()
    node.start()
    return node


@pytest.fixture
def pbx(operator: Operator, node: AsteriskNode) -> Operator:
    """An operator of a machine with a running Asterisk that holds the plan of revision 1."""
    operator.apply()
    (operator.folder / "ami.secret").write_text(node.ami_secret)
    text = operator.config.read_text()
    text = text.replace(f'"{operator.folder}/cel"', f'"{node.journal.parent}"')
    text = text.replace(f'"{operator.folder}/generated"', f'"{node.etc}"').replace(
        "[ami]", f"[ami]\nport = {node.ami.port}"
    )
    operator.config.write_text(text)
    node.write("dialmark_plan.conf", PLAN)
    node.reload_dialplan()
    return operator


def _findings(operator: Operator, code: int) -> dict[str, tuple[str, str]]:
    rows = operator("doctor", "--format", "json", code=code).json
    assert all(row["advice"] for row in rows if row["state"] != "ok")
    return {row["check"]: (row["state"], row["text"]) for row in rows}


def test_all_is_well(pbx: Operator, node: AsteriskNode) -> None:
    with _daemon(_plan) as port:
        pbx.config.write_text(f"{pbx.config.read_text()}[agi]\nport = {port}\n")
        node.write("dialmark_plan.conf", f"{PLAN}DM_AGI = 127.0.0.1:{port}\n")
        node.reload_dialplan()
        found = _findings(pbx, 0)
        text = pbx("doctor").out
    for check in ("FastAGI", "AMI", "Asterisk", "dialplan", "default plan", "plan in Asterisk", "routing", "database"):
        assert found[check][0] == "ok", found[check]
    assert "with the least rights" in found["AMI"][1]
    assert "fail" not in text.splitlines()[-1].replace("0 fail", "")


def test_plans_that_are_not_current(pbx: Operator, node: AsteriskNode) -> None:
    """The store has revision 2, the file and Asterisk still 1."""
    pbx.apply(pbx.routing.read_text().replace("Radio", "Wireless"))
    found = _findings(pbx, 1)
    assert found["default plan"] == ("fail", f"{node.etc}/dialmark_plan.conf is of revision 1, the store has 2")
    assert found["plan in Asterisk"][0] == "fail"
    assert "Asterisk holds revision 1, the store has 2" in found["plan in Asterisk"][1]


def test_the_dialplan_asks_another_port(pbx: Operator) -> None:
    pbx.config.write_text(f"{pbx.config.read_text()}[agi]\nport = 4999\n")
    found = _findings(pbx, 1)
    assert "the daemon listens on port 4999" in found["FastAGI address"][1]
    assert "nothing listens there" in found["FastAGI"][1]


def test_a_wrong_secret(pbx: Operator) -> None:
    (pbx.folder / "ami.secret").write_text("wrong")
    state, text = _findings(pbx, 1)["AMI"]
    assert state == "fail"
    assert "login refused" in text


def test_a_dialplan_without_ours(pbx: Operator, node: AsteriskNode) -> None:
    extensions = (node.etc / "extensions.conf").read_text()
    (node.etc / "extensions.conf").write_text("[general]\nstatic=yes\n[mine]\nexten => s,1,Hangup()\n")
    node.reload_dialplan()
    try:
        found = _findings(pbx, 1)
    finally:
        (node.etc / "extensions.conf").write_text(extensions)
        node.reload_dialplan()
    assert "Asterisk does not have dialmark-inbound" in found["dialplan"][1]


def test_a_hung_asterisk_hangs_nobody_else(pbx: Operator, node: AsteriskNode) -> None:
    """pyst2 would wait for ever (asterisk.md, section 6)."""
    node.freeze()
    try:
        started = time.monotonic()
        found = ami_probe.interview(node.ami.host, node.ami.port, "dialmark", "x", [], seconds=1.0)
        assert time.monotonic() - started < 5
        assert found.problem == "no answer within 1 s"
    finally:
        node.thaw()


def test_nothing_listens(unused_port: int) -> None:
    found = ami_probe.interview("127.0.0.1", unused_port, "dialmark", "x", [], seconds=5.0)
    assert found.problem is not None
    assert "no connection" in found.problem


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", "closed without a plan"),
        (b"HTTP/1.1 400 Bad Request\r\n", "which is no plan"),
        (b"\xff\xfe\n", "which is no plan"),
        (None, "no answer within"),
    ],
)
async def test_a_daemon_that_is_none(answer: bytes | None, expected: str) -> None:
    is_over = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\n\n")
        if answer is not None:
            writer.write(answer)
        else:
            await reader.read()
        writer.close()
        await writer.wait_closed()
        is_over.set()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(agi_probe.NoAnswer, match=expected):
            await agi_probe.ask("127.0.0.1", port, seconds=0.5 if answer is None else 60.0)
        await is_over.wait()


async def test_the_probe_speaks_as_asterisk_does() -> None:
    asked: list[agi.AgiRequest] = []

    def answer(request: agi.AgiRequest) -> agi.Pairs:
        asked.append(request)
        return _plan(request)

    server = agi.AgiServer(answer)
    await server.start("127.0.0.1", 0)
    try:
        found = await agi_probe.ask("127.0.0.1", server.port, "74990000001", "79161234567")
    finally:
        await server.close(1.0)
    assert found.variables == {"DM_SRC": "agi", "DM_REV": "1", "DM_OK": "1"}
    assert asked[0].arguments[1:] == ("74990000001", "79161234567", "")


def test_rights_of_secret_files(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert host_checks.secret_file("x", path).state is State.FAIL
    path.write_text("s")
    for mode, state in ((0o640, State.OK), (0o600, State.OK), (0o644, State.FAIL), (0o660, State.FAIL)):
        path.chmod(mode)
        assert host_checks.secret_file("x", path).state is state


def test_a_clock_that_was_never_set() -> None:
    assert host_checks.clock(86_400.0).state is State.FAIL


def test_journal_states(tmp_path: Path) -> None:
    missing = list(host_checks.journal(tmp_path / "no" / "x.csv"))
    assert [one.state for one in missing] == [State.FAIL, State.WARN]
    path = tmp_path / "x.csv"
    path.write_text("row\n")
    assert list(host_checks.journal(path))[-1].state is State.OK
    assert list(host_checks.journal(path, now=time.time() + 2 * 86_400))[-1].state is State.WARN


def test_recordings_beside_the_journal(tmp_path: Path) -> None:
    found = host_checks.separate_filesystems(tmp_path / "journal", tmp_path / "recordings")
    assert found.state is State.FAIL
    assert "filesystem of their own" in found.advice
    assert host_checks.separate_filesystems(tmp_path, Path("/proc")).state is State.OK


def test_broken_settings_are_one_finding(operator: Operator) -> None:
    operator.config.write_text("[agi]\nport = -1\nbacklog = 0\n")
    found = _findings(operator, 1)
    assert list(found) == ["configuration"]
    assert "1 more error" in found["configuration"][1]
