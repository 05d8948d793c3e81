"""`[route.tickets]` (R30, R37, R43): what is read, and every mistake named with its line."""

from __future__ import annotations

import pytest

from gateway.config import routingfile
from gateway.core import ticketrules
from tests.config import files

TEXT = """
[[agent]]
key = "vera"

[[hours]]
key = "evening"
mon-fri = "18:00-22:00"

[[route]]
key = "tickets"
forward = ["desk"]
hours = "evening"
after_hours_message = "closed"
"""


def rules(text: str) -> ticketrules.Rules:
    made = routingfile.parse(files.SMALL + TEXT + text, 1)
    return made.routes["tickets"].tickets


def errors(text: str) -> list[str]:
    with pytest.raises(routingfile.RoutingErrors) as raised:
        rules(text)
    return [f"{one.key}: {one.message}" for one in raised.value.errors]


def test_without_it_the_defaults_hold() -> None:
    """R37: a missed call is a ticket without anybody asking for it; two attempts within 24 hours."""
    assert rules("") == ticketrules.DEFAULT == ticketrules.Rules(attempts=2, within_hours=24, first_minutes=60)


def test_everything_said() -> None:
    said = rules(
        """
[route.tickets]
enabled = true
attempts = 3
within_hours = 8
first_minutes = 5
apart_minutes = 30
clock = "business"
short_abandons = true
system_faults = "ticket"
agents = ["vera"]
assign = ["in_order"]
escalate_to = "vera"
[[route.tickets.shift]]
hours = "evening"
agents = ["vera"]
"""
    )
    assert said == ticketrules.Rules(
        attempts=3,
        within_hours=8,
        first_minutes=5,
        apart_minutes=30,
        clock=ticketrules.Clock.BUSINESS,
        short_abandons=True,
        system_faults=ticketrules.Faults.TICKET,
        agents=("vera",),
        shifts=(ticketrules.Shift(("vera",), "evening"),),
        assign=(ticketrules.By.IN_ORDER,),
        escalate_to="vera",
    )


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("attempts = 0", "attempts"),
        ("attempts = 11", "attempts"),
        ('attempts = "2"', "attempts"),
        ("within_hours = 337", "within_hours"),
        ("first_minutes = 0", "first_minutes"),
        ("apart_minutes = -1", "apart_minutes"),
        ("attempts = 3\nwithin_hours = 1\napart_minutes = 31", "apart_minutes"),
        ('clock = "sun"', "clock"),
        ('system_faults = "ignore"', "system_faults"),
        ('agents = ["nobody"]', "agents"),
        ('assign = ["mood"]', "assign"),
        ('assign = ["load", "load"]', "assign"),
        ('escalate_to = "nobody"', "escalate_to"),
        ("atempts = 2", "atempts"),
        ('[[route.tickets.shift]]\nhours = "night"\nagents = ["vera"]', "shift[1].hours"),
        ('[[route.tickets.shift]]\nhours = "evening"', "shift[1].agents"),
        ('[[route.tickets.shift]]\nagents = ["vera"]', "shift[1].hours"),
    ],
)
def test_mistakes_are_named(text: str, wrong: str) -> None:
    (error,) = errors(f"[route.tickets]\n{text}\n")
    assert error.startswith(f"route.tickets.tickets.{wrong}: "), error


def test_a_clock_of_business_hours_needs_hours() -> None:
    text = '\n[[route]]\nkey = "always"\nforward = ["desk"]\n[route.tickets]\nclock = "business"\n'
    (error,) = errors(text)
    assert error.startswith("route.always.tickets.clock: ")


def test_attempts_stay_so_near_that_they_fit() -> None:
    assert rules("[route.tickets]\nattempts = 10\nwithin_hours = 1\n").apart_minutes == 6
    assert rules("[route.tickets]\nattempts = 1\nwithin_hours = 1\napart_minutes = 60\n").apart_minutes == 60


def test_the_bounds_are_those_of_the_page() -> None:
    assert rules("[route.tickets]\nattempts = 10\nwithin_hours = 336\nfirst_minutes = 20160\n").attempts == 10
