"""Records as they are read: the stored document, with what is known of its recordings and receipts by now.

Recordings come into being, are analysed, reviewed and shredded after the record was written, so they are looked up when
it is read. Events carry the record as it was filed: there both lists are empty. So is what was said about the call
looked up, which events carry too; each change of it counts as a revision.

    "result": what was said about the call afterwards, null where nobody said anything
    "recordings": [{recording_id, kind, state, started_at, duration_seconds, audio_url, peaks_url, analysis, review}]
    "receipts":   [{what, digest, key_id, signed}]
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from gateway import store
from gateway.core import records
from gateway.store import calls, recordings, results, reviews
from gateway.store import receipts as receipts_

EMPTY = ',"recordings":[],"receipts":[]}'
"""How a stored record ends."""
API = "/api/v1/recordings"


async def documents(connection: store.Connection, rows: Sequence[calls.CallRow]) -> list[dict[str, Any]]:
    """The whole records of these calls, in their order."""
    return [json.loads(text) for text in await texts(connection, rows)]


async def texts(connection: store.Connection, rows: Sequence[calls.CallRow]) -> list[str]:
    """The same as JSON texts; of a call without recordings the stored text and its result, which are not parsed."""
    found = await _found(connection, rows)
    said = await results.of_calls(connection, [row.call_id for row in rows])
    return [
        _text(results.with_result(row.record, row.revision, said.get(row.call_id)), found.get(row.call_id))
        for row in rows
    ]


async def export(database: store.Database, asked: calls.CallFilter) -> AsyncIterator[str]:
    """All matching records as JSON texts, newest first, page by page in memory."""
    after: calls.Cursor | None = None
    while True:
        async with database.read() as connection:
            page = await calls.list_calls(connection, asked, after=after, limit=calls.PAGE_SIZE)
            found = await texts(connection, page.calls)
        for text in found:
            yield text
        if (after := page.next) is None:
            return


def _text(record: str, found: Mapping[str, Any] | None) -> str:
    if record.endswith(EMPTY):
        return record if found is None else f"{record[: -len(EMPTY)]},{_json(found)[1:]}"
    return _json({**json.loads(record), "recordings": [], "receipts": [], **(found or {})})


async def _found(connection: store.Connection, rows: Sequence[calls.CallRow]) -> dict[str, dict[str, Any]]:
    """What there is, by call id: both keys, or no entry at all."""
    ids = [row.call_id for row in rows]
    made = await recordings.of_calls(connection, ids)
    signed = await receipts_.of_calls(connection, ids)
    judged = await reviews.of_recordings(connection, [one.recording_id for one in made]) if made else {}
    found: dict[str, dict[str, Any]] = {}
    for one in made:
        entry = found.setdefault(one.call_id, {"recordings": [], "receipts": []})
        entry["recordings"].append(_recording(one, judged.get(one.recording_id)))
    for (call_id, _), receipt in signed.items():
        entry = found.setdefault(call_id, {"recordings": [], "receipts": []})
        entry["receipts"].append(_receipt(receipt))
    return found


def _recording(one: recordings.Recording, review: reviews.Review | None) -> dict[str, Any]:
    is_playable = one.state is recordings.State.STORED
    return {
        "recording_id": one.recording_id,
        "kind": one.kind,
        "state": one.state.value,
        "started_at": records.timestamp(one.started_us),
        "duration_seconds": one.duration_seconds,
        "audio_url": f"{API}/{one.recording_id}/audio" if is_playable else None,
        "peaks_url": f"{API}/{one.recording_id}/peaks" if is_playable else None,
        "analysis": json.loads(one.analysis) if one.analysis else None,
        "review": None if review is None else _review(review),
    }


def _review(review: reviews.Review) -> dict[str, Any]:
    return {
        "week": review.week,
        "agent": review.agent,
        "score": review.score,
        "note": review.note,
        "reviewer": review.reviewer,
        "reviewed_at": records.timestamp(review.reviewed_us),
    }


def _receipt(one: receipts_.Signed) -> dict[str, Any]:
    return {
        "what": one.what,
        "digest": one.digest,
        "key_id": one.key_id,
        "signed": records.timestamp(one.created_us),
    }


_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
