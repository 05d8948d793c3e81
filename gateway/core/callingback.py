"""Calling a customer back for a ticket: who may, to which number, shown as whom, and what the journal tells of it.

The caller's number stands in a ticket because a caller wrote it: a forged one must not make agents dial numbers that
cost (Wangiri). So countries are on a list, and kinds of numbers that bill the caller are never called.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.core import book, consent, numbers, prompts, tickets
from gateway.core.rows import Row
from gateway.core.tickets import Ticket

MAX_TICKET_DIGITS = 9
CLAIM_US = 30_000_000
"""How long a ticket is its agent's before the journal must show the call."""
RING_SECONDS = 45
"""How long the customer's phone may ring."""

_TICKET = re.compile(rf"[1-9][0-9]{{0,{MAX_TICKET_DIGITS - 1}}}").fullmatch
_CALL_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


class Refusal(StrEnum):
    """Why a call-back is not begun; each has a prompt `callback_<value>` for the agent's ear."""

    NO_NUMBER = "no_number"
    """The code without a ticket's number."""
    NO_TICKET = "no_ticket"
    CLOSED = "closed"
    FOREIGN = "foreign"
    """The ticket is somebody else's."""
    BUSY = "busy"
    """A colleague is calling this customer right now."""
    UNKNOWN_AGENT = "unknown_agent"
    """Nobody's phone."""
    NOT_A_PHONE = "not_a_phone"
    """From a trunk, or from a context that is not in `[local] contexts`."""
    NOT_CALLABLE = "not_callable"
    """Not in a country that may be called, or a number that bills its caller."""
    NO_TRUNK = "no_trunk"


RESULT_PROMPT = "callback_result"
_BREAK_PROMPTS = frozenset({"break_on", "break_off"})
PROMPTS = (
    frozenset(f"callback_{refusal.value}" for refusal in Refusal) | {"callback_down", RESULT_PROMPT} | _BREAK_PROMPTS
)
"""What agents are told by their codes. Where one is not ready, tones tell, so none is missed."""


class Result(StrEnum):
    """What the agent keyed in after a call-back."""

    SETTLED = "settled"
    AGAIN = "again"
    UNWANTED = "unwanted"
    """Wrong person, or no interest."""


RESULTS: Mapping[str, Result] = {"1": Result.SETTLED, "2": Result.AGAIN, "3": Result.UNWANTED}


class By(StrEnum):
    """How the agent began it."""

    CODE = "code"
    CLICK = "click"


@dataclass(frozen=True, slots=True)
class CallBack:
    """What the journal tells of an outbound call that returns a missed one."""

    ticket: int
    call_id: str | None
    """Of the missed call."""
    by: By
    shown: str | None
    """E.164 number that the customer saw."""
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """The site's choices: `countries` (ISO 3166-1) besides those of its sites and trunks; `any_agent`: also tickets
    of colleagues; `keyed`: ask for the result by keys; `clicks`: page and API may begin call-backs."""

    countries: frozenset[str] = frozenset()
    any_agent: bool = False
    keyed: bool = False
    clicks: bool = False


DEFAULT = Rules()


@dataclass(frozen=True, slots=True)
class Plan:
    """How the customer is called."""

    ticket: int
    call_id: str | None
    """Of the missed call; None: somebody asked on a page to be called."""
    number: str
    """E.164 with `+`."""
    route: str | None
    trunk: str
    shown: str | None
    """E.164 with `+`, of our own numbers only."""
    consent: consent.Decision
    language: str


def ticket_number(text: str) -> int | None:
    """What was dialled behind the code; None for what is no ticket's number."""
    return int(text) if _TICKET(text) else None


def told(entry: Mapping[str, str], key: str | None) -> CallBack | None:
    """From the payload of DM_OUT, and the key of DM_RESULT. None: an outbound call like any other."""
    number = ticket_number(entry.get("tk", ""))
    if number is None:
        return None
    missed, shown = entry.get("of", ""), f"+{entry.get('cid', '')}"
    return CallBack(
        ticket=number,
        call_id=missed if _CALL_ID(missed) else None,
        by=By.CLICK if entry.get("by") == By.CLICK else By.CODE,
        shown=shown if numbers.is_e164(shown) else None,
        result=RESULTS.get(key or ""),
    )


def keyed(ticket: Ticket, terms: tickets.Terms, result: Result, at_us: int, *, actor: str) -> tickets.Change:
    """What the agent's key does to a ticket, which the talk itself has closed as a rule."""
    text = f"keyed: {result.value}"
    match result:
        case Result.AGAIN if not ticket.is_open and ticket.result is not tickets.Result.ERASED:
            return tickets.reopened(ticket, terms, at_us, actor=actor, text=text)
        case Result.UNWANTED if ticket.is_open:
            return tickets.closed(ticket, tickets.Result.UNWANTED, at_us, actor=actor, text=text)
        case Result.SETTLED if ticket.is_open:
            return tickets.closed(ticket, tickets.Result.DONE, at_us, actor=actor, text=text)
    change = tickets.noted(ticket, text, at_us, actor=actor)
    if result is Result.UNWANTED and ticket.result is not tickets.Result.ERASED:
        change = replace(change, ticket=replace(change.ticket, result=tickets.Result.UNWANTED))
    return change


def switches(rows: Iterable[Row], routing: book.Book | None) -> list[tuple[str, bool, int]]:
    """Agents whose switch was turned (DM_BREAK), how, and when (µs), oldest first."""
    found = []
    for row in sorted(rows, key=lambda row: row.at_us):
        agent = agent_of(row.data.get("p", ""), routing) if routing is not None else None
        if agent is not None and row.data.get("on") in ("0", "1"):
            found.append((agent.key, row.data["on"] == "1", row.at_us))
    return found


def agent_of(phone: str, routing: book.Book) -> book.Agent | None:
    """Whose phone this endpoint is."""
    return next((agent for agent in routing.agents.values() if phone and agent.endpoint == phone), None)


def is_local_phone(phone: str, context: str, routing: book.Book) -> bool:
    """Whether a code came from a phone of the house: its context is the site's own, and no carrier stands behind it."""
    return context in routing.local_contexts and phone not in {
        name for key in routing.trunks for name in (key, f"{key}-out")
    }


def refusal(ticket: Ticket | None, agent: book.Agent, rules: Rules, routing: book.Book) -> Refusal | None:
    """Why this agent may not return that call; whether a colleague is at it already, the claim tells."""
    if ticket is None:
        return Refusal.NO_TICKET
    if not ticket.is_open:
        return Refusal.CLOSED
    if ticket.owner not in (None, agent.key) and not rules.any_agent:
        return Refusal.FOREIGN
    if ticket.caller is None or not is_callable(ticket.caller, rules.countries, routing):
        return Refusal.NOT_CALLABLE
    if trunk_of(ticket, routing) is None:
        return Refusal.NO_TRUNK
    return None


def is_callable(number: str, countries: Collection[str], routing: book.Book) -> bool:
    """A valid number, in a country that may be called, that does not bill its caller, and is none of our own: who shows
    one of those has made it up, and the call would come back to us."""
    if not numbers.is_valid(number) or numbers.bills_its_caller(number) or _is_ours(number, routing):
        return False
    home = {site.country for site in routing.sites.values()} | {trunk.country for trunk in routing.trunks.values()}
    return numbers.country_of(number) in home | set(countries)


def _is_ours(number: str, routing: book.Book) -> bool:
    return number.lstrip("+") in routing.tracking_numbers or number in {
        site.business_number for site in routing.sites.values()
    }


def trunk_of(ticket: Ticket, routing: book.Book) -> str | None:
    """By which the site calls out."""
    return _site(_route(ticket, routing), ticket, routing).outbound_trunk


def plan(ticket: Ticket, routing: book.Book) -> Plan:
    """How the customer of a ticket that nothing refuses is called: seeing the number they called, if it is for all
    (static), else that of the business; asked for consent by the rules of the missed call's route, the strictest of
    both sides, as for a call that comes in."""
    number, route = _tracking(ticket, routing), _route(ticket, routing)
    site = _site(route, ticket, routing)
    rules, language = _terms(number, route, site)
    asked = consent.OFF
    if rules.recording is not book.RecordingMode.OFF:
        asked = consent.decide(rules, consent.caller_region(ticket.caller or ""), routing.regions)
    return Plan(
        ticket=ticket.number,
        call_id=ticket.call_id,
        number=ticket.caller or "",
        route=route.key if route is not None else None,
        trunk=site.outbound_trunk or "",
        shown=_shown(number, site),
        consent=asked,
        language=language,
    )


def unrecorded(plan: Plan) -> Plan:
    """The same while nothing can be recorded: nobody is asked."""
    return replace(plan, consent=consent.OFF)


def is_possible(routing: book.Book, rules: Rules = DEFAULT) -> bool:
    """Whether any agent's phone can begin a call-back, by the code or by a click."""
    has_phone = any(agent.endpoint is not None for agent in routing.agents.values())
    return has_phone and (bool(routing.local_contexts) or rules.clicks)


def demands(routing: book.Book, rules: Rules = DEFAULT) -> frozenset[prompts.Wanted]:
    """What agents may be told, in the language of the default site, and asked, in each that a call-back may have."""
    if not is_possible(routing, rules):
        return frozenset()
    told = PROMPTS - {RESULT_PROMPT} - (frozenset() if routing.local_contexts else _BREAK_PROMPTS)
    wanted = {prompts.Wanted(key, routing.default_site.language) for key in told}
    if rules.keyed:
        wanted |= {prompts.Wanted(RESULT_PROMPT, language) for _, language in terms(routing)}
    return frozenset(wanted)


def terms(routing: book.Book) -> Iterator[tuple[consent.Rules, str]]:
    """Rules of consent and language that a call-back may have: by its number, by a route whose number is gone, or by a
    site when somebody asked on a page."""
    for number in routing.tracking_numbers.values():
        yield _terms(number, routing.routes[number.route], routing.sites[routing.routes[number.route].site])
    for route in routing.routes.values():
        yield _terms(None, route, routing.sites[route.site])
    for site in routing.sites.values():
        yield _terms(None, None, site)


def _terms(number: book.TrackingNumber | None, route: book.Route | None, site: book.Site) -> tuple[consent.Rules, str]:
    own = (number.language if number is not None else None) or (route.language if route is not None else None)
    if route is not None:
        return consent.rules_of(number, route, site), own or site.language
    rules = consent.Rules(site.recording or book.RecordingMode.OFF, site.region or site.country, site.consent)
    return rules, own or site.language


def _shown(number: book.TrackingNumber | None, site: book.Site) -> str | None:
    """A number of a pool is lent to somebody else tomorrow: who calls it back then would be taken for that visitor."""
    if number is not None and number.kind is book.TrackingKind.STATIC:
        return number.number
    return site.business_number or (number.number if number is not None else None)


def _tracking(ticket: Ticket, routing: book.Book) -> book.TrackingNumber | None:
    return routing.tracking_numbers.get((ticket.tracking_number or "").lstrip("+"))


def _route(ticket: Ticket, routing: book.Book) -> book.Route | None:
    number = _tracking(ticket, routing)
    return routing.routes.get(number.route if number is not None else ticket.route or "")


def _site(route: book.Route | None, ticket: Ticket, routing: book.Book) -> book.Site:
    named = routing.sites.get(route.site if route is not None else ticket.site or "")
    return named if named is not None else routing.default_site
