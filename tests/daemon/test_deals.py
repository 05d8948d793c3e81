"""The daemon, a CRM that signs its messages, and a caller who is erased: from journal to JSON lines (R14-R16, N14)."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import standardwebhooks

from tests.config import files
from tests.daemon.site import Site
from tests.outgoing import receiver, traffic

CALL = traffic.call_id(1)


@pytest.fixture
async def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Its routing names one source of messages."""
    folder = tmp_path_factory.mktemp("s")
    made = Site(folder, f"sqlite:///{folder}/dialmark.db")
    (folder / "crm.secret").write_text(receiver.SECRET)
    inbound = f'[[inbound]]\nkey = "crm"\nsecret = "file:{folder}/crm.secret"\n'
    await made.apply(f"{files.SMALL}\n{inbound}")
    return made


def write(site: Site, rows: bytes) -> None:
    with (Path(site.folder) / "cel" / "dialmark.csv").open("ab") as journal:
        journal.write(rows)


async def send(site: Site, message_id: str, **said: object) -> tuple[int, Any]:
    """A message as a CRM with a published library sends it."""
    body = json.dumps({"type": "deal.changed", "data": {"call_id": CALL, **said}})
    at = datetime.now(UTC)
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(receiver.SECRET).sign(message_id, at, body),
    }
    url = f"http://127.0.0.1:{site.admin}/api/v1/inbound/crm"
    async with aiohttp.ClientSession() as http, http.post(url, data=body.encode(), headers=headers) as answer:
        return answer.status, await answer.json()


async def until_types(site: Site, *types: str) -> list[dict[str, Any]]:
    await site.until(lambda: [one["type"] for one in site.events()] == list(types), f"events {types}")
    return site.events()


async def test_what_a_crm_says_goes_with_the_call_and_leaves_with_its_caller(site: Site) -> None:
    """Said while the call is up, it is told with its end; said later, by an update; a crash loses nothing."""
    shift = time.time()
    begin, end = (traffic.at(rows, shift + place) for place, rows in enumerate(traffic.begin_and_end(1)))
    known = ("call.started", "call.answered", "call.completed")
    async with site.running():
        assert (await send(site, "m0", qualified=True))[0] == 422
        write(site, begin)
        await until_types(site, *known[:2])
        assert (await send(site, "m1", qualified=True, note="wants implants"))[0] == 200
        write(site, end)
        closing = (await until_types(site, *known))[-1]["data"]
        assert (closing["result"]["qualified"], closing["revision"]) == (True, 2)
        won = {"deal_id": "D-17", "deal_state": "won", "value": "1200.50", "currency": "RUB"}
        assert (await send(site, "m2", **won))[1]["changed"] == 1
        assert (await send(site, "m2", **won))[1]["duplicate"] is True
        updated = (await until_types(site, *known, "call.updated"))[-1]["data"]
        assert (updated["result"]["deal"]["value"], updated["revision"]) == ("1200.50", 3)
        site.kill()
    async with site.running():
        assert (await send(site, "m2", **won))[1]["duplicate"] is True
        assert "D-17, won, 1200.50 RUB" in await site.run("calls", "show", CALL)
        await site.run("erase", updated["caller"]["number"], "--yes")
        shown = json.loads(await site.run("calls", "show", CALL, "--format", "json"))
        assert (shown["result"]["deal"], shown["result"]["note"], shown["result"]["qualified"]) == (None, None, True)
        lines = (site.folder / "events.jsonl").read_text()
        assert "wants implants" not in lines and "D-17" not in lines
        assert [one["type"] for one in site.events()] == [*known, "call.updated"]
        assert (await send(site, "m3", note="again"))[0] == 422
