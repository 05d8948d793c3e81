"""From the operator's files to the stored visit and the record (R10, R13, R24, R75, R86, R106, R108): routing file and
traffic table, read as the daemon reads them; visits as browsers send them; calls as Asterisk wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import store
from gateway.config import routingfile, shipped
from gateway.core.traffictables import Kind
from gateway.store import timelines, visits
from tests.services.clinic import FIRST, PRINTED, ROUTING, Clinic
from tests.services.test_attributing import House

SOURCES = """
[[source]]
key = "spring"
channel = "search"
parent = "google-ads"

[[source.visits]]
click_ids = ["gclid", "houseid"]

[[source]]
key = "seo"
channel = "search"

[[source.visits]]
kinds = ["search"]

[[source]]
key = "assistants"
channel = "other"

[[source.visits]]
kinds = ["ai"]

[[source]]
key = "letters"
channel = "email"

[[source.visits]]
kinds = ["email"]

[[source]]
key = "talk"
channel = "social"

[[source.visits]]
referrers = ["forum.example/clinics*"]

[[source.visits]]
kinds = ["social", "messenger"]

[[source]]
key = "radio"
name = "Radio"
channel = "offline"

[[source]]
key = "jazz"
name = "Radio Jazz"
channel = "offline"
parent = "radio"
cost_line = "radio-2026"

[[source]]
key = "call-ads"
channel = "search"
campaign_type = "call-only"
cost_line = "google-call-ads"

[[tracking_number]]
number = "+74990000031"
route = "sales"
source = "jazz"

[[tracking_number]]
number = "+74990000032"
route = "sales"
source = "call-ads"
campaign = "Emergency"
"""
TEXT = ROUTING + SOURCES
OWN_TABLE = """kind,match,name,medium,detail
click_id,houseid,house,paid_search,64
search,find.example,find,,phrase
social,www.example,our-network,,
referral,yandex.ru,not-a-search-for-us,,
"""
PAGE = "https://clinic.example/implants"


def web(rest: str) -> str:
    """Other companies' addresses do not stand here in full."""
    return f"https://{rest}" if rest else ""


@pytest.fixture
def clinic(database: store.Database, tmp_path: Path) -> Clinic:
    """Reads the routing with a traffic table of its own over the shipped one."""
    table = tmp_path / "own.csv"
    table.write_text(OWN_TABLE, encoding="utf-8")
    made = Clinic(database)
    made.book = routingfile.parse(TEXT, 7, traffic=shipped.traffic(table))
    made.leasing.use(made.book)
    return made


async def visited(clinic: Clinic, query: str, referrer: str) -> visits.Visit:
    """The stored visit of somebody who opened the page so."""
    answer = await clinic.open(url=f"{PAGE}{query}", referrer=web(referrer))
    async with clinic.database.read() as connection:
        found = await timelines.timeline(connection, answer.visitor_id or "")
    assert found is not None
    return found.visits[0]


@pytest.mark.parametrize(
    ("query", "referrer", "source", "kind", "came_from", "rule"),
    [
        ("?utm_source=google&utm_medium=cpc", "", "google-ads", Kind.PAID_SEARCH, "google", "utm:cpc"),
        ("?gclid=EAIa", "www.google.com/", "spring", Kind.PAID_SEARCH, "google", "click_id:gclid"),
        ("?houseid=7", "", "spring", Kind.PAID_SEARCH, "house", "click_id:houseid"),
        ("", "www.bing.com/search?q=implants", "seo", Kind.SEARCH, "bing", "search:bing.com"),
        ("", "a.find.example/?phrase=implants", "seo", Kind.SEARCH, "find", "search:find.example"),
        ("", "chatgpt.com/", "assistants", Kind.AI, "chatgpt", "ai:chatgpt.com"),
        ("?utm_source=chatgpt.com", "", "assistants", Kind.AI, "chatgpt", "utm_source:chatgpt.com"),
        ("", "mail.google.com/", "letters", Kind.EMAIL, "gmail", "email:mail.google.com"),
        ("?utm_source=june&utm_medium=newsletter", "", "letters", Kind.EMAIL, "june", "utm:newsletter*"),
        ("", "l.facebook.com/", "talk", Kind.SOCIAL, "facebook", "social:facebook.com"),
        ("", "www.example/", "talk", Kind.SOCIAL, "our-network", "social:www.example"),
        ("", "t.me/clinic", "talk", Kind.MESSENGER, "telegram", "messenger:t.me"),
        ("", "forum.example/clinics/1", "talk", Kind.REFERRAL, "forum.example", "referral"),
        ("", "forum.example/cars", None, Kind.REFERRAL, "forum.example", "referral"),
        ("", "yandex.ru/", None, Kind.REFERRAL, "not-a-search-for-us", "referral:yandex.ru"),
        ("", "", None, Kind.DIRECT, "direct", "direct"),
        ("", "pay.kakao.com/", None, Kind.OWN, "pay.kakao.com", "gateway:pay.kakao.com"),
    ],
)  # fmt: skip
async def test_a_visit_is_kept_with_source_rule_and_version(
    clinic: Clinic, query: str, referrer: str, source: str | None, kind: Kind, came_from: str, rule: str
) -> None:
    """R24, R75, R108: by the operator's rules of sources, over what the tables say."""
    found = await visited(clinic, query, referrer)
    came = found.touch.came
    assert (found.touch.source, came.kind, came.source, came.rule) == (source, kind, came_from, rule)
    assert came.version == clinic.book.web.traffic.version != shipped.traffic().version


async def test_what_came_is_kept_as_it_came(clinic: Clinic) -> None:
    """R86, R108: raw tags, ids and addresses beside what was made of them."""
    query = "?utm_source=Google&UTM_Medium=CPC&utm_campaign=Spring+Sale&gclid=EAIa-X&fbclid=IwAR&utm_term=%7Bkeyword%7D"
    found = await visited(clinic, query, "www.bing.com/search?q=Tooth")
    assert found.landing.url == PAGE + query
    assert found.landing.referrer == web("www.bing.com/search?q=Tooth")
    assert found.landing.parameters == {
        "utm_source": "Google",
        "utm_medium": "CPC",
        "utm_campaign": "Spring Sale",
        "gclid": "EAIa-X",
        "fbclid": "IwAR",
        "utm_term": "{keyword}",
    }
    came = found.touch.came
    assert (came.source, came.medium, came.campaign, came.click_ids) == (
        *("google", "cpc", "Spring Sale"),
        {"gclid": "EAIa-X", "fbclid": "IwAR"},
    )


async def test_the_keyword_that_an_engine_tells_is_in_the_record(house: House) -> None:
    """R86, R108: search phrase, source of the book, and what brought the visitor."""
    house.clinic.book = house.desk._book = routingfile.parse(TEXT.replace('"houseid"', '"yclid"'), 7)
    house.clinic.leasing.use(house.clinic.book)
    visitor = await house.clinic.open(url=PAGE, referrer=web("yandex.ru/search/?text=зуб+мудрости"))
    house.clinic.later(40)
    await house.clinic.beat(visitor)
    found = await house.call(FIRST)
    named = ("method", "source", "channel", "medium", "term", "campaign_type", "cost_line")
    assert [found[name] for name in named] == [
        *("visitor", "seo", "search", "organic", "зуб мудрости", "click", "seo"),
    ]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (PRINTED, ("leaflet", None, "offline", "leaflet", None)),
        ("+74990000031", ("jazz", "radio", "offline", "radio-2026", None)),
        ("+74990000032", ("call-ads", None, "call-only", "google-call-ads", "Emergency")),
    ],
)
async def test_calls_to_printed_numbers_are_booked_by_campaign_type(
    database: store.Database, tmp_path: Path, number: str, expected: tuple[str | None, ...]
) -> None:
    """R10, R13, R106: each station by its own number, call-only ads apart from clicks, each with its cost line."""
    house = House(database, tmp_path, TEXT.replace(', "houseid"', ""))
    found = await house.call(number)
    assert found["method"] == "static_number"
    named = ("source", "parent_source", "campaign_type", "cost_line", "campaign")
    assert tuple(found[name] for name in named) == expected


def test_a_cost_line_is_never_shared_by_campaign_types() -> None:
    """R10, R13: also not with a source that is booked by its key."""
    text = TEXT.replace(', "houseid"', "").replace('"google-call-ads"', '"google-ads"')
    with pytest.raises(routingfile.RoutingErrors, match="'google-ads' is that of google-ads, which is click"):
        routingfile.parse(text, 1)


@pytest.fixture
def house(database: store.Database, tmp_path: Path) -> House:
    folder = tmp_path / "journal"
    folder.mkdir()
    return House(database, folder)
