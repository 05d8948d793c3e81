"""Callers for audiences (R11, R12), and when an audience was last exported.

An audience of few days reads the calls of these days (`of_few_days`) and no others. One that reaches back further walks
the index of callers (`next_callers`), page by page in their order, so that a million take the memory of a thousand.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, and_, case, exists, false, func, or_, select, true, tuple_

from gateway import store
from gateway.core import audiences
from gateway.core.outgoing import told
from gateway.store import dealschema, poolschema, schema

EXPORTED = "audience.exported"
"""The action in the audit chain."""

FEW = 100_000
"""Calls since the audience begins up to which they are read by time. Their callers are held at once: 10 MB."""
PIECE = 1_000
"""Calls read at once: some ms of the loop."""

_CALLS, _AUDIT, _RESULTS = schema.calls, schema.audit, dealschema.call_results
_SAID = _RESULTS.alias()
_ATTRIBUTIONS, _VISITORS = poolschema.attributions, poolschema.visitors


@dataclass(frozen=True, slots=True)
class Export:
    """An export as the audit has it."""

    at_us: int
    actor: str
    people: int


def subject(key: str) -> str:
    """An audience in the audit chain."""
    return f"audience:{key}"


async def of_few_days(
    connection: store.Connection, audience: audiences.Audience, *, since_us: int
) -> tuple[list[str], int] | None:
    """Callers with a call that the audience asks for, by their first one, and how many such calls have no number. None:
    there were more than `FEW` calls since then; see `next_callers`."""
    some = select(_CALLS.c.started_us).where(_CALLS.c.started_us >= since_us).limit(FEW + 1).subquery()
    if (await connection.execute(select(func.count()).select_from(some))).scalar_one() > FEW:
        return None
    place = tuple_(_CALLS.c.started_us, _CALLS.c.call_id)
    query = select(_CALLS.c.started_us, _CALLS.c.call_id, _CALLS.c.caller).where(*_asked(audience))
    query = query.order_by(_CALLS.c.started_us, _CALLS.c.call_id).limit(PIECE)
    # A dictionary keeps its order; to sort so many would hold the loop up.
    found: dict[str, None] = {}
    without_number = 0
    after: tuple[int, str] | None = (since_us, "")
    while after is not None:
        rows = (await connection.execute(query.where(place > after))).all()
        found.update((row.caller, None) for row in rows if row.caller is not None)
        without_number += sum(row.caller is None for row in rows)
        after = (rows[-1].started_us, rows[-1].call_id) if len(rows) == PIECE else None
    return list(found), without_number


async def next_callers(
    connection: store.Connection, audience: audiences.Audience, *, since_us: int, after: str, limit: int
) -> list[str]:
    """The next callers with a call that the audience asks for, behind the number `after`, by number."""
    query = (
        select(_CALLS.c.caller)
        # A sum keeps the engines from the index of times, in whose order pages cannot be read.
        .where(_CALLS.c.started_us + 0 >= since_us, *_asked(audience), _CALLS.c.caller > after)
        .group_by(_CALLS.c.caller)
        .order_by(_CALLS.c.caller)
        .limit(limit)
    )
    return list((await connection.execute(query)).scalars())


async def without_number(connection: store.Connection, audience: audiences.Audience, *, since_us: int) -> int:
    """Calls that the audience asks for of which nobody knows the number: anonymous, or forgotten since."""
    query = select(func.count()).select_from(_CALLS)
    query = query.where(_CALLS.c.caller.is_(None), _CALLS.c.started_us >= since_us, *_asked(audience))
    return (await connection.execute(query)).scalar_one()


async def known(connection: store.Connection, callers: Sequence[str], *, since_us: int) -> list[audiences.Caller]:
    """What is known of these callers, in their order. Marks of bans by the list in force are the caller's to add."""
    if not callers:
        return []
    histories = await _histories(connection, callers, since_us)
    said = await _said(connection, callers)
    reached = await _called_back(connection, callers, since_us)
    marks = await _marks(connection, [one for one in callers if said.get(one)])
    return [
        replace(
            history,
            has_talked=history.has_talked or one in reached,
            said=said.get(one, frozenset()),
            **marks.get(one, {}),
        )
        for one in callers
        # Without one: erased since their number was read.
        if (history := histories.get(one)) is not None
    ]


def _asked(audience: audiences.Audience) -> list[ColumnElement[bool]]:
    # Joined texts keep the engines from other indexes than those that callers and times are read by.
    found = [_CALLS.c.direction == "inbound", _CALLS.c.state == "closed"]
    if audience.who is audiences.Who.NOT_CONNECTED:
        found.append(_CALLS.c.missed)
    elif audience.who is audiences.Who.CONNECTED:
        found.append(_CALLS.c.outcome + "" == "answered")
    for column, keys in (
        (_CALLS.c.site, audience.sites),
        (_CALLS.c.route, audience.routes),
        (_CALLS.c.source, audience.sources),
        (_CALLS.c.campaign, audience.campaigns),
        (_CALLS.c.outcome, audience.outcomes),
    ):
        if keys:
            found.append((column + "").in_(keys))
    if audience.times is audiences.Times.FIRST:
        found.append(_CALLS.c.calls_before == 0)
    elif audience.times is audiences.Times.REPEAT:
        found.append(_CALLS.c.calls_before > 0)
    if audience.tags:
        found.append(or_(*(_tagged(tag) for tag in audience.tags)))
    if audience.min_talk_seconds:
        found.append(_CALLS.c.talk_seconds >= audience.min_talk_seconds)
    return found


async def _histories(
    connection: store.Connection, callers: Sequence[str], since_us: int
) -> Mapping[str, audiences.Caller]:
    talked = and_(_CALLS.c.outcome == "answered", _CALLS.c.started_us >= since_us)
    query = (
        select(
            _CALLS.c.caller,
            func.max(case((talked, 1), else_=0)).label("talked"),
            func.max(case((_CALLS.c.outcome == "banned", 1), else_=0)).label("banned"),
        )
        .where(_CALLS.c.caller.in_(callers), _CALLS.c.direction == "inbound")
        .group_by(_CALLS.c.caller)
    )
    return {
        row.caller: audiences.Caller(row.caller, has_talked=bool(row.talked), was_banned=bool(row.banned))
        for row in await connection.execute(query)
    }


async def _called_back(connection: store.Connection, callers: Sequence[str], since_us: int) -> Collection[str]:
    query = select(_CALLS.c.did).where(
        _CALLS.c.did.in_(callers),
        _CALLS.c.direction == "outbound",
        _CALLS.c.started_us >= since_us,
        # Joined, or SQLite would read all answered calls for each page.
        _CALLS.c.outcome + "" == "answered",
    )
    return set((await connection.execute(query.distinct())).scalars())


async def _said(connection: store.Connection, callers: Sequence[str]) -> dict[str, frozenset[str]]:
    """What their visits say of advertising."""
    query = (
        select(_ATTRIBUTIONS.c.caller, _VISITORS.c.variables)
        .join(_VISITORS, _VISITORS.c.visitor_id == _ATTRIBUTIONS.c.visitor_id)
        .where(_ATTRIBUTIONS.c.caller.in_(callers), _ATTRIBUTIONS.c.confidence >= told.SURE)
        .distinct()
    )
    found: dict[str, frozenset[str]] = {}
    for row in await connection.execute(query):
        word = str(json.loads(row.variables).get(told.AD_CONSENT, ""))
        found[row.caller] = found.get(row.caller, frozenset()) | {word}
    return found


async def _marks(connection: store.Connection, callers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What any call of theirs says against them, as fields of `Caller`. Records are long: asked only of those who might
    leave. That a call is no spam after all, as a person or the CRM said, outweighs a rule."""
    if not callers:
        return {}
    record = _CALLS.c.record
    by_rule = and_(record.contains('"spam":true'), _RESULTS.c.spam.is_not(false()))
    marks = {
        "refused_recording": record.contains('"result":"refused"'),
        "is_spam": or_(_RESULTS.c.spam.is_(true()), by_rule, _tagged("spam")),
        "is_test": _tagged("test"),
    }
    query = (
        select(_CALLS.c.caller, *(func.max(case((mark, 1), else_=0)).label(name) for name, mark in marks.items()))
        .select_from(_CALLS.outerjoin(_RESULTS, _RESULTS.c.call_id == _CALLS.c.call_id))
        .where(_CALLS.c.caller.in_(callers), _CALLS.c.direction == "inbound")
        .group_by(_CALLS.c.caller)
    )
    return {row.caller: {name: bool(getattr(row, name)) for name in marks} for row in await connection.execute(query)}


def _tagged(tag: str) -> ColumnElement[bool]:
    """By a rule or by what was said afterwards. Both are written without blanks between their parts."""
    written = json.dumps(tag, ensure_ascii=False)
    return or_(
        _CALLS.c.record.contains(f'"tag":{written}', autoescape=True),
        exists().where(_SAID.c.call_id == _CALLS.c.call_id, _SAID.c.tags.contains(written, autoescape=True)),
    )


async def last_exports(connection: store.Connection) -> dict[str, Export]:
    """The last export of each audience that was ever exported, by key."""
    newest = select(func.max(_AUDIT.c.seq)).where(_AUDIT.c.action == EXPORTED).group_by(_AUDIT.c.subject)
    query = select(_AUDIT.c.subject, _AUDIT.c.at_us, _AUDIT.c.actor, _AUDIT.c.details).where(_AUDIT.c.seq.in_(newest))
    return {
        row.subject.removeprefix("audience:"): Export(row.at_us, row.actor, int(json.loads(row.details)["people"]))
        for row in await connection.execute(query)
    }
