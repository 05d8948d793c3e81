"""Reminders and escalations of tickets as letters (R30). They name the ticket, not the caller: mail travels far."""

from __future__ import annotations

from gateway.core.outgoing import adapters

TARGET = "mail:tickets"
WANTS = ("ticket.reminded", "ticket.escalated")


def letter(event: adapters.Handed) -> tuple[str, list[str]]:
    """Subject and lines."""
    data = event.data
    number = data.get("number")
    is_late = event.type == "ticket.escalated"
    subject = f"Missed call {number} was not called back in time" if is_late else f"Missed call {number} waits"
    return subject, [
        f"{subject}.",
        "",
        f"Missed:   {data.get('last_missed_at')}",
        f"Attempts: {data.get('attempts')} of {data.get('attempts_wanted')}",
        f"Deadline: {data.get('deadline_at')}",
        f"Owner:    {data.get('owner') or 'nobody'}",
        f"Route:    {data.get('route') or '-'}",
        f"Source:   {data.get('source') or '-'}",
        "",
        f"Dial *28{number} on your phone to call back.",
        "",
        f"Event:    {event.event_id}",
    ]
