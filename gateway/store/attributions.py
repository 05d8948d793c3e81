"""Who called, as it was found, call by call: for links of callers with visitors, for leaks, and for looking again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from sqlalchemy import func, select, update

from gateway import store
from gateway.core import leaks, matching, visitors
from gateway.core.attribution import Method
from gateway.store import poolschema, schema, statements

_ATTRIBUTIONS, _LEASES, _CALLS = poolschema.attributions, poolschema.leases, schema.calls

SECOND_US = 1_000_000
MAX_LINKS = 1_000


@dataclass(frozen=True, slots=True)
class Filed:
    """What was found of one call. `number` and `caller` are E.164 with `+`; `due_us`: when to look again."""

    call_id: str
    number: str
    kind: str
    at_us: int
    method: str
    confidence: float
    pool: str | None = None
    caller: str | None = None
    visitor_id: str | None = None
    lease_id: str | None = None
    idle_seconds: float | None = None
    link_confidence: float | None = None
    due_us: int | None = None

    @property
    def match(self) -> matching.Match:
        """As `matching.is_news` compares it."""
        return matching.Match(Method(self.method), self.confidence, self.visitor_id, self.lease_id)


_FIELDS = tuple(field.name for field in fields(Filed))
_values = attrgetter(*_FIELDS)
_SELECT = select(*(_ATTRIBUTIONS.c[name] for name in _FIELDS))


async def keep(tx: store.Transaction, found: Sequence[Filed]) -> None:
    """Writes what was found, over what was found before."""
    await statements.upsert(tx, _ATTRIBUTIONS, [dict(zip(_FIELDS, _values(one), strict=True)) for one in found])


async def of_calls(connection: store.Connection, call_ids: Collection[str]) -> dict[str, Filed]:
    """What was found of these calls."""
    found: dict[str, Filed] = {}
    for chunk in statements.chunks(sorted(set(call_ids))):
        rows = await connection.execute(_SELECT.where(_ATTRIBUTIONS.c.call_id.in_(chunk)))
        found |= {row.call_id: Filed(*row) for row in rows}
    return found


async def due(connection: store.Connection, now_us: int, *, limit: int = 100) -> list[Filed]:
    """Calls that are to be looked at again, the longest due first."""
    query = _SELECT.where(_ATTRIBUTIONS.c.due_us.is_not(None), _ATTRIBUTIONS.c.due_us <= now_us)
    rows = await connection.execute(query.order_by(_ATTRIBUTIONS.c.due_us, _ATTRIBUTIONS.c.call_id).limit(limit))
    return [Filed(*row) for row in rows]


async def settle(tx: store.Transaction, call_ids: Collection[str], due_us: int | None) -> None:
    """These calls are looked at again at `due_us`; None: they are settled."""
    for chunk in statements.chunks(sorted(set(call_ids))):
        await tx.execute(update(_ATTRIBUTIONS).where(_ATTRIBUTIONS.c.call_id.in_(chunk)).values(due_us=due_us))


async def look_again(tx: store.Transaction, numbers: Collection[str], *, now_us: int) -> None:
    """A click came in: calls to these numbers that it may belong to are looked at again, unless they are anyway."""
    since_us = now_us - (matching.CLICK_SECONDS + matching.LATE_BEACON_SECONDS) * SECOND_US
    fresh = (
        _ATTRIBUTIONS.c.number.in_(sorted(set(numbers))),
        _ATTRIBUTIONS.c.at_us >= since_us,
        _ATTRIBUTIONS.c.due_us.is_(None),
    )
    await tx.execute(update(_ATTRIBUTIONS).where(*fresh).values(due_us=now_us))


async def links(connection: store.Connection, caller: str, before_us: int) -> list[visitors.Link]:
    """Calls before a time by which this caller was linked with a visitor, newest first."""
    query = (
        select(_ATTRIBUTIONS.c.visitor_id, _ATTRIBUTIONS.c.link_confidence, _ATTRIBUTIONS.c.at_us)
        .where(_ATTRIBUTIONS.c.caller == caller, _ATTRIBUTIONS.c.at_us < before_us)
        .where(_ATTRIBUTIONS.c.link_confidence.is_not(None), _ATTRIBUTIONS.c.visitor_id.is_not(None))
        .order_by(_ATTRIBUTIONS.c.at_us.desc())
        .limit(MAX_LINKS)
    )
    rows = await connection.execute(query)
    return [visitors.Link(caller, row.visitor_id, row.link_confidence, row.at_us) for row in rows]


async def number_calls(
    connection: store.Connection, pool: str, since_us: int, until_us: int
) -> dict[str, list[leaks.NumberCall]]:
    """Calls to the numbers of a pool, for the leak detector; numbers that nobody called are not in it."""
    table = _ATTRIBUTIONS
    query = select(table.c.number, table.c.at_us, table.c.caller, table.c.idle_seconds, table.c.method).where(
        table.c.pool == pool, table.c.kind == "pool", table.c.at_us >= since_us, table.c.at_us <= until_us
    )
    found: dict[str, list[leaks.NumberCall]] = {}
    for row in await connection.execute(query):
        is_click = row.method == Method.CLICK_TO_CALL.value
        found.setdefault(row.number, []).append(leaks.NumberCall(row.at_us, row.caller, row.idle_seconds, is_click))
    return found


async def latest(
    connection: store.Connection, pool: str, since_us: int, until_us: int, *, limit: int
) -> list[tuple[str, int]]:
    """(number, time) of the latest calls to the numbers of a pool."""
    table = _ATTRIBUTIONS
    query = select(table.c.number, table.c.at_us).where(
        table.c.pool == pool, table.c.kind == "pool", table.c.at_us >= since_us, table.c.at_us < until_us
    )
    rows = await connection.execute(query.order_by(table.c.at_us.desc(), table.c.call_id).limit(limit))
    return [(row.number, row.at_us) for row in rows]


async def forget(tx: store.Transaction, call_ids: Collection[str], pseudonym: str | None) -> list[str]:
    """Takes the caller out of these calls. Returns the visitors who were certain to be that person."""
    theirs: set[str] = set()
    for chunk in statements.chunks(sorted(set(call_ids))):
        of = _ATTRIBUTIONS.c.call_id.in_(chunk)
        linked = select(_ATTRIBUTIONS.c.visitor_id).where(
            of, _ATTRIBUTIONS.c.link_confidence.is_not(None), _ATTRIBUTIONS.c.visitor_id.is_not(None)
        )
        theirs |= set((await tx.execute(linked)).scalars())
        gone: dict[str, Any] = {"caller": pseudonym, "visitor_id": None, "link_confidence": None, "due_us": None}
        await tx.execute(update(_ATTRIBUTIONS).where(of).values(gone))
    return sorted(theirs)


async def naming(connection: store.Connection, visitor_ids: Collection[str]) -> list[str]:
    """Calls whose records may name one of these visitors, as who called or as a candidate."""
    latest_us = matching.LOOKBACK_DAYS * 86_400 * SECOND_US
    found: set[str] = set()
    for chunk in statements.chunks(sorted(set(visitor_ids))):
        named = select(_ATTRIBUTIONS.c.call_id).where(_ATTRIBUTIONS.c.visitor_id.in_(chunk))
        shown = select(_ATTRIBUTIONS.c.call_id).join(_LEASES, _LEASES.c.number == _ATTRIBUTIONS.c.number)
        after = (_ATTRIBUTIONS.c.at_us >= _LEASES.c.issued_us, _LEASES.c.visitor_id.in_(chunk))
        # A lease that has not ended has no end to count from: all calls since.
        until = func.coalesce(_LEASES.c.gone_us + latest_us, _ATTRIBUTIONS.c.at_us)
        found |= set((await connection.execute(named)).scalars())
        found |= set((await connection.execute(shown.where(*after, _ATTRIBUTIONS.c.at_us <= until))).scalars())
    return sorted(found)


@dataclass(frozen=True, slots=True)
class Revised:
    """A record with another attribution."""

    call_id: str
    before: int
    """Its revision until now."""
    record: str
    content_hash: str
    source: str | None
    campaign: str | None
    announced: frozenset[str]
    score: int | None = None
    """By the rules, which may ask for the source."""


async def revise(tx: store.Transaction, revised: Revised, *, now_us: int) -> bool:
    """Puts the record in the place of its last revision. False: somebody was faster, or the person was forgotten."""
    unchanged = (_CALLS.c.call_id == revised.call_id, _CALLS.c.revision == revised.before)
    forgotten = select(schema.forgotten_calls.c.call_id)
    statement = (
        update(_CALLS)
        .where(*unchanged, _CALLS.c.state == "closed", _CALLS.c.call_id.not_in(forgotten))
        .values(
            revision=revised.before + 1,
            record=revised.record,
            content_hash=revised.content_hash,
            source=revised.source,
            campaign=revised.campaign,
            score=revised.score,
            announced=" ".join(sorted(revised.announced)),
            updated_us=now_us,
        )
    )
    return (await tx.execute(statement)).rowcount == 1
