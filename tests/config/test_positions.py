from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.config import positions

DOCUMENT = '''\
# comment with [brackets] = "and quotes"
title = "a # b" # real comment
"quoted key" . 'lit' = 1
dotted.one.two = { a = 1, "b c" = [1,
  2] }

[[route]]
key = "first"
reserve = [
  "a",  # one ] two
  # "not this",
  ["b", "c"],
  { x = """
multi ""quoted"" \\""" line""", y = \'\'\'
raw ''\'\'\' },
]
when = 1979-05-27 07:32:00Z
[route.inner]
z = 0x1F
[[route.exception]]
first_time = true
[[route]]
[[route.exception]]
first_time = false
[[route.exception]]
regions = []

[late.sub]
v = 1
[late]
w = +inf
'''


def paths(value: Any, path: positions.Path = ()) -> set[positions.Path]:
    """Every path of a parsed document."""
    found: set[positions.Path] = {path} if path else set()
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, item in items:
        found |= paths(item, (*path, key))
    return found


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("quoted key",), 3),
        (("quoted key", "lit"), 3),
        (("dotted", "one", "two", "b c"), 4),
        (("dotted", "one", "two", "b c", 1), 5),
        (("route", 0), 7),
        (("route", 0, "key"), 8),
        (("route", 0, "reserve"), 9),
        (("route", 0, "reserve", 0), 10),
        (("route", 0, "reserve", 1, 1), 12),
        (("route", 0, "reserve", 2, "x"), 13),
        (("route", 0, "reserve", 2, "y"), 14),
        (("route", 0, "when"), 17),
        (("route", 0, "inner", "z"), 19),
        (("route", 0, "exception", 0, "first_time"), 21),
        (("route", 1), 22),
        (("route", 1, "exception", 0, "first_time"), 24),
        (("route", 1, "exception", 1, "regions"), 26),
        (("late",), 30),
        (("late", "sub", "v"), 29),
        (("late", "w"), 31),
        (("route", 1, "missing"), 22),
        (("nowhere", "at", "all"), 1),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_each_value_has_its_line(path: positions.Path, line: int, newline: str) -> None:
    assert positions.Positions(DOCUMENT.replace("\n", newline)).line_of(path) == line


def test_paths_are_those_that_tomllib_gives() -> None:
    for text in (DOCUMENT, (Path(__file__).parents[2] / "config" / "routing.example.toml").read_text()):
        assert positions.Positions(text).lines.keys() == paths(tomllib.loads(text))


_KEYS = some.sampled_from(["a", "b-1", '"q\\u00e9 ]"', "'l = #'", '""', "a.b", '"x" . y'])
_SCALARS = some.sampled_from(
    [
        "1",
        "-1.5e3",
        "true",
        "1979-05-27T07:32:00Z",
        "07:32:00",
        '"#]}"',
        '"\\"\\\\"',
        "'\\'",
        '"""\n"]\\\\"""',
        "'''\n'''",
    ]
)
_VALUES = some.recursive(
    _SCALARS,
    lambda inner: some.one_of(
        some.lists(inner, max_size=3).map(lambda items: "[ " + ", # ]\n".join(items) + (",\n]" if items else "]")),
        some.dictionaries(some.sampled_from(["k", '"k 2"', "k-3.z"]), inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{key} = {value}" for key, value in items.items()) + "}"
        ),
    ),
    max_leaves=6,
)
_PAIRS = some.tuples(_KEYS, _VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}")
_HEADERS = some.sampled_from(["[t]", "[[t]]", "[t.u]", "[[ t . u ]] # ]", "['t'.\"u\"]", "[[a.b]]", "", "  # note"])


@given(lines=some.lists(_PAIRS | _HEADERS, max_size=12))
def test_any_valid_document_has_a_position_for_every_path(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert positions.Positions(text).lines.keys() == paths(document)
