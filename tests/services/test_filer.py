"""What is written of a batch's calls when persons were erased meanwhile (N14, R48)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import store
from gateway.store import attributions, forgetting, keyring
from tests import journals
from tests.services.clinic import SECOND, Clinic
from tests.services.desk import Desk

CALL = "answered_caller_ends"
"""A call of +74951112233 to +74990000001."""
CALLER = "+74951112233"
RING = keyring.parse(keyring.new_line("2026-11"))


@pytest.mark.parametrize("restarts", [False, True])
async def test_who_was_erased_is_nobodys_visitor(database: store.Database, tmp_path: Path, restarts: bool) -> None:
    """The rest of the call comes after the erasure: neither the record nor what is kept beside it names the visitor."""
    clinic = Clinic(database, now_us=journals.rows(CALL)[0].at_us - 60 * SECOND)
    visitor = await clinic.open()
    desk = Desk(database, tmp_path, routing_book=clinic.book, ring=RING)
    rows = journals.content(CALL).splitlines(keepends=True)
    desk.write(b"".join(rows[:6]))
    await desk.read()
    assert (await desk.record())["attribution"]["visitor_id"] == visitor.visitor_id is not None
    async with database.begin() as tx:
        stone = await forgetting.bury(tx, RING, CALLER, now_us=desk.now_us)
        stored = await forgetting.calls_of(tx, CALLER)
        await forgetting.forget(tx, stored, stone.pseudonym, why=forgetting.ERASURE, now_us=desk.now_us)
    if restarts:
        desk.crash()
    desk.write(b"".join(rows[6:]))
    await desk.read()
    record = await desk.record()
    assert (record["state"], record["caller"]["number"]) == ("closed", stone.pseudonym)
    found = record["attribution"]
    assert (found["visitor_id"], found["lease_id"], found["candidates"]) == (None, None, [])
    async with database.read() as connection:
        assert await attributions.links(connection, CALLER, 2**60) == []
        kept = await attributions.of_calls(connection, [record["call_id"]])
    assert [(one.caller, one.visitor_id) for one in kept.values()] == [(stone.pseudonym, None)]
