"""A visitor is shown a number of a pool and calls it through the real Asterisk: record and whisper say who it was (R48,
R88, R96-R101, N6).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from gateway import store
from gateway.config import routingfile
from gateway.services import arrivals, leasing
from tests.acceptance import stages, words
from tests.acceptance.stages import Site, Stage
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Daemon, Rig, Voice
from tests.rig.waits import wait_until

SECOND = 1_000_000
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
TAGGED = "utm_source=google&utm_medium=cpc&utm_campaign=spring&utm_term=call"
POOLS = {"one": 1, "told": 1, "shared": 4, "killed": 2}
"""Numbers of each; pages below `/NAME` are shown those of the pool."""
OVERFLOW = "+74990039999"


def numbers(pool: str) -> list[str]:
    first = 74990030000 + 100 * list(POOLS).index(pool)
    return [f"+{first + place}" for place in range(POOLS[pool])]


def routing() -> str:
    """The usual site with a web site, its pools and one rule for each."""
    site = stages.SITE.replace(
        'business_number = "+74990000000"\n',
        'business_number = "+74990000000"\n\n[site.web]\nhosts = ["clinic.example"]\n',
    ).replace('campaign = "spring"\n', '\n[[source.visits]]\nutm = { source = "google", medium = "cpc" }\n')
    made = (
        f'{site}\n[[route]]\nkey = "web"\nforward = ["first"]\nring_seconds = 20\n'
        'whisper = "{source}, {campaign}, {keyword}"\n'
    )
    for pool in POOLS:
        listed = ", ".join(f'"{number}"' for number in numbers(pool))
        overflow = f'overflow = "{OVERFLOW}"\n' if pool == "one" else ""
        made += f'[[pool]]\nkey = "{pool}"\nroute = "web"\nnumbers = [{listed}]\n{overflow}'
        made += f'[[display_rule]]\nkey = "{pool}"\nlanding_pages = ["/{pool}*"]\npool = "{pool}"\n'
    return made


@dataclass(frozen=True)
class Page:
    """What a page was told. Ids as the browser keeps them."""

    number: str | None
    reason: str
    visitor: str
    lease: str


class Browser:
    """Speaks to one daemon's public listener, as the script does."""

    def __init__(self, session: aiohttp.ClientSession, of: Daemon) -> None:
        self._session = session
        self._address = f"http://{of.public}/dni/v1/visit"

    async def open(self, pool: str, before: Page | None = None, tags: str = "") -> Page:
        """A visitor opens a page, a new one or that of an earlier page."""
        said: dict[str, object] = {"v": 1, "site": "clinic", "page": "p1", "consent": "granted", "automated": False}
        said |= {"url": f"https://clinic.example/{pool}?{tags}", "referrer": ""}
        if before is not None:
            said |= {"visitor": before.visitor, "lease": before.lease}
        headers = {"Origin": "https://clinic.example", "User-Agent": CHROME, "Content-Type": "text/plain"}
        async with self._session.post(self._address, data=json.dumps(said).encode(), headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            body = await answer.json()
        number = body["numbers"]["+74990000000"]["e164"] if body["numbers"] else None
        return Page(number, body["reason"], body["visitor"], body["lease"])


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as made:
        yield made


async def visited_an_hour_ago(site: Site, pool: str) -> str:
    """Somebody had the pool's number and left. Their id."""
    database = await store.Database.open(f"sqlite:///{site.daemon.database}")
    lend = leasing.Leasing(database, now_us=lambda: time.time_ns() // 1_000 - 3_600 * SECOND)
    lend.use(routingfile.parse(site.routing, site.daemon.revision()))
    task = asyncio.create_task(lend.run())
    try:
        answer = await lend.arrive(arrivals.Arrival("clinic", f"https://clinic.example/{pool}"))
        lend.leave(answer.visit_id, [one.lease_id for one in answer.shows if one.lease_id])
        await lend.step()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await database.close()
    assert answer.visitor_id is not None
    return answer.visitor_id


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[Site]:
    speaking = {"prompts": {"engine": "command", "command": words.command()}}
    with stages.site(make_node, routing(), settings=speaking, realtime=True) as made:
        yield made


@pytest.fixture
def stage(site: Site, rig_of: Callable[[AsteriskNode], Rig]) -> Stage:
    return Stage(site, rig_of(site.node))


async def test_the_record_names_the_visitor(stage: Stage, session: aiohttp.ClientSession) -> None:
    """R48, R88, N6: who was shown the number last is likelier than who had it an hour ago; both are in the record."""
    stage.phone("desk-1", ring_ms=50)
    web = Browser(session, stage.daemon)
    earlier = await visited_an_hour_ago(stage.site, "one")
    page = await web.open("one", tags=TAGGED)
    assert (page.number, page.reason) == (numbers("one")[0], "pool")
    call = await stage.call((page.number or "")[1:], hold_ms=300)
    third = await web.open("one")
    assert (third.number, third.reason) == (OVERFLOW, "overflow")
    found = call.record["attribution"]
    assert call.record["tracking"]["kind"] == "pool"
    wanted = {
        "method": "visitor",
        "source": "google-ads",
        "source_name": "Google Ads",
        "medium": "cpc",
        "campaign": "spring",
        "term": "call",
        "landing_page": f"https://clinic.example/one?{TAGGED}",
        "visitor_id": page.visitor,
    }
    assert {key: found[key] for key in wanted} == wanted
    assert found["lease_id"] is not None
    assert [one["visitor_id"] for one in found["candidates"]] == [page.visitor, earlier]
    assert found["candidates"][0]["share"] > 0.9 > 0.1 > found["candidates"][1]["share"] > 0
    assert found["candidates"][0]["seconds_since_seen"] == 0
    assert stages.near(found["candidates"][1]["seconds_since_seen"], 3_600, more=5)
    assert 0.5 < found["confidence"] < 1
    told = await stage.events_of(call.record["call_id"], "call.completed")
    assert told[-1]["data"]["attribution"] == found


async def test_overflow_number(stage: Stage) -> None:
    """R96: shown to many at once, so its callers have no visitor; its calls are records all the same."""
    stage.phone("desk-1", ring_ms=50)
    call = await stage.call(OVERFLOW[1:], hold_ms=100)
    assert call.record["outcome"] == "answered"
    assert call.record["tracking"]["kind"] == "overflow"
    found = call.record["attribution"]
    assert (found["method"], found["visitor_id"], found["candidates"]) == ("overflow_number", None, [])


async def test_the_agent_hears_the_campaign(stage: Stage, session: aiohttp.ClientSession) -> None:
    """C7, R91: source, campaign and keyword of the visitor; rendered when first wanted, so the second call has it."""
    phone = stage.phone("desk-1", ring_ms=50, voice=Voice(1000))
    page = await Browser(session, stage.daemon).open("told", tags=TAGGED)
    assert page.number is not None
    first = await stage.dial(page.number[1:])
    await first.until(200)
    first.hang_up()
    folder = stage.node.folder / "prompts"
    await asyncio.to_thread(wait_until, lambda: is_made(folder, "Google Ads, spring, call"), 15, "the whisper")
    began = time.time()
    second = await stage.dial(page.number[1:])
    await second.until(200)
    second.hang_up()
    heard = phone.headset.heard()
    assert words.said(heard.part(began, heard.end)) == ["google", "ads", "spring", "call"]
    records = [await stage.record_of(caller) for caller in (first, second)]
    assert [one["attribution"]["visitor_id"] for one in records] == [page.visitor] * 2


def is_made(folder: Path, text: str) -> bool:
    return any(f'"{text}"' in file.read_text("utf-8") for file in folder.glob("whisper-*.json"))


@pytest.mark.real_time  # each page is answered within 0.8 s, or told that it cannot be; two processes share one writer
async def test_two_daemons_on_one_pool(stage: Stage, session: aiohttp.ClientSession) -> None:
    """R100: both lend at once, one answers calls; no number has two visitors, whichever lent it, and one that is killed
    takes nothing along."""
    stage.phone("desk-1", ring_ms=50)
    other = Daemon(stage.node, process="-web", roles="web,worker")
    other.start()
    try:
        await other.until_ready()
        two = [Browser(session, stage.daemon), Browser(session, other)]
        pages = await asyncio.gather(*(two[place % 2].open("shared", tags=TAGGED) for place in range(6)))
    finally:
        await asyncio.to_thread(other.kill)
    lent = {page.number: page.visitor for page in pages if page.number is not None}
    assert sorted(lent) == numbers("shared")
    assert [page.reason for page in pages].count("pool") == len(lent)
    assert {page.reason for page in pages if page.number is None} == {"overflow"}
    again = await asyncio.gather(*(two[0].open("shared", page) for page in pages if page.number is not None))
    assert {page.number: page.visitor for page in again} == lent
    calls = await stage.calls(*(number[1:] for number in lent), hold_ms=200)
    said = {call.record["tracking"]["number"]: call.record["attribution"]["visitor_id"] for call in calls}
    assert said == lent


async def test_killed_between_lease_and_call(stage: Stage, session: aiohttp.ClientSession) -> None:
    """R99, N4: the call goes its default way; the record knows the visitor, and the visitor keeps the number."""
    stage.phone("desk-1", ring_ms=50)
    web = Browser(session, stage.daemon)
    page = await web.open("killed", tags=TAGGED)
    await asyncio.to_thread(stage.daemon.kill)
    assert page.number is not None
    result = await stage.rig.call(page.number[1:], caller=stage.site.caller(), hold_ms=100)
    assert result.status == 200
    stage.daemon.start()
    await stage.daemon.until_ready()
    assert result.call_id is not None
    record = await stage.daemon.until_record_of(result.call_id, 20)
    somebody = await web.open("killed")
    again = await web.open("killed", page)
    assert record["route_source"] == "plan"
    assert record["attribution"]["visitor_id"] == page.visitor
    assert record["attribution"]["campaign"] == "spring"
    assert (again.number, again.visitor) == (page.number, page.visitor)
    assert somebody.reason == "pool" and somebody.number != page.number
