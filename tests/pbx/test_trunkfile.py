"""The generated trunks, loaded by the real Asterisk: objects, numbers, passwords (R49, R102)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core import book, numbers
from gateway.pbx import trunkfile
from tests.conftest import NodeFactory
from tests.core import books
from tests.rig import AsteriskNode, Rig, waits

PASSWORD = 's3cret;with spaces, #"quotes" \\ and => signs; --;-- end'


def trunk(key: str = "carrier-x", **fields: Any) -> book.Trunk:
    """A trunk by address, as most are."""
    defaults: dict[str, Any] = {
        "country": "RU",
        "number_form": book.NumberForm.E164,
        "did_from": book.DidSource.RURI,
        "hosts": ("192.0.2.1",),
        "server": None,
    }
    return book.Trunk(key=key, **(defaults | fields))


def book_of(*trunks: book.Trunk) -> book.Book:
    return replace(books.routing_book(), trunks={one.key: one for one in trunks})


def files(routing_book: book.Book, password: str = PASSWORD) -> dict[str, str]:
    return {
        trunkfile.PJSIP_FILE_NAME: trunkfile.render_pjsip(routing_book, lambda reference: password),
        trunkfile.CONTEXTS_FILE_NAME: trunkfile.render_contexts(routing_book),
    }


LINES = (
    trunk("by-ip", hosts=("192.0.2.1", "198.51.100.0/24", "2001:db8::/64"), server="192.0.2.1:5080"),
    trunk(
        "by-name",
        hosts=("localhost",),
        server="sip.carrier.invalid",
        early_media=True,
        number_form=book.NumberForm.NATIONAL,
    ),
    trunk("behind-nat", hosts=("203.0.113.1",), server="203.0.113.1", nat=True, country="US"),
    trunk("over-tcp", hosts=("203.0.113.2",), server="203.0.113.2:5070", transport="tcp", country="DE"),
    trunk("in-only", hosts=("203.0.113.3",), did_from=book.DidSource.TO),
    trunk(
        "login",
        hosts=("203.0.113.4",),
        server="127.0.0.1:9",
        did_from=book.DidSource.P_CALLED_PARTY,
        registration=book.Registration("127.0.0.1:9", "74990000000", "file:/secret", 120),
    ),
)

TRANSPORTS = """
[dialmark-udp]
type = transport
protocol = udp
bind = 127.0.0.1:{port}

[dialmark-tcp]
type = transport
protocol = tcp
bind = 127.0.0.1:{port}
"""


@pytest.fixture(scope="module")
def node(make_node: NodeFactory) -> AsteriskNode:
    """All kinds of trunks at once, beside the real dialplan and transports named as asterisk/ names them."""
    routing_book = book_of(*LINES)
    node = make_node(files=files(routing_book))
    node.write("pjsip_transport.conf", TRANSPORTS.format(port=node.sip.port))
    node.start()
    return node


def test_every_kind_of_trunk_loads_without_a_word(node: AsteriskNode) -> None:
    log = (node.log / "messages.log").read_text()
    loaded = log.split("CEL records", 1)[0] + log.partition("Loaded 1 configs")[2]
    # Nobody answers at the registrar's address: that is no matter of the files.
    complaints = [
        line for line in loaded.splitlines() if re.search("WARNING|ERROR", line) and "127.0.0.1:9" not in line
    ]
    assert complaints == []
    shown = node.cli("pjsip show endpoints")
    for line in LINES:
        assert f"Endpoint:  {line.key} " in shown
        assert (f"Endpoint:  {line.key}-out " in shown) == (line.server is not None)


def endpoint(node: AsteriskNode, name: str) -> dict[str, str]:
    """Parameters of an endpoint as Asterisk holds them."""
    shown = node.cli(f"pjsip show endpoint {name}")
    return dict(re.findall(r"(?m)^ (\w+) +: (.*)$", shown))


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.key)
def test_the_way_in_reaches_no_trunk_and_the_way_out_takes_nothing_in(node: AsteriskNode, line: book.Trunk) -> None:
    """Toll fraud: two endpoints per trunk, known by address, no transfer (asterisk.md 7)."""
    inbound = endpoint(node, line.key)
    assert inbound["context"] == f"dialmark-from-{line.key}"
    assert (inbound["identify_by"], inbound["allow_transfer"], inbound["direct_media"]) == ("ip", "false", "false")
    assert inbound["aors"].strip() == ""
    assert inbound["rtp_symmetric"] == inbound["rewrite_contact"] == str(line.nat).lower()
    assert inbound["transport"].strip() == ("dialmark-tcp" if line.transport == "tcp" else "")
    identifies = node.cli(f"pjsip show identify {line.key}")
    for host in line.hosts:
        address = "127.0.0.1/32" if host == "localhost" else host if "/" in host else f"{host}/32"
        assert address in identifies
    if line.server is not None:
        out = endpoint(node, f"{line.key}-out")
        assert out["context"] == "dialmark-nowhere"
        assert "There is no existence of 'dialmark-nowhere'" in node.cli("dialplan show dialmark-nowhere")


def test_a_password_arrives_character_by_character(node: AsteriskNode) -> None:
    shown = node.cli("pjsip show auth login-auth")
    assert re.search(rf"(?m)^ *password +: {re.escape(PASSWORD)}$", shown)
    assert endpoint(node, "login-out")["from_user"] == "74990000000"
    assert "sip:127.0.0.1:9" in node.cli("pjsip show registrations")


@pytest.mark.parametrize("password", ["two\nlines", "two\rlines", "nul\0"])
def test_a_password_with_a_line_break_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        files(book_of(*LINES), password)


# -- numbers ---------------------------------------------------------------------------------------------------------

E164, PLUS, NATIONAL = book.NumberForm.E164, book.NumberForm.PLUS, book.NumberForm.NATIONAL
SPELLINGS: dict[str, dict[book.NumberForm, tuple[str, ...]]] = {
    "RU": {
        E164: ("74990000001", "+74990000001", "493012345678"),
        PLUS: ("+74990000001", "84990000001", "4990000001", "+493012345678"),
        NATIONAL: ("4990000001", "84990000001", "+74990000001", "810493012345678", "9161234567"),
    },
    "US": {
        E164: ("12125550123", "+12125550123"),
        PLUS: ("+12125550123", "2125550123", "12125550123"),
        NATIONAL: ("2125550123", "12125550123", "011493012345678", "+12125550123"),
    },
    "DE": {
        E164: ("493012345678", "+493012345678"),
        PLUS: ("+493012345678", "03012345678", "+74990000001"),
        NATIONAL: ("03012345678", "3012345678", "00493012345678", "0074990000001", "+493012345678"),
    },
    "GB": {E164: ("442079460123",), PLUS: ("+442079460123", "02079460123"), NATIONAL: ("02079460123", "2079460123")},
    "FR": {E164: ("33142685300",), PLUS: ("+33142685300", "0142685300"), NATIONAL: ("0142685300", "142685300")},
    "IT": {E164: ("390669812345",), PLUS: ("+390669812345", "0669812345"), NATIONAL: ("0669812345", "00390669812345")},
    "KR": {E164: ("82212345678",), PLUS: ("+82212345678", "0212345678"), NATIONAL: ("0212345678", "212345678")},
}
CASES = [(country, form, raw) for country, forms in SPELLINGS.items() for form, raws in forms.items() for raw in raws]

WALK = """
[general]
static = yes
#include dialmark_trunks.conf

[dialmark-inbound]
exten => _X!,1,Log(NOTICE,NUMBERS ${CASE} did=${EXTEN} cid=${DM_CID})
 same => n,Return()

[walk]
exten => s,1,NoOp()
"""


def test_numbers_become_what_the_core_makes_of_them(make_node: NodeFactory) -> None:
    """R49: in the dialplan, before anything else, without the daemon."""
    lines = {
        (country, form): trunk(f"{country}-{form}".lower(), country=country, number_form=form)
        for country, form, _ in CASES
    }
    steps = [
        f" same => n,MSet(CASE={place},CALLERID(num)={raw})\n"
        f" same => n,Gosub(dialmark-from-{lines[country, form].key},{raw},1)\n"
        for place, (country, form, raw) in enumerate(CASES)
    ]
    node = make_node(
        dialplan={"extensions.conf": WALK + "".join(steps) + " same => n,Log(NOTICE,WALKED)\n"},
        files={
            "modules_site.conf": "[modules](+)\nload = res_clioriginate.so\n",
            trunkfile.CONTEXTS_FILE_NAME: trunkfile.render_contexts(book_of(*lines.values())),
        },
    )
    node.start()
    node.cli("channel originate Local/s@walk application Wait 30")
    log = node.log / "messages.log"
    waits.wait_until(lambda: "WALKED" in log.read_text(), 20, "all numbers walked")
    found = {
        int(place): (did, cid) for place, did, cid in re.findall(r"NUMBERS (\d+) did=(\d*) cid=(\d*)", log.read_text())
    }
    wrong = []
    for place, (country, form, raw) in enumerate(CASES):
        wanted = (numbers.normalise(raw, country, form) or "").removeprefix("+")
        if found.get(place) != (wanted, wanted):
            wrong.append(f"{country} {form} {raw}: {found.get(place)}, not {wanted}")
    assert wrong == []


@pytest.mark.parametrize("raw", ["%24%7bSHELL(id)%7d12", "&PJSIP/desk-2", "12%0d%0a34", "anonymous", "", "1" * 3000])
async def test_a_hostile_caller_number_becomes_digits_or_nothing(
    make_node: NodeFactory, rig_of: Callable[[AsteriskNode], Rig], raw: str
) -> None:
    """R49."""
    node = real_node(make_node, book.DidSource.RURI)
    rig = rig_of(node)

    def arrived() -> list[tuple[str, str]]:
        log = (node.log / "messages.log").read_text(errors="replace")
        return re.findall(r"ARRIVED did=(.*?) cid=(.*?) end", log)

    before = len(arrived())
    caller = await rig.dial(
        "74990000001", from_header=f"<sip:{raw}@carrier.invalid>" if raw else "<sip:carrier.invalid>"
    )
    await caller.final()
    caller.close()
    await asyncio.to_thread(waits.wait_until, lambda: len(arrived()) > before, 10, "the call in Asterisk's log")
    (did, cid) = arrived()[-1]
    assert did == "74990000001"
    assert re.fullmatch(r"[0-9]{0,24}", cid)


_real: dict[book.DidSource, AsteriskNode] = {}


def real_node(make_node: NodeFactory, source: book.DidSource) -> AsteriskNode:
    """An Asterisk whose only trunk has its number where `source` says, and that tells what arrives."""
    if source not in _real:
        dialplan = (
            "[general]\nstatic = yes\n#include dialmark_trunks.conf\n[dialmark-inbound]\n"
            "exten => _X!,1,Log(NOTICE,ARRIVED did=${EXTEN} cid=${DM_CID} end)\n same => n,Hangup(17)\n"
        )
        node = make_node(dialplan={"extensions.conf": dialplan}, carriers=("line",))
        line = trunk("line", did_from=source, hosts=(node.carriers["line"].host,))
        for name, text in files(book_of(line)).items():
            node.write(name, text)
        node.start()
        _real[source] = node
    return _real[source]


@pytest.mark.parametrize(
    ("source", "request_user", "headers", "did"),
    [
        (book.DidSource.RURI, "74990000001", (), "74990000001"),
        (book.DidSource.RURI, "%2b74990000001", (), "74990000001"),
        (book.DidSource.TO, "74990000002", (), "74990000002"),
        (
            book.DidSource.P_CALLED_PARTY,
            "line-line",
            ("P-Called-Party-ID: <sip:+74990000003@x;user=phone>",),
            "74990000003",
        ),
        (
            book.DidSource.P_CALLED_PARTY,
            "74990000009",
            ('P-Called-Party-ID: "A, B" <tel:+74990000004>',),
            "74990000004",
        ),
        (book.DidSource.P_CALLED_PARTY, "74990000009", ("P-Called-Party-ID: <sip:nobody@x>",), "000"),
        (book.DidSource.P_CALLED_PARTY, "74990000009", (), "000"),
    ],
)
async def test_the_number_is_read_where_the_carrier_writes_it(
    make_node: NodeFactory,
    rig_of: Callable[[AsteriskNode], Rig],
    source: book.DidSource,
    request_user: str,
    headers: tuple[str, ...],
    did: str,
) -> None:
    """A header without a number is still a call: 000 takes it to the site's default destination."""
    node = real_node(make_node, source)

    def arrived() -> list[tuple[str, str]]:
        log = (node.log / "messages.log").read_text(errors="replace")
        return re.findall(r"ARRIVED did=(.*?) cid=(.*?) end", log)

    before = len(arrived())
    caller = await rig_of(node).dial(request_user, headers=headers)
    assert await caller.final() == 486
    # Asterisk answers before a thread of its own writes the log.
    await asyncio.to_thread(waits.wait_until, lambda: len(arrived()) > before, 5, "the log of the call")
    assert arrived()[before:] == [(did, "79161234567")]
