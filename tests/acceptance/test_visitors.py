"""Hundreds of visitors, two processes, one pool (R96, R98-R100): by HTTP, as browsers ask, on each engine.

For one visitor who calls through the real Asterisk see `test_pools_calls`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest

from gateway import store
from gateway.store import leases
from tests.conftest import NodeFactory
from tests.rig import Daemon
from tests.rig.dialmark import Value
from tests.services.clinic import ROUTING

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
HEADERS = {"Origin": "https://clinic.example", "User-Agent": CHROME, "Content-Type": "text/plain;charset=UTF-8"}
SIZE = 40
NUMBERS = [f"+7499001{place:04}" for place in range(SIZE)]
ONE_POOL = ROUTING.replace('["+74990000001", "+74990000002"]', f'["{NUMBERS[0]}..{NUMBERS[-1]}"]')
UNBOUND: dict[str, Value] = {"visits_per_minute": 1_000_000, "site_visits_per_minute": 1_000_000}


@dataclass(frozen=True)
class Page:
    """What a page was told."""

    number: str
    visitor: str
    lease: str


@dataclass
class Gateways:
    """Two daemons on one database, and browsers. A gateway that dies answers nobody: None."""

    daemons: tuple[Daemon, Daemon]
    database: store.Database
    session: aiohttp.ClientSession
    answered: int = 0
    living: dict[str, str] = field(default_factory=dict)
    """Number to visitor, of pages that show it now."""
    shared: list[str] = field(default_factory=list)
    """Numbers that came while somebody else's page showed them."""

    async def _post(self, daemon: Daemon, kind: str, **said: object) -> bytes | None:
        """A gateway that is too slow is asked again, as the next page would."""
        body = json.dumps({"v": 1, "site": "clinic", "page": "p1", **said}).encode()
        async with asyncio.timeout(60):
            while True:
                try:
                    async with self.session.post(
                        f"http://{daemon.public}/dni/v1/{kind}", data=body, headers=HEADERS
                    ) as answer:
                        if answer.status != 503:
                            assert answer.status < 300
                            return await answer.read()
                except (aiohttp.ClientError, ConnectionError):
                    return None

    async def open(self, daemon: Daemon, before: Page | None = None) -> Page | None:
        """A page of somebody new, or of the visitor of another page."""
        known = {} if before is None else {"visitor": before.visitor, "lease": before.lease}
        url = "https://clinic.example/"
        answer = await self._post(daemon, "visit", consent="granted", url=url, referrer="", automated=False, **known)
        if answer is None:
            return None
        body = json.loads(answer)
        self.answered += 1
        page = Page(body["numbers"]["+74990000000"]["e164"], body["visitor"], body["lease"])
        if page.number in NUMBERS and self.living.setdefault(page.number, page.visitor) != page.visitor:
            self.shared.append(page.number)
        return page

    async def give_back(self, daemon: Daemon, page: Page) -> None:
        """It came too late: the page never showed it. From here on others may have it."""
        self.living.pop(page.number, None)
        await self._post(daemon, "leave", visitor=page.visitor, lease=page.lease, seconds=0, found=0, shown=False)

    async def lent(self) -> dict[str, str]:
        """Number to visitor, as the database has it."""
        async with self.database.read() as connection:
            known = await leases.slots(connection, "moscow")
        return {one.number: one.visitor_id for one in known if one.lease_id is not None and one.visitor_id is not None}


@pytest.fixture
async def gateways(make_node: NodeFactory, database_url: str) -> AsyncIterator[Gateways]:
    node = make_node()
    settings: dict[str, dict[str, Value]] = {
        "database": {"url": database_url.replace("+aiosqlite", "").replace("+psycopg", "")},
        "limits": UNBOUND,
    }
    first, second = (Daemon(node, settings, process=f"-{name}", roles="web") for name in "ab")
    first.apply(ONE_POOL)
    first.start()
    await first.until_ready()
    second.start()
    await second.until_ready()
    database = await store.Database.open(database_url)
    connector = aiohttp.TCPConnector(limit=100)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), connector=connector) as session:
        yield Gateways((first, second), database, session)
    await database.close()
    for daemon in (first, second):
        await asyncio.to_thread(daemon.stop)


async def each_number_has_one_visitor(gateways: Gateways) -> None:
    """R98, R99: on every page and in either process; who comes too late has the overflow number (R96)."""
    pages = await asyncio.gather(*(gateways.open(gateways.daemons[place % 2]) for place in range(120)))
    held = {page.number: page for page in pages if page is not None and page.number in NUMBERS}
    assert gateways.answered == 120 and gateways.shared == []
    assert sorted(held) == NUMBERS
    assert {page.number for page in pages if page is not None} - set(NUMBERS) == {"+74990000199"}
    again = await asyncio.gather(
        *(gateways.open(gateways.daemons[place % 2], page) for place, page in enumerate(held.values(), 1))
    )
    assert {page.number: page.visitor for page in again if page} == {one: page.visitor for one, page in held.items()}
    assert await gateways.lent() == gateways.living
    for page in held.values():
        await gateways.give_back(gateways.daemons[0], page)


async def numbers_change_hands(gateways: Gateways) -> None:
    """150 visits, and each number goes back at one process and out again at the other."""
    before = gateways.answered

    async def comes_and_goes(worker: int) -> None:
        for turn in range(6):
            page = await gateways.open(gateways.daemons[(worker + turn) % 2])
            assert page is not None
            if page.number in NUMBERS:
                await asyncio.sleep(0)
                await gateways.give_back(gateways.daemons[worker % 2], page)

    await asyncio.gather(*(comes_and_goes(worker) for worker in range(25)))
    assert gateways.answered == before + 150
    assert gateways.shared == [] and gateways.living == {}


async def killed_after(gateways: Gateways, daemon: Daemon, answers: int, asking: int) -> list[Page | None]:
    """So many ask at once, at both; the daemon dies when some have been answered."""
    wanted = gateways.answered + answers
    opened = [asyncio.create_task(gateways.open(gateways.daemons[place % 2])) for place in range(asking)]
    async with asyncio.timeout(90):
        while gateways.answered < wanted and not all(one.done() for one in opened):
            await asyncio.wait(opened, return_when=asyncio.FIRST_COMPLETED, timeout=0.001)
    daemon.kill()
    return list(await asyncio.gather(*opened))


async def killed_between_lease_and_answer(gateways: Gateways) -> None:
    """R99: what was stored and not told is nobody else's, and who was not answered gets a number later."""
    unanswered = 0
    for turn, daemon in enumerate(gateways.daemons):
        pages = await killed_after(gateways, daemon, turn, 12)
        unanswered += pages.count(None)
        daemon.start()
        await daemon.until_ready()
        later = await asyncio.gather(*(gateways.open(daemon) for page in pages if page is None))
        assert None not in later
        # Pages that were answered show their number still, whichever process is asked.
        for page in pages:
            if page is not None and page.number in NUMBERS:
                assert gateways.living[page.number] == page.visitor
                again = await gateways.open(daemon, page)
                assert again is not None and (again.number, again.visitor) == (page.number, page.visitor)
    assert unanswered > 0
    assert gateways.shared == []
    lent = await gateways.lent()
    assert gateways.living.items() <= lent.items()


async def test_two_processes_and_one_pool(gateways: Gateways) -> None:
    """Never one number for two living visitors, however fast numbers change hands, and whoever dies meanwhile."""
    await each_number_has_one_visitor(gateways)
    await numbers_change_hands(gateways)
    await killed_between_lease_and_answer(gateways)
