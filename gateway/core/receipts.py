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

from gateway.core import calls
from gateway.core.rows import Row, in_order

VERSION = 1
MAX_ROWS = 60
"""More would be prompts of a long wait, which prove nothing about consent."""

_SHOWING_EVENTS = frozenset({"DM_IN", "DM_CONSENT"})
_SHOWING_KINDS = frozenset({"STREAM_BEGIN", "STREAM_END", "DTMF", "ANSWER"})
_APPLICATIONS = frozenset({"MixMonitor", "StopMixMonitor"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def build(
    facts: calls.CallFacts, rows: Iterable[Row], *, node: str, caller_reference: str | None = None
) -> dict[str, Any] | None:
    """The receipt of a call, None when recording was off for it. `rows` are those of the call, in any order.

    The caller's number is not in it, so that it survives an erasure: `caller_reference` is a keyed digest, if wanted.
    """
    given = facts.consent
    if given is None:
        return None
    return {
        "receipt": VERSION,
        "call_id": facts.call_id,
        "node": node,
        "caller_reference": caller_reference,
        "dialled": facts.did,
        "plan_revision": facts.plan_revision,
        "plan_source": facts.route_source,
        "call_started_at": timestamp(facts.started_at_us),
        "mode": given.mode.value,
        "region": given.region,
        "result": given.result.value,
        "recording_allowed": given.allows_recording,
        "key": given.key,
        "prompt_id": given.prompt_id,
        "prompt_version": given.version,
        "played_as": None if given.prompt_id is None else "early_media" if given.early_media else "after_answer",
        "announcement_in_recording": given.recorded_announcement and given.allows_recording,
        "at": timestamp(given.at_us),
        "rows": [_row(row) for row in showing(facts, rows)],
    }


def showing(facts: calls.CallFacts, rows: Iterable[Row]) -> list[Row]:
    """The rows that prove it, by time: the call's entry, the answer, prompts and keys on the caller's channel up to the
    consent, and every start and stop of a recording."""
    consent_us = facts.consent.at_us if facts.consent is not None else facts.started_at_us
    found = []
    for row in in_order(rows):
        own = row.unique_id == facts.unique_id
        if (
            (own and row.user_event in _SHOWING_EVENTS)
            or row.application in _APPLICATIONS
            or (own and row.kind in _SHOWING_KINDS and row.at_us <= consent_us)
        ):
            found.append(row)
    return found[:MAX_ROWS]


def canonical(document: Mapping[str, Any]) -> bytes:
    """The bytes that are signed. Raises ValueError for what has no canonical form."""
    _refuse_floats(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical form, hex: how audit rows name a receipt."""
    return hashlib.sha256(canonical(document)).hexdigest()


def contradictions(document: Mapping[str, Any], facts: calls.CallFacts, rows: Iterable[Row]) -> list[str]:
    """What a receipt says that the journal's rows do not; empty when they agree. For `recordings verify`."""
    made = build(facts, rows, node=str(document.get("node")), caller_reference=document.get("caller_reference"))
    if made is None:
        return ["the journal shows no consent for this call"]
    return [
        f"{name}: the receipt says {document.get(name)!r}, the journal {value!r}"
        for name, value in made.items()
        if name != "rows" and document.get(name) != value
    ]


def timestamp(at_us: int) -> str:
    """RFC 3339 in UTC with microseconds, so that a row can be found by it."""
    moment = _EPOCH + timedelta(microseconds=at_us)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _row(row: Row) -> dict[str, Any]:
    """Without what a caller wrote: the name, the raw number and the number itself."""
    hidden = ("cid", "raw", "name", "sip")
    data = {key: value for key, value in sorted(row.data.items()) if key not in hidden}
    return {
        "at": timestamp(row.at_us),
        "kind": row.kind,
        "event": row.user_event,
        "channel": row.channel,
        "unique_id": row.unique_id,
        "application": row.application,
        "data": data,
    }


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise ValueError("a receipt holds no floats: they have no canonical form")
    if isinstance(value, Mapping):
        for inner in value.values():
            _refuse_floats(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_floats(inner)
