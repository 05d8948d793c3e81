"""Tickets of missed calls, from the calls as the filer stores them, on both engines, with a simulated clock."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gateway import store
from gateway.core import book, outcomes, ticketrules, tickets
from gateway.core.tickets import State
from gateway.store import agents, tagchecks
from gateway.store import tickets as stored
from tests.core import books
from tests.services.ticketdesk import ANSWERED, CALLER, HOUR, MINUTE, MISSED, NOON, SECOND, TicketDesk, call, out


@pytest.fixture
def desk(database: store.Database) -> TicketDesk:
    return TicketDesk(database)


def ruled(**rules: Any) -> book.Book:
    return books.routing_book(books.route(tickets=ticketrules.Rules(**rules)))


async def test_a_missed_call_opens_a_ticket_with_an_owner(desk: TicketDesk) -> None:
    """R37, R43: all that is needed to call back, and who does."""
    missed = await desk.miss(caller_name="Ivan")
    ticket = await desk.one()
    assert (ticket.number, ticket.state, ticket.kind) == (1, State.OPEN, tickets.Kind.MISSED)
    assert (ticket.caller, ticket.caller_name, ticket.call_id) == (f"+{CALLER}", "Ivan", missed.call_id)
    assert (ticket.tracking_number, ticket.route, ticket.site) == (f"+{books.DID}", "sales", "clinic")
    assert (ticket.source, ticket.consent_mode, ticket.owner) == ("radio-jazz", "off", "anna")
    assert (ticket.cause, ticket.evidence["why"]) == ("nobody_answered", "no_answer")
    assert [one["destination"] for one in ticket.evidence["attempts"]] != []
    assert ticket.opened_us == NOON
    assert ticket.next_due_us == NOON + HOUR
    assert ticket.deadline_us == NOON + 24 * HOUR
    assert desk.results == ["opened"]
    (event,) = await desk.told()
    assert (event["type"], event["data"]["number"], event["data"]["caller"]["number"]) == (
        "ticket.opened",
        1,
        f"+{CALLER}",
    )


async def test_later_misses_of_a_caller_are_merged(desk: TicketDesk) -> None:
    """N8: one open ticket per caller, on the clock of the first miss."""
    await desk.miss()
    desk.now_us += 10 * MINUTE
    again = await desk.miss()
    ticket = await desk.one()
    assert (ticket.misses, ticket.last_miss_us, ticket.last_call_id) == (2, desk.now_us, again.call_id)
    assert ticket.deadline_us == NOON + 24 * HOUR
    assert await desk.history(1) == ["opened", "merged"]
    await desk.miss("79160000099")
    assert len(await desk.all()) == 2
    assert desk.results == ["opened", "merged", "opened"]


async def test_the_caller_gets_through(desk: TicketDesk) -> None:
    """N8: it closes itself when the caller calls again and is answered."""
    await desk.miss()
    desk.now_us += 5 * MINUTE
    talk = await desk.talk()
    ticket = await desk.one()
    assert (ticket.state, ticket.result) == (State.CLOSED, tickets.Result.CALLED_AGAIN)
    assert ticket.closed_us == talk.answered_at_us
    desk.now_us += MINUTE
    await desk.miss()
    assert [one.state for one in await desk.all()] == [State.CLOSED, State.OPEN]


async def test_the_caller_is_called_back(desk: TicketDesk) -> None:
    """N8: attempts are seen in the telephony itself; the one that is answered closes the ticket."""
    await desk.miss()
    desk.now_us += 5 * MINUTE
    tried = await desk.ring_back()
    ticket = await desk.one()
    assert (ticket.state, ticket.attempts, ticket.first_attempt_us) == (State.OPEN, 1, tried.started_at_us)
    desk.now_us += 5 * MINUTE
    await desk.ring_back(answered=True)
    ticket = await desk.one()
    assert (ticket.state, ticket.result, ticket.attempts) == (State.CLOSED, tickets.Result.CALLED_BACK, 2)
    assert await desk.history(1) == ["opened", "attempted", "attempted", "closed"]
    assert [event["type"] for event in await desk.told()] == [
        "ticket.opened",
        "ticket.attempted",
        "ticket.attempted",
        "ticket.closed",
    ]


async def test_a_call_is_counted_once(desk: TicketDesk) -> None:
    """Reading the journal again, or a changed record, neither opens nor merges nor counts anything twice."""
    missed = await desk.miss()
    desk.now_us += MINUTE
    tried = await desk.ring_back()
    for one in (missed, dataclasses.replace(missed, caller_name="late")):
        await desk.end(one)
    for one in (tried, dataclasses.replace(tried, hold_seconds=2.0)):
        await desk.end(one)
    ticket = await desk.one()
    assert (ticket.misses, ticket.attempts) == (1, 1)
    await desk.hands.close(1, tickets.Result.DONE, actor="token:t")
    await desk.end(missed, dataclasses.replace(tried, hold_seconds=1.0))
    assert [one.state for one in await desk.all()] == [State.CLOSED]
    assert desk.results == ["opened"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
async def test_the_order_of_reading_does_not_matter(desk: TicketDesk, order: tuple[int, ...]) -> None:
    """Nodes are read beside each other: a miss that is read after its call-back gives the same."""
    story = [
        call(MISSED, NOON, caller=CALLER),
        out(NOON + 2 * MINUTE, CALLER, answered=False),
        call(ANSWERED, NOON + 5 * MINUTE, caller=CALLER),
    ]
    desk.now_us = NOON + HOUR
    for place in order:
        await desk.end(story[place])
    assert [one for one in await desk.all() if one.is_open] == []


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 0, 1), (2, 1, 0)])
async def test_called_back_while_they_call_again(desk: TicketDesk, order: tuple[int, ...]) -> None:
    """N8: both call at once; the caller takes the agent's call and lets their own go, a moment later. Nobody has to
    call them once more, in whatever order the two are read."""
    again = call(MISSED, NOON + 10 * MINUTE, caller=CALLER)
    back = out(NOON + 15 * MINUTE, CALLER, answered=True)
    shift = again.started_at_us + SECOND - (back.answered_at_us or 0)
    moved = {
        name: getattr(back, name) + shift
        for name in ("started_at_us", "answered_at_us", "ended_at_us", "last_row_at_us")
        if getattr(back, name) is not None
    }
    back = dataclasses.replace(back, **moved)
    assert again.started_at_us < (back.answered_at_us or 0) < (again.ended_at_us or 0)
    story = [call(MISSED, NOON, caller=CALLER), again, back]
    desk.now_us = NOON + HOUR
    for place in order:
        await desk.end(story[place])
    assert [one for one in await desk.all() if one.is_open] == []


async def test_an_attempt_that_the_caller_forestalled_is_none(desk: TicketDesk) -> None:
    """They get through to a colleague while their phone rings: the ticket is closed, and stays as it is."""
    await desk.miss()
    desk.now_us += 5 * MINUTE
    await desk.talk()
    await desk.ring_back()
    desk.now_us += MINUTE
    await desk.ring_back(answered=True)
    ticket = await desk.one()
    assert (ticket.state, ticket.result, ticket.attempts) == (State.CLOSED, tickets.Result.CALLED_AGAIN, 0)
    assert await desk.history(1) == ["opened", "closed"]


async def test_a_miss_after_the_talk_is_a_new_ticket(desk: TicketDesk) -> None:
    """Who rings once more after they were reached wants something else."""
    await desk.miss()
    desk.now_us += 10 * MINUTE
    await desk.ring_back(answered=True)
    desk.now_us += MINUTE
    await desk.miss()
    assert [one.state for one in await desk.all()] == [State.CLOSED, State.OPEN]


async def test_attempts_read_before_the_miss_count(desk: TicketDesk) -> None:
    desk.now_us = NOON + HOUR
    await desk.end(out(NOON + 10 * MINUTE, CALLER, answered=False))
    await desk.end(call(MISSED, NOON, caller=CALLER))
    ticket = await desk.one()
    assert (ticket.attempts, ticket.misses, ticket.opened_us) == (1, 1, NOON)


async def test_who_gets_no_ticket(database: store.Database) -> None:
    """R37: anonymous callers get none and are counted, banned ones never, short abandons and faults only if the route
    says so."""
    desk = TicketDesk(database)
    attempt = dataclasses.replace(
        MISSED.attempts[0], outcome=outcomes.AttemptOutcome.UNREACHABLE, sip_code=503, ring_seconds=0.0
    )
    gave_up: dict[str, Any] = {
        "outcome": outcomes.Outcome.ABANDONED,
        "attempts": (dataclasses.replace(attempt, ring_seconds=3.0),),
    }
    broken: dict[str, Any] = {"outcome": outcomes.Outcome.UNREACHABLE, "attempts": (attempt,)}
    await desk.miss("", caller_raw="anonymous")
    await desk.miss("", outcome=outcomes.Outcome.BANNED)
    await desk.miss(outcome=outcomes.Outcome.BANNED)
    await desk.miss(**gave_up)
    await desk.miss(**broken)
    assert await desk.all() == []
    assert desk.results == ["anonymous", "short_abandon", "system_fault"]
    desk.book = ruled(short_abandons=True, system_faults=ticketrules.Faults.TICKET)
    await desk.miss(**gave_up)
    await desk.miss("79160000098", **broken)
    assert [one.cause for one in await desk.all()] == ["caller_gave_up", "system"]
    desk.book = ruled(enabled=False)
    await desk.miss("79160000097")
    assert desk.results[-1] == "off"


async def test_who_pressed_1_is_called_back_whatever_the_route_says(desk: TicketDesk) -> None:
    """A caller who asked for it (R69) is no short abandon."""
    await desk.miss(cause="callback", outcome=outcomes.Outcome.ABANDONED)
    ticket = await desk.one()
    assert ticket.evidence["why"] == "callback_wanted"


async def test_an_unknown_number_and_a_spike(desk: TicketDesk) -> None:
    """R21: the cause "number" with its evidence."""
    await desk.miss(did="74990000077", route=None)
    assert ((await desk.one()).cause, (await desk.one()).evidence["why"]) == ("number", "unknown_number")
    desk.book = ruled(short_abandons=True)
    short: dict[str, Any] = {
        "outcome": outcomes.Outcome.ABANDONED,
        "attempts": (
            dataclasses.replace(MISSED.attempts[0], outcome=outcomes.AttemptOutcome.ABANDONED, ring_seconds=1.0),
        ),
    }
    for number in range(5):
        desk.now_us += MINUTE
        await desk.miss(f"7916000010{number}", **short)
    causes = [(one.cause, one.evidence["why"]) for one in (await desk.all())[1:]]
    assert causes[:4] == [("caller_gave_up", "short_abandon")] * 4
    assert causes[4] == ("number", "short_abandon_spike")


async def test_a_page_that_shows_the_number_wrongly(desk: TicketDesk) -> None:
    """R21: what `verify --web` found is the evidence, for a week, and until the page is right."""
    desk.book = ruled(short_abandons=True)
    attempt = dataclasses.replace(MISSED.attempts[0], outcome=outcomes.AttemptOutcome.ABANDONED, ring_seconds=1.0)
    short: dict[str, Any] = {"outcome": outcomes.Outcome.ABANDONED, "attempts": (attempt,)}
    wrong = {(f"+{books.DID}", "clinic ad https://clinic.example/"): "the script is not there"}
    async with desk.database.begin() as tx:
        await tagchecks.keep(tx, ["clinic ad https://clinic.example/"], wrong, now_us=NOON - HOUR)
    await desk.miss("79160000201", **short)
    desk.now_us += 8 * 24 * HOUR
    await desk.miss("79160000202", **short)
    async with desk.database.begin() as tx:
        await tagchecks.keep(tx, ["clinic ad https://clinic.example/"], wrong, now_us=desk.now_us - HOUR)
    await desk.miss("79160000203", **short)
    async with desk.database.begin() as tx:
        await tagchecks.keep(tx, ["clinic ad https://clinic.example/"], {}, now_us=desk.now_us - HOUR)
    await desk.miss("79160000204", **short)
    found = [(one.evidence["why"], one.evidence.get("tag_check")) for one in await desk.all()]
    assert found == [
        ("tag_check", "the script is not there"),
        ("short_abandon", None),
        ("tag_check", "the script is not there"),
        ("short_abandon", None),
    ]


async def test_our_own_fault_is_no_attempt(desk: TicketDesk) -> None:
    """A trunk that is down, or a call that was hung up at once, tells nobody anything."""
    await desk.miss()
    attempt = dataclasses.replace(out(NOON, CALLER, answered=False).attempts[0])
    dead = dataclasses.replace(attempt, outcome=outcomes.AttemptOutcome.UNREACHABLE, sip_code=503)
    brief = dataclasses.replace(attempt, outcome=outcomes.AttemptOutcome.ABANDONED, ring_seconds=1.0)
    desk.now_us += MINUTE
    await desk.ring_back(outcome=outcomes.Outcome.UNREACHABLE, attempts=(dead,))
    await desk.ring_back(outcome=outcomes.Outcome.ABANDONED, attempts=(brief,))
    assert (await desk.one()).attempts == 0
    await desk.ring_back(outcome=outcomes.Outcome.ABANDONED, attempts=(dataclasses.replace(brief, ring_seconds=9.0),))
    assert (await desk.one()).attempts == 1


async def test_owners_by_last_agent_and_load(desk: TicketDesk) -> None:
    """R43, R72."""
    desk.book = ruled(agents=("anna", "boris"))
    talked = await desk.talk()
    assert talked.answered_at_us is not None
    desk.now_us += MINUTE
    for caller in ("79160000001", "79160000002", "79160000003"):
        await desk.miss(caller)
    assert [one.owner for one in await desk.all()] == ["anna", "boris", "anna"]
    desk.now_us += MINUTE
    await desk.miss()
    assert (await desk.all())[-1].owner == "anna"


async def switch(desk: TicketDesk, agent: str, *, is_on: bool = True) -> None:
    async with desk.database.begin() as tx:
        await agents.switch(tx, [agents.Break(agent, is_on, desk.now_us)])


async def test_who_is_on_break_gets_no_ticket(desk: TicketDesk) -> None:
    """R43: neither as the last agent nor as the one with the least to do, while another is there."""
    desk.book = ruled(agents=("anna", "boris"))
    await desk.talk()
    desk.now_us += MINUTE
    await switch(desk, "anna")
    await desk.miss()
    await desk.miss("79160000001")
    await switch(desk, "boris")
    await desk.miss("79160000002")
    desk.now_us += MINUTE
    await switch(desk, "anna", is_on=False)
    await desk.miss("79160000003")
    assert [one.owner for one in await desk.all()] == ["boris", "boris", "anna", "anna"]


async def test_an_owner_on_break_keeps_it_until_it_is_due(desk: TicketDesk) -> None:
    """A break is short. When an attempt is due and the owner is away, a colleague who is there gets it."""
    desk.book = ruled(agents=("anna", "boris"))
    await desk.miss()
    await switch(desk, "anna")
    await desk.later(HOUR - SECOND)
    await desk.miss()
    assert (await desk.one()).owner == "anna"
    await desk.later(SECOND)
    assert (await desk.one()).owner == "boris"
    assert await desk.history(1) == ["opened", "merged", "assigned", "reminded"]
    last = (await desk.told())[-1]
    assert (last["type"], last["data"]["owner"]) == ("ticket.reminded", "boris")


async def test_an_owner_on_break_keeps_it_when_nobody_else_is_there(desk: TicketDesk) -> None:
    desk.book = ruled(agents=("anna", "boris"))
    await desk.miss()
    for agent in ("anna", "boris"):
        await switch(desk, agent)
    await desk.later(HOUR)
    assert (await desk.one()).owner == "anna"
    await switch(desk, "anna", is_on=False)
    await desk.later(23 * HOUR)
    assert (await desk.one()).owner == "anna"
    assert await desk.history(1) == ["opened", "reminded", "escalated"]


async def test_who_is_named_for_overdue_tickets_gets_them_on_break_too(desk: TicketDesk) -> None:
    """`escalate_to` is somebody's word, not a choice of ours; without it a colleague who is there gets them."""
    desk.book = ruled(agents=("anna", "boris"), escalate_to="anna")
    await desk.miss()
    await switch(desk, "anna")
    await desk.later(HOUR)
    assert (await desk.one()).owner == "boris"
    await desk.later(23 * HOUR)
    assert (await desk.one()).owner == "anna"
    desk.book = ruled(agents=("anna", "boris"))
    await desk.miss("79160000001")
    await switch(desk, "anna", is_on=False)
    await desk.later(HOUR)
    owner = (await desk.all())[-1].owner
    assert owner is not None
    await switch(desk, owner)
    await desk.later(23 * HOUR)
    assert {owner, (await desk.all())[-1].owner} == {"anna", "boris"}


async def test_nobodys_ticket_gets_an_owner_when_it_is_due(desk: TicketDesk) -> None:
    """R43: missed when nobody was on duty; somebody is when the reminder comes."""
    rules = ticketrules.Rules(shifts=(ticketrules.Shift(("boris",), "office"),))
    desk.book = books.routing_book(books.route(forward=("pbx",), reserve=(), tickets=rules))
    desk.now_us = NOON - 4 * HOUR + 30 * MINUTE
    await desk.miss()
    assert (await desk.one()).owner is None
    await desk.later(HOUR)
    assert (await desk.one()).owner == "boris"
    assert await desk.history(1) == ["opened", "assigned", "reminded"]


async def test_two_calls_seconds_apart_are_one_attempt(desk: TicketDesk) -> None:
    """R30: an agent who dials again at once has tried once; the history shows both, the ticket waits for the second."""
    await desk.miss()
    desk.now_us += 5 * MINUTE
    for _ in range(3):
        desk.now_us += 20 * SECOND
        await desk.ring_back()
    ticket = await desk.one()
    assert (ticket.state, ticket.attempts) == (State.OPEN, 1)
    assert await desk.history(1) == ["opened", "attempted", "repeated", "repeated"]
    assert [event["type"] for event in await desk.told()][1:] == ["ticket.attempted"] + ["ticket.updated"] * 2
    desk.now_us += 10 * MINUTE
    await desk.ring_back()
    assert ((await desk.one()).state, (await desk.one()).attempts) == (State.TRIED, 2)


async def test_how_far_apart_attempts_are_is_the_routes_choice(desk: TicketDesk) -> None:
    desk.book = ruled(apart_minutes=60)
    await desk.miss()
    for minutes, attempts in ((5, 1), (59, 1), (1, 2)):
        desk.now_us += minutes * MINUTE
        await desk.ring_back()
        assert (await desk.one()).attempts == attempts


async def test_a_reminder_an_escalation_and_the_end(database: store.Database) -> None:
    """R30: two attempts within 24 hours; each step is told once."""
    desk = TicketDesk(database, ruled(escalate_to="boris"))
    await desk.miss()
    await desk.later(HOUR - SECOND)
    assert await desk.history(1) == ["opened"]
    await desk.later(SECOND)
    await desk.later(SECOND)
    assert await desk.history(1) == ["opened", "reminded"]
    await desk.ring_back()
    await desk.later(23 * HOUR)
    ticket = await desk.one()
    assert (ticket.state, ticket.owner, ticket.escalated_us) == (State.OVERDUE, "boris", desk.now_us)
    await desk.later(HOUR)
    await desk.ring_back()
    ticket = await desk.one()
    assert (ticket.state, ticket.result) == (State.CLOSED, tickets.Result.NOT_REACHED)
    assert [event["type"].partition(".")[2] for event in await desk.told()] == [
        "opened",
        "reminded",
        "attempted",
        "updated",
        "escalated",
        "attempted",
        "closed",
    ]


async def test_enough_attempts_close_it_when_the_time_is_up(desk: TicketDesk) -> None:
    await desk.miss()
    for _ in range(2):
        desk.now_us += 10 * MINUTE
        await desk.ring_back()
    assert (await desk.one()).state is State.TRIED
    await desk.later(22 * HOUR)
    assert (await desk.one()).state is State.TRIED
    await desk.later(2 * HOUR)
    ticket = await desk.one()
    assert (ticket.state, ticket.result, ticket.escalated_us) == (State.CLOSED, tickets.Result.NOT_REACHED, None)


async def test_business_hours(database: store.Database) -> None:
    """R30: the route's clock counts business hours: nine a day, from Wednesday noon."""
    route = books.route(hours="office", tickets=ticketrules.Rules(clock=ticketrules.Clock.BUSINESS, within_hours=9))
    desk = TicketDesk(database, books.routing_book(route))
    await desk.miss()
    assert (await desk.one()).deadline_us == NOON + 24 * HOUR


async def test_by_hand(desk: TicketDesk) -> None:
    """R18: owner, notes, attempts, history."""
    await desk.miss()
    who = {"actor": "token:crm"}
    await desk.hands.assign(1, "boris", **who)
    await desk.hands.assign(1, "boris", **who)
    await desk.hands.note(1, "  asks for\x00 a price\r\n", **who)
    await desk.hands.attempt(1, reached=False, text="engaged", **who)
    ticket = await desk.hands.attempt(1, reached=True, **who)
    assert (ticket.state, ticket.owner, ticket.attempts) == (State.CLOSED, "boris", 2)
    async with desk.database.read() as connection:
        history = await stored.history(connection, 1)
    assert [(one.what.value, one.actor, one.text) for one in history] == [
        ("opened", "system", None),
        ("assigned", "token:crm", "boris"),
        ("noted", "token:crm", "asks for a price"),
        ("attempted", "token:crm", "engaged"),
        ("attempted", "token:crm", None),
        ("closed", "token:crm", None),
    ]
    for act in (
        desk.hands.assign(1, "anna", **who),
        desk.hands.close(1, tickets.Result.DONE, **who),
        desk.hands.attempt(1, reached=False, **who),
        desk.hands.note(1, " ", **who),
        desk.hands.assign(1, "nobody", **who),
    ):
        with pytest.raises(tickets.Refused):
            await act
    with pytest.raises(LookupError):
        await desk.hands.note(7, "x", **who)
    desk.now_us += 48 * HOUR
    ticket = await desk.hands.reopen(1, text="again", **who)
    assert (ticket.state, ticket.result, ticket.deadline_us) == (State.OPEN, None, desk.now_us + 24 * HOUR)
    assert (ticket.attempts, ticket.wanted) == (2, 4)
    await desk.hands.close(1, tickets.Result.UNWANTED, **who)
    await desk.miss()
    with pytest.raises(tickets.Refused, match="has ticket 2 open"):
        await desk.hands.reopen(1, **who)
