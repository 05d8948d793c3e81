"""Fixtures of the admin listener and of the browser that looks at it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from gateway import store
from gateway.web import live, metrics
from tests import laidout
from tests.web.browser import chromium as chromium
from tests.web.browser import opened as opened
from tests.web.listener import Clock, Listener


@pytest_asyncio.fixture(loop_scope="module")
async def database(tmp_path: Path, templates: laidout.Templates) -> AsyncIterator[store.Database]:
    templates.copy_sqlite(tmp_path / "dialmark.db")
    opened = await store.Database.open(f"sqlite:///{tmp_path / 'dialmark.db'}")
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="module")
async def idle(database: store.Database) -> Listener:
    """A listener that does not run yet, to be changed first."""
    clock = Clock()
    meters = metrics.Meters("main", "0.1.0")
    return Listener(database, live.LiveBoard(clock=clock, on_ended=meters.call_ended), meters, clock)


@pytest_asyncio.fixture(loop_scope="module")
async def listener(idle: Listener) -> AsyncIterator[Listener]:
    async with idle.running():
        yield idle


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that keeps no cookies and follows no redirect by itself."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one module share an event loop, and so a browser: starting Chromium takes longer than most of them."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("asyncio"):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)
