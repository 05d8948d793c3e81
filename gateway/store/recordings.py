"""Recordings: which there are, in what state, and their wrapped keys. The sound itself lies in the vault's files.

    stored ──condemn──▶ condemned ──shred──▶ shredded        retention; `restore` leads back until the grace is over
    refused ────────────────────────shred──▶ shredded        sound for which no consent was granted: never played

A key is a row of its own table. Shredding deletes it: whoever holds the file, or a backup of it, holds noise. A
recording under legal hold is neither condemned nor shredded.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, func, or_, select, text, true, tuple_, update

from gateway import store
from gateway.store import keyring, schema, statements, vault

TOMBSTONE_SECRET = "tombstones"  # noqa: S105 - its name, not its value
PAGE = 500


class State(StrEnum):
    """Where a recording stands; see the module."""

    STORED = "stored"
    REFUSED = "refused"
    CONDEMNED = "condemned"
    SHREDDED = "shredded"


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording. Its file is `vault.file_of(root, recording_id, started_us)`."""

    recording_id: str
    call_id: str
    node: str
    kind: str
    """talk | voicemail"""
    state: State
    started_us: int
    """When its first part began."""
    duration_seconds: float
    parts: str
    """Numbers of the parts in it: `1 2 3`."""
    audio_bytes: int
    peaks_bytes: int
    digest: str
    """SHA-256 of the MP3, hex."""
    created_us: int
    why: str | None = None
    """Why it was refused or condemned."""
    held_us: int | None = None
    """Since when it is under legal hold."""
    held_why: str | None = None
    condemned_us: int | None = None
    shredded_us: int | None = None
    analysis: str | None = None
    """JSON text of the external command (`recording.command`); None = none yet, or it gave nothing."""
    analysed_us: int | None = None
    """When the command was done with it, with a result or without."""


@dataclass(frozen=True, slots=True)
class Aged:
    """A recording with what retention rules look at; `route` and `outcome` are None when the record is gone."""

    recording: Recording
    route: str | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class RecordingFilter:
    """Which to list; None asks nothing."""

    call_id: str | None = None
    state: State | None = None
    kind: str | None = None
    is_held: bool | None = None
    since_us: int | None = None
    until_us: int | None = None


_TABLE, _KEYS, _SECRETS = schema.recordings, schema.recording_keys, schema.vault_secrets
_REVIEWS = schema.reviews
_FIELDS = tuple(field.name for field in fields(Recording))
_COLUMNS = [_TABLE.c[name] for name in _FIELDS]


def _recording(row: Row[*tuple[Any, ...]]) -> Recording:
    values: list[Any] = list(row[: len(_FIELDS)])
    values[4] = State(values[4])
    return Recording(*values)


def subject(recording_id: str) -> str:
    """What a recording's key is wrapped for, and how the audit names it."""
    return f"recording:{recording_id}"


async def register(tx: store.Transaction, recording: Recording, wrapped: keyring.Wrapped) -> bool:
    """Enters a recording with its key. False: it is there already, and nothing was changed."""
    values = {name: getattr(recording, name) for name in _FIELDS}
    inserted = await tx.execute(
        statements.insert(tx, _TABLE).values(values).on_conflict_do_nothing().returning(_TABLE.c.recording_id)
    )
    if inserted.first() is None:
        return False
    await tx.execute(
        _KEYS.insert(), {"recording_id": recording.recording_id, "key_id": wrapped.key_id, "wrapped": wrapped.data}
    )
    return True


async def get(connection: store.Connection, recording_id: str, *, for_update: bool = False) -> Recording | None:
    """One recording; `for_update` keeps others from changing it until the transaction ends."""
    query = select(*_COLUMNS).where(_TABLE.c.recording_id == recording_id)
    row = (await connection.execute(query.with_for_update() if for_update else query)).first()
    return None if row is None else _recording(row)


async def of_calls(connection: store.Connection, call_ids: Collection[str]) -> list[Recording]:
    """All recordings of these calls, oldest first."""
    found: list[Recording] = []
    for chunk in statements.chunks(sorted(call_ids)):
        query = select(*_COLUMNS).where(_TABLE.c.call_id.in_(chunk))
        found += [_recording(row) for row in await connection.execute(query.order_by(_TABLE.c.started_us))]
    return found


async def list_recordings(
    connection: store.Connection, asked: RecordingFilter, *, limit: int = PAGE, after: Recording | None = None
) -> list[Recording]:
    """Recordings, newest first; `after` is the last of the page before."""
    query = select(*_COLUMNS).order_by(_TABLE.c.started_us.desc(), _TABLE.c.recording_id.desc()).limit(limit)
    for name in ("call_id", "state", "kind"):
        if (value := getattr(asked, name)) is not None:
            query = query.where(_TABLE.c[name] == value)
    if asked.is_held is not None:
        query = query.where(_TABLE.c.held_us.is_not(None) if asked.is_held else _TABLE.c.held_us.is_(None))
    if asked.since_us is not None:
        query = query.where(_TABLE.c.started_us >= asked.since_us)
    if asked.until_us is not None:
        query = query.where(_TABLE.c.started_us < asked.until_us)
    if after is not None:
        query = query.where(tuple_(_TABLE.c.started_us, _TABLE.c.recording_id) < (after.started_us, after.recording_id))
    return [_recording(row) for row in await connection.execute(query)]


async def key_of(connection: store.Connection, recording_id: str) -> keyring.Wrapped | None:
    """The wrapped key; None once it was shredded."""
    query = select(_KEYS.c.key_id, _KEYS.c.wrapped).where(_KEYS.c.recording_id == recording_id)
    row = (await connection.execute(query)).first()
    return None if row is None else keyring.Wrapped(row.key_id, bytes(row.wrapped))


async def hold(tx: store.Transaction, recording_id: str, *, why: str, now_us: int) -> bool:
    """Puts a recording under legal hold; a condemned one is restored by it. False: it is shredded, or not there."""
    change = {"held_us": now_us, "held_why": why}
    open_ = (_TABLE.c.recording_id == recording_id) & (_TABLE.c.state != State.SHREDDED)
    if (await tx.execute(update(_TABLE).where(open_).values(change))).rowcount == 0:
        return False
    await restore(tx, recording_id)
    return True


async def release(tx: store.Transaction, recording_id: str) -> bool:
    """Ends a legal hold. False: there was none."""
    held = (_TABLE.c.recording_id == recording_id) & _TABLE.c.held_us.is_not(None)
    return (await tx.execute(update(_TABLE).where(held).values(held_us=None, held_why=None))).rowcount == 1


async def condemn(tx: store.Transaction, recording_ids: Sequence[str], *, why: str, now_us: int) -> int:
    """Takes stored recordings out of reach; they are shredded after the grace period. Returns how many."""
    change = {"state": State.CONDEMNED, "why": why, "condemned_us": now_us}
    return await _change(tx, recording_ids, _TABLE.c.state == State.STORED, change)


async def restore(tx: store.Transaction, recording_id: str) -> bool:
    """Brings a condemned recording back. False: it is not condemned."""
    change = {"state": State.STORED, "why": None, "condemned_us": None}
    return await _change(tx, [recording_id], _TABLE.c.state == State.CONDEMNED, change, is_held=None) == 1


async def shred(
    tx: store.Transaction, recording_ids: Sequence[str], *, now_us: int, why: str | None = None
) -> list[Recording]:
    """Deletes the keys of recordings that are not held, for good, and what was made of their words (analysis, notes of
    reviewers). Returns these; their files are to be removed."""
    if tx.dialect.name == "sqlite":
        # What is deleted is overwritten with zeros, not just forgotten in a free page.
        await tx.execute(text("PRAGMA secure_delete = ON"))
    gone: list[Recording] = []
    for chunk in statements.chunks(recording_ids):
        open_ = (_TABLE.c.recording_id.in_(chunk), _TABLE.c.state != State.SHREDDED, _TABLE.c.held_us.is_(None))
        some = [_recording(row) for row in await tx.execute(select(*_COLUMNS).where(*open_).with_for_update())]
        ids = [one.recording_id for one in some]
        await tx.execute(delete(_KEYS).where(_KEYS.c.recording_id.in_(ids)))
        change: dict[str, Any] = {"state": State.SHREDDED, "shredded_us": now_us, "analysis": None}
        change |= {"why": why} if why else {}
        await tx.execute(update(_TABLE).where(_TABLE.c.recording_id.in_(ids)).values(change))
        await tx.execute(update(_REVIEWS).where(_REVIEWS.c.recording_id.in_(ids)).values(note=None))
        gone += some
    return gone


async def _change(
    tx: store.Transaction,
    recording_ids: Sequence[str],
    which: ColumnElement[bool],
    change: dict[str, Any],
    *,
    is_held: bool | None = False,
) -> int:
    changed = 0
    for chunk in statements.chunks(recording_ids):
        query = update(_TABLE).where(_TABLE.c.recording_id.in_(chunk), which)
        if is_held is False:
            query = query.where(_TABLE.c.held_us.is_(None))
        changed += (await tx.execute(query.values(change))).rowcount
    return changed


async def aged(connection: store.Connection, before_us: int, *, after: Aged | None = None) -> list[Aged]:
    """A page of stored recordings that began before a time, oldest first, held ones included."""
    query = (
        select(*_COLUMNS, schema.calls.c.route, schema.calls.c.outcome)
        .join(schema.calls, schema.calls.c.call_id == _TABLE.c.call_id, isouter=True)
        .where(_TABLE.c.state == State.STORED, _TABLE.c.started_us < before_us)
        .order_by(_TABLE.c.started_us, _TABLE.c.recording_id)
        .limit(PAGE)
    )
    if after is not None:
        last = after.recording
        query = query.where(tuple_(_TABLE.c.started_us, _TABLE.c.recording_id) > (last.started_us, last.recording_id))
    return [Aged(_recording(row), row[-2], row[-1]) for row in await connection.execute(query)]


async def to_shred(
    connection: store.Connection, *, condemned_before_us: int, refused_before_us: int
) -> list[Recording]:
    """Recordings whose grace is over: condemned, or refused and kept, long enough; none that is held."""
    is_due = or_(
        (_TABLE.c.state == State.CONDEMNED) & (_TABLE.c.condemned_us < condemned_before_us),
        (_TABLE.c.state == State.REFUSED) & (_TABLE.c.created_us < refused_before_us),
    )
    query = select(*_COLUMNS).where(is_due, _TABLE.c.held_us.is_(None)).order_by(_TABLE.c.started_us)
    return [_recording(row) for row in await connection.execute(query)]


async def to_analyse(
    connection: store.Connection, since_us: int, *, node: str | None = None, limit: int = 20
) -> list[Recording]:
    """Stored recordings that began at or after a time and that no command has looked at, oldest first; of one node,
    in whose vault they lie, or of all."""
    query = (
        select(*_COLUMNS)
        .where(_TABLE.c.state == State.STORED, _TABLE.c.started_us >= since_us, _TABLE.c.analysed_us.is_(None))
        .where(true() if node is None else _TABLE.c.node == node)
        .order_by(_TABLE.c.started_us, _TABLE.c.recording_id)
        .limit(limit)
    )
    return [_recording(row) for row in await connection.execute(query)]


async def set_analysis(tx: store.Transaction, recording_id: str, analysis: str | None, *, now_us: int) -> bool:
    """Keeps what a command found (JSON text), None when it gave nothing. False: the recording is not stored any more,
    and nothing was kept of it."""
    stored = (_TABLE.c.recording_id == recording_id) & (_TABLE.c.state == State.STORED)
    change = {"analysis": analysis, "analysed_us": now_us}
    return (await tx.execute(update(_TABLE).where(stored).values(change))).rowcount == 1


async def key_usage(connection: store.Connection) -> dict[str, int]:
    """How many recordings and secrets each key of the ring has wrapped."""
    usage: dict[str, int] = {}
    for table in (_KEYS, _SECRETS):
        for row in await connection.execute(select(table.c.key_id, func.count()).group_by(table.c.key_id)):
            usage[row[0]] = usage.get(row[0], 0) + row[1]
    return dict(sorted(usage.items()))


async def ring_problems(connection: store.Connection, ring: keyring.KeyRing | None) -> dict[str, str]:
    """What a ring cannot open, a sentence by id of the key: to be said at start and by `doctor`. Tries one key of each
    id."""
    problems = {}
    for key_id, count in (await key_usage(connection)).items():
        if ring is None:
            problems[key_id] = f"{count} recordings are locked by key '{key_id}', and there is no key ring"
            continue
        try:
            await _try_one(connection, ring, key_id)
        except keyring.KeyMissing as error:
            problems[key_id] = f"{count} recordings cannot be opened: {error}"
    return problems


async def _try_one(connection: store.Connection, ring: keyring.KeyRing, key_id: str) -> None:
    query = select(_KEYS.c.recording_id, _KEYS.c.wrapped).where(_KEYS.c.key_id == key_id).limit(1)
    if (row := (await connection.execute(query)).first()) is not None:
        ring.unwrap(keyring.Wrapped(key_id, bytes(row.wrapped)), subject(row.recording_id))
        return
    secret = select(_SECRETS.c.name, _SECRETS.c.wrapped).where(_SECRETS.c.key_id == key_id).limit(1)
    if (row := (await connection.execute(secret)).first()) is not None:
        ring.unwrap(keyring.Wrapped(key_id, bytes(row.wrapped)), f"secret:{row.name}")


async def rewrap(tx: store.Transaction, ring: keyring.KeyRing, *, limit: int = PAGE) -> int:
    """Wraps up to `limit` keys, and all secrets, with the current key of the ring; 0 when there are none left.

    Raises KeyMissing: nothing of this batch was changed, if the caller's transaction rolls back.
    """
    done = 0
    for table, column, kind in ((_SECRETS, _SECRETS.c.name, "secret"), (_KEYS, _KEYS.c.recording_id, "recording")):
        query = select(column, table.c.key_id, table.c.wrapped).where(table.c.key_id != ring.current).limit(limit)
        for name, key_id, wrapped in (await tx.execute(query)).all():
            new = ring.rewrap(keyring.Wrapped(key_id, bytes(wrapped)), f"{kind}:{name}")
            change = {"key_id": new.key_id, "wrapped": new.data}
            await tx.execute(update(table).where(column == name).values(change))
            done += 1
    return done


async def secret(tx: store.Transaction, ring: keyring.KeyRing, name: str) -> bytes:
    """A random secret of 32 bytes kept wrapped in the database; made when it is first asked for. Raises KeyMissing."""
    if (found := await known_secret(tx, ring, name)) is not None:
        return found
    wrapped = ring.wrap(vault.new_key(), f"secret:{name}")
    values = {"name": name, "key_id": wrapped.key_id, "wrapped": wrapped.data}
    await statements.insert_new(tx, _SECRETS, [values])
    made = await known_secret(tx, ring, name)
    assert made is not None, "it was inserted above, by us or by another process"
    return made


async def known_secret(connection: store.Connection, ring: keyring.KeyRing, name: str) -> bytes | None:
    """The secret, None when it was never made. Raises KeyMissing."""
    row = (await connection.execute(select(_SECRETS).where(_SECRETS.c.name == name))).first()
    return None if row is None else ring.unwrap(keyring.Wrapped(row.key_id, bytes(row.wrapped)), f"secret:{name}")
