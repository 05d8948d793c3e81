"""`dialmark tickets …` beside a daemon that is not there (R18, R37)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway import store
from gateway.cli import tickets as command
from gateway.core import tickets
from gateway.services import ticketkeeping
from tests.cli.conftest import ROUTING, Operator
from tests.core.test_tickets import HOUR, NOON, blank


async def open_tickets(operator: Operator, *facts: dict[str, Any]) -> None:
    database = await store.Database.open(f"sqlite:///{operator.folder}/dialmark.db")
    for place, one in enumerate(facts):
        async with database.begin() as tx:
            fixed = {"number": 0, "ticket_id": f"t{place}", "caller": f"+7916123450{place}", "node": "main"}
            made = await ticketkeeping.add_new(
                tx, blank(NOON + place * HOUR, **(fixed | one)), tickets.Terms(), targets=(), now_us=NOON
            )
            assert made is not None
    await database.close()


def test_the_words_are_those_of_the_core() -> None:
    """They are written out, since importing them would take a fifth of a second."""
    assert set(command.STATES) == {*tickets.State, "all"}
    assert set(command.RESULTS) == set(tickets.BY_HAND)


def test_list_show_and_what_people_do(operator: Operator) -> None:
    operator.apply(f'[[agent]]\nkey = "anna"\nname = "Anna"\n{ROUTING}')
    assert operator("tickets", "list").err.strip() == "Nobody waits to be called back."
    hostile = {"caller_name": "=1+1\x1b[2J", "owner": "anna", "source": "radio"}
    request = {"kind": tickets.Kind.REQUEST, "caller": None, "request": {"number_raw": "12-34"}}
    asyncio.run(open_tickets(operator, hostile, request))
    second, first = operator("tickets", "list", "--format", "json").json
    assert (first["number"], first["caller"], first["owner"], first["state"]) == (1, "+79161234500", "anna", "open")
    assert (second["number"], second["caller"], second["kind"]) == (2, "12-34", "request")
    table = operator("tickets", "list").out
    assert "+79161234500" in table and "\x1b" not in table
    assert ",'=1+1" in operator("tickets", "list", "--format", "csv").out
    assert len(operator("tickets", "list", "--owner", "anna", "--format", "json").json) == 1
    assert len(operator("tickets", "list", "--caller", "+7 916 123-45-00", "--format", "json").json) == 1
    assert "anna's now" in operator("tickets", "assign", "2", "anna").out
    assert "nobody's now" in operator("tickets", "assign", "2").out
    operator("tickets", "note", "2", "wants a price")
    assert "attempt 1 of 2, open" in operator("tickets", "attempt", "2").out
    assert "attempt 2 of 2, closed" in operator("tickets", "attempt", "2", "--reached", "--note", "talked").out
    operator("tickets", "close", "1", "--result", "unwanted", "--note", "spam")
    assert "open again" in operator("tickets", "reopen", "1").out
    assert [one["number"] for one in operator("tickets", "list", "--state", "closed", "--format", "json").json] == [2]
    shown = operator("tickets", "show", "2", "--format", "json").json
    assert (shown["result"], shown["attempts"]) == ("called_back", 2)
    assert [one["what"] for one in shown["history"]] == [
        "opened",
        "assigned",
        "assigned",
        "noted",
        "attempted",
        "attempted",
        "closed",
    ]
    assert all(one["actor"].startswith(("user:", "system")) for one in shown["history"])
    text = operator("tickets", "show", "2").out
    assert "State:          closed (called_back)" in text and "wants a price" in text


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "7"), 1, "there is no ticket 7"),
        (("note", "7", "x"), 1, "there is no ticket 7"),
        (("assign", "1", "nobody"), 1, "there is no agent 'nobody'"),
        (("reopen", "1"), 1, "the ticket is open"),
        (("note", "1", "  "), 1, "the note is empty"),
        (("close", "1", "--result", "called_again"), 2, "there is no result"),
        (("list", "--state", "lost"), 2, "there is no state"),
        (("list", "--caller", "x"), 2, "is not a number"),
        (("show", "0"), 2, "TICKET"),
    ],
)
def test_what_cannot_be_done_is_said(operator: Operator, arguments: tuple[str, ...], code: int, said: str) -> None:
    operator.apply()
    asyncio.run(open_tickets(operator, {}))
    done = operator("tickets", *arguments, code=code)
    assert said in done.err
