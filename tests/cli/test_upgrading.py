"""A house that upgrades: what the last release stored is neither changed nor told again (N1, R62)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import sqlalchemy as sa

from gateway import store
from tests import last_release, told
from tests.cli.conftest import ROUTING, Operator


@pytest.fixture
def upgraded(operator: Operator, database_url: str) -> Operator:
    """An operator on a database that the last release filled, with the journal it was filled from."""

    async def migrate() -> None:
        await (await store.Database.open(database_url)).close()

    last_release.make(database_url)
    asyncio.run(migrate())
    operator.use(database_url)
    operator.write_journal(*last_release.JOURNALS)
    return operator


@pytest.fixture
def asked(database_url: str) -> Any:
    """Answers of the database itself, as lists of rows."""
    engine = sa.create_engine(database_url.replace("+aiosqlite", ""))

    def ask(query: str) -> list[tuple[Any, ...]]:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]

    yield ask
    engine.dispose()


def test_records_of_the_last_release_are_the_same(upgraded: Operator, asked: Any) -> None:
    """Fields that came with this release say nothing of old calls, and nothing is no change."""
    count = len(last_release.JOURNALS)
    before = len(last_release.STORED["events"])
    assert f"0 new, 0 changed, {count} same" in upgraded("replay", "--write").out
    assert upgraded("verify").lines[0].startswith(f"0 of {count} missing, 0 doubled, 0 invented")
    assert asked("SELECT count(*) FROM events") == [(before,)]
    assert asked("SELECT call_id, record FROM calls ORDER BY call_id") == [
        (row["call_id"], row["record"]) for row in sorted(last_release.STORED["calls"], key=lambda row: row["call_id"])
    ]


def test_a_daemon_that_lost_its_place_tells_nothing_again(upgraded: Operator, asked: Any) -> None:
    """The whole journal is read once more: no event, no ticket of a call that was missed before there were any."""
    before = [(row["event_id"],) for row in last_release.STORED["events"]]
    upgraded.track()
    assert asked("SELECT event_id FROM events ORDER BY seq") == before
    assert asked("SELECT count(*) FROM tickets") == [(0,)]
    assert asked("SELECT max(revision) FROM calls") == [(max(row["revision"] for row in last_release.STORED["calls"]),)]


def test_migrating_keeps_every_row(upgraded: Operator, asked: Any) -> None:
    upgraded("calls", "list")
    for table in last_release.TABLES:
        assert asked(f"SELECT count(*) FROM {table}") == [(len(last_release.STORED[table]),)], table
    waiting = [row for row in last_release.STORED["deliveries"] if row["due_us"] is not None]
    assert waiting
    found = asked(
        "SELECT seq, target, due_us, attempts, is_unsure FROM deliveries WHERE due_us IS NOT NULL ORDER BY 1, 2"
    )
    assert [tuple(row) for row in found] == [
        (row["seq"], row["target"], row["due_us"], row["attempts"], False) for row in waiting
    ]


def test_old_records_are_read_everywhere(upgraded: Operator) -> None:
    """A field that a record does not have is read as null."""
    for row in last_release.STORED["calls"]:
        document = upgraded("calls", "show", row["call_id"], "--format", "json").json
        assert document.items() >= json.loads(row["record"]).items()
        upgraded("calls", "show", row["call_id"])
    for arguments in (
        ("calls", "list"),
        ("calls", "export"),
        ("calls", "export", "--format", "csv"),
        ("report", "sources", "--from", "2026-11-01", "--to", "2026-11-30"),
        ("tickets", "list"),
    ):
        upgraded(*arguments)


def test_an_old_call_gets_a_result_and_new_rules(upgraded: Operator, asked: Any) -> None:
    """What is told of it then is as the schema of this release says (R14, R61)."""
    call_id = next(row["call_id"] for row in last_release.STORED["calls"] if row["outcome"] == "answered")
    path = upgraded.folder / "won.csv"
    path.write_text(f"call_id,qualified\n{call_id},true\n")
    upgraded("deals", "import", path)
    ((payload,),) = asked("SELECT payload FROM events WHERE type = 'call.updated'")
    assert told.problems(json.loads(payload)) == []
    rules = upgraded.folder / "rules.toml"
    rules.write_text(ROUTING + '[[rule]]\nkey = "talked"\nmin_talk_seconds = 1\nscore = 5\n')
    assert call_id[:8] in upgraded("rules", "try", rules, "--since", "2026-11-01").out
