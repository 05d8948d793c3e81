"""`dialmark callbacks list` (R69)."""

from __future__ import annotations

import asyncio
import time

from gateway import store
from gateway.core import book, scriptwire
from gateway.services import callbacks
from tests.cli.conftest import Operator

SITE = book.Site("clinic", "Clinic", "Europe/Moscow", "RU", "ru", "desk")


async def ask(operator: Operator, number: str, *, site: str = "clinic", name: str = "", ago: float = 0) -> None:
    database = await store.Database.open(f"sqlite:///{operator.folder}/dialmark.db")
    taking = callbacks.Callbacks(database, now_us=lambda: round((time.time() - ago) * 1e6))
    asked = scriptwire.Callback(
        site=site, page="abc", visitor=None, lease=None, url="https://clinic.example/contacts", number=number,
        name=name, message="About implants", when="",
    )  # fmt: skip
    await taking.take(asked, SITE)
    await database.close()


def test_who_asked_to_be_called(operator: Operator) -> None:
    """Newest first; a number that is none as it was typed; a name is no formula of a spreadsheet."""
    operator.apply()
    assert operator("callbacks", "list").err.strip() == "Nobody asked to be called."
    asyncio.run(ask(operator, "8 (912) 345-67-89", name="=1+1", ago=60))
    asyncio.run(ask(operator, "12345", site="shop", ago=10))
    asyncio.run(ask(operator, "+74951112233", ago=8 * 86_400))
    first, second = operator("callbacks", "list", "--format", "json").json
    assert (first["site"], first["number"], first["number_raw"]) == ("shop", None, "12345")
    assert (second["number"], second["name"], second["message"], second["source"]) == (
        "+79123456789", "=1+1", "About implants", None,
    )  # fmt: skip
    assert "12345" in operator("callbacks", "list").out
    assert ",'=1+1," in operator("callbacks", "list", "--format", "csv").out
    assert len(operator("callbacks", "list", "--since", "30d", "--format", "json").json) == 3
    assert len(operator("callbacks", "list", "--site", "clinic", "--format", "json").json) == 1
    assert len(operator("callbacks", "list", "--limit", "1", "--format", "json").json) == 1
