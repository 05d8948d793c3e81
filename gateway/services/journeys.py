"""Visitors as documents (R89, R107): the list, and one visitor's way over the sites to the calls.

Times are RFC 3339 UTC, numbers E.164 with `+`. IP addresses are not kept, so there are none.
"""

from __future__ import annotations

from typing import Any

from gateway import store
from gateway.core import book, records, touches
from gateway.store import calls, profiles, timelines, visitorlist, visits

SECOND_US = 1_000_000


def summary(row: visitorlist.Row, routing_book: book.Book | None) -> dict[str, Any]:
    """One visitor of the list. `source` to `term` are those of the last touch that was not direct, the device and the
    place those of the last visit."""
    on = row.last.on if row.last is not None else visits.Device()
    return {
        "visitor_id": row.person.visitor_id,
        "site": row.person.site,
        "first_at": records.timestamp(row.person.first_us),
        "seen_at": records.timestamp(row.person.seen_us),
        "visits": row.visits,
        "pages": row.pages,
        "calls": row.calls,
        **_origin(row.touch or row.last, routing_book),
        **_device(on),
    }


async def profile(
    connection: store.Connection, visitor_id: str, routing_book: book.Book | None
) -> dict[str, Any] | None:
    """All that is known of a visitor, each list oldest first; None for one who is not known. `is_cut`: there is more
    than the latest 100 visits, 1,000 pages, 200 clicks or calls."""
    found = await timelines.timeline(connection, visitor_id)
    if found is None:
        return None
    pages: dict[str, list[dict[str, Any]]] = {}
    for page in found.pages:
        pages.setdefault(page.visit_id, []).append({"at": records.timestamp(page.at_us), "url": page.url})
    called = [await _call(connection, one) for one in found.calls]
    callers = list(dict.fromkeys(one.caller for one in found.calls if one.is_certain and one.caller))
    return {
        "visitor_id": visitor_id,
        "site": found.person.site,
        "first_at": records.timestamp(found.person.first_us),
        "seen_at": records.timestamp(found.person.seen_us),
        "ids": dict(found.person.ids),
        "variables": dict(found.person.variables),
        "callers": callers,
        "attributes": [
            {
                "name": one.name,
                "value": one.value,
                "target": one.target,
                "said_at": records.timestamp(one.at_us),
            }
            for one in await profiles.of_callers(connection, callers)
        ],
        "visits": [_visit(one, pages.get(one.touch.visit_id, []), routing_book) for one in found.visits],
        "clicks": [{"at": records.timestamp(one.at_us), "number": one.number} for one in found.clicks],
        "calls": called,
        "is_cut": found.is_cut,
    }


async def _call(connection: store.Connection, one: timelines.Called) -> dict[str, Any]:
    row = await calls.get(connection, one.call_id)
    return {
        "call_id": one.call_id,
        "started_at": records.timestamp(one.at_us),
        "number": one.number,
        "caller": one.caller,
        "method": one.method,
        "confidence": one.confidence,
        "is_certain": one.is_certain,
        "outcome": row.outcome if row is not None else None,
        "talk_seconds": row.talk_seconds if row is not None else None,
    }


def _visit(one: visits.Visit, pages: list[dict[str, Any]], routing_book: book.Book | None) -> dict[str, Any]:
    came = one.touch.came
    return {
        "visit_id": one.touch.visit_id,
        "site": one.site,
        "started_at": records.timestamp(one.touch.at_us),
        "seen_at": records.timestamp(one.seen_us),
        "seconds": (one.seen_us - one.touch.at_us) / SECOND_US,
        "is_touch": one.is_touch,
        **_origin(one, routing_book),
        "content": came.content,
        "click_ids": dict(came.click_ids),
        "landing_page": one.touch.landing_page,
        "referrer": one.touch.referrer,
        "rule": came.rule,
        "rule_version": came.version,
        **_device(one.on),
        "page_count": one.pages,
        "pages": pages,
    }


def _origin(visit: visits.Visit | None, routing_book: book.Book | None) -> dict[str, Any]:
    if visit is None:
        return dict.fromkeys(("source", "source_name", "channel", "kind", "medium", "campaign", "term"))
    said = touches.origin(visit.touch, routing_book)
    return {
        "source": said.source,
        "source_name": said.source_name,
        "channel": said.channel,
        "kind": visit.touch.came.kind.value,
        "medium": said.medium,
        "campaign": said.campaign,
        "term": said.term,
    }


def _device(on: visits.Device) -> dict[str, Any]:
    return {
        "browser": on.browser,
        "system": on.system,
        "device": on.device,
        "country": on.country,
        "city": on.city,
    }
