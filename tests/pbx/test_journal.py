"""The row codec: whole, byte by byte, cut at every byte, glued, and with what callers write (N1, R49)."""

from __future__ import annotations

import csv
import io
import json
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.rows import Row
from gateway.pbx import journal
from gateway.pbx.journal import Damaged
from tests import journals

START = (
    b'"1795300008.036741","CHAN_START","","PJSIP/carrier-a-00000000","node1-1795300008.0","node1-1795300008.0",'
    b'"dialmark-from-carrier-a","","",""'
)
HANGUP = (
    b'"1795300009.244394","HANGUP","","PJSIP/carrier-a-00000000","node1-1795300008.0","node1-1795300008.0",'
    b'"dialmark-act","","","{""hangupcause"":127,""hangupsource"":""PJSIP/carrier-a-00000000"",'
    b'""dialstatus"":""CANCEL""}"'
)


def user_row(payload: str, event: str = "DM_IN") -> bytes:
    """As Asterisk writes it: JSON, then CSV quoting."""
    extra = json.dumps({"extra": payload}, separators=(",", ":"), ensure_ascii=False)
    fields = [
        "1795300008.037139",
        "USER_DEFINED",
        event,
        "PJSIP/a-1",
        "n-1.0",
        "n-1.0",
        "dialmark-inbound",
        "",
        "C",
        extra,
    ]
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="").writerow(fields)
    return out.getvalue().encode("utf-8", "surrogateescape")


def parsed(line: bytes) -> Row:
    row = journal.parse_line(line)
    assert isinstance(row, Row), row
    return row


def damaged(line: bytes) -> Damaged:
    found = journal.parse_line(line)
    assert isinstance(found, Damaged), found
    return found


def test_fields() -> None:
    row = parsed(START + b"\n")
    assert row.at_us == 1795300008036741
    assert row == Row(
        1795300008036741,
        "CHAN_START",
        "",
        "PJSIP/carrier-a-00000000",
        "node1-1795300008.0",
        "node1-1795300008.0",
        "dialmark-from-carrier-a",
        "",
        "",
        {},
    )
    assert parsed(HANGUP).data == {
        "hangupcause": "127",
        "hangupsource": "PJSIP/carrier-a-00000000",
        "dialstatus": "CANCEL",
    }


@pytest.mark.parametrize("name", journals.NAMES)
def test_agrees_with_csv_and_json(name: str) -> None:
    """The fast way reads what the standard library reads, on every recorded row."""
    for line in journals.content(name).splitlines():
        row = parsed(line)
        (fields,) = csv.reader(io.StringIO(line.decode(), newline=""), strict=True)
        assert [row.kind, row.user_event, row.channel, row.unique_id, row.linked_id, row.context] == fields[1:7]
        assert [row.peer, row.application] == fields[7:9]
        extra = json.loads(fields[9]) if fields[9] else {}
        if set(extra) == {"extra"}:
            expected = dict(parse_qsl(extra["extra"].replace("+", "%2B"), keep_blank_values=True))
            assert {key: value.rstrip("\ufffd") for key, value in expected.items()} == row.data
        else:
            assert {key: str(value) for key, value in extra.items()} == row.data


@pytest.mark.parametrize("line", [START, HANGUP, user_row("i=1&did=2")], ids=["start", "hangup", "user"])
def test_cut_at_every_byte_is_damaged_never_another_row(line: bytes) -> None:
    for cut in range(len(line)):
        found = damaged(line[:cut])
        assert found.recovered == ()
        assert found.raw == line[:cut]


@pytest.mark.parametrize("torn", [START, HANGUP, user_row("i=1&did=2")], ids=["start", "hangup", "user"])
def test_row_glued_to_a_torn_one_is_recovered(torn: bytes) -> None:
    """A full disk leaves half a row without line end; the next one follows on the same line (asterisk.md section 0)."""
    for cut in range(1, len(torn)):
        found = damaged(torn[:cut] + HANGUP)
        assert found.recovered == (parsed(HANGUP),), cut


def test_two_whole_rows_on_one_line_are_both_recovered() -> None:
    found = damaged(START + HANGUP)
    assert found.recovered == (parsed(START), parsed(HANGUP))
    assert found.reason == "rows glued"


@pytest.mark.parametrize("trailing", [b"x", b'"', b',"x"', b" ", b"\r", b"\x00"])
def test_trailing_data_is_damage(trailing: bytes) -> None:
    assert damaged(HANGUP + trailing).raw == HANGUP + trailing


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"\xff\xfe\x00",
        b'"1795300008.036741"',
        START.replace(b"1795300008.036741", b"179530000.036741"),
        START.replace(b"CHAN_START", b"chan_start"),
        START.replace(b'"node1-1795300008.0","node1', b'"","node1'),
        START[:-3] + b'"{"',
        START[:-3] + b'"[1]"',
        START[:-3] + b'"{""a"":1"',
        START + b"," + START,
        b"x" * 100_000,
    ],
)
def test_what_is_no_row_is_quarantined(line: bytes) -> None:
    assert len(damaged(line).raw) <= journal.MAX_LINE_BYTES


def test_bad_utf8_is_replaced() -> None:
    row = parsed(START.replace(b"carrier-a-0", b"carrier-\xd0-"))
    assert row.channel == "PJSIP/carrier-\ufffd-0000000"


def test_name_cut_inside_a_character_loses_the_half() -> None:
    """`${CALLERID(name):0:40}` cuts bytes (asterisk.md)."""
    whole = quote("Жанна")
    assert parsed(user_row(f"i=1&name={whole[:-3]}")).data["name"] == "Жанн"


def test_caller_data_forges_nothing() -> None:
    evil = '"1795300008.036741","CHAN_START" \r\n&i=forged&did=1 ${SHELL(id)} &PJSIP/trunk,)(\\'
    row = parsed(user_row(f"i=ours&did=7499&raw={quote(evil)}&name={quote(evil)}&i=second"))
    assert row.data["i"] == "ours"
    assert row.data["did"] == "7499"
    assert row.data["raw"] == evil
    assert row.data["name"] == evil


@given(st.text(max_size=80), st.text(max_size=80))
def test_whatever_a_caller_writes_comes_back(raw: str, name: str) -> None:
    line = user_row(f"i=ours&raw={quote(raw, safe='', errors='replace')}&name={quote(name, safe='', errors='replace')}")
    data = parsed(line).data
    assert data["i"] == "ours"
    assert data["raw"] == raw.encode("utf-8", "replace").decode().rstrip("\ufffd")


@given(st.text(max_size=200))
def test_unencoded_text_in_a_payload_breaks_no_row(text: str) -> None:
    """Asterisk escapes it as JSON and CSV, whatever it is; a line break in it would be escaped too."""
    found = journal.parse_line(user_row(text.encode("utf-8", "replace").decode()))
    assert isinstance(found, Row) or found.recovered == ()


@given(st.binary(max_size=400))
def test_no_bytes_make_it_fail(line: bytes) -> None:
    journal.parse_line(line)


@given(st.binary(max_size=60), st.integers(0, len(HANGUP)))
def test_no_bytes_inside_a_row_make_it_fail(noise: bytes, at: int) -> None:
    journal.parse_line(HANGUP[:at] + noise + HANGUP[at:])


def test_payload_with_a_backslash_goes_through_json() -> None:
    assert parsed(user_row("i=1&x=a\\b")).data["x"] == "a\\b"
    assert parsed(user_row('i=1&x=a"b')).data["x"] == 'a"b'


def test_quotes_in_a_channel_name() -> None:
    row = parsed(START.replace(b"carrier-a", b'carr""ier'))
    assert row.channel == 'PJSIP/carr"ier-00000000'


def test_legacy_mapping_has_the_columns_in_order() -> None:
    """Asterisk 20, 21 and 22 before 22.9: [mappings] with CSV_QUOTE. `CHANNEL(name)` would be the caller's name."""
    assert journal.LEGACY_MAPPING.startswith("${CSV_QUOTE(${eventtime})},${CSV_QUOTE(${eventenum})},")
    assert journal.LEGACY_MAPPING.endswith(",${CSV_QUOTE(${eventextra})}")
    assert "CHANNEL(name)" not in journal.LEGACY_MAPPING
    assert journal.LEGACY_MAPPING.count("CSV_QUOTE") == len(journal.COLUMNS)
