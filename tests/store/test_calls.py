"""Call rows: saving again, pages, and the history that routing asks for."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event as sa_event
from sqlalchemy import text

from gateway import store
from gateway.core import calls as core_calls
from gateway.store import calls
from tests.store import examples
from tests.store.examples import NOON, SECOND, attempt, call, call_id


async def save(database: store.Database, *rows: calls.CallRow) -> None:
    async with database.begin() as tx:
        await calls.save(tx, rows)


async def listed(database: store.Database, **conditions: Any) -> list[str]:
    async with database.read() as connection:
        page = await calls.list_calls(connection, calls.CallFilter(**conditions), limit=1000)
    return [row.call_id for row in page.calls]


async def test_a_call_comes_back_as_it_was_saved(database: store.Database) -> None:
    full = call(
        1,
        trunk="carrier-a",
        route_source="agi",
        plan_revision=7,
        caller_country="RU",
        caller_region="Москва",
        campaign="spring",
        cause="limit",
        missed=True,
        ended_by="caller",
        wait_seconds=1.25,
        ring_seconds=2.5,
        hold_seconds=0.125,
        calls_before=3,
        score=70,
        sip_call_id="abc@host",
        attempts=(attempt(accepted=False, whisper_played=True), attempt(step=2, outcome=None, ended_us=None)),
    )
    assert all(getattr(full, field.name) is not None for field in dataclasses.fields(full))
    bare = calls.CallRow(
        call_id=call_id(2),
        node="n",
        revision=1,
        direction="outbound",
        state="open",
        started_us=1,
        last_row_us=1,
        day_local=19700101,
        hour_local=3,
        site="clinic",
        did="+7",
        linked_id="1.1",
        unique_id="1.1",
        content_hash="",
        record="{}",
        updated_us=1,
    )
    await save(database, full, bare)
    async with database.read() as connection:
        assert await calls.get(connection, full.call_id) == dataclasses.replace(full, attempts=())
        assert await calls.attempts(connection, full.call_id) == list(full.attempts)
        assert await calls.get(connection, bare.call_id) == bare
        assert await calls.attempts(connection, bare.call_id) == []
        assert await calls.get(connection, "nobody") is None


async def test_enums_are_stored_as_their_values(database: store.Database) -> None:
    await save(database, call(1, outcome=core_calls.Outcome.NO_ANSWER, direction=core_calls.Direction.INBOUND))
    assert await listed(database, outcomes=frozenset({"no_answer"})) == [call_id(1)]


async def test_saving_again_doubles_nothing(database: store.Database) -> None:
    for _ in range(3):
        await save(database, call(1), call(2))
    assert await listed(database) == [call_id(2), call_id(1)]
    async with database.read() as connection:
        assert len(await calls.attempts(connection, call_id(1))) == 1


async def test_a_later_state_replaces_the_earlier(database: store.Database) -> None:
    ringing = call(1, state="open", outcome=None, attempts=(attempt(outcome=None, answered_us=None, ended_us=None),))
    await save(database, ringing)
    over = call(1, revision=2, attempts=(attempt(outcome="busy"), attempt(step=2, destination="desk-2")))
    await save(database, over)
    async with database.read() as connection:
        assert await calls.get(connection, call_id(1)) == dataclasses.replace(over, attempts=())
        assert await calls.attempts(connection, call_id(1)) == list(over.attempts)
    await save(database, call(1, attempts=()))
    async with database.read() as connection:
        assert await calls.attempts(connection, call_id(1)) == []


async def test_unchanged_attempts_are_not_written_again(database: store.Database) -> None:
    await save(database, call(1, state="open"))
    statements: list[str] = []
    async with database.begin() as tx:

        def note(*arguments: object) -> None:
            statements.append(str(arguments[2]))

        sa_event.listen(tx.sync_connection, "before_cursor_execute", note)
        await calls.save(tx, [call(1, talk_seconds=3.0)])
    assert statements
    assert not any("attempts (" in statement or "FROM attempts" in statement for statement in statements)


async def test_a_batch_may_be_larger_than_an_engine_takes_parameters(database: store.Database) -> None:
    rows = [call(number, attempts=()) for number in range(2500)]
    await save(database, *rows)
    async with database.read() as connection:
        known = await calls.saved(connection, [row.call_id for row in rows])
        days = await calls.count_by_day(connection, calls.CallFilter())
        since = await calls.count_by_day(connection, calls.CallFilter(since_us=NOON + 2000 * SECOND))
    assert len(known) == 2500
    assert days == {20260921: 2500}
    assert since == {20260921: 500}


async def test_it_says_what_is_stored_already(database: store.Database) -> None:
    """The tracker raises the revision only when the content changed, and announces each event once."""
    await save(database, call(1, revision=4, content_hash="abc", calls_before=2))
    async with database.read() as connection:
        known = await calls.saved(connection, [call_id(1), call_id(2)])
    announced = frozenset({"call.started", "call.answered"})
    assert known == {call_id(1): calls.Saved(4, "abc", announced, "closed", 2)}


async def test_pages_lose_and_double_nothing_while_calls_come(database: store.Database) -> None:
    """Ten calls of one second: the id decides."""
    await save(database, *(call(number, started_us=NOON) for number in range(10)))
    expected = sorted((call_id(number) for number in range(10)), reverse=True)
    seen: list[str] = []
    after: calls.Cursor | None = None
    for number in range(10, 14):
        async with database.read() as connection:
            page = await calls.list_calls(connection, calls.CallFilter(), after=after, limit=3)
        seen += [row.call_id for row in page.calls]
        after = page.next
        await save(database, call(number, started_us=NOON + number * SECOND))
    assert seen == expected
    assert after is None


async def test_a_page_that_is_exactly_full_is_the_last(database: store.Database) -> None:
    await save(database, call(1), call(2))
    async with database.read() as connection:
        page = await calls.list_calls(connection, calls.CallFilter(), limit=2)
        empty = await calls.list_calls(connection, calls.CallFilter(site="other"), limit=2)
    assert len(page.calls) == 2
    assert page.next is None
    assert empty == calls.Page((), None)


async def test_export_gives_all_pages(database: store.Database) -> None:
    await save(database, *(call(number) for number in range(25)))
    exported = [row async for row in calls.export(database, calls.CallFilter(), page_size=10)]
    assert [row.call_id for row in exported] == [call_id(number) for number in range(24, -1, -1)]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [3, 2, 1]),
        ({"since_us": NOON + 2 * SECOND}, [3, 2]),
        ({"until_us": NOON + 2 * SECOND}, [1]),
        ({"direction": "outbound"}, [3]),
        ({"state": "open"}, [2]),
        ({"state": "closed"}, [3, 1]),
        ({"outcomes": frozenset({"busy"})}, [2]),
        ({"outcomes": frozenset({"busy", "answered"})}, [3, 2, 1]),
        ({"outcomes": frozenset()}, []),
        ({"missed": True}, [2]),
        ({"missed": False}, [3, 1]),
        ({"site": "clinic", "route": "sales"}, [3, 2, 1]),
        ({"source": "radio"}, [2]),
        ({"campaign": "spring"}, [2]),
        ({"did": "+74990000002"}, [2]),
        ({"caller": "+1"}, [2]),
        ({"agent": "boris"}, [3]),
        ({"node": "node-2"}, [3]),
    ],
)
async def test_each_condition_of_the_filter(
    database: store.Database, conditions: dict[str, object], expected: list[int]
) -> None:
    second = call(
        2,
        state="open",
        outcome="busy",
        missed=True,
        source="radio",
        campaign="spring",
        did="+74990000002",
        caller="+1",
    )
    await save(database, call(1), second, call(3, direction="outbound", agent="boris", node="node-2"))
    assert await listed(database, **conditions) == [call_id(number) for number in expected]


async def test_live_calls_are_those_that_are_open(database: store.Database) -> None:
    await save(database, call(3, state="open"), call(1, state="open", node="node-2"), call(2))
    async with database.read() as connection:
        assert [row.call_id for row in await calls.live(connection)] == [call_id(1), call_id(3)]
        assert [row.call_id for row in await calls.live(connection, node="node-2")] == [call_id(1)]


@pytest.mark.parametrize(
    ("conditions", "plan"),
    [
        ({"state": "open"}, "SCAN calls USING INDEX ix_calls_open"),
        ({}, "SCAN calls USING INDEX ix_calls_started"),
        ({"since_us": 1}, "SEARCH calls USING INDEX ix_calls_started"),
        ({"caller": "+1"}, "SEARCH calls USING INDEX ix_calls_caller"),
        ({"did": "+1"}, "SEARCH calls USING INDEX ix_calls_did"),
        ({"outcomes": frozenset({"busy"})}, "SEARCH calls USING INDEX ix_calls_outcome"),
        ({"outcomes": frozenset({"busy", "failed"})}, "SCAN calls USING INDEX ix_calls_started"),
    ],
)
async def test_lists_are_read_by_an_index_in_their_order(
    sqlite_url: str, conditions: dict[str, Any], plan: str
) -> None:
    """The table may hold millions, and SQLite has no statistics that would tell it what to do."""
    database = await store.Database.open(sqlite_url)
    asked: list[str] = []

    def note(*arguments: object) -> None:
        asked.append(str(arguments[2]))

    async with database.read() as connection:
        sa_event.listen(connection.sync_connection, "before_cursor_execute", note)
        await calls.list_calls(connection, calls.CallFilter(**conditions))
        (query,) = asked
        values = ("x",) * query.count("?")
        explained = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values)
        plans = [str(row.detail) for row in explained]
    await database.close()
    assert plans[0].startswith(plan)
    assert plans[1:] in ([], ["USE TEMP B-TREE FOR RIGHT PART OF ORDER BY"])


async def test_first_and_repeat_callers(database: store.Database) -> None:
    """R71, R111: earlier inbound calls of the same number, whatever became of them."""
    await save(database, call(1), call(2, outcome="busy"), call(3, direction="outbound"), call(4, caller="+1"))
    async with database.read() as connection:
        assert await calls.calls_before(connection, "+79161234567", NOON + 1 * SECOND) == 0
        assert await calls.calls_before(connection, "+79161234567", NOON + 2 * SECOND) == 1
        assert await calls.calls_before(connection, "+79161234567", NOON + 9 * SECOND) == 2
        assert await calls.calls_before(connection, "+2", NOON + 9 * SECOND) == 0


async def test_the_history_of_a_batch_counts_the_batch_itself(database: store.Database) -> None:
    await save(database, call(1), call(2), call(3, direction="outbound"))
    me, other = "+79161234567", "+1"
    asked = [
        calls.Question(call_id(6), me, NOON + 6 * SECOND),
        calls.Question(call_id(2), me, NOON + 2 * SECOND),
        calls.Question(call_id(5), other, NOON + 5 * SECOND),
        calls.Question(call_id(4), me, NOON + 4 * SECOND),
    ]
    async with database.read() as connection:
        counted = await calls.history_of_callers(connection, asked)
        assert await calls.history_of_callers(connection, []) == {}
    assert counted == {call_id(2): 1, call_id(4): 2, call_id(5): 0, call_id(6): 3}


async def test_calls_of_the_same_microsecond_have_an_order(database: store.Database) -> None:
    first, second = sorted((call_id(1), call_id(2)))
    same = [calls.Question(one, "+1", NOON) for one in (second, first)]
    async with database.read() as connection:
        assert await calls.history_of_callers(connection, same) == {first: 0, second: 1}
    await save(database, call(1, started_us=NOON, caller="+1"), call(2, started_us=NOON, caller="+1"))
    async with database.read() as connection:
        for question in same:
            assert await calls.history_of_callers(connection, [question]) == {
                question.call_id: 0 if question.call_id == first else 1
            }


async def test_hostile_callers_are_only_data(database: store.Database) -> None:
    hostile = "'; DROP TABLE calls; --\"]\\"
    await save(database, call(1, caller=hostile))
    async with database.read() as connection:
        question = calls.Question(call_id(2), hostile, NOON + 60 * SECOND)
        assert await calls.history_of_callers(connection, [question]) == {call_id(2): 1}
        assert await calls.idle_since(connection, [hostile]) == {hostile: calls.Idle(None, False)}


async def test_the_agent_who_last_answered(database: store.Database) -> None:
    """R72."""
    await save(
        database,
        call(1, agent="anna"),
        call(2, agent="boris"),
        call(3, agent=None, answered_us=None, outcome="busy"),
        call(4, agent="vera", direction="outbound"),
    )
    async with database.read() as connection:
        last = await calls.last_answering_agent(connection, "+79161234567", 0)
        assert last == calls.LastAnswer("boris", NOON + 7 * SECOND)
        assert await calls.last_answering_agent(connection, "+79161234567", NOON + 3 * SECOND) is None


async def test_turns_count_inbound_calls_per_route(database: store.Database) -> None:
    await save(
        database,
        call(1),
        call(2),
        call(3, route="support"),
        call(4, direction="outbound"),
        call(5, route=None),
    )
    async with database.read() as connection:
        assert await calls.turns(connection, 0) == {"sales": 2, "support": 1}
        assert await calls.turns(connection, NOON + 2 * SECOND) == {"sales": 1, "support": 1}


async def test_since_when_destinations_are_idle(database: store.Database) -> None:
    def talk(destination: str, ended_us: int | None) -> calls.AttemptRow:
        return attempt(destination=destination, ended_us=ended_us)

    await save(
        database,
        call(1, attempts=(talk("desk-1", NOON + 9 * SECOND), talk("desk-2", NOON + 1 * SECOND))),
        call(2, attempts=(talk("desk-1", NOON + 5 * SECOND), talk("desk-2", None))),
        call(3, attempts=(attempt(destination="desk-3", answered_us=None),)),
    )
    async with database.read() as connection:
        idle = await calls.idle_since(connection, ["desk-1", "desk-2", "desk-3"])
    assert idle == {
        "desk-1": calls.Idle(NOON + 9 * SECOND, False),
        "desk-2": calls.Idle(NOON + 1 * SECOND, True),
        "desk-3": calls.Idle(None, False),
    }


async def test_attempts_go_with_their_call(database: store.Database) -> None:
    await save(database, call(1))
    async with database.begin() as tx:
        await tx.execute(text("DELETE FROM calls"))
        assert (await tx.execute(text("SELECT count(*) FROM attempts"))).scalar() == 0


def test_the_examples_are_of_the_day_they_say() -> None:
    assert datetime.fromtimestamp(NOON / SECOND, UTC).strftime("%Y%m%d") == str(examples.call().day_local)
