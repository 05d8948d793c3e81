"""An adapter that answers for another number of events than it was handed: a fault of ours, and no standstill."""

from __future__ import annotations

from collections.abc import Sequence

from gateway import store
from gateway.core.outgoing import adapters
from gateway.services import posting
from gateway.store import targets
from tests.outgoing.test_posting import CRM, House, event


class Mute:
    """Takes several at once, and says nothing."""

    target = CRM
    wants: frozenset[str] = frozenset({"*"})
    needs_visitor = False
    batching: adapters.Batching | None = adapters.Batching(10, 0)

    async def deliver(self, event: adapters.Handed, attempt: adapters.Attempt) -> adapters.Settled:
        raise AssertionError("events come together")

    async def deliver_many(
        self, events: Sequence[tuple[adapters.Handed, adapters.Attempt]]
    ) -> Sequence[adapters.Settled]:
        return []


def all_failed(state: targets.State, logged: list[targets.Logged]) -> bool:
    return len(logged) == 2


async def test_events_without_an_answer_are_tried_again(database: store.Database) -> None:
    house = House(database, "https://crm.example.com/")
    house.post.use({CRM: posting.Line("mute", Mute)})
    async with house.running():
        await house.add(event(1), event(2))
        logged = await house.until(all_failed)
    assert [(one.state, one.note) for one in logged] == [("failed", "our fault: ValueError")] * 2
