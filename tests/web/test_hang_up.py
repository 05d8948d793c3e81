"""Ending a call that is up, by the API."""

from __future__ import annotations

import aiohttp
import pytest

from tests.web import material
from tests.web.listener import Listener, bearer


async def ask(listener: Listener, http: aiohttp.ClientSession, call_id: str, *scopes: str) -> tuple[int, str]:
    headers = bearer(await listener.token(*(scopes or ("calls:hang-up",))))
    async with http.post(f"{listener.url}/api/v1/calls/{call_id}/hang-up", headers=headers) as answer:
        document = await answer.json()
        return answer.status, document.get("type", document.get("status"))


async def test_it_ends_the_channel_by_which_the_call_came_in(listener: Listener, http: aiohttp.ClientSession) -> None:
    up = material.record(is_up=True)
    await listener.store_calls([up])
    ended: list[str] = []

    async def hang_up(unique_id: str) -> None:
        ended.append(unique_id)

    listener.hang_up = hang_up
    assert await ask(listener, http, up["call_id"]) == (202, "asked")
    assert ended == [up["unique_id"]]
    assert await ask(listener, http, up["call_id"], "calls:read") == (403, "urn:dialmark:problem:missing-scope")
    assert len(ended) == 1


async def test_a_call_that_is_over_is_not_hung_up(listener: Listener, http: aiohttp.ClientSession) -> None:
    over = material.record()
    await listener.store_calls([over])
    assert await ask(listener, http, over["call_id"]) == (409, "urn:dialmark:problem:call-not-up")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (LookupError("gone"), (409, "urn:dialmark:problem:call-not-up")),
        (ConnectionError("down"), (503, "urn:dialmark:problem:asterisk-unreachable")),
    ],
)
async def test_asterisk_that_has_no_such_channel_or_no_answer_is_said_so(
    listener: Listener, http: aiohttp.ClientSession, error: Exception, expected: tuple[int, str]
) -> None:
    up = material.record(is_up=True)
    await listener.store_calls([up])

    async def hang_up(unique_id: str) -> None:
        raise error

    listener.hang_up = hang_up
    assert await ask(listener, http, up["call_id"]) == expected
