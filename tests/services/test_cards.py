"""Cards of callers (R91, R115): told once, what the CRM said is kept (R89), and nothing of a person who was erased."""

from __future__ import annotations

import json
from typing import Any

from gateway import store
from gateway.services import cards
from gateway.store import forgetting, profiles
from tests import told
from tests.store import examples

CALLER = "+74951234567"
TARGET = "hubspot:main"


def card(**profile: str) -> dict[str, Any]:
    return {
        "caller": {
            "number": CALLER,
            "name": "Ivan",
            "known": True,
            "entity": "contact",
            "crm_id": "501",
            "owner": "7",
            "first_time": False,
            "profile": profile,
        },
        "source": "Google Ads",
        "campaign": None,
    }


async def test_a_card_is_an_event_and_its_attributes_are_kept(database: store.Database) -> None:
    call_id = examples.call_id(1)
    async with database.begin() as tx:
        (first,) = await cards.told(tx, [(card(age="41"), call_id)], TARGET, now_us=1)
        assert told.problems(json.loads(first.payload)) == []
        assert [(one.name, one.value) for one in await profiles.of_callers(tx, [CALLER])] == [("age", "41")]
        (again,) = await cards.told(tx, [(card(), call_id)], TARGET, now_us=2)
        assert again.event_id == first.event_id  # one for each call and CRM
        assert await profiles.of_callers(tx, [CALLER]) == []


async def test_who_was_erased_while_the_crm_was_asked_has_no_card(database: store.Database) -> None:
    """N14: the answer comes when the person is gone already."""
    call = examples.call(1)
    async with database.begin() as tx:
        await forgetting.forget(tx, [call], "erased-1", why=forgetting.ERASURE, now_us=examples.NOON)
        assert await cards.told(tx, [(card(age="41"), call.call_id)], TARGET, now_us=2) == []
        assert await profiles.of_callers(tx, [CALLER]) == []
