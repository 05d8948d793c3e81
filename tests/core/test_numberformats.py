"""Ready-made writings of numbers (R49, R93): every format of attribution.md 1.4, and each failure listed there."""

from __future__ import annotations

import re

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import numberformats
from gateway.core.numberformats import Formats, Target

from .number_cases import (
    AROUND,
    BERLIN,
    FLOWERS,
    KOREA_070,
    LINKS,
    MOSCOW,
    MOSCOW_499,
    MUNICH,
    MUNICH_LONG,
    OTHER_PLAN,
    SAME_PLAN,
    SEOUL,
    TOLL_FREE_US,
)


def target(e164: str, *texts: str) -> Target:
    found = numberformats.target(e164, texts)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("e164", "expected"),
    [
        (
            MOSCOW_499,
            Formats(
                "+74997654321", "+7 499 765-43-21", "7 499 765-43-21", "8 (499) 765-43-21", "84997654321",
                "(499) 765-43-21", "4997654321",
            ),
        ),
        (
            KOREA_070,
            Formats(
                "+827044445555", "+82 70-4444-5555", "82 70-4444-5555", "070-4444-5555", "07044445555",
                "70-4444-5555", "7044445555",
            ),
        ),
        (
            "+12125550123",
            Formats(
                "+12125550123", "+1 212-555-0123", "1 212-555-0123", "(212) 555-0123", "2125550123",
                "(212) 555-0123", "2125550123",
            ),
        ),
        (
            "+390612345678",
            Formats(
                "+390612345678", "+39 06 1234 5678", "39 06 1234 5678", "06 1234 5678", "0612345678",
                "06 1234 5678", "0612345678",
            ),
        ),
    ],
)  # fmt: skip
def test_formats(e164: str, expected: Formats) -> None:
    assert numberformats.formats(e164) == expected


@pytest.mark.parametrize("e164", ["", "4951234567", "+7", "anonymous", "+7495123456789012345", "+99912345678"])
def test_what_is_no_number_has_no_writing(e164: str) -> None:
    assert numberformats.formats(e164) is None
    assert numberformats.target(e164) is None
    assert numberformats.swap(target(MOSCOW), e164) is None
    assert numberformats.swap_text("8 495 123-45-67", target(MOSCOW), e164) == "8 495 123-45-67"
    assert numberformats.swap_href("tel:84951234567", target(MOSCOW), e164) == "tel:84951234567"
    assert not numberformats.may_repaint(target(MOSCOW), e164)


@pytest.mark.parametrize(("site", "shown", "text", "expected"), [*SAME_PLAN, *OTHER_PLAN, *AROUND])
def test_text(site: str, shown: str, text: str, expected: str) -> None:
    assert numberformats.swap_text(text, target(site), shown) == expected


@pytest.mark.parametrize(("site", "shown", "href", "expected"), LINKS)
def test_link(site: str, shown: str, href: str, expected: str) -> None:
    """`tel:` always becomes E.164 and keeps its extension."""
    assert numberformats.swap_href(href, target(site), shown) == expected


def test_digits_are_painted_over_within_one_plan_only() -> None:
    """attribution.md 0.5: same country, same length, area codes of one length."""
    assert all(numberformats.may_repaint(target(site), shown) for site, shown, *_ in SAME_PLAN)
    assert not any(numberformats.may_repaint(target(site), shown) for site, shown, *_ in OTHER_PLAN)
    # Nine digits and two-digit area codes, but one digit more.
    assert numberformats.may_repaint(target(BERLIN), MUNICH)
    assert not numberformats.may_repaint(target(BERLIN), MUNICH_LONG)


def test_a_vanity_number_is_looked_for_as_it_is_written() -> None:
    vanity = target(FLOWERS, "1-800-FLOWERS", "800 Flowers")
    text = "Call 1-800-flowers or 800 Flowers (800-356-9377), not 1-800-FLOWERSHOP"
    expected = "Call (888) 555-0100 or (888) 555-0100 (888-555-0100), not 1-800-FLOWERSHOP"
    assert numberformats.swap_text(text, vanity, TOLL_FREE_US) == expected
    assert numberformats.swap_text("x", target(FLOWERS, ""), TOLL_FREE_US) == "x"


def test_the_wire_has_what_the_script_needs() -> None:
    swap = numberformats.swap(target(SEOUL), KOREA_070)
    assert swap is not None
    assert (swap["target"], swap["repaint"]) == (SEOUL, False)
    assert set(Formats.__dataclass_fields__) == set(swap["formats"])  # type: ignore[call-overload] # a dictionary
    seoul = target(SEOUL, "call_us", "")
    assert numberformats.wire_target(seoul) == {
        "digits": ["212345678", "82212345678", "0212345678"],
        "pattern": r"(\(?(?:\+_82_\(0\)_|\+_82_|82_|0_)?#)|call\x5fus",
    }


def test_the_pattern_is_one_that_javascript_reads() -> None:
    """No look-behind, no named groups, no possessive or inline flags."""
    for number in (MOSCOW, SEOUL, BERLIN):
        assert not re.search(r"(?<!\\)\(\?(?!:)", numberformats.pattern(target(number)))


countries = some.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS))


def example(country: str) -> str:
    number = phonenumbers.example_number(country)
    assert number is not None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@given(countries, countries)
def test_every_writing_of_every_country_is_found_and_what_is_written_can_be_dialled(one: str, other: str) -> None:
    """Whatever is put in place of a number reads as the new number, as the site's visitors dial it."""
    site, shown = example(one), example(other)
    written = numberformats.formats(site)
    assert written is not None
    for text in (written.e164, written.international, written.international_no_plus, written.significant):
        swapped = numberformats.swap_text(f"a {text} b", target(site), shown)
        new = phonenumbers.parse(shown)
        found = re.sub(r"[^0-9]", "", swapped)
        significant = phonenumbers.national_significant_number(new)
        assert found in (significant, f"{new.country_code}{significant}"), (text, swapped)
    assert numberformats.swap_href(f"tel:{written.e164}", target(site), shown) == f"tel:{shown}"


@given(some.text(alphabet="0123456789 -+()./ab\u00a0\u2011", max_size=60))
def test_a_page_without_the_number_stays_as_it_is(text: str) -> None:
    digits = re.sub(r"[^0-9]", "", text)
    swapped = numberformats.swap_text(text, target(MOSCOW), MOSCOW_499)
    if "4951234567" not in digits:
        assert swapped == text
    assert len(swapped) == len(text)
