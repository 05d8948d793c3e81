"""Trunks: numbers in every form brought to E.164, DID from every place, registration by digest, and strangers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance import stages
from tests.acceptance.stages import Stage, Tried, attempts_are
from tests.conftest import NodeFactory
from tests.rig import Address, AsteriskNode, Behaviour, Rig, ports
from tests.rig.registrar import Registrar
from tests.rig.waits import wait_until

CARRIERS = ("carrier-a", "carrier-b", "carrier-c", "carrier-d", "carrier-e")
PASSWORD = "s3cret;with#signs"
DID = "+74990000001"
CARRIER_B = '[[trunk]]\nkey = "carrier-b"\ncountry = "RU"\nhosts = ["{carrier_b.host}"]\nserver = "{carrier_b}"\n'
TRUNKS = """
[[trunk]]
key = "carrier-b"
country = "RU"
number_form = "plus"
did_from = "to"
hosts = ["{carrier_b.host}"]
server = "{carrier_b}"
[[trunk]]
key = "carrier-c"
country = "RU"
number_form = "national"
did_from = "p-called-party"
hosts = ["{carrier_c.host}"]
server = "{carrier_c}"
[[trunk]]
key = "carrier-d"
country = "RU"
number_form = "national"
did_from = "to"
server = "{carrier_d}"
registration = { username = "74990000000", password = "file:{folder}/right.password" }
[[trunk]]
key = "carrier-e"
country = "RU"
number_form = "national"
server = "{carrier_e}"
registration = { username = "74990000000", password = "file:{folder}/wrong.password" }
"""
assert CARRIER_B in stages.SITE
ROUTING = (
    stages.SITE.replace(CARRIER_B, TRUNKS)
    + """
[[destination]]
key = "by-login"
dial = "tel:+79160000003"
trunk = "carrier-d"

[[destination]]
key = "by-prefix"
dial = "tel:+442071234567"
trunk = "carrier-c"

[[route]]
key = "sales"
forward = ["first"]
ring_seconds = 3

[[route]]
key = "out"
forward = ["by-login"]
reserve = ["by-prefix", "far"]
ring_seconds = 3
reserve_ring_seconds = 3

[[tracking_number]]
number = "+74990000001"
route = "sales"
source = "google-ads"

[[tracking_number]]
number = "+74990000002"
route = "out"
"""
)


@dataclass
class Registrars:
    """One that knows the password, and one that knows another."""

    right: Registrar
    wrong: Registrar


@pytest.fixture(scope="module")
def registrars() -> Iterator[Registrars]:
    made = Registrars(Registrar(_carrier(4), "74990000000", PASSWORD), Registrar(_carrier(5), "74990000000", "other"))
    made.right.start()
    made.wrong.start()
    yield made
    made.right.stop()
    made.wrong.stop()


def _carrier(number: int) -> Address:
    return Address(ports.carrier_host(number), ports.free_port(ports.carrier_host(number)))


@pytest.fixture(scope="module")
def site(make_node: NodeFactory, registrars: Registrars) -> Iterator[stages.Site]:
    carriers = {name: _carrier(number) for number, name in enumerate(CARRIERS[:3], 1)}
    carriers |= {"carrier-d": registrars.right.place, "carrier-e": registrars.wrong.place}
    made = stages.Site(make_node, ROUTING, carriers=carriers)
    for name in ("right", "wrong"):
        secret = made.node.folder / f"{name}.password"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o640)
    with stages.up(made) as site:
        yield site


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    yield Stage(site, rig_of(site.node))
    await asyncio.to_thread(site.node.until_idle)


CALLED = "P-Called-Party-ID: "


@pytest.mark.parametrize(
    ("carrier", "ruri", "to", "header", "user", "number"),
    [
        pytest.param("carrier-a", "74990000001", None, None, "79161230001", "+79161230001", id="e164"),
        pytest.param("carrier-a", "+74990000001", None, None, "+79161230002", "+79161230002", id="e164 with plus"),
        pytest.param("carrier-a", "74990000001", None, None, "14155550123", "+14155550123", id="e164 from abroad"),
        pytest.param("carrier-b", "gateway", "<sip:+74990000001@x>", None, "+79161230003", "+79161230003", id="plus"),
        pytest.param("carrier-b", "1", "sip:+74990000001@x", None, "+14155550123", "+14155550123", id="plus, abroad"),
        pytest.param("carrier-b", "s", '"A: 1 @" <sip:84990000001@x>', None, "9161230004", "+79161230004", id="named"),
        pytest.param("carrier-b", "gw2", "<tel:+74990000001>", None, "89161230005", "+79161230005", id="tel, trunk 8"),
        pytest.param("carrier-c", "2", None, "<sip:4990000001@x>", "9161230006", "+79161230006", id="national"),
        pytest.param("carrier-c", "3", None, "<sip:84990000001@x>", "89161230007", "+79161230007", id="national 8"),
        pytest.param("carrier-c", "4", None, "<sip:+74990000001@x>", "8104420712345", "+4420712345", id="national 810"),
        pytest.param("carrier-c", "5", None, "<sip:8107499@x>", "84951234567", "+74951234567", id="another number"),
    ],
)
async def test_number_forms(
    stage: Stage, carrier: str, ruri: str, to: str | None, header: str | None, user: str, number: str
) -> None:
    """R49: DID and caller as this carrier writes them, in whichever header the number stands."""
    phones = [stage.phone("desk-1"), stage.phone("desk-4")]
    caller = await stage.dial(
        ruri,
        from_header=f"<sip:{user}@carrier.invalid>",
        to_header=to,
        headers=[CALLED + header] if header else [],
        carrier=carrier,
    )
    assert await caller.final() == 200
    caller.hang_up()
    record = await stage.record_of(caller)
    is_known = "8107499" not in (header or "")
    assert (record["trunk"], record["caller"]["number"]) == (carrier, number)
    assert record["tracking"]["number"] == (DID if is_known else "7499")
    assert record["attribution"]["source"] == ("google-ads" if is_known else None)
    assert [len(phone.invites) for phone in phones] == ([1, 0] if is_known else [0, 1])
    assert record["outcome"] == "answered"


@pytest.mark.parametrize("carrier", ["carrier-a", "carrier-b", "carrier-c"])
async def test_without_a_number(stage: Stage, carrier: str) -> None:
    """The carrier forgot it: still a call, still a record, and the site's default destination answers."""
    stage.phone("desk-4")
    caller = await stage.dial("gateway", carrier=carrier)
    assert await caller.final() == 200
    caller.hang_up()
    record = await stage.record_of(caller)
    attempts_are(record, Tried("reception", "answered", 200, 16))


async def test_the_number_that_the_carrier_vouches_for(stage: Stage) -> None:
    """P-Asserted-Identity of a trunk beats a From that says anonymous."""
    stage.phone("desk-1")
    caller = await stage.dial(
        "74990000001",
        from_header='"Anonymous" <sip:anonymous@anonymous.invalid>',
        headers=["P-Asserted-Identity: <sip:+79161230009@carrier.invalid>"],
    )
    assert await caller.final() == 200
    caller.hang_up()
    assert (await stage.record_of(caller))["caller"]["number"] == "+79161230009"


# -- registration ------------------------------------------------------------------------------------------------


async def test_registration_with_digest_and_a_call_to_the_contact(stage: Stage, registrars: Registrars) -> None:
    """The carrier calls the contact that registered; the number called stands in To."""
    contact = await asyncio.to_thread(registrars.right.until_registered)
    assert registrars.right.refused == 0
    assert registrars.right.expires == 300
    user, _, host = contact.removeprefix("sip:").partition("@")
    assert host.split(";")[0] == str(stage.node.sip)
    stage.phone("desk-1")
    caller = await stage.dial(user, to_header="<sip:84990000001@carrier.invalid>", carrier="carrier-d")
    assert await caller.final() == 200
    caller.hang_up()
    record = await stage.record_of(caller)
    assert (record["trunk"], record["tracking"]["number"]) == ("carrier-d", DID)
    assert (record["outcome"], record["attribution"]["source"]) == ("answered", "google-ads")


async def test_a_wrong_password_does_not_register(registrars: Registrars) -> None:
    """So the registrar does check; and the log does not hold the password."""
    await asyncio.to_thread(wait_until, lambda: registrars.wrong.refused > 0, 10, "a refused registration")
    assert registrars.wrong.contact is None


async def test_calls_out_as_each_carrier_wants_them(stage: Stage, registrars: Registrars) -> None:
    """Digest where there is a login, the carrier's number form, and a busy trunk is like a busy phone (C5)."""
    by_prefix = stage.rig.callee("carrier-c", Behaviour.BUSY)
    far = stage.rig.callee("carrier-b")
    call = await stage.call("74990000002")
    assert call.result.status == 200
    assert registrars.right.dialled == ["89160000003"]
    assert by_prefix.invites[0].text.startswith("INVITE sip:810442071234567@")
    assert far.invites[0].text.startswith("INVITE sip:+79160000002@")
    attempts_are(
        call.record,
        Tried("by-login", "busy", 486, 17),
        Tried("by-prefix", "busy", 486, 17, step=2, kind="reserve"),
        Tried("far", "answered", 200, 16, step=3, kind="reserve"),
    )


def test_passwords_are_not_readable_by_others(site: stages.Site) -> None:
    """The generated file holds them; neither logs nor the routing file do."""
    generated = site.node.etc / "dialmark_pjsip.conf"
    assert PASSWORD.replace(";", r"\;") in generated.read_text()
    assert generated.stat().st_mode & 0o007 == 0
    for path in (site.daemon.log_file, site.node.log / "messages.log"):
        assert PASSWORD not in path.read_text(errors="replace")
    assert PASSWORD not in site.daemon.run("routing", "export")


# -- strangers ---------------------------------------------------------------------------------------------------


async def test_a_stranger_is_refused_and_leaves_no_record(stage: Stage) -> None:
    """asterisk.md 7: by source address and nothing else; his name stands in the security log."""
    before, journal = len(stage.daemon.stored(state=None)), stage.journal()
    log = stage.node.log / "security.log"
    for user in ("74990000001", "line-carrier-d", "+74990000001"):
        caller = await stage.dial(user, from_header="<sip:carrier-a@x>", stranger=True)
        assert await caller.final() == 401
        _until_written(log, caller.place.host)
    assert stage.journal() == journal
    assert len(stage.daemon.stored(state=None)) == before


def _until_written(log: Path, words: str) -> None:
    """Asterisk's logger is a thread of its own."""
    wait_until(lambda: words in log.read_text(errors="replace"), 30, f"{words} in {log.name}")


async def _options(host: str, target: Address, user: str = "") -> int:
    """The status that OPTIONS gets."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    class Socket(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            if not answer.done():
                answer.set_result(data)

    port = ports.free_port(host, brief=True)
    transport, _ = await loop.create_datagram_endpoint(Socket, local_addr=(host, port))
    uri = f"sip:{user}{target}"
    transport.sendto(
        (
            f"OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{uuid.uuid4().hex};rport\r\n"
            f"From: <sip:ping@{host}>;tag=1\r\nTo: <{uri}>\r\nCall-ID: {uuid.uuid4().hex}\r\nCSeq: 1 OPTIONS\r\n"
            f"Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        ).encode(),
        tuple(target),
    )
    try:
        return int((await asyncio.wait_for(answer, 5)).split(b" ")[1])
    finally:
        transport.close()


async def test_options(stage: Stage) -> None:
    """A carrier that pings learns that we live, a stranger that we want to know who he is; neither makes a record."""
    journal = stage.journal()
    assert await _options(stage.node.carriers["carrier-a"].host, stage.node.sip) == 200
    assert await _options(ports.stranger_host(), stage.node.sip) == 401
    assert stage.journal() == journal
