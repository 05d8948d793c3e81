"""The same commands on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import replaying
from gateway.core.rows import Row
from tests import journals
from tests.cli.conftest import ROUTING, Operator


def test_an_operators_day(operator: Operator, database_url: str, tmp_path: Path) -> None:
    operator.use(database_url)
    operator.apply()
    operator.apply(ROUTING.replace("Radio", "Wireless"))
    assert "Revision 3 applied" in operator("routing", "rollback", 1).out

    operator("token", "add", "crm", "--scope", "calls:read")
    assert operator("token", "list", "--format", "json").json[0]["name"] == "crm"

    operator.write_journal("answered_agent_ends", "busy_then_reserve", "hostile")
    assert "3 new" in operator("replay", operator.journal, "--write").out
    records = operator("calls", "list", "--format", "json").json
    assert len(records) == 3
    assert operator("calls", "show", records[0]["call_id"][:8], "--format", "json").json == records[0]
    assert len(operator("calls", "export").lines) == 3
    assert operator("verify").lines[0].startswith("0 of 3 missing, 0 doubled, 0 invented")
    assert operator("explain", "+74990000001", "--format", "json").json["plan"]["revision"] == 3
    assert operator("numbers", "list", "--format", "json").json[0]["number"] == "+74990000001"


def test_calls_are_let_go_of_while_a_journal_is_replayed() -> None:
    """Memory follows the calls that were up at one time: a call comes out before the next hour's begins."""
    one = journals.rows("answered_agent_ends")
    hour_us = 3_600_000_000
    many = [
        row._replace(
            at_us=row.at_us + number * hour_us,
            unique_id=f"{row.unique_id}{number}",
            linked_id=f"{row.linked_id}{number}",
        )
        for number in range(50)
        for row in one
    ]
    read = 0

    def journal() -> Iterator[Row]:
        nonlocal read
        for row in many:
            read += 1
            yield row

    places = [read for _ in replaying.groups(journal())]
    assert len(places) == 50
    assert places[:48] == pytest.approx([(number + 1) * len(one) + 1 for number in range(48)], abs=1)
