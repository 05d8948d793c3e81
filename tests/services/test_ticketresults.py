"""What an agent keyed in after a call-back, as the tracker reads it."""

from __future__ import annotations

import dataclasses

from gateway import store
from gateway.core import callingback
from gateway.core.callingback import By, Result
from gateway.core.tickets import State
from tests.services.ticketdesk import MINUTE, TicketDesk


async def test_a_key_opens_no_second_ticket_of_a_caller_who_was_missed_again(database: store.Database) -> None:
    """N8: called back, missed once more, and only then the agent keys that this one is to be called again: the journal
    is read on, and the customer has one open ticket."""
    desk = TicketDesk(database)
    missed = await desk.miss()
    desk.now_us += 10 * MINUTE
    back = await desk.ring_back(answered=True, callback=callingback.CallBack(1, missed.call_id, By.CODE, None))
    desk.now_us += MINUTE
    await desk.miss()
    said = dataclasses.replace(back, callback=callingback.CallBack(1, missed.call_id, By.CODE, None, Result.AGAIN))
    await desk.end(said)
    assert [(one.number, one.state) for one in await desk.all()] == [(1, State.CLOSED), (2, State.OPEN)]
    assert await desk.history(1) == ["opened", "attempted", "closed", "noted"]
    await desk.end(said)
    assert await desk.history(1) == ["opened", "attempted", "closed", "noted"]
