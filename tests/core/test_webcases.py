"""Visits that a check of pages makes up, and what is wrong with what a browser saw (R28, R40, R46)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core import traffictables, webcases, webjudging
from gateway.core.displayrules import Condition, DisplayRule, SourceRule
from gateway.core.traffictables import Kind
from gateway.core.webbook import NumberPool, WebBook, WebSite
from gateway.core.webcases import Case
from gateway.core.webjudging import Asked, Fetched, Seen

TABLES = traffictables.parse((Path(__file__).parents[2] / "config" / "traffic.csv").read_text(encoding="utf-8"))
SITE, LENT, OVERFLOW, PRINTED = "+74950000001", "+74990000101", "+74990000199", "+74990000006"
SAFE = "https://"
PAGE = "https://clinic.example/"
SCRIPT = "https://calls.clinic.example/dni/v1/clinic.js"


def web(*rules: DisplayRule, sources: tuple[SourceRule, ...] = (), **site: Any) -> WebBook:
    return WebBook(
        sites={"clinic": WebSite(("clinic.example",), targets={SITE: ("8-800-CLINICS",)}, **site)},
        pools={"p": NumberPool("p", "clinic", "r", (LENT, "+74990000102"), OVERFLOW)},
        display_rules={"clinic": rules},
        source_rules=sources,
        traffic=TABLES,
    )


def rule(key: str = "all", **condition: Any) -> DisplayRule:
    return DisplayRule(key, Condition(**condition), pool="p")


def urls(book: WebBook, *pages: str) -> list[tuple[str, str]]:
    made = webcases.of_site(book, "clinic", pages or (PAGE,))
    return [(one.url.removeprefix(PAGE), one.referrer) for one in made.cases][1:]


# ---- Visits ----


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"utm": {"utm_source": "vk", "utm_campaign": "spring*"}}, ("?utm_source=vk&utm_campaign=spring", "")),
        ({"utm": {"utm_term": "*"}}, ("?utm_term=dialmark-check", "")),
        ({"click_ids": frozenset(("yclid",))}, ("?yclid=1234567890123456789", "")),
        ({"click_ids": frozenset(("gclid",))}, ("?gclid=dialmark-check", "")),
        ({"referrers": ("forum.example/clinics*",)}, ("", "https://forum.example/clinics")),
        ({"landing_pages": ("/implants*",)}, ("implants", "")),
        ({"landing_pages": ("/?offer=spring",)}, ("?offer=spring", "")),
        ({"landing_pages": ("/a*",), "utm": {"utm_source": "vk"}}, ("a?utm_source=vk", "")),
        ({"kinds": frozenset((Kind.SEARCH,))}, ("", SAFE + "google.com/")),
        ({"kinds": frozenset((Kind.AI,))}, ("", SAFE + "chatgpt.com/")),
        ({"kinds": frozenset((Kind.PUSH,))}, ("?utm_source=dialmark-check&utm_medium=sms", "")),
        ({"kinds": frozenset((Kind.REFERRAL,))}, ("", "https://referral.example/")),
        ({"kinds": frozenset((Kind.PAID_SOCIAL,)), "utm": {"utm_source": "vk"}},
         ("?utm_source=vk&utm_medium=paid_social", "")),
        ({"sources": frozenset(("ads",))}, ("?utm_source=google&utm_medium=cpc", "")),
        ({"sources": frozenset(("ads",)), "landing_pages": ("/a",)}, ("a?utm_source=google&utm_medium=cpc", "")),
    ],
)  # fmt: skip
def test_a_condition_becomes_a_visit_for_which_it_holds(condition: dict[str, Any], expected: tuple[str, str]) -> None:
    """R40: through the rules' own eyes."""
    sources = (SourceRule("ads", Condition(utm={"utm_source": "google", "utm_medium": "cpc"})),)
    assert expected in urls(web(rule(**condition), sources=sources if "sources" in condition else ()))


def test_every_kind_of_traffic_can_be_made_up() -> None:
    """R75; own is no kind of a visit."""
    for kind in set(Kind) - {Kind.OWN}:
        made = webcases.of_site(web(rule(kinds=frozenset((kind,)))), "clinic", [PAGE])
        assert made.left_out == ()
        assert len(made.cases) == (1 if kind is Kind.DIRECT else 2), kind


def test_places_are_told_apart() -> None:
    """R94."""
    book = web(rule("m", cities=frozenset(("Moscow",)), countries=frozenset(("RU",))))
    (_, case) = webcases.of_site(book, "clinic", [PAGE]).cases
    assert (case.country, case.city, case.url) == ("RU", "Moscow", PAGE)
    assert webcases.expected(book, case)[SITE].pool == "p"


def test_what_cannot_be_made_up_is_named() -> None:
    book = web(rule("anywhere", landing_pages=("*/price",)), rule("never", sources=frozenset(("nobody",))))
    assert webcases.of_site(book, "clinic", [PAGE]).left_out == ("rule anywhere",)


def test_an_ads_own_link_is_opened_as_it_is() -> None:
    book = web(rule(utm={"utm_source": "vk"}))
    made = webcases.of_site(book, "clinic", [f"{PAGE}?utm_source=ok", f"{PAGE}b#top"])
    assert [(one.name, one.url.removeprefix(PAGE)) for one in made.cases] == [
        ("as given", "?utm_source=ok"),
        ("no tags", "b#top"),
        ("rule all", "b?utm_source=vk#top"),
    ]


def test_pages_that_nobody_named() -> None:
    assert webcases.usual_pages(web(), "clinic") == [PAGE]
    assert webcases.usual_pages(web(pages=(f"{PAGE}a",)), "clinic") == [f"{PAGE}a"]
    assert webcases.site_of(web(), "https://WWW.clinic.example/x") == "clinic"
    assert webcases.site_of(web(), "https://clinic.example.net/") is None


# ---- Judging ----

POOLED = web(rule())
CASE = Case("clinic", f"{PAGE}?utm_source=vk", "rule all", "https://friends.example/")
GOOD = Seen(
    status=200,
    html="<p>8 (495) 000-00-01",
    scripts=(Fetched(SCRIPT, "clinic", 200, seconds=0.1),),
    asked=(Asked(CASE.url, CASE.referrer, 200, reason="pool", answer={SITE: LENT}, seconds=0.1),),
    state="ready",
    texts=("Call 8 (499) 000-01-01",),
    links=("tel:+74990000101",),
)


def whats(seen: Seen, book: WebBook = POOLED, case: Case = CASE) -> list[str]:
    return [one.what for one in webjudging.judge(book, case, seen)]


def answered(**changed: Any) -> Seen:
    return replace(GOOD, asked=(replace(GOOD.asked[0], **changed),))


def loaded(**changed: Any) -> Seen:
    return replace(GOOD, scripts=(replace(GOOD.scripts[0], **changed),))


def test_a_page_that_is_as_it_should_be() -> None:
    assert webjudging.judge(POOLED, CASE, GOOD) == []


SCENES: list[tuple[Seen, list[str]]] = [
    (Seen(failure="net::ERR_NAME_NOT_RESOLVED"), ["page_failed"]),
    (Seen(status=404), ["page_failed"]),
    (replace(GOOD, failure="after 15 s"), ["timeout"]),
    (replace(GOOD, failure="after 15 s", asked=()), ["timeout"]),
    (Seen(status=200), ["script_missing"]),
    (Seen(status=200, blocked=(SCRIPT,)), ["csp"]),
    (loaded(status=404), ["script_failed"]),
    (loaded(status=None, failure="net::ERR_CONNECTION_REFUSED"), ["script_failed"]),
    (loaded(seconds=1.5), ["script_slow"]),
    (loaded(site="shop"), ["other_site"]),
    (replace(GOOD, scripts=(*GOOD.scripts, Fetched("https://x.example/dni/v1/clinic.js", "clinic", 200))),
     ["script_twice"]),
    (replace(GOOD, faults=("TypeError: x",)), ["script_error"]),
    (replace(GOOD, asked=(), state="idle"), ["not_asked"]),
    (answered(status=403), ["refused"]),
    (answered(status=503), ["refused"]),
    (answered(status=None, failure="net::ERR_FAILED"), ["refused"]),
    (answered(reason="bot", answer={}), ["not_admitted"]),
    (replace(GOOD, state="slow"), ["slow"]),
    (answered(reason="consent", answer={}), ["consent"]),
    (answered(url=PAGE), ["tags_lost"]),
    (answered(referrer=""), ["referrer_lost"]),
    (answered(answer={SITE: PRINTED}), ["wrong_number"]),
    (answered(answer={}), ["wrong_number"]),
    (replace(answered(answer={SITE: OVERFLOW}), texts=("+7 499 000-01-99",), links=()), ["exhausted"]),
    (replace(GOOD, texts=("8 (495) 000-00-01",), links=()), ["not_shown"]),
    (replace(GOOD, texts=(), links=()), ["no_number"]),
    (replace(GOOD, texts=(*GOOD.texts, "or +7 495 000 00 01.")), ["left"]),
    (replace(GOOD, texts=(*GOOD.texts, "8-800-Clinics")), ["left"]),
    (replace(GOOD, links=(*GOOD.links, "TEL:8(495)0000001;ext=5")), ["left"]),
    (replace(GOOD, texts=(*GOOD.texts, "order 12-4950000001-3")), []),
    (replace(GOOD, html="<a href='tel:+74990000102'>"), ["pool_printed"]),
    (replace(GOOD, html="<p>8 (499) 000-01-99 8 (495) 000-00-01"), ["pool_printed"]),
    (replace(GOOD, html="<p>order 12-4990000102-3"), []),
    (replace(GOOD, json_ld=('{"telephone": "+7-499-000-01-01"}',)), ["json_ld"]),
    (replace(GOOD, json_ld=('{"telephone": "+7-495-000-00-01"}',)), []),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "expected"), SCENES)
def test_what_is_wrong_has_a_name(seen: Seen, expected: list[str]) -> None:
    assert whats(seen) == expected


def test_the_rules_say_what_must_be_shown() -> None:
    """A static number is that number and no other; where no rule holds, the site's own stays."""
    static = web(DisplayRule("leaflet", Condition(), number=PRINTED))
    shown = replace(answered(answer={SITE: PRINTED}), texts=("+7 499 000-00-06",), links=())
    assert whats(shown, static) == []
    assert whats(GOOD, static) == ["wrong_number"]
    assert whats(replace(answered(answer={}), texts=("empty",), links=()), web()) == ["no_number"]
    pool = NumberPool("p", "clinic", "r", (LENT,))
    assert whats(answered(answer={}), replace(POOLED, pools={"p": pool})) == ["exhausted", "no_number"]
    stays = replace(answered(answer={}), texts=("+7 495 000-00-01",), links=())
    assert whats(stays, web()) == []
    assert whats(GOOD, web()) == ["wrong_number"]
    assert webjudging.shown_numbers(web(), CASE, stays) == {SITE: SITE}


def test_a_link_that_is_tagged_twice() -> None:
    """R46: Google's own id decides over what was written by hand."""
    case = replace(CASE, url=f"{PAGE}?utm_source=vk&gclid=x", name="as given")
    assert whats(answered(url=case.url), case=case) == ["double_tags"]
    assert whats(answered(url=case.url), case=replace(case, name="rule all")) == []


def test_the_worst_comes_first() -> None:
    seen = replace(answered(referrer=""), texts=(*GOOD.texts, "8 495 000-00-01"))
    assert whats(seen) == ["left", "referrer_lost"]
