"""What a command printed becomes JSON that any reader can take, or is refused without being repeated (R120)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import analysis

DEEP = 10_000
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        (b"", "it did not print JSON (line 1, column 1)"),
        (b"secret words", "it did not print JSON (line 1, column 1)"),
        (b"\xff\xfe\x00", "it did not print UTF-8"),
        (b"[1]", "it did not print a JSON object"),
        (b'"text"', "it did not print a JSON object"),
        (b"{}{}", "it did not print JSON (line 1, column 3)"),
        (b'{"a": NaN}', "its JSON has NaN, which is no number"),
        (b'{"a": -Infinity}', "its JSON has -Infinity, which is no number"),
        (b'{"a": 1e999}', "its JSON has a number too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "it did not print JSON"),
        (b'{"a": ' * DEEP + b"1" + b"}" * DEEP, "its JSON is nested more than 32 deep"),
        (b'{"a": ' + b"[" * DEEP + b"]" * DEEP + b"}", "its JSON is nested more than 32 deep"),
        (b'{"a": ' + b"[" * 33 + b"]" * 33 + b"}", "its JSON is nested more than 32 deep"),
        (b'{"a": "' + b"x" * analysis.MAX_BYTES + b'"}', "it printed more than 262,144 bytes"),
    ],
    ids=range(14),
)
def test_what_is_refused(printed: bytes, why: str) -> None:
    with pytest.raises(analysis.BadAnalysis) as error:
        analysis.parse(printed)
    assert str(error.value) == why


def test_what_a_database_or_a_page_cannot_take_is_replaced() -> None:
    printed = rb'{"a\u0000b": "\ud800x\udfff", "\ud83d\ude00": ["\u0000", "\ufeff"], "n": [1, 2.5, true, null]}'
    assert json.loads(analysis.parse(printed)) == {
        "a\ufffdb": "\ufffdx\ufffd",
        "\U0001f600": ["\ufffd", "\ufeff"],
        "n": [1, 2.5, True, None],
    }


def test_the_deepest_that_is_taken() -> None:
    assert analysis.parse(b'{"a":' * 32 + b"{}" + b"}" * 32) == '{"a":' * 32 + "{}" + "}" * 32
    with pytest.raises(analysis.BadAnalysis):
        analysis.parse(b'{"a":' * 33 + b"{}" + b"}" * 33)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_an_object_stays_what_it_is(found: dict[str, object]) -> None:
    def harmless(text: str) -> bool:
        return "\\u0000" not in text and "\\ud" not in text

    printed = json.dumps(found)
    text = analysis.parse(printed.encode())
    text.encode("utf-8")
    assert "\0" not in text
    if harmless(printed):
        assert json.loads(text) == found


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(printed: bytes) -> None:
    try:
        analysis.parse(printed)
    except analysis.BadAnalysis as error:
        assert len(str(error)) < 100
