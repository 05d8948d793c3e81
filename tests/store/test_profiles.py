"""Attributes of callers from the CRM (R89): the last word of each CRM, let go of by number and by age (N14)."""

from __future__ import annotations

from gateway import store
from gateway.store import profiles

ANNA, BORIS = "+74951234567", "+79160000000"
CRM, OTHER = "hubspot:main", "bitrix24:old"


async def test_what_a_crm_says_now_takes_the_place_of_what_it_said(database: store.Database) -> None:
    async with database.begin() as tx:
        await profiles.keep(tx, ANNA, CRM, {"age": "41", "income": "high"}, now_us=1)
        await profiles.keep(tx, ANNA, OTHER, {"age": "40"}, now_us=1)
        await profiles.keep(tx, BORIS, CRM, {"age": "30"}, now_us=1)
        await profiles.keep(tx, ANNA, CRM, {"age": "42"}, now_us=2)
        assert await profiles.of_callers(tx, [ANNA]) == [
            profiles.Attribute(ANNA, OTHER, "age", "40", 1),
            profiles.Attribute(ANNA, CRM, "age", "42", 2),
        ]
        # Switched off, or unknown by now: nothing stays.
        await profiles.keep(tx, ANNA, CRM, {}, now_us=3)
        assert [one.target for one in await profiles.of_callers(tx, [ANNA, BORIS])] == [OTHER, CRM]
        assert await profiles.of_callers(tx, []) == []


async def test_they_go_with_the_person_and_with_age(database: store.Database) -> None:
    async with database.begin() as tx:
        await profiles.keep(tx, ANNA, CRM, {"age": "41", "income": "high"}, now_us=5)
        await profiles.keep(tx, BORIS, CRM, {"age": "30"}, now_us=9)
        assert await profiles.count_before(tx, 9) == 2
        assert await profiles.forget_before(tx, 9) == 2
        assert [one.caller for one in await profiles.of_callers(tx, [ANNA, BORIS])] == [BORIS]
        assert await profiles.forget(tx, BORIS) == 1
        assert await profiles.of_callers(tx, [ANNA, BORIS]) == []
