"""The life cycle of a ticket (R18, R30, R37, N8), the clock, the causes (R21, N7) and who is on duty (R43)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.core import book, ticketcauses, ticketclock, ticketduty, ticketrules, tickets
from gateway.core.tickets import Input, Result, State, Terms, Ticket, What
from tests.core import books

SECOND = 1_000_000
HOUR = 3_600 * SECOND
NOON = round(books.WEDNESDAY_NOON.timestamp()) * SECOND
TERMS = Terms()
ACTOR = "agent:anna"


def blank(at_us: int = NOON, **facts: Any) -> Ticket:
    fixed: dict[str, Any] = {
        "number": 1,
        "ticket_id": "t",
        "kind": tickets.Kind.MISSED,
        "caller": "+79161234567",
        "opened_us": at_us,
        "last_miss_us": at_us,
        "round_us": at_us,
        "deadline_us": at_us,
        "wanted": 0,
    }
    return Ticket(**(fixed | facts))


def fresh(terms: Terms = TERMS) -> Ticket:
    return tickets.opened(blank(), terms).ticket


class Life(RuleBasedStateMachine):
    """Whatever happens in whatever order, time only going on."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = NOON
        self.terms = Terms(attempts=2, within_seconds=24 * 3_600, first_seconds=3_600)
        first = tickets.opened(blank(), self.terms)
        self.ticket = first.ticket
        self.history = list(first.news)

    def take(self, change: tickets.Change) -> None:
        before = self.ticket
        self.ticket = change.ticket
        self.history += change.news
        if change.news:
            assert change.ticket.revision == before.revision + 1
        else:
            assert change.ticket == before
        if before.state is not self.ticket.state:
            assert any(tickets.TRANSITIONS.get((before.state, one)) is self.ticket.state for one in Input), (
                "a transition that the table lacks"
            )

    @rule(minutes=st.integers(0, 2_000))
    def time_goes_on(self, minutes: int) -> None:
        self.now_us += minutes * 60 * SECOND
        self.take(tickets.tick(self.ticket, self.now_us))

    @precondition(lambda self: self.ticket.is_open)
    @rule()
    def miss(self) -> None:
        self.take(tickets.missed_again(self.ticket, self.terms, self.now_us, "call"))

    @precondition(lambda self: self.ticket.is_open)
    @rule()
    def attempt(self) -> None:
        self.take(tickets.attempted(self.ticket, self.terms, self.now_us, actor=ACTOR))

    @precondition(lambda self: self.ticket.is_open)
    @rule(is_attempt=st.booleans())
    def gets_through(self, is_attempt: bool) -> None:
        self.take(tickets.reached(self.ticket, self.now_us, Result.CALLED_AGAIN, is_attempt=is_attempt))

    @precondition(lambda self: self.ticket.is_open)
    @rule(result=st.sampled_from(tickets.BY_HAND))
    def close(self, result: Result) -> None:
        self.take(tickets.closed(self.ticket, result, self.now_us, actor=ACTOR))

    @precondition(lambda self: not self.ticket.is_open)
    @rule()
    def reopen(self) -> None:
        self.take(tickets.reopened(self.ticket, self.terms, self.now_us, actor=ACTOR))

    @rule(owner=st.sampled_from(["anna", "boris", None]))
    def assign(self, owner: str | None) -> None:
        if self.ticket.is_open:
            self.take(tickets.assigned(self.ticket, owner, self.now_us, actor=ACTOR))
        else:
            with pytest.raises(tickets.Refused):
                tickets.assigned(self.ticket, owner, self.now_us, actor=ACTOR)

    @invariant()
    def it_is_sound(self) -> None:
        ticket = self.ticket
        assert ticket.is_open == (ticket.closed_us is None) == (ticket.result is None)
        assert (ticket.timer_us is not None) == (ticket.state in (State.OPEN, State.TRIED))
        assert (ticket.state is State.TRIED) <= (ticket.attempts >= ticket.wanted)
        assert (ticket.state in (State.OPEN, State.OVERDUE)) <= (ticket.attempts < ticket.wanted)
        assert (ticket.first_attempt_us is None) == (ticket.attempts == 0)
        assert ticket.round_us <= ticket.deadline_us
        # Time has nothing to do twice.
        settled = tickets.tick(ticket, self.now_us).ticket
        assert tickets.tick(settled, self.now_us).news == ()

    @invariant()
    def the_history_tells_it(self) -> None:
        whats = [one.what for one in self.history]
        assert whats[0] is What.OPENED
        assert whats.count(What.CLOSED) - whats.count(What.REOPENED) == (0 if self.ticket.is_open else 1)
        assert whats.count(What.ATTEMPTED) == self.ticket.attempts
        assert whats.count(What.MERGED) == self.ticket.misses - 1
        # At most one reminder for an attempt, at most one escalation for a round.
        assert whats.count(What.ESCALATED) <= 1 + whats.count(What.REOPENED) + whats.count(What.MERGED)
        assert [one.at_us for one in self.history] == sorted(one.at_us for one in self.history)


TestLife = Life.TestCase


def test_every_state_can_be_left_and_every_input_happens() -> None:
    assert {state for state, _ in tickets.TRANSITIONS} == set(State)
    assert {one for _, one in tickets.TRANSITIONS} == set(Input)
    for state in (State.OPEN, State.TRIED, State.OVERDUE):
        assert tickets.TRANSITIONS[state, Input.REACHED] is State.CLOSED
        assert tickets.TRANSITIONS[state, Input.CLOSE] is State.CLOSED


def test_two_attempts_in_24_hours() -> None:
    """R30: the first within the hour, both within the day."""
    ticket = fresh()
    assert (ticket.wanted, ticket.next_due_us, ticket.deadline_us) == (2, NOON + HOUR, NOON + 24 * HOUR)
    ticket = tickets.attempted(ticket, TERMS, NOON + HOUR // 2).ticket
    assert (ticket.state, ticket.next_due_us, ticket.callback_seconds) == (State.OPEN, NOON + 24 * HOUR, 1800.0)
    ticket = tickets.attempted(ticket, TERMS, NOON + 2 * HOUR).ticket
    assert (ticket.state, ticket.next_due_us, ticket.timer_us) == (State.TRIED, None, NOON + 24 * HOUR)
    assert tickets.tick(ticket, NOON + 24 * HOUR - 1).news == ()
    closed = tickets.tick(ticket, NOON + 24 * HOUR).ticket
    assert (closed.state, closed.result) == (State.CLOSED, Result.NOT_REACHED)


def test_nobody_calls_back() -> None:
    """One reminder, one escalation, and it stays overdue until somebody does something."""
    ticket, said = fresh(), []
    for hour in range(100):
        change = tickets.tick(ticket, NOON + hour * HOUR)
        ticket = change.ticket
        said += [(hour, one.what) for one in change.news]
    assert said == [(1, What.REMINDED), (24, What.ESCALATED)]
    assert (ticket.state, ticket.timer_us) == (State.OVERDUE, None)


def test_a_caller_who_was_tried_and_is_missed_again_gets_a_new_clock() -> None:
    ticket = fresh()
    for minute in (1, 11):
        ticket = tickets.attempted(ticket, TERMS, NOON + minute * 60 * SECOND).ticket
    again = tickets.missed_again(ticket, TERMS, NOON + 5 * HOUR, "call").ticket
    assert (again.state, again.wanted, again.deadline_us) == (State.OPEN, 4, NOON + 29 * HOUR)
    assert again.next_due_us == NOON + 6 * HOUR


@pytest.mark.parametrize(
    ("seconds", "count"),
    [((0, 5), 1), ((0, 599), 1), ((0, 600), 2), ((0, 400, 800), 2), ((0, 300, 599, 600), 2), ((700, 0, 5), 2)],
)
def test_attempts_seconds_apart_are_one(seconds: tuple[int, ...], count: int) -> None:
    """R30: two attempts are two tries to reach somebody, not a redial. Told in the history, and counted once."""
    ticket, said = fresh(Terms(attempts=5)), []
    for second in seconds:
        change = tickets.attempted(ticket, Terms(attempts=5), NOON + HOUR + second * SECOND)
        ticket = change.ticket
        said += [one.what for one in change.news]
    assert ticket.attempts == said.count(What.ATTEMPTED) == count
    assert said.count(What.REPEATED) == len(seconds) - count
    assert (ticket.state, ticket.revision) == (State.OPEN, 1 + len(seconds))


def test_a_redial_does_not_end_the_reminders() -> None:
    """What is due is due as before."""
    once = tickets.attempted(fresh(), TERMS, NOON + HOUR).ticket
    again = tickets.attempted(once, TERMS, NOON + HOUR + 60 * SECOND).ticket
    assert again == replace(once, revision=once.revision + 1)


def test_a_new_reason_to_call_is_a_new_attempt() -> None:
    """Missed again a moment after the attempt, or taken up again: calling at once counts."""
    minute = 60 * SECOND
    ticket = tickets.attempted(fresh(), TERMS, NOON + minute).ticket
    missed = tickets.missed_again(ticket, TERMS, NOON + 2 * minute, "call").ticket
    assert tickets.attempted(missed, TERMS, NOON + 3 * minute).ticket.attempts == 2
    closed = tickets.closed(ticket, Result.DONE, NOON + 2 * minute, actor=ACTOR).ticket
    reopened = tickets.reopened(closed, TERMS, NOON + 3 * minute, actor=ACTOR).ticket
    assert tickets.attempted(reopened, TERMS, NOON + 4 * minute).ticket.attempts == 2


def test_attempts_need_not_be_apart() -> None:
    terms = Terms(apart_seconds=0)
    ticket = tickets.attempted(fresh(), terms, NOON + HOUR).ticket
    assert tickets.attempted(ticket, terms, NOON + HOUR).ticket.attempts == 2


def test_what_is_left_of_an_erased_person() -> None:
    """R45: nothing to call, nothing to read; the count stays."""
    ticket = replace(
        fresh(),
        caller_name="Ivan",
        request={"message": "call me"},
        attribution={"source": "radio", "visitor_id": "v", "click_ids": {"gclid": "g"}},
    )
    left = tickets.erased(ticket, "erased-1", NOON + HOUR)
    assert (left.caller, left.caller_name, dict(left.request)) == ("erased-1", None, {})
    assert left.attribution == {"source": "radio"}
    assert (left.state, left.result, left.timer_us) == (State.CLOSED, Result.ERASED, None)
    with pytest.raises(tickets.Refused):
        tickets.reopened(left, TERMS, NOON + HOUR, actor=ACTOR)


@pytest.mark.parametrize(
    ("start", "hours", "due"),
    [
        pytest.param("2026-11-11T12:00", 3, "2026-11-11T15:00", id="within the day"),
        pytest.param("2026-11-11T17:00", 3, "2026-11-12T11:00", id="over the night"),
        pytest.param("2026-11-13T17:00", 3, "2026-11-16T11:00", id="over the weekend"),
        pytest.param("2026-11-11T03:00", 1, "2026-11-11T10:00", id="missed at night"),
        pytest.param("2026-11-11T12:00", 24, "2026-11-13T18:00", id="24 hours of nine a day"),
        pytest.param("2026-11-11T12:00", 6, "2026-11-11T18:00", id="to the last minute"),
    ],
)
def test_the_clock_of_business_hours(start: str, hours: int, due: str) -> None:
    """R30: Monday to Friday, nine to six in Moscow."""
    at = [datetime.fromisoformat(f"{text}:00+03:00").timestamp() for text in (start, due)]
    found = ticketclock.after(round(at[0]) * SECOND, hours * 3_600, books.OFFICE)
    assert found == round(at[1]) * SECOND


def test_hours_that_never_hold_stop_no_clock_for_ever() -> None:
    never = book.BusinessHours("never", "UTC", (), frozenset({date(2026, 11, 11)}))
    assert ticketclock.after(NOON, 3_600, never) == NOON + 60 * 24 * HOUR
    assert ticketclock.after(NOON, 3_600, None) == NOON + HOUR


def record(outcome: str, *attempts: tuple[str, int | None, int | None], **facts: Any) -> dict[str, Any]:
    made = [
        {
            "destination": "desk",
            "agent": None,
            "outcome": one,
            "ring_seconds": 0.0,
            "sip_code": sip,
            "q850_cause": cause,
        }
        for one, sip, cause in attempts
    ]
    fixed = {"cause": None, "ring_seconds": 20.0, "wait_seconds": 21.0, "caller": {"number": "+79161234567"}}
    return {"outcome": outcome, "attempts": made, **fixed, **facts}


KNOWN = ticketcauses.Signs()


@pytest.mark.parametrize(
    ("call", "signs", "cause", "why"),
    [
        (record("busy", ("busy", 486, 17)), KNOWN, "agents_busy", "busy"),
        (record("busy", cause="limit"), KNOWN, "agents_busy", "limit"),
        (record("no_answer", ("no_answer", 180, None)), KNOWN, "nobody_answered", "no_answer"),
        (record("rejected", ("rejected", 603, 21)), KNOWN, "nobody_answered", "rejected"),
        (record("after_hours"), KNOWN, "nobody_answered", "after_hours"),
        (record("voicemail"), KNOWN, "nobody_answered", "voicemail"),
        (record("unreachable", ("unreachable", 480, 19)), KNOWN, "nobody_answered", "unreachable"),
        (record("unreachable", ("unreachable", None, 20)), KNOWN, "nobody_answered", "unreachable"),
        (record("unreachable", ("unreachable", 503, 34)), KNOWN, "system", "fault"),
        (record("unreachable", ("unreachable", None, 38)), KNOWN, "system", "fault"),
        (
            record("unreachable", ("unreachable", 503, 34), ("unreachable", 480, 19)),
            KNOWN,
            "nobody_answered",
            "unreachable",
        ),
        (record("failed", ("failed", 401, None)), KNOWN, "system", "failed"),
        (record("lost"), KNOWN, "system", "lost"),
        (record("abandoned", ("abandoned", None, None)), KNOWN, "caller_gave_up", "gave_up"),
        (record("abandoned", ring_seconds=5.0), KNOWN, "caller_gave_up", "short_abandon"),
        (record("abandoned", ring_seconds=1.0), ticketcauses.Signs(True, 5, 9), "number", "short_abandon_spike"),
        (record("abandoned", ring_seconds=1.0), ticketcauses.Signs(True, 5, 10), "caller_gave_up", "short_abandon"),
        (record("abandoned", ring_seconds=1.0), ticketcauses.Signs(True, 4, 4), "caller_gave_up", "short_abandon"),
        (
            record("abandoned", ring_seconds=1.0),
            ticketcauses.Signs(True, tag_check="shows +7…"),
            "number",
            "tag_check",
        ),
        (record("failed", cause="no_route"), KNOWN, "number", "unknown_number"),
        (record("no_answer"), ticketcauses.Signs(False), "number", "unknown_number"),
        (record("busy", ("busy", 486, 17), cause="callback"), KNOWN, "agents_busy", "callback_wanted"),
    ],
)
def test_the_cause_of_a_miss(call: dict[str, Any], signs: ticketcauses.Signs, cause: str, why: str) -> None:
    """R21, N7: one class, and what shows it."""
    found = ticketcauses.verdict(call, signs)
    assert (found.cause.value, found.why) == (cause, why)
    assert found.evidence["why"] == why
    assert [one["sip_code"] for one in found.evidence["attempts"]] == [one["sip_code"] for one in call["attempts"]]


def test_who_is_on_duty() -> None:
    """R43: the shift that is open now, else the route's agents, else those whom the route rings."""
    noon, night = books.WEDNESDAY_NOON, books.WEDNESDAY_NIGHT
    plain = books.routing_book()
    assert ticketduty.on_duty(plain.routes["sales"], plain, noon) == ("anna", "boris")
    assert ticketduty.on_duty(None, plain, noon) == ("anna",)
    assert ticketduty.on_duty(None, None, noon) == ()
    rules = ticketrules.Rules(agents=("anna",), shifts=(ticketrules.Shift(("boris",), "office"),))
    shifts = books.routing_book(books.route(tickets=rules))
    assert ticketduty.on_duty(shifts.routes["sales"], shifts, noon) == ("boris",)
    assert ticketduty.on_duty(shifts.routes["sales"], shifts, night) == ("anna",)


@pytest.mark.parametrize(
    ("ways", "last", "load", "owner"),
    [
        ((ticketrules.By.LAST_AGENT, ticketrules.By.LOAD), "boris", {"anna": 0, "boris": 9}, "boris"),
        ((ticketrules.By.LAST_AGENT, ticketrules.By.LOAD), "vera", {"anna": 1, "boris": 0}, "boris"),
        ((ticketrules.By.LOAD,), "boris", {"anna": 1, "boris": 1}, "anna"),
        ((ticketrules.By.IN_ORDER,), "boris", {"anna": 9}, "anna"),
        ((ticketrules.By.LAST_AGENT,), None, {}, None),
        ((), "anna", {}, None),
    ],
)
def test_who_gets_it(
    ways: tuple[ticketrules.By, ...], last: str | None, load: dict[str, int], owner: str | None
) -> None:
    rules = ticketrules.Rules(assign=ways)
    assert ticketduty.chosen(rules, ("anna", "boris"), last_agent=last, load=load) == owner
    assert ticketduty.chosen(rules, (), last_agent=last, load=load) is None


@pytest.mark.parametrize(
    ("away", "there"),
    [
        ((), ("anna", "boris")),
        (("anna",), ("boris",)),
        (("vera",), ("anna", "boris")),
        (("anna", "boris"), ("anna", "boris")),
    ],
)
def test_who_is_there(away: tuple[str, ...], there: tuple[str, ...]) -> None:
    """R43: nobody on break gets a ticket while another is there; while all are, it is somebody's all the same."""
    assert ticketduty.present(("anna", "boris"), away) == there


def test_terms_of_a_route() -> None:
    rules = ticketrules.Rules(attempts=3, within_hours=8, first_minutes=5, clock=ticketrules.Clock.BUSINESS)
    made = books.routing_book(books.route(hours="office", tickets=rules))
    assert ticketduty.terms(made.routes["sales"], made) == Terms(3, 8 * 3_600, 300, 600, books.OFFICE)
    assert ticketduty.terms(None, made) == Terms()
