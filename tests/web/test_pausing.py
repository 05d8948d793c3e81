"""Pause and resume of a recording by API (R17, R42): who may, what is written down, shown, and left by a crash."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest

from gateway import store
from gateway.store import audit
from gateway.web import auth, live, metrics, parts
from tests.web import material
from tests.web.listener import Listener, bearer

GRANTED = {**material.record()["recording_consent"], "mode": "opt_in", "result": "granted", "key": "1"}
UP = material.record(call_id="11111111-2222-4333-8444-555555555555", is_up=True, recording_consent=GRANTED)
CALL_ID = str(UP["call_id"])


class Recording:
    """Plays Asterisk's side: whether the one channel is muted, and what goes wrong."""

    def __init__(self, *errors: Exception | None) -> None:
        self.asked: list[tuple[str, bool]] = []
        self.errors: Sequence[Exception | None] = errors

    async def mute(self, unique_id: str, is_muted: bool) -> None:
        error = self.errors[len(self.asked)] if len(self.asked) < len(self.errors) else None
        self.asked.append((unique_id, is_muted))
        if error is not None:
            raise error


async def put_up(listener: Listener, *errors: Exception | None) -> Recording:
    """A recorded talk that is up, on the board and in the store."""
    await listener.store_calls([UP])
    listener.board.publish(UP)
    recording = Recording(*errors)
    listener.mute_recording = recording.mute
    return recording


async def ask(
    listener: Listener,
    http: aiohttp.ClientSession,
    body: object,
    call_id: str = CALL_ID,
    scope: str = "recordings:pause",
) -> tuple[int, Any]:
    headers = bearer(await listener.token(scope))
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with http.post(f"{listener.url}/api/v1/calls/{call_id}/recording", headers=headers, data=data) as answer:
        document = await answer.json()
        return answer.status, document.get("type", document).removeprefix(
            "urn:dialmark:problem:"
        ) if "type" in document else document


async def rows(listener: Listener) -> list[tuple[str, str, str]]:
    async with listener.database.read() as connection:
        return [(entry.actor, entry.action, entry.subject) for entry in await audit.entries(connection)]


async def test_a_pause_mutes_and_is_written_down_and_shown(listener: Listener, http: aiohttp.ClientSession) -> None:
    recording = await put_up(listener)
    with listener.board.reading() as reader:
        assert await ask(listener, http, {"paused": True}) == (200, {"call_id": CALL_ID, "paused": True})
        change = await reader.next(1.0)
        assert change is not None and change.document[live.PAUSED] is True
        assert listener.board.snapshot()[0][live.PAUSED] is True
        assert await ask(listener, http, {"paused": False}) == (200, {"call_id": CALL_ID, "paused": False})
        change = await reader.next(1.0)
        assert change is not None and change.document == UP
    # The second is the probe before the promise: see pausing.py.
    assert recording.asked == [("1.1", True), ("1.1", True), ("1.1", False)]
    assert await rows(listener) == [
        ("token:token 1", "recording.paused", f"call:{CALL_ID}"),
        ("token:token 2", "recording.resumed", f"call:{CALL_ID}"),
    ]
    assert (await audit.verify(listener.database)).is_whole


async def test_asking_twice_is_no_error_and_each_is_a_row(listener: Listener, http: aiohttp.ClientSession) -> None:
    recording = await put_up(listener)
    for wish in (True, True, False, False):
        assert (await ask(listener, http, {"paused": wish}))[0] == 200
    assert recording.asked[-1] == ("1.1", False)
    assert [action for _, action, _ in await rows(listener)] == ["recording.paused"] * 2 + ["recording.resumed"] * 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (LookupError("gone"), (409, "call-not-up")),
        (parts.NotRecorded(), (409, "call-not-recorded")),
        (ConnectionError("down"), (503, "asterisk-unreachable")),
    ],
)
async def test_what_asterisk_did_not_do_is_neither_written_nor_shown(
    listener: Listener, http: aiohttp.ClientSession, error: Exception, expected: tuple[int, str]
) -> None:
    await put_up(listener, error)
    assert await ask(listener, http, {"paused": True}) == expected
    assert await rows(listener) == []
    assert listener.board.snapshot() == [UP]


async def test_without_asterisk_a_pause_stays_a_pause(listener: Listener, http: aiohttp.ClientSession) -> None:
    """The probe finds out before anything is written: nobody is told that it is recorded again."""
    await put_up(listener, None, ConnectionError("down"))
    await ask(listener, http, {"paused": True})
    assert await ask(listener, http, {"paused": False}) == (503, "asterisk-unreachable")
    assert listener.board.is_paused(CALL_ID)
    assert [action for _, action, _ in await rows(listener)] == ["recording.paused"]


async def test_a_resume_whose_reply_is_lost_is_never_shown_as_silence(
    listener: Listener, http: aiohttp.ClientSession
) -> None:
    """Nobody may read a card number aloud because a page calls a recording paused that is not."""
    await put_up(listener, None, None, ConnectionError("no reply"))
    await ask(listener, http, {"paused": True})
    assert (await ask(listener, http, {"paused": False}))[0] == 503
    assert not listener.board.is_paused(CALL_ID)
    assert [action for _, action, _ in await rows(listener)] == ["recording.paused", "recording.resumed"]


async def test_a_pause_that_cannot_be_written_down_is_still_silent(
    listener: Listener, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume that cannot be written down does not happen."""
    recording = await put_up(listener)

    async def broken(*_: object, **__: object) -> audit.Entry:
        raise store.StoreUnavailable("full")

    with monkeypatch.context() as patched:
        patched.setattr(audit, "append", broken)
        assert await ask(listener, http, {"paused": True}) == (503, "unavailable")
        assert recording.asked == [("1.1", True)]
        assert listener.board.is_paused(CALL_ID)
        assert await ask(listener, http, {"paused": False}) == (503, "unavailable")
    assert ("1.1", False) not in recording.asked
    assert listener.board.is_paused(CALL_ID)


async def test_calls_that_are_over_unknown_or_no_calls(listener: Listener, http: aiohttp.ClientSession) -> None:
    recording = await put_up(listener)
    over = material.record(call_id="22222222-2222-4333-8444-555555555555", recording_consent=GRANTED)
    await listener.store_calls([over])
    wish = {"paused": True}
    assert await ask(listener, http, wish, over["call_id"]) == (409, "call-not-up")
    assert await ask(listener, http, wish, "33333333-2222-4333-8444-555555555555") == (404, "call-not-found")
    for hostile in ("x", "-" * 36, "..%2f..%2fetc%2fpasswd", "11111111-2222-4333-8444-55555555555%0a"):
        assert (await ask(listener, http, wish, hostile))[0] == 404
    assert recording.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"true",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"paused": 1}',
        b'{"paused": "true"}',
        b'{"paused": null}',
        b'{"paused": true, "call_id": "x"}',
        b"[" * 10_000,
    ],
)
async def test_a_body_that_is_no_wish_does_nothing(
    listener: Listener, http: aiohttp.ClientSession, body: bytes
) -> None:
    recording = await put_up(listener)
    assert await ask(listener, http, body) == (400, "invalid-body")
    assert recording.asked == []


async def test_only_with_the_scope(listener: Listener, http: aiohttp.ClientSession) -> None:
    recording = await put_up(listener)
    for scope in auth.Scope:
        if scope not in (auth.Scope.RECORDINGS_PAUSE, auth.Scope.ADMIN):
            assert await ask(listener, http, {"paused": True}, scope=scope) == (403, "missing-scope")
    async with http.post(f"{listener.url}/api/v1/calls/{CALL_ID}/recording", json={"paused": True}) as answer:
        assert answer.status == 403  # another site's form, without a token
    assert recording.asked == []
    assert (await ask(listener, http, {"paused": True}, scope="admin"))[0] == 200


async def test_a_process_without_a_manager_session_says_so(listener: Listener, http: aiohttp.ClientSession) -> None:
    await put_up(listener)
    listener.mute_recording = None
    assert await ask(listener, http, {"paused": True}) == (503, "asterisk-unreachable")


async def test_a_pause_and_a_resume_at_once_do_not_cross(listener: Listener, http: aiohttp.ClientSession) -> None:
    """A pause that comes while Asterisk still unmutes is carried out after it: what was told last is true and shown."""
    recording = await put_up(listener)
    is_unmuting, may_unmute = asyncio.Event(), asyncio.Event()

    async def slow(unique_id: str, is_muted: bool) -> None:
        if not is_muted:
            is_unmuting.set()
            await may_unmute.wait()
        await recording.mute(unique_id, is_muted)

    listener.mute_recording = slow
    resume = asyncio.create_task(ask(listener, http, {"paused": False}))
    await is_unmuting.wait()
    pause = asyncio.create_task(ask(listener, http, {"paused": True}))
    await asyncio.wait({pause}, timeout=0.2)
    may_unmute.set()
    assert [(await task)[0] for task in (resume, pause)] == [200, 200]
    assert [is_muted for _, is_muted in recording.asked] == [False, True]
    assert listener.board.is_paused(CALL_ID)
    assert (await rows(listener))[-1][1] == "recording.paused"


async def test_a_restarted_daemon_still_shows_the_pause(listener: Listener, http: aiohttp.ClientSession) -> None:
    """The mute is Asterisk's and outlives us; no start of ours ends it."""
    recording = await put_up(listener)
    await ask(listener, http, {"paused": False})
    await ask(listener, http, {"paused": True})
    asked = len(recording.asked)
    board = live.LiveBoard(clock=listener.clock)
    board.restore([UP])
    again = Listener(listener.database, board, metrics.Meters("main", "0.1.0"), listener.clock, made=100)
    again.mute_recording = recording.mute
    async with again.running():
        assert board.snapshot()[0][live.PAUSED] is True
        assert len(recording.asked) == asked
        assert (await ask(again, http, {"paused": False}))[0] == 200
    assert recording.asked[-1] == ("1.1", False)
    last = await _restored(listener)
    assert last.snapshot() == [UP]


async def _restored(listener: Listener) -> live.LiveBoard:
    board = live.LiveBoard(clock=listener.clock)
    board.restore([UP])
    async with Listener(listener.database, board, metrics.Meters("main", "0.1.0"), listener.clock).running():
        return board


def document(**changes: Any) -> dict[str, Any]:
    return {**UP, **changes}


@pytest.mark.parametrize(
    ("shown", "state"),
    [
        (document(), "recording"),
        (document(recording_paused=True), "paused"),
        (document(pauses=[{"from": "2026-11-21T11:30:20.000Z", "to": None}]), "paused_by_key"),
        (document(pauses=[{"from": "2026-11-21T11:30:20.000Z", "to": "2026-11-21T11:30:30.000Z"}]), "recording"),
        (document(recording_consent={**GRANTED, "result": "refused"}), ""),
        (document(recording_consent={**GRANTED, "mode": "none", "result": "not_asked"}), "recording"),
        (document(recording_consent={**GRANTED, "mode": "off", "result": "not_asked"}), ""),
        (document(recording_consent=None), ""),
        (document(answered_at=None, outcome=None, attempts=[{"outcome": None}]), ""),
        (document(state="closed", recording_paused=True), ""),
        ({"call_id": "a"}, ""),
    ],
)
def test_the_state_of_a_recording(shown: dict[str, Any], state: str) -> None:
    assert live.recording_of(shown) == state


def test_the_agents_key_has_the_last_word() -> None:
    """After the key a new part is recorded, which nobody muted: it must not be shown as paused."""
    board = live.LiveBoard()
    board.publish(UP)
    board.mark_paused(CALL_ID, "2026-11-21T11:30:20.000Z")
    earlier = {"from": "2026-11-21T11:30:01.000Z", "to": "2026-11-21T11:30:05.000Z"}
    later = {"from": "2026-11-21T11:30:25.000Z", "to": "2026-11-21T11:30:30.000Z"}
    board.publish(document(pauses=[earlier]))
    assert board.is_paused(CALL_ID)
    board.publish(document(pauses=[earlier, later]))
    assert not board.is_paused(CALL_ID)


def test_an_ended_call_takes_its_mark_along() -> None:
    board = live.LiveBoard()
    board.publish(UP)
    board.mark_paused(CALL_ID, "2026-11-21T11:30:20.000Z")
    board.publish(document(state="closed"))
    board.publish(UP)
    assert not board.is_paused(CALL_ID)
