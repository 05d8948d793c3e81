"""Money: an exact amount and its currency (ISO 4217). Amounts are kept as whole ten-thousandths, so that sums are exact
on every engine; they leave as decimal strings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

PLACES = 4
"""Digits behind the point that are kept."""
SCALE = 10**PLACES
MAX_DIGITS = 12
"""Digits before the point: a trillion of anything is a mistake."""

_CODES = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP "
    "CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF "
    "IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD "
    "MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB "
    "RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD "
    "UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG "
)
CURRENCIES = frozenset(_CODES.split())
"""ISO 4217, those that people are paid in (no metals, funds and test codes)."""

_PLAIN = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,8})?")
_BLANKS = re.compile(r"[ \u00a0\u2007\u2009\u202f']")
_GROUPED = re.compile(r"[0-9]{1,3}([.,][0-9]{3})+([.,][0-9]{1,4})?")


@dataclass(frozen=True, slots=True)
class Money:
    """`e4` ten-thousandths of `currency`."""

    e4: int
    currency: str

    @property
    def amount(self) -> str:
        """Decimal string, at least two digits behind the point: `1234.50`."""
        return shown(self.e4)


def shown(e4: int) -> str:
    """Ten-thousandths as a decimal string: `1234.50`, `0.0375`."""
    sign, rest = ("-" if e4 < 0 else ""), abs(e4)
    whole, part = divmod(rest, SCALE)
    digits = f"{part:0{PLACES}d}"
    return f"{sign}{whole}.{digits[:2]}{digits[2:].rstrip('0')}"


def amount(written: object) -> int:
    """Ten-thousandths of an amount as programs write it: `"1234.5"`, 1234, 1234.5. Never negative.

    Raises ValueError that says what is wrong.
    """
    if isinstance(written, bool) or not isinstance(written, str | int | float | Decimal):
        raise ValueError('must be an amount like "1234.50"')
    text = written.strip() if isinstance(written, str) else str(written)
    if not _PLAIN.fullmatch(text):
        raise ValueError('must be an amount like "1234.50", with a point and without blanks')
    return _scaled(text)


def amount_of_sheet(written: str) -> int:
    """The same as people and spreadsheets write it: `1 234,50`, `1,234.50`, `1234.5`.

    `1,234` may be a thousand or one and a bit: money is not guessed. Raises ValueError.
    """
    text = _BLANKS.sub("", written.strip())
    separators = [character for character in text if character in ".,"]
    if len(separators) == 1 and len(text.rpartition(separators[0])[2]) == 3:
        where = f"'{written.strip()[:20]}' may mean thousands or a fraction"
        raise ValueError(f"{where}: write two digits behind the point, like 1234.00")
    if len(separators) > 1:
        if not _GROUPED.fullmatch(text) or (len(set(separators)) > 1 and separators.count(separators[-1]) > 1):
            raise ValueError(f"'{written.strip()[:20]}' is no amount")
        last = separators[-1]
        keeps_fraction = len(set(separators)) > 1
        head, _, tail = text.rpartition(last)
        text = re.sub(r"[.,]", "", head) + (f".{tail}" if keeps_fraction else tail)
    return amount(text.replace(",", "."))


def currency(written: object) -> str:
    """The code, upper case. Raises ValueError for what is none."""
    code = written.strip().upper() if isinstance(written, str) else ""
    if code not in CURRENCIES:
        raise ValueError("must be a currency of ISO 4217, like RUB, EUR or USD")
    return code


def _scaled(text: str) -> int:
    try:
        exact = Decimal(text) * SCALE
    except InvalidOperation:
        raise ValueError("is no amount") from None
    if exact < 0:
        raise ValueError("must not be negative")
    if exact != exact.to_integral_value():
        raise ValueError(f"has more than {PLACES} digits behind the point")
    return int(exact)
