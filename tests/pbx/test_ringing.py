"""The one order of the second AMI account has one shape, and nothing that could change it gets in."""

from __future__ import annotations

import pytest

from gateway.pbx import ringing
from tests.rig import ports

TOKEN = "0123456789abcdef" * 2


def test_the_one_shape() -> None:
    assert ringing.order("desk-1", 12, TOKEN, 25) == {
        "Channel": "PJSIP/desk-1",
        "Context": "dialmark-click",
        "Exten": "12",
        "Priority": "1",
        "CallerID": '"*28 12" <12>',
        "Timeout": "25000",
        "Variable": f"DM_CLICK={TOKEN}",
        "Async": "true",
    }


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "desk-1\r\nApplication: System",
        "desk-1/../x",
        "desk-1@carrier-a-out",
        "79160001122@carrier-a-out",
        "desk-1&PJSIP",
        "desk 1",
        "дом",
        "${SHELL(id)}",
        "a" * 65,
        "desk-1\n",
    ],
)
def test_what_is_no_endpoint(endpoint: str) -> None:
    """An address behind `@` would be a trunk: never."""
    with pytest.raises(ValueError, match="endpoint"):
        ringing.order(endpoint, 12, TOKEN, 25)


@pytest.mark.parametrize("ticket", [0, -1, 1_000_000_000])
def test_what_is_no_ticket(ticket: int) -> None:
    with pytest.raises(ValueError, match="ticket"):
        ringing.order("desk-1", ticket, TOKEN, 25)


@pytest.mark.parametrize("token", ["", TOKEN[:-1], TOKEN + "0", TOKEN.upper(), TOKEN[:-1] + "\n", f"{TOKEN[:-2]},x"])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        ringing.order("desk-1", 12, token, 25)


@pytest.mark.parametrize("seconds", [0, 121])
def test_how_long_a_phone_rings(seconds: int) -> None:
    with pytest.raises(ValueError, match="seconds"):
        ringing.order("desk-1", 12, TOKEN, seconds)


async def test_asterisk_is_not_there() -> None:
    ringer = ringing.Ringer("127.0.0.1", ports.free_port(), "user", lambda: "secret")
    with pytest.raises(ConnectionError):
        await ringer.ring("desk-1", 12, TOKEN, 25)
