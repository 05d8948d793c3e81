"""Tickets of missed calls, opened and closed by the calls themselves, in the transaction that stores them (R37, N8).

    missed inbound call ──▶ why (ticketcauses) ──▶ no ticket (counted) │ merged into the open one │ a new one
    answered call, either way ──▶ the caller's open ticket is closed
    outbound call that nobody answered ──▶ an attempt

A call does each of this once, whatever is read again. The same calls give the same tickets in any order: a miss that is
read after the talk that followed it opens none.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from gateway import store
from gateway.core import book, events, numbers, ticketcauses, ticketduty, ticketrules, tickets
from gateway.services import filing, ticketkeeping, ticketowners, ticketresults
from gateway.store import calls as stored_calls
from gateway.store import tagchecks
from gateway.store import tickets as stored

SECOND_US = 1_000_000


class _Call:
    """A call as it is stored now. `person`: E.164 with `+` of who called or was called; "" when unknown."""

    __slots__ = ("person", "record", "row")

    def __init__(self, filed: filing.Filed) -> None:
        self.row = filed.row
        self.record = filed.document
        self.person = _person(filed.row)

    @property
    def is_miss(self) -> bool:
        return self.row.direction == "inbound" and self.row.state == "closed" and self.row.missed

    @property
    def is_talk(self) -> bool:
        return self.row.answered_us is not None

    @property
    def is_try(self) -> bool:
        return self.row.direction == "outbound" and self.row.state == "closed" and not self.is_talk

    @property
    def at_us(self) -> int:
        """A miss happens at its end, a talk when it begins, an attempt when it is made."""
        if self.is_miss:
            return self.row.ended_us or self.row.last_row_us
        return self.row.answered_us or self.row.started_us


class Ticketing:
    """Runs inside the transaction of the calls."""

    def __init__(self, *, targets: Collection[str], now_us: Callable[[], int]) -> None:
        self._targets = targets
        self._now_us = now_us

    async def file(self, tx: store.Transaction, filed: Sequence[filing.Filed], in_force: book.Book | None) -> list[str]:
        """What these calls, stored just now, mean for tickets. For each missed one what became of it: `opened`,
        `merged`, or why it gave none."""
        found = await self._of_calls(tx, filed, in_force)
        await ticketresults.file(tx, filed, in_force, targets=self._targets, now_us=self._now_us())
        return found

    async def _of_calls(
        self, tx: store.Transaction, filed: Sequence[filing.Filed], in_force: book.Book | None
    ) -> list[str]:
        calls = [call for call in map(_Call, filed) if call.is_miss or (call.person and (call.is_talk or call.is_try))]
        if not calls:
            return []
        others = {call.person for call in calls if not call.is_miss}
        concerned = await stored.open_callers(tx, others) if others else set[str]()
        concerned |= {call.person for call in calls if call.is_miss}
        calls = [call for call in calls if call.person in concerned]
        if not calls:
            return []
        found: list[str] = []
        done = await stored.parts(tx, [call.row.call_id for call in calls])
        # By caller: two processes that write the same tickets take them in the same order.
        for call in sorted(calls, key=lambda call: (call.person, call.at_us, call.row.call_id)):
            part = done.get(call.row.call_id, (0, ""))[1]
            if call.is_talk:
                if part not in (ticketkeeping.REACHED, ticketkeeping.KEYED):
                    await self._talked(tx, call, in_force)
            elif call.is_miss:
                found += await self._missed(tx, call, in_force)
            elif not part:
                await self._tried(tx, call, in_force)
        return found

    # --- a talk, an attempt ---

    async def _talked(self, tx: store.Transaction, call: _Call, in_force: book.Book | None) -> None:
        ticket = await stored.open_of(tx, call.person, alone=True)
        was_miss = ticket is not None and ticket.last_call_id == call.row.call_id
        if ticket is None or (call.at_us < ticket.last_miss_us and not (was_miss or await _crossed(tx, ticket, call))):
            return
        is_outbound = call.row.direction == "outbound"
        result = tickets.Result.CALLED_BACK if is_outbound else tickets.Result.CALLED_AGAIN
        agent = _caller_agent(call.record, in_force) if is_outbound else call.row.agent
        actor = ticketkeeping.actor_of(call.record, agent) if is_outbound or agent else tickets.SYSTEM
        change = tickets.reached(
            ticket, call.at_us, result, actor=actor, call_id=call.row.call_id, is_attempt=is_outbound
        )
        await stored.note_part(tx, call.row.call_id, ticket.number, ticketkeeping.REACHED, call.at_us)
        await ticketkeeping.keep(tx, change, targets=self._targets, now_us=self._now_us())

    async def _tried(self, tx: store.Transaction, call: _Call, in_force: book.Book | None) -> None:
        if not ticketcauses.is_attempt(call.record):
            return
        ticket = await stored.open_of(tx, call.person, alone=True)
        if ticket is None or call.at_us < ticket.opened_us:
            return
        await ticketkeeping.count_try(
            tx,
            ticket,
            ticketduty.terms(_route(in_force, ticket.route), in_force),
            call.record,
            call.at_us,
            _caller_agent(call.record, in_force),
            targets=self._targets,
            now_us=self._now_us(),
        )

    # --- a miss ---

    async def _missed(self, tx: store.Transaction, call: _Call, in_force: book.Book | None) -> list[str]:
        verdict = ticketcauses.verdict(call.record, await _signs(tx, call, in_force))
        if not await stored.judge(tx, call.row.call_id, call.at_us, verdict):
            return []
        route = _route(in_force, call.record["route"] or _route_of_number(call.row.did, in_force))
        number: int | None = None
        result = _why_none(call.record, verdict, ticketduty.rules_of(route))
        if result is None and await stored.later_talk(tx, call.person, call.row.started_us):
            result = "spoken_since"
        if result is None:
            number, result = await self._merged_or_opened(tx, call, verdict, route, in_force)
        await stored.note_outcome(tx, call.row.call_id, ticket=number, skipped=result if number is None else None)
        return [result]

    async def _merged_or_opened(
        self,
        tx: store.Transaction,
        call: _Call,
        verdict: ticketcauses.Verdict,
        route: book.Route | None,
        in_force: book.Book | None,
    ) -> tuple[int | None, str]:
        terms = ticketduty.terms(route, in_force)
        now_us = self._now_us()
        known = await stored.open_of(tx, call.person, alone=True)
        if known is None:
            owner = await ticketowners.choose(tx, call.person, route, in_force, call.at_us)
            made = await ticketkeeping.add_new(
                tx, _new(call, verdict, route, owner), terms, targets=self._targets, now_us=now_us
            )
            if made is not None:
                await stored.note_part(tx, call.row.call_id, made.number, ticketkeeping.MISS, call.at_us)
                return made.number, "opened"
            # Another process opened one meanwhile.
            known = await stored.open_of(tx, call.person, alone=True)
        if known is None:
            return None, "opened_before"
        change = tickets.missed_again(known, terms, call.at_us, call.row.call_id)
        await stored.note_part(tx, call.row.call_id, known.number, ticketkeeping.MISS, call.at_us)
        await ticketkeeping.keep(tx, change, targets=self._targets, now_us=now_us)
        return known.number, "merged"


def _new(call: _Call, verdict: ticketcauses.Verdict, route: book.Route | None, owner: str | None) -> tickets.Ticket:
    record, attributed = call.record, dict(call.record["attribution"])
    attributed.pop("candidates", None)
    return tickets.Ticket(
        number=0,
        ticket_id=str(uuid.uuid5(events.EVENT_IDS, f"ticket/{call.row.call_id}")),
        kind=tickets.Kind.MISSED,
        caller=call.person,
        caller_name=record["caller"]["name"],
        opened_us=call.at_us,
        last_miss_us=call.at_us,
        round_us=call.at_us,
        deadline_us=call.at_us,
        wanted=0,
        call_id=call.row.call_id,
        last_call_id=call.row.call_id,
        tracking_number=record["tracking"]["number"],
        route=route.key if route is not None else record["route"],
        site=record["site"],
        node=call.row.node,
        source=call.row.source,
        campaign=call.row.campaign,
        attribution=attributed,
        consent_mode=record["recording_consent"]["mode"],
        consent_region=record["recording_consent"]["region"],
        cause=verdict.cause.value,
        evidence=verdict.evidence,
        owner=owner,
    )


def _why_none(record: Mapping[str, Any], verdict: ticketcauses.Verdict, rules: ticketrules.Rules) -> str | None:
    """Why a missed call gives no ticket, None when it does."""
    wants = verdict.why == "callback_wanted"
    if not rules.enabled:
        return "off"
    if ticketcauses.is_anonymous(record):
        return "anonymous"
    if ticketcauses.is_short_abandon(record) and not rules.short_abandons and not wants:
        return "short_abandon"
    if verdict.cause is ticketcauses.Cause.SYSTEM and rules.system_faults is ticketrules.Faults.ALERT and not wants:
        return "system_fault"
    return None


async def _crossed(tx: store.Transaction, ticket: tickets.Ticket, talk: _Call) -> bool:
    """Whether the caller was still ringing us when they were called back, and gave that up for it."""
    last = await stored_calls.get(tx, ticket.last_call_id) if ticket.last_call_id is not None else None
    return last is not None and last.started_us <= talk.at_us


async def _signs(tx: store.Transaction, call: _Call, in_force: book.Book | None) -> ticketcauses.Signs:
    is_known = in_force is None or call.record["tracking"]["kind"] is not None
    if not ticketcauses.is_short_abandon(call.record):
        return ticketcauses.Signs(is_known)
    started_us = call.row.started_us
    count, short = await stored.abandons(
        tx, call.row.did, started_us - ticketcauses.SPIKE_SECONDS * SECOND_US, started_us
    )
    wrong = await tagchecks.problem_of(tx, call.row.did, started_us)
    return ticketcauses.Signs(is_known, short, count, wrong)


def _person(row: stored_calls.CallRow) -> str:
    number = row.did if row.direction == "outbound" else row.caller
    return number if number is not None and numbers.is_e164(number) else ""


def _route(in_force: book.Book | None, key: str | None) -> book.Route | None:
    return None if in_force is None or key is None else in_force.routes.get(key)


def _route_of_number(did: str, in_force: book.Book | None) -> str | None:
    known = None if in_force is None else in_force.tracking_numbers.get(did.removeprefix("+"))
    return None if known is None else known.route


def _caller_agent(record: Mapping[str, Any], in_force: book.Book | None) -> str | None:
    """Whose phone made an outbound call."""
    if record["agent"] is not None:
        return str(record["agent"])
    extension = record["caller"]["raw"]
    if in_force is None or not extension:
        return None
    return next(
        (agent.key for agent in in_force.agents.values() if extension in (agent.extension, agent.endpoint)), None
    )


async def take_request(
    tx: store.Transaction,
    event_id: str,
    data: Mapping[str, Any],
    *,
    node: str,
    in_force: book.Book | None,
    targets: Collection[str],
    now_us: int,
) -> int | None:
    """The ticket of a request on a page, in the transaction that stores the request: a new one, or the one that its
    caller has open. Its number; None when it was there already."""
    ticket = of_request(event_id, data, node=node, at_us=now_us)
    route = _route_of_site(in_force, ticket.site)
    terms = ticketduty.terms(route, in_force)
    known = await stored.open_of(tx, ticket.caller, alone=True) if ticket.caller is not None else None
    if known is not None:
        change = tickets.missed_again(_with_request(known, ticket), terms, now_us, None, text="request")
        await ticketkeeping.keep(tx, change, targets=targets, now_us=now_us)
        return known.number
    owner = await ticketowners.choose(tx, ticket.caller or "", route, in_force, now_us)
    ticket = dataclasses.replace(ticket, route=route.key if route is not None else None, owner=owner)
    made = await ticketkeeping.add_new(tx, ticket, terms, targets=targets, now_us=now_us)
    return None if made is None else made.number


def _with_request(known: tickets.Ticket, asked: tickets.Ticket) -> tickets.Ticket:
    """What was asked last is what whoever calls back has to know."""
    name = known.caller_name or asked.caller_name
    return dataclasses.replace(known, request={**known.request, **asked.request}, caller_name=name)


def _route_of_site(in_force: book.Book | None, site: str | None) -> book.Route | None:
    """The first one of the site says who calls back."""
    if in_force is None:
        return None
    return next((route for route in in_force.routes.values() if route.site == site), None)


def request_id(event_id: str) -> str:
    """The ticket of a request on a page."""
    return str(uuid.uuid5(events.EVENT_IDS, f"ticket/request/{event_id}"))


def of_request(event_id: str, data: Mapping[str, Any], *, node: str, at_us: int) -> tickets.Ticket:
    """The ticket of a request (`callback.requested`), without owner. `data`: the event's."""
    attributed = dict(data.get("attribution") or {})
    if data.get("visitor_id") is not None:
        attributed["visitor_id"] = data["visitor_id"]
    said = {name: data[name] for name in ("message", "when", "page", "number_raw") if data.get(name)}
    return tickets.Ticket(
        number=0,
        ticket_id=request_id(event_id),
        kind=tickets.Kind.REQUEST,
        caller=data["number"],
        caller_name=data["name"],
        opened_us=at_us,
        last_miss_us=at_us,
        round_us=at_us,
        deadline_us=at_us,
        wanted=0,
        site=data["site"],
        node=node,
        source=attributed.get("source"),
        campaign=attributed.get("campaign"),
        attribution=attributed,
        request=said,
    )
