"""Whose ticket it is: by route, schedule, last agent and load (R43, R72). And the terms of a route's tickets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from gateway.core import book, hours, ticketrules, tickets


def rules_of(route: book.Route | None) -> ticketrules.Rules:
    """What holds for calls of a route; None: of no route."""
    return ticketrules.DEFAULT if route is None else route.tickets


def terms(route: book.Route | None, in_force: book.Book | None) -> tickets.Terms:
    """How soon and how often a caller of this route is called back."""
    rules = rules_of(route)
    counted = None
    if rules.clock is ticketrules.Clock.BUSINESS and route is not None and in_force is not None and route.hours:
        counted = in_force.hours.get(route.hours)
    return tickets.Terms(
        attempts=rules.attempts,
        within_seconds=rules.within_hours * 3_600,
        first_seconds=rules.first_minutes * 60,
        apart_seconds=rules.apart_minutes * 60,
        hours=counted,
    )


def on_duty(route: book.Route | None, in_force: book.Book | None, at: datetime) -> tuple[str, ...]:
    """Agents who may get a ticket at `at` (aware), in the order of the routing file."""
    if in_force is None:
        return ()
    rules = rules_of(route)
    for shift in rules.shifts:
        known = in_force.hours.get(shift.hours)
        if known is not None and hours.is_open(known, at):
            return shift.agents
    return rules.agents or _who_rings(route, in_force)


def _who_rings(route: book.Route | None, in_force: book.Book) -> tuple[str, ...]:
    if route is None:
        steps: tuple[tuple[str, ...], ...] = ((in_force.default_site.default_destination,),)
    else:
        steps = (route.forward, *route.reserve)
    agents: dict[str, None] = {}
    for step in steps:
        for key in step:
            destination = in_force.destinations.get(key)
            if destination is not None and destination.agent is not None:
                agents[destination.agent] = None
    return tuple(agents)


def present(duty: tuple[str, ...], on_break: Collection[str]) -> tuple[str, ...]:
    """Those who are not on break; everybody while all of them are, for a break ends and a caller waits."""
    return tuple(agent for agent in duty if agent not in on_break) or duty


def chosen(
    rules: ticketrules.Rules, duty: tuple[str, ...], *, last_agent: str | None, load: Mapping[str, int]
) -> str | None:
    """The owner among those on duty; None when nobody is. `load`: open tickets by agent."""
    if not duty:
        return None
    for way in rules.assign:
        match way:
            case ticketrules.By.LAST_AGENT:
                if last_agent in duty:
                    return last_agent
            case ticketrules.By.LOAD:
                return min(duty, key=lambda agent: (load.get(agent, 0), duty.index(agent)))
            case ticketrules.By.IN_ORDER:
                return duty[0]
    return None
