"""Rings an agent's phone for a call-back that was clicked: the one thing that the second AMI account is for.

An account that may `originate` could start any context of the dialplan. So the daemon's ordinary account may not; this
one may do nothing else, is off by default, logs in for one action, and that action has one shape: an agent's endpoint,
sent to one context of ours, which does nothing without a token that the daemon then asks back (dialmark-click).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gateway.pbx import ami

CONTEXT = "dialmark-click"
"""Where every phone that is rung goes, and nowhere else."""

_ENDPOINT = re.compile(r"[A-Za-z0-9_.+-]{1,64}").fullmatch
_TOKEN = re.compile(r"[0-9a-f]{32}").fullmatch
_MAX_TICKET = 999_999_999
_MAX_SECONDS = 120


class Ringer:
    """`secret` is asked at each click, so a changed one needs no restart."""

    def __init__(
        self, host: str, port: int, username: str, secret: Callable[[], str], *, times: ami.AmiTimes | None = None
    ) -> None:
        self._host, self._port, self._username, self._secret = host, port, username, secret
        self._times = times or ami.AmiTimes()

    async def ring(self, endpoint: str, ticket: int, token: str, seconds: int) -> None:
        """Rings the endpoint for so many seconds; answered, it asks for this ticket with this token. Returns when
        Asterisk has taken the order, which is carried out once or not at all.

        Raises ValueError for what must not stand in an order, ConnectionError when Asterisk did not take it.
        """
        headers = order(endpoint, ticket, token, seconds)
        try:
            protocol = await ami.connected(self._host, self._port, self._times.connect, lambda _: None)
            try:
                await protocol.log_in(self._username, self._secret, self._times.call, with_events=False)
                # What panoramisk would wait for is an event, which this account does not get.
                await protocol.ask("Originate", headers, self._times.call, is_list=False)
            finally:
                protocol.cut("the order is given")
        except (ami.AmiError, OSError) as error:
            raise ConnectionError(str(error) or type(error).__name__) from error


def order(endpoint: str, ticket: int, token: str, seconds: int) -> dict[str, str]:
    """The headers of the one action. Raises ValueError."""
    if _ENDPOINT(endpoint) is None:
        raise ValueError("not the name of an endpoint")
    if not 0 < ticket <= _MAX_TICKET:
        raise ValueError("not the number of a ticket")
    if _TOKEN(token) is None:
        raise ValueError("not a token")
    if not 0 < seconds <= _MAX_SECONDS:
        raise ValueError(f"a phone rings for 1 to {_MAX_SECONDS} seconds")
    return {
        "Channel": f"PJSIP/{endpoint}",
        "Context": CONTEXT,
        "Exten": str(ticket),
        "Priority": "1",
        "CallerID": f'"*28 {ticket}" <{ticket}>',
        "Timeout": str(seconds * 1_000),
        "Variable": f"DM_CLICK={token}",
        "Async": "true",
    }
