"""The audit chain: who listened to, exported, held, shredded or erased what, in rows that nobody can change unseen.

Each row holds the hash of the row before it, and its own is SHA-256 over that hash and the row as canonical JSON; the
numbers of rows have no gaps. `verify` finds a row that was changed, removed, moved or put in between. What it cannot
find by itself is a chain cut at its end or written anew as a whole: note the head (`dialmark audit verify` prints it)
somewhere else, and give it back to `verify`.

Rows name recordings and calls by id. A person appears as SHA-256(salt ‖ number) at most, and the salt stands outside
the hash: erasure deletes it, which makes the digest meaningless and leaves the chain whole.

Old rows go from the front only; a row `audit.pruned` then says up to which one and what its hash was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, func, select, text, update

from gateway import store
from gateway.store import schema

FIRST = "0" * 64
"""What the first row of all has for the hash before it."""
PRUNED = "audit.pruned"
PAGE = 1000
_LOCK = 0x6469616C61756474
"""PostgreSQL advisory lock of whoever appends ("dialaudt")."""

_FIELDS = ("seq", "at_us", "actor", "action", "subject", "details", "person_digest", "previous", "hash")
_TABLE = schema.audit


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. `subject` is an id (`recording:<id>`, `call:<id>`, `erasure:<id>`), `details` JSON text."""

    seq: int
    at_us: int
    actor: str
    action: str
    subject: str
    details: str
    person_digest: str | None
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain: note it outside to prove later that nothing was cut off."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found. `broken_at` is the number of the first row that does not fit, None when all do."""

    rows: int
    head: Head | None
    broken_at: int | None = None
    why: str = ""

    @property
    def is_whole(self) -> bool:
        return self.broken_at is None


def _entry(row: Row[*tuple[Any, ...]]) -> Entry:
    return Entry(*row)


_SELECT = select(*(_TABLE.c[name] for name in _FIELDS))


def hash_of(entry: Entry) -> str:
    """The hash that a row must have."""
    content = [entry.seq, entry.at_us, entry.actor, entry.action, entry.subject, entry.details, entry.person_digest]
    canonical = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(f"{entry.previous}\n{canonical}".encode()).hexdigest()


def digest_of(number: str, salt: str) -> str:
    """A person in the chain. With the salt one can show that a row is about a number; without it nobody can."""
    return hashlib.sha256(f"{salt}{number}".encode()).hexdigest()


async def append(
    tx: store.Transaction,
    *,
    at_us: int,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, object] | None = None,
    person: str | None = None,
) -> Entry:
    """Adds one row behind the last. `details` must hold no personal data; `person` is a number, kept as a digest.

    `actor`: `token:<name>`, `cli:<account>` or `daemon`.
    """
    if tx.dialect.name != "sqlite":
        await tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    last = await head(tx)
    salt = os.urandom(16).hex() if person is not None else None
    draft = Entry(
        seq=last.seq + 1 if last else 1,
        at_us=at_us,
        actor=_storable(actor),
        action=action,
        subject=subject,
        details=json.dumps(details or {}, ensure_ascii=True, sort_keys=True, separators=(",", ":")),
        person_digest=digest_of(person, salt) if person is not None and salt is not None else None,
        previous=last.hash if last else FIRST,
        hash="",
    )
    values = {name: getattr(draft, name) for name in _FIELDS} | {"hash": hash_of(draft), "person_salt": salt}
    await tx.execute(_TABLE.insert(), values)
    return Entry(**{name: values[name] for name in _FIELDS})


def _storable(words: str) -> str:
    # The hash is over what will be read again: what a database alters must not get into it.
    return "".join(character if character.isprintable() else "\ufffd" for character in words)[:100]


async def head(connection: store.Connection) -> Head | None:
    """The last row's number and hash."""
    row = (await connection.execute(select(_TABLE.c.seq, _TABLE.c.hash).order_by(_TABLE.c.seq.desc()).limit(1))).first()
    return None if row is None else Head(row.seq, row.hash)


async def entries(
    connection: store.Connection,
    *,
    after: int = 0,
    subject: str | None = None,
    action: str | None = None,
    limit: int = PAGE,
) -> list[Entry]:
    """Rows behind a number, in order; of one subject or of all, of one action or of all."""
    query = _SELECT.where(_TABLE.c.seq > after).order_by(_TABLE.c.seq).limit(limit)
    if subject is not None:
        query = query.where(_TABLE.c.subject == subject)
    if action is not None:
        query = query.where(_TABLE.c.action == action)
    return [_entry(row) for row in await connection.execute(query)]


async def latest(connection: store.Connection, *, limit: int = 50) -> list[Entry]:
    """The last rows, newest first."""
    return [_entry(row) for row in await connection.execute(_SELECT.order_by(_TABLE.c.seq.desc()).limit(limit))]


async def everything(database: store.Database) -> AsyncIterator[Entry]:
    """All rows in order, page by page."""
    after = 0
    while True:
        async with database.read() as connection:
            page = await entries(connection, after=after)
        for entry in page:
            yield entry
        if len(page) < PAGE:
            return
        after = page[-1].seq


async def verify(database: store.Database, noted: Head | None = None) -> Verdict:
    """Reads the whole chain. `noted` is a head from earlier: its row must still be there with its hash."""
    rows, last = 0, None
    was_noted = noted is None
    async with database.read() as connection:
        anchor = await _anchor(connection)
    async for entry in everything(database):
        if why := _mistake(entry, last, anchor):
            return Verdict(rows, last, entry.seq, why)
        rows += 1
        last = Head(entry.seq, entry.hash)
        if noted is not None and entry.seq == noted.seq:
            if entry.hash != noted.hash:
                return Verdict(rows, last, entry.seq, "its hash is not the one that was noted: the chain was rewritten")
            was_noted = True
    if not was_noted and noted is not None and not (anchor and anchor.seq >= noted.seq):
        return Verdict(rows, last, noted.seq, "it is gone: the chain was cut at its end")
    return Verdict(rows, last)


def _mistake(entry: Entry, last: Head | None, anchor: Head | None) -> str:
    if last is not None:
        before = last
    elif entry.seq == 1:
        before = Head(0, FIRST)
    elif anchor is not None:
        before = anchor
    else:
        return f"rows before it are gone, and no row `{PRUNED}` says so"
    if entry.seq != before.seq + 1:
        return f"row {before.seq + 1} is missing before it"
    if entry.previous != before.hash:
        return "it does not continue the row before it"
    if entry.hash != hash_of(entry):
        return "its content was changed"
    return ""


async def _anchor(connection: store.Connection) -> Head | None:
    """Up to which row old ones were pruned, by the word of the chain itself."""
    query = select(_TABLE.c.details).where(_TABLE.c.action == PRUNED).order_by(_TABLE.c.seq.desc()).limit(1)
    details = (await connection.execute(query)).scalar()
    if details is None:
        return None
    said = json.loads(details)
    return Head(int(said["through"]), str(said["hash"]))


async def count_before(connection: store.Connection, before_us: int) -> int:
    """Rows that `prune` would take."""
    return await _last_before(connection, before_us) - await _first(connection) + 1


async def _first(connection: store.Connection) -> int:
    return (await connection.execute(select(func.min(_TABLE.c.seq)))).scalar() or 1


async def _last_before(connection: store.Connection, before_us: int) -> int:
    """The last row of the front that is older throughout (a clock may have been set back in between)."""
    kept = (await connection.execute(select(func.min(_TABLE.c.seq)).where(_TABLE.c.at_us >= before_us))).scalar()
    if kept is not None:
        return int(kept) - 1
    last = await head(connection)
    return last.seq if last else 0


async def prune(tx: store.Transaction, *, before_us: int, now_us: int, actor: str) -> int:
    """Takes rows older than `before_us` from the front, and says so in the chain. Returns how many."""
    through = await _last_before(tx, before_us)
    row = (await tx.execute(select(_TABLE.c.hash).where(_TABLE.c.seq == through))).scalar()
    if row is None:
        return 0
    details = {"through": through, "hash": row}
    await append(tx, at_us=now_us, actor=actor, action=PRUNED, subject="audit", details=details)
    return (await tx.execute(delete(_TABLE).where(_TABLE.c.seq <= through))).rowcount


async def forget(tx: store.Transaction, number: str) -> int:
    """Deletes the salts by which rows could be tied to a number. Returns how many rows that were."""
    query = select(_TABLE.c.seq, _TABLE.c.person_salt, _TABLE.c.person_digest).where(_TABLE.c.person_salt.is_not(None))
    found = [row.seq for row in await tx.execute(query) if digest_of(number, row.person_salt) == row.person_digest]
    for seq in found:
        await tx.execute(update(_TABLE).where(_TABLE.c.seq == seq).values(person_salt=None))
    return len(found)


async def salt_of(connection: store.Connection, seq: int) -> str | None:
    """The salt of a row's person, for the receipt of an erasure; None when there is none, or no more."""
    return (await connection.execute(select(_TABLE.c.person_salt).where(_TABLE.c.seq == seq))).scalar()
