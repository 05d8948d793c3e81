"""Who called and where they came from, in plain words for the page. Pure.

Nothing of a document is trusted to have its form, as in `soundviews`; addresses and tags were written by visitors, stay
text, and are never links.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core import erasure
from gateway.core.touches import Model
from gateway.web.looks import Look

Document = Mapping[str, Any]

SURE = 0.8
LIKELY = 0.5
ID_SHOWN = 8
"""Characters of a visitor's id that people see."""
TEXT_LIMIT = 300

METHODS: Mapping[str, Look] = {
    look.key: look
    for look in (
        Look("static_number", "Static tracking number", "phone", "good", "The number is printed for one source"),
        Look("visitor", "Visitor of the web site", "person", "good", "The likeliest of those who saw the number"),
        Look("click_to_call", "Click to call", "pointer", "good", "Followed the number's link just before the call"),
        Look("caller_history", "Earlier call of this caller", "history", "live", "Known by a call before"),
        Look("overflow_number", "Overflow number", "layers", "warn", "Shown to many at once, so nobody is named"),
        Look("callback", "Call-back", "history", "live", "Known by the missed call that it returns"),
        Look("unknown", "Unknown", "question", "quiet", "Nobody was likely enough to be named"),
    )
}
MODELS: Mapping[Model, str] = {
    Model.FIRST: "First touch",
    Model.LAST: "Last touch",
    Model.LAST_NON_DIRECT: "Last not direct",
    Model.LINEAR: "Linear",
    Model.POSITION: "Position",
    Model.TIME_DECAY: "Time decay",
}
_ORIGIN = (
    ("channel", "Channel"),
    ("medium", "Medium"),
    ("campaign", "Campaign"),
    ("term", "Keyword"),
    ("content", "Content"),
    ("landing_page", "Landing page"),
    ("referrer", "Came from"),
)


@dataclass(frozen=True, slots=True)
class CandidateView:
    """One who may have called. `name` is the beginning of the id; `is_known`: there may be a page about them."""

    visitor_id: str
    name: str
    is_named: bool
    is_known: bool
    percent: float
    seen: str


@dataclass(frozen=True, slots=True)
class AttributionView:
    """A record's attribution. `percent` is None where no visitor is named, `visitor_id` where none has a page."""

    look: Look
    tone: str
    percent: float | None
    visitor_id: str | None
    visitor: str
    sentence: str
    facts: tuple[tuple[str, str], ...]
    """Name and value; long values are addresses."""
    candidates: tuple[CandidateView, ...]

    @property
    def others_percent(self) -> float:
        """Chance of all who are not listed, and of nobody who saw the number."""
        return max(0.0, 100 - sum(one.percent for one in self.candidates))


@dataclass(frozen=True, slots=True)
class CreditView:
    """One touch that a call is credited to."""

    source: str
    detail: str
    at: str | None
    percent: float


def attribution_view(document: Document) -> AttributionView:
    """What a record says of who called."""
    said = _part(document.get("attribution"))
    method = str(said.get("method") or "unknown")
    look = METHODS.get(method, Look(method, method[:40], "question", "quiet"))
    visitor_id = _text(said.get("visitor_id"))
    is_person = method in ("visitor", "click_to_call", "caller_history")
    percent = _percent(said.get("confidence")) if is_person else None
    click_ids = _part(said.get("click_ids"))
    facts = [(label, _text(said.get(name))) for name, label in _ORIGIN]
    facts += [(f"Click id {_text(name)}", _text(value)) for name, value in list(click_ids.items())[:10]]
    return AttributionView(
        look=look,
        tone=_tone(percent) if percent is not None else look.tone,
        percent=percent,
        visitor_id=visitor_id if _is_known(visitor_id) else None,
        visitor=short(visitor_id) if visitor_id else "",
        sentence=_sentence(look, is_person=is_person, visitor_id=visitor_id),
        facts=tuple((label, value) for label, value in facts if value),
        candidates=_candidates(said.get("candidates"), visitor_id),
    )


def credit_views(credit: Document | None) -> tuple[CreditView, ...]:
    """The touches of a `credit`, with their shares."""
    parts = _part(credit).get("touches")
    return tuple([_credit(part) for part in parts if isinstance(part, Mapping)] if isinstance(parts, list) else ())


def short(visitor_id: str) -> str:
    """A visitor's id for people."""
    return visitor_id if len(visitor_id) <= ID_SHOWN + 2 else f"{visitor_id[:ID_SHOWN]}…"


def ago(seconds: object) -> str:
    """`on the site`, `left 40 s before`, `left 12 min before`, `left 3 h before`, `left 5 days before`."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds != seconds:
        return ""
    if seconds <= 0:
        return "on the site"
    for size, limit, unit in ((1, 90, "s"), (60, 5_400, "min"), (3_600, 129_600, "h")):
        if seconds < limit:
            return f"left {round(seconds / size)} {unit} before"
    return f"left {round(seconds / 86_400)} days before"


def _sentence(look: Look, *, is_person: bool, visitor_id: str) -> str:
    if is_person and not _is_known(visitor_id):
        return f"{look.hint}. The visitor was erased since."
    return f"{look.hint}." if look.hint else ""


def _candidates(value: object, named: str) -> tuple[CandidateView, ...]:
    found = []
    for one in value if isinstance(value, list) else []:
        part = _part(one)
        visitor_id = _text(part.get("visitor_id"))
        if visitor_id:
            is_known = _is_known(visitor_id)
            name = short(visitor_id) if is_known else "erased"
            percent = _percent(part.get("share")) or 0.0
            is_named = visitor_id == named
            seen = ago(part.get("seconds_since_seen"))
            found.append(CandidateView(visitor_id, name, is_named, is_known, percent, seen))
    return tuple(found)


def _credit(part: Document) -> CreditView:
    detail = [_text(part.get(name)) for name in ("medium", "campaign", "term")]
    at = part.get("at")
    return CreditView(
        source=_text(part.get("source_name")) or _text(part.get("source")) or "direct",
        detail=" · ".join(text for text in detail if text and text != "none"),
        at=at if isinstance(at, str) else None,
        percent=_percent(part.get("credit")) or 0.0,
    )


def _tone(percent: float) -> str:
    if percent >= 100 * SURE:
        return "good"
    return "live" if percent >= 100 * LIKELY else "warn"


def _is_known(visitor_id: str) -> bool:
    return bool(visitor_id) and not erasure.is_pseudonym(visitor_id)


def _percent(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return 100 * min(max(float(value), 0.0), 1.0)


def _part(value: object) -> Document:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    text = value if isinstance(value, str) else ""
    visible = "".join(character if character.isprintable() else "\ufffd" for character in text[: TEXT_LIMIT + 1])
    return visible if len(visible) <= TEXT_LIMIT else f"{visible[:TEXT_LIMIT]}…"
