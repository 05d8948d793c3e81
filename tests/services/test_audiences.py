"""Exports of audiences, on both engines (R11, R12)."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import hashlib
import io
import json
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, BinaryIO

import pytest
from sqlalchemy import event as sa_event

from gateway import store
from gateway.core import audiences, book, deals
from gateway.core.audiences import Left, Platform, Who
from gateway.core.outgoing import hashing
from gateway.services import audiences as exporting
from gateway.store import attributions, audit, calls, forgetting, keyring, results, visits
from gateway.store import audiences as stored
from tests.store import examples
from tests.web import material

NOW_US = examples.NOON + 3_600 * examples.SECOND
DAY_US = 86_400 * examples.SECOND
MISSED: dict[str, Any] = {
    "outcome": "no_answer",
    "missed": True,
    "agent": None,
    "answered_us": None,
    "talk_seconds": 0.0,
    "attempts": (),
}
BOOK = material.routing_book()


def asked(who: Who = Who.NOT_CONNECTED, **filters: Any) -> audiences.Audience:
    return audiences.Audience(key="lost", platform=Platform.YANDEX, who=who, **filters)


def number(index: int) -> str:
    return f"+7917{index:07d}"


class People:
    """Callers, each with a visit that said what the test says."""

    def __init__(self) -> None:
        self.calls: list[calls.CallRow] = []
        self._filed: list[attributions.Filed] = []
        self._people: list[visits.Person] = []

    def add(
        self,
        index: int,
        says: str | None = "granted",
        *,
        confidence: float = 0.9,
        caller: str | None = "",
        **changes: Any,
    ) -> str:
        """A missed call of caller `index`, unless changed; `says` None: no visit is known."""
        named = number(index) if caller == "" else caller
        row = examples.call(len(self.calls) + 1, **{**MISSED, "caller": named, **changes})
        self.calls.append(row)
        if says is not None:
            visitor = f"visitor-{len(self.calls)}"
            variables = {"ad_consent": says} if says else {}
            at_us = row.started_us
            self._people.append(visits.Person(visitor, "clinic", at_us, at_us, {}, variables))
            self._filed.append(
                attributions.Filed(
                    row.call_id, row.did, "pool", at_us, "visitor", confidence,
                    pool="moscow", caller=named, visitor_id=visitor,
                )
            )  # fmt: skip
        return named or ""

    async def save(self, database: store.Database) -> None:
        async with database.begin() as tx:
            await visits.save(tx, self._people, [], [])
            await calls.save(tx, self.calls)
            await attributions.keep(tx, self._filed)


async def export(
    database: store.Database,
    audience: audiences.Audience,
    routing_book: book.Book | None = BOOK,
    file: BinaryIO | None = None,
) -> tuple[list[str], exporting.Count]:
    """The lines of the file, without its header."""
    written = file if file is not None else io.BytesIO()
    made = await exporting.export(database, audience, routing_book, written, actor="cli:test", now_us=NOW_US)
    written.seek(0)
    header, *lines = written.read().decode().splitlines()
    assert header == audiences.FORMATS[audience.platform].header
    return lines, made


def hashes(*numbers: str) -> list[str]:
    return sorted(hashing.yandex(one) for one in numbers)


async def test_who_did_not_connect(database: store.Database) -> None:
    """R11: each once, however often they called; whom somebody talked to, or called back, is not among them."""
    people = People()
    lost = people.add(1)
    people.add(1)
    people.add(2)
    people.add(2, None, **{**MISSED, "outcome": "answered", "missed": False})
    called_back = people.add(3)
    people.add(0, None, caller="201", direction="outbound", did=called_back, outcome="answered", missed=False)
    not_reached = people.add(4)
    people.add(0, None, caller="201", direction="outbound", did=not_reached, outcome="no_answer")
    long_ago = people.add(5)
    people.add(5, None, outcome="answered", missed=False, started_us=NOW_US - 31 * DAY_US)
    people.add(6, started_us=NOW_US - 31 * DAY_US)
    people.add(7, state="open")
    await people.save(database)
    lines, made = await export(database, asked())
    assert lines == hashes(lost, not_reached, long_ago)
    assert made.left_out == {Left.TALKED: 2}


async def test_who_never_leaves_and_why(database: store.Database) -> None:
    """Consent, bans, erasure, marks: each counted once (R45, R112)."""
    people = People()
    kept = people.add(1)
    people.add(2, None)
    people.add(3, "")
    people.add(4, "denied")
    people.add(5, confidence=0.49)
    people.add(6)
    people.add(6, "no")
    people.add(7)
    people.add(7, None, outcome="banned", missed=False, started_us=NOW_US - 400 * DAY_US)
    people.add(8)
    people.add(9, caller=None)
    people.add(10, caller="erased-0123456789ab")
    people.add(11, caller="201")
    people.add(12, caller="+74990000002")
    people.add(13, caller="+79160000000")
    consent = {**material.record()["recording_consent"], "result": "refused"}
    people.add(14, record=_dumped({"recording_consent": consent}))
    people.add(15, record=_dumped({"scoring": {"score": 0, "qualified": None, "spam": True, "tags": []}}))
    people.add(
        16, record=_dumped({"scoring": {"spam": None, "tags": [{"tag": "test", "origin": "rule", "rule": "x"}]}})
    )
    await people.save(database)
    later = datetime(2030, 1, 1, tzinfo=UTC)
    over = datetime(2020, 1, 1, tzinfo=UTC)
    bans = (
        book.Ban(number(8), book.BanAction.REFUSE, "nuisance", expires_at=later),
        book.Ban(kept, book.BanAction.REFUSE, "long ago", expires_at=over),
    )
    lines, made = await export(database, asked(), dataclasses.replace(BOOK, bans=bans))
    assert lines == hashes(kept)
    assert made.left_out == {
        Left.NO_CONSENT: 3, Left.REFUSED: 3, Left.BANNED: 2, Left.ERASED: 1, Left.NO_NUMBER: 1, Left.OURS: 2,
        Left.SPAM: 1, Left.TEST: 1,
    }  # fmt: skip
    assert made.calls_without_number == 1
    assert made.looked_at == 15


def _dumped(part: dict[str, Any]) -> str:
    """As the tracker writes records."""
    return json.dumps({**material.record(), **part}, ensure_ascii=False, separators=(",", ":"))


async def test_what_was_said_of_a_call_afterwards(database: store.Database) -> None:
    """By people and the CRM: spam, tags; and that it was no spam after all, whatever a rule said."""
    ruled = _dumped({"scoring": {"score": 0, "qualified": None, "spam": True, "tags": []}})
    people = People()
    for index in range(5):
        people.add(index, record=ruled if index == 1 else _dumped({}))
    await people.save(database)
    said = {
        0: deals.Result(spam=True),
        1: deals.Result(spam=False),
        2: deals.Result(tags=("лид", "test")),
        3: deals.Result(tags=("лид",), spam=False),
    }
    async with database.begin() as tx:
        changed = {
            people.calls[index].call_id: results.Stored(one, 1, NOW_US, "token:crm", "api")
            for index, one in said.items()
        }
        await results.save(tx, changed, [])
    lines, made = await export(database, asked())
    assert lines == hashes(number(1), number(3), number(4))
    assert made.left_out == {Left.SPAM: 1, Left.TEST: 1}
    lines, made = await export(database, asked(tags=("лид",)))
    assert (lines, made.looked_at) == (hashes(number(3)), 2)


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({"sites": ("shop",)}, 1),
        ({"routes": ("support",)}, 2),
        ({"sources": ("radio",)}, 3),
        ({"campaigns": ("spring", "summer")}, 4),
        ({"outcomes": ("busy",)}, 5),
        ({"times": audiences.Times.REPEAT}, 6),
        ({"tags": ("50 % off_", "never")}, 7),
        ({"days": 2, "routes": ("old",)}, 8),
        ({"who": Who.CONNECTED, "min_talk_seconds": 120}, 9),
        ({"who": Who.CONNECTED, "times": audiences.Times.FIRST, "min_talk_seconds": 119}, 9),
        ({"who": Who.CALLED, "routes": ("old", "support"), "days": 1}, 2),
    ],
    ids=["site", "route", "source", "campaign", "outcome", "repeat", "tag", "days", "talk", "first", "both"],
)
async def test_filters(
    database: store.Database, monkeypatch: pytest.MonkeyPatch, filters: dict[str, Any], index: int
) -> None:
    """R12: one call must meet all of them, read either way."""
    answered = {**MISSED, "outcome": "answered", "missed": False}
    tags = [{"tag": "50 % off_", "origin": "rule", "rule": "x"}]
    people = People()
    people.add(0, calls_before=0)
    people.add(1, site="shop")
    people.add(2, route="support")
    people.add(3, source="radio")
    people.add(4, campaign="spring")
    people.add(5, outcome="busy")
    people.add(6, calls_before=3)
    people.add(7, record=_dumped({"scoring": {"tags": tags}}))
    people.add(8, route="old", started_us=NOW_US - 36 * 3_600 * examples.SECOND)
    people.add(9, **{**answered, "talk_seconds": 120.0, "calls_before": 0})
    people.add(10, **{**answered, "talk_seconds": 30.0, "calls_before": 1})
    people.add(11, record=_dumped({"scoring": {"tags": [{"tag": "50 x offx", "origin": "rule", "rule": "x"}]}}))
    await people.save(database)
    lines, made = await export(database, asked(**filters))
    assert lines == hashes(number(index))
    monkeypatch.setattr(stored, "FEW", 0)
    walked, counted = await export(database, asked(**filters))
    assert (walked, counted.document()) == (lines, made.document())


@pytest.mark.parametrize(
    ("few", "by"),
    [(stored.FEW, {"ix_calls_started"}), (0, {"ix_calls_started", "ix_calls_caller"})],
    ids=["few days", "years"],
)
async def test_it_reads_the_days_it_asks_for(
    database: store.Database, monkeypatch: pytest.MonkeyPatch, few: int, by: set[str]
) -> None:
    """An audience of a day costs what the day's calls cost, however many there are besides: no table is read as a
    whole, and the index of all callers only where the audience reaches far back."""
    monkeypatch.setattr(stored, "FEW", few)
    people = People()
    people.add(1)
    await people.save(database)
    since_us, wanted = NOW_US - DAY_US, asked(days=1, outcomes=("no_answer", "busy"))
    statements: list[tuple[str, Any]] = []

    def note(*arguments: Any) -> None:
        statements.append((arguments[2], arguments[3]))

    async def plan() -> str:
        found = []
        for query, values in statements:
            explained = await connection.exec_driver_sql(f"{explain} {query}", values)
            found += [str(row) for row in explained]
        statements.clear()
        assert not any("SCAN calls" in one or "Seq Scan" in one for one in found), found
        return " ".join(found)

    is_sqlite = database.engine_name == "sqlite"
    explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
    async with database.read() as connection:
        if not is_sqlite:
            # A table of one row is read as a whole by whoever may.
            await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        listen = (connection.sync_connection, "before_cursor_execute", note)
        sa_event.listen(*listen)
        if await stored.of_few_days(connection, wanted, since_us=since_us) is None:
            await stored.next_callers(connection, wanted, since_us=since_us, after="", limit=exporting.PAGE)
        sa_event.remove(*listen)
        assert set(re.findall(r"ix_\w+", await plan())) == by
        sa_event.listen(*listen)
        await stored.known(connection, [number(1)], since_us=since_us)
        sa_event.remove(*listen)
        looked_up = {"ix_calls_caller", "ix_calls_did", "ix_attributions_caller"}
        assert looked_up <= set(re.findall(r"ix_\w+", await plan()))


async def test_a_dry_run_tells_the_same_and_leaves_no_trace(database: store.Database) -> None:
    people = People()
    for index in range(3):
        people.add(index)
    people.add(3, None)
    await people.save(database)
    made = await exporting.count(database, asked(), BOOK, now_us=NOW_US)
    assert made.document() == {
        "audience": "lost", "platform": "yandex", "people": 3, "least": 100, "too_small": True,
        "left_out": {"no_consent": 1}, "calls_without_number": 0,
    }  # fmt: skip
    async with database.read() as connection:
        assert await audit.head(connection) is None


async def test_each_export_is_in_the_audit(database: store.Database) -> None:
    """Who, when, how many, and the file's digest; nobody's number."""
    people = People()
    people.add(1)
    people.add(2, "denied")
    await people.save(database)
    file = io.BytesIO()
    _, made = await export(database, asked(days=7), file=file)
    async with database.read() as connection:
        (entry,) = await audit.latest(connection)
        last = await stored.last_exports(connection)
    details = json.loads(entry.details)
    assert (entry.actor, entry.action, entry.subject, entry.person_digest) == (
        "cli:test", "audience.exported", "audience:lost", None,
    )  # fmt: skip
    assert details["sha256"] == made.sha256 == hashlib.sha256(file.getvalue()).hexdigest()
    assert (details["people"], details["left_out"], details["days"]) == (1, {"refused": 1}, 7)
    assert last == {"lost": stored.Export(NOW_US, "cli:test", 1)}


@pytest.mark.parametrize("few", [stored.FEW, 0], ids=["few days", "years"])
async def test_pages_lose_and_double_nobody(
    database: store.Database, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Also where the end of a page is the end of all, and where many calls began at once; told as it goes on."""
    monkeypatch.setattr(stored, "FEW", few)
    monkeypatch.setattr(stored, "PIECE", 700)
    people = People()
    everyone = [people.add(index, started_us=NOW_US - index // 1_500) for index in range(2 * exporting.PAGE)]
    people.add(0)
    await people.save(database)
    told: list[int] = []
    file = io.BytesIO()
    made = await exporting.export(
        database, asked(), BOOK, file, actor="x", now_us=NOW_US, tell=lambda count: told.append(count.looked_at)
    )
    assert sorted(file.getvalue().decode().splitlines()[1:]) == hashes(*everyone)
    assert (made.people, told[:2]) == (2 * exporting.PAGE, [exporting.PAGE, 2 * exporting.PAGE])
    assert not made.is_too_small


class _FullDisk(io.BytesIO):
    """Takes the header and no more."""

    def write(self, content: Any) -> int:
        if self.tell():
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(content)


async def test_a_file_that_could_not_be_written_was_not_exported(database: store.Database) -> None:
    people = People()
    people.add(1)
    await people.save(database)
    with pytest.raises(OSError, match="No space"):
        await export(database, asked(), file=_FullDisk())
    async with database.read() as connection:
        assert await audit.head(connection) is None


class _ErasesMeanwhile(io.BytesIO):
    """A file that has all its lines when somebody of them is erased."""

    def __init__(self, erase: Callable[[str], Coroutine[Any, Any, None]], gone: list[str]) -> None:
        super().__init__()
        self._erase, self._gone = erase, gone
        self._loop = asyncio.get_running_loop()

    def flush(self) -> None:
        if self._gone:
            asyncio.run_coroutine_threadsafe(self._erase(self._gone.pop()), self._loop).result()


async def test_who_is_erased_meanwhile_is_not_in_the_file(database: store.Database) -> None:
    """R45: it is made anew; where that goes on and on, nothing is exported and nothing noted."""
    people = People()
    gone, stays = people.add(1), people.add(2)
    await people.save(database)
    ring = keyring.parse(keyring.new_line("k1"))

    async def erase(of: str) -> None:
        async with database.begin() as tx:
            stone = await forgetting.bury(tx, ring, of, now_us=NOW_US)
            rows = await forgetting.calls_of(tx, of, stone.pseudonym)
            await forgetting.forget(tx, rows, stone.pseudonym, why=forgetting.ERASURE, now_us=NOW_US)

    lines, made = await export(database, asked(), file=_ErasesMeanwhile(erase, [gone]))
    assert lines == hashes(stays)
    assert made.left_out == {Left.ERASED: 1}
    with pytest.raises(exporting.Unsettled):
        await export(database, asked(), file=_ErasesMeanwhile(erase, [number(index) for index in range(100, 103)]))
    async with database.read() as connection:
        assert [entry.action for entry in await audit.latest(connection)] == [stored.EXPORTED]
