"""The live stream over real HTTP: snapshot, changes, heartbeats, reconnects, slow readers, and access that ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio

from gateway.store import tokens
from gateway.web import auth, live, parts, streams
from tests.web import material
from tests.web.listener import Listener, bearer


@dataclass
class Event:
    kind: str
    data: Any
    event_id: str | None


class Stream:
    """Reads server-sent events as the standard says, one at a time."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> Event | None:
        """The next event, None at the end of the stream."""
        fields: dict[str, str] = {}
        while line := (await self.answer.content.readline()).decode():
            if line == "\n" and "data" in fields:
                return Event(fields["event"], json.loads(fields["data"]), fields.get("id"))
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = value
        return None

    async def until(self, kind: str) -> Event:
        """The next event of a kind."""
        while event := await self.next():
            if event.kind == kind:
                return event
        raise AssertionError(f"the stream ended before {kind}")


@pytest_asyncio.fixture(loop_scope="module")
async def quick(idle: Listener) -> AsyncIterator[Listener]:
    idle.pace = streams.Pace(heartbeat_seconds=0.02, write_seconds=0.2)
    async with idle.running():
        yield idle


@asynccontextmanager
async def reading(listener: Listener, http: aiohttp.ClientSession, token: str, **headers: str) -> AsyncIterator[Stream]:
    async with http.get(listener.url + "/api/v1/live", headers={**bearer(token), **headers}) as answer:
        assert answer.content_type == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        yield Stream(answer)


async def test_snapshot_then_changes(listener: Listener, http: aiohttp.ClientSession) -> None:
    up = material.record(call_id="a", is_up=True, name="line\nbreak \u2028 data: x")
    listener.board.publish(up)
    async with reading(listener, http, await listener.token()) as stream:
        first = await stream.next()
        assert first is not None and (first.kind, first.data["calls"]) == ("snapshot", [up])
        beat = await stream.next()
        assert beat is not None and beat.data == {
            "at": "2026-11-21T11:30:00.000Z", "calls_up": 1, "behind_seconds": 0.1
        }  # fmt: skip
        ended = material.record(call_id="a")
        listener.board.publish(ended)
        change = await stream.next()
        assert change is not None and (change.kind, change.data) == ("call", ended)
        assert change.event_id == listener.board.event_id


async def test_a_reader_that_comes_back_gets_what_it_missed(listener: Listener, http: aiohttp.ClientSession) -> None:
    token = await listener.token()
    async with reading(listener, http, token) as stream:
        first = await stream.next()
        assert first is not None and first.event_id is not None
    missed = material.record(call_id="b", is_up=True)
    listener.board.publish(missed)
    async with reading(listener, http, token, **{"Last-Event-ID": first.event_id}) as stream:
        event = await stream.next()
        assert event is not None and (event.kind, event.data) == ("call", missed)
    async with reading(listener, http, token, **{"Last-Event-ID": "before-restart-7"}) as stream:
        event = await stream.next()
        assert event is not None and (event.kind, event.data["calls"]) == ("snapshot", [missed])


async def test_heartbeats_go_on_under_load_and_without(quick: Listener, http: aiohttp.ClientSession) -> None:
    async with reading(quick, http, await quick.token()) as stream:
        for number in range(3):
            quick.board.publish(material.record(call_id=str(number)))
            await stream.until("heartbeat")


@pytest.mark.parametrize("others_published", [0, 9], ids=["times out", "runs over"])
async def test_a_slow_reader_is_cut_off_and_the_board_goes_on(idle: Listener, others_published: int) -> None:
    """It never reads: a write times out, its queue runs over before; it is counted once and its connection cut."""
    idle.pace = streams.Pace(heartbeat_seconds=5.0, write_seconds=0.1)
    idle.board.queue_size = 8
    async with idle.running():
        token = await idle.token()
        others = asyncio.all_tasks()
        address = urlsplit(idle.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1024)
        request = f"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        writer.write(request.encode())
        await reader.readuntil(b"event: heartbeat")
        connections = asyncio.all_tasks() - others
        # More than the sockets of both sides hold: writing it waits, and what comes in this one step runs over.
        idle.board.publish(material.record(name="x" * 16_000_000))
        for _ in range(10):
            await asyncio.sleep(0)
        for number in range(others_published):
            idle.board.publish(material.record(call_id=str(number)))
        _, pending = await asyncio.wait(connections, timeout=5)
        assert not pending
        assert (idle.board.cut_off_total, idle.board.reader_count) == (1, 0)
        received = b""
        with suppress(ConnectionError):
            received = await reader.read()
        assert len(received) < 16_000_000, "the connection was not cut: all of it still came"
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()


async def test_a_reader_that_fell_behind_is_told_to_resync(idle: Listener, http: aiohttp.ClientSession) -> None:
    idle.board.queue_size = 4
    async with idle.running(), reading(idle, http, await idle.token()) as stream:
        await stream.until("heartbeat")
        for number in range(10):
            idle.board.publish(material.record(call_id=str(number), is_up=True))
        await stream.until("resync")
        assert await stream.next() is None


async def test_a_stream_ends_with_the_right_to_read_it(quick: Listener, http: aiohttp.ClientSession) -> None:
    async with reading(quick, http, await quick.token()) as stream:
        await stream.until("heartbeat")
        async with quick.database.begin() as tx:
            await tokens.revoke(tx, "token 1", now_us=parts.micros(quick.clock.now))
        await stream.until("resync")
        assert await stream.next() is None


@pytest.mark.real_time
async def test_streams_end_when_the_daemon_stops(idle: Listener, http: aiohttp.ClientSession) -> None:
    async with idle.running():
        token = await idle.token()
        answer = await http.get(idle.url + "/api/v1/live", headers=bearer(token))
        stream = Stream(answer)
        await stream.until("heartbeat")
        async with asyncio.timeout(1.5):
            stopping = asyncio.create_task(stream.until("resync"))
            idle.board.close()
            await stopping
    assert idle.board.reader_count == 0


async def test_streams_are_limited(listener: Listener, http: aiohttp.ClientSession) -> None:
    listener.limits = auth.Limits(live_clients=1)
    token = await listener.token()
    async with (
        reading(listener, http, token),
        http.get(listener.url + "/api/v1/live", headers=bearer(token)) as answer,
    ):
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "10"


async def test_a_reader_that_leaves_is_forgotten(quick: Listener, http: aiohttp.ClientSession) -> None:
    token = await quick.token()
    async with reading(quick, http, token) as stream:
        await stream.until("heartbeat")
        assert quick.board.reader_count == 1
    for _ in range(3):
        # The server sees it with one of the next heartbeats; another stream's heartbeats tell that time went by.
        async with reading(quick, http, token) as other:
            for _ in range(3):
                await other.until("heartbeat")
    assert quick.board.reader_count <= 1


def test_an_event_is_one_block_whatever_it_carries() -> None:
    change = live.Change(1, {"call_id": "a", "name": "x\n\nevent: forged\r\ndata: 1"})
    text = streams.event("call", change.text, "1").decode()
    assert text.count("\n\n") == 1 and "\r" not in text
