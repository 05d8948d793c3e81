"""FastAGI: one question per call, one `EXEC MSet` with the whole plan as the answer.

    header block ─▶ parse_request ─▶ answer(request) ─▶ exec_mset ─▶ one reply ─▶ parse_reply ─▶ close
                                            │ None
                                            ▼
                                          close; the dialplan takes the default plan

The codec comes first and does no I/O. `AgiServer` is an `asyncio.Protocol`: this is the hottest path of the daemon, and
a synchronous answer needs neither a task nor a stream (measured per session: streams 0.27 ms CPU, protocol 0.20 ms).

FastAGI has no authentication, so nothing is taken from a session but the question, and nothing is given but a plan.
Whatever goes wrong, the session is closed at once: Asterisk then goes on without the daemon (N2).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

from gateway import log

HEADER_BYTES = 65_536
REPLY_BYTES = 8_192
LINE_BYTES = 3_500
"""Asterisk reads command lines of up to 8,191 bytes and runs the rest of a longer one as a new command (res_agi.c)."""
MAX_PAIRS = 99
"""MSet takes no more (main/pbx_variables.c)."""
SCRIPT = "route"
SCRIPTS = frozenset({SCRIPT, "callback", "break"})
"""What may be asked: a call's way, an agent's `*28`, an agent's `*29`."""
BACKLOG = 4_096

Pairs = Sequence[tuple[str, str]]
"""Variables of the answer, in order."""

_HEADER_END = b"\n\n"
_NETWORK = "agi_network: yes\nagi_network_script: "
_NAME = re.compile(r"_{0,2}[A-Z][A-Z0-9_]{0,39}").fullmatch
_VALUE = re.compile(r"[A-Za-z0-9_.+:/@&%|~-]{0,400}").fullmatch
_REPLY = re.compile(r"(\d{3})(?: result=(-?\d+))?(?: .*)?").fullmatch


class GarbageError(Exception):
    """The other side does not speak FastAGI as Asterisk does, or asks for what we do not answer."""


class AnswerError(Exception):
    """Our own answer cannot be written as one MSet line; the message names the variable, never its value."""


@dataclass(frozen=True, slots=True)
class AgiRequest:
    """What the dialplan asks: the script's name and the arguments of `AGI()`, `agi_arg_1` first.

    All other headers are left out on purpose: callers write into them (asterisk.md, finding 2).
    """

    script: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AgiReply:
    """Asterisk's reply to a command: `code` 200 is success, 510, 511 and 520 are refusals; `result` only with 200."""

    code: int
    result: int | None

    @property
    def is_taken(self) -> bool:
        """Whether the application was found and ran to its end."""
        return self.code == 200 and self.result == 0


def parse_request(block: bytes) -> AgiRequest:
    """Read a header block, from its first byte up to and including the blank line.

    Asterisk writes the script's name into the second line and the arguments last, in between are the headers that a
    caller can forge lines into. So names are taken by place: any `agi_arg_` that is not part of the numbered tail, a
    duplicate included, refuses the whole request. Bytes that are not UTF-8 become U+FFFD.

    Raises `GarbageError`.
    """
    text = block.decode("utf-8", "replace")
    if not text.startswith(_NETWORK) or not text.endswith("\n\n"):
        raise GarbageError("not a FastAGI header block")
    script = text[len(_NETWORK) : text.index("\n", len(_NETWORK))]
    first = text.find("\nagi_arg_")
    if first < 0:
        return AgiRequest(script, ())
    arguments = []
    for number, line in enumerate(text[first + 1 : -2].split("\n"), start=1):
        name = f"agi_arg_{number}: "
        if not line.startswith(name):
            raise GarbageError("an argument header stands out of its place")
        arguments.append(line[len(name) :])
    return AgiRequest(script, tuple(arguments))


def exec_mset(pairs: Pairs) -> bytes:
    """The command line that sets all variables at once.

    The permitted characters need quoting neither for AGI's words nor for MSet, which would parse it again (asterisk.md,
    section 1); everything else is refused rather than quoted. At most 99 pairs and 3,500 bytes with the line feed.

    Raises `AnswerError`.
    """
    for name, value in pairs:
        if _NAME(name) is None:
            raise AnswerError(f"{name[:40]!r} is no variable name")
        if _VALUE(value) is None:
            raise AnswerError(f"the value of {name} is too long or has a character that is not permitted")
    if not 0 < len(pairs) <= MAX_PAIRS:
        raise AnswerError(f"{len(pairs)} variables, MSet takes 1 to {MAX_PAIRS}")
    line = 'EXEC MSet "' + ",".join([f"{name}={value}" for name, value in pairs]) + '"\n'
    if len(line) > LINE_BYTES:
        raise AnswerError(f"the answer has {len(line)} bytes, {LINE_BYTES} are permitted")
    return line.encode("ascii")


def parse_reply(received: bytes) -> AgiReply | None:
    """Find the reply in all bytes received since the command; None: not complete yet.

    Skips `HANGUP`, which Asterisk sends of its own accord, and provisional replies (1xx). `520-` opens a usage text of
    several lines that ends with `520 `. Raises `GarbageError`.
    """
    if len(received) > REPLY_BYTES:
        raise GarbageError("a reply without end")
    is_usage = False
    for line in received.decode("utf-8", "replace").split("\n")[:-1]:
        if is_usage:
            if line.startswith("520 "):
                return AgiReply(520, None)
        elif line.startswith("520-"):
            is_usage = True
        elif line != "HANGUP":
            match = _REPLY(line)
            if match is None:
                raise GarbageError("not an AGI reply")
            if not line.startswith("1"):
                return AgiReply(int(match[1]), None if match[2] is None else int(match[2]))
    return None


Answer = Callable[[AgiRequest], Pairs | Awaitable[Pairs | None] | None]
"""Who answers. Return the variables, or None to leave the call to the default plan. A plain function that returns the
variables at once is the cheap way; an awaitable gets a task and is cancelled when its time is over."""


class Result(StrEnum):
    """How a session ended; label of `dialmark_agi_requests_total`."""

    ANSWERED = "answered"
    DECLINED = "declined"
    """`answer` gave None."""
    REFUSED = "refused"
    """Surplus session, or the server is stopping."""
    GARBAGE = "garbage"
    PROBED = "probed"
    """Closed without a byte: a port check, systemd's or our own."""
    LATE = "late"
    HANGUP = "hangup"
    """Asterisk left before it took the answer: the caller has gone, or the dialplan's own time was over."""
    FAILED = "failed"
    """Our fault: `answer` raised, gave what MSet cannot carry, or Asterisk rejected the command."""


_ORDINARY = frozenset({Result.ANSWERED, Result.HANGUP, Result.PROBED})

Observe = Callable[[Result, float], None]
"""Told each session's end: its result and its length in seconds."""


@dataclass(frozen=True, slots=True)
class AgiLimits:
    """Times in seconds. The dialplan gives the whole session 1.5 s, so ours must be over before."""

    answer_seconds: float = 1.0
    """From accept to close, whatever happens."""
    reply_seconds: float = 0.5
    max_sessions: int = 200


@dataclass(slots=True)
class _Complaints:
    """At most one log line per result and interval, with the number of sessions since the last: a port scan must not
    fill the disk."""

    interval_seconds: float = 10.0
    _last: dict[Result, float] = field(default_factory=dict)
    _count: dict[Result, int] = field(default_factory=dict)

    def add(self, result: Result, now: float, reason: str) -> None:
        self._count[result] = self._count.get(result, 0) + 1
        if now - self._last.get(result, -self.interval_seconds) < self.interval_seconds:
            return
        self._last[result] = now
        _log.warning("agi session not answered", result=result.value, reason=reason, sessions=self._count.pop(result))


_log = log.get("pbx.agi")


class AgiServer:
    """Listens for Asterisk's questions. Sessions share nothing: a slow or hostile one holds up no other."""

    def __init__(self, answer: Answer, *, limits: AgiLimits | None = None, observe: Observe | None = None) -> None:
        self.answer = answer
        self.limits = limits or AgiLimits()
        self.counts = dict.fromkeys(Result, 0)
        """Sessions that ended, by result."""
        self._observe = observe
        self._complaints = _Complaints()
        self._sessions: set[_Session] = set()
        self._server: asyncio.Server | None = None
        self._is_stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self, host: str, port: int, *, backlog: int = BACKLOG) -> None:
        """Bind and listen; port 0 takes a free one. Raises `OSError`.

        The backlog is long because the kernel goes on accepting while the daemon hangs: a full one costs every caller
        2 s (asterisk.md, section 1).
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Session(self, loop), host, port, backlog=backlog)

    @property
    def port(self) -> int:
        """The port listened on. Raises `RuntimeError` before `start`."""
        if self._server is None or not self._server.sockets:
            raise RuntimeError("the FastAGI server does not listen")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def sessions(self) -> int:
        """Sessions under way."""
        return len(self._sessions)

    async def close(self, grace_seconds: float = 2.0) -> None:
        """Stop listening, give the sessions under way `grace_seconds`, then cut them."""
        self._is_stopping = True
        if self._server is not None:
            self._server.close()
        try:
            async with asyncio.timeout(grace_seconds):
                await self._idle.wait()
        except TimeoutError:
            for session in list(self._sessions):
                session.end(Result.LATE, "the daemon stops")

    def admit(self, session: _Session) -> bool:
        """Count a session in, unless there are too many."""
        if self._is_stopping or len(self._sessions) >= self.limits.max_sessions:
            return False
        self._sessions.add(session)
        self._idle.clear()
        return True

    def settle(self, session: _Session, result: Result, seconds: float, now: float, reason: str) -> None:
        """Count a session out."""
        self._sessions.discard(session)
        if not self._sessions:
            self._idle.set()
        self.counts[result] += 1
        if self._observe is not None:
            self._observe(result, seconds)
        if result not in _ORDINARY:
            self._complaints.add(result, now, reason)


class _Session(asyncio.Protocol):
    """One connection: header → answer → reply. `_timer` always holds the next deadline."""

    __slots__ = (
        "_buffer",
        "_is_asked",
        "_loop",
        "_result",
        "_scanned",
        "_server",
        "_started",
        "_task",
        "_timer",
        "_transport",
    )

    def __init__(self, server: AgiServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._started = loop.time()
        self._buffer = bytearray()
        self._scanned = 0
        self._is_asked = False
        self._result: Result | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked by isinstance: uvloop's transport is none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        self._timer = self._loop.call_at(
            self._started + self._server.limits.answer_seconds, self.end, Result.LATE, "no answer in time"
        )
        if not self._server.admit(self):
            self.end(Result.REFUSED, "too many sessions")

    def data_received(self, data: bytes) -> None:
        if self._result is not None:
            return
        self._buffer += data
        try:
            if not self._is_asked:
                self._read_header()
            elif self._task is None:
                self._read_reply()
            elif len(self._buffer) > REPLY_BYTES:
                raise GarbageError("bytes before the command")
        except GarbageError as error:
            self.end(Result.GARBAGE, str(error))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_asked:
            self.end(Result.HANGUP, "asterisk left")
        elif not self._buffer:
            self.end(Result.PROBED, "")
        else:
            self.end(Result.GARBAGE, "closed within the header")

    def _read_header(self) -> None:
        end = self._buffer.find(_HEADER_END, self._scanned)
        if end < 0:
            if len(self._buffer) > HEADER_BYTES:
                raise GarbageError("a header block without end")
            self._scanned = max(0, len(self._buffer) - 1)
            return
        end += len(_HEADER_END)
        request = parse_request(bytes(self._buffer[:end]))
        if request.script not in SCRIPTS:
            raise GarbageError("unknown script")
        self._is_asked = True
        # What follows can only be a HANGUP, which parse_reply skips.
        del self._buffer[:end]
        try:
            answer = self._server.answer(request)
        except Exception as error:
            self._fail(error)
            return
        if answer is None or isinstance(answer, Sequence):
            self._send(answer)
        else:
            self._task = self._loop.create_task(self._wait(answer), name="agi answer")

    async def _wait(self, answer: Awaitable[Pairs | None]) -> None:
        try:
            pairs = await answer
        except Exception as error:
            self._fail(error)
            return
        self._task = None
        self._send(pairs)

    def _send(self, pairs: Pairs | None) -> None:
        if self._result is not None:
            return
        if pairs is None:
            self.end(Result.DECLINED, "no plan")
            return
        try:
            line = exec_mset(pairs)
        except AnswerError as error:
            self._fail(error)
            return
        self._transport.write(line)
        due = self._loop.time() + self._server.limits.reply_seconds
        if due < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(due, self.end, Result.LATE, "no reply in time")

    def _read_reply(self) -> None:
        reply = parse_reply(bytes(self._buffer))
        if reply is None:
            return
        if reply.is_taken:
            self.end(Result.ANSWERED, "")
        elif reply.code == 511 or reply.result == -1:
            self.end(Result.HANGUP, "dead channel")
        else:
            self.end(Result.FAILED, f"asterisk replied {reply.code}, result {reply.result}")

    def _fail(self, error: Exception) -> None:
        _log.error("agi answer failed", exc_info=error)
        self.end(Result.FAILED, type(error).__name__)

    def end(self, result: Result, reason: str) -> None:
        """Close the connection and settle the session, once."""
        if self._result is not None:
            return
        self._result = result
        self._timer.cancel()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        # After an answer there is nothing left to write; in all other cases Asterisk shall notice at once.
        self._transport.abort()
        now = self._loop.time()
        self._server.settle(self, result, now - self._started, now, reason)
