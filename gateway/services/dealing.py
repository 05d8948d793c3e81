"""Taking in what is said about calls (R14-R16, R60, R77, R87): all of a request or a message, or nothing of it.

First every row is read and its call is found, without a lock; then one transaction takes the calls, looks again, and
writes results, history, events and marks. A row that says what is known already changes nothing, so whatever is sent
twice counts once.

A file is longer than others who write can wait, the records of calls first of all. All of it is judged before anything
is written; then it goes in pieces, each in a transaction of its own. What breaks off in between is run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from gateway import store
from gateway.core import book, deals, events, records
from gateway.store import audit, forgetting, outbox, restated, results
from gateway.store import calls as stored_calls

PIECE = 250
"""Rows of one transaction: more than any request has, and some 50 ms."""
MAX_PROBLEMS = 1_000
"""So many are told of one file."""
_DAY_US = 86_400_000_000
"""A CRM farther east may be a day ahead."""
SEEN = "seen"
"""Field of the problem that somebody else was quicker."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one row: its place (line of the file, or number in the request from 0), field and message."""

    place: int
    field: str
    message: str


class Refused(Exception):
    """Nothing was taken; every problem is told. `taken`: rows of a file before it, when something came in between that
    was not so when the file was judged."""

    def __init__(self, problems: Sequence[Problem], taken: int = 0) -> None:
        self.problems = tuple(sorted(problems, key=lambda one: one.place))
        self.taken = taken
        super().__init__(f"{len(problems)} problems")


@dataclass(frozen=True, slots=True)
class Done:
    """What became of it: rows that changed a call, rows that said nothing new, the calls that were changed."""

    changed: int = 0
    unchanged: int = 0
    call_ids: tuple[str, ...] = ()
    duplicate: bool = False
    """The whole message was here before."""

    def and_then(self, more: Done) -> Done:
        """Both together."""
        call_ids = tuple(dict.fromkeys((*self.call_ids, *more.call_ids)))
        return Done(self.changed + more.changed, self.unchanged + more.unchanged, call_ids, more.duplicate)


@dataclass(frozen=True, slots=True)
class Source:
    """Who says it and how it came: `token:…`, `inbound:…`, `cli:…`; `api`, `webhook`, `csv`, `page`."""

    by: str
    way: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A row as it came. `values` by field. `seen`: how many changes of the call its author knew of; more by now, and
    it is refused. None: not asked."""

    place: int
    values: Mapping[str, object]
    seen: int | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    place: int
    call_id: str
    said: Mapping[str, Any]
    seen: int | None = None


@dataclass(slots=True)
class _Work:
    """What one transaction has changed so far."""

    stored: dict[str, results.Stored]
    owners: dict[str, str]
    """Call of each deal."""
    history: list[results.Change] = field(default_factory=list)
    changed: dict[str, results.Stored] = field(default_factory=dict)
    restated: list[tuple[int, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unchanged: int = 0


class Dealing:
    """Takes changes in. `targets` are told of them; `events_added` wakes who delivers. A dry run goes all the way and
    writes nothing."""

    def __init__(
        self,
        database: store.Database,
        *,
        current_book: Callable[[], book.Book | None],
        targets: Collection[str],
        now_us: Callable[[], int],
        events_added: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._current_book = current_book
        self._targets = targets
        self._now_us = now_us
        self._events_added = events_added

    def reading(self, *, is_sheet: bool = False) -> deals.Reading:
        """How times and numbers of a row are meant: as in the first site."""
        current = self._current_book()
        if current is None or not current.sites:
            return deals.Reading(ZoneInfo("UTC"), "", is_sheet)
        site = current.default_site
        return deals.Reading(ZoneInfo(site.time_zone), site.country, is_sheet)

    async def take(
        self,
        asked: Sequence[Asked],
        source: Source,
        *,
        is_sheet: bool = False,
        message: tuple[str, str] | None = None,
        dry_run: bool = False,
        is_audited: bool = False,
        told: Callable[[int], None] = lambda done: None,
    ) -> Done:
        """Takes all rows or none, of more than `PIECE` in pieces. `message` is the source and id of a message that
        counts once; `is_audited` writes an audit row for each changed call; `told` hears how many rows are found.
        Raises Refused, StoreUnavailable."""
        found = await self._found(asked, is_sheet, told)
        if dry_run or len(found) > PIECE:
            async with self._database.read() as connection:
                rows = await stored_calls.get_many(connection, {one.call_id for one in found})
                judged, _ = await self._apply(connection, found, rows, source, self._now_us())
            if dry_run:
                return judged
        done = Done()
        for start in range(0, len(found) or 1, PIECE):
            if start:
                await self._database.give_way()
            is_last = start + PIECE >= len(found)
            try:
                piece = await self._take_piece(
                    found[start : start + PIECE], source, message if is_last else None, is_audited
                )
            except Refused as refused:
                raise Refused(refused.problems, start) from None
            done = done.and_then(piece)
            self._events_added()
        return done

    async def _take_piece(
        self, found: Sequence[_Found], source: Source, message: tuple[str, str] | None, is_audited: bool
    ) -> Done:
        async with self._database.begin() as tx:
            now_us = self._now_us()
            await forgetting.hold_off(tx)
            if message is not None and not await results.is_new(tx, *message, now_us=now_us):
                return Done(duplicate=True)
            rows = await results.lock(tx, {one.call_id for one in found})
            done, work = await self._apply(tx, found, rows, source, now_us)
            await self._write(tx, work, rows, now_us)
            if is_audited:
                await _write_down(tx, work, source, now_us)
        return done

    # -- finding ------------------------------------------------------------------------------------------------------

    async def _found(self, asked: Sequence[Asked], is_sheet: bool, told: Callable[[int], None]) -> list[_Found]:
        how = self.reading(is_sheet=is_sheet)
        problems: list[Problem] = []
        wishes: list[tuple[Asked, deals.Wish]] = []
        for one in asked:
            read = deals.read(one.values, how)
            if isinstance(read, deals.Wish):
                wishes.append((one, read))
            else:
                problems += [Problem(one.place, wrong.field, wrong.message) for wrong in read]
        found: list[_Found] = []
        async with self._database.read() as connection:
            ids = [wish.where.call_id for _, wish in wishes if wish.where.call_id is not None]
            known = await stored_calls.saved(connection, ids)
            for number, (one, wish) in enumerate(wishes, 1):
                if wish.where.call_id is None:
                    matches = await results.find(connection, wish.where)
                else:
                    matches = [wish.where.call_id] if wish.where.call_id in known else []
                if len(matches) == 1:
                    found.append(_Found(one.place, matches[0], wish.said, one.seen))
                else:
                    problems.append(Problem(one.place, _field_of(wish.where), _not_one(wish.where, matches)))
                told(number)
                if len(problems) > MAX_PROBLEMS:
                    break
        if problems:
            raise Refused(problems)
        return found

    # -- writing ------------------------------------------------------------------------------------------------------

    async def _apply(
        self,
        connection: store.Connection,
        found: Sequence[_Found],
        rows: Mapping[str, stored_calls.CallRow],
        source: Source,
        now_us: int,
    ) -> tuple[Done, _Work]:
        ids = {one.call_id for one in found}
        gone = await results.forgotten(connection, ids)
        named = [str(one.said["deal_id"]) for one in found if one.said.get("deal_id") is not None]
        work = _Work(await results.of_calls(connection, ids), await results.with_deal(connection, named))
        for one in found:
            row = rows.get(one.call_id)
            if row is None or one.call_id in gone:
                why = "the call is gone" if row is None else "the caller was erased, or the call is past its retention"
                work.problems.append(Problem(one.place, "call_id", why))
            else:
                self._say(work, one, row, source, now_us)
        if work.problems:
            raise Refused(work.problems)
        return Done(len(work.history), work.unchanged, tuple(work.changed)), work

    def _say(self, work: _Work, one: _Found, row: stored_calls.CallRow, source: Source, now_us: int) -> None:
        before = work.stored.get(one.call_id)
        known = before.result if before is not None else deals.NOTHING
        if one.seen is not None and one.seen != (before.changes if before is not None else 0):
            work.problems.append(Problem(one.place, SEEN, "somebody else has changed the result meanwhile"))
            return
        try:
            after = known.after(one.said, latest_day=self._day(row.site, now_us + _DAY_US))
        except deals.Unfit as error:
            work.problems.append(Problem(one.place, error.field, str(error)))
            return
        changed = known.changes_to(after)
        if not changed:
            work.unchanged += 1
            return
        if after.deal_id is not None and work.owners.setdefault(after.deal_id, one.call_id) != one.call_id:
            other = work.owners[after.deal_id]
            work.problems.append(Problem(one.place, "deal_id", f"the deal belongs to call {other} already"))
            return
        if known.deal_id is not None and known.deal_id != after.deal_id:
            work.owners.pop(known.deal_id, None)
        next_one = results.changed(before, after, at_us=now_us, by=source.by, way=source.way)
        work.stored[one.call_id] = work.changed[one.call_id] = next_one
        work.history.append(results.Change(one.call_id, now_us, source.by, source.way, changed))
        if deals.is_counted(changed) and row.day_local < self._day(row.site, now_us):
            work.restated.append((row.day_local, row.site))

    def _day(self, site: str, at_us: int) -> int:
        current = self._current_book()
        known = current.sites.get(site) if current is not None else None
        return day_of(at_us, ZoneInfo(known.time_zone) if known is not None else ZoneInfo("UTC"))

    async def _write(
        self, tx: store.Transaction, work: _Work, rows: Mapping[str, stored_calls.CallRow], now_us: int
    ) -> None:
        if not work.changed:
            return
        await results.save(tx, work.changed, work.history)
        # An open call tells its result when it is over.
        told = [_event(rows[call_id], one, now_us) for call_id, one in work.changed.items() if _is_over(rows[call_id])]
        await outbox.add(tx, told, self._targets)
        await restated.mark(tx, work.restated, restated.RESULTS, now_us=now_us)


async def _write_down(tx: store.Transaction, work: _Work, source: Source, now_us: int) -> None:
    """Names of fields only: the audit holds no words about a person."""
    for change in work.history:
        await audit.append(
            tx,
            at_us=now_us,
            actor=source.by,
            action="result.changed",
            subject=f"call:{change.call_id}",
            details={"fields": sorted(change.said)},
        )


def day_of(at_us: int, zone: tzinfo) -> int:
    """The day, yyyymmdd, in a zone."""
    at = datetime.fromtimestamp(0, tz=ZoneInfo("UTC")) + timedelta(microseconds=at_us)
    local = at.astimezone(zone)
    return local.year * 10_000 + local.month * 100 + local.day


def _is_over(row: stored_calls.CallRow) -> bool:
    return row.state == "closed"


def _event(row: stored_calls.CallRow, stored: results.Stored, now_us: int) -> outbox.Event:
    revision = results.revision_of(row.revision, stored)
    event_id = events.result_event_id(row.call_id, row.revision, stored.changes)
    ended_us = row.ended_us if row.ended_us is not None else row.last_row_us
    kind = events.EventType.UPDATED.value
    body = {"id": event_id, "type": kind, "timestamp": records.timestamp(ended_us)}
    payload = f'{_json(body)[:-1]},"data":{results.with_result(row.record, row.revision, stored)}}}'
    return outbox.Event(event_id, kind, now_us, payload, row.call_id, revision)


def _field_of(where: deals.Where) -> str:
    if where.call_id is not None:
        return "call_id"
    if where.object_id is not None:
        return "object_id"
    return "deal_id" if where.deal_id is not None else "caller"


def _not_one(where: deals.Where, found: Sequence[str]) -> str:
    what = {
        "call_id": "this id",
        "object_id": f"this object of {where.crm}",
        "deal_id": "this deal; say which call it is",
        "caller": "this caller at that time",
    }[_field_of(where)]
    if not found:
        return f"no call is known by {what}"
    many = f"at least {len(found)}" if len(found) == results.MAX_FOUND else str(len(found))
    return f"{many} calls are known by {what}: {', '.join(found[:3])}; give the call_id"


_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
