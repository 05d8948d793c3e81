"""The dialplan's question, asked by `doctor`: speaks FastAGI to the daemon as Asterisk does and reads the plan."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from dataclasses import dataclass

SECONDS = 3.0
_MSET = re.compile(r'EXEC MSet "(.*)"\n?')


@dataclass(frozen=True, slots=True)
class Answer:
    """The daemon's plan as variables, and how long it took."""

    variables: dict[str, str]
    seconds: float


class NoAnswer(Exception):
    """Why the daemon gave no plan, in words."""


async def ask(host: str, port: int, did: str = "", caller: str = "", *, seconds: float = SECONDS) -> Answer:
    """Ask for the plan of a call to `did` (digits; "" is an unknown number, which moves no round robin on).

    Raises NoAnswer.
    """
    started = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            variables = await _session(host, port, did or "000", caller)
    except TimeoutError:
        raise NoAnswer(f"it accepts, but gave no answer within {seconds:.0f} s (hung?)") from None
    except ConnectionRefusedError:
        raise NoAnswer("nothing listens there: the daemon does not run") from None
    except ConnectionError as error:
        raise NoAnswer(error.strerror or str(error) or type(error).__name__) from None
    except OSError as error:
        raise NoAnswer(str(error)) from None
    return Answer(variables, time.monotonic() - started)


async def _session(host: str, port: int, did: str, caller: str) -> dict[str, str]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_header(host, port, did, caller))
        await writer.drain()
        line = (await reader.readline()).decode("utf-8", "replace")
        if not line:
            raise NoAnswer("it closed without a plan: no routing is in force yet, or it is stopping")
        match = _MSET.fullmatch(line)
        if match is None:
            raise NoAnswer(f"it answered {line[:60]!r}, which is no plan: does another program listen there?")
        writer.write(b"200 result=0\n")
        await writer.drain()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return dict(pair.partition("=")[::2] for pair in match[1].split(","))


def _header(host: str, port: int, did: str, caller: str) -> bytes:
    lines = [
        "agi_network: yes",
        "agi_network_script: route",
        f"agi_request: agi://{host}:{port}/route",
        "agi_channel: dialmark-doctor",
        "agi_context: dialmark-inbound",
        f"agi_extension: {did}",
        f"agi_arg_1: {uuid.uuid4()}",
        f"agi_arg_2: {did}",
        f"agi_arg_3: {caller}",
        "agi_arg_4: ",
    ]
    return "".join(f"{line}\n" for line in [*lines, ""]).encode()
