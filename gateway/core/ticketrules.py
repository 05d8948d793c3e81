"""What a route says of tickets of missed calls: `[route.tickets]` of the routing file (R30, R37)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Clock(StrEnum):
    """Which time counts for the attempts."""

    WALL = "wall"
    BUSINESS = "business"
    """The route's business hours."""


class Faults(StrEnum):
    """What a call gives rise to that a fault of the system lost (N7)."""

    ALERT = "alert"
    """The alarm to IT, and no ticket."""
    TICKET = "ticket"
    """The alarm, and a ticket as well."""


class By(StrEnum):
    """How the owner is chosen among those on duty, in the order in which it is written."""

    LAST_AGENT = "last_agent"
    """Who spoke to the caller last."""
    LOAD = "load"
    """Who has the fewest open tickets."""
    IN_ORDER = "in_order"
    """The first in the list."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Agents on duty within business hours (their key)."""

    agents: tuple[str, ...]
    hours: str


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one route. `agents` empty: those whose destinations the route rings."""

    enabled: bool = True
    attempts: int = 2
    within_hours: int = 24
    first_minutes: int = 60
    apart_minutes: int = 10
    """Less than this after an attempt, another one is the same."""
    clock: Clock = Clock.WALL
    short_abandons: bool = False
    """A caller who gave up within five seconds gets a ticket as well."""
    system_faults: Faults = Faults.ALERT
    agents: tuple[str, ...] = ()
    shifts: tuple[Shift, ...] = ()
    """The first that is open now says who is on duty, else `agents` do."""
    assign: tuple[By, ...] = (By.LAST_AGENT, By.LOAD)
    escalate_to: str | None = None
    """Key of the agent whose ticket it is when the time is up; None = it stays where it is."""


DEFAULT = Rules()
