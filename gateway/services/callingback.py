"""Answers the agents' codes: whom `*28` calls back, how `*29` stands. Begins what is clicked.

An answer tells the dialplan and writes one row: whose the ticket is for the moment. All else (the call, its result, the
break) comes by the journal, so nothing hangs on the daemon once the customer's phone rings.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from gateway import store
from gateway.core import book, callingback, handling, plans, prompts
from gateway.core.callingback import Refusal
from gateway.core.tickets import Ticket
from gateway.pbx import agi, callbackvars
from gateway.store import agents as stored_agents
from gateway.store import tickets as stored_tickets

log = structlog.get_logger()

POLL_SECONDS = 0.5
ANSWERED_US = 15_000_000
"""From a click's last ring to its question."""

Ring = Callable[[str, int, str, int], Awaitable[None]]
"""Rings an agent's endpoint for a ticket's number, with a token, for so many seconds. Raises ConnectionError."""

Breaks = Callable[[frozenset[str]], None]


class Refused(Exception):
    """Nobody is called."""

    def __init__(self, why: Refusal) -> None:
        self.why = why
        super().__init__(why.value)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The arguments of the dialplan's question behind its key, each filtered there."""

    call_id: str
    ticket: str
    phone: str
    context: str
    token: str


class CallingBack:
    """`refusal`: why nothing may be recorded now. `ring` None: clicks are off. `key` stands in the dialplan: FastAGI
    knows nobody, and whom to call back is no business of a program that happens to run on the machine."""

    def __init__(
        self,
        database: store.Database,
        *,
        rules: callingback.Rules,
        key: str,
        now_us: Callable[[], int],
        refusal: Callable[[], str | None] = lambda: None,
        ring: Ring | None = None,
        ring_seconds: int = 25,
        breaks_changed: Breaks = lambda _: None,
    ) -> None:
        self._database = database
        self._rules = rules
        self._key = key
        self._now_us = now_us
        self._refusal = refusal
        self._ring = ring
        self._ring_seconds = ring_seconds
        self._breaks_changed = breaks_changed
        self._book: book.Book | None = None
        self._shelf = prompts.EMPTY
        self.on_break: frozenset[str] = frozenset()
        """Keys of agents, as of the last look."""

    def use(self, routing_book: book.Book) -> None:
        """Answers from this book from now on."""
        self._book = routing_book

    def use_prompts(self, shelf: prompts.Shelf) -> None:
        """Says what is on this shelf from now on."""
        self._shelf = shelf

    async def run(self) -> None:
        """Follows who is on break. Never returns."""
        while True:
            await self.look()
            await asyncio.sleep(POLL_SECONDS)

    async def look(self) -> None:
        """Reads who is on break; while the store does not answer, what was known holds."""
        try:
            async with self._database.read() as connection:
                found = await stored_agents.on_break(connection)
        except store.StoreUnavailable as error:
            log.warning("breaks not readable, the last ones hold", error=str(error))
            return
        if found != self.on_break:
            self.on_break = found
            self._breaks_changed(found)

    def answer(self, request: agi.AgiRequest) -> Awaitable[agi.Pairs | None] | agi.Pairs | None:
        """The answer to `*28`, or to a click whose phone was answered. None: no book yet, or not our dialplan."""
        routing_book = self._book
        if routing_book is None or len(request.arguments) != 6 or not self._is_ours(request):
            return None
        return self._answer(_Asked(*request.arguments[1:]), routing_book)

    async def break_answer(self, request: agi.AgiRequest) -> agi.Pairs | None:
        """The answer to `*29`: how the switch stands. None: no book yet."""
        routing_book = self._book
        if routing_book is None or len(request.arguments) != 3 or not self._is_ours(request):
            return None
        _, phone, context = request.arguments
        agent = callingback.agent_of(phone, routing_book)
        language = routing_book.default_site.language
        if not callingback.is_local_phone(phone, context, routing_book):
            return self._told(Refusal.NOT_A_PHONE, language, phone, "")
        if agent is None:
            return self._told(Refusal.UNKNOWN_AGENT, language, phone, "")
        async with self._database.read() as connection:
            is_on = agent.key in await stored_agents.on_break(connection)
        return callbackvars.switch(is_on=is_on, language=language, shelf=self._shelf)

    async def click(self, number: int, agent_key: str) -> None:
        """Rings the agent's phone for this ticket; once it is answered, the customer is called.

        Raises Refused, LookupError (no such agent, or one without a phone), ConnectionError (clicks are off, or
        Asterisk cannot be asked), StoreError.
        """
        routing_book, ring = self._book, self._ring
        if routing_book is None or ring is None:
            raise ConnectionError("clicks are switched off (callbacks.click)")
        agent = routing_book.agents.get(agent_key)
        if agent is None or agent.endpoint is None:
            raise LookupError(agent_key)
        token = secrets.token_hex(16)
        until_us = self._now_us() + self._ring_seconds * 1_000_000 + ANSWERED_US
        async with self._database.begin() as tx:
            await self._claimed(tx, number, agent, routing_book, until_us, call_id=None, token=_digest(token))
        try:
            await ring(agent.endpoint, number, token, self._ring_seconds)
        except ConnectionError:
            async with self._database.begin() as tx:
                await stored_agents.drop_claim(tx, number, _digest(token))
            raise
        log.info("call-back clicked", ticket=number, agent=agent.key)

    async def _answer(self, asked: _Asked, routing_book: book.Book) -> agi.Pairs:
        agent = callingback.agent_of(asked.phone, routing_book)
        language = routing_book.default_site.language
        try:
            ticket = await self._taken(asked, agent, routing_book)
        except Refused as refused:
            return self._told(refused.why, language, asked.phone, asked.ticket)
        plan = callingback.plan(ticket, routing_book)
        log.info("call-back begins", call_id=asked.call_id, ticket=plan.ticket, phone=asked.phone)
        return callbackvars.calls(
            self._as_recordable(plan),
            routing_book.revision,
            self._shelf,
            whisper=self._shelf.first(_whisper(ticket, routing_book)),
            keyed=self._rules.keyed,
        )

    async def _taken(self, asked: _Asked, agent: book.Agent | None, routing_book: book.Book) -> Ticket:
        """The ticket, which is this agent's from here on. Raises Refused."""
        is_phone = callingback.is_local_phone(asked.phone, asked.context, routing_book)
        if not is_phone and not asked.token:
            raise Refused(Refusal.NOT_A_PHONE)
        if agent is None:
            raise Refused(Refusal.UNKNOWN_AGENT)
        if not asked.ticket:
            raise Refused(Refusal.NO_NUMBER)
        number = callingback.ticket_number(asked.ticket)
        if number is None:
            raise Refused(Refusal.NO_TICKET)
        until_us = self._now_us() + callingback.CLAIM_US
        async with self._database.begin() as tx:
            if asked.token:
                await self._redeemed(tx, number, agent, asked.token)
            return await self._claimed(tx, number, agent, routing_book, until_us, call_id=asked.call_id)

    async def _redeemed(self, tx: store.Transaction, number: int, agent: book.Agent, token: str) -> None:
        """A token holds once, for its ticket and agent, and not for long. Raises Refused."""
        claim = await stored_agents.claim_of(tx, number)
        if claim is None or (claim.agent, claim.call_id) != (agent.key, None) or claim.until_us < self._now_us():
            raise Refused(Refusal.BUSY)
        if claim.token is None or not secrets.compare_digest(claim.token, _digest(token)):
            raise Refused(Refusal.NOT_A_PHONE)

    async def _claimed(
        self,
        tx: store.Transaction,
        number: int,
        agent: book.Agent,
        routing_book: book.Book,
        until_us: int,
        *,
        call_id: str | None,
        token: str | None = None,
    ) -> Ticket:
        """Raises Refused."""
        # Alone with it: of two agents who dial at once, the second sees the claim of the first.
        ticket = await stored_tickets.by_number(tx, number, alone=True)
        why = callingback.refusal(ticket, agent, self._rules, routing_book)
        if why is not None or ticket is None:
            raise Refused(why or Refusal.NO_TICKET)
        claim = await stored_agents.claim_of(tx, number)
        if claim is not None and await self._is_taken(tx, claim, agent):
            raise Refused(Refusal.BUSY)
        await stored_agents.keep_claim(tx, stored_agents.Claim(number, agent.key, until_us, call_id, token))
        return ticket

    async def _is_taken(self, tx: store.Transaction, claim: stored_agents.Claim, agent: book.Agent) -> bool:
        """One's own that no call has followed yet is no hindrance: the phone was put down, or answered no click."""
        if claim.agent == agent.key:
            return await stored_agents.is_call_up(tx, claim)
        return await stored_agents.is_at_it(tx, claim, self._now_us())

    def _as_recordable(self, plan: callingback.Plan) -> callingback.Plan:
        if self._refusal() is None or plan.consent.mode is book.RecordingMode.OFF:
            return plan
        return callingback.unrecorded(plan)

    def _is_ours(self, request: agi.AgiRequest) -> bool:
        return secrets.compare_digest(request.arguments[0].encode(), self._key.encode())

    def _told(self, why: Refusal, language: str, phone: str, ticket: str) -> agi.Pairs:
        log.info("code refused", reason=why.value, phone=phone, ticket=ticket)
        return callbackvars.told(why, language, self._shelf)


def _whisper(ticket: Ticket, routing_book: book.Book) -> tuple[prompts.Wanted, ...]:
    """Whom the agent is about to talk to, as the missed call would have been whispered."""
    number = routing_book.tracking_numbers.get((ticket.tracking_number or "").lstrip("+"))
    route = routing_book.routes.get(number.route) if number is not None else None
    if number is None or route is None or not route.whisper:
        return ()
    return handling.whisper_of(route, number, routing_book, plans.History())


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
