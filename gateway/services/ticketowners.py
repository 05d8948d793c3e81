"""Whose a ticket becomes: of those on duty, and not on break while another is there (R43, R72)."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway import store
from gateway.core import book, ticketduty, tickets
from gateway.store import agents
from gateway.store import calls as stored_calls
from gateway.store import tickets as stored

SECOND_US = 1_000_000
LAST_AGENT_US = 365 * 86_400 * SECOND_US
"""How long a caller belongs to the agent who spoke to them last."""


async def choose(
    tx: store.Transaction, caller: str, route: book.Route | None, in_force: book.Book | None, at_us: int
) -> str | None:
    """Key of an agent on duty at `at_us`; who is on break is asked now. None: nobody is on duty.

    `caller`: E.164 with `+`, "" when unknown.
    """
    duty = ticketduty.on_duty(route, in_force, datetime.fromtimestamp(at_us / SECOND_US, UTC))
    if not duty:
        return None
    return await _of(tx, ticketduty.present(duty, await agents.on_break(tx)), caller, route, at_us)


async def instead(
    tx: store.Transaction, ticket: tickets.Ticket, route: book.Route | None, in_force: book.Book | None, now_us: int
) -> str | None:
    """Who takes over a ticket that is due and nobody's, or of somebody on break. None: it stays as it is, for its owner
    is there, or nobody else is."""
    away = await agents.on_break(tx)
    if ticket.owner is not None and ticket.owner not in away:
        return None
    duty = ticketduty.on_duty(route, in_force, datetime.fromtimestamp(now_us / SECOND_US, UTC))
    there = tuple(agent for agent in duty if agent not in away)
    if not there:
        return None
    return await _of(tx, there, ticket.caller or "", route, now_us)


async def _of(
    tx: store.Transaction, duty: tuple[str, ...], caller: str, route: book.Route | None, at_us: int
) -> str | None:
    rules = ticketduty.rules_of(route)
    last = await stored_calls.last_answering_agent(tx, caller, at_us - LAST_AGENT_US)
    load = await stored.load_of_agents(tx, duty)
    return ticketduty.chosen(rules, duty, last_agent=last.agent if last is not None else None, load=load)
