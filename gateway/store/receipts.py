"""Signed consent receipts (N3), one per call and kind of recording, and the public keys by which they are checked.

A receipt names its caller by a salted digest. The salt stands beside the document, outside what is signed: erasing the
person takes it away, the receipt stays whole, and nobody can tell any more whose it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import select, tuple_

from gateway import store
from gateway.store import schema, signatures, statements

PAGE = 500


@dataclass(frozen=True, slots=True)
class Signed:
    """One receipt. `document` is the canonical JSON text that `signature` (base64) is over; `what`: talk or message."""

    call_id: str
    what: str
    document: str
    signature: str
    key_id: str
    created_us: int
    salt: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the document, hex: how records and audit rows name the receipt."""
        return hashlib.sha256(self.document.encode()).hexdigest()

    def content(self) -> dict[str, Any]:
        """The document. Raises ValueError for a text that is none (the row was tampered with)."""
        content = json.loads(self.document)
        if not isinstance(content, dict):
            raise ValueError("the receipt is no JSON object")
        return content


_TABLE, _KEYS = schema.receipts, schema.signing_keys
_FIELDS = tuple(field.name for field in fields(Signed))
_REPLACED = ("document", "signature", "key_id", "created_us")
_SELECT = select(*(_TABLE.c[name] for name in _FIELDS))


async def keep(tx: store.Transaction, made: Sequence[Signed]) -> None:
    """Stores receipts; one that is there already gets the new document. Its salt stays, and stays gone if it was
    erased."""
    if not made:
        return
    statement = statements.insert(tx, _TABLE)
    changed = {name: statement.excluded[name] for name in _REPLACED}
    statement = statement.on_conflict_do_update(index_elements=[_TABLE.c.call_id, _TABLE.c.what], set_=changed)
    await tx.execute(statement, [{name: getattr(one, name) for name in _FIELDS} for one in made])


async def get(connection: store.Connection, call_id: str, what: str) -> Signed | None:
    """One receipt."""
    query = _SELECT.where(_TABLE.c.call_id == call_id, _TABLE.c.what == what)
    row = (await connection.execute(query)).first()
    return None if row is None else Signed(*row)


async def of_calls(connection: store.Connection, call_ids: Collection[str]) -> dict[tuple[str, str], Signed]:
    """The receipts of these calls, by call id and what they are about."""
    found: dict[tuple[str, str], Signed] = {}
    for chunk in statements.chunks(sorted(call_ids)):
        for row in await connection.execute(_SELECT.where(_TABLE.c.call_id.in_(chunk)).order_by(_TABLE.c.what.desc())):
            found[row.call_id, row.what] = Signed(*row)
    return found


async def page(connection: store.Connection, after: Signed | None = None, *, limit: int = PAGE) -> list[Signed]:
    """All receipts by call id, page by page; `after` is the last of the page before."""
    query = _SELECT.order_by(_TABLE.c.call_id, _TABLE.c.what).limit(limit)
    if after is not None:
        query = query.where(tuple_(_TABLE.c.call_id, _TABLE.c.what) > (after.call_id, after.what))
    return [Signed(*row) for row in await connection.execute(query)]


async def learn_key(tx: store.Transaction, signer: signatures.Signer, *, node: str, now_us: int) -> None:
    """Remembers the public key, so that receipts can be checked after the node has got another one."""
    values = {"key_id": signer.key_id, "public_key": signer.public_key, "node": node, "first_us": now_us}
    await statements.insert_new(tx, _KEYS, [values])


async def keys(connection: store.Connection) -> dict[str, str]:
    """Every public key (base64) that ever signed here, by id."""
    rows = await connection.execute(select(_KEYS.c.key_id, _KEYS.c.public_key))
    return {row.key_id: row.public_key for row in rows}


def check(one: Signed, known: dict[str, str]) -> signatures.Signature:
    """The signature of a receipt, in the form that is exported. `known` are our public keys.

    Raises `signatures.BadSignature` for a receipt that is not what was signed, or not signed by one of our keys.
    """
    if one.key_id not in known:
        raise signatures.BadSignature(f"signed by key {one.key_id[:40]}, which is not one of ours")
    signature = signatures.Signature(one.key_id, known[one.key_id], one.signature)
    try:
        content = one.content()
    except ValueError:
        raise signatures.BadSignature("the receipt is not readable") from None
    signatures.verify(content, signature)
    return signature
