"""Receipts and tombstones as an operator meets them: verify, export, check, replay (N1, N3, N14)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway import store
from gateway.store import keyring, signatures
from tests import served
from tests.cli.conftest import Operator
from tests.cli.test_recordings import SOUND, Vault

PERSON = f"+{served.CALLER_NUMBER}"
LATER_US = served.BEGIN_US + 100_000_000_000


class Signed(Vault):
    """A node that read calls with consent, and recorded one."""

    def __init__(self, operator: Operator) -> None:
        super().__init__(operator)
        self.key = operator.folder / "receipts.key"
        with operator.config.open("a") as file:
            file.write(f'signing_key_file = "{self.key}"\n')

    def work(self, *names: str) -> None:
        self.operator.journal.write_bytes(served.text_of(names))
        self.track()

    def track(self) -> None:
        ring = keyring.parse(self.keys.read_text())
        self.operator.track(now_us=LATER_US, signer=signatures.Signer.load(self.key), ring=ring)

    def change(self, statement: str, **values: Any) -> None:
        async def work(database: store.Database) -> None:
            async with database.begin() as tx:
                await tx.execute(text(statement), values)

        self.run(work)

    def rows(self, table: str) -> list[dict[str, Any]]:
        async def work(database: store.Database) -> list[dict[str, Any]]:
            async with database.read() as connection:
                return [dict(row) for row in (await connection.execute(text(f"SELECT * FROM {table}"))).mappings()]

        return self.run(work)

    def record(self, name: str) -> str:
        """A recording of that story's call; its id."""
        one = self.put(1, is_granted=False)
        self.change("UPDATE recordings SET call_id = :call", call=served.STORIES[name]().call_id)
        return one


@pytest.fixture
def signed(operator: Operator) -> Signed:
    operator.apply()
    return Signed(operator)


def test_receipts_that_are_genuine_and_borne_out(signed: Signed, operator: Operator) -> None:
    signed.work(*served.STORIES)
    signed.record("granted")
    said = operator("recordings", "verify")
    assert "1 recordings and 5 receipts are whole" in said.err
    assert operator("recordings", "verify", "--format", "json").json == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("document = replace(document, 'granted', 'refused')", "changed after it was signed"),
        ("document = '['", "not readable"),
        ("signature = 'AAAA'", "changed after it was signed"),
        ("key_id = '0123456789abcdef'", "not one of ours"),
    ],
)
def test_a_receipt_that_was_tampered_with_is_found(signed: Signed, operator: Operator, change: str, said: str) -> None:
    signed.work("granted", "refused")
    signed.change(f"UPDATE receipts SET {change} WHERE document LIKE '%granted%'")
    found = operator("recordings", "verify", "--format", "json", code=1).json
    assert len(found) == 1
    assert found[0]["call_id"] == served.granted().call_id
    assert said in found[0]["problem"]


def test_a_receipt_that_the_journal_does_not_bear_out_is_found(signed: Signed, operator: Operator) -> None:
    """Signed with the node's own key, and false: the journal says otherwise."""
    signed.work("refused")
    (row,) = signed.rows("receipts")
    document = {**json.loads(row["document"]), "result": "granted", "recording_allowed": True}
    forged = signatures.Signer.load(signed.key).sign(document)
    body = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    signed.change("UPDATE receipts SET document = :body, signature = :value", body=body, value=forged.value)
    found = operator("recordings", "verify", "--format", "json", code=1).json
    assert any("result: the receipt says 'granted', the journal 'refused'" in one["problem"] for one in found)
    operator.journal.unlink()
    assert operator("recordings", "verify", "--format", "json").json == [], "the journal is not there any more"


@pytest.mark.parametrize(
    ("name", "said"),
    [("refused", "its receipt grants nothing: refused"), ("called_back", "there is no receipt of consent to it")],
)
def test_a_recording_without_a_granted_receipt_is_found(
    signed: Signed, operator: Operator, name: str, said: str
) -> None:
    signed.work(name)
    one = signed.record(name)
    found = operator("recordings", "verify", "--format", "json", code=1).json
    assert [(each["recording_id"], each["problem"]) for each in found] == [(one, said)]
    signed.change("UPDATE recordings SET state = 'refused'")
    assert operator("recordings", "verify", "--format", "json").json == [], "it is locked away already"


def test_the_receipt_is_exported_beside_the_recording(signed: Signed, operator: Operator) -> None:
    signed.work("granted")
    one = signed.record("granted")
    out = operator.folder / "talk.mp3"
    said = operator("recordings", "export", one, "--out", out)
    assert out.read_bytes() == SOUND
    receipt = operator.folder / "talk.receipt.json"
    assert str(receipt) in said.out
    assert receipt.stat().st_mode & 0o777 == 0o600
    document, signature = signatures.read_export(receipt.read_text())
    signatures.verify(document, signature)
    assert document["result"] == "granted"
    assert served.CALLER_NUMBER not in receipt.read_text()


def test_a_receipt_by_call(signed: Signed, operator: Operator) -> None:
    signed.work("message_left", "called_back")
    out = operator.folder / "message.json"
    operator("recordings", "receipt", served.message_left().call_id, "--out", out)
    assert json.loads(out.read_text())["receipt"]["what"] == "message"
    assert "there already" in operator("recordings", "receipt", served.message_left().call_id, "--out", out, code=1).err
    printed = operator("recordings", "receipt", served.message_left().call_id).out
    assert json.loads(printed) == json.loads(out.read_text())
    missing = operator("recordings", "receipt", served.called_back().call_id, code=1).err
    assert "there is no receipt" in missing
    actions = [row["action"] for row in operator("audit", "list", "--format", "json").json]
    assert actions == ["receipt.exported"] * 2


def exported(signed: Signed, operator: Operator) -> Path:
    signed.work("granted")
    path = operator.folder / "talk.json"
    operator("recordings", "receipt", served.granted().call_id, "--out", path)
    return path


def test_an_exported_receipt_is_checked_without_the_database(signed: Signed, operator: Operator) -> None:
    path = exported(signed, operator)
    key_id = signatures.Signer.load(signed.key).key_id
    (operator.folder / "dialmark.db").rename(operator.folder / "away.db")
    operator.config.unlink()
    said = operator("recordings", "check-receipt", path).out
    assert "genuine" in said and key_id in said and "granted" in said
    operator("recordings", "check-receipt", path, "--key", key_id)
    assert "not one of ours" in operator("recordings", "check-receipt", path, "--key", "0" * 16, code=1).err


def _changed(body: Any) -> str:
    return json.dumps({**body, "receipt": {**body["receipt"], "result": "refused"}})


def _resigned(body: Any) -> str:
    """Forged, and signed with another key under the name of the first."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    other = signatures.Signer(Ed25519PrivateKey.generate())
    made = other.sign(body["receipt"])
    return json.dumps({**body, "signature": {**body["signature"], "public_key": made.public_key, "value": made.value}})


@pytest.mark.parametrize(
    "damage",
    [
        _changed,
        _resigned,
        lambda body: json.dumps(body)[:-20],
        lambda body: json.dumps({"receipt": body["receipt"]}),
        lambda body: "",
        lambda body: "\x00\xff",
        lambda body: json.dumps({**body, "receipt": {**body["receipt"], "rows": body["receipt"]["rows"][1:]}}),
    ],
)
def test_a_forged_or_cut_receipt_is_refused(signed: Signed, operator: Operator, damage: Callable[[Any], str]) -> None:
    path = exported(signed, operator)
    path.write_text(damage(json.loads(path.read_text())), "latin-1")
    assert operator("recordings", "check-receipt", path, code=1).err
    assert "not readable" in operator("recordings", "check-receipt", operator.folder / "nothing", code=1).err


def test_calls_show_tells_consent_recording_and_receipt(signed: Signed, operator: Operator) -> None:
    signed.work("paused", "granted")
    one = signed.record("paused")
    said = operator("calls", "show", served.paused().call_id).out
    assert "consent     granted (opt_in, region DE), key 1, consent_opt_in.ru 0123456789ab" in said
    assert "paused" in said
    assert f"recording   {one[:8]}" in said and "stored" in said
    assert "receipt     talk" in said
    record = operator("calls", "show", served.paused().call_id, "--format", "json").json
    assert [each["recording_id"] for each in record["recordings"]] == [one]
    assert len(record["receipts"]) == 1
    listed = operator("calls", "list", "--format", "json").json
    assert sorted(len(each["recordings"]) for each in listed) == [0, 0, 1], (
        "two of the journal, one of the recording's first call"
    )
    lines = [json.loads(line) for line in operator("calls", "export").lines]
    assert lines == listed
    signed.change("UPDATE recordings SET state = 'refused', why = 'no consent'")
    assert "refused" in operator("calls", "show", served.paused().call_id).out


# --- replay and verify after an erasure ---


def erase(operator: Operator) -> None:
    operator("erase", PERSON, "--yes")


def test_a_replay_from_the_unmasked_journal_brings_nobody_back(signed: Signed, operator: Operator) -> None:
    """The journal comes from a backup and names the person; records, and what was noted of calls, are lost."""
    signed.work("granted", "message_left")
    backup = operator.folder / "backup.csv"
    backup.write_bytes(operator.journal.read_bytes())
    before = operator("calls", "list", "--format", "json").json
    erase(operator)
    erased = operator("calls", "list", "--format", "json").json
    assert PERSON not in json.dumps(erased)
    operator("verify")
    for tables in ((), ("calls", "events", "forgotten_calls", "receipts")):
        for table in tables:
            signed.change(f"DELETE FROM {table}")
        operator("replay", backup, "--write")
        operator("replay", "--write")
        after = operator("calls", "list", "--format", "json").json
        assert served.CALLER_NUMBER not in json.dumps(after)
        assert [one["caller"]["number"] for one in after] == [one["caller"]["number"] for one in erased]
        assert [one["outcome"] for one in after] == [one["outcome"] for one in before]
        assert [one["caller"]["calls_before"] for one in after] == [1, 0], "still one caller with two calls"
    signed.change("DELETE FROM calls WHERE call_id = :call", call=after[0]["call_id"])
    later = operator.folder / "later.csv"
    later.write_bytes(served.text_of(["message_left"]))
    operator("replay", later, "--write")
    again = operator("calls", "list", "--format", "json").json
    assert [one["caller"]["calls_before"] for one in again] == [1, 0], "the other one is found by the pseudonym"
    assert len(signed.rows("receipts")) == 2
    assert all(row["salt"] is None for row in signed.rows("receipts"))
    assert "0 new, 0 changed, 2 same" in operator("replay", backup, "--write").out


def test_verify_finds_who_still_names_an_erased_person(signed: Signed, operator: Operator) -> None:
    signed.work("granted")
    journal = operator.journal.read_bytes()
    erase(operator)
    assert operator("verify", "--format", "json").json["naming_erased"] == 0
    operator.journal.write_bytes(journal)
    assert operator("verify", "--format", "json", code=1).json["naming_erased"] == 1
    signed.change("UPDATE calls SET caller = :number", number=PERSON)
    said = operator("verify", code=1)
    assert "2 records and journal rows name a person who was erased" in said.out
    erase(operator)
    operator("verify")


def test_without_the_ring_a_replay_writes_nothing(signed: Signed, operator: Operator) -> None:
    signed.work("granted")
    erase(operator)
    signed.set_keys(keyring.new_line("another"))
    assert "erased persons are not recognised" in operator("replay", "--write", code=1).err
    operator("replay")


def test_missing_receipts_are_made_from_the_journal(signed: Signed, operator: Operator) -> None:
    signed.work("granted", "refused", "called_back")
    kept = signed.rows("receipts")
    signed.change("DELETE FROM receipts WHERE call_id = :call", call=served.granted().call_id)
    assert "1 receipts of consent are missing" in operator("replay").out
    assert len(signed.rows("receipts")) == 1
    assert operator("replay", "--write", "--format", "json").json["receipts"] == 1
    assert operator("replay", "--write", "--format", "json").json["receipts"] == 0
    made = {row["call_id"]: json.loads(row["document"]) for row in signed.rows("receipts")}
    for row in kept:
        before = json.loads(row["document"])
        assert {**made[row["call_id"]], "caller_reference": None} == {**before, "caller_reference": None}
    operator("recordings", "verify")


def test_the_key_of_a_lost_file_still_proves(signed: Signed, operator: Operator) -> None:
    signed.work("granted")
    signed.key.unlink()
    operator.journal.write_bytes(served.text_of(["granted", "refused"]))
    signed.track()
    assert len({row["key_id"] for row in signed.rows("receipts")}) == 2
    operator("recordings", "verify")
