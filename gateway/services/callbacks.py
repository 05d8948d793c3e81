"""Somebody left a number on a page and asks to be called (R69): kept as an event, with what is known of the visitor.

What the visitor wrote is theirs; the source goes with it only for a visitor who agreed to be one.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Collection
from typing import Any

from gateway import store
from gateway.core import book, events, numbers, records, scriptwire
from gateway.services import ticketing
from gateway.store import outbox, visits

REQUESTED = events.CALLBACK_REQUESTED


class Callbacks:
    """Stores requests. The same request, sent twice from one page, is one. `in_force` None: they open no tickets."""

    def __init__(
        self,
        database: store.Database,
        *,
        now_us: Callable[[], int],
        targets: Collection[str] = (),
        events_added: Callable[[], None] = lambda: None,
        in_force: Callable[[], book.Book | None] | None = None,
        node: str = "",
    ) -> None:
        self._database = database
        self._now_us = now_us
        self._targets = targets
        self._events_added = events_added
        self._in_force = in_force
        self._node = node
        self.taken = 0
        """Since the start."""

    async def take(self, asked: scriptwire.Callback, site: book.Site) -> bool:
        """Stores a request. False: it was there already. Raises StoreUnavailable: it is not stored."""
        now_us = self._now_us()
        said = "/".join((asked.site, asked.page, asked.number, asked.name, asked.message, asked.when))
        event_id = str(uuid.uuid5(events.EVENT_IDS, f"{said}/{REQUESTED}"))
        async with self._database.begin() as tx:
            known = await visits.known(tx, {asked.visitor} if asked.visitor is not None else ())
            came = known.get(asked.visitor or "")
            if came is not None and came.person.site != asked.site:
                came = None
            data = _data(asked, site, came, now_us)
            body = {"id": event_id, "type": REQUESTED, "timestamp": records.timestamp(now_us), "data": data}
            payload = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
            is_new = await outbox.add(tx, [outbox.Event(event_id, REQUESTED, now_us, payload)], self._targets) > 0
            if is_new and self._in_force is not None:
                await ticketing.take_request(
                    tx,
                    event_id,
                    data,
                    node=self._node,
                    in_force=self._in_force(),
                    targets=self._targets,
                    now_us=now_us,
                )
        if is_new:
            self.taken += 1
            asyncio.get_running_loop().call_soon(self._events_added)
        return is_new


def _data(asked: scriptwire.Callback, site: book.Site, came: visits.Known | None, now_us: int) -> dict[str, Any]:
    return {
        "site": asked.site,
        "requested_at": records.timestamp(now_us),
        "number": numbers.normalise(asked.number, site.country, book.NumberForm.NATIONAL),
        "number_raw": asked.number,
        "name": asked.name or None,
        "message": asked.message or None,
        "when": asked.when or None,
        "page": asked.url,
        "visitor_id": came.person.visitor_id if came is not None else None,
        "attribution": _source(came),
    }


def _source(came: visits.Known | None) -> dict[str, Any] | None:
    visit = (came.touch or came.last) if came is not None else None
    if visit is None:
        return None
    touch = visit.touch
    return {
        "source": touch.source,
        "kind": touch.came.kind.value,
        "came_from": touch.came.source,
        "medium": touch.came.medium,
        "campaign": touch.came.campaign,
        "term": touch.came.term,
        "content": touch.came.content,
        "click_ids": dict(touch.came.click_ids),
        "landing_page": touch.landing_page,
        "referrer": touch.referrer,
    }
