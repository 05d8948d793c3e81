"""`[route.tickets]` of the routing file: what becomes of missed calls (R30, R37)."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from gateway.config import tables
from gateway.core import ticketrules

_DEFAULT = ticketrules.DEFAULT
MOST_ATTEMPTS = 10
MOST_HOURS = 24 * 14


def read(table: tables.Table, agents: Collection[str], hours: Collection[str], *, has_hours: bool) -> ticketrules.Rules:
    """The rules in `table`'s sub-table `tickets`. `hours`: keys of the timetables; `has_hours`: the route has its
    own."""
    inner = table.table("tickets")
    if inner is None:
        return _DEFAULT
    clock = inner.choice("clock", ticketrules.Clock, _DEFAULT.clock)
    if clock is ticketrules.Clock.BUSINESS and not has_hours:
        inner.wrong("clock", "counts business hours, and the route has no hours")
    attempts = inner.whole("attempts", _DEFAULT.attempts, 1, MOST_ATTEMPTS)
    within_hours = inner.whole("within_hours", _DEFAULT.within_hours, 1, MOST_HOURS)
    rules = ticketrules.Rules(
        enabled=bool(inner.flag("enabled", _DEFAULT.enabled)),
        attempts=attempts,
        within_hours=within_hours,
        first_minutes=inner.whole("first_minutes", _DEFAULT.first_minutes, 1, MOST_HOURS * 60),
        apart_minutes=_apart(inner, attempts, within_hours),
        clock=clock,
        short_abandons=bool(inner.flag("short_abandons", _DEFAULT.short_abandons)),
        system_faults=inner.choice("system_faults", ticketrules.Faults, _DEFAULT.system_faults),
        agents=inner.references("agents", agents, "agent"),
        shifts=tuple(_shifts(inner, agents, hours)),
        assign=_ways(inner),
        escalate_to=inner.reference("escalate_to", agents, "agent"),
    )
    inner.refuse_unknown()
    return rules


def _apart(table: tables.Table, attempts: int, within_hours: int) -> int:
    """So many attempts, so far apart, must fit into the time."""
    most = within_hours * 60 // max(1, attempts - 1)
    minutes = table.whole("apart_minutes", min(_DEFAULT.apart_minutes, most), 0, MOST_HOURS * 60)
    if minutes > most:
        table.wrong("apart_minutes", f"{attempts} attempts so far apart do not fit into {within_hours} hours")
    return minutes


def _shifts(table: tables.Table, agents: Collection[str], hours: Collection[str]) -> Iterator[ticketrules.Shift]:
    for inner in table.tables("shift"):
        open_hours = inner.reference("hours", hours, "[[hours]]")
        on_duty = inner.references("agents", agents, "agent")
        if "hours" not in inner.raw:
            inner.wrong("hours", "is missing")
        if not inner.raw.get("agents"):
            inner.wrong("agents", "is missing")
        inner.refuse_unknown()
        if open_hours is not None and on_duty:
            yield ticketrules.Shift(on_duty, open_hours)


def _ways(table: tables.Table) -> tuple[ticketrules.By, ...]:
    if "assign" not in table.raw:
        table.texts("assign")
        return _DEFAULT.assign
    ways = table.references("assign", [way.value for way in ticketrules.By], "way to assign")
    return tuple(ticketrules.By(way) for way in ways)
