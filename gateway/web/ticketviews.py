"""Tickets as the page shows them: words, tones, how long is left. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from gateway.core import tickets
from gateway.web import parts, views
from gateway.web.looks import Look

STATES: Mapping[tickets.State, Look] = {
    tickets.State.OPEN: Look("open", "Open", "phone", "live", "Nobody has reached the caller yet"),
    tickets.State.TRIED: Look("tried", "Tried", "check", "quiet", "All attempts were made, nobody was reached"),
    tickets.State.OVERDUE: Look("overdue", "Overdue", "alert", "bad", "The time is up, attempts are missing"),
    tickets.State.CLOSED: Look("closed", "Closed", "minus", "quiet"),
}
LATE = Look("late", "Call now", "bell", "warn", "The next attempt is due")
RESULTS = {
    tickets.Result.CALLED_AGAIN: "caller got through",
    tickets.Result.CALLED_BACK: "called back",
    tickets.Result.NOT_REACHED: "not reached",
    tickets.Result.DONE: "settled",
    tickets.Result.UNWANTED: "not wanted",
    tickets.Result.ERASED: "person erased",
}
CAUSES = {
    "agents_busy": "All agents busy",
    "nobody_answered": "Nobody answered",
    "caller_gave_up": "Caller gave up",
    "system": "Fault of the system",
    "number": "Number shown wrongly",
}
WHATS = {
    "opened": "Missed",
    "merged": "Missed again",
    "assigned": "Assigned",
    "noted": "Note",
    "attempted": "Attempt",
    "repeated": "Attempt, too soon to count",
    "reminded": "Reminder",
    "escalated": "Escalated",
    "closed": "Closed",
    "reopened": "Opened again",
}


@dataclass(frozen=True, slots=True)
class TicketView:
    """One ticket, ready to show."""

    number: int
    look: Look
    result: str
    caller: str
    caller_name: str
    is_request: bool
    missed: str
    age: str
    due: str
    cause: str
    source: str
    route: str
    tracking: str
    owner: str
    owner_key: str | None
    misses: int
    attempts: str
    call_id: str | None
    message: str
    when: str
    page: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class EntryView:
    """One line of the history."""

    clock: str
    what: str
    who: str
    note: str
    call_id: str | None


def ticket_view(ticket: tickets.Ticket, names: views.Names, zone: tzinfo, now: datetime) -> TicketView:
    """A ticket as it stands at `now`."""
    now_us = parts.micros(now)
    is_late = ticket.state is tickets.State.OPEN and ticket.next_due_us is not None and ticket.next_due_us <= now_us
    due_us = ticket.next_due_us or (ticket.deadline_us if ticket.is_open else None)
    return TicketView(
        number=ticket.number,
        look=LATE if is_late else STATES[ticket.state],
        result=RESULTS[ticket.result] if ticket.result is not None else "",
        caller=views.phone(ticket.caller) if ticket.caller else str(ticket.request.get("number_raw") or "Unknown"),
        caller_name=(ticket.caller_name or "")[: views.NAME_LIMIT],
        is_request=ticket.kind is tickets.Kind.REQUEST,
        missed=_clock(ticket.last_miss_us, zone),
        age=span((ticket.closed_us or now_us) - ticket.opened_us),
        due="" if due_us is None else _due(due_us - now_us),
        cause=CAUSES.get(ticket.cause or "", "Asked on a page" if ticket.kind is tickets.Kind.REQUEST else ""),
        source=names.source(ticket.source),
        route=ticket.route or "",
        tracking=views.phone(ticket.tracking_number or ""),
        owner=names.agent(ticket.owner),
        owner_key=ticket.owner,
        misses=ticket.misses,
        attempts=f"{ticket.attempts} of {ticket.wanted}",
        call_id=ticket.call_id,
        message=str(ticket.request.get("message") or ""),
        when=str(ticket.request.get("when") or ""),
        page=str(ticket.request.get("page") or ""),
        is_open=ticket.is_open,
    )


def entry_view(entry: Mapping[str, Any], names: views.Names, zone: tzinfo) -> EntryView:
    """A line of the history, as `ticketdocs.entry` gives it."""
    kind, _, key = str(entry["actor"]).partition(":")
    who = {"agent": names.agent(key), "phone": f"phone {key}", "token": key, "user": key}.get(kind, "")
    note = str(entry["note"] or "")
    if entry["what"] == "assigned":
        note = names.agent(note) or "nobody"
    return EntryView(
        clock=datetime.fromisoformat(str(entry["at"])).astimezone(zone).strftime("%d %b, %H:%M:%S"),
        what=WHATS.get(str(entry["what"]), str(entry["what"])),
        who=who,
        note=note,
        call_id=entry["call_id"],
    )


def span(microseconds: int) -> str:
    """Days, hours and minutes for people: `3 h 5 min`."""
    minutes = max(0, microseconds) // 60_000_000
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def _due(microseconds: int) -> str:
    return f"in {span(microseconds)}" if microseconds > 0 else f"{span(-microseconds)} ago"


def _clock(at_us: int, zone: tzinfo) -> str:
    return parts.moment(at_us).astimezone(zone).strftime("%d %b, %H:%M")
