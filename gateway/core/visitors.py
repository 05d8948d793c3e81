"""One person, several devices, one telephone (R48, R54, R88): callers and the visitors linked with them by calls.

A link is made only by a call that is nearly certain. A caller's visitors make one profile: somebody who looked on a
computer and called, later looked on the telephone and called again. Lines that many people share - switchboards,
hotels - are told by how many visitors call from them in a day, and link nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.core import matching
from gateway.core.attribution import Method
from gateway.core.book import TrackingKind

LINK_CONFIDENCE = 0.8
"""A call links caller and visitor from here on (attribution.md 3.4)."""

MOST_VISITORS_A_DAY = 3
"""A caller number with more in 24 hours is a shared line."""

DAY_US = 86_400 * 1_000_000


@dataclass(frozen=True, slots=True)
class Link:
    """One call that showed whose number it was. `caller` is E.164 with `+`."""

    caller: str
    visitor_id: str
    confidence: float
    at_us: int


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of one caller number. `visitors` in the order in which they first called."""

    caller: str
    visitors: tuple[str, ...] = ()
    first_us: int | None = None
    last_us: int | None = None
    is_shared_line: bool = False


def link(kind: TrackingKind, match: matching.Match, caller: str | None, at_us: int) -> Link | None:
    """The link that a call makes, if any: none from anonymous callers, none by inheritance, and none on the overflow
    number, which many visitors are shown at once."""
    if caller is None or match.visitor_id is None or kind is TrackingKind.OVERFLOW:
        return None
    if match.method is Method.CALLER_HISTORY:
        return None
    # The static number itself says nothing of who called; a click on it does.
    sure = matching.CLICK_CONFIDENCE if match.method is Method.STATIC_NUMBER else match.confidence
    return Link(caller, match.visitor_id, sure, at_us) if sure >= LINK_CONFIDENCE else None


def is_shared_line(links: Iterable[Link], most: int = MOST_VISITORS_A_DAY) -> bool:
    """Whether more than `most` visitors called from one number within some 24 hours."""
    ordered = sorted(links, key=lambda link: link.at_us)
    first = 0
    for place, last in enumerate(ordered):
        while last.at_us - ordered[first].at_us >= DAY_US:
            first += 1
        if len({link.visitor_id for link in ordered[first : place + 1]}) > most:
            return True
    return False


def profile(caller: str, links: Iterable[Link], most: int = MOST_VISITORS_A_DAY) -> Profile:
    """The profile of `caller`; links of other numbers are passed over. A shared line has no visitors of its own."""
    own = sorted((link for link in links if link.caller == caller), key=lambda link: (link.at_us, link.visitor_id))
    if not own:
        return Profile(caller)
    shared = is_shared_line(own, most)
    visitors = () if shared else tuple(dict.fromkeys(link.visitor_id for link in own))
    return Profile(caller, visitors, own[0].at_us, own[-1].at_us, shared)


def known_as(caller: str | None, links: Iterable[Link], at_us: int) -> dict[str, float]:
    """`Evidence.known_as` of a call at `at_us`: visitors linked with the caller before it, at their surest.

    Links of the very call or later ones say nothing: a call must not prove itself when it is attributed again.
    """
    if caller is None:
        return {}
    before = [link for link in links if link.caller == caller and link.at_us < at_us]
    if is_shared_line(before):
        return {}
    found: dict[str, float] = {}
    for one in before:
        found[one.visitor_id] = max(found.get(one.visitor_id, 0.0), one.confidence)
    return found


def past(caller: str | None, links: Iterable[Link], at_us: int) -> matching.Past | None:
    """`Evidence.past` of a call at `at_us`: the visitor by the caller's last linked call before it."""
    if caller is None:
        return None
    before = [link for link in links if link.caller == caller and link.at_us < at_us]
    if not before or is_shared_line(before):
        return None
    last = max(before, key=lambda link: (link.at_us, link.visitor_id))
    return matching.Past(last.visitor_id, last.at_us, last.confidence)
