"""Folding journal files again: the fold and the filing are the daemon's own, only the pace differs.

Calls are let go of when they are over and their late rows have passed, so memory follows the calls that were up at one
time, not the length of the journal.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway import store
from gateway.cli import context, failures, moments, vaults
from gateway.core import book, calls, grouping, records, restarts, rows
from gateway.daemon import outgoing
from gateway.pbx import journalfiles
from gateway.services import attributing, filing, forgotten, receipting, returning
from gateway.store import calls as stored_calls
from gateway.store import journal as stored_journal
from gateway.store import outbox, routing
from gateway.store import receipts as stored_receipts

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.store import signatures

LINGER_US = 30_000_000
"""How long after the end of a call its late rows are waited for, by the journal's own time."""
BATCH = 200


@dataclass(frozen=True, slots=True)
class Change:
    """One record that differs from the stored one. `what` is new or changed; `fields` names what differs."""

    call_id: str
    what: str
    fields: str = ""


@dataclass(slots=True)
class Result:
    """What replaying found."""

    changes: list[Change] = field(default_factory=list)
    same: int = 0
    open: int = 0
    partial: int = 0
    receipts: int = 0
    """Receipts of consent that were not there."""

    def counts(self) -> dict[str, int]:
        """Numbers by name, in the order of telling."""
        new = sum(change.what == "new" for change in self.changes)
        return {
            "new": new,
            "changed": len(self.changes) - new,
            "same": self.same,
            "open": self.open,
            "partial": self.partial,
            "receipts": self.receipts,
        }


@dataclass(slots=True)
class Group:
    """The rows of one call, and how it was closed if its channel never wrote an end."""

    key: str
    rows: list[rows.Row] = field(default_factory=list)
    closing: calls.Closing | None = None


async def replay(settings: Settings, paths: Sequence[Path], *, write: bool) -> Result:
    """Fold the files (none: journal and archive) and compare; with `write` store what differs.

    Erased persons are not brought back: what the journal still says of them is filed under their pseudonym.
    """
    result = Result()
    async with context.database(settings) as database:
        erased = forgotten.Forgotten(database, vaults.ring(settings))
        await erased.load()
        if write and erased.is_blind:
            raise failures.Failure("without the key ring erased persons are not recognised: name it in vault.keys_file")
        work = _Work(settings, database, result, erased, write)
        batch: list[Group] = []
        for group in groups(_rows(settings, paths)):
            batch.append(group)
            if len(batch) >= BATCH:
                await work.take(batch)
                batch = []
        await work.take(batch)
    return result


def journal_groups(settings: Settings) -> Iterator[Group]:
    """The calls of the journal and its archive. Raises Failure when they cannot be read."""
    if not settings.asterisk.journal_dir.is_dir():
        return iter(())
    return groups(_rows(settings, []))


def _rows(settings: Settings, paths: Sequence[Path]) -> Iterator[rows.Row]:
    """All rows of the files; without any, of journal and archive. Raises Failure for one that cannot be read."""
    from gateway.cli import verify

    # By their first row's time, whatever order the shell gave them.
    for path in sorted(paths, key=lambda path: next((row.at_us for row in _rows_of(path)), 0)):
        yield from _rows_of(path)
    if paths:
        return
    try:
        for _, line in journalfiles.read_everything(lambda: verify.journal_files(settings)):
            if not isinstance(line, journalfiles.DamagedLine):
                yield line.row
    except (OSError, EOFError) as error:
        raise failures.Failure(f"journal not readable: {error}") from None


def _rows_of(path: Path) -> Iterator[rows.Row]:
    try:
        for line in journalfiles.read_whole(path):
            if not isinstance(line, journalfiles.DamagedLine):
                yield line.row
    except (OSError, EOFError) as error:
        raise failures.Failure(f"{path}: not readable as a journal: {error}") from None


def groups(journal: Iterator[rows.Row]) -> Iterator[Group]:
    """The calls of a journal, each once it is over; what is still up at the end comes last."""
    grouped = grouping.Grouping()
    watch = restarts.RestartWatch()
    open_groups: dict[str, Group] = {}
    due: deque[tuple[int, str]] = deque()
    for row in journal:
        if watch.is_restart(row):
            for group in open_groups.values():
                if group.closing is None and group.rows[-1].at_us <= row.at_us:
                    group.closing = calls.Closing(group.rows[-1].at_us, "asterisk restarted")
                    due.append((row.at_us + LINGER_US, group.key))
        key = grouped.assign(row)
        if key is not None and (key in open_groups or grouped.is_open(key)):
            open_groups.setdefault(key, Group(key)).rows.append(row)
            if row.kind == rows.EventKind.LINKEDID_END:
                due.append((row.at_us + LINGER_US, key))
        while due and due[0][0] < row.at_us:
            _, over = due.popleft()
            ended = open_groups.get(over)
            facts = calls.fold(ended.rows, closed=ended.closing) if ended else None
            if ended is not None and facts is not None and facts.is_closed:
                del open_groups[over]
                grouped.close(over)
                yield ended
    yield from open_groups.values()


class _Work:
    """Compares groups with the store, batch by batch."""

    def __init__(
        self, settings: Settings, database: store.Database, result: Result, erased: forgotten.Forgotten, write: bool
    ) -> None:
        self._settings = settings
        self._node = settings.node.name
        self._with_region = settings.caller.region
        self._targets = outgoing.subscriptions(settings)
        self._knows_receivers = False
        self._database = database
        self._result = result
        self._write = write
        self._erased = erased
        self._signer = vaults.signer(settings) if write else _signer_to_compare(settings)
        self._books: dict[int | None, book.Book | None] = {}

    async def take(self, batch: Sequence[Group]) -> None:
        """Fold, compare, count, and store if asked to."""
        folded = [(facts, group) for group in batch if (facts := await self._facts(group)) is not None]
        whole = []
        for facts, group in folded:
            if not facts.did:
                # Its entry stands in a file that was not given, or is lost: the stored record knows more.
                self._result.partial += 1
            elif not facts.is_closed:
                self._result.open += 1
            else:
                whole.append((facts, group.rows))
        if whole:
            await self._compare(whole)

    async def _facts(self, group: Group) -> calls.CallFacts | None:
        facts = calls.fold(group.rows, closed=group.closing)
        if facts is not None and not facts.is_closed:
            # Closed by the daemon, which knew from AMI that the channel was gone.
            async with self._database.read() as connection:
                closings = await stored_journal.closings(connection, [facts.call_id])
            if facts.call_id in closings:
                known = closings[facts.call_id]
                facts = calls.fold(group.rows, closed=calls.Closing(known.at_us, known.reason))
        return facts

    async def _compare(self, whole: Sequence[tuple[calls.CallFacts, Sequence[rows.Row]]]) -> None:
        ids = [facts.call_id for facts, _ in whole]
        pseudonyms = {
            facts.call_id: pseudonym for facts, _ in whole if (pseudonym := self._erased.pseudonym(facts)) is not None
        }
        asked = [
            stored_calls.Question(facts.call_id, number, facts.started_at_us)
            for facts, _ in whole
            if facts.direction is calls.Direction.INBOUND
            and (number := pseudonyms.get(facts.call_id) or records.e164(facts.caller))
        ]
        async with self._database.read() as connection:
            saved = await stored_calls.saved(connection, ids)
            before = await stored_calls.history_of_callers(connection, asked) if asked else {}
            signed = await stored_receipts.of_calls(connection, ids)
        found = await self._who_called([facts for facts, _ in whole if facts.call_id not in pseudonyms])
        returned = await returning.sources(
            self._database, [facts for facts, _ in whole if facts.call_id not in pseudonyms]
        )
        filed, receipts = [], []
        for facts, group in whole:
            known = saved.get(facts.call_id)
            receipts += self._receipts(facts, group, signed, is_erased=facts.call_id in pseudonyms)
            made = filing.file(
                facts,
                await self._book(facts.plan_revision),
                node=self._node,
                saved=known,
                calls_before=known.calls_before if known else before.get(facts.call_id),
                now_us=moments.micros(context.now()),
                with_region=self._with_region,
                found=found[facts.call_id].attribution if facts.call_id in found else returned.get(facts.call_id),
                pseudonym=pseudonyms.get(facts.call_id),
            )
            if made is None:
                self._result.same += 1
                continue
            filed.append(made)
            self._result.changes.append(await self._change(made, known))
        self._result.receipts += len(receipts)
        if self._write and (filed or receipts):
            kept = [found[one.row.call_id] for one in filed if one.row.call_id in found]
            await self._store(filed, receipts, pseudonyms, kept)

    async def _who_called(self, whole: Sequence[calls.CallFacts]) -> dict[str, attributing.Found]:
        books = [(facts, await self._book(facts.plan_revision)) for facts in whole]
        async with self._database.read() as connection:
            return await attributing.of_batch(connection, books)

    def _receipts(
        self, facts: calls.CallFacts, group: Sequence[rows.Row], signed: receipting.Known, *, is_erased: bool
    ) -> list[stored_receipts.Signed]:
        """Those that are missing. One that is there was made from all rows, which an archived journal may not have."""
        if self._signer is None or not receipting.is_due(facts):
            return []
        made = receipting.made(
            facts,
            group,
            signed,
            signer=self._signer,
            node=self._node,
            person=None if is_erased else forgotten.person(facts),
            now_us=moments.micros(context.now()),
        )
        return [one for one in made if (one.call_id, one.what) not in signed]

    async def _change(self, made: filing.Filed, known: stored_calls.Saved | None) -> Change:
        if known is None:
            return Change(made.row.call_id, "new")
        async with self._database.read() as connection:
            stored = await stored_calls.get(connection, made.row.call_id)
        old = json.loads(stored.record) if stored else {}
        return Change(made.row.call_id, "changed", ", ".join(_differing(old, json.loads(made.row.record))))

    async def _know_receivers(self) -> None:
        if not self._knows_receivers:
            in_force = await context.book_in_force(self._database, self._settings)
            self._targets.use(outgoing.wanted(in_force) if in_force is not None else {})
            self._knows_receivers = True

    async def _store(
        self,
        filed: Sequence[filing.Filed],
        receipts: Sequence[stored_receipts.Signed],
        pseudonyms: Mapping[str, str],
        found: Sequence[attributing.Found],
    ) -> None:
        now_us = moments.micros(context.now())
        await self._know_receivers()
        try:
            async with self._database.begin() as tx:
                await self._erased.hold(tx)
                await stored_calls.save(tx, [one.row for one in filed])
                await outbox.add(tx, await filing.told(tx, filed), self._targets)
                await self._erased.remember(tx, pseudonyms.items(), now_us)
                if self._signer is not None and receipts:
                    await stored_receipts.learn_key(tx, self._signer, node=self._node, now_us=now_us)
                    await stored_receipts.keep(tx, receipts)
                await attributing.keep(tx, found, now_us=now_us)
        except forgotten.Overtaken:
            raise failures.Failure("a person was erased meanwhile; run it again") from None

    async def _book(self, revision: int | None) -> book.Book | None:
        """The book of a revision, or the one in force, as the daemon chooses it."""
        if revision not in self._books:
            found = None
            if revision:
                async with self._database.read() as connection:
                    stored = await routing.get(connection, revision)
                found = context.parse_book(stored.document, revision, self._settings) if stored else None
            self._books[revision] = found or await context.book_in_force(self._database, self._settings)
        return self._books[revision]


def _signer_to_compare(settings: Settings) -> signatures.Signer | None:
    """Comparing needs no key: who may not read it is told nothing of receipts."""
    try:
        return vaults.signer(settings)
    except failures.Failure:
        return None


def _differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [key for key in {**old, **new} if key != "revision" and old.get(key) != new.get(key)]
