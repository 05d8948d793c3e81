"""From the calls of a batch that changed to all that is written of them: who called, the record, events, receipts, and
nothing of persons who were erased (N3, N14, R1).

What is prepared may be overtaken by an erasure in another process: then nothing of it is written, and it is prepared
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway import store
from gateway.core import attribution, book, calls, erasure, records
from gateway.core.rows import Row
from gateway.services import attributing, filing, forgotten, receipting, returning, ticketing
from gateway.store import calls as stored_calls
from gateway.store import outbox, signatures
from gateway.store import receipts as stored_receipts

CALLS_AT_ONCE = 20
"""Filed before the loop may answer a waiting caller: about 10 ms."""

BookOf = Callable[[int | None], Awaitable[book.Book | None]]
"""The routing book of a revision, None = the one in force."""


@dataclass(slots=True)
class Known:
    """What the store knows of one call; filled in when it is first needed."""

    saved: stored_calls.Saved | None = None
    calls_before: int | None = None

    def keep(self, row: stored_calls.CallRow) -> None:
        """After the commit: this is what is stored."""
        self.saved = stored_calls.Saved(row.revision, row.content_hash, row.announced, row.state, row.calls_before)


@dataclass(frozen=True, slots=True)
class Changed:
    """A call as its rows tell it now."""

    facts: calls.CallFacts
    rows: Sequence[Row]
    known: Known

    @property
    def call_id(self) -> str:
        return self.facts.call_id


@dataclass(slots=True)
class Papers:
    """What one transaction writes of a batch's calls."""

    filed: list[filing.Filed] = field(default_factory=list)
    found: dict[str, attributing.Found] = field(default_factory=dict)
    """Who called, by call id."""
    receipts: list[stored_receipts.Signed] = field(default_factory=list)
    pseudonyms: dict[str, str] = field(default_factory=dict)
    """Calls filed without their person: what stands for them, by call id."""
    in_force: book.Book | None = None
    """By which tickets are opened."""
    missed: list[str] = field(default_factory=list)
    """What became of missed calls, once it is written."""


class Filer:
    """`signer` None: no receipts. `erased` None: on a node that never erases (tests, bench). `desk` None: missed calls
    open no tickets. All raise StoreError."""

    def __init__(
        self,
        database: store.Database,
        *,
        node: str,
        book_of: BookOf,
        targets: Collection[str],
        now_us: Callable[[], int],
        with_region: bool,
        signer: signatures.Signer | None,
        erased: forgotten.Forgotten | None,
        desk: ticketing.Ticketing | None = None,
    ) -> None:
        self._database = database
        self._node = node
        self._book_of = book_of
        self._targets = targets
        self._now_us = now_us
        self._with_region = with_region
        self._signer = signer
        self._erased = erased
        self._desk = desk

    async def resume(self, changed: Sequence[Changed]) -> list[Mapping[str, Any]]:
        """After a restart: what is stored of these calls, and their records as they are now, in their order."""
        if self._erased is not None:
            await self._erased.load()
        async with self._database.read() as connection:
            saved = await stored_calls.saved(connection, [one.call_id for one in changed])
        for one in changed:
            one.known.saved = saved.get(one.call_id)
            one.known.calls_before = one.known.saved.calls_before if one.known.saved else None
        pseudonyms = self._pseudonyms(changed)
        found = await self._who_called(changed, pseudonyms)
        sources = {call_id: one.attribution for call_id, one in found.items()}
        sources |= await self._returned(changed, pseudonyms)
        return [await self._document(one, sources.get(one.call_id), pseudonyms.get(one.call_id)) for one in changed]

    async def prepare(self, changed: Sequence[Changed]) -> Papers:
        """What is to be written. Doing it again changes nothing."""
        pseudonyms = self._pseudonyms(changed)
        await self._learn(changed, pseudonyms)
        papers = Papers(found=await self._who_called(changed, pseudonyms), pseudonyms=pseudonyms)
        returned = await self._returned(changed, pseudonyms)
        now_us = self._now_us()
        for number, one in enumerate(changed, 1):
            if number % CALLS_AT_ONCE == 0:
                await asyncio.sleep(0)
            found = papers.found.get(one.call_id)
            filed = filing.file(
                one.facts,
                await self._book_of(one.facts.plan_revision),
                node=self._node,
                saved=one.known.saved,
                calls_before=one.known.calls_before,
                now_us=now_us,
                with_region=self._with_region,
                found=found.attribution if found is not None else returned.get(one.call_id),
                pseudonym=pseudonyms.get(one.call_id),
            )
            if filed is not None:
                papers.filed.append(filed)
        papers.receipts = await self._receipts(changed, pseudonyms, now_us)
        if self._desk is not None and papers.filed:
            papers.in_force = await self._book_of(None)
        return papers

    async def hold(self, tx: store.Transaction) -> None:
        """First in the transaction. Raises `forgotten.Overtaken`: somebody was erased since; roll back, `catch_up`."""
        if self._erased is not None:
            await self._erased.hold(tx)

    async def write(self, tx: store.Transaction, papers: Papers) -> None:
        """Last in the transaction: it ends with the leases' lock, under which visitors wait."""
        now_us = self._now_us()
        await stored_calls.save(tx, [filed.row for filed in papers.filed])
        if made := await filing.told(tx, papers.filed):
            await outbox.add(tx, made, self._targets)
        if self._desk is not None:
            papers.missed = await self._desk.file(tx, papers.filed, papers.in_force)
        if papers.receipts and self._signer is not None:
            await stored_receipts.learn_key(tx, self._signer, node=self._node, now_us=now_us)
            await stored_receipts.keep(tx, papers.receipts)
        if papers.pseudonyms and self._erased is not None:
            await self._erased.remember(tx, papers.pseudonyms.items(), now_us)
        await attributing.keep(tx, list(papers.found.values()), now_us=now_us)

    async def catch_up(self, changed: Sequence[Changed]) -> None:
        """Learns who was erased meanwhile; what was prepared of these calls is worth nothing."""
        if self._erased is not None:
            await self._erased.load()
        for one in changed:
            if one.known.saved is None:
                # Counted by the number, by which the stored calls of the person are no longer found.
                one.known.calls_before = None

    def masked(self, lines: bytes, rows: Sequence[Row]) -> bytes:
        """Raw lines of a call as they may be kept."""
        return lines if self._erased is None else self._erased.masked(lines, rows)

    def _pseudonyms(self, changed: Sequence[Changed]) -> dict[str, str]:
        if self._erased is None or self._erased.knows_nobody:
            return {}
        said = ((one.call_id, self._erased.pseudonym(one.facts)) for one in changed)
        return {call_id: pseudonym for call_id, pseudonym in said if pseudonym is not None}

    async def _document(
        self, one: Changed, found: attribution.Attribution | None, pseudonym: str | None
    ) -> Mapping[str, Any]:
        document = records.record(
            one.facts,
            await self._book_of(one.facts.plan_revision),
            revision=one.known.saved.revision if one.known.saved else 1,
            calls_before=one.known.calls_before,
            node=self._node,
            with_region=self._with_region,
            found=found,
        )
        return document if pseudonym is None else erasure.pseudonymised(document, pseudonym)

    async def _learn(self, changed: Sequence[Changed], pseudonyms: Mapping[str, str]) -> None:
        """Asks the store, in two statements for the batch, what it knows of new calls and of their callers."""
        new = {one.call_id: one for one in changed if one.known.saved is None}
        if not new:
            return
        asked = [
            stored_calls.Question(call_id, number, one.facts.started_at_us)
            for call_id, one in new.items()
            if one.known.calls_before is None
            and one.facts.direction is calls.Direction.INBOUND
            and (number := pseudonyms.get(call_id) or records.e164(one.facts.caller))
        ]
        async with self._database.read() as connection:
            saved = await stored_calls.saved(connection, list(new))
            before = await stored_calls.history_of_callers(connection, asked) if asked else {}
        for call_id, one in new.items():
            one.known.saved = saved.get(call_id)
            one.known.calls_before = before.get(call_id, one.known.calls_before)

    async def _who_called(
        self, changed: Sequence[Changed], pseudonyms: Mapping[str, str]
    ) -> dict[str, attributing.Found]:
        """Of calls behind which visitors can be: a house without web sites asks nothing. Nobody asks for the erased."""
        asked = []
        for one in changed:
            if one.call_id in pseudonyms:
                continue
            routing_book = await self._book_of(one.facts.plan_revision)
            if attributing.is_ours(records.tracking_number(one.facts, routing_book), routing_book):
                asked.append((one.facts, routing_book))
        if not asked:
            return {}
        async with self._database.read() as connection:
            return await attributing.of_batch(connection, asked)

    async def _returned(
        self, changed: Sequence[Changed], pseudonyms: Mapping[str, str]
    ) -> dict[str, attribution.Attribution]:
        """Sources of call-backs. Nobody asks for the erased."""
        return await returning.sources(self._database, [one.facts for one in changed if one.call_id not in pseudonyms])

    async def _receipts(
        self, changed: Sequence[Changed], pseudonyms: Mapping[str, str], now_us: int
    ) -> list[stored_receipts.Signed]:
        due = [one for one in changed if receipting.is_due(one.facts)]
        signer = self._signer
        if not due or signer is None:
            return []
        async with self._database.read() as connection:
            known = await stored_receipts.of_calls(connection, [one.call_id for one in due])
        return [
            receipt
            for one in due
            for receipt in receipting.made(
                one.facts,
                one.rows,
                known,
                signer=signer,
                node=self._node,
                person=None if one.call_id in pseudonyms else forgotten.person(one.facts),
                now_us=now_us,
            )
        ]
