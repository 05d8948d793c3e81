"""What is said about calls afterwards: found, kept with its history, told, counted once (R14-R16, R60, R77, R87)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway import store
from gateway.core import deals, events
from gateway.core.outgoing import crm
from gateway.services import dealing, filing
from gateway.store import audit, calls, forgetting, joined, outbox, restated, results, targets
from tests.store import examples
from tests.web import material

CRM = "webhook:crm"
BY_API = dealing.Source("token:crm", "api")
DAY_US = 86_400_000_000
TODAY = 20260924


def row(number: int = 1, **changes: Any) -> calls.CallRow:
    """A closed call with a whole record; call `number` began that many seconds after noon."""
    document = material.record(call_id=examples.call_id(number))
    return examples.call(number, record=json.dumps(document, separators=(",", ":")), **changes)


async def file(database: store.Database, *rows: calls.CallRow) -> None:
    async with database.begin() as tx:
        await calls.save(tx, rows)


def at(database: store.Database, now_us: int = examples.NOON + 3 * DAY_US) -> dealing.Dealing:
    return dealing.Dealing(database, current_book=material.routing_book, targets=[CRM], now_us=lambda: now_us)


async def say(database: store.Database, *values: Mapping[str, object], **how: Any) -> dealing.Done:
    asked = [dealing.Asked(place, one) for place, one in enumerate(values)]
    source = how.pop("source", BY_API)
    return await at(database).take(asked, source, **how)


async def refused(database: store.Database, *values: Mapping[str, object], **how: Any) -> list[tuple[int, str, str]]:
    with pytest.raises(dealing.Refused) as caught:
        await say(database, *values, **how)
    return [(one.place, one.field, one.message) for one in caught.value.problems]


def of(number: int, **said: object) -> dict[str, object]:
    return {"call_id": examples.call_id(number), **said}


async def told(database: store.Database) -> Sequence[Mapping[str, Any]]:
    async with database.read() as connection:
        return [json.loads(event.payload) for _, event in await outbox.after(connection, 0)]


async def record(database: store.Database, number: int = 1) -> dict[str, Any]:
    async with database.read() as connection:
        found = await calls.get(connection, examples.call_id(number))
        assert found is not None
        (document,) = await joined.documents(connection, [found])
    return document


WON = {"deal_id": "D-1", "deal_state": "won", "value": "120000.50", "currency": "RUB", "closed_on": "2026-09-24"}


async def test_a_deal_is_kept_told_and_stands_in_the_record(database: store.Database) -> None:
    """R14, R15, R85: value, stage and closing date; the record of the journal is not touched."""
    await file(database, row())
    async with database.read() as connection:
        before = await calls.get(connection, examples.call_id(1))
    done = await say(database, of(1, qualified=True, note="wants implants", tags=["vip"], **WON))
    assert (done.changed, done.unchanged, done.call_ids) == (1, 0, (examples.call_id(1),))
    async with database.read() as connection:
        assert await calls.get(connection, examples.call_id(1)) == before
    document = await record(database)
    assert document["result"] == {
        "qualified": True,
        "spam": None,
        "goal_reached": None,
        "lead_status": None,
        "note": "wants implants",
        "tags": ["vip"],
        "deal": {
            "deal_id": "D-1",
            "state": "won",
            "stage": None,
            "value": "120000.50",
            "currency": "RUB",
            "closed_on": "2026-09-24",
        },
        "changed_at": document["result"]["changed_at"],
        "changed_by": "token:crm",
        "changed_via": "api",
        "changes": 1,
    }
    assert document["revision"] == 2
    (event,) = await told(database)
    assert event["type"] == "call.updated"
    assert event["data"] == document
    async with database.read() as connection:
        assert await outbox.pending_count(connection, CRM) == 1


async def test_what_is_known_already_changes_nothing(database: store.Database) -> None:
    """Idempotent: the same again is no change, no history, no event."""
    await file(database, row())
    await say(database, of(1, **WON))
    done = await say(database, of(1, **WON), of(1, value="120000.5"))
    assert (done.changed, done.unchanged) == (0, 2)
    assert len(await told(database)) == 1


async def test_every_change_is_history(database: store.Database) -> None:
    """Who, when, by what way, and what stood there before."""
    await file(database, row())
    await say(database, of(1, qualified=True, lead_status="new"))
    await say(database, of(1, qualified=False), source=dealing.Source("cli:anna", "csv"))
    await say(database, of(1, lead_status=None))
    async with database.read() as connection:
        kept = await results.history(connection, examples.call_id(1))
    assert [(one.changed_by, one.way, one.said) for one in kept] == [
        ("token:crm", "api", {"qualified": [None, True], "lead_status": [None, "new"]}),
        ("cli:anna", "csv", {"qualified": [True, False]}),
        ("token:crm", "api", {"lead_status": ["new", None]}),
    ]
    assert [event["data"]["revision"] for event in await told(database)] == [2, 3, 4]
    assert (await record(database))["revision"] == 4


async def test_all_or_nothing_with_every_problem_told(database: store.Database) -> None:
    await file(database, row(1), row(2))
    found = await refused(
        database,
        of(1, qualified=True),
        of(9, qualified=True),
        of(2, value="12.50"),
        {"qualified": True},
    )
    assert [(place, name) for place, name, _ in found] == [(1, "call_id"), (3, "call_id")]
    assert await refused(database, of(1, qualified=True), of(2, value="12.50")) == [
        (1, "currency", "a value needs its currency")
    ]
    assert await told(database) == []
    assert (await record(database))["result"] is None


async def test_a_deal_belongs_to_one_call(database: store.Database) -> None:
    """R16: a value that stood at two calls would be earned twice. Known by its id, the deal finds its call."""
    await file(database, row(1), row(2))
    await say(database, of(1, **WON))
    ((place, name, message),) = await refused(database, of(2, **WON))
    assert (place, name) == (0, "deal_id")
    assert examples.call_id(1) in message
    ((_, name, _),) = await refused(database, of(1, deal_id="D-7"), of(2, deal_id="D-7"))
    assert name == "deal_id"
    done = await say(database, {"deal_id": "D-1", "deal_state": "lost"})
    assert done.call_ids == (examples.call_id(1),)
    await say(database, of(1, deal_id=None), of(2, **WON))
    assert (await record(database, 2))["result"]["deal"]["deal_id"] == "D-1"


async def test_a_call_is_found_by_the_crms_ids(database: store.Database) -> None:
    """Ids that integrations have kept: of the call's log, of the contact, of a lead."""
    await file(database, row(1), row(2), row(3))
    contact = crm.text_of(crm.Contact("contact", "77", 'Анна "A"', "5"))
    async with database.begin() as tx:
        for number, known in ((1, {"call": "c1", "contact": contact}), (2, {"call": "c2", "contact": contact})):
            await targets.learn(tx, examples.call_id(number), "bitrix24:main", known, now_us=1)
        await targets.learn(tx, examples.call_id(3), "amocrm:other", {"call": "c2", "sent": "c1"}, now_us=1)
    done = await say(database, {"crm": "bitrix24:main", "object_id": "c1", "spam": True})
    assert done.call_ids == (examples.call_id(1),)
    done = await say(database, {"crm": "main", "object_id": "c2", "spam": True})
    assert done.call_ids == (examples.call_id(2),)
    ((_, name, message),) = await refused(database, {"crm": "main", "object_id": 77, "spam": True})
    assert name == "object_id"
    assert message.startswith("2 calls are known")
    ((_, _, message),) = await refused(database, {"crm": "main", "object_id": "c9", "spam": True})
    assert message == "no call is known by this object of main"
    ((_, _, message),) = await refused(database, {"crm": "other", "object_id": "c1", "spam": True})
    assert message.startswith("no call")


async def test_a_call_is_found_by_caller_and_time(database: store.Database) -> None:
    await file(database, row(1), row(7200), row(3, caller="+79160000000"))
    when = "2026-09-21T17:13:50+03:00"  # 10 s after call 1 began, by the clock of the site
    done = await say(database, {"caller": "8 (916) 123-45-67", "at": when, "within_minutes": 5, "spam": True})
    assert done.call_ids == (examples.call_id(1),)
    ((_, name, message),) = await refused(database, {"caller": "+79161234567", "at": when, "within_minutes": 180, **NO})
    assert (name, message[:2]) == ("caller", "2 ")
    ((_, name, _),) = await refused(database, {"caller": "+79161234567", "at": "2026-01-01 10:00", **NO})
    assert name == "caller"


NO = {"qualified": False}


async def test_a_late_change_restates_its_day(database: store.Database) -> None:
    """R14-R16: the figures of a day that is over changed; a note changes none."""
    await file(database, row(1), row(2), row(3, day_local=20260924))
    await say(database, of(1, note="called again"), of(3, qualified=True))
    async with database.read() as connection:
        assert await restated.count(connection) == 0
    await say(database, of(1, **WON), of(2, qualified=True))
    await say(database, of(1, deal_state="lost"))
    async with database.read() as connection:
        (mark,) = await restated.marks(connection, 20260101, 20261231)
        assert await restated.marks(connection, 20260922, 20261231) == []
        assert await restated.marks(connection, 20260921, 20260921, site="other") == []
    assert (mark.day_local, mark.site, mark.kind, mark.changes) == (20260921, "clinic", restated.RESULTS, 3)


async def test_a_dry_run_writes_nothing(database: store.Database) -> None:
    await file(database, row(1))
    done = await say(database, of(1, **WON), dry_run=True)
    assert done.changed == 1
    assert (await record(database))["result"] is None
    assert await told(database) == []
    assert await refused(database, of(1, value="1"), dry_run=True)


async def test_a_message_counts_once(database: store.Database) -> None:
    await file(database, row(1))
    assert not (await say(database, of(1, spam=True), message=("crm", "msg_1"))).duplicate
    await say(database, of(1, spam=False))
    assert (await say(database, of(1, spam=True), message=("crm", "msg_1"))).duplicate
    assert (await record(database))["result"]["spam"] is False
    assert not (await say(database, of(1, spam=True), message=("other", "msg_1"))).duplicate
    await refused(database, of(1, value="1"), message=("crm", "msg_2"))
    assert not (await say(database, of(1, spam=False), message=("crm", "msg_2"))).duplicate


async def test_two_at_once_are_both_kept(database: store.Database) -> None:
    await file(database, row(1))
    said: list[dict[str, object]] = [of(1, lead_status=f"step {number}") for number in range(8)]
    await asyncio.gather(*(say(database, one) for one in said))
    assert (await record(database))["result"]["changes"] == 8
    assert sorted(event["data"]["revision"] for event in await told(database)) == list(range(2, 10))


async def test_an_open_call_tells_its_result_when_it_is_over(database: store.Database) -> None:
    await file(database, replace(row(1), state="open", ended_us=None))
    await say(database, of(1, qualified=True))
    assert await told(database) == []
    assert (await record(database))["result"]["qualified"] is True


async def test_an_erased_caller_leaves_counts_only(database: store.Database) -> None:
    """N14: note, tags, deal and history go; whether the call was qualified stays, as outcome does."""
    await file(database, row(1))
    await say(database, of(1, qualified=True, note="secret note", tags=["vip"], lead_status="hot", **WON))
    async with database.begin() as tx:
        found = await calls.get(tx, examples.call_id(1))
        assert found is not None
        await forgetting.forget(tx, [found], "erased-1", why=forgetting.ERASURE, now_us=1)
    document = await record(database)
    assert document["result"]["deal"] is None
    assert (document["result"]["note"], document["result"]["tags"]) == (None, [])
    assert (document["result"]["lead_status"], document["result"]["qualified"]) == (None, True)
    async with database.read() as connection:
        assert await results.history(connection, examples.call_id(1)) == []
    for text in ("secret note", "vip", "D-1", "120000"):
        assert text not in json.dumps([*await told(database), document])
    ((_, _, message),) = await refused(database, of(1, note="again"))
    assert "erased" in message
    ((_, _, message),) = await refused(database, {"deal_id": "D-1", "deal_state": "lost"})
    assert message.startswith("no call")


def test_money_needs_its_currency_and_loses_it_with_the_value() -> None:
    known = deals.NOTHING.after({"value_e4": 10_000, "currency": "EUR"}, latest_day=TODAY)
    assert known.deal_state is deals.State.OPEN
    assert known.after({"value_e4": None}, latest_day=TODAY).currency is None
    with pytest.raises(ValueError, match="currency"):
        deals.NOTHING.after({"value_e4": 10_000}, latest_day=TODAY)


# -- beside the tracker -----------------------------------------------------------------------------------------------


def closing(found: calls.CallRow) -> filing.Filed:
    """The call as the tracker files it when it is over."""
    event_id = events.event_id(found.call_id, events.EventType.COMPLETED, found.revision)
    made = outbox.Event(
        event_id, "call.completed", 1, f'{{"id":"{event_id}","type":"call.completed",'
        f'"timestamp":"2026-09-21T14:00:00.000Z","data":{found.record}}}', found.call_id, found.revision
    )  # fmt: skip
    return filing.Filed(found, json.loads(found.record), (made,))


async def test_a_call_that_closes_tells_what_was_said_while_it_was_up(database: store.Database) -> None:
    await file(database, replace(row(1), state="open", ended_us=None))
    await say(database, of(1, qualified=True))
    async with database.begin() as tx:
        await calls.save(tx, [row(1)])
        await outbox.add(tx, await filing.told(tx, [closing(row(1))]), [CRM])
    (event,) = await told(database)
    assert (event["data"]["result"]["qualified"], event["data"]["revision"]) == (True, 2)
    async with database.read() as connection:
        ((_, kept),) = await outbox.after(connection, 0)
    assert kept.revision == 2


async def test_nothing_is_lost_when_both_write_at_once(database: store.Database) -> None:
    """Whoever comes second sees what the first wrote: either the closing tells the result, or an update does."""
    await file(database, replace(row(1), state="open", ended_us=None))
    async with database.begin() as tx:
        await calls.save(tx, [row(1)])
        saying = asyncio.create_task(say(database, of(1, qualified=True)))
        done, _ = await asyncio.wait({saying}, timeout=0.3)
        assert not done, "it waits for the call"
        await outbox.add(tx, await filing.told(tx, [closing(row(1))]), [CRM])
    await saying
    first, second = await told(database)
    assert (first["type"], first["data"]["result"], first["data"]["revision"]) == ("call.completed", None, 1)
    assert (second["type"], second["data"]["revision"]) == ("call.updated", 2)
    assert second["data"]["result"]["qualified"] is True
    assert second["data"]["state"] == "closed"


async def test_who_files_waits_for_who_says(database: store.Database) -> None:
    await file(database, replace(row(1), state="open", ended_us=None))
    stored = results.changed(None, deals.Result(qualified=True), at_us=1, by="cli:anna", way="csv")

    async def close() -> None:
        async with database.begin() as tx:
            await calls.save(tx, [row(1)])
            await outbox.add(tx, await filing.told(tx, [closing(row(1))]), [CRM])

    async with database.begin() as tx:
        held = await results.lock(tx, [examples.call_id(1)])
        assert held[examples.call_id(1)].state == "open"
        filing_task = asyncio.create_task(close())
        done, _ = await asyncio.wait({filing_task}, timeout=0.3)
        assert not done, "it waits for who holds the call"
        await results.save(tx, {examples.call_id(1): stored}, [])
    await filing_task
    (event,) = await told(database)
    assert event["data"]["result"]["qualified"] is True


async def test_one_deal_never_comes_to_belong_to_two_calls(database: store.Database) -> None:
    await file(database, *(row(number) for number in range(1, 7)))
    tries = [say(database, of(number, deal_id="D-1", deal_state="won")) for number in range(1, 7)]
    ended = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(one).__name__ for one in ended) == ["Done", *["Refused"] * 5]


async def test_a_deal_is_not_closed_in_the_future(database: store.Database) -> None:
    """A day ahead is what an open deal is expected on; it is let go of when the deal is won earlier."""
    await file(database, row())
    far = {"value": "1", "currency": "RUB", "closed_on": "2027-01-31"}
    for state in ("won", "lost"):
        (problem,) = await refused(database, of(1, deal_state=state, **far))
        assert problem[:2] == (0, "closed_on")
    await say(database, of(1, deal_state="open", **far))
    assert (await record(database))["result"]["deal"]["closed_on"] == "2027-01-31"
    await say(database, of(1, deal_state="won"))
    deal = (await record(database))["result"]["deal"]
    assert (deal["state"], deal["closed_on"], deal["value"]) == ("won", None, "1.00")
    await say(database, of(1, closed_on="2026-09-25"))
    assert (await record(database))["result"]["deal"]["closed_on"] == "2026-09-25", "a CRM farther east is a day ahead"


async def test_who_did_not_see_the_last_change_is_refused(database: store.Database) -> None:
    """Two people with the same page open: the second is told, and nothing of the first is lost."""
    await file(database, row())
    takes = at(database)
    first = dealing.Asked(0, of(1, qualified=True), seen=0)
    await takes.take([first], BY_API, is_audited=True)
    with pytest.raises(dealing.Refused) as caught:
        await takes.take([dealing.Asked(0, of(1, qualified=False, note="late"), seen=0)], BY_API, is_audited=True)
    assert [one.field for one in caught.value.problems] == [dealing.SEEN]
    await takes.take([dealing.Asked(0, of(1, note="a secret"), seen=1)], BY_API, is_audited=True)
    assert (await record(database))["result"]["qualified"] is True
    async with database.read() as connection:
        rows = await audit.entries(connection)
    assert [(one.action, one.actor, one.details) for one in rows] == [
        ("result.changed", "token:crm", '{"fields":["qualified"]}'),
        ("result.changed", "token:crm", '{"fields":["note"]}'),
    ]
