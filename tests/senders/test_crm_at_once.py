"""Several calls of one caller on their way to a CRM at once, as after an outage (R32, R41)."""

from __future__ import annotations

import asyncio
import uuid

from gateway.core.outgoing.adapters import State
from tests.fakes.handing import attempt, event
from tests.senders.test_crms import ALL, Kind, site


@ALL
async def test_a_caller_who_called_twice_becomes_one_lead(kind: Kind) -> None:
    """A call finds by number the lead that the other one has just made; amoCRM's inbox has an entry for each call."""
    calls = [event(call_id=str(uuid.UUID(int=number))) for number in (1, 2, 3)]
    async with site(kind) as (there, adapter):
        settled = await asyncio.gather(*(adapter.deliver(one, attempt()) for one in calls))
        assert [one.state for one in settled] == [State.DONE] * 3
        assert len(there.leads) == (3 if kind.name == "amocrm" else 1)
        assert not adapter._turns
