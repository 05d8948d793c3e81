"""Audiences over HTTP (R11, R12)."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import aiohttp
import pytest

from gateway.core import audiences
from gateway.core.outgoing import hashing
from gateway.store import audit
from gateway.web import parts
from tests.services.test_audiences import People, number
from tests.web import material
from tests.web.listener import Listener, bearer

BASE = "/api/v1/audiences"


async def fill(listener: Listener, count: int = 2) -> None:
    """Missed callers who agreed, one who did not, and the audience of them."""
    lost = audiences.Audience(key="lost", platform=audiences.Platform.GOOGLE)
    listener.current = dataclasses.replace(material.routing_book(), audiences={"lost": lost})
    started_us = parts.micros(listener.clock.now) - 3_600_000_000
    people = People()
    for index in range(count):
        people.add(index, started_us=started_us)
    people.add(count, "denied", started_us=started_us)
    await people.save(listener.database)


async def test_list_try_and_export(listener: Listener, http: aiohttp.ClientSession) -> None:
    await fill(listener)
    head = bearer(await listener.token("audiences:export"))
    async with http.get(listener.url + BASE, headers=head) as answer:
        (before,) = (await answer.json())["audiences"]
    assert (before["audience"], before["platform"], before["exported_at"]) == ("lost", "google", None)
    async with http.post(f"{listener.url}{BASE}/lost/try", headers=head) as answer:
        tried = await answer.json()
    assert (tried["people"], tried["too_small"], tried["left_out"]) == (2, True, {"refused": 1})
    async with http.post(f"{listener.url}{BASE}/lost/export", headers=head) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/csv"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Dialmark-People"] == "2"
        lines = (await answer.text()).splitlines()
    assert lines == ["Phone", *sorted(hashing.google(number(index)) for index in range(2))]
    async with listener.database.read() as connection:
        (entry,) = await audit.latest(connection)
    assert (entry.actor, entry.action) == ("token:token 1", "audience.exported")
    assert json.loads(entry.details)["people"] == 2
    async with http.get(listener.url + BASE, headers=head) as answer:
        assert (await answer.json())["audiences"][0]["people"] == 2


async def test_several_at_once_wait_for_each_other(listener: Listener, http: aiohttp.ClientSession) -> None:
    await fill(listener, 1_500)
    head = bearer(await listener.token("audiences:export"))

    async def export() -> str:
        async with http.post(f"{listener.url}{BASE}/lost/export", headers=head) as answer:
            return await answer.text()

    texts = await asyncio.gather(*(export() for _ in range(3)))
    assert len(set(texts)) == 1
    assert len(texts[0].splitlines()) == 1_501
    async with listener.database.read() as connection:
        assert len(await audit.latest(connection)) == 3


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/lost/try"), ("POST", "/lost/export")])
async def test_it_needs_its_own_scope(listener: Listener, http: aiohttp.ClientSession, method: str, path: str) -> None:
    await fill(listener)
    token = await listener.token("calls:read", "visitors:read", "webhooks:manage")
    async with http.request(method, listener.url + BASE + path, headers=bearer(token)) as answer:
        assert answer.status == 403
    async with listener.database.read() as connection:
        assert await audit.head(connection) is None


async def test_unknown_audience(listener: Listener, http: aiohttp.ClientSession) -> None:
    head = bearer(await listener.token("audiences:export"))
    for path in ("/none/export", "/none/try", "/..%2Fx/export"):
        async with http.post(listener.url + BASE + path, headers=head) as answer:
            assert answer.status == 404
