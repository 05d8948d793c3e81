"""Looks at what alarms are about, and tells when one is raised or cleared (R66): as an event in the outbox, from where
it goes to receivers and by mail like any other."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, tzinfo

from gateway import log, store
from gateway.core import alarms, events, records
from gateway.store import alarms as stored
from gateway.store import outbox

SECOND_US = 1_000_000
ALERT = "system.alert"
GONE_US = 7 * 86_400 * SECOND_US
"""By then a node that does not look at itself any more has left the house, or has another name."""

_log = log.get("alerting")

Look = Callable[[], Awaitable[Sequence[alarms.Reading]]]
"""What is found now. Subjects that are not named any more count as well, but for those of other nodes."""


class Alerting:
    """`run` is a root task: one look every `poll_seconds`."""

    def __init__(
        self,
        database: store.Database,
        look: Look,
        rules: Mapping[str, alarms.Rule],
        *,
        quiet_hours: alarms.QuietHours | None,
        zone: Callable[[], tzinfo],
        node: str,
        now_us: Callable[[], int],
        targets: Collection[str],
        events_added: Callable[[], None],
        poll_seconds: float = 10.0,
    ) -> None:
        self._database = database
        self._look = look
        self._rules = rules
        self._quiet_hours = quiet_hours
        self._zone = zone
        self._node = node
        self._now_us = now_us
        self._targets = targets
        self._events_added = events_added
        self._poll_seconds = poll_seconds
        self._messages: dict[stored.Key, str] = {}
        self.raised: frozenset[stored.Key] = frozenset()
        """Kind and subject of the alarms that are up."""

    def counts(self) -> dict[str, int]:
        """How many are up, by kind."""
        return {kind: sum(raised == kind for raised, _ in self.raised) for kind in self._rules}

    async def run(self) -> None:
        """Never returns; without the database alarms wait."""
        while True:
            try:
                await self.step()
            except store.StoreUnavailable as error:
                _log.warning("alarms not looked at, will be tried again", error=str(error))
            await asyncio.sleep(self._poll_seconds)

    async def step(self) -> None:
        """One look."""
        readings = {(one.kind, one.subject): one for one in await self._look() if one.kind in self._rules}
        now_us = self._now_us()
        is_quiet = self._is_quiet(now_us)
        async with self._database.read() as connection:
            before = await stored.all_states(connection)
        if not before and not any(one.holds for one in readings.values()):
            self.raised = frozenset()
            return
        async with self._database.begin() as tx:
            before = await stored.all_states(tx, alone=True)
            changed: dict[stored.Key, alarms.State] = {}
            told: list[tuple[alarms.Reading, alarms.News]] = []
            for key in sorted({*before, *readings}):
                was = before.get(key, alarms.QUIET)
                if key not in readings and self._is_anothers(key, was, now_us):
                    changed[key] = was
                    continue
                reading = readings.get(key) or self._gone(key)
                state, news = self._judged(was, reading, now_us, is_quiet)
                changed[key] = state
                told += [(reading, one) for one in news]
            await stored.save(tx, {key: one for key, one in changed.items() if one != before.get(key, alarms.QUIET)})
            if told:
                await outbox.add(tx, [self._event(*one, now_us) for one in told], self._targets)
        self.raised = frozenset(key for key, state in changed.items() if state.raised_us is not None)
        self._messages |= {key: one.message for key, one in readings.items()}
        for reading, news_ in told:
            self._tell(reading, news_)
        if told:
            self._events_added()

    def _judged(
        self, state: alarms.State, reading: alarms.Reading, now_us: int, is_quiet: bool
    ) -> tuple[alarms.State, list[alarms.News]]:
        rule = self._rules.get(reading.kind)
        if rule is None:
            return alarms.QUIET, []
        state, cleared = alarms.judge(state, reading, rule, now_us)
        state, raised = alarms.tell(state, rule, now_us, is_quiet=is_quiet)
        return state, [one for one in (cleared, raised) if one is not None]

    def _gone(self, key: stored.Key) -> alarms.Reading:
        """A subject that is not there any more (a target that left the routing file) is well."""
        return alarms.Reading(*key, holds=False, message=self._messages.get(key, f"{key[1]}: not watched any more"))

    def _is_anothers(self, key: stored.Key, state: alarms.State, now_us: int) -> bool:
        """Whether another node, which shares the database, judges this one."""
        rule = self._rules.get(key[0])
        if rule is None or not rule.of_node or key[1] == self._node:
            return False
        return now_us - (state.raised_us or state.pending_us or 0) < GONE_US

    def _is_quiet(self, now_us: int) -> bool:
        local = datetime.fromtimestamp(now_us / SECOND_US, UTC).astimezone(self._zone())
        return self._quiet_hours is not None and local in self._quiet_hours

    def _event(self, reading: alarms.Reading, news: alarms.News, now_us: int) -> outbox.Event:
        state = "raised" if news.is_raised else "cleared"
        name = f"{ALERT}/{reading.kind}/{reading.subject}/{news.since_us}/{state}"
        event_id = str(uuid.uuid5(events.EVENT_IDS, name))
        data = {
            "kind": reading.kind,
            "subject": reading.subject,
            "state": state,
            "severity": self._rules[reading.kind].severity.value,
            "message": reading.message if news.is_raised else f"over: {reading.message}",
            "since": records.timestamp(news.since_us),
            "value": reading.value,
            "node": self._node,
            "call_id": None,
        }
        body = {"id": event_id, "type": ALERT, "timestamp": records.timestamp(now_us), "data": data}
        payload = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        return outbox.Event(event_id, ALERT, now_us, payload)

    def _tell(self, reading: alarms.Reading, news: alarms.News) -> None:
        if news.is_raised:
            _log.warning("alarm raised", kind=reading.kind, subject=reading.subject, message=reading.message)
        else:
            _log.info("alarm cleared", kind=reading.kind, subject=reading.subject)
