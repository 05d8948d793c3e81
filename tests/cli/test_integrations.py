"""`integrations try`: what a service would be told of a call, without telling it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway import store
from gateway.core.outgoing import adapters
from gateway.store import outbox, targets
from tests.cli.conftest import ROUTING, Operator
from tests.store import examples

CALL = "answered_caller_ends"


def routing(folder: Path, more: str = "") -> str:
    (folder / "token").write_text("t0ken")
    return f"""{ROUTING}
[[integration]]
key = "main"
kind = "ga4"
measurement_id = "G-ABC123DEF4"
api_secret = "file:{folder}/token"

[[integration]]
key = "sales"
kind = "pipedrive"
token = "file:{folder}/token"
address = "http://127.0.0.1:9"
allow = ["127.0.0.0/8"]
{more}"""


@pytest.fixture
def call_id(operator: Operator) -> str:
    operator.apply(routing(operator.folder))
    operator.write_journal(CALL)
    operator.track()
    (call,) = operator("calls", "list", "--format", "json").json
    return str(call["call_id"])


def test_why_nothing_would_be_sent(operator: Operator, call_id: str) -> None:
    """Each only with the consent it needs."""
    said = operator("integrations", "try", "ga4:main", call_id)
    assert said.lines == ["no client_id: no visitor, or no consent"]


def test_a_crm_that_cannot_be_asked_is_a_problem(operator: Operator, call_id: str) -> None:
    said = operator("integrations", "try", "pipedrive:sales", call_id, code=1)
    assert said.lines[0].startswith("GET /persons/search?term=+")
    assert said.lines[-1].startswith("not reached")
    assert "t0ken" not in said.out
    assert "not reached" in operator("integrations", "try", "pipedrive:sales", call_id, "--ringing", code=1).out


def test_a_service_that_has_no_check_says_so(operator: Operator, call_id: str) -> None:
    said = operator("integrations", "try", "ga4:main", call_id, "--check", code=1)
    assert said.lines == ["no client_id: no visitor, or no consent"]
    assert "no check of its own" in operator("integrations", "try", "pipedrive:sales", call_id, "--check", code=2).err


def test_what_a_service_must_know_first(operator: Operator, call_id: str) -> None:
    assert operator("integrations", "prepare", "ga4:main").lines == ["ga4:main need not be told anything."]
    metrica = f"""
[[integration]]
key = "m"
kind = "metrica"
counter_id = "98765"
token = "file:{operator.folder}/token"
address = "http://127.0.0.1:9"
allow = ["127.0.0.0/8"]
"""
    operator.apply(routing(operator.folder, metrica))
    assert "metrica:m: not reached" in operator("integrations", "prepare", "metrica:m", code=1).err


def test_who_was_told_of_a_call(operator: Operator, call_id: str) -> None:
    """Each row's status is kept per call and target, and to be seen."""

    async def tell() -> None:
        database = await store.Database.open(f"sqlite:///{operator.folder}/dialmark.db")
        async with database.begin() as tx:
            known = {adapters.STATUS: "skipped", adapters.STATUS_NOTE: "no consent to advertising"}
            await targets.learn(tx, call_id, "meta:main", known, now_us=1_790_000_000_000_000)
            await outbox.add(tx, [examples.event(call_id=call_id)], ["webhook:crm"])
            (one,) = await outbox.claim(tx, "webhook:crm", limit=1, now_us=2**60, lease_us=1)
            await outbox.fail(tx, one, error="answered 500", now_us=1, next_at_us=None)
        await database.close()

    asyncio.run(tell())
    said = operator("integrations", "status", call_id, "--format", "json", code=1).json
    rows = {row["target"]: row for row in said}
    assert (rows["meta:main"]["state"], rows["meta:main"]["note"]) == ("skipped", "no consent to advertising")
    assert rows["meta:main"]["at"] == "2026-09-21T14:13:20.000Z"
    assert (rows["webhook:crm"]["given_up"], rows["webhook:crm"]["note"]) == (True, "answered 500")
    assert "no consent to advertising" in operator("integrations", "status", call_id, code=1).out
    assert "no call 'nothing'" in operator("integrations", "status", "nothing", code=1).err


def test_what_was_said_of_the_call_is_told_too(operator: Operator, call_id: str) -> None:
    """R90: what would be sent has the deal of later."""
    operator("deals", "import", str(_deal(operator.folder, call_id)))
    assert operator("integrations", "try", "ga4:main", call_id).lines == ["marked as spam"]


def _deal(folder: Path, call_id: str) -> Path:
    path = folder / "deals.csv"
    path.write_text(f"call_id,spam\n{call_id},yes\n")
    return path


def test_what_is_not_there_is_named(operator: Operator, call_id: str) -> None:
    assert "but ga4:main, pipedrive:sales" in operator("integrations", "try", "ga4:mian", call_id, code=1).err
    assert "no call 'nothing'" in operator("integrations", "try", "ga4:main", "nothing", code=1).err


def test_the_difference_names_an_integration(operator: Operator) -> None:
    operator.apply()
    said = operator.apply(routing(operator.folder, "dry_run = true"), "--dry-run")
    assert "integration main: ga4" in said.out
    assert "integration sales: pipedrive, dry run" in said.out


def test_the_secret_itself_is_refused(operator: Operator) -> None:
    text = routing(operator.folder).replace(f'"file:{operator.folder}/token"', '"t0ken"')
    operator.routing.write_text(text, encoding="utf-8")
    said = operator("apply", operator.routing, code=1)
    assert "not the secret itself" in said.err + said.out
    assert json.dumps("t0ken") not in said.err + said.out
