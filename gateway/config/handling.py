"""What sites, routes, destinations and numbers say beyond ringing: recording consent, language, whisper, acceptance."""

from __future__ import annotations

import re

from gateway.config import tables
from gateway.core import book, prompts, rating, regions, whisper

LANGUAGE = re.compile(r"[a-z]{2}(-[A-Z]{2})?")
LANGUAGE_SHAPE = "a language code like ru or en-GB"
_OUTCOME = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")
_FIXED = tuple(mode for mode in book.RecordingMode if mode is not book.RecordingMode.REGION)


def recording(table: tables.Table) -> book.RecordingMode | None:
    """The `recording` of `table`; None if absent or wrong."""
    chosen = table.choice("recording", book.RecordingMode, book.RecordingMode.OFF)
    return chosen if isinstance(table.raw.get("recording"), str) else None


def overrides(table: tables.Table) -> dict[str, book.RecordingMode]:
    """The table `consent`: modes by region code."""
    inner = table.table("consent")
    if inner is None:
        return {}
    found: dict[str, book.RecordingMode] = {}
    for code in inner.raw:
        if not regions.REGION_CODE.fullmatch(code):
            inner.take(code)
            guess = (code.upper(),) if regions.REGION_CODE.fullmatch(code.upper()) else ()
            inner.wrong(code, "must be a region code like KR or US-CA", word=code.upper(), choices=guess)
            continue
        mode = inner.choice(code, book.RecordingMode, book.RecordingMode.OFF)
        if mode is book.RecordingMode.REGION:
            inner.wrong(code, f"must be one of {', '.join(_FIXED)}")
        elif isinstance(inner.raw[code], str):
            found[code] = mode
    return found


def region(table: tables.Table, country: str) -> str | None:
    """The site's `region`, a part of its country."""
    code = table.matching("region", regions.REGION_CODE, "a region code like US-CA")
    if code is not None and country and code.partition("-")[0] != country:
        table.wrong("region", f"must lie in the country {country}")
        return None
    return code


def language(table: tables.Table) -> str | None:
    """The `language` of `table`; None if absent or wrong."""
    return table.matching("language", LANGUAGE, LANGUAGE_SHAPE)


def whispers(table: tables.Table) -> dict[str, str]:
    """The templates: a text for every language, or a table of texts by language."""
    value = table.take("whisper")
    if isinstance(value, str):
        text = table.text("whisper", max_length=whisper.MAX_TEMPLATE)
        return {} if text is None or not _is_template(table, "whisper", text) else {"": text}
    inner = table.table("whisper")
    if inner is None:
        return {}
    found: dict[str, str] = {}
    for name in inner.raw:
        text = inner.text(name, max_length=whisper.MAX_TEMPLATE)
        if not LANGUAGE.fullmatch(name):
            inner.wrong(name, f"must be {LANGUAGE_SHAPE}")
        elif text is not None and _is_template(inner, name, text):
            found[name] = text
    return found


def accept(table: tables.Table) -> book.Acceptance | None:
    """The `accept` of `table`; None if absent."""
    chosen = table.choice("accept", book.Acceptance, book.Acceptance.NONE)
    return chosen if "accept" in table.raw else None


def rated(table: tables.Table) -> rating.Wish | None:
    """The `rating` of a route: who is asked how the call was, and what; None = nobody."""
    inner = table.table("rating")
    if inner is None:
        return None
    if "by" not in inner.raw:
        inner.wrong("by", "is missing: agent, caller or both")
    by = inner.choice("by", rating.By, rating.By.AGENT)
    named = inner.references("questions", [one.value for one in rating.Question], "question")
    asked = tuple(one for one in rating.Question if one.value in named) or tuple(rating.Question)
    if inner.raw.get("questions") == []:
        inner.wrong("questions", "must not be empty; leave the whole table out to ask nothing")
    wish = rating.Wish(
        by=by,
        questions=asked,
        outcomes=_outcomes(inner, by, asked),
        min_talk_seconds=inner.whole("min_talk_seconds", 5, 0, 3600),
        key_seconds=inner.whole("key_seconds", 4, 2, 10),
    )
    inner.refuse_unknown()
    return wish


def _outcomes(inner: tables.Table, by: rating.By, asked: tuple[rating.Question, ...]) -> tuple[str, ...]:
    """Names of the keys 1, 2, … to the question `outcome`."""
    named = inner.texts("outcomes")
    for index, name in enumerate(named):
        if not _OUTCOME.fullmatch(name):
            inner.wrong("outcomes", "must be 1 to 24 of a-z 0-9 -, not beginning with -", index=index)
        elif name in named[:index]:
            inner.wrong("outcomes", f"'{name}' stands here twice", index=index)
    if "outcomes" in inner.raw and not 2 <= len(named) <= rating.MAX_OUTCOMES:
        inner.wrong("outcomes", f"must be 2 to {rating.MAX_OUTCOMES} names, of the keys 1, 2, …")
    if named and rating.Question.OUTCOME not in asked:
        inner.wrong("outcomes", "says nothing where the question outcome is not asked")
    if named and by is rating.By.BOTH:
        inner.wrong("outcomes", "agent and caller have keys of their own: leave it out, or ask one of them")
    return named


def _is_template(table: tables.Table, name: str, text: str) -> bool:
    if text.startswith("@"):
        if not prompts.KEY.fullmatch(text[1:]):
            table.wrong(name, "@ names a prompt: @ and a key of a-z 0-9 _")
            return False
        return True
    try:
        whisper.check(text)
    except whisper.BadTemplate as error:
        known = whisper.PLACEHOLDERS
        unknown = next((word for word in whisper.names({"": text}) if word not in known), "")
        table.wrong(name, str(error), word=unknown, choices=known)
        return False
    return True
