"""Reminders and escalations of tickets by mail (R30): only those, and without the caller."""

from __future__ import annotations

import json

from gateway.core import ticketdocs, tickets
from gateway.core.outgoing import adapters
from gateway.senders import mail, ticketmail
from tests.core.test_tickets import HOUR, NOON, fresh
from tests.outgoing import test_mail


async def test_a_mail_for_an_escalation() -> None:
    change = tickets.tick(tickets.tick(fresh(), NOON + HOUR).ticket, NOON + 24 * HOUR)
    (event,) = ticketdocs.told(change)
    body = json.loads(event.payload)
    assert event.type == "ticket.escalated"
    handed = adapters.Handed(event.event_id, event.type, NOON, body["data"], payload=event.payload)
    box = test_mail.Box()
    async with test_mail.running(box) as port:
        server = mail.Server("127.0.0.1", port, "none", "dialmark@clinic.example", ("boss@clinic.example",))
        sender = mail.Mail(server, str, target=ticketmail.TARGET, wants=ticketmail.WANTS, letter=ticketmail.letter)
        assert (await sender.deliver(handed, adapters.Attempt(now_us=1))).state is adapters.State.DONE
    message = box.message()
    assert message["Subject"] == "[Dialmark] Missed call 1 was not called back in time"
    said = message.get_content()
    assert "Attempts: 0 of 2" in said and "Dial *281 " in said
    assert "79161234567" not in message.as_string()


def test_only_reminders_and_escalations_are_mailed() -> None:
    told = {tickets.EVENTS[what] for what in (tickets.What.REMINDED, tickets.What.ESCALATED)}
    assert set(ticketmail.WANTS) == told


async def test_a_test_says_that_it_is_one() -> None:
    """The test button sends an alarm, which no ticket is."""
    server = mail.Server("127.0.0.1", 25, "none", "dialmark@clinic.example", ("boss@clinic.example",))
    sender = mail.Mail(server, str, target=ticketmail.TARGET, wants=ticketmail.WANTS, letter=ticketmail.letter)
    event = adapters.Handed("e", "system.alert", NOON, {"message": "This is a test of Dialmark."})
    said = (await sender.deliver(event, adapters.Attempt(now_us=1, dry_run=True))).request
    assert "Subject: [Dialmark] This is a test of Dialmark." in said
