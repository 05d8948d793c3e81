"""Calls at GA4, Metrica, Google Ads and Meta over HTTP (R68, R90, R114): each field, each fault, nothing twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from gateway.core.outgoing import adapters, ga4, google_ads, meta, metrica
from gateway.core.outgoing.adapters import Attempt, Handed, Settled, State
from gateway.senders import service
from tests.fakes import analytics, handing, peer
from tests.fakes.handing import NOW_US, SECOND, VISITOR, attempt, event, until_settled

WORTH: dict[str, Any] = {"value": Decimal("1500.50"), "currency": "RUB"}

ADS = google_ads.Account("1112223333", "444", "dev-token", "9998887777", send_hashed_number=True, **WORTH)


def ga4_at(url: str) -> adapters.Service:
    return ga4.Ga4(ga4.Account("G-ABC123DEF4", "s3cret", send_hashed_number=True, **WORTH), url)


def metrica_at(url: str) -> metrica.Metrica:
    account = metrica.Account("98765", send_number=True, call_url="https://calls.example/calls/{call_id}", **WORTH)
    return metrica.Metrica(account, url)


def google_ads_at(url: str) -> adapters.Service:
    return google_ads.GoogleAds(ADS, url)


def meta_at(url: str) -> adapters.Service:
    return meta.Meta(meta.Account("1234567890", **WORTH), url)


@asynccontextmanager
async def site(there: peer.Peer, make: Any, **options: Any) -> AsyncIterator[service.ServiceAdapter]:
    """The adapter to a fake; nothing that the fake was sent was wrong."""
    await there.start()
    adapter = handing.adapter(make(there.url), **options)
    try:
        yield adapter
        assert there.wrong == []
    finally:
        await adapter.close()
        await there.stop()


# -- GA4 --------------------------------------------------------------------------------------------------------------


async def test_a_call_is_counted_in_ga4() -> None:
    there = analytics.Ga4()
    async with site(there, ga4_at) as adapter:
        settled = await adapter.deliver(event(), attempt())
        assert (settled.state, settled.status) == (State.DONE, 204)
        (body,) = there.counted
        assert body["client_id"] == VISITOR.ga_client_id
        assert [one["name"] for one in body["events"]] == ["phone_call", "generate_lead"]
        # session_id (string of the _ga_<ID> cookie)
        assert body["events"][0]["params"]["session_id"] == VISITOR.ga_sessions["ABC123DEF4"]
        assert "s3cret" not in settled.request


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (peer.ERROR, State.FAILED),
        (peer.busy(9), State.FAILED),
        (peer.LOST, State.DEAD),
        (peer.RESET, State.DEAD),
        (peer.SLOW_AFTER, State.DEAD),
    ],
    ids=["500", "429", "answer lost", "reset", "slow"],
)
async def test_ga4_is_sent_again_only_what_it_has_refused(fault: peer.Fail, state: State) -> None:
    """none in GA4 → our outbox must send once"""
    there = analytics.Ga4()
    there.orders[0] = fault
    # A busy machine is slow too: only what never answers is given up soon.
    async with site(there, ga4_at, seconds=2.0 if fault.slow else 20.0) as adapter:
        settled = await adapter.deliver(event(), attempt())
        assert settled.state is state
        if state is State.DEAD:
            assert "may have arrived" in settled.note
        else:
            await adapter.deliver(event(), attempt(number=2))
        assert len(there.counted) <= 1


async def test_a_ga4_that_is_not_there_is_sent_to_again() -> None:
    there = analytics.Ga4()
    await there.start()
    adapter = handing.adapter(ga4_at(there.url))
    await there.stop()
    settled = await adapter.deliver(event(), attempt())
    await adapter.close()
    assert (settled.state, settled.note[:11]) == (State.FAILED, "not reached")


async def test_ga4s_own_check_of_an_event() -> None:
    """POST /debug/mp/collect → {"validationMessages":[{fieldPath,description,validationCode}]}"""
    there = analytics.Ga4()
    async with site(there, ga4_at) as adapter:
        assert await adapter.check(event(), attempt()) == []
        there.messages = [{"fieldPath": "events", "description": "Too long", "validationCode": "VALUE_OUT_OF_BOUNDS"}]
        assert await adapter.check(event(), attempt()) == ["events: Too long (VALUE_OUT_OF_BOUNDS)"]
        assert await adapter.check(event(), attempt(visitor=None)) == ["no client_id: no visitor, or no consent"]
        assert (len(there.asked), there.counted) == (2, [])
    async with site(analytics.Meta(), meta_at) as adapter:
        assert await adapter.check(event(), attempt()) is None


# -- Google Ads and Meta: may be sent again ---------------------------------------------------------------------------

FAULTS = [peer.ERROR, peer.RESET, peer.LOST, peer.busy(9)]


@pytest.mark.parametrize("fault", FAULTS, ids=["500", "reset", "answer lost", "429"])
async def test_a_conversion_of_google_ads_is_there_once(fault: peer.Fail) -> None:
    """orderId unique per action = idempotency"""
    there = analytics.GoogleAds()
    there.orders[0] = fault
    async with site(there, google_ads_at) as adapter:
        settled = await until_settled(adapter, event())
        assert settled[-1].state is State.DONE
        assert list(there.orders_seen) == [handing.CALL_ID]
        assert settled[-1].note == ("there already: CLICK_CONVERSION_ALREADY_EXISTS" if fault is peer.LOST else "")
        if fault.reply is not None and fault.reply.status == 429:
            assert settled[0].again_us == NOW_US + 9 * SECOND


async def test_a_partial_failure_of_google_ads_comes_with_200() -> None:
    """retry on TOO_RECENT_CALL / TOO_RECENT_CONVERSION_ACTION"""
    there = analytics.GoogleAds()
    there.failing = ["TOO_RECENT_CONVERSION_ACTION"]
    async with site(there, google_ads_at) as adapter:
        settled = await until_settled(adapter, event())
        assert [one.state for one in settled] == [State.FAILED, State.DONE]
        assert settled[0].again_us == NOW_US + 6 * 3600 * SECOND


@pytest.mark.parametrize("fault", FAULTS, ids=["500", "reset", "answer lost", "429"])
async def test_an_event_of_meta_is_counted_once(fault: peer.Fail) -> None:
    """event_id + event_name de-duplicates"""
    there = analytics.Meta()
    there.orders[0] = fault
    async with site(there, meta_at) as adapter:
        settled = await until_settled(adapter, event())
        assert settled[-1].state is State.DONE
        assert list(there.events) == [("Lead", handing.CALL_ID)]


async def test_a_short_talk_is_a_contact_for_meta() -> None:
    there = analytics.Meta()
    async with site(there, meta_at) as adapter:
        await adapter.deliver(event(talk_seconds=12.0), attempt())
        assert list(there.events) == [("Contact", handing.CALL_ID)]


# -- Metrica ----------------------------------------------------------------------------------------------------------


def batch(size: int = 3) -> list[tuple[Handed, Attempt]]:
    """Calls of different callers."""
    return [(event(event_id=f"event-{place}", call_id=f"call-{place}"), attempt()) for place in range(size)]


async def driven(
    adapter: service.ServiceAdapter,
    pairs: Sequence[tuple[Handed, Attempt]],
    rounds: int,
    *,
    killed_in: int | None = None,
) -> list[Settled]:
    """So many rounds of the dispatcher, 15 minutes apart; what is learned in round `killed_in` is lost."""
    now_us, pairs = NOW_US, list(pairs)
    settled: list[Settled] = []
    for place in range(rounds):
        settled = list(await adapter.deliver_many([(one, replace(tried, now_us=now_us)) for one, tried in pairs]))
        if place == killed_in:
            pairs = [(one, replace(tried, is_unsure=True)) for one, tried in pairs]
        else:
            pairs = [
                (
                    one,
                    replace(
                        tried, known={**tried.known, **how.known}, number=tried.number + (how.state is State.FAILED)
                    ),
                )
                for (one, tried), how in zip(pairs, settled, strict=True)
                if how.state in (State.WAITING, State.FAILED)
            ]
        now_us += metrica.EVERY_US
    return settled


async def test_calls_go_to_metrica_in_one_file_and_are_followed_until_they_are_processed() -> None:
    """status PREPARED→UPLOADED→EXPORTED→MATCHED→PROCESSED"""
    there = analytics.Metrica()
    async with site(there, metrica_at) as adapter:
        settled = await driven(adapter, batch(), 6)
        assert {one.state for one in settled} == {State.DONE}
        assert {one.external_id for one in settled} == {"1000"}
        assert (len(there.uploads), len(there.rows)) == (1, 3)
        assert [asked.method for asked in there.asked] == ["POST", "GET", "GET", "GET", "GET"]


@pytest.mark.parametrize("fault", FAULTS, ids=["500", "reset", "answer lost", "429"])
async def test_a_file_that_metrica_has_is_not_sent_again(fault: peer.Fail) -> None:
    there = analytics.Metrica()
    there.orders[0] = fault
    async with site(there, metrica_at) as adapter:
        settled = await driven(adapter, batch(), 7)
        assert {one.state for one in settled} == {State.DONE}
        assert (len(there.uploads), len(there.rows)) == (1, 3)


async def test_a_process_that_is_killed_while_it_uploads_sends_no_second_file() -> None:
    there = analytics.Metrica()
    async with site(there, metrica_at) as adapter:
        settled = await driven(adapter, batch(), 7, killed_in=1)
        assert {one.state for one in settled} == {State.DONE}
        assert (len(there.uploads), len(there.rows)) == (1, 3)


async def test_calls_that_fit_no_visit_are_dead_letters() -> None:
    """… or LINKAGE_FAILURE"""
    there = analytics.Metrica()
    there.statuses = ["LINKAGE_FAILURE"]
    async with site(there, metrica_at) as adapter:
        settled = await driven(adapter, batch(), 3)
        assert {one.state for one in settled} == {State.DEAD}


async def test_two_kinds_of_ids_are_two_files_and_one_ones_trouble_is_not_the_others() -> None:
    """exactly one kind per file"""
    there = analytics.Metrica()
    by_click = attempt(visitor=replace(VISITOR, ym_client_id=None))
    pairs = [*batch(2), (event(event_id="event-9", call_id="call-9"), by_click)]
    there.orders[1] = peer.ERROR
    async with site(there, metrica_at) as adapter:
        settled = await driven(adapter, pairs, 2)
        assert [one.state for one in settled] == [State.WAITING, State.WAITING, State.FAILED]
        assert [row.get("ClientId") for row in there.rows] == [VISITOR.ym_client_id] * 2


async def test_metrica_is_told_once_that_calls_will_come() -> None:
    """switch on once POST …/offline_conversions/calls_extended_threshold"""
    there = analytics.Metrica()
    async with site(there, metrica_at) as adapter:
        assert await adapter.prepare()
        assert await adapter.prepare()
        assert (there.is_on, len(there.asked)) == (True, 2)
    async with site(analytics.Meta(), meta_at) as adapter:
        assert not await adapter.prepare()


# -- all --------------------------------------------------------------------------------------------------------------

PEERS = [
    pytest.param(analytics.Ga4, ga4_at, id="ga4"),
    pytest.param(analytics.Metrica, metrica_at, id="metrica"),
    pytest.param(analytics.GoogleAds, google_ads_at, id="google_ads"),
    pytest.param(analytics.Meta, meta_at, id="meta"),
]


@pytest.mark.parametrize(("kind", "make"), PEERS)
async def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(kind: Any, make: Any) -> None:
    there = kind()
    async with site(there, make) as adapter:
        settled = await adapter.deliver(event(), attempt(dry_run=True))
        assert (settled.state, settled.note) == (State.SKIPPED, "dry run: nothing was sent")
        assert settled.request.startswith("POST /")
        assert there.asked == []


@pytest.mark.parametrize(("kind", "make"), PEERS[1:])
async def test_a_token_that_does_not_count_needs_a_person(kind: Any, make: Any) -> None:
    there = kind()
    async with site(there, make, token="taken-back") as adapter:
        known = {"batch": "b", "of": "1"} if kind is analytics.Metrica else {}
        settled = await adapter.deliver(event(), attempt(known=known))
        assert (settled.state, settled.needs_attention) == (State.FAILED, True)
        assert "taken-back" not in settled.request + settled.response + settled.note


@pytest.mark.parametrize(("kind", "make"), PEERS)
async def test_a_token_follows_no_redirect(kind: Any, make: Any) -> None:
    there = kind()
    elsewhere = analytics.Ga4()
    await elsewhere.start()
    there.orders[0] = peer.Fail(peer.Reply(307, "", {"Location": f"{elsewhere.url}/mp/collect"}))
    async with site(there, make) as adapter:
        known = {"batch": "b", "of": "1"} if kind is analytics.Metrica else {}
        settled = await adapter.deliver(event(), attempt(known=known))
        assert (settled.state, settled.status) == (State.DEAD, 307)
        assert elsewhere.asked == []
    await elsewhere.stop()
