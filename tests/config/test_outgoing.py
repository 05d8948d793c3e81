"""Webhooks and brokers in the routing file: read, described by `apply --dry-run`, refused with every error at once."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.config import routingfile
from gateway.core import receivers
from tests.config import files

GOOD = """
[[webhook]]
key = "crm"
url = "https://crm.example.com/hooks?tenant=7"
secret = "file:/etc/dialmark/crm.secret"
events = ["call.missed", "ticket.*"]

[[webhook]]
key = "inside"
url = "http://192.0.2.3:8000/"
secret = "env:INSIDE_SECRET"
allow = ["192.0.2.0/24"]
per_second = 5
timeout_seconds = 10
ca_file = "/etc/dialmark/ca.pem"
enabled = false

[[broker]]
key = "bus"
url = "mqtts://bus.example.com"
username = "dialmark"
password = "file:/etc/dialmark/bus.password"
topic = "house/calls"
events = ["call.*"]
"""


def errors(text: str) -> list[str]:
    with pytest.raises(routingfile.RoutingErrors) as caught:
        routingfile.parse(files.SMALL + text, 1)
    return [
        f"{one.key}: {one.message}" + (f" → {one.suggestion}" if one.suggestion else "") for one in caught.value.errors
    ]


def test_they_are_read() -> None:
    made = routingfile.parse(files.SMALL + GOOD, 1).receivers
    assert made.webhooks["crm"] == receivers.Webhook(
        "crm",
        "https://crm.example.com/hooks?tenant=7",
        "file:/etc/dialmark/crm.secret",
        events=("call.missed", "ticket.*"),
    )
    inside = made.webhooks["inside"]
    assert (inside.allow, inside.per_second, inside.ca_file) == (
        (ip_network("192.0.2.0/24"),),
        5,
        "/etc/dialmark/ca.pem",
    )
    bus = made.brokers["bus"]
    assert (bus.host, bus.port, bus.is_tls, bus.topic, bus.username) == (
        "bus.example.com",
        8883,
        True,
        "house/calls",
        "dialmark",
    )
    assert sorted(made.by_target()) == ["mqtt:bus", "webhook:crm"]


def test_what_apply_would_change() -> None:
    old, new = routingfile.parse(files.SMALL, 1), routingfile.parse(files.SMALL + GOOD, 2)
    lines = routingfile.difference(old, new)
    assert "+ webhook crm: call.missed, ticket.* → https://crm.example.com/hooks" in lines
    assert "+ broker bus: call.* → bus.example.com:8883, topic house/calls" in lines
    changed = routingfile.parse((files.SMALL + GOOD).replace("per_second = 5", "per_second = 6"), 3)
    assert [line.split(":")[0] for line in routingfile.difference(new, changed)] == ["~ webhook inside"]


def test_every_error_at_once_with_what_was_meant() -> None:
    found = errors(
        """
[[webhook]]
key = "a"
url = "http://crm.example.com/"
secert = "file:/x"
events = ["call.mised", "tickets.*"]

[[webhook]]
key = "b"
url = "https://USER.crm.example.com/"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
allow = ["10.1.2.3/24"]

[[broker]]
key = "bus"
url = "amqp://bus.example.com"
username = "x"
topic = "calls/#"
""".replace("USER.", "user:password@")
    )
    assert found == [
        "webhook.a.secret: is missing",
        "webhook.a.url: is plain http, which goes to networks named in `allow` only: write https://",
        "webhook.a.secert: there is no such key here → secret",
        "webhook.a.events: 'call.mised' is no event → call.missed",
        "webhook.a.events: 'tickets.*' is no event → ticket.*",
        "webhook.b.url: must hold no user and password: the signature tells who sent it",
        "webhook.b.secret: must be a reference, file:/path or env:NAME, not the secret itself",
        "webhook.b.allow: must be networks like 10.1.2.0/24 → 10.1.2.0/24",
        "broker.bus: needs username and password, or neither",
        "broker.bus.url: must be mqtts://host or mqtt://host, with :port if it is not 8883 or 1883, and no more",
        "broker.bus.topic: must be words parted by /, without + and #",
    ]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "169.254.169.254",
        "10.0.0.1",
        "0.0.0.0",
        "[64:ff9b::a00:1]",
        "[2002:7f00:1::]",
        "100.64.0.1",
        "224.0.0.1",
        "host:99999",
        "",
    ],
)
def test_an_address_that_may_not_be_reached(host: str) -> None:
    """169.254.169.254, the metadata service of a cloud, is the classic aim of a forged request."""
    (found,) = errors(f'[[webhook]]\nkey = "a"\nsecret = "env:X"\nurl = "https://{host}/latest"\n')
    assert found.startswith("webhook.a.url: ")


@pytest.mark.parametrize("url", ["ftp://crm.example.com/", "crm.example.com", "https://crm.example.com/#part"])
def test_an_address_that_is_none(url: str) -> None:
    (found,) = errors(f'[[webhook]]\nkey = "a"\nsecret = "env:X"\nurl = "{url}"\n')
    assert found.startswith("webhook.a.url: ")


INBOUND = """
[[inbound]]
key = "sales-crm"
secret = "file:/etc/dialmark/sales-crm.secret"

[[inbound]]
key = "old"
secret = "env:OLD"
enabled = false
"""


def test_who_may_tell_us_is_read_and_described() -> None:
    """`[[inbound]]`: messages of a CRM about deals (R14)."""
    made = routingfile.parse(files.SMALL + INBOUND, 1)
    assert made.receivers.inbound == {
        "sales-crm": receivers.Inbound("sales-crm", "file:/etc/dialmark/sales-crm.secret"),
        "old": receivers.Inbound("old", "env:OLD", enabled=False),
    }
    assert made.receivers.everyone() == []
    described = routingfile.difference(routingfile.parse(files.SMALL, 1), made)
    assert [line for line in described if "inbound" in line] == ["+ inbound source sales-crm", "+ inbound source old"]


def test_a_secret_itself_is_refused() -> None:
    text = '[[inbound]]\nkey = "crm"\nsecret = "whsec_AAAA"\nurl = "x"\n[[inbound]]\nkey = "other"\n'
    said = errors(text)
    assert [one.partition(":")[0] for one in said] == ["inbound.crm.secret", "inbound.crm.url", "inbound.other.secret"]
    assert "whsec_AAAA" not in "".join(said)
