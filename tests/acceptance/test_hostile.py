"""What a caller may write into an INVITE: the call is routed, nothing of it is dialled, executed, forged or lost."""

from __future__ import annotations

import asyncio
import csv
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from tests.acceptance import stages
from tests.acceptance.stages import Stage
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Caller, Rig
from tests.rig.dialmark import Record
from tests.rig.waits import wait_until

TRUNK_B = 'hosts = ["{carrier_b.host}"]'
ROUTING = (
    stages.SITE.replace(TRUNK_B, 'did_from = "to"\n' + TRUNK_B)
    + """
[[route]]
key = "one"
forward = ["first"]

[[route]]
key = "two"
forward = ["second"]

[[destination]]
key = "labelled"
dial = "sip:desk-3"
label_source = true

[[route]]
key = "three"
forward = ["labelled"]
reserve = ["second"]

[[tracking_number]]
number = "+74990000001"
route = "one"
source = "google-ads"

[[tracking_number]]
number = "+74990000002"
route = "two"

[[tracking_number]]
number = "+74990000003"
route = "three"
source = "radio-jazz"
"""
)
DID = b"74990000001"
FORGED = b"DM_FORGED"
ROW = re.compile(r'^"\d{10}\.\d{6}","[A-Z_]+",')


@dataclass
class Tap:
    """Everything that our manager account is told."""

    node: AsteriskNode
    heard: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self._socket = socket.create_connection((self.node.ami.host, self.node.ami.port), timeout=5)
        login = f"Action: Login\r\nUsername: {self.node.ami_user}\r\nSecret: {self.node.ami_secret}\r\n\r\n"
        self._socket.sendall(login.encode())
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        wait_until(lambda: b"Authentication accepted" in self.heard, 30, "the manager's login")

    def _read(self) -> None:
        while data := self._socket.recv(65_536):
            self.heard += data

    def settle(self) -> bytes:
        """All so far: what is asked last is answered last."""
        mark = f"mark-{len(self.heard)}"
        self._socket.sendall(f"Action: Ping\r\nActionID: {mark}\r\n\r\n".encode())
        wait_until(lambda: mark.encode() in self.heard, 30, "the manager's answer")
        return bytes(self.heard)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    with stages.site(make_node, ROUTING) as site:
        yield site


@pytest.fixture(scope="module")
def tap(site: stages.Site) -> Iterator[Tap]:
    tap = Tap(site.node)
    yield tap
    tap.close()


@pytest.fixture
async def stage(site: stages.Site, tap: Tap, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    """Everybody answers; afterwards nothing has left by a trunk, nothing was executed or forged."""
    stage = Stage(site, rig_of(site.node))
    carriers = [stage.phone(name) for name in ("carrier-a", "carrier-b")]
    for phone in stages.PHONES:
        stage.phone(phone, ring_ms=1)
    journal = stage.journal()
    records = len(stage.daemon.stored(state=None))
    yield stage
    await asyncio.to_thread(site.node.until_idle)
    new = stage.journal()[len(journal) :]
    rows = list(csv.reader(new.splitlines()))
    assert all(ROW.match(line) for line in new.splitlines())
    assert {len(row) for row in rows} == {10}
    entered = sum(row[2] == "DM_IN" for row in rows)
    assert entered == 1
    assert len(stage.daemon.stored(state=None)) == records + entered
    assert [carrier.invites for carrier in carriers] == [[], []]
    assert not list(site.node.folder.glob("pwned*"))
    assert FORGED not in tap.settle()
    assert site.node.is_running and site.daemon.is_running


async def _talk(
    stage: Stage,
    number: bytes = DID,
    *,
    who: bytes = b"<sip:+79161234567@x>",
    headers: Sequence[bytes] = (),
    to: bytes | None = None,
    carrier: str | None = None,
) -> tuple[Record, Caller]:
    place = str(stage.node.folder).encode()
    who = who.replace(b"FOLDER", place)
    caller = await stage.rig.dial(
        number.replace(b"FOLDER", place),
        from_header=who,
        to_header=to and to.replace(b"FOLDER", place),
        headers=[header.replace(b"FOLDER", place) for header in headers],
        carrier=carrier,
    )
    assert await caller.final() == 200
    caller.hang_up()
    return await stage.record_of(caller), caller


@pytest.mark.parametrize(
    "user",
    [
        pytest.param(DID + b"%0d%0aX%3a%20y", id="header"),
        pytest.param(DID + b"%0d%0a%0d%0aEvent%3a%20Hangup%0d%0aChannel%3a%20DM_FORGED%0d%0a%0d%0a", id="AMI event"),
        pytest.param(DID + b"%0aagi_arg_x%3a%20DM_FORGED", id="AGI header"),
        pytest.param(DID + b"%00", id="NUL"),
        pytest.param(DID + b"%22%2c%22USER_DEFINED%22%2c%22DM_ACT%22", id="journal row"),
        pytest.param(DID + b"%24%7bSHELL%28id%29%7d%24%7bEVAL%28a%29%7d", id="function"),
        pytest.param(DID + b"%29%0aSet%28DM_ACT%3dno_route", id="dialplan"),
        pytest.param(b"+" + DID + b"%5c%22%27%60%3b%7c", id="quotes"),
        pytest.param(DID + b";isup-oli=00;npdi", id="parameters"),
    ],
)
async def test_a_tracking_number_with_more_behind_it(stage: Stage, user: bytes) -> None:
    """The digits count, the rest is nothing: the caller reaches the number's agent."""
    record, _ = await _talk(stage, user)
    assert (record["tracking"]["number"], record["agent"]) == ("+74990000001", "anna")
    assert record["attribution"]["source"] == "google-ads"


@pytest.mark.parametrize(
    "user",
    [
        pytest.param(DID + b"%26PJSIP%2f79160001122%40carrier-b-out", id="another leg"),
        pytest.param(b"7%26PJSIP%2fcarrier-b-out%2fsip%3a79160001122%40x", id="a leg with its address"),
        pytest.param(b"7%26Local%2f79160001122%40dialmark-outbound", id="our outbound context"),
        pytest.param(DID + b"%2c20%2cU%28dialmark-outbound%29", id="options of Dial"),
        pytest.param(b"9" * 3_000, id="3,000 digits"),
        pytest.param(b"dialmark-outbound", id="a context's name"),
        pytest.param(b"Tt", id="letters"),
        pytest.param(b"7" + b"%30" * 500, id="escaped digits"),
    ],
)
async def test_a_number_that_is_none(stage: Stage, user: bytes) -> None:
    """Unknown numbers ring the default destination, and nobody else."""
    record, _ = await _talk(stage, user)
    assert (record["destination"], record["tracking"]["kind"]) == ("reception", None)
    assert [one["destination"] for one in record["attempts"]] == ["reception"]
    assert len(record["tracking"]["number"] or "") <= 21


NAMES: list[tuple[str, bytes, str | None]] = [
    ("function", b"${SHELL(touch FOLDER/pwned)}", "${SHELL(touch "),
    ("expression", b"$[1/0] ${EVAL(${SHELL(id)})}", "$[1/0] ${EVAL(${SHELL(id)})}"),
    ("query", b"a&i=1&a=no_route&src=agi DM_X", "a&i=1&a=no_route&src=agi DM_X"),
    ("percent", b"100%25 %0d%0a %zz %", "100%25 %0d%0a %zz %"),
    ("punctuation", b"a, b; c | d ^ e ~ f ' g ` h", "a, b; c | d ^ e ~ f ' g ` h"),
    ("quotes", rb"say \"hi\" \\ back", r"say \"hi\" \\ back"),
    ("brackets", b"a)(b}{c][d,Hangup()", "a)(b}{c][d,Hangup()"),
    ("markup", b"<script>alert(1)</script>", "<script>alert(1)</script>"),
    ("cyrillic", "Анна Петрова".encode(), "Анна Петрова"),
    ("cut in a character", b"a" * 39 + "яяя".encode(), "a" * 39),
    ("bad UTF-8", b"ok \xff\xfe\xc3 ok", None),
    ("3,000 bytes", b"n" * 3_000, "n" * 40),
    ("3,000 bytes of two each", "ж".encode() * 1_500, "ж" * 20),
    ("wedge of pyst2", b"status will follow", "status will follow"),
    ("numbers", b"74990000002", "74990000002"),
]


@pytest.mark.parametrize(("name", "kept"), [pytest.param(*one[1:], id=one[0]) for one in NAMES])
async def test_names(stage: Stage, name: bytes, kept: str | None) -> None:
    """In the record as text, cut at 40 bytes; the phone shows it, and the source's label still stands before it."""
    record, caller = await _talk(stage, b"74990000003", who=b'"' + name + b'" <sip:+79161234567@x>')
    seen = record["caller"]["name"]
    if kept is None:
        assert seen.startswith("ok ") and "�" in seen
    elif b"FOLDER" in name:
        assert seen.startswith(kept) and len(seen) == 40
    else:
        assert seen == kept
    assert (record["outcome"], record["destination"]) == ("answered", "labelled")
    assert record["caller"]["number"] == "+79161234567"
    assert record["sip_call_id"] == caller.call_id
    assert "\n" not in seen and "\r" not in seen


@pytest.mark.parametrize(
    ("user", "number"),
    [
        pytest.param(b"7916%0d%0aagi_arg_2%3a%2074990000002", None, id="AGI header"),
        pytest.param(b"%0d%0aEvent%3a%20Hangup%0d%0aX%3a%20DM_FORGED%0d%0a%0d%0a", None, id="AMI event"),
        pytest.param(b"%24%7bSHELL(touch%20FOLDER%2fpwned)%7d", None, id="function"),
        pytest.param(b"+79161234567%26i%3d1%26did%3d74990000002", None, id="query"),
        pytest.param(b"+79161234567;phone-context=x", "+79161234567", id="parameters"),
        pytest.param(b"+79161234567%22%2c%22", "+79161234567", id="quotes"),
        pytest.param(b"%ff%fe%c3", None, id="bad UTF-8"),
        pytest.param(b"9" * 3_000, None, id="3,000 digits"),
        pytest.param(b"x" * 3_000, None, id="3,000 letters"),
    ],
)
async def test_caller_numbers(stage: Stage, user: bytes, number: str | None) -> None:
    """R49: whatever stands there, the number called decides the way, and the record keeps what was written, inert."""
    record, _ = await _talk(stage, who=b"<sip:" + user + b"@x>")
    assert (record["agent"], record["tracking"]["number"]) == ("anna", "+74990000001")
    if number is not None:
        assert record["caller"]["number"] == number
    raw = record["caller"]["raw"] or ""
    assert len(raw) <= 32


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([b"Diversion: <sip:77%0d%0aagi_arg_2%3a%2074990000002@x>;reason=unconditional"], id="Diversion"),
        pytest.param([b"Diversion: <sip:77@x>\r\nagi_arg_2: 74990000002"], id="a header of that name"),
        pytest.param([b"History-Info: <sip:1%0d%0aDM_FORGED@x>;index=1"], id="History-Info"),
        pytest.param([b'P-Asserted-Identity: "${SHELL(touch FOLDER/pwned)}" <sip:+79161234567@x>'], id="identity"),
        pytest.param([b"Remote-Party-ID: <sip:+79161234567%0d%0aDM_FORGED@x>"], id="RPID"),
        pytest.param([b"X-Dialmark-Route: two", b"DM_ACT: no_route"], id="our own names"),
        pytest.param([b"Referred-By: <sip:74990000002@x>"], id="Referred-By"),
        pytest.param([b"X-Long: " + b"y" * 3_000], id="3,000 bytes"),
    ],
)
async def test_headers(stage: Stage, headers: list[bytes]) -> None:
    """A forged ``agi_arg_2`` must not send the call to the other number's agent (asterisk.md 1)."""
    record, _ = await _talk(stage, headers=headers)
    assert (record["agent"], record["route"], record["tracking"]["number"]) == ("anna", "one", "+74990000001")
    assert record["route_source"] in ("agi", "plan")


@pytest.mark.parametrize(
    "to",
    [
        pytest.param(b'"${SHELL(touch FOLDER/pwned)}" <sip:+74990000001@x>', id="function"),
        pytest.param(b'"a, b) Set(DM_ACT=no_route) ; < : @" <sip:74990000001@x>', id="punctuation"),
        pytest.param(b"<sip:7499%0d%0a0000001@x>", id="line break"),
        pytest.param(b'"' + b"n" * 3_000 + b'" <sip:74990000001@x>', id="3,000 bytes"),
    ],
)
async def test_the_header_that_holds_the_number(stage: Stage, to: bytes) -> None:
    """A trunk whose number stands in To: only its digits count."""
    record, _ = await _talk(stage, b"gateway", to=to, carrier="carrier-b")
    if b"%0d" in to:
        # %0d%0a holds a 0 of its own on each side: another number, which rings the default destination.
        assert record["destination"] in ("first", "reception")
    elif len(to) > 3_000:
        # What is beyond the dialplan's buffers is cut; the call is taken all the same.
        assert record["destination"] in ("first", "reception")
    else:
        assert record["tracking"]["number"] == "+74990000001"


async def test_the_doors_are_not_there(stage: Stage) -> None:
    """No function and application that runs a program, and no EVAL in the dialplan (asterisk.md 1 and 7)."""
    await _talk(stage)
    for name in ("SHELL", "FILE", "CURL", "EVAL_EXTEN"):
        shown = stage.node.cli(f"core show function {name}")
        assert "No function by that name" in shown, name
    for name in ("System", "TrySystem", "ExternalIVR", "Originate"):
        assert "not registered" in stage.node.cli(f"core show application {name}"), name
    assert "EVAL(" not in stage.node.cli("dialplan show")
