from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import numbers
from gateway.core.book import NumberForm

HOSTILE = [
    "",
    "x" * 3_000,
    "7" * 3_000,
    "+74990000001\r\nAction: Originate",
    "74990000001\r",
    "${SHELL(id)}",
    "&PJSIP/desk-2",
    "\ufffd\ufffd\ufffd",
    "٧٤٩٩٠٠٠٠٠٠١",
    "+",
    "()",
    "+++7499",
    "1\x00",
    "*31#74990000001",
    "1-800-FLOWERS",
]


@pytest.mark.parametrize(
    ("raw", "country", "form", "expected"),
    [
        ("74990000001", "RU", NumberForm.E164, "+74990000001"),
        ("+74990000001", "RU", NumberForm.E164, "+74990000001"),
        ("89161234567", "RU", NumberForm.E164, "+79161234567"),
        ("84990000001", "RU", NumberForm.E164, "+84990000001"),
        ("442079460123", "RU", NumberForm.E164, "+442079460123"),
        ("+442079460123", "RU", NumberForm.PLUS, "+442079460123"),
        ("4990000001", "RU", NumberForm.PLUS, "+74990000001"),
        ("4990000001", "RU", NumberForm.NATIONAL, "+74990000001"),
        ("84990000001", "RU", NumberForm.NATIONAL, "+74990000001"),
        ("8104930123456", "RU", NumberForm.NATIONAL, "+4930123456"),
        ("02079460123", "GB", NumberForm.NATIONAL, "+442079460123"),
        ("011442079460123", "US", NumberForm.NATIONAL, "+442079460123"),
        ("8 (499) 000-00-01", "RU", NumberForm.NATIONAL, "+74990000001"),
        ("(495) 000-00-01", "RU", NumberForm.NATIONAL, "+74950000001"),
        ("+7 (495) 000 00 01", "RU", NumberForm.NATIONAL, "+74950000001"),
        ("sip:+74990000001@10.0.0.1;user=phone", "RU", NumberForm.E164, "+74990000001"),
        ("tel:+74990000001;phone-context=ims", "RU", NumberForm.E164, "+74990000001"),
        ("74990000001", "??", NumberForm.E164, "+74990000001"),
        ("112", "RU", NumberForm.NATIONAL, None),
        ("101", "RU", NumberForm.E164, None),
    ],
)
def test_a_number_in_any_form_becomes_e164(raw: str, country: str, form: NumberForm, expected: str | None) -> None:
    """R49: international and re-formatted numbers do not break tracking."""
    assert numbers.normalise(raw, country, form) == expected


@pytest.mark.parametrize("raw", HOSTILE)
@pytest.mark.parametrize("form", NumberForm)
def test_hostile_callers_are_no_number_and_no_error(raw: str, form: NumberForm) -> None:
    """R49."""
    assert numbers.normalise(raw, "RU", form) is None


@given(raw=some.text(max_size=100), country=some.sampled_from(["RU", "US", "IT", "", "ru"]))
def test_whatever_a_caller_sends_is_answered_with_a_number_or_none(raw: str, country: str) -> None:
    """R49."""
    for form in NumberForm:
        number = numbers.normalise(raw, country, form)
        assert number is None or numbers.is_e164(number)
    numbers.is_anonymous(raw)
    numbers.mask(raw)
    numbers.country_of(raw)
    numbers.is_valid(raw)


@given(national=some.integers(min_value=9_000_000_000, max_value=9_999_999_999))
def test_an_e164_number_stays_as_it_is(national: int) -> None:
    number = f"+7{national}"
    assert numbers.normalise(number[1:], "RU", NumberForm.E164) == number
    assert numbers.normalise(number, "RU", NumberForm.PLUS) == number


@pytest.mark.parametrize(
    "raw", ["", "anonymous", "Anonymous", "sip:anonymous@anonymous.invalid", "RESTRICTED", "unknown", "+266696687"]
)
def test_anonymous_callers_are_known_as_such(raw: str) -> None:
    """R49."""
    assert numbers.is_anonymous(raw)
    assert numbers.normalise(raw, "RU", NumberForm.E164) is None


@pytest.mark.parametrize("raw", ["74990000001", "x" * 3_000, "&PJSIP/desk-2"])
def test_a_number_or_nonsense_is_not_anonymous(raw: str) -> None:
    assert not numbers.is_anonymous(raw)


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+74991234567", "+7********67"),
        ("74991234567", "7********67"),
        ("+442079460123", "+44********23"),
        ("+380441234567", "+380*******67"),
        ("", ""),
        ("anonymous", "***"),
        ("+12", "***"),
        ("9" * 3_000, "***"),
    ],
)
def test_a_masked_number_keeps_its_country_and_two_digits(number: str, masked: str) -> None:
    assert numbers.mask(number) == masked


@pytest.mark.parametrize(
    ("number", "country"),
    [
        ("+74991234567", "RU"),
        ("+77012345678", "KZ"),
        ("+442079460123", "GB"),
        ("+80012345678", None),
        ("+99999999999", None),
        ("4991234567", None),
        ("", None),
    ],
)
def test_the_country_is_that_of_the_range(number: str, country: str | None) -> None:
    """R89."""
    assert numbers.country_of(number) == country


@pytest.mark.parametrize(
    ("number", "language", "region"),
    [
        ("+74991234567", "en", "Moscow"),
        ("+74991234567", "ru", "г. Москва"),
        ("+73432123456", "en", "Ekaterinburg"),
        ("+79161234567", "en", None),
        ("+4930123456", "de", "Berlin"),
        ("nonsense", "en", None),
    ],
)
def test_the_region_is_that_of_the_area_code(number: str, language: str, region: str | None) -> None:
    """R89: area code of the caller."""
    assert numbers.region_of(number, language) == region


def test_the_geocoder_is_not_loaded_before_it_is_asked() -> None:
    """It costs 100 MB, which a gateway without conditions on regions need not pay."""
    script = "import sys; from gateway.core import numbers; print('phonenumbers.geocoder' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("country", "prefixes"),
    [
        ("RU", numbers.NationalPrefixes("7", "8", "810", (10, 14))),
        ("US", numbers.NationalPrefixes("1", "1", "011", (10,))),
        ("AU", numbers.NationalPrefixes("61", "0", "0011", (5, 6, 7, 8, 9, 10, 12))),
        ("IT", numbers.NationalPrefixes("39", None, "00", (6, 7, 8, 9, 10, 11, 12))),
        ("XX", None),
    ],
)
def test_dialling_prefixes_come_from_the_numbering_plan(
    country: str, prefixes: numbers.NationalPrefixes | None
) -> None:
    assert numbers.national_prefixes(country) == prefixes
