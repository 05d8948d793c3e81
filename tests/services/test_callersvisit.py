"""The visitor behind a call, for those who are told of it (R90): with consent, when sure, while known."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import store
from gateway.core.outgoing import told
from gateway.services import callersvisit
from gateway.store import attributions, visits
from tests.services.clinic import FIRST, SECOND, Clinic

CALL_ID = "c639621d-dae1-4006-8f3b-c531a51116b3"
IDS = {
    "ga": "1234567890.1763700000",
    "ga_session.ABC123DEF4": "1763700000",
    "ga_session.ZZZ": "1763700001",
    "ym_uid": "1763700000123456789",
    "fbp": "fb.1.1763700000123.987654321",
}


@pytest.fixture
async def clinic(tmp_path: Path) -> AsyncIterator[Clinic]:
    database = await store.Database.open(f"sqlite:///{tmp_path}/dialmark.db")
    yield Clinic(database)
    await database.close()


async def called(
    clinic: Clinic, *, confidence: float = 0.9, ids: Mapping[str, str] = IDS, variables: Mapping[str, str] | None = None
) -> attributions.Filed:
    """A visitor opens a page, is seen for a minute, and calls."""
    visitor = await clinic.open(url="https://clinic.example/implants?gclid=x", ids=dict(ids), variables=variables or {})
    clinic.later(60)
    await clinic.beat(visitor)
    clinic.later(10)
    filed = attributions.Filed(
        CALL_ID, FIRST, "pool", clinic.now_us, "visitor", confidence, visitor_id=visitor.visitor_id
    )
    async with clinic.database.begin() as tx:
        await attributions.keep(tx, [filed])
    return filed


async def test_who_called_with_the_ids_that_analytics_gave_them(clinic: Clinic) -> None:
    began_us = clinic.now_us
    filed = await called(clinic)
    found = await callersvisit.CallersVisit(clinic.database)(CALL_ID)
    assert found == told.Visitor(
        visitor_id=filed.visitor_id or "",
        session_started_us=began_us,
        session_seen_us=began_us + 60 * SECOND,
        ga_client_id="1234567890.1763700000",
        ga_sessions={"ABC123DEF4": "1763700000", "ZZZ": "1763700001"},
        ym_client_id="1763700000123456789",
        fbp="fb.1.1763700000123.987654321",
        allows_ads=False,
        landing_page=found.landing_page if found else None,
    )
    assert (found.landing_page or "").startswith("https://clinic.example/implants")


@pytest.mark.parametrize(("said", "allows"), [("granted", True), ("denied", False), ("yes", False), ("", False)])
async def test_consent_to_advertising_is_said_by_the_site(clinic: Clinic, said: str, allows: bool) -> None:
    await called(clinic, variables={"ad_consent": said})
    found = await callersvisit.CallersVisit(clinic.database)(CALL_ID)
    assert found is not None
    assert found.allows_ads is allows


async def test_nobody_outside_is_told_of_a_guess(clinic: Clinic) -> None:
    await called(clinic, confidence=told.SURE - 0.01)
    assert await callersvisit.CallersVisit(clinic.database)(CALL_ID) is None


async def test_who_is_forgotten_is_not_told_of(clinic: Clinic) -> None:
    filed = await called(clinic)
    async with clinic.database.begin() as tx:
        await attributions.keep(tx, [replace(filed, visitor_id="somebody-else")])
    assert await callersvisit.CallersVisit(clinic.database)(CALL_ID) is None
    assert await callersvisit.CallersVisit(clinic.database)("another-call") is None


async def test_the_visit_is_the_one_of_the_call(clinic: Clinic) -> None:
    """A later visit of the same person is not where the call came from."""
    filed = await called(clinic)
    clinic.later(86_400)
    await clinic.open(filed.visitor_id, url="https://clinic.example/other", ids=dict(IDS))
    found = await callersvisit.CallersVisit(clinic.database)(CALL_ID)
    assert found is not None
    assert "implants" in (found.landing_page or "")
    async with clinic.database.read() as connection:
        assert await visits.visit_of(connection, found.visitor_id, clinic.now_us) is not None
