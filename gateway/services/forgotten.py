"""Who was erased, as those know who write records: tracker and `replay` ask for every call they file (N14).

`erase` may run in another process at any moment. So the transaction that writes records holds off erasures and looks
whether somebody was erased since; if so, nothing of it is written, and it is made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from gateway import store
from gateway.core import calls, erasure, records
from gateway.core.rows import Row
from gateway.store import forgetting, keyring

log = structlog.get_logger()

_ENTRIES = {"DM_IN": "cid", "DM_OUT": "to"}
"""Our event that begins a call, and where it names the person."""


class Overtaken(Exception):
    """Somebody was erased after the tombstones were read: what was made meanwhile may name them."""


class Forgotten:
    """The tombstones, as they were read last; `load` before the first question. Without a key ring erased persons are
    known by their calls only, not by their numbers."""

    def __init__(self, database: store.Database, ring: keyring.KeyRing | None) -> None:
        self._database = database
        self._ring = ring
        self._stones = forgetting.Tombstones()
        self._stamp: tuple[int, int] | None = None
        self._why_blind: str | None = None

    @property
    def knows_nobody(self) -> bool:
        return not self._stones.by_call and not self._stones.by_digest

    @property
    def is_blind(self) -> bool:
        """There are tombstones, and the key to compare numbers with them is missing."""
        return self._why_blind is not None

    async def load(self) -> None:
        """Reads them again. Raises StoreUnavailable."""
        why = None
        async with self._database.read() as connection:
            stamp = await forgetting.stamp(connection)
            try:
                stones = await forgetting.tombstones(connection, self._ring)
            except keyring.KeyMissing as error:
                why = str(error)
                stones = await forgetting.tombstones(connection, None)
        if stamp[0] > 0 and not stones.by_digest:
            why = why or "there is no key ring"
        if why is not None and why != self._why_blind:
            log.error("erased persons are known by their calls only", reason=why)
        self._stones, self._stamp, self._why_blind = stones, stamp, why

    async def hold(self, tx: store.Transaction) -> None:
        """Until the end of `tx` nobody is erased. Raises Overtaken when somebody was since `load`: then roll back."""
        await forgetting.hold_off(tx)
        if await forgetting.stamp(tx) != self._stamp:
            raise Overtaken

    def pseudonym(self, facts: calls.CallFacts) -> str | None:
        """What must stand for the person of this call, None when they are not erased."""
        if self.knows_nobody:
            return None
        return self._stones.pseudonym_of(facts.call_id, person(facts), facts.started_at_us)

    def masked(self, lines: bytes, rows: Sequence[Row]) -> bytes:
        """Raw lines of a call as they may be kept: of an erased person's call without the person."""
        if self.knows_nobody:
            return lines
        for row in rows:
            if row.user_event in _ENTRIES:
                call_id, number = _entry(row)
                if self._stones.pseudonym_of(call_id, number, rows[0].at_us) is not None:
                    digits = erasure.spellings(number) if number else ()
                    return b"\n".join(erasure.masked_line(line, digits) for line in lines.split(b"\n"))
        return lines

    def is_named(self, call_id: str, number: str | None, started_us: int) -> bool:
        """Whether this call's number (E.164 with `+`, or what stands for it) is that of an erased person."""
        if self.knows_nobody or number is None or not number.startswith("+"):
            return False
        return self._stones.pseudonym_of(call_id, number, started_us) is not None

    def is_entry_of_erased(self, row: Row) -> bool:
        """Whether a journal row begins a call of an erased person and still says so."""
        if self.knows_nobody or row.user_event not in _ENTRIES:
            return False
        return self.is_named(*_entry(row), row.at_us)

    async def remember(self, tx: store.Transaction, filed: Iterable[tuple[str, str]], now_us: int) -> None:
        """Notes calls (id and pseudonym) that were recognised by the number: what is kept of them names it no more."""
        new = [(call_id, pseudonym) for call_id, pseudonym in filed if call_id not in self._stones.by_call]
        await forgetting.remember(tx, new, now_us=now_us)


def _entry(row: Row) -> tuple[str, str | None]:
    """Call id and number of the person."""
    return row.data.get("i", ""), records.e164(row.data.get(_ENTRIES[row.user_event], ""))


def person(facts: calls.CallFacts) -> str | None:
    """The number of the person outside: the caller's, of an outbound call the one called."""
    return records.e164(facts.did if facts.direction is calls.Direction.OUTBOUND else facts.caller)
