"""Receivers of events over HTTP and on their page: state, last deliveries, a test, sending again."""

from __future__ import annotations

import dataclasses
import json
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect

from gateway.core import receivers
from gateway.senders import webhook
from gateway.store import outbox, targets
from tests.outgoing import receiver
from tests.store import examples
from tests.web import material
from tests.web.browser import TOO_WIDE, Opened
from tests.web.listener import Listener, bearer

CRM = "webhook:crm"
HOOKS = "/api/v1/webhooks"


def use(listener: Listener, url: str) -> None:
    """A book with one webhook."""
    described = receivers.Webhook("crm", url, "env:X", ("call.*",), allow=(ip_network("127.0.0.0/8"),))
    told = receivers.Receivers({"crm": described})
    listener.current = dataclasses.replace(material.routing_book(), receivers=told)
    listener.adapter_of = lambda target: (
        webhook.Webhook(described, lambda _: receiver.SECRET) if target == CRM else None
    )


async def fill(listener: Listener) -> None:
    """Three events, of which one was given up and one failed."""
    async with listener.database.begin() as tx:
        await outbox.add(tx, [examples.event(number) for number in range(3)], [CRM])
        first, second = await outbox.claim(tx, CRM, limit=2, now_us=2**60, lease_us=1)
        await outbox.fail(tx, first, error="answered 500", now_us=1, next_at_us=None)
        await outbox.fail(tx, second, error="answered 500", now_us=1, next_at_us=2**61)
        state = targets.State(CRM, off_us=examples.NOON, off_reason="answered 410", last_error="answered 410")
        await targets.save(tx, state)


async def ask(http: aiohttp.ClientSession, listener: Listener, path: str, body: Any = None, **how: Any) -> Any:
    method = how.pop("method", "POST" if body is not None or how.pop("post", False) else "GET")
    token = await listener.token("webhooks:manage")
    async with http.request(
        method, listener.url + path, headers=bearer(token), data=json.dumps(body) if body is not None else None
    ) as answer:
        assert answer.status == how.get("status", 200), await answer.text()
        return await answer.json()


async def test_state_retry_replay_and_enable(idle: Listener, http: aiohttp.ClientSession) -> None:
    use(idle, "https://crm.example.com/x?key=secret")
    await fill(idle)
    async with idle.running():
        (found,) = (await ask(http, idle, HOOKS))["receivers"]
        assert (found["target"], found["where"]) == (CRM, "https://crm.example.com/x")
        assert (found["waiting"], found["dead"], found["off_reason"]) == (2, 1, "answered 410")
        assert await ask(http, idle, f"{HOOKS}/{CRM}/retry", post=True) == {"deliveries": 1}
        assert await ask(http, idle, f"{HOOKS}/{CRM}/replay", {"only_dead": True}) == {"deliveries": 1}
        assert await ask(http, idle, f"{HOOKS}/{CRM}/replay", {"since": "2026-01-01T00:00"}) == {"deliveries": 0}
        wrong_bodies: list[dict[str, Any]] = [{}, {"since": "soon"}, {"idz": []}]
        for wrong in wrong_bodies:
            await ask(http, idle, f"{HOOKS}/{CRM}/replay", wrong, status=400)
        (found,) = (await ask(http, idle, f"{HOOKS}/{CRM}/enable", post=True))["receivers"]
        assert found["off_since"] is None
        await ask(http, idle, f"{HOOKS}/webhook:none/retry", post=True, status=404)
        await ask(http, idle, f"{HOOKS}/webhook:none/deliveries", status=404)


async def test_the_mails_of_the_settings_are_receivers_too(idle: Listener, http: aiohttp.ClientSession) -> None:
    """R66: they stand in no routing file, and are in use."""
    use(idle, "https://crm.example.com/")
    idle.targets = ("jsonl", "mail:alerts", CRM)
    async with idle.running():
        found = (await ask(http, idle, HOOKS))["receivers"]
        assert [(one["target"], one["enabled"]) for one in found] == [("mail:alerts", True), (CRM, True)]
        assert await ask(http, idle, f"{HOOKS}/mail:alerts/retry", post=True) == {"deliveries": 0}


async def test_a_test_is_kept_with_request_and_answer(idle: Listener, http: aiohttp.ClientSession) -> None:
    async with receiver.running(orders=[receiver.status(500)], now_us=_now(idle)) as there:
        use(idle, there.url)
        async with idle.running():
            tested = await ask(http, idle, f"{HOOKS}/{CRM}/test", post=True)
            assert (tested["state"], tested["status"], tested["is_test"]) == ("failed", 500, True)
            (kept,) = (await ask(http, idle, f"{HOOKS}/{CRM}/deliveries"))["deliveries"]
            assert kept == tested
            assert "webhook-signature" in kept["request"]
            assert kept["response"].endswith("receiver says")
            assert receiver.SECRET not in json.dumps(kept)
        assert there.wrong == []


def _now(listener: Listener) -> Any:
    return lambda: int(listener.clock.now.timestamp() * 1_000_000)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", HOOKS), ("POST", f"{HOOKS}/{CRM}/test"), ("POST", f"{HOOKS}/{CRM}/replay")]
)
async def test_it_needs_its_own_scope(listener: Listener, http: aiohttp.ClientSession, method: str, path: str) -> None:
    token = await listener.token("calls:read", "routing:read", "metrics:read")
    async with http.request(method, listener.url + path, headers=bearer(token)) as answer:
        assert answer.status == 403


async def test_the_page_with_its_test_button(idle: Listener, opened: Opened) -> None:
    hostile = "<script>document.title='owned'</script>"
    async with receiver.running(orders=[_says(hostile)], now_us=_now(idle)) as there:
        use(idle, there.url)
        async with idle.running(), opened(idle) as watched:
            page = watched.page
            await watched.log_in()
            await page.get_by_role("link", name="Receivers").click()
            await expect(page.locator("tr[data-target]")).to_contain_text("Well")
            await expect(page.get_by_text("Nothing was delivered yet.")).to_be_visible()
            await page.get_by_role("button", name="Send a test").click()
            row = page.locator("tr.delivery")
            await expect(row).to_contain_text("Test")
            await expect(row).to_contain_text("done 200")
            await row.get_by_text("Show").click()
            await expect(row.locator("pre").nth(1)).to_contain_text(hostile)
            assert await page.title() == "Receivers · Dialmark"
            for width in (1280, 390):
                await page.set_viewport_size({"width": width, "height": 900})
                assert await page.evaluate(TOO_WIDE) == []
        assert len(there.got) == 1


def _says(text: str) -> receiver.Order:
    from aiohttp import web

    return lambda _: web.Response(status=200, text=text)


async def test_schemas_of_events_are_served(listener: Listener, http: aiohttp.ClientSession) -> None:
    headers = bearer(await listener.token("calls:read"))
    async with http.get(listener.url + "/api/v1/events/v1", headers=headers) as answer:
        known = (await answer.json())["events"]
    for event_type, address in known.items():
        async with http.get(listener.url + address, headers=headers) as answer:
            assert answer.status == 200
            assert json.loads(await answer.text())["title"] == event_type
    async with http.get(listener.url + "/api/v1/events/v1/no.such", headers=headers) as answer:
        assert answer.status == 404
