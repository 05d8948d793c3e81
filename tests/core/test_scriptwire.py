"""What the script may say (docs/dni.md): every field's limits, and what hostile clients send."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import numberformats, scriptwire
from gateway.core.displayrules import Consent, Reason
from gateway.core.scriptwire import Refused

SENDER = {"v": 1, "site": "clinic", "page": "abc123", "visitor": "v" * 32, "lease": "l" * 32}
SEEN = {"seconds": 5, "found": 2}
URL = "https://clinic.example/"
READERS: dict[str, tuple[Callable[[bytes], scriptwire.Sender], dict[str, Any]]] = {
    "visit": (
        scriptwire.visit,
        {
            **SENDER,
            "consent": "granted",
            "url": URL,
            "referrer": "",
            "automated": False,
            "landing": {"url": URL, "referrer": "", "seconds": 9},
            "ids": {"ga": "1.2", "ga_sessions": {"ABC123": "17"}, "ym_uid": "1" * 12, "fbp": "fb.1.1700000000000.1"},
            "vars": {"plan": "gold"},
        },
    ),
    "beat": (scriptwire.beat, {**SENDER, **SEEN, "ids": {}, "vars": {}}),
    "page": (scriptwire.page_view, {**SENDER, **SEEN, "url": URL, "referrer": URL}),
    "leave": (scriptwire.leave, {**SENDER, **SEEN, "shown": False, "forget": True}),
    "click": (scriptwire.click, {**SENDER, "number": "+74997654321", "scheme": "tel"}),
    "callback": (
        scriptwire.callback,
        {**SENDER, "url": URL, "consent": True, "number": "8 912 345-67-89", "name": "I", "message": "m", "when": "w"},
    ),
}


def read(kind: str, **changed: Any) -> Any:
    """A good request of this kind with some fields changed; `...` takes one out."""
    reader, fields = READERS[kind]
    whole = {**fields, **changed}
    return reader(json.dumps({name: value for name, value in whole.items() if value is not ...}).encode())


@pytest.mark.parametrize("kind", READERS)
def test_a_good_request_is_read(kind: str) -> None:
    heard = read(kind)
    assert (heard.site, heard.page, heard.visitor, heard.lease) == ("clinic", "abc123", "v" * 32, "l" * 32)


def test_what_a_visit_says() -> None:
    visit = read("visit")
    assert visit.consent is Consent.GRANTED
    assert visit.landing == scriptwire.FirstPage(URL, "", 9)
    assert visit.ids == scriptwire.Ids("1.2", {"ABC123": "17"}, "1" * 12, "fb.1.1700000000000.1")
    assert visit.variables == {"plan": "gold"}
    assert visit.check is None
    checked = read("visit", check={"pass": "p" * 32, "country": "RU", "city": "Moscow"})
    assert checked.check == scriptwire.Check("p" * 32, "RU", "Moscow")
    assert read("visit", check={"pass": "p" * 32}).check == scriptwire.Check("p" * 32)
    bare = read("visit", visitor=..., lease=None, landing=..., ids=..., vars=..., automated=...)
    assert (bare.visitor, bare.lease, bare.landing, bare.ids, bare.variables, bare.automated) == (*[None] * 5, False)


def each(kinds: Iterable[str], names: Iterable[str], *values: Any) -> list[tuple[str, str, Any]]:
    return list(product(kinds, names, values))


LOOKED = ("beat", "page", "leave")
WRONG: list[tuple[str, str, Any]] = [
    *each(READERS, ["v"], ..., 0, 2, "1", True, None),
    *each(READERS, ["site"], ..., "", "Clinic", "a" * 64, "../x", "a\n", 7, None),
    *each(READERS, ["page"], ..., "", "A", "a" * 17, "a-b", ["a"]),
    *each(READERS, ["visitor"], "", "short", "x" * 65, "' OR 1=1 --------", 5, {}),
    *each(READERS, ["lease"], "", "x" * 15, "é" * 20, "a" * 20 + "\n"),
    *each(READERS, ["extra"], 1, None),
    *each([*LOOKED, "click"], ["visitor"], ...),
    *each(LOOKED, SEEN, ..., -1, 1.5, True, "1"),
    *each(LOOKED, ["seconds"], 10**9),
    *each(LOOKED, ["found"], 10**6),
    *each(["visit", "page", "callback"], ["url"], ..., "", "javascript:x", "x", 1),
    *each(["visit", "page"], ["referrer"], ..., None, 1, []),
    *each(["visit"], ["consent"], ..., "pending", "denied", "GRANTED", True, None),
    *each(["visit"], ["automated"], 0, "no", []),
    *each(["visit"], ["landing"], "x", {}, {"url": URL, "referrer": ""}, [1]),
    *each(["visit"], ["landing"], {"url": "x", "referrer": "", "seconds": 1}),
    *each(["visit"], ["landing"], {"url": URL, "referrer": "", "seconds": -1}),
    *each(["visit"], ["check"], "x", {}, {"pass": 1}, {"pass": "short"}, {"country": "RU"}, []),
    *each(["visit"], ["check"], *({"pass": "p" * 32, **more} for more in ({"country": "ru"}, {"city": 1}, {"x": 1}))),
    *each(["beat"], ["check"], {"pass": "p" * 32}),
    *each(["beat"], ["ids"], "x", {"email": "a"}, {"ga_sessions": 1}),
    *each(["beat"], ["vars"], "x", {"a": 1}, {"a": None}, []),
    *each(["leave"], ["shown", "forget"], 0, "true"),
    *each(["click"], ["number"], ..., "", "74997654321", "+0123", "+7" * 10, "+7499a", None),
    *each(["click"], ["scheme"], ..., "javascript", "TEL", None),
    *each(["callback"], ["consent"], ..., False, None, "on", 1),
    *each(["callback"], ["number"], ..., "", "   ", "call me", "123", None, 5),
    *each(["callback"], ["name", "message", "when"], 1, [], {}),
]


def case_id(value: Any) -> str:
    return "missing" if value is ... else repr(value)[:20]


@pytest.mark.parametrize(("kind", "name", "value"), WRONG, ids=case_id)
def test_what_the_script_would_not_send_is_refused(kind: str, name: str, value: Any) -> None:
    with pytest.raises(Refused) as refused:
        read(kind, **{name: value})
    # What they sent is in no log line.
    assert "OR 1=1" not in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"1",
        b"{",
        b"\xff\xfe",
        b'{"v":1,"v":1}',
        b'{"v":NaN}',
        b'{"v":Infinity}',
        b'{"v":' + b"9" * 5_000 + b"}",
        b"[" * 20_000,
        b'{"v":1,"site":"clinic","a":' + b'{"a":' * 3_000 + b"1" + b"}" * 3_001,
        b'{"v":1,"x":"' + b"x" * scriptwire.MAX_BODY_BYTES + b'"}',
    ],
    ids=range(13),
)
@pytest.mark.parametrize("kind", READERS)
def test_bodies_of_anybody(kind: str, body: bytes) -> None:
    with pytest.raises(Refused):
        READERS[kind][0](body)


def test_other_peoples_text_is_cut_and_cleaned_not_refused() -> None:
    """Half characters come from pages that cut their own titles; none of it may break a database or a log."""
    asked = read("callback", name="a\x00b\ud800c\n" + "x" * 500, message="y" * 5_000, when="\u202enow")
    assert asked.name == "abc" + "x" * 97
    assert len(asked.message) == scriptwire.MAX_MESSAGE
    assert asked.when == "now"
    visit = read("visit", url=URL + "z" * 9_000, referrer="\ud800" * 2_000)
    assert len(visit.url) == scriptwire.MAX_URL
    assert visit.referrer == ""
    beat = read("beat", vars={f"v{number}": "x" * 900 for number in range(30)} | {"<b>": "x", "k" * 41: "x"})
    assert len(beat.variables) == scriptwire.MAX_VARS
    assert set(map(len, beat.variables.values())) == {scriptwire.MAX_VAR}
    assert all(name.startswith("v") for name in beat.variables)


def test_ids_that_do_not_look_like_theirs_are_dropped() -> None:
    wrong = {"ga": "<script>", "ga_sessions": {"ABC123": "x", "a b": "1", "DEF456": "17"}, "ym_uid": 5, "fbc": "fb"}
    assert read("beat", ids=wrong).ids == scriptwire.Ids(ga_sessions={"DEF456": "17"})
    assert read("beat", ids={"ga": "GA1.1.123.456"}).ids.ga == "123.456"


def test_denied_names_nobody() -> None:
    """attribution.md 0.8: without consent there is no visitor, whatever a client says."""
    denied: dict[str, Any] = {
        "visitor": ...,
        "lease": ...,
        "ids": ...,
        "vars": ...,
        "landing": ...,
        "consent": "denied",
    }
    assert read("visit", **denied).consent is Consent.DENIED
    for name in ("visitor", "lease", "ids", "vars", "landing"):
        with pytest.raises(Refused):
            read("visit", **{**denied, name: READERS["visit"][1][name]})


json_values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=20),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(some.sampled_from(sorted(READERS)), some.data())
def test_nothing_but_refused_ever_comes_out(kind: str, data: some.DataObject) -> None:
    reader, fields = READERS[kind]
    changed = data.draw(some.dictionaries(some.sampled_from(sorted(fields)), json_values, max_size=4))
    try:
        heard = reader(json.dumps({**fields, **changed}).encode())
    except Refused:
        return
    assert isinstance(heard, scriptwire.Sender)


@given(some.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    for reader, _ in READERS.values():
        with pytest.raises(Refused):
            reader(body)


# ---- Answers ----


def test_the_answer_to_a_visit() -> None:
    shown = [scriptwire.Shown("+74951234567", "+74997654321"), scriptwire.Shown("no number", "+74997654321")]
    answer = scriptwire.visit_answer(Reason.POOL, shown, visitor="v" * 32, lease="l" * 32, expires_seconds=300)
    assert json.loads(answer) == {
        "v": 1,
        "reason": "pool",
        "visitor": "v" * 32,
        "lease": "l" * 32,
        "expires_in": 300,
        "numbers": {
            "+74951234567": {
                "e164": "+74997654321",
                "international": "+7 499 765-43-21",
                "international_no_plus": "7 499 765-43-21",
                "national": "8 (499) 765-43-21",
                "national_digits": "84997654321",
                "national_no_trunk": "(499) 765-43-21",
                "significant": "4997654321",
                "repaint": True,
            }
        },
    }
    assert json.loads(scriptwire.visit_answer(Reason.BOT))["numbers"] == {}
    assert json.loads(scriptwire.beat_answer(False)) == {"v": 1, "ok": False, "expires_in": 0}
    assert json.loads(scriptwire.callback_answer()) == {"v": 1, "ok": True}


def test_the_configuration_can_stand_in_any_script() -> None:
    target = numberformats.target("+74951234567", ("</script>\u2028",))
    assert target is not None
    made = scriptwire.configuration("clinic", [target])
    assert b"<" not in made and made.isascii()
    read = json.loads(made)
    assert (read["consent"], read["wait"], read["beat"]) == ("pending", 800, 15.0)
    assert read["targets"][0]["pattern"].endswith(")|</script>\u2028")
