"""Rules that score and tag calls, of the routing file: `[[rule]]` and `[scoring]`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from gateway.config import tables
from gateway.core import book, outcomes, rules
from gateway.core.rules import Pressed

_LONGEST_SECONDS = 86_400
_KEYS = {
    Pressed.CONSENT: "0123456789*#",
    Pressed.CALLBACK: "1",
    Pressed.OUTCOME: "123456789",
    Pressed.GOAL: "12",
    Pressed.SOLVED: "12",
}
_KEY = re.compile(r"([a-z]+)=(.)")
_GIVES = ("score", "tags", "qualified", "spam", "stop")


@dataclass(frozen=True, slots=True)
class Known:
    """What a rule may refer to."""

    sources: Mapping[str, book.Source]
    sources_under: Callable[[tuple[str, ...]], frozenset[str]]
    agents: Collection[str]
    routes: Collection[str]
    hours: Collection[str]


def read(table: tables.Table, key: str, known: Known) -> rules.Rule:
    """One `[[rule]]`."""
    rule = rules.Rule(
        key=key,
        when=_when(table, known),
        points=table.whole("score", 0, -rules.MAX_POINTS, rules.MAX_POINTS),
        tags=_tags(table),
        qualified=table.flag("qualified", None),
        spam=table.flag("spam", None),
        stop=bool(table.flag("stop")),
    )
    if not any(name in table.raw for name in _GIVES):
        table.wrong(None, "does nothing: give score, tags, qualified, spam or stop")
    table.refuse_unknown()
    return rule


def scoring(root: tables.Table, read_rules: Mapping[str, rules.Rule]) -> rules.Scoring:
    """All rules in their order, with `[scoring]`."""
    if len(read_rules) > rules.MAX_RULES:
        root.wrong("rule", f"there are {len(read_rules)} rules; at most {rules.MAX_RULES} are possible")
    found = tuple(read_rules.values())
    table = root.table("scoring")
    if table is None:
        return rules.Scoring(found)
    bounds = (-rules.MAX_POINTS, rules.MAX_POINTS)
    made = rules.Scoring(
        rules=found,
        lowest=table.whole("lowest", 0, *bounds),
        highest=table.whole("highest", 100, *bounds),
        qualified_from=table.optional_whole("qualified_from", *bounds),
    )
    if made.lowest >= made.highest:
        table.wrong("highest" if "highest" in table.raw else "lowest", "highest must be more than lowest")
    elif made.qualified_from is not None and not made.lowest <= made.qualified_from <= made.highest:
        table.wrong("qualified_from", f"must be from {made.lowest} to {made.highest}, or no call could have it")
    table.refuse_unknown()
    return made


def _when(table: tables.Table, known: Known) -> rules.When:
    direction = table.text("direction") or "inbound"
    if direction not in ("inbound", "outbound"):
        table.wrong("direction", "must be one of inbound, outbound", word=direction, choices=("inbound", "outbound"))
    when = rules.When(
        is_outbound=direction == "outbound",
        min_talk_seconds=table.optional_whole("min_talk_seconds", 0, _LONGEST_SECONDS),
        max_talk_seconds=table.optional_whole("max_talk_seconds", 0, _LONGEST_SECONDS),
        min_wait_seconds=table.optional_whole("min_wait_seconds", 0, _LONGEST_SECONDS),
        max_wait_seconds=table.optional_whole("max_wait_seconds", 0, _LONGEST_SECONDS),
        outcomes=frozenset(table.references("outcomes", [one.value for one in outcomes.Outcome], "outcome")),
        sources=known.sources_under(table.references("sources", known.sources, "source")),
        campaigns=frozenset(text.casefold() for text in table.texts("campaigns")),
        channels=frozenset(table.references("channels", [one.value for one in book.Channel], "channel")),
        first_time=table.flag("first_time", None),
        keys=_keys(table),
        agents=frozenset(table.references("agents", known.agents, "agent")),
        routes=frozenset(table.references("routes", known.routes, "route")),
        hours=table.reference("hours", known.hours, "[[hours]]"),
        outside_hours=table.reference("outside_hours", known.hours, "[[hours]]"),
    )
    _refuse_the_impossible(table, when)
    return when


def _refuse_the_impossible(table: tables.Table, when: rules.When) -> None:
    for name in ("outcomes", "sources", "campaigns", "channels", "keys", "agents", "routes"):
        if table.raw.get(name) == []:
            table.wrong(name, "must not be empty")
    for what, least, most in (
        ("talk", when.min_talk_seconds, when.max_talk_seconds),
        ("wait", when.min_wait_seconds, when.max_wait_seconds),
    ):
        if least is not None and most is not None and least > most:
            table.wrong(f"max_{what}_seconds", f"is less than min_{what}_seconds: no call could have both")
    if when.hours is not None and when.hours == when.outside_hours:
        table.wrong("outside_hours", "is the same as hours: no call could have both")


def _keys(table: tables.Table) -> frozenset[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    questions = {one.value: one for one in Pressed}
    for index, written in enumerate(table.texts("keys")):
        shaped = _KEY.fullmatch(written)
        question = questions.get(shaped[1]) if shaped is not None else None
        if shaped is None or question is None or shaped[2] not in _KEYS[question]:
            choices = [f"{one.value}={key}" for one, some in _KEYS.items() for key in some]
            message = f"must be a question and a key, like goal=1; questions are {', '.join(questions)}"
            table.wrong("keys", message, index=index, word=written, choices=choices)
            continue
        found.add((question.value, shaped[2]))
    return frozenset(found)


def _tags(table: tables.Table) -> tuple[str, ...]:
    found: list[str] = []
    for index, tag in enumerate(table.texts("tags")):
        if not tag.strip() or tag != tag.strip() or len(tag) > rules.MAX_TAG_LENGTH or not tag.isprintable():
            table.wrong("tags", f"must be 1 to {rules.MAX_TAG_LENGTH} printable characters", index=index)
        elif tag in found:
            table.wrong("tags", f"'{tag}' stands here twice", index=index)
        else:
            found.append(tag)
    if len(found) > rules.MAX_TAGS:
        table.wrong("tags", f"there are {len(found)}; at most {rules.MAX_TAGS} are possible")
    if table.raw.get("tags") == []:
        table.wrong("tags", "must not be empty")
    return tuple(found)
