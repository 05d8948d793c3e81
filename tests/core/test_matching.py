"""Who called (R48, R88, R92, N4, N6): each step of attribution.md 3.1, and that shares are shares."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import matching
from gateway.core.attribution import Method
from gateway.core.book import TrackingKind
from gateway.core.delays import Law
from gateway.core.matching import Click, Evidence, Holder, Match, Past

SECOND = 1_000_000
DAY = 86_400
NOW = 1_800_000_000 * SECOND
LAW = Law()


def ago(seconds: float) -> int:
    return NOW - round(seconds * SECOND)


def holder(visitor: str, issued: float, gone: float) -> Holder:
    """From `issued` to `gone` seconds ago; below zero: still there."""
    return Holder(f"lease-{visitor}-{issued:g}", visitor, ago(issued), ago(gone))


ANNA = holder("anna", 120, -30)
BORIS = holder("boris", 1_000, 600)
CLARA = holder("clara", 9_000, 8_000)


def of_pool(*holders: Holder, law: Law = LAW, **evidence: object) -> Match:
    return matching.match(TrackingKind.POOL, NOW, replace(Evidence(holders), **evidence), law)  # type: ignore[arg-type] # fields by name


def test_a_static_number_is_certain_of_its_source() -> None:
    """A click on its link names the visitor besides; two clicks name nobody."""
    plain = matching.match(TrackingKind.STATIC, NOW, Evidence(), LAW)
    assert (plain.method, plain.confidence, plain.visitor_id) == (Method.STATIC_NUMBER, 1.0, None)
    clicks = (Click("anna", ago(5)), Click("anna", ago(9)), Click("late", ago(-60)))
    assert matching.match(TrackingKind.STATIC, NOW, Evidence(clicks=clicks), LAW).visitor_id == "anna"
    two = (*clicks, Click("boris", ago(6)))
    assert matching.match(TrackingKind.STATIC, NOW, Evidence(clicks=two), LAW).visitor_id is None


def test_who_is_on_the_site_called() -> None:
    found = of_pool(ANNA, CLARA)
    assert (found.method, found.visitor_id, found.lease_id) == (Method.VISITOR, "anna", ANNA.lease_id)
    assert found.confidence > 0.98
    assert found.idle_seconds == 0
    assert [candidate.visitor_id for candidate in found.candidates] == ["anna", "clara"]


def test_a_former_holder_who_left_just_before_is_a_candidate() -> None:
    """N4: named is the holder, the doubt is told."""
    found = of_pool(holder("anna", 60, -30), holder("boris", 200, 61))
    assert found.visitor_id == "anna"
    assert 0.85 < found.confidence < 0.95
    assert found.candidates[1].share == pytest.approx(1 - found.confidence, abs=0.01)
    assert found.candidates[1].seconds_since_seen == 61


def test_confidence_in_a_late_call_decays() -> None:
    """N6: minutes, hours, days, and then nobody."""
    found = [of_pool(holder("anna", 600 + gone, gone)) for gone in (60, 3_600, DAY, 3 * DAY, 20 * DAY)]
    sure = [match.confidence for match in found]
    assert sure == sorted(sure, reverse=True)
    assert sure[0] > 0.99 and 0.85 < sure[1] < 0.95 and 0.2 < sure[2] < 0.5
    assert [match.method for match in found[3:]] == [Method.UNKNOWN, Method.UNKNOWN]
    assert (found[4].confidence, found[4].visitor_id) == (0, None)
    assert found[4].candidates[0].visitor_id == "anna"
    assert found[4].idle_seconds == pytest.approx(20 * DAY)


def test_nobody_held_the_number() -> None:
    assert of_pool() == Match(Method.UNKNOWN, 0.0)
    future = holder("anna", -60, -120)
    long_ago = holder("boris", 40 * DAY, 31 * DAY)
    assert of_pool(future, long_ago) == Match(Method.UNKNOWN, 0.0)
    assert of_pool(future, law=replace(LAW, strays_per_second=0)).method is Method.UNKNOWN


def test_a_visitor_with_several_leases_is_one_candidate() -> None:
    """The lease that is named is the latest."""
    found = of_pool(holder("anna", 9_000, 8_000), holder("anna", 500, 400), BORIS)
    assert [candidate.visitor_id for candidate in found.candidates] == ["anna", "boris"]
    assert found.lease_id == "lease-anna-500"


def test_many_earlier_holders_weigh_in_without_being_looked_at() -> None:
    """A number that went out every 18 minutes has 80 holders a day: the tenth of them is as good as the twentieth."""
    crowd = [holder(f"v{place}", 1_080.0 * place + 900, 1_080.0 * place + 600) for place in range(2_000)]
    whole = of_pool(*crowd)
    cut = of_pool(*crowd[:16], is_cut=True)
    assert cut.confidence == pytest.approx(whole.confidence, abs=0.01)
    assert of_pool(*crowd[:16]).confidence > whole.confidence + 0.1


# ---- A click on the link ----


def test_a_click_settles_who_called() -> None:
    found = of_pool(ANNA, BORIS, clicks=(Click("boris", ago(20)),))
    assert (found.method, found.visitor_id, found.confidence) == (Method.CLICK_TO_CALL, "boris", 0.95)
    sure = of_pool(ANNA, clicks=(Click("anna", ago(1)),))
    assert sure.confidence > 0.99


@pytest.mark.parametrize(("seconds", "counts"), [(121, False), (120, True), (0, True), (-10, True), (-11, False)])
def test_a_click_counts_for_two_minutes_and_may_be_told_late(seconds: float, counts: bool) -> None:
    found = of_pool(ANNA, BORIS, clicks=(Click("boris", ago(seconds)),))
    assert (found.visitor_id == "boris") == counts


def test_two_clickers_share_the_confidence() -> None:
    found = of_pool(ANNA, BORIS, CLARA, clicks=(Click("boris", ago(20)), Click("clara", ago(5))))
    assert (found.method, found.visitor_id) == (Method.CLICK_TO_CALL, "boris")
    assert found.confidence < 0.95


def test_a_click_of_somebody_who_never_had_the_number_is_nothing() -> None:
    """Anybody can send a beacon."""
    assert of_pool(ANNA, clicks=(Click("mallory", ago(1)),)).visitor_id == "anna"
    assert of_pool(clicks=(Click("mallory", ago(1)),)).method is Method.UNKNOWN


# ---- A caller who is known ----


def test_a_caller_known_as_one_of_the_holders_is_that_one() -> None:
    """R48: the number called from was linked with this visitor before."""
    found = of_pool(ANNA, BORIS, known_as={"boris": 0.9, "stranger": 1.0})
    assert (found.method, found.visitor_id, found.confidence) == (Method.VISITOR, "boris", 0.9)
    assert of_pool(ANNA, BORIS, known_as={"boris": 1.0}).confidence == 0.99
    assert of_pool(BORIS, known_as={"boris": 0.5}).confidence > 0.99
    clicked = of_pool(ANNA, BORIS, known_as={"boris": 0.9}, clicks=(Click("anna", ago(3)),))
    assert clicked.visitor_id == "anna"


def test_a_repeat_caller_without_a_touch_of_their_own_inherits_the_last() -> None:
    """attribution.md 3.1, 5: with the confidence of that touch, inside the window, and only when nothing else is."""
    past = Past("anna", ago(5 * DAY), 0.9)
    found = of_pool(past=past)
    assert (found.method, found.visitor_id, found.confidence) == (Method.CALLER_HISTORY, "anna", 0.9)
    assert of_pool(BORIS, past=past).visitor_id == "boris"
    assert of_pool(past=replace(past, at_us=ago(31 * DAY))).method is Method.UNKNOWN
    assert of_pool(past=replace(past, at_us=ago(-1))).method is Method.UNKNOWN
    longer = matching.match(TrackingKind.POOL, NOW, Evidence(past=replace(past, at_us=ago(31 * DAY))), LAW, 90)
    assert longer.method is Method.CALLER_HISTORY


def test_the_overflow_number_names_nobody_but_a_clicker_or_a_repeat_caller() -> None:
    def overflow(**evidence: object) -> Match:
        return matching.match(TrackingKind.OVERFLOW, NOW, replace(Evidence(), **evidence), LAW)  # type: ignore[arg-type] # fields by name

    assert overflow() == Match(Method.OVERFLOW_NUMBER, 0.0)
    assert overflow(clicks=(Click("anna", ago(5)),)).visitor_id == "anna"
    assert overflow(clicks=(Click("anna", ago(5)), Click("boris", ago(5)))).method is Method.OVERFLOW_NUMBER
    assert overflow(past=Past("anna", ago(DAY), 0.8)).method is Method.CALLER_HISTORY


# ---- Again, when more is known ----


def test_a_record_is_revised_when_the_answer_changes() -> None:
    before = of_pool(ANNA, BORIS)
    assert not matching.is_news(before, of_pool(BORIS, ANNA))
    assert not matching.is_news(before, replace(before, confidence=before.confidence - 0.04))
    assert matching.is_news(before, replace(before, confidence=before.confidence - 0.06))
    assert matching.is_news(before, of_pool(ANNA, BORIS, clicks=(Click("boris", ago(5)),)))
    assert matching.is_news(before, replace(before, lease_id="other"))


holders = some.lists(
    some.builds(
        lambda visitor, issued, stay: holder(visitor, issued, issued - stay),
        some.sampled_from("abcdefgh"),
        some.integers(-100, 40 * DAY),
        some.integers(0, 3 * DAY),
    ),
    max_size=12,
)


@given(holders, some.booleans(), some.floats(0, 1), some.permutations(range(12)))
def test_shares_sum_to_one_and_order_does_not_matter(
    found: list[Holder], is_cut: bool, share: float, order: list[int]
) -> None:
    law = Law(on_site_share=share)
    known, earlier, strays = matching.candidates(found, NOW, law, is_cut=is_cut)
    assert sum(one.share for one in known) + earlier + strays == pytest.approx(1)
    assert all(0 <= one.share <= 1 for one in known)
    assert len({one.visitor_id for one in known}) == len(known)
    shuffled = [found[place] for place in order if place < len(found)]
    evidence = Evidence(tuple(found), is_cut)
    one, other = (
        matching.match(TrackingKind.POOL, NOW, replace(evidence, holders=tuple(held)), law)
        for held in (found, shuffled)
    )
    assert one.method is other.method
    assert one.confidence == pytest.approx(other.confidence)
    assert (one.visitor_id is None) == (one.method is Method.UNKNOWN)
    assert len(one.candidates) <= matching.MAX_CANDIDATES
