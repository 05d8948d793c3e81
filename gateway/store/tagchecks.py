"""What `verify --web` last found wrong on pages, by the numbers that they show: why callers of them gave up (R21)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import delete, select

from gateway import store
from gateway.store import statements, ticketschema

_CHECKS = ticketschema.tag_checks
FRESH_US = 7 * 86_400_000_000
"""An older finding tells nothing any more."""


async def keep(
    tx: store.Transaction, pages: Collection[str], wrong: Mapping[tuple[str, str], str], *, now_us: int
) -> None:
    """Replaces what was known of these pages. `wrong`: what is wrong, by number (E.164 with `+`) and page."""
    for chunk in statements.chunks(sorted(pages)):
        await tx.execute(delete(_CHECKS).where(_CHECKS.c.page.in_(chunk)))
    rows = [
        {"number": number, "page": page, "at_us": now_us, "problem": problem[:500]}
        for (number, page), problem in sorted(wrong.items())
    ]
    await statements.upsert(tx, _CHECKS, rows)


async def problem_of(connection: store.Connection, number: str, at_us: int) -> str | None:
    """What was found wrong with a page that shows this number, within the week before; the latest finding."""
    query = select(_CHECKS.c.problem).where(
        _CHECKS.c.number == number, _CHECKS.c.at_us <= at_us, _CHECKS.c.at_us > at_us - FRESH_US
    )
    return (await connection.execute(query.order_by(_CHECKS.c.at_us.desc()).limit(1))).scalar()
