"""Which number a visitor is shown (R51, R93-R96, R103, R106) and what is wrong with the rules (R46)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import displayrules, globs, traffic, traffictables
from gateway.core.displayrules import (
    Condition,
    Consent,
    DisplayRule,
    Facts,
    Place,
    PoolNumbers,
    Rank,
    Reason,
    Shown,
    SourceRule,
)
from gateway.core.traffic import Kind

TABLES = traffictables.parse((Path(__file__).parents[2] / "config" / "traffic.csv").read_text(encoding="utf-8"))
MOSCOW = Place("RU", ("Moscow", "Москва"))
YEKATERINBURG = Place("RU", ("Yekaterinburg", "Екатеринбург"))


def facts(address: str = "/", referrer: str = "", source: str | None = None, place: Place = MOSCOW) -> Facts:
    landing = traffic.landing(f"https://clinic.example.com{address}", referrer, {}, TABLES)
    return Facts(landing, traffic.classify(landing, TABLES), source, place)


def static(key: str, **condition: Any) -> DisplayRule:
    return DisplayRule(key, Condition(**condition), number=f"+7499{key}")


def dynamic(key: str, **condition: Any) -> DisplayRule:
    return DisplayRule(key, Condition(**condition), pool=f"pool-{key}")


# ---- Conditions ----


@pytest.mark.parametrize(
    ("condition", "visit", "expected"),
    [
        (Condition(), facts(), True),
        (Condition(sources=frozenset(("google-ads",))), facts(source="google-ads"), True),
        (Condition(sources=frozenset(("google-ads",))), facts(), False),
        (Condition(kinds=frozenset((Kind.PAID_SEARCH,))), facts("/?gclid=x"), True),
        (Condition(utm={"utm_campaign": "Spring*"}), facts("/?utm_campaign=SPRING-27"), True),
        (Condition(utm={"utm_campaign": "spring*"}), facts("/?utm_campaign=summer"), False),
        (Condition(utm={"utm_campaign": "*"}), facts(), False),
        (Condition(utm={"utm_source": "vk", "utm_medium": "cpc"}), facts("/?utm_source=vk"), False),
        (Condition(click_ids=frozenset(("gclid", "yclid"))), facts("/?yclid=1"), True),
        (Condition(click_ids=frozenset(("gclid",))), facts("/?yclid=1"), False),
        (Condition(referrers=("forum.example",)), facts(referrer="https://www.forum.example/x"), True),
        (Condition(referrers=("forum.example",)), facts(referrer="https://old.forum.example"), True),
        (Condition(referrers=("forum.example",)), facts(referrer="https://notforum.example/"), False),
        (Condition(referrers=("forum.example/clinics*",)), facts(referrer="https://forum.example/clinics/1"), True),
        (Condition(referrers=("forum.example/clinics*",)), facts(referrer="https://forum.example/cars"), False),
        (Condition(referrers=("forum.example",)), facts(), False),
        (Condition(landing_pages=("/implants*",)), facts("/implants/price?x=1"), True),
        (Condition(landing_pages=("/implants",)), facts("/implants?x=1#top"), True),
        (Condition(landing_pages=("/implants",)), facts("/implants/price"), False),
        (Condition(landing_pages=("/",)), facts(""), True),
        (Condition(landing_pages=("/?offer=spring",)), facts("/?offer=spring"), True),
        (Condition(landing_pages=("*?*offer=spring*",)), facts("/a?x=1&offer=spring&y=2"), True),
        (Condition(landing_pages=("/?offer=spring",)), facts("/"), False),
        (Condition(landing_pages=("*/price",)), facts("/a?from=/price"), False),
        (Condition(countries=frozenset(("RU",))), facts(), True),
        (Condition(countries=frozenset(("KR",))), facts(), False),
        (Condition(cities=frozenset(("москва",))), facts(), True),
        (Condition(cities=frozenset(("Moscow",))), facts(place=YEKATERINBURG), False),
        (Condition(cities=frozenset(("Moscow",))), facts(place=Place()), False),
    ],
)
def test_condition(condition: Condition, visit: Facts, expected: bool) -> None:
    assert displayrules.holds(condition, visit) is expected


def test_a_visit_belongs_to_the_first_source_that_fits() -> None:
    """R24."""
    rules = (
        SourceRule("spring", Condition(utm={"utm_campaign": "spring*"})),
        SourceRule("google-ads", Condition(click_ids=frozenset(("gclid",)))),
        SourceRule("search", Condition(kinds=frozenset((Kind.SEARCH,)))),
    )
    visits = {"/?gclid=x&utm_campaign=spring": "spring", "/?gclid=x": "google-ads", "/": None}
    for address, source in visits.items():
        visit = facts(address)
        assert displayrules.source_of(rules, visit.landing, visit.came) == source


# ---- Precedence ----

COMBINED = (
    dynamic("all"),
    static("ads", sources=frozenset(("google-ads",))),
    static("forum", referrers=("forum.example",)),
    static("offer", landing_pages=("/offer*",)),
)


def test_precedence() -> None:
    """Landing page, referrer, static source, pool, the site's own: whatever their order in the file (R103)."""
    visit = facts("/offer", "https://forum.example/", "google-ads")
    for order in itertools.permutations(COMBINED):
        left = list(order)
        for key in ("offer", "forum", "ads", "all"):
            shown = displayrules.decide(left, visit)
            assert shown.rule == key
            left = [rule for rule in left if rule.key != key]
        assert displayrules.decide(left, visit) == Shown(Reason.RULE_NONE)
    assert [rule.rank for rule in COMBINED] == [Rank.POOL, Rank.SOURCE, Rank.REFERRER, Rank.LANDING_PAGE]


def test_what_is_shown() -> None:
    assert displayrules.decide(COMBINED, facts()) == Shown(Reason.POOL, pool="pool-all", rule="all")
    shown = displayrules.decide(COMBINED, facts(source="google-ads"))
    assert shown == Shown(Reason.STATIC, number="+7499ads", rule="ads")


def test_a_pool_with_a_landing_page_is_still_a_pool() -> None:
    rules = (dynamic("paid", landing_pages=("/offer*",)), static("ads", sources=frozenset(("google-ads",))))
    assert displayrules.decide(rules, facts("/offer", source="google-ads")).rule == "ads"
    assert displayrules.decide(rules, facts("/offer")).pool == "pool-paid"
    assert displayrules.decide(rules, facts("/")).reason is Reason.RULE_NONE


def test_within_a_rank_the_first_wins() -> None:
    rules = (static("b", utm={"utm_source": "vk"}), static("a", utm={"utm_medium": "cpc"}))
    visit = facts("/?utm_source=vk&utm_medium=cpc")
    assert displayrules.decide(rules, visit).rule == "b"
    assert displayrules.decide(rules[::-1], visit).rule == "a"


def test_moscow_sees_499_and_yekaterinburg_343() -> None:
    """R94: by source and place."""
    rules = (
        DisplayRule("msk", Condition(cities=frozenset(("Moscow",))), number="+74990000001"),
        DisplayRule("ekb", Condition(cities=frozenset(("Yekaterinburg",))), number="+73430000001"),
    )
    shown = [displayrules.decide(rules, facts(place=place)).number for place in (MOSCOW, YEKATERINBURG, Place())]
    assert shown == ["+74990000001", "+73430000001", None]


def test_targets_have_rules_of_their_own() -> None:
    """Sales and support on one page."""
    sales = replace(static("1"), target="+74950000001")
    support = replace(static("2"), target="+74950000002")
    both = static("3", landing_pages=("/both",))
    rules = (sales, support, both)
    assert displayrules.decide(rules, facts(), target="+74950000002").rule == "2"
    assert displayrules.decide(rules, facts(), target="+74950000003").reason is Reason.RULE_NONE
    assert displayrules.decide(rules, facts("/both"), target="+74950000001").rule == "3"


# ---- Consent and bots ----


def test_without_consent_only_the_address_and_the_referrer_decide() -> None:
    """attribution.md 0.8: no pool, no place; a static number by this page alone."""
    refused = Consent.DENIED
    assert displayrules.decide(COMBINED, facts("/offer"), consent=refused).rule == "offer"
    assert displayrules.decide(COMBINED, facts(), consent=refused) == Shown(Reason.CONSENT)
    city = (static("msk", cities=frozenset(("Moscow",))),)
    assert displayrules.decide(city, facts(), consent=refused) == Shown(Reason.CONSENT)
    assert displayrules.decide(city, facts()).rule == "msk"


def test_until_consent_is_given_and_for_bots_the_sites_number_stays() -> None:
    visit = facts("/offer")
    assert displayrules.decide(COMBINED, visit, consent=Consent.PENDING) == Shown(Reason.CONSENT)
    assert displayrules.decide(COMBINED, visit, is_bot=True) == Shown(Reason.BOT)


# ---- Lint ----


def found(*rules: DisplayRule, sources: tuple[SourceRule, ...] = ()) -> list[str]:
    return [finding.what for finding in displayrules.overlaps(rules, sources)]


GOOGLE, VK = frozenset(("google-ads",)), frozenset(("vk",))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"utm": {"utm_source": "vk"}}, {"utm": {"utm_medium": "cpc"}}, ["overlap"]),
        ({"utm": {"utm_source": "vk"}}, {"utm": {"utm_source": "ok"}}, []),
        ({"utm": {"utm_campaign": "spring*"}}, {"utm": {"utm_campaign": "*2027"}}, ["overlap"]),
        ({"utm": {"utm_campaign": "spring*"}}, {"utm": {"utm_campaign": "spring-27"}}, ["unreachable"]),
        ({"utm": {"utm_campaign": "spring-27"}}, {"utm": {"utm_campaign": "spring*"}}, ["overlap"]),
        ({"utm": {"utm_campaign": "spring*"}}, {"utm": {"utm_campaign": "SPRING-2*"}}, ["unreachable"]),
        ({"sources": GOOGLE}, {"sources": VK}, []),
        ({"sources": GOOGLE}, {"sources": GOOGLE | VK}, ["overlap"]),
        ({"sources": GOOGLE | VK}, {"sources": VK}, ["unreachable"]),
        ({"sources": GOOGLE}, {"cities": frozenset(("Moscow",))}, ["overlap"]),
        ({"cities": frozenset(("moscow",))}, {"cities": frozenset(("Moscow",))}, ["unreachable"]),
        ({"cities": frozenset(("Moscow",))}, {"cities": frozenset(("Perm",))}, []),
        ({"countries": frozenset(("RU",))}, {"countries": frozenset(("KR",))}, []),
        ({"kinds": frozenset((Kind.SEARCH,))}, {"kinds": frozenset((Kind.SOCIAL,))}, []),
        ({"click_ids": frozenset(("gclid",))}, {"click_ids": frozenset(("yclid",))}, ["overlap"]),
        ({"landing_pages": ("/a*",)}, {"landing_pages": ("/b*",)}, []),
        ({"landing_pages": ("/a*",)}, {"landing_pages": ("*/c",)}, ["overlap"]),
        ({"landing_pages": ("/a*",)}, {"landing_pages": ("/a/b",)}, ["unreachable"]),
        ({"landing_pages": ("/a",)}, {"landing_pages": ("/a?x=1",)}, ["unreachable"]),
        ({"landing_pages": ("/a",)}, {"sources": GOOGLE}, []),
        ({"referrers": ("forum.example",)}, {"referrers": ("old.forum.example",)}, ["unreachable"]),
        ({"referrers": ("old.forum.example",)}, {"referrers": ("forum.example",)}, ["overlap"]),
        ({"referrers": ("forum.example/a*",)}, {"referrers": ("forum.example/b*",)}, []),
        ({}, {"sources": GOOGLE}, ["unreachable"]),
    ],
)  # fmt: skip
def test_rules_that_get_in_each_others_way(one: dict[str, Any], other: dict[str, Any], expected: list[str]) -> None:
    assert found(static("1", **one), static("2", **other)) == expected


def test_what_leads_to_the_same_number_or_replaces_another_is_no_overlap() -> None:
    same = (static("1", utm={"utm_source": "vk"}), replace(static("1", utm={"utm_medium": "cpc"}), key="2"))
    assert found(*same) == []
    assert found(replace(static("1"), target="+71"), replace(static("2"), target="+72")) == []
    assert found(static("1", sources=GOOGLE), dynamic("2")) == []
    assert found(dynamic("1"), dynamic("2", sources=GOOGLE)) == ["unreachable"]


def test_sources_and_tags_are_told_apart_by_the_sources_rules() -> None:
    rules = (static("1", sources=GOOGLE), static("2", utm={"utm_source": "vk"}))
    google = SourceRule("google-ads", Condition(utm={"utm_source": "google"}))
    assert found(*rules, sources=(google,)) == []
    assert found(*rules) == ["overlap"]
    tagged = SourceRule("google-ads", Condition(click_ids=frozenset(("gclid",))))
    assert found(*rules, sources=(google, tagged)) == ["overlap"]


def test_numbers_that_are_used_twice() -> None:
    """Issue 4, 9: in two pools, printed as static, the overflow number in a pool or of somebody else."""
    pools = (
        PoolNumbers("msk", ("+71", "+72", "+73"), "+79"),
        PoolNumbers("ekb", ("+72", "+74"), "+71"),
        PoolNumbers("none", ()),
        PoolNumbers("last", ("+75",), "+70"),
    )
    findings = displayrules.number_findings(pools, static=["+73", "+78"], business=["+70", "+74"])
    assert [(finding.what, finding.is_error) for finding in findings] == [
        ("pool_is_static", True),
        ("two_pools", True),
        ("pool_is_business", True),
        ("empty_pool", True),
        ("overflow_in_pool", True),
        ("no_overflow", False),
        ("overflow_is_used", True),
    ]
    assert findings[1].message == "+72 is in the pools msk and ekb"
    assert displayrules.number_findings([PoolNumbers("a", ("+71",), "+72")], ["+73"]) == []


# ---- Patterns ----

patterns = some.text(alphabet="aB*", max_size=6)
WORDS = ["".join(letters) for length in range(7) for letters in itertools.product("ab", repeat=length)]


@given(patterns, patterns)
def test_patterns_meet_where_a_word_fits_both(one: str, other: str) -> None:
    """Against all words up to six letters, which is enough for patterns of six."""
    first = {word for word in WORDS if globs.matches(one, word)}
    second = {word for word in WORDS if globs.matches(other, word)}
    if first & second:
        assert globs.can_both_match(one, other)
    if globs.can_both_match(one, other) and len(one.replace("*", "")) + len(other.replace("*", "")) <= 6:
        assert first & second
    if globs.covers(one, other):
        assert second <= first
    assert globs.can_both_match(one, other) == globs.can_both_match(other, one)


def test_no_text_makes_matching_slow() -> None:
    assert not globs.matches("*a" * 50 + "b", "a" * 100_000)
    assert globs.matches("a*b*c", "a--b--b--c")
    assert not globs.matches("ab*ba", "aba")
