"""Consent receipts over HTTP (N3): as they were signed, checked before they leave, and joined into the record."""

from __future__ import annotations

from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core import receipts as core_receipts
from gateway.store import receipts, signatures
from gateway.web import parts, schemas
from tests.web import material
from tests.web.listener import Listener, bearer

SIGNER = signatures.Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
CALL = material.record(call_id="11111111-2222-4333-8444-555555555555")
CALL_ID = str(CALL["call_id"])


def signed(what: str = "talk", **changes: Any) -> receipts.Signed:
    document = {"receipt": 1, "call_id": CALL_ID, "what": what, "mode": "opt_in", "result": "granted", "key": "1"}
    text = core_receipts.canonical(document).decode()
    made = receipts.Signed(
        CALL_ID, what, text, SIGNER.sign(document).value, SIGNER.key_id, parts.micros(material.NOW), "salt"
    )
    return made if not changes else receipts.Signed(**{**vars_of(made), **changes})


def vars_of(one: receipts.Signed) -> dict[str, Any]:
    return {name: getattr(one, name) for name in receipts.Signed.__slots__}


async def keep(listener: Listener, *made: receipts.Signed) -> None:
    await listener.store_calls([CALL])
    async with listener.database.begin() as tx:
        await receipts.learn_key(tx, SIGNER, node="main", now_us=1)
        await receipts.keep(tx, made)


async def get(listener: Listener, http: aiohttp.ClientSession, path: str, *scopes: str) -> tuple[int, Any]:
    headers = bearer(await listener.token(*(scopes or ("calls:read",))))
    async with http.get(f"{listener.url}/api/v1/calls{path}", headers=headers) as answer:
        return answer.status, await answer.json()


async def test_a_receipt_comes_as_exported_and_can_be_checked(listener: Listener, http: aiohttp.ClientSession) -> None:
    await keep(listener, signed(), signed("message"))
    async with http.get(
        f"{listener.url}/api/v1/calls/{CALL_ID}/receipts", headers=bearer(await listener.token("calls:read"))
    ) as answer:
        document = await answer.json()
    schemas.ReceiptList.model_validate(document)
    assert [one["receipt"]["what"] for one in document["receipts"]] == ["talk", "message"]
    one = document["receipts"][0]
    signatures.verify(one["receipt"], signatures.Signature(**one["signature"]), frozenset({SIGNER.key_id}))
    assert "salt" not in str(document)


async def test_the_record_names_its_receipts(listener: Listener, http: aiohttp.ClientSession) -> None:
    await keep(listener, signed())
    _, document = await get(listener, http, f"/{CALL_ID}")
    assert [one["what"] for one in document["receipts"]] == ["talk"]
    assert document["receipts"][0]["digest"] == signed().digest
    schemas.CallRecord.model_validate(document)
    _, page = await get(listener, http, "")
    assert page["calls"] == [document]


async def test_no_receipt_no_call_no_scope(listener: Listener, http: aiohttp.ClientSession) -> None:
    await listener.store_calls([CALL])
    assert await get(listener, http, f"/{CALL_ID}/receipts") == (200, {"receipts": []})
    assert (await get(listener, http, "/99999999-2222-4333-8444-555555555555/receipts"))[0] == 404
    assert (await get(listener, http, "/x/receipts"))[0] == 404
    assert (await get(listener, http, f"/{CALL_ID}/receipts", "recordings:listen"))[0] == 403


async def test_what_was_changed_is_not_handed_out_as_proof(listener: Listener, http: aiohttp.ClientSession) -> None:
    true = signed()
    for broken in (
        signed(document=true.document.replace("granted", "refused")),
        signed(document="[]"),
        signed(document="{"),
        signed(signature="AAAA"),
        signed(key_id="0123456789abcdef"),
    ):
        await keep(listener, broken)
        status, problem = await get(listener, http, f"/{CALL_ID}/receipts")
        assert (status, problem["type"]) == (500, "urn:dialmark:problem:receipt-damaged")
    await keep(listener, true)
    assert (await get(listener, http, f"/{CALL_ID}/receipts"))[0] == 200
