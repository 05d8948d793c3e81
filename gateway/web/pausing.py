"""Pause and resume of a recording by API (R17, R42): both sides become silence of the same length, the talk goes on.

What was spoken in a pause can never be had back, and what was recorded against a pause can never be unheard, so every
doubt is decided for silence:

    pause    mute, then write it down: it is silent before anybody says so
    resume   write it down, then unmute: nothing sounds again that nobody is answerable for

The mute is Asterisk's. A daemon that dies leaves it, and one that starts reads from the audit which calls are paused;
only a resume, or the agent's own key, ends a pause. No timer does.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from aiohttp import web

from gateway import store
from gateway.core import records
from gateway.store import audit, calls
from gateway.web import auth, live, lookup, parts, problems, routes, schemas, streams

PAUSED = "recording.paused"
RESUMED = "recording.resumed"

Locks = WeakValueDictionary[str, asyncio.Lock]
LOCKS: web.AppKey[Locks] = web.AppKey("pause locks", WeakValueDictionary)
"""One per call that is asked about now: a pause and a resume at once must not cross."""

table = routes.Table()


def subject(call_id: str) -> str:
    """How the audit names a call."""
    return f"call:{call_id}"


@table.post(
    f"/api/v1/calls/{lookup.CALL_ID}/recording",
    scope=auth.Scope.RECORDINGS_PAUSE,
    body=schemas.PauseWish,
    out=schemas.RecordingPause,
    summary="Pause or resume the recording of a call that is up",
    slugs=("call-not-found", "call-not-up", "call-not-recorded", "asterisk-unreachable", "unavailable"),
)
async def set_recording_paused(request: web.Request) -> web.StreamResponse:
    """Asking for what is already so is no error, and is sent to Asterisk all the same."""
    wish = await routes.parse_body(schemas.PauseWish, request)
    row = await lookup.find_call(request)
    if row.state != "open":
        raise problems.Problem("call-not-up")
    lock = request.app[LOCKS].setdefault(row.call_id, asyncio.Lock())
    async with lock:
        await (_pause(request, row) if wish.paused else _resume(request, row))
    return routes.json_response({"call_id": row.call_id, "paused": wish.paused})


async def _pause(request: web.Request, row: calls.CallRow) -> None:
    here = request.app[parts.PARTS]
    await _mute(here, row, is_muted=True)
    here.board.mark_paused(row.call_id, streams.timestamp(here.clock()))
    await _write_down(request, row, PAUSED)


async def _resume(request: web.Request, row: calls.CallRow) -> None:
    here = request.app[parts.PARTS]
    if here.board.is_paused(row.call_id):
        # Muting what is muted costs nothing and tells whether Asterisk is there, before anything is promised.
        await _mute(here, row, is_muted=True)
    await _write_down(request, row, RESUMED)
    # Shown as recorded before it is: if the answer gets lost, the page must not call a talk silent that is not.
    here.board.mark_paused(row.call_id, None)
    await _mute(here, row, is_muted=False)


async def _mute(here: parts.AdminParts, row: calls.CallRow, *, is_muted: bool) -> None:
    if here.mute_recording is None:
        raise problems.Problem("asterisk-unreachable", "this process has no manager session")
    try:
        await here.mute_recording(row.unique_id, is_muted)
    except parts.NotRecorded:
        raise problems.Problem("call-not-recorded", "Nothing is recorded, or the agent's key paused it.") from None
    except LookupError:
        raise problems.Problem("call-not-up") from None
    except ConnectionError as error:
        raise problems.Problem("asterisk-unreachable", str(error)) from None


async def _write_down(request: web.Request, row: calls.CallRow, action: str) -> None:
    here = request.app[parts.PARTS]
    async with here.database.begin() as tx:
        await audit.append(
            tx,
            at_us=parts.micros(here.clock()),
            actor=f"token:{request[routes.PRINCIPAL].name}",
            action=action,
            subject=subject(row.call_id),
        )


async def restore(here: parts.AdminParts) -> None:
    """Show again which calls are paused, after a restart. Raises StoreUnavailable."""
    recorded = [str(document["call_id"]) for document in here.board.snapshot() if live.may_be_recorded(document)]
    if not recorded:
        return
    async with here.database.read() as connection:
        for call_id in recorded:
            last = await last_word(connection, call_id)
            if last is not None and last.action == PAUSED:
                here.board.mark_paused(call_id, records.timestamp(last.at_us))


async def pauses(connection: store.Connection, call_id: str) -> list[tuple[str, str | None]]:
    """The pauses of a call by API, from and to as in records; the last may have no end."""
    found: list[tuple[str, str | None]] = []
    for entry in await _words(connection, call_id):
        at, is_open = str(records.timestamp(entry.at_us)), bool(found) and found[-1][1] is None
        if entry.action == PAUSED and not is_open:
            found.append((at, None))
        elif entry.action == RESUMED and is_open:
            found[-1] = (found[-1][0], at)
    return found


async def last_word(connection: store.Connection, call_id: str) -> audit.Entry | None:
    """The newest pause or resume of a call by API."""
    words = await _words(connection, call_id)
    return words[-1] if words else None


async def _words(connection: store.Connection, call_id: str) -> list[audit.Entry]:
    found: list[audit.Entry] = []
    after = 0
    while page := await audit.entries(connection, after=after, subject=subject(call_id)):
        after = page[-1].seq
        found += [entry for entry in page if entry.action in (PAUSED, RESUMED)]
    return found
