"""The FastAGI server on real sockets: what a port scan, a hostile or a hung client does to others (nothing)."""

import asyncio
import io
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway import log
from gateway.pbx import agi
from tests.pbx.test_agi_codec import ARGUMENTS, block

PLAN = [("DM_S1", "PJSIP/desk-1"), ("DM_OK", "1")]
LINE = b'EXEC MSet "DM_S1=PJSIP/desk-1,DM_OK=1"\n'
TAKEN = b"200 result=0\n"
AT_ONCE = agi.AgiLimits(answer_seconds=0.02, reply_seconds=0.01)
"""Deadlines that are over before anything else can happen."""
PATIENT = agi.AgiLimits(answer_seconds=60, reply_seconds=60)
"""Deadlines that no test reaches: what ends a session here is not the clock."""


class Ends:
    """The sessions that ended, to wait for."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[agi.Result, float]] = asyncio.Queue()

    def add(self, result: agi.Result, seconds: float) -> None:
        self._queue.put_nowait((result, seconds))

    async def next(self) -> agi.Result:
        return (await self._queue.get())[0]


@asynccontextmanager
async def serving(answer: agi.Answer, limits: agi.AgiLimits = PATIENT) -> AsyncIterator[tuple[agi.AgiServer, Ends]]:
    ends = Ends()
    server = agi.AgiServer(answer, limits=limits, observe=ends.add)
    await server.start("127.0.0.1", 0)
    try:
        yield server, ends
    finally:
        await server.close(0)


@asynccontextmanager
async def connected(server: agi.AgiServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ask(server: agi.AgiServer) -> bytes:
    """One session as Asterisk holds it; gives the command line."""
    async with connected(server) as (reader, writer):
        writer.write(block())
        line = await reader.readline()
        writer.write(TAKEN)
        assert await reader.read() == b""
        return line


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What still comes until the server closes, in order or by reset."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


def plan(request: agi.AgiRequest) -> agi.Pairs:
    return PLAN


async def test_a_question_gets_one_line_and_the_session_ends_with_the_reply() -> None:
    asked: list[agi.AgiRequest] = []

    def answer(request: agi.AgiRequest) -> agi.Pairs:
        asked.append(request)
        return PLAN

    async with serving(answer) as (server, ends):
        assert await ask(server) == LINE
        assert await ends.next() is agi.Result.ANSWERED
        assert asked == [agi.AgiRequest("route", ARGUMENTS)]
        assert server.counts[agi.Result.ANSWERED] == 1
        assert server.sessions == 0


async def test_an_answer_that_has_to_wait() -> None:
    known = asyncio.Event()

    async def answer(request: agi.AgiRequest) -> agi.Pairs:
        await known.wait()
        return PLAN

    async with serving(answer) as (server, ends):
        first, second = asyncio.create_task(ask(server)), asyncio.create_task(ask(server))
        known.set()
        assert [await first, await second] == [LINE, LINE]
        assert [await ends.next(), await ends.next()] == [agi.Result.ANSWERED] * 2


async def test_byte_by_byte_and_in_one_piece_with_a_hangup_behind_it() -> None:
    async with serving(plan) as (server, ends):
        async with connected(server) as (reader, writer):
            writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in block():
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert await reader.readline() == LINE
            for byte in b"HANGUP\n" + TAKEN:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert await ends.next() is agi.Result.ANSWERED
        async with connected(server) as (reader, writer):
            writer.write(block() + b"HANGUP\n")
            assert await reader.readline() == LINE
            writer.write(TAKEN)
            assert await ends.next() is agi.Result.ANSWERED


async def test_no_plan_sends_nothing_so_that_the_dialplan_takes_the_default_plan() -> None:
    async with serving(lambda request: None) as (server, ends), connected(server) as (reader, writer):
        writer.write(block())
        assert await rest(reader) == b""
        assert await ends.next() is agi.Result.DECLINED


Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _half_a_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(block()[:200])
    writer.close()


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET / HTTP/1.1\nHost: x\n\n")
    await rest(reader)


async def _bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x16\x03\x01\xff\x00\n\n")
    await rest(reader)


async def _bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"agi_network: yes\n" * 40_000)
    await rest(reader)


async def _other_script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(block().replace(b"script: route", b"script: route?x=1"))
    await rest(reader)


async def _forged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(block(name=b"x\nagi_arg_2: 9902"))
    await rest(reader)


async def _wrong_reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(block())
    await reader.readline()
    writer.write(b"what?\n")
    await rest(reader)


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = writer.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.parametrize("peer", [_nothing, _reset])
async def test_a_port_check_is_no_fault(peer: Peer) -> None:
    async with serving(plan) as (server, ends):
        async with connected(server) as (reader, writer):
            await peer(reader, writer)
            assert await ends.next() is agi.Result.PROBED
        assert await ask(server) == LINE


@pytest.mark.parametrize("peer", [_half_a_header, _http, _bytes, _bomb, _other_script, _forged, _wrong_reply])
async def test_garbage_is_closed_at_once_and_the_next_call_is_answered(peer: Peer) -> None:
    async with serving(plan) as (server, ends):
        async with connected(server) as (reader, writer):
            await peer(reader, writer)
            assert await ends.next() is agi.Result.GARBAGE
        assert await ask(server) == LINE


async def test_a_port_scan_does_not_fill_the_log() -> None:
    stream = io.StringIO()
    log.configure(format="json", stream=stream)
    try:
        async with serving(plan) as (server, ends):
            for _ in range(20):
                async with connected(server) as (reader, writer):
                    await _http(reader, writer)
                assert await ends.next() is agi.Result.GARBAGE
    finally:
        log.configure()
    (line,) = stream.getvalue().splitlines()
    assert "not a FastAGI header block" in line


async def test_a_name_that_is_not_utf8_is_a_call_like_any_other() -> None:
    async with serving(plan) as (server, _), connected(server) as (reader, writer):
        writer.write(block(name=b"\xff\xfe\x80"))
        assert await reader.readline() == LINE


async def test_a_slow_header_ends_when_the_time_is_over() -> None:
    async with serving(plan, AT_ONCE) as (server, ends), connected(server) as (reader, writer):
        writer.write(block()[:-1])
        assert await rest(reader) == b""
        assert await ends.next() is agi.Result.LATE


async def test_slow_clients_hold_up_no_other() -> None:
    async with serving(plan) as (server, _):
        slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(150)]
        for _, writer in slow:
            writer.write(block()[:-1])
        assert await ask(server) == LINE
        for _, writer in slow:
            writer.transport.abort()


async def test_an_answer_that_comes_too_late_is_cancelled_and_not_sent() -> None:
    cancelled = asyncio.Event()

    async def answer(request: agi.AgiRequest) -> agi.Pairs:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return PLAN

    async with serving(answer, AT_ONCE) as (server, ends), connected(server) as (reader, writer):
        writer.write(block())
        assert await rest(reader) == b""
        assert await ends.next() is agi.Result.LATE
        await cancelled.wait()


async def test_a_reply_that_does_not_come_ends_the_session() -> None:
    async with serving(plan, AT_ONCE) as (server, ends), connected(server) as (reader, writer):
        writer.write(block())
        assert await rest(reader) == LINE
        assert await ends.next() is agi.Result.LATE


@pytest.mark.parametrize("reply", [b"511 Command Not Permitted on a dead channel\n", b"200 result=-1\n", None])
async def test_a_caller_who_hangs_up_is_no_fault(reply: bytes | None) -> None:
    async with serving(plan) as (server, ends), connected(server) as (reader, writer):
        writer.write(block())
        assert await reader.readline() == LINE
        if reply is not None:
            writer.write(reply)
        else:
            writer.close()
        assert await ends.next() is agi.Result.HANGUP


async def test_a_caller_who_hangs_up_while_the_answer_is_sought_cancels_the_search() -> None:
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def answer(request: agi.AgiRequest) -> agi.Pairs:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return PLAN

    async with serving(answer) as (server, ends):
        async with connected(server) as (_, writer):
            writer.write(block())
            await begun.wait()
        assert await ends.next() is agi.Result.HANGUP
        await cancelled.wait()


@pytest.mark.parametrize("reply", [b"510 Invalid or unknown command\n", b"200 result=-2\n", b"520-Usage\n520 End\n"])
async def test_a_rejected_command_is_our_fault(reply: bytes) -> None:
    async with serving(plan) as (server, ends), connected(server) as (reader, writer):
        writer.write(block())
        await reader.readline()
        writer.write(reply)
        assert await ends.next() is agi.Result.FAILED


async def _raise_later(request: agi.AgiRequest) -> agi.Pairs:
    raise LookupError("no book")


def _raise_now(request: agi.AgiRequest) -> agi.Pairs:
    raise LookupError("no book")


async def _unspeakable_later(request: agi.AgiRequest) -> agi.Pairs:
    return _unspeakable(request)


def _unspeakable(request: agi.AgiRequest) -> agi.Pairs:
    return [("DM_S1", 'PJSIP/"'), ("DM_OK", "1")]


@pytest.mark.parametrize("answer", [_raise_now, _raise_later, _unspeakable, _unspeakable_later])
async def test_a_fault_of_ours_leaves_the_call_to_the_default_plan(answer: agi.Answer) -> None:
    """N2: nothing is sent, so no half plan is ever dialled."""
    async with serving(answer) as (server, ends), connected(server) as (reader, writer):
        writer.write(block())
        assert await rest(reader) == b""
        assert await ends.next() is agi.Result.FAILED


async def test_surplus_sessions_are_closed_at_once() -> None:
    limits = agi.AgiLimits(answer_seconds=60, reply_seconds=60, max_sessions=3)
    async with serving(plan, limits) as (server, ends):
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        async with connected(server) as (reader, _):
            assert await rest(reader) == b""
            assert await ends.next() is agi.Result.REFUSED
        for _, writer in held:
            writer.transport.abort()
        assert {await ends.next() for _ in held} == {agi.Result.PROBED}
        assert await ask(server) == LINE


async def test_stopping_lets_sessions_end_and_takes_no_new_ones() -> None:
    known = asyncio.Event()
    begun = asyncio.Event()

    async def answer(request: agi.AgiRequest) -> agi.Pairs:
        begun.set()
        await known.wait()
        return PLAN

    async with serving(answer) as (server, ends):
        port = server.port
        call = asyncio.create_task(ask(server))
        await begun.wait()
        closing = asyncio.create_task(server.close(60))
        await asyncio.sleep(0)
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        known.set()
        assert await call == LINE
        await closing
        assert await ends.next() is agi.Result.ANSWERED


async def test_stopping_cuts_a_session_that_does_not_end() -> None:
    async with serving(plan) as (server, ends), connected(server) as (reader, writer):
        writer.write(block())
        assert await reader.readline() == LINE
        await server.close(0)
        assert await ends.next() is agi.Result.LATE
        assert server.sessions == 0


async def test_the_port_is_known_only_while_listening() -> None:
    server = agi.AgiServer(plan)
    with pytest.raises(RuntimeError):
        _ = server.port
