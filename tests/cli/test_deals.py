"""`deals …`, `spend …`, `wages …`: files as spreadsheets write them, all or nothing (R14-R16, R70, R77, R105)."""

from __future__ import annotations

import codecs
import random
from pathlib import Path

import pytest

from gateway.core import sheets
from tests.cli.conftest import ROUTING, Operator


def ids(operator: Operator) -> list[str]:
    found = operator("calls", "list", "--format", "json").json
    return sorted(one["call_id"] for one in found)


def write(operator: Operator, text: str | bytes, name: str = "won.csv") -> Path:
    path = operator.folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def result(operator: Operator, call_id: str) -> dict[str, object] | None:
    found: dict[str, object] | None = operator("calls", "show", call_id, "--format", "json").json["result"]
    return found


def test_a_file_is_taken_once(busy_day: Operator) -> None:
    """R14, R15: tried, taken, taken again without effect; history and events tell of it."""
    first, second, *_ = ids(busy_day)
    path = write(
        busy_day,
        "Call ID,Qualified,Note,Deal ID,Deal state,Value,Currency,Closed on\n"
        f'{first},yes,"said: ""call, me""\nlater",D-1,won,"1 200,50",rub,21.11.2026\n'
        f"{second.upper()},no,,,,,,\n",
    )
    assert busy_day("deals", "import", path, "--dry-run").out.startswith(
        "2 rows would change something, 0 said nothing"
    )
    assert result(busy_day, first) is None
    assert busy_day("deals", "import", path).out == (
        "2 rows changed something, 0 said nothing new (utf-8, parted by commas).\n"
    )
    kept = result(busy_day, first)
    assert kept is not None
    assert kept["note"] == 'said: "call, me"\nlater'
    assert kept["deal"] == {
        "deal_id": "D-1",
        "state": "won",
        "stage": None,
        "value": "1200.50",
        "currency": "RUB",
        "closed_on": "2026-11-21",
    }
    assert str(kept["changed_by"]).startswith("cli:")
    shown = busy_day("calls", "show", first).out
    assert "said        qualified yes  (by cli:" in shown
    assert "deal        D-1, won, 1200.50 RUB, 2026-11-21" in shown
    assert 'note        said: "call, me" later' in shown
    assert busy_day("deals", "import", path).out.startswith("0 rows changed something, 2 said nothing new")
    write(busy_day, f"call_id,note,qualified\n{first},-,\n")
    busy_day("deals", "import", path)
    changed = busy_day("deals", "history", first, "--format", "json").json
    assert [one["field"] for one in changed if one["changed_via"] == "csv"][-1] == "note"
    assert changed[-1]["after"] is None
    assert len([one for one in changed if one["field"] == "qualified"]) == 1


def test_every_line_that_is_wrong_is_told_and_nothing_imported(busy_day: Operator) -> None:
    first, second, *_ = ids(busy_day)
    path = write(
        busy_day,
        "call_id;qualified;value;currency\n"
        f"{first};yes;;\n"
        "\n"
        f"{second};maybe;1.234;RUB\n"
        "11111111-2222-3333-4444-555555555555;yes;;\n"
        f"{first};;12,5;\n"
        f"{first};;12,5;RUB;more\n",
    )
    said = busy_day("deals", "import", path, code=1)
    assert "won.csv:7: has 5 cells, the header 4" in said.err
    write(busy_day, path.read_text().rpartition(f"{first};;12,5;RUB")[0])
    said = busy_day("deals", "import", path, code=1)
    assert said.err.splitlines() == [
        "won.csv:4: qualified: must be yes or no",
        "won.csv:4: value: '1.234' may mean thousands or a fraction: write two digits behind the point, like 1234.00",
        "won.csv:5: call_id: no call is known by this id",
        "dialmark: won.csv: 3 problems, nothing was imported",
    ]
    write(busy_day, path.read_text().replace("maybe;1.234", "no;1.2").replace("\n11111111", "\n#11111111"))
    said = busy_day("deals", "import", path, code=1)
    assert said.err.splitlines()[0] == "won.csv:5: call_id: is no call id"
    assert result(busy_day, first) is None


FORMS = {
    "utf-8": lambda text: text.encode(),
    "with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "unicode text": lambda text: text.replace(";", "\t").encode("utf-16"),
    "big endian": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "cp1251": lambda text: text.encode("cp1251"),
    "line ends of old": lambda text: text.replace("\n", "\r").encode(),
    "line ends of windows": lambda text: text.replace("\n", "\r\n").encode("cp1251"),
    "told": lambda text: b"sep=;\r\n" + text.encode("cp1251"),
}


@pytest.mark.parametrize("form", FORMS)
def test_as_spreadsheets_write_them(form: str) -> None:
    text = 'call_id;note;caller\n1;"Хочет ""импланты"", дорого";="+79161234567"\n2;\'=1+1;-\n'
    sheet = sheets.read(FORMS[form](text), {"call_id", "note", "caller"}, language="ru")
    assert [dict(row.cells) for row in sheet.rows] == [
        {"call_id": "1", "note": 'Хочет "импланты", дорого', "caller": "+79161234567"},
        {"call_id": "2", "note": "=1+1", "caller": "-"},
    ]
    assert [row.line for row in sheet.rows] == ([3, 4] if form == "told" else [2, 3])


HOSTILE = {
    b"": "is empty",
    b"\n\n\n": "is empty",
    b"call_id;note\n1;a\0b\n": "NUL",
    b"nothing;known\n1;2\n": "must name columns",
    b"call_id;notes\n1;2\n": "there is no column 'notes'",
    b"call_id;note;note\n1;2;3\n": "twice",
    b'call_id;note\n1;"never ends\n2;3\n': "quotation mark",
    b'call_id;note\n1;"a"b\n': "quotation mark",
    b"call_id;note\n1;" + b"x" * 200_000 + b"\n": "line 2",
    b"call_id;\x1b[2J\n1;2\n": "there is no column",
    b"call_id" + b";call_id" * 500 + b"\n": "must name columns",
    codecs.BOM_UTF16_LE + b"abc": "not in utf-16",
    b"call_id\n" + b"1\n" * (sheets.MAX_ROWS + 1): "more than 5000 rows",
    b"x" * (sheets.MAX_BYTES + 1): "larger than 16 MiB",
}


@pytest.mark.parametrize("raw", HOSTILE, ids=range(len(HOSTILE)))
def test_a_file_that_is_no_table(raw: bytes) -> None:
    with pytest.raises(sheets.BadSheet) as caught:
        sheets.read(raw, {"call_id", "note"})
    assert HOSTILE[raw] in str(caught.value)
    assert str(caught.value).isprintable()


def test_noise_never_breaks_the_reader() -> None:
    chosen = random.Random(7)
    alphabet = [b"call_id", b";", b",", b"\t", b'"', b"\n", b"\r", b"\0", b"\xff", b"=", b"'", b"\xe2\x80\xa8", b"1"]
    for _ in range(3_000):
        raw = b"".join(chosen.choices(alphabet, k=chosen.randint(0, 30)))
        try:
            sheet = sheets.read(raw, {"call_id"}, language=chosen.choice(["ru", "en"]))
        except sheets.BadSheet:
            continue
        assert all(set(row.cells) <= {"call_id"} for row in sheet.rows)


def test_wrong_names_and_encodings(busy_day: Operator, tmp_path: Path) -> None:
    assert "No such file" in busy_day("deals", "import", tmp_path / "none.csv", code=1).err
    assert "Is a directory" in busy_day("deals", "import", tmp_path, code=1).err
    path = write(busy_day, "call_id,note\n")
    assert "there is no encoding" in busy_day("deals", "import", path, "--encoding", "klingon", code=1).err
    assert busy_day("deals", "import", path).out.startswith("0 rows")
    busy_day("deals", "history", "11111111-2222-3333-4444-555555555555", code=1)


def test_spend_from_a_file(busy_day: Operator) -> None:
    """R105: a whole amount takes the place of what was there; the same again changes nothing."""
    path = write(busy_day, 'day;source;campaign;amount;currency\n20.11.2026;radio;;"1 000,00";RUB\n', "spend.csv")
    assert busy_day("spend", "import", path, "--dry-run").out.startswith("1 rows would change")
    assert busy_day("spend", "import", path).out.startswith("1 rows changed")
    assert busy_day("spend", "import", path).out.startswith("0 rows changed")
    (row,) = busy_day("spend", "list", "--from", "2026-11-01", "--to", "2026-11-30", "--format", "json").json
    assert (row["day"], row["source"], row["amount"], row["restated"]) == ("2026-11-20", "radio", "1000.00", True)
    write(busy_day, "day,source,amount,currency\n2026-11-20,radoi,1,RUB\n", "spend.csv")
    assert "there is no source or cost line 'radoi'" in busy_day("spend", "import", path, code=1).err


def test_wages_from_files(operator: Operator) -> None:
    """R70."""
    agent = '[[agent]]\nkey = "anna"\nname = "Anna"\n'
    operator.apply(f"{agent}\n{ROUTING}")
    path = write(operator, "agent,from_day,hourly,currency\nanna,2026-11-01,300,RUB\n")
    assert operator("wages", "import", path).out.startswith("1 rows changed")
    (row,) = operator("wages", "list", "--format", "json").json
    assert row == {"agent": "anna", "from_day": "2026-11-01", "hourly": "300.00", "currency": "RUB"}
    write(operator, "agent;day;hours\nanna;20.11.2026;7,5\nanna;21.11.2026;7:30\n")
    assert operator("wages", "import-hours", path).out.startswith("2 rows changed")
    write(operator, "agent;day;hours\nbob;20.11.2026;25\n")
    assert operator("wages", "import-hours", path, code=1).err.splitlines()[:2] == [
        "won.csv:2: agent: there is no agent 'bob' in the routing file",
        "won.csv:2: hours: a day has 24 hours",
    ]
