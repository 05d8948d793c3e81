"""Touches and models (R85, R88, attribution.md 3.2), and the record's attribution made of a match and a touch."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import attribution, book, matching, touches
from gateway.core.attribution import Candidate, Method
from gateway.core.touches import Model, Touch
from gateway.core.traffic import Classified, Kind

from .books import routing_book

DAY = 86_400 * 1_000_000
NOW = 1_800_000_000 * 1_000_000

GOOGLE = Classified(Kind.PAID_SEARCH, "google", "cpc", campaign="spring", term="tooth", click_ids={"gclid": "x"})
VK = Classified(Kind.SOCIAL, "vk", "social")
MAIL = Classified(Kind.EMAIL, "june", "email")
DIRECT = Classified(Kind.DIRECT, "direct", "none")
OWN = Classified(Kind.OWN, "example.com", "none")


def touch(days_ago: float, came: Classified = GOOGLE, **fields: str) -> Touch:
    return Touch(NOW - round(days_ago * DAY), f"visit-{days_ago:g}", "anna", came, **fields)


WAY = (touch(20, VK), touch(14), touch(7, MAIL), touch(0, DIRECT))


def shares(model: Model, way: tuple[Touch, ...] = WAY) -> dict[str, float]:
    return {one.came.source: round(share, 4) for one, share in touches.credit(way, model, NOW)}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Model.FIRST, {"vk": 1}),
        (Model.LAST, {"direct": 1}),
        (Model.LAST_NON_DIRECT, {"june": 1}),
        (Model.LINEAR, {"vk": 0.25, "google": 0.25, "june": 0.25, "direct": 0.25}),
        (Model.POSITION, {"vk": 0.4, "google": 0.1, "june": 0.1, "direct": 0.4}),
        (Model.TIME_DECAY, {"vk": 0.0731, "google": 0.1324, "june": 0.2648, "direct": 0.5297}),
    ],
)
def test_model(model: Model, expected: dict[str, float]) -> None:
    assert shares(model) == expected


def test_position_of_one_and_two() -> None:
    assert shares(Model.POSITION, WAY[:1]) == {"vk": 1}
    assert shares(Model.POSITION, WAY[:2]) == {"vk": 0.5, "google": 0.5}


def test_only_touches_before_the_call_and_inside_the_window_count() -> None:
    way = (touch(31, VK), touch(5), touch(-1, MAIL))
    assert shares(Model.LINEAR, way) == {"google": 1}
    assert [one.came.source for one in touches.within(way, NOW, 90)] == ["vk", "google"]
    assert touches.credit((), Model.LINEAR, NOW) == []
    assert touches.deciding((), NOW) is None
    assert touches.deciding((touch(1, DIRECT), touch(0, DIRECT)), NOW) == touch(0, DIRECT)


@given(
    some.lists(some.tuples(some.floats(-5, 60), some.sampled_from([GOOGLE, VK, MAIL, DIRECT])), max_size=20),
    some.sampled_from(list(Model)),
    some.floats(0, 90),
)
def test_credit_sums_to_one(way: list[tuple[float, Classified]], model: Model, window: float) -> None:
    known = [touch(days, came) for days, came in way]
    credited = touches.credit(known, model, NOW, window)
    assert all(share >= 0 for _, share in credited)
    if touches.within(known, NOW, window):
        assert sum(share for _, share in credited) == pytest.approx(1)
    else:
        assert credited == []


# ---- When a touch begins ----


@pytest.mark.parametrize(
    ("came", "quiet_seconds", "begins"),
    [
        (GOOGLE, 60, False),
        (replace(GOOGLE, click_ids={"gclid": "another"}), 60, True),
        (replace(GOOGLE, campaign="summer"), 60, True),
        (VK, 60, True),
        (DIRECT, 60, False),
        (OWN, 60, False),
        (OWN, 99_999, False),
        (GOOGLE, 1_800, True),
        (DIRECT, 1_800, True),
    ],
)
def test_a_page_view_begins_a_touch(came: Classified, quiet_seconds: float, begins: bool) -> None:
    """A reloaded page keeps its click id, and is the same touch."""
    assert touches.begins_touch(touch(1), came, quiet_seconds) == begins
    assert touches.begins_touch(None, came, 0)


# ---- The record's attribution ----

BOOK = replace(
    routing_book(),
    sources={
        "google-ads": book.Source(
            "google-ads", "Google Ads", book.Channel.SEARCH, book.CampaignType.CLICK, "cpc", "always-on", "google"
        )
    },
)
ANNA = matching.Match(Method.VISITOR, 0.9, "anna", "lease-1", (Candidate("anna", "lease-1", 0.9, 0.0),), 0.0)
POOL_NUMBER = book.TrackingNumber("+74990000002", "sales", book.TrackingKind.POOL)


def test_a_named_visitor_is_attributed_to_their_touch() -> None:
    """R1, R86: source, medium, campaign, keyword, landing page, referrer, click ids."""
    came_from = touch(1, source="google-ads", landing_page="/implants", referrer="r")
    found = touches.attributed(ANNA, came_from, POOL_NUMBER, BOOK)
    assert found == attribution.Attribution(
        method=Method.VISITOR,
        confidence=0.9,
        source="google-ads",
        source_name="Google Ads",
        parent_source="google",
        campaign_type="click",
        cost_line="google-ads",
        channel="search",
        medium="cpc",
        campaign="spring",
        term="tooth",
        content=None,
        landing_page="/implants",
        referrer="r",
        click_ids={"gclid": "x"},
        visitor_id="anna",
        lease_id="lease-1",
        candidates=ANNA.candidates,
    )
    untagged = touches.attributed(ANNA, touch(1, VK, source="google-ads"), POOL_NUMBER, BOOK)
    assert (untagged.campaign, untagged.medium) == ("always-on", "social")


def test_a_source_without_a_rule_or_that_left_the_book_is_named_all_the_same() -> None:
    plain = touches.attributed(ANNA, touch(1, VK), POOL_NUMBER, BOOK)
    assert (plain.source, plain.channel, plain.source_name) == ("vk", "social", None)
    gone = touches.attributed(ANNA, touch(1, VK, source="old"), POOL_NUMBER, BOOK)
    assert (gone.source, gone.channel) == ("old", "social")
    assert touches.attributed(ANNA, None, POOL_NUMBER, None).visitor_id == "anna"


def test_nobody_named_goes_by_the_number() -> None:
    """R96: calls to the overflow number are counted under its own source."""
    overflow = book.TrackingNumber("+74990000009", "sales", book.TrackingKind.OVERFLOW, source="google-ads")
    nobody = matching.Match(Method.OVERFLOW_NUMBER, 0.0)
    found = touches.attributed(nobody, None, overflow, BOOK)
    assert (found.method, found.source, found.source_name) == (Method.OVERFLOW_NUMBER, "google-ads", "Google Ads")
    unknown = touches.attributed(matching.Match(Method.UNKNOWN, 0.0), None, POOL_NUMBER, BOOK)
    assert unknown == attribution.UNKNOWN
    assert touches.attributed(nobody, None, None, None).source is None


def test_a_static_number_keeps_its_source_and_may_know_the_clicker() -> None:
    number = book.TrackingNumber("+74990000001", "sales", source="google-ads")
    static = matching.Match(Method.STATIC_NUMBER, 1.0, "anna")
    found = touches.attributed(static, touch(1, VK), number, BOOK)
    assert found == replace(attribution.of_number(number, BOOK), visitor_id="anna")
    assert (found.source, found.campaign) == ("google-ads", "always-on")
