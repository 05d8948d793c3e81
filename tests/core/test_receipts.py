"""The consent in the fold, the record and the receipt (C4, N3), and its signature."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import book, calls, consent, erasure, receipts, records
from gateway.core.rows import Row
from gateway.store import signatures
from tests import journals, served

VERSION = "0123456789abcdef0123456789abcdef"


def rows(payload: str) -> list[Row]:
    """A recorded call with the row that the dialplan writes when the caller was asked."""
    recorded = journals.rows("answered_caller_ends")
    entry = next(row for row in recorded if row.user_event == "DM_IN")
    extra = f'{{""extra"":""i={entry.data["i"]}&{payload}""}}'
    at = f"{(entry.at_us + 1_500_000) / 1_000_000:.6f}"
    fields = [at, "USER_DEFINED", "DM_CONSENT", entry.channel, entry.unique_id, entry.linked_id]
    fields += [entry.context, "", "CELGenUserEvent", extra]
    return [*recorded, *journals.rows_of(",".join(f'"{field}"' for field in fields).encode())]


def facts(payload: str) -> calls.CallFacts:
    found = calls.fold(rows(payload))
    assert found is not None
    return found


GRANTED = f"m=opt_in&r=granted&k=1&p=consent_opt_in.ru&v={VERSION}&e=0&g=DE&a=1"


def test_the_record_tells_the_consent() -> None:
    found = facts(GRANTED)
    made = records.record(found, None, revision=1, calls_before=None, node="n")["recording_consent"]
    assert made == {
        "region": "DE",
        "mode": "opt_in",
        "result": "granted",
        "key": "1",
        "prompt_id": "consent_opt_in.ru",
        "prompt_version": VERSION,
        "early_media": False,
        "announcement_in_recording": True,
        "at": records.timestamp(
            found.started_at_us + (found.consent.at_us - found.started_at_us if found.consent else 0)
        ),
    }
    assert found.consent is not None
    assert (found.consent.version, found.consent.early_media, found.consent.recorded_announcement) == (
        VERSION,
        False,
        True,
    )
    assert replace(found, consent=None) == journals.facts("answered_caller_ends")


@pytest.mark.parametrize("result", list(consent.Result))
@pytest.mark.parametrize("mode", [mode for mode in book.RecordingMode if mode is not book.RecordingMode.REGION])
def test_only_a_grant_or_an_unasked_none_allows_recording(mode: book.RecordingMode, result: consent.Result) -> None:
    found = consent.given({"m": mode.value, "r": result.value}, 1)
    assert (found.mode, found.result) == (mode, result)
    unasked = mode is book.RecordingMode.NONE and result is consent.Result.NOT_ASKED
    assert found.allows_recording == (result is consent.Result.GRANTED or unasked)


@given(some.dictionaries(some.sampled_from("imrkpvega"), some.text(max_size=20)))
def test_a_payload_that_makes_no_sense_records_nothing(data: dict[str, str]) -> None:
    found = consent.given(data, 1)
    known = {mode.value for mode in book.RecordingMode} - {"region"}
    if data.get("m") not in known or data.get("r") not in {result.value for result in consent.Result}:
        assert not found.allows_recording


def test_the_first_answer_counts_in_any_order_of_rows() -> None:
    both = [*rows("m=opt_in&r=refused&k=2"), *(row._replace(at_us=row.at_us + 10) for row in rows(GRANTED)[-1:])]
    found = calls.fold(reversed(both))
    assert found is not None and found.consent is not None
    assert found.consent.result is consent.Result.REFUSED


def receipt(payload: str = GRANTED) -> dict[str, Any]:
    made = receipts.build(facts(payload), rows(payload), node="n1")
    assert made is not None
    return made


def test_the_receipt_holds_what_shows_it_and_no_person() -> None:
    made = receipt()
    assert (made["mode"], made["result"], made["key"], made["prompt_version"]) == ("opt_in", "granted", "1", VERSION)
    assert (made["played_as"], made["announcement_in_recording"], made["recording_allowed"]) == (
        "after_answer",
        True,
        True,
    )
    shown = [row["event"] for row in made["rows"]]
    assert "DM_IN" in shown and "DM_CONSENT" in shown
    text = receipts.canonical(made).decode()
    assert "74951112233" not in text and "Client" not in text
    assert receipts.contradictions(made, facts(GRANTED), rows(GRANTED)) == []
    forged = {**made, "result": "granted", "mode": "announce"}
    assert receipts.contradictions(forged, facts(GRANTED), rows(GRANTED)) == [
        "mode: the receipt says 'announce', the journal 'opt_in'"
    ]


def test_early_media_and_silence_are_told_apart() -> None:
    assert receipt(f"m=announce&r=granted&p=consent_announce.en&v={VERSION}&e=1")["played_as"] == "early_media"
    assert receipt("m=opt_in&r=prompt_failed")["played_as"] is None
    assert receipt(f"m=opt_in&r=prompt_failed&p=consent_opt_in.en&v={VERSION}")["played_as"] is None
    assert receipts.build(journals.facts("answered_caller_ends"), [], node="n1") is None


def test_signed_exported_and_checked(tmp_path: Path) -> None:
    signer = signatures.Signer.load(tmp_path / "receipts.key")
    assert (tmp_path / "receipts.key").stat().st_mode & 0o777 == 0o600
    assert signatures.Signer.load(tmp_path / "receipts.key").key_id == signer.key_id
    made = receipt()
    text = signatures.export(made, signer.sign(made))
    document, signature = signatures.read_export(text)
    signatures.verify(document, signature)
    signatures.verify(document, signature, trusted=frozenset({signer.key_id}))
    with pytest.raises(signatures.BadSignature, match="not one of ours"):
        signatures.verify(document, signature, trusted=frozenset({"0" * 16}))


@pytest.mark.parametrize("name", sorted(receipt()))
def test_any_changed_field_is_noticed(name: str, tmp_path: Path) -> None:
    signer = signatures.Signer.load(tmp_path / "receipts.key")
    made = receipt()
    signature = signer.sign(made)
    changes: tuple[Any, ...] = ("changed", None, [], made["call_id"])
    for value in changes:
        if value != made[name]:
            with pytest.raises(signatures.BadSignature):
                signatures.verify({**made, name: value}, signature)


def test_a_signature_of_another_key_or_shape_is_refused(tmp_path: Path) -> None:
    mine = signatures.Signer.load(tmp_path / "mine.key")
    other = signatures.Signer.load(tmp_path / "other.key")
    made = receipt()
    signature = mine.sign(made)
    flipped = bytearray(base64.b64decode(signature.value))
    flipped[5] ^= 1
    for wrong in (
        replace(signature, public_key=other.public_key),
        replace(signature, public_key=other.public_key, key_id=other.key_id),
        replace(signature, value=base64.b64encode(bytes(flipped)).decode()),
        replace(signature, value="no base64"),
        replace(signature, public_key=""),
        replace(signature, algorithm="none"),
    ):
        with pytest.raises(signatures.BadSignature):
            signatures.verify(made, wrong)
    for text in ("", "{}", "[]", '{"receipt": [], "signature": {}}', json.dumps({"receipt": made}), "[" * 100_000):
        with pytest.raises(signatures.BadSignature):
            signatures.read_export(text)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "receipts.key"
    signatures.Signer.load(path)
    path.chmod(0o640)
    with pytest.raises(signatures.BadKey):
        signatures.Signer.load(path)
    path.chmod(0o600)
    path.write_text("short\n")
    with pytest.raises(signatures.BadKey):
        signatures.Signer.load(path)


def test_floats_have_no_canonical_form() -> None:
    with pytest.raises(ValueError, match="floats"):
        receipts.canonical({"rows": [{"seconds": 1.5}]})


def test_acceptance_and_whisper_of_who_answered() -> None:
    """DM_ACCEPT and the file stand on the answering phone's channel."""
    recorded = journals.rows("answered_caller_ends")
    leg = next(row for row in recorded if row.kind == "ANSWER" and row.unique_id != row.linked_id)
    entry = next(row for row in recorded if row.user_event == "DM_IN")
    played = leg._replace(kind="STREAM_BEGIN", user_event="FILE_STREAM_BEGIN", data={"file": "whisper"})
    pressed = leg._replace(kind="USER_DEFINED", user_event="DM_ACCEPT", at_us=leg.at_us + 1)
    for result, accepted in (("accepted", True), ("refused", False), ("timed_out", False)):
        rows_ = [*recorded, played, pressed._replace(data={"i": entry.data["i"], "s": "1", "r": result})]
        found = calls.fold(rows_)
        assert found is not None
        (attempt,) = found.attempts
        assert (attempt.whisper_played, attempt.accepted) == (True, accepted)
        assert replace(found, attempts=()) == replace(journals.facts("answered_caller_ends"), attempts=())
    alone = [pressed._replace(data={"i": entry.data["i"], "r": "accepted"})]
    assert journals.groups(alone) == []
    assert calls.fold(alone) is None


def served_receipt(call: served.Journal, what: str = receipts.TALK) -> dict[str, Any]:
    made = receipts.build(call.facts(), call.rows, node="n1", what=what)
    assert made is not None
    return made


def test_the_receipt_shows_question_answer_recording_and_pauses() -> None:
    call = served.paused()
    made = served_receipt(call)
    told = [(row["kind"], row["event"] or row["application"]) for row in made["rows"]]
    assert told == [
        ("USER_DEFINED", "DM_IN"),
        ("ANSWER", "Answer"),
        ("STREAM_BEGIN", "FILE_STREAM_BEGIN"),
        ("STREAM_END", "FILE_STREAM_END"),
        ("USER_DEFINED", "DM_CONSENT"),
        ("APP_START", "MixMonitor"),
        *[("APP_START", "StopMixMonitor"), ("USER_DEFINED", "DM_PAUSE")],
        *[("APP_START", "MixMonitor"), ("USER_DEFINED", "DM_PAUSE")],
    ]
    assert receipts.contradictions(made, call.facts(), call.rows) == []
    assert "MixMonitor" not in str(served_receipt(served.refused())["rows"]), "nothing was recorded"


def test_a_message_has_a_receipt_of_its_own() -> None:
    call = served.message_left()
    assert receipts.build(call.facts(), call.rows, node="n1") is None, "the talk was never asked about"
    made = served_receipt(call, receipts.MESSAGE)
    assert (made["what"], made["mode"], made["result"], made["recording_allowed"]) == (
        "message",
        "announce",
        "granted",
        True,
    )
    assert [row["data"].get("a") for row in made["rows"] if row["event"] == "DM_ACT"] == ["voicemail"]
    assert receipts.contradictions(made, call.facts(), call.rows) == []


def test_a_long_wait_does_not_push_the_proof_out() -> None:
    call = served.Journal().begin()
    for number in range(receipts.MAX_ROWS):
        call.file(0.1 + number, 0.6 + number, f"{served.PROMPTS}/wait-ru-7")
    call.mark(70.0, f"DM_CONSENT,w=message&m=announce&r=granted&p=leave_message.ru&v={VERSION}").gone(80.0, by="caller")
    rows_ = served_receipt(call, receipts.MESSAGE)["rows"]
    assert len(rows_) == receipts.MAX_ROWS
    assert (rows_[0]["event"], rows_[-1]["event"]) == ("DM_IN", "DM_CONSENT")
    assert rows_[-2]["kind"] == "STREAM_END", "of the others the last ones are kept"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key": "2"}, "key: the receipt says '2'"),
        ({"recording_allowed": False}, "recording_allowed"),
        ({"rows": []}, "a row of the journal that the receipt does not have"),
        ({"rows": [{"at": "1999", "kind": "DTMF", "event": "", "application": ""}]}, "that the journal does not have"),
        ({"rows": ["x"]}, "that the journal does not have: none"),
        ({"rows": None}, "that the journal does not have: none"),
        ({"what": "message"}, "no consent"),
    ],
)
def test_a_receipt_that_the_journal_does_not_bear_out(change: dict[str, Any], said: str) -> None:
    call = served.granted()
    found = receipts.contradictions({**served_receipt(call), **change}, call.facts(), call.rows)
    assert any(said in one for one in found), found


def test_a_masked_journal_still_bears_the_receipt_out() -> None:
    """N14: erasing a person masks rows; what names nobody stays, and so does the proof."""
    call = served.granted()
    digits = erasure.spellings(f"+{served.CALLER_NUMBER}")
    masked = journals.rows_of(b"\n".join(erasure.masked_line(line, digits) for line in call.text.splitlines()))
    assert served.CALLER_NUMBER not in str(masked)
    facts_ = calls.fold(masked)
    assert facts_ is not None
    assert receipts.contradictions(served_receipt(call), facts_, masked) == []


def test_a_row_with_half_a_character_can_be_signed() -> None:
    """`\\ud800` in a row's JSON: one call must not stop all records."""
    call = served.granted()
    rows_ = [row._replace(data={**row.data, "sound": "a\ud800b"}) for row in call.rows]
    made = receipts.build(call.facts(), rows_, node="n1")
    assert made is not None
    assert b"a?b" in receipts.canonical(made)
