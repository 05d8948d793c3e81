"""Where a visitor is (R94), out of what others tell: a record of a database of places, or headers of a proxy.

Both are other people's text. What does not look like a country or a city is nothing; a rule then does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.core.displayrules import Place

MAX_CITY = 100
MAX_NAMES = 20
NOWHERE = Place()

_COUNTRY = re.compile(r"[A-Z]{2}")
_UNKNOWN = ("XX", "ZZ", "T1")
"""Nobody's country, in the words of databases and proxies; `T1` is Tor."""


def of_record(record: object) -> Place:
    """The place that a record of a city database tells: `country.iso_code` and the city's names, English first."""
    country = _within(record, "country", "iso_code") or _within(record, "registered_country", "iso_code")
    names = _within(record, "city", "names")
    return Place(_country(country), tuple(_cities(names)))


def of_headers(country: str | None, city: str | None) -> Place:
    """The place that a trusted proxy's headers tell."""
    name = _city(city)
    return Place(_country(country), (name,) if name is not None else ())


def _within(value: object, *keys: str) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _country(value: object) -> str | None:
    text = value.strip().upper() if isinstance(value, str) else ""
    return text if _COUNTRY.fullmatch(text) and text not in _UNKNOWN else None


def _cities(names: object) -> Iterator[str]:
    if not isinstance(names, dict):
        return
    ordered = sorted((str(language), name) for language, name in names.items())
    found = dict.fromkeys(
        name
        for _, value in sorted(ordered, key=lambda one: one[0] != "en")[:MAX_NAMES]
        if (name := _city(value)) is not None
    )
    yield from found


def _city(value: object) -> str | None:
    """The name, or None for what no city is called; such as halves of characters, which no database takes."""
    if not isinstance(value, str):
        return None
    name = value.strip()
    is_name = 0 < len(name) <= MAX_CITY and name.isprintable() and any(char.isalpha() for char in name)
    return name if is_name else None
