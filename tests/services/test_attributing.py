"""Who called, from the page to the record (R1, R48, R88, N4, N6): leases that visitors took, journals that Asterisk
wrote, and the record that comes of both."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway import store
from gateway.core import retention as rules
from gateway.core import routing
from gateway.pbx import agi
from gateway.services import attributing, lawfitting, leasing, retention, router
from gateway.store import attributions, forgetting, keyring, leases, targets, timelines, visits
from tests import journals
from tests.services.clinic import FIRST, OVERFLOW, ROUTING, SECOND, Clinic, number
from tests.services.desk import Desk

CALL = "answered_caller_ends"
"""A call of +74951112233 to +74990000001."""
TAGGED = "https://clinic.example/?utm_source=google&utm_medium=cpc&utm_campaign=spring&utm_term=implant"
START_US = journals.rows(CALL)[0].at_us


class House:
    """Clinic and desk on one database, and the task that looks again."""

    def __init__(self, database: store.Database, folder: Path, text: str = ROUTING) -> None:
        self.clinic = Clinic(database, text=text, now_us=START_US - 60 * SECOND)
        self.desk = Desk(database, folder, routing_book=self.clinic.book)
        self.database = database
        self.again = attributing.Attributing(
            database, book_of=self.desk._book_of, now_us=lambda: self.desk.now_us, targets=["jsonl"]
        )

    async def call(self, number: str = FIRST, caller: str = "74951112233", later_us: int = 0) -> dict[str, Any]:
        """The call of the recording to another number, `later_us` later; the attribution of its record."""
        rows = journals.content(CALL).replace(b"74990000001", number[1:].encode())
        rows = rows.replace(b"74951112233", caller.encode())
        if later_us:
            rows = _shifted(rows, later_us)
        self.desk.write(rows)
        await self.desk.read()
        return await self.attribution()

    async def attribution(self) -> dict[str, Any]:
        """Of the latest call."""
        return dict((await self.desk.records())[-1]["attribution"])

    async def look_again(self, seconds: float = 600) -> int:
        """`seconds` after the last row; how many calls were revised."""
        self.desk.now_us += round(seconds * SECOND)
        before = self.again.revised
        await self.again.step()
        return self.again.revised - before


def _shifted(rows: bytes, by_us: int) -> bytes:
    """Another call, later: its own id and channels."""
    moved = []
    for line in rows.splitlines(keepends=True):
        stamp, rest = line[1:].split(b'"', 1)
        at_us = round(float(stamp) * 1_000_000) + by_us
        moved.append(b'"%d.%06d"' % divmod(at_us, 1_000_000) + rest)
    text = b"".join(moved)
    return text.replace(b"node1-1795300", b"node1-1795%03d" % (400 + by_us // (1_000 * SECOND))).replace(
        b"cd26aa4b-af9c", b"cd26aa4b-%04x" % (by_us // SECOND)
    )


@pytest.fixture
def house(database: store.Database, tmp_path: Path) -> House:
    folder = tmp_path / "journal"
    folder.mkdir()
    return House(database, folder)


async def test_a_visitor_on_the_site_calls_the_number_that_was_shown(house: House) -> None:
    """R1, R48: the record names visitor, lease, source, campaign and search term."""
    visitor = await house.clinic.open(url=TAGGED)
    assert number(visitor) == FIRST
    house.clinic.later(40)
    await house.clinic.beat(visitor)
    found = await house.call()
    assert (found["method"], found["visitor_id"]) == ("visitor", visitor.visitor_id)
    assert found["lease_id"] == visitor.shows[0].lease_id
    assert found["confidence"] > 0.99
    assert (found["source"], found["source_name"], found["campaign"]) == ("google-ads", "Google Ads", "spring")
    assert (found["term"], found["landing_page"]) == ("implant", TAGGED)


async def test_a_number_that_nobody_was_shown_is_unknown(house: House) -> None:
    """R48: nobody is named without a reason."""
    await house.clinic.leasing.step()
    found = await house.call()
    assert (found["method"], found["confidence"], found["visitor_id"]) == ("unknown", 0, None)


async def test_a_call_of_the_time_when_nobody_was_awake(house: House) -> None:
    """The lease was stored when it was given; the journal is read an hour later, by which the number is another's."""
    visitor = await house.clinic.open(url=TAGGED)
    house.clinic.later(50)
    await house.clinic.beat(visitor)
    house.desk.write(journals.content(CALL))
    house.clinic.start()
    house.clinic.later(80_000)
    for _ in range(2):
        await house.clinic.open()
    await house.desk.read()
    found = await house.attribution()
    assert (found["visitor_id"], found["method"]) == (visitor.visitor_id, "visitor")
    assert house.desk.shown[-1]["revision"] == 1


async def test_late_calls_decay_and_name_the_others(house: House) -> None:
    """N6: an hour after the last holder left the second-last is not much less likely."""
    first = await house.clinic.open()
    await house.clinic.leave(first)
    house.clinic.now_us = START_US - 3_600 * SECOND
    house.clinic.start()
    last = None
    for _ in range(2):
        last = await house.clinic.open(url=TAGGED)
        house.clinic.later(10)
    assert last is not None
    found = await house.call()
    assert found["method"] in ("visitor", "unknown")
    assert found["confidence"] < 1
    shares = [one["share"] for one in found["candidates"]]
    assert first.visitor_id in {one["visitor_id"] for one in found["candidates"]}
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
    assert found["candidates"][0]["seconds_since_seen"] == pytest.approx(60, abs=1)


async def test_a_click_on_the_link_names_the_visitor(house: House) -> None:
    """R92, click-to-call: and on the overflow number, which many are shown, only that does."""
    for _ in range(3):
        visitor = await house.clinic.open(url=TAGGED)
    assert number(visitor) == OVERFLOW
    house.clinic.later(50)
    await house.clinic.click(visitor)
    found = await house.call(OVERFLOW)
    assert (found["method"], found["visitor_id"]) == ("click_to_call", visitor.visitor_id)
    assert found["confidence"] == 0.95


async def test_the_overflow_number_alone_gives_its_own_source(house: House) -> None:
    found = await house.call(OVERFLOW)
    assert (found["method"], found["source"], found["visitor_id"]) == ("overflow_number", "leftover", None)


async def test_a_repeat_caller_is_known_by_the_call_before(house: House) -> None:
    """R88: a later call to another number inherits the touch; a call from elsewhere does not."""
    visitor = await house.clinic.open(url=TAGGED)
    await house.clinic.beat(visitor)
    await house.call()
    day = 86_400 * SECOND
    again = await house.call(OVERFLOW, later_us=day)
    assert (again["method"], again["visitor_id"]) == ("caller_history", visitor.visitor_id)
    assert again["campaign"] == "spring"
    other = await house.call(OVERFLOW, "74951112234", 2 * day)
    assert other["method"] == "overflow_number"


async def test_what_comes_late_makes_a_new_revision(house: House) -> None:
    """N4: a beacon after the call; the record is revised and told again, once."""
    for _ in range(3):
        visitor = await house.clinic.open(url=TAGGED)
    before = await house.call(OVERFLOW)
    assert before["visitor_id"] is None
    house.clinic.now_us = START_US + 5 * SECOND
    await house.clinic.click(visitor)
    assert await house.look_again(0) == 0
    assert await house.look_again() == 1
    (record,) = await house.desk.records()
    assert (record["revision"], record["attribution"]["method"]) == (2, "click_to_call")
    assert (await house.desk.told())[record["call_id"]][-2:] == ["call.completed", "call.updated"]
    assert await house.look_again() == 0


async def test_pages_that_outlive_an_outage_are_found_on_the_site(house: House) -> None:
    """The daemon was down from before the call until after it: the page beats again, and the call is looked at anew."""
    visitor = await house.clinic.open(url=TAGGED)
    house.clinic.now_us = START_US - 3_600 * SECOND
    other = await house.clinic.open()
    await house.clinic.leave(other)
    visitor = await house.clinic.open(visitor.visitor_id, TAGGED)
    before = await house.call()
    house.clinic.now_us = START_US + 90 * SECOND
    house.clinic.start()
    await house.clinic.leasing.step()
    assert await house.clinic.beat(visitor)
    await house.look_again()
    after = await house.attribution()
    assert after["visitor_id"] == before["visitor_id"] == visitor.visitor_id
    assert after["confidence"] >= before["confidence"]


async def test_reading_the_journal_again_changes_nothing(house: House) -> None:
    visitor = await house.clinic.open(url=TAGGED)
    await house.clinic.beat(visitor)
    await house.call()
    events = len(await house.desk.events())
    await house.look_again()
    house.desk.crash()
    await house.desk.read()
    assert await house.look_again() == 0
    assert len(await house.desk.events()) == events


async def test_a_number_with_a_call_up_is_held_by_the_tracker(house: House) -> None:
    """Issue 4.2: whatever the router did, the records know the call, while it is up and 120 s longer."""
    visitor = await house.clinic.open()
    await house.clinic.leave(visitor)
    rows = journals.content(CALL).splitlines(keepends=True)
    house.desk.write(b"".join(rows[:6]))
    await house.desk.read()

    async def state(at_us: int) -> str:
        async with house.database.read() as connection:
            _, slot = await leases.slot_of(connection, FIRST) or (None, None)
        assert slot is not None
        return slot.state(at_us).value

    assert await state(START_US + 86_400 * SECOND) == "called"
    house.desk.write(b"".join(rows[6:]))
    await house.desk.read()
    end_us = journals.rows(CALL)[-1].at_us
    assert await state(end_us + 86_400 * SECOND) == "free"
    async with house.database.read() as connection:
        _, slot = await leases.slot_of(connection, FIRST) or (None, None)
    assert slot is not None and abs(slot.call_until_us - end_us - 120 * SECOND) < SECOND


async def test_the_whisper_says_where_the_visitor_came_from(house: House) -> None:
    """C7, R91: source, campaign and keyword, while the caller waits."""
    await house.clinic.open(url=TAGGED)
    at = datetime.fromtimestamp(START_US / SECOND, UTC)
    called: list[str] = []
    wanted: list[tuple[str, ...]] = []
    made = router.Router(
        house.database,
        now=lambda: at,
        lookup_seconds=10.0,
        want=lambda choices: wanted.append(tuple(one.text for one in choices if one.text)),
        visitor_of=attributing.visitor_of,
        called=called.append,
    )
    made.use(house.clinic.book)
    answer = made.answer(
        agi.AgiRequest("route", ("cd26aa4b-0000-4000-8000-000000000001", FIRST[1:], "74951112233", ""))
    )
    assert isinstance(answer, Awaitable)
    await answer
    assert wanted and wanted[0][0] == "Google Ads spring implant"
    assert called == [FIRST]


async def test_a_whisper_about_a_number_that_nobody_holds_says_nothing_of_a_visitor(house: House) -> None:
    await house.clinic.leasing.step()
    at = datetime.fromtimestamp(START_US / SECOND, UTC)
    question = routing.Question("x", FIRST[1:], "74951112233", at)
    async with house.database.read() as connection:
        assert await attributing.visitor_of(connection, question, house.clinic.book) is None


async def test_erasing_a_caller_erases_the_visitor_they_were(house: House) -> None:
    """N14: who is certain to have called is the same person on the web; another visitor's pages stay."""
    visitor = await house.clinic.open(url=TAGGED)
    await house.clinic.beat(visitor)
    other = await house.clinic.open()
    await house.call()
    ring = keyring.parse(keyring.new_line("2026-11"))
    async with house.database.begin() as tx:
        stone = await forgetting.bury(tx, ring, "+74951112233", now_us=house.desk.now_us)
        rows = await forgetting.calls_of(tx, "+74951112233")
        await forgetting.forget(tx, rows, stone.pseudonym, why=forgetting.ERASURE, now_us=house.desk.now_us)
    async with house.database.read() as connection:
        known = await visits.known(connection, [visitor.visitor_id or "", other.visitor_id or ""])
        filed = await attributions.of_calls(connection, [row.call_id for row in rows])
        assert await attributions.links(connection, "+74951112233", 2**60) == []
    assert list(known) == [other.visitor_id]
    assert [(one.caller, one.visitor_id) for one in filed.values()] == [(stone.pseudonym, None)]
    found = await house.attribution()
    assert (found["visitor_id"], found["lease_id"], found["candidates"]) == (None, None, [])
    assert await house.look_again() == 0


async def test_retention_deletes_visits_after_thirteen_months(house: House) -> None:
    """N10: with pages, clicks and the visitors; what is younger stays."""
    old = await house.clinic.open(url=TAGGED)
    await house.clinic.click(old)
    await house.clinic.leave(old)
    house.clinic.later(400 * 86_400)
    young = await house.clinic.open()
    policy = retention.Policy(rules.rules(180, ()))
    places = retention.Places(Path("vault"), Path("archive"))
    shown = await retention.preview(house.database, policy, places, house.clinic.now_us)
    assert [(due.what, due.count, due.why) for due in shown] == [("visits", 1, "older than 13 months")]
    done = await retention.run(house.database, policy, places, now_us=house.clinic.now_us, actor="cli:anna")
    assert done.visits == 1
    assert await retention.preview(house.database, policy, places, house.clinic.now_us) == []
    async with house.database.read() as connection:
        assert await timelines.timeline(connection, old.visitor_id or "") is None
        assert await timelines.timeline(connection, young.visitor_id or "") is not None


async def test_a_leaked_number_is_told_once(house: House) -> None:
    """N6: called by several people though it was shown to nobody for a day."""
    await house.clinic.leasing.step()
    for day in range(4):
        await house.call(caller=f"7495111223{day}", later_us=day * 86_400 * SECOND)
    house.clinic.now_us = house.desk.now_us
    house.clinic.later(7_200)
    await house.clinic.leasing.step()
    house.clinic.later(7_200)
    await house.clinic.leasing.step()
    (told,) = await house.clinic.events(leasing.LEAKED)
    assert (told["number"], told["calls"], told["callers"]) == (FIRST, 4, 4)


async def test_the_law_is_learnt_from_the_pools_own_calls(house: House) -> None:
    """N4: visitors of this site call hours later, never from the page; and the site's mean time on site is known."""
    await house.clinic.leasing.step()
    usual = await lawfitting.fitted(house.database, "moscow", 2, 120.0, house.clinic.now_us)
    assert (usual.mean_stay_seconds, usual.on_site_share) == (120.0, 0.7)
    filed = []
    for place in range(60):
        visitor = await house.clinic.open()
        await house.clinic.leave(visitor)
        house.clinic.later(7_200)
        filed.append(
            attributions.Filed(
                f"call-{place}", number(visitor) or "", "pool", house.clinic.now_us, "visitor", 1.0, "moscow"
            )
        )
    async with house.database.begin() as tx:
        await attributions.keep(tx, filed)
    law = await lawfitting.fitted(house.database, "moscow", 2, 120.0, house.clinic.now_us + SECOND)
    async with house.database.begin() as tx:
        await leases.keep_law(tx, "moscow", law, now_us=house.clinic.now_us)
        kept = await leases.law_of(tx, "moscow")
    assert law.on_site_share < 0.65
    assert kept == law


async def test_forgetting_a_visitor_leaves_the_call_without_them(house: House) -> None:
    """N14, R107: of the visit nothing stays; source and campaign do, so that counts stay true, and who called does. The
    record is a new revision, and nobody who looks at the call again names the visitor."""
    visitor = await house.clinic.open(url=f"{TAGGED}&gclid=abc", referrer="https://www.google.com/")
    await house.clinic.beat(visitor)
    other = await house.clinic.open()
    before = await house.call()
    assert (before["visitor_id"], before["click_ids"]) == (visitor.visitor_id, {"gclid": "abc"})
    call_id = (await house.desk.records())[0]["call_id"]
    sent = targets.Logged("ga4:main", "e1", "call.completed", call_id, 1, 5, 5, "done", "", "client_id of theirs")
    elsewhere = replace(sent, call_id=None, request=f'{{"visitor_id":"{visitor.visitor_id}"}}')
    others = replace(sent, call_id="another", request=f'{{"visitor_id":"{other.visitor_id}"}}')
    async with house.database.begin() as tx:
        await targets.log(tx, [sent, elsewhere, others])
        await targets.learn(tx, call_id, "hubspot:main", {"call": "8"}, now_us=5)
        done = await forgetting.forget_visitors(tx, [visitor.visitor_id or ""], now_us=house.desk.now_us)
        assert [one.call_id for one in await targets.last(tx)] == ["another"]
        assert await targets.facts(tx, "hubspot:main", [call_id]) == {call_id: {"call": "8"}}
    (record,) = await house.desk.records()
    assert (done.known, done.call_ids, record["revision"]) == (1, (record["call_id"],), 2)
    assert record["caller"]["number"] == "+74951112233"
    found = record["attribution"]
    assert (found["method"], found["source"], found["campaign"]) == ("visitor", "google-ads", "spring")
    assert {name for name, value in found.items() if value is None} >= {
        "visitor_id",
        "landing_page",
        "term",
        "referrer",
    }
    assert (found["click_ids"], found["candidates"]) == ({}, [])
    said = [event.payload for event in await house.desk.events() if event.call_id == record["call_id"]]
    assert said and not any((visitor.visitor_id or "?") in one or "gclid" in one or "implant" in one for one in said)
    assert await house.look_again() == 0
    async with house.database.begin() as tx:
        assert await timelines.timeline(tx, visitor.visitor_id or "") is None
        assert await timelines.timeline(tx, other.visitor_id or "") is not None
        again = await forgetting.forget_visitors(tx, [visitor.visitor_id or ""], now_us=house.desk.now_us)
    assert (again.known, again.call_ids) == (0, ())


async def test_forgetting_one_who_might_have_called_takes_them_from_the_candidates(house: House) -> None:
    """N14: the call stays that of the other."""
    first = await house.clinic.open()
    await house.clinic.leave(first)
    house.clinic.later(-3_600)
    house.clinic.start()
    house.clinic.later(3_600)
    await house.clinic.open()
    await house.call()
    (record,) = await house.desk.records()
    assert first.visitor_id in [one["visitor_id"] for one in record["attribution"]["candidates"]]
    async with house.database.begin() as tx:
        await forgetting.forget_visitors(tx, [first.visitor_id or ""], now_us=house.desk.now_us)
    assert (first.visitor_id or "?") not in json.dumps(await house.desk.records())
