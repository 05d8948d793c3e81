"""Telephone numbers as carriers, callers and telecom admins write them, brought to E.164 with `+`.

Numbering plans come from Google's libphonenumber (`phonenumbers`). Whatever a caller sends is answered with a number or
None, never with an error: a strange caller number must not cost a call (R49). Asking costs a microsecond for a number
seen lately, 50 µs for a new one. City and area names (`region_of`) cost 100 MB of memory, so they load on first use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Protocol, cast

import phonenumbers
from phonenumbers import NumberParseException, PhoneMetadata, PhoneNumber
from phonenumbers.phonenumberutil import is_number_type_geographical

from gateway.core import book

MAX_RAW_LENGTH = 64
"""A longer text is no number: E.164 has 15 digits, and prefixes and separators need no 49 characters."""

MIN_DIGITS = 7
MAX_DIGITS = 15

_WRITTEN_NUMBER = re.compile(r"\+?[0-9][0-9 .()/\u00a0-]*|\([0-9][0-9 .()/\u00a0-]*|\+ ?\([0-9][0-9 .()/\u00a0-]*")
_MOBILE_TYPES = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)
_BILLING_TYPES = (
    phonenumbers.PhoneNumberType.PREMIUM_RATE,
    phonenumbers.PhoneNumberType.SHARED_COST,
    phonenumbers.PhoneNumberType.UAN,
    phonenumbers.PhoneNumberType.UNKNOWN,
)
_NOT_A_DIGIT = re.compile(r"[^0-9]")
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
_ANONYMOUS_WORDS = frozenset(
    (
        *("anonymous", "private", "restricted", "unavailable", "unknown", "withheld", "blocked"),
        *("nobody", "none", "null", "asterisk"),
    )
)
_ANONYMOUS_DIGITS = frozenset(("266696687", "7378742833", "2562533", "8656696", "86282452253"))
"""ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN and UNAVAILABLE typed on a phone's keys: some carriers send these."""


@dataclass(frozen=True, slots=True)
class NationalPrefixes:
    """What stands before numbers when people of a country dial: Russia has "7", "8", "810" and (10, 14)."""

    country_code: str
    trunk_prefix: str | None
    """Before national numbers; None where there is none (Italy) or where it is a choice of carriers."""
    international_prefix: str | None
    """Before foreign numbers, digits only."""
    national_lengths: tuple[int, ...]
    """How many digits a number has after the country code, all kinds of numbers."""


class _Geocoder(Protocol):
    def description_for_valid_number(self, numobj: PhoneNumber, lang: str) -> str: ...

    def country_name_for_number(self, numobj: PhoneNumber, lang: str) -> str: ...


def normalise(raw: str, country: str, form: book.NumberForm) -> str | None:
    """Bring `raw`, written in a carrier's `form` inside `country` (ISO, upper case), to E.164 with `+`.

    Of several readings the first valid number wins, then the first of a possible length; None when there is neither,
    for anonymous callers and for text that is no number. Never raises.
    """
    if len(raw) > MAX_RAW_LENGTH:
        return None
    return _normalise(raw, country, form)


def is_anonymous(raw: str) -> bool:
    """Whether a caller sent no number on purpose: empty, `anonymous`, `Restricted`, +266696687 (ANONYMOUS on keys)."""
    if len(raw) > MAX_RAW_LENGTH:
        return False
    text = _user_part(raw).lower()
    return not text or text in _ANONYMOUS_WORDS or text.lstrip("+") in _ANONYMOUS_DIGITS


def is_e164(number: str) -> bool:
    """Whether `number` has the shape of E.164 with `+`; says nothing about the numbering plan."""
    return _E164.fullmatch(number) is not None


@lru_cache(maxsize=16_384)
def is_valid(e164: str) -> bool:
    """Whether `e164` (with `+`) belongs to a range that its country has given out."""
    number = _parsed(e164, None)
    return number is not None and phonenumbers.is_valid_number(number)


def is_country(code: str) -> bool:
    """Whether `code` is an ISO 3166-1 alpha-2 code, upper case, of a country with a numbering plan."""
    return code in phonenumbers.SUPPORTED_REGIONS


def mask(number: str) -> str:
    """Hide a number for logs: country code and last two digits stay. `+7********67`; what is no number is `***`."""
    if not number:
        return ""
    digits = number[1:] if number.startswith("+") else number
    if not (digits.isascii() and digits.isdigit() and MIN_DIGITS <= len(digits) <= MAX_DIGITS):
        return "***"
    plus = "+" if number.startswith("+") else ""
    code = _country_code(digits)
    return f"{plus}{code}{'*' * (len(digits) - len(code) - 2)}{digits[-2:]}"


@lru_cache(maxsize=16_384)
def country_of(e164: str) -> str | None:
    """ISO code of the country of a number with `+`; None for no number, satellite networks and toll-free +800.

    A number outside every known range belongs to the country of its code when only one country has that code.
    """
    number = _parsed(e164, None)
    if number is None:
        return None
    region = phonenumbers.region_code_for_number(number)
    if region is None:
        sharing = phonenumbers.region_codes_for_country_code(number.country_code or 0)
        region = sharing[0] if len(sharing) == 1 else None
    return region if region is not None and is_country(region) else None


@lru_cache(maxsize=16_384)
def national_digits(e164: str) -> str:
    """The digits behind the country code (zeros that belong to them included); all digits when that is not known."""
    parsed = _parsed(e164, None)
    return phonenumbers.national_significant_number(parsed) if parsed is not None else e164.lstrip("+")


def region_of(e164: str, language: str) -> str | None:
    """City or area of a number with `+` in `language` (`ru`, `en`; English where it lacks), by the number's range.

    None for mobiles and for numbers that only tell their country. The first call loads 100 MB and takes a second.
    """
    number = _parsed(e164, None)
    if number is None:
        return None
    kind = phonenumbers.number_type(number)
    # First what is cheap: most callers are mobiles. An unknown kind is that of a number nobody was given.
    if not is_number_type_geographical(kind, number.country_code or 0):
        return None
    geocoder = _geocoder()
    name = geocoder.description_for_valid_number(number, language)
    return name if name and name != geocoder.country_name_for_number(number, language) else None


@lru_cache(maxsize=16_384)
def may_be_mobile(e164: str) -> bool:
    """Whether a number with `+` may be carried about: a mobile, or one of a plan that does not tell mobiles (+1)."""
    number = _parsed(e164, None)
    return number is not None and phonenumbers.number_type(number) in _MOBILE_TYPES


@lru_cache(maxsize=16_384)
def bills_its_caller(e164: str) -> bool:
    """Whether calling a number with `+` costs more than a call: premium rate, shared cost, and what no plan knows."""
    number = _parsed(e164, None)
    return number is None or phonenumbers.number_type(number) in _BILLING_TYPES


def load_regions() -> None:
    """Load what `region_of` needs, so that no call waits for it: half a second to a second, best in a thread."""
    region_of("+74950000000", "en")


@lru_cache(maxsize=256)
def national_prefixes(country: str) -> NationalPrefixes | None:
    """Dialling prefixes of `country` (ISO, upper case); None for an unknown country."""
    metadata = PhoneMetadata.metadata_for_region(country) if is_country(country) else None
    if metadata is None or metadata.general_desc is None:
        return None
    written = metadata.preferred_international_prefix or metadata.international_prefix or ""
    plain = written.replace("~", "")
    trunk = (metadata.national_prefix or "").replace("~", "")
    return NationalPrefixes(
        country_code=str(metadata.country_code),
        trunk_prefix=trunk or None,
        international_prefix=plain if plain.isdigit() else None,
        national_lengths=tuple(length for length in metadata.general_desc.possible_length if length > 0),
    )


def as_dialled(e164: str, country: str, form: book.NumberForm) -> str:
    """A number with `+` as a trunk of `country` and `form` wants it in our INVITE.

    National numbers get the trunk prefix, foreign ones the international prefix; `+` where a country has none.
    """
    digits = e164.removeprefix("+")
    if form is book.NumberForm.E164:
        return digits
    plan = national_prefixes(country)
    if form is book.NumberForm.PLUS or plan is None:
        return f"+{digits}"
    if digits.startswith(plan.country_code) and country_of(f"+{digits}") in (country, None):
        return (plan.trunk_prefix or "") + digits.removeprefix(plan.country_code)
    return (plan.international_prefix or "+") + digits


@lru_cache(maxsize=16_384)
def _normalise(raw: str, country: str, form: book.NumberForm) -> str | None:
    text = _user_part(raw)
    if is_anonymous(text) or not _WRITTEN_NUMBER.fullmatch(text):
        return None
    digits = _NOT_A_DIGIT.sub("", text)
    international, national = _parsed(f"+{digits}", None), None
    if not text.startswith("+"):
        national = _parsed(digits, country)
    if form is book.NumberForm.E164 or text.startswith("+"):
        readings = (international, national)
    else:
        readings = (national, international)
    for accepts in (phonenumbers.is_valid_number, phonenumbers.is_possible_number):
        for number in readings:
            if number is not None and accepts(number):
                return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return None


def _user_part(raw: str) -> str:
    """The number inside `sip:+7495…;npdi@host` or `tel:+7495…;phone-context=…`, stripped of blanks."""
    text = raw.strip(" ")
    for scheme in ("sip:", "sips:", "tel:"):
        if text[: len(scheme)].lower() == scheme:
            text = text[len(scheme) :]
            break
    return text.partition("@")[0].partition(";")[0].strip(" ")


# Country and region of a caller are asked one after the other. Never change a number that comes from here.
@lru_cache(maxsize=1_024)
def _parsed(text: str, country: str | None) -> PhoneNumber | None:
    if country is not None and not is_country(country):
        return None
    try:
        return phonenumbers.parse(text[:MAX_RAW_LENGTH], country)
    except NumberParseException:
        return None


def _country_code(digits: str) -> str:
    for length in (1, 2, 3):
        if int(digits[:length]) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            return digits[:length]
    return ""


@lru_cache(maxsize=1)
def _geocoder() -> _Geocoder:
    return cast(_Geocoder, import_module("phonenumbers.geocoder"))
