"""What calls cost (R8, R70, R105): spend per source, campaign and day; wages and staffed hours of agents.

    cost per call of an agent = hourly wage × staffed hours ÷ calls handled     (R70)

Rows are read from JSON or a sheet alike. Days are yyyymmdd, amounts whole ten-thousandths (`_e4`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core import book, deals, money

MAX_CAMPAIGN = 120
MAX_MINUTES = 24 * 60
_ENTRY = re.compile(r"[\x21-\x7e]{1,64}")
_HOURS = re.compile(r"[0-9]{1,2}([.,][0-9]{1,4})?")
_CLOCK = re.compile(r"([0-9]{1,2}):([0-5][0-9])")


@dataclass(frozen=True, slots=True)
class Spend:
    """Cost of a source, or of a cost line, and campaign on a day. `campaign` empty: of the source as a whole. `entry`
    empty: this is the whole amount; else it is one of several parts that add up, known by this id."""

    day: int
    source: str
    campaign: str
    entry: str
    amount_e4: int
    currency: str

    @property
    def key(self) -> tuple[object, ...]:
        """What there is one row of."""
        return (self.day, self.source, self.campaign, self.entry)


@dataclass(frozen=True, slots=True)
class Wage:
    """What an agent earns in an hour, from a day on."""

    agent: str
    from_day: int
    hourly_e4: int
    currency: str

    @property
    def key(self) -> tuple[object, ...]:
        """What there is one row of."""
        return (self.agent, self.from_day)


@dataclass(frozen=True, slots=True)
class Hours:
    """How long an agent was there to take calls on a day."""

    agent: str
    day: int
    minutes: int

    @property
    def key(self) -> tuple[object, ...]:
        """What there is one row of."""
        return (self.agent, self.day)


Row = Spend | Wage | Hours


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of rows: its fields, those that may be missing, and how a row is read."""

    name: str
    fields: tuple[str, ...]
    optional: frozenset[str]
    make: Callable[[Mapping[str, Any]], Row]


@dataclass(frozen=True, slots=True)
class Known:
    """Keys of the routing book that rows may name."""

    sources: Collection[str]
    """Sources and cost lines."""
    agents: Collection[str]

    @classmethod
    def of(cls, current: book.Book | None) -> Known:
        """Of a book; nobody is known without one."""
        if current is None:
            return cls((), ())
        lines = {source.booked_on for source in current.sources.values()}
        return cls({*current.sources, *lines}, set(current.agents))


def read(kind: Kind, written: Mapping[str, object], known: Known, *, is_sheet: bool = False) -> Row | list[deals.Wrong]:
    """One row, or all that is wrong with it."""
    wrong = [deals.Wrong(str(name)[:64], "there is no such field") for name in written if name not in kind.fields]
    found: dict[str, Any] = {}
    for name in kind.fields:
        value = written.get(name)
        if value is None or value == "":
            if name in kind.optional:
                found[name] = ""
            else:
                wrong.append(deals.Wrong(name, "is missing"))
            continue
        try:
            found[name] = _READERS[name](value, known, is_sheet)
        except ValueError as error:
            wrong.append(deals.Wrong(name, str(error)))
    return wrong or kind.make(found)


def doubled(rows: Sequence[tuple[int, Row]]) -> list[tuple[int, deals.Wrong]]:
    """Rows of one request or file that say of the same what an earlier one says: place and what is wrong."""
    seen: dict[tuple[object, ...], int] = {}
    parts: dict[tuple[object, ...], str] = {}
    found = []
    for place, row in rows:
        if (first := seen.setdefault(row.key, place)) != place:
            found.append((place, deals.Wrong("day", f"says again what row {first} says")))
        elif isinstance(row, Spend):
            whole_or_parts = "parts" if row.entry else "whole"
            if parts.setdefault(row.key[:3], whole_or_parts) != whole_or_parts:
                found.append((place, deals.Wrong("entry", "this day has a whole amount and parts: give one of both")))
    return found


def wage_on(wages: Sequence[Wage], agent: str, day: int) -> Wage | None:
    """The wage in force on a day."""
    fitting = [one for one in wages if one.agent == agent and one.from_day <= day]
    return max(fitting, key=lambda one: one.from_day, default=None)


def labour_e4(wages: Sequence[Wage], hours: Sequence[Hours], agent: str) -> tuple[int, set[str], int]:
    """What an agent's staffed hours cost, in which currencies, and the minutes that no wage is known for."""
    total_e4, currencies, unpaid = 0, set[str](), 0
    for one in hours:
        if one.agent != agent:
            continue
        wage = wage_on(wages, agent, one.day)
        if wage is None:
            unpaid += one.minutes
            continue
        total_e4 += wage.hourly_e4 * one.minutes
        currencies.add(wage.currency)
    return round(total_e4 / 60), currencies, unpaid


def per_call_e4(cost_e4: int, calls: int) -> int | None:
    """Cost of one call (R70); None without calls."""
    return round(cost_e4 / calls) if calls > 0 else None


# -- fields -----------------------------------------------------------------------------------------------------------


def _day(value: object, known: Known, is_sheet: bool) -> int:
    del known, is_sheet
    return deals.day_of(value)


def _source(value: object, known: Known, is_sheet: bool) -> str:
    del is_sheet
    return _one_of(value, known.sources, "source or cost line")


def _agent(value: object, known: Known, is_sheet: bool) -> str:
    del is_sheet
    return _one_of(value, known.agents, "agent")


def _one_of(value: object, keys: Collection[str], what: str) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if text not in keys:
        shown = "".join(one if one.isprintable() else "\ufffd" for one in text[:40])
        raise ValueError(f"there is no {what} '{shown}' in the routing file")
    return text


def _campaign(value: object, known: Known, is_sheet: bool) -> str:
    del known, is_sheet
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > MAX_CAMPAIGN or not text.isprintable():
        raise ValueError(f"must be 1 to {MAX_CAMPAIGN} printable characters")
    return text


def _amount(value: object, known: Known, is_sheet: bool) -> int:
    del known
    return money.amount_of_sheet(value) if is_sheet and isinstance(value, str) else money.amount(value)


def _currency(value: object, known: Known, is_sheet: bool) -> str:
    del known, is_sheet
    return money.currency(value)


def _entry(value: object, known: Known, is_sheet: bool) -> str:
    del known, is_sheet
    text = value.strip() if isinstance(value, str) else ""
    if not _ENTRY.fullmatch(text):
        raise ValueError("must be an id of 1 to 64 characters without blanks")
    return text


def _minutes(value: object, known: Known, is_sheet: bool) -> int:
    del known, is_sheet
    text = value.strip() if isinstance(value, str) else repr(value)
    if match := _CLOCK.fullmatch(text):
        minutes = int(match[1]) * 60 + int(match[2])
    elif not isinstance(value, bool) and _HOURS.fullmatch(text):
        minutes = round(float(text.replace(",", ".")) * 60)
    else:
        raise ValueError("must be hours like 7.5 or 7:30")
    if minutes > MAX_MINUTES:
        raise ValueError("a day has 24 hours")
    return minutes


_READERS: Mapping[str, Callable[[object, Known, bool], Any]] = {
    "day": _day,
    "from_day": _day,
    "source": _source,
    "agent": _agent,
    "campaign": _campaign,
    "entry": _entry,
    "amount": _amount,
    "hourly": _amount,
    "currency": _currency,
    "hours": _minutes,
}

SPEND = Kind(
    "spend",
    ("day", "source", "campaign", "amount", "currency", "entry"),
    frozenset({"campaign", "entry"}),
    lambda found: Spend(
        found["day"], found["source"], found["campaign"], found["entry"], found["amount"], found["currency"]
    ),
)
WAGES = Kind(
    "wages",
    ("agent", "from_day", "hourly", "currency"),
    frozenset(),
    lambda found: Wage(found["agent"], found["from_day"], found["hourly"], found["currency"]),
)
HOURS = Kind(
    "hours",
    ("agent", "day", "hours"),
    frozenset(),
    lambda found: Hours(found["agent"], found["day"], found["hours"]),
)
