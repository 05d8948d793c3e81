"""What a call is worth to ad platforms and analytics: a lead or not, for how much, and since when (R2, R77, R85, R90).

Who said it counts in this order: a person or the CRM, the rules of the routing file, a key pressed after the call, the
length of the talk. Spam is nothing to anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from gateway.core import deals
from gateway.core.outgoing import told

LEAD_DUE = "lead_due"
"""Key of `known` beside `sent`: whether the lead of a call that was sent may still follow (`YES`) or went (`NO`)."""
YES, NO = "yes", "no"


class Counts(StrEnum):
    """What a lead, or conversion, is."""

    QUALIFIED = "qualified"
    """A call worth having: marked so, or long enough."""
    WON = "won"
    """A deal that was won."""


class Terms(Protocol):
    """What an account says of leads; every account has these."""

    @property
    def counts(self) -> Counts: ...

    @property
    def qualified_seconds(self) -> int: ...

    @property
    def value(self) -> Decimal | None: ...

    @property
    def currency(self) -> str | None: ...


def why_no_lead(call: told.Call, terms: Terms) -> str | None:
    """Why a call is no lead; None: it is one."""
    if call.is_spam:
        return "marked as spam"
    if terms.counts is Counts.WON:
        return None if _is_won(call) else "no deal was won"
    marked = _marked(call)
    if marked is not None:
        return None if marked else "not qualified: marked so"
    if not call.was_answered or call.talk_seconds < terms.qualified_seconds:
        return "not qualified: nobody answered, or too short"
    return None


def is_lead(call: told.Call, terms: Terms) -> bool:
    """Whether the call is a lead."""
    return why_no_lead(call, terms) is None


def money(call: told.Call, terms: Terms) -> tuple[Decimal, str] | None:
    """Value and currency of a lead: those of the deal that was won, else what the account says a lead is worth. None:
    nothing is known."""
    said = call.said
    if said is not None and _is_won(call) and said.value is not None and said.currency is not None:
        return said.value, said.currency
    if terms.value is None or terms.currency is None:
        return None
    return terms.value, terms.currency


def lead_us(call: told.Call, terms: Terms) -> int:
    """When the call became a lead: as it began, or when somebody said so."""
    if call.said is None or is_lead(replace(call, said=None), terms):
        return call.started_us
    return max(call.said.at_us, call.started_us)


def follows(call: told.Call, terms: Terms, known: Mapping[str, str]) -> bool:
    """Whether the lead of a call that was sent without one is to be sent now: `known` is what was kept then."""
    return known.get(LEAD_DUE) == YES and is_lead(call, terms)


def sent(event_id: str, *, with_lead: bool) -> dict[str, str]:
    """To be kept of a call that was sent."""
    return {"sent": event_id, LEAD_DUE: NO if with_lead else YES}


def _is_won(call: told.Call) -> bool:
    return call.said is not None and call.said.deal_state is deals.State.WON


def _marked(call: told.Call) -> bool | None:
    said, rules = call.said, call.rules
    if said is not None and said.qualified is not None:
        return said.qualified
    if said is not None and (said.goal_reached or _is_won(call)):
        return True
    if rules is not None and rules.qualified is not None:
        return rules.qualified
    return True if call.keyed_goal else None
