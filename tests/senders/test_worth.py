"""Results, deals and rules as ad platforms and analytics are told of them (R2, R77, R85, R90): once, and no spam."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from gateway.core import deals
from gateway.core.outgoing import adapters, ga4, google_ads, meta, metrica, told, worth
from gateway.core.outgoing.adapters import Settled, State
from gateway.core.outgoing.worth import Counts
from gateway.senders import service
from tests.fakes import analytics, handing, peer
from tests.fakes.handing import NOW_US, SECOND, STARTED_US, attempt, event, said, scored

DAY = 86_400 * SECOND
WON = {"deal_id": "D-17", "deal_state": "won", "deal_stage": "Paid", "value": "120000.50", "currency": "RUB"}
STATIC: dict[str, Any] = {"value": Decimal("1500"), "currency": "EUR"}
SHORT: dict[str, Any] = {"talk_seconds": 12.0}


def won(at_us: int = NOW_US, **changes: Any) -> dict[str, Any]:
    """A result with a deal that was won."""
    fields = {**WON, **changes}
    return said(at_us, **{**fields, "deal_state": deals.State(fields["deal_state"])})


class House:
    """One adapter at its fake, with what the post keeps of the call."""

    def __init__(self, there: peer.Peer, adapter: service.ServiceAdapter) -> None:
        self.there = there
        self.adapter = adapter
        self.known: dict[str, str] = {}
        self.events = 0

    async def tell(self, *, at_us: int = NOW_US, **changes: Any) -> Settled:
        """The call as it is by now, as an event of its own."""
        self.events += 1
        handed = event("call.updated", event_id=f"event-{self.events}", **changes)
        settled = await self.adapter.deliver(handed, attempt(now_us=at_us, known=self.known))
        self.known |= settled.known
        return settled


@asynccontextmanager
async def house(there: peer.Peer, make: Any, **terms: Any) -> AsyncIterator[House]:
    await there.start()
    adapter = handing.adapter(make(there.url, **terms))
    try:
        yield House(there, adapter)
        assert there.wrong == []
    finally:
        await adapter.close()
        await there.stop()


def ga4_at(url: str, **terms: Any) -> ga4.Ga4:
    return ga4.Ga4(ga4.Account("G-ABC123DEF4", "s3cret", **terms), url)


def meta_at(url: str, **terms: Any) -> meta.Meta:
    return meta.Meta(meta.Account("1234567890", **terms), url)


def google_ads_at(url: str, **terms: Any) -> google_ads.GoogleAds:
    return google_ads.GoogleAds(google_ads.Account("1112223333", "444", "dev-token", "9998887777", **terms), url)


def metrica_at(url: str, **terms: Any) -> metrica.Metrica:
    return metrica.Metrica(metrica.Account("98765", **terms), url)


ALL = pytest.mark.parametrize(
    ("kind", "make"),
    [
        pytest.param(analytics.Ga4, ga4_at, id="ga4"),
        pytest.param(analytics.Metrica, metrica_at, id="metrica"),
        pytest.param(analytics.GoogleAds, google_ads_at, id="google_ads"),
        pytest.param(analytics.Meta, meta_at, id="meta"),
    ],
)


# -- what a lead is ---------------------------------------------------------------------------------------------------

LONG: dict[str, Any] = {"talk_seconds": 74.0}
KEYED = {"rating": {"goal_reached": True}}


@pytest.mark.parametrize(
    ("changes", "is_lead"),
    [
        (LONG, True),
        (SHORT, False),
        ({"outcome": "voicemail"}, False),
        # The rules' word goes before the length …
        ({**LONG, "scoring": scored(qualified=False)}, False),
        ({**SHORT, "scoring": scored(80, qualified=True)}, True),
        ({**LONG, "scoring": scored(10)}, True),
        # … a key before the length, the rules before the key …
        ({**SHORT, **KEYED}, True),
        ({**SHORT, **KEYED, "scoring": scored(qualified=False)}, False),
        # … and a person's or the CRM's before all.
        ({**LONG, "result": said(qualified=False)}, False),
        ({**SHORT, "result": said(qualified=True)}, True),
        ({**LONG, "result": said(qualified=False), "scoring": scored(qualified=True)}, False),
        ({**SHORT, "result": said(qualified=True), "scoring": scored(qualified=False)}, True),
        ({**SHORT, "result": said(goal_reached=True)}, True),
        ({**SHORT, "result": won(), "scoring": scored(qualified=False)}, True),
        ({**SHORT, "result": said(note="calls back")}, False),
        # Somebody whom nobody answered may have bought when called back.
        ({"outcome": "no_answer", "result": won()}, True),
        # Spam is nothing, unless a person says it is none.
        ({**LONG, "scoring": scored(spam=True)}, False),
        ({**LONG, "result": said(spam=True, qualified=True)}, False),
        ({**LONG, "scoring": scored(spam=True), "result": said(spam=False)}, True),
    ],
)
def test_who_says_what_a_lead_is(changes: dict[str, Any], is_lead: bool) -> None:
    call = told.call(handing.record(**changes))
    assert worth.is_lead(call, ga4.Account("G-ABC123DEF4", "s")) is is_lead


@pytest.mark.parametrize(
    ("result", "is_won"),
    [(None, False), (won(deal_state="open"), False), (won(deal_state="lost"), False), (won(), True)],
    ids=["nothing said", "open", "lost", "won"],
)
def test_where_deals_count_a_long_talk_is_no_conversion(result: dict[str, Any] | None, is_won: bool) -> None:
    account = ga4.Account("G-ABC123DEF4", "s", counts=Counts.WON)
    assert worth.is_lead(told.call(handing.record(result=result)), account) is is_won
    spam = told.call(handing.record(result=result, scoring=scored(spam=True)))
    assert not worth.is_lead(spam, account)


@pytest.mark.parametrize(
    ("result", "terms", "money"),
    [
        (won(), STATIC, (Decimal("120000.50"), "RUB")),
        (won(), {}, (Decimal("120000.50"), "RUB")),
        (won(deal_state="open"), STATIC, (Decimal("1500"), "EUR")),  # what is hoped for is not earned
        (said(qualified=True), STATIC, (Decimal("1500"), "EUR")),
        (None, {}, None),
    ],
)
def test_a_lead_is_worth_its_deal_or_what_leads_are_worth(result: Any, terms: dict[str, Any], money: Any) -> None:
    call = told.call(handing.record(result=result))
    assert worth.money(call, ga4.Account("G-ABC123DEF4", "s", **terms)) == money


# -- spam -------------------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize(
    "changes", [{"scoring": scored(spam=True)}, {"result": said(spam=True)}], ids=["by a rule", "by a person"]
)
async def test_spam_counts_nowhere(kind: Any, make: Any, changes: dict[str, Any]) -> None:
    """A spam call must not count as a conversion."""
    async with house(kind(), make) as here:
        settled = await here.tell(**changes)
        assert (settled.state, settled.note, here.there.asked) == (State.SKIPPED, "marked as spam", [])


# -- a deal that comes later ------------------------------------------------------------------------------------------


async def test_a_lead_of_ga4_follows_its_call_once_with_the_deals_value() -> None:
    """for qualified calls, recommended generate_lead {currency, value, lead_source}; De-dup: none in GA4 → our outbox
    must send once"""
    there = analytics.Ga4()
    async with house(there, ga4_at, **STATIC) as here:
        assert (await here.tell(**SHORT)).state is State.DONE
        assert there.names == ["phone_call"]
        assert (await here.tell(**SHORT, result=said(note="wants an offer"))).state is State.SKIPPED
        assert (await here.tell(**SHORT, result=won())).state is State.DONE
        lead = there.counted[-1]["events"][0]
        assert (lead["params"]["value"], lead["params"]["currency"]) == (120000.5, "RUB")
        settled = await here.tell(**SHORT, result=won(value="130000"))
        assert (settled.state, settled.note[:11]) == (State.SKIPPED, "sent before")
        assert there.names == ["phone_call", "generate_lead"]


async def test_a_call_that_is_a_lead_at_once_is_one_request_of_ga4() -> None:
    there = analytics.Ga4()
    async with house(there, ga4_at, **STATIC) as here:
        await here.tell()
        assert (await here.tell(result=won())).note[:11] == "sent before"
        assert there.names == ["phone_call", "generate_lead"]


@pytest.mark.parametrize(("days", "note"), [(10, ""), (62, ""), (64, "the visit is more than 63 days ago")])
async def test_a_late_lead_of_ga4_has_its_own_time_and_no_session(days: int, note: str) -> None:
    """backdating ≤ 72 h; export to ads: ≤ 63 days after last session"""
    there = analytics.Ga4()
    at_us = NOW_US + days * DAY
    there.now_seconds = at_us // SECOND
    async with house(there, ga4_at) as here:
        here.known = worth.sent("event-0", with_lead=False)
        settled = await here.tell(at_us=at_us, **SHORT, result=won(at_us - 60 * SECOND))
        assert settled.note == note
        if not note:
            (body,) = there.counted
            assert body["timestamp_micros"] == at_us - 60 * SECOND
            assert [one["name"] for one in body["events"]] == ["generate_lead"]
            assert "session_id" not in body["events"][0]["params"]


async def test_a_late_lead_of_ga4_that_waited_too_long_is_not_sent() -> None:
    there = analytics.Ga4()
    async with house(there, ga4_at) as here:
        here.known = worth.sent("event-0", with_lead=False)
        settled = await here.tell(at_us=NOW_US + 10 * DAY, **SHORT, result=won(NOW_US + 6 * DAY))
        assert (settled.state, settled.note) == (State.SKIPPED, "older than 72 hours")


async def test_a_lead_of_ga4_that_may_have_arrived_is_not_sent_again() -> None:
    there = analytics.Ga4()
    there.orders[1] = peer.LOST
    async with house(there, ga4_at) as here:
        await here.tell(**SHORT)
        assert (await here.tell(**SHORT, result=won())).state is State.DEAD
        assert there.names == ["phone_call", "generate_lead"]


async def test_a_lead_of_meta_follows_its_contact_once() -> None:
    """event_time in seconds and ≤ 7 days old; event_id+event_name de-duplicates"""
    there = analytics.Meta()
    async with house(there, meta_at, **STATIC) as here:
        await here.tell(**SHORT)
        assert list(there.events) == [("Contact", handing.CALL_ID)]
        late_us = STARTED_US + 20 * DAY
        there.now_seconds = late_us // SECOND + 60
        settled = await here.tell(at_us=late_us + 60 * SECOND, **SHORT, result=won(late_us))
        assert settled.state is State.DONE
        lead = there.events["Lead", handing.CALL_ID]
        assert lead["event_time"] == late_us // SECOND
        assert {name: lead["custom_data"][name] for name in ("currency", "value")} == {
            "currency": "RUB",
            "value": 120000.5,
        }
        again = await here.tell(at_us=late_us + 60 * SECOND, **SHORT, result=won(late_us, value="7"))
        assert (again.note, len(there.asked)) == ("sent before", 2)


async def test_a_lead_of_meta_that_waited_a_week_is_not_sent() -> None:
    async with house(analytics.Meta(), meta_at) as here:
        settled = await here.tell(at_us=NOW_US + 7 * DAY + SECOND, **SHORT, result=won())
        assert (settled.state, settled.note) == (State.SKIPPED, "older than 7 days")


@pytest.mark.parametrize("fault", [None, peer.LOST, peer.ERROR], ids=["well", "answer lost", "500"])
async def test_google_ads_counts_a_late_deal_once_with_its_value(fault: peer.Fail | None) -> None:
    """conversionValue, currencyCode, orderId:call_id; orderId unique per action = idempotency"""
    there = analytics.GoogleAds()
    if fault is not None:
        there.orders[0] = fault
    async with house(there, google_ads_at, counts=Counts.WON, **STATIC) as here:
        assert (await here.tell()).note == "no deal was won"
        assert (await here.tell(result=won(deal_state="open"))).note == "no deal was won"
        late: dict[str, Any] = {"at_us": NOW_US + 30 * DAY, "result": won(NOW_US + 30 * DAY)}
        settled = await here.tell(**late)
        if fault is not None:
            assert settled.state is State.FAILED
            settled = await here.tell(**late)
        assert settled.state is State.DONE
        (conversion,) = there.orders_seen.values()
        assert (conversion["conversionValue"], conversion["currencyCode"]) == (120000.5, "RUB")
        assert conversion["conversionDateTime"] == "2026-11-21 14:30:00+03:00"
        assert (await here.tell(**late)).note == "sent before"


async def test_a_call_marked_qualified_is_a_conversion_however_short() -> None:
    there = analytics.GoogleAds()
    async with house(there, google_ads_at, **STATIC) as here:
        assert (await here.tell(**SHORT)).note == "not qualified: nobody answered, or too short"
        assert (await here.tell(**SHORT, scoring=scored(qualified=False))).note == "not qualified: marked so"
        assert (await here.tell(**SHORT, result=said(qualified=True))).state is State.DONE
        assert [one["conversionValue"] for one in there.orders_seen.values()] == [1500.0]


@pytest.mark.parametrize(
    ("changes", "terms", "price"),
    [
        ({"result": won()}, STATIC, {"Price": "120000.50", "Currency": "RUB"}),
        ({}, STATIC, {"Price": "1500", "Currency": "EUR"}),
        (SHORT, STATIC, {"Price": "", "Currency": ""}),
        ({}, {**STATIC, "counts": Counts.WON}, {"Price": "", "Currency": ""}),
        ({**SHORT, "result": said(qualified=True)}, STATIC, {"Price": "1500", "Currency": "EUR"}),
    ],
    ids=["won", "long", "short", "not won", "marked"],
)
async def test_a_row_of_metrica_has_the_price_of_a_lead(
    changes: dict[str, Any], terms: dict[str, Any], price: dict[str, str]
) -> None:
    """Price, Currency: decimal point; ISO 4217"""
    there = analytics.Metrica()
    async with house(there, metrica_at, **terms) as here:
        here.known = {"batch": "b", "of": "1"}
        assert (await here.tell(**changes)).state is State.WAITING
        assert {name: there.rows[0][name] for name in price} == price


@ALL
async def test_nobody_is_told_of_deals_without_consent(kind: Any, make: Any) -> None:
    """Each only with the consent it needs."""
    there = kind()
    async with house(there, make) as here:
        handed = event("call.updated", result=won())
        settled = await here.adapter.deliver(handed, attempt(visitor=None))
        assert (settled.state, there.asked) == (State.SKIPPED, [])


# -- how a call stands, for people ------------------------------------------------------------------------------------


async def test_what_a_service_has_it_still_has_when_nothing_new_follows() -> None:
    """Each row's status kept per call and target."""
    async with house(analytics.Ga4(), ga4_at) as here:
        status = adapters.STATUS, adapters.STATUS_NOTE, adapters.STATUS_TYPE
        handed = event("call.completed", event_id="first")
        settled = await here.adapter.deliver(handed, attempt(visitor=None))
        assert [settled.known[name] for name in status] == [
            "skipped",
            "no client_id: no visitor, or no consent",
            "call.completed",
        ]
        here.known |= settled.known
        await here.tell()
        assert [here.known[name] for name in status] == ["done", "", "call.updated"]
        assert (await here.tell(result=said(note="x"))).state is State.SKIPPED
        assert [here.known[name] for name in status] == ["done", "", "call.updated"]


async def test_the_services_own_id_of_a_call_is_kept() -> None:
    async with house(analytics.Meta(), meta_at) as here:
        await here.tell()
        assert here.known[adapters.STATUS_ID] == "Trace"
