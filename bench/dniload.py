"""Browsers for `dni`: keep-alive connections over which ready-made requests go out, as fast as they are answered or at
a given pace. Parses no more of an answer than it must, since it runs on the same two cores."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
LONGEST_SECONDS = 30.0
"""For what is under way at the end."""


@dataclass
class Answers:
    """What came back. Seconds are from when a request was due, not from when a connection was free for it."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    reasons: dict[bytes, int] = field(default_factory=dict)
    wall: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.wall


class _Connection(asyncio.Protocol):
    """One browser's connection."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._received = b""
        self._due = 0.0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's is none of asyncio's classes

    def send(self, request: bytes, due: float) -> None:
        assert self._transport is not None
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._received, 0, end + 2)
        if length is None or len(self._received) < end + 4 + int(length[1]):
            return
        answer, self._received = self._received, b""
        self._load.answered(self, answer, time.perf_counter() - self._due)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Load:
    def __init__(self, requests: Iterator[bytes]) -> None:
        self.requests = requests
        self.answers = Answers()
        self.idle: deque[_Connection] = deque()
        self.waiting: deque[float] = deque()
        self.under_way = 0
        self.ends = 0.0
        self.is_paced = False
        self.is_lost = False
        self.quiet = asyncio.Event()

    def ask(self, due: float) -> None:
        """Send a request now, or when a connection is free."""
        if not self.idle:
            self.waiting.append(due)
            return
        self.under_way += 1
        self.idle.popleft().send(next(self.requests), due)

    def answered(self, connection: _Connection, answer: bytes, seconds: float) -> None:
        self.under_way -= 1
        if answer[9:12] == b"200":
            self.answers.seconds.append(seconds)
            reason = re.search(rb'"reason": ?"(\w+)"', answer)
            told = reason[1] if reason else b"none"
            self.answers.reasons[told] = self.answers.reasons.get(told, 0) + 1
        else:
            self.answers.refused += 1
        self.idle.append(connection)
        now = time.perf_counter()
        if self.waiting:
            self.ask(self.waiting.popleft())
        elif not self.is_paced and now < self.ends:
            self.ask(now)
        elif not self.under_way:
            self.quiet.set()

    def lost(self) -> None:
        self.is_lost = True
        self.quiet.set()


async def run(
    port: int, requests: Iterator[bytes], *, connections: int, seconds: float, per_second: float | None = None
) -> Answers:
    """Load the server for `seconds`; without `per_second` each connection asks again as soon as it was answered."""
    loop = asyncio.get_running_loop()
    load = _Load(requests)
    load.is_paced = per_second is not None
    made = [(await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port))[1] for _ in range(connections)]
    load.idle.extend(made)
    began = time.perf_counter()
    load.ends = began + seconds
    if per_second is None:
        for _ in range(connections):
            load.ask(began)
    else:
        for number in range(int(seconds * per_second)):
            due = began + number / per_second
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            load.quiet.clear()
            load.ask(due)
    async with asyncio.timeout(seconds + LONGEST_SECONDS):
        await load.quiet.wait()
    assert not load.is_lost, "a connection was closed"
    load.answers.wall = time.perf_counter() - began
    for connection in made:
        connection.close()
    return load.answers
