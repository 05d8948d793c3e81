"""The visitor behind a call, for those who are told of it: ids of web analytics, the visit, what was agreed to.

They are looked up when an event is sent and stand in no event: who is forgotten until then is not told of.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway import store
from gateway.core.outgoing import told
from gateway.store import attributions, visits

_SESSION = "ga_session."


class CallersVisit:
    """Answers for one call at a time. Raises `store.StoreUnavailable`."""

    def __init__(self, database: store.Database) -> None:
        self._database = database

    async def __call__(self, call_id: str) -> told.Visitor | None:
        """None: nobody is known, or not surely enough, or the visit is forgotten."""
        async with self._database.read() as connection:
            found = (await attributions.of_calls(connection, [call_id])).get(call_id)
            if found is None or found.visitor_id is None or found.confidence < told.SURE:
                return None
            known = (await visits.known(connection, [found.visitor_id])).get(found.visitor_id)
            visit = await visits.visit_of(connection, found.visitor_id, found.at_us)
        return None if known is None or visit is None else visitor(known.person, visit)


def visitor(person: visits.Person, visit: visits.Visit) -> told.Visitor:
    """What adapters are told of somebody and the visit from which they called."""
    ids = person.ids
    return told.Visitor(
        visitor_id=person.visitor_id,
        session_started_us=visit.touch.at_us,
        session_seen_us=max(visit.seen_us, visit.touch.at_us),
        ga_client_id=ids.get("ga"),
        ga_sessions=_sessions(ids),
        ym_client_id=ids.get("ym_uid"),
        fbp=ids.get("fbp"),
        fbc=ids.get("fbc"),
        allows_ads=person.variables.get(told.AD_CONSENT) == told.GRANTED,
        landing_page=visit.touch.landing_page,
    )


def _sessions(ids: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(_SESSION): value for name, value in ids.items() if name.startswith(_SESSION)}
