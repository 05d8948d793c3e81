"""Spend, wages and staffed hours over HTTP (R8, R70, R105)."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from tests.web.listener import Listener, bearer

SPAN = "from=2026-11-01&to=2026-11-30"
SPENT = {"day": "2026-11-20", "source": "google-ads", "campaign": "Implants", "amount": "1000.50", "currency": "RUB"}


async def ask(
    http: aiohttp.ClientSession, listener: Listener, scope: str, path: str, body: Any = None, *, status: int = 200
) -> Any:
    headers = bearer(await listener.token(scope))
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    async with http.request(method, f"{listener.url}/api/v1/{path}", data=data, headers=headers) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def test_spend_is_entered_once_and_listed(listener: Listener, http: aiohttp.ClientSession) -> None:
    rows = {"rows": [SPENT, {**SPENT, "campaign": None, "amount": 7}]}
    assert await ask(http, listener, "costs:write", "spend", rows) == {"changed": 2, "unchanged": 0}
    assert await ask(http, listener, "costs:write", "spend", rows) == {"changed": 0, "unchanged": 2}
    found = await ask(http, listener, "costs:read", f"spend?{SPAN}")
    assert found["spend"] == [
        {**SPENT, "campaign": None, "amount": "7.00", "entry": None},
        {**SPENT, "entry": None},
    ]
    assert found["restated"] == [{"day": "2026-11-20", "what": "spend", "changes": 2}]


async def test_wages_and_hours(listener: Listener, http: aiohttp.ClientSession) -> None:
    wage = {"agent": "anna", "from_day": "2026-11-01", "hourly": "300", "currency": "RUB"}
    hours = {"agent": "anna", "day": "2026-11-20", "hours": "7:30"}
    assert (await ask(http, listener, "wages:manage", "wages", {"rows": [wage]}))["changed"] == 1
    assert (await ask(http, listener, "wages:manage", "wages/hours", {"rows": [hours]}))["changed"] == 1
    found = await ask(http, listener, "wages:manage", f"wages?{SPAN}")
    assert found["wages"] == [{**wage, "hourly": "300.00"}]
    assert found["hours"] == [{**hours, "hours": 7.5}]
    assert {one["what"] for one in found["restated"]} == {"wages"}


@pytest.mark.parametrize(
    "body",
    [
        {"rows": [{}]},
        {"rows": [{**SPENT, "amount": "1,5"}]},
        {"rows": [{**SPENT, "amount": -1}]},
        {"rows": [{**SPENT, "source": "nobody"}]},
        {"rows": [{**SPENT, "source": ["google-ads"]}]},
        {"rows": [{**SPENT, "currency": {"a": 1}}]},
        {"rows": [{**SPENT, "entry": "x" * 65}]},
        {"rows": [{**SPENT, "campaign": "\u202e"}]},
        {"rows": [{**SPENT, "day": "2026-13-01"}]},
        {"rows": [{**SPENT, "more": 1}]},
        {"rows": [SPENT, SPENT]},
        {"rows": [{**SPENT, "amount": 10**400}]},
    ],
    ids=range(12),
)
async def test_what_is_wrong_is_refused(listener: Listener, http: aiohttp.ClientSession, body: Any) -> None:
    answer = await ask(http, listener, "costs:write", "spend", body, status=422)
    assert answer["errors"][0]["field"].startswith("rows[")
    assert (await ask(http, listener, "costs:read", f"spend?{SPAN}"))["spend"] == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"rows": 1}', b'{"rows": [1]}', b'{"x": []}', b"[" * 9_000])
async def test_what_is_no_request(listener: Listener, http: aiohttp.ClientSession, body: bytes) -> None:
    await ask(http, listener, "costs:write", "spend", body, status=400)


async def test_days_and_scopes(listener: Listener, http: aiohttp.ClientSession) -> None:
    for query in ("from=2026-11-02&to=2026-11-01", "from=2020-01-01&to=2026-11-01", "from=2026-11-01", "from=x&to=y"):
        await ask(http, listener, "costs:read", f"spend?{query}", status=400)
    for scope, path, body in (
        ("costs:read", "spend", {"rows": []}),
        ("costs:write", f"spend?{SPAN}", None),
        ("costs:write", "wages", {"rows": []}),
        ("costs:read", f"wages?{SPAN}", None),
    ):
        await ask(http, listener, scope, path, body, status=403)
