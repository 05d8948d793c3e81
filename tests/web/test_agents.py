"""Agents over HTTP and on their page: who is on break, the switch, the click that calls back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect

from gateway.core.callingback import Refusal
from gateway.services import callingback
from gateway.store import agents, audit, tickets
from tests.core import test_callingback as examples
from tests.web.browser import TOO_WIDE, Opened
from tests.web.listener import Listener, bearer

AGENTS = "/api/v1/agents"


async def ask(
    listener: Listener, http: aiohttp.ClientSession, path: str, body: Any = None, *scopes: str
) -> tuple[int, Any]:
    headers = bearer(await listener.token(*(scopes or ("calls:read", "agents:manage", "calls:make"))))
    method = "GET" if body is None else "POST"
    async with http.request(method, listener.url + path, headers=headers, json=body) as answer:
        return answer.status, await answer.json()


async def audited(listener: Listener) -> list[tuple[str, str]]:
    async with listener.database.read() as connection:
        return [(entry.action, entry.subject) for entry in await audit.entries(connection)]


async def test_the_switch_by_api(listener: Listener, http: aiohttp.ClientSession) -> None:
    status, found = await ask(listener, http, AGENTS)
    assert status == 200
    assert [(one["agent"], one["on_break"], one["since"]) for one in found["agents"]] == [
        ("anna", False, None),
        ("boris", False, None),
    ]
    status, anna = await ask(listener, http, f"{AGENTS}/anna/break", {"on_break": True})
    assert (status, anna["on_break"], anna["by"]) == (200, True, "token:token 2")
    async with listener.database.read() as connection:
        assert await agents.on_break(connection) == {"anna"}
    listener.clock.pass_by(seconds=5)
    _, anna = await ask(listener, http, f"{AGENTS}/anna/break", {"on_break": False})
    assert anna["on_break"] is False
    assert await audited(listener) == [("agent.break", "agent:anna"), ("agent.back", "agent:anna")]


@pytest.mark.parametrize(
    ("path", "body", "scope", "status", "slug"),
    [
        (f"{AGENTS}/nobody/break", {"on_break": True}, "agents:manage", 404, "agent-not-found"),
        (f"{AGENTS}/anna/break", {"on_break": True}, "calls:read", 403, "missing-scope"),
        (f"{AGENTS}/anna/break", {"on_break": "yes"}, "agents:manage", 400, "invalid-body"),
        ("/api/v1/tickets/12/call", {"agent": "anna"}, "agents:manage", 403, "missing-scope"),
        ("/api/v1/tickets/12/call", {"agent": "anna"}, "calls:make", 503, "asterisk-unreachable"),
        ("/api/v1/tickets/0/call", {"agent": "anna"}, "calls:make", 404, "not-found"),
        ("/api/v1/tickets/1234567890/call", {"agent": "anna"}, "calls:make", 404, "not-found"),
    ],
)
async def test_what_is_refused(
    listener: Listener, http: aiohttp.ClientSession, path: str, body: Any, scope: str, status: int, slug: str
) -> None:
    found, problem = await ask(listener, http, path, body, scope)
    assert (found, problem["type"]) == (status, f"urn:dialmark:problem:{slug}")
    assert await audited(listener) == []


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (None, 200, ""),
        (callingback.Refused(Refusal.BUSY), 409, "callback-refused"),
        (LookupError("anna"), 404, "agent-not-found"),
        (ConnectionError("off"), 503, "asterisk-unreachable"),
    ],
)
async def test_a_click(
    idle: Listener, http: aiohttp.ClientSession, error: Exception | None, status: int, slug: str
) -> None:
    """Every click is in the audit, carried out or not."""
    clicked: list[tuple[int, str]] = []

    async def click(ticket: int, agent: str) -> None:
        clicked.append((ticket, agent))
        if error is not None:
            raise error

    idle.click = click
    async with idle.running():
        found, said = await ask(idle, http, "/api/v1/tickets/12/call", {"agent": "anna"}, "calls:make")
    assert found == status
    assert clicked == [(12, "anna")]
    if slug:
        assert said["type"] == f"urn:dialmark:problem:{slug}"
    else:
        assert said == {"ticket": 12, "agent": "anna"}
    assert await audited(idle) == [("callback.clicked", "ticket:12")]


async def test_the_page(idle: Listener, opened: Opened) -> None:
    async with idle.running(), opened(idle) as watched:
        page = watched.page
        await watched.log_in()
        await page.get_by_role("link", name="Agents").click()
        anna = page.locator('tr[data-agent="anna"]')
        await expect(anna).to_contain_text("Takes calls")
        await anna.get_by_role("button", name="On break").click()
        await expect(anna).to_contain_text("On break")
        assert await page.evaluate(TOO_WIDE) == []
        idle.clock.pass_by(seconds=1)
        await anna.get_by_role("button", name="End the break").click()
        await expect(anna).to_contain_text("Takes calls")
        await page.set_viewport_size({"width": 390, "height": 900})
        assert await page.evaluate(TOO_WIDE) == []
        links = await page.get_by_role("navigation", name="Pages").get_by_role("link").all()
        boxes = [await link.bounding_box() for link in links]
        assert len(boxes) > 4
        assert all(box is not None and box["x"] + box["width"] <= 390 for box in boxes)


async def test_the_button_of_a_ticket(idle: Listener, opened: Opened) -> None:
    """Only where clicks are on, and for who may."""
    clicked: list[tuple[int, str]] = []

    async def click(ticket: int, agent: str) -> None:
        clicked.append((ticket, agent))

    async with idle.database.begin() as tx:
        made = await tickets.add(tx, replace(examples.ticket(), number=0, owner="boris"))
    assert made is not None
    async with idle.running(), opened(idle) as watched:
        await watched.log_in()
        await watched.page.goto(f"{idle.url}/tickets/{made.number}")
        await expect(watched.page.get_by_text(f"*28{made.number}")).to_be_visible()
        await expect(watched.page.get_by_role("button", name="Call back")).to_have_count(0)
    idle.click = click
    async with idle.running(), opened(idle) as watched:
        await watched.log_in()
        await watched.page.goto(f"{idle.url}/tickets/{made.number}")
        await watched.page.get_by_role("button", name="Call back").click()
        await expect(watched.page.get_by_role("button", name="Call back")).to_be_visible()
    assert clicked == [(made.number, "boris")]
