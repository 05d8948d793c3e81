"""A visitor is shown a number of a pool and calls it through the real Asterisk: record and whisper say who it was (R48,
R88, R96-R101, N6).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from gateway import store
from gateway.config import routingfile
from gateway.core import book
from gateway.services import arrivals, leasing
from tests.acceptance import stages, words
from tests.acceptance.stages import Site, Stage
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Daemon, Rig, Voice
from tests.rig.processes import wait_until

SECOND = 1_000_000
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


class Process:
    """One more process that lends from the daemon's pools, at a time of its own."""

    def __init__(self, database: store.Database, lends_by: book.Book) -> None:
        self.ago_seconds = 0.0
        self._lend = leasing.Leasing(database, now_us=self.now_us)
        self._lend.use(lends_by)
        self.run = self._lend.run

    def now_us(self) -> int:
        return time.time_ns() // 1_000 - round(self.ago_seconds * SECOND)

    async def open(self, pool: str, visitor: str | None = None, tags: str = "") -> arrivals.Answer:
        """A visitor opens a page."""
        arrival = arrivals.Arrival("clinic", f"https://clinic.example/{pool}?{tags}", visitor_id=visitor)
        return await self._lend.arrive(arrival)

    async def leave(self, answer: arrivals.Answer) -> None:
        """And closes it."""
        self._lend.leave(answer.visit_id, [one.lease_id for one in answer.shows if one.lease_id])
        await self._lend.step()


@contextlib.asynccontextmanager
async def process(site: Site) -> AsyncIterator[Process]:
    """Runs beside the daemon, on its database and its book."""
    database = await store.Database.open(f"sqlite:///{site.daemon.database}")
    made = Process(database, routingfile.parse(site.routing, site.daemon.revision()))
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await database.close()


def shown(answer: arrivals.Answer) -> str:
    """The number in place of the site's own."""
    (one,) = answer.shows
    assert one.number is not None
    return one.number


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[Site]:
    speaking = {"prompts": {"engine": "command", "command": words.command()}}
    with stages.site(make_node, routing(), settings=speaking) as made:
        yield made


@pytest.fixture
def stage(site: Site, rig_of: Callable[[AsteriskNode], Rig]) -> Stage:
    return Stage(site, rig_of(site.node))


async def test_the_record_names_the_visitor(stage: Stage) -> None:
    """R48, R88, N6: who was shown the number last is likelier than who had it an hour ago; both are in the record."""
    stage.phone("desk-1", ring_ms=50)
    async with process(stage.site) as web:
        web.ago_seconds = 3_600
        earlier = await web.open("one")
        await web.leave(earlier)
        web.ago_seconds = 0
        later = await web.open("one", tags=TAGGED)
        assert shown(earlier) == shown(later) == numbers("one")[0]
        call = await stage.call(shown(later)[1:], hold_ms=300)
        third = await web.open("one")
    assert shown(third) == OVERFLOW
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
        "visitor_id": later.visitor_id,
        "lease_id": later.shows[0].lease_id,
    }
    assert {key: found[key] for key in wanted} == wanted
    assert [one["visitor_id"] for one in found["candidates"]] == [later.visitor_id, earlier.visitor_id]
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


async def test_the_agent_hears_the_campaign(stage: Stage) -> None:
    """Whisper: source, campaign and keyword of the visitor; rendered when first wanted, so the second call has it."""
    phone = stage.phone("desk-1", ring_ms=50, voice=Voice(1000))
    async with process(stage.site) as web:
        answer = await web.open("told", tags=TAGGED)
        first = await stage.dial(shown(answer)[1:])
        await first.until(200)
        first.hang_up()
        folder = stage.node.folder / "prompts"
        await asyncio.to_thread(wait_until, lambda: is_made(folder, "Google Ads, spring, call"), 15, "the whisper")
        began = time.time()
        second = await stage.dial(shown(answer)[1:])
        await second.until(200)
        second.hang_up()
    heard = phone.headset.heard()
    assert words.said(heard.part(began, heard.end)) == ["google", "ads", "spring", "call"]
    records = [await stage.record_of(caller) for caller in (first, second)]
    assert [one["attribution"]["visitor_id"] for one in records] == [answer.visitor_id] * 2


def is_made(folder: Path, text: str) -> bool:
    return any(f'"{text}"' in file.read_text("utf-8") for file in folder.glob("whisper-*.json"))


async def test_two_daemons_on_one_pool(stage: Stage) -> None:
    """R100: one process answers calls, another lends; no number has two visitors, whichever lends it."""
    stage.phone("desk-1", ring_ms=50)
    other = Daemon(stage.node, process="-web", roles="web,worker")
    other.start()
    try:
        await other.until_ready()
        async with process(stage.site) as one, process(stage.site) as two:
            answers = await asyncio.gather(*(web.open("shared", tags=TAGGED) for web in (one, two, one, two)))
        by_number = {shown(answer): answer.visitor_id for answer in answers}
        assert sorted(by_number) == numbers("shared")
        calls = await stage.calls(*(number[1:] for number in by_number), hold_ms=200)
    finally:
        await asyncio.to_thread(other.stop)
    said = {call.record["tracking"]["number"]: call.record["attribution"]["visitor_id"] for call in calls}
    assert said == by_number


async def test_killed_between_lease_and_call(stage: Stage) -> None:
    """R99, N4: the call goes its default way; the record knows the visitor, and the visitor keeps the number."""
    stage.phone("desk-1", ring_ms=50)
    async with process(stage.site) as web:
        answer = await web.open("killed", tags=TAGGED)
        await asyncio.to_thread(stage.daemon.kill)
        result = await stage.rig.call(shown(answer)[1:], caller=stage.site.caller(), hold_ms=100)
        assert result.status == 200
        stage.daemon.start()
        await stage.daemon.until_ready()
        assert result.call_id is not None
        record = await stage.daemon.until_record_of(result.call_id, 20)
        again = await web.open("killed", answer.visitor_id)
        somebody = await web.open("killed")
    assert record["route_source"] != "agi"
    assert record["attribution"]["visitor_id"] == answer.visitor_id
    assert record["attribution"]["campaign"] == "spring"
    assert shown(again) == shown(answer)
    assert shown(somebody) not in (shown(answer), OVERFLOW)
