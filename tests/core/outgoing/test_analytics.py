"""What is sent to analytics and ad platforms, and what is not (R68, R90, R114); rules of integrations.md 4.1 to 4.4."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.outgoing import adapters, ga4, google_ads, hashing, meta, metrica, talks, told
from gateway.core.outgoing.adapters import State
from tests.fakes import handing
from tests.fakes.handing import NOW_US, SECOND, STARTED_US, VISITOR, attempt, event, first_request, record, result

GA4 = ga4.Ga4(ga4.Account("G-ABC123DEF4", "s3cret", value=Decimal("12.50"), currency="EUR"))
META = meta.Meta(meta.Account("1234567890"))
ADS = google_ads.GoogleAds(google_ads.Account("1112223333", "444", "dev-token"))
METRICA = metrica.Metrica(metrica.Account("98765"))
EVERY: tuple[adapters.Service, ...] = (GA4, META, ADS, METRICA)
HOUR = 3_600 * SECOND
DAY = 24 * HOUR


def call(**changes: Any) -> told.Call:
    return told.call(record(**changes))


TOLD_CALL = call()


def why_not(service: adapters.Service, handed: adapters.Handed, tried: adapters.Attempt) -> str:
    """Why nothing was sent."""
    settled = result(service.tell(handed, tried))
    assert settled.state is State.SKIPPED
    return settled.note


# -- consent: each only with what it needs ----------------------------------------------------------------------------


@pytest.mark.parametrize("service", EVERY, ids=lambda one: one.kind)
def test_nothing_is_sent_of_somebody_who_is_not_a_visitor_with_consent(service: adapters.Service) -> None:
    """A visitor is remembered with consent only, so no visitor is no consent."""
    assert "no consent" in why_not(service, event(), attempt(visitor=None)) or service is ADS
    assert first_request(service.tell(event(), attempt(visitor=None))) is None


@pytest.mark.parametrize("service", [META, ADS], ids=lambda one: one.kind)
def test_ad_platforms_need_consent_to_advertising(service: adapters.Service) -> None:
    counted_only = attempt(visitor=replace(VISITOR, allows_ads=False))
    assert why_not(service, event(), counted_only) == "no consent to advertising"


def test_ga4_is_told_what_the_visitor_allowed() -> None:
    """consent:{ad_user_data,ad_personalization:"GRANTED"/"DENIED"}"""
    for allows, word in ((True, "GRANTED"), (False, "DENIED")):
        body = ga4.payload(call(), replace(VISITOR, allows_ads=allows), ga4.Account("G-ABC123DEF4", "s"), NOW_US)
        assert body["consent"] == {"ad_user_data": word, "ad_personalization": word}


def test_ga4_gets_a_hashed_number_only_when_both_the_operator_and_the_visitor_agreed() -> None:
    on = ga4.Account("G-ABC123DEF4", "s", send_hashed_number=True)
    # user_data:{sha256_phone_number:[…]} (E.164 with +, hex lower)
    hashed = hashlib.sha256(handing.CALLER.encode()).hexdigest()
    assert ga4.payload(call(), VISITOR, on, NOW_US)["user_data"] == {"sha256_phone_number": [hashed]}
    assert "user_data" not in ga4.payload(call(), replace(VISITOR, allows_ads=False), on, NOW_US)
    assert "user_data" not in ga4.payload(call(), VISITOR, replace(on, send_hashed_number=False), NOW_US)


@pytest.mark.parametrize("service", EVERY, ids=lambda one: one.kind)
def test_the_number_itself_is_in_no_request(service: adapters.Service) -> None:
    """Never send the raw phone number"""
    known = {"batch": "b", "of": "1"} if service is METRICA else {}
    request = first_request(service.tell(event(), attempt(known=known)))
    assert request is not None
    digits = handing.CALLER.lstrip("+")
    assert digits not in talks.shown(request)


@pytest.mark.parametrize("service", EVERY, ids=lambda one: one.kind)
@pytest.mark.parametrize("changes", [{"direction": "outbound"}, {"outcome": "banned"}], ids=["outbound", "banned"])
def test_calls_of_ours_and_banned_callers_are_not_conversions(
    service: adapters.Service, changes: dict[str, Any]
) -> None:
    assert first_request(service.tell(event(**changes), attempt())) is None


@pytest.mark.parametrize("service", [GA4, META, ADS], ids=lambda one: one.kind)
def test_what_was_sent_is_not_sent_again_when_the_record_changes(service: adapters.Service) -> None:
    assert "sent before" in why_not(service, event("call.updated"), attempt(known={"sent": "another"}))


@pytest.mark.parametrize("service", EVERY, ids=lambda one: one.kind)
def test_a_call_that_is_attributed_later_is_sent_then(service: adapters.Service) -> None:
    known = {"batch": "b", "of": "1"} if service is METRICA else {}
    assert first_request(service.tell(event("call.updated"), attempt(known=known))) is not None


# -- GA4 --------------------------------------------------------------------------------------------------------------


def test_a_late_call_is_counted_at_the_end_of_the_session() -> None:
    """timestamp_micros between session start and end (clamp a late call to last_seen)"""
    start, seen = 1_000 * SECOND, 2_000 * SECOND
    assert ga4.clamped_us(1_500 * SECOND, start, seen) == 1_500 * SECOND
    assert ga4.clamped_us(9_000 * SECOND, start, seen) == seen
    assert ga4.clamped_us(10 * SECOND, start, seen) == start
    body = ga4.payload(call(), VISITOR, ga4.Account("G-ABC123DEF4", "s"), NOW_US)
    assert body["timestamp_micros"] == VISITOR.session_seen_us


@given(at=st.integers(0, 10**17), start=st.integers(0, 10**17), length=st.integers(0, 10**12))
def test_the_time_is_always_within_the_session(at: int, start: int, length: int) -> None:
    assert start <= ga4.clamped_us(at, start, start + length) <= start + length


def test_the_session_is_named_until_a_day_after_it_began() -> None:
    """send before session start + 24 h"""
    account = ga4.Account("G-ABC123DEF4", "s")
    began = (STARTED_US // SECOND - 590) * SECOND  # GA4's own session id is the second in which the session began
    for now_us, is_named in ((began + DAY - 1, True), (began + DAY, False)):
        params = ga4.payload(call(), VISITOR, account, now_us)["events"][0]["params"]
        assert ("session_id" in params) is is_named
    other = ga4.payload(call(), VISITOR, ga4.Account("G-OTHER", "s"), NOW_US)["events"][0]["params"]
    assert "session_id" not in other  # a stream of which the visitor has no cookie


def test_what_is_older_than_72_hours_is_not_sent() -> None:
    """backdating ≤ 72 h"""
    seen = VISITOR.session_seen_us
    assert first_request(GA4.tell(event(), attempt(now_us=seen + 72 * HOUR))) is not None
    assert why_not(GA4, event(), attempt(now_us=seen + 72 * HOUR + 1)) == "older than 72 hours"


def test_a_qualified_call_is_a_lead_too() -> None:
    """for qualified calls, recommended generate_lead {currency, value, lead_source}"""
    account = ga4.Account("G-ABC123DEF4", "s", qualified_seconds=60, value=Decimal("12.50"), currency="EUR")

    def named(made: dict[str, Any]) -> list[str]:
        return [one["name"] for one in made["events"]]

    assert named(ga4.payload(call(talk_seconds=60.0), VISITOR, account, NOW_US)) == ["phone_call", "generate_lead"]
    assert named(ga4.payload(call(talk_seconds=59.9), VISITOR, account, NOW_US)) == ["phone_call"]
    assert named(ga4.payload(call(outcome="voicemail"), VISITOR, account, NOW_US)) == ["phone_call"]
    lead = ga4.payload(call(), VISITOR, account, NOW_US)["events"][1]["params"]
    assert (lead["currency"], lead["value"], lead["lead_source"]) == ("EUR", 12.5, "google-ads")


NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")


@given(text=st.text(max_size=400))
def test_no_text_breaks_ga4s_limits(text: str) -> None:
    """≤ 25 events/request, ≤ 25 params/event, names ≤ 40 [A-Za-z][A-Za-z0-9_]*, values ≤ 100 chars, body < 130 kB;
    prefixes firebase_ ga_ google_ gtag. reserved"""
    long = replace(TOLD_CALL, source=text, campaign=text, call_id=text, tracking_label=text)
    body = ga4.payload(long, VISITOR, ga4.Account("G-ABC123DEF4", "s"), NOW_US)
    assert len(body["events"]) <= ga4.MAX_EVENTS
    assert len(json.dumps(body)) < 130_000
    for one in body["events"]:
        assert len(one["params"]) <= 25
        for name, value in one["params"].items():
            assert NAME.fullmatch(name)
            assert not name.startswith(("firebase_", "ga_", "google_", "gtag."))
            assert not isinstance(value, str) or 0 < len(value) <= 100


def test_what_may_have_arrived_is_not_sent_to_ga4_again() -> None:
    """De-dup: none in GA4 → our outbox must send once"""
    settled = result(GA4.tell(event(), attempt(is_unsure=True, number=2)))
    assert settled.state is State.DEAD
    assert first_request(GA4.tell(event(), attempt(number=2))) is not None  # refused by status: it did not arrive


# -- hashing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "hashed_text"),
    [
        ("+74951234567", "74951234567"),
        ("+1 (650) 555-0100", "16505550100"),
        ("0044 20 7946 0000", "442079460000"),
        ("+39 06 1234567", "39061234567"),  # the zero inside stays
    ],
)
def test_meta_hashes_digits_with_country_code(number: str, hashed_text: str) -> None:
    """ph: strip +, leading 00, all non-digits, keep country code, must not start with 0; SHA-256 hex"""
    assert hashing.meta(number) == hashlib.sha256(hashed_text.encode()).hexdigest()


def test_google_hashes_with_the_plus() -> None:
    """SHA-256 hex of E.164 with +"""
    assert hashing.google("+16505550100") == hashlib.sha256(b"+16505550100").hexdigest()


def test_meta_words_are_lower_case() -> None:
    assert hashing.meta_word("RU") == hashlib.sha256(b"ru").hexdigest()
    assert hashing.meta_word("New York") == hashlib.sha256(b"newyork").hexdigest()


# -- Meta -------------------------------------------------------------------------------------------------------------


def test_meta_is_not_told_of_what_is_older_than_seven_days() -> None:
    """event_time in seconds and ≤ 7 days old"""
    assert why_not(META, event(), attempt(now_us=STARTED_US + 7 * DAY + 1)) == "older than 7 days"
    assert first_request(META.tell(event(), attempt(now_us=STARTED_US + 7 * DAY))) is not None


@pytest.mark.parametrize(
    ("status", "error", "state"),
    [
        (400, {"code": 100, "error_subcode": 2804003}, State.DEAD),
        (400, {"code": 190}, State.FAILED),
        (400, {"code": 4}, State.FAILED),
        (400, {"code": 80004}, State.FAILED),
        (400, {"code": 100, "is_transient": True}, State.FAILED),
        (500, {"code": 1}, State.FAILED),
    ],
)
def test_metas_errors_by_their_own_codes(status: int, error: dict[str, Any], state: State) -> None:
    answer = talks.Response(status, json.dumps({"error": error}))
    with pytest.raises(talks.Refused) as refused:
        result(META.tell(event(), attempt()), answer)
    settled = adapters.failed(refused.value, NOW_US)
    assert settled.state is state
    assert settled.needs_attention is (error["code"] == 190)


# -- Google Ads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("click_ids", "used"),
    [
        ({"gclid": "g", "gbraid": "b", "wbraid": "w"}, "gclid"),
        ({"gbraid": "b", "wbraid": "w"}, "gbraid"),
        ({"wbraid": "w"}, "wbraid"),
        ({"gclid": "", "wbraid": "w"}, "wbraid"),
    ],
)
def test_one_click_id_goes_out(click_ids: dict[str, str], used: str) -> None:
    """gclid | gbraid | wbraid"""
    made = google_ads.conversion(
        call(attribution={"click_ids": click_ids}),
        google_ads.Account("1", "2", "d", send_hashed_number=True),
    )
    assert [name for name in google_ads.CLICK_IDS if name in made] == [used]
    assert made[used] == click_ids[used]
    assert ("userIdentifiers" in made) is (used == "gclid")


def test_without_a_click_there_is_no_conversion() -> None:
    no_click = event(attribution={"click_ids": {"yclid": "1"}})
    assert why_not(ADS, no_click, attempt()) == "no click on an ad of Google"


@pytest.mark.parametrize(
    ("time_zone", "text"),
    [
        ("Europe/Moscow", "2026-11-21 14:30:00+03:00"),
        ("UTC", "2026-11-21 11:30:00+00:00"),
        ("America/New_York", "2026-11-21 06:30:00-05:00"),
        ("Asia/Kolkata", "2026-11-21 17:00:00+05:30"),
    ],
)
def test_google_wants_the_sites_time_with_its_offset(time_zone: str, text: str) -> None:
    """conversionDateTime: "yyyy-mm-dd hh:mm:ss+|-hh:mm" """
    assert google_ads.date_time(STARTED_US, time_zone) == text


def failure(*codes: str) -> talks.Response:
    errors = [{"errorCode": {"conversionUploadError": code}, "message": "…"} for code in codes]
    body = {"partialFailureError": {"code": 3, "message": "…", "details": [{"errors": errors}]}, "results": [{}]}
    return talks.Response(200, json.dumps(body))


@pytest.mark.parametrize(
    ("codes", "state", "again_seconds"),
    [
        (("CLICK_CONVERSION_ALREADY_EXISTS",), State.DONE, None),
        (("ORDER_ID_ALREADY_IN_USE",), State.DONE, None),
        (("TOO_RECENT_CONVERSION_ACTION",), State.FAILED, 6 * 3600),
        (("TOO_RECENT_CALL",), State.FAILED, 6 * 3600),
        (("INTERNAL_ERROR",), State.FAILED, None),
        (("EXPIRED_EVENT",), State.DEAD, None),
        (("CLICK_CONVERSION_ALREADY_EXISTS", "EXPIRED_EVENT"), State.DEAD, None),
        ((), State.DEAD, None),
    ],
)
def test_a_partial_failure_stands_in_an_answer_of_200(
    codes: tuple[str, ...], state: State, again_seconds: int | None
) -> None:
    """partialFailureError?; orderId unique per action = idempotency; retry on TOO_RECENT_…"""
    try:
        settled = result(ADS.tell(event(), attempt()), failure(*codes))
    except talks.Refused as refused:
        settled = adapters.failed(refused, NOW_US)
    assert settled.state is state
    assert settled.again_us == (None if again_seconds is None else NOW_US + again_seconds * SECOND)


def test_short_talks_and_misses_are_no_conversions() -> None:
    for changes in ({"talk_seconds": 29.0}, {"outcome": "no_answer"}):
        assert "not qualified" in why_not(ADS, event(**changes), attempt())


# -- Metrica ----------------------------------------------------------------------------------------------------------


def test_a_row_of_metrica() -> None:
    account = metrica.Account("98765", value=Decimal("100"), currency="RUB", send_number=True, call_url="u/{call_id}")
    assert metrica.row(call(), attempt(), account) == {
        "ClientId": "1763700000123456789",  # ClientId = _ym_uid
        "DateTime": str(STARTED_US // SECOND),  # Unix s, UTC
        "StaticCall": "0",  # static is not tied to visits
        "PhoneNumber": "+74951234567",
        "TalkDuration": "74",
        "HoldDuration": "8",
        "CallMissed": "0",
        "FirstTimeCaller": "1",
        "Tag": "Implants",
        "URL": VISITOR.landing_page,
        "CallTrackerURL": f"u/{handing.CALL_ID}",
        "Price": "100",  # decimal point
        "Currency": "RUB",  # ISO 4217
    }


def test_each_missed_call_is_missed_in_metrica() -> None:
    missed = metrica.row(call(outcome="no_answer", talk_seconds=0.0), attempt(), metrica.Account("9"))
    assert (missed["CallMissed"], missed["TalkDuration"]) == ("1", "0")


def test_without_a_client_id_the_click_is_named() -> None:
    by_click = attempt(visitor=replace(VISITOR, ym_client_id=None))
    assert metrica.id_of(call(), by_click) == ("Yclid", "987654321")
    assert metrica.id_of(call(attribution={"click_ids": {}}), by_click) == ("", "")


@given(tag=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_whatever_a_campaign_is_called_the_file_has_one_line_for_a_call(tag: str) -> None:
    one = metrica.row(TOLD_CALL, attempt(), metrica.Account("9"))
    named = metrica.row(replace(TOLD_CALL, campaign=tag or "x"), attempt(), metrica.Account("9"))
    text = metrica.table("ClientId", [named, one]).decode()
    assert len(text.splitlines()) == 3
    assert next(csv.DictReader(text.splitlines()))["Tag"] == " ".join((tag or "x").split())


def test_visits_of_metrica() -> None:
    """Visit must be ≤ 21 days old and before the call"""
    began = VISITOR.session_started_us
    assert result(METRICA.tell(event(), attempt(now_us=began + 21 * DAY))).state is State.WAITING
    assert "21 days" in why_not(METRICA, event(), attempt(now_us=began + 21 * DAY + 1))
    later = attempt(visitor=replace(VISITOR, session_started_us=STARTED_US + 1))
    assert "after the call" in why_not(METRICA, event(), later)


def test_a_file_holds_one_kind_of_id_and_has_a_name_before_it_goes() -> None:
    """exactly one kind per file"""
    by_click = attempt(visitor=replace(VISITOR, ym_client_id=None))
    pairs = [
        (event(event_id="e1", call_id="c1"), attempt()),
        (event(event_id="e2", call_id="c2"), by_click),
        (event(event_id="e3", call_id="c3"), attempt()),
    ]
    with pytest.raises(StopIteration) as stop:
        next(METRICA.tell_many(pairs))
    first, second, third = stop.value.value
    assert {one.state for one in (first, second, third)} == {State.WAITING}
    assert first.known["batch"] == third.known["batch"] != second.known["batch"]
    assert (first.known["of"], second.known["of"]) == ("2", "1")


# -- what an answer means ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "token"), (400, "never"), (403, "never"), (404, "never"), (301, "never"), (307, "never")]
    + [(status, "later") for status in (408, 409, 423, 425, 429, 500, 502, 503, 504)],
)
def test_a_refusal_by_its_status(status: int, kind: str) -> None:
    assert talks.refusal(talks.Response(status)).kind == kind


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "999999999999"}, 86_400.0),
        ({"retry-after": "Sat, 21 Nov 2026 11:31:00 GMT", "date": "Sat, 21 Nov 2026 11:30:00 GMT"}, 60.0),
        ({"retry-after": "Sat, 21 Nov 2026 11:29:00 GMT", "date": "Sat, 21 Nov 2026 11:30:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert talks.retry_after_seconds(talks.Response(429, headers=headers)) == seconds


def test_no_secret_is_shown() -> None:
    request = first_request(GA4.tell(event(), attempt()))
    assert request is not None
    assert "s3cret" not in talks.shown(request)
    assert "measurement_id=G-ABC123DEF4" in talks.shown(request)
    form = talks.Request(
        "POST", "https://auth.example/token", form={"client_secret": "a", "refresh_token": "b", "x": "c"}
    )
    assert talks.shown(form).splitlines()[1:] == ["client_secret=********", "refresh_token=********", "x=c"]


def test_a_half_answer_is_asked_for_again() -> None:
    with pytest.raises(talks.Refused) as refused:
        talks.expect_object(talks.Response(200, '{"id": 1'))
    assert refused.value.kind is talks.Kind.LATER
