"""Who was told of a call and how that stands (R32), and what the CRM said of the caller (R89): API and pages."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect

from gateway.core.outgoing import adapters
from gateway.store import outbox, profiles, targets
from gateway.web import auth, parts, told, visitors
from tests.store import examples
from tests.web import material, site
from tests.web.browser import CONTRAST, TOO_WIDE, Opened
from tests.web.listener import Listener, bearer

CALL = material.record(call_id="11111111-2222-4333-8444-555555555555")
CALL_ID = str(CALL["call_id"])
NOW_US = parts.micros(material.NOW)
HOSTILE = "<b onmouseover=alert(1)>rich</b>"
ADMIN = (auth.Scope.CALLS_READ, auth.Scope.VISITORS_READ)


async def filled(listener: Listener) -> None:
    """A call that one service has, one was not told of, and that was given up for a webhook."""
    await listener.store_calls([CALL])
    has = {adapters.STATUS: "done", adapters.STATUS_ID: "4711", adapters.STATUS_TYPE: "call.completed"}
    not_told = {adapters.STATUS: "skipped", adapters.STATUS_NOTE: f"not told {HOSTILE}"}
    async with listener.database.begin() as tx:
        await targets.learn(tx, CALL_ID, "hubspot:sales", has, now_us=NOW_US)
        await targets.learn(tx, CALL_ID, "meta:main", not_told, now_us=NOW_US)
        await outbox.add(tx, [examples.event(call_id=CALL_ID)], ["webhook:crm", "jsonl"])
        (one,) = await outbox.claim(tx, "webhook:crm", limit=1, now_us=2**60, lease_us=1)
        await outbox.fail(tx, one, error="answered 500", now_us=NOW_US, next_at_us=None)
        await profiles.keep(tx, material.CALLER, "hubspot:sales", {"age": "41", "income": HOSTILE}, now_us=NOW_US)
        await profiles.keep(tx, "+79160000000", "hubspot:sales", {"age": "99"}, now_us=NOW_US)


async def get(
    listener: Listener, http: aiohttp.ClientSession, path: str, *scopes: auth.Scope, status: int = 200
) -> Any:
    async with http.get(listener.url + path, headers=bearer(await listener.token(*scopes))) as answer:
        assert answer.status == status, await answer.text()
        return await (answer.json() if path.startswith("/api/") else answer.text())


async def test_how_a_call_stands_at_each_target(listener: Listener, http: aiohttp.ClientSession) -> None:
    """Each row's status kept per call and target."""
    await filled(listener)
    path = f"/api/v1/calls/{CALL_ID}/deliveries"
    found = await get(listener, http, path, auth.Scope.CALLS_READ)
    told.StandingList.model_validate(found)
    stands = {one["target"]: (one["state"], one["external_id"], one["given_up"]) for one in found["deliveries"]}
    assert stands == {
        "hubspot:sales": ("done", "4711", False),
        "jsonl": ("pending", None, False),
        "meta:main": ("skipped", None, False),
        "webhook:crm": ("dead", None, True),
    }
    await get(listener, http, path, auth.Scope.ROUTING_READ, status=403)
    await get(listener, http, path.replace("1", "2"), auth.Scope.CALLS_READ, status=404)


async def test_what_the_crm_said_of_the_caller(listener: Listener, http: aiohttp.ClientSession) -> None:
    """Profile attributes from the CRM (R89)."""
    await filled(listener)
    path = f"/api/v1/calls/{CALL_ID}/attributes"
    found = await get(listener, http, path, auth.Scope.VISITORS_READ)
    told.AttributeList.model_validate(found)
    assert [(one["name"], one["value"]) for one in found["attributes"]] == [("age", "41"), ("income", HOSTILE)]
    await get(listener, http, path, auth.Scope.CALLS_READ, status=403)


async def test_the_record_shows_both_as_text(listener: Listener, http: aiohttp.ClientSession) -> None:
    await filled(listener)
    for path in (f"/calls/{CALL_ID}", f"/fragments/calls/{CALL_ID}"):
        page = await get(listener, http, path, *ADMIN)
        for target in ("hubspot:sales", "meta:main", "webhook:crm"):
            assert f'data-target="{target}"' in page
        assert 'data-target="jsonl"' not in page  # our own file is nobody outside
        assert "4711" in page
        assert "Given up" in page
        assert "<bdi>age</bdi>: <bdi>41</bdi>" in page
        assert HOSTILE not in page
        assert "99" not in page.partition("From the CRM")[2].partition("</div>")[0]
        without = await get(listener, http, path, auth.Scope.CALLS_READ)
        assert "From the CRM" not in without
        assert 'data-target="hubspot:sales"' in without


async def test_a_call_that_nobody_is_told_of_has_no_table(listener: Listener, http: aiohttp.ClientSession) -> None:
    await listener.store_calls([CALL])
    page = await get(listener, http, f"/calls/{CALL_ID}", *ADMIN)
    assert "Told to" not in page
    assert "From the CRM" not in page


async def test_a_visitor_who_surely_is_the_caller_has_their_attributes(
    listener: Listener, http: aiohttp.ClientSession
) -> None:
    """Caller profile (R89): journey, own data, call data at one place."""
    _, visitor, _ = await site.lived(listener)
    async with listener.database.begin() as tx:
        await profiles.keep(tx, site.CALLER, "hubspot:sales", {"age": "41", "income": HOSTILE}, now_us=NOW_US)
    found = await get(listener, http, f"/api/v1/visitors/{visitor.visitor_id}", auth.Scope.VISITORS_READ)
    visitors.VisitorProfile.model_validate(found)
    assert [(one["name"], one["value"]) for one in found["attributes"]] == [("age", "41"), ("income", HOSTILE)]
    page = await get(listener, http, f"/visitors/{visitor.visitor_id}", auth.Scope.VISITORS_READ)
    assert "<dd><bdi>41</bdi></dd>" in page
    assert HOSTILE not in page


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_phone_and_can_be_read(opened: Opened, listener: Listener, width: int, scheme: str) -> None:
    await filled(listener)
    viewport = {"width": width, "height": 800}
    async with opened(listener, color_scheme=scheme, reduced_motion="reduce", viewport=viewport) as watched:
        await watched.log_in()
        await watched.page.goto(f"{listener.url}/calls/{CALL_ID}")
        await expect(watched.page.locator("tr[data-target]")).to_have_count(3)
        assert await watched.page.evaluate(TOO_WIDE) == []
        assert await watched.page.evaluate(CONTRAST) == []
