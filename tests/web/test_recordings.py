"""Recordings over HTTP: ranges as a player asks for them, who may, and that each listen is written down (R44)."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from gateway.store import audit, keyring, recordings, vault
from gateway.web import parts
from gateway.web.recordings import wanted
from tests.web.listener import Listener, bearer
from tests.web.material import NOW

RING = keyring.parse(keyring.new_line("2026-11"))
SOUND = os.urandom(200_000)
PEAKS = b'{"version":1,"seconds":50.0,"sides":[[1,2],[3,4]]}'
STARTED_US = parts.micros(NOW)


@pytest_asyncio.fixture(loop_scope="module")
async def recorded(listener: Listener, tmp_path: Path) -> recordings.Recording:
    """A stored recording behind the running listener."""
    listener.vault_parts.root, listener.vault_parts.ring = tmp_path, RING
    return await put(listener)


async def put(listener: Listener, state: recordings.State = recordings.State.STORED) -> recordings.Recording:
    made = recordings.Recording(
        recording_id=str(uuid.uuid4()),
        call_id=str(uuid.uuid4()),
        node="main",
        kind="talk",
        state=state,
        started_us=STARTED_US,
        duration_seconds=50.0,
        parts="1",
        audio_bytes=len(SOUND),
        peaks_bytes=len(PEAKS),
        digest="d1",
        created_us=STARTED_US,
    )
    key = vault.new_key()
    vault.write(file_of(listener, made), key, made.recording_id, [SOUND, PEAKS])
    async with listener.database.begin() as tx:
        await recordings.register(tx, made, RING.wrap(key, recordings.subject(made.recording_id)))
    return made


def file_of(listener: Listener, one: recordings.Recording) -> Path:
    return vault.file_of(listener.vault_parts.root, one.recording_id, one.started_us)


def url(listener: Listener, one: recordings.Recording, what: str = "/audio") -> str:
    return f"{listener.url}/api/v1/recordings/{one.recording_id}{what}"


async def actions(listener: Listener) -> list[str]:
    async with listener.database.read() as connection:
        return [f"{entry.actor} {entry.action}" for entry in await audit.entries(connection)]


async def test_the_whole_sound(listener: Listener, http: aiohttp.ClientSession, recorded: recordings.Recording) -> None:
    async with http.get(url(listener, recorded), headers=bearer(await listener.token("recordings:listen"))) as answer:
        assert (answer.status, await answer.read()) == (200, SOUND)
        assert answer.headers["Content-Type"] == "audio/mpeg"
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Disposition"].startswith("inline")


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-", 0, 200_000),
        ("bytes=0-0", 0, 1),
        ("bytes=65535-65536", 65_535, 65_537),
        ("bytes=100000-150000", 100_000, 150_001),
        ("bytes=199999-999999", 199_999, 200_000),
        ("bytes=-5", 199_995, 200_000),
        ("bytes=-999999", 0, 200_000),
    ],
)
async def test_ranges(
    listener: Listener, http: aiohttp.ClientSession, recorded: recordings.Recording, asked: str, start: int, stop: int
) -> None:
    headers = {**bearer(await listener.token("recordings:listen")), "Range": asked}
    async with http.get(url(listener, recorded), headers=headers) as answer:
        assert (answer.status, await answer.read()) == (206, SOUND[start:stop])
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/200000"
        assert answer.headers["Content-Length"] == str(stop - start)


@pytest.mark.parametrize("asked", ["bytes=200000-", "bytes=-0", "bytes=999999-9999999", "bytes=" + "9" * 40 + "-"])
async def test_a_range_behind_the_end_is_told_the_length(
    listener: Listener, http: aiohttp.ClientSession, recorded: recordings.Recording, asked: str
) -> None:
    headers = {**bearer(await listener.token("recordings:listen")), "Range": asked}
    async with http.get(url(listener, recorded), headers=headers) as answer:
        assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */200000")


@pytest.mark.parametrize(
    "asked",
    [
        None, "", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,5-9", "items=0-1", "bytes=a-b", "bytes=--5",
        "bytes=0x1-2",
        "bytes=\u0663-\u0665", "bytes=" + "9" * 4_000 + "-", "bytes=-1-2", "BYTES=1-2", "bytes = 1-2",
    ],
)  # fmt: skip
def test_what_is_no_single_range_means_the_whole(asked: str | None) -> None:
    assert wanted(asked, 100) is None


async def test_head_tells_the_length_and_is_no_listen(
    listener: Listener, http: aiohttp.ClientSession, recorded: recordings.Recording
) -> None:
    async with http.head(url(listener, recorded), headers=bearer(await listener.token("recordings:listen"))) as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, "200000")
    assert await actions(listener) == []


async def test_each_listen_is_a_row_and_seeking_is_the_same_listen(
    listener: Listener, http: aiohttp.ClientSession, recorded: recordings.Recording
) -> None:
    headers = bearer(await listener.token("recordings:listen"))
    for asked in ("bytes=0-10", "bytes=70000-70010", "bytes=5-9"):
        async with http.get(url(listener, recorded), headers={**headers, "Range": asked}) as answer:
            assert answer.status == 206
    assert await actions(listener) == ["token:token 1 recording.listened"]
    listener.clock.pass_by(minutes=11)
    async with http.get(url(listener, recorded), headers=headers) as answer:
        await answer.read()
    assert len(await actions(listener)) == 2
    other = bearer(await listener.token("recordings:listen"))
    async with http.get(url(listener, recorded), headers=other) as answer:
        await answer.read()
    assert (await actions(listener))[-1] == "token:token 2 recording.listened"
    assert (await audit.verify(listener.database)).is_whole


async def test_scopes(listener: Listener, http: aiohttp.ClientSession, recorded: recordings.Recording) -> None:
    async with http.get(url(listener, recorded), headers=bearer(await listener.token("calls:read"))) as answer:
        assert answer.status == 403
    async with http.get(url(listener, recorded)) as answer:
        assert answer.status == 401
    listen = bearer(await listener.token("recordings:listen"))
    async with http.get(url(listener, recorded) + "?download=1", headers=listen) as answer:
        assert answer.status == 403
    both = bearer(await listener.token("recordings:listen", "recordings:download"))
    async with http.get(url(listener, recorded) + "?download=1", headers=both) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Disposition"].startswith("attachment")
    assert (await actions(listener))[-1].endswith("recording.downloaded")
    async with http.get(
        url(listener, recorded, "/peaks"), headers=bearer(await listener.token("calls:read"))
    ) as answer:
        assert answer.status == 403


async def test_peaks_and_facts(listener: Listener, http: aiohttp.ClientSession, recorded: recordings.Recording) -> None:
    headers = bearer(await listener.token())
    async with http.get(url(listener, recorded, "/peaks"), headers=headers) as answer:
        assert (await answer.json())["sides"] == [[1, 2], [3, 4]]
    async with http.get(url(listener, recorded, ""), headers=headers) as answer:
        one = await answer.json()
    assert (one["call_id"], one["sha256"], one["held"]) == (recorded.call_id, "d1", False)
    async with http.get(f"{listener.url}/api/v1/recordings?call_id={recorded.call_id}", headers=headers) as answer:
        assert (await answer.json())["recordings"] == [one]
    assert await actions(listener) == []


@pytest.mark.parametrize("state", [recordings.State.REFUSED, recordings.State.CONDEMNED])
async def test_what_is_out_of_reach_is_not_played(
    listener: Listener, http: aiohttp.ClientSession, recorded: recordings.Recording, state: recordings.State
) -> None:
    one = await put(listener, state)
    headers = bearer(await listener.token("admin"))
    for what in ("/audio", "/peaks"):
        async with http.get(url(listener, one, what), headers=headers) as answer:
            assert answer.status == 410
    assert await actions(listener) == []


async def test_a_shredded_one_is_gone(
    listener: Listener, http: aiohttp.ClientSession, recorded: recordings.Recording
) -> None:
    async with listener.database.begin() as tx:
        await recordings.shred(tx, [recorded.recording_id], now_us=STARTED_US)
    async with http.get(url(listener, recorded), headers=bearer(await listener.token("admin"))) as answer:
        assert answer.status == 410


async def test_a_damaged_or_missing_file_is_told_not_played(
    listener: Listener, http: aiohttp.ClientSession, recorded: recordings.Recording
) -> None:
    headers = bearer(await listener.token("admin"))
    path = file_of(listener, recorded)
    good = path.read_bytes()
    for bad in (good[:-1], good[:100_000], good[:20] + b"\0" + good[21:], None):
        path.unlink()
        if bad is not None:
            path.write_bytes(bad)
        async with http.get(url(listener, recorded), headers=headers) as answer:
            assert answer.status == 500
            assert (await answer.json())["type"].endswith("recording-damaged")
        if bad is None:
            path.write_bytes(good)


async def test_damage_behind_the_first_frame_breaks_the_answer_off(
    listener: Listener, http: aiohttp.ClientSession, recorded: recordings.Recording
) -> None:
    path = file_of(listener, recorded)
    raw = bytearray(path.read_bytes())
    raw[100_000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(aiohttp.ClientError):
        async with http.get(url(listener, recorded), headers=bearer(await listener.token("admin"))) as answer:
            await answer.read()


async def test_another_ring_and_no_ring_play_nothing(
    listener: Listener, http: aiohttp.ClientSession, recorded: recordings.Recording
) -> None:
    headers = bearer(await listener.token("admin"))
    for ring in (None, keyring.parse(keyring.new_line("2026-11")), keyring.parse(keyring.new_line("other"))):
        listener.vault_parts.ring = ring
        async with http.get(url(listener, recorded), headers=headers) as answer:
            assert answer.status == 503


@pytest.mark.parametrize("name", ["x", "..%2f..%2fetc%2fpasswd", "89007eaf-0473-40ec-9b37-d1641fcea606"])
async def test_an_unknown_recording(listener: Listener, http: aiohttp.ClientSession, name: str) -> None:
    headers = bearer(await listener.token("admin"))
    async with http.get(f"{listener.url}/api/v1/recordings/{name}/audio", headers=headers) as answer:
        assert answer.status == 404


@pytest.mark.parametrize("asked", ["x", "%00", "..%2f..%2fetc", "' OR 1=1 --", "%F0%9F%98%80", "-" * 37])
async def test_a_call_id_that_is_none_is_told_so(listener: Listener, http: aiohttp.ClientSession, asked: str) -> None:
    headers = bearer(await listener.token("calls:read"))
    async with http.get(f"{listener.url}/api/v1/recordings?call_id={asked}", headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["errors"][0]["field"] == "call_id"
