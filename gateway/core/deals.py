"""What is said about a call afterwards (R2, R14-R16, R60, R64, R77, R85, R87): by a CRM, a person, a file or a rule.

One flat set of fields for every way in. `read` makes a `Wish` of it, or tells all that is wrong; `Result.after` makes
the next result of the last one. The facts of the journal are never touched: a result stands beside them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any

from gateway.core import book, money, numbers

MAX_NOTE = 4_000
MAX_WORD = 100
MAX_TAGS = 20
MAX_TAG = 40
MAX_WITHIN_MINUTES = 60 * 24 * 31
WITHIN_MINUTES = 60
"""A caller's call is looked for so long around the time that is given."""
MAX_INT = 10**18
CLEAR = "-"
"""A cell that takes a value away; an empty one leaves it as it is."""

FINDING = ("call_id", "crm", "object_id", "caller", "at", "within_minutes")
FLAGS = ("qualified", "spam", "goal_reached")
WORDS = ("lead_status", "deal_id", "deal_stage")
SAYING = (
    *FLAGS,
    "lead_status",
    "note",
    "tags",
    "deal_id",
    "deal_state",
    "deal_stage",
    "value",
    "currency",
    "closed_on",
)
FIELDS = (*FINDING, *SAYING)
"""All that a row, a message or a request may hold."""

COUNTED = frozenset({*FLAGS, "deal_id", "deal_state", "value", "currency", "closed_on"})
"""A change of one of these changes figures of the call's day."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_YES = frozenset({"true", "yes", "y", "1", "да", "예", "x", "+"})
_NO = frozenset({"false", "no", "n", "0", "нет", "아니요"})
_TARGET = re.compile(r"[a-z0-9_]{1,24}:[a-z0-9-]{1,24}|[a-z0-9-]{1,24}")
_DOTTED = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})(?:[ T]+([0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?))?")


class State(StrEnum):
    """How a deal stands."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing that is wrong with what was said, in the words of who said it."""

    field: str
    message: str


class Unfit(ValueError):
    """What was said does not fit with what is known. `field` names what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Where:
    """Which call is meant: exactly one way is set. Times in µs UTC, `until_us` exclusive."""

    call_id: str | None = None
    crm: str | None = None
    """Target of an integration, as `bitrix24:main`, or its key."""
    object_id: str | None = None
    caller: str | None = None
    """E.164 with `+`."""
    since_us: int | None = None
    until_us: int | None = None
    deal_id: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of a call besides what happened on the line. None: nobody has said."""

    qualified: bool | None = None
    spam: bool | None = None
    goal_reached: bool | None = None
    lead_status: str | None = None
    note: str | None = None
    tags: tuple[str, ...] = ()
    deal_id: str | None = None
    deal_state: State | None = None
    deal_stage: str | None = None
    value_e4: int | None = None
    currency: str | None = None
    closed_on: int | None = None
    """yyyymmdd: when the deal was closed, or is expected to be while it is open."""

    def after(self, said: Mapping[str, Any], *, latest_day: int) -> Result:
        """The result once this was said (fields of this class; None takes a value away). A deal that is spoken of is
        open until it is said to be won or lost; a day on which it was expected to close is then let go of if it lies
        ahead of `latest_day` (yyyymmdd). Raises Unfit for money without currency, and for a deal closed in the
        future."""
        next_one = replace(self, **said)
        if next_one.value_e4 is None:
            next_one = replace(next_one, currency=None)
        elif next_one.currency is None:
            raise Unfit("currency", "a value needs its currency")
        has_deal = any(getattr(next_one, name) is not None for name in _MAKES_DEAL)
        if has_deal and next_one.deal_state is None:
            next_one = replace(next_one, deal_state=State.OPEN)
        is_ahead = next_one.closed_on is not None and next_one.closed_on > latest_day
        if is_ahead and next_one.deal_state is not State.OPEN:
            if said.get("closed_on") is not None:
                raise Unfit("closed_on", "lies ahead: only a deal that is open can be expected to close")
            next_one = replace(next_one, closed_on=None)
        return next_one

    def changes_to(self, other: Result) -> dict[str, list[Any]]:
        """Fields that differ, each with the value before and after, as they are told outside."""
        before, after = self.told(), other.told()
        return {name: [before[name], after[name]] for name in after if before[name] != after[name]}

    def told(self) -> dict[str, Any]:
        """The fields of `SAYING`, in their written form."""
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        values["tags"] = list(self.tags)
        values["deal_state"] = self.deal_state.value if self.deal_state is not None else None
        value_e4, closed_on = values.pop("value_e4"), values.pop("closed_on")
        values["value"] = money.shown(value_e4) if value_e4 is not None else None
        values["closed_on"] = day_text(closed_on) if closed_on is not None else None
        return values


_MAKES_DEAL = ("deal_id", "deal_stage", "value_e4", "closed_on")
NOTHING = Result()


@dataclass(frozen=True, slots=True)
class Wish:
    """One change that is asked for: of which call, and what is said of it (fields of `Result`)."""

    where: Where
    said: Mapping[str, Any] = field(default_factory=dict)


def document(
    result: Result, *, changed_at: str | None, changed_by: str | None, way: str | None, changes: int
) -> dict[str, Any]:
    """`result` of a call's record."""
    told = result.told()
    has_deal = result.deal_state is not None
    return {
        **{name: told[name] for name in (*FLAGS, "lead_status", "note", "tags")},
        "deal": {
            "deal_id": told["deal_id"],
            "state": told["deal_state"],
            "stage": told["deal_stage"],
            "value": told["value"],
            "currency": told["currency"],
            "closed_on": told["closed_on"],
        }
        if has_deal
        else None,
        "changed_at": changed_at,
        "changed_by": changed_by,
        "changed_via": way,
        "changes": changes,
    }


def is_counted(changed: Mapping[str, Any]) -> bool:
    """Whether a change of these fields changes figures."""
    return not COUNTED.isdisjoint(changed)


def day_text(day: int) -> str:
    """20261121 as `2026-11-21`."""
    return f"{day // 10_000:04d}-{day // 100 % 100:02d}-{day % 100:02d}"


def day_of(written: object) -> int:
    """A day, yyyymmdd, from `2026-11-21` or `21.11.2026`. Raises ValueError; 11/21/2026 is not guessed."""
    text = written.strip() if isinstance(written, str) else ""
    if match := _DOTTED.fullmatch(text):
        day, month, year, clock = match.groups()
        text = "" if clock else f"{year}-{int(month):02d}-{int(day):02d}"
    try:
        found = date.fromisoformat(text) if len(text) == 10 else None
    except ValueError:
        found = None
    if found is None or not 2000 <= found.year <= 2100:
        raise ValueError("must be a day like 2026-11-21 or 21.11.2026")
    return found.year * 10_000 + found.month * 100 + found.day


def moment_of(written: object, zone: tzinfo) -> datetime:
    """A time, aware, from RFC 3339, `2026-11-21 14:30` or `21.11.2026 14:30`; without an offset it is of `zone`. Raises
    ValueError."""
    text = written.strip() if isinstance(written, str) else ""
    if match := _DOTTED.fullmatch(text):
        day, month, year, clock = match.groups()
        hour, _, rest = (clock or "0:00").partition(":")
        text = f"{year}-{int(month):02d}-{int(day):02d}T{int(hour):02d}:{rest}"
    try:
        found = datetime.fromisoformat(text)
        found = found if found.tzinfo is not None else found.replace(tzinfo=zone)
        if not 2000 <= found.astimezone(zone).year <= 2100:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError("must be a time like 2026-11-21T14:30:00+03:00 or 21.11.2026 14:30") from None
    return found


# -- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reading:
    """How what is written is meant. `is_sheet`: cells of a spreadsheet, all texts; else values of JSON. `zone` is that
    of times without an offset, `country` (ISO) that of numbers without a country code."""

    zone: tzinfo
    country: str
    is_sheet: bool = False


def read(written: Mapping[str, object], how: Reading) -> Wish | list[Wrong]:
    """A change, or all that is wrong with it. In JSON null takes a value away, in a sheet the cell `-`."""
    wrong = [Wrong(str(name)[:64], "there is no such field") for name in written if name not in FIELDS]
    # Python refuses to write out what is much longer.
    wrong += [
        Wrong(name, "is too large") for name, value in written.items() if isinstance(value, int) and value > MAX_INT
    ]
    if wrong:
        return wrong
    said: dict[str, Any] = {}
    for name in SAYING:
        if name not in written:
            continue
        try:
            said.update(_said(name, written[name], how))
        except ValueError as error:
            wrong.append(Wrong(name, str(error)))
    where = _where(written, how, wrong)
    if not said and not wrong:
        wrong.append(Wrong("call_id", "nothing is said about the call"))
    if wrong or where is None:
        return wrong
    return Wish(where, said)


def _said(name: str, value: object, how: Reading) -> dict[str, Any]:
    column = {"value": "value_e4"}.get(name, name)
    if value is None or (how.is_sheet and value == CLEAR):
        return {column: () if name == "tags" else None}
    return {column: _READERS[name](value, how)}


def _flag(value: object, how: Reading) -> bool:
    if isinstance(value, bool):
        return value
    word = value.lower() if how.is_sheet and isinstance(value, str) else ""
    if word in _YES or word in _NO:
        return word in _YES
    raise ValueError("must be yes or no" if how.is_sheet else "must be true or false")


def _word(value: object, how: Reading) -> str:
    del how
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_WORD or not text.isprintable():
        raise ValueError(f"must be 1 to {MAX_WORD} printable characters")
    return text.strip()


def _note(value: object, how: Reading) -> str:
    del how
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_NOTE:
        raise ValueError(f"must be 1 to {MAX_NOTE} characters")
    return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in value.strip())


def _tags(value: object, how: Reading) -> tuple[str, ...]:
    parts = re.split(r"[,;]", value) if how.is_sheet and isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(one, str) for one in parts):
        raise ValueError("must be a list of texts")
    tags = tuple(dict.fromkeys(one.strip() for one in parts if one.strip()))
    if len(tags) > MAX_TAGS or any(len(one) > MAX_TAG or not one.isprintable() for one in tags):
        raise ValueError(f"must be at most {MAX_TAGS} tags of at most {MAX_TAG} printable characters")
    return tags


def _state(value: object, how: Reading) -> State:
    del how
    try:
        return State(value.strip().lower() if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("must be open, won or lost") from None


def _value(value: object, how: Reading) -> int:
    return money.amount_of_sheet(value) if how.is_sheet and isinstance(value, str) else money.amount(value)


_READERS: Mapping[str, Callable[[object, Reading], Any]] = {
    **dict.fromkeys(FLAGS, _flag),
    **dict.fromkeys(WORDS, _word),
    "note": _note,
    "tags": _tags,
    "deal_state": _state,
    "value": _value,
    "currency": lambda value, _: money.currency(value),
    "closed_on": lambda value, _: day_of(value),
}


# -- which call -------------------------------------------------------------------------------------------------------


def _where(written: Mapping[str, object], how: Reading, wrong: list[Wrong]) -> Where | None:
    given = {name for name in FINDING if written.get(name) not in (None, "")}
    if len(given & {"call_id", "object_id", "caller"}) > 1:
        wrong.append(Wrong("call_id", "name the call one way: call_id, or crm and object_id, or caller and at"))
        return None
    before = len(wrong)
    where = None
    if "call_id" in given:
        where = Where(call_id=_call_id(written["call_id"], wrong))
    elif given & {"crm", "object_id"}:
        where = _by_object(written, wrong)
    elif given & {"caller", "at"}:
        where = _by_caller(written, how, wrong)
    elif isinstance(written.get("deal_id"), str | int) and written["deal_id"] != CLEAR:
        # A deal that is known already belongs to its call.
        where = Where(deal_id=str(written["deal_id"]).strip())
    else:
        wrong.append(Wrong("call_id", "says of no call: call_id, or crm and object_id, or caller and at"))
    return where if len(wrong) == before else None


def _call_id(value: object, wrong: list[Wrong]) -> str | None:
    text = value.strip().lower() if isinstance(value, str) else ""
    if _UUID.fullmatch(text):
        return text
    wrong.append(Wrong("call_id", "is no call id"))
    return None


def _by_object(written: Mapping[str, object], wrong: list[Wrong]) -> Where:
    crm, object_id = written.get("crm"), written.get("object_id")
    if not isinstance(crm, str) or not _TARGET.fullmatch(crm.strip()):
        wrong.append(Wrong("crm", "must be the key of an [[integration]]"))
    if isinstance(object_id, bool) or not isinstance(object_id, str | int) or not 0 < len(str(object_id)) <= MAX_WORD:
        wrong.append(Wrong("object_id", "must be the id of the call, contact or lead in the CRM"))
    return Where(crm=str(crm).strip(), object_id=str(object_id).strip())


def _by_caller(written: Mapping[str, object], how: Reading, wrong: list[Wrong]) -> Where | None:
    number = number_of(written.get("caller"), how.country)
    if number is None:
        wrong.append(Wrong("caller", "is no number; write it with its country: +74990000001"))
    at: datetime | None = None
    try:
        at = moment_of(written.get("at"), how.zone)
    except ValueError as error:
        wrong.append(Wrong("at", str(error)))
    minutes = _minutes(written.get("within_minutes"), how, wrong)
    if number is None or at is None or minutes is None:
        return None
    middle = micros(at)
    reach = minutes * 60_000_000
    return Where(caller=number, since_us=middle - reach, until_us=middle + reach + 1)


def _minutes(value: object, how: Reading, wrong: list[Wrong]) -> int | None:
    if value is None or value == "":
        return WITHIN_MINUTES
    if how.is_sheet and isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:9])
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_WITHIN_MINUTES:
        return value
    wrong.append(Wrong("within_minutes", f"must be a whole number from 1 to {MAX_WITHIN_MINUTES}"))
    return None


def number_of(value: object, country: str) -> str | None:
    """E.164 with `+` of a number as people write it; national ones are of `country`."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or len(text) > 40:
        return None
    return numbers.normalise(text.strip(), country, book.NumberForm.NATIONAL)


def micros(at: datetime) -> int:
    """Microseconds since the epoch of an aware time."""
    return (at - _EPOCH) // timedelta(microseconds=1)
