"""The live stream: server-sent events from the live board to one client.

    event: snapshot   id: 3f2a-17   {"at": …, "calls": [record…]}           first, unless Last-Event-ID could be served
    event: call       id: 3f2a-18   record                                  a call began, changed or ended
    event: heartbeat                {"at": …, "calls_up": 3, "behind_seconds": 0.1}
    event: resync                   {}   the client was too slow or access ended; the stream closes, connect again

A client that sees no heartbeat for two intervals must take what it shows for old.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from gateway.web import live

WRITE_SECONDS = 15.0
"""How long one write may wait for a client that does not read, before its connection is cut."""
RECONNECT_MS = 2000


@dataclass(frozen=True, slots=True)
class Pace:
    """Timing of streams, in seconds."""

    heartbeat_seconds: float = 5.0
    write_seconds: float = WRITE_SECONDS


def timestamp(moment: datetime) -> str:
    """RFC 3339 UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event(kind: str, data: str, event_id: str | None = None) -> bytes:
    """One event on the wire. `data` is one line of JSON."""
    head = f"id: {event_id}\n" if event_id is not None else ""
    # A caller's name may have been cut inside a character: that must not break the stream.
    return f"{head}event: {kind}\ndata: {data}\n\n".encode(errors="replace")


async def serve(
    request: web.Request,
    board: live.LiveBoard,
    *,
    still_allowed: Callable[[], Awaitable[bool]],
    behind_seconds: Callable[[], float | None],
    pace: Pace,
) -> web.StreamResponse:
    """Stream until the client goes, is cut off as too slow, or `still_allowed` (asked at each heartbeat) says no."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    response.force_close()
    with board.reading(request.headers.get("Last-Event-ID")) as reader:
        await response.prepare(request)
        with suppress(ConnectionError):
            try:
                await _run(_Line(response, pace), board, reader, still_allowed, behind_seconds, pace)
            except TimeoutError:
                board.cut_off(reader)
                # The peer reads nothing: an orderly end would wait for it as well.
                if request.transport is not None:
                    request.transport.abort()
    return response


@dataclass(frozen=True, slots=True)
class _Line:
    response: web.StreamResponse
    pace: Pace

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(self.pace.write_seconds):
            await self.response.write(data)


async def _run(
    line: _Line,
    board: live.LiveBoard,
    reader: live.Reader,
    still_allowed: Callable[[], Awaitable[bool]],
    behind_seconds: Callable[[], float | None],
    pace: Pace,
) -> None:
    await line.send(f"retry: {RECONNECT_MS}\n\n".encode() + _opening(board, reader))
    await line.send(_heartbeat(board, behind_seconds()))
    loop = asyncio.get_running_loop()
    beat_at = loop.time() + pace.heartbeat_seconds
    while not reader.is_cut_off:
        change = await reader.next(max(0.0, beat_at - loop.time()))
        if change is not None and not reader.is_cut_off:
            await line.send(event("call", change.text, board.id_of(change.number)))
        if loop.time() >= beat_at:
            if not await still_allowed():
                break
            await line.send(_heartbeat(board, behind_seconds()))
            beat_at = loop.time() + pace.heartbeat_seconds
    await line.send(event("resync", "{}"))


def _opening(board: live.LiveBoard, reader: live.Reader) -> bytes:
    if reader.replay is not None:
        return b"".join(event("call", change.text, board.id_of(change.number)) for change in reader.replay)
    content = {"at": timestamp(board.clock()), "calls": board.snapshot()}
    return event("snapshot", json.dumps(content, ensure_ascii=False, separators=(",", ":")), board.event_id)


def _heartbeat(board: live.LiveBoard, behind_seconds: float | None) -> bytes:
    content = {"at": timestamp(board.clock()), "calls_up": board.open_count, "behind_seconds": behind_seconds}
    return event("heartbeat", json.dumps(content))
