"""Answers the dialplan's one question with the whole plan of the call, from the routing book in memory.

A look-up that the answer needs from the database has `lookup_seconds`; late or failing, it means an unknown caller.
Whatever goes wrong here, the dialplan takes the number's default plan: `answer` gives None and the session is closed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from gateway import store
from gateway.core import book, consent, numbers, plans, prompts, routing, whisper
from gateway.pbx import agi, dialvars
from gateway.store import calls

log = structlog.get_logger()

TURNS_WINDOW = timedelta(days=1)
"""How far back the store is asked where round robin and weights go on after a restart."""

Now = Callable[[], datetime]

Refusal = Callable[[], str | None]
"""Why new calls must not be recorded now; None = they may. Asked for each call, so it must not block."""

Want = Callable[[tuple[prompts.Wanted, ...]], None]
"""Told the choices of a whisper whose best was not ready, so that the next such call has it. Must not block."""

VisitorOf = Callable[[store.Connection, routing.Question, book.Book], Awaitable[whisper.Visitor | None]]
"""Who is probably calling a pool number, for the whisper."""

Called = Callable[[str], None]
"""Told the number (E.164 with `+`) of each call, so that it is lent to nobody else meanwhile. Must not block."""


class Router:
    """Holds the routing book in force; `use` swaps it whole, so a call sees one revision only."""

    def __init__(
        self,
        database: store.Database,
        *,
        now: Now,
        lookup_seconds: float,
        want: Want | None = None,
        refusal: Refusal = lambda: None,
        visitor_of: VisitorOf | None = None,
        called: Called | None = None,
    ) -> None:
        self._database = database
        self._now = now
        self._lookup_seconds = lookup_seconds
        self._book: book.Book | None = None
        self._turns: Counter[str] = Counter()
        self._encoded: dict[tuple[int, bool], tuple[routing.Plan, list[tuple[str, str]]]] = {}
        self._shelf = prompts.EMPTY
        self._want = want
        self._refusal = refusal
        self._visitor_of = visitor_of
        self._called = called
        self._on_break: frozenset[str] = frozenset()
        self.late_look_ups = 0

    @property
    def revision(self) -> int | None:
        """Revision of the book in force, None before the first."""
        return self._book.revision if self._book else None

    async def restore(self) -> None:
        """Takes up the turns of round robin where the last run left them."""
        since = self._now() - TURNS_WINDOW
        async with self._database.read() as connection:
            self._turns.update(await calls.turns(connection, int(since.timestamp() * 1_000_000)))

    def use(self, routing_book: book.Book) -> None:
        """Answers from this book from now on."""
        self._book = routing_book
        self._encoded = {}

    def use_breaks(self, agents: frozenset[str]) -> None:
        """These agents (keys) are on break from now on."""
        self._on_break = agents

    def use_prompts(self, shelf: prompts.Shelf) -> None:
        """Plays from this shelf from now on."""
        self._shelf = shelf
        self._encoded = {}

    def answer(self, request: agi.AgiRequest) -> agi.Pairs | Awaitable[agi.Pairs | None] | None:
        """The plan as channel variables; None = no book yet, the dialplan knows what to do.

        Arguments are call id, DID, caller and trunk as the dialplan filtered them. Most routes need nothing from the
        database: they are answered at once, which is why this is no coroutine.
        """
        routing_book = self._book
        if routing_book is None or len(request.arguments) < 3:
            return None
        call_id, did, caller, *rest = request.arguments
        trunk = rest[0] if rest else ""
        if self._called is not None:
            self._called(f"+{did}")
        question = routing.Question(call_id=call_id, did=did, caller=caller, at=self._now(), trunk=trunk or None)
        wanted = routing.look_ups(did, routing_book)
        history = self._known(question, wanted)
        if wanted.calls_before or wanted.last_agent or wanted.idle_since or wanted.visitor:
            return self._answer_after_look_up(question, routing_book, wanted, history)
        return self._plan(question, routing_book, history)

    async def _answer_after_look_up(
        self, question: routing.Question, routing_book: book.Book, wanted: routing.LookUps, known: routing.History
    ) -> agi.Pairs:
        history = known
        try:
            async with asyncio.timeout(self._lookup_seconds), self._database.read() as connection:
                history = await _looked_up(connection, question, routing_book, wanted, known)
                if wanted.visitor and self._visitor_of is not None:
                    # Last, since only the whisper wants it: it must not cost the caller what is known by now.
                    visitor = await self._visitor_of(connection, question, routing_book)
                    history = replace(history, visitor=visitor)
        except (TimeoutError, store.StoreError) as error:
            self.late_look_ups += 1
            log.warning("caller look-up failed, routed as unknown", call_id=question.call_id, error=repr(error))
        return self._plan(question, routing_book, history)

    def _plan(self, question: routing.Question, routing_book: book.Book, history: routing.History) -> agi.Pairs:
        plan = routing.decide(question, routing_book, history)
        if plan.route is not None:
            self._turns[plan.route] += 1
        return self._variables(plan)

    def _variables(self, plan: routing.Plan) -> list[tuple[str, str]]:
        """Equal choices share one Plan, so its encoding is kept; the plan is held too, so that its id stays its own."""
        refusal = self._refusal()
        key = id(plan), refusal is None
        known = self._encoded.get(key)
        if known is not None and known[0] is plan:
            return known[1]
        answered = plan if refusal is None else plans.unrecorded(plan, refusal)
        variables = dialvars.variables(answered, "agi", self._shelf)
        if plan.whisper and self._want is not None and self._shelf.find(plan.whisper[0]) is None:
            self._want(plan.whisper)
        if len(self._encoded) > 20_000:
            self._encoded.clear()
        self._encoded[key] = (plan, variables)
        return variables

    def _known(self, question: routing.Question, wanted: routing.LookUps) -> routing.History:
        """What is known of the call without asking the database."""
        country = region = None
        if not question.caller:
            return routing.History(turns=self._turns, on_break=self._on_break)
        number = f"+{question.caller}"
        if wanted.region:
            country = numbers.country_of(number)
            region = numbers.region_of(number, "en")
        return routing.History(
            turns=self._turns,
            on_break=self._on_break,
            caller_country=country,
            caller_region=region,
            consent_region=consent.caller_region(number) if wanted.consent_region else None,
            city=(numbers.region_of(number, wanted.city) or "") if wanted.city is not None else "",
        )


async def _looked_up(
    connection: store.Connection,
    question: routing.Question,
    routing_book: book.Book,
    wanted: routing.LookUps,
    known: routing.History,
) -> routing.History:
    number = f"+{question.caller}" if question.caller else ""
    calls_before, last, idle = None, None, {}
    if wanted.calls_before and number:
        calls_before = await calls.calls_before(connection, number, _microseconds(question.at))
    if wanted.last_agent and number:
        longest = max((route.sticky_days for route in routing_book.routes.values()), default=0)
        since = question.at - timedelta(days=longest)
        last = await calls.last_answering_agent(connection, number, _microseconds(since))
    if wanted.idle_since:
        seen = await calls.idle_since(connection, list(routing_book.destinations))
        idle = {
            key: datetime.fromtimestamp(state.ended_us / 1_000_000, question.at.tzinfo)
            for key, state in seen.items()
            if state.ended_us is not None
        }
    return replace(
        known,
        calls_before=calls_before,
        last_agent=last.agent if last else None,
        last_agent_at=datetime.fromtimestamp(last.answered_us / 1_000_000, question.at.tzinfo) if last else None,
        idle_since=idle,
    )


def _microseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)
