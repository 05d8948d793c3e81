"""Who may be called back, shown as whom, asked what; what the journal tells of it (R18, R30, R56, R84, C4)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.config import shipped
from gateway.core import (
    attribution,
    book,
    callingback,
    calls,
    conservation,
    grouping,
    handling,
    prompts,
    receipts,
    records,
    ticketduty,
    tickets,
)
from gateway.core.callingback import Refusal, Result, Rules
from gateway.core.rows import Row
from gateway.core.tickets import Kind, State, Ticket
from tests import journals
from tests.core import books

CALLER = f"+{books.CALLER}"
MISSED = "1b6b7f4e-0000-4000-8000-000000000001"


def ticket(**fields: Any) -> Ticket:
    """An open one of the number of the books."""
    known: dict[str, Any] = {
        "number": 12,
        "ticket_id": "a",
        "kind": Kind.MISSED,
        "caller": CALLER,
        "opened_us": 0,
        "last_miss_us": 0,
        "round_us": 0,
        "deadline_us": 0,
        "wanted": 2,
        "call_id": MISSED,
        "tracking_number": f"+{books.DID}",
        "route": "sales",
        "site": "clinic",
    }
    return Ticket(**(known | fields))


def routing(the_route: book.Route | None = None, **fields: Any) -> book.Book:
    """The clinic, which can call out."""
    made = books.routing_book(the_route, **fields)
    site = replace(made.sites["clinic"], outbound_trunk="carrier-a", business_number="+74990000000")
    agents = {key: replace(agent, endpoint=f"phone-{key}") for key, agent in made.agents.items()}
    return replace(
        made,
        sites={"clinic": site},
        agents=agents,
        local_contexts=frozenset({"from-phones"}),
        regions=shipped.consent_regions(),
    )


ANNA = routing().agents["anna"]


@pytest.mark.parametrize("text", ["", "0", "012", "1234567890", "12a", "-1", "１２", "1 2", "12\n"])
def test_what_is_no_tickets_number(text: str) -> None:
    assert callingback.ticket_number(text) is None


def test_a_tickets_number() -> None:
    assert [callingback.ticket_number(text) for text in ("1", "999999999")] == [1, 999_999_999]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (None, Refusal.NO_TICKET),
        (ticket(), None),
        (ticket(owner="anna"), None),
        (ticket(owner="boris"), Refusal.FOREIGN),
        (ticket(state=State.CLOSED, owner="boris"), Refusal.CLOSED),
        (ticket(state=State.OVERDUE), None),
        (ticket(caller=None), Refusal.NOT_CALLABLE),
        (ticket(caller="person:9f2c"), Refusal.NOT_CALLABLE),
    ],
)
def test_who_may_return_what(found: Ticket | None, why: Refusal | None) -> None:
    assert callingback.refusal(found, ANNA, Rules(), routing()) is why


def test_a_colleagues_ticket_where_that_is_allowed() -> None:
    assert callingback.refusal(ticket(owner="boris"), ANNA, Rules(any_agent=True), routing()) is None


def test_without_a_trunk_nobody_is_called() -> None:
    lonely = replace(routing(), sites=books.routing_book().sites)
    assert callingback.refusal(ticket(), ANNA, Rules(), lonely) is Refusal.NO_TRUNK


@pytest.mark.parametrize(
    ("number", "countries", "may_be"),
    [
        ("+79161234567", (), True),
        ("+74951234567", (), True),
        ("+78001234567", (), True),
        ("+78091234567", (), False),
        ("+77011234567", (), False),
        ("+77011234567", ("KZ",), True),
        ("+4915112345678", ("DE",), True),
        ("+4919001234567", ("DE",), False),
        ("+882161234567", (), False),
        ("+7999", (), False),
        ("", (), False),
        (f"+{books.DID}", (), False),
        ("+74990000000", (), False),
    ],
)
def test_numbers_that_may_be_called(number: str, countries: tuple[str, ...], may_be: bool) -> None:
    """Toll fraud: whoever calls makes up their number."""
    assert callingback.is_callable(number, countries, routing()) is may_be


def test_who_dials() -> None:
    """A trunk that is led into the phones' context is still a trunk."""
    house = replace(routing(), trunks={"carrier-a": None})  # type: ignore[dict-item]  # only its key counts
    asked = [
        callingback.is_local_phone(phone, context, house)
        for phone, context in (
            ("phone-anna", "from-phones"),
            ("phone-anna", "from-elsewhere"),
            ("phone-anna", ""),
            ("carrier-a", "from-phones"),
            ("carrier-a-out", "from-phones"),
        )
    ]
    assert asked == [True, False, False, False, False]
    assert callingback.agent_of("phone-anna", house) == ANNA
    assert callingback.agent_of("", replace(house, agents={"x": book.Agent("x", "X", endpoint="")})) is None


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ({}, f"+{books.DID}"),
        ({"kind": book.TrackingKind.POOL, "pool": "moscow"}, "+74990000000"),
        ({"kind": book.TrackingKind.OVERFLOW, "pool": "moscow"}, "+74990000000"),
    ],
)
def test_what_the_customer_sees(number: dict[str, Any], shown: str) -> None:
    """A number of a pool is somebody else's tomorrow."""
    assert callingback.plan(ticket(), routing(number=number)).shown == shown


def test_a_number_that_left_the_book_is_not_shown() -> None:
    made = callingback.plan(ticket(tracking_number="+74959999999"), routing())
    assert (made.shown, made.route, made.trunk) == ("+74990000000", "sales", "carrier-a")


def test_a_request_on_a_page_is_called_by_the_sites_rules() -> None:
    asked = ticket(kind=Kind.REQUEST, call_id=None, tracking_number=None, route=None)
    house = routing()
    house = replace(house, sites={"clinic": replace(house.sites["clinic"], recording=book.RecordingMode.OPT_IN)})
    made = callingback.plan(asked, house)
    assert (made.call_id, made.shown, made.consent.mode) == (None, "+74990000000", book.RecordingMode.OPT_IN)


@pytest.mark.parametrize(
    ("caller", "mode"),
    [("+79161234567", book.RecordingMode.ANNOUNCE), ("+493012345678", book.RecordingMode.OPT_IN)],
)
def test_consent_is_asked_by_the_called_partys_region(caller: str, mode: book.RecordingMode) -> None:
    """C4: the strictest of both sides."""
    house = routing(books.route(recording=book.RecordingMode.REGION))
    assert callingback.plan(ticket(caller=caller), house).consent.mode is mode


def test_nothing_is_asked_where_nothing_is_recorded() -> None:
    recorded = callingback.plan(ticket(), routing(books.route(recording=book.RecordingMode.ANNOUNCE)))
    assert callingback.plan(ticket(), routing()).consent.mode is book.RecordingMode.OFF
    assert callingback.unrecorded(recorded).consent.mode is book.RecordingMode.OFF


def test_every_prompt_is_in_the_catalogue() -> None:
    assert set(prompts.KEYS) >= callingback.PROMPTS
    keyed = callingback.demands(routing(), Rules(keyed=True))
    assert {wanted.key for wanted in keyed} == callingback.PROMPTS
    assert callingback.demands(books.routing_book(), Rules(keyed=True)) == frozenset()


def test_only_what_this_configuration_can_say_is_demanded() -> None:
    """The result is asked only where it is keyed, in each language of a call-back; the rest is the default site's."""
    house = routing(number={"language": "ko"})
    house = replace(house, sites={**house.sites, "far": replace(house.sites["clinic"], key="far", language="en")})
    assert callingback.PROMPTS - {wanted.key for wanted in callingback.demands(house)} == {"callback_result"}
    assert {wanted.language for wanted in callingback.demands(house)} == {"ru"}
    asked = {one.language for one in callingback.demands(house, Rules(keyed=True)) if one.key == "callback_result"}
    assert asked == {"ru", "ko", "en"}
    by_click = replace(house, local_contexts=frozenset[str]())
    assert callingback.demands(by_click) == frozenset()
    keys = {wanted.key for wanted in callingback.demands(by_click, Rules(clicks=True))}
    assert callingback.PROMPTS - keys == {"callback_result", "break_on", "break_off"}


def test_a_call_backs_question_is_demanded_even_if_no_call_meets_it() -> None:
    """Somebody asked on a page: the site's rules hold, whatever its numbers say (C4)."""
    house = routing(number={"recording": book.RecordingMode.OFF})
    house = replace(house, sites={"clinic": replace(house.sites["clinic"], recording=book.RecordingMode.OPT_IN)})
    assert handling.stages(house)[0] == ((prompts.Wanted("consent_opt_in", "ru"),),)
    assert handling.stages(replace(house, local_contexts=frozenset[str]()))[0] == ()


# -- the result ------------------------------------------------------------------------------------------------------

TERMS = ticketduty.terms(None, None)
CLOSED = tickets.reached(ticket(), 5, tickets.Result.CALLED_BACK, is_attempt=True).ticket


@pytest.mark.parametrize(
    ("before", "result", "state", "ends"),
    [
        (CLOSED, Result.SETTLED, State.CLOSED, tickets.Result.CALLED_BACK),
        (CLOSED, Result.AGAIN, State.OPEN, None),
        (CLOSED, Result.UNWANTED, State.CLOSED, tickets.Result.UNWANTED),
        (ticket(), Result.SETTLED, State.CLOSED, tickets.Result.DONE),
        (ticket(), Result.AGAIN, State.OPEN, None),
        (ticket(), Result.UNWANTED, State.CLOSED, tickets.Result.UNWANTED),
    ],
)
def test_what_a_key_does_to_the_ticket(
    before: Ticket, result: Result, state: State, ends: tickets.Result | None
) -> None:
    change = callingback.keyed(before, TERMS, result, 10, actor="agent:anna")
    assert (change.ticket.state, change.ticket.result) == (state, ends)
    assert change.ticket.revision == before.revision + 1
    assert [(one.actor, one.text) for one in change.news] == [("agent:anna", f"keyed: {result.value}")]


def test_the_person_who_was_erased_is_not_called_again() -> None:
    gone = tickets.erased(ticket(), None, 6)
    change = callingback.keyed(gone, TERMS, Result.AGAIN, 10, actor="agent:anna")
    assert (change.ticket.state, change.ticket.result) == (State.CLOSED, tickets.Result.ERASED)


# -- the journal -----------------------------------------------------------------------------------------------------


def row(event: str, at_us: int = 0, **data: str) -> Row:
    return Row(at_us, "USER_DEFINED", event, "PJSIP/phone-anna-01", "x-1.0", "x-1.0", "dialmark-break", "", "", data)


def test_breaks_by_the_journal() -> None:
    """Oldest first; unknown phones and what makes no sense are passed over."""
    rows = [
        row("DM_BREAK", 30, p="phone-anna", on="0"),
        row("DM_BREAK", 10, p="phone-anna", on="1"),
        row("DM_BREAK", 20, p="nobody", on="1"),
        row("DM_BREAK", 25, p="phone-boris", on="2"),
        row("DM_BREAK", 26, p="phone-boris"),
    ]
    assert callingback.switches(rows, routing()) == [("anna", True, 10), ("anna", False, 30)]
    assert callingback.switches(rows, None) == []


def test_a_break_is_no_call() -> None:
    """N1: neither for the records nor for the ledger."""
    switched = row("DM_BREAK", p="phone-anna", on="1")
    assert not grouping.begins_call(switched)
    assert grouping.Grouping().assign(switched) is None
    ledger = conservation.Ledger()
    ledger.feed(switched)
    assert ledger.balance([]).channels == 0


def returned(extra: str, *more: Row) -> calls.CallFacts:
    """The recorded outbound call of the fixtures, its DM_OUT with more in it."""
    rows = list(journals.rows("outbound"))
    at = next(number for number, one in enumerate(rows) if one.user_event == "DM_OUT")
    data = {**rows[at].data, **dict(part.split("=") for part in extra.split("&"))}
    rows[at] = rows[at]._replace(data=data)
    facts = calls.fold([*rows, *more])
    assert facts is not None
    return facts


def test_the_record_of_a_call_back() -> None:
    facts = returned(f"tk=12&of={MISSED}&by=click&cid=74990000001")
    assert facts.callback == callingback.CallBack(12, MISSED, callingback.By.CLICK, "+74990000001")
    found = attribution.of_missed_call(
        {"source": "radio", "confidence": 1.0, "click_ids": {"gclid": "x"}, "method": "static_number"}
    )
    document = records.record(facts, routing(), revision=1, calls_before=None, node="n", found=found)
    assert document["callback"] == {
        "ticket": 12,
        "call_id": MISSED,
        "by": "click",
        "shown": "+74990000001",
        "result": None,
    }
    assert [document["attribution"][name] for name in ("method", "source", "click_ids")] == [
        "callback",
        "radio",
        {"gclid": "x"},
    ]


@pytest.mark.parametrize("extra", ["tk=", "tk=0", "tk=x1", "tk=1234567890"])
def test_an_outbound_call_like_any_other(extra: str) -> None:
    assert returned(extra).callback is None


def test_what_makes_no_sense_in_the_journal_is_not_believed() -> None:
    facts = returned("tk=12&of=../../etc&by=shell&cid=abc")
    assert facts.callback == callingback.CallBack(12, None, callingback.By.CODE, None)


def test_the_key_that_counts_is_the_first() -> None:
    rows = journals.rows("outbound")
    inbound = next(one for one in rows if one.user_event == "DM_OUT")
    keys = [
        inbound._replace(at_us=inbound.at_us + after, user_event="DM_RESULT", data={"i": inbound.data["i"], "k": key})
        for after, key in ((2_000, "2"), (3_000, "1"))
    ]
    facts = returned("tk=12", *keys)
    assert facts.callback is not None and facts.callback.result is Result.AGAIN


def test_the_receipt_of_a_call_back_names_nobody() -> None:
    """N3, N14: the customer is asked on a channel of their own, whose rows show it; whom we called is not in it."""
    rows = list(journals.rows("outbound"))
    facts = calls.fold(rows)
    assert facts is not None
    customer = next(one for one in rows if one.unique_id not in ("", facts.unique_id))
    answered = facts.answered_at_us
    assert answered is not None

    def on(one: Row, at_us: int, kind: str, event: str, application: str = "", **data: str) -> Row:
        return one._replace(at_us=at_us, kind=kind, user_event=event, application=application, data=data)

    said = {"i": facts.call_id, "m": "opt_in", "r": "granted", "k": "1", "p": "consent_opt_in.ru", "g": "RU"}
    whisper = on(rows[0], answered - 9, "STREAM_BEGIN", "")._replace(unique_id=facts.unique_id)
    question = on(customer, answered - 5, "STREAM_BEGIN", "")
    rows += [
        whisper,
        question,
        on(customer, answered - 4, "DTMF", ""),
        on(customer, answered - 3, "USER_DEFINED", "DM_CONSENT", **said),
        on(customer, answered - 2, "APP_START", "", "MixMonitor"),
    ]
    facts = calls.fold(rows)
    assert facts is not None and facts.consent is not None
    made = receipts.build(facts, rows, node="n1")
    assert made is not None
    kinds = [(row["kind"], row["event"] or row["application"]) for row in made["rows"]]
    assert kinds[0] == ("USER_DEFINED", "DM_OUT")
    assert kinds[-4:] == [
        ("STREAM_BEGIN", ""),
        ("DTMF", ""),
        ("USER_DEFINED", "DM_CONSENT"),
        ("APP_START", "MixMonitor"),
    ]
    assert {row["unique_id"] for row in made["rows"][1:]} == {customer.unique_id}
    assert made["dialled"] is None
    assert facts.did.lstrip("+") not in receipts.canonical(made).decode()
    assert receipts.contradictions(made, facts, rows) == []
