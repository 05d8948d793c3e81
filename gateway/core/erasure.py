"""What is left of a call when its person is forgotten: outcome, times, route and source, so that counts stay true.

The number becomes a pseudonym (`erased-<random>`, one per erased person), so that a person still counts as one caller.
Name, raw number, SIP call id, visitor and click ids go. A journal row keeps its length, byte for byte: the reader knows
a file by its first line and its place in it by the offset.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping
from typing import Any

PREFIX = "erased-"
PERSONAL_KEYS = ("cid", "raw", "name", "sip", "to", "ext")
"""Keys of our journal events that may hold a person."""
_PERSONAL = re.compile(rb"(?<![A-Za-z_])(?:" + "|".join(PERSONAL_KEYS).encode() + rb")=([^&\"]*)")
FILLER = b"x"


_OF_VISITOR: Mapping[str, Any] = {
    "landing_page": None,
    "referrer": None,
    "visitor_id": None,
    "lease_id": None,
    "candidates": [],
    "click_ids": {},
    "term": None,
}
"""What of the attribution tells of a person, and what stands there when they are gone."""
_OF_VISIT = ("landing_page", "referrer", "click_ids", "term")


def is_pseudonym(number: str | None) -> bool:
    """Whether this stands where an erased person's number stood."""
    return number is not None and number.startswith(PREFIX)


def pseudonymised(record: Mapping[str, Any], pseudonym: str | None) -> dict[str, Any]:
    """The record without the person. `pseudonym` None: nothing stands for the number (retention: too old to count by).

    Doing it again changes nothing. Fields that a record lacks are not added.
    """
    left: dict[str, Any] = copy.deepcopy(dict(record))
    is_outbound = left.get("direction") == "outbound"
    _blank(left, "caller", {"raw": None, "name": None, "region": None, "crm_id": None, "profile": {}})
    if is_outbound:
        _blank(left, "tracking", {"label": None})
        _blank(left, "caller", {"number": pseudonym})
        left["tracking"] = {**(left.get("tracking") or {}), "number": pseudonym}
    elif isinstance(left.get("caller"), dict):
        left["caller"]["number"] = pseudonym
    _blank(left, "attribution", _OF_VISITOR)
    _blank(left, "result", {"lead_status": None, "note": None, "tags": [], "deal": None})
    if "sip_call_id" in left:
        left["sip_call_id"] = None
    for key in ("notes", "tags", "analysis"):
        if key in left:
            left[key] = None
    return left


def without_visitors(record: Mapping[str, Any], visitor_ids: Collection[str]) -> dict[str, Any]:
    """The record, or the request for a call back, without these visitors of a web site: what they came with goes,
    source and campaign stay. Equal to `record` when it names none of them."""
    left: dict[str, Any] = copy.deepcopy(dict(record))
    if left.get("visitor_id") in visitor_ids:
        left.update(visitor_id=None, page=None)
        _blank(left, "attribution", {name: _OF_VISITOR[name] for name in _OF_VISIT})
    said = left.get("attribution")
    if not isinstance(said, dict):
        return left
    if said.get("visitor_id") in visitor_ids:
        _blank(left, "attribution", {**_OF_VISITOR, "candidates": said.get("candidates")})
    if said.get("candidates"):
        said["candidates"] = [one for one in said["candidates"] if one.get("visitor_id") not in visitor_ids]
    return left


def asks_for(data: Mapping[str, Any], number: str) -> bool:
    """Whether a request for a call back is for this number (E.164 with `+`), also where it could not be read as one."""
    written = "".join(char for char in str(data.get("number_raw") or "") if char in "0123456789")
    return data.get("number") == number or written == number.removeprefix("+")


def without_asker(data: Mapping[str, Any], pseudonym: str | None) -> dict[str, Any]:
    """A request for a call back without the person who asked: site, time and source stay. Doing it again changes
    nothing."""
    left: dict[str, Any] = copy.deepcopy(dict(data))
    personal = ("number_raw", "name", "message", "when", "page", "visitor_id")
    left.update((name, None) for name in personal if name in left)
    left["number"] = pseudonym
    _blank(left, "attribution", {"click_ids": {}, "term": None, "landing_page": None, "referrer": None})
    return left


def _blank(record: dict[str, Any], key: str, values: Mapping[str, Any]) -> None:
    part = record.get(key)
    if isinstance(part, dict):
        part.update((name, value) for name, value in values.items() if part.get(name) is not None)


def masked_line(line: bytes, digits: Collection[bytes]) -> bytes:
    """A journal line of a forgotten call, as long as before: our personal values and the person's digits, wherever
    they stand (channel names, dial strings), become `x`."""
    masked = bytearray(line)
    for match in _PERSONAL.finditer(line):
        start, end = match.span(1)
        masked[start:end] = FILLER * (end - start)
    for some in digits:
        if len(some) >= 6:
            masked = bytearray(bytes(masked).replace(some, FILLER * len(some)))
    return bytes(masked)


def names_number(line: bytes, digits: Collection[bytes]) -> bool:
    """Whether a line holds one of these numbers as a whole, not as part of a longer one."""
    return any(re.search(rb"(?<!\d)" + re.escape(some) + rb"(?!\d)", line) for some in digits)


def spellings(number: str) -> tuple[bytes, ...]:
    """How a number (E.164 with `+`) stands in the journal: its digits; `+` is no digit and may come before them."""
    return (number.removeprefix("+").encode(),) if number else ()
