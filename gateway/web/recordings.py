"""Recordings over HTTP: sound by ranges, waveform, facts. Each listen is a row of the audit chain.

Only frames that hold what was asked for are decrypted, one at a time, in a thread. A player asks for many ranges of one
recording while it is seeked in: within `LISTEN_SECONDS` they count as one listen of that token.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, Literal

import pydantic
from aiohttp import web

from gateway import log
from gateway.core import records
from gateway.store import audit, keyring, recordings, vault
from gateway.web import auth, parts, problems, routes

LISTEN_SECONDS = 600
LISTENS_KEPT = 10_000
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_log = log.get("web")
table = routes.Table()


class AudioQuery(routes.Query):
    """How the sound is wanted."""

    download: Literal["0", "1"] = pydantic.Field("0", description="1: as a file to keep; needs `recordings:download`.")


class RecordingsQuery(routes.Query):
    """Which recordings to list."""

    call_id: str | None = pydantic.Field(None, pattern=r"^[0-9a-fA-F-]{36}$", description="Those of one call.")
    limit: int = pydantic.Field(50, ge=1, le=500, description="How many.")


class RecordingFacts(pydantic.BaseModel):
    """What is known of a recording without hearing it."""

    recording_id: str
    call_id: str
    kind: str
    state: str
    started_at: str
    duration_seconds: float
    audio_bytes: int
    held: bool
    sha256: str
    audio_url: str | None
    peaks_url: str | None


class RecordingList(pydantic.BaseModel):
    """Recordings, newest first."""

    recordings: list[RecordingFacts]


class Peaks(pydantic.BaseModel):
    """The waveform: per side at most 800 values from 0 to 255; the caller's first."""

    version: int
    seconds: float
    sides: list[list[int]]


def facts(one: recordings.Recording) -> dict[str, Any]:
    """A recording as JSON."""
    is_there = one.state is recordings.State.STORED
    base = f"/api/v1/recordings/{one.recording_id}"
    return {
        "recording_id": one.recording_id,
        "call_id": one.call_id,
        "kind": one.kind,
        "state": one.state.value,
        "started_at": records.timestamp(one.started_us),
        "duration_seconds": one.duration_seconds,
        "audio_bytes": one.audio_bytes,
        "held": one.held_us is not None,
        "sha256": one.digest,
        "audio_url": f"{base}/audio" if is_there else None,
        "peaks_url": f"{base}/peaks" if is_there else None,
    }


@table.get(
    "/api/v1/recordings",
    scope=auth.Scope.CALLS_READ,
    query=RecordingsQuery,
    out=RecordingList,
    summary="Recordings, newest first",
    slugs=("unavailable",),
)
async def list_recordings(request: web.Request, query: RecordingsQuery) -> web.StreamResponse:
    asked = recordings.RecordingFilter(call_id=query.call_id.lower() if query.call_id else None)
    async with request.app[parts.PARTS].database.read() as connection:
        found = await recordings.list_recordings(connection, asked, limit=query.limit)
    return routes.json_response({"recordings": [facts(one) for one in found]})


@table.get(
    "/api/v1/recordings/{recording_id}",
    scope=auth.Scope.CALLS_READ,
    out=RecordingFacts,
    summary="One recording's facts",
    slugs=("recording-not-found", "unavailable"),
)
async def get_recording(request: web.Request) -> web.StreamResponse:
    return routes.json_response(facts(await _known(request)))


@table.get(
    "/api/v1/recordings/{recording_id}/peaks",
    scope=auth.Scope.RECORDINGS_LISTEN,
    out=Peaks,
    summary="The waveform of a recording",
    slugs=("recording-not-found", "recording-gone", "recording-damaged", "unavailable"),
)
async def get_peaks(request: web.Request) -> web.StreamResponse:
    one = await _known(request)
    reader = await _open(request, one)
    try:
        document = await _decrypted(one, reader.read, one.audio_bytes)
    finally:
        reader.close()
    return routes.json_response(json.loads(document))


@table.get(
    "/api/v1/recordings/{recording_id}/audio",
    scope=auth.Scope.RECORDINGS_LISTEN,
    query=AudioQuery,
    summary="The sound of a recording, whole or by Range",
    media_type="audio/mpeg",
    slugs=("recording-not-found", "recording-gone", "recording-damaged", "range-not-there", "unavailable"),
)
async def get_audio(request: web.Request, query: AudioQuery) -> web.StreamResponse:
    principal = request[routes.PRINCIPAL]
    is_download = query.download == "1"
    if is_download and not principal.may(auth.Scope.RECORDINGS_DOWNLOAD):
        raise problems.Problem("missing-scope", f"This needs the scope {auth.Scope.RECORDINGS_DOWNLOAD}.")
    one = await _known(request)
    span = wanted(request.headers.get("Range"), one.audio_bytes)
    response = _headers(one, span, is_download=is_download)
    if request.method == "HEAD":
        return response
    reader = await _open(request, one)
    try:
        # Before the first byte: what cannot be written down is not played.
        await _write_down(request, one, "recording.downloaded" if is_download else "recording.listened")
        start, stop = span or (0, one.audio_bytes)
        pieces = reader.pieces(start, stop)
        piece = await _decrypted(one, next, pieces, b"")
        await response.prepare(request)
        while piece:
            await response.write(piece)
            try:
                piece = await asyncio.to_thread(next, pieces, b"")
            except (vault.VaultDamaged, OSError) as error:
                # The answer has begun: cutting it off is the only way left to say that it is not whole.
                _log.error("recording damaged, playing broken off", recording=one.recording_id, error=str(error))
                response.force_close()
                if request.transport is not None:
                    request.transport.abort()
                return response
        await response.write_eof()
    finally:
        reader.close()
    return response


def wanted(header: str | None, length: int) -> tuple[int, int] | None:
    """The bytes [start, stop) that a Range header asks for, None for all (no header, several ranges, or nonsense,
    as RFC 9110 14.2 allows). Raises Problem `range-not-there`."""
    match = _RANGE.fullmatch(header.strip()) if header is not None and len(header) < 64 else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start, stop = max(0, length - int(match[2])), length
    else:
        start, stop = int(match[1]), min(length, int(match[2]) + 1) if match[2] else length
        if match[2] and int(match[2]) < start:
            return None
    if start >= stop:
        raise problems.Problem("range-not-there", headers={"Content-Range": f"bytes */{length}"})
    return start, stop


def _headers(one: recordings.Recording, span: tuple[int, int] | None, *, is_download: bool) -> web.StreamResponse:
    start, stop = span or (0, one.audio_bytes)
    kind = "attachment" if is_download else "inline"
    response = web.StreamResponse(status=206 if span else 200)
    response.content_type = "audio/mpeg"
    response.content_length = stop - start
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Disposition"] = f'{kind}; filename="{one.recording_id}.mp3"'
    if span:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{one.audio_bytes}"
    return response


async def _known(request: web.Request) -> recordings.Recording:
    recording_id = request.match_info["recording_id"]
    if _ID.fullmatch(recording_id):
        async with request.app[parts.PARTS].database.read() as connection:
            one = await recordings.get(connection, recording_id)
        if one is not None:
            return one
    raise problems.Problem("recording-not-found")


async def _open(request: web.Request, one: recordings.Recording) -> vault.Reader:
    """Raises Problem for a recording that is not to be heard, or cannot be."""
    if one.state is not recordings.State.STORED:
        raise problems.Problem("recording-gone", f"It is {one.state.value}.")
    here = request.app[parts.PARTS].vault
    async with request.app[parts.PARTS].database.read() as connection:
        wrapped = await recordings.key_of(connection, one.recording_id)
    if wrapped is None:
        raise problems.Problem("recording-gone", "Its key was shredded.")
    if here is None or here.ring is None:
        raise problems.Problem("unavailable", "There is no key ring.")
    try:
        key = here.ring.unwrap(wrapped, recordings.subject(one.recording_id))
    except keyring.KeyMissing as error:
        _log.error("recording cannot be opened", recording=one.recording_id, error=str(error))
        raise problems.Problem("unavailable", "The key ring does not open it.") from None
    path = vault.file_of(here.root, one.recording_id, one.started_us)
    reader: vault.Reader = await _decrypted(one, vault.Reader, path, key, one.recording_id)
    if reader.length != one.audio_bytes + one.peaks_bytes:
        reader.close()
        raise problems.Problem("recording-damaged")
    return reader


async def _decrypted(one: recordings.Recording, work: Callable[..., Any], *arguments: object) -> Any:
    try:
        return await asyncio.to_thread(work, *arguments)
    except (vault.VaultDamaged, vault.VaultMissing, OSError) as error:
        _log.error("recording damaged or missing", recording=one.recording_id, error=str(error))
        raise problems.Problem("recording-damaged") from None


async def _write_down(request: web.Request, one: recordings.Recording, action: str) -> None:
    shared = request.app[parts.PARTS]
    heard = shared.vault.heard if shared.vault is not None else {}
    principal, now_us = request[routes.PRINCIPAL], parts.micros(shared.clock())
    key = (principal.token_id, one.recording_id, action)
    last_us = heard.get(key)
    if last_us is not None and 0 <= now_us - last_us < LISTEN_SECONDS * 1_000_000:
        return
    async with shared.database.begin() as tx:
        await audit.append(
            tx,
            at_us=now_us,
            actor=f"token:{principal.name}",
            action=action,
            subject=recordings.subject(one.recording_id),
            details={"call_id": one.call_id},
        )
    while len(heard) >= LISTENS_KEPT:
        del heard[next(iter(heard))]
    heard[key] = now_us
