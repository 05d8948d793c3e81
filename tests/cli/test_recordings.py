"""`recordings`, `retention`, `erase` and `audit` as an operator uses them (N10, N14, R44, R45)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import stat
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from gateway import store
from gateway.core import receipts as canonical
from gateway.store import calls, keyring, receipts, recordings, signatures, vault
from tests.cli.conftest import Operator
from tests.store import examples

_T = TypeVar("_T")
SOUND = b"sound " * 30_000
DAY = 86_400 * examples.SECOND
SIGNER = signatures.Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))


def granted(one: recordings.Recording) -> receipts.Signed:
    """A receipt that lets this recording be."""
    document = {"receipt": 1, "what": "talk", "call_id": one.call_id, "recording_allowed": True, "result": "granted"}
    made = SIGNER.sign(document)
    text_ = canonical.canonical(document).decode()
    return receipts.Signed(one.call_id, "talk", text_, made.value, made.key_id, one.created_us)


class Vault:
    """The operator's vault: keys, and recordings put into it."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.keys = operator.folder / "vault.keys"
        self.root = operator.folder / "vault"
        self.set_keys(keyring.new_line("2026-11"))
        with operator.config.open("a") as file:
            file.write(
                f'[vault]\ndir = "{self.root}"\nkeys_file = "{self.keys}"\n'
                f'[recording]\nspool_dir = "{operator.folder}/spool"\n'
            )

    def set_keys(self, *lines: str) -> None:
        self.keys.write_text("\n".join(lines) + "\n")

    def run(self, work: Callable[[store.Database], Coroutine[Any, Any, _T]]) -> _T:
        async def with_database() -> _T:
            database = await store.Database.open(f"sqlite:///{self.operator.folder}/dialmark.db")
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(with_database())

    def put(self, number: int = 1, *, age_days: int = 1, is_granted: bool = True) -> str:
        """A recording of call `number`, begun so many days ago; gives its id. With a receipt if `is_granted`."""
        ring = keyring.parse(self.keys.read_text())
        started_us = time.time_ns() // 1000 - age_days * DAY
        one = recordings.Recording(
            recording_id=examples.call_id(1000 + number),
            call_id=examples.call_id(number),
            node="main",
            kind="talk",
            state=recordings.State.STORED,
            started_us=started_us,
            duration_seconds=12.0,
            parts="1",
            audio_bytes=len(SOUND),
            peaks_bytes=2,
            digest=hashlib.sha256(SOUND).hexdigest(),
            created_us=started_us,
        )
        key = vault.new_key()
        vault.write(self.file(one.recording_id, started_us), key, one.recording_id, [SOUND, b"{}"])

        async def register(database: store.Database) -> None:
            async with database.begin() as tx:
                await calls.save(tx, [examples.call(number, started_us=started_us)])
                await recordings.register(tx, one, ring.wrap(key, recordings.subject(one.recording_id)))
                if is_granted:
                    await receipts.learn_key(tx, SIGNER, node="main", now_us=started_us)
                    await receipts.keep(tx, [granted(one)])

        self.run(register)
        return one.recording_id

    def file(self, recording_id: str, started_us: int) -> Path:
        return vault.file_of(self.root, recording_id, started_us)

    def only_file(self) -> Path:
        (path,) = self.root.rglob("*.dmv")
        return path


@pytest.fixture
def kept(operator: Operator) -> Vault:
    operator.apply()
    return Vault(operator)


def test_a_recording_is_exported_for_me_alone_and_the_audit_says_so(kept: Vault, operator: Operator) -> None:
    one = kept.put()
    out = operator.folder / "talk.mp3"
    said = operator("recordings", "export", one, "--out", out)
    assert out.read_bytes() == SOUND
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert hashlib.sha256(SOUND).hexdigest() in said.out
    assert "there already" in operator("recordings", "export", examples.call_id(1), "--out", out, code=1).err
    operator("recordings", "export", examples.call_id(1), "--out", out, "--force")
    rows = operator("audit", "list", "--format", "json").json
    assert [(row["action"], row["subject"]) for row in rows] == [("recording.exported", f"recording:{one}")] * 2
    assert rows[0]["actor"].startswith("cli:")


def test_verify_finds_what_is_not_whole(kept: Vault, operator: Operator) -> None:
    kept.put()
    assert "1 recordings and 1 receipts are whole" in operator("recordings", "verify").err
    path = kept.only_file()
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert "not genuine" in operator("recordings", "verify", code=1).out
    path.unlink()
    assert "is not there" in operator("recordings", "verify", code=1).out
    path.write_bytes(good)
    stray = path.with_name(f"{examples.call_id(77)}.dmv")
    stray.write_bytes(good)
    assert "belongs to no recording" in operator("recordings", "verify", code=1).out


def test_a_lost_ring_is_said(kept: Vault, operator: Operator) -> None:
    kept.put()
    kept.set_keys(keyring.new_line("other"))
    said = operator("recordings", "verify", code=1).out
    assert "1 recordings cannot be opened: key '2026-11' is not in the ring" in said
    assert "not in the ring" in operator("recordings", "export", examples.call_id(1), code=1).err
    kept.keys.write_text("nonsense\n")
    assert "the key ring is not readable: line 1" in operator("recordings", "verify", code=1).err
    kept.keys.unlink()
    assert "vault.keys_file: cannot be read" in operator("recordings", "verify", code=1).err


def test_keys_are_rotated(kept: Vault, operator: Operator) -> None:
    one = kept.put()
    old = kept.keys.read_text().strip().removesuffix("current")
    new = operator("recordings", "new-key", "2027-01").out.strip()
    kept.set_keys(old, new)
    assert "1 keys are locked with '2027-01' now" in operator("recordings", "rewrap").out
    assert "0 keys" in operator("recordings", "rewrap").out
    kept.set_keys(new)
    operator("recordings", "verify")
    operator("recordings", "export", one, "--out", operator.folder / "talk.mp3")
    assert "an id has" in operator("recordings", "new-key", "two words", code=2).err


def test_what_is_due_is_shown_condemned_restored_held_and_released(kept: Vault, operator: Operator) -> None:
    one = kept.put(age_days=200)
    (due,) = operator("retention", "preview", "--format", "json").json
    assert (due["name"], due["action"]) == (one, "condemn")
    done = {row["what"]: row["count"] for row in operator("retention", "run", "--format", "json").json}
    assert (done["condemned"], done["shredded"]) == (1, 0)
    assert "is condemned" in operator("recordings", "export", one, code=1).err
    operator("recordings", "restore", one)
    operator("recordings", "hold", one, "--why", "case 12")
    (due,) = operator("retention", "preview", "--format", "json").json
    assert due["action"] == "keep"
    (listed,) = operator("recordings", "list", "--held", "--format", "json").json
    assert (listed["recording_id"], listed["why"]) == (one, "case 12")
    operator("recordings", "release", one)
    assert "cannot be released" in operator("recordings", "release", one, code=1).err
    actions = [row["action"] for row in operator("audit", "list", "--format", "json").json]
    assert actions == ["recording.released", "recording.held", "recording.restored", "retention.run"]


def test_a_person_is_erased_and_the_receipt_printed(kept: Vault, operator: Operator) -> None:
    one = kept.put()
    number = "+79161234567"
    receipt = operator("erase", number, "--yes", "--format", "json").json
    assert (receipt["calls"], receipt["recordings_shredded"]) == (1, 1)
    assert number[1:] not in json.dumps(receipt)
    assert "is shredded" in operator("recordings", "export", one, code=1).err
    assert number not in operator("calls", "list", "--format", "json").out
    assert list(kept.root.rglob("*.dmv")) == []
    assert "rows are whole" in operator("audit", "verify").out
    assert "with its country" in operator("erase", "600", "--yes", code=2).err


def test_without_a_ring_erase_says_what_to_do(operator: Operator) -> None:
    operator.apply()
    assert "there is no key ring" in operator("erase", "+79161234567", "--yes", code=1).err


def test_a_noted_head_finds_a_chain_that_was_cut(kept: Vault, operator: Operator) -> None:
    kept.put()
    for _ in range(3):
        operator("recordings", "verify")
    head = operator("audit", "verify").out.rpartition(" ")[2].strip()
    operator("audit", "verify", "--head", head)

    async def cut(database: store.Database) -> None:
        async with database.begin() as tx:
            await tx.execute(text("DELETE FROM audit WHERE seq = 3"))

    kept.run(cut)
    operator("audit", "verify")
    assert "cut at its end" in operator("audit", "verify", "--head", head, code=1).err
    assert "must be ROW:HASH" in operator("audit", "verify", "--head", "x", code=2).err


def test_unknown_names_are_told(kept: Vault, operator: Operator) -> None:
    kept.put()
    assert "there is no recording 'x'" in operator("recordings", "export", "x", code=1).err
    assert "there are stored" in operator("recordings", "list", "--state", "lost", code=2).err
