"""A small routing file for tests, and ways to change it."""

from __future__ import annotations

from pathlib import Path

from gateway.config import routingfile

EXAMPLE = Path(__file__).parents[2] / "config" / "routing.example.toml"

SMALL = """\
[[site]]
key = "clinic"
time_zone = "Europe/Moscow"
country = "RU"
default_destination = "desk"
outbound_trunk = "carrier-a"

[local]
contexts = ["from-internal"]

[[trunk]]
key = "carrier-a"
hosts = ["203.0.113.5"]
server = "sip.example.net"

[[source]]
key = "radio"
channel = "offline"

[[agent]]
key = "anna"
endpoint = "desk-1"

[[destination]]
key = "desk"
dial = "sip:desk-1"

[[destination]]
key = "second"
dial = "sip:desk-2"

[[hours]]
key = "office"
mon-fri = "09:00-18:00"

[[route]]
key = "sales"
forward = ["desk"]
reserve = ["second"]

[[tracking_number]]
number = "+74990000001"
route = "sales"

[[ban]]
number = "+74957770001"
reason = "calls daily"
"""


def changed(old: str, new: str) -> str:
    """`SMALL` with its only `old` replaced."""
    assert SMALL.count(old) == 1, old
    return SMALL.replace(old, new)


def with_line(after: str, line: str) -> str:
    """`SMALL` with `line` put behind the line `after`."""
    return changed(f"{after}\n", f"{after}\n{line}\n")


def errors_of(text: str) -> list[routingfile.RoutingError]:
    """What `parse` finds wrong; empty when nothing."""
    try:
        routingfile.parse(text, 1)
    except routingfile.RoutingErrors as refused:
        return list(refused.errors)
    return []
