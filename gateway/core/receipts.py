"""The consent receipt of a call (N3): one document that says what the caller was told, what they answered, and which
journal rows show it. Pure; `gateway.store.signatures` signs it.

Canonical form: JSON with sorted keys, no blanks, UTF-8, no floats. The signature is over exactly these bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.core import calls, consent
from gateway.core.rows import Row, in_order

VERSION = 1
TALK, MESSAGE = "talk", "message"
"""What a receipt is about: the talk of caller and agent, or a message that the caller left."""
MAX_ROWS = 60
"""More would be prompts of a long wait, which prove nothing about consent."""

_CONSENT = "DM_CONSENT"
_SHOWING_EVENTS = {TALK: frozenset({"DM_IN", "DM_OUT", "DM_PAUSE"}), MESSAGE: frozenset({"DM_IN"})}
_SHOWING_KINDS = frozenset({"STREAM_BEGIN", "STREAM_END", "DTMF", "ANSWER"})
_APPLICATIONS = frozenset({"MixMonitor", "StopMixMonitor"})
_APP_START = "APP_START"
_HIDDEN = frozenset({"cid", "raw", "name", "sip"})
"""What a caller wrote, and their number."""
_HIDDEN_OUT = _HIDDEN | {"to"}
"""Of a call-back: also whom it called."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def given(facts: calls.CallFacts, what: str) -> consent.Given | None:
    """What was asked and answered about the talk or the message."""
    return facts.consent if what == TALK else facts.message_consent


def build(
    facts: calls.CallFacts, rows: Iterable[Row], *, node: str, what: str = TALK, caller_reference: str | None = None
) -> dict[str, Any] | None:
    """The receipt of a call, None when nobody was asked about this. `rows` are those of the call, in any order.

    The caller's number is not in it, nor that of who was called back, so that it survives an erasure:
    `caller_reference` is a salted digest, if wanted.
    """
    said = given(facts, what)
    if said is None:
        return None
    return {
        "receipt": VERSION,
        "what": what,
        "call_id": facts.call_id,
        "node": node,
        "caller_reference": caller_reference,
        "dialled": None if facts.direction is calls.Direction.OUTBOUND else facts.did,
        "plan_revision": facts.plan_revision,
        "plan_source": facts.route_source,
        "call_started_at": timestamp(facts.started_at_us),
        "mode": said.mode.value,
        "region": said.region,
        "result": said.result.value,
        "recording_allowed": said.allows_recording,
        "key": said.key,
        "prompt_id": said.prompt_id,
        "prompt_version": said.version,
        "played_as": _played_as(said),
        "announcement_in_recording": said.recorded_announcement and said.allows_recording,
        "at": timestamp(said.at_us),
        "rows": [_row(row) for row in showing(facts, rows, what)],
    }


def _played_as(said: consent.Given) -> str | None:
    """None where nothing was played, although a prompt may be named: the one that failed."""
    if said.prompt_id is None or said.result is consent.Result.PROMPT_FAILED:
        return None
    return "early_media" if said.early_media else "after_answer"


def showing(facts: calls.CallFacts, rows: Iterable[Row], what: str = TALK) -> list[Row]:
    """The rows that prove it, by time: the call's entry, prompts and keys on the channel of who was asked up to the
    consent, the last ones if they are many, the consent itself, every start and stop of a recording, and what the key
    paused."""
    rows = in_order(rows)
    asked = _asked_on(facts, rows)
    said = given(facts, what)
    until_us = said.at_us if said is not None else facts.started_at_us
    before: list[Row] = []
    found: list[Row] = []
    for row in rows:
        own = row.unique_id == asked
        if ((own or row.unique_id == facts.unique_id) and _is_telling(row, what)) or (
            what == TALK and _is_recording(row)
        ):
            found.append(row)
        elif own and row.kind in _SHOWING_KINDS and row.at_us <= until_us:
            before.append(row)
    found = found[:MAX_ROWS]
    room = MAX_ROWS - len(found)
    return in_order([*found, *(before[-room:] if room else ())])


def _asked_on(facts: calls.CallFacts, rows: Iterable[Row]) -> str:
    """Of a call that comes in its own channel; of a call-back that of the customer, whom it dialled."""
    if facts.direction is not calls.Direction.OUTBOUND:
        return facts.unique_id
    return next((row.unique_id for row in rows if row.user_event == _CONSENT), facts.unique_id)


def _is_telling(row: Row, what: str) -> bool:
    if row.user_event == _CONSENT:
        return (row.data.get("w") == MESSAGE) == (what == MESSAGE)
    if row.user_event == "DM_ACT":
        return what == MESSAGE and row.data.get("a") == "voicemail"
    return row.user_event in _SHOWING_EVENTS[what]


def _is_recording(row: Row) -> bool:
    return row.kind == _APP_START and row.application in _APPLICATIONS


def canonical(document: Mapping[str, Any]) -> bytes:
    """The bytes that are signed. Raises ValueError for what has no canonical form."""
    _refuse_floats(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical form, hex: how audit rows name a receipt."""
    return hashlib.sha256(canonical(document)).hexdigest()


def contradictions(document: Mapping[str, Any], facts: calls.CallFacts, rows: Iterable[Row]) -> list[str]:
    """What a receipt says that the journal's rows do not; empty when they agree. For `recordings verify`.

    Rows may be masked where a person was erased: what names a person is not in a receipt, and channel names, which may
    hold a number, are not compared.
    """
    what = MESSAGE if document.get("what") == MESSAGE else TALK
    rows = list(rows)
    made = build(
        facts, rows, node=str(document.get("node")), what=what, caller_reference=document.get("caller_reference")
    )
    if made is None:
        return ["the journal shows no consent for this call"]
    found = [
        f"{name}: the receipt says {document.get(name)!r}, the journal {value!r}"
        for name, value in made.items()
        if name != "rows" and document.get(name) != value
    ]
    known = {_identity(_row(row)) for row in rows}
    said = document.get("rows")
    for row in said if isinstance(said, list) else [None]:
        if not isinstance(row, Mapping) or _identity(row) not in known:
            found.append(f"a row that the journal does not have: {_told(row)}")
    shown = {_identity(row) for row in said if isinstance(row, Mapping)} if isinstance(said, list) else set()
    found += [
        f"a row of the journal that the receipt does not have: {_told(row)}"
        for row in made["rows"]
        if _identity(row) not in shown
    ]
    return found


def _identity(row: Mapping[str, Any]) -> str:
    """Of a receipt's row, all but the channel's name."""
    return json.dumps({key: value for key, value in row.items() if key != "channel"}, sort_keys=True, default=str)


def _told(row: object) -> str:
    if not isinstance(row, Mapping):
        return "none"
    return " ".join(str(row.get(key, "?"))[:60] for key in ("at", "kind", "event", "application"))


def timestamp(at_us: int) -> str:
    """RFC 3339 in UTC with microseconds, so that a row can be found by it."""
    moment = _EPOCH + timedelta(microseconds=at_us)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _row(row: Row) -> dict[str, Any]:
    hidden = _HIDDEN_OUT if row.user_event == "DM_OUT" else _HIDDEN
    return {
        "at": timestamp(row.at_us),
        "kind": row.kind,
        "event": row.user_event,
        "channel": _text(row.channel),
        "unique_id": row.unique_id,
        "application": row.application,
        "data": {_text(key): _text(value) for key, value in sorted(row.data.items()) if key not in hidden},
    }


def _text(value: str) -> str:
    # A lone surrogate (`\ud800` in a row's JSON) has no canonical form, and one call must not stop all records.
    return value.encode("utf-8", "replace").decode()


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise ValueError("a receipt holds no floats: they have no canonical form")
    if isinstance(value, Mapping):
        for inner in value.values():
            _refuse_floats(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_floats(inner)
