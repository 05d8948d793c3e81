from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

from gateway.core import book, pool, ticketrules, traffictables, webbook

ROOT = Path(__file__).parents[2]
PAGE = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("routing.md", "rules.md"))
READERS = (
    "routes",
    "sections",
    "trunks",
    "destinations",
    "timetables",
    "routingfile",
    "handling",
    "webrules",
    "ticketsettings",
    "rules",
)
GETTER = re.compile(
    r"\.(?:text|required_text|matching|whole|optional_whole|flag|choice|texts|references?|number|table|tables|take|groups)"
    r'\((?:table, |inner, )?"([a-z_]+)"'
)


def test_every_key_of_the_routing_file_is_documented() -> None:
    """The page is the reference for telecom admins: a key that it lacks does not exist for them."""
    keys: set[str] = set()
    for name in READERS:
        keys |= set(GETTER.findall((ROOT / "gateway" / "config" / f"{name}.py").read_text(encoding="utf-8")))
    assert len(keys) > 50
    missing = {key for key in keys if not re.search(rf"[`\[.]{key}[`\]\s]", PAGE)}
    assert missing == set()


def test_every_value_of_a_choice_is_documented() -> None:
    kinds: tuple[type[StrEnum], ...] = (
        *(book.NumberForm, book.DidSource, book.Channel, book.CampaignType, book.CallerIdPolicy),
        *(book.Strategy, book.AfterHours, book.BanAction, book.MissCause),
        *(book.RecordingMode, book.Acceptance, book.Unanswered),
        *(webbook.Asking, pool.FreezeMode),
        *(ticketrules.Clock, ticketrules.Faults, ticketrules.By),
    )
    values = [member.value for kind in kinds for member in kind]
    values += [kind.value for kind in traffictables.Kind if kind is not traffictables.Kind.OWN]
    assert [value for value in values if f"`{value}`" not in PAGE] == []


def test_the_limits_are_the_documented_ones() -> None:
    assert f"| {book.MAX_STEPS} |" in PAGE
    assert f"| destinations that ring together | {book.MAX_MEMBERS} |" in PAGE
    assert f"1 to {book.MAX_KEY_LENGTH} of" in PAGE
