"""Receipts of consent at the terminal: exported with their signature, checked, and held against recordings and journal
(N3)."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli import context, failures, moments, output, replaying, vaults
from gateway.core import calls, receipts
from gateway.store import audit, recordings, signatures
from gateway.store import receipts as stored

if TYPE_CHECKING:
    from gateway import store
    from gateway.config.settings import Settings

ABOUT = {"talk": receipts.TALK, "voicemail": receipts.MESSAGE}
"""What a receipt must be about, by the kind of the recording."""
Finding = dict[str, Any]


def beside(recording: Path) -> Path:
    """Where the receipt of an exported recording is put."""
    return recording.with_suffix(".receipt.json")


def paths(out: Path, count: int) -> list[Path]:
    """Files for the receipts of a call; a second one (talk and message) is numbered."""
    return [out, *(out.with_suffix(f".{number}{out.suffix}") for number in range(2, count + 1))]


async def export(settings: Settings, call_id: str) -> list[str]:
    """The signed receipts of a call, as texts for files; noted in the audit. Raises Failure when there is none, or when
    one is not what was signed."""
    async with context.database(settings) as database:
        async with database.read() as connection:
            texts = await exported(connection, call_id)
        if not texts:
            raise failures.Failure(f"there is no receipt of call '{output.plain(call_id[:40])}': nobody was asked")
        async with database.begin() as tx:
            await audit.append(
                tx,
                at_us=moments.micros(context.now()),
                actor=vaults.actor(),
                action="receipt.exported",
                subject=f"call:{call_id}",
            )
    return texts


async def exported(connection: store.Connection, call_id: str, what: str | None = None) -> list[str]:
    """The receipts of a call with their signatures, of one kind or all. Raises Failure for one that is not genuine."""
    known = await stored.keys(connection)
    found = await stored.of_calls(connection, [call_id])
    texts = []
    for (_, about), one in found.items():
        if what is None or about == what:
            try:
                texts.append(signatures.export(one.content(), stored.check(one, known)))
            except (signatures.BadSignature, ValueError) as error:
                raise failures.Failure(f"the receipt ({about}) is not genuine: {error}") from None
    return texts


def write(path: Path, text: str) -> None:
    """For the one who asked alone, and whole or not at all."""
    draft = path.with_name(f".{path.name}.tmp")
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise failures.Failure(f"{path}: {error.strerror}") from None


def check(path: Path, trusted: Collection[str]) -> str:
    """What an exported receipt says, in a line; needs neither database nor settings. Raises Failure for one that is not
    what was signed. `trusted`: ids of keys that count; none: the key that the file brings."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise failures.Failure(f"{path}: not readable: {error}") from None
    try:
        document, signature = signatures.read_export(text)
        signatures.verify(document, signature, frozenset(trusted) or None)
    except signatures.BadSignature as error:
        raise failures.Failure(f"{path}: {error}") from None
    told = {name: output.plain(str(document.get(name))) for name in ("call_id", "what", "result", "mode", "at")}
    return (
        f"genuine, signed by key {signature.key_id}: call {told['call_id']}, {told['what']}, {told['result']} "
        f"({told['mode']}) at {told['at']}"
    )


# --- verify ---


async def verify(settings: Settings, database: store.Database) -> tuple[int, list[Finding]]:
    """Every receipt's signature, and what the journal says of it where it is still there; how many are whole, and what
    is wrong with the others."""
    genuine: dict[tuple[str, str], stored.Signed] = {}
    findings: list[Finding] = []
    async with database.read() as connection:
        known = await stored.keys(connection)
    async for one in _everything(database):
        try:
            stored.check(one, known)
            genuine[one.call_id, one.what] = one
        except signatures.BadSignature as error:
            findings.append(_finding(one.call_id, f"receipt ({one.what}): {error}"))
    contradicted = list(_contradictions(settings, genuine))
    count = len(genuine) - len({(finding["call_id"], finding["what"]) for finding in contradicted})
    return count, [*findings, *({**finding, "what": None} for finding in contradicted)]


async def consent_problem(
    connection: store.Connection, one: recordings.Recording, known: Mapping[str, str]
) -> str | None:
    """Why a recording should not be there, None when its receipt grants it. A refused one is locked away already."""
    if one.state not in (recordings.State.STORED, recordings.State.CONDEMNED):
        return None
    receipt = await stored.get(connection, one.call_id, ABOUT[one.kind])
    if receipt is None:
        return "there is no receipt of consent to it"
    try:
        stored.check(receipt, dict(known))
        said = receipt.content()
    except (signatures.BadSignature, ValueError) as error:
        return f"its receipt is not genuine: {error}"
    return None if said.get("recording_allowed") is True else f"its receipt grants nothing: {said.get('result')}"


async def _everything(database: store.Database) -> Any:
    after: stored.Signed | None = None
    while True:
        async with database.read() as connection:
            page = await stored.page(connection, after)
        for one in page:
            yield one
        if len(page) < stored.PAGE:
            return
        after = page[-1]


def _contradictions(settings: Settings, genuine: Mapping[tuple[str, str], stored.Signed]) -> Iterator[Finding]:
    if not genuine:
        return
    for group in replaying.journal_groups(settings):
        facts = calls.fold(group.rows, closed=group.closing)
        if facts is None or not facts.did:
            continue
        for what in (receipts.TALK, receipts.MESSAGE):
            one = genuine.get((facts.call_id, what))
            for said in receipts.contradictions(one.content(), facts, group.rows) if one is not None else ():
                yield {**_finding(facts.call_id, f"receipt ({what}): {said}"), "what": what}


def _finding(call_id: str, problem: str) -> Finding:
    return {"recording_id": "-", "call_id": call_id, "problem": problem}
