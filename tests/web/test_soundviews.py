"""Consent and recordings in plain words (N3), whatever a document holds."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.web import soundviews
from tests.web import material


def consent(**changes: Any) -> dict[str, Any]:
    said = {**material.record()["recording_consent"], **changes}
    return material.record(recording_consent=said)


def view(document: dict[str, Any]) -> soundviews.SoundView:
    return soundviews.sound_view(document, material.ZONE)


@pytest.mark.parametrize(
    ("mode", "result", "key", "label", "sentence"),
    [
        ("none", "not_asked", None, "No consent needed", "Nothing had to be asked: here one party may record."),
        ("announce", "granted", None, "Consent given", "The caller heard the notice and stayed on the line."),
        ("announce", "hung_up", None, "Not recorded", "The caller hung up while being asked."),
        ("announce_opt_out", "granted", None, "Consent given", "The caller heard the notice and did not press 9."),
        ("announce_opt_out", "refused", "9", "Not recorded", "The caller pressed 9 and did not agree."),
        ("opt_in", "granted", "1", "Consent given", "The caller was asked, and pressed 1 to agree."),
        ("opt_in", "refused", "2", "Not recorded", "The caller pressed 2 and did not agree."),
        ("opt_in", "timed_out", None, "Not recorded", "The caller was asked and pressed nothing."),
        ("opt_in", "prompt_failed", None, "Not recorded", "The prompt could not be played, so nobody was asked."),
        ("new mode", "new result", None, "Not recorded", "The caller was not asked."),
    ],
)
def test_consent_in_words(mode: str, result: str, key: str | None, label: str, sentence: str) -> None:
    shown = view(consent(mode=mode, result=result, key=key)).consent
    assert shown is not None
    assert (shown.look.label, shown.sentence) == (label, sentence)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"recording_consent": None, "recordings": None, "receipts": None, "pauses": None},
        {"recording_consent": [], "recordings": {}, "receipts": "x", "pauses": 5},
        {"recordings": [None, 1, "x"], "receipts": [[]], "pauses": [{}, None, {"from": 5, "to": "never"}]},
        {"recording_consent": {"mode": "opt_in"}},
        {"recording_consent": {"mode": "opt_in", "result": {}, "key": {}, "at": "soon", "early_media": "x"}},
    ],
)
def test_a_document_of_another_form_breaks_nothing(document: dict[str, Any]) -> None:
    shown = view(document)
    assert shown.recordings == () and shown.receipts == ()


@pytest.mark.parametrize("state", ["refused", "condemned", "shredded", "new state", None])
def test_only_a_stored_recording_has_an_address(state: str | None) -> None:
    """Also when a document brings one."""
    one = {"recording_id": "r", "kind": "talk", "state": state, "audio_url": "/a", "peaks_url": "/p"}
    (shown,) = view({"recordings": [one]}).recordings
    assert not shown.is_playable and (shown.audio_url, shown.peaks_url) == ("", "")
    (stored,) = view({"recordings": [{**one, "state": "stored"}]}).recordings
    assert stored.is_playable


def test_a_list_is_marked_by_what_can_be_heard() -> None:
    talk = {"kind": "talk", "state": "shredded", "audio_url": None}
    message = {"kind": "voicemail", "state": "stored", "audio_url": "/a"}
    marks = [view({"recordings": found}).mark for found in ([], [talk], [talk, message])]
    assert [mark and mark.label for mark in marks] == [None, "Deleted", "Has a message"]


def test_a_long_analysis_is_cut() -> None:
    one = {"state": "stored", "analysis": {"words": "x" * 50_000}}
    (shown,) = view({"recordings": [one]}).recordings
    assert len(shown.analysis) < 21_000 and shown.analysis.endswith("…")


@pytest.mark.parametrize(
    ("review", "words"),
    [
        ({"week": "2026-W47", "score": None, "note": None}, "2026-W47: not listened to yet"),
        ({"week": "2026-W47", "score": 4, "note": "calm"}, "2026-W47: 4 of 5 · calm"),
        (None, ""),
        ("x", ""),
    ],
)
def test_reviews_in_words(review: object, words: str) -> None:
    (shown,) = view({"recordings": [{"state": "stored", "review": review}]}).recordings
    assert shown.review == words
