"""`doctor` on who is told of events: secrets, states, mails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway import store
from gateway.cli import receiver_checks
from gateway.cli.findings import Finding
from gateway.config import settings as reading
from gateway.core import receivers
from gateway.core.outgoing.integration import Auth, Integration, Kind
from gateway.store import targets
from tests.cli.conftest import ROUTING, Operator
from tests.outgoing import receiver

FILES = {"crm.secret": receiver.SECRET, "bus.password": "p", "app.secret": "s", "app.refresh": "r"}


@pytest.fixture
def house(tmp_path: Path) -> receivers.Receivers:
    """One receiver of each kind, with good secrets, and one that is not in use."""
    for name, text in FILES.items():
        write(tmp_path / name, text)
    url = "https://crm.example.com/"
    auth = Auth(None, "app", f"file:{tmp_path}/app.secret", f"file:{tmp_path}/app.refresh")
    return receivers.Receivers(
        webhooks={
            "crm": receivers.Webhook("crm", url, f"file:{tmp_path}/crm.secret"),
            "unused": receivers.Webhook("unused", url, f"file:{tmp_path}/nowhere", enabled=False),
        },
        brokers={"bus": receivers.Broker("bus", "bus", 8883, "x", password=f"file:{tmp_path}/bus.password")},
        integrations={"sales": Integration(key="sales", kind=Kind.AMOCRM, auth=auth)},
        inbound={"deals": receivers.Inbound("deals", "env:DIALMARK_TEST_INBOUND")},
    )


def write(file: Path, text: str, mode: int = 0o640) -> None:
    file.write_text(text)
    file.chmod(mode)


def told(told_of: receivers.Receivers, folder: Path) -> dict[str, Finding]:
    chosen = reading.load(None, {"DIALMARK_EVENTS__TOKENS_DIR": str(folder / "tokens")})
    return {one.check: one for one in receiver_checks.secrets(chosen, told_of)}


def test_all_is_there(house: receivers.Receivers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIALMARK_TEST_INBOUND", raising=False)
    found = told(house, tmp_path)
    assert {check: one.state.value for check, one in found.items()} == {
        "secret of webhook:crm": "ok",
        "secret of inbound:deals": "ok",
        "password of mqtt:bus": "ok",
        "client_secret of amocrm:sales": "ok",
        "refresh_token of amocrm:sales": "ok",
        "tokens of services": "ok",
    }
    assert "not seen from here" in found["secret of inbound:deals"].text


@pytest.mark.parametrize(
    ("name", "text", "mode", "check", "says"),
    [
        ("crm.secret", "whsec_c2hvcnQ=", 0o640, "secret of webhook:crm", "24 to 64 bytes"),
        ("crm.secret", receiver.SECRET, 0o644, "secret of webhook:crm", "others may read"),
        ("bus.password", "", 0o640, "password of mqtt:bus", "is empty"),
        ("app.refresh", None, 0o640, "refresh_token of amocrm:sales", "No such file"),
    ],
)
def test_a_secret_that_will_not_do(
    house: receivers.Receivers, tmp_path: Path, name: str, text: str | None, mode: int, check: str, says: str
) -> None:
    (tmp_path / name).unlink()
    if text is not None:
        write(tmp_path / name, text, mode)
    found = told(house, tmp_path)[check]
    assert (found.state.value, says in found.text) == ("fail", True), found
    assert receiver.SECRET not in found.text + found.advice


def test_an_environment_that_is_seen(
    house: receivers.Receivers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIALMARK_TEST_INBOUND", "secret")
    assert told(house, tmp_path)["secret of inbound:deals"].state.value == "fail"


async def test_receivers_that_take_nothing(house: receivers.Receivers, tmp_path: Path) -> None:
    database = await store.Database.open(f"sqlite:///{tmp_path}/dialmark.db", migrate=True)
    async with database.begin() as tx:
        await targets.save(tx, targets.State("webhook:crm", off_us=1, off_reason="answered 410"))
        await targets.save(tx, targets.State("mqtt:bus", failing_us=1, last_error="not reached"))
        await targets.save(tx, targets.State("webhook:gone", failing_us=1, last_error="not reached"))
    found = await receiver_checks.standing(database, house)
    await database.close()
    assert [(one.check, one.state.value, one.text) for one in found] == [
        ("mqtt:bus", "warn", "fails: not reached"),
        ("webhook:crm", "warn", "is switched off: answered 410"),
    ]


@pytest.mark.parametrize(
    ("written", "states"),
    [
        ({}, []),
        ({"ALERTS__MAIL_TO": "it@example.com"}, ["fail"]),
        ({"ALERTS__TICKETS_MAIL_TO": "it@example.com", "MAIL__HOST": "m"}, ["ok"]),
        (
            {
                "ALERTS__MAIL_TO": "it@example.com",
                "MAIL__HOST": "m",
                "MAIL__SECURITY": "none",
                "MAIL__USERNAME": "x",
            },
            ["warn"],
        ),
    ],
)
def test_mails(written: dict[str, str], states: list[str]) -> None:
    """R66: an alarm by mail needs a server."""
    chosen = reading.load(None, {f"DIALMARK_{name}": text for name, text in written.items()})
    assert [one.state.value for one in receiver_checks.mails(chosen)] == states


def test_doctor_looks_at_all_of_it(operator: Operator, tmp_path: Path) -> None:
    secret = f"file:{tmp_path}/crm.secret"
    operator.apply(f'{ROUTING}\n[[webhook]]\nkey = "crm"\nurl = "https://crm.example.com/"\nsecret = "{secret}"\n')
    with operator.config.open("a") as file:
        file.write('[alerts]\nmail_to = ["it@example.com"]\n')
    found: list[dict[str, Any]] = operator("doctor", "--format", "json", code=1).json
    assert {row["check"]: row["state"] for row in found if row["check"] in ("mails", "secret of webhook:crm")} == {
        "mails": "fail",
        "secret of webhook:crm": "fail",
    }
