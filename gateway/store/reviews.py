"""Weekly samples of recordings, to be listened to and judged (R29, R38): which were drawn, and what was found.

A week is ISO 8601: `2026-W47`. A draw is kept, so that asking again for the same week gives the same recordings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import select, update

from gateway import store
from gateway.store import recordings, schema, statements

MIN_SCORE, MAX_SCORE = 1, 5


@dataclass(frozen=True, slots=True)
class Review:
    """One recording drawn for review; `score` 1 to 5, None until somebody listened."""

    recording_id: str
    call_id: str
    week: str
    agent: str
    drawn_us: int
    score: int | None = None
    note: str | None = None
    reviewer: str | None = None
    reviewed_us: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recording that may be drawn: a talk that is stored, of a call that an agent answered."""

    recording_id: str
    call_id: str
    agent: str
    started_us: int
    duration_seconds: float


_TABLE, _RECORDINGS, _CALLS = schema.reviews, schema.recordings, schema.calls
_FIELDS = tuple(field.name for field in fields(Review))
_SELECT = select(*(_TABLE.c[name] for name in _FIELDS))


async def candidates(connection: store.Connection, since_us: int, until_us: int) -> list[Candidate]:
    """What may be drawn of the talks that began in a span, `until_us` not included; by agent, then oldest first."""
    query = (
        select(
            _RECORDINGS.c.recording_id,
            _RECORDINGS.c.call_id,
            _CALLS.c.agent,
            _RECORDINGS.c.started_us,
            _RECORDINGS.c.duration_seconds,
        )
        .join(_CALLS, _CALLS.c.call_id == _RECORDINGS.c.call_id)
        .where(_RECORDINGS.c.state == recordings.State.STORED, _RECORDINGS.c.kind == "talk")
        .where(_RECORDINGS.c.started_us >= since_us, _RECORDINGS.c.started_us < until_us, _CALLS.c.agent.is_not(None))
    )
    found = [Candidate(*row) for row in await connection.execute(query)]
    return sorted(found, key=lambda one: (one.agent, one.started_us, one.recording_id))


async def add(tx: store.Transaction, drawn: Iterable[Review]) -> None:
    """Keeps a draw. A recording that was drawn before keeps its week and what was found."""
    rows = [{name: getattr(review, name) for name in _FIELDS} for review in drawn]
    await statements.insert_new(tx, _TABLE, rows)


async def of_week(connection: store.Connection, week: str, *, agent: str | None = None) -> list[Review]:
    """What was drawn for a week, of one agent or of all; by agent, then in the order of the draw."""
    query = _SELECT.where(_TABLE.c.week == week)
    if agent is not None:
        query = query.where(_TABLE.c.agent == agent)
    found = [Review(*row) for row in await connection.execute(query)]
    return sorted(found, key=lambda review: (review.agent, review.drawn_us, review.recording_id))


async def get(connection: store.Connection, recording_id: str) -> Review | None:
    """The review of a recording; None when it was never drawn."""
    row = (await connection.execute(_SELECT.where(_TABLE.c.recording_id == recording_id))).first()
    return None if row is None else Review(*row)


async def of_recordings(connection: store.Connection, recording_ids: Collection[str]) -> dict[str, Review]:
    """The reviews of these recordings, by recording; those never drawn are absent."""
    found: dict[str, Review] = {}
    for chunk in statements.chunks(sorted(recording_ids)):
        for row in await connection.execute(_SELECT.where(_TABLE.c.recording_id.in_(chunk))):
            found[row.recording_id] = Review(*row)
    return found


async def fill_in(
    tx: store.Transaction, recording_id: str, *, score: int | None, note: str | None, reviewer: str, now_us: int
) -> bool:
    """What somebody found; it replaces what stood there. False: the recording was never drawn.

    Raises ValueError for a score that is not 1 to 5. `reviewer`: `token:<name>` or `cli:<account>`.
    """
    if score is not None and not MIN_SCORE <= score <= MAX_SCORE:
        raise ValueError(f"a score is {MIN_SCORE} to {MAX_SCORE}, not {score}")
    change: dict[str, Any] = {"score": score, "note": note, "reviewer": reviewer, "reviewed_us": now_us}
    return (await tx.execute(update(_TABLE).where(_TABLE.c.recording_id == recording_id).values(change))).rowcount == 1
