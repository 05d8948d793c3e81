"""What is said about calls, over HTTP: by token and by signed messages, with attacks on both (R14-R16, R60, R77)."""

from __future__ import annotations

import base64
import dataclasses
import json
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
import standardwebhooks

from gateway.core import receivers
from tests.web import material
from tests.web.listener import Listener, bearer

CALL = "11111111-2222-3333-4444-555555555555"
OTHER = "21111111-2222-3333-4444-555555555555"
OLD, NEW = ("whsec_" + base64.b64encode(bytes([one]) * 32).decode() for one in (1, 2))
INBOUND = "/api/v1/inbound/crm"
WON = {"deal_id": "D-1", "deal_state": "won", "value": "1200.50", "currency": "RUB"}


@pytest.fixture
async def filled(idle: Listener) -> Listener:
    """A listener with two calls and one source of messages."""
    inbound = {"crm": receivers.Inbound("crm", "env:CRM"), "off": receivers.Inbound("off", "env:CRM", enabled=False)}
    told = receivers.Receivers(inbound=inbound)
    idle.current = dataclasses.replace(material.routing_book(), receivers=told)
    idle.secrets = {"env:CRM": f"{NEW}\n{OLD}"}
    idle.targets = ("webhook:crm",)
    await idle.store_calls([material.record(call_id=CALL), material.record(call_id=OTHER)])
    return idle


async def post(http: aiohttp.ClientSession, listener: Listener, path: str, body: Any, *, status: int = 200) -> Any:
    token = await listener.token("deals:write", "calls:read")
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with http.post(listener.url + path, data=data, headers=bearer(token)) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def result(http: aiohttp.ClientSession, listener: Listener, call_id: str = CALL) -> Any:
    headers = bearer(await listener.token("calls:read"))
    async with http.get(f"{listener.url}/api/v1/calls/{call_id}", headers=headers) as answer:
        return (await answer.json())["result"]


def signed(
    listener: Listener,
    body: bytes,
    *,
    secret: str = NEW,
    message_id: str = "msg_1",
    seconds: float = 0,
) -> dict[str, str]:
    """Headers as the published library makes them."""
    at = listener.clock.now + timedelta(seconds=seconds)
    signature = standardwebhooks.Webhook(secret).sign(message_id, at, body.decode())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signature,
    }


def message(**said: object) -> bytes:
    return json.dumps({"type": "deal.changed", "data": {"call_id": CALL, **said}}).encode()


async def send(
    http: aiohttp.ClientSession, listener: Listener, body: bytes, headers: dict[str, str], *, path: str = INBOUND
) -> tuple[int, Any]:
    async with http.post(listener.url + path, data=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_one_call_by_token(filled: Listener, http: aiohttp.ClientSession) -> None:
    path = f"/api/v1/calls/{CALL}/result"
    async with filled.running():
        taken = await post(http, filled, path, {"qualified": True, "tags": ["vip"], **WON})
        assert taken == {"changed": 1, "unchanged": 0, "call_ids": [CALL], "duplicate": False}
        found = await result(http, filled)
        assert (found["qualified"], found["deal"]["value"], found["changed_via"]) == (True, "1200.50", "api")
        assert found["changed_by"].startswith("token:token ")
        assert (await post(http, filled, path, {"qualified": None}))["changed"] == 1
        headers = bearer(await filled.token("calls:read"))
        async with http.get(f"{filled.url}{path}/history", headers=headers) as answer:
            changes = (await answer.json())["changes"]
        assert [one["changed"].get("qualified") for one in changes] == [[None, True], [True, None]]
        await post(http, filled, path.replace("1111-", "9999-", 1), {"qualified": True}, status=404)


async def test_several_or_none(filled: Listener, http: aiohttp.ClientSession) -> None:
    async with filled.running():
        first, second = {"call_id": CALL, **WON}, {"call_id": OTHER, "spam": True}
        assert (await post(http, filled, "/api/v1/deals", {"changes": [first, second]}))["changed"] == 2
        wrong = [{"call_id": OTHER, "spam": False}, {"call_id": CALL, "value": "1,5", "z": 1}, {"call_id": "x"}]
        answer = await post(http, filled, "/api/v1/deals", {"changes": wrong}, status=422)
        assert [one["field"] for one in answer["errors"]] == ["changes[1].z", "changes[2].call_id"]
        assert (await result(http, filled, OTHER))["spam"] is True


HOSTILE: list[bytes] = [
    b"",
    b"\xff\xfe",
    b"[]",
    b"[" * 16_000,
    b'{"note": "' + b"x" * 4_001 + b'"}',
    b'{"qualified": "yes"}',
    b'{"qualified": 1}',
    b'{"value": true, "currency": "RUB"}',
    b'{"value": NaN, "currency": "RUB"}',
    b'{"value": 1e400, "currency": "RUB"}',
    b'{"value": "1' + b"0" * 30 + b'", "currency": "RUB"}',
    b'{"value": "-5", "currency": "RUB"}',
    b'{"value": "5", "currency": "QQQ"}',
    b'{"deal_id": ' + b"9" * 8_000 + b"}",
    b'{"deal_id": {"a": 1}}',
    b'{"deal_id": "\\u0000"}',
    b'{"tags": "vip"}',
    b'{"tags": [1]}',
    b'{"closed_on": "31.02.2026"}',
    b'{"closed_on": 20261121}',
    b'{"deal_state": "sold"}',
    b'{"lead_status": "a\\u202eb"}',
    b'{"call_id": "11111111-2222-3333-4444-555555555555", "spam": true}',
    b'{"__class__": 1}',
    b"{}",
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
async def test_what_is_wrong_is_refused_with_a_reason(
    filled: Listener, http: aiohttp.ClientSession, body: bytes
) -> None:
    async with filled.running():
        token = await filled.token("deals:write")
        async with http.post(f"{filled.url}/api/v1/calls/{CALL}/result", data=body, headers=bearer(token)) as answer:
            assert answer.status in (400, 422), await answer.text()
            assert (await answer.json())["errors"]
        assert await result(http, filled) is None


async def test_what_people_write_is_kept_as_text(filled: Listener, http: aiohttp.ClientSession) -> None:
    hostile = "<script>alert(1)</script> =HYPERLINK(1) ${SHELL(x)} \x00 \ud800 line\nline"
    async with filled.running():
        body = json.dumps({"note": hostile}).encode()
        await post(http, filled, f"/api/v1/calls/{CALL}/result", body)
        assert (await result(http, filled))["note"] == hostile.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")


async def test_it_needs_its_own_scope(filled: Listener, http: aiohttp.ClientSession) -> None:
    async with filled.running():
        headers = bearer(await filled.token("calls:read", "webhooks:manage"))
        for path in (f"/api/v1/calls/{CALL}/result", "/api/v1/deals"):
            async with http.post(filled.url + path, data=b"{}", headers=headers) as answer:
                assert answer.status == 403
            async with http.post(filled.url + path, data=b"{}", headers={"Sec-Fetch-Site": "same-origin"}) as answer:
                assert answer.status == 401


# -- signed messages --------------------------------------------------------------------------------------------------


async def test_a_signed_message_is_taken_once(filled: Listener, http: aiohttp.ClientSession) -> None:
    """Standard Webhooks: the id is the key against doubling; a retry has a new time and the same id."""
    async with filled.running():
        body = message(**WON)
        status, taken = await send(http, filled, body, signed(filled, body))
        assert (status, taken["changed"], taken["duplicate"]) == (200, 1, False)
        assert (await result(http, filled))["changed_by"] == "inbound:crm"
        await post(http, filled, f"/api/v1/calls/{CALL}/result", {"deal_state": "lost"})
        status, taken = await send(http, filled, body, signed(filled, body, seconds=30))
        assert (status, taken["changed"], taken["duplicate"]) == (200, 0, True)
        assert (await result(http, filled))["deal"]["state"] == "lost"


async def test_both_secrets_hold_while_one_takes_over(filled: Listener, http: aiohttp.ClientSession) -> None:
    async with filled.running():
        for number, secret in enumerate((OLD, NEW)):
            body = message(lead_status=f"step {number}")
            headers = signed(filled, body, secret=secret, message_id=f"msg_{number}")
            assert (await send(http, filled, body, headers))[0] == 200
        body = message(lead_status="both")
        headers = signed(filled, body, message_id="msg_both")
        wrong = signed(filled, body, secret="whsec_" + base64.b64encode(b"3" * 32).decode(), message_id="msg_both")
        headers["webhook-signature"] = f"{wrong['webhook-signature']} v1a,AAAA {headers['webhook-signature']}"
        assert (await send(http, filled, body, headers))[0] == 200
        filled.secrets = {"env:CRM": NEW}
        body = message(lead_status="late")
        assert (await send(http, filled, body, signed(filled, body, secret=OLD, message_id="msg_3")))[0] == 401
        assert (await result(http, filled))["lead_status"] == "both"


async def test_attacks_on_the_signature(filled: Listener, http: aiohttp.ClientSession) -> None:
    """Nothing is taken, and every refusal says the same."""
    filled.limits = dataclasses.replace(filled.limits, login_per_minute=1_000)
    async with filled.running():
        body = message(spam=True)
        good = signed(filled, body)
        attacks: list[tuple[bytes, dict[str, str]]] = [
            (message(spam=False), good),
            (body + b" ", good),
            (body, {**good, "webhook-id": "msg_2"}),
            (body, {**good, "webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)}),
            (body, {**good, "webhook-timestamp": "inf"}),
            (body, {**good, "webhook-timestamp": "1e9"}),
            (body, {**good, "webhook-timestamp": good["webhook-timestamp"] + ".0"}),
            (body, {**good, "webhook-signature": ""}),
            (body, {**good, "webhook-signature": "v1,"}),
            (body, {**good, "webhook-signature": "v1"}),
            (body, {**good, "webhook-signature": good["webhook-signature"].replace("v1,", "v2,")}),
            (body, {**good, "webhook-signature": good["webhook-signature"][:-4]}),
            (body, {**good, "webhook-signature": "v1,\u00e9"}),
            (body, {**good, "webhook-signature": "v1,AAAA " * 40 + good["webhook-signature"]}),
            (body, {**good, "webhook-id": "x" * 201}),
            (body, {name: value for name, value in good.items() if name != "webhook-id"}),
            (body, {}),
            (body, signed(filled, body, seconds=-301)),
            (body, signed(filled, body, seconds=301)),
            (body, bearer(await filled.token("admin"))),
        ]
        said = set()
        for attacked, headers in attacks:
            status, answer = await send(http, filled, attacked, headers)
            assert status == 401, headers
            said.add(json.dumps(answer))
        for path in ("/api/v1/inbound/off", "/api/v1/inbound/nobody"):
            status, answer = await send(http, filled, body, good, path=path)
            assert (status, answer["title"]) == (401, "The message is not signed as it must be")
        assert len(said) == 1
        assert await result(http, filled) is None
        assert (await send(http, filled, body, signed(filled, body, seconds=-299)))[0] == 200
        assert (await send(http, filled, body, signed(filled, body, seconds=299, message_id="m")))[0] == 200


async def test_wrong_signatures_count_like_wrong_tokens(filled: Listener, http: aiohttp.ClientSession) -> None:
    async with filled.running():
        statuses = [(await send(http, filled, b"{}", {}))[0] for _ in range(filled.limits.login_per_minute + 1)]
        assert set(statuses[:-1]) == {401}
        assert statuses[-1] == 429
        body = message(spam=True)
        assert (await send(http, filled, body, signed(filled, body)))[0] == 200


async def test_signed_and_wrong_all_the_same(filled: Listener, http: aiohttp.ClientSession) -> None:
    """A message that could not be taken may come again: its id is not used up."""
    async with filled.running():
        for number, body in enumerate((b"no json", b"[]", b"{}", b'{"data": []}', b'{"data": [1]}', b'{"data": "x"}')):
            assert (await send(http, filled, body, signed(filled, body, message_id=f"m{number}")))[0] == 400, body
        huge = b'{"data": "' + b"x" * 17_000 + b'"}'
        assert (await send(http, filled, huge, signed(filled, huge)))[0] == 413
        unknown = json.dumps({"data": [{"call_id": OTHER.replace("2", "3", 1), "spam": True}]}).encode()
        status, answer = await send(http, filled, unknown, signed(filled, unknown))
        assert (status, answer["errors"][0]["field"]) == (422, "data[0].call_id")
        await filled.store_calls([material.record(call_id=OTHER.replace("2", "3", 1))])
        assert (await send(http, filled, unknown, signed(filled, unknown)))[0] == 200
        filled.secrets = {}
        assert (await send(http, filled, unknown, signed(filled, unknown)))[0] == 503
