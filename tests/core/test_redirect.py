"""302 on the recorded journal: Asterisk often takes the leg down before its cause is set (seen in one call of six)."""

from __future__ import annotations

import pytest

from gateway.core import calls
from gateway.core.rows import Row
from tests import journals

# What the leg's end bears when Dial was faster.
TAKEN_DOWN = {"hangupcause": "0", "hangupsource": "", "dialstatus": ""}


def _ended(row: Row, data: dict[str, str] | None) -> Row:
    is_end = row.kind == "HANGUP" and row.channel.startswith("PJSIP/redir-")
    return row._replace(data=data) if is_end and data is not None else row


@pytest.mark.parametrize("data", [None, TAKEN_DOWN], ids=["as recorded", "taken down"])
def test_a_redirect_that_is_not_followed_is_busy(data: dict[str, str] | None) -> None:
    facts = calls.fold([_ended(row, data) for row in journals.rows("all_fail")])
    assert facts is not None
    assert (facts.attempts[-1].destination, facts.attempts[-1].outcome) == ("redir", "busy")
