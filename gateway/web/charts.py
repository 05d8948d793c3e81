"""Charts as pictures: bars in a box of 100 × 100, drawn by the templates as SVG. Each has words and a table beside it.

Pure: rows of a report by day in, places and words out. The picture stretches, so it holds no text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import partial

DAYS_AS_DAYS = 62
"""Longer spans are drawn by week."""
LABELS = 5
_STEPS = (Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10))

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A day, or a week from Monday on. `values` by column; `is_restated`: figures of it changed late."""

    first: date
    last: date
    values: Mapping[str, Decimal]
    is_restated: bool

    @property
    def label(self) -> str:
        """As people write it."""
        return day_text(self.first) if self.first == self.last else f"{day_text(self.first)} – {day_text(self.last)}"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar in the box; `y` from the top. `spoken` is its tooltip."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    spoken: str


@dataclass(frozen=True, slots=True)
class Series:
    """One column of the report: its key, name, and the tone of its bars."""

    key: str
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture with its words: `top` is the value at the upper edge, `marks` the places of restated days."""

    title: str
    spoken: str
    top: Decimal
    bars: tuple[Bar, ...]
    marks: tuple[Bar, ...]
    labels: tuple[str, ...]
    series: tuple[Series, ...]
    buckets: tuple[Bucket, ...]
    is_weekly: bool


@dataclass(frozen=True, slots=True)
class Beam:
    """A horizontal bar from the zero line, 0 to 100; `percent` is what it stands for."""

    name: str
    x: float
    width: float
    zero: float
    percent: float
    kind: str


def buckets(rows: Sequence[Row], first: date, last: date, keys: Sequence[str]) -> list[Bucket]:
    """All days from `first` to `last`, both included, or weeks where they are many; days without a row are zero."""
    by_day = {str(row["group"]): row for row in rows}
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    found: dict[date, list[date]] = {}
    for day in days:
        begins = day if len(days) <= DAYS_AS_DAYS else day - timedelta(days=day.weekday())
        found.setdefault(begins, []).append(day)
    return [_bucket(part, by_day, keys) for part in found.values()]


def _bucket(days: Sequence[date], by_day: Mapping[str, Row], keys: Sequence[str]) -> Bucket:
    rows = [by_day[day.isoformat()] for day in days if day.isoformat() in by_day]
    sums = {key: sum((Decimal(str(row[key])) for row in rows), Decimal()) for key in keys}
    return Bucket(days[0], days[-1], sums, any(row["restated"] for row in rows))


def columns(title: str, series: Sequence[Series], parts: Sequence[Bucket], unit: str) -> Chart:
    """Bars side by side for each series. `unit` is said behind amounts, as `RUB`."""
    top = rounded_up(max((part.values[one.key] for part in parts for one in series), default=Decimal()))
    slot = 100 / len(parts)
    gap = slot * 0.18
    width = (slot - gap) / len(series)
    bars = []
    for place, part in enumerate(parts):
        for number, one in enumerate(series):
            value = part.values[one.key]
            height = float(100 * value / top)
            spoken = f"{part.label}: {one.name} {shown(value)} {unit}".rstrip()
            x = place * slot + gap / 2 + number * width
            if value > 0:
                bars.append(Bar(x, 100 - height, width, height, one.kind, spoken))
    marks = [
        Bar(place * slot + gap / 2, 0, slot - gap, 100, "late", f"{part.label}: restated")
        for place, part in enumerate(parts)
        if part.is_restated
    ]
    is_weekly = any(part.first != part.last for part in parts)
    spoken = spoken_of(title, series, parts, unit, is_weekly=is_weekly)
    return Chart(title, spoken, top, tuple(bars), tuple(marks), _labels(parts), tuple(series), tuple(parts), is_weekly)


def beams(rows: Sequence[Row], key: str) -> list[Beam]:
    """A percentage of each row that has it, around one zero line."""
    known = [(str(row["name"] or row["group"]), float(str(row[key]))) for row in rows if row[key] is not None]
    low = min([0.0, *(value for _, value in known)])
    high = max([0.0, *(value for _, value in known)])
    span = (high - low) or 1.0
    zero = 100 * -low / span
    return [
        Beam(
            name,
            zero if value >= 0 else zero + 100 * value / span,
            100 * abs(value) / span,
            zero,
            value,
            "good" if value >= 0 else "bad",
        )
        for name, value in known
    ]


def spoken_of(title: str, series: Sequence[Series], parts: Sequence[Bucket], unit: str, *, is_weekly: bool) -> str:
    """What the picture shows, in words."""
    said = []
    for one in series:
        whole = sum((part.values[one.key] for part in parts), Decimal())
        most = max(parts, key=partial(_value, key=one.key))
        text = f"{one.name} {shown(whole)} {unit}".rstrip()
        if whole:
            text += f", most on {most.label} with {shown(most.values[one.key])}"
        said.append(text)
    step = "week" if is_weekly else "day"
    late = sum(part.is_restated for part in parts)
    restated = f" Restated: {late} {step}{'' if late == 1 else 's'}." if late else ""
    return f"{title} by {step}, {day_text(parts[0].first)} to {day_text(parts[-1].last)}: {'; '.join(said)}.{restated}"


def _value(part: Bucket, *, key: str) -> Decimal:
    return part.values[key]


def rounded_up(value: Decimal) -> Decimal:
    """The next of 1, 2, 2.5, 5, 10, 20 … that is not below; 1 for nothing."""
    top = Decimal(1)
    while top < value:
        for step in _STEPS:
            if top * step >= value:
                return top * step
        top *= 10
    return top


def percent(value: float) -> str:
    """As `60.0 %`."""
    return f"{value:.1f} %".replace("-", "\u2212")


def shown(value: Decimal | str | int | None) -> str:
    """An amount or count for people: `1 234.50`, without a fraction of zero. None: a dash."""
    if value is None:
        return "–"
    whole, _, part = f"{Decimal(value):,.4f}".partition(".")
    part = part[:2] + part[2:].rstrip("0")
    return whole.replace(",", "\u202f").replace("-", "\u2212") + (f".{part}" if part != "00" else "")


def day_text(day: date) -> str:
    """As `3 Nov`."""
    return f"{day.day} {day:%b}"


def _labels(parts: Sequence[Bucket]) -> tuple[str, ...]:
    """A few days under the picture, the first and the last among them."""
    count = min(LABELS, len(parts))
    if count == 1:
        return (day_text(parts[0].first),)
    places = [round(number * (len(parts) - 1) / (count - 1)) for number in range(count)]
    return tuple(day_text(parts[place].first) for place in places)
