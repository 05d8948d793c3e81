"""The journal's row codec: bytes to rows, without I/O.

A line is ten quoted CSV fields (asterisk/cel_custom.conf). It is taken only as a whole: what does not match is damaged
and goes to quarantine. A full disk leaves half a row, to which the next one is glued, so rows are looked for inside a
damaged line. Nothing a caller writes can look like a row in there: quotes inside a field are doubled.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote

from gateway.core.rows import Row

COLUMNS = (
    *("EventTime", "eventenum", "userdeftype", "ChanName", "UniqueID"),
    *("LinkedID", "Context", "Peer", "AppName", "EventExtra"),
)
"""Of the DSV mapping, in order."""

LEGACY_MAPPING = ",".join(
    f"${{CSV_QUOTE(${{{name}}})}}"
    for name in (
        *("eventtime", "eventenum", "userdeftype", "CHANNEL(channame)", "CHANNEL(uniqueid)"),
        *("CHANNEL(linkedid)", "CHANNEL(context)", "CHANNEL(peer)", "CHANNEL(appname)", "eventextra"),
    )
)
"""The same columns for Asterisk 20, 21 and 22 before 22.9 ([mappings] of cel_custom.conf). It is `channame`: in 22.10
`CHANNEL(name)` is the caller's name, which a caller writes (tried)."""

MAX_LINE_BYTES = 4096
"""Asterisk cuts rows at 1,023 bytes; a longer line is several torn rows, or no journal at all."""

_FIELD = r'"([^"]*(?:""[^"]*)*)"'
_LINE = re.compile(
    r'"(\d{10})\.(\d{6})","([A-Z_]{1,32})",' + ",".join([_FIELD] * 7) + r',"(.*)"\Z',
    re.DOTALL,
)
_BEGIN = re.compile(r'"\d{10}\.\d{6}","[A-Z_]')
_BRIDGE = re.compile(r'\{""bridge_id"":""([^"\\]*)"",""bridge_technology"":""([^"\\]*)""\}\Z')
_HANGUP = re.compile(r'\{""hangupcause"":(\d+),""hangupsource"":""([^"\\]*)"",""dialstatus"":""([^"\\]*)""\}\Z')
_EXTRA_BEGIN = '{""extra"":""'
_EXTRA_END = '""}'
_NO_DATA = MappingProxyType[str, str]({})


@dataclass(frozen=True, slots=True)
class Damaged:
    """A line that is not one row. `recovered` are the whole rows found in it; `raw` is the line as it was read."""

    raw: bytes
    reason: str
    recovered: tuple[Row, ...] = ()


class Line(NamedTuple):
    """A row with its place: `offset` is where its line begins in the file, `raw` the line without the line end.

    Rows recovered from one damaged line share offset and line."""

    offset: int
    raw: bytes
    row: Row


def parse_line(line: bytes) -> Row | Damaged:
    """One line, without or with its line end. Never raises."""
    if line.endswith(b"\n"):
        line = line[:-1]
    text = line.decode("utf-8", "replace")
    match = _LINE.match(text)
    if match is not None and len(line) <= MAX_LINE_BYTES:
        row = _row(match)
        if row is not None:
            return row
    return _damaged(line, text)


def _row(match: re.Match[str]) -> Row | None:
    second, fraction, kind, user_event, channel, unique_id, linked_id, context, peer, application, extra = (
        match.groups()
    )
    data = _decoded(extra) if extra else _NO_DATA
    if data is None or not unique_id:
        return None
    return Row(
        int(second + fraction),
        kind,
        user_event,
        _unquoted(channel),
        unique_id,
        linked_id,
        context,
        _unquoted(peer),
        application,
        data,
    )


def _unquoted(field: str) -> str:
    return field.replace('""', '"') if '"' in field else field


def _damaged(line: bytes, text: str) -> Damaged:
    if len(line) > MAX_LINE_BYTES:
        return Damaged(line[:MAX_LINE_BYTES], "too long")
    begins = [match.start() for match in _BEGIN.finditer(text)]
    recovered: list[Row] = []
    for begin, end in zip(begins, [*begins[1:], len(text)], strict=False):
        match = _LINE.match(text[begin:end])
        row = None if match is None else _row(match)
        if row is not None:
            recovered.append(row)
    if len(recovered) == len(begins) > 1 and begins[0] == 0:
        return Damaged(line, "rows glued", tuple(recovered))
    return Damaged(line, "torn" if begins else "not a row", tuple(recovered))


@lru_cache(maxsize=256)
def _decoded(extra: str) -> MappingProxyType[str, str] | None:
    """EventExtra, quotes still doubled: an object, or None. Bridge and hang-up rows of a call repeat the same text."""
    match = _BRIDGE.match(extra)
    if match is not None:
        return MappingProxyType({"bridge_id": match[1], "bridge_technology": match[2]})
    match = _HANGUP.match(extra)
    if match is not None:
        return MappingProxyType({"hangupcause": match[1], "hangupsource": match[2], "dialstatus": match[3]})
    if extra.startswith(_EXTRA_BEGIN) and extra.endswith(_EXTRA_END):
        payload = extra[len(_EXTRA_BEGIN) : -len(_EXTRA_END)]
        if '"' not in payload and "\\" not in payload:
            return MappingProxyType(query(payload))
    return _decoded_json(extra)


def _decoded_json(extra: str) -> MappingProxyType[str, str] | None:
    if '"' in extra.replace('""', ""):
        return None
    try:
        content = json.loads(extra.replace('""', '"'), strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    if set(content) == {"extra"}:
        return MappingProxyType(query(str(content["extra"])))
    return MappingProxyType({key: str(value) for key, value in content.items()})


def query(payload: str) -> dict[str, str]:
    """A user event's fields. The first of a repeated key counts: our own stand before what a caller wrote.

    Percent-encoded UTF-8 that is cut inside a character ends in U+FFFD, which is dropped; `+` is a plus.
    """
    fields: dict[str, str] = {}
    for pair in payload.split("&"):
        key, equals, value = pair.partition("=")
        if not equals or key in fields:
            continue
        if "%" in value:
            value = _decoded_value(value)
        fields[key] = value
    return fields


def _decoded_value(value: str) -> str:
    decoded = unquote(value, errors="replace")
    return decoded.rstrip("\ufffd") if decoded.endswith("\ufffd") else decoded
