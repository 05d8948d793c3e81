"""`webhooks …`: how receivers are, a test with request and answer, sending again by id, time and target."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway import store
from gateway.senders import webhook
from gateway.store import outbox, targets
from tests.cli.conftest import ROUTING, Operator
from tests.outgoing import receiver
from tests.rig import ports
from tests.store import examples


@contextmanager
def receiving(*orders: receiver.Order) -> Iterator[receiver.Receiver]:
    """A receiver in a thread of its own, since a command has the loop of this one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def make() -> receiver.Receiver:
        made = receiver.Receiver(ports.free_port(), orders=list(orders))
        await made.start()
        return made

    made = asyncio.run_coroutine_threadsafe(make(), loop).result(10)
    try:
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(made.stop(), loop).result(10)
        made.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def routing(folder: Path, url: str) -> str:
    (folder / "crm.secret").write_text(receiver.SECRET)
    return f"""{ROUTING}
[[webhook]]
key = "crm"
url = "{url}"
secret = "file:{folder}/crm.secret"
allow = ["127.0.0.0/8"]
events = ["call.*"]
"""


def filled(operator: Operator, *, dead: int = 0, off: bool = False) -> None:
    """Three events, of which the first were given up."""

    async def fill() -> None:
        database = await store.Database.open(f"sqlite:///{operator.folder}/dialmark.db")
        async with database.begin() as tx:
            await outbox.add(tx, [examples.event(number) for number in range(3)], ["webhook:crm"])
            claimed = await outbox.claim(tx, "webhook:crm", limit=dead, now_us=2**60, lease_us=1)
            for one in claimed:
                await outbox.fail(tx, one, error="answered 500", now_us=1, next_at_us=None)
            if off:
                await targets.save(tx, targets.State("webhook:crm", off_us=examples.NOON, off_reason="answered 410"))
        await database.close()

    asyncio.run(fill())


def test_a_test_shows_request_and_answer(operator: Operator, tmp_path: Path) -> None:
    with receiving(receiver.status(200), receiver.status(500)) as there:
        operator.apply(routing(tmp_path, there.url))
        said = operator("webhooks", "test", "crm")
        assert "webhook-signature: v1," in said.out
        assert "receiver says" in said.out
        assert "done after" in said.out
        assert "answered 500" in operator("webhooks", "test", "webhook:crm", code=1).out
        assert there.wrong == []
        assert receiver.SECRET not in said.out
        kept = operator("webhooks", "deliveries", "crm", "--format", "json").json
        assert [(one["state"], one["status"]) for one in kept] == [("test failed", 500), ("test done", 200)]
        operator("webhooks", "test", "crm", "--dry-run")
        assert len(there.got) == 2


def test_the_list_and_its_exit_code(operator: Operator, tmp_path: Path) -> None:
    operator.apply(routing(tmp_path, "https://crm.example.com/x?secret=1"))
    (row,) = operator("webhooks", "list", "--format", "json").json
    assert (row["target"], row["where"], row["state"]) == ("webhook:crm", "https://crm.example.com/x", "well")
    filled(operator, dead=1, off=True)
    (row,) = operator("webhooks", "list", "--format", "json", code=1).json
    assert (row["state"], row["waiting"], row["dead"], row["last_error"]) == ("switched off", 2, 1, "answered 410")
    assert "in use again" in operator("webhooks", "enable", "crm").out
    operator("webhooks", "enable", "crm", code=1)


def test_the_mails_of_the_settings_are_receivers_too(operator: Operator, tmp_path: Path) -> None:
    """R66: an alarm on its way by mail is no receiver that left the routing file."""
    operator.apply(routing(tmp_path, "https://crm.example.com/"))
    with operator.config.open("a") as file:
        file.write('\n[alerts]\nmail_to = ["it@example.com"]\n[mail]\nhost = "mail.example.com"\n')
    rows = operator("webhooks", "list", "--format", "json").json
    assert [(row["target"], row["state"]) for row in rows] == [("mail:alerts", "well"), ("webhook:crm", "well")]
    waiting(operator, "mail:alerts")
    rows = operator("webhooks", "list", "--format", "json").json
    assert next((row["target"], row["state"], row["waiting"]) for row in rows) == ("mail:alerts", "well", 1)
    assert "Subject: [Dialmark] This is a test" in operator("webhooks", "test", "mail:alerts", "--dry-run").out


def waiting(operator: Operator, target: str) -> None:
    """An event that a receiver has not taken yet."""

    async def fill() -> None:
        database = await store.Database.open(f"sqlite:///{operator.folder}/dialmark.db")
        async with database.begin() as tx:
            await outbox.add(tx, [examples.event(9)], [target])
        await database.close()

    asyncio.run(fill())


def test_sending_again(operator: Operator, tmp_path: Path) -> None:
    operator.apply(routing(tmp_path, "https://crm.example.com/"))
    filled(operator, dead=3)
    assert operator("webhooks", "replay", "crm", code=2).err.count("--dead")
    assert "0 events" in operator("webhooks", "replay", "crm", "--since", "2026-11-01").out
    assert "1 events" in operator("webhooks", "replay", "crm", "--id", examples.event(1).event_id).out
    assert "2 events" in operator("webhooks", "replay", "crm", "--dead").out
    assert "0 events" in operator("webhooks", "replay", "crm", "--until", "2027-01-01").out


def test_a_receiver_that_nobody_knows(operator: Operator, tmp_path: Path) -> None:
    operator.apply(routing(tmp_path, "https://crm.example.com/"))
    assert "Did you mean 'crm'?" in operator("webhooks", "test", "cmr", code=1).err


@pytest.mark.parametrize("_", range(3))
def test_a_secret_that_is_made_is_good(operator: Operator, _: int) -> None:
    assert len(webhook.secrets(operator("webhooks", "secret").out)) == 1
