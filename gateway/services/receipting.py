"""Makes the signed receipts of calls whose callers were asked about a recording (N3).

A receipt is written in the transaction that stores the closed call, so there is none without its record and no record
without it; and again when rows that come late change what it says. Signing costs 0.1 ms; calls without consent cost
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from gateway.core import calls, receipts
from gateway.core.rows import Row
from gateway.store import audit, signatures
from gateway.store import receipts as stored

Known = Mapping[tuple[str, str], stored.Signed]
"""Receipts that are stored, by call id and what they are about."""


def is_due(facts: calls.CallFacts) -> bool:
    """The call is over, and its caller was asked."""
    return facts.is_closed and (facts.consent is not None or facts.message_consent is not None)


def made(
    facts: calls.CallFacts,
    rows: Sequence[Row],
    known: Known,
    *,
    signer: signatures.Signer,
    node: str,
    person: str | None,
    now_us: int,
) -> Iterable[stored.Signed]:
    """The receipts of a call that are not stored yet, or say something else there.

    `person` is the caller's number (E.164 with `+`), None when unknown or erased: then nothing refers to them.
    """
    for what in (receipts.TALK, receipts.MESSAGE):
        before = known.get((facts.call_id, what))
        salt, reference = _reference(before, person)
        document = receipts.build(facts, rows, node=node, what=what, caller_reference=reference)
        if document is None:
            continue
        text = receipts.canonical(document).decode()
        if before is None or before.document != text:
            signature = signer.sign(document)
            yield stored.Signed(facts.call_id, what, text, signature.value, signature.key_id, now_us, salt)


def _reference(before: stored.Signed | None, person: str | None) -> tuple[str | None, str | None]:
    """Salt and digest of the caller; those of the receipt that is there already stay."""
    if before is not None:
        try:
            said = before.content().get("caller_reference")
        except ValueError:
            said = None
        return before.salt, said if isinstance(said, str) else None
    if person is None:
        return None, None
    salt = os.urandom(16).hex()
    return salt, audit.digest_of(person, salt)
