"""Records as they are read, with recordings and receipts (R17, N3), on both engines."""

from __future__ import annotations

import json

from gateway import store
from gateway.core import records
from gateway.store import calls, joined, receipts, recordings, reviews
from tests import journals
from tests.store import examples
from tests.store.test_reviews import NOW, recording, store_of


def stored_text() -> str:
    document = records.record(journals.facts("answered_caller_ends"), None, revision=1, calls_before=0, node="node-1")
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


async def test_recordings_and_receipts_stand_in_the_record_that_is_read(database: store.Database) -> None:
    rows = [examples.call(number, record=stored_text()) for number in (1, 2)]
    rows.append(examples.call(3, record='{"call_id":"before recordings"}'))
    await store_of(
        database,
        recording(1, started_us=NOW),
        recording(3, call_id=rows[0].call_id, state=recordings.State.REFUSED, started_us=NOW - 1),
        recording(4, call_id=rows[2].call_id),
    )
    signed = receipts.Signed(rows[0].call_id, "talk", "{}", "c2ln", "0123456789abcdef", NOW)
    async with database.begin() as tx:
        await calls.save(tx, rows)
        await receipts.keep(tx, [signed])
        await recordings.set_analysis(tx, "rec-1", '{"mood":"good"}', now_us=NOW)
        await reviews.add(tx, [reviews.Review("rec-1", rows[0].call_id, "2026-W47", "anna", NOW)])
        await reviews.fill_in(tx, "rec-1", score=4, note="kind", reviewer="cli:eva", now_us=NOW)
    async with database.read() as connection:
        documents = await joined.documents(connection, rows)
        texts = await joined.texts(connection, rows)
    assert [json.loads(text) for text in texts] == documents
    refused, talk = documents[0]["recordings"]
    assert (refused["state"], refused["audio_url"], refused["analysis"], refused["review"]) == ("refused", *[None] * 3)
    assert talk == {
        "recording_id": "rec-1",
        "kind": "talk",
        "state": "stored",
        "started_at": records.timestamp(NOW),
        "duration_seconds": 60.0,
        "audio_url": "/api/v1/recordings/rec-1/audio",
        "peaks_url": "/api/v1/recordings/rec-1/peaks",
        "analysis": {"mood": "good"},
        "review": {
            "week": "2026-W47",
            "agent": "anna",
            "score": 4,
            "note": "kind",
            "reviewer": "cli:eva",
            "reviewed_at": records.timestamp(NOW),
        },
    }
    assert documents[0]["receipts"] == [
        {"what": "talk", "digest": signed.digest, "key_id": "0123456789abcdef", "signed": records.timestamp(NOW)}
    ]
    assert {key: value for key, value in documents[0].items() if key not in ("recordings", "receipts")} == {
        key: value
        for key, value in {**json.loads(stored_text()), "result": None}.items()
        if key not in ("recordings", "receipts")
    }
    bare = f'{stored_text()[: -len(joined.EMPTY)]},"result":null{joined.EMPTY}'
    assert texts[1] == bare, "nothing to add: the stored text as it is"
    assert len(documents[2]["recordings"]) == 1
    assert documents[2]["receipts"] == []


async def test_a_receipt_that_changes_keeps_its_salt_and_never_gets_a_lost_one_back(database: store.Database) -> None:
    first = receipts.Signed("c", "talk", "{}", "s", "k", NOW, salt="grain")
    async with database.begin() as tx:
        await receipts.keep(tx, [first, receipts.Signed("c", "message", "{}", "s", "k", NOW)])
        await receipts.keep(tx, [receipts.Signed("c", "talk", '{"a":1}', "t", "l", NOW + 1, salt="other")])
        assert await receipts.get(tx, "c", "talk") == receipts.Signed(
            "c", "talk", '{"a":1}', "t", "l", NOW + 1, "grain"
        )
        assert list(await receipts.of_calls(tx, ["c"])) == [("c", "talk"), ("c", "message")]
        page = await receipts.page(tx, limit=1)
        assert [one.what for one in [*page, *await receipts.page(tx, page[0])]] == ["message", "talk"]
