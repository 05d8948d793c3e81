"""Ready-made writings of a number for the script on a page (R49, R93), and what the script does with them, in Python.

Digits are painted over only where target and replacement are of one plan: same country code, same length, area codes of
the same length. Else `030/1234567` would become `891/2345678`, which nobody can dial; there the number is written anew
in the form in which it was found: with `+`, with the trunk prefix, with neither, with or without separators
(attribution.md 1.4). `swap_text` and `swap_href` are the reference for the script, and are tested case by case.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from urllib.parse import unquote

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberFormat

SEPARATORS = r"\s().\-/\u2010-\u2015\u2212\u00ad\u2060"
"""Between the digits of a number; `\\s` has the no-break and narrow spaces. The script uses the same class."""

_JOINTS = "-./\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
# Source text of pages is indented; browsers show one space.
_GAP = rf"\s*[{SEPARATORS}]{{0,3}}\s*"
_HREF = re.compile(r"\s*(tel|sms|callto):(?://)?([^;?]*)([;?].*)?", re.IGNORECASE | re.DOTALL)
_NOT_A_DIGIT = re.compile(r"[^0-9]")


@dataclass(frozen=True, slots=True)
class Formats:
    """One number in every form in which it may stand on a page."""

    e164: str
    """`+74997654321`"""
    international: str
    """`+7 499 765-43-21`"""
    international_no_plus: str
    """`7 499 765-43-21`"""
    national: str
    """`8 (499) 765-43-21`, `070-4444-5555`; where people dial no trunk prefix, without one."""
    national_digits: str
    """`84997654321`"""
    national_no_trunk: str
    """`(499) 765-43-21`"""
    significant: str
    """`4997654321`: the national significant number."""


@dataclass(frozen=True, slots=True)
class Target:
    """A number of the site's that is looked for. `texts`: other writings of it, as `1-800-FLOWERS`."""

    e164: str
    country_code: str
    significant: str
    trunk: str
    """Trunk prefix, "" where there is none."""
    area_length: int
    texts: tuple[str, ...] = ()


@lru_cache(maxsize=4_096)
def formats(e164: str) -> Formats | None:
    """Every writing of a number with `+`; None for what is no number."""
    number = _parsed(e164)
    if number is None:
        return None
    significant = phonenumbers.national_significant_number(number)
    international = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
    national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    bare = international.partition(" ")[2] or significant
    trunk = _trunk(number)
    # `8 (499) …` without its 8 is as people write it; `02-1234-5678` without its 0 is the international form's rest.
    loose = re.match(rf"{trunk}[\s-]", national) if trunk and not significant.startswith(trunk) else None
    starts = _digits(national) == significant
    return Formats(
        e164=phonenumbers.format_number(number, PhoneNumberFormat.E164),
        international=international,
        international_no_plus=international.removeprefix("+"),
        national=national,
        national_digits=_digits(national),
        national_no_trunk=national if starts else national[loose.end() :] if loose is not None else bare,
        significant=significant,
    )


@lru_cache(maxsize=1_024)
def target(e164: str, texts: tuple[str, ...] = ()) -> Target | None:
    """What is looked for on a page of the site whose number is `e164`; None for what is no number."""
    number = _parsed(e164)
    if number is None:
        return None
    significant = phonenumbers.national_significant_number(number)
    return Target(
        phonenumbers.format_number(number, PhoneNumberFormat.E164),
        str(number.country_code),
        significant,
        _trunk(number),
        _area_length(number),
        texts,
    )


@lru_cache(maxsize=4_096)
def may_repaint(target: Target, e164: str) -> bool:
    """Whether the digits of `e164` may be painted over those of `target`, its separators left as they are."""
    number = _parsed(e164)
    return (
        number is not None
        and str(number.country_code) == target.country_code
        and len(phonenumbers.national_significant_number(number)) == len(target.significant)
        and _area_length(number) == target.area_length
        and _trunk(number) == target.trunk
    )


def swap(target: Target, e164: str) -> dict[str, object] | None:
    """One entry of `swaps` in the answer to the script; None for what is no number."""
    made = formats(e164)
    if made is None:
        return None
    return {"target": target.e164, "repaint": may_repaint(target, e164), "formats": asdict(made)}


def wire_target(target: Target) -> dict[str, object]:
    """One entry of the script's configuration: the pattern to look for, the number in its first group and writings
    without one, and the digits by which a link or a form of writing is known. In the pattern `#` stands for the
    significant number with a `_` between its digits, and `_` for separators."""
    shape = pattern(target).replace(_GAP, "_").replace("_".join(target.significant), "#")
    words = [re.escape(text).replace("_", r"\x5f") for text in target.texts if text]
    return {
        "digits": [
            target.significant,
            target.country_code + target.significant,
            target.trunk + target.significant,
        ],
        "pattern": "|".join([f"({shape})", *words]),
    }


@lru_cache(maxsize=1_024)
def pattern(target: Target) -> str:
    """Regular expression for every writing of the number, in Python's and JavaScript's common language. What stands
    before and after a finding is looked at by `is_part_of_more`, since old browsers cannot look behind."""
    digits = _GAP.join(target.significant)
    prefixes = [rf"\+{_GAP}{target.country_code}{_GAP}", rf"{target.country_code}{_GAP}"]
    if target.trunk:
        # `+44 (0)20 …`
        prefixes.insert(0, rf"\+{_GAP}{target.country_code}{_GAP}\({target.trunk}\){_GAP}")
        prefixes.append(rf"{target.trunk}{_GAP}")
    return rf"\(?(?:{'|'.join(prefixes)})?{digits}"


def is_part_of_more(text: str, start: int, end: int) -> bool:
    """Whether a finding is a piece of something longer, such as an order number: `12-4951234567-1`.

    A space parts numbers, other separators do not: "24/7 8 495 …" is found.
    """
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    international = text[start:end].lstrip("(").startswith("+")
    joined_before = len(before) == 2 and before[1] in _JOINTS and before[0].isdigit() and not international
    joined_after = len(after) == 2 and after[0] in _JOINTS and after[1].isdigit()
    touches = before[-1:].isalnum() or before[-1:] == "+" or after[:1].isalnum()
    return touches or joined_before or joined_after


def swap_text(text: str, target: Target, e164: str) -> str:
    """`text` with every writing of `target` replaced by `e164` in the same form."""
    made = formats(e164)
    if made is None:
        return text
    pieces, done = [], 0
    for match in re.finditer(pattern(target), text):
        start = match.start()
        if match[0].startswith("(") and ")" not in match[0]:
            start += 1
        if not is_part_of_more(text, start, match.end()):
            pieces += [text[done:start], _in_form(text[start : match.end()], target, made, e164)]
            done = match.end()
    swapped = "".join(pieces) + text[done:]
    for words in target.texts:
        swapped = _swap_words(swapped, words, made.national)
    return swapped


def swap_href(href: str, target: Target, e164: str) -> str:
    """A `tel:`, `sms:` or `callto:` link of the target leads to `e164`; extension and message text stay."""
    match = _HREF.fullmatch(href)
    made = formats(e164)
    if match is None or made is None:
        return href
    digits, scheme = _digits(unquote(match[2])), match[1].lower()
    writings = {target.country_code + target.significant, target.significant, target.trunk + target.significant}
    return f"{scheme}:{made.e164}{match[3] or ''}" if digits in writings else href


def _in_form(found: str, target: Target, made: Formats, e164: str) -> str:
    """The replacement as `found` is written."""
    digits = _digits(found)
    if may_repaint(target, e164):
        return _repainted(found, made.significant)
    plain = not re.search(f"[{SEPARATORS}]", found)
    if found.lstrip("(").startswith("+"):
        return made.e164 if plain else made.international
    if digits == target.significant:
        return made.significant if plain else made.national_no_trunk
    if digits == target.country_code + target.significant:
        return made.e164.removeprefix("+") if plain else made.international_no_plus
    return made.national_digits if plain else made.national


def _repainted(found: str, significant: str) -> str:
    """The last digits of `found` replaced; country code, trunk prefix and separators stay."""
    left, out = list(significant), []
    for char in reversed(found):
        out.append(left.pop() if left and char in "0123456789" else char)
    return "".join(reversed(out))


def _swap_words(text: str, words: str, national: str) -> str:
    edged = rf"(?<!\w){re.escape(words)}(?!\w)"
    return re.sub(edged, lambda match: national, text, flags=re.IGNORECASE) if words else text


def _area_length(number: PhoneNumber) -> int:
    return int(
        phonenumbers.length_of_geographical_area_code(number)
        or phonenumbers.length_of_national_destination_code(number)
    )


def _trunk(number: PhoneNumber) -> str:
    region = phonenumbers.region_code_for_country_code(number.country_code or 0)
    prefix: str | None = phonenumbers.ndd_prefix_for_region(region, True)
    return prefix if prefix is not None and prefix.isdigit() else ""


def _digits(text: str) -> str:
    return _NOT_A_DIGIT.sub("", text)


# Never change a number that comes from here.
@lru_cache(maxsize=4_096)
def _parsed(e164: str) -> PhoneNumber | None:
    try:
        number = phonenumbers.parse(e164[:20], None)
    except NumberParseException:
        return None
    return number if phonenumbers.is_possible_number(number) else None
