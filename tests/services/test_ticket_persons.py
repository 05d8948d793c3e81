"""Requests on pages become tickets (R69), and what is left of tickets when persons are forgotten (R45, N14)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway import store
from gateway.core import book, retention, scriptwire, tickets
from gateway.services import callbacks, erasing, ticketkeeping
from gateway.services import retention as running
from gateway.store import forgetting, keyring, outbox, targets
from gateway.store import tickets as stored
from tests import told
from tests.core.test_tickets import blank
from tests.services.ticketdesk import CALLER, HOUR, MINUTE, NOON, TARGETS, TicketDesk

RING = keyring.parse(keyring.new_line("2026-11"))
SITE = book.Site("clinic", "Clinic", "Europe/Moscow", "RU", "ru", "desk-1")


@pytest.fixture
def desk(database: store.Database) -> TicketDesk:
    return TicketDesk(database)


def taking(desk: TicketDesk) -> callbacks.Callbacks:
    return callbacks.Callbacks(
        desk.database, now_us=lambda: desk.now_us, targets=TARGETS, in_force=lambda: desk.book, node="node-1"
    )


def asked(number: str = f"+{CALLER}", **said: str) -> scriptwire.Callback:
    fixed: dict[str, Any] = {
        "site": "clinic",
        "page": "p1",
        "visitor": None,
        "lease": None,
        "url": "https://clinic.example/contacts",
        "number": number,
        "name": "Ivan",
        "message": "About implants",
        "when": "at five",
    }
    return scriptwire.Callback(**(fixed | said))


async def everything(database: store.Database) -> str:
    """All rows that may name somebody, as one text."""
    found = []
    async with database.read() as connection:
        for table in ("tickets", "ticket_history", "missed_causes", "events", "delivery_log", "calls"):
            found += [str(tuple(row)) for row in await connection.execute(text(f"SELECT * FROM {table}"))]
    return "\n".join(found)


async def erase(database: store.Database, tmp_path: Path, number: str = CALLER) -> erasing.Receipt:
    places = erasing.Places(tmp_path, tmp_path, tmp_path / "cel", "dialmark.csv", tmp_path / "archive")
    return await erasing.erase(
        database,
        f"+{number}",
        ring=RING,
        places=places,
        backup_days=30,
        actor="test",
        now_us=NOON + HOUR,
        targets=TARGETS,
    )


async def test_a_request_is_a_ticket(desk: TicketDesk) -> None:
    """R69: with what was asked; the same request sent twice is one, another one of the same person is merged."""
    requests = taking(desk)
    assert await requests.take(asked(), SITE)
    assert not await requests.take(asked(), SITE)
    ticket = await desk.one()
    assert (ticket.kind, ticket.caller, ticket.caller_name) == (tickets.Kind.REQUEST, f"+{CALLER}", "Ivan")
    assert dict(ticket.request) == {
        "message": "About implants",
        "when": "at five",
        "page": "https://clinic.example/contacts",
        "number_raw": f"+{CALLER}",
    }
    assert (ticket.route, ticket.owner, ticket.cause, ticket.call_id) == ("sales", "anna", None, None)
    desk.now_us += MINUTE
    assert await requests.take(asked(message="Please call"), SITE)
    assert (await desk.one()).misses == 2
    assert (await desk.one()).request["message"] == "Please call"
    await desk.miss()
    assert (await desk.one()).misses == 3
    desk.now_us += MINUTE
    await desk.ring_back(answered=True)
    assert (await desk.one()).result is tickets.Result.CALLED_BACK


async def test_what_a_missed_caller_asks_on_a_page_is_not_lost(
    desk: TicketDesk, database: store.Database, tmp_path: Path
) -> None:
    """R69: merged into the ticket of the missed call, where whoever calls back sees it; erased with the person."""
    await desk.miss(caller_name="")
    desk.now_us += MINUTE
    await taking(desk).take(asked(message="Call at six", when="at six"), SITE)
    ticket = await desk.one()
    assert (ticket.kind, ticket.misses, ticket.caller_name) == (tickets.Kind.MISSED, 2, "Ivan")
    assert (ticket.request["message"], ticket.request["when"]) == ("Call at six", "at six")
    assert (await desk.told())[-1]["data"]["request"]["message"] == "Call at six"
    await erase(database, tmp_path)
    assert "at six" not in await everything(database) and "Ivan" not in await everything(database)


async def test_a_request_with_a_number_that_is_none(desk: TicketDesk) -> None:
    """It is shown as it was typed, and somebody can make sense of it."""
    requests = taking(desk)
    await requests.take(asked("12-34"), SITE)
    await requests.take(asked("56-78"), SITE)
    assert [(one.caller, one.request["number_raw"]) for one in await desk.all()] == [(None, "12-34"), (None, "56-78")]


@pytest.mark.parametrize("by_request", [False, True])
async def test_erasing_a_person_empties_their_tickets(
    desk: TicketDesk, database: store.Database, tmp_path: Path, by_request: bool
) -> None:
    """Number, name, what was asked, notes, events: gone; that there was a ticket, and how it went, stays."""
    if by_request:
        await taking(desk).take(asked(), SITE)
    else:
        await desk.miss(caller_name="Ivan Petrov")
    await desk.miss("79160000055")
    await desk.hands.assign(1, "boris", actor="token:t")
    await desk.hands.note(1, "Ivan wants implants", actor="token:t")
    await desk.hands.note(2, "somebody else", actor="token:t")
    desk.now_us += MINUTE
    await desk.ring_back()
    for _ in range(2):
        await erase(database, tmp_path)
    first, second = await desk.all()
    assert (first.state, first.result, first.attempts, first.owner) == (
        tickets.State.CLOSED,
        tickets.Result.ERASED,
        1,
        "boris",
    )
    assert first.caller is not None and first.caller.startswith("erased-")
    assert (second.caller, second.is_open) == ("+79160000055", True)
    left = await everything(database)
    for trace in (CALLER, "Ivan", "implants", "at five"):
        assert trace not in left, trace
    assert "somebody else" in left and "79160000055" in left
    assert await desk.history(1) == ["opened", "assigned", "noted", "attempted", "closed"]
    assert await told.problems_of(database) == []
    with pytest.raises(tickets.Refused):
        await desk.hands.reopen(1, actor="token:t")


async def test_receivers_learn_that_an_erased_persons_ticket_is_closed(
    desk: TicketDesk, database: store.Database, tmp_path: Path
) -> None:
    """N14: once, behind what they were told before, with nothing of the person, not even what stands for the number.
    Closed tickets tell nothing more."""
    await desk.miss("79160000056")
    await desk.hands.close(1, tickets.Result.DONE, actor="token:t")
    await desk.miss(caller_name="Ivan Petrov")
    await desk.hands.note(2, "Ivan wants implants", actor="token:t")
    before = len(await desk.told())
    for number in (CALLER, "79160000056"):
        for _ in range(2):
            await erase(database, tmp_path, number)
    (event,) = (await desk.told())[before:]
    data = event["data"]
    assert (event["type"], data["number"], data["state"], data["result"]) == ("ticket.closed", 2, "closed", "erased")
    assert (data["caller"], data["request"]) == ({"number": None, "name": None}, None)
    text = json.dumps(event, ensure_ascii=False)
    for trace in (CALLER, CALLER[1:], "Ivan", "Petrov", "implants", "erased-"):
        assert trace not in text, trace
    async with database.begin() as tx:
        waiting = await outbox.claim(tx, TARGETS[0], now_us=desk.now_us + HOUR, lease_us=HOUR, limit=100, in_order=True)
    theirs = [one.event.type for one in waiting if json.loads(one.event.payload)["data"].get("number") == 2]
    assert theirs == ["ticket.opened", "ticket.updated", "ticket.closed"]


async def test_retention_tells_of_the_open_tickets_it_closes(
    desk: TicketDesk, database: store.Database, tmp_path: Path
) -> None:
    await desk.miss(caller_name="Petrov")
    policy = running.Policy(retention.rules(180, ()), calls_months=1)
    places = running.Places(tmp_path / "vault", tmp_path / "archive")
    late = NOON + 70 * 24 * HOUR
    for _ in range(2):
        await running.run(database, policy, places, now_us=late, actor="test", targets=TARGETS)
    last = [event for event in await desk.told() if event["type"] == "ticket.closed"]
    assert [(one["data"]["result"], one["data"]["caller"]["number"]) for one in last] == [("erased", None)]


async def test_who_calls_again_after_the_erasure_gets_a_ticket_like_anybody(
    desk: TicketDesk, database: store.Database, tmp_path: Path
) -> None:
    await desk.miss()
    await erase(database, tmp_path)
    desk.now_us += 2 * HOUR
    await desk.miss()
    assert [one.is_open for one in await desk.all()] == [False, True]


async def test_lines_of_tickets_are_masked_too(desk: TicketDesk, database: store.Database, tmp_path: Path) -> None:
    """The JSON lines, each as long as before."""
    await taking(desk).take(asked(), SITE)
    await desk.hands.note(1, "Ivan", actor="token:t")
    await desk.miss("79160000055")
    path = tmp_path / "events.jsonl"
    lines = [json.dumps(event, ensure_ascii=False, separators=(",", ":")) for event in await desk.told()]
    path.write_text("\n".join(lines) + "\n")
    places = erasing.Places(tmp_path, tmp_path, tmp_path / "cel", "d.csv", tmp_path / "a", (path,))
    await erasing.erase(
        database, f"+{CALLER}", ring=RING, places=places, backup_days=30, actor="test", now_us=NOON + HOUR
    )
    after = path.read_text().splitlines()
    assert [len(line) for line in after] == [len(line) for line in lines]
    assert CALLER not in path.read_text() and "Ivan" not in path.read_text()
    assert [json.loads(line)["type"] for line in after] == [json.loads(line)["type"] for line in lines]
    assert "79160000055" in after[-1]


async def test_erasing_a_visitor_leaves_who_called(desk: TicketDesk, database: store.Database) -> None:
    attribution = {
        "source": "radio",
        "visitor_id": "v-1",
        "click_ids": {"gclid": "g-1"},
        "landing_page": "https://clinic.example/?q",
    }
    async with database.begin() as tx:
        await ticketkeeping.add_new(
            tx,
            blank(number=0, attribution=attribution, node="node-1"),
            tickets.Terms(),
            targets=TARGETS,
            now_us=NOON,
        )
        await forgetting.forget_visitors(tx, ["v-1"], now_us=NOON)
    ticket = await desk.one()
    assert (dict(ticket.attribution), ticket.caller) == ({"source": "radio"}, f"+{CALLER}")
    left = await everything(database)
    assert "v-1" not in left and "g-1" not in left


async def test_retention_takes_the_person_and_leaves_the_count(
    desk: TicketDesk, database: store.Database, tmp_path: Path
) -> None:
    """With its call; a request, which is no call's, by its own age. Shown first."""
    await desk.miss(caller_name="Petrov")
    await taking(desk).take(asked("+79160000077", name="Sidorov"), SITE)
    for number in (1, 2):
        await desk.hands.close(number, tickets.Result.DONE, actor="token:t")
    policy = running.Policy(retention.rules(180, ()), calls_months=1)
    places = running.Places(tmp_path / "vault", tmp_path / "archive")
    late = NOON + 70 * 24 * HOUR
    due = await running.preview(database, policy, places, late)
    assert [(one.what, one.count) for one in due if one.what in ("calls", "tickets")] == [("calls", 1), ("tickets", 1)]
    done = await running.run(database, policy, places, now_us=late, actor="test")
    assert done.forgotten == 2
    assert [(one.caller, one.result) for one in await desk.all()] == [(None, tickets.Result.DONE)] * 2
    # The request's own event goes by `journal.archive_days`, long before.
    rows = (await everything(database)).splitlines()
    left = "\n".join(row for row in rows if '"type":"callback.requested"' not in row)
    for trace in (CALLER, "79160000077", "Petrov", "Sidorov"):
        assert trace not in left, trace
    assert (await running.run(database, policy, places, now_us=late, actor="test")).forgotten == 0


async def test_retention_takes_the_person_out_of_a_request_that_nobody_closed(
    desk: TicketDesk, database: store.Database, tmp_path: Path
) -> None:
    """N14: neither the ticket, overdue for ever, nor what a receiver was sent long ago names anybody then."""
    await taking(desk).take(asked("+79160000077", name="Sidorov"), SITE)
    sent = '{"type":"callback.requested","data":{"number":"+79160000077","name":"Sidorov"}}'
    logged = targets.Logged("webhook:crm", "e", "callback.requested", None, 1, NOON, 1, "done", request=sent)
    async with database.begin() as tx:
        await targets.log(tx, [logged, dataclasses.replace(logged, at_us=NOON + 60 * 24 * HOUR, request="later")])
    policy = running.Policy(retention.rules(180, ()), calls_months=1)
    late = NOON + 70 * 24 * HOUR
    await running.run(
        database, policy, running.Places(tmp_path / "vault", tmp_path / "archive"), now_us=late, actor="test"
    )
    assert [(one.caller, one.result) for one in await desk.all()] == [(None, tickets.Result.ERASED)]
    async with database.read() as connection:
        assert [one.request for one in await targets.last(connection)] == ["later"]


async def test_two_open_tickets_of_erased_persons_are_possible(database: store.Database) -> None:
    """What stands for nobody is no caller: the one open ticket of each is a rule for those who can be called."""
    async with database.begin() as tx:
        for place in range(2):
            made = await stored.add(tx, blank(number=0, ticket_id=str(place), caller=None))
            assert made is not None
