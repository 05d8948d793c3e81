"""Retention shows first, quarantines, then shreds; holds win; counts stay (R34, R39, N10)."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from gateway import store
from gateway.core import records
from gateway.core import retention as rules
from gateway.services import retention
from gateway.store import audit, calls, forgetting, keyring, profiles, recordings, vault
from tests.store import examples
from tests.web import material

RING = keyring.parse(keyring.new_line("2026-11"))
DAY = 86_400 * examples.SECOND
NOW = examples.NOON


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[store.Database]:
    opened = await store.Database.open(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def places(tmp_path: Path) -> retention.Places:
    return retention.Places(tmp_path / "vault", tmp_path / "archive")


async def keep(
    database: store.Database, places: retention.Places, number: int, *, age_days: int, **changes: object
) -> recordings.Recording:
    """A stored recording of call `number`, with a file and a record."""
    started_us = NOW - age_days * DAY
    made = recordings.Recording(
        recording_id=examples.call_id(1000 + number),
        call_id=examples.call_id(number),
        node="main",
        kind="talk",
        state=recordings.State.STORED,
        started_us=started_us,
        duration_seconds=1.0,
        parts="1",
        audio_bytes=4,
        peaks_bytes=0,
        digest="",
        created_us=started_us,
    )
    given = {name: changes.pop(name) for name in ("state", "why") if name in changes}
    for name, value in given.items():
        object.__setattr__(made, name, value)
    key = vault.new_key()
    vault.write(vault.file_of(places.vault, made.recording_id, started_us), key, made.recording_id, [b"talk"])
    async with database.begin() as tx:
        await calls.save(tx, [examples.call(number, started_us=started_us, **changes)])
        await recordings.register(tx, made, RING.wrap(key, recordings.subject(made.recording_id)))
    return made


def policy(*texts: str, **changes: int) -> retention.Policy:
    return retention.Policy(rules.rules(180, texts), **changes)


async def state_of(database: store.Database, made: recordings.Recording) -> recordings.State:
    async with database.read() as connection:
        found = await recordings.get(connection, made.recording_id)
    assert found is not None
    return found.state


async def test_a_recording_is_shown_then_condemned_then_shredded(
    database: store.Database, places: retention.Places
) -> None:
    old = await keep(database, places, 1, age_days=181)
    young = await keep(database, places, 2, age_days=179)
    shown = await retention.preview(database, policy(), places, NOW)
    assert [(due.name, due.action, due.why) for due in shown] == [
        (old.recording_id, "condemn", "older than 180 days (rule */*=180)")
    ]
    assert await state_of(database, old) == recordings.State.STORED
    done = await retention.run(database, policy(), places, now_us=NOW, actor="cli:anna")
    assert (done.condemned, done.shredded) == (1, 0)
    assert await state_of(database, old) == recordings.State.CONDEMNED
    path = vault.file_of(places.vault, old.recording_id, old.started_us)
    assert path.exists()
    later = NOW + 15 * DAY
    shown = await retention.preview(database, policy(), places, later)
    assert {(due.name, due.action) for due in shown} >= {(old.recording_id, "shred"), (young.recording_id, "condemn")}
    done = await retention.run(database, policy(), places, now_us=later, actor="cli:anna")
    assert (done.shredded, done.condemned) == (1, 1)
    assert await state_of(database, old) == recordings.State.SHREDDED
    async with database.read() as connection:
        assert await recordings.key_of(connection, old.recording_id) is None
        actions = [entry.action for entry in await audit.entries(connection)]
    assert actions == ["retention.run", "recording.shredded", "retention.run"]
    assert not path.exists()
    assert (await audit.verify(database)).is_whole


async def test_what_is_condemned_can_be_restored_until_the_grace_is_over(
    database: store.Database, places: retention.Places
) -> None:
    old = await keep(database, places, 1, age_days=200)
    await retention.run(database, policy(), places, now_us=NOW, actor="a")
    async with database.begin() as tx:
        assert await recordings.restore(tx, old.recording_id)
        assert not await recordings.restore(tx, old.recording_id)
    assert await state_of(database, old) == recordings.State.STORED


async def test_the_most_exact_rule_counts(database: store.Database, places: retention.Places) -> None:
    for number, (route, outcome) in enumerate(
        [("sales", "answered"), ("sales", "voicemail"), ("help", "voicemail"), ("help", "answered")]
    ):
        await keep(database, places, number, age_days=100, route=route, outcome=outcome)
    rule = policy("sales/*=90", "*/voicemail=30", "sales/voicemail=365")
    shown = await retention.preview(database, rule, places, NOW)
    assert [(due.name, due.why) for due in shown] == [
        (examples.call_id(1000), "older than 90 days (rule sales/*=90)"),
        (examples.call_id(1002), "older than 30 days (rule */voicemail=30)"),
    ]


async def test_a_legal_hold_keeps_it_and_says_so(database: store.Database, places: retention.Places) -> None:
    old = await keep(database, places, 1, age_days=400)
    async with database.begin() as tx:
        assert await recordings.hold(tx, old.recording_id, why="case 12", now_us=NOW)
    assert [due.action for due in await retention.preview(database, policy(), places, NOW)] == ["keep"]
    done = await retention.run(database, policy(), places, now_us=NOW, actor="a")
    assert (done.condemned, done.held) == (0, 1)
    async with database.begin() as tx:
        assert await recordings.shred(tx, [old.recording_id], now_us=NOW) == []
        assert await recordings.release(tx, old.recording_id)
        assert not await recordings.release(tx, old.recording_id)
    assert (await retention.run(database, policy(), places, now_us=NOW, actor="a")).condemned == 1


async def test_a_hold_on_a_condemned_recording_brings_it_back(
    database: store.Database, places: retention.Places
) -> None:
    old = await keep(database, places, 1, age_days=400)
    await retention.run(database, policy(), places, now_us=NOW, actor="a")
    async with database.begin() as tx:
        assert await recordings.hold(tx, old.recording_id, why="case", now_us=NOW)
    assert await state_of(database, old) == recordings.State.STORED


async def test_refused_sound_goes_after_its_days(database: store.Database, places: retention.Places) -> None:
    refused = await keep(database, places, 1, age_days=15, state=recordings.State.REFUSED, why="consent refused")
    assert [due.action for due in await retention.preview(database, policy(), places, NOW)] == ["shred"]
    await retention.run(database, policy(), places, now_us=NOW, actor="a")
    assert await state_of(database, refused) == recordings.State.SHREDDED


async def test_old_calls_lose_their_person_and_still_count(database: store.Database, places: retention.Places) -> None:
    document = material.record(started_at=material.NOW, attempts=[("sales-desk", "answered")], outcome="answered")
    old_us = rules.months_before(NOW, 25) - DAY
    row = examples.call(1, started_us=old_us, record=json.dumps(document), sip_call_id="x@1.2.3.4")
    async with database.begin() as tx:
        await calls.save(tx, [row, examples.call(2, started_us=NOW - DAY)])
    (due,) = await retention.preview(database, policy(), places, NOW)
    assert (due.what, due.count, due.action) == ("calls", 1, "forget")
    assert (await retention.run(database, policy(), places, now_us=NOW, actor="a")).forgotten == 1
    assert (await retention.run(database, policy(), places, now_us=NOW, actor="a")).forgotten == 0
    async with database.read() as connection:
        left = await calls.get(connection, row.call_id)
        assert sum((await calls.count_by_day(connection, calls.CallFilter())).values()) == 2
        assert not await forgetting.is_forgotten(connection, row.call_id)
    assert left is not None
    assert (left.caller, left.sip_call_id, left.outcome, left.source) == (None, None, "answered", "google-ads")
    assert material.CALLER[1:] not in left.record


async def test_attributes_of_callers_who_do_not_call_any_more_go(
    database: store.Database, places: retention.Places
) -> None:
    """R89, N14: they are kept as long as a call may name the caller."""
    old_us = rules.months_before(NOW, 25) - DAY
    async with database.begin() as tx:
        await profiles.keep(tx, "+74951234567", "hubspot:main", {"age": "41"}, now_us=old_us)
        await profiles.keep(tx, "+79160000000", "hubspot:main", {"age": "30"}, now_us=NOW - DAY)
    (due,) = await retention.preview(database, policy(), places, NOW)
    assert (due.what, due.count, due.action) == ("attributes", 1, "delete")
    assert (await retention.run(database, policy(), places, now_us=NOW, actor="a")).attributes == 1
    async with database.read() as connection:
        left = await profiles.of_callers(connection, ["+74951234567", "+79160000000"])
    assert [one.value for one in left] == ["30"]


async def test_archives_and_audit_rows_go_by_age(database: store.Database, places: retention.Places) -> None:
    places.archive.mkdir()
    old = places.archive / f"journal-{NOW - 90 * DAY:016d}-{'0' * 32}.csv.gz"
    old.write_bytes(b"x" * 30)
    os.utime(old, ns=((NOW - 15 * DAY) * 1000,) * 2)
    async with database.begin() as tx:
        await audit.append(tx, at_us=rules.months_before(NOW, 36) - DAY, actor="a", action="old", subject="s")
    assert {due.what for due in await retention.preview(database, policy(), places, NOW)} == {"archive", "audit"}
    done = await retention.run(database, policy(), places, now_us=NOW, actor="a")
    assert (done.archives, done.audit_rows, old.exists()) == (1, 1, False)
    assert (await audit.verify(database)).is_whole


def test_rules_are_refused_with_a_reason() -> None:
    for text, why in [
        ("sales", "write ROUTE/OUTCOME=DAYS"),
        ("sales/none=5", "is not an outcome"),
        ("sales/answered=0", "1 to 36500"),
    ]:
        with pytest.raises(ValueError, match=why):
            rules.parse_rule(text)
    with pytest.raises(ValueError, match="two rules"):
        rules.rules(1, ["a/*=1", "a/*=2"])


def test_months_are_calendar_months() -> None:
    def months(text: str, count: int) -> str | None:
        at_us = int(datetime.fromisoformat(text).timestamp()) * 1_000_000
        return records.timestamp(rules.months_before(at_us, count))

    assert months("2026-03-31T12:00:00+00:00", 1) == "2026-02-28T12:00:00.000Z"
    assert months("2026-01-15T00:00:00+00:00", 25) == "2023-12-15T00:00:00.000Z"
