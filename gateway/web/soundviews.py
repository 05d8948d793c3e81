"""What was recorded of a call, and what its caller was told and said, in plain words for the page. Pure.

Nothing of a document is trusted to have its form: an older or newer record, or an analysis from outside, must not
break the page. Texts stay plain strings; the templates escape them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from gateway.web import live
from gateway.web.looks import Look

Document = Mapping[str, Any]

ANALYSIS_LIMIT = 20_000
"""Characters of an analysis that are shown; the API has the whole."""

RECORDING_LIVE: Mapping[str, Look] = {
    "recording": Look("recording", "Recording", "record", "bad", "This talk is being recorded"),
    "paused": Look("paused", "Recording paused", "pause", "warn", "Both sides are silent in the recording"),
    "paused_by_key": Look("paused_by_key", "Paused by the agent", "pause", "warn", "The agent's key resumes it"),
}
RECORDED = Look("recorded", "Recorded", "record", "quiet")
MESSAGE = Look("message", "Has a message", "voicemail", "quiet")
GIVEN = Look("given", "Consent given", "check", "good")
NOT_NEEDED = Look("not_needed", "No consent needed", "check", "quiet")
NOT_GIVEN = Look("not_given", "Not recorded", "cross", "quiet", "There was no consent")
KINDS = {"talk": "Talk", "voicemail": "Voicemail message"}
STATES: Mapping[str, Look] = {
    "refused": Look("refused", "Locked away", "lock", "bad", "Nobody can play it"),
    "condemned": Look("condemned", "To be deleted", "trash", "warn", "Out of reach until it is deleted or restored"),
    "shredded": Look("shredded", "Deleted", "trash", "quiet", "Its key was destroyed"),
}
_WHY_SILENT = {
    "refused": "There is sound, but no granted consent. It was encrypted and locked away, and will be deleted.",
    "condemned": "Its time is over. Until the grace period ends, an administrator can restore it.",
    "shredded": "Its key was destroyed, so nobody can hear it any more.",
}
_GRANTED = {
    "announce": "The caller heard the notice and stayed on the line.",
    "announce_opt_out": "The caller heard the notice and did not press 9.",
    "opt_in": "The caller was asked, and pressed {key} to agree.",
}
_REFUSED = "The caller pressed {key} and did not agree."
_NOT_GRANTED = {
    "timed_out": "The caller was asked and pressed nothing.",
    "prompt_failed": "The prompt could not be played, so nobody was asked.",
    "hung_up": "The caller hung up while being asked.",
}


@dataclass(frozen=True, slots=True)
class ConsentView:
    """What became of the consent. `facts` are name and value, for a list."""

    look: Look
    sentence: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ReceiptView:
    """A signed receipt that exists."""

    what: str
    digest: str
    key_id: str
    signed: str


@dataclass(frozen=True, slots=True)
class RecordingView:
    """One recording. `look` and `why` are there when it cannot be heard, and then the addresses are not."""

    recording_id: str
    kind: str
    is_message: bool
    started: str
    seconds: float
    length: str
    audio_url: str
    peaks_url: str
    look: Look | None
    why: str
    analysis: str
    review: str

    @property
    def is_playable(self) -> bool:
        """Whether there is something to hear."""
        return self.look is None and bool(self.audio_url)


@dataclass(frozen=True, slots=True)
class SoundView:
    """All of it for one call."""

    consent: ConsentView | None
    recordings: tuple[RecordingView, ...]
    receipts: tuple[ReceiptView, ...]
    pauses: tuple[str, ...]

    @property
    def mark(self) -> Look | None:
        """How a list marks the call: by its first recording that can be heard, else by the first."""
        if not self.recordings:
            return None
        first = next((one for one in self.recordings if one.is_playable), self.recordings[0])
        return first.look or (MESSAGE if first.is_message else RECORDED)

    @property
    def is_empty(self) -> bool:
        """Recording was off, and nothing was recorded."""
        return self.consent is None and not self.recordings


def sound_view(document: Document, zone: tzinfo, api_pauses: Sequence[tuple[str, str | None]] = ()) -> SoundView:
    """What a record says of its sound. `api_pauses` are pauses by API, from and to (None: to the end)."""
    spans = [(one.get("from"), one.get("to"), "agent's key") for one in _documents(document.get("pauses"))]
    spans += [(since, until, "API") for since, until in api_pauses]
    return SoundView(
        _consent(document, zone),
        tuple(_recording(one, zone) for one in _documents(document.get("recordings"))),
        tuple(_receipt(one, zone) for one in _documents(document.get("receipts"))),
        tuple(_span(*span, zone) for span in sorted(spans, key=lambda span: str(span[0]))),
    )


def live_look(document: Document) -> Look | None:
    """How the recording of a call that is up is marked, None for none."""
    return RECORDING_LIVE.get(live.recording_of(document))


def length(seconds: object) -> str:
    """`0:07`, `12:40`, `1:02:03`; "" for no figure."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _documents(value: object) -> list[Document]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []


def _consent(document: Document, zone: tzinfo) -> ConsentView | None:
    said = document.get("recording_consent")
    if not isinstance(said, Mapping) or said.get("mode") in (None, "off"):
        return None
    mode, result = str(said["mode"]), str(said.get("result"))
    granted = GIVEN if result == "granted" else NOT_NEEDED
    look = granted if live.may_be_recorded(document) else NOT_GIVEN
    return ConsentView(look, _sentence(mode, result, said.get("key")), _consent_facts(said, mode, zone))


def _sentence(mode: str, result: str, key: object) -> str:
    pressed = str(key)[:8] if key else "a key"
    if result == "granted":
        return _GRANTED.get(mode, "The caller agreed.").format(key=pressed)
    if result == "refused":
        return _REFUSED.format(key=pressed)
    if mode == "none":
        return "Nothing had to be asked: here one party may record."
    return _NOT_GRANTED.get(result, "The caller was not asked.")


def _consent_facts(said: Document, mode: str, zone: tzinfo) -> tuple[tuple[str, str], ...]:
    early = said.get("early_media")
    played = "as early media" if early is True else "after answer" if early is False else ""
    prompt = str(said.get("prompt_id") or "")
    version = str(said.get("prompt_version") or "")
    facts = (
        ("Mode", mode.replace("_", " ")),
        ("Region", str(said.get("region") or "")),
        ("Asked at", " ".join(part for part in (_clock(said.get("at"), zone), played if prompt else "") if part)),
        ("Prompt", f"{prompt} {version[:8]}".strip()),
        ("In the recording", "the announcement stands in front" if said.get("announcement_in_recording") else ""),
    )
    return tuple((name, value[:80]) for name, value in facts if value)


def _recording(one: Document, zone: tzinfo) -> RecordingView:
    state = str(one.get("state"))
    recording_id = str(one.get("recording_id") or "")
    seconds = one.get("duration_seconds")
    is_stored = state == "stored"
    return RecordingView(
        recording_id=recording_id,
        kind=KINDS.get(str(one.get("kind")), "Recording"),
        is_message=one.get("kind") == "voicemail",
        started=_clock(one.get("started_at"), zone),
        seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
        length=length(seconds),
        audio_url=str(one.get("audio_url") or "") if is_stored else "",
        peaks_url=str(one.get("peaks_url") or "") if is_stored else "",
        look=None if is_stored else STATES.get(state, STATES["shredded"]),
        why=_WHY_SILENT.get(state, ""),
        analysis=_analysis(one.get("analysis")),
        review=_review(one.get("review")),
    )


def _analysis(value: object) -> str:
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return text if len(text) <= ANALYSIS_LIMIT else text[:ANALYSIS_LIMIT] + "\n…"


def _review(value: object) -> str:
    if not isinstance(value, Mapping):
        return ""
    week, score, note = value.get("week"), value.get("score"), value.get("note")
    judged = f"{score} of 5" if score is not None else "not listened to yet"
    return f"{week}: {judged}" + (f" · {note}" if note else "")


def _receipt(one: Document, zone: tzinfo) -> ReceiptView:
    what = {"talk": "talk", "message": "message left"}.get(str(one.get("what")), "call")
    return ReceiptView(
        what, str(one.get("digest") or ""), str(one.get("key_id") or ""), _clock(one.get("signed"), zone)
    )


def _span(since: object, until: object, by: str, zone: tzinfo) -> str:
    return f"{_clock(since, zone) or '?'} to {_clock(until, zone) or 'the end'} (by {by})"


def _clock(value: object, zone: tzinfo) -> str:
    if not isinstance(value, str):
        return ""
    try:
        return datetime.fromisoformat(value).astimezone(zone).strftime("%H:%M:%S")
    except (ValueError, OverflowError):
        return ""
