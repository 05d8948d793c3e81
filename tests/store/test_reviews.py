"""Weekly samples and what a command found in a recording, on both engines (R29, R38, R120)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import store
from gateway.store import calls, forgetting, keyring, recordings, reviews
from tests.store import examples

NOW = examples.NOON + 3600 * examples.SECOND
KEY = keyring.Wrapped("2026", b"x" * 60)


def recording(number: int, **changes: Any) -> recordings.Recording:
    values: dict[str, Any] = {
        "recording_id": f"rec-{number}",
        "call_id": examples.call_id(number),
        "node": "node-1",
        "kind": "talk",
        "state": recordings.State.STORED,
        "started_us": examples.NOON + number * examples.SECOND,
        "duration_seconds": 60.0,
        "parts": "1",
        "audio_bytes": 1,
        "peaks_bytes": 1,
        "digest": "d",
        "created_us": NOW,
    }
    return recordings.Recording(**(values | changes))


async def store_of(database: store.Database, *made: recordings.Recording) -> None:
    async with database.begin() as tx:
        for one in made:
            await recordings.register(tx, one, KEY)


async def test_only_stored_talks_that_an_agent_answered_are_candidates(database: store.Database) -> None:
    rows = [examples.call(1), examples.call(2, agent="boris"), examples.call(3, agent=None), examples.call(4)]
    async with database.begin() as tx:
        await calls.save(tx, [*rows, examples.call(5), examples.call(6)])
    await store_of(
        database,
        *(recording(number) for number in (1, 2, 3)),
        recording(4, kind="voicemail"),
        recording(5, state=recordings.State.REFUSED),
        recording(6, started_us=NOW),
    )
    async with database.read() as connection:
        found = await reviews.candidates(connection, examples.NOON, NOW)
    assert [(one.agent, one.recording_id) for one in found] == [("anna", "rec-1"), ("boris", "rec-2")]


async def test_a_draw_is_kept_and_filled_in_once_more(database: store.Database) -> None:
    drawn = [reviews.Review(f"rec-{number}", f"call-{number}", "2026-W47", "anna", NOW + number) for number in (1, 2)]
    async with database.begin() as tx:
        await reviews.add(tx, drawn)
        assert await reviews.fill_in(tx, "rec-1", score=4, note="kind", reviewer="cli:eva", now_us=NOW + 9)
        await reviews.add(tx, [reviews.Review("rec-1", "call-1", "2026-W48", "anna", NOW + 99)])
        assert not await reviews.fill_in(tx, "rec-9", score=4, note=None, reviewer="cli:eva", now_us=NOW)
        with pytest.raises(ValueError, match="1 to 5"):
            await reviews.fill_in(tx, "rec-1", score=6, note=None, reviewer="cli:eva", now_us=NOW)
    async with database.read() as connection:
        first, second = await reviews.of_week(connection, "2026-W47", agent="anna")
        assert await reviews.of_week(connection, "2026-W48") == []
        assert (await reviews.of_recordings(connection, ["rec-2", "rec-3"])) == {"rec-2": second}
        assert await reviews.get(connection, "rec-1") == first
    assert (first.score, first.note, first.reviewer, first.reviewed_us) == (4, "kind", "cli:eva", NOW + 9)
    assert second == drawn[1]


async def test_each_recording_is_analysed_once_even_when_nothing_came_of_it(database: store.Database) -> None:
    await store_of(database, recording(1), recording(2), recording(3, state=recordings.State.REFUSED), recording(4))
    async with database.begin() as tx:
        assert await recordings.set_analysis(tx, "rec-1", '{"mood":"good"}', now_us=NOW)
        assert await recordings.set_analysis(tx, "rec-2", None, now_us=NOW)
        assert not await recordings.set_analysis(tx, "rec-3", "{}", now_us=NOW)
        left = await recordings.to_analyse(tx, examples.NOON)
        known = await recordings.get(tx, "rec-1")
    assert [one.recording_id for one in left] == ["rec-4"]
    assert known is not None
    assert (known.analysis, known.analysed_us) == ('{"mood":"good"}', NOW)


@pytest.mark.parametrize("how", ["shredded", "forgotten"])
async def test_words_about_a_talk_go_with_it(database: store.Database, how: str) -> None:
    """N14, N10: analysis and notes hold what was said, so neither outlives recording or person; a hold keeps them."""
    row = examples.call(1)
    await store_of(database, recording(1), recording(2, call_id=row.call_id, held_us=NOW))
    async with database.begin() as tx:
        await calls.save(tx, [row])
        for name in ("rec-1", "rec-2"):
            await recordings.set_analysis(tx, name, "{}", now_us=NOW)
            await reviews.add(tx, [reviews.Review(name, row.call_id, "2026-W47", "anna", NOW)])
            await reviews.fill_in(tx, name, score=2, note="spoke of illness", reviewer="cli:eva", now_us=NOW)
    async with database.begin() as tx:
        if how == "shredded":
            await recordings.shred(tx, ["rec-1", "rec-2"], now_us=NOW)
        else:
            await forgetting.forget(tx, [row], "erased-1", why=forgetting.ERASURE, now_us=NOW)
        known = [await recordings.get(tx, name) for name in ("rec-1", "rec-2")]
        judged = await reviews.of_recordings(tx, ["rec-1", "rec-2"])
    assert [one and one.analysis for one in known] == [None, "{}"]
    assert [judged[name].note for name in ("rec-1", "rec-2")] == [None, "spoke of illness"]
    assert judged["rec-1"].score == 2
