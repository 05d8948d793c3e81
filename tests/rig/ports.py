"""Addresses on the loopback that several test processes at once do not take from each other.

Asterisk knows a trunk by its source address, so each party has one of its own in 127.0.0.0/8:
``127.W.1.n`` carriers, ``127.W.2.n`` phones, ``127.W.3.n`` strangers, where W belongs to the test process. Asterisk
itself is on 127.0.0.1, told apart by its port.
"""

from __future__ import annotations

import os
import random
import socket
from collections import deque
from typing import NamedTuple

# Above Asterisk's RTP range, below Linux's ephemeral ports (32768), from which any other program may be served.
FIRST_PORT, PORTS_PER_WORKER, WORKERS = 20_001, 1_500, 8


class Address(NamedTuple):
    """Where a SIP party listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def worker() -> int:
    """Number of this pytest-xdist worker, 0 without xdist."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw-1").removeprefix("gw")) + 1


def carrier_host(number: int = 1) -> str:
    return f"127.{10 + worker()}.1.{number}"


def phone_host(number: int = 1) -> str:
    return f"127.{10 + worker()}.2.{number}"


def stranger_host() -> str:
    return f"127.{10 + worker()}.3.1"


# A brief port is given again when so many others have been since: its party is gone by then.
BRIEF_IN_USE = 400
_lasting: dict[str, set[int]] = {}
_brief: dict[str, deque[int]] = {}


def free_port(host: str = "127.0.0.1", *, brief: bool = False, width: int = 1) -> int:
    """The first of ``width`` ports free for UDP and TCP on ``host``.

    It is given once per process; a ``brief`` one, bound at once by a party of one test, may be given again much later.

    Raises:
        RuntimeError: this worker's share of the range is used up.
    """
    first = FIRST_PORT + worker() % WORKERS * PORTS_PER_WORKER
    share = range(first, first + PORTS_PER_WORKER - width)
    lasting = _lasting.setdefault(host, set())
    lately = _brief.setdefault(host, deque(maxlen=BRIEF_IN_USE))
    for port in random.sample(share, len(share)):
        wanted = range(port, port + width)
        if lasting.isdisjoint(wanted) and all(one not in lately and _is_free(host, one) for one in wanted):
            (lately.extend if brief else lasting.update)(wanted)
            return port
    raise RuntimeError(f"no free port left in {share}")


def _is_free(host: str, port: int) -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
