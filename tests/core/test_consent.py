"""Recording consent by region (C4, R36, R50, N3): every row of the table, strictness, overrides, weak numbers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import phonenumbers
import pytest
from phonenumbers import geocoder

from gateway.config import shipped
from gateway.core import areacodes, book, consent, prompts, regions
from gateway.core.book import RecordingMode as Mode
from tests.core import books

TABLE = shipped.consent_regions()
EEA_OTHER = (
    *("BE", "BG", "HR", "CY", "CZ", "DK", "EE", "ES", "FI", "FR", "GR", "HU", "IE", "IT", "LT", "LU", "LV", "MT"),
    *("NL", "PL", "PT", "RO", "SE", "SI", "SK", "IS", "LI", "NO"),
)
ALL_PARTIES = {"CA", "FL", "IL", "MD", "MA", "MT", "NH", "PA", "WA", "DE", "NV", "CT", "MI", "OR", "VT"}
FROM_LAX_TO_STRICT = (Mode.NONE, Mode.ANNOUNCE, Mode.ANNOUNCE_OPT_OUT, Mode.OPT_IN, Mode.OFF)


def rules(business: str = "RU", recording: Mode = Mode.REGION, **overrides: Mode) -> consent.Rules:
    return consent.Rules(recording, business, {code.replace("_", "-"): mode for code, mode in overrides.items()})


def mode(rule: consent.Rules, caller: str | None, *, weak: bool = False) -> Mode:
    region = consent.CallerRegion(caller, weak) if caller is not None else None
    return consent.decide(rule, region, TABLE).mode


def test_the_table_has_every_region_of_the_research() -> None:
    """consent.md: each state and DC on its own, the EEA, and all countries named."""
    states = {f"US-{state}" for state in areacodes.STATES}
    named = {"ZZ", "US", "DE", "AT", "CH", "GB", "KR", "RU", "CA", "AU", "BR", "IN", "JP", "UA", "KZ", "TR"}
    assert len(states) == 51
    assert set(TABLE.regions) == states | named | set(EEA_OTHER)


@pytest.mark.parametrize("code", sorted(TABLE.regions))
def test_row(code: str) -> None:
    row = TABLE.regions[code]
    state = code.removeprefix("US-")
    if code in ("DE", "AT", "CH"):
        expected = Mode.OPT_IN
    elif code in EEA_OTHER:
        expected = Mode.ANNOUNCE_OPT_OUT
    else:
        expected = Mode.ANNOUNCE
    assert row.mode is expected
    assert row.prompt_key == consent.PROMPT_KEYS[expected]
    assert row.prompt_key in prompts.KEYS
    assert all(shipped.catalogue().texts[language][row.prompt_key] for language in ("en", "ko", "ru"))
    if code.startswith("US-"):
        assert row.parties == ("all" if state in ALL_PARTIES else "one")
        assert row.recorded_announcement == (state in ALL_PARTIES)
    if row.confidence:
        assert row.law_ref
    else:
        assert code == "ZZ" or row.notes == "not researched"
    # A caller of the region to a business of it, and the same of an unknown caller's.
    made = consent.decide(rules(code), consent.CallerRegion(code), TABLE)
    assert (made.mode, made.region, made.prompt_key) == (expected, code, row.prompt_key)
    assert made.recorded_announcement == row.recorded_announcement
    unknown = consent.decide(rules(code), None, TABLE)
    assert unknown.mode is regions.stricter(expected, Mode.ANNOUNCE)
    for other in TABLE.regions.values():
        one = consent.decide(rules(code), consent.CallerRegion(other.code), TABLE)
        assert one.mode is regions.stricter(expected, other.mode)
        assert one.region in (code, other.code)


def test_strictness_is_a_total_order_and_off_wins() -> None:
    for lax, strict in itertools.combinations(FROM_LAX_TO_STRICT, 2):
        assert regions.stricter(lax, strict) is strict is regions.stricter(strict, lax)


@pytest.mark.parametrize("fixed", FROM_LAX_TO_STRICT)
def test_a_mode_of_the_file_goes_before_every_region(fixed: Mode) -> None:
    assert mode(rules(recording=fixed), "DE") is fixed
    assert mode(rules(recording=fixed), None) is fixed


def test_the_stricter_region_decides_whoever_it_is() -> None:
    assert mode(rules("RU"), "DE") is Mode.OPT_IN
    assert mode(rules("DE"), "RU") is Mode.OPT_IN
    assert mode(rules("FR"), "RU") is Mode.ANNOUNCE_OPT_OUT


def test_a_lax_region_needs_a_proven_caller() -> None:
    """A number alone never makes consent laxer than that of an unknown caller."""
    texas = rules("US-TX", US_TX=Mode.NONE)
    assert mode(texas, "US-TX") is Mode.NONE
    assert mode(texas, "US-TX", weak=True) is Mode.ANNOUNCE
    assert mode(texas, None) is Mode.ANNOUNCE
    assert mode(rules("US-TX", US_TX=Mode.NONE, ZZ=Mode.NONE), "US-TX", weak=True) is Mode.NONE


def test_a_word_on_a_country_does_not_reach_its_states() -> None:
    assert mode(rules("US-CA", US=Mode.NONE), "US-CA") is Mode.ANNOUNCE
    assert mode(rules("US", US=Mode.OPT_IN), "KR") is Mode.OPT_IN


def test_regions_without_a_row() -> None:
    assert mode(rules("RU"), "MX") is Mode.ANNOUNCE
    assert mode(rules("RU", MX=Mode.OPT_IN), "MX") is Mode.OPT_IN
    assert consent.decide(rules("KR"), consent.CallerRegion("DE-BY"), TABLE).region == "DE"
    assert consent.decide(rules("XX"), None, regions.RegionTable({})).mode is Mode.ANNOUNCE


def test_a_region_may_switch_recording_off() -> None:
    made = consent.decide(rules("RU", DE=Mode.OFF), consent.CallerRegion("DE"), TABLE)
    assert (made.mode, made.prompt_key, made.recorded_announcement) == (Mode.OFF, None, False)


def test_the_most_specific_word_wins() -> None:
    site = replace(books.routing_book().sites["clinic"], recording=Mode.ANNOUNCE, consent={"DE": Mode.ANNOUNCE})
    route = books.route(consent={"DE": Mode.OPT_IN, "FR": Mode.OPT_IN})
    number = book.TrackingNumber("+74990000001", "sales", recording=Mode.REGION, consent={"FR": Mode.NONE})
    made = consent.rules_of(number, route, site)
    assert made.recording is Mode.REGION
    assert made.overrides == {"DE": Mode.OPT_IN, "FR": Mode.NONE}
    assert consent.rules_of(None, route, site).recording is Mode.ANNOUNCE
    assert consent.rules_of(None, route, replace(site, recording=None)).recording is Mode.OFF


@pytest.mark.parametrize(
    ("number", "code", "is_weak"),
    [
        ("+12065550100", "US-WA", True),
        ("+12125550100", "US-NY", True),
        ("+18005550100", "US", True),
        ("+14165550100", "CA", True),
        ("+493012345678", "DE", False),
        ("+4915112345678", "DE", True),
        ("+74951234567", "RU", False),
        ("+79161234567", "RU", True),
        ("+77272345678", "KZ", False),
        ("+821012345678", "KR", True),
        ("+442071234567", "GB", False),
    ],
)
def test_caller_region(number: str, code: str, is_weak: bool) -> None:
    assert consent.caller_region(number) == consent.CallerRegion(code, is_weak)


@pytest.mark.parametrize("number", ["", "+", "anonymous", "+80012345678", "+999123456789"])
def test_numbers_that_tell_no_region(number: str) -> None:
    assert consent.caller_region(number) is None


def test_area_codes_are_those_of_the_numbering_plan() -> None:
    """Against the geocoder of phonenumbers, which names a state or one of its cities."""
    checked = 0
    for area in range(200, 1000):
        number = phonenumbers.PhoneNumber(country_code=1, national_number=area * 10**7 + 2_345_678)
        if phonenumbers.region_code_for_number(number) != "US":
            continue
        name = geocoder.description_for_number(number, "en")
        state = areacodes.state_of(f"1{area}2345678")
        assert (state is None) == (not name), area
        if ", " in name:
            assert name.endswith(f", {state}")
            checked += 1
    assert checked > 50


def test_a_broken_table_is_refused_with_all_its_errors() -> None:
    head = ",".join(regions.COLUMNS)
    with pytest.raises(regions.BadRegions) as refused:
        regions.parse(
            f"# mine\n{head}\nKR,anounce,two,Prompt,maybe,,sure,today,\nkr,none,one,,no,,,2026-01-01,\nRU,none\n"
        )
    text = str(refused.value)
    for word in (
        "line 3: KR: mode",
        "parties",
        "prompt_key",
        "recorded",
        "confidence",
        "reviewed_on",
        "line 4",
        "line 5",
    ):
        assert word in text
    for broken in ("", "a,b\n", f'{head}\n"open', f"{head}\nKR,none,one,,no,,,2026-01-01,\n"):
        with pytest.raises(regions.BadRegions):
            regions.parse(broken)
